//! `rorqual inspect`: what is in a data directory. Changes nothing, and works beside a running node.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rorqual_config::encoding::decode;
use rorqual_config::load::{environment, load_node};
use rorqual_config::parameters::StoreParameters;
use rorqual_config::{AuthorityIndex, ChainId};
use rorqual_protocol::types::Round;
use rorqual_store::offline::{LogEnd, View, holder, read_logs, segments};
use rorqual_store::{Column, StoreError};
use serde_json::{Value, json};

use super::CliError;
use super::config::flags;
use super::error::print;
use crate::consensus::safety::{self, Found, Testimony};
use crate::disk;
use crate::execution::record::{AppliedRecord, Begins};
use crate::schema::{self, Identity, Meta};

/// Arguments of `rorqual inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// The node's configuration file: look into its data directory
    #[arg(long, value_name = "FILE", conflicts_with = "directory", required_unless_present = "directory")]
    config: Option<PathBuf>,
    /// A data directory, or a backup
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks and prints.
///
/// # Errors
/// Exit code 2 where there is no data directory, 1 where its database cannot be read; what can be read is printed first.
pub fn run(args: Args) -> Result<(), CliError> {
    let directory = match (&args.config, args.directory) {
        (Some(config), _) => load_node(config, &flags(&[])?, &environment())?.data_dir,
        (None, Some(directory)) => directory,
        (None, None) => return Err(CliError::usage("give --config FILE or a directory".into())),
    };
    if let Err(error) = directory.read_dir() {
        return Err(match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                CliError::usage(format!("there is no data directory {}", directory.display()))
            }
            _ => CliError::failed(format!(
                "cannot look into {}: {error}; run it as the user that runs the node, or as root",
                directory.display()
            )),
        });
    }
    schema::check_format(&directory).map_err(|error| CliError::usage(error.to_string()))?;
    let mut facts = outside(&directory)?;
    let inside = inside(&directory);
    match &inside {
        Ok(inside) => facts.extend(inside.clone()),
        Err(error) => facts.push(("error", json!(error.to_string()))),
    }
    print_facts(&facts, args.json)?;
    inside.map(drop).map_err(|error| match error {
        StoreError::Missing { .. } | StoreError::Format { .. } => CliError::usage(error.to_string()),
        error => CliError::failed(error.to_string()),
    })
}

type Facts = Vec<(&'static str, Value)>;

/// What the files beside the database say, and the files of its log.
fn outside(directory: &Path) -> Result<Facts, CliError> {
    let failed = |error: String| CliError::failed(error);
    let used = holder(directory).map(|process| format!("process {process}"));
    let record = match safety::read(directory).map_err(failed)? {
        Found::Missing => json!({ "state": "missing" }),
        Found::Damaged(why) => json!({ "state": "damaged", "what": why }),
        Found::Valid { record, damaged } => json!({
            "state": "whole", "round": record.round.0, "generation": record.generation, "member": record.me.0,
            "damaged_slot": damaged,
        }),
    };
    let bytes = disk::used(directory).map_err(|error| CliError::failed(format!("{}: {error}", directory.display())))?;
    let logs = read_logs(directory).map_err(|error| CliError::failed(error.to_string()))?;
    let segments = segments(directory).map_err(|error| CliError::failed(error.to_string()))?;
    let segment_bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    let log = |log: &rorqual_store::offline::LogFile| {
        let end = match log.end {
            LogEnd::Whole => "whole".to_owned(),
            LogEnd::Torn { at } => format!("torn at byte {at}"),
            LogEnd::Broken { at, lost } => format!("broken at byte {at}, {lost} whole records behind it"),
        };
        json!({ "file": log.path.display().to_string(), "bytes": log.bytes, "records": log.records, "end": end })
    };
    Ok(vec![
        ("directory", json!(directory.display().to_string())),
        ("in_use_by", json!(used)),
        ("bytes", json!(bytes)),
        ("amnesia", json!(safety::forbidden(directory).map_err(failed)?)),
        ("safety_record", record),
        ("write_ahead_log", logs.iter().map(log).collect()),
        ("segments", json!({ "files": segments.len(), "bytes": segment_bytes })),
    ])
}

/// What the database says.
fn inside(directory: &Path) -> Result<Facts, StoreError> {
    let view = View::open(directory, &schema::options(&StoreParameters::default(), false))?;
    let identity: Option<Identity> = record(&view, Meta::IDENTITY)?;
    let begins: Begins = record(&view, Meta::BEGINS)?.unwrap_or_default();
    let applied: AppliedRecord = record(&view, Meta::APPLIED)?.unwrap_or_default();
    let number = |column: Column| Ok(view.last(column)?.and_then(|(key, _)| schema::parse_number(&key)));
    let own_round: Option<u64> = number(schema::OWN)?;
    let never_signed = view.read(schema::META, Meta::NEVER_SIGNED)?.is_some();
    let refusal = identity
        .as_ref()
        .and_then(|identity| refusal(directory, never_signed, own_round, identity.chain_id, identity.me));
    let column = |size: rorqual_store::ColumnSize| (size.column.to_owned(), json!(size.disk_bytes));
    Ok(vec![
        ("format", json!(identity.as_ref().map(|identity| identity.format))),
        ("chain_id", json!(identity.as_ref().map(|identity| identity.chain_id.to_string()))),
        ("member", json!(identity.as_ref().map(|identity| identity.me.0))),
        ("never_signed", json!(never_signed)),
        ("may_sign", json!(identity.is_some() && refusal.is_none())),
        ("why_not", json!(refusal)),
        ("own_round", json!(own_round)),
        ("last_commit", json!(number(schema::COMMITS)?)),
        ("applied_commit", json!(applied.index.0)),
        (
            "log",
            json!({
                "first_commit": begins.index.0, "first_position": begins.position, "next_position": applied.next_position,
            }),
        ),
        ("table_bytes", Value::Object(view.sizes().into_iter().map(column).collect())),
    ])
}

fn refusal(
    directory: &Path,
    never_signed: bool,
    own_round: Option<u64>,
    chain: ChainId,
    me: AuthorityIndex,
) -> Option<String> {
    let testimony = Testimony {
        forbidden: safety::forbidden(directory).unwrap_or_else(Some),
        found: safety::read(directory).unwrap_or_else(Found::Damaged),
        never_signed,
        own_last: own_round.map(Round),
    };
    testimony.judge(chain, me).err().map(|amnesia| amnesia.reason)
}

fn record<T: bincode::Decode<()>>(view: &View, name: &'static [u8]) -> Result<Option<T>, StoreError> {
    let Some(bytes) = view.read(schema::META, name)? else { return Ok(None) };
    let decoded = decode(&bytes).map_err(|error| StoreError::Corruption {
        detail: format!("the record `{}` in column meta: {error}", String::from_utf8_lossy(name)),
    });
    decoded.map(Some)
}

fn print_facts(facts: &Facts, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let object: serde_json::Map<String, Value> = facts.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        return print(&format!("{:#}", Value::Object(object)));
    }
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{key:<26} {value}"));
    for (key, value) in facts {
        match value {
            Value::Object(parts) => parts.iter().for_each(|(part, value)| line(&format!("{key}.{part}"), plain(value))),
            Value::Array(items) => {
                for item in items {
                    let parts = item.as_object().into_iter().flatten().map(|(part, v)| format!("{part} {}", plain(v)));
                    line(key, parts.collect::<Vec<_>>().join(", "));
                }
            }
            value => line(key, plain(value)),
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
