//! The command line: one file a command. Exit codes: 0 fine; 2 wrong usage, a file missing or invalid, a wrong key, a data
//! directory of another format or chain; 1 everything else.

pub mod backup;
pub mod certificate;
pub mod config;
pub mod error;
pub mod init;
pub mod inspect;
pub mod keygen;
pub mod limits;
pub mod link;
pub mod log;
pub mod read;
pub mod repair;
pub mod restore;
pub mod run;
pub mod service_manager;
pub mod status;
pub mod submit;
pub mod testnet;
pub mod verify;
pub mod verify_store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use error::CliError;

#[derive(Parser)]
#[command(name = "rorqual", version, about = "A Byzantine-fault-tolerant replicated storage daemon", long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new identity
    Keygen(keygen::Args),
    /// Create the data directory of a node that has never signed
    Init(init::Args),
    /// Make a committee and one directory per node, for a cluster on this machine
    Testnet(testnet::Args),
    /// Run one node in the foreground
    Run(run::Args),
    /// Submit transactions and wait for their receipts
    Submit(submit::Args),
    /// Print committed transactions in order
    Log(log::Args),
    /// Print stored payload by batch id or by log position
    Read(read::Args),
    /// Show what a running node is doing
    Status(status::Args),
    /// Check a configuration, or show every value and where it comes from
    Config(config::Args),
    /// Fetch the first commit certificate that covers a commit
    Certificate(certificate::Args),
    /// Check a commit certificate with the committee's public keys alone
    Verify(verify::Args),
    /// Show what is in a data directory; works beside a running node
    Inspect(inspect::Args),
    /// Read everything in a data directory and name each damage
    VerifyStore(verify_store::Args),
    /// Salvage what is intact in a damaged data directory
    Repair(repair::Args),
    /// Copy a node's data, while it runs or while it does not
    Backup(backup::Args),
    /// Put a backup in the place of a data directory that is not there
    Restore(restore::Args),
}

/// Says what is wrong with the command line, and ends.
fn refuse(error: &clap::Error) -> ! {
    let text = std::env::args_os().any(|argument| argument == "--text");
    if text && error.kind() == clap::error::ErrorKind::UnknownArgument {
        crate::logging::tell("rorqual: a text that begins with a dash is given as --text=-TEXT");
    }
    error.exit()
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| refuse(&error));
    let result = match arguments.command {
        Command::Keygen(args) => keygen::run(args),
        Command::Init(args) => init::run(args),
        Command::Testnet(args) => testnet::run(args),
        Command::Run(args) => run::run(args),
        Command::Submit(args) => submit::run(args),
        Command::Log(args) => log::run(args),
        Command::Read(args) => read::run(args),
        Command::Status(args) => status::run(args),
        Command::Config(args) => config::run(args),
        Command::Certificate(args) => certificate::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::VerifyStore(args) => verify_store::run(args),
        Command::Repair(args) => {
            crate::private::keep_to_ourselves();
            repair::run(args)
        }
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => {
            crate::private::keep_to_ourselves();
            restore::run(args)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.message.is_empty() {
                crate::logging::tell(&format!("rorqual: {error}"));
            }
            ExitCode::from(error.code)
        }
    }
}
