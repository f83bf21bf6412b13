//! Pushing history: headers that a peer seems not to have (Starfish's Push pacemaker).
//!
//! Promises: a node whose pull fails still learns everything that its peers build on; almost nothing is sent twice, since
//! only blocks old enough to have come from their author are pushed, and never to who is known to have them.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use super::Core;
use crate::effect::Effect;
use crate::types::{BlockRef, VerifiedBlock};

/// Blocks in one frame.
const MAX_FRAME: usize = 150;

impl Core {
    /// Sends every subscribed peer what it seems to lack of the linked, uncommitted blocks.
    pub(super) fn push_history(&mut self) {
        let (now, least) = (self.now.monotonic, self.setup.parameters.push_delay_min);
        let targets = self.peers.subscribed;
        let delays: BTreeMap<AuthorityIndex, Duration> =
            targets.iter().map(|peer| (peer, self.peers.push_delay(peer, least))).collect();
        let mut frames: BTreeMap<AuthorityIndex, Vec<VerifiedBlock>> = BTreeMap::new();
        let uncommitted: Vec<BlockRef> = self.graph.uncommitted().iter().copied().collect();
        for reference in uncommitted {
            let Some(vertex) = self.graph.get_mut(&reference) else { continue };
            let mut known = vertex.known_by();
            known.insert(reference.author);
            if known.union(targets) == known {
                continue;
            }
            for peer in targets.iter().filter(|peer| !known.contains(*peer)) {
                let frame = frames.entry(peer).or_default();
                if frame.len() < MAX_FRAME && vertex.linked_at + delays[&peer] <= now {
                    frame.push(vertex.block.clone());
                    vertex.sent_to.insert(peer);
                }
            }
        }
        for (peer, blocks) in frames.into_iter().filter(|(_, blocks)| !blocks.is_empty()) {
            self.counters.pushed += blocks.len() as u64;
            self.out.effect(Effect::SendHistory { peer, blocks });
        }
    }

    /// A node that stays in one round pushes again after each leader timeout: what was too young on entering is old by then.
    pub(super) fn push_again(&mut self) {
        let Some(at) = self.pacemaker.push_at else { return };
        if at <= self.now.monotonic {
            self.push_history();
            self.pacemaker.push_at = Some(self.now.monotonic + self.pacemaker.leader_timeout);
        }
        if let Some(at) = self.pacemaker.push_at.filter(|_| self.pushes_matter()) {
            self.out.wake(at);
        }
    }

    /// Whether some subscribed peer may lack an uncommitted block: an idle or lonely node need not wake up for nothing.
    fn pushes_matter(&self) -> bool {
        let targets: AuthoritySet = self.peers.subscribed;
        !targets.is_empty()
            && self.graph.uncommitted().iter().filter_map(|reference| self.graph.get(reference)).any(|vertex| {
                let mut known = vertex.known_by();
                known.insert(vertex.block.author());
                known.union(targets) != known
            })
    }
}
