//! What the actor store is meant to reach, and whether it did, from everything in the results file.

use serde_json::{Value, json};

use crate::design::Kind;
use crate::figures::{median, name};

const DIRECT: [Kind; 3] = [Kind::Direct, Kind::Blocking, Kind::Mutex];

/// One target.
pub struct Target {
    what: String,
    value: f64,
    wanted: String,
    holds: bool,
    /// What else belongs to the figure.
    note: String,
}

impl Target {
    /// For the results file.
    pub fn to_json(&self) -> Value {
        json!({
            "what": self.what,
            "value": self.value,
            "wanted": self.wanted,
            "holds": self.holds,
            "note": self.note,
        })
    }
}

/// The workloads of a results file.
struct Measured<'a> {
    workloads: &'a [Value],
    targets: Vec<Target>,
}

impl Measured<'_> {
    fn design(&self, workload: &str, kind: Kind) -> Option<&Value> {
        let workload = self.workloads.iter().find(|one| one["name"] == *workload)?;
        workload.get("designs")?.get(kind.name())
    }

    fn figure(&self, workload: &str, kind: Kind, name: &str) -> Option<f64> {
        self.design(workload, kind)?["median"][name].as_f64()
    }

    /// The median over the rounds of the actor store's figure divided by the design's.
    fn against(&self, workload: &str, kind: Kind, name: &str) -> Option<f64> {
        let rounds = |kind| self.design(workload, kind)?["rounds"].as_array();
        let pairs = rounds(Kind::Actor)?.iter().zip(rounds(kind)?);
        let ratios = pairs.filter_map(|(ours, theirs)| Some(ours[name].as_f64()? / theirs[name].as_f64()?));
        let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
        if ratios.is_empty() { None } else { Some(median(ratios)) }
    }

    /// The design without an actor that did the most operations.
    fn best_direct(&self, workload: &str) -> Option<Kind> {
        let rate = |kind: &Kind| self.figure(workload, *kind, name::RATE);
        let measured = DIRECT.into_iter().filter(|kind| rate(kind).is_some());
        measured.max_by(|a, b| rate(a).unwrap_or(0.0).total_cmp(&rate(b).unwrap_or(0.0)))
    }

    fn at_least(&mut self, what: &str, value: Option<f64>, least: f64) {
        if let Some(value) = value {
            self.add(what, value, format!(">= {least}"), value >= least);
        }
    }

    fn at_most(&mut self, what: &str, value: Option<f64>, most: f64) {
        if let Some(value) = value {
            self.add(what, value, format!("<= {most}"), value <= most);
        }
    }

    fn add(&mut self, what: &str, value: f64, wanted: String, holds: bool) {
        self.targets.push(Target { what: what.to_string(), value, wanted, holds, note: String::new() });
    }

    fn small_writes(&mut self) {
        let (synced, unsynced) = ("write 512 B, synced, 64 tasks", "write 512 B, unsynced, 64 tasks");
        let textbook = self.against(synced, Kind::Textbook, name::RATE);
        self.at_least("512 B synced, 64 tasks: times the textbook actor", textbook, 12.0);
        let direct = self.best_direct(synced).and_then(|best| self.against(synced, best, name::RATE));
        self.at_least("512 B synced, 64 tasks: times the best direct design", direct, 2.0);
        let textbook = self.against(unsynced, Kind::Textbook, name::RATE);
        self.at_least("512 B unsynced, 64 tasks: times the textbook actor", textbook, 1.4);
    }

    fn payload(&mut self) {
        let prefix = "write 512 KiB, ";
        let names = self.workloads.iter().filter_map(|workload| workload["name"].as_str());
        let kinds: Vec<&str> = names.filter_map(|name| name.strip_prefix(prefix)).collect();
        for kind in kinds.into_iter().filter(|kind| kind.contains("synced, 8 tasks")) {
            let workload = format!("{prefix}{kind}");
            let Some(best) = self.best_direct(&workload) else { continue };
            let title = |what: &str| format!("512 KiB {kind}: {what}");
            let rate = self.against(&workload, best, name::RATE);
            self.at_least(&title("times RocksDB with blob files (best direct design)"), rate, 3.0);
            let cpu = self.against(&workload, best, name::CPU_PER_MB);
            self.at_most(&title("CPU by byte, part of the same design's"), cpu, 0.2);
            let written = self.figure(&workload, Kind::Actor, name::WRITTEN);
            self.at_most(&title("bytes written by byte of payload"), written, 1.1);
        }
    }

    fn reads(&mut self) {
        for size in ["512 B", "512 KiB"] {
            let rate = self.against(&format!("read {size} from memory, 1 task"), Kind::Direct, name::RATE);
            self.at_least(&format!("{size} read from memory: part of a direct call's operations"), rate, 0.9);
        }
    }

    fn waiters(&mut self) {
        for workload in ["notify_read, 1 waiting", "notify_read, 1 waiting, beside 8 tasks of synced writes"] {
            let woken = self.figure(workload, Kind::Actor, name::NOTIFY_P50);
            self.at_most(&format!("{workload}: µs from the call of write, p50"), woken, 50.0);
            let direct = self.figure(workload, Kind::Direct, name::WRITE_P50);
            let relay = self.figure(workload, Kind::Nothing, name::NOTIFY_P50);
            if let (Some(direct), Some(target)) = (direct.filter(|_| woken.is_some()), self.targets.last_mut()) {
                target.note = format!("a direct call of RocksDB takes {direct:.0} µs there, without telling anybody");
                if let Some(relay) = relay {
                    target.note += &format!("; two hand-overs without a store {relay:.0} µs");
                }
            }
        }
    }

    fn others(&mut self) {
        let names: Vec<&str> = self.workloads.iter().filter_map(|workload| workload["name"].as_str()).collect();
        for workload in names.into_iter().filter(|name| name.starts_with("slow disk") || name.starts_with("paced")) {
            let waited = self.figure(workload, Kind::Actor, name::WAITED_MAX).map(|waited| waited / 1e3);
            self.at_most(&format!("{workload}: ms a call made the runtime wait, worst"), waited, 1.0);
            let worst = |kind| Some(self.figure(workload, kind, name::UNRELATED_MAX)? / 1e3);
            let late = |kind| self.figure(workload, kind, name::UNRELATED_LATE).unwrap_or(0.0);
            let (ours, nothing) = (worst(Kind::Actor), worst(Kind::Nothing));
            let (with, without) = (late(Kind::Actor), late(Kind::Nothing));
            self.at_most(&format!("{workload}: ms an unrelated task was late, worst"), ours, 1.0);
            if let (Some(nothing), Some(target)) = (nothing.filter(|_| ours.is_some()), self.targets.last_mut()) {
                target.note = format!(
                    "without a store {nothing:.1} ms; over 1 ms: {with:.1} ‰ of its turns, without {without:.1} ‰"
                );
            }
        }
    }
}

/// Every target whose workloads were measured.
pub fn all(workloads: &[Value]) -> Vec<Target> {
    let mut measured = Measured { workloads, targets: Vec::new() };
    measured.small_writes();
    measured.payload();
    measured.reads();
    measured.waiters();
    measured.others();
    measured.targets
}

/// Prints them.
pub fn print(targets: &[Target]) {
    println!("\nTargets, from everything in the results file");
    for target in targets {
        let word = if target.holds { "holds" } else { "FALLS SHORT" };
        println!("{:<84}{:>9.2}  wanted {:<9}{word}", target.what, target.value, target.wanted);
        if !target.note.is_empty() {
            println!("    {}", target.note);
        }
    }
}
