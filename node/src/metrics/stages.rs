//! Times the stages of own batches: submitted, sealed, committed, executed.
//!
//! Bounded by the own batches that may be undelivered at once; what a restart leaves behind is not timed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::HistogramVec;
use rorqual_protocol::types::{CommitIndex, Sequence};

use super::names;

/// Commits that execution has not reported and that hold own batches; older ones are forgotten.
const MAX_COMMITTED: usize = 10_000;

#[derive(Clone, Copy)]
struct Times {
    submitted: Instant,
    sealed: Instant,
}

#[derive(Default)]
struct Inner {
    sealed: BTreeMap<Sequence, Times>,
    committed: VecDeque<(CommitIndex, Instant, Vec<Times>)>,
}

/// Shared by the maker and consensus; a short lock a batch.
#[derive(Clone)]
pub struct Stages {
    inner: Arc<Mutex<Inner>>,
    latency: HistogramVec,
}

impl Stages {
    /// Reports into `latency`, whose label is the stage.
    pub fn new(latency: HistogramVec) -> Self {
        Self { inner: Arc::default(), latency }
    }

    fn observe(&self, stage: &str, from: Instant, to: Instant) {
        self.latency.with_label_values(&[stage]).observe(to.saturating_duration_since(from).as_secs_f64());
    }

    /// An own batch was sealed; its first submission came at `submitted`.
    pub fn sealed(&self, sequence: Sequence, submitted: Instant) {
        let sealed = Instant::now();
        self.observe(names::SUBMITTED_TO_SEALED, submitted, sealed);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sealed.insert(sequence, Times { submitted, sealed });
    }

    /// A commit delivered these own batches.
    pub fn committed(&self, index: CommitIndex, own: impl Iterator<Item = Sequence>) {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let times: Vec<Times> = own.filter_map(|sequence| inner.sealed.remove(&sequence)).collect();
        if times.is_empty() {
            return;
        }
        for batch in &times {
            self.observe(names::SEALED_TO_COMMITTED, batch.sealed, now);
        }
        if inner.committed.len() == MAX_COMMITTED {
            inner.committed.pop_front();
        }
        inner.committed.push_back((index, now, times));
    }

    /// Execution applied everything up to this commit.
    pub fn executed(&self, index: CommitIndex) {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while inner.committed.front().is_some_and(|(committed, ..)| *committed <= index) {
            let Some((_, committed, times)) = inner.committed.pop_front() else { return };
            for batch in times {
                self.observe(names::COMMITTED_TO_EXECUTED, committed, now);
                self.observe(names::SUBMITTED_TO_EXECUTED, batch.submitted, now);
            }
        }
    }

    /// Own batches below this sequence will not be committed any more than they are.
    pub fn forget_below(&self, oldest: Sequence) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sealed = inner.sealed.split_off(&oldest);
    }
}
