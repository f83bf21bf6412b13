//! The queue of batches before the writer: ordered by call, bounded in bytes.
//!
//! A batch takes its place at the call. If it fits it is *admitted* and will be applied. If not it waits for room, behind
//! everyone who came before and within reach of whoever gave it: giving up withdraws it. Memory is thus bounded by the
//! queue's bytes and by what live callers hold themselves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;

use tokio::sync::oneshot;

use crate::batch::{Durability, WriteBatch};
use crate::error::StoreError;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// What a batch costs beside its operations; a synced one keeps this place until its sync is done.
pub(crate) const BATCH_OVERHEAD: usize = 128;

/// Tells the writer's caller how it went.
pub(crate) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: WriteBatch,
    pub(crate) durability: Durability,
    pub(crate) reply: Reply,
}

impl Job {
    fn cost(&self) -> usize {
        self.batch.cost() + BATCH_OVERHEAD
    }
}

/// What became of a batch at the call.
pub(crate) enum Place {
    Admitted,
    /// Waits for room under this number.
    Waiting(u64),
}

#[derive(Debug, Default)]
struct State {
    admitted: VecDeque<Job>,
    waiting: BTreeMap<u64, Job>,
    next: u64,
    /// Cost of everything admitted and not released yet.
    used: usize,
    closed: bool,
    /// Whether the writer sleeps: waking it is a system call, which a busy queue can do without.
    writer_sleeps: bool,
}

/// The queue. Many callers, one writer.
#[derive(Debug)]
pub(crate) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// A look at the queue, for statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLevel {
    pub(crate) bytes: usize,
    pub(crate) admitted: usize,
    pub(crate) waiting: usize,
}

impl State {
    /// A batch larger than the whole queue is admitted alone.
    fn fits(&self, cost: usize, capacity: usize) -> bool {
        self.used == 0 || self.used.saturating_add(cost) <= capacity
    }

    fn admit(&mut self, job: Job) {
        self.used += job.cost();
        self.admitted.push_back(job);
    }

    fn take(&mut self, bytes: usize) -> VecDeque<Job> {
        let mut sum = 0_usize;
        let fits = |job: &&Job| {
            sum = sum.saturating_add(job.cost());
            sum <= bytes
        };
        let count = self.admitted.iter().take_while(fits).count().max(1);
        let rest = self.admitted.split_off(count);
        std::mem::replace(&mut self.admitted, rest)
    }

    fn admit_waiting(&mut self, capacity: usize) {
        while let Some(first) = self.waiting.first_entry() {
            let cost = first.get().cost();
            if self.used != 0 && self.used.saturating_add(cost) > capacity {
                return;
            }
            let job = first.remove();
            self.admit(job);
        }
    }
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Queue {
        Queue { capacity, state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a change of the state: the writer, if it sleeps and has a reason to look, is woken.
    fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        let wakes = state.writer_sleeps && (!state.admitted.is_empty() || state.closed);
        state.writer_sleeps &= !wakes;
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Takes the batch in, or lets it wait for room.
    pub(crate) fn push(&self, job: Job) -> Result<Place, StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        if state.waiting.is_empty() && state.fits(job.cost(), self.capacity) {
            state.admit(job);
            self.wake_writer(state);
            return Ok(Place::Admitted);
        }
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, job);
        Ok(Place::Waiting(number))
    }

    /// Takes the batch in if there is room now and nobody waits for room already.
    pub(crate) fn try_push(&self, job: Job) -> Result<(), (Job, StoreError)> {
        let mut state = self.lock();
        if state.closed {
            return Err((job, StoreError::Closed));
        }
        if !state.waiting.is_empty() || !state.fits(job.cost(), self.capacity) {
            return Err((job, StoreError::Full { queue_bytes: self.capacity }));
        }
        state.admit(job);
        self.wake_writer(state);
        Ok(())
    }

    /// Withdraws a batch that still waits for room.
    pub(crate) fn withdraw(&self, number: u64) {
        let mut state = self.lock();
        let job = state.waiting.remove(&number);
        // It may have been the one that kept smaller ones behind it from being admitted.
        state.admit_waiting(self.capacity);
        self.wake_writer(state);
        drop(job);
    }

    /// Waits for batches and takes the first ones, up to `bytes` or one; `None` when the queue is closed and nothing is left.
    pub(crate) fn take(&self, bytes: usize) -> Option<VecDeque<Job>> {
        let mut state = self.lock();
        loop {
            if !state.admitted.is_empty() {
                return Some(state.take(bytes));
            }
            if state.closed && state.waiting.is_empty() {
                return None;
            }
            state.writer_sleeps = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back what batches have cost, and lets those in that waited for it.
    pub(crate) fn release(&self, cost: usize) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(cost);
        state.admit_waiting(self.capacity);
        self.wake_writer(state);
    }

    /// Refuses new batches; those that have a place are still taken.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake_writer(state);
    }

    /// Closes the queue and takes everything out, waiting or admitted: nobody will apply it.
    pub(crate) fn abandon(&self) -> Vec<Job> {
        let mut state = self.lock();
        state.closed = true;
        state.used = 0;
        let waiting = std::mem::take(&mut state.waiting);
        let jobs = std::mem::take(&mut state.admitted);
        jobs.into_iter().chain(waiting.into_values()).collect()
    }

    pub(crate) fn level(&self) -> QueueLevel {
        let state = self.lock();
        QueueLevel { bytes: state.used, admitted: state.admitted.len(), waiting: state.waiting.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Column;

    fn job(bytes: usize) -> Job {
        let mut batch = WriteBatch::new();
        batch.put(Column("c"), "", vec![0; bytes]);
        Job { batch, durability: Durability::Buffered, reply: oneshot::channel().0 }
    }

    fn cost(bytes: usize) -> usize {
        job(bytes).cost()
    }

    fn lengths(jobs: impl IntoIterator<Item = Job>) -> Vec<usize> {
        jobs.into_iter().map(|job| job.batch.bytes()).collect()
    }

    #[test]
    fn batches_wait_for_room_in_their_order() {
        let queue = Queue::new(cost(100));
        assert!(matches!(queue.push(job(100)), Ok(Place::Admitted)));
        assert!(matches!(queue.push(job(90)), Ok(Place::Waiting(_))));
        // The small one would fit beside nothing, but nobody overtakes.
        assert!(matches!(queue.push(job(0)), Ok(Place::Waiting(_))));
        assert_eq!(lengths(queue.take(usize::MAX).expect("one batch")), [100]);
        queue.release(cost(100));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the next")), [90]);
        queue.release(cost(90));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the last")), [0]);
    }

    #[test]
    fn a_group_ends_at_its_bytes_but_has_one_batch() {
        let queue = Queue::new(usize::MAX);
        for bytes in [10, 20, 500, 5, 6] {
            assert!(queue.try_push(job(bytes)).is_ok());
        }
        let take = || lengths(queue.take(cost(0) * 2 + 40).expect("a group"));
        assert_eq!((take(), take(), take()), (vec![10, 20], vec![500], vec![5, 6]));
    }

    #[test]
    fn a_full_queue_refuses_and_gives_the_batch_back() {
        let queue = Queue::new(cost(100));
        assert!(queue.try_push(job(100)).is_ok());
        let (refused, error) = queue.try_push(job(7)).expect_err("the queue is full");
        assert_eq!(refused.batch.bytes(), 7);
        assert_eq!(error, StoreError::Full { queue_bytes: cost(100) });
    }

    #[test]
    fn a_try_does_not_overtake_who_waits() {
        let queue = Queue::new(cost(100) + cost(0));
        assert!(matches!(queue.push(job(100)), Ok(Place::Admitted)));
        assert!(matches!(queue.push(job(100)), Ok(Place::Waiting(_))));
        assert!(queue.try_push(job(0)).is_err());
    }

    #[test]
    fn a_batch_larger_than_the_queue_is_admitted_alone() {
        let queue = Queue::new(10);
        assert!(matches!(queue.push(job(1000)), Ok(Place::Admitted)));
        assert!(matches!(queue.push(job(0)), Ok(Place::Waiting(_))));
    }

    #[test]
    fn giving_up_lets_those_behind_in() {
        let queue = Queue::new(cost(100) + cost(0));
        assert!(matches!(queue.push(job(100)), Ok(Place::Admitted)));
        let Ok(Place::Waiting(large)) = queue.push(job(100)) else { panic!("no room for it") };
        assert!(matches!(queue.push(job(0)), Ok(Place::Waiting(_))));
        queue.withdraw(large);
        assert_eq!(lengths(queue.take(usize::MAX).expect("both")), [100, 0]);
        // Withdrawing what is no longer there changes nothing.
        queue.withdraw(large);
        assert_eq!(queue.level().waiting, 0);
    }

    #[test]
    fn closing_keeps_what_has_a_place() {
        let queue = Queue::new(cost(100));
        assert!(matches!(queue.push(job(100)), Ok(Place::Admitted)));
        assert!(matches!(queue.push(job(50)), Ok(Place::Waiting(_))));
        queue.close();
        assert_eq!(queue.push(job(0)).err(), Some(StoreError::Closed));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the first")), [100]);
        queue.release(cost(100));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the second")), [50]);
        queue.release(cost(50));
        assert!(queue.take(usize::MAX).is_none());
        assert_eq!(queue.level().bytes, 0);
    }

    #[test]
    fn a_closed_queue_ends_when_the_last_one_that_waits_withdraws() {
        let queue = Queue::new(cost(100));
        assert!(matches!(queue.push(job(100)), Ok(Place::Admitted)));
        let Ok(Place::Waiting(number)) = queue.push(job(100)) else { panic!("there was room") };
        assert_eq!(lengths(queue.take(usize::MAX).expect("one batch")), [100]);
        queue.close();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| queue.take(usize::MAX).is_none());
            while !queue.lock().writer_sleeps {
                std::thread::yield_now();
            }
            queue.withdraw(number);
            assert!(writer.join().expect("the writer does not panic"));
        });
    }

    #[test]
    fn abandoning_returns_everything_in_order() {
        let queue = Queue::new(cost(100));
        for bytes in [100, 50, 3] {
            assert!(queue.push(job(bytes)).is_ok());
        }
        assert_eq!(lengths(queue.abandon()), [100, 50, 3]);
        assert!(queue.take(usize::MAX).is_none());
    }
}
