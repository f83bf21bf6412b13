//! The block: one author's word for one round. It names its parents (and thereby votes), its payload batches, and the commits
//! its author has decided.
//!
//! digest = H("blk" | H(core) | H(votes)), so that a certificate carries 32 bytes for the core of each signer. The signature
//! is over the digest in the domain `block` of chain and epoch.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_config::committee::AuthoritySet;
use rorqual_config::encoding::{decode, encode};
use rorqual_config::identity::Domain;
use rorqual_config::{AuthorityIndex, ChainId, CodecError, Committee, Digest, KeyPair, Signature};

use super::range::in_range;
use super::{BatchRef, CommitRef, Round};

/// The name of a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BlockRef {
    /// Its round.
    pub round: Round,
    /// Its author.
    pub author: AuthorityIndex,
    /// See the module.
    pub digest: Digest,
}

impl BlockRef {
    /// The parent that every author's first block has: (0, A, H("gen" | chain_id | A)).
    pub fn genesis(chain_id: ChainId, author: AuthorityIndex) -> Self {
        let digest = Digest::of("gen", &[&chain_id.0.0, &author.0.to_le_bytes()]);
        Self { round: Round(0), author, digest }
    }
}

impl fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}#{:?}", self.author, self.round, self.digest)
    }
}

/// Everything of a block but the commit votes and the signature.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BlockCore {
    /// The epoch it counts in.
    pub epoch: u64,
    /// Its round, at least 1.
    pub round: Round,
    /// Its author.
    pub author: AuthorityIndex,
    /// The author's wall clock, milliseconds since the Unix epoch. No rule of acceptance looks at it.
    pub timestamp_ms: u64,
    /// Own previous block first; at most one an author; a quorum of them of the round before.
    pub parents: Vec<BlockRef>,
    /// Payload, ascending by sequence.
    pub batches: Vec<BatchRef>,
    /// The author wants the epoch to end (reserved).
    pub end_epoch: bool,
}

/// A block as it travels and as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedBlock {
    /// The core.
    pub core: BlockCore,
    /// Commits that the author has decided and whose payload it holds, ascending.
    pub votes: Vec<CommitRef>,
    /// By the author over the digest.
    pub signature: Signature,
}

/// Why bytes are not a valid block: the same answer at every honest node, for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not an encoding.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// More bytes than a valid block can have.
    #[error("a block of {size} bytes exceeds {limit}")]
    TooLarge {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A rule of form is broken; nothing is known about who made it.
    #[error("malformed block: {0}")]
    Malformed(&'static str),
    /// The signature is not the author's.
    #[error("the signature is not by author {0}")]
    Signature(AuthorityIndex),
}

struct Inner {
    block: SignedBlock,
    reference: BlockRef,
    core_digest: Digest,
    bytes: Bytes,
}

/// A block of good form. Its name is known, its signature was not looked at: that costs twenty times as much as all the rest, and a
/// name that is known needs none. Cheap to clone.
#[derive(Clone)]
pub struct UnverifiedBlock(VerifiedBlock);

impl UnverifiedBlock {
    /// Decodes and checks everything that needs neither context nor the signature: size, epoch, form, parent quorum, limits.
    ///
    /// # Errors
    /// [`BlockError`]; charge the sender.
    pub fn read(bytes: Bytes, committee: &Committee) -> Result<Self, BlockError> {
        let limit = committee.protocol().max_block_bytes(committee.size());
        if bytes.len() > limit {
            return Err(BlockError::TooLarge { size: bytes.len(), limit });
        }
        let block: SignedBlock = decode(&bytes)?;
        block.check_form(committee)?;
        Ok(Self(VerifiedBlock::assemble(block, bytes)))
    }

    /// Its name, which does not cover the signature.
    pub fn reference(&self) -> BlockRef {
        self.0.reference()
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BlockError::Signature`]; charge the sender.
    pub fn verify(self, committee: &Committee) -> Result<VerifiedBlock, BlockError> {
        let author = self.0.author();
        let key = committee.member(author).public_key;
        key.verify(&VerifiedBlock::domain(committee), &self.0.reference().digest.0, &self.0.block().signature)
            .map_err(|_| BlockError::Signature(author))?;
        Ok(self.0)
    }
}

/// A block that passed [`VerifiedBlock::verify`] (or was written by us). Cheap to clone; keeps its encoding for sending.
#[derive(Clone)]
pub struct VerifiedBlock(Arc<Inner>);

impl VerifiedBlock {
    /// Decodes and checks everything that needs no context: size, epoch, form, parent quorum, limits, signature.
    ///
    /// # Errors
    /// [`BlockError`]; charge the sender.
    pub fn verify(bytes: Bytes, committee: &Committee) -> Result<Self, BlockError> {
        UnverifiedBlock::read(bytes, committee)?.verify(committee)
    }

    /// A block read from our own store, which only ever held verified ones.
    ///
    /// # Errors
    /// [`BlockError::Codec`] when the bytes are not a block.
    pub fn from_store(bytes: Bytes) -> Result<Self, BlockError> {
        let block: SignedBlock = decode(&bytes)?;
        Ok(Self::assemble(block, bytes))
    }

    /// Signs a block of our own.
    pub fn sign(core: BlockCore, votes: Vec<CommitRef>, committee: &Committee, key: &KeyPair) -> Self {
        let (core_digest, digest) = digests(&core, &votes);
        let signature = key.sign(&Self::domain(committee), &digest.0);
        let reference = BlockRef { round: core.round, author: core.author, digest };
        let block = SignedBlock { core, votes, signature };
        let bytes = Bytes::from(encode(&block));
        Self(Arc::new(Inner { block, reference, core_digest, bytes }))
    }

    fn assemble(block: SignedBlock, bytes: Bytes) -> Self {
        let (core_digest, digest) = digests(&block.core, &block.votes);
        let reference = BlockRef { round: block.core.round, author: block.core.author, digest };
        Self(Arc::new(Inner { block, reference, core_digest, bytes }))
    }

    /// The domain block signatures count in.
    pub fn domain(committee: &Committee) -> Domain {
        Domain { purpose: "block", chain_id: committee.chain_id(), epoch: committee.epoch() }
    }

    /// The block.
    pub fn block(&self) -> &SignedBlock {
        &self.0.block
    }

    /// Its name.
    pub fn reference(&self) -> BlockRef {
        self.0.reference
    }

    /// Its round.
    pub fn round(&self) -> Round {
        self.0.reference.round
    }

    /// Its author.
    pub fn author(&self) -> AuthorityIndex {
        self.0.reference.author
    }

    /// Its parents.
    pub fn parents(&self) -> &[BlockRef] {
        &self.0.block.core.parents
    }

    /// Its payload.
    pub fn batches(&self) -> &[BatchRef] {
        &self.0.block.core.batches
    }

    /// Its commit votes.
    pub fn votes(&self) -> &[CommitRef] {
        &self.0.block.votes
    }

    /// H(core), for certificates.
    pub fn core_digest(&self) -> Digest {
        self.0.core_digest
    }

    /// Its canonical encoding.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }
}

impl fmt::Debug for VerifiedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.reference)
    }
}

impl PartialEq for VerifiedBlock {
    fn eq(&self, other: &Self) -> bool {
        self.0.reference == other.0.reference && self.0.bytes == other.0.bytes
    }
}

impl Eq for VerifiedBlock {}

fn digests(core: &BlockCore, votes: &[CommitRef]) -> (Digest, Digest) {
    let core = Digest::of("blk/core", &[&encode(core)]);
    (core, block_digest(&core, votes))
}

/// H("blk" | H(core) | H(votes)): what a block's signature covers; a certificate recomputes it.
pub fn block_digest(core_digest: &Digest, votes: &[CommitRef]) -> Digest {
    let votes = Digest::of("blk/votes", &[&encode(&votes.to_vec())]);
    Digest::of("blk", &[&core_digest.0, &votes.0])
}

impl SignedBlock {
    /// The rules of form: context-free, so that every honest node gives the same answer, for ever. Neither clocks nor the
    /// contents of ancestors or payload have a say here.
    fn check_form(&self, committee: &Committee) -> Result<(), BlockError> {
        let core = &self.core;
        if core.epoch != committee.epoch() {
            return malformed("wrong epoch");
        }
        if !committee.contains(core.author) {
            return malformed("the author is not a member");
        }
        if core.round.0 == 0 {
            return malformed("round 0 is genesis");
        }
        if !core.round.in_range() {
            return malformed("the round is out of range");
        }
        if !in_range(core.timestamp_ms) {
            return malformed("the timestamp is out of range");
        }
        self.check_parents(committee)?;
        self.check_batches(committee)?;
        check_votes(&self.votes, committee).or_else(malformed)
    }

    fn check_parents(&self, committee: &Committee) -> Result<(), BlockError> {
        let core = &self.core;
        if core.parents.len() > committee.size() {
            return malformed("more parents than members");
        }
        if core.parents.first().is_none_or(|parent| parent.author != core.author) {
            return malformed("the first parent is not the own block before");
        }
        let (mut authors, mut strong) = (AuthoritySet::EMPTY, AuthoritySet::EMPTY);
        for parent in &core.parents {
            if !committee.contains(parent.author) {
                return malformed("a parent's author is not a member");
            }
            if !authors.insert(parent.author) {
                return malformed("two parents by one author");
            }
            if parent.round >= core.round {
                return malformed("a parent is not of an earlier round");
            }
            if parent.round.0 == 0 && *parent != BlockRef::genesis(committee.chain_id(), parent.author) {
                return malformed("a parent of round 0 is not the genesis block");
            }
            let back = core.round.above(parent.round);
            // The own parent may be old: its author was away.
            if parent.author != core.author && back > committee.protocol().gc_depth {
                return malformed("a parent is too old");
            }
            if back == 1 {
                strong.insert(parent.author);
            }
        }
        if !committee.is_quorum(&strong) {
            return malformed("no quorum of parents of the round before");
        }
        Ok(())
    }

    fn check_batches(&self, committee: &Committee) -> Result<(), BlockError> {
        let (batches, rules) = (&self.core.batches, committee.protocol());
        if batches.len() > rules.max_batches_per_block as usize {
            return malformed("too many batches");
        }
        if batches.first().is_some_and(|batch| batch.sequence.0 == 0)
            || !batches.windows(2).all(|pair| pair[0].sequence < pair[1].sequence)
        {
            return malformed("batch sequences do not ascend");
        }
        // They ascend.
        if batches.last().is_some_and(|batch| !batch.sequence.in_range()) {
            return malformed("a batch sequence is out of range");
        }
        if batches.iter().any(|batch| u64::from(batch.bytes) > rules.max_batch_bytes) {
            return malformed("a batch is too large");
        }
        let payload: u64 = batches.iter().map(|batch| u64::from(batch.bytes)).sum();
        if payload > rules.max_block_payload_bytes {
            return malformed("too much payload");
        }
        Ok(())
    }
}

/// The rules of form for the commit votes of a block: few, from 1 on, ascending, in range.
///
/// # Errors
/// The rule that is broken.
pub fn check_votes(votes: &[CommitRef], committee: &Committee) -> Result<(), &'static str> {
    if votes.len() > committee.protocol().max_votes_per_block as usize {
        return Err("too many commit votes");
    }
    if votes.first().is_some_and(|vote| vote.index.0 == 0)
        || !votes.windows(2).all(|pair| pair[0].index < pair[1].index)
    {
        return Err("commit votes do not ascend");
    }
    // They ascend.
    if votes.last().is_some_and(|vote| !vote.index.in_range()) {
        return Err("a commit vote is out of range");
    }
    Ok(())
}

fn malformed(rule: &'static str) -> Result<(), BlockError> {
    Err(BlockError::Malformed(rule))
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "block_bounds_tests.rs"]
mod bounds;
