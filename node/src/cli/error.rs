//! How a command ends when it does not end well, and how it prints what it found.

use std::fmt;
use std::io::Write;

use rorqual_config::ConfigErrors;

/// Why a command failed, for people, with the exit code for scripts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CliError {
    /// 2: wrong usage, a file missing or invalid. 1: everything else.
    pub code: u8,
    /// What went wrong and what to do about it; empty where nobody is there to be told.
    pub message: String,
}

impl CliError {
    /// Wrong usage, or a file that is missing or invalid: exit code 2.
    pub fn usage(message: String) -> Self {
        Self { code: 2, message }
    }

    /// Everything else: exit code 1.
    pub fn failed(message: String) -> Self {
        Self { code: 1, message }
    }

    /// Standard output takes no more. A reader that has seen enough, such as `head`, ends the command without a word, as other
    /// programs do.
    pub fn output(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::failed(String::new()),
            _ => Self::failed(format!("cannot print: {error}")),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<ConfigErrors> for CliError {
    fn from(errors: ConfigErrors) -> Self {
        let text = errors.to_string();
        match errors.0.len() {
            1 => Self::usage(text),
            count => Self::usage(format!("{count} errors in the configuration:\n{text}")),
        }
    }
}

/// Prints to standard output. A reader that has gone away is an error, not a panic.
///
/// # Errors
/// What the system says.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let result = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    result.map_err(|error| CliError::output(&error))
}
