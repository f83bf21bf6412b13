//! Pushing history: headers that a peer seems not to have (Starfish's Push pacemaker).
//!
//! A peer has a block when it built on it or sent it to us. Handed to its link is not delivered: that counts for 4 D, then the
//! block is pushed again if the peer has written nothing new for so long (one that goes on asks for what it lacks), our own
//! blocks included, and each time the mark counts twice as long.
//!
//! Promises: a node whose pull fails still learns everything that its peers build on; almost nothing is sent twice. A block is
//! pushed to a peer that is not known to have it once it is old enough to have come from its author, if the peer has since
//! written a block of a higher round without it; and whatever the peer writes, once it is older than the delay bound. (Age
//! alone would push everything to everybody where rounds are paced and not as fast as the links.) A peer that stays silent is
//! sent the uncommitted graph after 4 D, 8 D and so on, up to a cap. Of an equivocator only what others stand on is pushed: it
//! may have made other twins for each of us.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use super::{Core, count};
use crate::dag::graph::Vertex;
use crate::dag::sent::Again;
use crate::effect::Effect;
use crate::types::{BlockRef, VerifiedBlock};

/// Blocks in one frame.
const MAX_FRAME: usize = 150;

impl Core {
    /// Sends every subscribed peer what it seems to lack of the linked, uncommitted blocks, and plans when to look again.
    pub(super) fn push_history(&mut self) {
        let (now, targets) = (self.now.monotonic, self.peers.subscribed);
        let mut frames: BTreeMap<AuthorityIndex, Vec<VerifiedBlock>> = BTreeMap::new();
        let mut next: Option<Duration> = None;
        for reference in self.graph.uncommitted() {
            let Some(vertex) = self.graph.get(reference) else { continue };
            let known = vertex.known_by();
            for peer in targets.iter().filter(|peer| !known.contains(*peer)) {
                let mut due = self.push_due(vertex, peer);
                if due <= now {
                    let frame = frames.entry(peer).or_default();
                    if frame.len() < MAX_FRAME {
                        frame.push(vertex.block.clone());
                    }
                    due = now;
                }
                next = Some(next.map_or(due, |known| known.min(due)));
            }
        }
        self.pacemaker.push_at = next.map(|at| at.max(now + self.push_pause()));
        for (peer, blocks) in frames {
            for block in &blocks {
                self.mark_sent(&block.reference(), [peer].into_iter().collect());
            }
            count(&mut self.counters.pushed, blocks.len() as u64);
            self.out.effect(Effect::SendHistory { peer, blocks });
        }
    }

    /// When a block may be pushed to a peer that is not known to have it.
    fn push_due(&self, vertex: &Vertex, peer: AuthorityIndex) -> Duration {
        match vertex.sent.again(peer) {
            Some(Again::Surely(at)) => at,
            Some(Again::IfSilent(at)) => at.max(self.peers.advanced_at(peer) + self.patience()),
            None => {
                let bound = self.delay_bound();
                let left_out = self.clock.round_of(peer) > vertex.block.round();
                let delay = self.delays.round_trip(peer).max(self.setup.parameters.push_delay_min);
                vertex.linked_at + if left_out { delay.min(bound) } else { bound }
            }
        }
    }

    /// Notes that a block was handed to the links of these peers.
    pub(super) fn mark_sent(&mut self, reference: &BlockRef, peers: AuthoritySet) {
        let (now, patience) = (self.now.monotonic, self.patience());
        if let Some(vertex) = self.graph.get_mut(reference) {
            peers.iter().for_each(|peer| vertex.sent.mark(peer, now, patience));
        }
    }

    /// A link had no room for these blocks. They are not tried again at once: the queue is full.
    pub(super) fn on_send_refused(&mut self, peer: AuthorityIndex, refs: &[BlockRef]) {
        let until = self.now.monotonic + self.delay_bound();
        for reference in refs {
            if let Some(vertex) = self.graph.get_mut(reference) {
                vertex.sent.refused(peer, until);
            }
        }
        self.push_soon();
    }

    /// How long to stay quiet in one round before history is pushed again.
    pub(super) fn push_pause(&self) -> Duration {
        self.pacemaker.leader_timeout.min(self.patience())
    }

    /// Something changed that may have to be pushed. A node that rests looks at it with its next round.
    pub(super) fn push_soon(&mut self) {
        let soon = self.now.monotonic + self.push_pause();
        self.pacemaker.push_at = match self.pacemaker.push_at {
            Some(at) => Some(at.min(soon)),
            None if self.pacemaker.rested => None,
            None => Some(soon),
        };
    }

    /// A node that stays in one round pushes again after a while: what was too young on entering is old by then, and what was
    /// sent may be lost. One that only rests does not: whoever lacks something would not rest.
    pub(super) fn push_again(&mut self) {
        if self.pacemaker.push_at.is_some_and(|at| at <= self.now.monotonic) {
            self.push_history();
        }
        if let Some(at) = self.pacemaker.push_at {
            self.out.wake(at);
        }
    }
}
