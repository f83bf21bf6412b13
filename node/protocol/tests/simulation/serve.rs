//! What an honest node does with a message of a peer.

use bytes::Bytes;
use rorqual_config::AuthorityIndex;
use rorqual_protocol::Input;
use rorqual_protocol::certificate::check::VerifiedRange;
use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex, VerifiedBlock};

use super::daemon::Daemon;
use super::disk::Disk;
use super::event::Event;
use super::message::{Message, Served};
use super::outside::Outside;
use super::requests::Request;

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
            Message::FetchBlocks { id, refs } => {
                let answer = serve_blocks(id, &refs, disk);
                out.send(self.me, sender, answer);
            }
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
            Message::Tip(tip) => self.step(Input::PeerTip { peer: sender, tip }, disk, out),
            Message::Batch(key) => self.take_payload(key, disk, out),
            Message::FetchBatch(key) => {
                if disk.has_payload(&key) {
                    out.send(self.me, sender, Message::Batch(key));
                }
            }
            Message::FetchCommits { id, from, to } => {
                let answer = Message::Commits { id, served: serve_commits(from, to, disk) };
                out.send(self.me, sender, answer);
            }
            Message::Commits { id, served } => self.take_commits(sender, id, served, disk, out),
        }
    }

    fn blocks(&mut self, sender: AuthorityIndex, blocks: Vec<VerifiedBlock>, disk: &mut Disk, out: &mut Outside) {
        for block in blocks {
            self.step(Input::Block { sender, block }, disk, out);
        }
    }

    fn take_payload(&mut self, key: BatchKey, disk: &mut Disk, out: &mut Outside) {
        // A key without content is what a liar sends: digest and content would not match.
        let Some(batch) = out.oracle.batch(&key) else { return };
        if let Some(at) = disk.store(out.now, key, batch, &mut out.random) {
            out.schedule(at, Event::Stored { node: self.me, life: self.life, key });
        }
    }

    fn take_commits(&mut self, sender: AuthorityIndex, id: u64, served: Served, disk: &mut Disk, out: &mut Outside) {
        let Some(Request::Commits { from, .. }) = self.requests.close(id) else { return };
        let input = match served {
            Ok(answer) => {
                let (commits, certificate, blocks) = *answer;
                match VerifiedRange::verify(commits, certificate, blocks, &out.committee) {
                    Ok(range) => Input::CertifiedCommits { sender, range },
                    Err(error) => {
                        assert!(out.oracle.is_byzantine(sender), "honest {sender:?} serves a bad range: {error}");
                        Input::CommitsUnavailable { peer: sender, from, first_index: None }
                    }
                }
            }
            Err(first_index) => Input::CommitsUnavailable { peer: sender, from, first_index },
        };
        self.step(input, disk, out);
    }
}

fn serve_blocks(id: u64, refs: &[BlockRef], disk: &Disk) -> Message {
    let blocks = refs.iter().filter_map(|r| disk.block(r)).cloned().collect();
    let unknown = refs.iter().filter(|r| disk.block(r).is_none()).copied().collect();
    Message::Blocks { id, blocks, unknown }
}

fn serve_commits(from: CommitIndex, to: CommitIndex, disk: &Disk) -> Served {
    let certificate = disk.certificate(from..=to).ok_or(None)?;
    let deliveries = disk.commits(from..=certificate.index());
    if deliveries.len() as u64 != certificate.index().0 - from.0 + 1 {
        return Err(None);
    }
    let commits: Vec<_> = deliveries.iter().map(|d| d.commit.clone()).collect();
    let refs = commits.iter().flat_map(|c| &c.blocks);
    let blocks: Option<Vec<Bytes>> = refs.map(|r| disk.block(r).map(|b| b.bytes().clone())).collect();
    let blocks = blocks.ok_or(None)?;
    Ok(Box::new((commits, (*certificate).clone(), blocks)))
}
