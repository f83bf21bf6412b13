//! Fetching a range as the daemon does: first the records, then their blocks by reference, a part at a time.

use bytes::Bytes;
use rorqual_config::AuthorityIndex;
use rorqual_protocol::Input;
use rorqual_protocol::certificate::check::VerifiedRange;
use rorqual_protocol::types::{BlockRef, CommitIndex};

use super::daemon::Daemon;
use super::disk::Disk;
use super::message::{Message, Records, Served};
use super::outside::Outside;
use super::requests::Request;

/// Blocks in one request.
const PART: usize = 32;

/// A range under way.
pub struct Range {
    pub peer: AuthorityIndex,
    pub from: CommitIndex,
    records: Option<Records>,
    blocks: Vec<Bytes>,
    /// What has come of it.
    bytes: u64,
}

impl Range {
    fn wanted(&self) -> Vec<BlockRef> {
        let commits = self.records.iter().flat_map(|(commits, _)| commits);
        let refs = commits.flat_map(|commit| commit.blocks.iter().copied());
        refs.skip(self.blocks.len()).take(PART).collect()
    }
}

impl Daemon {
    pub(super) fn fetch_commits(
        &mut self,
        peer: AuthorityIndex,
        from: CommitIndex,
        to: CommitIndex,
        out: &mut Outside,
    ) {
        let range = Range { peer, from, records: None, blocks: Vec::new(), bytes: 0 };
        // No deadline of its own: the core knows how long a range may take.
        let id = self.requests.open(Request::Commits(range));
        self.request(peer, id, Message::FetchCommits { id, from, to }, out);
    }

    pub(super) fn take_commits(
        &mut self,
        sender: AuthorityIndex,
        id: u64,
        served: Served,
        disk: &mut Disk,
        out: &mut Outside,
    ) {
        let Some(mut range) = self.requests.close_range(id, sender) else { return };
        let records = match served {
            Ok(records) if range.records.is_none() => *records,
            Ok(_) => return self.range_failed(&range, None, disk, out),
            Err(first_index) => return self.range_failed(&range, first_index, disk, out),
        };
        if let Err(error) = VerifiedRange::verify_commits(&records.0, &records.1, &out.committee) {
            assert!(out.oracle.is_byzantine(sender), "honest {sender:?} serves a bad range: {error}");
            return self.range_failed(&range, None, disk, out);
        }
        range.bytes += 200 * records.0.iter().map(|commit| 1 + commit.blocks.len() as u64).sum::<u64>();
        range.records = Some(records);
        self.fetch_part(range, disk, out);
    }

    fn fetch_part(&mut self, range: Range, disk: &mut Disk, out: &mut Outside) {
        let (peer, from, bytes, refs) = (range.peer, range.from, range.bytes, range.wanted());
        let id = self.requests.open(Request::Commits(range));
        self.request(peer, id, Message::FetchRangeBlocks { id, refs }, out);
        self.step(Input::RangeProgress { peer, from, bytes }, disk, out);
    }

    pub(super) fn take_range_blocks(
        &mut self,
        sender: AuthorityIndex,
        id: u64,
        blocks: Vec<Bytes>,
        disk: &mut Disk,
        out: &mut Outside,
    ) {
        let Some(mut range) = self.requests.close_range(id, sender) else { return };
        if blocks.is_empty() || blocks.len() > range.wanted().len() {
            return self.range_failed(&range, None, disk, out);
        }
        range.bytes += blocks.iter().map(|block| block.len() as u64).sum::<u64>();
        range.blocks.extend(blocks);
        if !range.wanted().is_empty() {
            return self.fetch_part(range, disk, out);
        }
        let Some((commits, certificate)) = range.records.take() else { return };
        let blocks = std::mem::take(&mut range.blocks);
        match VerifiedRange::verify(commits, certificate, blocks, &out.committee) {
            Ok(verified) => self.step(Input::CertifiedCommits { sender, range: verified }, disk, out),
            Err(error) => {
                assert!(out.oracle.is_byzantine(sender), "honest {sender:?} serves a bad range: {error}");
                self.range_failed(&range, None, disk, out);
            }
        }
    }

    fn range_failed(&mut self, range: &Range, first_index: Option<CommitIndex>, disk: &mut Disk, out: &mut Outside) {
        let input = Input::CommitsUnavailable { peer: range.peer, from: range.from, first_index };
        self.step(input, disk, out);
    }
}
