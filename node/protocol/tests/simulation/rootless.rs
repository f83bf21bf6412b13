//! Names an own block as its first parent that nobody will ever see, at a round around the garbage-collection round of the
//! others. That is valid, since the own parent may be as old as it likes: whoever has collected that round links the block,
//! whoever has not waits for the parent in vain. A node that goes back to an earlier garbage-collection round when it restarts
//! finds blocks on its own disk that it could not link any more.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BlockRef, Round, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

/// What it does with one block in `every`.
pub struct Rootless {
    pub every: u64,
    /// The parent exists, and nobody is shown it; else it does not.
    pub withholds: bool,
    /// Both kinds of block in one round, each shown to some.
    pub splits: bool,
}

impl Rootless {
    /// A round that some have collected and others have not; none while nobody has collected anything.
    fn buried_round(round: Round, out: &mut Outside) -> Option<Round> {
        // Leaders are committed about three rounds late.
        let collected = round.minus(out.committee.protocol().gc_depth + 3);
        (collected > Round(3)).then(|| collected.minus(3).plus(out.random.below(7)).min(round.minus(2)))
    }

    /// The draft with another own parent.
    fn uproot(&self, mut draft: Draft, out: &mut Outside) -> Option<VerifiedBlock> {
        let round = Self::buried_round(draft.core.round, out)?;
        let mut hidden = draft.core.clone();
        hidden.round = round;
        let author = draft.core.author;
        let digest = match self.withholds {
            // Same parents: it is never looked at.
            true => Draft { core: hidden, ..draft.clone() }.sign(out).reference().digest,
            false => Digest::of("test/rootless", &[&round.0.to_le_bytes(), &out.random.next().to_le_bytes()]),
        };
        draft.core.parents[0] = BlockRef { round, author, digest };
        // Where the others do not fill the round before, it needs its own block of it.
        let block = draft.sign(out);
        VerifiedBlock::verify(block.bytes().clone(), &out.committee).ok()
    }
}

impl Mischief for Rootless {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let peers = draft.peers.clone();
        let uprooted = match out.random.below(self.every.max(1)) {
            0 => self.uproot(draft.clone(), out),
            _ => None,
        };
        match uprooted {
            None => vec![(draft.sign(out), peers)],
            Some(block) if self.splits => {
                let mut some = peers;
                out.random.shuffle(&mut some);
                let rest = some.split_off(some.len() / 2);
                vec![(draft.sign(out), rest), (block, some)]
            }
            Some(block) => vec![(block, peers)],
        }
    }

    fn has_payload(&self) -> bool {
        true
    }
}
