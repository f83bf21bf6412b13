//! Which segments there are, how much of each is live, and which files may be used again.
//!
//! A pure data structure. A segment dies when it takes no more records and no entry of the index refers into it. It is
//! *freed*, that is recycled or deleted, once the deletions are on disk (else a power cut could bring back entries that
//! refer to overwritten bytes) and nobody who might still look at it holds it: a hold keeps what was alive when it began.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut};

/// What is known of one segment. Kept in RocksDB with each change of the index, so that it is exact after any crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// A segment holds the values of one column.
    pub(crate) column: usize,
    pub(crate) generation: u64,
    /// Bytes written; what is behind belongs to no record.
    pub(crate) end: u64,
    /// Bytes of records that the index refers to.
    pub(crate) live_bytes: u64,
    pub(crate) live_records: u64,
    /// Takes no more records. Not stored: after a restart every segment is sealed.
    pub(crate) sealed: bool,
}

impl Segment {
    pub(crate) fn new(column: usize, generation: u64) -> Segment {
        Segment { column, generation, end: 0, live_bytes: 0, live_records: 0, sealed: false }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.live_bytes += bytes;
        self.live_records += 1;
    }

    pub(crate) fn remove(&mut self, bytes: u64) {
        // Damage of an accounting record must not stop the node: the segment is then kept too long or verified as damaged.
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        self.live_records = self.live_records.saturating_sub(1);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.sealed && self.live_records == 0
    }

    pub(crate) fn encode(&self, column: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + column.len());
        bytes.put_u64_le(self.generation);
        bytes.put_u64_le(self.end);
        bytes.put_u64_le(self.live_bytes);
        bytes.put_u64_le(self.live_records);
        bytes.put_slice(column.as_bytes());
        bytes
    }

    /// A segment of an earlier run, hence sealed; `None` if the record is damaged or its column is none of these.
    pub(crate) fn decode(mut bytes: &[u8], columns: &[&str]) -> Option<Segment> {
        let (generation, end) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let (live_bytes, live_records) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let column = columns.iter().position(|name| name.as_bytes() == bytes)?;
        Some(Segment { column, generation, end, live_bytes, live_records, sealed: true })
    }
}

/// What the keeper of the files has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Put the deletions on disk that made segments die.
    Sync,
    /// Recycle or delete the file of a dead segment.
    Free(u32),
    /// Delete a file that is one too many to be kept for later.
    Discard(u32),
    /// Get the next file ready before the current one is full.
    Prepare,
}

/// A moment in the order of deaths and holds.
pub(crate) type Stamp = u64;

/// All segments of a store.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    segments: BTreeMap<u32, Segment>,
    /// Dead ones and when they died.
    dead: BTreeMap<u32, Stamp>,
    spare: BTreeSet<u32>,
    /// Length of every file, in use or not.
    lengths: BTreeMap<u32, u64>,
    holds: BTreeSet<Stamp>,
    clock: Stamp,
    /// Deletions before this moment are on disk.
    durable: Stamp,
    next_number: u32,
    prepare: bool,
    spare_limit: usize,
}

impl Ledger {
    pub(crate) fn new(spare_limit: usize) -> Ledger {
        Ledger { spare_limit, ..Ledger::default() }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Segment> {
        self.segments.get(&number)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.segments.iter().map(|(number, segment)| (*number, segment))
    }

    /// Notes a file; its number is never given out again while the store is open.
    pub(crate) fn note_file(&mut self, number: u32, length: u64) {
        self.lengths.insert(number, length);
        self.note_number(number);
    }

    pub(crate) fn note_number(&mut self, number: u32) {
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    pub(crate) fn file_removed(&mut self, number: u32) {
        self.lengths.remove(&number);
    }

    pub(crate) fn length(&self, number: u32) -> u64 {
        self.lengths.get(&number).copied().unwrap_or(0)
    }

    /// Bytes of all files, and of those that are kept for later.
    pub(crate) fn file_bytes(&self) -> (u64, u64) {
        let spare = self.spare.iter().map(|number| self.length(*number)).sum();
        (self.lengths.values().sum(), spare)
    }

    pub(crate) fn files(&self) -> (usize, usize) {
        (self.lengths.len(), self.spare.len())
    }

    /// The number of a new file.
    pub(crate) fn new_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = self.next_number.saturating_add(1);
        number
    }

    fn tick(&mut self) -> Stamp {
        self.clock += 1;
        self.clock
    }

    /// Takes over what the index says now.
    pub(crate) fn commit(&mut self, changed: BTreeMap<u32, Segment>) {
        for (number, segment) in changed {
            if segment.is_dead() {
                let stamp = self.tick();
                self.dead.insert(number, stamp);
            }
            self.segments.insert(number, segment);
        }
    }

    /// Asks for the next file to be made ready.
    pub(crate) fn want_prepared(&mut self) {
        self.prepare = true;
    }

    /// From now on nothing that is alive is freed, until the hold is released.
    pub(crate) fn hold(&mut self) -> Stamp {
        let stamp = self.tick();
        self.holds.insert(stamp);
        stamp
    }

    pub(crate) fn release(&mut self, hold: Stamp) {
        self.holds.remove(&hold);
    }

    /// The moment before a sync; see [`Ledger::synced`].
    pub(crate) fn now(&self) -> Stamp {
        self.clock
    }

    /// A sync that began at `moment` is done.
    pub(crate) fn synced(&mut self, moment: Stamp) {
        self.durable = self.durable.max(moment);
    }

    /// What there is to do, most urgent first.
    pub(crate) fn task(&mut self) -> Option<Task> {
        if std::mem::take(&mut self.prepare) {
            return Some(Task::Prepare);
        }
        if self.spare.len() > self.spare_limit {
            return self.spare.pop_last().map(Task::Discard);
        }
        let first_hold = self.holds.first().copied().unwrap_or(Stamp::MAX);
        let mut unheld = self.dead.iter().filter(|(_, died)| **died < first_hold);
        let (number, died) = unheld.next()?;
        if *died <= self.durable { Some(Task::Free(*number)) } else { Some(Task::Sync) }
    }

    /// Forgets a dead segment; its file is kept for later if it may be.
    pub(crate) fn freed(&mut self, number: u32, keep: bool) {
        self.dead.remove(&number);
        self.segments.remove(&number);
        if keep {
            self.spare.insert(number);
        }
    }

    pub(crate) fn add_spare(&mut self, number: u32) {
        self.spare.insert(number);
    }

    /// Whether a file more may be kept for later.
    pub(crate) fn wants_spare(&self) -> bool {
        self.spare.len() < self.spare_limit
    }

    pub(crate) fn take_spare(&mut self) -> Option<u32> {
        self.spare.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(live: u64, sealed: bool) -> Segment {
        Segment { live_records: live, sealed, ..Segment::new(0, 1) }
    }

    fn ledger(segments: &[(u32, Segment)]) -> Ledger {
        let mut ledger = Ledger::new(1);
        for (number, _) in segments {
            ledger.note_file(*number, 100);
        }
        ledger.commit(segments.iter().cloned().collect());
        ledger
    }

    #[test]
    fn a_segment_reads_back_as_what_it_was() {
        let segment = Segment { end: 7, live_bytes: 6, ..segment(5, true) };
        assert_eq!(Segment::decode(&segment.encode("a"), &["a", "b"]), Some(segment.clone()));
        assert_eq!(Segment::decode(&segment.encode("c"), &["a", "b"]), None);
        assert_eq!(Segment::decode(b"short", &["a"]), None);
    }

    #[test]
    fn a_segment_that_still_takes_records_does_not_die() {
        let mut ledger = ledger(&[(1, segment(0, false))]);
        ledger.synced(ledger.now());
        assert_eq!(ledger.task(), None);
    }

    #[test]
    fn a_dead_segment_is_freed_only_after_a_sync_that_began_after_its_death() {
        let mut ledger = ledger(&[(1, segment(1, true))]);
        let before = ledger.now();
        ledger.commit([(1, segment(0, true))].into());
        ledger.synced(before);
        assert_eq!(ledger.task(), Some(Task::Sync));
        ledger.synced(ledger.now());
        assert_eq!(ledger.task(), Some(Task::Free(1)));
        ledger.freed(1, true);
        assert_eq!(ledger.task(), None);
        assert_eq!(ledger.take_spare(), Some(1));
    }

    #[test]
    fn a_hold_keeps_what_died_after_it_began_and_nothing_else() {
        let mut ledger = ledger(&[(1, segment(0, true)), (2, segment(1, true))]);
        let hold = ledger.hold();
        ledger.commit([(2, segment(0, true))].into());
        ledger.synced(ledger.now());
        assert_eq!(ledger.task(), Some(Task::Free(1)));
        ledger.freed(1, false);
        assert_eq!(ledger.task(), None);
        ledger.release(hold);
        assert_eq!(ledger.task(), Some(Task::Free(2)));
    }

    #[test]
    fn files_beyond_the_limit_are_not_kept() {
        let mut ledger = Ledger::new(1);
        ledger.add_spare(1);
        assert!(!ledger.wants_spare());
        ledger.add_spare(2);
        assert_eq!(ledger.task(), Some(Task::Discard(2)));
        assert_eq!(ledger.task(), None);
    }

    #[test]
    fn numbers_are_not_given_out_twice() {
        let mut ledger = ledger(&[(4, segment(1, true))]);
        assert_eq!((ledger.new_number(), ledger.new_number()), (5, 6));
    }
}
