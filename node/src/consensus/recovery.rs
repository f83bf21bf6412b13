//! What the disk says before the first word.

use std::path::Path;

use rorqual_config::encoding::decode_stored as decode;
use rorqual_config::parameters::Durability;
use rorqual_config::{AuthorityIndex, ChainId, Digest};
use rorqual_protocol::types::{BatchRef, Certificate, CommitIndex, Delivery, Round, Sequence, VerifiedBlock};
use rorqual_protocol::{Cover, Recovered};
use rorqual_store::offline::{Lock, LogEnd, View, read_logs};
use rorqual_store::{Column, Direction, Options, Store, StoreError};

use super::safety::{self, Amnesia, Testimony};
use crate::schema::{self, Meta};

/// Records read at once.
const PAGE: usize = 4_096;
/// Bytes read at once.
const PAGE_BYTES: usize = 8 << 20;

/// Why the disk does not make sense.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file beside the database cannot be read: one sentence.
    #[error("{0}")]
    File(String),
    /// A record is not what its column holds.
    #[error("the record {key} in column `{column}` cannot be read: {reason}; restore the data directory from a backup")]
    Record {
        /// The column.
        column: &'static str,
        /// The key, in hex.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a data directory says about what was signed from it. Blocks; call it outside a runtime.
///
/// # Errors
/// [`RecoveryError`]; nothing was changed.
pub fn testimony(directory: &Path, store: &Store) -> Result<Testimony, RecoveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| RecoveryError::File(error.to_string()))?;
    let (never_signed, own_last) = runtime.block_on(async {
        let never_signed = store.read(schema::META, Meta::NEVER_SIGNED).await?.is_some();
        let newest = store.iterate(schema::OWN, &[], &[], 1, PAGE_BYTES, Direction::Backward).await?;
        let own_last = newest.first().map(|(key, _)| number(schema::OWN, key).map(Round)).transpose()?;
        Ok::<_, RecoveryError>((never_signed, own_last))
    })?;
    let found = safety::read(directory).map_err(RecoveryError::File)?;
    let forbidden = safety::forbidden(directory).map_err(RecoveryError::File)?;
    Ok(Testimony { forbidden, found, never_signed, own_last })
}

/// Whether a log that is broken in its middle hides something that was signed. RocksDB would read it up to there and drop the
/// rest for good; this looks before it does. A log that ends as a power cut leaves it costs one reading. Blocks.
///
/// # Errors
/// [`Amnesia`] with the file; what else is wrong is found when the store opens.
pub fn check_log(directory: &Path, options: &Options, chain_id: ChainId, me: AuthorityIndex) -> Result<(), Amnesia> {
    // Whoever has the directory writes to its log.
    let Ok(lock) = Lock::take(directory) else { return Ok(()) };
    let broken = read_logs(directory).unwrap_or_default().into_iter().find_map(|log| match log.end {
        LogEnd::Broken { at, lost } => Some((log.path, at, lost)),
        _ => None,
    });
    let Some((path, at, lost)) = broken else { return Ok(()) };
    let testimony = View::open(directory, options).ok().and_then(|view| {
        let own_last = view.last(schema::OWN).ok()?.and_then(|(key, _)| schema::parse_number(&key)).map(Round);
        let never_signed = view.read(schema::META, Meta::NEVER_SIGNED).ok()?.is_some();
        let (found, forbidden) = (safety::read(directory).ok()?, safety::forbidden(directory).ok()?);
        Some(Testimony { forbidden, found, never_signed, own_last })
    });
    drop(lock);
    let Some(Err(Amnesia { reason })) = testimony.map(|testimony| testimony.judge(chain_id, me)) else {
        return Ok(());
    };
    let path = path.display();
    let reason = format!(
        "{reason} (the log {path} is broken at byte {at}, with {lost} whole records behind it; nothing was changed)"
    );
    Err(Amnesia { reason })
}

/// Everything the core needs, and where own batches continue.
pub struct Found {
    /// For the core.
    pub recovered: Recovered,
    /// The lowest own sequence with a record on disk.
    pub first_sealed: Sequence,
    /// The highest own sequence ever used, as far as the disk knows.
    pub last_sealed: Sequence,
}

/// Reads the state of the core of member `me`. `completed` is the round that the safety record names; `executed` is what execution found: its last applied commit with the state digest
/// after it, and the digests that a coming `aux` needs.
///
/// # Errors
/// [`RecoveryError`]; nothing was changed.
pub async fn load(
    store: &Store,
    me: AuthorityIndex,
    completed: Round,
    executed: Option<(CommitIndex, Digest)>,
    state_digests: Vec<(CommitIndex, Digest)>,
) -> Result<Found, RecoveryError> {
    let never_signed = store.read(schema::META, Meta::NEVER_SIGNED).await?.is_some();
    let snapshots = store.iterate(schema::SNAPSHOTS, &[], &[], 1, PAGE_BYTES, Direction::Backward).await?;
    let snapshot = snapshots
        .first()
        .map(|(key, bytes)| number(schema::SNAPSHOTS, key).map(|index| (CommitIndex(index), bytes.to_vec())))
        .transpose()?;
    let from = snapshot.as_ref().map_or(CommitIndex(1), |(index, _)| index.next());
    let commits: Vec<Delivery> =
        all(store, schema::COMMITS, &schema::index_key(from), |bytes| decode(bytes).map_err(|error| error.to_string()))
            .await?;
    let floor = match (&snapshot, commits.first()) {
        (Some((index, _)), _) => gc_floor(store, *index).await?,
        (None, _) => Round(0),
    };
    let blocks = all(store, schema::BLOCKS, &schema::round_key(floor.next()), |bytes| {
        VerifiedBlock::from_store(bytes.clone()).map_err(|error| error.to_string())
    })
    .await?;
    let mut own = newest(store, schema::OWN, 2, |bytes| {
        VerifiedBlock::from_store(bytes.clone()).map_err(|error| error.to_string())
    })
    .await?
    .into_iter();
    let cover: Option<Cover> = match store.read(schema::META, Meta::COVER).await? {
        Some(bytes) => {
            Some(record(schema::META, Meta::COVER, &bytes, &|bytes| decode(bytes).map_err(|e| e.to_string()))?)
        }
        None => None,
    };
    let certificate =
        newest(store, schema::CERTIFICATES, 1, |bytes| decode::<Certificate>(bytes).map_err(|e| e.to_string()));
    let sealed: Vec<BatchRef> =
        all(store, schema::SEALED, &[], |bytes| decode(bytes).map_err(|error| error.to_string())).await?;
    let last_sealed = sealed.last().map_or(Sequence(0), |batch| batch.sequence);
    let first_sealed = sealed.first().map_or(last_sealed, |batch| batch.sequence);
    let mut recovered = Recovered {
        never_signed,
        snapshot,
        commits,
        blocks,
        own_last: own.next(),
        own_before: own.next(),
        completed,
        cover,
        own_batches: readable(store, sealed, me).await?,
        absent: Vec::new(),
        certificate: certificate.await?.pop(),
        executed,
        state_digests,
    };
    for key in recovered.cover.iter().flat_map(|cover| &cover.payload) {
        if store.read(schema::PAYLOAD, &schema::batch_key(key)).await?.is_none() {
            recovered.absent.push(*key);
        }
    }
    Ok(Found { recovered, first_sealed, last_sealed })
}

/// Own batches whose payload is there. After a power cut a batch can be on record without it: then no block that names it has
/// left, because a block leaves only once all it stands for is on disk. To name it now would be to name what nobody has; its
/// sequence stays used.
async fn readable(store: &Store, sealed: Vec<BatchRef>, me: AuthorityIndex) -> Result<Vec<BatchRef>, StoreError> {
    let mut found = Vec::with_capacity(sealed.len());
    for batch in sealed {
        match store.read(schema::PAYLOAD, &schema::batch_key(&batch.key(me))).await? {
            Some(_) => found.push(batch),
            None => {
                tracing::warn!(sequence = %batch.sequence, "an own batch was lost with the power before it was proposed")
            }
        }
    }
    Ok(found)
}

/// The garbage-collection round that blocks of later commits lie above: that of the commit at the snapshot.
async fn gc_floor(store: &Store, index: CommitIndex) -> Result<Round, RecoveryError> {
    let record = store.read(schema::COMMITS, &schema::index_key(index)).await?;
    let delivery = record.map(|bytes| decode::<Delivery>(&bytes)).transpose().map_err(|error| {
        RecoveryError::Record { column: schema::COMMITS.0, key: index.to_string(), reason: error.to_string() }
    })?;
    Ok(delivery.map_or(Round(0), |delivery| delivery.commit.gc_round))
}

fn number(column: Column, key: &[u8]) -> Result<u64, RecoveryError> {
    schema::parse_number(key).ok_or_else(|| RecoveryError::Record {
        column: column.0,
        key: hex::encode(key),
        reason: "a key that is not a number".into(),
    })
}

/// The last records of a column, the last one first, `count` at most.
async fn newest<T>(
    store: &Store,
    column: Column,
    count: usize,
    read: impl Fn(&bytes::Bytes) -> Result<T, String>,
) -> Result<Vec<T>, RecoveryError> {
    let found = store.iterate(column, &[], &[], count, PAGE_BYTES, Direction::Backward).await?;
    found.iter().map(|(key, bytes)| record(column, key, bytes, &read)).collect()
}

async fn all<T>(
    store: &Store,
    column: Column,
    from: &[u8],
    read: impl Fn(&bytes::Bytes) -> Result<T, String>,
) -> Result<Vec<T>, RecoveryError> {
    let (mut values, mut from) = (Vec::new(), from.to_vec());
    loop {
        let page = store.iterate(column, &from, &[], PAGE, PAGE_BYTES, Direction::Forward).await?;
        let Some((last, _)) = page.last() else { return Ok(values) };
        // The smallest key above the last one.
        from = [&last[..], &[0]].concat();
        for (key, bytes) in &page {
            values.push(record(column, key, bytes, &read)?);
        }
    }
}

fn record<T>(
    column: Column,
    key: &[u8],
    bytes: &bytes::Bytes,
    read: &impl Fn(&bytes::Bytes) -> Result<T, String>,
) -> Result<T, RecoveryError> {
    read(bytes).map_err(|reason| RecoveryError::Record { column: column.0, key: hex::encode(key), reason })
}

/// Own blocks after a restart must continue where the disk ends; under durability `os` only within one boot of the kernel.
///
/// # Errors
/// One sentence, where the machine went down since the last own block and what was signed may be lost.
pub async fn check_boot(store: &Store, me: AuthorityIndex, durability: Durability, boot: &str) -> Result<(), String> {
    if durability == Durability::Os && boot.is_empty() {
        return Err(format!(
            "durability `os` needs {BOOT_ID}, which cannot be read: after a restart of the machine nothing would tell that what \
             was signed may be lost; let this process read it (`ProcSubset=pid` hides it), or use `durability = \"synced\"`"
        ));
    }
    let record = store.read(schema::META, Meta::BOOT_ID).await.map_err(|error| error.to_string())?;
    match record {
        Some(_) if boot.is_empty() => Err(format!(
            "member {me} signed its last blocks with durability `os`, and {BOOT_ID} cannot be read: whether the machine has \
             restarted since cannot be told; let this process read it (it is hidden by `ProcSubset=pid`), or use \
             `durability = \"synced\"`"
        )),
        Some(recorded) if recorded[..] != *boot.as_bytes() => Err(format!(
            "amnesia: member {me} signed its last blocks with durability `os`, and the machine has restarted since: what it signed may be lost, and rejoining is not built yet"
        )),
        _ => Ok(()),
    }
}

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Identifies one boot of the kernel; empty where that is hidden.
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rorqual_config::encoding::encode;
    use rorqual_config::parameters::StoreParameters;
    use rorqual_protocol::types::BatchKey;

    use super::*;

    #[tokio::test]
    async fn an_own_batch_whose_payload_was_lost_is_not_named_and_its_sequence_stays_used() {
        let me = AuthorityIndex(2);
        let store = Store::in_memory(schema::options(&StoreParameters::default(), true));
        for number in 3..=5 {
            let sequence = Sequence(number);
            let digest = BatchKey::digest_of(0, me, sequence, b"content");
            let batch = BatchRef { sequence, digest, bytes: 7 };
            store.write(schema::SEALED, schema::number_key(number), encode(&batch)).await.unwrap();
            if number != 4 {
                let key = schema::batch_key(&batch.key(me));
                store.write(schema::PAYLOAD, key, Bytes::from_static(b"content")).await.unwrap();
            }
        }
        let found = load(&store, me, Round(0), None, Vec::new()).await.unwrap();
        let named: Vec<u64> = found.recovered.own_batches.iter().map(|batch| batch.sequence.0).collect();
        assert_eq!(named, [3, 5]);
        assert_eq!((found.first_sealed, found.last_sealed), (Sequence(3), Sequence(5)));
    }

    #[tokio::test]
    async fn durability_os_needs_to_know_which_boot_this_is() {
        let (me, store) = (AuthorityIndex(2), Store::in_memory(schema::options(&StoreParameters::default(), true)));
        let check = async |durability, boot: &'static str| check_boot(&store, me, durability, boot).await;
        assert_eq!(check(Durability::Os, "this").await, Ok(()));
        assert_eq!(check(Durability::Synced, "").await, Ok(()), "nothing was signed without a sync");
        let hidden = check(Durability::Os, "").await.unwrap_err();
        assert!(hidden.contains("boot_id") && hidden.contains("synced"), "{hidden}");
        store.write(schema::META, Meta::BOOT_ID, Bytes::from_static(b"this")).await.unwrap();
        for durability in [Durability::Os, Durability::Synced] {
            assert_eq!(check(durability, "this").await, Ok(()));
            assert!(check(durability, "").await.unwrap_err().contains("cannot be"));
            assert!(check(durability, "another").await.unwrap_err().contains("amnesia"));
        }
    }
}
