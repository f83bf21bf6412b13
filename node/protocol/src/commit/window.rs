//! The replay window of one author: which of its batches were delivered (the anti-replay window of IPsec, RFC 4303).
//!
//! Promises: a sequence is fresh at most once; memory is one bit a sequence of the window, whatever an author sends; the state
//! is a function of the delivered sequences alone.

use bincode::{Decode, Encode};

use crate::types::Sequence;

/// Highest delivered sequence and a bitmap of the `width` sequences up to it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ReplayWindow {
    width: u64,
    highest: Sequence,
    /// A ring: the bit of a sequence is at `sequence mod bits`. Empty until the first delivery.
    words: Vec<u64>,
}

impl ReplayWindow {
    /// Nothing delivered.
    pub fn new(width: u64) -> Self {
        Self { width: width.max(1), highest: Sequence(0), words: Vec::new() }
    }

    /// The highest delivered sequence; 0 if there is none.
    pub fn highest(&self) -> Sequence {
        self.highest
    }

    /// Sequences up to this one are stale whatever was delivered.
    pub fn edge(&self) -> Sequence {
        self.highest.minus(self.width)
    }

    /// How many sequences are told apart.
    pub fn width(&self) -> u64 {
        self.width
    }

    fn bits(&self) -> u64 {
        self.width.div_ceil(64).saturating_mul(64)
    }

    fn place(&self, sequence: u64) -> (usize, u64) {
        let bit = sequence.checked_rem(self.bits()).unwrap_or(0);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether the sequence may still be delivered.
    pub fn is_fresh(&self, sequence: Sequence) -> bool {
        if sequence.0 == 0 || self.highest.0.saturating_sub(sequence.0) >= self.width {
            return false;
        }
        if sequence > self.highest || self.words.is_empty() {
            return true;
        }
        let (word, mask) = self.place(sequence.0);
        self.words[word] & mask == 0
    }

    /// Marks the sequence delivered. True if it was fresh.
    pub fn deliver(&mut self, sequence: Sequence) -> bool {
        if !self.is_fresh(sequence) {
            return false;
        }
        let bits = self.bits();
        if self.words.is_empty() {
            self.words = vec![0; (bits / 64) as usize];
        }
        if sequence > self.highest {
            if sequence.above(self.highest) >= bits {
                self.words.fill(0);
            } else {
                for passed in self.highest.next().0..=sequence.0 {
                    let (word, mask) = self.place(passed);
                    self.words[word] &= !mask;
                }
            }
            self.highest = sequence;
        }
        let (word, mask) = self.place(sequence.0);
        self.words[word] |= mask;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stale_and_repeated_sequences_are_refused() {
        let mut window = ReplayWindow::new(100);
        assert!(!window.deliver(Sequence(0)));
        assert!(window.deliver(Sequence(5)) && window.deliver(Sequence(3)) && !window.deliver(Sequence(5)));
        assert!(window.deliver(Sequence(104)));
        assert!(!window.is_fresh(Sequence(4)), "at the edge");
        assert!(!window.is_fresh(Sequence(5)) && window.is_fresh(Sequence(6)));
        assert!(window.deliver(Sequence(u64::MAX)) && !window.deliver(Sequence(u64::MAX)));
        assert!(!window.deliver(Sequence(200)) && window.deliver(Sequence(u64::MAX - 99)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(width in 1u64..200, sequences in prop::collection::vec(1u64..600, 0..300)) {
            let (mut window, mut set) = (ReplayWindow::new(width), BTreeSet::new());
            for sequence in sequences {
                let highest = set.last().copied().unwrap_or(0);
                let fresh = sequence + width > highest && set.insert(sequence);
                prop_assert_eq!(window.deliver(Sequence(sequence)), fresh);
            }
        }
    }
}
