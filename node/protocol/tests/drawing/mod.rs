//! DAGs drawn as text.
//!
//! ```text
//! ABCD1: [ABCD0]          four blocks of round 1 with the four genesis blocks as parents
//! A2:    [ABC1] {1 2}     names the batches 1 and 2 of A
//! A2':   [ABD1] @5000     a twin of A2, with timestamp 5000
//! B2:    [A1 B1 C1 D0]    D0 is a weak parent
//! ```
//! A block is written as the letter of its author, its round, and a `'` for each further twin; several letters are several
//! blocks. The own parent goes first, wherever it was drawn. Without `@` the timestamp is 1000 times the round plus the
//! author's index.

use std::collections::BTreeMap;
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::types::{BatchKey, BatchRef, BlockCore, BlockRef, Round, Sequence, VerifiedBlock};

use crate::members;

/// The blocks of a drawing, in the order drawn.
pub struct Drawing {
    committee: Arc<Committee>,
    blocks: Vec<VerifiedBlock>,
    names: BTreeMap<String, BlockRef>,
}

impl Drawing {
    /// # Panics
    /// On a line that is not understood, or that names a parent not drawn before it.
    pub fn new(committee: &Arc<Committee>, text: &str) -> Self {
        let genesis = |a| (name(a, 0, ""), BlockRef::genesis(committee.chain_id(), a));
        let names = committee.authorities().map(genesis).collect();
        let mut drawing = Self { committee: committee.clone(), blocks: Vec::new(), names };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            drawing.line(line);
        }
        drawing
    }

    pub fn blocks(&self) -> &[VerifiedBlock] {
        &self.blocks
    }

    /// The reference of the block that was drawn under this name.
    pub fn reference(&self, name: &str) -> BlockRef {
        *self.names.get(name).unwrap_or_else(|| panic!("`{name}` was not drawn"))
    }

    /// The name under which a block was drawn.
    pub fn name_of(&self, reference: &BlockRef) -> String {
        let named = self.names.iter().find(|(_, r)| *r == reference);
        named.map_or_else(|| format!("{reference:?}"), |(name, _)| name.clone())
    }

    fn line(&mut self, line: &str) {
        let wrong = |what: &str| -> ! { panic!("{what} in `{line}`") };
        let Some((heads, rest)) = line.split_once(':') else { wrong("no colon") };
        let Some(parents) = between(rest, '[', ']') else { wrong("no parents") };
        let parents: Vec<BlockRef> = parents
            .split_whitespace()
            .flat_map(group)
            .map(|(a, r, marks)| self.reference(&name(a, r, &marks)))
            .collect();
        let sequences = between(rest, '{', '}').unwrap_or_default();
        let sequences: Vec<u64> = sequences.split_whitespace().filter_map(|s| s.parse().ok()).collect();
        let timestamp = rest.split_once('@').and_then(|(_, t)| t.split_whitespace().next()?.parse().ok());
        for (author, round, marks) in group(heads.trim()) {
            let mut parents = parents.clone();
            parents.sort_by_key(|p| p.author != author);
            let core = BlockCore {
                epoch: self.committee.epoch(),
                round: Round(round),
                author,
                timestamp_ms: timestamp.unwrap_or(1000 * round + u64::from(author.0)),
                parents,
                batches: sequences.iter().map(|s| batch(author, Sequence(*s))).collect(),
                end_epoch: false,
            };
            let block = VerifiedBlock::sign(core, Vec::new(), &self.committee, &members::key(author));
            let before = self.names.insert(name(author, round, &marks), block.reference());
            assert!(before.is_none(), "{} is drawn twice", name(author, round, &marks));
            self.blocks.push(block);
        }
    }
}

/// The batch that drawings mean by a number.
pub fn batch(author: AuthorityIndex, sequence: Sequence) -> BatchRef {
    let content = format!("batch {sequence} of {author}");
    let digest = BatchKey::digest_of(0, author, sequence, content.as_bytes());
    BatchRef { sequence, digest, bytes: content.len() as u32 }
}

fn name(author: AuthorityIndex, round: u64, marks: &str) -> String {
    format!("{}{round}{marks}", char::from(b'A' + author.0 as u8))
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    text.split_once(open)?.1.split_once(close).map(|(inside, _)| inside)
}

/// `AB3'` is A3' and B3'.
fn group(token: &str) -> Vec<(AuthorityIndex, u64, String)> {
    let letters: String = token.chars().take_while(char::is_ascii_uppercase).collect();
    let rest = &token[letters.len()..];
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let marks = &rest[digits.len()..];
    let round = digits.parse().unwrap_or_else(|_| panic!("`{token}` is not a block"));
    assert!(!letters.is_empty() && marks.chars().all(|c| c == '\''), "`{token}` is not a block");
    let author = |letter: char| AuthorityIndex(u16::from(letter as u8 - b'A'));
    letters.chars().map(|letter| (author(letter), round, marks.to_owned())).collect()
}
