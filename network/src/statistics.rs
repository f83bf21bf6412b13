//! What a person or a metrics exporter wants to know about links. Counters only grow; they are read without a lock and are
//! therefore not one consistent cut.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rorqual_config::committee::AuthorityIndex;

/// One stream of one peer. Bytes are those of frames with their lengths, before encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStatistics {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames handed to the kernel.
    pub frames_out: u64,
}

/// One peer.
#[derive(Clone, Debug)]
pub struct PeerStatistics {
    /// Which peer.
    pub peer: AuthorityIndex,
    /// Its name.
    pub name: String,
    /// Whether both streams are up.
    pub connected: bool,
    /// Smoothed round trip; none before the first answer on this link.
    pub round_trip: Option<Duration>,
    /// The priority stream.
    pub priority: StreamStatistics,
    /// The bulk stream.
    pub bulk: StreamStatistics,
    /// Bytes that wait, by lane as in [`crate::Lane::ALL`], with 128 for each frame.
    pub queued_bytes: [usize; 4],
    /// How often the link came up.
    pub links: u64,
    /// How often dialling it failed.
    pub failed_dials: u64,
    /// Frames that [`crate::Links`] did not take because a lane was full.
    pub refused: u64,
    /// Frames taken and lost with their connection before they left.
    pub lost: u64,
    /// Links ended because of a frame above the limit.
    pub oversized: u64,
    /// Links ended because of a frame that is none.
    pub malformed: u64,
    /// Links ended because the peer took nothing of what waited for it.
    pub unread: u64,
    /// Links ended because of more frames than any honest node sends, by this crate or by [`crate::Links::refuse`].
    pub excess: u64,
    /// Answers that nobody waited for (any more).
    pub stray_answers: u64,
    /// Why the last link ended or the last dial failed; empty if neither happened.
    pub last_failure: String,
}

/// Connections that never became a link, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The key shown is no committee key.
    pub no_committee_key: u64,
    /// The key shown is this node's own.
    pub own_key: u64,
    /// The key belongs to a member with a higher index, which this node dials itself.
    pub wrong_direction: u64,
    /// Not TLS, or TLS that is not ours.
    pub tls: u64,
    /// No hello in time.
    pub handshake_timeout: u64,
    /// Closed to make room for newer connections.
    pub too_many_half_open: u64,
    /// The hello names another chain or epoch.
    pub wrong_chain: u64,
    /// The hello names another protocol version.
    pub wrong_version: u64,
    /// The hello names another author than the owner of the key.
    pub wrong_author: u64,
    /// The first frame announced more bytes than a hello has.
    pub oversized_frame: u64,
    /// The first frame was no hello, or the connection ended before it.
    pub malformed: u64,
    /// The system could not accept a connection (usually: too many open files).
    pub accept_failed: u64,
    /// TLS handshakes begun with whoever connected, members included: what strangers can cost in CPU.
    pub handshakes: u64,
}

impl Refused {
    /// Names and values of the reasons, for metrics.
    pub fn reasons(&self) -> [(&'static str, u64); 12] {
        [
            ("no_committee_key", self.no_committee_key),
            ("own_key", self.own_key),
            ("wrong_direction", self.wrong_direction),
            ("tls", self.tls),
            ("handshake_timeout", self.handshake_timeout),
            ("too_many_half_open", self.too_many_half_open),
            ("wrong_chain", self.wrong_chain),
            ("wrong_version", self.wrong_version),
            ("wrong_author", self.wrong_author),
            ("oversized_frame", self.oversized_frame),
            ("malformed", self.malformed),
            ("accept_failed", self.accept_failed),
        ]
    }
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Default)]
pub(crate) struct StreamCounters {
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
}

impl StreamCounters {
    pub(crate) fn read(&self) -> StreamStatistics {
        StreamStatistics {
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            frames_in: self.frames_in.get(),
            frames_out: self.frames_out.get(),
        }
    }
}

#[derive(Default)]
pub(crate) struct PeerCounters {
    pub(crate) streams: [StreamCounters; 2],
    pub(crate) links: Counter,
    pub(crate) failed_dials: Counter,
    pub(crate) refused: Counter,
    pub(crate) lost: Counter,
    pub(crate) oversized: Counter,
    pub(crate) malformed: Counter,
    pub(crate) unread: Counter,
    pub(crate) excess: Counter,
    pub(crate) stray_answers: Counter,
}

#[derive(Default)]
pub(crate) struct RefusedCounters {
    pub(crate) no_committee_key: Counter,
    pub(crate) own_key: Counter,
    pub(crate) wrong_direction: Counter,
    pub(crate) tls: Counter,
    pub(crate) handshake_timeout: Counter,
    pub(crate) too_many_half_open: Counter,
    pub(crate) wrong_chain: Counter,
    pub(crate) wrong_version: Counter,
    pub(crate) wrong_author: Counter,
    pub(crate) oversized_frame: Counter,
    pub(crate) malformed: Counter,
    pub(crate) accept_failed: Counter,
    pub(crate) handshakes: Counter,
}

impl RefusedCounters {
    pub(crate) fn read(&self) -> Refused {
        Refused {
            no_committee_key: self.no_committee_key.get(),
            own_key: self.own_key.get(),
            wrong_direction: self.wrong_direction.get(),
            tls: self.tls.get(),
            handshake_timeout: self.handshake_timeout.get(),
            too_many_half_open: self.too_many_half_open.get(),
            wrong_chain: self.wrong_chain.get(),
            wrong_version: self.wrong_version.get(),
            wrong_author: self.wrong_author.get(),
            oversized_frame: self.oversized_frame.get(),
            malformed: self.malformed.get(),
            accept_failed: self.accept_failed.get(),
            handshakes: self.handshakes.get(),
        }
    }
}
