//! Segment files: their folder, their names, and how they are opened, written, read and made durable.
//!
//! They are written past the page cache (`O_DIRECT`) where the filesystem offers that. Where it refuses, which is found out
//! when the store opens, the same calls go through the page cache.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::buffer::{AlignedBuffer, BLOCK};
use crate::error::StoreError;
use crate::statistics::SegmentAccess;

/// Where segments are, inside the store's directory.
pub(crate) const FOLDER: &str = "segments";
const EXTENSION: &str = "segment";
const PROBE: &str = "probe";
/// The highest number of a file. A million files a second would take an hour to get there; what has a higher one was planted.
pub(crate) const LAST_NUMBER: u32 = u32::MAX - 1;

/// The folder of a store's segment files.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFolder {
    path: PathBuf,
    access: SegmentAccess,
}

impl SegmentFolder {
    /// Opens the folder, creates it durably if it is missing, and finds out whether it can be written past the page cache.
    pub(crate) fn open(store: &Path, direct: bool) -> Result<SegmentFolder, StoreError> {
        let path = store.join(FOLDER);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => sync_directory(store)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("creating", &path, &error)),
        }
        let access = if direct { probe(&path)? } else { SegmentAccess::Buffered };
        Ok(SegmentFolder { path, access })
    }

    /// The folder as it is, to read only.
    pub(crate) fn existing(store: &Path) -> SegmentFolder {
        SegmentFolder { path: store.join(FOLDER), access: SegmentAccess::Buffered }
    }

    pub(crate) fn access(&self) -> SegmentAccess {
        self.access
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn path_of(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:08}.{EXTENSION}"))
    }

    /// The numbers and lengths of all segment files.
    pub(crate) fn list(&self) -> Result<Vec<(u32, u64)>, StoreError> {
        let listing = |error: io::Error| failed("listing", &self.path, &error);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            if let Some(number) = number_of(&entry.path()) {
                files.push((number, entry.metadata().map_err(listing)?.len()));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// A file that is ready to be written: `capacity` bytes long, its space reserved, its name durable.
    pub(crate) fn create(&self, number: u32, capacity: u64) -> Result<SegmentFile, StoreError> {
        let file = self.open_file(number, OpenOptions::new().read(true).write(true).create(true).mode(0o600))?;
        if let Err(error) = file.reserve(capacity) {
            // What was reserved before the disk was full is not kept.
            self.remove(number)?;
            return Err(error);
        }
        file.file.sync_all().map_err(|error| failed("syncing", &file.path, &error))?;
        sync_directory(&self.path)?;
        Ok(file)
    }

    /// An existing file of its full length, to be written again.
    pub(crate) fn reuse(&self, number: u32) -> Result<SegmentFile, StoreError> {
        self.open_file(number, OpenOptions::new().read(true).write(true))
    }

    /// An existing file; `None` if there is none.
    pub(crate) fn open_existing(&self, number: u32, write: bool) -> Result<Option<SegmentFile>, StoreError> {
        let path = self.path_of(number);
        match self.options(OpenOptions::new().read(true).write(write)).open(&path) {
            Ok(file) => Ok(Some(SegmentFile { file, path })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("opening", &path, &error)),
        }
    }

    pub(crate) fn remove(&self, number: u32) -> Result<(), StoreError> {
        let path = self.path_of(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("deleting", &path, &error)),
            _ => Ok(()),
        }
    }

    /// How many names the file has: more than one means that a backup has it too.
    pub(crate) fn links(&self, number: u32) -> Result<u64, StoreError> {
        let path = self.path_of(number);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.nlink()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed("looking at", &path, &error)),
        }
    }

    fn options<'a>(&self, options: &'a mut OpenOptions) -> &'a mut OpenOptions {
        match self.access {
            SegmentAccess::Direct => options.custom_flags(libc::O_DIRECT),
            SegmentAccess::Buffered => options,
        }
    }

    fn open_file(&self, number: u32, options: &mut OpenOptions) -> Result<SegmentFile, StoreError> {
        let path = self.path_of(number);
        let file = self.options(options).open(&path).map_err(|error| failed("opening", &path, &error))?;
        Ok(SegmentFile { file, path })
    }
}

fn number_of(path: &Path) -> Option<u32> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    // No name of ours: the next number would not be one.
    (number <= LAST_NUMBER).then_some(number)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::from_io(&format!("{doing} {}", path.display()), error)
}

/// Makes names in the directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| failed("syncing", path, &error))
}

/// Writes and reads one block with `O_DIRECT`: some filesystems refuse it at the open, some only at the write.
fn probe(folder: &Path) -> Result<SegmentAccess, StoreError> {
    let path = folder.join(PROBE);
    let tried = probe_file(&path);
    let removed = fs::remove_file(&path);
    match (tried, removed) {
        (Err(error), _) if is_refusal(&error) => {
            tracing::warn!(
                folder = %folder.display(),
                "the filesystem refuses O_DIRECT: large values are written through the page cache, which costs more"
            );
            Ok(SegmentAccess::Buffered)
        }
        (Err(error), _) | (Ok(()), Err(error)) => Err(failed("probing", &path, &error)),
        (Ok(()), Ok(())) => {
            tracing::debug!(folder = %folder.display(), "large values are written with O_DIRECT");
            Ok(SegmentAccess::Direct)
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

fn probe_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut block = AlignedBuffer::zeroed(BLOCK);
    file.write_all_at(block.as_ref(), 0)?;
    file.read_exact_at(block.bytes_mut(), 0)
}

/// Goes on after a write that was cut short: from the last whole block, since what is written past the page cache must begin at
/// one. Where not even one block was taken the disk has none left, or is broken.
fn write_blocks(blocks: &[u8], offset: u64, mut write: impl FnMut(&[u8], u64) -> io::Result<usize>) -> io::Result<()> {
    let mut done = 0;
    while done < blocks.len() {
        match write(&blocks[done..], offset + done as u64) {
            Ok(taken) if taken >= blocks.len() - done => return Ok(()),
            Ok(taken) if taken >= BLOCK => done += taken - taken % BLOCK,
            Ok(_) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One open segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: File,
    path: PathBuf,
}

impl SegmentFile {
    /// Reserves space, so that a write into it needs none; sets the length where the filesystem cannot reserve.
    fn reserve(&self, capacity: u64) -> Result<(), StoreError> {
        let reserved =
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, capacity));
        match reserved {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.set_length(capacity),
            Err(error) => Err(failed("reserving space for", &self.path, &error.into())),
            Ok(()) => Ok(()),
        }
    }

    pub(crate) fn set_length(&self, length: u64) -> Result<(), StoreError> {
        self.file.set_len(length).map_err(|error| failed("setting the length of", &self.path, &error))
    }

    pub(crate) fn length(&self) -> Result<u64, StoreError> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn metadata(&self) -> Result<fs::Metadata, StoreError> {
        self.file.metadata().map_err(|error| failed("looking at", &self.path, &error))
    }

    /// Writes whole blocks of an aligned buffer at a block boundary.
    pub(crate) fn write(&self, blocks: &[u8], offset: u64) -> Result<(), StoreError> {
        write_blocks(blocks, offset, |part, at| self.file.write_at(part, at))
            .map_err(|error| failed("writing", &self.path, &error))
    }

    /// Reads the whole blocks around `length` bytes at `offset`; `None` where the file is too short. The second number is
    /// where the bytes asked for begin.
    pub(crate) fn read_around(&self, offset: u64, length: u64) -> Result<Option<(AlignedBuffer, usize)>, StoreError> {
        let Some(end) = offset.checked_add(length) else { return Ok(None) };
        if end > self.length()? {
            return Ok(None);
        }
        let start = offset - offset % BLOCK as u64;
        let blocks = (end - start).next_multiple_of(BLOCK as u64);
        let mut buffer = AlignedBuffer::zeroed(blocks as usize);
        let wanted = (end - start) as usize;
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut buffer.bytes_mut()[filled..], start + filled as u64) {
                Ok(0) => return Ok(None),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("reading", &self.path, &error)),
            }
        }
        Ok(Some((buffer, (offset - start) as usize)))
    }

    /// Returns when everything written before is on disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| failed("syncing", &self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_cut_short_goes_on_at_a_block() {
        let mut calls = Vec::new();
        let mut short = [BLOCK + 512, 2 * BLOCK].into_iter();
        let written = write_blocks(&[7; 4 * BLOCK], 8192, |part, at| {
            calls.push((part.len(), at));
            Ok(short.next().unwrap_or(part.len()))
        });
        assert!(written.is_ok());
        let block = BLOCK as u64;
        assert_eq!(calls, [(4 * BLOCK, 8192), (3 * BLOCK, 8192 + block), (BLOCK, 8192 + 3 * block)]);
        let stuck = write_blocks(&[7; BLOCK], 0, |_, _| Ok(512));
        assert_eq!(stuck.map_err(|error| error.kind()), Err(ErrorKind::WriteZero));
    }

    #[test]
    fn a_file_with_a_number_that_nothing_could_follow_is_not_ours() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let segments = SegmentFolder::open(folder.path(), true).expect("a folder");
        for name in ["4294967295", "4294967294", "99999999999", "-1"] {
            fs::write(segments.path().join(name).with_extension(EXTENSION), b"planted").expect("a file");
        }
        assert_eq!(segments.list(), Ok(vec![(u32::MAX - 1, 7)]));
    }

    #[test]
    fn a_new_file_has_its_space_and_its_number() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let segments = SegmentFolder::open(folder.path(), true).expect("a folder");
        segments.create(7, 1 << 20).expect("a file");
        assert_eq!(segments.list(), Ok(vec![(7, 1 << 20)]), "the probe is gone");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!((mode(segments.path()), mode(&segments.path_of(7))), (0o700, 0o600));
        segments.remove(7).expect("a removal");
        segments.remove(7).expect("what is gone stays gone");
        assert_eq!(segments.list(), Ok(vec![]));
    }

    #[test]
    fn both_ways_of_access_read_what_was_written_at_odd_places() {
        for direct in [true, false] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let segments = SegmentFolder::open(folder.path(), direct).expect("a folder");
            let file = segments.create(1, 1 << 20).expect("a file");
            let mut buffer = AlignedBuffer::zeroed(2 * BLOCK);
            buffer.bytes_mut()[4000..5000].fill(9);
            file.write(buffer.as_ref(), BLOCK as u64).expect("a write");
            file.sync().expect("a sync");
            let (found, start) = file.read_around(BLOCK as u64 + 3999, 1002).expect("a read").expect("long enough");
            assert_eq!(found.as_ref()[start], 0);
            assert!(found.as_ref()[start + 1..start + 1001].iter().all(|byte| *byte == 9));
            assert_eq!(found.as_ref()[start + 1001], 0);
            assert!(file.read_around((1 << 20) - 10, 11).expect("a read").is_none(), "past the end");
            assert!(file.read_around(u64::MAX, 11).expect("a read").is_none());
        }
    }
}
