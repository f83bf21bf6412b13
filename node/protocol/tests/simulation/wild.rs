//! Does anything that the rules of form allow: several blocks a round or none, each shown to some; own parents that are old,
//! twins or never existed; few or old parents; payload that is missing, stale, doubled or far ahead; any time; any vote.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BatchKey, BatchRef, BlockRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};
use crate::random::Random;

/// Percent of rounds in which it does each of these.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    pub silent: u64,
    pub twins: u64,
    pub own_parent: u64,
    pub parents: u64,
    pub payload: u64,
    pub time: u64,
    pub votes: u64,
    /// Of blocks, peers that are not shown them.
    pub hides: u64,
    /// Of batches, peers that are neither sent them nor given them when they ask.
    pub withholds: u64,
}

impl Temper {
    /// Another one for each run: some do one thing all the time, some everything now and then.
    pub fn any(random: &mut Random) -> Self {
        let mut percent = || *random.pick(&[0, 0, 3, 10, 30, 80]);
        Self {
            silent: percent() / 2,
            twins: percent(),
            own_parent: percent(),
            parents: percent(),
            payload: percent(),
            time: percent(),
            votes: percent(),
            hides: percent(),
            withholds: percent(),
        }
    }
}

pub struct Wild {
    temper: Temper,
    /// Its own blocks so far, also those that nobody was shown.
    own: Vec<BlockRef>,
    /// Others' blocks that it has referenced.
    seen: Vec<BlockRef>,
}

impl Wild {
    pub fn new(temper: Temper) -> Self {
        Self { temper, own: Vec::new(), seen: Vec::new() }
    }

    /// A block of the draft, changed at random; none if it breaks a rule of form.
    fn block(&self, mut draft: Draft, out: &mut Outside) -> Option<VerifiedBlock> {
        let temper = self.temper;
        if out.random.chance(temper.own_parent) {
            draft.core.parents[0] = self.own_parent(draft.core.author, draft.core.round, out);
        }
        if out.random.chance(temper.parents) {
            self.other_parents(&mut draft, out);
        }
        if out.random.chance(temper.payload) {
            payload(&mut draft, out);
        }
        if out.random.chance(temper.time) {
            let now = draft.core.timestamp_ms;
            draft.core.timestamp_ms =
                *out.random.pick(&[0, 1, now.saturating_sub(3_600_000), now + 3_600_000, now * 2, now - 1, now + 50]);
        }
        if out.random.chance(temper.votes) {
            votes(&mut draft, out);
        }
        let block = draft.sign(out);
        VerifiedBlock::verify(block.bytes().clone(), &out.committee).ok()
    }

    fn own_parent(&self, author: AuthorityIndex, round: Round, out: &mut Outside) -> BlockRef {
        let gc_depth = out.committee.protocol().gc_depth;
        let earlier = self.own.iter().filter(|own| own.round < round).copied().collect::<Vec<_>>();
        if !earlier.is_empty() && out.random.chance(60) {
            // Often a late one: a twin of the round before, or one that was skipped.
            let back = out.random.below(earlier.len() as u64).min(out.random.below(gc_depth + 10)) as usize;
            return earlier[earlier.len() - 1 - back];
        }
        let back = 1 + out.random.below(gc_depth + 8);
        let made_up = Digest::of("test/wild", &[&out.random.next().to_le_bytes()]);
        match round.minus(back) {
            Round(0) => BlockRef::genesis(out.committee.chain_id(), author),
            round => BlockRef { round, author, digest: made_up },
        }
    }

    /// As few as a quorum takes, or older blocks of those whose last one it leaves out.
    fn other_parents(&self, draft: &mut Draft, out: &mut Outside) {
        let own = draft.core.parents.remove(0);
        out.random.shuffle(&mut draft.core.parents);
        let wanted = out.committee.quorum().0 as usize - usize::from(own.round == draft.core.round.previous());
        let rest = draft.core.parents.split_off(wanted.min(draft.core.parents.len()));
        for left_out in rest {
            let of_author =
                self.seen.iter().filter(|seen| seen.author == left_out.author && seen.round < left_out.round);
            let older: Vec<BlockRef> = of_author.copied().collect();
            if !older.is_empty() && out.random.chance(70) {
                draft.core.parents.push(*out.random.pick(&older));
            }
        }
        draft.core.parents.insert(0, own);
    }
}

/// Other batches than those it has sent.
fn payload(draft: &mut Draft, out: &mut Outside) {
    let (author, round) = (draft.core.author, draft.core.round.0);
    let next = draft.core.batches.first().map_or(1, |batch| batch.sequence.0);
    let sequence = match out.random.below(6) {
        0 => return draft.core.batches.clear(),
        // What it has named before, with other content.
        1 => next,
        2 => 1 + out.random.below(next),
        3 => next + out.random.below(200),
        4 => next + 1_000_000,
        _ => 1,
    };
    let most = out.committee.protocol().max_block_payload_bytes;
    let bytes = if out.random.chance(30) { most } else { out.random.below(most) };
    let sequence = Sequence(sequence);
    let content = format!("{author:?} {sequence:?} {round} {bytes} {}", out.random.below(3));
    let digest = BatchKey::digest_of(out.committee.epoch(), author, sequence, content.as_bytes());
    let batch = BatchRef { sequence, digest, bytes: bytes as u32 };
    out.oracle.seal(batch.key(author), batch, out.now);
    for peer in draft.peers.clone() {
        if out.random.chance(50) {
            out.send(author, peer, super::message::Message::Batch(batch.key(author)));
        }
    }
    draft.core.batches = vec![batch];
}

/// Votes for what is not so, or for less than it knows.
fn votes(draft: &mut Draft, out: &mut Outside) {
    let digest = Digest::of("test/wild/vote", &[&out.random.below(4).to_le_bytes()]);
    match out.random.below(4) {
        0 => draft.votes.clear(),
        1 => draft.votes.iter_mut().for_each(|vote| vote.digest = digest),
        2 => _ = draft.votes.pop(),
        _ => {
            let after = draft.votes.last().map_or(0, |vote| vote.index.0);
            draft.votes.pop();
            draft.votes.push(CommitRef { index: CommitIndex(after + 1 + out.random.below(1_000)), digest });
        }
    }
}

impl Mischief for Wild {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        self.seen.extend(draft.core.parents.iter().skip(1).copied());
        let oldest = self.seen.len().saturating_sub(400);
        self.seen.drain(..oldest);
        if out.random.chance(self.temper.silent) {
            return Vec::new();
        }
        let twins = if out.random.chance(self.temper.twins) { 1 + out.random.below(3) } else { 0 };
        let mut made: Vec<VerifiedBlock> = Vec::new();
        for twin in 0..=twins {
            let mut draft = draft.clone();
            draft.core.timestamp_ms += twin;
            let block = self.block(draft.clone(), out).unwrap_or_else(|| draft.sign(out));
            if made.iter().all(|other| other.reference() != block.reference()) {
                made.push(block);
            }
        }
        self.own.extend(made.iter().map(VerifiedBlock::reference));
        let show = |block: VerifiedBlock| {
            let peers = draft.peers.iter().filter(|_| !out.random.chance(self.temper.hides)).copied().collect();
            (block, peers)
        };
        made.into_iter().map(show).collect()
    }

    fn spread(&self, peers: &[AuthorityIndex]) -> Vec<AuthorityIndex> {
        let told = peers.len() - peers.len() * self.temper.withholds as usize / 100;
        peers[..told].to_vec()
    }

    fn gives_payload(&self, peer: AuthorityIndex) -> bool {
        u64::from(peer.0) * 37 % 100 >= self.temper.withholds
    }

    fn has_payload(&self) -> bool {
        true
    }
}
