//! Numbers that must not mix. Arithmetic is total: below it ends at zero; above it ends at the largest number, which nothing
//! reaches that entered within its range (see [`super::range`]).

use std::fmt;

use bincode::{Decode, Encode};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        pub struct $name(pub u64);

        impl $name {
            /// Whether it may come from outside; see [`super::range`].
            pub const fn in_range(self) -> bool {
                super::range::in_range(self.0)
            }

            /// This number plus `n`.
            pub fn plus(self, n: u64) -> Self {
                Self(self.0.saturating_add(n))
            }

            /// How far this number lies above `lower`, at least zero.
            pub fn above(self, lower: Self) -> u64 {
                self.0.saturating_sub(lower.0)
            }

            /// This number minus `n`, at least zero.
            pub fn minus(self, n: u64) -> Self {
                Self(self.0.saturating_sub(n))
            }

            /// The next one.
            pub fn next(self) -> Self {
                self.plus(1)
            }

            /// The one before, at least zero.
            pub fn previous(self) -> Self {
                self.minus(1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A round of the DAG. Genesis is round 0; the first blocks are of round 1.
    Round,
    "r"
);
number!(
    /// The place of a commit in the chain of commits. 0 is the empty prefix; the first commit is 1.
    CommitIndex,
    "c"
);
number!(
    /// The number an author gives to a payload batch. The first is 1.
    Sequence,
    "s"
);

#[cfg(test)]
mod tests {
    use super::super::range::LIMIT;
    use super::*;

    #[test]
    fn arithmetic_is_total_and_exact_in_range() {
        assert_eq!(Round(LIMIT - 1).plus(LIMIT - 1), Round(2 * (LIMIT - 1)));
        assert_eq!(Round(u64::MAX).plus(u64::MAX), Round(u64::MAX));
        assert_eq!(Round(u64::MAX).next(), Round(u64::MAX));
        assert_eq!((Round(0).previous(), Round(0).minus(u64::MAX)), (Round(0), Round(0)));
        assert_eq!((Round(7).above(Round(4)), Round(4).above(Round(7))), (3, 0));
        assert!(Round(LIMIT - 1).in_range() && !Round(LIMIT).in_range());
    }
}
