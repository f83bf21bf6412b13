//! Time as this node can know it: what clients are told, and whether the clock of this machine is where it should be.
//!
//! Clients count the deadlines of their ids from commit time, so they are told the time that the next commit would have: the
//! rule of commits applied to what the median of the members' clocks is now, this machine's own included. Nothing depends on
//! when the last commit was, so this holds for a fresh cluster and after an outage of all nodes; and a machine whose clock is
//! wrong does not mislead its clients while peers that with it hold a quorum are there. Before they are, its own clock is all
//! there is.
//!
//! A clock that is wrong harms little as long as most are right, but somebody must see to it. So once a second the node looks
//! how far its own is from the median of its peers' and from commit time; three looks in a row beyond a second are logged,
//! counted, and shown by the check `clock`, which keeps no node from being ready: it works as well as before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rorqual_protocol::core::Deviation;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::consensus::ConsensusStatus;
use crate::consensus::driver::Clock;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A clock that is further off than this is wrong, in milliseconds.
const TOLERANCE_MS: u64 = 1_000;
/// It is right again once it is no further off than this, in milliseconds, so that nothing flutters.
const RIGHT_MS: u64 = 800;
/// Looks in a row that find it wrong before anybody is told: a step of the clock takes a moment to be seen by all.
const LOOKS: u32 = 3;

/// Whether this machine's clock is where it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How far it was off at the last look.
    pub deviation: Deviation,
    /// It is wrong, and operators are told.
    pub wrong: bool,
    /// Looks in a row that found it beyond the tolerance.
    looks: u32,
}

impl State {
    /// What is wrong and what to do, in one line; none while the clock is right.
    pub fn trouble(&self) -> Option<String> {
        let apart = |ms: i64, of: &str| {
            let word = if ms > 0 { "ahead of" } else { "behind" };
            format!("{:.1} s {word} {of}", ms.unsigned_abs() as f64 / 1e3)
        };
        let peers = self.deviation.from_peers_ms.map(|ms| apart(ms, "the median of its peers"));
        let commits = self.deviation.from_commits_ms.map(|ms| apart(ms, "commit time"));
        let found: Vec<String> = peers.into_iter().chain(commits).collect();
        self.wrong.then(|| {
            format!(
                "the clock of this machine is {}; see to its time service (commit time that is ahead of all clocks runs at nine \
                 tenths of their pace until they have caught up)",
                found.join(" and ")
            )
        })
    }
}

/// The state after another look.
pub fn decide(before: State, deviation: Deviation) -> State {
    let off = deviation.greatest_ms();
    let looks = if off > TOLERANCE_MS { before.looks.saturating_add(1) } else { 0 };
    let wrong = if before.wrong { off > RIGHT_MS } else { looks >= LOOKS };
    State { deviation, wrong, looks }
}

/// What rooms ask. Cheap to clone and to ask.
#[derive(Clone)]
pub struct NodeClock {
    clock: Clock,
    status: watch::Receiver<ConsensusStatus>,
    state: watch::Receiver<State>,
    warnings: Arc<AtomicU64>,
}

impl NodeClock {
    /// The time of the next commit, if it were decided now, in milliseconds since the Unix epoch.
    pub fn next_commit_ms(&self) -> u64 {
        self.status.borrow().times.next_commit_ms(self.clock.now())
    }

    /// The same, for rooms that know nothing else of this.
    pub fn source(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.next_commit_ms())
    }

    /// What was seen last.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// How often the clock went wrong since the start.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }
}

/// Looks at the clock of this machine.
pub struct Monitor {
    clock: Clock,
    status: watch::Receiver<ConsensusStatus>,
    state: watch::Sender<State>,
    warnings: Arc<AtomicU64>,
    /// Commits behind which a node cannot tell what time commits have.
    most_behind: u64,
}

impl Monitor {
    /// Has looked at nothing yet. A node that is more than `most_behind` commits behind does not compare itself with them.
    pub fn new(clock: Clock, status: watch::Receiver<ConsensusStatus>, most_behind: u64) -> (Self, NodeClock) {
        let (sender, state) = watch::channel(State::default());
        let warnings = Arc::new(AtomicU64::new(0));
        let node = NodeClock { clock, status: status.clone(), state, warnings: warnings.clone() };
        (Self { clock, status, state: sender, warnings, most_behind }, node)
    }

    /// Looks again and again until `stopping` is cancelled.
    pub async fn run(self, stopping: CancellationToken) {
        while stopping.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            let deviation = {
                let status = self.status.borrow();
                status.times.deviation(self.clock.now(), status.lag > self.most_behind)
            };
            self.saw(deviation);
        }
    }

    fn saw(&self, deviation: Deviation) {
        let before = *self.state.borrow();
        let now = decide(before, deviation);
        self.state.send_replace(now);
        let Deviation { from_peers_ms, from_commits_ms } = deviation;
        match (before.wrong, now.trouble()) {
            (false, Some(trouble)) => {
                self.warnings.fetch_add(1, Ordering::Relaxed);
                warn!(from_peers_ms, from_commits_ms, "{trouble}");
            }
            (true, None) => info!(from_peers_ms, from_commits_ms, "the clock of this machine is right again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(from_peers_ms: i64, from_commits_ms: i64) -> Deviation {
        Deviation { from_peers_ms: Some(from_peers_ms), from_commits_ms: Some(from_commits_ms) }
    }

    fn after(looks: &[Deviation]) -> State {
        looks.iter().fold(State::default(), |state, deviation| decide(state, *deviation))
    }

    #[test]
    fn three_looks_beyond_a_second_in_a_row_are_wrong_in_either_direction_and_from_either() {
        for wrong in [off(1_001, 0), off(-1_001, 0), off(0, 1_001), off(0, -1_001), off(i64::MIN, 0), off(0, i64::MAX)]
        {
            assert!(!after(&[wrong; 2]).wrong, "{wrong:?}");
            assert!(after(&[wrong; 3]).wrong, "{wrong:?}");
            assert!(!after(&[wrong, wrong, off(0, 0), wrong, wrong]).wrong, "{wrong:?}");
        }
        assert!(!after(&[off(1_000, -1_000); 9]).wrong, "a second is not more than a second");
        assert!(!after(&[Deviation::default(); 9]).wrong, "nothing is known");
    }

    #[test]
    fn a_wrong_clock_is_right_again_with_a_margin() {
        let wrong = [off(5_000, 0); 3];
        let then = |last: Deviation| after(&[&wrong[..], &[last]].concat()).wrong;
        assert!(then(off(900, 0)));
        assert!(then(off(0, -801)));
        assert!(!then(off(800, -800)));
        assert!(!then(Deviation::default()));
        assert!(
            !after(&[&wrong[..], &[off(0, 0), off(1_500, 0)]].concat()).wrong,
            "and then it takes three looks again"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_size_and_direction() {
        assert_eq!(after(&[off(1, 1)]).trouble(), None);
        let text = after(&[off(-3_600_000, 2_500); 3]).trouble().unwrap();
        assert!(text.contains("3600.0 s behind the median of its peers and 2.5 s ahead of commit time"), "{text}");
        let alone = Deviation { from_peers_ms: None, from_commits_ms: Some(-4_000) };
        assert!(after(&[alone; 3]).trouble().unwrap().contains("is 4.0 s behind commit time;"));
    }
}
