//! Submission ids that are alive: applied, and not past their deadline.
//!
//! Promises: an id is here from the commit that applied it until commit time passes its deadline; counts are per batch author;
//! memory is bounded by `max_live_ids` entries an author. Deterministic in everything that a caller can see.

use std::collections::{BTreeMap, HashMap};

use bincode::{Decode, Encode};
use rorqual_client::submission::SubmissionId;
use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::{BatchKey, CommitIndex};

/// Parts of the table: one grows without moving the others, so that growing stops nobody for long.
const SHARDS: usize = 256;

/// Where an id was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Spent {
    /// The commit.
    pub commit: CommitIndex,
    /// Position of the submission's first transaction.
    pub first_position: u64,
    /// The batch that brought it.
    pub batch: BatchKey,
}

/// Names a batch with ids alive; see [`LiveIds::open`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u32);

#[derive(Clone, Copy)]
struct Entry {
    first_position: u64,
    slot: Slot,
}

struct Batch {
    key: BatchKey,
    commit: CommitIndex,
    alive: u32,
}

/// The ids alive after a commit.
#[derive(Default)]
pub struct LiveIds {
    // Whoever submits chooses ids; the random seeds of the maps keep them from making entries collide.
    shards: Vec<HashMap<SubmissionId, Entry>>,
    by_deadline: BTreeMap<u64, Vec<SubmissionId>>,
    // Entries name their batch by slot, which keeps them at a third of the size. Free slots are used again.
    batches: Vec<Option<Batch>>,
    free: Vec<Slot>,
    counts: Vec<u64>,
}

impl LiveIds {
    fn shard(&self, id: &SubmissionId) -> Option<&HashMap<SubmissionId, Entry>> {
        self.shards.get(usize::from(id.0[0]))
    }

    fn batch(&self, slot: Slot) -> Option<&Batch> {
        self.batches.get(slot.0 as usize).and_then(Option::as_ref)
    }

    /// Where this id was applied, if it is alive.
    pub fn get(&self, id: &SubmissionId) -> Option<Spent> {
        let entry = self.shard(id)?.get(id)?;
        let batch = self.batch(entry.slot)?;
        Some(Spent { commit: batch.commit, first_position: entry.first_position, batch: batch.key })
    }

    /// How many ids of batches of this author are alive.
    pub fn count(&self, author: AuthorityIndex) -> u64 {
        self.counts.get(author.usize()).copied().unwrap_or(0)
    }

    /// How many ids are alive.
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether no id is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for ids of a batch. At least one [`Self::insert`] follows, or the slot stays taken.
    pub fn open(&mut self, key: BatchKey, commit: CommitIndex) -> Slot {
        let batch = Some(Batch { key, commit, alive: 0 });
        if let Some(slot) = self.free.pop() {
            self.batches[slot.0 as usize] = batch;
            return slot;
        }
        // Slots are at most ids alive, which memory bounds far below 2^32.
        let slot = Slot(self.batches.len() as u32);
        self.batches.push(batch);
        slot
    }

    /// Adds an id that is not alive.
    pub fn insert(&mut self, id: SubmissionId, deadline_ms: u64, first_position: u64, slot: Slot) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashMap::new);
        }
        let Some(batch) = self.batches.get_mut(slot.0 as usize).and_then(Option::as_mut) else { return };
        batch.alive += 1;
        let author = batch.key.author.usize();
        if self.counts.len() <= author {
            self.counts.resize(author + 1, 0);
        }
        self.counts[author] += 1;
        self.shards[usize::from(id.0[0])].insert(id, Entry { first_position, slot });
        self.by_deadline.entry(deadline_ms).or_default().push(id);
    }

    /// How many ids [`Self::expire`] would forget.
    pub fn expiring(&self, time_ms: u64) -> usize {
        self.by_deadline.range(..time_ms).map(|(_, ids)| ids.len()).sum()
    }

    /// Forgets every id whose deadline is before `time_ms`.
    pub fn expire(&mut self, time_ms: u64) {
        while let Some(first) = self.by_deadline.first_entry() {
            if *first.key() >= time_ms {
                return;
            }
            for id in first.remove() {
                self.forget(&id);
            }
        }
    }

    fn forget(&mut self, id: &SubmissionId) {
        let Some(entry) = self.shards[usize::from(id.0[0])].remove(id) else { return };
        let Some(place) = self.batches.get_mut(entry.slot.0 as usize) else { return };
        let Some(batch) = place else { return };
        self.counts[batch.key.author.usize()] -= 1;
        batch.alive -= 1;
        if batch.alive == 0 {
            *place = None;
            self.free.push(entry.slot);
        }
    }

    /// Every id alive with its deadline, ascending by deadline; ids of one deadline in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (SubmissionId, u64, Spent)> + '_ {
        self.by_deadline.iter().flat_map(move |(deadline, ids)| {
            ids.iter().filter_map(move |id| self.get(id).map(|spent| (*id, *deadline, spent)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_config::Digest;
    use rorqual_protocol::types::Sequence;

    fn key(author: u16, sequence: u64) -> BatchKey {
        BatchKey { author: AuthorityIndex(author), sequence: Sequence(sequence), digest: Digest::default() }
    }

    #[test]
    fn ids_live_until_commit_time_passes_their_deadline() {
        let mut ids = LiveIds::default();
        let slot = ids.open(key(1, 1), CommitIndex(5));
        ids.insert(SubmissionId([1; 16]), 10, 100, slot);
        ids.insert(SubmissionId([2; 16]), 11, 101, slot);
        ids.expire(10);
        assert_eq!(ids.len(), 2, "a deadline is the last moment of life");
        assert_eq!(ids.expiring(11), 1);
        ids.expire(11);
        assert_eq!(ids.get(&SubmissionId([1; 16])), None);
        let spent = Spent { commit: CommitIndex(5), first_position: 101, batch: key(1, 1) };
        assert_eq!(ids.get(&SubmissionId([2; 16])), Some(spent));
        assert_eq!((ids.count(AuthorityIndex(1)), ids.count(AuthorityIndex(0))), (1, 0));
    }

    #[test]
    fn a_slot_is_used_again_once_nothing_of_its_batch_lives() {
        let mut ids = LiveIds::default();
        for round in 0..100u64 {
            let slot = ids.open(key(0, round), CommitIndex(round));
            ids.insert(SubmissionId([round as u8; 16]), round, round, slot);
            ids.expire(round + 1);
        }
        assert!(ids.is_empty());
        assert_eq!(ids.batches.len(), 1);
    }
}
