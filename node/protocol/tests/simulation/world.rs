//! The run: takes events in order and hands each to the process it is for.

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;
use rorqual_protocol::types::CommitIndex;

use super::daemon::Daemon;
use super::disk::Disk;
use super::event::Event;
use super::faults::Fault;
use super::network::Network;
use super::oracle::Oracle;
use super::outside::Outside;
use super::plan::{Plan, Role};
use super::puppet::Puppet;
use super::server::Server;
use super::{MILLISECOND, Time};
use crate::random::Random;
use crate::{members, reference};

enum Process {
    Down,
    Daemon(Box<Daemon>),
    Puppet(Box<Puppet>),
}

struct Node {
    disk: Disk,
    process: Process,
    life: u64,
    clock_offset_ms: i64,
    server: Server,
}

pub struct World {
    plan: Plan,
    out: Outside,
    nodes: Vec<Node>,
    submitted: u64,
    /// Nodes that stopped themselves, as the plan says they must.
    stopped: AuthoritySet,
}

/// What a run has come to.
pub struct Outcome {
    pub oracle: Oracle,
    /// Equal for equal seeds.
    pub trace: u64,
    pub events: u64,
    pub ended: Time,
}

impl World {
    pub fn new(mut plan: Plan) -> Self {
        let committee = members::committee(&plan.stakes, plan.protocol.clone());
        let mut random = Random::new(plan.seed ^ ((plan.size as u64) << 32));
        let byzantine: AuthoritySet = plan.faulty.iter().map(|(author, _)| *author).collect();
        let oracle = Oracle::new(committee.clone(), byzantine, plan.disk_bound());
        let nodes = (0..plan.size).map(|_| Node {
            disk: Disk::new(),
            process: Process::Down,
            life: 0,
            clock_offset_ms: random.below(2_000) as i64 - 1_000,
            server: Server::Honest,
        });
        let nodes = nodes.collect();
        let mut network = Network::new(plan.size, plan.delays);
        for (from, to, delay) in &plan.detours {
            network.detour(*from, *to, *delay);
        }
        let mut out = Outside::new(committee.clone(), random, network, oracle);
        out.pace = plan.pace;
        out.losses = plan.losses.clone();
        for (at, fault) in plan.faults.clone() {
            out.schedule(at, Event::Fault(fault));
        }
        let roles = std::mem::take(&mut plan.faulty);
        let mut world = Self { plan, out, nodes, submitted: 0, stopped: AuthoritySet::EMPTY };
        let mut daemons: Vec<AuthorityIndex> = committee.authorities().filter(|a| !byzantine.contains(*a)).collect();
        for (author, role) in roles {
            match role {
                Role::Silent => (),
                Role::Server(server) => {
                    world.nodes[author.usize()].server = server;
                    daemons.push(author);
                }
                Role::Puppet(mischief) => {
                    let puppet = Puppet::new(author, mischief, &world.out);
                    world.nodes[author.usize()].process = Process::Puppet(Box::new(puppet));
                    world.plan_connections(author);
                }
            }
        }
        for author in daemons {
            let (start, submit) = (world.out.random.below(5 * MILLISECOND), world.out.random.below(20 * MILLISECOND));
            world.out.schedule(start, Event::Fault(Fault::Start(author)));
            world.out.schedule(submit, Event::Submit { node: author });
        }
        world
    }

    /// Runs until everything is reached that the plan asks for.
    pub fn run(mut self) -> Outcome {
        let quiet = self.plan.quiet_from();
        let deadline = quiet + self.plan.bound;
        let mut next_look = quiet;
        let mut buried = false;
        while let Some((at, event)) = self.out.queue.pop() {
            self.out.now = at;
            self.handle(event);
            if at < next_look {
                continue;
            }
            if !std::mem::replace(&mut buried, true) {
                self.bury();
            }
            let missing = self.missing();
            if missing.is_none() {
                break;
            }
            assert!(
                at <= deadline,
                "{} ms after the last fault: {}",
                (at - quiet) / MILLISECOND,
                missing.unwrap_or_default()
            );
            next_look = at + 20 * MILLISECOND;
        }
        assert_eq!(self.missing(), None, "nothing happens any more");
        self.compare_with_reference();
        let (trace, events, ended) = (self.out.trace_hash(), self.out.queue.count(), self.out.now);
        Outcome { oracle: self.out.oracle, trace, events, ended }
    }

    /// What the blocks on one disk commit according to the naive committer is how the history begins.
    fn compare_with_reference(&mut self) {
        let any = self.out.random.below(self.plan.size as u64) as usize;
        let commits = reference::commits(&self.out.committee, self.nodes[any].disk.blocks());
        for (commit, known) in commits.into_iter().zip(self.out.oracle.history()) {
            assert_eq!(commit, known, "the naive committer disagrees over the blocks of node {any}");
        }
    }

    /// Who is down after the last fault is down for good, and with it what it alone knows of.
    fn bury(&mut self) {
        for node in self.out.committee.authorities() {
            if matches!(self.nodes[node.usize()].process, Process::Down) {
                self.out.oracle.forgive_undelivered(node);
            }
        }
    }

    /// What is not reached yet.
    fn missing(&self) -> Option<String> {
        if let Some((halting, _)) = self.plan.must_halt.filter(|(halting, _)| !self.stopped.contains(*halting)) {
            return Some(format!("{halting:?} goes on though it must stop"));
        }
        for node in &self.nodes {
            let Process::Daemon(daemon) = &node.process else { continue };
            let me = daemon.me;
            let executed = self.out.oracle.executed_by(me);
            if executed < CommitIndex(self.plan.least_commits) {
                return Some(format!("{me:?} has executed {executed} of {} commits", self.out.oracle.commits()));
            }
            let missing = self.out.oracle.missing_at(me);
            if !missing.is_empty() {
                let some: Vec<String> =
                    missing.iter().take(3).map(|k| format!("{:?} {:?}", k.author, k.sequence)).collect();
                let commits = self.out.oracle.commits();
                return Some(format!(
                    "{me:?} at {executed} of {commits} commits misses {} batches, e.g. {some:?}",
                    missing.len()
                ));
            }
        }
        None
    }

    fn handle(&mut self, event: Event) {
        self.out.note(std::mem::discriminant(&event));
        match event {
            Event::Fault(fault) => self.fault(fault),
            Event::Connect { a, b } => self.connect(a, b),
            Event::Disconnect { node, peer, generation } => self.disconnect(node, peer, generation),
            Event::Arrive { from, to, generation, message } => {
                if !self.out.network.delivers(from, to, generation) {
                    return;
                }
                let node = &mut self.nodes[to.usize()];
                match &mut node.process {
                    Process::Daemon(daemon) => daemon.arrive(from, message, &mut node.disk, &mut self.out),
                    Process::Puppet(puppet) => puppet.receive(from, message, &mut self.out),
                    Process::Down => (),
                }
                self.look_for_halt(to);
            }
            Event::Propose { node } => {
                if let Process::Puppet(puppet) = &mut self.nodes[node.usize()].process {
                    puppet.propose(&mut self.out);
                }
            }
            Event::Submit { node } => self.submit(node),
            Event::Say { from, to, message } => {
                self.out.send(from, to, *message);
            }
            Event::Wake { node, life, .. }
            | Event::Durable { node, life, .. }
            | Event::Stored { node, life, .. }
            | Event::Local { node, life, .. }
            | Event::Apply { node, life }
            | Event::Ask { node, life, .. }
            | Event::Resume { node, life, .. }
            | Event::Expire { node, life, .. } => {
                if self.nodes[node.usize()].life == life {
                    self.local(node, event);
                }
            }
        }
    }

    /// Something that a node does for itself.
    fn local(&mut self, node: AuthorityIndex, event: Event) {
        let Node { disk, process: Process::Daemon(daemon), .. } = &mut self.nodes[node.usize()] else { return };
        let out = &mut self.out;
        match event {
            Event::Wake { version, .. } => daemon.wake(version, disk, out),
            Event::Durable { token, mark, named, .. } => {
                mark.into_iter().for_each(|mark| disk.synced(mark));
                // The safety record names the block before the core hears that it is durable.
                named.into_iter().for_each(|round| disk.name(round));
                if let Some(token) = token {
                    daemon.step(rorqual_protocol::Input::Persisted(token), disk, out);
                }
            }
            Event::Stored { key, .. } => daemon.stored(key, disk, out),
            Event::Local { input, .. } => daemon.step(*input, disk, out),
            Event::Apply { .. } => daemon.apply(disk, out),
            Event::Ask { key, .. } => daemon.look_again(key, disk, out),
            Event::Resume { peer, .. } => daemon.resume(peer, disk, out),
            Event::Expire { request, .. } => daemon.expire(request, disk, out),
            _ => (),
        }
        self.look_for_halt(node);
    }

    /// A node that stops itself does so for good, and as planned. What it sealed and no commit has delivered by then is
    /// with it alone: nobody owes it any more.
    fn look_for_halt(&mut self, node: AuthorityIndex) {
        let Process::Daemon(daemon) = &self.nodes[node.usize()].process else { return };
        let Some(reason) = &daemon.halted else { return };
        let reason = reason.to_string();
        let expected = self.plan.must_halt.is_some_and(|(n, text)| n == node && reason.contains(text));
        assert!(expected, "{node:?} stopped: {reason}");
        self.stopped.insert(node);
        self.take_down(node, false);
        self.out.oracle.forgive_undelivered(node);
    }

    fn submit(&mut self, node: AuthorityIndex) {
        if self.out.now >= self.plan.load_until {
            return;
        }
        self.submitted += 1;
        let content = format!("batch {} of the run", self.submitted);
        let Node { disk, process, .. } = &mut self.nodes[node.usize()];
        if let Process::Daemon(daemon) = process {
            daemon.submit(content.as_bytes(), disk, &mut self.out);
        }
        let every = self.out.random.between(self.plan.load_every / 2, self.plan.load_every * 3 / 2);
        self.out.after(every, Event::Submit { node });
    }

    fn plan_connections(&mut self, node: AuthorityIndex) {
        for peer in self.out.peers_of(node) {
            self.out.plan_connect(node, peer);
        }
    }

    fn connect(&mut self, a: AuthorityIndex, b: AuthorityIndex) {
        let runs = |node: AuthorityIndex| !matches!(self.nodes[node.usize()].process, Process::Down);
        if !runs(a) || !runs(b) || !self.out.network.connect(a, b) {
            return;
        }
        for (node, peer) in [(a, b), (b, a)] {
            let Node { disk, process, .. } = &mut self.nodes[node.usize()];
            match process {
                Process::Daemon(daemon) => daemon.connected(peer, disk, &mut self.out),
                Process::Puppet(puppet) => puppet.connected(peer, &mut self.out),
                Process::Down => (),
            }
            self.look_for_halt(node);
        }
    }

    fn disconnect(&mut self, node: AuthorityIndex, peer: AuthorityIndex, generation: u64) {
        if !self.out.network.put_down(node, peer, generation) {
            return;
        }
        let Node { disk, process, .. } = &mut self.nodes[node.usize()];
        if let Process::Daemon(daemon) = process {
            daemon.disconnected(peer, disk, &mut self.out);
        }
        self.out.plan_connect(node, peer);
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut { from, to } => {
                for from in from {
                    to.iter().for_each(|to| self.out.cut(from, *to));
                }
            }
            Fault::Heal => {
                let all: Vec<AuthorityIndex> = self.out.committee.authorities().collect();
                for from in &all {
                    all.iter().filter(|to| *to != from).for_each(|to| self.out.heal(*from, *to));
                }
            }
            Fault::Kill(node) => self.stop(node, false),
            Fault::PowerLoss(nodes) => nodes.into_iter().for_each(|node| self.stop(node, true)),
            Fault::Start(node) => self.start(node),
            Fault::RollBack(node, percent) => {
                let disk = &mut self.nodes[node.usize()].disk;
                disk.roll_back(disk.length() * percent / 100);
            }
            Fault::Clock(node, offset_ms) => {
                let Node { process, clock_offset_ms, .. } = &mut self.nodes[node.usize()];
                *clock_offset_ms = offset_ms;
                if let Process::Daemon(daemon) = process {
                    daemon.clock_offset_ms = offset_ms;
                }
            }
        }
    }

    fn stop(&mut self, node: AuthorityIndex, power: bool) {
        if matches!(self.nodes[node.usize()].process, Process::Down) {
            return;
        }
        self.take_down(node, power);
        let disk = &self.nodes[node.usize()].disk;
        self.out.oracle.forgive(node, |key| disk.has_payload(key));
    }

    fn take_down(&mut self, node: AuthorityIndex, power: bool) {
        let Node { disk, process, life, .. } = &mut self.nodes[node.usize()];
        *process = Process::Down;
        *life += 1;
        if power {
            disk.lose_power(self.out.now, &mut self.out.random);
        } else {
            disk.lose_process(self.out.now);
        }
        self.out.vanish(node);
        self.out.say(node, || format!("stops, power loss: {power}"));
    }

    fn start(&mut self, node: AuthorityIndex) {
        let Node { disk, process, life, clock_offset_ms, server } = &mut self.nodes[node.usize()];
        if !matches!(process, Process::Down) {
            return;
        }
        *life += 1;
        match Daemon::start(node, *life, *clock_offset_ms, &self.plan.parameters, disk, &mut self.out) {
            Ok(mut daemon) => {
                daemon.server = *server;
                *process = Process::Daemon(Box::new(daemon));
            }
            Err(reason) => panic!("{node:?} does not start: {reason}"),
        }
        self.look_for_halt(node);
        self.plan_connections(node);
    }
}
