//! Random bytes that no layer can compress, made at several gigabytes a second (xoshiro256++, not for secrets).

use bytes::{Bytes, BytesMut};
use rorqual_client::submission::Submission;

/// What transactions are filled with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Fill {
    /// Random bytes, different in every transaction.
    Random,
    /// Zeros: compressible, for comparison only.
    Zeros,
}

/// A stream of transactions.
pub struct Payload {
    state: [u64; 4],
    fill: Fill,
    size: usize,
}

impl Payload {
    /// Transactions of `size` bytes; streams of different seeds differ.
    pub fn new(seed: u64, fill: Fill, size: usize) -> Self {
        // SplitMix64 spreads the seed over the whole state, which must not be zero.
        let mut mixed = seed;
        let state = std::array::from_fn(|_| {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state, fill, size }
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A submission of `count` new transactions, without a ticket.
    pub fn submission(&mut self, count: usize) -> Submission {
        let ends = (1..=count).map(|index| (index * self.size) as u32).collect();
        Submission { ticket: None, ends, bytes: self.bytes(count * self.size) }
    }

    fn bytes(&mut self, length: usize) -> Bytes {
        let mut bytes = BytesMut::zeroed(length);
        if self.fill == Fill::Random {
            let mut chunks = bytes.chunks_exact_mut(8);
            for chunk in &mut chunks {
                chunk.copy_from_slice(&self.next().to_le_bytes());
            }
            let rest = self.next().to_le_bytes();
            for (to, from) in chunks.into_remainder().iter_mut().zip(rest) {
                *to = from;
            }
        }
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_are_well_formed_and_never_repeat() {
        let mut payload = Payload::new(1, Fill::Random, 13);
        let (one, two) = (payload.submission(5), payload.submission(5));
        for submission in [&one, &two] {
            assert!(submission.is_well_formed());
            assert_eq!((submission.count(), submission.bytes.len(), submission.largest()), (5, 65, 13));
        }
        assert_ne!(one.bytes, two.bytes);
        assert_ne!(one.bytes, Payload::new(2, Fill::Random, 13).submission(5).bytes);
        assert!(Payload::new(1, Fill::Zeros, 3).submission(2).bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_bit_is_as_often_set_as_not() {
        let bytes = Payload::new(7, Fill::Random, 1 << 16).submission(1).bytes;
        let set: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert!((260_000..264_300).contains(&set), "{set} of {} bits", bytes.len() * 8);
    }
}
