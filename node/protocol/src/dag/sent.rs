//! To whom a block was handed, and for how long that counts.
//!
//! Promises: handed to a link is not delivered: a mark counts for one span of patience, then the block may be handed over again
//! and the next mark counts twice as long, up to a cap; so what one peer is sent of one block grows with the logarithm of the
//! time that it says nothing. Marks die with the connection.

use std::time::Duration;

use rorqual_config::AuthorityIndex;

/// Longest time that a mark counts, if patience itself is not longer.
const MAX_LIFE: Duration = Duration::from_secs(5);
/// Doublings beyond which the cap has been reached whatever the patience.
const MAX_DOUBLINGS: u32 = 16;

#[derive(Clone, Debug)]
struct Mark {
    peer: AuthorityIndex,
    times: u32,
    until: Duration,
    refused: bool,
}

/// When a block that was handed over may be handed over again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// Not before this time, and only to a peer that is silent.
    IfSilent(Duration),
    /// Not before this time: the link refused it, so it never left.
    Surely(Duration),
}

/// All marks of one block, by peer.
#[derive(Clone, Debug, Default)]
pub struct Sent(Vec<Mark>);

impl Sent {
    fn place(&self, peer: AuthorityIndex) -> Result<usize, usize> {
        self.0.binary_search_by_key(&peer, |mark| mark.peer)
    }

    /// The block is handed to the link.
    pub fn mark(&mut self, peer: AuthorityIndex, now: Duration, patience: Duration) {
        let place = self.place(peer).unwrap_or_else(|place| {
            self.0.insert(place, Mark { peer, times: 0, until: now, refused: false });
            place
        });
        let mark = &mut self.0[place];
        let life = patience.saturating_mul(1 << mark.times).min(MAX_LIFE.max(patience));
        mark.times = mark.times.saturating_add(1).min(MAX_DOUBLINGS);
        (mark.until, mark.refused) = (now + life, false);
    }

    /// The link did not take it: the mark ends at `until`, and the next one is longer all the same.
    pub fn refused(&mut self, peer: AuthorityIndex, until: Duration) {
        if let Ok(place) = self.place(peer) {
            let mark = &mut self.0[place];
            (mark.until, mark.refused) = (until.min(mark.until), true);
        }
    }

    /// When it may be handed over again; none if it never was.
    pub fn again(&self, peer: AuthorityIndex) -> Option<Again> {
        let mark = &self.0[self.place(peer).ok()?];
        Some(if mark.refused { Again::Surely(mark.until) } else { Again::IfSilent(mark.until) })
    }

    /// The connection is gone.
    pub fn forget(&mut self, peer: AuthorityIndex) {
        if let Ok(place) = self.place(peer) {
            self.0.remove(place);
        }
    }

    /// Nobody has to be sent it any more.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PEER: AuthorityIndex = AuthorityIndex(1);

    #[test]
    fn each_repetition_counts_twice_as_long_up_to_the_cap() {
        let mut sent = Sent::default();
        assert_eq!(sent.again(PEER), None);
        let (mut now, mut times) = (Duration::ZERO, 0);
        let mut lives = Vec::new();
        while now < Duration::from_secs(60) {
            sent.mark(PEER, now, 100 * MS);
            let Some(Again::IfSilent(until)) = sent.again(PEER) else { panic!("{sent:?}") };
            lives.push((until - now).as_millis());
            (now, times) = (until, times + 1);
        }
        assert_eq!(lives[..7], [100, 200, 400, 800, 1_600, 3_200, 5_000]);
        assert!(times < 20, "{times} times in a minute");
    }

    #[test]
    fn what_the_link_refused_is_due_soon_and_does_not_reset_the_doubling() {
        let mut sent = Sent::default();
        sent.mark(PEER, Duration::ZERO, 100 * MS);
        sent.refused(PEER, 25 * MS);
        assert_eq!(sent.again(PEER), Some(Again::Surely(25 * MS)));
        sent.mark(PEER, 25 * MS, 100 * MS);
        assert_eq!(sent.again(PEER), Some(Again::IfSilent(225 * MS)));
        sent.refused(AuthorityIndex(2), MS);
        assert_eq!(sent.again(AuthorityIndex(2)), None);
        sent.forget(PEER);
        assert_eq!(sent.again(PEER), None);
    }
}
