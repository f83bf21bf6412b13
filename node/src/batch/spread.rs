//! Spreads an own batch to every peer, in chunks on the bulk stream, and says when its bytes were handed to the kernel.
//!
//! Best effort: a batch that does not fit one peer's queue, or whose link is down, is skipped there; that peer fetches it when
//! a block names it. So a dead peer blocks nobody.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Frame, Handed, Lane, Links};
use rorqual_protocol::Input;
use rorqual_protocol::types::{BatchKey, Sequence};
use tokio::sync::mpsc;

use crate::peers::message::{CHUNK_BYTES, Message};

/// The frames of a batch, in order; the payload is shared, not copied.
pub fn chunks(key: BatchKey, content: &Bytes) -> impl Iterator<Item = Frame> + '_ {
    let total = content.len() as u32;
    (0..content.len()).step_by(CHUNK_BYTES).map(move |offset| {
        let end = content.len().min(offset.saturating_add(CHUNK_BYTES));
        Message::BatchChunk { key, total, offset: offset as u32 }.with_tail(content.slice(offset..end))
    })
}

/// Sends own batches and reports to consensus.
pub struct Spreader {
    /// All links.
    pub links: Links,
    /// For stake and peers.
    pub committee: Arc<Committee>,
    /// Ourselves.
    pub me: AuthorityIndex,
    /// Gets `BatchHandedToKernel`.
    pub consensus: mpsc::Sender<Input>,
}

impl Spreader {
    fn peers(&self) -> impl Iterator<Item = AuthorityIndex> + use<> {
        let me = self.me;
        self.committee.authorities().filter(move |peer| *peer != me)
    }

    /// Whether peers that with us hold a quorum are connected and have room for `bytes` more, or nobody could have.
    pub fn has_room(&self, bytes: usize) -> bool {
        let with_room: AuthoritySet =
            self.peers().filter(|p| self.links.is_connected(*p) && self.links.room(*p, Lane::Own) >= bytes).collect();
        let connected: AuthoritySet = self.peers().filter(|p| self.links.is_connected(*p)).collect();
        let with_us = |mut set: AuthoritySet| {
            set.insert(self.me);
            self.committee.is_quorum(&set)
        };
        // Without a connected quorum nothing is committed anyway: sealing is then bounded by the sequence limit alone.
        with_us(with_room) || !with_us(connected)
    }

    /// Queues the batch for every peer that has room, and reports each hand-over to the kernel from a task of its own.
    pub fn spread(&self, key: BatchKey, content: &Bytes) {
        let mut handed = FuturesUnordered::new();
        for peer in self.peers() {
            if self.links.room(peer, Lane::Own) < content.len() {
                continue;
            }
            if let Some(last) = self.send(peer, key, content) {
                handed.push(async move { last.await.is_ok().then_some(peer) });
            }
        }
        let consensus = self.consensus.clone();
        let mut rest: AuthoritySet = self.peers().collect();
        tokio::spawn(async move {
            while let Some(peer) = handed.next().await {
                let Some(peer) = peer else { continue };
                rest.remove(peer);
                if consensus.send(hand_over(key.sequence, peer)).await.is_err() {
                    return;
                }
            }
            // Skipped there, or the link broke: nothing of it waits in a queue of ours, which is what the rule is about, and
            // those peers fetch it. Without this a batch sealed while peers were away would never be named.
            for peer in rest.iter() {
                let _ = consensus.send(hand_over(key.sequence, peer)).await;
            }
        });
    }

    fn send(&self, peer: AuthorityIndex, key: BatchKey, content: &Bytes) -> Option<Handed> {
        let mut frames = chunks(key, content).peekable();
        while let Some(frame) = frames.next() {
            if frames.peek().is_none() {
                return self.links.send_tracked(peer, Lane::Own, frame).ok();
            }
            self.links.send(peer, Lane::Own, frame).ok()?;
        }
        None
    }
}

fn hand_over(sequence: Sequence, peer: AuthorityIndex) -> Input {
    Input::BatchHandedToKernel { sequence, peer }
}

#[cfg(test)]
mod tests {
    use rorqual_config::Digest;

    use super::*;
    use crate::batch::chunks::Chunks;

    #[test]
    fn a_batch_survives_being_cut_into_chunks() {
        let key = BatchKey { author: AuthorityIndex(1), sequence: Sequence(2), digest: Digest([3; 32]) };
        for length in [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
            let content: Bytes = (0..length).map(|i| i as u8).collect::<Vec<u8>>().into();
            let mut together = Chunks::new(1 << 20);
            let mut whole = None;
            for frame in chunks(key, &content) {
                let bytes: Bytes = [&frame.header[..], &frame.tail[..]].concat().into();
                let (message, tail) = Message::read(&bytes).unwrap();
                let Message::BatchChunk { key, total, offset } = message else { panic!("{message:?}") };
                whole = together.add(key, total, offset, tail).unwrap();
            }
            assert_eq!(whole, Some(content));
        }
    }
}
