//! A member without a core: it keeps every block it sees, and makes blocks by hand as its mischief wants them. Where its
//! mischief does not say otherwise it behaves well: it answers what it can and proposes once a round has a quorum.

use std::collections::BTreeMap;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;
use rorqual_protocol::input::Tip;
use rorqual_protocol::types::{
    BatchKey, BatchRef, BlockCore, BlockRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock,
};

use super::MILLISECOND;
use super::event::Event;
use super::message::Message;
use super::outside::Outside;
use crate::members;

/// What makes a puppet bad.
pub trait Mischief {
    /// The blocks it makes of a draft, each with the peers that are shown it.
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)>;

    /// Peers that are sent a new batch unasked.
    fn spread(&self, peers: &[AuthorityIndex]) -> Vec<AuthorityIndex> {
        peers.to_vec()
    }

    /// Whether it gives payload to a peer that asks for it.
    fn gives_payload(&self, _peer: AuthorityIndex) -> bool {
        true
    }

    /// Whether all its blocks obey the rules of form, as those of most liars do.
    fn is_valid(&self) -> bool {
        true
    }

    /// Whether it names payload in its blocks.
    fn has_payload(&self) -> bool {
        false
    }
}

/// A block that is not signed yet.
#[derive(Clone)]
pub struct Draft {
    pub core: BlockCore,
    pub votes: Vec<CommitRef>,
    /// What the clocks of the parents said.
    pub times: BTreeMap<BlockRef, u64>,
    pub peers: Vec<AuthorityIndex>,
}

impl Draft {
    pub fn sign(self, out: &Outside) -> VerifiedBlock {
        let key = members::key(self.core.author);
        VerifiedBlock::sign(self.core, self.votes, &out.committee, &key)
    }
}

pub struct Puppet {
    me: AuthorityIndex,
    mischief: Box<dyn Mischief>,
    blocks: BTreeMap<BlockRef, VerifiedBlock>,
    /// Seen, with parents missing.
    suspended: BTreeMap<BlockRef, VerifiedBlock>,
    /// First block of each author and round, to reference.
    rounds: BTreeMap<Round, BTreeMap<AuthorityIndex, BlockRef>>,
    own: BlockRef,
    shown: BTreeMap<AuthorityIndex, Vec<VerifiedBlock>>,
    nudged: Round,
    sequence: Sequence,
    /// Commits that others voted for.
    voted: BTreeMap<CommitIndex, CommitRef>,
    last_vote: CommitIndex,
}

impl Puppet {
    pub fn new(me: AuthorityIndex, mischief: Box<dyn Mischief>, out: &Outside) -> Self {
        let genesis = |a| (a, BlockRef::genesis(out.committee.chain_id(), a));
        Self {
            me,
            mischief,
            blocks: BTreeMap::new(),
            suspended: BTreeMap::new(),
            rounds: BTreeMap::from([(Round(0), out.committee.authorities().map(genesis).collect())]),
            own: BlockRef::genesis(out.committee.chain_id(), me),
            shown: BTreeMap::new(),
            nudged: Round(0),
            sequence: Sequence(0),
            voted: BTreeMap::new(),
            last_vote: CommitIndex(0),
        }
    }

    pub fn connected(&mut self, peer: AuthorityIndex, out: &mut Outside) {
        let highest = self.rounds.last_key_value().map_or(Round(0), |(round, _)| *round);
        out.send(self.me, peer, Message::Subscribe(highest.minus(5).next()));
        self.nudge(out);
    }

    pub fn receive(&mut self, sender: AuthorityIndex, message: Message, out: &mut Outside) {
        match message {
            Message::Own(block) => self.take(sender, block, out),
            Message::History(blocks) | Message::Blocks { blocks, .. } => {
                for block in blocks {
                    self.take(sender, block, out);
                }
            }
            Message::Subscribe(from) => {
                let shown = self.shown.get(&sender).cloned().unwrap_or_default();
                for block in shown.into_iter().filter(|b| b.round() >= from) {
                    out.send(self.me, sender, Message::Own(block));
                }
            }
            Message::FetchBlocks { id, refs } => {
                let blocks = refs.iter().filter_map(|r| self.blocks.get(r)).cloned().collect();
                let unknown = refs.into_iter().filter(|r| !self.blocks.contains_key(r)).collect();
                out.send(self.me, sender, Message::Blocks { id, blocks, unknown });
            }
            Message::TipQuery { .. } => {
                let tip = self.tip(sender);
                out.send(self.me, sender, Message::Tip(tip));
            }
            Message::FetchBatch(key) => {
                if key.author == self.me && self.mischief.gives_payload(sender) {
                    out.send(self.me, sender, Message::Batch(key));
                }
            }
            Message::FetchCommits { id, .. } => {
                out.send(self.me, sender, Message::Commits { id, served: Err(None) });
            }
            Message::FetchRangeBlocks { .. } | Message::RangeBlocks { .. } => (),
            Message::Tip(_) | Message::Batch(_) | Message::Commits { .. } => (),
        }
    }

    fn tip(&self, asker: AuthorityIndex) -> Box<Tip> {
        let yours = self.blocks.values().rfind(|b| b.author() == asker).cloned();
        let own = self.blocks.get(&self.own).cloned();
        Box::new(Tip { own, yours, gc_round: Round(0), last_commit: CommitIndex(0) })
    }

    fn take(&mut self, sender: AuthorityIndex, block: VerifiedBlock, out: &mut Outside) {
        if self.blocks.contains_key(&block.reference()) || !out.verifier.accepts(&block) {
            return;
        }
        let missing: Vec<BlockRef> = block.parents().iter().filter(|p| !self.knows(p)).copied().collect();
        self.suspended.insert(block.reference(), block);
        let wanted: Vec<BlockRef> = missing.into_iter().filter(|p| !self.suspended.contains_key(p)).take(32).collect();
        if !wanted.is_empty() {
            out.send(self.me, sender, Message::FetchBlocks { id: 0, refs: wanted });
        }
        self.link();
        self.nudge(out);
    }

    fn knows(&self, reference: &BlockRef) -> bool {
        reference.round == Round(0) || self.blocks.contains_key(reference)
    }

    fn link(&mut self) {
        let ready = |puppet: &Self| {
            let mut suspended = puppet.suspended.values();
            suspended.find(|b| b.parents().iter().all(|p| puppet.knows(p))).map(VerifiedBlock::reference)
        };
        while let Some(reference) = ready(self) {
            if let Some(block) = self.suspended.remove(&reference) {
                self.keep(block);
            }
        }
    }

    fn keep(&mut self, block: VerifiedBlock) {
        let reference = block.reference();
        self.rounds.entry(reference.round).or_default().entry(reference.author).or_insert(reference);
        self.voted.extend(block.votes().iter().map(|vote| (vote.index, *vote)));
        self.blocks.insert(reference, block);
    }

    /// The highest round that has a quorum: the next block goes above it.
    fn base(&self, out: &Outside) -> Option<Round> {
        let full = |authors: &BTreeMap<AuthorityIndex, BlockRef>| {
            out.committee.is_quorum(&authors.keys().copied().collect::<AuthoritySet>())
        };
        self.rounds.iter().rev().find(|(_, authors)| full(authors)).map(|(round, _)| *round)
    }

    fn nudge(&mut self, out: &mut Outside) {
        let Some(base) = self.base(out) else { return };
        if base.next() > self.own.round && base.next() > self.nudged {
            self.nudged = base.next();
            out.after(4 * MILLISECOND, Event::Propose { node: self.me });
        }
    }

    pub fn propose(&mut self, out: &mut Outside) {
        let Some(base) = self.base(out) else { return };
        if base.next() <= self.own.round {
            return;
        }
        let draft = self.draft(base.next(), out);
        let made = self.mischief.make(draft, out);
        let valid: Vec<bool> = made.iter().map(|(block, _)| out.verifier.accepts(block)).collect();
        assert!(
            !self.mischief.is_valid() || valid.iter().all(|valid| *valid),
            "a liar that keeps to the form does not"
        );
        let first = made.iter().zip(&valid).find(|(_, valid)| **valid);
        if let Some(((first, _), _)) = first {
            self.own = first.reference();
        }
        for ((block, peers), valid) in made.into_iter().zip(valid) {
            // Nobody can build on a block that is not valid.
            if valid {
                self.keep(block.clone());
            }
            for peer in peers {
                self.shown.entry(peer).or_default().push(block.clone());
                out.send(self.me, peer, Message::Own(block.clone()));
            }
        }
        self.nudge(out);
    }

    fn draft(&mut self, round: Round, out: &mut Outside) -> Draft {
        let mut parents = vec![self.own];
        let strong = self.rounds.get(&round.previous()).into_iter().flatten();
        parents.extend(strong.filter(|(author, _)| **author != self.me).map(|(_, r)| *r));
        let time = |parent: &BlockRef| Some((*parent, self.blocks.get(parent)?.block().core.timestamp_ms));
        let times = parents.iter().filter_map(time).collect();
        let peers = out.peers_of(self.me);
        let core = BlockCore {
            epoch: out.committee.epoch(),
            round,
            author: self.me,
            timestamp_ms: 1_700_000_000_000 + out.now / MILLISECOND,
            parents,
            batches: if self.mischief.has_payload() { vec![self.seal(&peers, out)] } else { Vec::new() },
            end_epoch: false,
        };
        let most = out.committee.protocol().max_votes_per_block as usize;
        let votes: Vec<CommitRef> = self.voted.range(self.last_vote.next()..).map(|(_, v)| *v).take(most).collect();
        self.last_vote = votes.last().map_or(self.last_vote, |vote| vote.index);
        Draft { core, votes, times, peers }
    }

    fn seal(&mut self, peers: &[AuthorityIndex], out: &mut Outside) -> BatchRef {
        self.sequence = self.sequence.next();
        let content = format!("{:?} {:?}", self.me, self.sequence);
        let digest = BatchKey::digest_of(out.committee.epoch(), self.me, self.sequence, content.as_bytes());
        let batch = BatchRef { sequence: self.sequence, digest, bytes: content.len() as u32 };
        out.oracle.seal(batch.key(self.me), batch, out.now);
        for peer in self.mischief.spread(peers) {
            out.send(self.me, peer, Message::Batch(batch.key(self.me)));
        }
        batch
    }
}
