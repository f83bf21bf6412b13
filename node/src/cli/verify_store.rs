//! `rorqual verify-store`: reads everything in a data directory, checks every checksum and every record against its key, and names
//! each damage. Changes nothing. The node must not run meanwhile.

use std::path::PathBuf;

use rorqual_config::NodeConfig;
use rorqual_config::encoding::decode;
use rorqual_protocol::types::{BatchKey, CommitIndex, Round};
use rorqual_store::offline::{Lock, LogEnd, LogFile, View};
use rorqual_store::{ColumnReport, DamageKind, Options, Report, StoreError, verify_entries};
use serde_json::{Value, json};

use super::CliError;
use super::config::Source;
use super::error::print;
use crate::consensus::safety::{self, Found, Testimony};
use crate::execution::record::AppliedRecord;
use crate::integrity::Checker;
use crate::schema::{self, Meta};

/// Arguments of `rorqual verify-store`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Another copy of this node's data in place of its data directory: a backup, a mounted snapshot
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Everything that is wrong with a data directory.
pub(super) struct Findings {
    /// What was read.
    pub report: Report,
    /// One line each.
    pub damages: Vec<String>,
    /// Worth knowing, and no damage.
    pub notes: Vec<String>,
    /// Keys of payload that is not what its key says.
    pub damaged_payload: Vec<bytes::Bytes>,
    /// Payload that applied commits deliver and that is not there.
    pub missing_payload: Vec<(BatchKey, u32)>,
    /// Why this node must not sign, by what can be read; none where it may, or where nothing can be read.
    pub refusal: Option<String>,
}

/// Reads and prints.
///
/// # Errors
/// Exit code 1 with the number of damages; 2 where there is no such directory, or of another chain or format.
pub fn run(args: Args) -> Result<(), CliError> {
    let mut config = args.source.load()??;
    config.data_dir = args.directory.unwrap_or(config.data_dir);
    let findings = examine(&config)?;
    show(&findings, args.source.json)?;
    match findings.damages.len() {
        0 => findings.whole(&config),
        1 => Err(CliError::failed(format!(
            "1 damage in {}: `rorqual repair` salvages what is intact",
            config.data_dir.display()
        ))),
        count => Err(CliError::failed(format!(
            "{count} damages in {}: `rorqual repair` salvages what is intact",
            config.data_dir.display()
        ))),
    }
}

impl Findings {
    /// Whether the log has all its payload.
    fn whole(&self, config: &NodeConfig) -> Result<(), CliError> {
        match self.missing_payload.len() {
            0 => Ok(()),
            count => Err(CliError::failed(format!(
                "the log in {} has a hole: {count} batches of its payload are not here; a node that runs fetches those that it \
                 knows of from peers, and `rorqual repair` makes it know of all",
                config.data_dir.display()
            ))),
        }
    }
}

/// Options with payload first, as [`Checker`] wants it.
pub(super) fn payload_first(config: &NodeConfig) -> Options {
    let mut options = schema::options(&config.parameters.store, false);
    options.columns.sort_by_key(|column| column.name != schema::PAYLOAD.0);
    options
}

/// A store error as the end of a command.
pub(super) fn failed(error: StoreError) -> CliError {
    match error {
        StoreError::Missing { .. } | StoreError::Format { .. } => CliError::usage(error.to_string()),
        error => CliError::failed(error.to_string()),
    }
}

/// Reads everything.
pub(super) fn examine(config: &NodeConfig) -> Result<Findings, CliError> {
    // Before anything else: what another version wrote is not damaged, and must not be repaired.
    schema::check_format(&config.data_dir).map_err(|error| CliError::usage(error.to_string()))?;
    let options = payload_first(config);
    let identity = Summary::read(config, &options);
    if let Ok(Summary { stranger: Some(whose), .. }) = &identity {
        return Err(CliError::usage(format!("{} belongs to {whose}", config.data_dir.display())));
    }
    let applied = identity.as_ref().map_or(CommitIndex(0), |summary| summary.applied);
    let mut checker = Checker::new(&config.committee, config.me, applied);
    let check = &mut |column, key: &[u8], value: &[u8]| checker.check(column, key, value);
    let lock = Lock::take(&config.data_dir).map_err(failed)?;
    let report = verify_entries(&config.data_dir, &options.columns, check).map_err(failed)?;
    drop(lock);
    checker.damaged_payload.extend(unreadable_payload(&report));
    // A segment whose account is wrong gives its space back too late, and nothing else.
    let (accounts, harmful): (Vec<_>, Vec<_>) =
        report.damages.iter().partition(|damage| damage.kind == DamageKind::Accounting);
    let mut damages: Vec<String> = harmful.iter().map(ToString::to_string).collect();
    let untold = report.damage_count - report.damages.len() as u64;
    if untold > 0 {
        damages.push(format!("{untold} more"));
    }
    let mut notes: Vec<String> = report.log_files.iter().filter_map(torn).collect();
    notes.extend(accounts.iter().map(ToString::to_string));
    for (key, bytes) in checker.missing_payload.iter().filter(|(key, _)| !is_damaged(&checker, key)) {
        notes.push(format!(
            "payload {}/{}/{} of {bytes} bytes is in the log and not here",
            key.author, key.sequence, key.digest
        ));
    }
    let found = safety::read(&config.data_dir).map_err(CliError::failed)?;
    match &found {
        Found::Damaged(why) => damages.push(format!("{}: {why}", config.data_dir.join(safety::FILE).display())),
        Found::Valid { damaged: Some(slot), .. } => {
            notes.push(format!("{}: {slot}; the other slot is whole", config.data_dir.join(safety::FILE).display()));
        }
        _ => {}
    }
    let forbidden = safety::forbidden(&config.data_dir).map_err(CliError::failed)?;
    let refusal = identity.ok().and_then(|summary| {
        let testimony = Testimony { forbidden, found, never_signed: summary.never_signed, own_last: summary.own_last };
        testimony.judge(config.committee.chain_id(), config.me).err().map(|amnesia| amnesia.reason)
    });
    let Checker { damaged_payload, missing_payload, .. } = checker;
    Ok(Findings { report, damages, notes, damaged_payload, missing_payload, refusal })
}

/// Keys of payload whose bytes do not pass the store's own check.
fn unreadable_payload(report: &Report) -> Vec<bytes::Bytes> {
    let payload = report.damages.iter().filter(|damage| damage.column == Some(schema::PAYLOAD.0));
    payload.filter(|damage| damage.kind != DamageKind::Entry).filter_map(|damage| damage.key.clone()).collect()
}

fn is_damaged(checker: &Checker<'_>, key: &BatchKey) -> bool {
    checker.damaged_payload.contains(&schema::batch_key(key))
}

/// A few records that tell whose the database is and what it knows of what was signed.
struct Summary {
    stranger: Option<String>,
    applied: CommitIndex,
    never_signed: bool,
    own_last: Option<Round>,
}

impl Summary {
    fn read(config: &NodeConfig, options: &Options) -> Result<Self, StoreError> {
        let view = View::open(&config.data_dir, options)?;
        let identity = view.read(schema::META, Meta::IDENTITY)?;
        let identity = identity.and_then(|bytes| decode::<schema::Identity>(&bytes).ok());
        let stranger = identity.filter(|found| (found.chain_id, found.me) != (config.committee.chain_id(), config.me));
        let applied = view.read(schema::META, Meta::APPLIED)?.and_then(|bytes| decode::<AppliedRecord>(&bytes).ok());
        let own_last = view.last(schema::OWN)?.and_then(|(key, _)| schema::parse_number(&key)).map(Round);
        Ok(Self {
            stranger: stranger.map(|found| format!("member {} of chain {}", found.me, found.chain_id)),
            applied: applied.map_or(CommitIndex(0), |applied| applied.index),
            never_signed: view.read(schema::META, Meta::NEVER_SIGNED)?.is_some(),
            own_last,
        })
    }
}

fn torn(log: &LogFile) -> Option<String> {
    let LogEnd::Torn { at } = log.end else { return None };
    Some(format!("{}: torn at byte {at}, as a power cut leaves it; a start reads up to there", log.path.display()))
}

fn show(findings: &Findings, as_json: bool) -> Result<(), CliError> {
    let Findings { report, damages, notes, refusal, .. } = findings;
    let damaged = |column: &ColumnReport| {
        let harmful = report.damages.iter().filter(|damage| damage.kind != DamageKind::Accounting);
        harmful.filter(|damage| damage.column == Some(column.column)).count()
    };
    if as_json {
        let column = |c: &ColumnReport| json!({ "column": c.column, "entries": c.entries, "bytes": c.bytes, "damaged": damaged(c) });
        let facts: Value = json!({
            "ok": damages.is_empty() && findings.missing_payload.is_empty(),
            "columns": report.columns.iter().map(column).collect::<Vec<_>>(),
            "damages": damages,
            "notes": notes,
            "missing_payload": findings.missing_payload.len(),
            "may_sign": refusal.is_none() && !report.columns.is_empty(),
            "why_not": refusal,
        });
        return print(&format!("{facts:#}"));
    }
    let mut lines = vec![format!("{:<14} {:>12} {:>16} {:>8}", "column", "entries", "bytes", "damaged")];
    for c in &report.columns {
        lines.push(format!("{:<14} {:>12} {:>16} {:>8}", c.column, c.entries, c.bytes, damaged(c)));
    }
    lines.push(format!("large values: {} with {} bytes in segments", report.records, report.record_bytes));
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    lines.extend(refusal.iter().map(|reason| format!("note: this node must not sign: {reason}")));
    lines.extend(damages.iter().map(|damage| format!("damage: {damage}")));
    if damages.is_empty() && findings.missing_payload.is_empty() {
        lines.push("everything is what it should be".to_owned());
    }
    print(&lines.join("\n"))
}
