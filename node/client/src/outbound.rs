//! Frames on their way to one node: whoever has one adds it, one task writes all there are with one call.
//!
//! Bounded by credit (submissions) and by the number of open questions (everything else): it has no limit of its own.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rorqual_network::frame::FrameBatch;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long the last frames of a closed connection may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Outbound {
    frames: Mutex<FrameBatch>,
    wake: Notify,
}

impl Outbound {
    /// Adds a frame.
    pub fn push(&self, parts: [Bytes; 2]) {
        let was_empty = {
            let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            let was_empty = frames.is_empty();
            frames.push(&[], parts);
            was_empty
        };
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Exchanges what waits for `empty`.
    fn swap(&self, empty: &mut FrameBatch) {
        std::mem::swap(empty, &mut self.frames.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes frames until `closed` is cancelled, then what is left, then ends the stream.
    pub async fn write(&self, mut stream: impl AsyncWrite + Unpin, closed: CancellationToken) -> io::Result<()> {
        let mut batch = FrameBatch::default();
        loop {
            self.swap(&mut batch);
            if !batch.is_empty() {
                tokio::select! {
                    written = batch.write_to(&mut stream) => written?,
                    () = expired(&closed) => return Ok(()),
                }
                continue;
            }
            if closed.is_cancelled() {
                return tokio::time::timeout(LAST_WORDS, stream.shutdown()).await.unwrap_or(Ok(()));
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = closed.cancelled() => {}
            }
        }
    }
}

/// Resolves some time after `closed` is cancelled.
async fn expired(closed: &CancellationToken) {
    closed.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}
