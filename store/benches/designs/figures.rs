//! Figures of one run, and of several runs of the same thing.

use std::collections::BTreeMap;
use std::time::Duration;

/// Names of figures, each with its unit; these are the keys of the results file.
pub mod name {
    /// Operations that were measured, divided by the time they took together.
    pub const RATE: &str = "operations_per_second";
    pub const WRITE_P50: &str = "write_p50_us";
    pub const WRITE_P99: &str = "write_p99_us";
    pub const READ_P50: &str = "read_p50_us";
    pub const READ_P99: &str = "read_p99_us";
    /// Of large values in a load that has both sizes.
    pub const PAYLOAD_P50: &str = "payload_p50_us";
    pub const PAYLOAD_P99: &str = "payload_p99_us";
    /// Part of the asked operations that were done by the end.
    pub const DONE: &str = "done_part";
    /// Lateness of an unrelated task on the same runtime.
    pub const UNRELATED_P99: &str = "unrelated_p99_us";
    /// Of a thousand turns of that task those that came more than a millisecond late; the mean over all runs.
    pub const UNRELATED_LATE: &str = "unrelated_late_per_thousand";
    /// The worst of all runs, not the median of the worst.
    pub const UNRELATED_MAX: &str = "unrelated_max_us";
    /// The longest that a call of a write made a thread of the runtime wait; the worst of all runs.
    pub const WAITED_MAX: &str = "waited_max_us";
    /// Processor time of the whole process by 10^6 bytes of payload.
    pub const CPU_PER_MB: &str = "cpu_ms_per_mb";
    /// Bytes to disk by byte of payload written, flushes at the end included.
    pub const WRITTEN: &str = "written_bytes_per_byte";
    /// From the call of `write` to a waiter that has the value.
    pub const NOTIFY_P50: &str = "notify_p50_us";
    pub const NOTIFY_P99: &str = "notify_p99_us";
    /// From the call of `write` to the last waiter.
    pub const NOTIFY_LAST: &str = "notify_last_p50_us";
}

/// The figures of one run by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// The value below which `part` of the sorted times lie, in microseconds.
fn percentile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() as f64 * part) as usize).min(sorted.len() - 1);
    sorted[index].as_secs_f64() * 1e6
}

/// Adds median and 99th percentile of the times under these names, if there are any times.
pub fn add_percentiles(figures: &mut Figures, mut times: Vec<Duration>, p50: &'static str, p99: &'static str) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    figures.insert(p50, percentile(&times, 0.5));
    figures.insert(p99, percentile(&times, 0.99));
}

/// Adds how late an unrelated task was.
pub fn add_lateness(figures: &mut Figures, mut times: Vec<Duration>) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    figures.insert(name::UNRELATED_P99, percentile(&times, 0.99));
    figures.insert(name::UNRELATED_MAX, percentile(&times, 1.0));
    let late = times.iter().filter(|time| **time > Duration::from_millis(1)).count();
    figures.insert(name::UNRELATED_LATE, late as f64 * 1e3 / times.len() as f64);
}

/// The middle value; of an even number the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// One value for each figure over all rounds: the median; of rare events the worst, and how often they happen.
pub fn summarize(rounds: &[Figures]) -> Figures {
    let mut summary = Figures::new();
    for name in rounds.iter().flat_map(Figures::keys) {
        let values: Vec<f64> = rounds.iter().filter_map(|round| round.get(name).copied()).collect();
        let value = match *name {
            name::UNRELATED_MAX | name::WAITED_MAX => values.into_iter().fold(0.0, f64::max),
            name::UNRELATED_LATE => values.iter().sum::<f64>() / values.len() as f64,
            _ => median(values),
        };
        summary.insert(name, value);
    }
    summary
}

/// The median over the rounds of `ours / theirs`, each from one round: what happens to the machine happens to both.
pub fn ratio(ours: &[Figures], theirs: &[Figures], name: &str) -> Option<f64> {
    let pairs = ours.iter().zip(theirs);
    let ratio = |(ours, theirs): (&Figures, &Figures)| Some(ours.get(name)? / theirs.get(name)?);
    // A run too short for a single operation has no ratio.
    let ratios: Vec<f64> = pairs.filter_map(ratio).filter(|ratio| ratio.is_finite()).collect();
    if ratios.is_empty() { None } else { Some(median(ratios)) }
}
