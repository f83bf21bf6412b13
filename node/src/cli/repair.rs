//! `rorqual repair`: salvages what is intact in a data directory, and says exactly what it did.
//!
//! Payload is no loss: peers have it. What is damaged is dropped, and the next start fetches it again. Everything else may say
//! what this node has signed; where any of that is damaged, or the database has to be rebuilt, the directory gets the mark
//! `AMNESIA` *before* it is touched. The mark goes only if everything but payload is exactly what it was. The node must not run
//! meanwhile.

use std::path::Path;

use rorqual_config::NodeConfig;
use rorqual_protocol::types::Round;
use rorqual_store::offline::salvage;
use rorqual_store::{ColumnReport, DamageKind, Direction, Durability, Report, Store, StoreError, WriteBatch};
use serde_json::json;

use super::CliError;
use super::config::Source;
use super::error::print;
use super::verify_store::{Findings, examine, failed, payload_first};
use crate::consensus::safety;
use crate::schema;

/// Arguments of `rorqual repair`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
}

/// Repairs and prints what was done.
///
/// # Errors
/// Exit code 1 where damage is left, or the node must not sign any more; 2 where there is no such directory, or of another chain
/// or format.
pub fn run(args: Args) -> Result<(), CliError> {
    let config = args.source.load()??;
    let mut done = Vec::new();
    let result = repair(&config, &mut done);
    match args.source.json {
        true => print(&format!("{:#}", json!({ "ok": result.is_ok(), "done": done })))?,
        false => print(&done.join("\n"))?,
    }
    result
}

fn repair(config: &NodeConfig, done: &mut Vec<String>) -> Result<(), CliError> {
    let mut findings = examine(config)?;
    let beyond_payload = is_beyond_payload(&findings);
    let marked = safety::forbidden(&config.data_dir).map_err(CliError::failed)?.is_some();
    if !marked && (beyond_payload || needs_salvage(&findings)) {
        mark(config, &findings, done)?;
    }
    if (is_log_broken(&findings) || needs_salvage(&findings)) && !findings.report.columns.is_empty() {
        keep_log(config, done)?;
        findings = examine(config)?;
    }
    if needs_salvage(&findings) {
        let before = findings.report;
        salvage(&config.data_dir, &payload_first(config)).map_err(failed)?;
        done.push(format!(
            "rebuilt the database from what can be read; what cannot is in {}",
            config.data_dir.join("lost").display()
        ));
        findings = examine(config)?;
        done.extend(changes(&before, &findings.report));
        if !marked && !beyond_payload && is_same_but_for_payload(&before, &findings.report) {
            safety::allow(&config.data_dir).map_err(CliError::failed)?;
            done.push("everything but payload is what it was: the mark is taken away again".to_owned());
            findings = examine(config)?;
        }
    }
    let mut left = drop_payload(config, findings, done)?;
    // What is listed of the damage is bounded.
    while !left.damaged_payload.is_empty() {
        left = drop_payload(config, left, done)?;
    }
    done.extend(left.damages.iter().map(|damage| format!("left as it is: {damage}")));
    if done.is_empty() {
        done.push("nothing is damaged: nothing was done".to_owned());
    }
    if !left.damages.is_empty() {
        let message =
            "damage is left that cannot be salvaged: retire the key, or restore the directory that was current";
        return Err(CliError::failed(message.into()));
    }
    match left.refusal {
        Some(reason) => Err(CliError::failed(format!(
            "amnesia: {reason}; the data can be read, but this node must not sign from it, and rejoining is not built yet"
        ))),
        None => Ok(()),
    }
}

/// Whether anything is damaged that may say what was signed.
fn is_beyond_payload(findings: &Findings) -> bool {
    let Report { columns, damages, .. } = &findings.report;
    let payload = Some(schema::PAYLOAD.0);
    columns.is_empty()
        || damages.iter().any(|damage| damage.kind != DamageKind::Accounting && damage.column != payload)
        || findings.damages.iter().any(|damage| damage.contains(safety::FILE))
}

fn is_log(file: &Path) -> bool {
    file.extension().is_some_and(|kind| kind == "log")
}

fn is_log_broken(findings: &Findings) -> bool {
    findings.report.damages.iter().any(|damage| damage.kind == DamageKind::Log)
}

/// Whether there is damage that neither deleting entries nor an ordinary start mends.
fn needs_salvage(findings: &Findings) -> bool {
    let Report { columns, damages, .. } = &findings.report;
    let mended =
        |kind| matches!(kind, DamageKind::Accounting | DamageKind::Entry | DamageKind::Record | DamageKind::Log);
    columns.is_empty() || damages.iter().any(|damage| damage.key.is_none() && !mended(damage.kind))
}

/// Puts what is readable of the log into tables, as an ordinary start does: rebuilding would lose what no table knows of. The log
/// itself is kept in the folder `lost`.
fn keep_log(config: &NodeConfig, done: &mut Vec<String>) -> Result<(), CliError> {
    let lost = config.data_dir.join("lost");
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(&lost)?;
        for entry in std::fs::read_dir(&config.data_dir)? {
            let file = entry?.path();
            if let (true, Some(name)) = (is_log(&file), file.file_name()) {
                std::fs::copy(&file, lost.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| CliError::failed(format!("cannot copy the log to {}: {error}", lost.display())))?;
    let opened = Store::open(&config.data_dir, schema::options(&config.parameters.store, false));
    let flushed = opened.and_then(|store| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| StoreError::Io { detail: error.to_string() })?;
        runtime.block_on(store.shutdown())
    });
    match flushed {
        Ok(()) => done.push(format!("kept what can be read of the log; the log as it was is in {}", lost.display())),
        Err(error) => done.push(format!("the log could not be put into tables ({error}); it is in {}", lost.display())),
    }
    Ok(())
}

fn mark(config: &NodeConfig, findings: &Findings, done: &mut Vec<String>) -> Result<(), CliError> {
    let first = findings.damages.first().map_or("the database is damaged", String::as_str);
    let reason = format!("`rorqual repair` found damage that may hide what this node signed: {first}");
    safety::forbid(&config.data_dir, &reason).map_err(CliError::failed)?;
    done.push(format!("marked with the file {}: this node must not sign from here", safety::AMNESIA));
    Ok(())
}

fn is_same_but_for_payload(before: &Report, after: &Report) -> bool {
    let content = |report: &Report| -> Vec<ColumnReport> {
        report.columns.iter().filter(|column| column.column != schema::PAYLOAD.0).copied().collect()
    };
    !before.columns.is_empty() && content(before) == content(after)
}

/// What the rebuilding changed, one line a column.
fn changes(before: &Report, after: &Report) -> Vec<String> {
    let line = |now: &ColumnReport| {
        let then = before.columns.iter().find(|column| column.column == now.column);
        match then {
            Some(then) if (then.entries, then.checksum) == (now.entries, now.checksum) => None,
            Some(then) => {
                Some(format!("column {}: {} readable entries before, {} now", now.column, then.entries, now.entries))
            }
            None => Some(format!("column {}: {} entries", now.column, now.entries)),
        }
    };
    after.columns.iter().filter_map(line).collect()
}

/// What the newest own block stands for may be among what is dropped. That it is gone then must not look as if the block had
/// never left.
fn vouch(config: &NodeConfig, store: &Store) -> Result<(), CliError> {
    let newest = store.iterate(schema::OWN, &[], &[], 1, usize::MAX, Direction::Backward);
    let newest = super::link::block_on(async { newest.await.map_err(failed) })?;
    let round = newest.first().and_then(|(key, _)| schema::parse_number(key)).map(Round);
    round.map_or(Ok(()), |round| safety::vouch(&config.data_dir, round)).map_err(CliError::failed)
}

/// Deletes payload that is not what its key says, and notes what the next start has to fetch. Returns what is left then.
fn drop_payload(config: &NodeConfig, findings: Findings, done: &mut Vec<String>) -> Result<Findings, CliError> {
    let (damaged, missing) = (&findings.damaged_payload, &findings.missing_payload);
    if damaged.is_empty() && missing.is_empty() {
        return Ok(findings);
    }
    let store = Store::open(&config.data_dir, schema::options(&config.parameters.store, false)).map_err(failed)?;
    vouch(config, &store)?;
    let mut batch = WriteBatch::new();
    damaged.iter().for_each(|key| batch.delete(schema::PAYLOAD, key.clone()));
    // Named as missing until peers have served it, however often the node starts.
    missing.iter().for_each(|(key, bytes)| batch.lose(schema::PAYLOAD, schema::batch_key(key), u64::from(*bytes)));
    let write = async {
        let written = store.write_batch(batch, Durability::Synced).await;
        written.and(store.shutdown().await)
    };
    super::link::block_on(async { write.await.map_err(failed) })?;
    let bytes: u64 = missing.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    done.push(format!("dropped {} damaged batches of payload", damaged.len()));
    done.push(format!(
        "noted {} batches of payload with {bytes} bytes: the next start fetches them from peers",
        missing.len()
    ));
    examine(config)
}
