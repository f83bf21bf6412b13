//! Execution: strict order, exactly once, one atomic write a commit; the log and its retention.
//!
//! `apply` holds the rules and is pure; `executor` waits for payload, applies and writes; `recover` finds the state again after a
//! restart; `log` reads what was applied; `retention` drops what is old.
//!
//! | queue | capacity | when full |
//! |---|---|---|
//! | deliveries taken in | 32 | they wait in the mailbox, then in consensus |
//! | payload asked for ahead | 32 MiB, 256 batches | later batches are not asked for yet |
//! | writes under way | 64 | nothing is applied |
//! | applied commits to consensus | the sender's | execution waits |
//! | questions about ids | 1 024 | who asks waits |

pub mod apply;
pub mod error;
pub mod executor;
pub mod ids;
pub mod log;
mod prefetch;
pub mod prepare;
pub mod record;
pub mod recover;
pub mod retention;
mod scan;
pub mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rorqual_config::parameters::NodeParameters;
use rorqual_config::{AuthorityIndex, Committee, Digest};
use rorqual_protocol::types::{CommitIndex, Delivery};
use rorqual_store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::error::ExecutionError;
use self::executor::{Executor, ExecutorSetup};
use self::log::{AppliedState, LogReader};
use self::prepare::Rules;
use self::retention::{Limits, Retention, RetentionSetup, RetentionStatistics};
use crate::clients::receipts::Receipts;

/// Questions about ids that wait for the executor.
const LOOKUPS: usize = 1_024;

/// What execution is made of.
pub struct ExecutionSetup {
    /// Payload comes from here, results go here.
    pub store: Store,
    /// The common rules.
    pub committee: Arc<Committee>,
    /// Whose batches get receipts.
    pub me: AuthorityIndex,
    /// How long the log stays.
    pub parameters: NodeParameters,
    /// In order, from the first commit that was not applied.
    pub deliveries: mpsc::Receiver<Arc<Delivery>>,
    /// Hears of every applied commit with the state digest after it, in order.
    pub executed: mpsc::Sender<(CommitIndex, Digest)>,
    /// Hears what became of own batches.
    pub receipts: Receipts,
    /// Cancelled at a clean stop.
    pub shutdown: CancellationToken,
}

/// Execution that runs.
pub struct Execution {
    /// Reads the log.
    pub log: LogReader,
    /// Ends with the reason why execution or retention cannot go on, or without one at a clean stop.
    pub task: JoinHandle<Result<(), ExecutionError>>,
    /// What retention keeps.
    pub statistics: watch::Receiver<RetentionStatistics>,
    /// The last commit applied before the start, with the state digest after it.
    pub recovered: Option<(CommitIndex, Digest)>,
    /// State digests after the last multiples of the checkpoint interval, ascending; after commit 0 it is all zeros.
    pub state_digests: Vec<(CommitIndex, Digest)>,
}

/// Finds the state that was written last and goes on from there.
///
/// # Errors
/// [`ExecutionError`] where the disk cannot be read or contradicts itself.
pub async fn start(setup: ExecutionSetup) -> Result<Execution, ExecutionError> {
    let found = recover::load(&setup.store, &setup.committee).await?;
    let applied = AppliedState::new(&found.state.record(), &found.begins);
    let (applied, reader) = watch::channel(applied);
    let applied = Arc::new(applied);
    let (lookup_sender, lookups) = mpsc::channel(LOOKUPS);
    let recovered = (found.state.index > CommitIndex(0)).then_some((found.state.index, found.state.digest));
    let (retention, statistics) = Retention::new(RetentionSetup {
        store: setup.store.clone(),
        limits: Limits::of(&setup.committee, &setup.parameters.retention),
        begins: found.begins,
        applied: applied.clone(),
        shutdown: setup.shutdown.clone(),
    });
    let executor = Executor::new(ExecutorSetup {
        store: setup.store.clone(),
        rules: Rules::of(&setup.committee),
        me: setup.me,
        state: found.state,
        deliveries: setup.deliveries,
        executed: setup.executed,
        receipts: setup.receipts,
        applied,
        lookups,
        shutdown: setup.shutdown,
    });
    let task = tokio::spawn(async {
        let tasks = (tokio::spawn(executor.run()), tokio::spawn(retention.run()));
        tokio::try_join!(ended(tasks.0), ended(tasks.1)).map(|_| ())
    });
    let log = LogReader::new(setup.store, reader, lookup_sender);
    Ok(Execution { log, task, statistics, recovered, state_digests: found.digests })
}

async fn ended(task: JoinHandle<Result<(), ExecutionError>>) -> Result<(), ExecutionError> {
    task.await?
}
