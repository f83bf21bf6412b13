//! The writer: the one thread that changes the engine.
//!
//! It takes what is queued, up to a few megabytes, and applies it as one engine write, in order. Then it wakes those who
//! wait for the keys, answers the buffered writers, and leaves the synced ones to the syncer. It never waits for a sync.
//! When the queue is closed and drained it ends the other threads, puts everything on disk and releases the directory.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::batch::{Durability, Operation, WriteBatch};
use crate::error::StoreError;
use crate::queue::{BATCH_OVERHEAD, Job, Lane, Reply};
use crate::reclaim::Span;
use crate::shared::Shared;
use crate::sync::thread::{self, JoinHandle};
use crate::syncer;

/// Bytes of batches that become one engine write: many small ones do, and nobody waits for tens of megabytes of others.
const GROUP_BYTES: usize = 8 << 20;

/// Starts all threads of a store. If one cannot be started, those that were end again.
pub(crate) fn start(shared: &Arc<Shared>, reader_threads: usize) -> Result<(), StoreError> {
    let started = spawn_all(shared, reader_threads);
    started.map_err(|error| {
        shared.readers.close();
        shared.chores.close();
        shared.syncs.close();
        shared.engine.stop_workers();
        shared.begin_close();
        let error = StoreError::from_io("starting the store's threads", &error);
        shared.report_closed(Err(error.clone()));
        error
    })
}

fn spawn_all(shared: &Arc<Shared>, reader_threads: usize) -> io::Result<()> {
    let mut helpers = Vec::new();
    for number in 0..reader_threads {
        helpers.push(spawn(shared, format!("store-read-{number}"), |shared| shared.readers.run(&*shared.engine))?);
    }
    helpers.push(spawn(shared, "store-chores".to_string(), |shared| shared.chores.run(&*shared.engine))?);
    helpers.push(spawn(shared, "store-sync".to_string(), syncer::run)?);
    let mut workers = Vec::new();
    for (number, name) in shared.engine.workers().iter().enumerate() {
        workers.push(spawn(shared, (*name).to_string(), move |shared| work(shared, number))?);
    }
    spawn(shared, "store-write".to_string(), move |shared| {
        run(shared);
        let result = finish(shared, helpers, workers);
        shared.report_closed(result);
    })?;
    Ok(())
}

/// The life of a thread of the engine's own.
fn work(shared: &Shared, worker: usize) {
    if let Err(error) = shared.engine.work(worker) {
        shared.fail(&error);
    }
}

fn spawn<F>(shared: &Arc<Shared>, name: String, body: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce(&Shared) + Send + 'static,
{
    let shared = Arc::clone(shared);
    thread::Builder::new().name(name).spawn(move || {
        let guard = PanicGuard { shared: &shared };
        body(&shared);
        drop(guard);
    })
}

/// A thread of the store that panics is a bug, and must neither leave anyone waiting for ever nor let the store go on.
struct PanicGuard<'a> {
    shared: &'a Shared,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let name = thread::current().name().unwrap_or("store").to_string();
        let error = StoreError::Failed { reason: format!("its thread {name} panicked, which is a bug") };
        self.shared.fail(&error);
        self.shared.begin_close();
        answer(self.shared.queue.abandon().into_iter().map(|job| job.reply), &Err(error.clone()));
        answer(self.shared.syncs.abandon().into_iter().map(|(_, reply)| reply), &Err(error.clone()));
        self.shared.readers.abandon();
        self.shared.chores.abandon();
        if name == "store-write" {
            self.shared.engine.stop_workers();
            self.shared.report_closed(Err(error));
        }
    }
}

fn answer(replies: impl IntoIterator<Item = Reply>, result: &Result<(), StoreError>) {
    for reply in replies {
        // An error means that nobody waits for the answer.
        let _ = reply.send(result.clone());
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A thread that panicked has reported itself as a failure.
        let _ = thread.join();
    }
}

fn run(shared: &Shared) {
    while let Some(jobs) = shared.queue.take(GROUP_BYTES) {
        let refusal = shared.failure.aftermath();
        match refusal {
            Some(error) => refuse(shared, jobs, &error),
            None => apply(shared, jobs),
        }
    }
}

fn refuse(shared: &Shared, jobs: VecDeque<Job>, error: &StoreError) {
    for job in jobs {
        shared.queue.release(job.lane, job.batch.cost() + BATCH_OVERHEAD);
        let _ = job.reply.send(Err(error.clone()));
    }
}

fn apply(shared: &Shared, jobs: VecDeque<Job>) {
    let batches: Vec<&WriteBatch> = jobs.iter().map(|job| &job.batch).collect();
    let operations = || batches.iter().flat_map(|batch| batch.operations());
    operations().for_each(|operation| forget(shared, operation));
    if let Err(error) = shared.engine.apply(&batches) {
        shared.fail(&error);
        refuse(shared, jobs, &error);
        return;
    }
    operations().for_each(|operation| publish(shared, operation));
    shared.counters.count_group(batches.len(), batches.iter().map(|batch| batch.bytes()).sum());
    operations().for_each(|operation| reclaim(shared, operation));
    complete(shared, jobs);
}

/// Has the thread for chores give back the space of a deleted range, if it is time for that.
fn reclaim(shared: &Shared, operation: &Operation) {
    let Operation::DeleteRange { column, from, to } = operation else { return };
    let Ok(column) = shared.columns.index(*column) else { return };
    let Some(reclaim) = &shared.reclaims[column] else { return };
    let Some(span) = reclaim.note(Span { from: from.clone(), to: to.clone() }, Instant::now()) else { return };
    let reclaim = Arc::clone(reclaim);
    // Beside the bounded places of the chores: there is at most one such request for each column.
    let pushed = shared.chores.push(Box::new(move |engine| {
        if let Err(error) = engine.reclaim(column, &span) {
            tracing::warn!(%error, "could not give the space of deleted keys back");
        }
        reclaim.done(Instant::now());
    }));
    if pushed.is_err() {
        tracing::debug!("the store is closing; deleted keys keep their space until the next deletion");
    }
}

/// Takes a key that is about to change out of the value cache.
fn forget(shared: &Shared, operation: &Operation) {
    let Some((_, Some(cache))) = cache_of(shared, operation) else { return };
    match operation {
        Operation::Put { key, .. } | Operation::Delete { key, .. } | Operation::Lose { key, .. } => cache.remove(key),
        Operation::DeleteRange { from, to, .. } => cache.remove_range(from, to),
    }
}

/// Makes an applied change known: to the value cache and to those who wait for the key. In the order of the operations,
/// so that a key which was put and then deleted is not left in the cache.
fn publish(shared: &Shared, operation: &Operation) {
    let Some((column, cache)) = cache_of(shared, operation) else { return };
    match (operation, cache) {
        (Operation::Put { key, value, .. }, cache) => {
            if let Some(cache) = cache {
                cache.insert(key, value);
            }
            shared.registry.wake(column, key, value);
        }
        (Operation::Delete { key, .. } | Operation::Lose { key, .. }, Some(cache)) => cache.remove(key),
        (Operation::DeleteRange { from, to, .. }, Some(cache)) => cache.remove_range(from, to),
        (_, None) => {}
    }
}

/// The column's number and value cache; every queued operation's column was checked at the call.
fn cache_of<'a>(shared: &'a Shared, operation: &Operation) -> Option<(usize, Option<&'a crate::cache::ValueCache>)> {
    let column = shared.columns.index(operation.column()).ok()?;
    Some((column, shared.caches[column].as_ref()))
}

/// Answers the buffered writers, hands the synced ones to the syncer, and gives their room in the queue back. A synced
/// batch keeps its overhead there until the sync, so that the number of them is bounded too.
fn complete(shared: &Shared, jobs: VecDeque<Job>) {
    let (mut urgent, mut bulk) = (0, 0);
    let mut synced = Vec::new();
    let mut buffered = Vec::new();
    for job in jobs {
        let released = match job.lane {
            Lane::Urgent => &mut urgent,
            Lane::Bulk => &mut bulk,
        };
        *released += job.batch.cost();
        match job.durability {
            Durability::Buffered => {
                *released += BATCH_OVERHEAD;
                buffered.push(job.reply);
            }
            Durability::Synced => synced.push((job.lane, job.reply)),
        }
    }
    if let Err(orphans) = shared.syncs.push(synced) {
        orphans.iter().for_each(|(lane, _)| shared.queue.release(*lane, BATCH_OVERHEAD));
        answer(orphans.into_iter().map(|(_, reply)| reply), &Err(shared.reason_of_silence()));
    }
    answer(buffered, &Ok(()));
    for (lane, released) in [(Lane::Urgent, urgent), (Lane::Bulk, bulk)] {
        if released > 0 {
            shared.queue.release(lane, released);
        }
    }
}

/// The end of the store, after the last batch: reads and syncs first, because closing the engine must wait for them, then
/// the engine's own threads, which a sync may need.
fn finish(shared: &Shared, helpers: Vec<JoinHandle<()>>, workers: Vec<JoinHandle<()>>) -> Result<(), StoreError> {
    shared.syncs.close();
    shared.readers.close();
    shared.chores.close();
    join(helpers);
    shared.engine.stop_workers();
    join(workers);
    let failure = shared.failure.first();
    let closed = shared.engine.close(failure.is_some());
    shared.registry.wake_all(&shared.reason_of_silence());
    match (failure, closed) {
        (Some(first), _) => Err(first.aftermath()),
        (None, Err(error)) => {
            shared.fail(&error);
            Err(error)
        }
        (None, Ok(())) => {
            tracing::debug!("the store is closed");
            Ok(())
        }
    }
}
