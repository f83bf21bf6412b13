//! Everything outside of the processes: time, chance, links, and the judge.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::Input;

use super::event::{Event, Queue};
use super::executor::Pace;
use super::loss::Loss;
use super::message::Message;
use super::network::Network;
use super::oracle::Oracle;
use super::verifier::Verifier;
use super::{MILLISECOND, Time};
use crate::random::Random;

pub struct Outside {
    pub now: Time,
    pub committee: Arc<Committee>,
    pub queue: Queue,
    pub random: Random,
    pub network: Network,
    pub losses: Vec<Loss>,
    pub oracle: Oracle,
    pub verifier: Verifier,
    /// How long execution takes.
    pub pace: Pace,
    /// Hash of everything that happened.
    trace: DefaultHasher,
    /// Tell what happens on standard error.
    verbose: bool,
}

impl Outside {
    pub fn new(committee: Arc<Committee>, random: Random, network: Network, oracle: Oracle) -> Self {
        let verbose = std::env::var_os("RORQUAL_TRACE").is_some();
        let (queue, trace) = (Queue::default(), DefaultHasher::new());
        let (verifier, pace) = (Verifier::new(committee.clone()), Pace::default());
        let losses = Vec::new();
        Self { now: 0, committee, queue, random, network, losses, oracle, verifier, pace, trace, verbose }
    }

    pub fn schedule(&mut self, at: Time, event: Event) {
        self.queue.push(at.max(self.now), &mut self.random, event);
    }

    pub fn after(&mut self, delay: Time, event: Event) {
        self.schedule(self.now + delay, event);
    }

    /// Tells the core of a node something very soon.
    pub fn tell(&mut self, node: AuthorityIndex, life: u64, input: Input) {
        let delay = self.random.between(1, 50);
        self.after(delay, Event::Local { node, life, input: Box::new(input) });
    }

    /// Puts a message on the link, if there is one and it takes the message.
    pub fn send(&mut self, from: AuthorityIndex, to: AuthorityIndex, message: Message) -> bool {
        if !self.network.is_up(from, to) {
            return false;
        }
        for block in message.blocks() {
            self.oracle.left(from, block);
            let passes = self.oracle.is_byzantine(from) || self.verifier.accepts(block);
            assert!(passes, "{from:?} passes on {block:?}, which is not valid");
        }
        let now = self.now;
        if let Some(loss) = self.losses.iter().find(|loss| loss.takes(now, from, to, &message, &mut self.random)) {
            let told = loss.told;
            self.say(from, || format!("   loses {message:?}").chars().take(120).collect());
            return !told;
        }
        let generation = self.network.generation(from, to);
        let arrival = self.network.arrival(self.now, from, to, message.stream(), &mut self.random);
        if let Some(at) = arrival {
            self.schedule(at, Event::Arrive { from, to, generation, message });
        }
        true
    }

    /// Cuts one direction. A connection that existed dies when its sides notice.
    pub fn cut(&mut self, from: AuthorityIndex, to: AuthorityIndex) {
        if !self.network.cut(from, to) {
            return;
        }
        let generation = self.network.generation(from, to);
        for (node, peer) in [(from, to), (to, from)] {
            let delay = self.random.between(20 * MILLISECOND, 300 * MILLISECOND);
            self.after(delay, Event::Disconnect { node, peer, generation });
        }
    }

    pub fn heal(&mut self, from: AuthorityIndex, to: AuthorityIndex) {
        self.network.heal(from, to);
        self.plan_connect(from, to);
    }

    /// The process of a node is gone: its peers notice soon.
    pub fn vanish(&mut self, node: AuthorityIndex) {
        for peer in self.peers_of(node) {
            let generation = self.network.generation(node, peer);
            let delay = self.random.between(MILLISECOND, 20 * MILLISECOND);
            self.after(delay, Event::Disconnect { node: peer, peer: node, generation });
        }
        self.network.forget(node);
    }

    pub fn plan_connect(&mut self, a: AuthorityIndex, b: AuthorityIndex) {
        let delay = self.random.between(MILLISECOND, 30 * MILLISECOND);
        self.after(delay, Event::Connect { a: a.min(b), b: a.max(b) });
    }

    pub fn peers_of(&self, node: AuthorityIndex) -> Vec<AuthorityIndex> {
        self.committee.authorities().filter(|peer| *peer != node).collect()
    }

    /// Peers that `node` believes to be connected with.
    pub fn connected(&self, node: AuthorityIndex) -> Vec<AuthorityIndex> {
        self.peers_of(node).into_iter().filter(|peer| self.network.is_up(node, *peer)).collect()
    }

    pub fn note(&mut self, what: impl Hash) {
        (self.now, what).hash(&mut self.trace);
    }

    pub fn say(&self, node: AuthorityIndex, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>10.3} ms {node:?} {}", self.now as f64 / 1000.0, what());
        }
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }
}
