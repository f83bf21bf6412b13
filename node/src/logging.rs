//! The log on standard error: best effort, and counted.
//!
//! Promises: no task waits for whoever reads the log, and none fails because of it. Lines go through a queue of 4 096 to one thread
//! that writes them; what does not fit, or cannot be written (a pipe whose reader has gone, a full disk), is lost and counted:
//! [`lost`], the metric `rorqual_log_lines_lost_total`. A line is written whole or not at all, as far as the system does so.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rorqual_config::parameters::{LogFormat, LogParameters};
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for whoever reads them.
const QUEUE: usize = 4_096;
/// How long the end of the process waits for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines of the log that nobody got, since the start of the process.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Why there is no log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    /// The operator must correct the filter.
    #[error("log.filter `{filter}` is not a filter: {error}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        error: String,
    },
    /// The system gave no thread, or there is a log already.
    #[error("cannot start the log: {0}")]
    Failed(String),
}

/// The log of this process.
pub struct Log {
    lines: Lines,
    format: LogFormat,
    done: Receiver<()>,
}

impl Log {
    /// Starts it for the whole process.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn start(parameters: &LogParameters) -> Result<Self, LogError> {
        let filter = EnvFilter::try_new(&parameters.filter)
            .map_err(|error| LogError::Filter { filter: parameters.filter.clone(), error: error.to_string() })?;
        let (lines, done) = Lines::start(io::stderr()).map_err(|error| LogError::Failed(error.to_string()))?;
        // The subscriber tells of its own trouble with `eprintln!`, which panics where standard error is closed.
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(lines.clone())
            .with_target(false)
            .log_internal_errors(false);
        let result = match parameters.format {
            LogFormat::Text => {
                let terminal = io::IsTerminal::is_terminal(&io::stderr());
                subscriber.with_ansi(is_coloured(terminal, std::env::var_os("NO_COLOR"))).try_init()
            }
            LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        };
        result.map_err(|error| LogError::Failed(error.to_string()))?;
        Ok(Self { lines, format: parameters.format, done })
    }

    /// The last line of a process that failed: its reason, in the format of the log.
    pub fn reason(&self, code: u8, reason: &str) {
        self.lines.send(reason_line(self.format, code, reason));
    }

    /// Waits until what was logged is written, for 1 s at most.
    pub fn finish(self) {
        let deadline = Instant::now() + LAST_LINES;
        let mut last = Line::Last;
        while let Err(TrySendError::Full(full)) = self.lines.0.try_send(last) {
            if Instant::now() >= deadline {
                return;
            }
            last = full;
            thread::sleep(Duration::from_millis(10));
        }
        // Whatever the reason, there is nothing more to wait for.
        let _: Result<(), RecvTimeoutError> =
            self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn reason_line(format: LogFormat, code: u8, reason: &str) -> Vec<u8> {
    let line = match format {
        LogFormat::Text => format!("rorqual: {reason}\n"),
        LogFormat::Json => {
            let now = timestamp(SystemTime::now());
            let line = json!({ "timestamp": now, "level": "ERROR", "message": reason, "exit_code": code });
            format!("{line}\n")
        }
    };
    line.into_bytes()
}

/// A time as people and programs read it; a clock before 1970 is shown as 1970.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

enum Line {
    Text(Vec<u8>),
    /// Nothing after this one counts.
    Last,
}

/// Where lines go in. Cheap to clone; never blocks and never fails.
#[derive(Clone)]
struct Lines(SyncSender<Line>);

impl Lines {
    /// A thread that writes them to `to`, and the news that it has ended.
    fn start(mut to: impl Write + Send + 'static) -> io::Result<(Self, Receiver<()>)> {
        let (sender, lines) = mpsc::sync_channel(QUEUE);
        let (ended, done) = mpsc::channel();
        thread::Builder::new().name("log".into()).spawn(move || {
            while let Ok(Line::Text(line)) = lines.recv() {
                if to.write_all(&line).and_then(|()| to.flush()).is_err() {
                    LOST.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Nobody may be waiting.
            let _ = ended.send(());
        })?;
        Ok((Self(sender), done))
    }

    fn send(&self, line: Vec<u8>) {
        if self.0.try_send(Line::Text(line)).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine { lines: self, bytes: Vec::new() }
    }
}

/// Gathers what one event writes, and sends it as a whole.
struct OneLine<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for OneLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for OneLine<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.lines.send(std::mem::take(&mut self.bytes));
        }
    }
}

/// Tells people something on standard error; whether anybody hears it changes nothing.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Colours are for terminals, and for nobody who has set NO_COLOR to anything.
fn is_coloured(terminal: bool, no_color: Option<std::ffi::OsString>) -> bool {
    terminal && no_color.is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_is_honoured() {
        assert!(is_coloured(true, None) && is_coloured(true, Some("".into())));
        assert!(!is_coloured(true, Some("1".into())) && !is_coloured(false, None));
    }

    /// Accepts nothing; says when it was tried.
    struct Broken(mpsc::Sender<()>);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes one line and then never comes back.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_counted_and_nobody_waits_for_them() {
        let before = lost();
        let (tried, tries) = mpsc::channel();
        let (lines, done) = Lines::start(Broken(tried)).unwrap();
        for _ in 0..3 {
            writeln!(lines.make_writer(), "a line").unwrap();
        }
        Log { lines, format: LogFormat::Text, done }.finish();
        assert_eq!(tries.iter().count(), 3);
        let (release, held) = mpsc::channel();
        let (lines, _done) = Lines::start(Stuck(held)).unwrap();
        for _ in 0..QUEUE + 2 {
            writeln!(lines.make_writer(), "a line").unwrap();
        }
        assert!(lost() > before + 3, "{} lost", lost() - before);
        drop(release);
    }

    #[test]
    fn the_reason_is_json_where_the_log_is() {
        let line = reason_line(LogFormat::Json, 2, "say \"why\"");
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((value["message"].as_str(), value["exit_code"].as_u64()), (Some("say \"why\""), Some(2)));
        assert_eq!(reason_line(LogFormat::Text, 1, "why"), b"rorqual: why\n");
    }

    #[test]
    fn a_clock_before_1970_is_no_panic() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
        assert_eq!(timestamp(before), "1970-01-01T00:00:00.000000Z");
    }
}
