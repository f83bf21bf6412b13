//! A directory with two faces: the names that lookups see, and those that a power cut would leave.
//!
//! A sync of a *file* says nothing about its name, as in POSIX: only a sync of the directory does. Changes of one directory
//! survive a cut in their order, as with the metadata journal of ext4, XFS and btrfs; each rename whole or not at all.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::loss::Loss;

/// A number that stands for a file or a directory until the next power cut.
pub type Number = u64;

type Names = BTreeMap<OsString, Number>;

#[derive(Clone, Debug)]
enum Change {
    Set(OsString, Number),
    Remove(OsString),
    Rename { from: OsString, to: OsString },
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Set(name, number) => drop(names.insert(name.clone(), *number)),
            Change::Remove(name) => drop(names.remove(name)),
            Change::Rename { from, to } => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
        }
    }
}

/// The names in a directory, on disk and not.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    current: Names,
    durable: Names,
    pending: Vec<Change>,
}

impl Directory {
    /// What a name stands for.
    pub fn get(&self, name: &OsStr) -> Option<Number> {
        self.current.get(name).copied()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = (&OsStr, Number)> {
        self.current.iter().map(|(name, number)| (name.as_os_str(), *number))
    }

    /// Whether there is no name in it.
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Everything that it refers to, now or after a cut.
    pub fn references(&self) -> impl Iterator<Item = Number> {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Set(_, number) => Some(*number),
            Change::Remove(_) | Change::Rename { .. } => None,
        });
        self.current.values().chain(self.durable.values()).copied().chain(pending)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Gives a name to something; not on disk.
    pub fn set(&mut self, name: &OsStr, number: Number) {
        self.change(Change::Set(name.to_owned(), number));
    }

    /// Takes a name away; not on disk.
    pub fn remove(&mut self, name: &OsStr) {
        self.change(Change::Remove(name.to_owned()));
    }

    /// Gives something another name, which it takes from whatever has it; not on disk.
    pub fn rename(&mut self, from: &OsStr, to: &OsStr) {
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned() });
    }

    /// Makes all names durable.
    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// The power goes: the first of the changes that were not synced survive, by chance.
    pub fn cut(&mut self, random: &mut ChaCha8Rng, loss: &mut Loss) {
        let kept = random.random_range(0..=self.pending.len());
        for change in &self.pending[..kept] {
            change.apply(&mut self.durable);
        }
        loss.names_kept += kept as u64;
        loss.names_lost += (self.pending.len() - kept) as u64;
        self.pending.clear();
        self.current = self.durable.clone();
    }

    /// Renumbers everything.
    pub fn renumber(&mut self, numbers: &BTreeMap<Number, Number>) {
        for names in [&mut self.current, &mut self.durable] {
            for number in names.values_mut() {
                *number = numbers[number];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn names_survive_in_their_order_and_a_rename_whole() {
        let mut directory = Directory::default();
        directory.set(OsStr::new("current"), 1);
        directory.sync();
        directory.set(OsStr::new("next"), 2);
        directory.rename(OsStr::new("next"), OsStr::new("current"));
        directory.remove(OsStr::new("current"));
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut cut = directory.clone();
            cut.cut(&mut ChaCha8Rng::seed_from_u64(seed), &mut Loss::default());
            outcomes.insert(cut.names().map(|(name, number)| (name.to_owned(), number)).collect::<Vec<_>>());
        }
        let name = |name: &str, number| (OsString::from(name), number);
        let expected =
            [vec![], vec![name("current", 1)], vec![name("current", 1), name("next", 2)], vec![name("current", 2)]];
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), expected);
    }
}
