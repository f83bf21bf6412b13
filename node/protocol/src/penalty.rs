//! The rules that no honest member breaks, whatever its links, its clock and its peers do to it.
//!
//! Whoever breaks one is counted, named in the log and asked last; nobody is banned for it. What an honest member may do to a node
//! that is itself behind is not here: blocks far ahead, copies, unknown blocks, twins of others that it had to link.

use std::fmt;

macro_rules! rules {
    ($($rule:ident $name:literal $meaning:literal;)*) => {
        /// A rule that was broken.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Rule {
            $(#[doc = $meaning] $rule,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// Its name in metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// What was done, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$rule => $meaning,)* }
            }
        }
    };
}

rules! {
    Equivocation "equivocation" "signed two blocks of one round";
    Twins "twins" "sent a third block of one round unasked";
    PayloadLength "payload_length" "named a batch with another length than it has";
    VoteChanged "vote_changed" "voted for two commits of one index";
    VoteAgainst "vote_against" "voted for another commit than the one decided";
    ForeignTip "foreign_tip" "showed a block of somebody else as its own or as ours";
    Undecodable "undecodable" "sent a frame that is no message";
    InvalidBlock "invalid_block" "sent a block that breaks a rule of form";
    Signature "signature" "sent a block whose signature is not its author's";
    NotOwn "not_own" "sent somebody else's block as its own";
    Lengths "lengths" "sent lengths that do not fit the frame";
    Oversized "oversized" "asked for or sent more than one frame may";
    Unexpected "unexpected" "sent an answer that belongs to no request";
    Correlation "correlation" "sent a request without an id, or an id with what is no request";
    Payload "payload" "sent payload that is not what its name says";
    Answer "answer" "answered with something else than was asked for";
    Range "range" "served commits that do not prove themselves";
    Rate "rate" "sent more messages of a kind than any honest member does";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}
