//! A disk that fills up: work is given up step by step, the others go on, and everything returns by itself when there is space.
//!
//! Each full disk is a tmpfs of its own, which only root can mount. Elsewhere these tests say that they were skipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cluster::{Cluster, Member, get, lines, rorqual, run, stderr, stdout, texts, wait_for};

const MIB: u64 = 1 << 20;
/// Size of a node's disk.
const DISK: u64 = 256 * MIB;
/// `store.min_free_bytes` in these tests.
const RESERVE: u64 = 64 * MIB;
/// From space to service.
const RETURN: Duration = Duration::from_secs(10);

/// A small filesystem, unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={DISK}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path)),
            other => {
                eprintln!("SKIPPED: a small filesystem cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn free(&self) -> u64 {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.0).output().unwrap();
        stdout(&output).lines().last().unwrap().trim().parse().unwrap()
    }

    /// Fills it up to so many free bytes.
    fn fill(&self, leave: u64) {
        let filler = self.0.join("filler");
        let already = filler.metadata().map_or(0, |facts| facts.len());
        let bytes = (already + self.free()).saturating_sub(leave);
        let output = Command::new("fallocate").arg("-l").arg(bytes.to_string()).arg(&filler).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

fn set(member: &Member, section: &str, line: &str) {
    let file = member.config();
    let text = std::fs::read_to_string(&file).unwrap();
    let header = format!("[{section}]");
    let changed = match text.contains(&header) {
        true => text.replacen(&header, &format!("{header}\n{line}"), 1),
        false => format!("{text}\n{header}\n{line}\n"),
    };
    std::fs::write(&file, changed).unwrap();
}

/// A cluster of which the first `count` nodes have a small disk each. The disks go before the cluster's folder.
fn on_small_disks(count: usize, reserve: u64) -> Option<(Vec<Disk>, Cluster)> {
    let cluster = Cluster::prepare(4);
    let mut disks = Vec::new();
    for member in &cluster.members[..count] {
        let disk = Disk::mount(member.directory.join("disk"))?;
        let moved = Command::new("mv").arg(member.directory.join("data")).arg(disk.0.join("data")).status().unwrap();
        assert!(moved.success());
        let file = member.config();
        let text = std::fs::read_to_string(&file).unwrap();
        let at = |line: &str| match line.starts_with("data = ") {
            true => "data = \"disk/data\"".to_owned(),
            false => line.to_owned(),
        };
        std::fs::write(&file, text.lines().map(at).collect::<Vec<_>>().join("\n") + "\n").unwrap();
        set(member, "store", &format!("min_free_bytes = {reserve}"));
        disks.push(disk);
    }
    Some((disks, cluster))
}

fn level(member: &Member) -> Option<String> {
    Some(member.status()?["disk"]["level"].as_str()?.to_owned())
}

fn wait_level(member: &Member, expected: &str) {
    wait_for(&format!("the disk to be {expected}"), || (level(member)? == expected).then_some(()));
}

fn refused(member: &Member) {
    let output = run(&["submit", "--node", &member.client, "--text", "refused", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("disk is nearly full"), "{}", stderr(&output));
}

fn returns_in_time(members: &[Member], since: Instant) {
    for member in members {
        wait_for("a node to be ready again", || member.is_ready().then_some(()));
    }
    assert!(since.elapsed() < RETURN, "it took {:?}", since.elapsed());
}

#[test]
fn one_full_disk_stops_its_node_step_by_step_and_the_others_not_at_all() {
    let Some((disks, mut cluster)) = on_small_disks(1, RESERVE) else { return };
    cluster.members.iter_mut().for_each(Member::start);
    cluster.wait_ready();
    cluster.members[0].submit("before");

    disks[0].fill(RESERVE - 8 * MIB);
    wait_level(&cluster.members[0], "read-only");
    let (code, checks) = get(&cluster.members[0].http, "/readyz").unwrap();
    assert_eq!(code, 503);
    assert!(checks.contains("[-] disk disk nearly full (read-only)"), "{checks}");
    let (_, metrics) = get(&cluster.members[0].http, "/metrics").unwrap();
    assert!(metrics.contains("rorqual_disk_level 2"), "{metrics}");
    refused(&cluster.members[0]);
    // It takes full part otherwise.
    assert!(cluster.members[1].submit_lines(&lines("read-only", 50)).status.success());
    cluster.wait_positions(&[0, 1], 51);

    disks[0].fill(RESERVE / 8);
    wait_level(&cluster.members[0], "standstill");
    refused(&cluster.members[0]);
    let before = disks[0].free();
    for part in 0..5 {
        let output = cluster.members[1].submit_lines(&lines(&format!("standstill-{part}"), 20));
        assert!(output.status.success(), "the others go on: {}", stderr(&output));
    }
    cluster.wait_positions(&[1, 2, 3], 151);
    assert_eq!(cluster.members[0].log().len(), 51, "what is there is served");
    assert!(before.saturating_sub(disks[0].free()) < 2 * MIB, "next to nothing is written");

    let since = Instant::now();
    disks[0].clear();
    returns_in_time(&cluster.members[..1], since);
    cluster.members[0].submit("after");
    let log = texts(&cluster.one_log(&[0, 1, 2, 3]));
    assert_eq!(log.len(), 152);
    assert!(!log.contains(&"refused".to_owned()));
    assert!(cluster.members[0].is_running());
}

#[test]
fn two_full_disks_stop_the_cluster_and_it_goes_on_by_itself() {
    let Some((disks, mut cluster)) = on_small_disks(2, RESERVE) else { return };
    cluster.members.iter_mut().for_each(Member::start);
    cluster.wait_ready();
    cluster.members[2].submit("before");
    disks.iter().for_each(|disk| disk.fill(RESERVE / 8));
    cluster.members[..2].iter().for_each(|member| wait_level(member, "standstill"));
    cluster.members[..2].iter().for_each(refused);
    // Nothing commits without them; whoever asked elsewhere is told that the outcome is open.
    let output = run(&["submit", "--node", &cluster.members[2].client, "--text", "open", "--timeout", "2s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("unknown"), "{}", stderr(&output));
    for member in &cluster.members {
        assert_eq!(member.log(), ["0\tbefore"], "reads are served");
    }
    let since = Instant::now();
    disks.iter().for_each(Disk::clear);
    returns_in_time(&cluster.members, since);
    cluster.members[0].submit("after");
    let log = texts(&cluster.one_log(&[0, 1, 2, 3]));
    assert!(log.contains(&"before".to_owned()) && log.contains(&"after".to_owned()), "{log:?}");
    assert!(cluster.members.iter_mut().all(Member::is_running));
}

#[test]
fn a_disk_that_is_full_all_the_same_stops_its_node_with_the_reason_and_loses_nothing() {
    let Some((disks, mut cluster)) = on_small_disks(1, 0) else { return };
    cluster.members[1..].iter_mut().for_each(Member::start);
    let log = Path::new(&cluster.members[0].directory).join("said");
    let said = std::fs::File::create(&log).unwrap();
    let config = cluster.members[0].config();
    let mut child = rorqual().arg("run").arg("--config").arg(config).stderr(said).spawn().unwrap();
    wait_for("node 0 to become ready", || cluster.members[0].is_ready().then_some(()));
    cluster.wait_ready();
    assert!(cluster.members[0].submit_lines(&lines("kept", 100)).status.success());
    disks[0].fill(0);
    // Enough that what the store has set aside for its files is used up soon.
    let more: Vec<String> = lines("more", 2_000).into_iter().map(|line| line + &"x".repeat(500)).collect();
    let code = wait_for("the node to end", || {
        assert!(cluster.members[1].submit_lines(&more).status.success(), "the others go on");
        child.try_wait().unwrap()
    });
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(code.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    let names_it = last.contains("disk is full") && last.contains("disk/data") && last.contains("free space");
    assert!(names_it, "{last}");
    disks[0].clear();
    cluster.members[0].start();
    cluster.wait_ready();
    cluster.members[0].submit("after");
    let log = texts(&cluster.one_log(&[0, 1, 2, 3]));
    let kept = lines("kept", 100);
    assert!(kept.iter().all(|line| log.contains(line)) && log.contains(&"after".to_owned()));
}
