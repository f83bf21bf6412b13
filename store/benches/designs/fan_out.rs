//! How long those who wait for a key wait after it was written.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::design::{Design, SMALL};
use crate::figures::{Figures, add_lateness, add_percentiles, name};
use crate::random::Payloads;
use crate::ticker::Ticker;

/// How often a design without `notify_read` looks: as often as the runtime's timer lets it.
const POLL: Duration = Duration::from_millis(1);
const BYTES: usize = 512;

/// Has `waiters` tasks wait for a key, writes it, and does so again with another key until `time` is over.
pub async fn run(design: Design, waiters: usize, time: Duration) -> Figures {
    let payloads = Payloads::new(BYTES);
    let ticker = Ticker::start();
    let began = Instant::now();
    let (mut each, mut last, mut writes) = (Vec::new(), Vec::new(), Vec::new());
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
        let written = Instant::now();
        design.write(key, payloads.pick(turn), false).await;
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
    design.close().await;
    add_percentiles(&mut figures, each, name::NOTIFY_P50, name::NOTIFY_P99);
    add_percentiles(&mut figures, writes, name::WRITE_P50, name::WRITE_P99);
    last.sort_unstable();
    figures.insert(name::NOTIFY_LAST, last[last.len() / 2].as_secs_f64() * 1e6);
    figures
}

async fn wait(design: &Design, key: Bytes) {
    match design {
        Design::Actor(store) => drop(store.notify_read(SMALL, key).await.unwrap()),
        Design::Textbook(textbook) => drop(textbook.notify_read(key).await),
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
            _ => {
                tokio::time::sleep(POLL * 5).await;
                waiters
            }
        };
        if registered == waiters {
            // The threads that were busy with the waiting are idle again, as they would be.
            tokio::time::sleep(POLL).await;
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}
