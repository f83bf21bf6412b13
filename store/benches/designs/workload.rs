//! The list of workloads: what is measured, on which designs.

use std::time::Duration;

use crate::closed::{self, Closed};
use crate::design::{Design, Kind};
use crate::fan_out::{self, FanOut};
use crate::figures::Figures;
use crate::paced::{self, Paced};

/// What one run does to a design.
#[derive(Clone, Copy)]
pub enum Load {
    Closed(Closed),
    Paced(Paced),
    FanOut(FanOut),
}

/// Where the data is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// The directory that the benchmark was given.
    Given,
    /// A filesystem that makes every sync and every write slow.
    Slow,
}

/// One block of the table.
pub struct Workload {
    /// Also what `--only` selects by.
    pub name: String,
    pub load: Load,
    pub disk: Disk,
    pub kinds: Vec<Kind>,
    /// How many times as long as the others it runs.
    pub stretch: u32,
}

impl Workload {
    /// Runs it once on an open store and closes that.
    pub async fn run(load: Load, design: Design, time: Duration) -> Figures {
        match load {
            Load::Closed(load) => closed::run(design, load, time).await,
            Load::Paced(load) => paced::run(design, load, time).await,
            Load::FanOut(load) => fan_out::run(design, load, time).await,
        }
    }
}

const SMALL: usize = 512;
const LARGE: usize = 512 << 10;

fn size(bytes: usize) -> &'static str {
    if bytes == SMALL { "512 B" } else { "512 KiB" }
}

fn durability(synced: bool) -> &'static str {
    if synced { "synced" } else { "unsynced" }
}

fn tasks(number: u64) -> String {
    if number == 1 { "1 task".to_string() } else { format!("{number} tasks") }
}

fn closed(name: String, load: Closed) -> Workload {
    Workload { name, load: Load::Closed(load), disk: Disk::Given, kinds: Kind::ALL.to_vec(), stretch: 1 }
}

fn writes(bytes: usize, synced: bool, number: u64) -> Workload {
    let name = format!("write {}, {}, {}", size(bytes), durability(synced), tasks(number));
    closed(name, Closed { tasks: number, bytes, synced, reads_percent: 0, preload: 0, kept: None, watched: false })
}

/// Long enough that the page cache cannot take everything in.
fn sustained(mut workload: Workload) -> Workload {
    workload.name = format!("{}, sustained", workload.name);
    workload.stretch = 4;
    workload
}

/// What a node does with payload: the oldest goes when a new one comes.
fn pruned() -> Workload {
    let (tasks, kept) = (8, 64);
    let mebibytes = (tasks * kept * LARGE as u64) >> 20;
    let load =
        Closed { tasks, bytes: LARGE, synced: false, reads_percent: 0, preload: 0, kept: Some(kept), watched: false };
    let workload = closed(format!("write 512 KiB, unsynced, {tasks} tasks, the last {mebibytes} MiB kept"), load);
    Workload { stretch: 4, ..workload }
}

fn mixed(bytes: usize, synced: bool, number: u64) -> Workload {
    let name = format!("half reads, half writes, {}, {}, {}", size(bytes), durability(synced), tasks(number));
    let preload = if bytes == SMALL { 256 } else { 4 };
    closed(name, Closed { tasks: number, bytes, synced, reads_percent: 50, preload, kept: None, watched: false })
}

fn cached_reads(bytes: usize, number: u64) -> Workload {
    let name = format!("read {} from memory, {}", size(bytes), tasks(number));
    let preload = if bytes == SMALL { 4096 } else { 16 } / number;
    closed(
        name,
        Closed { tasks: number, bytes, synced: false, reads_percent: 100, preload, kept: None, watched: false },
    )
}

fn with_control() -> Vec<Kind> {
    [&Kind::ALL[..], &[Kind::Nothing]].concat()
}

fn fan_out(waiters: usize, writers: u64) -> Workload {
    let beside = if writers == 0 { String::new() } else { format!(", beside {writers} tasks of synced writes") };
    let name = format!("notify_read, {waiters} waiting{beside}");
    // The direct designs look again and again; one stands for all three.
    let mut kinds = vec![Kind::Actor, Kind::Direct, Kind::Textbook];
    if writers == 0 {
        kinds.push(Kind::Nothing);
    }
    Workload { name, load: Load::FanOut(FanOut { waiters, writers }), disk: Disk::Given, kinds, stretch: 1 }
}

fn slow(mut workload: Workload) -> Workload {
    workload.name = format!("slow disk: {}", workload.name);
    workload.disk = Disk::Slow;
    if let Load::Closed(load) = &mut workload.load {
        load.watched = true;
    }
    workload.kinds = with_control();
    workload
}

fn paced(load: Paced) -> Workload {
    let name =
        format!("paced, synced: {}/s of 512 B and {}/s of 512 KiB", load.small_per_second, load.large_per_second);
    Workload { name, load: Load::Paced(load), disk: Disk::Given, kinds: with_control(), stretch: 1 }
}

/// Everything that is compared, in the order of the table.
pub fn all() -> Vec<Workload> {
    let mut all = Vec::new();
    for bytes in [SMALL, LARGE] {
        for synced in [false, true] {
            all.extend([1, 8, 64].map(|number| writes(bytes, synced, number)));
        }
    }
    all.extend([sustained(writes(LARGE, false, 8)), pruned()]);
    all.extend([mixed(SMALL, false, 64), mixed(SMALL, true, 64), mixed(LARGE, false, 8)]);
    all.extend([cached_reads(SMALL, 1), cached_reads(SMALL, 64), cached_reads(LARGE, 1)]);
    all.extend([1, 100, 10_000].map(|waiters| fan_out(waiters, 0)));
    all.push(fan_out(1, 8));
    all.push(paced(Paced { small_per_second: 1000, large_per_second: 50 }));
    all.push(slow(writes(SMALL, false, 64)));
    all.push(slow(writes(SMALL, true, 64)));
    all.push(slow(paced(Paced { small_per_second: 500, large_per_second: 10 })));
    all
}
