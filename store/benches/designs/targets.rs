//! What the actor store is meant to reach, and whether it did in this run.

use crate::design::Kind;
use crate::figures::{name, ratio, summarize};
use crate::table::Rows;

/// Everything measured in this run, by workload.
pub type Measured = [(String, Vec<Rows>)];

const DIRECT: [Kind; 3] = [Kind::Direct, Kind::Blocking, Kind::Mutex];

fn rows<'a>(measured: &'a Measured, workload: &str, kind: Kind) -> Option<&'a Rows> {
    let (_, designs) = measured.iter().find(|(name, _)| name == workload)?;
    designs.iter().find(|rows| rows.kind == kind)
}

fn figure(measured: &Measured, workload: &str, kind: Kind, name: &str) -> Option<f64> {
    summarize(&rows(measured, workload, kind)?.rounds).get(name).copied()
}

fn against(measured: &Measured, workload: &str, kind: Kind, name: &str) -> Option<f64> {
    ratio(&rows(measured, workload, Kind::Actor)?.rounds, &rows(measured, workload, kind)?.rounds, name)
}

/// The design without an actor that did the most operations.
fn best_direct(measured: &Measured, workload: &str) -> Option<Kind> {
    let rate = |kind: &Kind| figure(measured, workload, *kind, name::RATE).unwrap_or(0.0);
    DIRECT
        .into_iter()
        .filter(|kind| rows(measured, workload, *kind).is_some())
        .max_by(|a, b| rate(a).total_cmp(&rate(b)))
}

fn verdict(what: &str, value: Option<f64>, holds: impl Fn(f64) -> bool, wanted: &str) {
    let Some(value) = value else { return };
    let word = if holds(value) { "holds" } else { "FALLS SHORT" };
    println!("{what:<78}{value:>10.2}  wanted {wanted:<9}{word}");
}

/// Prints one line for each target whose workloads were run.
pub fn print(measured: &Measured) {
    println!("\nTargets");
    let at_least = |what: &str, value: Option<f64>, least: f64| {
        verdict(what, value, |value| value >= least, &format!(">= {least}"));
    };
    let at_most = |what: &str, value: Option<f64>, most: f64| {
        verdict(what, value, |value| value <= most, &format!("<= {most}"));
    };
    let synced = "write 512 B, synced, 64 tasks";
    let unsynced = "write 512 B, unsynced, 64 tasks";
    at_least(
        "512 B synced, 64 tasks: times the textbook actor",
        against(measured, synced, Kind::Textbook, name::RATE),
        12.0,
    );
    let best = best_direct(measured, synced).and_then(|best| against(measured, synced, best, name::RATE));
    at_least("512 B synced, 64 tasks: times the best direct design", best, 2.0);
    at_least(
        "512 B unsynced, 64 tasks: times the textbook actor",
        against(measured, unsynced, Kind::Textbook, name::RATE),
        1.4,
    );
    for (durability, how) in [("unsynced", ""), ("unsynced", ", sustained"), ("synced", "")] {
        let workload = format!("write 512 KiB, {durability}, 8 tasks{how}");
        let Some(best) = best_direct(measured, &workload) else { continue };
        let title = |what: &str| format!("512 KiB {durability}, 8 tasks{how}: {what}");
        at_least(
            &title("times RocksDB with blob files (best direct design)"),
            against(measured, &workload, best, name::RATE),
            3.0,
        );
        at_most(
            &title("CPU by byte, part of the same design's"),
            against(measured, &workload, best, name::CPU_PER_MB),
            0.2,
        );
        at_most(
            &title("bytes written by byte of payload"),
            figure(measured, &workload, Kind::Actor, name::WRITTEN),
            1.1,
        );
    }
    for size in ["512 B", "512 KiB"] {
        let workload = format!("read {size} from memory, 1 task");
        let value = against(measured, &workload, Kind::Direct, name::RATE);
        at_least(&format!("{size} read from memory: part of a direct call's operations"), value, 0.9);
    }
    for workload in ["notify_read, 1 waiting", "notify_read, 1 waiting, beside 8 tasks of synced writes"] {
        let woken = figure(measured, workload, Kind::Actor, name::NOTIFY_P50);
        at_most(&format!("µs from the call of write to the waiter, p50: {workload}"), woken, 50.0);
        let direct = figure(measured, workload, Kind::Direct, name::WRITE_P50);
        let beyond = woken.zip(direct).map(|(woken, direct)| woken - direct);
        at_most("   of that beyond what a direct call of RocksDB takes to write", beyond, 50.0);
    }
    let disturbing = measured.iter().filter(|(name, _)| name.starts_with("slow disk") || name.starts_with("paced"));
    for (workload, _) in disturbing {
        let worst = |kind| figure(measured, workload, kind, name::UNRELATED_MAX).map(|us| us / 1e3);
        let late = |kind| figure(measured, workload, kind, name::UNRELATED_LATE).unwrap_or(0.0);
        at_most(&format!("ms an unrelated task was late, worst: {workload}"), worst(Kind::Actor), 1.0);
        if let Some(nothing) = worst(Kind::Nothing) {
            let (with, without) = (late(Kind::Actor), late(Kind::Nothing));
            println!(
                "   without a store {nothing:.2}; over 1 ms: {with:.2} ‰ of its turns, without a store {without:.2} ‰"
            );
        }
    }
}
