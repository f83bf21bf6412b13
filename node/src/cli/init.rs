//! `rorqual init`: the data directory of a node that has never signed.

use rorqual_config::NodeConfig;
use serde_json::json;

use super::CliError;
use super::config::Source;
use super::error::print;

/// Arguments of `rorqual init`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
}

/// Creates the data directory with the record "never signed".
///
/// # Errors
/// Where the configuration is wrong, the directory exists, or cannot be made.
pub fn run(args: Args) -> Result<(), CliError> {
    let config = args.source.load()??;
    refuse_existing(&config)?;
    crate::schema::create_data_dir(&config.data_dir, config.committee.chain_id(), config.me)
        .map_err(CliError::failed)?;
    let directory = config.data_dir.display();
    match args.source.json {
        true => {
            let chain_id = config.committee.chain_id().to_string();
            print(
                &json!({ "data_dir": directory.to_string(), "chain_id": chain_id, "member": config.me.0 }).to_string(),
            )
        }
        false => {
            let bytes = crate::disk::used(&config.data_dir).map_err(|error| CliError::failed(error.to_string()))?;
            print(&format!(
                "{directory}: created for member {} of chain {}; it takes {} MiB now, and about 22 MiB once the node has run",
                config.me,
                config.committee.chain_id(),
                bytes.div_ceil(1 << 20)
            ))
        }
    }
}

/// An empty directory is refused too: it may be a disk that was not mounted or was wiped.
fn refuse_existing(config: &NodeConfig) -> Result<(), CliError> {
    match config.data_dir.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::usage(format!("data directory {}: {error}", config.data_dir.display()))),
        Ok(_) if config.data_dir.join("lost+found").is_dir() => Err(CliError::usage(format!(
            "data directory {} is the root of a volume (it has a lost+found): set `data` to a folder below it, for example {}, \
             which `rorqual init` makes",
            config.data_dir.display(),
            config.data_dir.join("data").display()
        ))),
        Ok(_) => Err(CliError::usage(format!(
            "data directory {} exists already and is not touched: a node that has ever signed must keep its data; only for a \
             node that has never run, remove the directory and run `rorqual init` again",
            config.data_dir.display()
        ))),
    }
}
