//! Pushing history: headers that a peer seems not to have (Starfish's Push pacemaker).
//!
//! Promises: a node whose pull fails still learns everything that its peers build on; almost nothing is sent twice. A block is
//! pushed to a peer that is not known to have it once it is old enough to have come from its author, if the peer has since
//! written a block of a higher round without it; and whatever the peer writes, once it is older than the delay bound. (Age
//! alone would push everything to everybody where rounds are paced and not as fast as the links.) Of an equivocator only what others
//! stand on is pushed: it may have made other twins for each of us.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;

use super::Core;
use crate::dag::graph::Vertex;
use crate::effect::Effect;
use crate::types::VerifiedBlock;

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
        let bound = self.setup.parameters.delay_bound;
        for vertex in self.uncommitted() {
            let age = now.saturating_sub(vertex.linked_at);
            let left_out = |peer: AuthorityIndex| self.clock.round_of(peer) > vertex.block.round();
            let due = |peer: &AuthorityIndex| age >= bound || left_out(*peer) && age >= delays[peer];
            for peer in targets.iter().filter(|peer| !is_known_by(vertex, *peer)).filter(due) {
                let frame = frames.entry(peer).or_default();
                if frame.len() < MAX_FRAME {
                    frame.push(vertex.block.clone());
                }
            }
        }
        for (peer, blocks) in frames {
            for block in &blocks {
                if let Some(vertex) = self.graph.get_mut(&block.reference()) {
                    vertex.sent_to.insert(peer);
                }
            }
            self.counters.pushed += blocks.len() as u64;
            self.out.effect(Effect::SendHistory { peer, blocks });
        }
    }

    /// A node that stays in one round pushes again after each leader timeout: what was too young on entering is old by then.
    /// One that only rests does not: whoever lacks something would not rest.
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

    fn uncommitted(&self) -> impl Iterator<Item = &Vertex> {
        let me = self.setup.me;
        let vertices = self.graph.uncommitted().iter().filter_map(|reference| self.graph.get(reference));
        vertices.filter(move |vertex| {
            let author = vertex.block.author();
            let by_others =
                vertex.in_history_of.contains(me) || vertex.referenced_by.iter().any(|other| other != author);
            by_others || !self.is_convicted(author)
        })
    }

    /// Whether some subscribed peer may lack an uncommitted block: an idle or lonely node need not wake up for nothing.
    fn pushes_matter(&self) -> bool {
        let targets = self.peers.subscribed;
        self.uncommitted().any(|vertex| targets.iter().any(|peer| !is_known_by(vertex, peer)))
    }
}

fn is_known_by(vertex: &Vertex, peer: AuthorityIndex) -> bool {
    vertex.block.author() == peer || vertex.known_by().contains(peer)
}
