//! Names of payload batches. The content is opaque here: a batch is good when digest and length match, nothing else is
//! looked at, since otherwise two nodes could differ on whether a block is complete.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use rorqual_config::encoding::Hasher;
use rorqual_config::{AuthorityIndex, Digest};

use super::Sequence;

/// A batch as a block names it; the author is the author of the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct BatchRef {
    /// The author's number for it.
    pub sequence: Sequence,
    /// See [`BatchKey::digest_of`].
    pub digest: Digest,
    /// Length of the content in bytes.
    pub bytes: u32,
}

impl BatchRef {
    /// The full name of this batch of `author`.
    pub fn key(&self, author: AuthorityIndex) -> BatchKey {
        BatchKey { author, sequence: self.sequence, digest: self.digest }
    }
}

/// The full name of a batch: the key under which every node stores it, and the id that receipts print.
/// Text form: `AUTHOR/SEQUENCE/DIGEST`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct BatchKey {
    /// Who sealed it.
    pub author: AuthorityIndex,
    /// The author's number for it. One number can have two contents: after power loss an honest node may seal it again.
    pub sequence: Sequence,
    /// See [`BatchKey::digest_of`].
    pub digest: Digest,
}

impl BatchKey {
    /// H("batch" | epoch | author | sequence | content). Author and sequence are bound, so that a copied digest has no
    /// valid content for the copier.
    pub fn digest_of(epoch: u64, author: AuthorityIndex, sequence: Sequence, content: &[u8]) -> Digest {
        let mut hasher = Hasher::new("batch");
        hasher.update(&epoch.to_le_bytes());
        hasher.update(&author.0.to_le_bytes());
        hasher.update(&sequence.0.to_le_bytes());
        hasher.update(content);
        hasher.finish()
    }
}

impl fmt::Display for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.author, self.sequence, self.digest)
    }
}

impl FromStr for BatchKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a batch id: expected AUTHOR/SEQUENCE/DIGEST as receipts print it");
        let mut parts = text.split('/');
        let (Some(author), Some(sequence), Some(digest), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            author: AuthorityIndex(author.parse().map_err(|_| wrong())?),
            sequence: Sequence(sequence.parse().map_err(|_| wrong())?),
            digest: digest.parse().map_err(|_| wrong())?,
        })
    }
}
