//! A cluster of real processes on this machine, in a folder of its own, for tests. Every process is killed when it is dropped.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything that must happen may take on a slow machine. A test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The binary under test: the shipped one.
pub fn rorqual() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorqual"));
    command.env_remove("RORQUAL__LOG__FILTER");
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    rorqual().args(arguments).output().expect("the binary runs")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `probe` gives a value.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "did not happen within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A GET without a library: status code and body.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some((code, body.to_owned()))
}

/// One member.
pub struct Member {
    pub directory: PathBuf,
    pub peer: String,
    pub client: String,
    pub http: String,
    process: Option<Child>,
}

impl Member {
    pub fn config(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts the process; its log goes to a file beside its configuration.
    pub fn start(&mut self) {
        assert!(!self.is_running(), "already running");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = rorqual();
        command.arg("run").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The last lines of its log, for messages.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// The running process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("running").id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.process.take().expect("running");
        let killed = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        child.wait().unwrap().code()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("running").id().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap().success());
    }

    /// Waits until it ends by itself, and gives the exit code.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let what = format!("the end of {}", self.directory.display());
        let code = wait_for(&what, || self.process.as_mut().and_then(|child| child.try_wait().unwrap()));
        self.process = None;
        code.code()
    }

    /// Its whole log.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn status(&self) -> Option<Value> {
        let (code, body) = get(&self.http, "/status")?;
        (code == 200).then(|| serde_json::from_str(&body).ok()).flatten()
    }

    pub fn is_ready(&self) -> bool {
        get(&self.http, "/readyz").is_some_and(|(code, _)| code == 200)
    }

    pub fn number(&self, path: &[&str]) -> Option<u64> {
        let mut value = self.status()?;
        for step in path {
            value = value.get_mut(*step)?.take();
        }
        value.as_u64()
    }

    /// Positions in its log.
    pub fn positions(&self) -> u64 {
        self.number(&["applied", "positions"]).unwrap_or(0)
    }

    pub fn last_commit(&self) -> u64 {
        self.number(&["last_commit"]).unwrap_or(0)
    }

    /// All transactions of its log, one a line with its position.
    pub fn log(&self) -> Vec<String> {
        let output = run(&["log", "--node", &self.client]);
        assert!(output.status.success(), "log: {}\n{}", stderr(&output), self.last_words());
        stdout(&output).lines().map(str::to_owned).collect()
    }

    /// Submits every line and waits for the receipts.
    pub fn submit_lines(&self, lines: &[String]) -> Output {
        let file = self.directory.join("lines");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        run(&["submit", "--node", &self.client, "--lines", file.to_str().unwrap(), "--timeout", "60s"])
    }

    /// Submits one text and asserts its receipt.
    pub fn submit(&self, text: &str) {
        let output = run(&["submit", "--node", &self.client, "--text", text, "--timeout", "60s"]);
        assert!(output.status.success(), "submit: {}\n{}", stderr(&output), self.last_words());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Nodes of one chain.
pub struct Cluster {
    pub members: Vec<Member>,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// A committee of `nodes`, nobody started.
    pub fn prepare(nodes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("cluster");
        let count = nodes.to_string();
        let output = run(&["testnet", "--nodes", &count, "--output-dir", directory.to_str().unwrap()]);
        assert!(output.status.success(), "testnet: {}", stderr(&output));
        let member = |index: usize| {
            let directory = directory.join(format!("node-{index}"));
            let text = std::fs::read_to_string(directory.join("node.toml")).unwrap();
            let address = |key: &str| {
                let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{key} = "))).unwrap();
                line.split('"').nth(1).unwrap().to_owned()
            };
            Member { peer: address("peer"), client: address("client"), http: address("http"), directory, process: None }
        };
        Self { members: (0..nodes).map(member).collect(), folder }
    }

    /// Replaces a value in `committee.toml`, before anybody was started. The data directories are made anew, since the
    /// chain is another one.
    pub fn set_protocol(&mut self, key: &str, value: &str) {
        let file = self.committee();
        let text = std::fs::read_to_string(&file).unwrap();
        let line = |line: &str| match line.trim_start().starts_with(&format!("{key} = ")) {
            true => format!("{key} = {value}"),
            false => line.to_owned(),
        };
        let changed: Vec<String> = text.lines().map(line).collect();
        assert_ne!(changed.join("\n"), text.trim_end(), "`{key}` is not in {}", file.display());
        std::fs::write(&file, changed.join("\n") + "\n").unwrap();
        for member in &self.members {
            std::fs::remove_dir_all(member.directory.join("data")).unwrap();
            let output = run(&["init", "--config", member.config().to_str().unwrap()]);
            assert!(output.status.success(), "init: {}", stderr(&output));
        }
    }

    pub fn committee(&self) -> PathBuf {
        self.folder.path().join("cluster/committee.toml")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A running cluster, every node ready.
    pub fn start(nodes: usize) -> Self {
        let mut cluster = Self::prepare(nodes);
        cluster.members.iter_mut().for_each(Member::start);
        cluster.wait_ready();
        cluster
    }

    /// Waits until every running node is ready.
    pub fn wait_ready(&mut self) {
        for member in &mut self.members {
            if member.process.is_some() {
                wait_for("a node to become ready", || {
                    assert!(member.is_running(), "a node has ended:\n{}", member.last_words());
                    member.is_ready().then_some(())
                });
            }
        }
    }

    /// Waits until these nodes have at least `positions` transactions in their logs.
    pub fn wait_positions(&self, members: &[usize], positions: u64) {
        for index in members {
            let member = &self.members[*index];
            wait_for(&format!("node {index} to have {positions} transactions\n{}", member.last_words()), || {
                (member.positions() >= positions).then_some(())
            });
        }
    }

    /// Asserts that these nodes have one and the same log, and returns it.
    pub fn one_log(&self, members: &[usize]) -> Vec<String> {
        let longest = members.iter().map(|index| self.members[*index].positions()).max().unwrap_or(0);
        self.wait_positions(members, longest);
        let first = self.members[members[0]].log();
        for index in &members[1..] {
            let other = self.members[*index].log();
            let common = first.len().min(other.len());
            assert_eq!(first[..common], other[..common], "nodes {} and {index} disagree", members[0]);
        }
        first
    }
}

/// The transactions of a log without their positions, sorted.
pub fn texts(log: &[String]) -> Vec<String> {
    let mut texts: Vec<String> =
        log.iter().filter_map(|line| line.split_once('\t')).map(|(_, t)| t.to_owned()).collect();
    texts.sort();
    texts
}

/// Distinct lines.
pub fn lines(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n:06}")).collect()
}
