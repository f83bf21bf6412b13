//! What an honest node does with a message of a peer.

use rorqual_config::AuthorityIndex;
use rorqual_protocol::Input;
use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex, VerifiedBlock};

use super::daemon::Daemon;
use super::disk::{Disk, Record};
use super::event::Event;
use super::message::{Message, Served};
use super::outside::Outside;

impl Daemon {
    pub fn receive(&mut self, sender: AuthorityIndex, message: Message, disk: &mut Disk, out: &mut Outside) {
        match message {
            Message::Own(block) => {
                if block.author() == sender {
                    self.unasked(sender, vec![block], disk, out);
                }
            }
            Message::History(blocks) => self.unasked(sender, blocks, disk, out),
            Message::Subscribe(from_round) => self.step(Input::Subscribed { peer: sender, from_round }, disk, out),
            Message::Blocks { id, blocks, unknown } => {
                if self.requests.close(id).is_none() {
                    return;
                }
                self.blocks(sender, blocks, disk, out);
                if !unknown.is_empty() {
                    self.step(Input::BlocksUnavailable { peer: sender, refs: unknown }, disk, out);
                }
            }
            Message::TipQuery { id } => self.step(Input::TipQueried { peer: sender, request: id }, disk, out),
            Message::Tip(tip) => {
                if tip.own.iter().chain(&tip.yours).all(|block| takes(sender, block, out)) {
                    self.step(Input::PeerTip { peer: sender, tip }, disk, out);
                }
            }
            Message::Batch(key) => self.take_payload(sender, key, disk, out),
            Message::Commits { id, served } => self.take_commits(sender, id, served, disk, out),
            Message::RangeBlocks { id, blocks } => self.take_range_blocks(sender, id, blocks, disk, out),
            question @ (Message::FetchBlocks { .. }
            | Message::FetchBatch(_)
            | Message::FetchCommits { .. }
            | Message::FetchRangeBlocks { .. }) => self.server.answer(self.me, sender, question, disk, out),
        }
    }

    fn blocks(&mut self, sender: AuthorityIndex, blocks: Vec<VerifiedBlock>, disk: &mut Disk, out: &mut Outside) {
        for block in blocks {
            if takes(sender, &block, out) {
                self.step(Input::Block { sender, block }, disk, out);
            }
        }
    }

    fn take_payload(&mut self, sender: AuthorityIndex, key: BatchKey, disk: &mut Disk, out: &mut Outside) {
        // A key without content is what a liar sends: digest and content would not match.
        let Some(batch) = out.oracle.batch(&key) else { return };
        let asked = self.waits.is_waiting(&key);
        if disk.has_payload(&key) || !asked && !self.stock.admits(sender, &key, batch.bytes) {
            return;
        }
        let gone = self.stock.add(&key, batch.bytes, asked);
        if !gone.is_empty() {
            disk.append(out.now, Record::Drop(gone), &mut out.random);
        }
        if let Some(at) = disk.store(out.now, key, batch, &mut out.random) {
            out.schedule(at, Event::Stored { node: self.me, life: self.life, key });
            out.oracle.fills(self.me, key.author, disk.undelivered_bytes(key.author));
        }
    }
}

/// The honest answer to a request; none where there is nothing to say.
pub fn answer(question: &Message, disk: &Disk) -> Option<Message> {
    match question {
        Message::FetchBlocks { id, refs } => Some(blocks(*id, refs, disk)),
        Message::FetchBatch(key) => disk.has_payload(key).then_some(Message::Batch(*key)),
        Message::FetchCommits { id, from, to } => Some(Message::Commits { id: *id, served: commits(*from, *to, disk) }),
        Message::FetchRangeBlocks { id, refs } => {
            let blocks = refs.iter().map_while(|r| disk.block(r)).map(|block| block.bytes().clone()).collect();
            Some(Message::RangeBlocks { id: *id, blocks })
        }
        _ => None,
    }
}

/// Whether the router lets this block of a message through to the core.
pub fn takes(sender: AuthorityIndex, block: &VerifiedBlock, out: &mut Outside) -> bool {
    let valid = out.verifier.accepts(block);
    assert!(valid || out.oracle.is_byzantine(sender), "honest {sender:?} sends {block:?}, which is not valid");
    valid
}

fn blocks(id: u64, refs: &[BlockRef], disk: &Disk) -> Message {
    let blocks = refs.iter().filter_map(|r| disk.block(r)).cloned().collect();
    let unknown = refs.iter().filter(|r| disk.block(r).is_none()).copied().collect();
    Message::Blocks { id, blocks, unknown }
}

/// Records up to the highest certificate in the range, else to the next one.
pub fn commits(from: CommitIndex, to: CommitIndex, disk: &Disk) -> Served {
    let certificate = disk.certificate(from..=to).ok_or(None)?;
    let deliveries = disk.commits(from..=certificate.index());
    if deliveries.len() as u64 != certificate.index().0 - from.0 + 1 {
        return Err(None);
    }
    let commits: Vec<_> = deliveries.iter().map(|d| d.commit.clone()).collect();
    Ok(Box::new((commits, (*certificate).clone())))
}
