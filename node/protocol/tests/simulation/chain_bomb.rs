//! Writes, for every round, a new chain of twins of its own blocks that goes far back, all of them valid. Each block of it is a
//! parent that somebody wants.

use std::collections::BTreeMap;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::{Round, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

/// Who gets the chains.
#[derive(Clone, Copy, Debug)]
pub enum Audience {
    /// Everybody the same.
    All,
    /// One, another one each time.
    OneInTurn,
    /// Each another one.
    Split,
    /// An accomplice, who builds on it.
    Only(AuthorityIndex),
}

pub struct ChainBomb {
    /// Rounds that a chain goes back.
    depth: u64,
    audience: Audience,
    /// The drafts of all rounds so far: what a twin of that round looks like.
    drafts: BTreeMap<Round, Draft>,
    chains: u64,
}

impl ChainBomb {
    pub fn new(depth: u64, audience: Audience) -> Self {
        Self { depth, audience, drafts: BTreeMap::new(), chains: 0 }
    }

    /// A new chain up to the newest round, from its top down.
    fn chain(&mut self, out: &Outside) -> Vec<VerifiedBlock> {
        self.chains += 1;
        let Some(top) = self.drafts.keys().next_back().copied() else { return Vec::new() };
        let (mut chain, mut below): (Vec<VerifiedBlock>, Option<VerifiedBlock>) = (Vec::new(), None);
        for draft in self.drafts.range(top.minus(self.depth)..).map(|(_, draft)| draft) {
            let mut twin = draft.clone();
            twin.core.timestamp_ms += self.chains;
            if let Some(below) = below {
                twin.core.parents[0] = below.reference();
            }
            let block = twin.sign(out);
            chain.push(block.clone());
            below = Some(block);
        }
        chain.reverse();
        chain
    }
}

impl Mischief for ChainBomb {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let peers = draft.peers.clone();
        self.drafts.insert(draft.core.round, draft);
        let audiences = match self.audience {
            Audience::All => vec![peers],
            Audience::OneInTurn => {
                peers.get(self.chains as usize % peers.len().max(1)).map(|p| vec![*p]).into_iter().collect()
            }
            Audience::Only(accomplice) => vec![vec![accomplice]],
            Audience::Split => peers.into_iter().map(|peer| vec![peer]).collect(),
        };
        let mut made = Vec::new();
        for audience in audiences {
            made.extend(self.chain(out).into_iter().map(|block| (block, audience.clone())));
        }
        made
    }
}

/// Behaves well, but has an accomplice whose blocks it alone has seen, and builds on them.
pub struct Accomplice;

impl Mischief for Accomplice {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let peers = draft.peers.clone();
        vec![(draft.sign(out), peers)]
    }
}
