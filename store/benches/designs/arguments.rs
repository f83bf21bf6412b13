//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// How long and how often each design runs a workload.
#[derive(Clone, Copy)]
pub struct Effort {
    pub time: Duration,
    pub rounds: usize,
}

/// What the caller wants.
pub enum Wish {
    Help,
    Run(Arguments),
}

/// What is to be run, and where.
pub struct Arguments {
    pub short: bool,
    pub list: bool,
    pub effort: Effort,
    /// Parts of names; empty means everything.
    pub only: Vec<String>,
    pub directory: PathBuf,
    pub output: PathBuf,
}

pub const USAGE: &str = "\
usage: cargo bench --bench designs -- [OPTIONS]
  --short           every workload once and for a moment: shows that it runs, its figures mean nothing
  --only TEXT       only workloads whose name contains TEXT; may be given several times
  --list            print the names of the workloads and end
  --rounds N        runs of each design; they take turns (default 3)
  --seconds S       length of a run (default 1.5)
  --directory DIR   where the databases are made and deleted again; its disk is what is measured
  --output FILE     results; a file that exists keeps the workloads that are not run now
  --help            print this and end";

const FULL: Effort = Effort { time: Duration::from_millis(1500), rounds: 3 };
const SHORT: Effort = Effort { time: Duration::from_millis(50), rounds: 1 };

impl Arguments {
    /// Reads them, or says what is wrong with them.
    pub fn parse(mut given: impl Iterator<Item = String>) -> Result<Wish, String> {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let output = target.join("designs.json");
        let mut arguments =
            Arguments { short: false, list: false, effort: FULL, only: Vec::new(), directory: target, output };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                // Given by cargo.
                "--bench" => {}
                "--help" => return Ok(Wish::Help),
                "--short" => (arguments.short, arguments.effort) = (true, SHORT),
                "--list" => arguments.list = true,
                "--only" => arguments.only.push(value()?),
                "--directory" => arguments.directory = PathBuf::from(value()?),
                "--output" => arguments.output = PathBuf::from(value()?),
                "--rounds" => arguments.effort.rounds = number(&argument, &value()?, 1.0, 1000.0)? as usize,
                "--seconds" => {
                    let seconds = number(&argument, &value()?, 0.01, 3600.0)?;
                    arguments.effort.time = Duration::from_secs_f64(seconds);
                }
                _ => return Err(format!("\"{argument}\" is not an option")),
            }
        }
        Ok(Wish::Run(arguments))
    }

    /// Whether the workload of this name is to be run.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

fn number(argument: &str, text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{argument} takes a number from {least} to {most}, not \"{text}\"")),
    }
}
