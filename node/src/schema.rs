//! Typed keys of the store, and the records that say what a data directory is.
//!
//! | column | key | value |
//! |---|---|---|
//! | `payload` | author, sequence, digest | content of a batch |
//! | `undelivered` | author, sequence, digest | length of that payload; payload of others that no commit on record delivers |
//! | `blocks` | round, author, digest | encoded signed block |
//! | `own` | round | encoded signed block of our own |
//! | `sealed` | sequence | encoded `BatchRef` of an own batch; the newest and all undelivered ones |
//! | `commits` | index | encoded `Delivery` |
//! | `certificates` | index | encoded `Certificate` |
//! | `snapshots` | index | state of the core after that commit |
//! | `executed` | index | encoded execution record |
//! | `ids` | index | submission ids that this commit spent |
//! | `positions` | first position | index of the commit that begins there |
//! | `meta` | name | one record each, see [`Meta`] |
//!
//! Integers in keys are big-endian, so that keys sort like the numbers.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_config::encoding::{decode, decode_header, encode};
use rorqual_config::parameters::StoreParameters;
use rorqual_config::{AuthorityIndex, ChainId, Digest};
use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex, Round, Sequence};
use rorqual_store::offline::peek;
use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, StoreError, WriteBatch};

use crate::consensus::safety;
use crate::private::close_to_others;

/// Payload batches.
pub const PAYLOAD: Column = Column("payload");
/// Which payload of others no commit on record delivers.
pub const UNDELIVERED: Column = Column("undelivered");
/// Linked blocks of everybody.
pub const BLOCKS: Column = Column("blocks");
/// Our own blocks, so that the highest one is found at once.
pub const OWN: Column = Column("own");
/// Own batches, by sequence.
pub const SEALED: Column = Column("sealed");
/// Commit records.
pub const COMMITS: Column = Column("commits");
/// Commit certificates.
pub const CERTIFICATES: Column = Column("certificates");
/// State of the core at multiples of the checkpoint interval.
pub const SNAPSHOTS: Column = Column("snapshots");
/// Execution records, one a commit.
pub const EXECUTED: Column = Column("executed");
/// Submission ids, one record a commit.
pub const IDS: Column = Column("ids");
/// Log positions.
pub const POSITIONS: Column = Column("positions");
/// Single records.
pub const META: Column = Column("meta");

/// What this version of the daemon writes. Another one is refused, naming both.
///
/// 1: the state of the core held the time of the last commit. 2: and the reference from which the next one follows.
pub const FORMAT_VERSION: u32 = 2;

/// Names in the column `meta`.
pub struct Meta;

impl Meta {
    /// [`Identity`] of the data directory.
    pub const IDENTITY: &'static [u8] = b"identity";
    /// Present until the first own block is durable: this directory belongs to a node that has never signed.
    pub const NEVER_SIGNED: &'static [u8] = b"never signed";
    /// The payload that the durable point of the newest own block has to put on disk, until it has: an encoded `Cover`.
    pub const COVER: &'static [u8] = b"cover";
    /// The last commit that execution applied; written in the same batch as its effects.
    pub const APPLIED: &'static [u8] = b"applied";
    /// Where the log begins: everything before was dropped by retention.
    pub const BEGINS: &'static [u8] = b"begins";
    /// The kernel's boot id, stored with own blocks under durability `os`.
    pub const BOOT_ID: &'static [u8] = b"boot id";
}

/// Whose data directory this is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Identity {
    /// See [`FORMAT_VERSION`].
    pub format: u32,
    /// The chain.
    pub chain_id: ChainId,
    /// The member.
    pub me: AuthorityIndex,
}

/// The store's options for a node.
pub fn options(parameters: &StoreParameters, create: bool) -> Options {
    let small = |column: Column| ColumnOptions { name: column.0, large_values: false, cache_bytes: 0 };
    let mut columns: Vec<ColumnOptions> =
        [UNDELIVERED, BLOCKS, OWN, SEALED, COMMITS, CERTIFICATES, SNAPSHOTS, EXECUTED, IDS, POSITIONS, META]
            .map(small)
            .to_vec();
    columns.push(ColumnOptions {
        name: PAYLOAD.0,
        large_values: true,
        cache_bytes: parameters.payload_cache_bytes as usize,
    });
    Options {
        columns,
        create_if_missing: create,
        queue_bytes: parameters.queue_bytes as usize,
        block_cache_bytes: parameters.block_cache_bytes as usize,
        write_buffer_bytes: parameters.write_buffer_bytes as usize,
        reader_threads: parameters.reader_threads,
        ..Options::default()
    }
}

/// Creates the data directory of a node that has never signed, durably. Blocks; call it outside a runtime.
///
/// # Errors
/// One sentence with the remedy; an existing directory with anything in it is never touched.
pub fn create_data_dir(path: &Path, chain_id: ChainId, me: AuthorityIndex) -> Result<(), String> {
    if path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!(
            "{} is not empty: a data directory is created once; move it away if this node shall begin anew under a new key",
            path.display()
        ));
    }
    let mut private = DirBuilder::new();
    let created = private.recursive(true).mode(0o700).create(path);
    // One that was there already may be anybody's to read.
    let closed = created.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700)));
    closed.map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let create = async {
        let store = Store::open(path, options(&StoreParameters::default(), true))?;
        let identity = Identity { format: FORMAT_VERSION, chain_id, me };
        let mut batch = WriteBatch::new();
        batch.put(META, Meta::IDENTITY, encode(&identity));
        batch.put(META, Meta::NEVER_SIGNED, Bytes::from_static(b"1"));
        store.write_batch(batch, Durability::Synced).await?;
        store.shutdown().await
    };
    runtime.block_on(create).map_err(|error: StoreError| format!("cannot create {}: {error}", path.display()))?;
    close_to_others(path).map_err(|error| format!("cannot close {} to others: {error}", path.display()))?;
    safety::create(path, safety::Record::first(chain_id, me))
}

/// `author | sequence | digest`.
pub fn batch_key(key: &BatchKey) -> Bytes {
    let mut bytes = Vec::with_capacity(42);
    bytes.extend(key.author.0.to_be_bytes());
    bytes.extend(key.sequence.0.to_be_bytes());
    bytes.extend(key.digest.0);
    bytes.into()
}

/// The smallest key of a batch of `author` with this sequence or a later one.
pub fn batch_from(author: AuthorityIndex, sequence: Sequence) -> Bytes {
    batch_key(&BatchKey { author, sequence, digest: Digest([0; 32]) })
}

/// A value of `undelivered`.
pub fn length(bytes: u32) -> Bytes {
    Bytes::copy_from_slice(&bytes.to_be_bytes())
}

/// Reads a value of `undelivered` back.
pub fn parse_length(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Reads a key of `payload` or `undelivered` back.
pub fn parse_batch_key(key: &[u8]) -> Option<BatchKey> {
    let author = u16::from_be_bytes(key.get(..2)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(key.get(2..10)?.try_into().ok()?);
    let digest = Digest(key.get(10..)?.try_into().ok()?);
    Some(BatchKey { author: AuthorityIndex(author), sequence: Sequence(sequence), digest })
}

/// `round | author | digest`.
pub fn block_key(reference: &BlockRef) -> Bytes {
    let mut bytes = Vec::with_capacity(42);
    bytes.extend(reference.round.0.to_be_bytes());
    bytes.extend(reference.author.0.to_be_bytes());
    bytes.extend(reference.digest.0);
    bytes.into()
}

/// The smallest key of a block of this round or a later one; also the key in `own`.
pub fn round_key(round: Round) -> Bytes {
    number_key(round.0)
}

/// The key of a commit, certificate, snapshot, execution record or id record.
pub fn index_key(index: CommitIndex) -> Bytes {
    number_key(index.0)
}

/// Eight bytes that sort like the number.
pub fn number_key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Reads an eight-byte key back.
pub fn parse_number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// Why a data directory is not this node's.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The store could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No identity record.
    #[error(
        "{path} is not a data directory of this daemon: create one with `rorqual init`, or correct `data` in node.toml"
    )]
    Foreign {
        /// The directory.
        path: String,
    },
    /// It is there and cannot be read.
    #[error("the data directory {path} cannot be read: {error}; correct its permissions, or `data` in node.toml")]
    Unreadable {
        /// The directory.
        path: String,
        /// What the system said.
        error: String,
    },
    /// There is no such directory, or nothing in it.
    #[error(
        "the data directory {path} is missing or empty: if this node has never run, create it with `rorqual init --config FILE`; if it has, restore it, since a node that forgot what it signed must not sign again"
    )]
    Missing {
        /// The directory.
        path: String,
    },
    /// Another version of the daemon wrote it.
    #[error("{path} has format {found}, this daemon reads format {expected}: run the version that wrote it")]
    Format {
        /// The directory.
        path: String,
        /// Format found.
        found: u32,
        /// Format this daemon reads.
        expected: u32,
    },
    /// It belongs to another chain or member.
    #[error(
        "{path} belongs to {found}, but this node is {expected}: correct `data`, `key` or `committee` in node.toml"
    )]
    Mismatch {
        /// The directory.
        path: String,
        /// Whose it is.
        found: String,
        /// Who we are.
        expected: String,
    },
}

/// Opens the data directory of member `me` of `chain_id` and checks that it is that. Blocks.
///
/// # Errors
/// [`DirectoryError`]; nothing was changed.
pub fn open_data_dir(
    path: &Path,
    parameters: &StoreParameters,
    chain_id: ChainId,
    me: AuthorityIndex,
) -> Result<Store, DirectoryError> {
    let name = path.display().to_string();
    match path.read_dir().map(|mut entries| entries.next().is_some()) {
        Ok(true) => {}
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(DirectoryError::Unreadable { path: name, error: error.to_string() });
        }
        Ok(false) | Err(_) => return Err(DirectoryError::Missing { path: name }),
    }
    if !path.join("CURRENT").exists() {
        return Err(DirectoryError::Foreign { path: name });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|_| DirectoryError::Foreign { path: name.clone() })?;
    let store = Store::open(path, options(parameters, false)).map_err(|error| match error {
        // Another version has other columns: its number explains that better than their names.
        StoreError::Format { .. } => check_format(path).err().unwrap_or(DirectoryError::Store(error)),
        error => DirectoryError::Store(error),
    })?;
    if let Err(error) = runtime.block_on(check_identity(&store, name, chain_id, me)) {
        // Closed before anybody hears of it: a process must not end while the database is still closing.
        let _ = runtime.block_on(store.shutdown());
        return Err(error);
    }
    Ok(store)
}

/// Refuses a data directory that another version of the daemon wrote, whatever columns it has. What cannot be read is
/// refused by whoever opens it. Changes nothing. Blocks.
///
/// # Errors
/// [`DirectoryError::Format`].
pub fn check_format(path: &Path) -> Result<(), DirectoryError> {
    let record = peek(path, META, Meta::IDENTITY).ok().flatten();
    // Every version begins with its number.
    match record.and_then(|bytes| decode_header::<u32>(&bytes).ok()) {
        Some((found, _)) if found != FORMAT_VERSION => {
            Err(DirectoryError::Format { path: path.display().to_string(), found, expected: FORMAT_VERSION })
        }
        _ => Ok(()),
    }
}

/// Whether the open directory is that of member `me` of `chain_id`.
async fn check_identity(
    store: &Store,
    name: String,
    chain_id: ChainId,
    me: AuthorityIndex,
) -> Result<(), DirectoryError> {
    let record = store.read(META, Meta::IDENTITY).await?;
    let identity = record.and_then(|bytes| decode::<Identity>(&bytes).ok());
    let Some(found) = identity else {
        return Err(DirectoryError::Foreign { path: name });
    };
    if found.format != FORMAT_VERSION {
        return Err(DirectoryError::Format { path: name, found: found.format, expected: FORMAT_VERSION });
    }
    if (found.chain_id, found.me) != (chain_id, me) {
        let describe =
            |chain: ChainId, me: AuthorityIndex| format!("member {me} of chain {}", &chain.to_string()[..16]);
        let (found, expected) = (describe(found.chain_id, found.me), describe(chain_id, me));
        return Err(DirectoryError::Mismatch { path: name, found, expected });
    }
    Ok(())
}
