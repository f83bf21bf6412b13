//! What is going to happen, and in which order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::{BatchKey, Round};
use rorqual_protocol::{Input, Token};

use super::Time;
use super::disk::Mark;
use super::faults::Fault;
use super::message::Message;
use crate::random::Random;

/// Events of a process name the life they belong to: a restarted process does not see what its predecessor waited for.
#[derive(Debug)]
pub enum Event {
    /// A message comes out of the link of this generation.
    Arrive { from: AuthorityIndex, to: AuthorityIndex, generation: u64, message: Message },
    /// A timer; only the newest one counts.
    Wake { node: AuthorityIndex, life: u64, version: u64 },
    /// The disk has done what it was asked for.
    Durable { node: AuthorityIndex, life: u64, token: Option<Token>, mark: Option<Mark>, named: Option<Round> },
    /// Payload can be read.
    Stored { node: AuthorityIndex, life: u64, key: BatchKey },
    /// The shell has something to tell its core.
    Local { node: AuthorityIndex, life: u64, input: Box<Input> },
    /// Execution has done its work on a commit.
    Apply { node: AuthorityIndex, life: u64 },
    /// Time to ask (again) for payload.
    Ask { node: AuthorityIndex, life: u64, key: BatchKey },
    /// A request has had its time.
    Expire { node: AuthorityIndex, life: u64, request: u64 },
    /// A peer may bring more blocks.
    Resume { node: AuthorityIndex, life: u64, peer: AuthorityIndex },
    /// A client gives a node something to seal.
    Submit { node: AuthorityIndex },
    /// Two nodes try to connect.
    Connect { a: AuthorityIndex, b: AuthorityIndex },
    /// A node notices that a link is dead.
    Disconnect { node: AuthorityIndex, peer: AuthorityIndex, generation: u64 },
    /// Somebody says what it has held back.
    Say { from: AuthorityIndex, to: AuthorityIndex, message: Box<Message> },
    /// A hand-made member proposes.
    Propose { node: AuthorityIndex },
    /// Something breaks or heals.
    Fault(Fault),
}

struct Entry {
    key: (Time, u64, u64),
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key)
    }
}

/// A heap by (time, seeded tie-break, order of insertion).
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Entry>,
    count: u64,
}

impl Queue {
    pub fn push(&mut self, at: Time, random: &mut Random, event: Event) {
        self.count += 1;
        self.heap.push(Entry { key: (at, random.next(), self.count), event });
    }

    pub fn pop(&mut self) -> Option<(Time, Event)> {
        self.heap.pop().map(|entry| (entry.key.0, entry.event))
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}
