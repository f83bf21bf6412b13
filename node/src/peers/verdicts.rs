//! The one place where broken rules are counted and logged, whoever noticed: the router, a fetch, or the core.
//!
//! Promises: every broken rule is one in the metric of its peer and rule; a peer that breaks rules all the time, which it decides,
//! fills no log: beyond a burst, one line a peer and rule in a while, with the number of lines left out.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::{Limiter, Rule};
use tokio::time::Instant;
use tracing::warn;

use crate::metrics::Metrics;

/// One line in the long run.
const PERIOD: Duration = Duration::from_secs(10);
/// Three at once.
const BURST: Duration = Duration::from_secs(30);

/// Shared by all who notice.
#[derive(Clone)]
pub struct Verdicts(Arc<Inner>);

struct Inner {
    committee: Arc<Committee>,
    metrics: Arc<Metrics>,
    began: Instant,
    lines: Mutex<BTreeMap<(AuthorityIndex, Rule), Lines>>,
}

/// What was and may be logged of one peer and rule.
struct Lines {
    limiter: Limiter,
    left_out: u64,
}

impl Lines {
    fn new() -> Self {
        Self { limiter: Limiter::new(PERIOD, BURST), left_out: 0 }
    }

    /// The right to one line: the number of lines left out before it.
    fn speak(&mut self, now: Duration) -> Option<u64> {
        if self.limiter.take(now) {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out = self.left_out.saturating_add(1);
        None
    }
}

impl Verdicts {
    /// Nobody has broken a rule.
    pub fn new(committee: Arc<Committee>, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { committee, metrics, began: Instant::now(), lines: Mutex::default() }))
    }

    /// `peer` broke a rule; `detail` is for people.
    pub fn blame(&self, peer: AuthorityIndex, rule: Rule, detail: &dyn Display) {
        let Inner { committee, metrics, began, lines } = &*self.0;
        if !committee.contains(peer) {
            return;
        }
        metrics.peer_refused(peer, rule.name());
        let said = {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.entry((peer, rule)).or_insert_with(Lines::new).speak(began.elapsed())
        };
        if let Some(left_out) = said {
            let unlogged = (left_out > 0).then_some(left_out);
            warn!(peer = %committee.member(peer).name, rule = rule.name(), %detail, unlogged, "a peer broke a rule: it {rule}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::testing::committee;

    #[test]
    fn every_broken_rule_is_counted_by_peer_and_rule() {
        let committee = Arc::new(committee(4));
        let metrics = Arc::new(Metrics::new(&committee).unwrap());
        let verdicts = Verdicts::new(committee, metrics.clone());
        for _ in 0..1_000 {
            verdicts.blame(AuthorityIndex(2), Rule::Rate, &"subscriptions");
        }
        verdicts.blame(AuthorityIndex(9), Rule::Rate, &"nobody");
        let text = metrics.render(&[]);
        assert!(text.contains("rorqual_peer_refused_total{peer=\"node-2\",rule=\"rate\"} 1000"), "{text}");
        assert!(!text.contains("signature"), "{text}");
    }

    #[test]
    fn who_breaks_rules_all_the_time_fills_no_log() {
        let mut lines = Lines::new();
        let said: Vec<u64> = (0..60_000).filter_map(|ms| lines.speak(Duration::from_millis(ms))).collect();
        assert_eq!(said.len(), 3 + 5, "in one minute");
        let left_out = said.iter().sum::<u64>() + lines.left_out;
        assert_eq!(left_out + 8, 60_000, "what was left out is counted");
    }
}
