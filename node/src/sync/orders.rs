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

/// What is to be done about one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Wait for it.
    Wait {
        /// Its length.
        bytes: u32,
        /// Who may have it.
        holders: Vec<AuthorityIndex>,
        /// Ask at once.
        urgent: bool,
    },
    /// Nobody waits for it any more.
    Cancel,
    /// Nobody waited for what was waited for before; now somebody does again.
    Renew {
        /// Its length.
        bytes: u32,
        /// Who may have it.
        holders: Vec<AuthorityIndex>,
        /// Ask at once.
        urgent: bool,
    },
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
    /// An order for this batch.
    Order(BatchKey, Order),
    /// A peer does not have these.
    Missing(AuthorityIndex, Vec<BatchKey>),
    /// Nobody orders any more.
    Closed,
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches have orders.
    pub fn len(&self) -> usize {
        self.lock().orders.len()
    }

    /// Wait for a batch, or name more holders of it.
    pub fn wait(&self, key: BatchKey, bytes: u32, holders: Vec<AuthorityIndex>, urgent: bool) {
        {
            let mut state = self.lock();
            let merged = match state.orders.remove(&key) {
                None => {
                    state.turn.push_back(key);
                    Order::Wait { bytes, holders, urgent }
                }
                Some(Order::Cancel) => Order::Renew { bytes, holders, urgent },
                Some(Order::Wait { holders: known, urgent: before, .. }) => {
                    Order::Wait { bytes, holders: union(known, holders), urgent: urgent || before }
                }
                Some(Order::Renew { holders: known, urgent: before, .. }) => {
                    Order::Renew { bytes, holders: union(known, holders), urgent: urgent || before }
                }
            };
            state.orders.insert(key, merged);
        }
        self.0.1.notify_one();
    }

    /// Nobody waits for a batch any more.
    pub fn cancel(&self, key: BatchKey) {
        {
            let mut state = self.lock();
            if state.orders.insert(key, Order::Cancel).is_none() {
                state.turn.push_back(key);
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
        while let Some(key) = state.turn.pop_front() {
            if let Some(order) = state.orders.remove(&key) {
                return Some(Next::Order(key, order));
            }
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

fn union(mut known: Vec<AuthorityIndex>, more: Vec<AuthorityIndex>) -> Vec<AuthorityIndex> {
    let new: Vec<AuthorityIndex> = more.into_iter().filter(|holder| !known.contains(holder)).collect();
    known.extend(new);
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

    #[test]
    fn however_often_a_batch_is_ordered_it_is_one_entry() {
        let orders = Orders::default();
        for turn in 0..10_000 {
            orders.wait(key(turn % 3), 7, vec![A], false);
            orders.cancel(key(turn % 3));
        }
        assert_eq!((orders.len(), orders.lock().turn.len()), (3, 3));
        for number in 0..3 {
            assert_eq!(orders.try_next(), Some(Next::Order(key(number), Order::Cancel)));
        }
        assert_eq!(orders.try_next(), None);
    }

    #[test]
    fn holders_add_up_and_a_cancelled_wait_begins_anew() {
        let orders = Orders::default();
        orders.wait(key(1), 7, vec![A], false);
        orders.wait(key(1), 7, vec![A, B], true);
        orders.cancel(key(2));
        orders.wait(key(2), 7, vec![B], false);
        let first = Order::Wait { bytes: 7, holders: vec![A, B], urgent: true };
        assert_eq!(orders.try_next(), Some(Next::Order(key(1), first)));
        let second = Order::Renew { bytes: 7, holders: vec![B], urgent: false };
        assert_eq!(orders.try_next(), Some(Next::Order(key(2), second)));
    }

    #[test]
    fn what_peers_lack_is_bounded_and_never_delays_an_order() {
        let orders = Orders::default();
        (0..10_000).for_each(|number| orders.missing(A, vec![key(number)]));
        assert_eq!(orders.lock().missing.len(), MISSING);
        orders.cancel(key(1));
        orders.close();
        assert_eq!(orders.try_next(), Some(Next::Order(key(1), Order::Cancel)));
        for number in 0..MISSING as u64 {
            assert_eq!(orders.try_next(), Some(Next::Missing(A, vec![key(number)])));
        }
        assert_eq!(orders.try_next(), Some(Next::Closed));
    }
}
