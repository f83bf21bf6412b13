//! Length-delimited frames over any stream: four bytes of length, little-endian, then as many bytes of content.
//!
//! Promises: the length is checked before anything is allocated for it; unless told otherwise, memory grows with what was
//! received and not with what was announced; a received frame is a [`Bytes`] with an allocation of its own, written once;
//! nothing is copied on the way out (vectored writes).

use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::unfinished::Share;

/// Bytes in front of every frame.
pub const LENGTH_BYTES: usize = 4;

/// Small frames are taken from a buffer of this size; the rest of a larger one goes directly where it belongs.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// First allocation for a frame whose announced length is not trusted.
pub const FIRST_ALLOCATION_BYTES: usize = 4 << 10;

/// Slices in one vectored write.
const MAX_SLICES: usize = 64;

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed between two frames.
    #[error("closed by the other side")]
    Closed,
    /// The other side closed within a frame.
    #[error("closed by the other side within a frame")]
    Truncated,
    /// The announced length is above the limit. Nothing of the frame was read.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    Oversized {
        /// Announced, in bytes.
        length: usize,
        /// Allowed, in bytes.
        limit: usize,
    },
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Reads frames. After an error it must not be used again.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: BufReader<R>,
    limit: usize,
    trust_length: bool,
    length: [u8; LENGTH_BYTES],
    length_read: usize,
    body: BytesMut,
    /// Content bytes of the frame under way, once its length was read and checked.
    want: Option<usize>,
    received: u64,
    /// Counts the frame under way, from its second allocation on.
    share: Option<Share>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses frames with more than `limit` bytes of content.
    pub fn new(inner: R, limit: usize) -> Self {
        Self {
            inner: BufReader::with_capacity(READ_BUFFER_BYTES, inner),
            limit,
            trust_length: false,
            length: [0; LENGTH_BYTES],
            length_read: 0,
            body: BytesMut::new(),
            want: None,
            received: 0,
            share: None,
        }
    }

    /// From the next frame on, memory for a frame under way beyond its first allocation is taken from this share. Whoever sets it
    /// minds [`Share::evicted`].
    pub fn set_share(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Gives up the frame under way and its memory. Only [`Self::discard`] is of use afterwards.
    pub fn forget(&mut self) {
        self.body = BytesMut::new();
        self.share = None;
    }

    /// Reads to the end of the stream without keeping anything.
    pub async fn discard(&mut self) {
        self.forget();
        let mut scratch = [0; 1 << 10];
        while matches!(self.inner.read(&mut scratch).await, Ok(read) if read > 0) {}
    }

    /// Changes the limit from the next frame on. With `trust_length`, a frame is allocated at its announced length (below the limit)
    /// at once: right for authenticated peers, where it saves copies.
    pub fn set_limit(&mut self, limit: usize, trust_length: bool) {
        self.limit = limit;
        self.trust_length = trust_length;
    }

    /// Bytes received so far, including those of an unfinished frame: a sign of life.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next frame's content. Dropping the future loses nothing: the next call goes on where it stopped.
    ///
    /// # Errors
    /// [`FrameError`]; there is nothing more to read then.
    pub async fn next(&mut self) -> Result<Bytes, FrameError> {
        let want = match self.want {
            Some(want) => want,
            None => self.next_length().await?,
        };
        while self.body.len() < want {
            let missing = want - self.body.len();
            if self.body.capacity() == self.body.len() {
                self.grow(missing).await;
            }
            let read = (&mut self.inner).take(missing as u64).read_buf(&mut self.body).await?;
            if read == 0 {
                return Err(FrameError::Truncated);
            }
            self.received += read as u64;
        }
        self.want = None;
        self.length_read = 0;
        if let Some(share) = &mut self.share {
            share.release();
        }
        Ok(std::mem::take(&mut self.body).freeze())
    }

    /// Room for as much again as has come, and never for more than is missing.
    async fn grow(&mut self, missing: usize) {
        let capacity = self.body.len() + missing.min(self.body.len().max(FIRST_ALLOCATION_BYTES));
        if let Some(share) = &mut self.share {
            share.hold(capacity).await;
        }
        // Growing in place could take up to twice as much as was counted.
        let mut grown = BytesMut::with_capacity(capacity);
        grown.extend_from_slice(&self.body);
        self.body = grown;
    }

    async fn next_length(&mut self) -> Result<usize, FrameError> {
        while self.length_read < LENGTH_BYTES {
            match self.inner.read(&mut self.length[self.length_read..]).await? {
                0 if self.length_read == 0 => return Err(FrameError::Closed),
                0 => return Err(FrameError::Truncated),
                read => {
                    self.length_read += read;
                    self.received += read as u64;
                }
            }
        }
        // A length that does not fit is above any limit.
        let length = usize::try_from(u32::from_le_bytes(self.length)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::Oversized { length, limit: self.limit });
        }
        let first = if self.trust_length { length } else { length.min(FIRST_ALLOCATION_BYTES) };
        self.body = BytesMut::with_capacity(first);
        self.want = Some(length);
        Ok(length)
    }
}

/// Frames to be written together, by reference.
#[derive(Debug, Default)]
pub struct FrameBatch {
    slices: Vec<Bytes>,
    prefixes: BytesMut,
    bytes: usize,
    frames: usize,
}

impl FrameBatch {
    /// Adds a frame that consists of `envelope`, which is copied and meant to be a few bytes, and `parts`, which are not.
    ///
    /// # Panics
    /// If the frame is larger than the length field can tell (4 GiB): callers bound their frames.
    pub fn push(&mut self, envelope: &[u8], parts: [Bytes; 2]) {
        let length = envelope.len() + parts[0].len() + parts[1].len();
        let announced = u32::try_from(length).expect("callers bound their frames far below 4 GiB");
        self.prefixes.put_u32_le(announced);
        self.prefixes.put_slice(envelope);
        self.slices.push(self.prefixes.split().freeze());
        self.slices.extend(parts.into_iter().filter(|part| !part.is_empty()));
        self.bytes += LENGTH_BYTES + length;
        self.frames += 1;
    }

    /// Bytes to write, lengths included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames to write.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Writes all frames and forgets them. Does not flush. Dropping the future leaves a torn frame on the stream.
    ///
    /// # Errors
    /// What the stream said; the stream is of no use then.
    pub async fn write_to<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> std::io::Result<()> {
        let mut done = 0;
        let mut offset = 0;
        while done < self.slices.len() {
            let mut written = {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let waiting = &self.slices[done..];
                for (slot, slice) in slices.iter_mut().zip(waiting) {
                    *slot = IoSlice::new(slice);
                }
                slices[0] = IoSlice::new(&waiting[0][offset..]);
                writer.write_vectored(&slices[..waiting.len().min(MAX_SLICES)]).await?
            };
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            while done < self.slices.len() && written >= self.slices[done].len() - offset {
                written -= self.slices[done].len() - offset;
                offset = 0;
                done += 1;
            }
            offset += written;
        }
        self.slices.clear();
        self.bytes = 0;
        self.frames = 0;
        Ok(())
    }
}

/// Writes one frame and flushes. For links with little traffic; a busy one uses [`FrameBatch`].
///
/// # Errors
/// What the stream said.
pub async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, content: Bytes) -> std::io::Result<()> {
    let mut batch = FrameBatch::default();
    batch.push(&[], [content, Bytes::new()]);
    batch.write_to(writer).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    /// Gives its bytes in pieces of the given sizes.
    struct Pieces(Vec<u8>, Vec<usize>, usize);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let piece = self.1[self.2 % self.1.len()].min(self.0.len()).min(buf.remaining());
            self.2 += 1;
            buf.put_slice(&self.0[..piece]);
            self.0.drain(..piece);
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn an_announced_length_above_the_limit_is_refused_before_anything_is_allocated() {
        runtime().block_on(async {
            let bytes = u32::MAX.to_le_bytes();
            let mut reader = FrameReader::new(&bytes[..], 1 << 20);
            let error = reader.next().await.unwrap_err();
            assert!(matches!(error, FrameError::Oversized { length: 0xffff_ffff, limit: 0x10_0000 }));
            assert_eq!(reader.body.capacity(), 0);
        });
    }

    #[test]
    fn memory_grows_with_received_bytes_and_not_with_announced_ones() {
        runtime().block_on(async {
            let mut bytes = (1u32 << 20).to_le_bytes().to_vec();
            bytes.extend([7; 100]);
            let mut reader = FrameReader::new(&bytes[..], 1 << 20);
            assert!(matches!(reader.next().await, Err(FrameError::Truncated)));
            assert!(reader.body.capacity() <= FIRST_ALLOCATION_BYTES);
        });
    }

    #[test]
    fn a_frame_survives_cancelled_reads() {
        runtime().block_on(async {
            let (mut near, far) = tokio::io::duplex(16);
            let mut reader = FrameReader::new(far, 1 << 20);
            let writing = tokio::spawn(async move {
                for byte in 5u32.to_le_bytes().iter().chain(b"hello") {
                    near.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                near
            });
            let frame = loop {
                tokio::select! {
                    biased;
                    frame = reader.next() => break frame.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(&frame[..], b"hello");
            drop(writing.await.unwrap());
            assert!(matches!(reader.next().await, Err(FrameError::Closed)));
        });
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_the_stream_cuts_it(
            frames in proptest::collection::vec((0usize..20_000, any::<u8>(), 0usize..9), 0..12),
            pieces in proptest::collection::vec(1usize..9_000, 1..8),
            trust in any::<bool>(),
        ) {
            let frames: Vec<(Vec<u8>, Bytes, Bytes)> = frames.into_iter()
                .map(|(tail, byte, head)| (vec![byte; head], Bytes::from(vec![!byte; head * 3]), Bytes::from(vec![byte; tail])))
                .collect();
            runtime().block_on(async {
                let mut batch = FrameBatch::default();
                for (envelope, header, tail) in &frames {
                    batch.push(envelope, [header.clone(), tail.clone()]);
                }
                let mut wire = std::io::Cursor::new(Vec::new());
                batch.write_to(&mut wire).await.unwrap();
                let mut reader = FrameReader::new(Pieces(wire.into_inner(), pieces, 0), 1 << 16);
                reader.set_limit(1 << 16, trust);
                for (envelope, header, tail) in &frames {
                    let expected = [&envelope[..], header, tail].concat();
                    assert_eq!(&reader.next().await.unwrap()[..], &expected[..]);
                }
                assert!(matches!(reader.next().await, Err(FrameError::Closed)));
            });
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_the_limit(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..4_000),
            limit in 0usize..300,
        ) {
            runtime().block_on(async {
                let mut reader = FrameReader::new(Pieces(bytes, vec![3, 1, 700], 0), limit);
                while let Ok(frame) = reader.next().await {
                    assert!(frame.len() <= limit);
                }
            });
        }
    }
}
