//! Numbers that must not mix. Arithmetic saturates below at zero and is overflow-checked above.

use std::fmt;

use bincode::{Decode, Encode};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        pub struct $name(pub u64);

        impl $name {
            /// This number plus `n`.
            pub fn plus(self, n: u64) -> Self {
                Self(self.0 + n)
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
