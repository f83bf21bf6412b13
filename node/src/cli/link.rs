//! What the commands that talk to a running node share.

use std::future::Future;

use rorqual_client::{Client, ClientError, Options, Purpose};

use super::CliError;

/// Where the node is.
#[derive(Clone, clap::Args)]
pub struct Target {
    /// Client address of a node, HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub node: String,
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// One sentence that names the address.
    pub async fn connect(&self) -> Result<Client, CliError> {
        self.try_connect().await.map_err(failed)
    }

    /// The same, with the reason as it is.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn try_connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.node, Options::default()).await
    }

    /// Connects for the status alone, for which a node keeps places when all others are taken.
    ///
    /// # Errors
    /// One sentence that names the address.
    pub async fn connect_for_status(&self) -> Result<Client, CliError> {
        let options = Options { purpose: Purpose::Status, ..Options::default() };
        Client::connect(&self.node, options).await.map_err(failed)
    }
}

/// Takes what can be HOST:PORT, and says what to write instead of anything else.
fn address(text: &str) -> Result<String, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("write HOST:PORT without `{scheme}://`: {}", rest.trim_end_matches('/')));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => {
            Err("write HOST:PORT, for example 127.0.0.1:9601: the port is that of `listen.client` in node.toml".into())
        }
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

/// Text where the bytes are UTF-8, hex otherwise. Characters that a terminal would act on instead of showing them are escaped as
/// in `\r` and `\u{202e}`: control characters except the tabulator, and those that change the direction of text.
pub fn printable(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return hex::encode(bytes) };
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\t' => shown.push(letter),
            letter if letter.is_control() || turns_text(letter) => shown.extend(letter.escape_default()),
            letter => shown.push(letter),
        }
    }
    shown
}

/// Marks, embeddings, overrides and isolates of bidirectional text, and separators of lines and paragraphs.
fn turns_text(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_nothing_in_it_steers_the_terminal() {
        assert_eq!(printable("grün\tund\r".as_bytes()), "grün\tund\\r");
        assert_eq!(printable("a\u{202e}b\u{2066}\u{1b}[31m".as_bytes()), "a\\u{202e}b\\u{2066}\\u{1b}[31m");
        assert_eq!(printable(&[0, 1, 255]), "0001ff");
    }

    #[test]
    fn an_address_that_is_none_is_answered_with_what_to_write() {
        assert_eq!(address("[::1]:9601").unwrap(), "[::1]:9601");
        assert!(address("http://127.0.0.1:9601/").unwrap_err().ends_with("without `http://`: 127.0.0.1:9601"));
        for wrong in ["localhost", "127.0.0.1", "127.0.0.1:", ":9601", "a:99999"] {
            assert!(address(wrong).unwrap_err().contains("HOST:PORT, for example 127.0.0.1:9601"), "{wrong}");
        }
    }
}
