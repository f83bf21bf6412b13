//! A file with two faces: what reads see, and what a power cut would leave.
//!
//! A write reaches the second face by a sync, or, at a cut, by luck: a kernel may have written back any part of what was
//! not synced, in any order. A failed sync leaves the pages clean but unwritten, so that later syncs succeed without them
//! ("Can Applications Recover from fsync Failures?", ATC 2020).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::image::{Image, PAGE};
use super::loss::Loss;

/// Sizes in which a disk writes: what is torn is torn at a multiple of one of these.
const SECTORS: [u64; 2] = [512, PAGE];

/// A change that no sync has covered.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Resize(u64),
}

impl Change {
    fn apply(&self, image: &mut Image) {
        match self {
            Change::Write { offset, bytes } => image.write(*offset, bytes),
            Change::Resize(length) => image.resize(*length),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Change::Write { bytes, .. } => bytes.len() as u64,
            Change::Resize(_) => 0,
        }
    }
}

/// What becomes of the changes that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// None was written back.
    Lost,
    /// The first ones were; the next one is torn.
    Prefix,
    /// Any of them, in pieces.
    Scattered,
    /// All were.
    Kept,
}

impl Fate {
    fn draw(random: &mut ChaCha8Rng) -> Fate {
        match random.random_range(0..10) {
            0..3 => Fate::Lost,
            3..7 => Fate::Prefix,
            7..9 => Fate::Scattered,
            _ => Fate::Kept,
        }
    }
}

/// The bytes of a file, on disk and not.
#[derive(Clone, Debug, Default)]
pub struct File {
    current: Image,
    durable: Image,
    pending: Vec<Change>,
    /// A sync has failed: `current` holds pages that no later sync will write.
    dropped: bool,
    /// Up to where space is set aside.
    reserved: u64,
}

impl File {
    /// What reads see.
    pub fn image(&self) -> &Image {
        &self.current
    }

    /// Bytes that it takes of the disk.
    pub fn used(&self) -> u64 {
        self.current.allocated().max(self.reserved)
    }

    /// By how much a write would make it take more of the disk.
    pub fn growth(&self, offset: u64, length: u64) -> u64 {
        let allocated = self.current.allocated() + self.current.missing(offset, length);
        allocated.max(self.reserved) - self.used()
    }

    /// A write; not on disk.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.current.write(offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    /// Another length; not on disk. Space that was set aside beyond it is given back.
    pub fn resize(&mut self, length: u64) {
        self.current.resize(length);
        self.reserved = self.reserved.min(length.next_multiple_of(PAGE));
        self.pending.push(Change::Resize(length));
    }

    /// Sets space aside; the length stays.
    pub fn reserve(&mut self, end: u64) {
        self.reserved = self.reserved.max(end.next_multiple_of(PAGE));
    }

    /// Makes everything durable that an earlier failed sync did not drop.
    pub fn sync(&mut self) {
        let changes = std::mem::take(&mut self.pending);
        for change in &changes {
            match change {
                Change::Write { .. } if self.dropped => change.apply(&mut self.durable),
                Change::Write { .. } => {}
                Change::Resize(length) => self.durable.resize(*length),
            }
        }
        if self.dropped {
            return;
        }
        for change in &changes {
            if let Change::Write { offset, bytes } = change {
                self.durable.share(&self.current, *offset, bytes.len() as u64);
            }
        }
        self.durable.resize(self.current.length());
    }

    /// A sync that failed: its pages count as clean from now on, and are not on disk.
    pub fn drop_pending(&mut self) {
        self.dropped |= !self.pending.is_empty();
        self.pending.clear();
    }

    /// Inverts bits of one byte, on disk too; false where the file has no such byte.
    pub fn flip(&mut self, offset: u64, mask: u8) -> bool {
        let mut found = false;
        for image in [&mut self.current, &mut self.durable] {
            if let [byte] = image.read(offset, 1)[..] {
                image.write(offset, &[byte ^ mask]);
                found = true;
            }
        }
        found
    }

    /// The power goes: what was not synced survives in part, by chance.
    pub fn cut(&mut self, random: &mut ChaCha8Rng, loss: &mut Loss) {
        let changes = std::mem::take(&mut self.pending);
        let fate = Fate::draw(random);
        let kept = match fate {
            Fate::Lost => 0,
            Fate::Prefix => random.random_range(0..=changes.len()),
            Fate::Scattered => changes.len(),
            Fate::Kept => changes.len(),
        };
        let end = self.current.length();
        for (number, change) in changes.iter().enumerate() {
            if fate == Fate::Scattered {
                self.scatter(change, random, loss);
            } else if number < kept {
                change.apply(&mut self.durable);
                loss.writes_kept += 1;
            } else if number == kept && fate == Fate::Prefix {
                self.tear(change, random, loss);
            } else {
                loss.lost(change.bytes());
            }
        }
        // The length may have reached the disk before the data that it stands for: then the rest reads as zeros.
        if fate == Fate::Scattered && random.random() && end > self.durable.length() {
            self.durable.resize(end);
        }
        self.current = self.durable.clone();
        self.dropped = false;
        self.reserved = self.reserved.min(self.current.length().next_multiple_of(PAGE));
    }

    /// A write of which only a beginning reached the disk.
    fn tear(&mut self, change: &Change, random: &mut ChaCha8Rng, loss: &mut Loss) {
        let Change::Write { offset, bytes } = change else { return loss.lost(0) };
        let sector = SECTORS[random.random_range(0..SECTORS.len())];
        let end = offset + bytes.len() as u64;
        let (first, last) = (offset.div_ceil(sector), end / sector);
        if first > last || *offset == end {
            return loss.lost(bytes.len() as u64);
        }
        let torn = random.random_range(first..=last) * sector;
        let kept = usize::try_from(torn - offset).expect("at most the length of the write");
        self.durable.write(*offset, &bytes[..kept]);
        loss.torn((bytes.len() - kept) as u64);
    }

    /// A change of which any pieces reached the disk.
    fn scatter(&mut self, change: &Change, random: &mut ChaCha8Rng, loss: &mut Loss) {
        let Change::Write { offset, bytes } = change else {
            return match random.random() {
                true => change.apply(&mut self.durable),
                false => loss.lost(0),
            };
        };
        let sector = SECTORS[random.random_range(0..SECTORS.len())];
        let (mut at, end, mut lost) = (*offset, offset + bytes.len() as u64, 0);
        while at < end {
            let next = end.min((at / sector + 1) * sector);
            let inside = |place: u64| usize::try_from(place - offset).expect("at most the length of the write");
            match random.random() {
                true => self.durable.write(at, &bytes[inside(at)..inside(next)]),
                false => lost += next - at,
            }
            at = next;
        }
        match lost {
            0 => loss.writes_kept += 1,
            lost if lost == bytes.len() as u64 => loss.lost(lost),
            lost => loss.torn(lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn cut(file: &File, seed: u64) -> (Vec<u8>, Loss) {
        let (mut file, mut loss) = (file.clone(), Loss::default());
        file.cut(&mut ChaCha8Rng::seed_from_u64(seed), &mut loss);
        (file.image().read(0, u64::MAX), loss)
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_what_was_not_is_lost_in_some() {
        let mut file = File::default();
        file.write(0, &[1; 10_000]);
        file.sync();
        file.write(10_000, &[2; 10_000]);
        file.write(20_000, &[3; 10_000]);
        let mut lengths = std::collections::BTreeSet::new();
        let mut total = Loss::default();
        for seed in 0..200 {
            let (bytes, loss) = cut(&file, seed);
            assert!(bytes.len() >= 10_000 && bytes[..10_000].iter().all(|byte| *byte == 1), "seed {seed}");
            lengths.insert(bytes.len());
            total.add(&loss);
        }
        assert!(lengths.contains(&10_000) && lengths.contains(&30_000) && lengths.len() > 10, "{lengths:?}");
        assert!(total.writes_lost > 0 && total.writes_torn > 0 && total.writes_kept > 0, "{total:?}");
    }

    #[test]
    fn pages_of_a_failed_sync_are_read_but_never_durable() {
        let mut file = File::default();
        file.write(0, b"first");
        file.drop_pending();
        file.write(5, b"second");
        file.sync();
        assert_eq!(file.image().read(0, 100), b"firstsecond");
        for seed in 0..20 {
            assert_eq!(cut(&file, seed).0, b"\0\0\0\0\0second");
        }
    }

    #[test]
    fn a_sync_covers_every_change_in_its_order() {
        let mut file = File::default();
        file.write(0, &[1; 9_000]);
        file.resize(100);
        file.write(8_000, &[2; 100]);
        file.resize(8_050);
        let seen = file.image().read(0, u64::MAX);
        file.sync();
        for seed in 0..20 {
            assert_eq!(cut(&file, seed).0, seen);
        }
    }

    #[test]
    fn space_that_is_set_aside_is_used_until_the_file_is_cut_to_its_length() {
        let mut file = File::default();
        file.reserve(1 << 20);
        assert_eq!((file.used(), file.growth(0, 4096)), (1 << 20, 0));
        file.write(0, &[1; 4096]);
        file.resize(4096);
        assert_eq!((file.used(), file.growth(4096, 1)), (4096, 4096));
    }
}
