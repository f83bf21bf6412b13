//! Everything that can leave the core. The daemon carries effects out in order; it decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use rorqual_config::{AuthorityIndex, Digest};

use crate::input::{Tip, Token};
use crate::penalty::Rule;
use crate::types::{BatchKey, BlockRef, Certificate, CommitIndex, Delivery, Round, Sequence, VerifiedBlock};

/// One thing to write. All writes of one `Persist` are atomic; `Persist`s apply in order.
#[derive(Clone, Debug)]
pub enum Write {
    /// A linked block by somebody else, or an old one of our own that came back from outside.
    Block(VerifiedBlock),
    /// Our own block for the next round, or our last one once more after a restart.
    Own(OwnWrite),
    /// The durable point of the own block written last has completed. Its cover is to be deleted.
    Uncover,
    /// The record of a commit.
    Commit(Arc<Delivery>),
    /// A certificate whose tally completed, or that came with a certified range.
    Certificate(Arc<Certificate>),
    /// State of the core after a commit whose index is a multiple of the checkpoint interval, written once execution has passed
    /// that commit. The two newest are kept.
    Snapshot {
        /// After which commit.
        index: CommitIndex,
        /// Opaque to the daemon.
        bytes: Arc<Vec<u8>>,
    },
}

/// Our own block on its way to the disk.
#[derive(Clone, Debug)]
pub struct OwnWrite {
    /// The block: stored with the blocks of everybody, and by round among our own.
    pub block: VerifiedBlock,
    /// What has to stand beside it until [`Write::Uncover`]; without one, what stands there is to be deleted.
    pub cover: Option<Cover>,
    /// From now on this data directory belongs to a node that has signed.
    pub first: bool,
    /// An own block that never left, found by the last start: deleted with this very write, so that no later start meets both.
    pub replaces: Option<BlockRef>,
}

/// The payload that the durable point of an own block has to put on disk. A block leaves only after its durable point, so when
/// one of these cannot be read at a later start, the block never left.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Cover {
    /// The block.
    pub block: BlockRef,
    /// Payload that was stored since the last durable point that had completed by then began.
    pub payload: Vec<BatchKey>,
}

/// Why the node must stop. None of these can be caused by faulty stake of at most F.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Quorums disagree: more than F faulty, or a bug.
    #[error(
        "fork at commit {index}: ours is {ours}, {stake} stake signed {theirs}; more members are faulty than the committee tolerates"
    )]
    Fork {
        /// Where.
        index: CommitIndex,
        /// Our digest.
        ours: Digest,
        /// The other digest.
        theirs: Digest,
        /// Stake behind the other one.
        stake: u64,
    },
    /// A peer showed a valid block of ours that our disk does not know: signing again could equivocate.
    #[error(
        "amnesia: peers hold our own block of round {theirs}, our disk ends at round {ours}; this data directory lost what it had signed, and rejoining is not built yet"
    )]
    Amnesia {
        /// Highest own round on disk.
        ours: Round,
        /// Highest own round seen elsewhere.
        theirs: Round,
    },
    /// No own block on disk, and no mark that this node never signed one: what it signed may be lost.
    #[error(
        "this data directory holds no block of ours and is not marked as never having signed: if this node ever ran, signing again could contradict what it signed; only a directory made by `rorqual init` may start empty"
    )]
    Unmarked,
    /// Everybody has dropped the commits that this node still needs.
    #[error(
        "behind retention: this node is at commit {ours}, its peers' logs begin at commit {first}; starting from a checkpoint is not built yet"
    )]
    BehindRetention {
        /// Our last commit.
        ours: CommitIndex,
        /// The first commit that peers still have.
        first: CommitIndex,
    },
    /// The state recomputed from the log differs from what a certificate binds.
    #[error("state after commit {index} differs from the certified one: {what}")]
    StateDiverged {
        /// Where.
        index: CommitIndex,
        /// Which part.
        what: String,
    },
    /// What was read from disk cannot be what this node wrote.
    #[error("the data directory is inconsistent: {0}")]
    BadRecovery(String),
    /// An invariant that holds with at most F faulty was broken.
    #[error("invariant broken: {0}")]
    Invariant(String),
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write; with `sync`, complete only when this and everything before it is on disk. A token asks for `Persisted`.
    Persist {
        /// What to write, atomically.
        writes: Vec<Write>,
        /// Whether it must be on disk.
        sync: bool,
        /// Whom to tell.
        token: Option<Token>,
    },
    /// Send one of our own blocks to a peer on the own-block stream.
    SendOwn {
        /// To whom.
        peer: AuthorityIndex,
        /// The block.
        block: VerifiedBlock,
    },
    /// Send blocks of others, ascending by round, at most 150.
    SendHistory {
        /// To whom.
        peer: AuthorityIndex,
        /// The blocks.
        blocks: Vec<VerifiedBlock>,
    },
    /// Ask one peer once for blocks, at most 32. Retries and other peers are the core's business.
    FetchBlocks {
        /// Whom.
        peer: AuthorityIndex,
        /// Which.
        refs: Vec<BlockRef>,
    },
    /// Ask one peer once for certified commits `from..=to`.
    FetchCommits {
        /// Whom.
        peer: AuthorityIndex,
        /// First index.
        from: CommitIndex,
        /// Last index.
        to: CommitIndex,
    },
    /// The answer of this peer to the `FetchCommits` that begins there is not wanted any more: stop fetching, and say nothing.
    CancelCommits {
        /// Whom.
        peer: AuthorityIndex,
        /// First index.
        from: CommitIndex,
    },
    /// Ask a peer for its own blocks from a round on.
    Subscribe {
        /// Whom.
        peer: AuthorityIndex,
        /// From which round.
        from_round: Round,
    },
    /// Ask a peer for its tip.
    TipQuery {
        /// Whom.
        peer: AuthorityIndex,
    },
    /// Answer `TipQueried`.
    SendTip {
        /// To whom.
        peer: AuthorityIndex,
        /// As it came.
        request: u64,
        /// The answer.
        tip: Box<Tip>,
    },
    /// Answer with `BatchStored` once the payload is in the store; fetch it from `holders` meanwhile. Said again with more
    /// holders when they are learnt: a holder just learnt is asked at once.
    WaitBatch {
        /// Which.
        key: BatchKey,
        /// Its length in bytes.
        bytes: u32,
        /// Who is known to have it.
        holders: Vec<AuthorityIndex>,
        /// Ask now, not after `payload_grace`.
        urgent: bool,
    },
    /// Nobody waits for this payload any more.
    CancelWait(BatchKey),
    /// Nobody needs this payload of others any more and no commit delivers it: delete it, if it is here. A later `WaitBatch`
    /// for the same batch finds it gone.
    DropPayload(Vec<BatchKey>),
    /// A commit is decided and its record written before this. In order, without gaps, never twice in one life of the process;
    /// after a restart from the first commit that execution has not reported.
    Deliver(Arc<Delivery>),
    /// Own batches with a sequence below this may be sealed.
    SealBelow(Sequence),
    /// Own batches below this sequence are delivered.
    OwnDelivered {
        /// Every own batch below this one is delivered.
        oldest_undelivered: Sequence,
    },
    /// A peer broke a rule that no honest member breaks.
    Penalise {
        /// Who.
        peer: AuthorityIndex,
        /// Which rule.
        rule: Rule,
    },
    /// Proof that an author signed two blocks of one round.
    Evidence {
        /// Who.
        author: AuthorityIndex,
        /// The two blocks.
        blocks: [VerifiedBlock; 2],
    },
    /// Wake the core with `Timer` at this monotonic time; replaces the timer before.
    SetTimer(Duration),
    /// Stop the process with this reason.
    Halt(Halt),
}
