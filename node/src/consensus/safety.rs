//! The safety record: a few bytes outside the database that tell a lost log tail from a torn one.
//!
//! RocksDB reads its log up to the first damaged record and cannot know whether what follows was synced. So the file
//! `SAFETY` in the data directory names the own round of the last *completed* durable point. It is written as soon as that point
//! has completed and before the block leaves, which is enough for whatever happens to the process; for the power it is synced
//! together with the next durable point, beside the log, and the next block leaves when both are done. At start an own block that
//! is missing below the recorded round means that the disk has lost something that was signed: *amnesia*, and this node must not
//! sign again before it has asked its peers (protocol 1.11; rejoining is not built yet). A block that the record names has left.
//!
//! The file has two slots, each with a checksum of its own, written in turn: a torn write damages one and leaves the other.
//! It is made once and only overwritten, so that writing it needs no space. The file `AMNESIA` beside it says in words
//! that what this directory signed may be lost; every backup is born with one, and it wins over everything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bincode::{Decode, Encode};
use rorqual_config::encoding::{decode, encode};
use rorqual_config::{AuthorityIndex, ChainId, Digest};
use rorqual_protocol::types::Round;
use tokio::sync::{mpsc, oneshot};

/// The record's file in the data directory.
pub const FILE: &str = "SAFETY";
/// The file that forbids to sign, whatever the record says.
pub const AMNESIA: &str = rorqual_store::AMNESIA_FILE;

/// Slots do not share a disk sector, so that a torn write damages one of them at most.
const SLOT_BYTES: usize = 4_096;
const SLOTS: usize = 2;
const VERSION: u32 = 1;
const DOMAIN: &str = "rorqual/safety-record";

/// What one slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Record {
    version: u32,
    /// The chain.
    pub chain_id: ChainId,
    /// The member.
    pub me: AuthorityIndex,
    /// Counts writes; the slot with the higher number is the newer one.
    pub generation: u64,
    /// Own round of the last durable point that has completed.
    pub round: Round,
}

impl Record {
    /// Nothing signed yet.
    pub fn first(chain_id: ChainId, me: AuthorityIndex) -> Self {
        Self { version: VERSION, chain_id, me, generation: 0, round: Round(0) }
    }

    fn next(self, round: Round) -> Self {
        Self { generation: self.generation + 1, round, ..self }
    }

    /// Where this generation stands in the file.
    fn offset(&self) -> u64 {
        (self.generation % SLOTS as u64) * SLOT_BYTES as u64
    }

    /// A whole slot: the record, its checksum, zeros.
    fn to_slot(self) -> Vec<u8> {
        let mut slot = encode(&self);
        let checksum = Digest::of(DOMAIN, &[&slot]);
        slot.extend(checksum.0);
        slot.resize(SLOT_BYTES, 0);
        slot
    }

    /// Reads a slot; what is wrong with it, in a few words.
    fn from_slot(slot: &[u8]) -> Result<Self, &'static str> {
        let length = encode(&Self::first(ChainId(Digest([0; 32])), AuthorityIndex(0))).len();
        let (body, rest) = slot.split_at_checked(length).ok_or("too short")?;
        let (checksum, padding) = rest.split_at_checked(32).ok_or("too short")?;
        if Digest::of(DOMAIN, &[body]).0[..] != *checksum || padding.iter().any(|byte| *byte != 0) {
            return Err("wrong checksum");
        }
        let record: Self = decode(body).map_err(|_| "not a record")?;
        if record.version == VERSION { Ok(record) } else { Err("another version") }
    }
}

/// What stands in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// There is no file.
    Missing,
    /// No slot passes its check.
    Damaged(String),
    /// The newest slot that passes its check, and what is wrong with the other one.
    Valid {
        /// The record.
        record: Record,
        /// Words about a slot that does not pass its check: torn by a power cut, or damaged.
        damaged: Option<String>,
    },
}

/// Decodes the content of the file. A file that is too long or too short has damaged slots.
pub fn parse(content: &[u8]) -> Found {
    let slot = |number: usize| {
        let bytes = content.get(number * SLOT_BYTES..(number + 1) * SLOT_BYTES).unwrap_or_default();
        Record::from_slot(bytes).map_err(|why| format!("slot {number}: {why}"))
    };
    match (slot(0), slot(1)) {
        (Ok(one), Ok(two)) => {
            Found::Valid { record: if one.generation > two.generation { one } else { two }, damaged: None }
        }
        (Ok(record), Err(why)) | (Err(why), Ok(record)) => Found::Valid { record, damaged: Some(why) },
        (Err(one), Err(two)) => Found::Damaged(format!("{one}; {two}")),
    }
}

/// Reads the file of a data directory. Blocks.
///
/// # Errors
/// One sentence naming the file.
pub fn read(directory: &Path) -> Result<Found, String> {
    let path = directory.join(FILE);
    let mut content = Vec::new();
    // A few bytes more than there should be are enough to see that it is not ours.
    let limit = (SLOTS * SLOT_BYTES) as u64 + 1;
    match File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut content)) {
        Ok(_) => Ok(parse(&content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) => Err(format!("cannot read the safety record {}: {error}", path.display())),
    }
}

/// Makes the file, durably and all at once: after a crash it is there whole or not at all. Blocks.
///
/// # Errors
/// One sentence naming the file.
pub fn create(directory: &Path, record: Record) -> Result<(), String> {
    let content: Vec<u8> = (0..SLOTS).flat_map(|_| record.to_slot()).collect();
    replace(directory, FILE, &content)
}

/// Names at least `round` in the record of a data directory, durably, before something is taken away that an own block stands
/// for: from then on its absence proves nothing. Without a whole record nothing is changed. Blocks.
///
/// # Errors
/// One sentence naming the file.
pub fn vouch(directory: &Path, round: Round) -> Result<(), String> {
    match read(directory)? {
        Found::Valid { record, .. } if record.round < round => create(directory, record.next(round)),
        _ => Ok(()),
    }
}

/// Writes the mark that forbids to sign, durably. Blocks.
///
/// # Errors
/// One sentence naming the file.
pub fn forbid(directory: &Path, reason: &str) -> Result<(), String> {
    replace(directory, AMNESIA, format!("{reason}\n").as_bytes())
}

/// Takes the mark away, durably. Blocks.
///
/// # Errors
/// One sentence naming the file.
pub fn allow(directory: &Path) -> Result<(), String> {
    let path = directory.join(AMNESIA);
    let removed = fs::remove_file(&path).and_then(|()| File::open(directory)?.sync_all());
    removed.map_err(|error| format!("cannot remove {}: {error}", path.display()))
}

/// The first line of the mark that forbids to sign, if there is one. Blocks.
///
/// # Errors
/// One sentence naming the file.
pub fn forbidden(directory: &Path) -> Result<Option<String>, String> {
    let path = directory.join(AMNESIA);
    match fs::read(&path) {
        Ok(content) => {
            let text = String::from_utf8_lossy(&content).lines().next().unwrap_or_default().trim().to_owned();
            Ok(Some(if text.is_empty() { "no reason is given there".to_owned() } else { text }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), String> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Why a node must not sign.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "amnesia: {reason}; what this node signed may be lost, so it must not sign again, and rejoining is not built yet"
)]
pub struct Amnesia {
    /// What was found.
    pub reason: String,
}

fn amnesia<T>(reason: String) -> Result<T, Amnesia> {
    Err(Amnesia { reason })
}

/// What a data directory says about what was signed from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Testimony {
    /// The file `AMNESIA`.
    pub forbidden: Option<String>,
    /// The file `SAFETY`.
    pub found: Found,
    /// The database says that this directory has never signed.
    pub never_signed: bool,
    /// The highest own block in the database.
    pub own_last: Option<Round>,
}

impl Testimony {
    /// The record to go on from, if this node may sign.
    ///
    /// # Errors
    /// [`Amnesia`] with what was found.
    pub fn judge(&self, chain_id: ChainId, me: AuthorityIndex) -> Result<Record, Amnesia> {
        if let Some(reason) = &self.forbidden {
            return amnesia(format!("the file {AMNESIA} in the data directory says: {reason}"));
        }
        let record = match &self.found {
            Found::Missing if self.never_signed => return Ok(Record::first(chain_id, me)),
            Found::Missing => {
                return amnesia(format!("the safety record, the file {FILE} in the data directory, is missing"));
            }
            Found::Damaged(why) => {
                return amnesia(format!("both slots of the safety record, the file {FILE}, are damaged ({why})"));
            }
            Found::Valid { record, .. } => *record,
        };
        if (record.chain_id, record.me) != (chain_id, me) {
            return amnesia(format!("the safety record belongs to member {} of another chain or member", record.me));
        }
        let ours = self.own_last.unwrap_or(Round(0));
        if ours < record.round {
            return amnesia(format!(
                "the safety record says that the own block of round {} was on disk, but the database ends at own round {ours}: \
                 it lost more than a torn tail, or is an old copy",
                record.round
            ));
        }
        Ok(record)
    }
}

/// The open record. Its file is written by a thread of its own, so that no task waits for the disk.
pub struct SafetyRecord {
    named: AtomicU64,
    orders: mpsc::UnboundedSender<Order>,
    path: PathBuf,
}

enum Task {
    /// Name this round.
    Name(Round),
    /// Put what is named on disk.
    Sync,
}

struct Order {
    task: Task,
    done: oneshot::Sender<io::Result<()>>,
}

impl SafetyRecord {
    /// Opens the file of a data directory, and makes it if it is not there. `record` is what [`Testimony::judge`] gave. Blocks.
    ///
    /// # Errors
    /// One sentence naming the file.
    pub fn open(directory: &Path, record: Record) -> Result<Arc<Self>, String> {
        let path = directory.join(FILE);
        let failed = |error: io::Error| format!("cannot open the safety record {}: {error}", path.display());
        if !path.try_exists().map_err(failed)? {
            create(directory, record)?;
        }
        let file = File::options().write(true).open(&path).map_err(failed)?;
        // What was read may never have been synced, and from now on it counts.
        file.sync_data().map_err(failed)?;
        // Two orders for each own block, of which one at most is under way: the channel never grows.
        let (orders, received) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("safety-record".to_owned())
            .spawn(move || write_all(&file, record, received))
            .map_err(failed)?;
        Ok(Arc::new(Self { named: AtomicU64::new(record.round.0), orders, path }))
    }

    /// Names the own round of a durable point that has completed; to be called before its block leaves. When it is done, the
    /// operating system has it: it survives the end of the process. A round at or below the one that is named changes nothing.
    pub fn name(&self, round: Round) -> Written {
        self.named.fetch_max(round.0, Ordering::AcqRel);
        self.order(Task::Name(round))
    }

    /// Puts what is named on disk; to be called when the next durable point begins, as a part of it.
    pub fn sync(&self) -> Written {
        self.order(Task::Sync)
    }

    fn order(&self, task: Task) -> Written {
        let (done, receiver) = oneshot::channel();
        // Without its thread the receiver answers with an error.
        let _ = self.orders.send(Order { task, done });
        Written { receiver, path: self.path.clone() }
    }

    /// The own round that is named.
    pub fn named(&self) -> Round {
        Round(self.named.load(Ordering::Acquire))
    }
}

/// A write of the record under way.
#[must_use = "an own block may leave only when the record is written"]
pub struct Written {
    receiver: oneshot::Receiver<io::Result<()>>,
    path: PathBuf,
}

impl Written {
    /// Resolves when the record is written.
    ///
    /// # Errors
    /// One sentence naming the file.
    pub async fn done(self) -> Result<(), String> {
        let why = match self.receiver.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its thread has ended".to_owned(),
        };
        Err(format!(
            "cannot write the safety record {}: {why}; check the disk, then restart the node",
            self.path.display()
        ))
    }
}

/// The life of the thread. After a failure it writes nothing more: what the file holds is unknown then.
fn write_all(file: &File, mut record: Record, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(Order { task, done }) = orders.blocking_recv() {
        let result = match task {
            Task::Name(round) => name(file, &mut record, round),
            Task::Sync => file.sync_data(),
        };
        let failed = result.is_err();
        // An error means that nobody waits for the answer.
        let _ = done.send(result);
        if failed {
            return;
        }
    }
}

fn name(file: &File, record: &mut Record, round: Round) -> io::Result<()> {
    if round <= record.round {
        return Ok(());
    }
    *record = record.next(round);
    file.write_all_at(&record.to_slot(), record.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: AuthorityIndex = AuthorityIndex(2);

    fn chain(byte: u8) -> ChainId {
        ChainId(Digest([byte; 32]))
    }

    fn record(generation: u64, round: u64) -> Record {
        Record { generation, round: Round(round), ..Record::first(chain(1), ME) }
    }

    fn file(slots: [Record; 2]) -> Vec<u8> {
        let mut content = vec![0; SLOTS * SLOT_BYTES];
        for slot in slots {
            let at = slot.offset() as usize;
            content[at..at + SLOT_BYTES].copy_from_slice(&slot.to_slot());
        }
        content
    }

    fn signed(found: Found, own_last: u64) -> Testimony {
        Testimony { forbidden: None, found, never_signed: false, own_last: Some(Round(own_last)) }
    }

    fn refused(testimony: &Testimony, word: &str) {
        let text = testimony.judge(chain(1), ME).expect_err("it must not sign").to_string();
        assert!(text.starts_with("amnesia: ") && text.contains(word) && !text.contains('\n'), "{text}");
    }

    #[test]
    fn the_newer_slot_counts() {
        for slots in [[record(6, 60), record(7, 70)], [record(8, 80), record(7, 70)]] {
            let newest = *slots.iter().max_by_key(|slot| slot.generation).expect("two");
            assert_eq!(parse(&file(slots)), Found::Valid { record: newest, damaged: None });
        }
    }

    #[test]
    fn one_torn_slot_leaves_the_other_and_is_named() {
        let content = file([record(6, 60), record(7, 70)]);
        for (slot, left) in [(0, record(7, 70)), (1, record(6, 60))] {
            for cut in [1, 40, 80] {
                let mut torn = content.clone();
                torn[slot * SLOT_BYTES + cut..(slot + 1) * SLOT_BYTES].fill(0);
                let Found::Valid { record, damaged: Some(why) } = parse(&torn) else { panic!("{slot} {cut}") };
                assert_eq!(record, left);
                assert!(why.contains(&format!("slot {slot}")), "{why}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let content = file([record(6, 60), record(7, 70)]);
        for position in 0..content.len() {
            let mut damaged = content.clone();
            damaged[position] ^= 1 << (position % 8);
            let left = if position < SLOT_BYTES { record(7, 70) } else { record(6, 60) };
            assert!(
                matches!(parse(&damaged), Found::Valid { record, damaged: Some(_) } if record == left),
                "byte {position}"
            );
        }
    }

    #[test]
    fn a_cut_file_loses_slots_and_an_empty_one_both() {
        let content = file([record(6, 60), record(7, 70)]);
        assert!(matches!(parse(&content[..SLOT_BYTES]), Found::Valid { record, .. } if record.round == Round(60)));
        assert!(matches!(parse(&content[..SLOT_BYTES - 1]), Found::Damaged(_)));
        assert!(matches!(parse(&[]), Found::Damaged(_)));
    }

    #[test]
    fn a_database_at_or_above_the_record_may_sign() {
        let found = Found::Valid { record: record(7, 70), damaged: None };
        assert_eq!(signed(found.clone(), 70).judge(chain(1), ME), Ok(record(7, 70)));
        assert_eq!(signed(found, 71).judge(chain(1), ME), Ok(record(7, 70)));
    }

    #[test]
    fn a_database_below_the_record_must_not_sign() {
        let found = Found::Valid { record: record(7, 70), damaged: None };
        refused(&signed(found.clone(), 69), "own round 69");
        refused(&Testimony { own_last: None, ..signed(found.clone(), 0) }, "round 70");
        // A directory that says that it never signed, beside a record that says that it did.
        refused(&Testimony { own_last: None, never_signed: true, ..signed(found, 0) }, "round 70");
    }

    #[test]
    fn a_missing_or_damaged_record_must_not_sign() {
        refused(&signed(Found::Missing, 5), "missing");
        refused(&signed(Found::Damaged("slot 0: wrong checksum".into()), 5), "wrong checksum");
    }

    #[test]
    fn a_directory_that_never_signed_needs_no_record() {
        let fresh = Testimony { forbidden: None, found: Found::Missing, never_signed: true, own_last: None };
        assert_eq!(fresh.judge(chain(1), ME), Ok(Record::first(chain(1), ME)));
    }

    #[test]
    fn the_mark_wins_over_everything() {
        let fresh =
            Testimony { forbidden: Some("a backup".into()), found: Found::Missing, never_signed: true, own_last: None };
        refused(&fresh, "a backup");
        let whole = Found::Valid { record: record(7, 70), damaged: None };
        refused(&Testimony { forbidden: Some("a backup".into()), ..signed(whole, 99) }, "a backup");
    }

    #[test]
    fn a_record_of_somebody_else_is_refused() {
        let found = Found::Valid { record: record(7, 70), damaged: None };
        let testimony = signed(found, 70);
        assert!(testimony.judge(chain(2), ME).is_err());
        assert!(testimony.judge(chain(1), AuthorityIndex(3)).is_err());
    }

    #[tokio::test]
    async fn a_round_stands_in_the_file_as_soon_as_it_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(read(folder.path()), Ok(Found::Missing));
        let open = SafetyRecord::open(folder.path(), Record::first(chain(1), ME)).expect("a record");
        for round in 1..=9 {
            assert_eq!(open.sync().done().await, Ok(()));
            assert_eq!(open.name(Round(round)).done().await, Ok(()));
            let Ok(Found::Valid { record, damaged: None }) = read(folder.path()) else { panic!("round {round}") };
            assert_eq!((record.round, open.named()), (Round(round), Round(round)));
        }
        assert_eq!(open.name(Round(3)).done().await, Ok(()), "an older one changes nothing");
        let Ok(Found::Valid { record, .. }) = read(folder.path()) else { panic!("a record") };
        assert_eq!(record.round, Round(9));
        drop(open);
        let again = SafetyRecord::open(folder.path(), record).expect("a record");
        assert_eq!(again.name(Round(20)).done().await, Ok(()));
        assert!(matches!(read(folder.path()), Ok(Found::Valid { record, .. }) if record.round == Round(20)));
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_written_is_an_error_and_stays_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("read-only");
        fs::write(&path, b"").expect("a file");
        let file = File::open(&path).expect("a file that cannot be written");
        let (orders, received) = mpsc::unbounded_channel();
        let thread = thread::spawn(move || write_all(&file, Record::first(chain(1), ME), received));
        let open = SafetyRecord { named: AtomicU64::new(1), orders, path };
        let first = open.name(Round(2)).done().await.expect_err("it cannot be written");
        assert!(first.contains("read-only") && first.contains("safety record"), "{first}");
        assert!(open.sync().done().await.is_err());
        thread.join().expect("the thread has ended");
    }

    #[test]
    fn the_mark_keeps_its_reason() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(forbidden(folder.path()), Ok(None));
        forbid(folder.path(), "this is a backup").expect("a mark");
        assert_eq!(forbidden(folder.path()), Ok(Some("this is a backup".to_owned())));
        fs::write(folder.path().join(AMNESIA), b"").expect("a mark without words");
        assert!(forbidden(folder.path()).expect("readable").is_some());
    }
}
