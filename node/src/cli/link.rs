//! What the commands that talk to a running node share.

use std::future::Future;

use rorqual_client::{Client, ClientError, Options};

use super::CliError;

/// Where the node is.
#[derive(clap::Args)]
pub struct Target {
    /// Client address of a node, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    pub node: String,
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// One sentence that names the address.
    pub async fn connect(&self) -> Result<Client, CliError> {
        Client::connect(&self.node, Options::default()).await.map_err(failed)
    }
}

/// A client error as the end of a command.
pub fn failed(error: ClientError) -> CliError {
    CliError::failed(error.to_string())
}

/// Runs a command's future on a runtime of its own.
///
/// # Errors
/// The command's, or that there can be no runtime.
pub fn block_on<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(command)
}

/// Text where the bytes are printable, hex otherwise.
pub fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|letter| letter.is_control() && letter != '\t') => text.to_owned(),
        _ => hex::encode(bytes),
    }
}
