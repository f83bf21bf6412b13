//! Carries out the core's requests for blocks and certified commits: one attempt at one peer each. Retries, other peers and
//! patience are the core's business.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Frame, Lane, Links};
use rorqual_protocol::certificate::check::VerifiedRange;
use rorqual_protocol::types::{BlockError, BlockRef, Certificate, Commit, CommitIndex, UnverifiedBlock};
use rorqual_protocol::{Input, Known, Rule, Verdict};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::pages::Records;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::peers::Verdicts;
use crate::peers::message::{MAX_RANGE_BLOCKS, Message, Unreadable, split};

/// Deadline of a request for blocks.
const BLOCKS_DEADLINE: Duration = Duration::from_secs(2);
/// Deadline of each request of a commit range.
const RANGE_DEADLINE: Duration = Duration::from_secs(5);
/// Blocks of one range: more than an honest range of any length needs, few enough to bound memory.
pub const MAX_BLOCKS_OF_RANGE: usize = 200_000;

/// Fetches for consensus.
#[derive(Clone)]
pub struct Fetcher {
    /// All links.
    pub links: Links,
    /// For verification.
    pub committee: Arc<Committee>,
    /// Gets what came, or that nothing came.
    pub consensus: mpsc::Sender<Input>,
    /// Whether there is room for answers.
    pub disk: Disk,
    /// Which blocks the core holds.
    pub known: Known,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Counts and logs broken rules.
    pub verdicts: Verdicts,
}

/// Why a fetch came to nothing.
enum Failure {
    /// The peer did not answer in time, or is gone.
    Silent,
    /// The peer has dropped it; the first commit that it still has.
    Pruned(CommitIndex),
    /// The peer broke a rule; what it did is for people.
    Broke(Rule, String),
}

impl Fetcher {
    /// Asks `peer` for blocks, from a task of its own.
    pub fn blocks(&self, peer: AuthorityIndex, refs: Vec<BlockRef>) {
        let this = self.clone();
        tokio::spawn(async move {
            let (blocks, missing) = match this.request_blocks(peer, &refs, Lane::Priority, BLOCKS_DEADLINE).await {
                Ok((blocks, missing)) => {
                    let asked = refs.iter().filter(|reference| !missing.contains(reference)).copied();
                    (blocks.into_iter().zip(asked).collect(), missing)
                }
                Err(failure) => {
                    this.count(peer, &failure);
                    (Vec::new(), refs)
                }
            };
            let mut refs = missing;
            for (bytes, asked) in blocks {
                if let Err(failure) = this.take(peer, Bytes::copy_from_slice(&bytes), asked).await {
                    this.count(peer, &failure);
                    refs.push(asked);
                }
            }
            if !refs.is_empty() {
                this.tell(Input::BlocksUnavailable { peer, refs }).await;
            }
        });
    }

    /// Asks `peer` for certified commits and their blocks, from a task of its own. Whoever aborts it hears nothing any more.
    pub fn commits(&self, peer: AuthorityIndex, from: CommitIndex, to: CommitIndex) -> AbortHandle {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let input = match this.range(peer, from, to).await {
                Ok(range) => Input::CertifiedCommits { sender: peer, range },
                Err(failure) => {
                    this.count(peer, &failure);
                    let first_index = if let Failure::Pruned(first) = failure { Some(first) } else { None };
                    Input::CommitsUnavailable { peer, from, first_index }
                }
            };
            this.tell(input).await;
        });
        task.abort_handle()
    }

    /// Takes one block of an answer, which must be the one that was asked for. What has come another way meanwhile is not verified
    /// again.
    async fn take(&self, peer: AuthorityIndex, bytes: Bytes, asked: BlockRef) -> Result<(), Failure> {
        let broke = |error: BlockError| match error {
            BlockError::Signature(_) => Failure::Broke(Rule::Signature, error.to_string()),
            _ => Failure::Broke(Rule::InvalidBlock, error.to_string()),
        };
        let block = UnverifiedBlock::read(bytes, &self.committee).map_err(broke)?;
        if block.reference() != asked {
            return Err(Failure::Broke(Rule::Answer, format!("{:?} instead of {asked:?}", block.reference())));
        }
        let verdict = self.known.judge(&asked);
        self.metrics.block_received(verdict);
        match verdict {
            Verdict::New => {
                let block = block.verify(&self.committee).map_err(broke)?;
                self.tell(Input::Block { sender: peer, block }).await;
            }
            Verdict::Known => self.tell(Input::KnownBlocks { sender: peer, refs: vec![asked] }).await,
            Verdict::Old => {}
        }
        Ok(())
    }

    async fn tell(&self, input: Input) {
        // A closed mailbox means that the node is going down; its reason is told elsewhere.
        let _ = self.consensus.send(input).await;
    }

    fn count(&self, peer: AuthorityIndex, failure: &Failure) {
        if let Failure::Broke(rule, detail) = failure {
            self.verdicts.blame(peer, *rule, detail);
        }
    }

    /// Blocks as they came, unverified, and the refs that did not come.
    async fn request_blocks(
        &self,
        peer: AuthorityIndex,
        refs: &[BlockRef],
        lane: Lane,
        deadline: Duration,
    ) -> Result<(Vec<Bytes>, Vec<BlockRef>), Failure> {
        let frame = Message::FetchBlocks { refs: refs.to_vec() }.frame();
        let answer = self.ask(peer, lane, frame, deadline).await?;
        let rubbish = |rule, what: &str| Failure::Broke(rule, what.to_owned());
        let (message, tail) = Message::read(&answer).map_err(undecodable)?;
        let Message::Blocks { lengths, missing } = message else {
            return Err(rubbish(Rule::Answer, "not an answer with blocks"));
        };
        let blocks =
            split(&lengths, tail).ok_or_else(|| rubbish(Rule::Lengths, "lengths that do not fit the frame"))?;
        let known = missing.iter().all(|reference| refs.contains(reference));
        if !known || blocks.len().checked_add(missing.len()) != Some(refs.len()) {
            return Err(rubbish(Rule::Answer, "an answer that does not match its question"));
        }
        Ok((blocks, missing))
    }

    /// While the disk is all but full nobody is asked: to the core that is a peer that does not answer.
    async fn ask(&self, peer: AuthorityIndex, lane: Lane, frame: Frame, deadline: Duration) -> Result<Bytes, Failure> {
        if !self.disk.takes_from_peers() {
            tokio::time::sleep(BLOCKS_DEADLINE).await;
            return Err(Failure::Silent);
        }
        self.links.request(peer, lane, frame, deadline).await.map_err(|_| Failure::Silent)
    }

    async fn range(&self, peer: AuthorityIndex, from: CommitIndex, to: CommitIndex) -> Result<VerifiedRange, Failure> {
        let (commits, certificate, bytes) = self.records(peer, from, to).await?;
        let committee = self.committee.clone();
        let checked = tokio::task::spawn_blocking(move || {
            VerifiedRange::verify_commits(&commits, &certificate, &committee).map(|()| (commits, certificate))
        });
        let (commits, certificate) = joined(checked.await)?;
        let blocks = self.blocks_of(peer, from, &commits, bytes).await?;
        let committee = self.committee.clone();
        joined(
            tokio::task::spawn_blocking(move || VerifiedRange::verify(commits, certificate, blocks, &committee)).await,
        )
    }

    /// The records of a range with the certificate of the last, a page at a time, unverified; and how many bytes that took.
    async fn records(
        &self,
        peer: AuthorityIndex,
        from: CommitIndex,
        to: CommitIndex,
    ) -> Result<(Vec<Commit>, Certificate, usize), Failure> {
        let mut records = Records::new(from);
        loop {
            let (next, offset) = records.next();
            let frame = Message::FetchCommits { from: next, to: to.max(next), offset }.frame();
            let answer = self.ask(peer, Lane::CatchUp, frame, RANGE_DEADLINE).await?;
            let (message, tail) = Message::read(&answer).map_err(undecodable)?;
            let certificate = match message {
                Message::Commits { lengths, more, ends } => records.add(&lengths, more, ends, tail),
                Message::NoCommits { first_index } if records.is_empty() && first_index > from => {
                    return Err(Failure::Pruned(first_index));
                }
                Message::NoCommits { .. } => return Err(Failure::Silent),
                _ => return Err(Failure::Broke(Rule::Answer, "not an answer with commits".into())),
            };
            self.progress(peer, from, records.bytes()).await;
            if let Some(certificate) = certificate.map_err(|what| Failure::Broke(Rule::Answer, what))? {
                let bytes = records.bytes();
                return Ok((records.commits(), certificate, bytes));
            }
        }
    }

    async fn progress(&self, peer: AuthorityIndex, from: CommitIndex, bytes: usize) {
        self.tell(Input::RangeProgress { peer, from, bytes: bytes as u64 }).await;
    }

    /// The blocks that the commits name, in their order, unverified. The refs are certified: only their content can be wrong.
    async fn blocks_of(
        &self,
        peer: AuthorityIndex,
        from: CommitIndex,
        commits: &[Commit],
        mut bytes: usize,
    ) -> Result<Vec<Bytes>, Failure> {
        let refs: Vec<BlockRef> = commits.iter().flat_map(|commit| commit.blocks.iter().copied()).collect();
        if refs.len() > MAX_BLOCKS_OF_RANGE {
            return Err(Failure::Broke(Rule::Range, format!("a range of {} blocks", refs.len())));
        }
        let mut blocks = Vec::with_capacity(refs.len());
        let mut rest = &refs[..];
        while !rest.is_empty() {
            let asked = &rest[..rest.len().min(MAX_RANGE_BLOCKS)];
            let (came, missing) = self.request_blocks(peer, asked, Lane::CatchUp, RANGE_DEADLINE).await?;
            // What does not fit in one answer is named as missing at its end; a gap means that the peer dropped them.
            if came.is_empty() || missing != asked[came.len()..] {
                return Err(Failure::Silent);
            }
            rest = &rest[came.len()..];
            bytes = came.iter().map(Bytes::len).fold(bytes, usize::saturating_add);
            blocks.extend(came);
            self.progress(peer, from, bytes).await;
        }
        Ok(blocks)
    }
}

fn joined<T, E: std::fmt::Display>(result: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T, Failure> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Broke(Rule::Range, error.to_string())),
        Err(_) => Err(Failure::Silent),
    }
}

fn undecodable(error: Unreadable) -> Failure {
    Failure::Broke(Rule::Undecodable, error.to_string())
}
