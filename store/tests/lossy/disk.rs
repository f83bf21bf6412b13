//! The whole filesystem as a value: no threads, no kernel, no clock but the times that files show.
//!
//! Everything is in memory. While the power is off every operation fails with an I/O error, so that a process that has not
//! noticed yet changes nothing of what the cut left; handles that were open before the cut stay dead after it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};
use std::time::Duration;
use std::time::SystemTime;

use fuser::Errno;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::directory::{Directory, Number};
use super::faults::Faults;
use super::file::File;
use super::image::PAGE;
use super::loss::Loss;

/// The root directory.
pub const ROOT: Number = 1;

/// Longest name of a file, as on Linux.
const NAME_MAX: usize = 255;

/// What was done so far: a test that proves something proves here that the faults came to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes through the page cache.
    pub buffered_writes: u64,
    /// Writes with `O_DIRECT`.
    pub direct_writes: u64,
    /// Syncs of files and directories that succeeded.
    pub syncs: u64,
    /// Syncs that failed on order.
    pub failed_syncs: u64,
    /// Operations refused for lack of space.
    pub full: u64,
    /// Power cuts.
    pub cuts: u64,
}

#[derive(Debug)]
pub enum Content {
    File(File),
    Directory(Directory),
}

/// A file or a directory.
#[derive(Debug)]
pub struct Inode {
    pub content: Content,
    pub mode: u16,
    pub changed: SystemTime,
}

impl Inode {
    fn used(&self) -> u64 {
        match &self.content {
            Content::File(file) => file.used(),
            Content::Directory(_) => PAGE,
        }
    }
}

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub number: Number,
    pub directory: bool,
    pub length: u64,
    pub used: u64,
    pub links: u32,
    pub mode: u16,
    pub changed: SystemTime,
}

/// The filesystem.
#[derive(Debug)]
pub struct Disk {
    inodes: BTreeMap<Number, Inode>,
    next: Number,
    handles: HashMap<u64, Number>,
    next_handle: u64,
    powered: bool,
    capacity: u64,
    /// Faults to come.
    pub faults: Faults,
    /// What was done.
    pub counters: Counters,
}

type Answer<T> = Result<T, Errno>;

impl Disk {
    /// An empty disk of so many bytes, powered.
    pub fn new(capacity: u64) -> Disk {
        let root = Inode { content: Content::Directory(Directory::default()), mode: 0o755, changed: SystemTime::now() };
        Disk {
            inodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            handles: HashMap::new(),
            next_handle: 1,
            powered: true,
            capacity,
            faults: Faults::default(),
            counters: Counters::default(),
        }
    }

    /// How much fits on it.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Changes how much fits on it; what is there stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Bytes that files take, those included that are open and have no name any more.
    pub fn used(&self) -> u64 {
        let live = self.live();
        self.inodes.iter().filter(|(number, _)| live.contains(number)).map(|(_, inode)| inode.used()).sum()
    }

    /// Everything that has a name now or is open.
    fn live(&self) -> BTreeSet<Number> {
        let mut live: BTreeSet<Number> = self.handles.values().copied().chain([ROOT]).collect();
        for inode in self.inodes.values() {
            if let Content::Directory(directory) = &inode.content {
                live.extend(directory.names().map(|(_, number)| number));
            }
        }
        live
    }

    /// Whether the power is on.
    pub fn powered(&self) -> bool {
        self.powered
    }

    /// The power goes now.
    pub fn cut(&mut self) {
        if self.powered {
            self.powered = false;
            self.counters.cuts += 1;
        }
    }

    /// The power is back, and the disk shows what the cut left: everything synced, and by chance more. The same seed on the
    /// same history leaves the same.
    pub fn power_on(&mut self, seed: u64) -> Loss {
        self.cut();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut loss = Loss::default();
        for inode in self.inodes.values_mut() {
            match &mut inode.content {
                Content::File(file) => file.cut(&mut random, &mut loss),
                Content::Directory(directory) => directory.cut(&mut random, &mut loss),
            }
        }
        self.handles.clear();
        self.renumber();
        self.faults.power_on();
        self.powered = true;
        loss
    }

    /// Keeps what can be reached from the root, under numbers that the kernel has not seen: none of its caches applies.
    fn renumber(&mut self) {
        let mut reachable = BTreeMap::from([(ROOT, ROOT)]);
        let mut queue = vec![ROOT];
        while let Some(number) = queue.pop() {
            let Some(Inode { content: Content::Directory(directory), .. }) = self.inodes.get(&number) else { continue };
            for (_, named) in directory.names() {
                if let std::collections::btree_map::Entry::Vacant(free) = reachable.entry(named) {
                    free.insert(self.next);
                    self.next += 1;
                    queue.push(named);
                }
            }
        }
        let old = std::mem::take(&mut self.inodes);
        for (number, mut inode) in old {
            let Some(new) = reachable.get(&number) else { continue };
            if let Content::Directory(directory) = &mut inode.content {
                directory.renumber(&reachable);
            }
            self.inodes.insert(*new, inode);
        }
    }

    /// What the next sync of an open file or directory costs beside its own time.
    pub fn sync_delay(&self, handle: u64) -> Duration {
        let Some((ending, delay)) = self.faults.slow_files else { return self.faults.sync_delay };
        let named = |inode: &Inode| match &inode.content {
            Content::Directory(directory) => directory.names().any(|(name, number)| {
                self.handles.get(&handle) == Some(&number) && name.as_encoded_bytes().ends_with(ending.as_bytes())
            }),
            Content::File(_) => false,
        };
        let slow = self.inodes.values().any(named);
        if slow { self.faults.sync_delay.max(delay) } else { self.faults.sync_delay }
    }

    /// Everything counts as written back, as if the machine had been left alone for a while.
    pub fn settle(&mut self) {
        for inode in self.inodes.values_mut() {
            match &mut inode.content {
                Content::File(file) => file.sync(),
                Content::Directory(directory) => directory.sync(),
            }
        }
        self.forget_unreferenced();
    }

    /// Inverts bits of one byte of a file, on disk too.
    pub fn flip(&mut self, path: &Path, offset: u64, mask: u8) -> Answer<()> {
        let mut number = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => number = self.directory(number)?.get(name).ok_or(Errno::ENOENT)?,
                Component::Prefix(_) | Component::ParentDir => return Err(Errno::EINVAL),
            }
        }
        match self.file_mut(number)?.flip(offset, mask) {
            true => Ok(()),
            false => Err(Errno::EINVAL),
        }
    }

    /// An operation begins: it fails without power.
    fn begin(&self) -> Answer<()> {
        match self.powered {
            true => Ok(()),
            false => Err(Errno::EIO),
        }
    }

    /// An operation that changes something begins; the power may be ordered to go with it, before its effect.
    fn begin_change(&mut self) -> Answer<()> {
        self.begin()?;
        if self.faults.operation() {
            self.cut();
        }
        self.begin()
    }

    fn inode(&self, number: Number) -> Answer<&Inode> {
        self.inodes.get(&number).ok_or(Errno::ESTALE)
    }

    fn directory(&self, number: Number) -> Answer<&Directory> {
        match &self.inode(number)?.content {
            Content::Directory(directory) => Ok(directory),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, number: Number) -> Answer<&mut Directory> {
        let inode = self.inodes.get_mut(&number).ok_or(Errno::ESTALE)?;
        inode.changed = SystemTime::now();
        match &mut inode.content {
            Content::Directory(directory) => Ok(directory),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file(&self, number: Number) -> Answer<&File> {
        match &self.inode(number)?.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, number: Number) -> Answer<&mut File> {
        let inode = self.inodes.get_mut(&number).ok_or(Errno::ESTALE)?;
        inode.changed = SystemTime::now();
        match &mut inode.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }

    /// The file of an open handle; handles do not survive a cut.
    fn opened(&self, handle: u64) -> Answer<Number> {
        self.handles.get(&handle).copied().ok_or(Errno::EIO)
    }

    fn forget_unreferenced(&mut self) {
        let mut kept = self.live();
        for inode in self.inodes.values() {
            if let Content::Directory(directory) = &inode.content {
                kept.extend(directory.references());
            }
        }
        self.inodes.retain(|number, _| kept.contains(number));
    }

    fn room_for(&mut self, growth: u64) -> Answer<()> {
        // Files that only a cut would bring back take nothing, but counting them too is quicker, and mostly enough.
        let at_most: u64 = self.inodes.values().map(Inode::used).sum();
        if growth == 0 || at_most + growth <= self.capacity || self.used() + growth <= self.capacity {
            return Ok(());
        }
        self.counters.full += 1;
        Err(Errno::ENOSPC)
    }

    fn add(&mut self, parent: Number, name: &OsStr, mode: u32, content: Content) -> Answer<Facts> {
        self.begin_change()?;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.directory(parent)?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.room_for(PAGE)?;
        let number = self.next;
        self.next += 1;
        self.directory_mut(parent)?.set(name, number);
        self.inodes.insert(number, Inode { content, mode: (mode & 0o7777) as u16, changed: SystemTime::now() });
        self.stat(number)
    }

    /// Facts of a file or directory.
    pub fn stat(&self, number: Number) -> Answer<Facts> {
        self.begin()?;
        let inode = self.inode(number)?;
        let names = |directory: &Directory| directory.names().filter(|(_, named)| *named == number).count();
        let (length, used, links) = match &inode.content {
            Content::Directory(_) => (PAGE, PAGE, 2),
            Content::File(file) => {
                let directories = self.inodes.values().filter_map(|inode| match &inode.content {
                    Content::Directory(directory) => Some(directory),
                    Content::File(_) => None,
                });
                let links = directories.map(names).sum::<usize>();
                (file.image().length(), file.used(), u32::try_from(links).unwrap_or(u32::MAX))
            }
        };
        let directory = matches!(inode.content, Content::Directory(_));
        Ok(Facts { number, directory, length, used, links, mode: inode.mode, changed: inode.changed })
    }

    /// What a name stands for.
    pub fn lookup(&self, parent: Number, name: &OsStr) -> Answer<Facts> {
        self.begin()?;
        self.stat(self.directory(parent)?.get(name).ok_or(Errno::ENOENT)?)
    }

    /// All names of a directory, with what they stand for and whether that is a directory.
    pub fn list(&self, number: Number) -> Answer<Vec<(OsString, Number, bool)>> {
        self.begin()?;
        let is_directory = |number| matches!(self.inode(number), Ok(Inode { content: Content::Directory(_), .. }));
        let names = self.directory(number)?.names();
        Ok(names.map(|(name, number)| (name.to_owned(), number, is_directory(number))).collect())
    }

    /// A new directory.
    pub fn make_directory(&mut self, parent: Number, name: &OsStr, mode: u32) -> Answer<Facts> {
        self.add(parent, name, mode, Content::Directory(Directory::default()))
    }

    /// A new file, opened.
    pub fn create(&mut self, parent: Number, name: &OsStr, mode: u32) -> Answer<(Facts, u64)> {
        let facts = self.add(parent, name, mode, Content::File(File::default()))?;
        Ok((facts, self.open(facts.number)?))
    }

    /// A handle of a file or directory.
    pub fn open(&mut self, number: Number) -> Answer<u64> {
        self.begin()?;
        self.inode(number)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(handle, number);
        Ok(handle)
    }

    /// The end of a handle.
    pub fn release(&mut self, handle: u64) {
        let Some(number) = self.handles.remove(&handle) else { return };
        if self.powered && self.stat(number).is_ok_and(|facts| facts.links == 0) {
            self.forget_unreferenced();
        }
    }

    /// Takes the name of a file away; what is open stays readable.
    pub fn unlink(&mut self, parent: Number, name: &OsStr) -> Answer<()> {
        self.begin_change()?;
        let number = self.directory(parent)?.get(name).ok_or(Errno::ENOENT)?;
        self.file(number)?;
        self.directory_mut(parent)?.remove(name);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&mut self, parent: Number, name: &OsStr) -> Answer<()> {
        self.begin_change()?;
        let number = self.directory(parent)?.get(name).ok_or(Errno::ENOENT)?;
        if !self.directory(number)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.directory_mut(parent)?.remove(name);
        Ok(())
    }

    /// Another name in the same directory; between directories it is refused, because the two would be synced apart.
    pub fn rename(&mut self, parent: Number, from: &OsStr, to_parent: Number, to: &OsStr, replace: bool) -> Answer<()> {
        self.begin_change()?;
        if parent != to_parent {
            return Err(Errno::EXDEV);
        }
        let source = self.directory(parent)?.get(from).ok_or(Errno::ENOENT)?;
        if let Some(target) = self.directory(parent)?.get(to) {
            if !replace {
                return Err(Errno::EEXIST);
            }
            if target == source {
                return Ok(());
            }
            match (&self.inode(source)?.content, &self.inode(target)?.content) {
                (Content::File(_), Content::File(_)) => {}
                (Content::Directory(_), Content::Directory(occupied)) if occupied.is_empty() => {}
                (Content::Directory(_), Content::Directory(_)) => return Err(Errno::ENOTEMPTY),
                (Content::File(_), Content::Directory(_)) => return Err(Errno::EISDIR),
                (Content::Directory(_), Content::File(_)) => return Err(Errno::ENOTDIR),
            }
        }
        self.directory_mut(parent)?.rename(from, to);
        Ok(())
    }

    /// A second name of a file.
    pub fn link(&mut self, number: Number, parent: Number, name: &OsStr) -> Answer<Facts> {
        self.begin_change()?;
        self.file(number)?;
        if self.directory(parent)?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.directory_mut(parent)?.set(name, number);
        self.stat(number)
    }

    /// Bytes of an open file.
    pub fn read(&self, handle: u64, offset: u64, length: u64) -> Answer<Vec<u8>> {
        self.begin()?;
        Ok(self.file(self.opened(handle)?)?.image().read(offset, length))
    }

    /// Writes to an open file. A power cut that is ordered for this operation comes after it: what is torn is the last
    /// write, which was never answered.
    pub fn write(&mut self, handle: u64, offset: u64, bytes: &[u8], direct: bool) -> Answer<()> {
        self.begin()?;
        let number = self.opened(handle)?;
        let growth = self.file(number)?.growth(offset, bytes.len() as u64);
        self.room_for(growth)?;
        self.file_mut(number)?.write(offset, bytes);
        match direct {
            true => self.counters.direct_writes += 1,
            false => self.counters.buffered_writes += 1,
        }
        self.begin_change()
    }

    /// Another length of a file.
    pub fn resize(&mut self, number: Number, length: u64) -> Answer<()> {
        self.begin_change()?;
        if length > self.capacity {
            return Err(Errno::EFBIG);
        }
        self.file_mut(number)?.resize(length);
        Ok(())
    }

    /// Other permissions. They are not lost by a cut.
    pub fn set_mode(&mut self, number: Number, mode: u32) -> Answer<()> {
        self.begin_change()?;
        self.inodes.get_mut(&number).ok_or(Errno::ESTALE)?.mode = (mode & 0o7777) as u16;
        Ok(())
    }

    /// Sets space aside, and lets the file grow over it if asked to.
    pub fn reserve(&mut self, handle: u64, end: u64, grow: bool) -> Answer<()> {
        self.begin_change()?;
        let number = self.opened(handle)?;
        let file = self.file(number)?;
        let growth = end.next_multiple_of(PAGE).saturating_sub(file.used());
        let longer = grow && end > file.image().length();
        self.room_for(growth)?;
        let file = self.file_mut(number)?;
        file.reserve(end);
        if longer {
            file.resize(end);
        }
        Ok(())
    }

    /// Makes an open file, or the names in an open directory, durable.
    pub fn sync(&mut self, handle: u64) -> Answer<()> {
        self.begin_change()?;
        let number = self.opened(handle)?;
        let fails = self.faults.sync();
        let inode = self.inodes.get_mut(&number).ok_or(Errno::ESTALE)?;
        if fails {
            self.counters.failed_syncs += 1;
            if let Content::File(file) = &mut inode.content {
                file.drop_pending();
            }
            return Err(Errno::EIO);
        }
        self.counters.syncs += 1;
        match &mut inode.content {
            Content::File(file) => file.sync(),
            Content::Directory(directory) => {
                directory.sync();
                self.forget_unreferenced();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, name: &str, bytes: &[u8]) -> u64 {
        let (_, handle) = disk.create(ROOT, OsStr::new(name), 0o644).expect("a file");
        disk.write(handle, 0, bytes, false).expect("a write");
        handle
    }

    fn sync_root(disk: &mut Disk) {
        let root = disk.open(ROOT).expect("the root");
        disk.sync(root).expect("a sync");
    }

    fn content(disk: &mut Disk, name: &str) -> Option<Vec<u8>> {
        let facts = disk.lookup(ROOT, OsStr::new(name)).ok()?;
        let handle = disk.open(facts.number).expect("a handle");
        Some(disk.read(handle, 0, u64::MAX).expect("a read"))
    }

    #[test]
    fn a_file_survives_only_with_its_name() {
        let (mut named, mut nameless) = (0, 0);
        for seed in 0..50 {
            let mut disk = Disk::new(1 << 20);
            let handle = file(&mut disk, "file", b"bytes");
            disk.sync(handle).expect("a sync");
            disk.power_on(seed);
            match content(&mut disk, "file") {
                Some(bytes) => named += u32::from(bytes == b"bytes"),
                None => nameless += 1,
            }
        }
        assert!(named > 0 && nameless > 0 && named + nameless == 50, "{named} {nameless}");
    }

    #[test]
    fn without_power_everything_fails_and_old_handles_stay_dead() {
        let mut disk = Disk::new(1 << 20);
        let handle = file(&mut disk, "file", b"bytes");
        disk.sync(handle).expect("a sync");
        sync_root(&mut disk);
        disk.cut();
        assert!(disk.write(handle, 0, b"x", false).is_err() && disk.sync(handle).is_err());
        assert!(disk.unlink(ROOT, OsStr::new("file")).is_err() && disk.stat(ROOT).is_err());
        disk.power_on(1);
        assert!(disk.write(handle, 0, b"x", false).is_err() && disk.read(handle, 0, 1).is_err());
        assert_eq!(content(&mut disk, "file").as_deref(), Some(&b"bytes"[..]));
    }

    #[test]
    fn an_ordered_cut_leaves_the_last_write_unanswered() {
        let mut disk = Disk::new(1 << 20);
        let (_, handle) = disk.create(ROOT, OsStr::new("file"), 0o644).expect("a file");
        sync_root(&mut disk);
        disk.faults.cut_after(1);
        assert!(disk.write(handle, 0, b"answered", false).is_ok());
        assert!(disk.write(handle, 8, b"unanswered", false).is_err());
        assert!(!disk.powered());
    }

    #[test]
    fn a_file_that_was_unlinked_comes_back_if_the_directory_was_not_synced() {
        let mut disk = Disk::new(1 << 20);
        let handle = file(&mut disk, "file", b"bytes");
        disk.sync(handle).expect("a sync");
        sync_root(&mut disk);
        disk.release(handle);
        disk.unlink(ROOT, OsStr::new("file")).expect("no name");
        assert_eq!(disk.used(), PAGE, "its space is free at once");
        let back = (0..20).any(|seed| {
            let mut cut = Disk { inodes: BTreeMap::new(), handles: HashMap::new(), ..Disk::new(1 << 20) };
            std::mem::swap(&mut cut.inodes, &mut disk.inodes);
            let before = cut.inodes.len();
            cut.power_on(seed);
            let found = content(&mut cut, "file").is_some();
            disk = Disk::new(1 << 20);
            let handle = file(&mut disk, "file", b"bytes");
            disk.sync(handle).expect("a sync");
            sync_root(&mut disk);
            disk.release(handle);
            disk.unlink(ROOT, OsStr::new("file")).expect("no name");
            found && before == 2
        });
        assert!(back);
        sync_root(&mut disk);
        assert_eq!(disk.inodes.len(), 1, "nothing refers to it");
    }

    #[test]
    fn a_full_disk_refuses_and_a_larger_or_emptier_one_does_not() {
        let mut disk = Disk::new(10 * PAGE);
        let handle = file(&mut disk, "file", &[1; 5 * PAGE as usize]);
        assert_eq!(disk.write(handle, 5 * PAGE, &[1; 5 * PAGE as usize], false).map_err(i32::from), Err(libc::ENOSPC));
        assert_eq!(disk.reserve(handle, 10 * PAGE, false).map_err(i32::from), Err(libc::ENOSPC));
        assert!(disk.write(handle, 0, b"over what is there", false).is_ok());
        disk.set_capacity(20 * PAGE);
        assert!(disk.write(handle, 5 * PAGE, &[1; 5 * PAGE as usize], false).is_ok());
        assert_eq!(disk.counters.full, 2);
    }

    #[test]
    fn a_flipped_bit_stays_flipped() {
        let mut disk = Disk::new(1 << 20);
        let handle = file(&mut disk, "file", b"bytes");
        disk.sync(handle).expect("a sync");
        sync_root(&mut disk);
        disk.flip(Path::new("/file"), 1, 1).expect("a flip");
        assert!(disk.flip(Path::new("/file"), 5, 1).is_err() && disk.flip(Path::new("/none"), 0, 1).is_err());
        disk.power_on(0);
        assert_eq!(content(&mut disk, "file").as_deref(), Some(&b"bxtes"[..]));
    }
}
