//! `rorqual verify`: checks a commit certificate with the committee's public keys alone.

use std::path::PathBuf;

use rorqual_config::encoding::decode;
use rorqual_config::load::load_committee;
use rorqual_protocol::certificate::check::verify_certificate;
use rorqual_protocol::types::Certificate;
use serde_json::json;

use super::CliError;
use super::error::print;

/// Arguments of `rorqual verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The committee file
    #[arg(long, value_name = "FILE")]
    committee: PathBuf,
    /// The certificate, as `rorqual certificate` wrote it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks it; prints what it proves.
///
/// # Errors
/// Exit code 2 where a file is missing or the committee invalid, 1 where the certificate does not hold.
pub fn run(args: Args) -> Result<(), CliError> {
    let committee = load_committee(&args.committee)?;
    let name = args.file.display();
    let bytes = std::fs::read(&args.file).map_err(|error| CliError::usage(format!("cannot read {name}: {error}")))?;
    let bad = |reason: String| CliError::failed(format!("{name} is not a valid certificate: {reason}"));
    let certificate: Certificate = decode(&bytes).map_err(|_| {
        bad(format!("its {} bytes are no certificate: give a file that `rorqual certificate` wrote", bytes.len()))
    })?;
    let stake =
        verify_certificate(&certificate, &committee, committee.quorum()).map_err(|error| bad(error.to_string()))?;
    let (commit, signers) = (&certificate.commit, certificate.signers.len());
    let (stake, total) = (stake.0, committee.total().0);
    let (index, digest) = (commit.index.0, commit.digest().to_string());
    match args.json {
        true => print(
            &json!({
                "valid": true, "commit": index, "digest": digest, "signers": signers, "stake": stake, "total_stake": total,
                "batches_root": commit.batches_root.to_string(), "timestamp_ms": commit.timestamp_ms,
            })
            .to_string(),
        ),
        false => print(&format!(
            "proven: commit {index} of chain {} is {digest}\nsigned by {signers} members with stake {stake} of {total} ({} needed)\nit covers every commit up to {index}",
            committee.chain_id(),
            committee.quorum().0
        )),
    }
}
