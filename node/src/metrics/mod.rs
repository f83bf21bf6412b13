//! Numbers for operators and benchmarks: counters that rooms bump, gauges read when somebody asks.

pub mod names;
pub mod process;
pub mod stages;
pub mod text;

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::Verdict;
use rorqual_protocol::types::Delivery;
pub use stages::Stages;
pub use text::Family;

use self::names::Definition;

/// Upper bounds of the latency histogram, in seconds: fine where the targets are.
const LATENCY_BUCKETS: [f64; 20] = [
    0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The counters of one node.
pub struct Metrics {
    registry: Registry,
    peers: Vec<String>,
    commits: IntCounter,
    delivered_batches: IntCounter,
    delivered_bytes: IntCounter,
    sealed_batches: IntCounter,
    sealed_bytes: IntCounter,
    payload_received: IntCounterVec,
    payload_requested: IntCounter,
    payload_unsolicited: IntCounter,
    peer_refused: IntCounterVec,
    blocks_received: IntCounterVec,
    requests_over_rate: IntCounterVec,
    send_dropped: IntCounterVec,
    requests_shed: IntCounterVec,
    equivocations: IntCounterVec,
    latency: HistogramVec,
}

impl Metrics {
    /// All counters at zero.
    ///
    /// # Errors
    /// Only if two metrics had one name, which a test rules out.
    pub fn new(committee: &Committee) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |metric: Definition| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(metric.name, metric.help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let labelled = |metric: Definition, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(metric.name, metric.help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let refused = Opts::new(names::PEER_REFUSED.name, names::PEER_REFUSED.help);
        let peer_refused = IntCounterVec::new(refused, &["peer", "rule"])?;
        registry.register(Box::new(peer_refused.clone()))?;
        let (name, help) = (names::STAGE_LATENCY.name, names::STAGE_LATENCY.help);
        let latency = HistogramVec::new(HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec()), &["stage"])?;
        registry.register(Box::new(latency.clone()))?;
        Ok(Self {
            commits: counter(names::COMMITS)?,
            delivered_batches: counter(names::DELIVERED_BATCHES)?,
            delivered_bytes: counter(names::DELIVERED_BYTES)?,
            sealed_batches: counter(names::SEALED_BATCHES)?,
            sealed_bytes: counter(names::SEALED_BYTES)?,
            payload_received: labelled(names::PAYLOAD_RECEIVED, "peer")?,
            payload_requested: counter(names::PAYLOAD_REQUESTED)?,
            payload_unsolicited: counter(names::PAYLOAD_UNSOLICITED)?,
            peer_refused,
            blocks_received: labelled(names::BLOCKS_RECEIVED, "verdict")?,
            requests_over_rate: labelled(names::REQUESTS_OVER_RATE, "peer")?,
            send_dropped: labelled(names::SEND_DROPPED, "peer")?,
            requests_shed: labelled(names::REQUESTS_SHED, "peer")?,
            equivocations: labelled(names::EQUIVOCATIONS, "author")?,
            latency,
            peers: committee.members().iter().map(|member| member.name.clone()).collect(),
            registry,
        })
    }

    /// A timer of stages that reports here.
    pub fn stages(&self) -> Stages {
        Stages::new(self.latency.clone())
    }

    fn bump(&self, counter: &IntCounterVec, peer: AuthorityIndex, by: u64) {
        if let Some(name) = self.peers.get(peer.usize()) {
            counter.with_label_values(&[name.as_str()]).inc_by(by);
        }
    }

    /// A peer broke a rule.
    pub fn peer_refused(&self, peer: AuthorityIndex, rule: &'static str) {
        if let Some(name) = self.peers.get(peer.usize()) {
            self.peer_refused.with_label_values(&[name.as_str(), rule]).inc();
        }
    }

    /// What was done with a block that came from a peer.
    pub fn block_received(&self, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::New => "new",
            Verdict::Known => "known",
            Verdict::Old => "old",
        };
        self.blocks_received.with_label_values(&[verdict]).inc();
    }

    /// A request was dropped because the peer asks faster than any honest one for long.
    pub fn request_over_rate(&self, peer: AuthorityIndex) {
        self.bump(&self.requests_over_rate, peer, 1);
    }

    /// A best-effort frame was not queued.
    pub fn send_dropped(&self, peer: AuthorityIndex) {
        self.bump(&self.send_dropped, peer, 1);
    }

    /// A request of a peer was dropped.
    pub fn request_shed(&self, peer: AuthorityIndex) {
        self.bump(&self.requests_shed, peer, 1);
    }

    /// An author equivocated.
    pub fn equivocation(&self, author: AuthorityIndex) {
        self.bump(&self.equivocations, author, 1);
    }

    /// Payload of a peer was taken in.
    pub fn payload_received(&self, peer: AuthorityIndex, bytes: u64) {
        self.bump(&self.payload_received, peer, bytes);
    }

    /// Batches were asked of a peer.
    pub fn payload_requested(&self, batches: u64) {
        self.payload_requested.inc_by(batches);
    }

    /// A chunk was not admitted.
    pub fn payload_unsolicited(&self) {
        self.payload_unsolicited.inc();
    }

    /// An own batch was sealed.
    pub fn batch_sealed(&self, bytes: u64) {
        self.sealed_batches.inc();
        self.sealed_bytes.inc_by(bytes);
    }

    /// A commit was decided.
    pub fn delivered(&self, delivery: &Delivery) {
        self.commits.inc();
        self.delivered_batches.inc_by(delivery.batches.len() as u64);
        self.delivered_bytes.inc_by(delivery.batches.iter().map(|b| u64::from(b.batch.bytes)).sum());
    }

    /// Everything counted here in the Prometheus text format, then `families`.
    pub fn render(&self, families: &[Family]) -> String {
        let mut text = Vec::new();
        if TextEncoder::new().encode(&self.registry.gather(), &mut text).is_err() {
            text.clear();
        }
        let mut text = String::from_utf8(text).unwrap_or_default();
        families.iter().for_each(|family| family.render(&mut text));
        text
    }
}
