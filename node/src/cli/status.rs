//! `rorqual status`: what a running node is doing.

use serde_json::Value;

use super::CliError;
use super::error::print;
use super::link::{Target, block_on, failed};

/// Arguments of `rorqual status`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
///
/// # Errors
/// Where the node cannot be asked.
pub fn run(args: Args) -> Result<(), CliError> {
    let text = block_on(async { args.target.connect_for_status().await?.status().await.map_err(failed) })?;
    let facts: Value = serde_json::from_str(&text)
        .map_err(|error| CliError::failed(format!("the node's status is not JSON: {error}")))?;
    if args.json {
        return print(&format!("{facts:#}"));
    }
    let mut lines = Vec::new();
    for (key, value) in facts.as_object().into_iter().flatten() {
        match value {
            Value::Array(peers) => lines.extend(peers.iter().map(|peer| format!("{key:<18} {}", peer_line(peer)))),
            Value::Object(parts) => {
                lines.extend(
                    parts.iter().map(|(part, value)| format!("{:<18} {}", format!("{key}.{part}"), plain(value))),
                );
            }
            value => lines.push(format!("{key:<18} {}", plain(value))),
        }
    }
    print(&lines.join("\n"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        value => value.to_string(),
    }
}

fn peer_line(peer: &Value) -> String {
    let state = if peer["connected"] == Value::Bool(true) { "connected" } else { "not connected" };
    format!("{} {} {state}", plain(&peer["name"]), plain(&peer["address"]))
}
