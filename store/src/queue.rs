//! The queue of batches before the writer: ordered by call, bounded in bytes, in two lanes.
//!
//! A batch takes its place at the call. If it fits it is *admitted*, else it waits for room behind everyone of its lane who came
//! before. It is applied in either case, whether or not somebody waits for the answer: what was called after it may depend on it.
//! Memory is bounded by the queue's bytes and by what callers have given that wait for room, or gave up waiting.
//!
//! A *bulk* batch never overtakes. Other batches overtake bulk ones with which they share no key, so that few urgent writes do
//! not wait for thousands of others; each group of the writer takes a bounded share of either lane. A batch that shares a key
//! with a bulk one goes behind it, and so does whatever is called after that until it is taken.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::batch::{Durability, Operation, WriteBatch};
use crate::error::StoreError;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// What a batch costs beside its operations; a synced one keeps this place until its sync is done.
pub(crate) const BATCH_OVERHEAD: usize = 128;
/// Bulk batches that become part of one group of the writer: an urgent write that comes meanwhile waits for them.
const BULK_BATCHES: usize = 256;
/// Bytes of bulk batches that become part of one group.
const BULK_BYTES: usize = 2 << 20;

/// Tells the writer's caller how it went.
pub(crate) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// Where a batch waits for the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Urgent,
    Bulk,
}

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: WriteBatch,
    pub(crate) durability: Durability,
    pub(crate) reply: Reply,
    pub(crate) lane: Lane,
    /// Its place in the order of calls.
    ticket: u64,
}

impl Job {
    pub(crate) fn new(batch: WriteBatch, durability: Durability, reply: Reply) -> Job {
        Job { batch, durability, reply, lane: Lane::Urgent, ticket: 0 }
    }

    fn cost(&self) -> usize {
        self.batch.cost() + BATCH_OVERHEAD
    }

    fn wants_bulk(&self) -> bool {
        self.batch.is_bulk() && self.durability == Durability::Buffered
    }
}

/// The batches of one lane.
#[derive(Debug, Default)]
struct Line {
    admitted: VecDeque<Job>,
    waiting: VecDeque<Job>,
    /// Cost of everything admitted and not released yet.
    used: usize,
}

impl Line {
    fn admit(&mut self, job: Job) {
        self.used += job.cost();
        self.admitted.push_back(job);
    }

    fn is_empty(&self) -> bool {
        self.admitted.is_empty() && self.waiting.is_empty()
    }

    /// The place of its first batch in the order of calls.
    fn first_ticket(&self) -> u64 {
        self.admitted.front().or(self.waiting.front()).map_or(u64::MAX, |job| job.ticket)
    }
}

/// What the bulk batches in the queue change.
#[derive(Debug, Default)]
struct Keys {
    keys: HashMap<(&'static str, Bytes), usize>,
    columns: HashMap<&'static str, usize>,
}

impl Keys {
    fn add(&mut self, batch: &WriteBatch) {
        for (column, key) in batch.operations().iter().filter_map(Operation::key) {
            *self.keys.entry((column.0, key.clone())).or_default() += 1;
            *self.columns.entry(column.0).or_default() += 1;
        }
    }

    fn remove(&mut self, batch: &WriteBatch) {
        for (column, key) in batch.operations().iter().filter_map(Operation::key) {
            if let Some(count) = self.columns.get_mut(column.0) {
                *count -= 1;
            }
            let name = (column.0, key.clone());
            match self.keys.get_mut(&name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.keys.remove(&name)),
            }
        }
    }

    /// Whether the batch changes, or may change, a key of these.
    fn meet(&self, batch: &WriteBatch) -> bool {
        !self.keys.is_empty()
            && batch.operations().iter().any(|operation| match operation.key() {
                Some((column, key)) => self.keys.contains_key(&(column.0, key.clone())),
                None => self.columns.get(operation.column().0).is_some_and(|count| *count > 0),
            })
    }
}

#[derive(Debug, Default)]
struct State {
    urgent: Line,
    bulk: Line,
    /// Of the bulk batches that are not taken.
    keys: Keys,
    /// Batches in the bulk lane that are no bulk batches: they share a key with one, or come after such a one.
    detained: usize,
    next_ticket: u64,
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
    fn line(&mut self, lane: Lane) -> &mut Line {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn used(&self) -> usize {
        self.urgent.used + self.bulk.used
    }

    /// Bulk batches leave a quarter of the queue to the others. A batch larger than all that is admitted alone.
    fn fits(&self, lane: Lane, cost: usize, capacity: usize) -> bool {
        let (used, own) = match lane {
            Lane::Urgent => (self.urgent.used, capacity),
            Lane::Bulk => (self.bulk.used, capacity - capacity / 4),
        };
        let room = |used: usize, capacity: usize| used.saturating_add(cost) <= capacity;
        used == 0 || (room(used, own) && room(self.used(), capacity))
    }

    /// Gives the batch its lane.
    fn place(&self, job: &mut Job) {
        let detained = !job.wants_bulk() && (self.detained > 0 || self.keys.meet(&job.batch));
        job.lane = if job.wants_bulk() || detained { Lane::Bulk } else { Lane::Urgent };
    }

    /// Notes that the batch has its place.
    fn enter(&mut self, job: &mut Job) {
        job.ticket = self.next_ticket;
        self.next_ticket += 1;
        if job.lane == Lane::Bulk {
            match job.wants_bulk() {
                true => self.keys.add(&job.batch),
                false => self.detained += 1,
            }
        }
    }

    fn leave(&mut self, job: &Job) {
        if job.lane == Lane::Bulk {
            match job.wants_bulk() {
                true => self.keys.remove(&job.batch),
                false => self.detained -= 1,
            }
        }
    }

    fn take(&mut self, bytes: usize) -> VecDeque<Job> {
        let mut group = VecDeque::new();
        let mut sum = 0_usize;
        while let Some(first) = self.urgent.admitted.front() {
            sum = sum.saturating_add(first.cost());
            if sum > bytes && !group.is_empty() {
                break;
            }
            group.extend(self.urgent.admitted.pop_front());
        }
        let (mut count, mut sum) = (0, 0_usize);
        while let Some(first) = self.bulk.admitted.front() {
            sum = sum.saturating_add(first.cost());
            let full = count == BULK_BATCHES || (sum > bytes.min(BULK_BYTES) && !group.is_empty());
            if full || first.ticket > self.urgent.first_ticket() {
                break;
            }
            count += 1;
            let job = self.bulk.admitted.pop_front();
            job.iter().for_each(|job| self.leave(job));
            group.extend(job);
        }
        group
    }

    fn admit_waiting(&mut self, capacity: usize) {
        for lane in [Lane::Urgent, Lane::Bulk] {
            while let Some(first) = self.line(lane).waiting.front() {
                let cost = first.cost();
                if !self.fits(lane, cost, capacity) {
                    break;
                }
                let line = self.line(lane);
                if let Some(job) = line.waiting.pop_front() {
                    line.admit(job);
                }
            }
        }
    }

    fn has_admitted(&self) -> bool {
        !self.urgent.admitted.is_empty() || !self.bulk.admitted.is_empty()
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
        let wakes = state.writer_sleeps && (state.has_admitted() || state.closed);
        state.writer_sleeps &= !wakes;
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Takes the batch in, or lets it wait for room.
    pub(crate) fn push(&self, mut job: Job) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.place(&mut job);
        let lane = job.lane;
        let fits = state.line(lane).waiting.is_empty() && state.fits(lane, job.cost(), self.capacity);
        state.enter(&mut job);
        match fits {
            true => state.line(lane).admit(job),
            false => state.line(lane).waiting.push_back(job),
        }
        self.wake_writer(state);
        Ok(())
    }

    /// Takes the batch in if there is room now and nobody of its lane waits for room already.
    pub(crate) fn try_push(&self, mut job: Job) -> Result<(), (Job, StoreError)> {
        let mut state = self.lock();
        if state.closed {
            return Err((job, StoreError::Closed));
        }
        state.place(&mut job);
        let lane = job.lane;
        if !state.line(lane).waiting.is_empty() || !state.fits(lane, job.cost(), self.capacity) {
            return Err((job, StoreError::Full { queue_bytes: self.capacity }));
        }
        state.enter(&mut job);
        state.line(lane).admit(job);
        self.wake_writer(state);
        Ok(())
    }

    /// Waits for batches and takes the first ones, up to `bytes` or one of the urgent lane, and a share of the bulk lane; `None`
    /// when the queue is closed and nothing is left.
    pub(crate) fn take(&self, bytes: usize) -> Option<VecDeque<Job>> {
        let mut state = self.lock();
        loop {
            let group = state.take(bytes);
            if !group.is_empty() {
                return Some(group);
            }
            if state.closed && state.urgent.is_empty() && state.bulk.is_empty() {
                return None;
            }
            state.writer_sleeps = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back what batches of a lane have cost, and lets those in that waited for it.
    pub(crate) fn release(&self, lane: Lane, cost: usize) {
        let mut state = self.lock();
        let line = state.line(lane);
        line.used = line.used.saturating_sub(cost);
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
        let lines = [std::mem::take(&mut state.urgent), std::mem::take(&mut state.bulk)];
        (state.keys, state.detained) = (Keys::default(), 0);
        lines.into_iter().flat_map(|line| line.admitted.into_iter().chain(line.waiting)).collect()
    }

    pub(crate) fn level(&self) -> QueueLevel {
        let state = self.lock();
        QueueLevel {
            bytes: state.used(),
            admitted: state.urgent.admitted.len() + state.bulk.admitted.len(),
            waiting: state.urgent.waiting.len() + state.bulk.waiting.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Column;

    fn with(durability: Durability, change: impl FnOnce(&mut WriteBatch)) -> Job {
        let mut batch = WriteBatch::new();
        change(&mut batch);
        Job::new(batch, durability, oneshot::channel().0)
    }

    fn job(bytes: usize) -> Job {
        with(Durability::Buffered, |batch| batch.put(Column("c"), "", vec![0; bytes]))
    }

    fn bulk(key: &'static str, bytes: usize) -> Job {
        with(Durability::Buffered, |batch| {
            batch.put(Column("b"), key, vec![0; bytes]);
            batch.set_bulk();
        })
    }

    fn cost(bytes: usize) -> usize {
        job(bytes).cost()
    }

    fn lengths(jobs: impl IntoIterator<Item = Job>) -> Vec<usize> {
        jobs.into_iter().map(|job| job.batch.bytes()).collect()
    }

    fn waiting(queue: &Queue) -> usize {
        queue.level().waiting
    }

    #[test]
    fn batches_wait_for_room_in_their_order() {
        let queue = Queue::new(cost(100));
        // The small one would fit beside nothing, but nobody overtakes.
        for (position, bytes) in [100, 90, 0].into_iter().enumerate() {
            assert!(queue.push(job(bytes)).is_ok());
            assert_eq!(waiting(&queue), position);
        }
        assert_eq!(lengths(queue.take(usize::MAX).expect("one batch")), [100]);
        queue.release(Lane::Urgent, cost(100));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the next")), [90]);
        queue.release(Lane::Urgent, cost(90));
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
        assert!(queue.push(job(100)).is_ok() && queue.push(job(100)).is_ok());
        assert_eq!(waiting(&queue), 1);
        assert!(queue.try_push(job(0)).is_err());
    }

    #[test]
    fn a_batch_larger_than_the_queue_is_admitted_alone() {
        let queue = Queue::new(10);
        assert!(queue.push(job(1000)).is_ok() && queue.push(job(0)).is_ok());
        assert_eq!((queue.level().admitted, waiting(&queue)), (1, 1));
    }

    #[test]
    fn closing_keeps_what_has_a_place() {
        let queue = Queue::new(cost(100));
        assert!(queue.push(job(100)).is_ok() && queue.push(job(50)).is_ok());
        queue.close();
        assert_eq!(queue.push(job(0)).err(), Some(StoreError::Closed));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the first")), [100]);
        queue.release(Lane::Urgent, cost(100));
        assert_eq!(lengths(queue.take(usize::MAX).expect("the second")), [50]);
        queue.release(Lane::Urgent, cost(50));
        assert!(queue.take(usize::MAX).is_none());
        assert_eq!(queue.level().bytes, 0);
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

    #[test]
    fn an_urgent_batch_overtakes_bulk_and_bulk_overtakes_nothing() {
        let queue = Queue::new(usize::MAX);
        assert!(queue.push(bulk("a", 1)).is_ok() && queue.push(job(1_000)).is_ok());
        assert!(queue.push(bulk("bb", 1)).is_ok());
        // Room for one urgent batch: the second bulk batch was called after the one that is left.
        assert!(queue.push(job(900)).is_ok() && queue.push(bulk("ccc", 1)).is_ok());
        assert_eq!(lengths(queue.take(cost(1_000)).expect("a group")), [1_000, 2, 3]);
        assert_eq!(lengths(queue.take(cost(1_000)).expect("a group")), [900, 4]);
    }

    #[test]
    fn who_shares_a_key_with_a_bulk_batch_goes_behind_it_and_the_next_ones_too() {
        let changes: [fn(&mut WriteBatch); 3] = [
            |batch| batch.delete(Column("b"), "shared"),
            |batch| batch.delete_range(Column("b"), "x", "y"),
            |batch| batch.put(Column("b"), "shared", ""),
        ];
        for change in changes {
            let queue = Queue::new(usize::MAX);
            assert!(queue.push(bulk("shared", 1)).is_ok());
            assert!(queue.push(with(Durability::Synced, change)).is_ok());
            assert!(queue.push(job(100)).is_ok());
            assert!(queue.push(bulk("later", 50)).is_ok());
            let taken = lengths(queue.take(usize::MAX).expect("a group"));
            assert_eq!((taken[0], taken[2], taken[3]), (7, 100, 55), "{taken:?}");
            // Nothing of it is left behind: the next one is urgent again.
            assert!(queue.push(bulk("other", 1)).is_ok() && queue.push(with(Durability::Synced, change)).is_ok());
            let first = queue.take(usize::MAX).expect("a group").pop_front().expect("a batch");
            let is_range = first.batch.operations()[0].key().is_none();
            assert!(first.durability == Durability::Synced || is_range || first.batch.bytes() == 6);
        }
    }

    #[test]
    fn bulk_batches_leave_room_for_others_and_time_too() {
        let queue = Queue::new(4_000 * cost(0));
        let mut admitted = 0;
        while queue.try_push(bulk("k", 0)).is_ok() {
            admitted += 1;
        }
        assert!((2_900..=3_000).contains(&admitted), "{admitted}");
        for _ in 0..500 {
            assert!(queue.try_push(job(0)).is_ok());
        }
        assert_eq!(queue.take(usize::MAX).expect("a group").len(), 500 + BULK_BATCHES);
        assert_eq!(queue.take(usize::MAX).expect("a group").len(), BULK_BATCHES);
        assert!(queue.push(job(7)).is_ok());
        assert_eq!(queue.take(usize::MAX).expect("a group").pop_front().expect("a batch").batch.bytes(), 7);
    }
}
