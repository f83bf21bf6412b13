//! The log of a node that may go away and come back: goes on at the next position.

use std::time::Duration;

use rorqual_client::{Client, ClientError, LogEntry, LogStream};
use tokio::time::Instant;

use crate::cli::CliError;
use crate::cli::link::{Target, failed};
use crate::logging;

/// Pause between attempts to connect again: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a log that is not followed waits for its node.
const PATIENCE: Duration = Duration::from_secs(30);

/// One node's log.
pub struct Source {
    target: Target,
    client: Client,
    log: LogStream,
    follow: bool,
}

impl Source {
    /// From a position on.
    pub fn new(target: Target, client: Client, from: u64, follow: bool) -> Self {
        let log = client.log(from, follow);
        Self { target, client, log, follow }
    }

    /// Whether the next entry is here already.
    pub fn has_next(&self) -> bool {
        self.log.has_next()
    }

    /// The next entry; none at the end of a log that is not followed. Waits for a node that has gone: one that is followed for as
    /// long as it takes, any other for half a minute.
    ///
    /// # Errors
    /// The node does not have the position, or it does not come back, or another chain answers.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, CliError> {
        loop {
            match self.log.next().await {
                Ok(entry) => return Ok(entry),
                Err(error @ ClientError::Disconnected { .. }) => self.connect_again(error).await?,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn connect_again(&mut self, mut reason: ClientError) -> Result<(), CliError> {
        let position = self.log.position();
        logging::tell(&format!("rorqual: {reason}; going on at position {position} when the node is back"));
        let (mut pause, last) = PAUSES;
        let deadline = Instant::now() + PATIENCE;
        while self.follow || Instant::now() < deadline {
            match self.target.try_connect().await {
                Ok(client) => {
                    let (expected, found) = (self.client.hello().chain_id, client.hello().chain_id);
                    if expected != found {
                        let address = self.target.node.clone();
                        return Err(failed(ClientError::OtherChain { address, found, expected }));
                    }
                    self.log = client.log(position, self.follow);
                    self.client = client;
                    return Ok(());
                }
                Err(error) => reason = error,
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(last);
        }
        Err(failed(reason))
    }
}
