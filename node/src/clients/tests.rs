//! The room over real sockets, with honest clients and with others; what takes submissions is a stand-in.

mod honest;
mod hostile;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::frames::{ClientHello, Greeting, MAX_HELLO_BYTES, MAX_RESPONSE_BYTES, Request, Response};
use rorqual_client::submission::Submission;
use rorqual_client::{BatchId, Client, Hello, Options, Outcome, Placed};
use rorqual_config::committee::{Member, Stake};
use rorqual_config::parameters::{ClientParameters, StoreParameters};
use rorqual_config::{AuthorityIndex, Committee, Digest, KeyPair, ProtocolParameters};
use rorqual_network::frame::{FrameError, FrameReader, write_frame};
use rorqual_network::half_open::HalfOpen;
use rorqual_store::Store;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Room;
use super::gate::Gate;
use super::questions::Questions;
use super::waits::LogWaits;
use super::{MAX_HALF_OPEN, STATUS_PLACES, Sink, listener};
use crate::batch::{Busy, Pending};
use crate::execution::log::{AppliedState, LogReader};
use crate::schema;

/// Longer than anything takes on a busy machine; only a failing test waits for it.
/// What the node takes for the time of the next commit.
const COMMIT_TIME_MS: u64 = 1_700_000_000_000;
const GENEROUS: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, future).await.expect("this should have happened long ago")
}

async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

fn committee() -> Committee {
    let member = |i: u8| Member {
        name: format!("node-{i}"),
        public_key: KeyPair::from_seed([i + 1; 32]).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9_000 + u16::from(i)),
    };
    Committee::new(0, Digest::default(), (0..4).map(member).collect(), ProtocolParameters::default()).unwrap()
}

/// What the stand-in does with a submission.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Commits it at once.
    Commit,
    /// Keeps it.
    Keep,
    /// Has no room.
    Full,
}

/// Takes submissions instead of the batch maker.
struct StandIn {
    habit: Mutex<Habit>,
    kept: Mutex<Vec<Pending>>,
    taken: Mutex<HashMap<Bytes, u64>>,
}

impl StandIn {
    fn set(&self, habit: Habit) {
        *self.habit.lock().unwrap() = habit;
    }
}

fn placed(position: u64) -> Placed {
    let batch = BatchId { author: AuthorityIndex(0), sequence: position, digest: Digest::default() };
    Placed { commit: 1, first_position: position, batch }
}

impl Sink for StandIn {
    fn try_submit(&self, pending: Pending) -> Result<(), (Pending, Busy)> {
        let habit = *self.habit.lock().unwrap();
        match habit {
            Habit::Full => return Err((pending, Busy::Full)),
            Habit::Keep => self.kept.lock().unwrap().push(pending),
            Habit::Commit => {
                let mut taken = self.taken.lock().unwrap();
                let position = taken.len() as u64;
                *taken.entry(pending.submission.bytes.clone()).or_default() += 1;
                pending.slot.resolve(Outcome::Committed(placed(position)));
            }
        }
        Ok(())
    }
}

/// A running room.
struct Stand {
    address: SocketAddr,
    gate: Arc<Gate>,
    sink: Arc<StandIn>,
    store: Store,
    applied: watch::Sender<AppliedState>,
    closing: CancellationToken,
    stopping: CancellationToken,
    tasks: TaskTracker,
    /// Execution answers lookups; here nobody does, but somebody must be there.
    _lookups: Box<dyn std::any::Any + Send>,
}

impl Stand {
    async fn start(parameters: ClientParameters, habit: Habit) -> Self {
        let store = Store::in_memory(schema::options(&StoreParameters::default(), true));
        let (applied, follow) = watch::channel(AppliedState::default());
        let (lookups, asked) = mpsc::channel(1);
        let log = LogReader::new(store.clone(), follow, lookups);
        let gate = Arc::new(Gate::new(&committee(), AuthorityIndex(0), &parameters, Arc::new(|| COMMIT_TIME_MS)));
        let sink = Arc::new(StandIn { habit: Mutex::new(habit), kept: Mutex::default(), taken: Mutex::default() });
        let (closing, stopping) = (CancellationToken::new(), CancellationToken::new());
        let status = Arc::new(|| serde_json::json!({ "round": 1 }));
        let room = Room {
            gate: gate.clone(),
            sink: sink.clone(),
            questions: Questions {
                waits: LogWaits::spawn(log.subscribe()),
                reads: gate.reads.clone(),
                log,
                store: store.clone(),
                status,
                stopping: stopping.clone(),
            },
            half_open: Arc::new(HalfOpen::new(MAX_HALF_OPEN)),
            status_places: Arc::new(HalfOpen::new(STATUS_PLACES)),
            closing: closing.clone(),
            stopping: stopping.clone(),
        };
        let socket = super::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (address, tasks) = (socket.local_addr().unwrap(), TaskTracker::new());
        tasks.spawn(listener::accept(socket, room, tasks.clone()));
        tasks.close();
        Self { address, gate, sink, store, applied, closing, stopping, tasks, _lookups: Box::new(asked) }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.address.to_string(), Options::default()).await.unwrap()
    }

    fn count(&self, event: &str) -> u64 {
        let list = self.gate.counters.list();
        list.iter().find(|(name, _)| *name == event).unwrap_or_else(|| panic!("no event {event}")).1
    }
}

/// A connection made by hand, after the hellos.
struct Raw {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    hello: Hello,
}

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        let (reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let mut reader = FrameReader::new(reader, MAX_HELLO_BYTES);
        write_frame(&mut writer, ClientHello::frame()).await.unwrap();
        let greeting = Greeting::parse(&within(reader.next()).await.unwrap()).unwrap();
        let Greeting::Welcome(hello) = greeting else { panic!("turned away: {greeting:?}") };
        reader.set_limit(MAX_RESPONSE_BYTES, false);
        Self { reader, writer, hello }
    }

    async fn say(&mut self, parts: [Bytes; 2]) {
        write_frame(&mut self.writer, parts.concat().into()).await.unwrap();
    }

    async fn submit(&mut self, tag: u64, bytes: usize) {
        let submission = Submission::one(None, vec![0; bytes].into());
        self.say(Request::submit(tag, &submission)).await;
    }

    async fn next(&mut self) -> Result<(Response, Bytes), FrameError> {
        within(self.reader.next()).await.map(|frame| Response::parse(&frame).unwrap())
    }

    /// What the node says at last.
    async fn last_words(&mut self) -> String {
        let mut words = String::new();
        while let Ok((response, _)) = self.next().await {
            if let Response::Closing { reason } = response {
                words = reason;
            }
        }
        words
    }
}
