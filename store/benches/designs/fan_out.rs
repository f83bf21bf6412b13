//! How long those who wait for a key wait after it was written.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::design::{Design, SMALL, Write};
use crate::figures::{Figures, add_lateness, add_percentiles, name};
use crate::random::{Payloads, Random};
use crate::ticker::Ticker;

/// How often a design without `notify_read` looks: as often as the runtime's timer lets it.
const POLL: Duration = Duration::from_millis(1);
const BYTES: usize = 512;

/// How many wait, and what else goes on.
#[derive(Clone, Copy)]
pub struct FanOut {
    pub waiters: usize,
    /// Tasks that make synced writes all the time.
    pub writers: u64,
}

/// Has tasks wait for a key, writes it, and does so again with another key until `time` is over.
pub async fn run(design: Design, load: FanOut, time: Duration) -> Figures {
    let waiters = load.waiters;
    let payloads = Payloads::new(BYTES);
    let mut writers = JoinSet::new();
    for task in 0..load.writers {
        writers.spawn(write_on(design.clone(), task, payloads.pick(task)));
    }
    let ticker = Ticker::start();
    let began = Instant::now();
    let (mut each, mut last, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    let mut random = Random::new(1);
    let mut turn = 0_u64;
    while turn == 0 || began.elapsed() < time {
        let key = Bytes::copy_from_slice(&turn.to_be_bytes());
        let mut waiting = JoinSet::new();
        for _ in 0..waiters {
            let (design, key) = (design.clone(), key.clone());
            waiting.spawn(async move {
                wait(&design, key).await;
                Instant::now()
            });
        }
        until_registered(&design, waiters).await;
        // At a random moment, so that no design is written to just when its timer is due. A thread of its own waits, so
        // that the runtime is as idle as it would be.
        let pause = Duration::from_micros(1000 + random.below(2000));
        tokio::task::spawn_blocking(move || thread::sleep(pause)).await.expect("sleeping does not panic");
        let written = Instant::now();
        write(&design, key, payloads.pick(turn)).await;
        writes.push(written.elapsed());
        let woken = waiting.join_all().await.into_iter().map(|at| at.duration_since(written));
        let before = each.len();
        each.extend(woken);
        last.extend(each[before..].iter().max().copied());
        turn += 1;
    }
    let mut figures = Figures::new();
    figures.insert(name::RATE, each.len() as f64 / began.elapsed().as_secs_f64());
    add_lateness(&mut figures, ticker.stop().await);
    writers.shutdown().await;
    design.close().await;
    add_percentiles(&mut figures, each, name::NOTIFY_P50, name::NOTIFY_P99);
    add_percentiles(&mut figures, writes, name::WRITE_P50, name::WRITE_P99);
    last.sort_unstable();
    figures.insert(name::NOTIFY_LAST, last[last.len() / 2].as_secs_f64() * 1e6);
    figures
}

async fn write_on(design: Design, task: u64, value: Bytes) {
    for number in 0_u64.. {
        let key = Bytes::from([&b"beside"[..], &task.to_be_bytes(), &number.to_be_bytes()].concat());
        design.write(Write { key, value: value.clone(), synced: true, old: None }).await;
        tokio::task::yield_now().await;
    }
}

async fn write(design: &Design, key: Bytes, value: Bytes) {
    match design {
        Design::Nothing(relay) => relay.write().await,
        _ => design.write(Write { key, value, synced: false, old: None }).await,
    }
}

async fn wait(design: &Design, key: Bytes) {
    match design {
        Design::Actor(store) => drop(store.notify_read(SMALL, key).await.unwrap()),
        Design::Textbook(textbook) => drop(textbook.notify_read(key).await),
        Design::Nothing(relay) => relay.wait().await,
        _ => {
            while design.read(key.clone(), BYTES).await.is_none() {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Returns when everybody waits. Who polls has no list to look at, and has looked at least once after a while.
async fn until_registered(design: &Design, waiters: usize) {
    loop {
        let registered = match design {
            Design::Actor(store) => store.statistics().waiters,
            Design::Textbook(textbook) => textbook.waiters().await,
            Design::Nothing(relay) => relay.waiters(),
            _ => {
                tokio::time::sleep(POLL * 5).await;
                waiters
            }
        };
        if registered == waiters {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}
