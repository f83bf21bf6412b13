//! `rorqual keygen`: a new identity in a file that nobody else can read.

use std::path::PathBuf;

use rorqual_config::KeyPair;
use rorqual_config::identity::KeyFileError;
use serde_json::json;

use super::CliError;
use super::error::print;

/// Arguments of `rorqual keygen`.
#[derive(clap::Args)]
pub struct Args {
    /// File for the secret key; mode 0600, never overwritten
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes a key, saves it and prints the public half.
///
/// # Errors
/// Where the file exists or cannot be written.
pub fn run(args: Args) -> Result<(), CliError> {
    let key = KeyPair::generate().map_err(from_key_file)?;
    key.save(&args.output).map_err(from_key_file)?;
    let public_key = key.public().to_string();
    match args.json {
        true => print(&json!({ "file": args.output.display().to_string(), "public_key": public_key }).to_string()),
        false => print(&public_key),
    }
}

/// The exit code that belongs to a key file's fate.
pub fn from_key_file(error: KeyFileError) -> CliError {
    match error {
        KeyFileError::Entropy(_) => CliError::failed(error.to_string()),
        KeyFileError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            CliError::failed(error.to_string())
        }
        _ => CliError::usage(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("node.key");
        run(Args { output: output.clone(), json: false }).unwrap();
        let key = KeyPair::load(&output).unwrap();
        let error = run(Args { output: output.clone(), json: true }).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("not overwritten"), "{error}");
        assert_eq!(KeyPair::load(&output).unwrap().public(), key.public());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = run(Args { output: "/nowhere/at/all".into(), json: false }).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("/nowhere/at/all"), "{error}");
    }
}
