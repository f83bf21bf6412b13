//! Waits for payload that blocks name, with `notify_read`, and fetches it meanwhile.
//!
//! One task. For every wait there is one `notify_read` on the store; whoever writes the payload ends the wait: a live chunk
//! from the author, the answer to a fetch, or a write of long ago. The first request goes out after `payload_grace`, or at once
//! when the core says so; a holder just learnt is asked at once; the next one when the patience with one is over, by the rules
//! of [`rorqual_protocol::holders`]. At most
//! `WINDOW_BYTES` are asked of one holder at a time, so that catching up does not overrun its queue. While the disk is all but
//! full nobody is asked. A cancelled wait leaves nothing behind.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use rorqual_config::AuthorityIndex;
use rorqual_network::{Lane, Links};
use rorqual_protocol::Input;
use rorqual_protocol::holders::{Asked, Holders, Question, Step};
use rorqual_protocol::types::BatchKey;
use rorqual_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::batch::intake::Intake;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::peers::message::{MAX_FETCH_BATCHES, Message};
use crate::schema;
use crate::sync::orders::{Next, Order, Orders, Wanted};

/// Pause while the disk is all but full, or where a holder's window has no room.
const RETRY: Duration = Duration::from_secs(2);
/// Least patience with a holder; twice the grace where that is more.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

/// Bytes asked of one holder and not there yet. A single batch always goes.
const WINDOW_BYTES: u64 = 8 << 20;

/// Handle of the task. Orders are never lost and their number is bounded, see [`Orders`].
#[derive(Clone)]
pub struct PayloadSync(Arc<Handle>);

/// The task ends when the last one is gone.
struct Handle(Orders);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the task is made of.
pub struct PayloadSetup {
    /// Ourselves: never asked.
    pub me: AuthorityIndex,
    /// Where payload arrives.
    pub store: Store,
    /// Carries requests.
    pub links: Links,
    /// Told what to take in unasked.
    pub intake: Intake,
    /// Whether there is room for payload.
    pub disk: Disk,
    /// Gets `BatchStored`.
    pub consensus: mpsc::Sender<Input>,
    /// How long live payload may lag behind the block that names it.
    pub grace: Duration,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl PayloadSync {
    /// Makes the handle and the task; the task ends when all handles are gone, or with an error of the store.
    pub fn new(setup: PayloadSetup) -> (Self, impl Future<Output = Result<(), StoreError>>) {
        let orders = Orders::default();
        let task = Task {
            orders: orders.clone(),
            waits: HashMap::new(),
            arrivals: FuturesUnordered::new(),
            due: BTreeMap::new(),
            turn: 0,
            windows: BTreeMap::new(),
            holders: Holders::new(LEAST_PATIENCE.max(setup.grace * 2)),
            started: Instant::now(),
            setup,
        };
        (Self(Arc::new(Handle(orders))), task.run())
    }

    /// Report `BatchStored` once the batch is in the store; more holders may be named later.
    pub fn wait(&self, key: BatchKey, bytes: u32, holders: Vec<AuthorityIndex>, urgent: bool) {
        self.0.0.wait(key, bytes, holders, urgent);
    }

    /// Nobody waits any more.
    pub fn cancel(&self, key: BatchKey) {
        self.0.0.cancel(key);
    }

    /// Nobody needs this payload any more and no commit delivers it.
    pub fn delete(&self, keys: Vec<BatchKey>) {
        self.0.0.delete(keys);
    }

    /// A peer said that it does not have these.
    pub fn missing(&self, peer: AuthorityIndex, keys: Vec<BatchKey>) {
        self.0.0.missing(peer, keys);
    }
}

struct Wait {
    /// Who may have it, and who is asked: that one's window is charged.
    question: Question,
    /// The first request went out.
    begun: bool,
    bytes: u32,
    /// Its place in `due`.
    at: (Instant, u64),
    arrival: AbortHandle,
}

/// What one holder owes us.
#[derive(Default)]
struct Window {
    bytes: u64,
    /// Due, but the window is full.
    stalled: VecDeque<BatchKey>,
}

type Arrival = std::pin::Pin<Box<dyn Future<Output = (BatchKey, Result<Result<u32, StoreError>, Aborted>)> + Send>>;

struct Task {
    orders: Orders,
    waits: HashMap<BatchKey, Wait>,
    arrivals: FuturesUnordered<Arrival>,
    /// When to ask for which batch; the number makes keys distinct.
    due: BTreeMap<(Instant, u64), BatchKey>,
    turn: u64,
    windows: BTreeMap<AuthorityIndex, Window>,
    holders: Holders,
    started: Instant,
    setup: PayloadSetup,
}

impl Task {
    async fn run(mut self) -> Result<(), StoreError> {
        loop {
            let next = self.due.first_key_value().map(|((at, _), _)| *at);
            if next.is_some_and(|at| at <= Instant::now()) {
                // Orders and arrivals that never cease must not keep anything from being asked for; what is asked for now is
                // due again only after a pause.
                self.ask_due();
            }
            let next = self.due.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                Some((key, outcome)) = self.arrivals.next() => self.arrived(key, outcome).await?,
                next = self.orders.next() => match next {
                    Next::Orders(orders) => self.obey(orders),
                    Next::Missing(peer, keys) => self.missing(peer, &keys),
                    Next::Closed => return Ok(()),
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Each batch in the order of the core's words: a wait that comes after a deletion finds it gone. Deletions of many are one.
    fn obey(&mut self, orders: Vec<(BatchKey, Order)>) {
        for (key, _) in orders.iter().filter(|(_, order)| order.cancel) {
            if let Some(wait) = self.forget(key) {
                wait.arrival.abort();
            }
        }
        self.setup.intake.delete(orders.iter().filter(|(_, order)| order.delete).map(|(key, _)| *key));
        for (key, order) in orders {
            if let Some(Wanted { bytes, holders, urgent }) = order.wait {
                self.wait(key, bytes, holders, urgent);
            }
        }
    }

    fn missing(&mut self, peer: AuthorityIndex, keys: &[BatchKey]) {
        for key in keys {
            let Some(wait) = self.waits.get_mut(key) else { continue };
            if wait.question.asked().is_some_and(|asked| asked.peer == peer) {
                let (asked, bytes) = (wait.question.release(), wait.bytes);
                self.discharge(asked, bytes);
                self.schedule(*key, Instant::now());
            }
        }
    }

    fn wait(&mut self, key: BatchKey, bytes: u32, holders: Vec<AuthorityIndex>, urgent: bool) {
        let now = Instant::now();
        let me = self.setup.me;
        let deleted = self.setup.intake.want(key, bytes);
        let others = holders.into_iter().filter(|holder| *holder != me);
        if let Some(wait) = self.waits.get_mut(&key) {
            if wait.question.learn(others) && (urgent || wait.begun) {
                let (asked, bytes) = (wait.question.release(), wait.bytes);
                self.discharge(asked, bytes);
                self.schedule(key, now);
            }
            return;
        }
        let (arrival, registration) = AbortHandle::new_pair();
        let store = self.setup.store.clone();
        let stored = async move {
            if let Some(mut deleted) = deleted {
                // An error says that the deletion is over.
                let _ = deleted.wait_for(|done| *done).await;
            }
            store.notify_read(schema::PAYLOAD, schema::batch_key(&key)).await.map(|content| content.len() as u32)
        };
        self.arrivals.push(Box::pin(async move { (key, Abortable::new(stored, registration).await) }));
        let mut question = Question::default();
        question.learn(others);
        let first = if urgent { now } else { now + self.setup.grace };
        self.turn = self.turn.wrapping_add(1);
        let at = (first, self.turn);
        self.due.insert(at, key);
        self.waits.insert(key, Wait { question, begun: false, bytes, at, arrival });
    }

    async fn arrived(
        &mut self,
        key: BatchKey,
        outcome: Result<Result<u32, StoreError>, Aborted>,
    ) -> Result<(), StoreError> {
        let Ok(stored) = outcome else { return Ok(()) };
        let (bytes, now) = (stored?, self.started.elapsed());
        if let Some(wait) = self.waits.get_mut(&key) {
            let (asked, owed) = (wait.question.arrived(&mut self.holders, now), wait.bytes);
            self.discharge(asked, owed);
        }
        self.forget(&key);
        // A closed mailbox means that the node is going down; its reason is told there.
        let _ = self.setup.consensus.send(Input::BatchStored { key, bytes }).await;
        Ok(())
    }

    fn forget(&mut self, key: &BatchKey) -> Option<Wait> {
        let mut wait = self.waits.remove(key)?;
        self.due.remove(&wait.at);
        self.setup.intake.unwant(key);
        self.discharge(wait.question.release(), wait.bytes);
        Some(wait)
    }

    /// Gives a holder's window back, and wakes what stalled on it.
    fn discharge(&mut self, asked: Option<Asked>, bytes: u32) {
        let Some(window) = asked.and_then(|asked| self.windows.get_mut(&asked.peer)) else { return };
        window.bytes = window.bytes.saturating_sub(u64::from(bytes));
        let mut room = WINDOW_BYTES.saturating_sub(window.bytes);
        let mut woken = Vec::new();
        while room > 0
            && let Some(key) = window.stalled.pop_front()
        {
            if let Some(wait) = self.waits.get(&key) {
                room = room.saturating_sub(u64::from(wait.bytes));
                woken.push(key);
            }
        }
        woken.into_iter().for_each(|key| self.schedule(key, Instant::now()));
    }

    fn schedule(&mut self, key: BatchKey, when: Instant) {
        let Some(wait) = self.waits.get_mut(&key) else { return };
        self.due.remove(&wait.at);
        self.turn = self.turn.wrapping_add(1);
        wait.at = (when, self.turn);
        self.due.insert(wait.at, key);
    }

    /// Asks for everything that is due, one request a holder with many keys.
    fn ask_due(&mut self) {
        let now = Instant::now();
        let mut questions: BTreeMap<AuthorityIndex, Vec<BatchKey>> = BTreeMap::new();
        while let Some((&(at, turn), &key)) = self.due.first_key_value() {
            if at > now {
                break;
            }
            self.due.remove(&(at, turn));
            if let Some(holder) = self.question(key, now) {
                questions.entry(holder).or_default().push(key);
            }
        }
        for (holder, keys) in questions {
            for keys in keys.chunks(MAX_FETCH_BATCHES) {
                self.setup.metrics.payload_requested(keys.len() as u64);
                let frame = Message::FetchBatches { keys: keys.to_vec() }.frame();
                let _ = self.setup.links.send(holder, Lane::Urgent, frame);
            }
        }
    }

    /// Whom to ask for a batch that is due now, charged to that holder's window; when to look again is scheduled.
    fn question(&mut self, key: BatchKey, now: Instant) -> Option<AuthorityIndex> {
        let elapsed = now.saturating_duration_since(self.started);
        let wait = self.waits.get_mut(&key)?;
        if wait.question.is_late(elapsed) {
            let (asked, bytes) = (wait.question.give_up(&mut self.holders), wait.bytes);
            self.discharge(asked, bytes);
        }
        if !self.setup.disk.takes_from_peers() {
            self.schedule(key, now + RETRY);
            return None;
        }
        let wait = self.waits.get_mut(&key)?;
        let (bytes, windows) = (u64::from(wait.bytes), &self.windows);
        // A single batch always goes.
        let owed = |holder: AuthorityIndex| match windows.get(&holder).map_or(0, |window| window.bytes) {
            0 => Some(bytes),
            before => Some(before.saturating_add(bytes)).filter(|owed| *owed <= WINDOW_BYTES),
        };
        match wait.question.next(&self.holders, elapsed, |_| true, owed) {
            Step::Ask(holder, until) => {
                wait.begun = true;
                let window = self.windows.entry(holder).or_default();
                window.bytes = window.bytes.saturating_add(bytes);
                self.schedule(key, self.started + until);
                Some(holder)
            }
            Step::Wait(until) => {
                self.schedule(key, self.started + until);
                None
            }
            Step::Stall(holder) => {
                self.windows.entry(holder).or_default().stalled.push_back(key);
                // Woken when the window has room, or by this clock if the holder never answers.
                self.schedule(key, now + RETRY);
                None
            }
        }
    }
}
