//! `rorqual restore`: puts a backup in the place of a data directory that is not there.

use std::path::{Path, PathBuf};

use rorqual_config::NodeConfig;
use rorqual_config::encoding::decode;
use rorqual_store::offline::View;
use serde_json::json;

use super::CliError;
use super::config::Source;
use super::error::print;
use super::verify_store::failed;
use crate::backup;
use crate::consensus::safety;
use crate::schema::{self, Identity, Meta};

/// Arguments of `rorqual restore`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// The backup: a directory that `rorqual backup` made
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// Copies and prints where to.
///
/// # Errors
/// Exit code 2 where the data directory exists or the backup is none, or another's; 1 where it cannot be copied.
pub fn run(args: Args) -> Result<(), CliError> {
    let config = args.source.load()??;
    let data_dir = std::path::absolute(&config.data_dir).map_err(|error| CliError::usage(error.to_string()))?;
    if data_dir.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!(
            "data directory {} exists already and is not touched: what it says about what was signed is worth more than a \
             backup; move it away first if it is lost",
            data_dir.display()
        )));
    }
    check(&args.from, &config)?;
    let bytes = backup::restore(&args.from, &data_dir).map_err(CliError::failed)?;
    let path = data_dir.display().to_string();
    match args.source.json {
        true => print(&json!({ "data_dir": path, "bytes": bytes, "may_sign": false }).to_string()),
        false => print(&format!(
            "{path}: {bytes} bytes restored from {}\nthis node must not sign from it: it may have signed more than the backup knows, \
             and rejoining is not built yet; `rorqual inspect`, `verify-store` and `backup` work",
            args.from.display()
        )),
    }
}

fn check(from: &Path, config: &NodeConfig) -> Result<(), CliError> {
    let name = from.display();
    if !from.is_dir() {
        return Err(CliError::usage(format!("there is no directory {name}: give the one that `rorqual backup` made")));
    }
    if safety::forbidden(from).map_err(CliError::failed)?.is_none() {
        return Err(CliError::usage(format!(
            "{name} is not a backup: it has no file {}, with which `rorqual backup` makes every one",
            safety::AMNESIA
        )));
    }
    let view = View::open(from, &schema::options(&config.parameters.store, false)).map_err(failed)?;
    let identity = view.read(schema::META, Meta::IDENTITY).map_err(failed)?;
    let identity = identity.and_then(|bytes| decode::<Identity>(&bytes).ok());
    match identity {
        Some(found) if (found.chain_id, found.me) == (config.committee.chain_id(), config.me) => Ok(()),
        Some(found) => Err(CliError::usage(format!(
            "{name} is a backup of member {} of chain {}, but this node is member {} of chain {}",
            found.me,
            found.chain_id,
            config.me,
            config.committee.chain_id()
        ))),
        None => Err(CliError::usage(format!("{name} has no record of whose it is"))),
    }
}
