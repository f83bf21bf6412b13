//! Small committees and blocks for unit tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee, Digest, KeyPair, Member, ProtocolParameters, Stake};

use crate::types::{BatchRef, BlockCore, BlockRef, Round, Sequence, VerifiedBlock};

/// The key of member `index`.
pub fn key(index: usize) -> KeyPair {
    KeyPair::from_seed([index as u8 + 1; 32])
}

/// `n` members of stake 1 under the given rules.
pub fn committee_with(n: usize, rules: ProtocolParameters) -> Arc<Committee> {
    committee_of(&vec![1; n], rules)
}

/// Members of these stakes under the given rules.
pub fn committee_of(stakes: &[u64], rules: ProtocolParameters) -> Arc<Committee> {
    let members = stakes.iter().enumerate().map(|(i, stake)| Member {
        name: format!("node-{i}"),
        public_key: key(i).public(),
        stake: Stake(*stake),
        address: format!("127.0.0.1:{}", 9000 + i),
    });
    Arc::new(Committee::new(0, Digest::default(), members.collect(), rules).unwrap())
}

/// `n` members of stake 1 under the default rules.
pub fn committee(n: usize) -> Arc<Committee> {
    committee_with(n, ProtocolParameters::default())
}

/// A well-formed empty block of round 1: own genesis first, then all others.
pub fn block_core(committee: &Committee, author: u16, round: u64) -> BlockCore {
    let author = AuthorityIndex(author);
    let others = committee.authorities().filter(|a| *a != author);
    let parents = std::iter::once(author).chain(others).map(|a| BlockRef::genesis(committee.chain_id(), a)).collect();
    let (round, batches) = (Round(round), Vec::new());
    BlockCore { epoch: committee.epoch(), round, author, timestamp_ms: 1, parents, batches, end_epoch: false }
}

/// A DAG drawn as text, one block a line: `B2: [B1 A1 C1]`. Letters are authors, numbers are rounds, round 0 is genesis; `*`
/// stands for all first blocks of the round before, own first; a trailing `'` names a twin. `B2: * -A` leaves out author A.
pub struct Drawing {
    /// Who may be drawn.
    pub committee: Arc<Committee>,
    /// In the order of the lines.
    pub blocks: Vec<VerifiedBlock>,
    names: BTreeMap<String, BlockRef>,
}

impl Drawing {
    /// Draws for `n` members under these rules.
    pub fn new(n: usize, rules: ProtocolParameters, text: &str) -> Self {
        Self::among(committee_with(n, rules), text)
    }

    /// Draws for the members of this committee.
    pub fn among(committee: Arc<Committee>, text: &str) -> Self {
        let mut drawing = Self { committee, blocks: Vec::new(), names: BTreeMap::new() };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| drawing.line(line));
        drawing
    }

    /// All full rounds `first..=last`, each block referencing everything below.
    pub fn full_rounds(&mut self, first: u64, last: u64) {
        for round in first..=last {
            for author in 0..self.committee.size() {
                self.line(&format!("{}{round}: *", letter(author)));
            }
        }
    }

    /// The name of a drawn block.
    pub fn at(&self, name: &str) -> BlockRef {
        let (author, round) = author_and_round(name);
        if round == 0 {
            return BlockRef::genesis(self.committee.chain_id(), AuthorityIndex(author as u16));
        }
        *self.names.get(name).unwrap_or_else(|| panic!("{name} is not drawn"))
    }

    /// Draws one more block.
    pub fn line(&mut self, line: &str) {
        let (name, parents) = line.split_once(':').unwrap();
        let (author, round) = author_and_round(name.trim());
        let parents = parents.trim().trim_start_matches('[').trim_end_matches(']');
        let (listed, without) = parents.split_once('-').unwrap_or((parents, ""));
        let mut references: Vec<BlockRef> = Vec::new();
        if listed.trim() == "*" {
            let others = (0..self.committee.size()).filter(|other| *other != author);
            let below = std::iter::once(author).chain(others).map(|a| format!("{}{}", letter(a), round - 1));
            let drawn = below.filter(|n| (round == 1 || self.names.contains_key(n)) && !without.contains(&n[..1]));
            references.extend(drawn.map(|name| self.at(&name)));
        } else {
            references.extend(listed.split_whitespace().map(|name| self.at(name)));
        }
        let salt = name.matches('\'').count() as u64;
        let mut core = block_core(&self.committee, author as u16, round);
        core.parents = references;
        core.timestamp_ms = 1_000 * round + 10 * author as u64 + salt;
        core.batches = vec![BatchRef {
            sequence: Sequence(round),
            digest: Digest::of("drawn", &[name.trim().as_bytes()]),
            bytes: 10,
        }];
        let block = VerifiedBlock::sign(core, Vec::new(), &self.committee, &key(author));
        let block = VerifiedBlock::verify(block.bytes().clone(), &self.committee)
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        self.names.insert(name.trim().to_string(), block.reference());
        self.blocks.push(block);
    }
}

fn letter(author: usize) -> char {
    char::from(b'A' + author as u8)
}

fn author_and_round(name: &str) -> (usize, u64) {
    let author = usize::from(name.as_bytes()[0] - b'A');
    (author, name[1..].trim_end_matches('\'').parse().unwrap())
}
