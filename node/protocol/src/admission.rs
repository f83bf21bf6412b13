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
