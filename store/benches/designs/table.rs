//! The table for people.

use crate::design::Kind;
use crate::figures::{Figures, name, ratio, summarize};

/// All rounds of one design.
pub struct Rows {
    pub kind: Kind,
    pub rounds: Vec<Figures>,
}

const COLUMNS: [(&str, usize); 12] = [
    ("", 26),
    ("ops/s", 10),
    ("ratio", 8),
    ("write p50", 11),
    ("p99", 11),
    ("read p50", 11),
    ("p99", 11),
    ("others p99", 12),
    ("worst", 11),
    (">1 ms", 9),
    ("waits", 10),
    ("CPU ms/MB", 11),
];

/// What the columns mean.
pub fn legend() {
    println!("ratio: operations per second of the actor store divided by the design's (median over the rounds)");
    println!(
        "others: how late an unrelated task of the runtime was: 99th percentile, worst of all rounds, part over 1 ms"
    );
    println!("waits: the longest that a write made a thread of the runtime wait, in loads that look for it");
    println!("disk/B: bytes written to disk for a byte of payload");
}

fn time(microseconds: Option<&f64>) -> String {
    match microseconds {
        None => "-".to_string(),
        Some(us) if *us < 10.0 => format!("{us:.2} µs"),
        Some(us) if *us < 1e3 => format!("{us:.0} µs"),
        Some(us) if *us < 1e5 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{:.0} ms", us / 1e3),
    }
}

fn plain(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_string(), |value| format!("{value:.digits$}"))
}

fn line(cells: &[String]) {
    let mut text = String::new();
    for (position, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
        if position == 0 {
            text += &format!("{cell:<width$}");
        } else {
            text += &format!("{cell:>width$}");
        }
    }
    // The last column has no width of its own.
    println!("{text}{:>9}", cells.last().map_or("", String::as_str));
}

/// Prints one block of the table.
pub fn print(workload: &str, designs: &[Rows]) {
    println!("\n{workload}");
    let mut header: Vec<String> = COLUMNS.iter().map(|(title, _)| (*title).to_string()).collect();
    let fan_out = designs.iter().any(|rows| rows.rounds.iter().any(|round| round.contains_key(name::NOTIFY_P50)));
    if fan_out {
        header[5] = "woken p50".to_string();
    }
    header.push("disk/B".to_string());
    line(&header);
    let actor = designs.iter().find(|rows| rows.kind == Kind::Actor);
    for rows in designs {
        let figures = summarize(&rows.rounds);
        let against = actor.filter(|_| rows.kind != Kind::Nothing);
        let (p50, p99) = if fan_out { (name::NOTIFY_P50, name::NOTIFY_P99) } else { (name::READ_P50, name::READ_P99) };
        line(&[
            rows.kind.name().to_string(),
            plain(figures.get(name::RATE).copied(), 0),
            plain(against.and_then(|actor| ratio(&actor.rounds, &rows.rounds, name::RATE)), 2),
            time(figures.get(name::WRITE_P50)),
            time(figures.get(name::WRITE_P99)),
            time(figures.get(p50)),
            time(figures.get(p99)),
            time(figures.get(name::UNRELATED_P99)),
            time(figures.get(name::UNRELATED_MAX)),
            plain(figures.get(name::UNRELATED_LATE).copied(), 1) + " ‰",
            time(figures.get(name::WAITED_MAX)),
            plain(figures.get(name::CPU_PER_MB).copied(), 2),
            plain(figures.get(name::WRITTEN).copied(), 2),
        ]);
    }
}
