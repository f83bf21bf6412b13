//! Links between pairs of nodes: two ordered streams in each direction, which break as TCP connections do. What was in
//! flight on a broken link is lost; a cut direction swallows everything until both sides have noticed.

use rorqual_config::AuthorityIndex;

use super::Time;
use super::message::Stream;
use crate::random::Random;

/// One-way delays.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    pub low: Time,
    pub high: Time,
    /// Percentage of messages that take up to `slow`.
    pub slow_chance: u64,
    pub slow: Time,
}

impl Delays {
    pub fn fixed(delay: Time) -> Self {
        Self { low: delay, high: delay, slow_chance: 0, slow: delay }
    }

    fn draw(&self, random: &mut Random) -> Time {
        if self.slow_chance > 0 && random.chance(self.slow_chance) {
            return random.between(self.high, self.slow);
        }
        random.between(self.low, self.high)
    }
}

/// The connection between two nodes, seen from both sides.
#[derive(Clone, Default)]
struct Link {
    generation: u64,
    /// Nothing gets through any more, whether or not the sides have noticed.
    broken: bool,
    /// Which side believes in it; the lower index is side 0.
    up: [bool; 2],
}

pub struct Network {
    size: usize,
    delays: Delays,
    /// What a direction takes longer than that.
    detours: Vec<Time>,
    links: Vec<Link>,
    /// Cut directions.
    cut: Vec<bool>,
    /// The last generation that lost something in a direction: nothing comes after a gap in a stream.
    gap: Vec<u64>,
    /// When the last message of a stream arrives: later ones arrive later.
    last: Vec<[Time; 2]>,
}

impl Network {
    pub fn new(size: usize, delays: Delays) -> Self {
        let link = Link { broken: true, ..Link::default() };
        let pairs = size * size;
        Self {
            size,
            delays,
            detours: vec![0; pairs],
            links: vec![link; pairs],
            cut: vec![false; pairs],
            gap: vec![0; pairs],
            last: vec![[0; 2]; pairs],
        }
    }

    fn directed(&self, from: AuthorityIndex, to: AuthorityIndex) -> usize {
        from.usize() * self.size + to.usize()
    }

    fn link(&self, a: AuthorityIndex, b: AuthorityIndex) -> &Link {
        &self.links[self.directed(a.min(b), a.max(b))]
    }

    fn link_mut(&mut self, a: AuthorityIndex, b: AuthorityIndex) -> &mut Link {
        let index = self.directed(a.min(b), a.max(b));
        &mut self.links[index]
    }

    /// Whether `node` believes to be connected with `peer`.
    pub fn is_up(&self, node: AuthorityIndex, peer: AuthorityIndex) -> bool {
        self.link(node, peer).up[usize::from(node > peer)]
    }

    pub fn generation(&self, a: AuthorityIndex, b: AuthorityIndex) -> u64 {
        self.link(a, b).generation
    }

    /// When a message sent now arrives, or nothing where it is lost.
    pub fn arrival(
        &mut self,
        now: Time,
        from: AuthorityIndex,
        to: AuthorityIndex,
        stream: Stream,
        random: &mut Random,
    ) -> Option<Time> {
        let direction = self.directed(from, to);
        let delay = self.delays.draw(random) + self.detours[direction];
        let link = self.link(from, to);
        if link.broken || self.gap[direction] == link.generation || !self.is_up(from, to) {
            return None;
        }
        let last = &mut self.last[direction][stream as usize];
        *last = (now + delay).max(*last + 1);
        Some(*last)
    }

    /// Whether what was sent on this generation still comes out.
    pub fn delivers(&self, from: AuthorityIndex, to: AuthorityIndex, generation: u64) -> bool {
        let link = self.link(from, to);
        let current = link.generation == generation && !link.broken;
        current && self.gap[self.directed(from, to)] != generation && self.is_up(to, from)
    }

    /// This direction takes so much longer than the others.
    pub fn detour(&mut self, from: AuthorityIndex, to: AuthorityIndex, delay: Time) {
        let direction = self.directed(from, to);
        self.detours[direction] = delay;
    }

    /// The mean round trip, as pings would measure it.
    pub fn round_trip(&self, a: AuthorityIndex, b: AuthorityIndex) -> Time {
        let detours = self.detours[self.directed(a, b)] + self.detours[self.directed(b, a)];
        self.delays.low + self.delays.high + detours
    }

    /// Cuts one direction: a connection that existed is doomed. True if there was one.
    pub fn cut(&mut self, from: AuthorityIndex, to: AuthorityIndex) -> bool {
        let direction = self.directed(from, to);
        self.cut[direction] = true;
        self.gap[direction] = self.link(from, to).generation;
        !self.link(from, to).broken
    }

    pub fn heal(&mut self, from: AuthorityIndex, to: AuthorityIndex) {
        let direction = self.directed(from, to);
        self.cut[direction] = false;
    }

    /// `node` has noticed that this generation is dead. False if that is old news.
    pub fn put_down(&mut self, node: AuthorityIndex, peer: AuthorityIndex, generation: u64) -> bool {
        let link = self.link_mut(node, peer);
        let side = usize::from(node > peer);
        if link.generation != generation || !link.up[side] {
            return false;
        }
        link.broken = true;
        link.up[side] = false;
        true
    }

    /// Forgets all connections of a process that is gone.
    pub fn forget(&mut self, node: AuthorityIndex) {
        for peer in (0..self.size as u16).map(AuthorityIndex).filter(|p| *p != node) {
            let link = self.link_mut(node, peer);
            link.broken = true;
            link.up[usize::from(node > peer)] = false;
        }
    }

    /// A new connection, if both directions work and neither side still believes in an old one.
    pub fn connect(&mut self, a: AuthorityIndex, b: AuthorityIndex) -> bool {
        if self.cut[self.directed(a, b)] || self.cut[self.directed(b, a)] || self.link(a, b).up != [false; 2] {
            return false;
        }
        let link = self.link_mut(a, b);
        link.generation += 1;
        link.broken = false;
        link.up = [true; 2];
        true
    }
}
