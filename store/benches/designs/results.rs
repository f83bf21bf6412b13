//! The results file: everything that was measured, for plots and for other programs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::arguments::Effort;
use crate::figures::summarize;
use crate::table::Rows;
use crate::targets::{self, Target};

const SCHEMA: u64 = 1;

/// One results file.
pub struct Results {
    machine: Value,
    /// Each with its name.
    workloads: Vec<Value>,
}

impl Results {
    /// Starts with what is in the file already, if it is of this program and this machine.
    pub fn open(path: &Path, directory: &Path) -> Result<Results, String> {
        let machine = machine(directory);
        if !path.exists() {
            return Ok(Results { machine, workloads: Vec::new() });
        }
        let refuse = |what: String| format!("{}: {what}; move it away or give another --output", path.display());
        let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let mut old: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if old["schema"] != json!(SCHEMA) {
            return Err(refuse(format!("it has schema {} and this program writes {SCHEMA}", old["schema"])));
        }
        if old["machine"] != machine {
            return Err(refuse(format!("it is of another machine ({})", old["machine"])));
        }
        match old["workloads"].take() {
            Value::Array(workloads) => Ok(Results { machine, workloads }),
            _ => Err(refuse("it has no workloads".to_string())),
        }
    }

    /// Adds a workload, or replaces it.
    pub fn set(&mut self, workload: &str, effort: Effort, designs: &[Rows]) {
        let design = |rows: &Rows| {
            let figures = json!({ "median": summarize(&rows.rounds), "rounds": rows.rounds });
            (rows.kind.name().to_string(), figures)
        };
        let designs: Map<String, Value> = designs.iter().map(design).collect();
        self.replace(json!({
            "name": workload,
            "commit": commit(),
            "measured_at_unix": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "seconds": effort.time.as_secs_f64(),
            "designs": designs,
        }));
    }

    /// Notes why a workload could not be run.
    pub fn skip(&mut self, workload: &str, why: &str) {
        self.replace(json!({ "name": workload, "skipped": why }));
    }

    fn replace(&mut self, workload: Value) {
        match self.workloads.iter_mut().find(|old| old["name"] == workload["name"]) {
            Some(old) => *old = workload,
            None => self.workloads.push(workload),
        }
    }

    /// Puts the workloads into the order of these names; those that have none of them any more leave.
    pub fn arrange(&mut self, names: &[&str]) {
        let place = |workload: &Value| names.iter().position(|name| workload["name"] == **name);
        self.workloads.retain(|workload| place(workload).is_some());
        self.workloads.sort_by_key(place);
    }

    /// What the store is meant to reach, by everything that is in the file.
    pub fn targets(&self) -> Vec<Target> {
        targets::all(&self.workloads)
    }

    /// Writes the file whole, or leaves the old one.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let targets: Vec<Value> = self.targets().iter().map(Target::to_json).collect();
        let file = json!({
            "schema": SCHEMA,
            "machine": self.machine,
            "targets": targets,
            "workloads": self.workloads,
        });
        let text = format!("{file:#}\n");
        let temporary = path.with_extension("json.new");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The last line that a command prints; empty if it cannot be run.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_string()
}

fn commit() -> String {
    let modified = !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    if modified { format!("{commit}-modified") } else { commit }
}

/// The type of the filesystem of a directory.
pub fn file_system(directory: &Path) -> String {
    output("df", &["--output=fstype", &directory.to_string_lossy()])
}

fn machine(directory: &Path) -> Value {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "processor": model.map_or("unknown", |(_, model)| model),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "file_system": file_system(directory),
    })
}
