//! What execution writes for a commit, and how it is read back.
//!
//! | column | key | value |
//! |---|---|---|
//! | `executed` | index | [`ExecutionRecord`] |
//! | `executed` | index, order of the batch (u32) | the [`Refused`] of that batch, only where something was refused |
//! | `ids` | index, then index with 1, 2, … (u32) where one row is not enough | [`SpentRow`], only where ids were spent |
//! | `positions` | first position | index, only where something was applied |
//! | `meta` | `applied` | [`AppliedRecord`] |
//! | `meta` | `begins` | [`Begins`] |
//!
//! A commit after a long stall can deliver gigabytes, and liars choose what is in them. Hence no row grows with the number of
//! submissions of a commit: refused ones are a row a batch, spent ids are cut into rows.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_client::submission::SubmissionId;
use rorqual_config::Digest;
use rorqual_config::encoding::{Hasher, encode};
use rorqual_protocol::types::{BatchKey, CommitIndex};
use rorqual_store::WriteBatch;

use crate::schema::{self, Meta};

/// Spent ids in one row at most: about 2 MiB.
const ROW_IDS: usize = 65_536;

/// What became of one delivered batch. An undecodable one counts zero of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BatchRecord {
    /// How many submissions it holds.
    pub submissions: u32,
    /// How many transactions it holds.
    pub transactions: u32,
    /// How many of them were applied. Fewer than it holds exactly where submissions were refused.
    pub applied: u32,
}

/// What became of one commit. Batches stand in delivery order.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ExecutionRecord {
    /// The commit.
    pub index: CommitIndex,
    /// Position of the first transaction it applied, or would have applied.
    pub first_position: u64,
    /// How many transactions it applied.
    pub transactions: u64,
    /// Commit time.
    pub time_ms: u64,
    /// Bytes of payload delivered by all commits before this one.
    pub payload_before: u64,
    /// Each batch.
    pub batches: Vec<BatchRecord>,
    /// Digest of the state after it.
    pub digest: Digest,
}

/// Which submissions of a batch were refused: bit `i % 8` of byte `i / 8`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refused(Vec<u8>);

impl Refused {
    /// Adds a submission.
    pub fn insert(&mut self, index: usize) {
        if self.0.len() <= index / 8 {
            self.0.resize(index / 8 + 1, 0);
        }
        self.0[index / 8] |= 1 << (index % 8);
    }

    /// Whether this submission was refused.
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// Whether none was refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads back what was stored.
    pub fn from_store(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// One id that a commit spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SpentId {
    /// The id.
    pub id: SubmissionId,
    /// The last commit time at which it lives.
    pub deadline_ms: u64,
    /// Where its submission begins in the log.
    pub first_position: u64,
}

/// The ids that one batch spent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SpentBatch {
    /// The batch.
    pub key: BatchKey,
    /// In the order of its submissions.
    pub ids: Vec<SpentId>,
}

/// A row of the column `ids`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct SpentRow {
    /// Commit time.
    pub time_ms: u64,
    /// In delivery order; a batch may go on in the next row.
    pub batches: Vec<SpentBatch>,
}

/// How far execution is: the record `applied`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct AppliedRecord {
    /// The last commit applied; 0 before the first.
    pub index: CommitIndex,
    /// Position of the next transaction.
    pub next_position: u64,
    /// Commit time of that commit.
    pub time_ms: u64,
    /// Digest of the state after it.
    pub digest: Digest,
    /// Bytes of payload delivered so far.
    pub payload_bytes: u64,
}

/// Where the log begins: the record `begins`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Begins {
    /// The first commit that is here.
    pub index: CommitIndex,
    /// The first position that is here.
    pub position: u64,
}

impl Default for Begins {
    /// Everything is here.
    fn default() -> Self {
        Self { index: CommitIndex(1), position: 0 }
    }
}

/// H("exec" | previous | index | first position | for every batch its counts and which submissions were refused). `refused`
/// names batches by order, ascending.
pub fn state_digest(
    previous: &Digest,
    index: CommitIndex,
    first_position: u64,
    batches: &[BatchRecord],
    refused: &[(u32, Refused)],
) -> Digest {
    let mut hasher = Hasher::new("exec");
    hasher.update(&previous.0).update(&index.0.to_le_bytes()).update(&first_position.to_le_bytes());
    hasher.update(&(batches.len() as u64).to_le_bytes());
    let mut refused = refused.iter().peekable();
    for (order, batch) in (0..).zip(batches) {
        hasher.update(&encode(batch));
        let bits = refused.next_if(|(of, _)| *of == order).map_or(&[][..], |(_, refused)| refused.bytes());
        hasher.update(&(bits.len() as u32).to_le_bytes()).update(bits);
    }
    hasher.finish()
}

/// `index | number`: rows that belong to a commit beside its first one. They sort between it and the next commit.
fn sub_key(index: CommitIndex, number: u32) -> Bytes {
    [&schema::index_key(index)[..], &number.to_be_bytes()].concat().into()
}

/// The key of the refused submissions of a batch.
pub fn refused_key(index: CommitIndex, order: u32) -> Bytes {
    sub_key(index, order)
}

/// Reads the commit of a key of `executed` or `ids` back.
pub fn parse_index(key: &[u8]) -> Option<CommitIndex> {
    key.get(..8).and_then(schema::parse_number).map(CommitIndex)
}

/// Cuts the ids that a commit spent into rows.
fn rows(time_ms: u64, spent: &[SpentBatch]) -> Vec<SpentRow> {
    let mut rows: Vec<SpentRow> = Vec::new();
    let mut room = 0;
    for batch in spent {
        let mut ids = &batch.ids[..];
        while !ids.is_empty() {
            if room == 0 {
                rows.push(SpentRow { time_ms, batches: Vec::new() });
                room = ROW_IDS;
            }
            let (now, later) = ids.split_at(ids.len().min(room));
            // A batch costs about as much as two ids.
            room = room.saturating_sub(now.len() + 2);
            ids = later;
            let part = SpentBatch { key: batch.key, ids: now.to_vec() };
            if let Some(row) = rows.last_mut() {
                row.batches.push(part);
            }
        }
    }
    rows
}

/// Adds everything that a commit changes to one atomic batch.
pub fn put(
    write: &mut WriteBatch,
    record: &ExecutionRecord,
    refused: &[(u32, Refused)],
    spent: &[SpentBatch],
    applied: &AppliedRecord,
) {
    let index = record.index;
    write.put(schema::EXECUTED, schema::index_key(index), encode(record));
    for (order, refused) in refused {
        write.put(schema::EXECUTED, refused_key(index, *order), Bytes::copy_from_slice(refused.bytes()));
    }
    for (number, row) in (0..).zip(rows(record.time_ms, spent)) {
        let key = if number == 0 { schema::index_key(index) } else { sub_key(index, number) };
        write.put(schema::IDS, key, encode(&row));
    }
    if record.transactions > 0 {
        write.put(schema::POSITIONS, schema::number_key(record.first_position), schema::index_key(index));
    }
    write.put(schema::META, Meta::APPLIED, encode(applied));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_config::AuthorityIndex;
    use rorqual_protocol::types::Sequence;

    fn batch(sequence: u64, ids: usize) -> SpentBatch {
        let id = |i: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(i as u64).to_le_bytes());
            SpentId { id: SubmissionId(id), deadline_ms: 1, first_position: i as u64 }
        };
        let key = BatchKey { author: AuthorityIndex(0), sequence: Sequence(sequence), digest: Digest::default() };
        SpentBatch { key, ids: (0..ids).map(id).collect() }
    }

    #[test]
    fn rows_are_bounded_and_lose_nothing() {
        let spent = [batch(1, 10), batch(2, 2 * ROW_IDS + 7), batch(3, 5)];
        let rows = rows(9, &spent);
        assert_eq!(rows.len(), 3);
        let mut joined: Vec<SpentBatch> = Vec::new();
        for part in rows.into_iter().flat_map(|row| {
            assert!(row.batches.iter().map(|batch| batch.ids.len()).sum::<usize>() <= ROW_IDS);
            row.batches
        }) {
            match joined.last_mut().filter(|last| last.key == part.key) {
                Some(last) => last.ids.extend(part.ids),
                None => joined.push(part),
            }
        }
        assert_eq!(joined, spent);
        assert!(super::rows(9, &[]).is_empty());
    }

    #[test]
    fn the_digest_binds_who_was_refused_in_which_batch() {
        let batches = [BatchRecord { submissions: 3, transactions: 3, applied: 2 }; 2];
        let digest =
            |refused: &[(u32, Refused)]| state_digest(&Digest::default(), CommitIndex(1), 0, &batches, refused);
        let bits = |index| {
            let mut refused = Refused::default();
            refused.insert(index);
            refused
        };
        let all = [
            digest(&[]),
            digest(&[(0, bits(0))]),
            digest(&[(0, bits(1))]),
            digest(&[(1, bits(1))]),
            digest(&[(0, bits(1)), (1, bits(1))]),
            digest(&[(0, bits(9))]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other != one), "{i}");
        }
    }

    #[test]
    fn the_digest_binds_every_number() {
        let batch = BatchRecord { submissions: 3, transactions: 4, applied: 4 };
        let digest = |previous, index, first, batches: &[BatchRecord]| {
            state_digest(&Digest([previous; 32]), CommitIndex(index), first, batches, &[])
        };
        let all = [
            digest(0, 1, 2, &[batch]),
            digest(1, 1, 2, &[batch]),
            digest(0, 2, 2, &[batch]),
            digest(0, 1, 3, &[batch]),
            digest(0, 1, 2, &[]),
            digest(0, 1, 2, &[batch, batch]),
            digest(0, 1, 2, &[BatchRecord { submissions: 2, ..batch }]),
            digest(0, 1, 2, &[BatchRecord { transactions: 5, ..batch }]),
            digest(0, 1, 2, &[BatchRecord { applied: 3, ..batch }]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other != one), "{i}");
        }
    }

    #[test]
    fn further_rows_sort_between_their_commit_and_the_next() {
        let index = CommitIndex(7);
        assert!(schema::index_key(index) < refused_key(index, 0));
        assert!(refused_key(index, u32::MAX) < schema::index_key(index.next()));
        assert_eq!(parse_index(&refused_key(index, 3)), Some(index));
    }

    #[test]
    fn a_set_of_refused_submissions_grows_as_needed() {
        let mut refused = Refused::default();
        assert!(refused.is_empty());
        refused.insert(17);
        assert!(refused.contains(17) && !refused.contains(16) && !refused.contains(1_000));
        assert_eq!(Refused::from_store(refused.bytes()), refused);
    }
}
