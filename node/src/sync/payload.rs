//! Waits for payload that blocks name, with `notify_read`, and fetches it meanwhile.
//!
//! One task. For every wait there is one `notify_read` on the store; whoever writes the payload ends the wait: a live chunk
//! from the author, the answer to a fetch, or a write of long ago. The first request goes out after `payload_grace`, or at once
//! when the core says so; a holder just learnt is asked at once; later ones in turn, with growing pauses. At most
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
use rorqual_protocol::types::BatchKey;
use rorqual_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::batch::intake::Intake;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::peers::message::{MAX_FETCH_BATCHES, Message};
use crate::schema;
use crate::sync::orders::{Next, Order, Orders};

/// First pause between two requests for the same batch.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two requests for the same batch.
const RETRY_MAX: Duration = Duration::from_secs(2);

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
            holders: BTreeMap::new(),
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

    /// A peer said that it does not have these.
    pub fn missing(&self, peer: AuthorityIndex, keys: Vec<BatchKey>) {
        self.0.0.missing(peer, keys);
    }
}

struct Wait {
    /// Who may have it; asked in turn.
    holders: Vec<AuthorityIndex>,
    /// Of `holders`, the next one to ask.
    next: usize,
    pause: Duration,
    bytes: u32,
    /// Who was asked last; its window is charged.
    asked: Option<AuthorityIndex>,
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
    holders: BTreeMap<AuthorityIndex, Window>,
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
                    Next::Order(key, order) => self.obey(key, order),
                    Next::Missing(peer, keys) => self.missing(peer, &keys),
                    Next::Closed => return Ok(()),
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    fn obey(&mut self, key: BatchKey, order: Order) {
        if matches!(order, Order::Cancel | Order::Renew { .. })
            && let Some(wait) = self.forget(&key)
        {
            wait.arrival.abort();
        }
        match order {
            Order::Wait { bytes, holders, urgent } | Order::Renew { bytes, holders, urgent } => {
                self.wait(key, bytes, holders, urgent);
            }
            Order::Cancel => {}
        }
    }

    fn missing(&mut self, peer: AuthorityIndex, keys: &[BatchKey]) {
        for key in keys {
            let Some(wait) = self.waits.get(key) else { continue };
            // Ask the next one at once, unless everybody was asked just now.
            if wait.holders.len() > 1 && wait.next < wait.holders.len() && wait.holders.contains(&peer) {
                self.schedule(*key, Instant::now());
            }
        }
    }

    fn wait(&mut self, key: BatchKey, bytes: u32, holders: Vec<AuthorityIndex>, urgent: bool) {
        let now = Instant::now();
        let me = self.setup.me;
        if let Some(wait) = self.waits.get_mut(&key) {
            let known = wait.holders.len();
            for holder in holders {
                if holder != me && !wait.holders.contains(&holder) {
                    wait.holders.push(holder);
                }
            }
            if wait.holders.len() > known && (urgent || wait.next > 0) {
                wait.next = known;
                self.schedule(key, now);
            }
            return;
        }
        let (arrival, registration) = AbortHandle::new_pair();
        let store = self.setup.store.clone();
        let stored = async move {
            store.notify_read(schema::PAYLOAD, schema::batch_key(&key)).await.map(|content| content.len() as u32)
        };
        self.arrivals.push(Box::pin(async move { (key, Abortable::new(stored, registration).await) }));
        self.setup.intake.want(key);
        let holders = holders.into_iter().filter(|holder| *holder != me).collect();
        let first = if urgent { now } else { now + self.setup.grace };
        self.turn += 1;
        let at = (first, self.turn);
        self.due.insert(at, key);
        self.waits.insert(key, Wait { holders, next: 0, pause: RETRY_MIN, bytes, asked: None, at, arrival });
    }

    async fn arrived(
        &mut self,
        key: BatchKey,
        outcome: Result<Result<u32, StoreError>, Aborted>,
    ) -> Result<(), StoreError> {
        let Ok(stored) = outcome else { return Ok(()) };
        let bytes = stored?;
        self.forget(&key);
        // A closed mailbox means that the node is going down; its reason is told there.
        let _ = self.setup.consensus.send(Input::BatchStored { key, bytes }).await;
        Ok(())
    }

    fn forget(&mut self, key: &BatchKey) -> Option<Wait> {
        let wait = self.waits.remove(key)?;
        self.due.remove(&wait.at);
        self.setup.intake.unwant(key);
        self.discharge(wait.asked, wait.bytes);
        Some(wait)
    }

    /// Gives a holder's window back, and wakes what stalled on it.
    fn discharge(&mut self, holder: Option<AuthorityIndex>, bytes: u32) {
        let Some(window) = holder.and_then(|holder| self.holders.get_mut(&holder)) else { return };
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
        self.turn += 1;
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

    /// Whom to ask for a batch that is due now, charged to that holder's window; the next attempt is scheduled.
    fn question(&mut self, key: BatchKey, now: Instant) -> Option<AuthorityIndex> {
        let wait = self.waits.get_mut(&key)?;
        let (asked, bytes) = (wait.asked.take(), wait.bytes);
        self.discharge(asked, bytes);
        if !self.setup.disk.takes_from_peers() {
            self.schedule(key, now + RETRY_MAX);
            return None;
        }
        let wait = self.waits.get_mut(&key)?;
        let holder = wait.holders.get(wait.next % wait.holders.len().max(1)).copied();
        if let Some(holder) = holder {
            let window = self.holders.entry(holder).or_default();
            if window.bytes > 0 && window.bytes + u64::from(bytes) > WINDOW_BYTES {
                window.stalled.push_back(key);
                // Woken when the window has room, or by this clock if the holder never answers.
                self.schedule(key, now + RETRY_MAX);
                return None;
            }
            window.bytes += u64::from(bytes);
        }
        wait.asked = holder;
        wait.next += 1;
        if wait.next >= wait.holders.len() {
            wait.next = 0;
            wait.pause = (wait.pause * 2).min(RETRY_MAX);
        }
        let pause = wait.pause;
        self.schedule(key, now + pause);
        holder
    }
}
