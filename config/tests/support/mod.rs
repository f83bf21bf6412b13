//! A small network on disk for the tests of this folder.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use rorqual_config::load::{write_committee, write_node};
use rorqual_config::{
    Committee, ConfigErrors, Digest, KeyPair, Member, NodeConfig, NodeParameters, ProtocolParameters, Stake, load_node,
};
use tempfile::TempDir;

pub struct Network {
    pub dir: TempDir,
}

pub fn key(index: u8) -> KeyPair {
    KeyPair::from_seed([index + 1; 32])
}

pub fn members(count: u8) -> Vec<Member> {
    let member = |i: u8| Member {
        name: format!("node-{i}"),
        public_key: key(i).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9600 + 4 * u16::from(i)),
    };
    (0..count).map(member).collect()
}

pub fn committee(count: u8, rules: ProtocolParameters) -> Committee {
    Committee::new(0, Digest([9; 32]), members(count), rules).unwrap()
}

impl Network {
    pub fn new() -> Self {
        Self::with(NodeParameters::default(), ProtocolParameters::default())
    }

    pub fn with(parameters: NodeParameters, rules: ProtocolParameters) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("node-0")).unwrap();
        write_committee(&dir.path().join("committee.toml"), &committee(4, rules)).unwrap();
        write_node(&dir.path().join("node-0/node.toml"), &parameters).unwrap();
        key(0).save(&dir.path().join("node-0/node.key")).unwrap();
        Self { dir }
    }

    pub fn node_file(&self) -> PathBuf {
        self.dir.path().join("node-0/node.toml")
    }

    pub fn committee_file(&self) -> PathBuf {
        self.dir.path().join("committee.toml")
    }

    /// Replaces text in a file, which must be there.
    pub fn edit(&self, path: &Path, from: &str, to: &str) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "`{from}` is not in\n{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Sets a key of a section of the node file; sections that are not there are made.
    pub fn set(&self, section: &str, line: &str) {
        let header = format!("[{section}]");
        let name = line.split('=').next().unwrap().trim().to_owned();
        let mut lines: Vec<String> =
            std::fs::read_to_string(self.node_file()).unwrap().lines().map(str::to_owned).collect();
        let start = match section {
            "" => 0,
            _ => match lines.iter().position(|l| *l == header) {
                Some(at) => at + 1,
                None => {
                    lines.push(header);
                    lines.len()
                }
            },
        };
        let end = lines[start..].iter().position(|l| l.starts_with('[')).map_or(lines.len(), |at| start + at);
        let is_key = |l: &String| l.split('=').next().unwrap().trim() == name;
        match lines[start..end].iter().position(is_key) {
            Some(at) => lines[start + at] = line.to_owned(),
            None => lines.insert(start, line.to_owned()),
        }
        std::fs::write(self.node_file(), lines.join("\n")).unwrap();
    }

    pub fn load(&self) -> Result<NodeConfig, ConfigErrors> {
        self.load_with(&[], &[])
    }

    pub fn load_with(&self, flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<NodeConfig, ConfigErrors> {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        load_node(&self.node_file(), &pairs(flags), &pairs(env))
    }

    /// The errors, with the temporary folder shown as `DIR`.
    pub fn errors(&self, result: Result<NodeConfig, ConfigErrors>) -> Vec<String> {
        let text = result.map(|_| ()).unwrap_err().to_string();
        text.replace(&self.dir.path().display().to_string(), "DIR").lines().map(str::to_owned).collect()
    }
}
