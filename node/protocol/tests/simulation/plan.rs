//! A run before it happens: who takes part, what breaks when, and what must have been reached in the end.

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, ProtocolParameters};

use super::executor::Pace;
use super::faults::Fault;
use super::loss::Loss;
use super::network::Delays;
use super::puppet::Mischief;
use super::server::Server;
use super::{MILLISECOND, SECOND, Time};
use crate::random::Random;

const KIB: u64 = 1 << 10;

/// A member that is not an honest node.
pub enum Role {
    /// Says nothing, ever.
    Silent,
    /// Made by hand.
    Puppet(Box<dyn Mischief>),
    /// An honest core behind a server that lies.
    Server(Server),
}

pub struct Plan {
    pub seed: u64,
    pub size: usize,
    /// One a member.
    pub stakes: Vec<u64>,
    pub protocol: ProtocolParameters,
    pub parameters: ConsensusParameters,
    pub delays: Delays,
    pub pace: Pace,
    pub faulty: Vec<(AuthorityIndex, Role)>,
    pub faults: Vec<(Time, Fault)>,
    /// Frames that vanish.
    pub losses: Vec<Loss>,
    /// Directions that take so much longer than `delays`.
    pub detours: Vec<(AuthorityIndex, AuthorityIndex, Time)>,
    /// A batch for every node in this interval, until then.
    pub load_every: Time,
    pub load_until: Time,
    /// How long after the last fault and the last batch everything may take to be delivered everywhere.
    pub bound: Time,
    /// Commits that every honest node must have executed by then.
    pub least_commits: u64,
    /// A node that must stop itself, with a reason that contains this text.
    pub must_halt: Option<(AuthorityIndex, &'static str)>,
}

impl Plan {
    pub fn new(size: usize, seed: u64) -> Self {
        Self {
            seed,
            size,
            stakes: vec![1; size],
            protocol: ProtocolParameters {
                gc_depth: 60,
                checkpoint_interval: 16,
                // So little that the bounds on undelivered payload bite.
                max_batch_bytes: KIB,
                max_block_payload_bytes: KIB,
                ..ProtocolParameters::default()
            },
            parameters: ConsensusParameters {
                catch_up_batch: 20,
                author_quota_bytes: 16 * KIB,
                ..ConsensusParameters::default()
            },
            delays: Delays { low: MILLISECOND, high: 4 * MILLISECOND, slow_chance: 0, slow: 0 },
            pace: Pace::default(),
            faulty: Vec::new(),
            faults: Vec::new(),
            losses: Vec::new(),
            detours: Vec::new(),
            load_every: 15 * MILLISECOND,
            load_until: 600 * MILLISECOND,
            bound: 3 * SECOND,
            least_commits: 40,
            must_halt: None,
        }
    }

    /// Chance for the plan itself, apart from that of the run.
    pub fn random(&self) -> Random {
        Random::new(self.seed ^ ((self.size as u64) << 32) ^ 0x706c_616e)
    }

    pub fn at(&mut self, time: Time, fault: Fault) {
        self.faults.push((time, fault));
    }

    /// Undelivered bytes of one author that the disk of another may hold: the limit on its own account, and on those of all
    /// members but the author, which a liar fills that shows everybody other blocks.
    pub fn disk_bound(&self) -> u64 {
        (self.size as u64 - 1) * self.parameters.author_quota_bytes
    }

    /// Puts a node so much farther from all others, both ways.
    pub fn far(&mut self, node: AuthorityIndex, delay: Time) {
        for other in (0..self.size as u16).map(AuthorityIndex).filter(|other| *other != node) {
            self.detours.extend([(node, other, delay), (other, node, delay)]);
        }
    }

    /// When the last fault and the last batch are over.
    pub fn quiet_from(&self) -> Time {
        let faults = self.faults.iter().map(|(at, _)| *at);
        faults.chain(self.losses.iter().map(|loss| loss.during.end)).max().unwrap_or(0).max(self.load_until)
    }
}
