//! The JSON lines on standard output: one a second, and a last one with everything.

use std::collections::BTreeMap;

use serde::Serialize;

/// One second of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Seconds since the start, at the end of this one.
    pub t_s: u64,
    /// Transactions whose receipt came in this second.
    pub tps: u64,
    /// Median of their latencies.
    pub p50_ms: f64,
    /// 99th percentile of their latencies.
    pub p99_ms: f64,
    /// Transactions handed over and not answered.
    pub outstanding: u64,
    /// Transactions due and not handed over, for lack of credit or of time.
    pub behind: u64,
}

/// From the intended time to the receipt, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// A line of the output.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// While it runs.
    Second(Second),
    /// At the end.
    Result(Box<Outcome>),
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Committed after the warm-up and before the end of the schedule, by second.
    pub committed_tps: f64,
    /// The same in bytes of transactions.
    pub committed_bps: f64,
    /// Of all transactions intended after the warm-up that were committed.
    pub latency_ms: Latency,
    /// Transactions that the rate asked for.
    pub offered: u64,
    /// Transactions handed over.
    pub submitted: u64,
    /// Transactions with a committed receipt.
    pub committed: u64,
    /// Transactions that were refused.
    pub rejected: u64,
    /// The same by reason.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Transactions handed over of which nothing was heard: their connection broke, or the end came first.
    pub unknown: u64,
    /// Connections that broke, and why.
    pub broken: Vec<String>,
    /// Seconds measured, without the warm-up.
    pub measured_s: f64,
    /// Every second.
    pub series: Vec<Second>,
}
