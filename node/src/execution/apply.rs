//! The rules of execution: pure, deterministic, the same at every node.
//!
//! Promises: deliveries are applied in order; a submission is applied whole, at contiguous positions, or refused and takes no
//! position; positions are dense; a submission id is applied at most once while it lives, and not after its deadline, whoever
//! put its submission into whichever batch.
//!
//! A commit is applied batch by batch ([`Progress`]), because the payload of one commit need not fit into memory.

use rorqual_protocol::types::commit::DeliveredBatch;
use rorqual_protocol::types::{Commit, CommitIndex, Delivery};

use super::ids::{Slot, Spent};
use super::prepare::{Prepared, PreparedSubmission, Rules};
use super::record::{AppliedRecord, BatchRecord, ExecutionRecord, Refused, SpentBatch, SpentId, state_digest};
use super::state::State;

/// What became of one submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Applied here and now.
    Committed {
        /// Position of its first transaction.
        first_position: u64,
    },
    /// It had been applied before: this is a copy or a retry.
    Already(Spent),
    /// Commit time is past its deadline: it can never be applied any more.
    Expired,
    /// Its deadline is further ahead of commit time than the rules allow.
    DeadlineTooFar,
    /// The author of the batch has as many ids alive as the rules allow.
    TooManyLiveIds,
    /// It, or one of its transactions, is larger than the rules allow.
    TooLarge,
}

/// What became of one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchOutcome {
    /// For every submission in order.
    Decoded(Vec<Outcome>),
    /// It could not be decoded: nothing of it was applied.
    Malformed,
}

/// What a commit changed: all that is stored of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes {
    /// The execution record.
    pub record: ExecutionRecord,
    /// Refused submissions of the batches that have any, by order in the commit, ascending.
    pub refused: Vec<(u32, Refused)>,
    /// The ids it spent.
    pub spent: Vec<SpentBatch>,
    /// The state after it, without the ids.
    pub applied: AppliedRecord,
}

/// A commit that is being applied.
pub struct Progress {
    index: CommitIndex,
    time_ms: u64,
    first_position: u64,
    next_position: u64,
    payload_bytes: u64,
    batches: Vec<BatchRecord>,
    refused: Vec<(u32, Refused)>,
    spent: Vec<SpentBatch>,
}

impl Progress {
    /// Begins the commit after the last one: commit time moves, ids that are past their deadline go.
    pub fn begin(state: &mut State, commit: &Commit) -> Self {
        state.ids.expire(commit.timestamp_ms);
        Self {
            index: commit.index,
            time_ms: commit.timestamp_ms,
            first_position: state.next_position,
            next_position: state.next_position,
            payload_bytes: 0,
            batches: Vec::new(),
            refused: Vec::new(),
            spent: Vec::new(),
        }
    }

    /// How many batches were applied so far.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// How much [`Self::finish`] has to look at: batches and spent ids.
    pub fn weight(&self) -> usize {
        self.batches.len() + self.spent.iter().map(|batch| batch.ids.len()).sum::<usize>()
    }

    /// Applies the next batch; `content` is none if it could not be decoded.
    pub fn batch(
        &mut self,
        state: &mut State,
        rules: &Rules,
        delivered: &DeliveredBatch,
        content: Option<&Prepared>,
    ) -> BatchOutcome {
        self.payload_bytes += u64::from(delivered.batch.bytes);
        let Some(content) = content else {
            self.batches.push(BatchRecord { submissions: 0, transactions: 0, applied: 0 });
            return BatchOutcome::Malformed;
        };
        let mut ids = BatchIds { spent: SpentBatch { key: delivered.key(), ids: Vec::new() }, slot: None };
        let (mut outcomes, mut refused) = (Vec::with_capacity(content.submissions().len()), Refused::default());
        let before = self.next_position;
        for (number, submission) in content.submissions().iter().enumerate() {
            let outcome = self.submission(state, rules, submission, &mut ids);
            match outcome {
                Outcome::Committed { .. } => self.next_position += u64::from(submission.transactions),
                _ => refused.insert(number),
            }
            outcomes.push(outcome);
        }
        if !refused.is_empty() {
            self.refused.push((self.batches.len() as u32, refused));
        }
        if !ids.spent.ids.is_empty() {
            self.spent.push(ids.spent);
        }
        self.batches.push(BatchRecord {
            submissions: content.submissions().len() as u32,
            transactions: content.transactions(),
            // At most the transactions of one batch.
            applied: (self.next_position - before) as u32,
        });
        BatchOutcome::Decoded(outcomes)
    }

    fn submission(
        &self,
        state: &mut State,
        rules: &Rules,
        submission: &PreparedSubmission,
        batch: &mut BatchIds,
    ) -> Outcome {
        let first_position = self.next_position;
        if submission.too_large {
            return Outcome::TooLarge;
        }
        let Some((id, deadline_ms)) = submission.id else {
            return Outcome::Committed { first_position };
        };
        if self.time_ms > deadline_ms {
            return Outcome::Expired;
        }
        if deadline_ms > self.time_ms.saturating_add(rules.max_lifetime_ms) {
            return Outcome::DeadlineTooFar;
        }
        if let Some(spent) = state.ids.get(&id) {
            return Outcome::Already(spent);
        }
        if state.ids.count(batch.spent.key.author) >= rules.max_live_ids {
            return Outcome::TooManyLiveIds;
        }
        let slot = *batch.slot.get_or_insert_with(|| state.ids.open(batch.spent.key, self.index));
        state.ids.insert(id, deadline_ms, first_position, slot);
        batch.spent.ids.push(SpentId { id, deadline_ms, first_position });
        Outcome::Committed { first_position }
    }

    /// Ends the commit after its last batch.
    pub fn finish(self, state: &mut State) -> Changes {
        let digest = state_digest(&state.digest, self.index, self.first_position, &self.batches, &self.refused);
        let record = ExecutionRecord {
            index: self.index,
            first_position: self.first_position,
            transactions: self.next_position - self.first_position,
            time_ms: self.time_ms,
            payload_before: state.payload_bytes,
            batches: self.batches,
            digest,
        };
        state.index = self.index;
        state.time_ms = self.time_ms;
        state.next_position = self.next_position;
        state.digest = digest;
        state.payload_bytes += self.payload_bytes;
        Changes { record, refused: self.refused, spent: self.spent, applied: state.record() }
    }
}

/// The ids that the batch being applied has spent, and their slot once there is one.
struct BatchIds {
    spent: SpentBatch,
    slot: Option<Slot>,
}

/// Applies a whole delivery. `contents` has an entry for every batch, none where it could not be decoded.
pub fn apply(
    state: &mut State,
    rules: &Rules,
    delivery: &Delivery,
    contents: &[Option<Prepared>],
) -> (Changes, Vec<BatchOutcome>) {
    let mut progress = Progress::begin(state, &delivery.commit);
    let batches = delivery.batches.iter().zip(contents);
    let outcomes = batches.map(|(batch, content)| progress.batch(state, rules, batch, content.as_ref())).collect();
    (progress.finish(state), outcomes)
}
