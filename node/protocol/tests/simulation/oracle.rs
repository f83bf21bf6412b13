//! The judge: sees what every honest node commits, sends and executes, and stops the run at the first contradiction.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee, Digest};
use rorqual_protocol::Rule;
use rorqual_protocol::types::{BatchKey, BatchRef, BlockRef, CommitIndex, Delivery, Round, Sequence, VerifiedBlock};

use super::Time;
use super::times::Times;
use crate::reference::NaiveCommit;

/// A batch that was sealed.
#[derive(Clone, Copy)]
struct Sealed {
    batch: BatchRef,
    at: Time,
    /// Its owner still has it, so it must be delivered in the end.
    owed: bool,
}

pub struct Oracle {
    committee: Arc<Committee>,
    byzantine: AuthoritySet,
    /// The one history: commits with the time of the first decision, and the state digest after each once known.
    chain: Vec<(Arc<Delivery>, Digest, Option<Digest>)>,
    committed: BTreeSet<BlockRef>,
    delivered: BTreeMap<(AuthorityIndex, Sequence), (CommitIndex, Digest)>,
    signed: BTreeMap<(AuthorityIndex, Round), Digest>,
    verified: BTreeSet<BlockRef>,
    sealed: BTreeMap<BatchKey, Sealed>,
    /// Last commit recorded and last commit executed by each node.
    recorded: Vec<CommitIndex>,
    executed: Vec<CommitIndex>,
    /// The highest delivered sequence of each author.
    highest: BTreeMap<AuthorityIndex, Sequence>,
    /// Undelivered bytes of one author that the disk of another may hold, and the most that one held.
    disk_bound: u64,
    fullest: u64,
    pub times: Times,
    /// Delay from sealing to execution at the sealer, with the sealer and the time of the execution.
    latencies: Vec<(AuthorityIndex, Time, Time)>,
    /// Blocks whose signature a node has looked at, and how often it did so a second time.
    checked: BTreeSet<(AuthorityIndex, BlockRef)>,
    pub verified_again: u64,
    /// Copies of blocks whose signature was not looked at.
    pub copies: u64,
    blamed: BTreeMap<Rule, u64>,
    /// Who has come back, and has to catch up with what there was by then.
    returns: Vec<Return>,
}

/// A node that starts when others have gone on without it.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    pub node: AuthorityIndex,
    pub at: Time,
    /// The last commit anybody had by then.
    pub target: CommitIndex,
    /// When it had recorded that, and when it had executed it.
    pub recorded: Option<Time>,
    pub executed: Option<Time>,
}

impl Oracle {
    pub fn new(committee: Arc<Committee>, byzantine: AuthoritySet, disk_bound: u64) -> Self {
        let none = vec![CommitIndex(0); committee.size()];
        Self {
            committee,
            byzantine,
            chain: Vec::new(),
            committed: BTreeSet::new(),
            delivered: BTreeMap::new(),
            signed: BTreeMap::new(),
            verified: BTreeSet::new(),
            sealed: BTreeMap::new(),
            recorded: none.clone(),
            executed: none,
            latencies: Vec::new(),
            highest: BTreeMap::new(),
            disk_bound,
            fullest: 0,
            times: Times::default(),
            returns: Vec::new(),
            checked: BTreeSet::new(),
            verified_again: 0,
            copies: 0,
            blamed: BTreeMap::new(),
        }
    }

    pub fn is_byzantine(&self, author: AuthorityIndex) -> bool {
        self.byzantine.contains(author)
    }

    pub fn byzantine(&self) -> impl Iterator<Item = AuthorityIndex> + use<> {
        self.byzantine.iter()
    }

    /// A block leaves a node. No honest author ever has two of one round outside, and all its blocks are valid.
    pub fn left(&mut self, sender: AuthorityIndex, block: &VerifiedBlock) {
        let reference = block.reference();
        if self.is_byzantine(sender) || self.is_byzantine(block.author()) {
            return;
        }
        let known = self.signed.entry((block.author(), block.round())).or_insert(reference.digest);
        assert_eq!(*known, reference.digest, "{:?} has two blocks of {:?}", block.author(), block.round());
        if self.verified.insert(reference) {
            let checked = VerifiedBlock::verify(block.bytes().clone(), &self.committee);
            assert_eq!(checked.as_ref(), Ok(block), "{sender:?} sends an invalid block");
        }
    }

    pub fn seal(&mut self, key: BatchKey, batch: BatchRef, at: Time) {
        let owed = !self.is_byzantine(key.author);
        self.sealed.insert(key, Sealed { batch, at, owed });
    }

    /// What a batch is called and how long it is, if it exists.
    pub fn batch(&self, key: &BatchKey) -> Option<BatchRef> {
        self.sealed.get(key).map(|sealed| sealed.batch)
    }

    /// The owner lost these batches with its power: nobody has to deliver them.
    pub fn forgive(&mut self, owner: AuthorityIndex, kept: impl Fn(&BatchKey) -> bool) {
        for (key, sealed) in &mut self.sealed {
            sealed.owed &= key.author != owner || kept(key);
        }
    }

    /// The owner has stopped for good: nobody has to deliver what no commit has delivered yet.
    pub fn forgive_undelivered(&mut self, owner: AuthorityIndex) {
        for (key, sealed) in self.sealed.iter_mut().filter(|(key, _)| key.author == owner) {
            let delivered = self.delivered.get(&(key.author, key.sequence));
            sealed.owed &= delivered.is_some_and(|(_, digest)| *digest == key.digest);
        }
    }

    /// A node looks at the signature of a block that came unasked.
    pub fn verified_by(&mut self, node: AuthorityIndex, block: &BlockRef) {
        self.verified_again += u64::from(!self.checked.insert((node, *block)));
    }

    /// An honest node blames a liar.
    pub fn blame(&mut self, rule: Rule) {
        *self.blamed.entry(rule).or_default() += 1;
    }

    /// How often liars were blamed for this.
    pub fn blamed(&self, rule: Rule) -> u64 {
        self.blamed.get(&rule).copied().unwrap_or(0)
    }

    /// Whether some honest node has recorded a commit with this block.
    pub fn is_committed(&self, block: &BlockRef) -> bool {
        self.committed.contains(block)
    }

    /// A node wrote the record of a commit.
    pub fn record(&mut self, node: AuthorityIndex, delivery: &Arc<Delivery>, now: Time) {
        let index = delivery.commit.index;
        for back in self.returns.iter_mut().filter(|back| back.node == node && back.target <= index) {
            back.recorded.get_or_insert(now);
        }
        let last = &mut self.recorded[node.usize()];
        assert_eq!(index, last.next(), "{node:?} records commits out of order");
        *last = index;
        let digest = delivery.commit.digest();
        match self.chain.get(index.0 as usize - 1) {
            Some((known, known_digest, _)) => {
                assert_eq!(**known, **delivery, "{node:?} disagrees about commit {index}");
                assert_eq!(*known_digest, digest, "{node:?} disagrees about the digest of commit {index}");
            }
            None => self.extend(delivery, digest),
        }
    }

    fn extend(&mut self, delivery: &Arc<Delivery>, digest: Digest) {
        let commit = &delivery.commit;
        assert_eq!(commit.index.0 as usize, self.chain.len() + 1);
        if let Some((before, before_digest, _)) = self.chain.last() {
            assert_eq!(commit.previous, *before_digest, "commit {} does not follow the one before", commit.index);
            assert!(commit.timestamp_ms > before.commit.timestamp_ms, "time stands still at commit {}", commit.index);
            assert!(commit.leader_round > before.commit.leader_round, "leader round of commit {}", commit.index);
        }
        for block in &commit.blocks {
            assert!(self.committed.insert(*block), "{block:?} is committed twice");
        }
        for batch in &delivery.batches {
            let key = batch.key();
            let sealed = self.sealed.get(&key).unwrap_or_else(|| panic!("nobody sealed {key}"));
            assert_eq!(sealed.batch, batch.batch, "{key} is delivered with another length");
            let before = self.delivered.insert((key.author, key.sequence), (commit.index, key.digest));
            assert_eq!(before, None, "{key} is delivered twice");
            let highest = self.highest.entry(key.author).or_default();
            *highest = key.sequence.max(*highest);
        }
        self.chain.push((delivery.clone(), digest, None));
    }

    /// Whether no further commit can deliver a batch.
    pub fn is_stale(&self, key: &BatchKey) -> bool {
        let highest = self.highest.get(&key.author).copied().unwrap_or_default();
        let window = self.committee.protocol().replay_window;
        self.delivered.contains_key(&(key.author, key.sequence)) || key.sequence.0 + window <= highest.0
    }

    /// The disk of a node holds so much of an author that no commit has delivered.
    pub fn fills(&mut self, node: AuthorityIndex, author: AuthorityIndex, bytes: u64) {
        self.fullest = self.fullest.max(bytes);
        let bound = self.disk_bound;
        assert!(bytes <= bound, "{node:?} keeps {bytes} undelivered bytes of {author:?}; at most {bound} may be there");
    }

    /// The most undelivered bytes of one author that were on one disk.
    pub fn fullest(&self) -> u64 {
        self.fullest
    }

    /// A node executed a commit.
    pub fn execute(&mut self, node: AuthorityIndex, delivery: &Delivery, state: Digest, now: Time) {
        let index = delivery.commit.index;
        for back in self.returns.iter_mut().filter(|back| back.node == node && back.target <= index) {
            back.executed.get_or_insert(now);
        }
        let last = &mut self.executed[node.usize()];
        assert_eq!(index, last.next(), "{node:?} executes commits out of order");
        *last = index;
        let (known, _, known_state) = &mut self.chain[index.0 as usize - 1];
        assert_eq!(**known, *delivery, "{node:?} executes another commit {index}");
        assert_eq!(*known_state.get_or_insert(state), state, "{node:?} has another state after commit {index}");
        self.times.executed(&delivery.commit, now);
        let own = delivery.batches.iter().filter(|b| b.author == node);
        self.latencies.extend(own.filter_map(|b| Some((node, now, now - self.sealed.get(&b.key())?.at))));
    }

    /// A node starts with this much on its disk.
    pub fn restart(&mut self, node: AuthorityIndex, recorded: CommitIndex, executed: CommitIndex, now: Time) {
        let target = CommitIndex(self.commits());
        if recorded < target {
            self.returns.push(Return { node, at: now, target, recorded: None, executed: None });
        }
        self.recorded[node.usize()] = recorded;
        self.executed[node.usize()] = executed;
    }

    /// All that came back.
    pub fn returns(&self) -> &[Return] {
        &self.returns
    }

    pub fn executed_by(&self, node: AuthorityIndex) -> CommitIndex {
        self.executed[node.usize()]
    }

    /// The one history, as the naive committer would tell it.
    pub fn history(&self) -> impl Iterator<Item = NaiveCommit> {
        self.chain.iter().map(|(delivery, ..)| NaiveCommit::from(&**delivery))
    }

    pub fn commits(&self) -> u64 {
        self.chain.len() as u64
    }

    /// Committed leader blocks by this author.
    pub fn led_by(&self, author: AuthorityIndex) -> usize {
        self.chain.iter().flat_map(|(d, ..)| &d.commit.leaders).filter(|l| l.author == author).count()
    }

    /// Batches that a node has not executed though their honest owners have them.
    pub fn missing_at(&self, node: AuthorityIndex) -> Vec<BatchKey> {
        let executed = self.executed[node.usize()];
        let done = |key: &BatchKey| {
            let delivered = self.delivered.get(&(key.author, key.sequence));
            delivered.is_some_and(|(index, digest)| *index <= executed && *digest == key.digest)
        };
        self.sealed.iter().filter(|(key, sealed)| sealed.owed && !done(key)).map(|(key, _)| *key).collect()
    }

    /// Mean delay from sealing to execution at the sealer, of executions in a span of time.
    pub fn mean_latency(&self, span: std::ops::Range<Time>) -> Option<Time> {
        let inside = self.latencies.iter().filter(|(_, at, _)| span.contains(at));
        mean(inside.map(|(.., delay)| *delay).collect())
    }

    /// The same of one sealer, over the whole run.
    pub fn mean_latency_of(&self, node: AuthorityIndex) -> Option<Time> {
        mean(self.latencies.iter().filter(|(sealer, ..)| *sealer == node).map(|(.., delay)| *delay).collect())
    }

    /// Members.
    pub fn size(&self) -> usize {
        self.committee.size()
    }
}

fn mean(delays: Vec<Time>) -> Option<Time> {
    let count = delays.len() as u64;
    delays.iter().sum::<Time>().checked_div(count)
}
