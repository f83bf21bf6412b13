//! Everything that can enter the core.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, Digest};

use crate::certificate::check::VerifiedRange;
use crate::effect::Cover;
use crate::types::{BatchKey, BatchRef, BlockRef, Certificate, CommitIndex, Delivery, Round, Sequence, VerifiedBlock};

/// The two clocks. Safety depends on neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started; never goes back. All timers use it.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch; may jump. Only block timestamps use it.
    pub wall_ms: u64,
}

/// Names one request to persist; comes back in [`Input::Persisted`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// What a peer says of itself when asked. `own` and `yours` are full signed blocks, verified by the daemon.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The answering node's highest own block; none if it never signed.
    pub own: Option<VerifiedBlock>,
    /// The highest block by the asking node that the answering node has linked.
    pub yours: Option<VerifiedBlock>,
    /// Its garbage-collection round.
    pub gc_round: Round,
    /// Its last commit.
    pub last_commit: CommitIndex,
}

/// One thing that happened.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "the large variant is rare, and inputs are moved, not stored")]
pub enum Input {
    /// A statically verified block from a peer: its own newest, history it pushed, or an answer to a fetch.
    /// The router has checked that blocks on the own-block stream are by the sender.
    Block {
        /// Who sent it, and who pays for it.
        sender: AuthorityIndex,
        /// The block.
        block: VerifiedBlock,
    },
    /// Copies of blocks that are here already, as [`Known`](crate::Known) says, so that their signatures were not looked at.
    KnownBlocks {
        /// Who has them too.
        sender: AuthorityIndex,
        /// Which, in the order of the frame.
        refs: Vec<BlockRef>,
    },
    /// The answer to [`Effect::FetchBlocks`](crate::Effect::FetchBlocks) named these as unknown at `peer`, or the request failed.
    BlocksUnavailable {
        /// Who was asked.
        peer: AuthorityIndex,
        /// What it does not have.
        refs: Vec<BlockRef>,
    },
    /// The payload is in the store: the answer to `WaitBatch`.
    BatchStored {
        /// Which.
        key: BatchKey,
        /// Its length. A block that names another one for it is never complete: length is part of a name.
        bytes: u32,
    },
    /// Our batch maker sealed and stored a batch of our own. Sequences ascend.
    BatchSealed(BatchRef),
    /// The bytes of our own batch were handed to the kernel for `peer`.
    BatchHandedToKernel {
        /// Which batch.
        sequence: Sequence,
        /// For whom.
        peer: AuthorityIndex,
    },
    /// The time asked for in `SetTimer` has come. Spurious ones are harmless.
    Timer,
    /// The writes of `Persist` with this token are done (and on disk, if it asked for that).
    Persisted(Token),
    /// Execution applied commit `index` and wrote it; `state` is the digest of the execution state after it.
    Executed {
        /// Which commit; strictly ascending.
        index: CommitIndex,
        /// The digest that `aux` binds.
        state: Digest,
    },
    /// The answer to `FetchCommits`, completely verified (end certificate, digest chain, roots, block signatures).
    CertifiedCommits {
        /// Who served it.
        sender: AuthorityIndex,
        /// The verified range.
        range: VerifiedRange,
    },
    /// The request `FetchCommits` failed or was answered with rubbish.
    CommitsUnavailable {
        /// Who was asked.
        peer: AuthorityIndex,
        /// First index asked for.
        from: CommitIndex,
        /// Set when the peer has dropped what was asked for: the first index it still has.
        first_index: Option<CommitIndex>,
    },
    /// So much of the range that `FetchCommits` asks for has come: what a slow answer is told from none by.
    RangeProgress {
        /// Who serves it.
        peer: AuthorityIndex,
        /// First index asked for.
        from: CommitIndex,
        /// Bytes so far.
        bytes: u64,
    },
    /// Both streams to a peer are up and authenticated.
    PeerUp(AuthorityIndex),
    /// The link to a peer broke.
    PeerDown(AuthorityIndex),
    /// A peer wants our own blocks from this round on.
    Subscribed {
        /// Who.
        peer: AuthorityIndex,
        /// From which round.
        from_round: Round,
    },
    /// The link to a peer had no room for blocks that it was to send: they never left.
    SendRefused {
        /// To whom.
        peer: AuthorityIndex,
        /// Which.
        refs: Vec<BlockRef>,
    },
    /// A measured round trip.
    RoundTrip {
        /// To whom.
        peer: AuthorityIndex,
        /// How long.
        duration: Duration,
    },
    /// A peer asks for our tip; answered by `SendTip` with the same `request`.
    TipQueried {
        /// Who.
        peer: AuthorityIndex,
        /// Opaque to the core.
        request: u64,
    },
    /// The answer to `TipQuery`.
    PeerTip {
        /// Who answered.
        peer: AuthorityIndex,
        /// What it said.
        tip: Box<Tip>,
    },
}

/// What the disk says at start; see `Core::recover`.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The data directory says that this node has never signed a block.
    pub never_signed: bool,
    /// The newest state snapshot (`Write::Snapshot`) at or below the last commit, if there is one.
    pub snapshot: Option<(CommitIndex, Vec<u8>)>,
    /// Records of all commits above the snapshot (from 1 without one), ascending, without a gap. A snapshot is written only
    /// once execution has passed it, so these include all that have to be delivered again.
    pub commits: Vec<Delivery>,
    /// All stored blocks of rounds above the garbage-collection round that holds after the snapshot (all rounds without one),
    /// in ascending round order. Includes the blocks that `commits` name.
    pub blocks: Vec<VerifiedBlock>,
    /// The highest own block on disk, whatever its round.
    pub own_last: Option<VerifiedBlock>,
    /// The highest own block on disk below that one.
    pub own_before: Option<VerifiedBlock>,
    /// The own round that the safety record names, 0 without one: own blocks up to it were on disk whole and may have left.
    pub completed: Round,
    /// The cover on disk, if there is one.
    pub cover: Option<Cover>,
    /// Own batches whose payload can be read, ascending; those that the last commit has delivered may be left out.
    pub own_batches: Vec<BatchRef>,
    /// Payload of the cover that cannot be read.
    pub absent: Vec<BatchKey>,
    /// The stored certificate of the highest index.
    pub certificate: Option<Certificate>,
    /// The last commit that execution applied, with the state digest after it.
    pub executed: Option<(CommitIndex, Digest)>,
    /// State digests of execution after multiples of the checkpoint interval that a coming `aux` needs.
    pub state_digests: Vec<(CommitIndex, Digest)>,
}
