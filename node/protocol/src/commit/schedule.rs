//! Who leads which round.
//!
//! Promises: a function of the committee alone, so that everybody agrees without a word. Round-robin for now: silent leaders
//! are dealt with by muting in the pacemaker, which is local.

use rorqual_config::{AuthorityIndex, Committee};

use crate::types::Round;

/// The leader schedule of an epoch.
#[derive(Clone, Debug)]
pub struct Schedule {
    members: u64,
    per_round: u64,
}

impl Schedule {
    /// The schedule of a committee.
    pub fn new(committee: &Committee) -> Self {
        let members = committee.size() as u64;
        let per_round = u64::from(committee.protocol().leaders_per_round).clamp(1, members);
        Self { members, per_round }
    }

    /// Leader slots in a round.
    pub fn per_round(&self) -> u64 {
        self.per_round
    }

    /// The leaders of a round in offset order. Round 0 is genesis and has none.
    pub fn leaders(&self, round: Round) -> impl Iterator<Item = AuthorityIndex> + use<> {
        let members = self.members;
        let count = if round.0 == 0 { 0 } else { self.per_round };
        let first = round.0.checked_rem(members).unwrap_or(0);
        let place = move |offset: u64| first.saturating_add(offset).checked_rem(members).unwrap_or(0);
        (0..count).map(move |offset| AuthorityIndex(place(offset) as u16))
    }
}
