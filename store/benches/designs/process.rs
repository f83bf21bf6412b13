//! What this process has cost the machine so far, from `/proc`.

use std::fs;

/// Processor time and disk traffic since the process began.
#[derive(Clone, Copy)]
pub struct Spent {
    /// Of all threads, user and system.
    pub cpu_seconds: f64,
    /// Bytes that were or will be sent to the disk: without those whose file was deleted before they were.
    pub written_bytes: f64,
}

/// The clock of `/proc/self/stat`, fixed in Linux's interface.
const TICKS_PER_SECOND: f64 = 100.0;

impl Spent {
    /// Reads the counters of this moment.
    pub fn now() -> Spent {
        Spent { cpu_seconds: cpu_seconds(), written_bytes: counter("write_bytes") - counter("cancelled_write_bytes") }
    }
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("the benchmark runs on Linux");
    // The second field is the name of the program, which may have spaces; utime and stime are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(')').expect("the name stands in parentheses");
    let ticks = |number: usize| -> f64 { fields.split_whitespace().nth(number - 3).unwrap().parse().unwrap() };
    (ticks(14) + ticks(15)) / TICKS_PER_SECOND
}

fn counter(name: &str) -> f64 {
    let counters = fs::read_to_string("/proc/self/io").expect("the kernel counts input and output by process");
    let value = counters.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.expect("the counter exists").parse().unwrap()
}
