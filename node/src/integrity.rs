//! Whether every record of a data directory is what its key says.
//!
//! The store's own checksums show that bytes are those which were written. This shows that they were the right ones: payload and
//! blocks hash to their keys, signatures hold, commits form a chain, and what commits deliver is here.

use std::collections::HashSet;

use bytes::Bytes;
use rorqual_config::encoding::decode_stored;
use rorqual_config::{AuthorityIndex, Committee, Digest};
use rorqual_protocol::Cover;
use rorqual_protocol::types::{BatchKey, BatchRef, Certificate, CommitIndex, Delivery, VerifiedBlock};
use rorqual_store::Column;

use crate::execution::record::{AppliedRecord, Begins, ExecutionRecord, SpentRow, parse_index};
use crate::schema::{self, Identity, Meta};

/// Checks one record after the other. Payload must come before commits, and each column in the order of its keys.
pub struct Checker<'a> {
    committee: &'a Committee,
    me: AuthorityIndex,
    /// The last commit that execution applied: what later ones deliver is fetched anyway.
    applied: CommitIndex,
    previous: Option<(CommitIndex, Digest)>,
    /// The first bytes of the digests of payload that is what its key says. More would only cost memory.
    intact: HashSet<u64>,
    /// Payload that is not what its key says.
    pub damaged_payload: Vec<Bytes>,
    /// Payload that applied commits deliver and that is not here, with its length.
    pub missing_payload: Vec<(BatchKey, u32)>,
}

impl<'a> Checker<'a> {
    /// Nothing checked yet.
    pub fn new(committee: &'a Committee, me: AuthorityIndex, applied: CommitIndex) -> Self {
        Self {
            committee,
            me,
            applied,
            previous: None,
            intact: HashSet::new(),
            damaged_payload: Vec::new(),
            missing_payload: Vec::new(),
        }
    }

    /// Checks one record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&mut self, column: Column, key: &[u8], value: &[u8]) -> Result<(), String> {
        match column {
            schema::PAYLOAD => self.payload(key, value),
            schema::UNDELIVERED => match schema::parse_batch_key(key).zip(schema::parse_length(value)) {
                Some(_) => Ok(()),
                None => Err("not the length of a batch".into()),
            },
            schema::BLOCKS => self.block(value).and_then(|block| same(&schema::block_key(&block.reference()), key)),
            schema::OWN => {
                let block = self.block(value)?;
                same(&schema::round_key(block.round()), key)?;
                hold(block.author() == self.me, || format!("a block by member {}", block.author()))
            }
            schema::SEALED => {
                let batch: BatchRef = read(value)?;
                same(&schema::number_key(batch.sequence.0), key)
            }
            schema::COMMITS => self.commit(key, value),
            schema::CERTIFICATES => {
                let certificate: Certificate = read(value)?;
                same(&schema::index_key(certificate.index()), key)
            }
            schema::SNAPSHOTS => number(key).map(drop),
            schema::EXECUTED if key.len() == 8 => {
                let record: ExecutionRecord = read(value)?;
                same(&schema::index_key(record.index), key)
            }
            schema::EXECUTED => parse_index(key).map(drop).ok_or_else(|| "a key without an index".into()),
            schema::IDS => read::<SpentRow>(value).map(drop),
            schema::POSITIONS => number(key).and_then(|_| number(value)).map(drop),
            schema::META => meta(key, value),
            _ => Err("a column that is not known".into()),
        }
    }

    fn payload(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let Some(name) = schema::parse_batch_key(key) else {
            self.damaged_payload.push(Bytes::copy_from_slice(key));
            return Err("a key that names no batch".into());
        };
        if BatchKey::digest_of(self.committee.epoch(), name.author, name.sequence, value) != name.digest {
            self.damaged_payload.push(Bytes::copy_from_slice(key));
            return Err(format!("payload of {} bytes that is not what its key says", value.len()));
        }
        self.intact.insert(beginning(&name.digest));
        Ok(())
    }

    fn block(&self, value: &[u8]) -> Result<VerifiedBlock, String> {
        VerifiedBlock::verify(Bytes::copy_from_slice(value), self.committee).map_err(|error| error.to_string())
    }

    fn commit(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let Delivery { commit, batches } = read(value)?;
        same(&schema::index_key(commit.index), key)?;
        if commit.index <= self.applied {
            let missing = batches.iter().filter(|batch| !self.intact.contains(&beginning(&batch.batch.digest)));
            self.missing_payload.extend(missing.map(|batch| (batch.key(), batch.batch.bytes)));
        }
        let previous = self.previous.replace((commit.index, commit.digest()));
        let Some((index, digest)) = previous else { return Ok(()) };
        hold(commit.index == index.next(), || format!("it follows commit {index}: those between are missing"))?;
        hold(commit.previous == digest, || format!("it does not continue commit {index}"))
    }
}

fn meta(key: &[u8], value: &[u8]) -> Result<(), String> {
    match key {
        Meta::IDENTITY => read::<Identity>(value).map(drop),
        Meta::APPLIED => read::<AppliedRecord>(value).map(drop),
        Meta::BEGINS => read::<Begins>(value).map(drop),
        Meta::COVER => read::<Cover>(value).map(drop),
        Meta::NEVER_SIGNED | Meta::BOOT_ID => Ok(()),
        _ => Err("a record that is not known".into()),
    }
}

fn beginning(digest: &Digest) -> u64 {
    digest.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn hold(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}

fn same(expected: &[u8], key: &[u8]) -> Result<(), String> {
    hold(expected == key, || format!("its content belongs under the key {}", hex::encode(expected)))
}

fn read<T: bincode::Decode<()>>(value: &[u8]) -> Result<T, String> {
    decode_stored(value).map_err(|error| format!("it cannot be decoded: {error}"))
}

fn number(key: &[u8]) -> Result<u64, String> {
    schema::parse_number(key).ok_or_else(|| "it is not a number".into())
}
