//! `rorqual-load`: offers load to a cluster and measures it. JSON lines on standard output, one a second and a last one with
//! the result. Exit code 0: every transaction that was handed over was answered; 1: it was not, or a node could not be
//! reached; 2: wrong usage.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rorqual_benchmark::options::Options;
use rorqual_benchmark::report::Line;
use rorqual_benchmark::run::run;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(message) = options.check() {
        eprintln!("rorqual-load: {message}");
        return ExitCode::from(2);
    }
    match measure(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("rorqual-load: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every transaction that was handed over was answered.
fn measure(options: Options) -> Result<bool, String> {
    // One thread: the machine's cores belong to the nodes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(run(options, print))?;
    let answered = outcome.unknown == 0 && outcome.broken.is_empty();
    for broken in &outcome.broken {
        eprintln!("rorqual-load: the connection broke: {broken}");
    }
    print(Line::Result(Box::new(outcome)));
    Ok(answered)
}

/// Whoever reads the lines may have gone; the measurement goes on for the exit code.
fn print(line: Line) {
    if let Ok(line) = serde_json::to_string(&line) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
