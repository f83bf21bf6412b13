//! What the payload waits are told, and not yet did.
//!
//! Promises: one entry a batch, however often it is ordered and cancelled, so the queue is bounded by what the core waits for; an
//! order never waits for room, since the core must not wait for a task that waits for the core; batches keep their order. What
//! peers say about batches they lack has a queue of its own, in which more is dropped: the next attempt is scheduled anyway.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::BatchKey;
use tokio::sync::Notify;

/// Answers "not here" that wait.
const MISSING: usize = 256;

/// Batches handled at once.
const AT_ONCE: usize = 512;

/// What is to be done about one batch, in this order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Order {
    /// Nobody waits any more for what was waited for before.
    pub cancel: bool,
    /// Nobody needs what is here of it.
    pub delete: bool,
    /// Wait for it.
    pub wait: Option<Wanted>,
}

/// A batch to wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its length.
    pub bytes: u32,
    /// Who may have it.
    pub holders: Vec<AuthorityIndex>,
    /// Ask at once.
    pub urgent: bool,
}

#[derive(Default)]
struct State {
    orders: HashMap<BatchKey, Order>,
    turn: VecDeque<BatchKey>,
    missing: VecDeque<(AuthorityIndex, Vec<BatchKey>)>,
    closed: bool,
}

/// The queue, shared by those who order and the task.
#[derive(Clone, Default)]
pub struct Orders(Arc<(Mutex<State>, Notify)>);

/// What there is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Orders, one a batch.
    Orders(Vec<(BatchKey, Order)>),
    /// A peer does not have these.
    Missing(AuthorityIndex, Vec<BatchKey>),
    /// Nobody orders any more.
    Closed,
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().orders.len()
    }

    /// Wait for a batch, or name more holders of it.
    pub fn wait(&self, key: BatchKey, bytes: u32, holders: Vec<AuthorityIndex>, urgent: bool) {
        self.change([key], |order| {
            order.wait = Some(match order.wait.take() {
                None => Wanted { bytes, holders: holders.clone(), urgent },
                Some(before) => Wanted {
                    bytes: bytes.max(before.bytes),
                    holders: union(before.holders, &holders),
                    urgent: urgent || before.urgent,
                },
            });
        });
    }

    /// Nobody waits for a batch any more.
    pub fn cancel(&self, key: BatchKey) {
        self.change([key], |order| {
            order.cancel = true;
            order.wait = None;
        });
    }

    /// Nobody needs what is here of these. Whoever waits for one, before or later, finds it gone.
    pub fn delete(&self, keys: impl IntoIterator<Item = BatchKey>) {
        self.change(keys, |order| order.delete = true);
    }

    fn change(&self, keys: impl IntoIterator<Item = BatchKey>, mut change: impl FnMut(&mut Order)) {
        {
            let mut state = self.lock();
            let State { orders, turn, .. } = &mut *state;
            for key in keys {
                change(orders.entry(key).or_insert_with(|| {
                    turn.push_back(key);
                    Order::default()
                }));
            }
        }
        self.0.1.notify_one();
    }

    /// A peer does not have these.
    pub fn missing(&self, peer: AuthorityIndex, keys: Vec<BatchKey>) {
        {
            let mut state = self.lock();
            if state.missing.len() >= MISSING {
                return;
            }
            state.missing.push_back((peer, keys));
        }
        self.0.1.notify_one();
    }

    /// Nobody orders any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.1.notify_one();
    }

    fn try_next(&self) -> Option<Next> {
        let mut state = self.lock();
        let most = state.turn.len().min(AT_ONCE);
        let State { orders, turn, .. } = &mut *state;
        let next: Vec<_> = turn.drain(..most).filter_map(|key| orders.remove_entry(&key)).collect();
        if !next.is_empty() {
            return Some(Next::Orders(next));
        }
        match state.missing.pop_front() {
            Some((peer, keys)) => Some(Next::Missing(peer, keys)),
            None => state.closed.then_some(Next::Closed),
        }
    }

    /// Waits for something to do. Nothing is lost when the wait is given up.
    pub async fn next(&self) -> Next {
        loop {
            let notified = self.0.1.notified();
            if let Some(next) = self.try_next() {
                return next;
            }
            notified.await;
        }
    }
}

fn union(mut known: Vec<AuthorityIndex>, more: &[AuthorityIndex]) -> Vec<AuthorityIndex> {
    for holder in more {
        if !known.contains(holder) {
            known.push(*holder);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use rorqual_config::Digest;
    use rorqual_protocol::types::Sequence;

    use super::*;

    fn key(number: u64) -> BatchKey {
        BatchKey { author: AuthorityIndex(0), sequence: Sequence(number), digest: Digest::default() }
    }

    const A: AuthorityIndex = AuthorityIndex(1);
    const B: AuthorityIndex = AuthorityIndex(2);

    fn waits(bytes: u32, holders: &[AuthorityIndex], urgent: bool) -> Option<Wanted> {
        Some(Wanted { bytes, holders: holders.to_vec(), urgent })
    }

    fn next(orders: &Orders) -> Vec<(BatchKey, Order)> {
        match orders.try_next() {
            Some(Next::Orders(next)) => next,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn however_often_a_batch_is_ordered_it_is_one_entry() {
        let orders = Orders::default();
        for turn in 0..10_000 {
            orders.wait(key(turn % 3), 7, vec![A], false);
            orders.cancel(key(turn % 3));
            orders.delete([key(turn % 3)]);
        }
        assert_eq!((orders.len(), orders.lock().turn.len()), (3, 3));
        let gone = Order { cancel: true, delete: true, wait: None };
        assert_eq!(next(&orders), (0..3).map(|number| (key(number), gone.clone())).collect::<Vec<_>>());
        assert_eq!((orders.try_next(), orders.len()), (None, 0));
    }

    #[test]
    fn holders_add_up_and_a_cancelled_wait_begins_anew() {
        let orders = Orders::default();
        orders.wait(key(1), 7, vec![A], false);
        orders.wait(key(1), 7, vec![A, B], true);
        orders.wait(key(2), 7, vec![A], true);
        orders.cancel(key(2));
        orders.wait(key(2), 7, vec![B], false);
        let first = Order { wait: waits(7, &[A, B], true), ..Order::default() };
        let second = Order { cancel: true, delete: false, wait: waits(7, &[B], false) };
        assert_eq!(next(&orders), [(key(1), first), (key(2), second)]);
    }

    #[test]
    fn a_wait_after_a_deletion_comes_after_it_and_one_before_it_is_gone_if_cancelled() {
        let orders = Orders::default();
        orders.cancel(key(1));
        orders.delete([key(1), key(2)]);
        orders.wait(key(1), 7, vec![B], false);
        orders.wait(key(2), 7, vec![B], false);
        orders.cancel(key(2));
        let first = Order { cancel: true, delete: true, wait: waits(7, &[B], false) };
        let second = Order { cancel: true, delete: true, wait: None };
        assert_eq!(next(&orders), [(key(1), first), (key(2), second)]);
    }

    #[test]
    fn what_peers_lack_is_bounded_and_never_delays_an_order() {
        let orders = Orders::default();
        (0..10_000).for_each(|number| orders.missing(A, vec![key(number)]));
        assert_eq!(orders.lock().missing.len(), MISSING);
        (0..AT_ONCE as u64 + 1).for_each(|number| orders.cancel(key(number)));
        orders.close();
        assert_eq!((next(&orders).len(), next(&orders).len()), (AT_ONCE, 1));
        for number in 0..MISSING as u64 {
            assert_eq!(orders.try_next(), Some(Next::Missing(A, vec![key(number)])));
        }
        assert_eq!(orders.try_next(), Some(Next::Closed));
    }
}
