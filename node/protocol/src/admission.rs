//! How many blocks one peer may bring unasked. Pure: the caller tells the time, so that the daemon and the simulation admit alike.
//!
//! Promises: judged before anything costly; what is known already costs a sixteenth of a block, so that many honest peers that push
//! the same history are never held back for it; over the limit nothing is lost, the peer's stream waits.

use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;

use crate::known::{Known, Verdict};
use crate::limiter::Limiter;
use crate::types::BlockRef;

/// Blocks in one frame of history, which is taken whole.
pub const MAX_HISTORY: usize = 150;
/// Tokens of one block that is verified; a copy of a known one costs one token.
const NEW: u32 = 16;

/// The budget of one peer.
#[derive(Clone, Debug)]
pub struct Admission {
    known: Known,
    limiter: Limiter,
}

impl Admission {
    /// A full budget: the blocks of one second.
    pub fn new(known: Known, parameters: &ConsensusParameters) -> Self {
        let tokens = parameters.blocks_per_second.saturating_mul(NEW);
        Self { known, limiter: Limiter::per_second(tokens, tokens, NEW.saturating_mul(MAX_HISTORY as u32)) }
    }

    /// When the next frame with blocks is taken; in the past if at once.
    pub fn ready_at(&self) -> Duration {
        self.limiter.ready_at()
    }

    /// What to do with a block that came unasked; charged.
    pub fn judge(&mut self, now: Duration, reference: &BlockRef) -> Verdict {
        let verdict = self.known.judge(reference);
        self.limiter.spend(now, if verdict == Verdict::New { NEW } else { 1 });
        verdict
    }
}

#[cfg(test)]
mod tests {
    use rorqual_config::{AuthorityIndex, Digest};

    use super::*;
    use crate::known::Names;
    use crate::types::Round;

    #[test]
    fn a_copy_of_a_known_block_costs_a_sixteenth_of_a_new_one() {
        let known = Known { linked: Names::new(4), suspended: Names::new(4), me: AuthorityIndex(0) };
        let block = |round| BlockRef { round: Round(round), author: AuthorityIndex(1), digest: Digest::default() };
        known.linked.insert(&block(7));
        let parameters = ConsensusParameters { blocks_per_second: 1, ..ConsensusParameters::default() };
        let now = Duration::from_secs(10);
        let mut copies = Admission::new(known.clone(), &parameters);
        (0..15).for_each(|_| assert_eq!(copies.judge(now, &block(7)), Verdict::Known));
        assert!(copies.ready_at() <= now, "one token is left");
        copies.judge(now, &block(7));
        assert!(copies.ready_at() > now);
        let mut new = Admission::new(known, &parameters);
        assert_eq!(new.judge(now, &block(8)), Verdict::New);
        assert!(new.ready_at() > now, "it took them all");
    }
}
