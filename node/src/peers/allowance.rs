//! The budget of one stream of one peer, in the task that reads it. Pure: the caller tells the time.
//!
//! Promises: a frame is judged by its length and its kind before it is decoded; an honest peer at full speed is never held back;
//! a peer that goes on breaking rules loses its link, never its place: the next link begins as every link does.

use std::time::Duration;

use rorqual_config::Committee;
use rorqual_protocol::{Limiter, Rule};

use super::kind::{Above, Kind, Limit};

/// Refused frames at once, and a second in the long run, before the link ends. No honest peer has any.
const REFUSED_AT_ONCE: u32 = 200;
const REFUSED_PER_SECOND: u32 = 10;
/// How far one frame may overdraw its bucket.
const DEBT: u32 = 64;

/// What one peer may still send on one stream.
pub struct Allowance {
    buckets: Vec<(Kind, Limiter, usize)>,
    refused: Limiter,
}

impl Allowance {
    /// Everything full.
    pub fn new(committee: &Committee) -> Self {
        let bucket = |kind: Kind| {
            let Limit { per_second, burst, .. } = kind.limit();
            (kind, Limiter::per_second(per_second, burst, DEBT), kind.max_bytes(committee))
        };
        Self {
            buckets: Kind::ALL.into_iter().map(bucket).collect(),
            refused: Limiter::per_second(REFUSED_PER_SECOND, REFUSED_AT_ONCE, 0),
        }
    }

    /// When the next frame is taken; in the past if at once.
    pub fn ready_at(&self) -> Duration {
        let waiting = self.buckets.iter().filter(|(kind, ..)| kind.limit().above == Above::Wait);
        waiting.map(|(_, bucket, _)| bucket.ready_at()).max().unwrap_or_default()
    }

    /// Whether a frame of this kind and length is taken; false if it is dropped without blame.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn admit(&mut self, now: Duration, kind: Kind, bytes: usize) -> Result<bool, Rule> {
        let Some((_, bucket, most)) = self.buckets.iter_mut().find(|(known, ..)| *known == kind) else {
            return Err(Rule::Unexpected);
        };
        if bytes > *most {
            return Err(Rule::Oversized);
        }
        match kind.limit().above {
            Above::Wait => {
                bucket.spend(now, 1);
                Ok(true)
            }
            Above::Shed => Ok(bucket.take(now)),
            Above::Refuse if bucket.take(now) => Ok(true),
            Above::Refuse => Err(Rule::Rate),
        }
    }

    /// A frame turned out to cost more than one.
    pub fn charge(&mut self, now: Duration, kind: Kind, tokens: u32) {
        if let Some((_, bucket, _)) = self.buckets.iter_mut().find(|(known, ..)| *known == kind) {
            bucket.spend(now, tokens);
        }
    }

    /// A frame was refused; false if it is one too many.
    pub fn refuse(&mut self, now: Duration) -> bool {
        self.refused.take(now)
    }

    /// A new link: what every link begins with is taken once, however often the peer had to come back.
    pub fn renew(&mut self, now: Duration) {
        for (kind, bucket, _) in &mut self.buckets {
            if kind.limit().above == Above::Refuse {
                bucket.grant_one(now);
            }
        }
        self.refused = Limiter::per_second(REFUSED_PER_SECOND, REFUSED_AT_ONCE, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::testing::committee;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(allowance: &mut Allowance, now: Duration, kind: Kind, frames: usize) -> usize {
        (0..frames).filter(|_| allowance.admit(now, kind, 4) == Ok(true)).count()
    }

    #[test]
    fn questions_that_no_honest_peer_repeats_are_refused_and_blamed() {
        for kind in [Kind::Subscribe, Kind::TipQuery] {
            let mut allowance = Allowance::new(&committee(4));
            assert_eq!(taken(&mut allowance, SECOND, kind, 2_400), 8);
            assert_eq!(allowance.admit(SECOND, kind, 4), Err(Rule::Rate));
            assert_eq!(taken(&mut allowance, 2 * SECOND, kind, 2_400), 2);
            // Whoever comes back by a new link may ask once; no more than that.
            allowance.renew(2 * SECOND);
            assert_eq!(taken(&mut allowance, 2 * SECOND, kind, 2_400), 1);
            assert_eq!(taken(&mut allowance, 60 * SECOND, kind, 2_400), 8);
            // One does not use up the other, nor what blocks need.
            assert_eq!(taken(&mut allowance, 60 * SECOND, Kind::OwnBlock, 100), 100);
            assert!(allowance.ready_at() <= 60 * SECOND);
        }
    }

    #[test]
    fn requests_above_the_rate_are_dropped_without_blame() {
        let mut allowance = Allowance::new(&committee(4));
        for kind in [Kind::FetchBlocks, Kind::RangeBlocks, Kind::FetchBatches, Kind::FetchCommits] {
            let frames = 100_000;
            let before = taken(&mut allowance, SECOND, kind, frames);
            assert_eq!(before, kind.limit().burst as usize);
            assert_eq!(allowance.admit(SECOND, kind, 4), Ok(false));
        }
    }

    #[test]
    fn bulk_above_the_rate_waits_and_is_all_taken() {
        let mut allowance = Allowance::new(&committee(4));
        let Limit { per_second, burst, .. } = Kind::BatchChunk.limit();
        assert_eq!(taken(&mut allowance, SECOND, Kind::BatchChunk, burst as usize + 1), burst as usize + 1);
        let wait = allowance.ready_at() - SECOND;
        assert!(wait > Duration::ZERO && wait <= 2 * SECOND / per_second, "{wait:?}");
    }

    #[test]
    fn an_honest_peer_at_full_speed_is_never_held_back() {
        let mut allowance = Allowance::new(&committee(4));
        // One second in steps of a millisecond: 200 MB of payload, a block and a frame of history each round, and all the
        // fetches that four requests at once can be at a round trip of 2 ms.
        for ms in 1_000..2_000u64 {
            let now = Duration::from_millis(ms);
            for _ in 0..4 {
                assert_eq!(allowance.admit(now, Kind::BatchChunk, 4), Ok(true));
            }
            for kind in [Kind::OwnBlock, Kind::History, Kind::FetchBlocks, Kind::FetchBlocks, Kind::FetchBatches] {
                assert_eq!(allowance.admit(now, kind, 4), Ok(true), "{kind:?} after {ms} ms");
            }
            assert!(allowance.ready_at() <= now, "after {ms} ms");
        }
    }

    #[test]
    fn a_frame_longer_than_its_kind_allows_is_refused_before_it_is_decoded() {
        let committee = committee(4);
        let mut allowance = Allowance::new(&committee);
        for kind in Kind::ALL {
            let most = kind.max_bytes(&committee);
            assert_eq!(allowance.admit(SECOND, kind, most), Ok(true), "{kind:?}");
            assert_eq!(allowance.admit(SECOND, kind, most + 1), Err(Rule::Oversized), "{kind:?}");
        }
        assert!(Kind::FetchBlocks.max_bytes(&committee) < 2_000, "4 MiB of references were queued once");
    }

    #[test]
    fn so_many_refused_frames_end_the_link() {
        let mut allowance = Allowance::new(&committee(4));
        assert_eq!((0..1_000).filter(|_| allowance.refuse(SECOND)).count(), REFUSED_AT_ONCE as usize);
        allowance.renew(SECOND);
        assert!(allowance.refuse(SECOND), "the next link begins anew");
    }
}
