//! What the core costs: whole clusters in simulated time, with the wall time of every step of member 0 measured.
//!
//! `cargo bench -p rorqual-protocol` prints, for each case, how much of one processor the core of one node takes at the pace
//! of the LAN profile (signing its own blocks included, checking signatures of others not: that runs on a pool), and the same
//! for each linked block. Payload is never made; batches are names only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee, Digest, KeyPair, Member, ProtocolParameters, Stake};
use rorqual_protocol::core::{Core, Setup};
use rorqual_protocol::types::{BatchRef, Sequence};
use rorqual_protocol::{Effect, Input, Now, Recovered};

const START_MS: u64 = 1_700_000_000_000;
const ONE_WAY: Duration = Duration::from_micros(500);
const SYNC: Duration = Duration::from_micros(300);

/// One kind of input: how often, and the time spent on it.
#[derive(Clone, Copy, Default)]
struct Cost {
    count: u64,
    time: Duration,
}

struct Bench {
    cores: Vec<Core>,
    timers: Vec<Option<Duration>>,
    sealed: Vec<u64>,
    queue: BTreeMap<(Duration, u64), (usize, Input)>,
    pushed: u64,
    now: Duration,
    costs: BTreeMap<&'static str, Cost>,
    effects: BTreeMap<&'static str, u64>,
}

fn key(index: usize) -> KeyPair {
    KeyPair::from_seed([index as u8 + 1; 32])
}

fn committee(n: usize) -> Arc<Committee> {
    let member = |i: usize| Member {
        name: format!("node-{i}"),
        public_key: key(i).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9000 + i),
    };
    let members = (0..n).map(member).collect();
    Arc::new(Committee::new(0, Digest::default(), members, ProtocolParameters::default()).expect("a valid committee"))
}

impl Bench {
    fn new(n: usize) -> Self {
        let committee = committee(n);
        let mut bench = Self {
            cores: Vec::new(),
            timers: vec![None; n],
            sealed: vec![0; n],
            queue: BTreeMap::new(),
            pushed: 0,
            now: Duration::ZERO,
            costs: BTreeMap::new(),
            effects: BTreeMap::new(),
        };
        let mut first = Vec::new();
        for me in 0..n {
            let parameters = ConsensusParameters { round_burst: Duration::ZERO, ..ConsensusParameters::default() };
            let setup = Setup { committee: committee.clone(), me: AuthorityIndex(me as u16), key: key(me), parameters };
            let recovered = Recovered { never_signed: true, ..Recovered::default() };
            let (core, effects) = Core::recover(setup, recovered, bench.clock()).expect("an empty disk is consistent");
            bench.cores.push(core);
            first.push(effects);
        }
        for (me, effects) in first.into_iter().enumerate() {
            bench.carry_out(me, effects);
        }
        for one in 0..n {
            for two in (0..n).filter(|two| *two != one) {
                bench.later(Duration::ZERO, one, Input::PeerUp(AuthorityIndex(two as u16)));
            }
        }
        bench
    }

    fn clock(&self) -> Now {
        Now { monotonic: self.now, wall_ms: START_MS + self.now.as_millis() as u64 }
    }

    fn later(&mut self, delay: Duration, node: usize, input: Input) {
        self.pushed += 1;
        self.queue.insert((self.now + delay, self.pushed), (node, input));
    }

    fn step(&mut self, node: usize, input: Input) {
        let (kind, clock) = (kind(&input), self.clock());
        let started = Instant::now();
        let effects = self.cores[node].step(clock, input);
        if node == 0 {
            let cost = self.costs.entry(kind).or_default();
            cost.time += started.elapsed();
            cost.count += 1;
            for effect in &effects {
                *self.effects.entry(name(effect)).or_default() += 1;
            }
        }
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let me = AuthorityIndex(node as u16);
        for effect in effects {
            match effect {
                Effect::Persist { token, .. } => {
                    token.into_iter().for_each(|token| self.later(SYNC, node, Input::Persisted(token)));
                }
                Effect::SendOwn { peer, block } => {
                    self.later(ONE_WAY, peer.usize(), Input::Block { sender: me, block });
                }
                Effect::SendHistory { peer, blocks } => {
                    for block in blocks {
                        self.later(ONE_WAY, peer.usize(), Input::Block { sender: me, block });
                    }
                }
                Effect::Subscribe { peer, from_round } => {
                    self.later(ONE_WAY, peer.usize(), Input::Subscribed { peer: me, from_round });
                }
                Effect::TipQuery { peer } => {
                    self.later(ONE_WAY, peer.usize(), Input::TipQueried { peer: me, request: 0 });
                }
                Effect::SendTip { peer, tip, .. } => {
                    self.later(ONE_WAY, peer.usize(), Input::PeerTip { peer: me, tip });
                }
                Effect::WaitBatch { key, bytes, .. } => {
                    self.later(Duration::from_micros(50), node, Input::BatchStored { key, bytes });
                }
                Effect::Deliver(delivery) => {
                    let (index, state) = (delivery.commit.index, delivery.commit.batches_root);
                    self.later(Duration::from_micros(200), node, Input::Executed { index, state });
                }
                Effect::SetTimer(at) => self.timers[node] = Some(at),
                Effect::Halt(reason) => panic!("{node} stopped: {reason}"),
                _ => (),
            }
        }
    }

    fn seal(&mut self, node: usize) {
        self.sealed[node] += 1;
        let (me, sequence) = (AuthorityIndex(node as u16), Sequence(self.sealed[node]));
        let digest = Digest::of("bench", &[&me.0.to_le_bytes(), &sequence.0.to_le_bytes()]);
        self.step(node, Input::BatchSealed(BatchRef { sequence, digest, bytes: 1_000 }));
        for peer in (0..self.cores.len()).filter(|peer| *peer != node) {
            self.step(node, Input::BatchHandedToKernel { sequence, peer: AuthorityIndex(peer as u16) });
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let message = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.timers.iter().enumerate().filter_map(|(i, at)| at.map(|at| (at, i))).min();
            let next = message.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if message == Some(at)
                && let Some((_, (node, input))) = self.queue.pop_first()
            {
                self.step(node, input);
            } else if let Some((_, node)) = timer {
                self.timers[node] = None;
                self.step(node, Input::Timer);
            }
        }
        self.now = end;
    }
}

fn kind(input: &Input) -> &'static str {
    match input {
        Input::Block { .. } => "block",
        Input::BatchStored { .. } => "batch stored",
        Input::BatchSealed(_) => "batch sealed",
        Input::BatchHandedToKernel { .. } => "batch handed over",
        Input::Timer => "timer",
        Input::Persisted(_) => "persisted",
        Input::Executed { .. } => "executed",
        _ => "other",
    }
}

fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Persist { sync: true, .. } => "synced write",
        Effect::Persist { .. } => "write",
        Effect::SendOwn { .. } => "own block",
        Effect::SendHistory { .. } => "history",
        Effect::SetTimer(_) => "timer set",
        Effect::WaitBatch { .. } => "batch wait",
        Effect::Deliver(_) => "delivery",
        _ => "other",
    }
}

/// Simulates `seconds` with a batch of every node each `every` (none: an idle cluster), after two seconds to warm up.
fn case(title: &str, n: usize, every: Option<Duration>, seconds: u64) {
    let mut bench = Bench::new(n);
    let step = every.unwrap_or(Duration::from_millis(100));
    let turn = |bench: &mut Bench| {
        if every.is_some() {
            (0..n).for_each(|node| bench.seal(node));
        }
        bench.run(step);
    };
    while bench.now < Duration::from_secs(4) {
        turn(&mut bench);
    }
    let before = bench.cores[0].status();
    bench.costs.clear();
    bench.effects.clear();
    let end = bench.now + Duration::from_secs(seconds);
    while bench.now < end {
        turn(&mut bench);
    }
    let after = bench.cores[0].status();
    let total: Duration = bench.costs.values().map(|cost| cost.time).sum();
    let (rounds, linked) = (after.round.0 - before.round.0, after.events.linked - before.events.linked);
    let commits = after.last_commit.0 - before.last_commit.0;
    println!(
        "{title}: {} rounds/s, {} commits/s, {:.2} % of a processor, {} ns for each linked block",
        rounds / seconds,
        commits / seconds,
        100.0 * total.as_secs_f64() / seconds as f64,
        total.as_nanos() / u128::from(linked.max(1)),
    );
    for (kind, cost) in &bench.costs {
        let each = cost.time.as_nanos() / u128::from(cost.count.max(1));
        println!("    {kind:<18} {:>7}/s {each:>8} ns each", cost.count / seconds);
    }
    let effects: Vec<String> =
        bench.effects.iter().map(|(name, count)| format!("{name} {}", count / seconds)).collect();
    println!("    effects a second: {}", effects.join(", "));
}

fn main() {
    let every = Some(Duration::from_millis(5));
    case("n = 4, loaded", 4, every, 20);
    case("n = 10, loaded", 10, every, 10);
    case("n = 4, idle", 4, None, 60);
    case("n = 10, idle", 10, None, 60);
}
