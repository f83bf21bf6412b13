//! Lies about the time and, when it leads, chooses the parents that move the median of its commit furthest: far ahead in some
//! rounds, far behind in others.

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::VerifiedBlock;

use super::outside::Outside;
use super::puppet::{Draft, Mischief};
use super::{MILLISECOND, Time};

pub struct Swinger {
    /// How far ahead or behind its own clock is.
    pub reach: Time,
    /// Rounds that it lies in one direction before it turns.
    pub rounds: u64,
}

impl Mischief for Swinger {
    fn make(&mut self, mut draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let ahead = (draft.core.round.0 / self.rounds).is_multiple_of(2);
        let reach = self.reach / MILLISECOND;
        let time = draft.core.timestamp_ms;
        draft.core.timestamp_ms = if ahead { time + reach } else { time - reach };
        // Of the others only as many as a quorum needs, those whose clocks suit best.
        let own = draft.core.parents.remove(0);
        draft.core.parents.sort_by_key(|parent| draft.times.get(parent).copied().unwrap_or_default());
        if ahead {
            draft.core.parents.reverse();
        }
        let below = draft.core.round.previous();
        let wanted = out.committee.quorum().0 as usize - usize::from(own.round == below);
        draft.core.parents.truncate(wanted);
        draft.core.parents.insert(0, own);
        let peers = draft.peers.clone();
        vec![(draft.sign(out), peers)]
    }
}
