//! The commit certificate: signatures of members who decided a commit and hold its payload.

use bincode::{Decode, Encode};
use rorqual_config::{AuthorityIndex, Digest, Signature};

use super::commit::CommitHeader;
use super::{CommitIndex, CommitRef};

/// One signer: its block, reduced to what the signature needs.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Signer {
    /// Who.
    pub author: AuthorityIndex,
    /// H(core) of its block.
    pub core_digest: Digest,
    /// The votes of its block; one of them names the commit.
    pub votes: Vec<CommitRef>,
    /// The block's signature.
    pub signature: Signature,
}

/// Certificate of a commit: *full* with stake Q, *weak* with stake V. It covers every earlier commit by the digest chain.
/// See [`crate::certificate::check`] for the check that needs the committee's keys alone.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Certificate {
    /// The commit without its block list.
    pub commit: CommitHeader,
    /// Ascending by author, each once.
    pub signers: Vec<Signer>,
}

impl Certificate {
    /// The commit it certifies.
    pub fn index(&self) -> CommitIndex {
        self.commit.index
    }
}
