//! Full buffers on their way into segment files: a thread of its own writes them while the next one is filled.
//!
//! To hash and copy a value takes the processor about as long as it takes the disk to write it, and neither has to wait
//! for the other. Nobody depends on the thread: the writer that finds no free buffer, or waits for the rest, writes what
//! is queued itself.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::buffer::AlignedBuffer;
use super::file::SegmentFile;
use crate::error::StoreError;

/// Payload is copied once, into a buffer of this many bytes, and written from there. Disks write smaller pieces slower.
pub(crate) const BUFFER: usize = 1 << 20;

/// Buffers beside the one that is being filled: one that is being written, and one ready to follow it.
const SPARE_BUFFERS: usize = 2;

/// Whole blocks of a buffer and where they go.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) bytes: usize,
    pub(crate) offset: u64,
}

#[derive(Debug, Default)]
struct State {
    queued: VecDeque<Piece>,
    free: Vec<AlignedBuffer>,
    /// Buffers in here: free, queued or being written.
    buffers: usize,
    writing: usize,
    /// The first write that failed; the store ends with it.
    failed: Option<StoreError>,
    closed: bool,
}

/// What is full and not written yet.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    arrived: Condvar,
    written: Condvar,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is queued or being written.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queued.is_empty() && state.writing == 0
    }

    /// Takes a full buffer and gives an empty one for it. A failure to write it is told by [`Pipe::settle`].
    pub(crate) fn exchange(&self, full: Piece) -> AlignedBuffer {
        let mut state = self.lock();
        state.buffers += 1;
        state.queued.push_back(full);
        self.arrived.notify_one();
        loop {
            if let Some(free) = state.free.pop() {
                state.buffers -= 1;
                return free;
            }
            if state.buffers <= SPARE_BUFFERS {
                drop(state);
                return AlignedBuffer::zeroed(BUFFER);
            }
            state = self.advance(state);
        }
    }

    /// Returns when everything is written, or with the first failure.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        while !state.queued.is_empty() || state.writing > 0 {
            state = self.advance(state);
        }
        state.failed.clone().map_or(Ok(()), Err)
    }

    /// Writes a queued piece on this thread; waits for another thread's if there is none.
    fn advance<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match state.queued.pop_front() {
            Some(piece) => {
                state.writing += 1;
                drop(state);
                self.write(piece);
                self.lock()
            }
            None => self.written.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Does not panic, or the writer would wait for ever: a piece is no longer than its buffer.
    fn write(&self, piece: Piece) {
        let result = piece.file.write(&piece.buffer.as_ref()[..piece.bytes], piece.offset);
        let mut state = self.lock();
        state.writing -= 1;
        state.free.push(piece.buffer);
        if let (Err(error), None) = (result, &state.failed) {
            state.failed = Some(error);
        }
        drop(state);
        self.written.notify_one();
    }

    /// The life of the thread that writes; ends when told to.
    pub(crate) fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(piece) = state.queued.pop_front() {
                state.writing += 1;
                drop(state);
                self.write(piece);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Tells the thread to end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::buffer::BLOCK;
    use super::super::file::SegmentFolder;
    use super::*;

    const PIECES: u64 = 40;

    fn piece(file: &Arc<SegmentFile>, mut buffer: AlignedBuffer, number: u64) -> Piece {
        buffer.bytes_mut()[..BLOCK].fill(number as u8 + 1);
        Piece { file: Arc::clone(file), buffer, bytes: BLOCK, offset: number * BLOCK as u64 }
    }

    fn send_all(pipe: &Pipe, file: &Arc<SegmentFile>) {
        let mut buffer = AlignedBuffer::zeroed(BUFFER);
        for number in 0..PIECES {
            buffer = pipe.exchange(piece(file, buffer, number));
        }
    }

    fn check(file: &SegmentFile) {
        for number in 0..PIECES {
            let found = file.read_around(number * BLOCK as u64, BLOCK as u64).expect("a read").expect("long enough");
            assert!(found.0.as_ref()[..BLOCK].iter().all(|byte| *byte == number as u8 + 1), "piece {number}");
        }
    }

    fn scratch() -> (tempfile::TempDir, SegmentFolder) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let segments = SegmentFolder::open(folder.path(), true).expect("a folder");
        (folder, segments)
    }

    #[test]
    fn everything_is_written_with_and_without_a_thread() {
        for threads in [0, 1] {
            let (_folder, segments) = scratch();
            let file = Arc::new(segments.create(1, 1 << 20).expect("a file"));
            let pipe = Pipe::default();
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| pipe.run());
                }
                send_all(&pipe, &file);
                pipe.settle().expect("all is written");
                assert!(pipe.is_idle());
                check(&file);
                pipe.close();
            });
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let (_folder, segments) = scratch();
        let file = Arc::new(segments.create(1, 1 << 20).expect("a file"));
        let pipe = Pipe::default();
        send_all(&pipe, &file);
        pipe.settle().expect("all is written");
        let state = pipe.lock();
        assert_eq!((state.free.len(), state.buffers), (SPARE_BUFFERS, SPARE_BUFFERS));
    }

    #[test]
    fn a_write_that_failed_is_told_and_not_forgotten() {
        let (_folder, segments) = scratch();
        drop(segments.create(1, 1 << 20).expect("a file"));
        let read_only = segments.open_existing(1, false).expect("it opens").expect("it exists");
        let pipe = Pipe::default();
        send_all(&pipe, &Arc::new(read_only));
        for _ in 0..2 {
            let told = pipe.settle().expect_err("the file cannot be written");
            assert!(told.to_string().contains("00000001.segment"), "{told}");
        }
    }
}
