//! What happened on the client link since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use rorqual_client::{Outcome, Refusal};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts events. Never goes down.
        #[derive(Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Names and values.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

/// One counter.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn bump(&self) {
        self.add(1);
    }

    /// More.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Connections that said hello.
    connections_accepted,
    /// Connections beyond the limit.
    connections_refused_full,
    /// Connections while the node was stopping.
    connections_refused_stopping,
    /// First frames that were no hello, or none in time.
    connections_refused_hello,
    /// Connections without a hello that were closed for newer ones.
    connections_refused_half_open,
    /// Connections closed because a frame made no sense.
    closed_malformed,
    /// Connections closed because a frame was too large.
    closed_oversized,
    /// Connections closed because they sent more than their credit.
    closed_credit,
    /// Connections closed because nothing came, or nothing could be written.
    closed_silent,
    /// Connections closed because they asked on and on beyond the limit of questions.
    closed_questions,
    /// Connections closed because their request was unfinished for longest when memory for such ran out.
    closed_unfinished,
    /// Connections closed because they were idle for longest when all places were taken.
    closed_idle,
    /// Connections that only ask for the status, in the places kept for that.
    connections_status,
    /// Connections that the system could not give.
    accept_errors,
    /// Submissions that came.
    submissions,
    /// Transactions in them.
    transactions,
    /// Questions that came.
    questions,
    /// Refused: questions beyond the limit of one connection.
    refused_questions,
    /// Receipts: applied now.
    receipts_committed,
    /// Receipts: applied before.
    receipts_already,
    /// Refused: too large.
    refused_too_large,
    /// Refused: no room.
    refused_overloaded,
    /// Refused: stopping.
    refused_shutting_down,
    /// Refused: past the deadline.
    refused_expired,
    /// Refused: deadline too far.
    refused_deadline_too_far,
    /// Refused: too many ids alive.
    refused_too_many_live_ids,
    /// Refused: malformed.
    refused_malformed,
    /// Refused: no room on the disk.
    refused_disk_nearly_full,
}

impl Counters {
    /// A receipt is on its way.
    pub fn receipt(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Committed(_) => &self.receipts_committed,
            Outcome::Already(_) => &self.receipts_already,
            Outcome::Refused(Refusal::TooLarge { .. }) => &self.refused_too_large,
            Outcome::Refused(Refusal::Overloaded { .. }) => &self.refused_overloaded,
            Outcome::Refused(Refusal::ShuttingDown) => &self.refused_shutting_down,
            Outcome::Refused(Refusal::Expired) => &self.refused_expired,
            Outcome::Refused(Refusal::DeadlineTooFar) => &self.refused_deadline_too_far,
            Outcome::Refused(Refusal::TooManyLiveIds) => &self.refused_too_many_live_ids,
            Outcome::Refused(Refusal::Malformed) => &self.refused_malformed,
            Outcome::Refused(Refusal::DiskNearlyFull) => &self.refused_disk_nearly_full,
        };
        counter.bump();
    }
}
