//! `rorqual config check | show`: what a node would start with, or everything that keeps it from starting.

use std::path::PathBuf;

use clap::Subcommand;
use rorqual_config::load::{environment, load_node};
use rorqual_config::{ConfigErrors, NodeConfig};
use serde_json::{Value, json};

use super::CliError;
use super::error::print;

/// Arguments of `rorqual config`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report everything that is wrong, one line each
    Check(Source),
    /// Show every value and where it comes from: default, file, environment or flag
    Show(Source),
}

/// What is to be read.
#[derive(clap::Args)]
pub struct Source {
    /// The node's configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set one value, for example `--set batch.max_delay=5ms`; wins over file and environment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Source {
    /// Reads all layers.
    ///
    /// # Errors
    /// Wrong flags; or everything that is wrong with the layers.
    pub fn load(&self) -> Result<Result<NodeConfig, ConfigErrors>, CliError> {
        Ok(load_node(&self.config, &flags(&self.set)?, &environment()))
    }
}

/// Splits `KEY=VALUE` texts.
///
/// # Errors
/// Names the first text without `=`.
pub fn flags(texts: &[String]) -> Result<Vec<(String, String)>, CliError> {
    let split = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err(CliError::usage(format!("`--set {text}` is not KEY=VALUE, for example batch.max_delay=5ms"))),
    };
    texts.iter().map(split).collect()
}

/// Checks or shows.
///
/// # Errors
/// Everything that is wrong with the configuration.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Check(source) => check(&source),
        Command::Show(source) => show(&source),
    }
}

fn check(source: &Source) -> Result<(), CliError> {
    let result = source.load()?;
    if source.json {
        print(&check_json(&result).to_string())?;
    }
    let config = result?;
    if source.json {
        return Ok(());
    }
    let member = config.committee.member(config.me);
    print(&format!(
        "{}: ok: member {} (`{}`) of {}, chain {}",
        source.config.display(),
        config.me,
        member.name,
        config.committee.size(),
        config.committee.chain_id()
    ))
}

fn check_json(result: &Result<NodeConfig, ConfigErrors>) -> Value {
    match result {
        Ok(config) => json!({
            "ok": true,
            "member": config.me.0,
            "name": config.committee.member(config.me).name,
            "members": config.committee.size(),
            "chain_id": config.committee.chain_id().to_string(),
            "errors": [],
        }),
        Err(errors) => {
            let error = |error: &rorqual_config::load::ConfigError| {
                json!({
                    "location": error.location,
                    "key": error.problem.key,
                    "value": error.problem.value,
                    "message": error.problem.message,
                })
            };
            json!({ "ok": false, "errors": errors.0.iter().map(error).collect::<Vec<_>>() })
        }
    }
}

fn show(source: &Source) -> Result<(), CliError> {
    let config = source.load()??;
    match source.json {
        true => print(&show_json(&config).to_string()),
        false => print(show_text(&config).trim_end()),
    }
}

fn show_json(config: &NodeConfig) -> Value {
    let value = |entry: &rorqual_config::load::Entry| json!({ "key": entry.key, "value": entry.value, "origin": entry.origin.to_string() });
    json!({
        "chain_id": config.committee.chain_id().to_string(),
        "member": config.me.0,
        "public_key": config.key.public().to_string(),
        "data_dir": config.data_dir.display().to_string(),
        "values": config.origins.iter().map(value).collect::<Vec<_>>(),
    })
}

/// Three columns: key, value, origin.
fn show_text(config: &NodeConfig) -> String {
    let width =
        |length: fn(&rorqual_config::load::Entry) -> usize| config.origins.iter().map(length).max().unwrap_or(0);
    // A long value, such as a digest, does not push all origins to the right.
    let (keys, values) = (width(|entry| entry.key.len()), width(|entry| entry.value.len()).min(24));
    let line = |entry: &rorqual_config::load::Entry| {
        format!("{:keys$}  {:values$}  {}\n", entry.key, entry.value, entry.origin)
    };
    config.origins.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_without_a_value_is_named() {
        let error = flags(&["a=b=c".into(), "log.filter".into()]).unwrap_err();
        assert_eq!((error.code, error.message.contains("log.filter")), (2, true));
        assert_eq!(flags(&["a=b=c".into()]).unwrap(), [("a".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn a_file_that_is_not_there_is_exit_code_2() {
        let source = Source { config: "/nowhere/node.toml".into(), set: vec![], json: false };
        let error = run(Args { command: Command::Show(source) }).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("/nowhere/node.toml: there is no such file"), "{error}");
    }
}
