//! One run: a task for each connection hands over what is due, a task for each submission waits for its receipt.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::link::{Answer, Link};
use crate::options::Options;
use crate::pace::Pace;
use crate::payload::Payload;
use crate::record::Recorder;
use crate::report::{Line, Outcome};

/// How long after the end of the schedule what was due just before it may still be handed over.
const GRACE: Duration = Duration::from_millis(250);

/// What all tasks of a run share; all of them run on one thread.
struct Run {
    start: Instant,
    end: Duration,
    recorder: RefCell<Recorder>,
    broken: RefCell<Vec<String>>,
    paces: Vec<Pace>,
    sent: Vec<Cell<u64>>,
}

impl Run {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Transactions that are due and not handed over.
    fn behind(&self) -> u64 {
        let now = self.elapsed();
        self.paces.iter().zip(&self.sent).map(|(pace, sent)| pace.due(now).saturating_sub(sent.get())).sum()
    }

    fn close_second(&self, t_s: u64) -> Line {
        let behind = self.behind();
        Line::Second(self.recorder.borrow_mut().close_second(t_s, behind))
    }

    fn broke(&self, connection: usize, options: &Options, reason: &str) {
        let mut broken = self.broken.borrow_mut();
        let name = options.nodes[connection].to_string();
        if !broken.iter().any(|line| line.starts_with(&name)) {
            broken.push(format!("{name}: {reason}"));
        }
    }
}

/// Runs until the end of the schedule and until every receipt is in, or the time for that is over. `emit` gets a line a second.
///
/// # Errors
/// Where a node cannot be reached.
pub async fn run(options: Options, mut emit: impl FnMut(Line)) -> Result<Outcome, String> {
    let mut links = Vec::new();
    for address in &options.nodes {
        links.push(Link::connect(*address, !options.without_ids).await?);
    }
    let count = links.len() as u64;
    let paces: Vec<_> = (0..count).map(|c| Pace::new(options.rate, options.duration, count, c)).collect();
    let run = Rc::new(Run {
        start: Instant::now(),
        end: options.duration,
        recorder: RefCell::new(Recorder::new(options.warm_up)),
        broken: RefCell::default(),
        sent: paces.iter().map(|_| Cell::new(0)).collect(),
        paces,
    });
    let options = Rc::new(options);
    for (connection, link) in links.into_iter().enumerate() {
        spawn_local(hand_over(run.clone(), options.clone(), connection, link));
    }
    let mut t_s = 0;
    loop {
        t_s += 1;
        sleep_until(run.start + Duration::from_secs(t_s)).await;
        emit(run.close_second(t_s));
        let over = run.elapsed() >= run.end + GRACE;
        if over && (run.recorder.borrow().outstanding() == 0 || run.elapsed() >= run.end + options.drain) {
            break;
        }
    }
    Ok(outcome(&run, &options))
}

/// Hands over what is due on one connection until the end of the schedule, or until the connection breaks.
async fn hand_over(run: Rc<Run>, options: Rc<Options>, connection: usize, link: Link) {
    let (pace, limit) = (run.paces[connection], options.submission_limit());
    let mut payload = Payload::new(seed(), options.payload, options.tx_size as usize);
    let mut ticks = interval(options.tick);
    // Ticks that were missed are not made up for: one submission then carries more.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    while sent < pace.total() && run.elapsed() < run.end + GRACE {
        ticks.tick().await;
        loop {
            let count = pace.due(run.elapsed()).saturating_sub(sent).min(limit);
            if count == 0 || run.elapsed() >= run.end + GRACE {
                break;
            }
            match link.submit(payload.submission(count as usize)).await {
                Ok(receipt) => {
                    run.recorder.borrow_mut().submitted += count;
                    spawn_local(await_receipt(run.clone(), options.clone(), connection, sent..sent + count, receipt));
                }
                Err(reason) => return run.broke(connection, &options, &reason),
            }
            sent += count;
            run.sent[connection].set(sent);
        }
    }
}

async fn await_receipt(
    run: Rc<Run>,
    options: Rc<Options>,
    connection: usize,
    transactions: std::ops::Range<u64>,
    receipt: impl Future<Output = Answer>,
) {
    let answer = receipt.await;
    let now = run.elapsed();
    let count = transactions.end - transactions.start;
    let mut recorder = run.recorder.borrow_mut();
    match answer {
        Answer::Committed => {
            let pace = run.paces[connection];
            recorder.committed(transactions.map(|index| pace.intended(index)), now, run.end);
        }
        Answer::Rejected(reason) => recorder.rejected(&reason, count),
        Answer::Unknown(reason) => {
            recorder.unknown += count;
            run.broke(connection, &options, &reason);
        }
    }
}

fn outcome(run: &Run, options: &Options) -> Outcome {
    let recorder = run.recorder.borrow();
    let measured_s = (options.duration - options.warm_up).as_secs_f64();
    let committed_tps = recorder.committed_in_window as f64 / measured_s;
    Outcome {
        committed_tps,
        committed_bps: committed_tps * options.tx_size as f64,
        latency_ms: recorder.latency(),
        offered: run.paces.iter().map(Pace::total).sum(),
        submitted: recorder.submitted,
        committed: recorder.committed,
        rejected: recorder.all_rejected(),
        rejected_by_reason: recorder.rejected.clone(),
        unknown: recorder.unknown + recorder.outstanding(),
        broken: run.broken.borrow().clone(),
        measured_s,
        series: recorder.series().to_vec(),
    }
}

/// Different at every start, so that no two runs send the same bytes.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| std::process::id().into())
}
