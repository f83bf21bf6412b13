//! The one task that applies deliveries: in order, when their payload is here, one atomic write a commit.
//!
//! Commits are applied in memory while earlier writes are under way; they are published in order, each as the completion of its
//! own write: the applied state, then receipts of own batches, then consensus. Nobody hears of a commit that a crash of the
//! process could take back.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use rorqual_client::submission::SubmissionId;
use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BatchKey, CommitIndex, Delivery};
use rorqual_store::{Durability, Store, StoreError, WriteBatch};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::apply::{BatchOutcome, Progress};
use super::error::{ExecutionError, present};
use super::ids::Spent;
use super::log::AppliedState;
use super::prefetch::Prefetch;
use super::prepare::{Prepared, Rules};
use super::record::{self, AppliedRecord, ExecutionRecord};
use super::state::State;
use crate::clients::receipts::{self, Receipts};
use crate::schema;

/// Deliveries taken in whose turn has not come; further ones wait in the mailbox.
const AHEAD: usize = 32;
/// Writes under way; when there are more, nothing is applied until one is done.
const MAX_WRITES: usize = 64;
/// Entries of the table of ids that are touched on a runtime thread in one go; more work goes to a thread that may block.
const INLINE_IDS: usize = 4_096;

/// Somebody asks what became of an id.
pub struct Lookup {
    /// The id.
    pub id: SubmissionId,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Option<Spent>>,
}

/// What the task is made of.
pub struct ExecutorSetup {
    /// Payload comes from here, results go here.
    pub store: Store,
    /// The common rules.
    pub rules: Rules,
    /// Whose batches get receipts.
    pub me: AuthorityIndex,
    /// The state to go on from.
    pub state: State,
    /// In order.
    pub deliveries: mpsc::Receiver<Arc<Delivery>>,
    /// Consensus hears of applied commits; full: execution waits.
    pub executed: mpsc::Sender<(CommitIndex, Digest)>,
    /// Clients hear of them.
    pub receipts: Receipts,
    /// Readers see them.
    pub applied: Arc<watch::Sender<AppliedState>>,
    /// Questions about ids.
    pub lookups: mpsc::Receiver<Lookup>,
    /// Cancelled at a clean stop.
    pub shutdown: CancellationToken,
}

/// The commit being applied.
struct Current {
    delivery: Arc<Delivery>,
    progress: Progress,
    own: Vec<(BatchKey, BatchOutcome)>,
}

/// A commit whose write is done.
struct Written {
    applied: AppliedRecord,
    own: Vec<(BatchKey, BatchOutcome)>,
}

type Write = Pin<Box<dyn Future<Output = Result<Written, StoreError>> + Send>>;

/// The task.
pub struct Executor {
    setup: ExecutorSetup,
    prefetch: Prefetch,
    /// Taken in and not begun.
    queue: VecDeque<Arc<Delivery>>,
    /// The last commit taken in.
    accepted: CommitIndex,
    current: Option<Current>,
    writes: FuturesOrdered<Write>,
    /// The last commit whose write is done.
    published: CommitIndex,
}

impl Executor {
    /// Goes on from a state.
    pub fn new(setup: ExecutorSetup) -> Self {
        let index = setup.state.index;
        Self {
            prefetch: Prefetch::new(setup.store.clone(), setup.rules),
            setup,
            queue: VecDeque::new(),
            accepted: index,
            current: None,
            writes: FuturesOrdered::new(),
            published: index,
        }
    }

    /// Runs until the shutdown token is cancelled, which is no error.
    ///
    /// # Errors
    /// Why execution cannot go on.
    pub async fn run(mut self) -> Result<(), ExecutionError> {
        let shutdown = self.setup.shutdown.clone();
        loop {
            self.advance().await?;
            tokio::select! {
                () = shutdown.cancelled() => return self.drain().await,
                Some(written) = self.writes.next() => self.publish(written?).await?,
                Some(lookup) = self.setup.lookups.recv() => self.answer(lookup),
                Some(content) = self.prefetch.next(), if self.writes.len() < MAX_WRITES => self.batch(content?).await?,
                delivery = self.setup.deliveries.recv(), if self.queue.len() < AHEAD => match delivery {
                    Some(delivery) => self.accept(delivery).await?,
                    None if shutdown.is_cancelled() => return self.drain().await,
                    None => return Err(ExecutionError::Closed("consensus")),
                },
            }
        }
    }

    /// Takes a delivery in. After a restart some may come that were applied before: they are compared and skipped.
    async fn accept(&mut self, delivery: Arc<Delivery>) -> Result<(), ExecutionError> {
        let index = delivery.commit.index;
        if index <= self.published {
            return self.compare(&delivery).await;
        }
        if index != self.accepted.next() {
            return Err(ExecutionError::OutOfOrder { expected: self.accepted.next(), found: index });
        }
        self.accepted = index;
        self.prefetch.push(&delivery);
        self.queue.push_back(delivery);
        Ok(())
    }

    async fn compare(&mut self, delivery: &Delivery) -> Result<(), ExecutionError> {
        let index = delivery.commit.index;
        if index < self.setup.applied.borrow().begins_at {
            return Ok(());
        }
        let key = schema::index_key(index);
        let stored = self.setup.store.read(schema::EXECUTED, &key).await?;
        let record: ExecutionRecord = present(schema::EXECUTED, &key, stored)?;
        let same = record.time_ms == delivery.commit.timestamp_ms && record.batches.len() == delivery.batches.len();
        if same { Ok(()) } else { Err(ExecutionError::Diverged { index }) }
    }

    /// Begins and finishes commits as far as that needs no payload.
    async fn advance(&mut self) -> Result<(), ExecutionError> {
        while self.writes.len() < MAX_WRITES {
            match self.current.take() {
                Some(current) if current.progress.batches() < current.delivery.batches.len() => {
                    self.current = Some(current);
                    return Ok(());
                }
                Some(current) => self.finish(current).await?,
                None => match self.queue.pop_front() {
                    Some(delivery) => self.begin(delivery).await?,
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    async fn begin(&mut self, delivery: Arc<Delivery>) -> Result<(), ExecutionError> {
        let expiring = self.setup.state.ids.expiring(delivery.commit.timestamp_ms);
        let begin = move |state: &mut State| {
            let progress = Progress::begin(state, &delivery.commit);
            Current { delivery, progress, own: Vec::new() }
        };
        self.current = Some(self.work(expiring, begin).await?);
        Ok(())
    }

    /// Applies the next batch of the current commit.
    async fn batch(&mut self, content: Option<Prepared>) -> Result<(), ExecutionError> {
        // `advance` runs before every wait: while batches are outstanding there is a commit that wants one.
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let (me, rules) = (self.setup.me, self.setup.rules);
        let cost = content.as_ref().map_or(0, |content| content.submissions().len());
        let apply = move |state: &mut State| {
            let delivered = current.delivery.batches[current.progress.batches()];
            let outcome = current.progress.batch(state, &rules, &delivered, content.as_ref());
            if delivered.author == me {
                current.own.push((delivered.key(), outcome));
            }
            current
        };
        self.current = Some(self.work(cost, apply).await?);
        Ok(())
    }

    async fn finish(&mut self, current: Current) -> Result<(), ExecutionError> {
        let Current { progress, own, .. } = current;
        let cost = progress.weight();
        let finish = |state: &mut State| {
            let changes = progress.finish(state);
            let mut write = WriteBatch::new();
            record::put(&mut write, &changes.record, &changes.refused, &changes.spent, &changes.applied);
            (write, changes.applied)
        };
        let (write, applied) = self.work(cost, finish).await?;
        self.write(write, Written { applied, own });
        Ok(())
    }

    /// Does work on the state, here or on a thread that may block.
    async fn work<R: Send + 'static>(
        &mut self,
        cost: usize,
        work: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, ExecutionError> {
        if cost <= INLINE_IDS {
            return Ok(work(&mut self.setup.state));
        }
        let mut state = std::mem::take(&mut self.setup.state);
        let (state, result) = tokio::task::spawn_blocking(move || {
            let result = work(&mut state);
            (state, result)
        })
        .await?;
        self.setup.state = state;
        Ok(result)
    }

    /// Queues the write of a commit; it takes its place now. It is not synced: what a power cut takes is derived again from the
    /// log. The commit record precedes it in the store's log, so that no execution record survives without its commit.
    fn write(&mut self, batch: WriteBatch, written: Written) {
        let completion = self.setup.store.write_batch(batch, Durability::Buffered);
        self.writes.push_back(Box::pin(async move { completion.await.map(|()| written) }));
    }

    /// Tells everybody of a commit whose write is done.
    async fn publish(&mut self, written: Written) -> Result<(), ExecutionError> {
        let applied = written.applied;
        self.show(&written);
        let executed = self.setup.executed.send((applied.index, applied.digest));
        tokio::select! {
            sent = executed => sent.map_err(|_| ExecutionError::Closed("consensus")),
            () = self.setup.shutdown.cancelled() => Ok(()),
        }
    }

    fn show(&mut self, written: &Written) {
        let applied = written.applied;
        self.published = applied.index;
        self.setup.applied.send_modify(|state| state.advance(&applied));
        for (key, outcome) in &written.own {
            self.setup.receipts.applied(key, applied.index, &receipts_of(outcome));
        }
    }

    /// Answers from what is published: an id whose write is still under way is not known yet.
    fn answer(&self, lookup: Lookup) {
        let spent = self.setup.state.ids.get(&lookup.id).filter(|spent| spent.commit <= self.published);
        // Whoever asked may have gone.
        let _ = lookup.answer.send(spent);
    }

    /// Waits for the writes under way and sends their receipts. Consensus does not listen any more.
    async fn drain(mut self) -> Result<(), ExecutionError> {
        while let Some(written) = self.writes.next().await {
            self.show(&written?);
        }
        Ok(())
    }
}

fn receipts_of(outcome: &BatchOutcome) -> Vec<receipts::Applied> {
    use super::apply::Outcome;
    let BatchOutcome::Decoded(outcomes) = outcome else { return vec![receipts::Applied::Malformed] };
    let receipt = |outcome: &Outcome| match *outcome {
        Outcome::Committed { first_position } => receipts::Applied::Committed { first_position },
        Outcome::Already(Spent { commit, first_position, batch }) => {
            receipts::Applied::Already { commit, first_position, batch }
        }
        Outcome::Expired => receipts::Applied::Expired,
        Outcome::DeadlineTooFar => receipts::Applied::DeadlineTooFar,
        Outcome::TooManyLiveIds => receipts::Applied::TooManyLiveIds,
        Outcome::TooLarge => receipts::Applied::TooLarge,
    };
    outcomes.iter().map(receipt).collect()
}
