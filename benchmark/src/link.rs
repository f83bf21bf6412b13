//! The connection to one node: submissions out, receipts in, nothing repeated and nothing kept for each of them.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rorqual_client::submission::{Submission, Ticket};
use rorqual_client::{ClientError, Connection, Events, NotSent, Outcome, Receipts, Refusal};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bits of a tag that tell how many transactions the submission has; the others tell which is the first.
const COUNT_BITS: u32 = 20;

/// What became of transactions that were handed over together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// They are in the log.
    Committed,
    /// They are not and will not be.
    Rejected(Refusal),
}

/// What a link hears. Called by a task of the link.
pub trait Listener: Send + 'static {
    /// The transactions of one submission, by their place in the share of this connection.
    fn answered(&mut self, transactions: Range<u64>, answer: Answer);

    /// The connection is gone.
    fn closed(&mut self, reason: String);
}

/// One connection.
pub struct Link {
    connection: Connection,
    ids: bool,
    nonce: u128,
}

impl Link {
    /// Connects to the client address of a node.
    ///
    /// # Errors
    /// One sentence that names the address.
    pub async fn connect(address: SocketAddr, ids: bool, listener: impl Listener) -> Result<Self, String> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| format!("the operating system gave no random bytes: {error}"))?;
        let connection = Connection::open(&address.to_string(), CONNECT_TIMEOUT, Inbox(listener)).await;
        let connection = connection.map_err(|error| error.to_string())?;
        Ok(Self { connection, ids, nonce: u128::from_le_bytes(nonce) })
    }

    /// The largest submission the node takes, in bytes of transactions.
    pub fn max_submission_bytes(&self) -> u64 {
        self.connection.hello().max_submission_bytes
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Hands transactions over as soon as there is credit for them; what becomes of them the listener is told.
    ///
    /// # Errors
    /// Where the node would refuse them, which is then known here; or the connection is gone.
    pub async fn submit(&mut self, first: u64, mut submission: Submission) -> Result<(), NotSent> {
        if self.ids {
            submission.ticket = Some(self.ticket());
        }
        self.connection.submit(tag(first, submission.count()), &submission).await
    }

    /// A nonce that no other ticket has, and a deadline half of the longest lifetime ahead of commit time.
    fn ticket(&mut self) -> Ticket {
        self.nonce = self.nonce.wrapping_add(1);
        let lifetime = self.connection.hello().max_lifetime_ms / 2;
        Ticket {
            nonce: self.nonce.to_le_bytes(),
            deadline_ms: self.connection.commit_time_ms().saturating_add(lifetime).max(1),
        }
    }
}

struct Inbox<L>(L);

impl<L: Listener> Events for Inbox<L> {
    fn receipts(&mut self, receipts: &Receipts) {
        for (tag, outcome) in receipts.iter() {
            let answer = match outcome {
                // Nothing is sent twice here, so "already" would be somebody else's copy; it is in the log either way.
                Outcome::Committed(_) | Outcome::Already(_) => Answer::Committed,
                Outcome::Refused(refusal) => Answer::Rejected(refusal),
            };
            self.0.answered(transactions(tag), answer);
        }
    }

    fn closed(&mut self, reason: ClientError) {
        self.0.closed(reason.to_string());
    }
}

/// The tag says which transactions it stands for, so that nothing has to be remembered until the receipt.
fn tag(first: u64, count: usize) -> u64 {
    debug_assert!(count < 1 << COUNT_BITS);
    first << COUNT_BITS | count as u64
}

fn transactions(tag: u64) -> Range<u64> {
    let first = tag >> COUNT_BITS;
    first..first + (tag & ((1 << COUNT_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_which_transactions_it_stands_for() {
        for (first, count) in [(0, 1), (0, 256), (1 << 40, (1 << COUNT_BITS) - 1)] {
            assert_eq!(transactions(tag(first, count)), first..first + count as u64);
        }
    }
}
