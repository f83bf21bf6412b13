//! One run: a task for each connection hands over what is due; receipts are recorded as they come.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rorqual_client::NotSent;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::link::{Answer, Link, Listener};
use crate::options::Options;
use crate::pace::Pace;
use crate::payload::Payload;
use crate::record::Recorder;
use crate::report::{Line, Outcome};

/// How long after the end of the schedule what was due just before it may still be handed over.
const GRACE: Duration = Duration::from_millis(250);

/// What all tasks of a run share. All of them run on one thread, so that no lock is ever waited for.
struct Run {
    options: Options,
    start: OnceLock<Instant>,
    recorder: Mutex<Recorder>,
    broken: Mutex<Vec<String>>,
    over: AtomicBool,
    paces: Vec<Pace>,
    sent: Vec<AtomicU64>,
}

impl Run {
    fn new(options: Options) -> Self {
        let count = options.nodes.len() as u64;
        let pace = |connection| Pace::new(options.rate, options.duration, count, connection);
        Self {
            paces: (0..count).map(pace).collect(),
            sent: (0..count).map(|_| AtomicU64::new(0)).collect(),
            start: OnceLock::new(),
            recorder: Mutex::new(Recorder::new(options.warm_up)),
            broken: Mutex::default(),
            over: AtomicBool::new(false),
            options,
        }
    }

    fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    fn elapsed(&self) -> Duration {
        self.start().elapsed()
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, Vec<String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is handed over any more.
    fn is_closed(&self) -> bool {
        self.elapsed() >= self.options.duration + GRACE
    }

    /// Transactions that are due and not handed over.
    fn behind(&self) -> u64 {
        let now = self.elapsed();
        let shares = self.paces.iter().zip(&self.sent);
        shares.map(|(pace, sent)| pace.due(now).saturating_sub(sent.load(Ordering::Relaxed))).sum()
    }

    fn close_second(&self, t_s: u64) -> Line {
        let behind = self.behind();
        Line::Second(self.recorder().close_second(t_s, behind))
    }

    fn outcome(&self) -> Outcome {
        let recorder = self.recorder();
        let measured_s = (self.options.duration - self.options.warm_up).as_secs_f64();
        let committed_tps = recorder.committed_in_window as f64 / measured_s;
        Outcome {
            committed_tps,
            committed_bps: committed_tps * self.options.tx_size as f64,
            latency_ms: recorder.latency(),
            offered: self.paces.iter().map(Pace::total).sum(),
            submitted: recorder.submitted,
            committed: recorder.committed,
            rejected: recorder.all_rejected(),
            rejected_by_reason: recorder.rejected.clone(),
            unknown: recorder.outstanding(),
            broken: self.broken().clone(),
            measured_s,
            series: recorder.series().to_vec(),
        }
    }
}

/// What one connection hears.
struct Ear {
    run: Arc<Run>,
    connection: usize,
}

impl Listener for Ear {
    fn answered(&mut self, transactions: Range<u64>, answer: Answer) {
        let now = self.run.elapsed();
        match answer {
            Answer::Committed => {
                let pace = self.run.paces[self.connection];
                let intended = transactions.map(|index| pace.intended(index));
                self.run.recorder().committed(intended, now, self.run.options.duration);
            }
            Answer::Rejected(refusal) => {
                self.run.recorder().rejected(&refusal.to_string(), transactions.end - transactions.start);
            }
        }
    }

    fn closed(&mut self, reason: String) {
        if !self.run.over.load(Ordering::Relaxed) {
            self.run.broken().push(reason);
        }
    }
}

/// Runs until the end of the schedule and until every receipt is in, or the time for that is over. `emit` gets a line a second.
///
/// # Errors
/// Where a node cannot be reached, or takes no submission of this size.
pub async fn run(options: Options, mut emit: impl FnMut(Line)) -> Result<Outcome, String> {
    let (duration, drain) = (options.duration, options.drain);
    let run = Arc::new(Run::new(options));
    let mut links = Vec::new();
    for (connection, address) in run.options.nodes.iter().enumerate() {
        let link = Link::connect(*address, !run.options.without_ids, Ear { run: run.clone(), connection }).await?;
        if link.max_submission_bytes() < run.options.tx_size {
            let (size, most) = (run.options.tx_size, link.max_submission_bytes());
            return Err(format!("--tx-size {size}: the node at {address} takes at most {most} bytes"));
        }
        links.push(link);
    }
    let start = run.start();
    let senders: Vec<_> = links
        .into_iter()
        .enumerate()
        .map(|(connection, link)| tokio::spawn(hand_over(run.clone(), connection, link)))
        .collect();
    let mut t_s = 0;
    loop {
        t_s += 1;
        sleep_until(start + Duration::from_secs(t_s)).await;
        emit(run.close_second(t_s));
        let lost = run.broken().len() == run.paces.len();
        let answered = run.is_closed() && run.recorder().outstanding() == 0;
        if answered || lost || run.elapsed() >= duration + drain {
            break;
        }
    }
    run.over.store(true, Ordering::Relaxed);
    senders.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(run.outcome())
}

/// Hands over what is due on one connection until the end of the schedule, then keeps the connection until it is aborted.
async fn hand_over(run: Arc<Run>, connection: usize, mut link: Link) {
    let (pace, limit) = (run.paces[connection], run.options.submission_limit(link.max_submission_bytes()));
    let mut payload = Payload::new(seed(), run.options.payload, run.options.tx_size as usize);
    let mut ticks = interval(run.options.tick);
    // Ticks that were missed are not made up for: one submission then carries more.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    while sent < pace.total() && !run.is_closed() {
        ticks.tick().await;
        loop {
            let count = pace.due(run.elapsed()).saturating_sub(sent).min(limit);
            if count == 0 || run.is_closed() {
                break;
            }
            let left = (run.options.duration + GRACE).saturating_sub(run.elapsed());
            match timeout(left, link.submit(sent, payload.submission(count as usize))).await {
                Ok(Ok(())) => run.recorder().submitted += count,
                // Known here without asking the node; counts as its answer.
                Ok(Err(NotSent::Refused(refusal))) => {
                    let mut recorder = run.recorder();
                    recorder.submitted += count;
                    recorder.rejected(&refusal.to_string(), count);
                }
                // The listener is told that the connection is gone; without credit until the end, nothing was handed over.
                Ok(Err(_)) | Err(_) => break,
            }
            sent += count;
            run.sent[connection].store(sent, Ordering::Relaxed);
        }
        if link.is_closed() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Different at every start, so that no two runs send the same bytes.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| std::process::id().into())
}
