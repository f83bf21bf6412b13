//! Actor or direct call? The same work through five designs over the same RocksDB, in one run.
//!
//! ```sh
//! cargo bench --workspace --bench designs                                   # everything, about 17 minutes
//! cargo bench --workspace --bench designs -- --short                        # shows that it runs
//! cargo bench --workspace --bench designs -- --only "512 B, synced"         # some workloads
//! ```
//!
//! The designs take turns (A B C A B C), in another order each round, and a ratio is the median of the ratios within
//! the rounds: machines are noisy, and what disturbs one design disturbs its neighbours. Each run has a new runtime of
//! two threads and a new database, which is closed, deleted and forgotten by the disk before the next run begins.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has failed, and says where")]

mod arguments;
mod closed;
mod design;
mod fan_out;
mod figures;
#[path = "../../tests/lossy/mod.rs"]
#[allow(unused_imports, reason = "its own tests run elsewhere")]
mod lossy;
mod paced;
mod place;
mod plain;
mod process;
mod random;
mod relay;
mod results;
mod table;
mod targets;
mod textbook;
mod ticker;
mod waits;
mod workload;

use std::process::ExitCode;

use crate::arguments::{Arguments, Effort, USAGE, Wish};
use crate::design::{Design, Kind};
use crate::figures::Figures;
use crate::place::Place;
use crate::results::Results;
use crate::table::Rows;
use crate::workload::{Load, Workload};

/// Threads of the runtime, whatever the machine has: what is compared is what two cores do.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Wish::Run(arguments)) => arguments,
        Ok(Wish::Help) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let all = workload::all();
    let names: Vec<&str> = all.iter().map(|workload| workload.name.as_str()).collect();
    let workloads: Vec<&Workload> = all.iter().filter(|workload| arguments.wants(&workload.name)).collect();
    if workloads.is_empty() {
        return Err("no workload has such a name; --list names them".to_string());
    }
    if arguments.list {
        workloads.iter().for_each(|workload| println!("{}", workload.name));
        return Ok(());
    }
    let mut results = Results::open(&arguments.output, &arguments.directory)?;
    introduce(arguments);
    for workload in workloads {
        match compare(workload, arguments) {
            Ok(designs) => {
                table::print(&workload.name, &designs);
                results.set(&workload.name, arguments.effort, &designs);
            }
            Err(why) => {
                println!("\n{}\nSKIPPED: {why}", workload.name);
                results.skip(&workload.name, &why);
            }
        }
        results.arrange(&names);
        results.save(&arguments.output)?;
    }
    if !arguments.short {
        targets::print(&results.targets());
    }
    println!("\nresults: {}", arguments.output.display());
    Ok(())
}

fn introduce(arguments: &Arguments) {
    let file_system = results::file_system(&arguments.directory);
    println!("databases in {} ({file_system})", arguments.directory.display());
    if file_system == "tmpfs" {
        println!("NOTE: that is memory, where a sync costs nothing; give a --directory on a disk");
    }
    if arguments.short {
        println!("NOTE: --short shows that everything runs; its figures mean nothing");
    }
    table::legend();
    let (sync, write) = (place::SLOW_SYNC.as_millis(), place::SLOW_WRITE.as_millis());
    println!("slow disk: a filesystem in memory where a sync takes {sync} ms and a write to a file {write} ms");
}

/// All rounds of all designs of one workload, or why it cannot be run here.
fn compare(workload: &Workload, arguments: &Arguments) -> Result<Vec<Rows>, String> {
    let mut designs: Vec<Rows> = workload.kinds.iter().map(|kind| Rows { kind: *kind, rounds: Vec::new() }).collect();
    let effort = Effort { time: arguments.effort.time * workload.stretch, ..arguments.effort };
    for round in 0..effort.rounds {
        for turn in 0..designs.len() {
            let position = (round + turn) % designs.len();
            let design = &mut designs[position];
            let place = Place::make(workload.disk, &arguments.directory)?;
            design.rounds.push(once(design.kind, workload.load, &place, effort)?);
            place.leave()?;
        }
    }
    Ok(designs)
}

/// One run: a new database, a new runtime.
fn once(kind: Kind, load: Load, place: &Place, effort: Effort) -> Result<Figures, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    let path = place.database();
    runtime.block_on(async {
        let task = tokio::spawn(async move { Workload::run(load, Design::open(kind, &path), effort.time).await });
        task.await.map_err(|error| format!("{}: {error}", kind.name()))
    })
}
