//! Who broke which rule. Only rules that no honest member can break count, so that nobody can be made to look bad by others.

use rorqual_config::AuthorityIndex;

use super::Core;
use crate::effect::Effect;
use crate::penalty::Rule;
use crate::types::VerifiedBlock;

impl Core {
    /// `peer` broke a rule: counts it, and tells the daemon.
    pub(super) fn penalise(&mut self, peer: AuthorityIndex, rule: Rule) {
        self.peers.penalise(peer);
        self.out.effect(Effect::Penalise { peer, rule });
    }

    /// Counts the commit votes of a block.
    pub(super) fn observe_votes(&mut self, block: &VerifiedBlock) {
        if self.tally.contradicts(block) {
            self.penalise(block.author(), Rule::VoteChanged);
        }
        let news = self.tally.observe(block, self.ledger.index);
        self.records.voted(news);
    }

    /// How often a member broke a rule that no honest one breaks.
    pub fn penalties(&self, peer: AuthorityIndex) -> u64 {
        self.peers.penalties(peer)
    }
}
