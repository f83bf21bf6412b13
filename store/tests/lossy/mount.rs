//! The disk as a mounted filesystem: translation between the kernel's requests and [`Disk`], and nothing else.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{Disk, Facts};
use super::image::PAGE;

/// The kernel remembers nothing: names and lengths may change behind its back when the power goes.
const TTL: Duration = Duration::ZERO;
/// A slow sync must not hold up other requests.
const THREADS: usize = 4;
/// Alignment that a disk asks of `O_DIRECT`.
const DIRECT_ALIGNMENT: u64 = 512;

type Shared = Arc<Mutex<Disk>>;

/// A mounted disk; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    disk: Shared,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts an empty disk of so many bytes on an existing directory.
    pub fn new(path: &Path, capacity: u64) -> io::Result<Mounted> {
        let disk = Arc::new(Mutex::new(Disk::new(capacity)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("lossy".into()), MountOption::Subtype("rorqual-test".into())];
        config.n_threads = Some(THREADS);
        let served = Served { disk: Arc::clone(&disk), listings: Mutex::default() };
        let session = fuser::spawn_mount(served, path, &config)?;
        Ok(Mounted { path: path.to_path_buf(), disk, session: Some(session) })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk, between two requests of the kernel.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            // A test that failed may have files open. Detached, the mount goes when they are closed.
            let detached = Command::new("umount").arg("--lazy").arg(&self.path).status();
            if !detached.is_ok_and(|status| status.success()) {
                eprintln!("{} could not be unmounted: {error}", self.path.display());
            }
        }
    }
}

fn lock(disk: &Shared) -> MutexGuard<'_, Disk> {
    // A panic under the lock fails the test that caused it; the others may look on.
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of a directory: name, number, whether it is a directory.
type Listing = Vec<(OsString, u64, bool)>;

struct Served {
    disk: Shared,
    /// What each open directory held when its reading began, so that removals meanwhile hide nothing else.
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
}

impl Served {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn listing(&self, number: u64, handle: u64, begins: bool) -> Result<Arc<Listing>, Errno> {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = listings.get(&handle)
            && !begins
        {
            return Ok(Arc::clone(listing));
        }
        // The kernel wants the first two; nothing looks at their numbers.
        let own = [(".".into(), number, true), ("..".into(), number, true)];
        let listing = Arc::new(own.into_iter().chain(self.disk().list(number)?).collect());
        listings.insert(handle, Arc::clone(&listing));
        Ok(listing)
    }

    fn sync(&self, handle: FileHandle, reply: ReplyEmpty) {
        let delay = self.disk().sync_delay(handle.0);
        pause(delay);
        let synced = self.disk().sync(handle.0);
        empty(reply, synced);
    }
}

fn pause(delay: Duration) {
    if !delay.is_zero() {
        thread::sleep(delay);
    }
}

fn attributes(facts: Facts) -> FileAttr {
    FileAttr {
        ino: INodeNo(facts.number),
        size: facts.length,
        blocks: facts.used.div_ceil(512),
        atime: facts.changed,
        mtime: facts.changed,
        ctime: facts.changed,
        crtime: facts.changed,
        kind: kind(facts.directory),
        perm: facts.mode,
        nlink: facts.links,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    }
}

fn kind(directory: bool) -> FileType {
    if directory { FileType::Directory } else { FileType::RegularFile }
}

fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, result: Result<Facts, Errno>) {
    match result {
        Ok(facts) => reply.entry(&TTL, &attributes(facts), Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn opened(reply: ReplyOpen, result: Result<u64, Errno>) {
    match result {
        Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
        Err(error) => reply.error(error),
    }
}

fn misaligned(flags: OpenFlags, offset: u64, length: u64) -> bool {
    flags.0 & libc::O_DIRECT != 0
        && (!offset.is_multiple_of(DIRECT_ALIGNMENT) || !length.is_multiple_of(DIRECT_ALIGNMENT))
}

impl Filesystem for Served {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.disk().lookup(parent.0, name));
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk().stat(number.0) {
            Ok(facts) => reply.attr(&TTL, &attributes(facts)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _owner: Option<u32>,
        _group: Option<u32>,
        length: Option<u64>,
        _accessed: Option<TimeOrNow>,
        _modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _status_changed: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let resized = length.map_or(Ok(()), |length| disk.resize(number.0, length));
        let changed = resized.and_then(|()| mode.map_or(Ok(()), |mode| disk.set_mode(number.0, mode)));
        match changed.and_then(|()| disk.stat(number.0)) {
            Ok(facts) => reply.attr(&TTL, &attributes(facts)),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entry(reply, self.disk().make_directory(parent.0, name, mode & !umask));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.disk().unlink(parent.0, name));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.disk().remove_directory(parent.0, name));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        empty(reply, self.disk().rename(parent.0, name, to_parent.0, to, replace));
    }

    fn link(&self, _request: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.disk().link(number.0, parent.0, name));
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.disk().create(parent.0, name, mode & !umask) {
            Ok((facts, handle)) => {
                reply.created(&TTL, &attributes(facts), Generation(0), FileHandle(handle), FopenFlags::empty())
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        opened(reply, self.disk().open(number.0));
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if misaligned(flags, offset, u64::from(size)) {
            return reply.error(Errno::EINVAL);
        }
        let read = self.disk().read(handle.0, offset, u64::from(size));
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if misaligned(flags, offset, data.len() as u64) {
            return reply.error(Errno::EINVAL);
        }
        let delay = self.disk().faults.write_delay;
        pause(delay);
        let written = self.disk().write(handle.0, offset, data, flags.0 & libc::O_DIRECT != 0);
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _request: &Request, _number: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // Closing a file syncs nothing.
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.disk().release(handle.0);
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _number: INodeNo, handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(handle, reply);
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        opened(reply, self.disk().open(number.0));
    }

    fn readdir(&self, _request: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listing = match self.listing(number.0, handle.0, offset == 0) {
            Ok(listing) => listing,
            Err(error) => return reply.error(error),
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, (name, number, directory)) in listing.iter().enumerate().skip(skipped) {
            if reply.add(INodeNo(*number), place as u64 + 1, kind(*directory), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        self.disk().release(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _number: INodeNo, handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(handle, reply);
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let disk = self.disk();
        let total = disk.capacity() / PAGE;
        let free = disk.capacity().saturating_sub(disk.used()) / PAGE;
        reply.statfs(total, free, free, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // Anything else (holes, ranges collapsed) is not needed here, and must not seem to work.
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let Some(end) = offset.checked_add(length) else { return reply.error(Errno::EFBIG) };
        empty(reply, self.disk().reserve(handle.0, end, mode & libc::FALLOC_FL_KEEP_SIZE == 0));
    }
}
