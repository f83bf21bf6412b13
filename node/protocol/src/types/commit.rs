//! The commit: one decided leader round with everything it brings into the order.

use bincode::{Decode, Encode};
use rorqual_config::{AuthorityIndex, ChainId, Digest};

use super::{BatchKey, BatchRef, BlockRef, CommitIndex, Round};

/// The name of a commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct CommitRef {
    /// Its index.
    pub index: CommitIndex,
    /// Its digest.
    pub digest: Digest,
}

impl CommitRef {
    /// Commit 0, the empty prefix: H("cmt/genesis" | chain_id).
    pub fn genesis(chain_id: ChainId) -> Self {
        Self { index: CommitIndex(0), digest: Digest::of("cmt/genesis", &[&chain_id.0.0]) }
    }
}

/// A commit as every honest node derives it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Commit {
    /// The epoch.
    pub epoch: u64,
    /// Its index, from 1.
    pub index: CommitIndex,
    /// Digest of the commit before; of commit 0 it is H("cmt/genesis" | chain_id).
    pub previous: Digest,
    /// The round of its leaders.
    pub leader_round: Round,
    /// The committed leader blocks, in offset order.
    pub leaders: Vec<BlockRef>,
    /// Commit time in milliseconds since the Unix epoch, strictly ascending from commit to commit.
    pub timestamp_ms: u64,
    /// The garbage-collection round before this commit.
    pub gc_round: Round,
    /// All blocks it brings in, in order.
    pub blocks: Vec<BlockRef>,
    /// Merkle root over `blocks`.
    pub blocks_root: Digest,
    /// Merkle root over the delivered batches, in delivery order.
    pub batches_root: Digest,
    /// At multiples of the checkpoint interval: digest of the state after the commit one interval before.
    pub aux: Option<Digest>,
}

impl Commit {
    /// H("cmt" | all fields, the blocks represented by their root).
    pub fn digest(&self) -> Digest {
        self.header().digest()
    }

    /// The commit without its block list.
    pub fn header(&self) -> CommitHeader {
        CommitHeader {
            epoch: self.epoch,
            index: self.index,
            previous: self.previous,
            leader_round: self.leader_round,
            leaders: self.leaders.clone(),
            timestamp_ms: self.timestamp_ms,
            gc_round: self.gc_round,
            blocks_root: self.blocks_root,
            batches_root: self.batches_root,
            aux: self.aux,
        }
    }

    /// Its name.
    pub fn reference(&self) -> CommitRef {
        CommitRef { index: self.index, digest: self.digest() }
    }
}

/// A commit without its block list: what a certificate carries. Same digest as the commit.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[allow(missing_docs, reason = "the fields are those of Commit")]
pub struct CommitHeader {
    pub epoch: u64,
    pub index: CommitIndex,
    pub previous: Digest,
    pub leader_round: Round,
    pub leaders: Vec<BlockRef>,
    pub timestamp_ms: u64,
    pub gc_round: Round,
    pub blocks_root: Digest,
    pub batches_root: Digest,
    pub aux: Option<Digest>,
}

impl CommitHeader {
    /// H("cmt" | all fields).
    pub fn digest(&self) -> Digest {
        Digest::of("cmt", &[&rorqual_config::encoding::encode(self)])
    }
}

/// One delivered batch: who sealed it, and how the block named it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct DeliveredBatch {
    /// Author of the block and of the batch.
    pub author: AuthorityIndex,
    /// The batch.
    pub batch: BatchRef,
}

impl DeliveredBatch {
    /// Where it is stored.
    pub fn key(&self) -> BatchKey {
        self.batch.key(self.author)
    }
}

/// A commit with the payload that it delivers, in order: the record every node writes, and what execution applies.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Delivery {
    /// The commit.
    pub commit: Commit,
    /// What it delivers; `commit.batches_root` binds it.
    pub batches: Vec<DeliveredBatch>,
}
