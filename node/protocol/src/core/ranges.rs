//! What is on disk is looked at once before anything is computed from it.
//!
//! Promises: numbers out of range, which an earlier version may have taken in and committed, end the start with a reason that
//! names them; a certificate that nobody would believe counts as none.

use rorqual_config::Committee;
use rorqual_config::encoding::decode;

use crate::certificate::check::check_form;
use crate::commit::ledger::{Ledger, Snapshot};
use crate::effect::Halt;
use crate::input::Recovered;
use crate::types::range::{LIMIT, in_range};
use crate::types::{BatchRef, BlockRef, Delivery, VerifiedBlock};

/// The first number out of range, and what it belongs to.
type Found = Option<(u64, String)>;

fn first(numbers: impl IntoIterator<Item = u64>, of: impl FnOnce() -> String) -> Found {
    numbers.into_iter().find(|number| !in_range(*number)).map(|number| (number, of()))
}

fn in_block(block: &VerifiedBlock) -> Found {
    let core = &block.block().core;
    let rounds = core.parents.iter().map(|parent| parent.round.0).chain([core.round.0, core.timestamp_ms]);
    let batches = core.batches.iter().map(|batch| batch.sequence.0);
    let votes = block.votes().iter().map(|vote| vote.index.0);
    first(rounds.chain(batches).chain(votes), || format!("block {:?}", block.reference()))
}

fn in_delivery(delivery: &Delivery) -> Found {
    let commit = &delivery.commit;
    let rounds = commit.blocks.iter().chain(&commit.leaders).map(|reference| reference.round.0);
    let batches = delivery.batches.iter().map(|delivered| delivered.batch.sequence.0);
    let own = [commit.index.0, commit.leader_round.0, commit.gc_round.0, commit.timestamp_ms];
    first(rounds.chain(batches).chain(own), || format!("the record of commit {}", commit.index))
}

fn in_ledger(ledger: &Ledger, committed: &[(BlockRef, bool)]) -> Found {
    let highest = ledger.windows.iter().map(|window| window.highest().0);
    let rounds = committed.iter().map(|(reference, _)| reference.round.0);
    let own = [ledger.index.0, ledger.leader_round.0, ledger.time.last_ms()];
    first(highest.chain(rounds).chain(own), || format!("the snapshot after commit {}", ledger.index))
}

fn in_own_batch(batch: &BatchRef) -> Found {
    first([batch.sequence.0], || "an own batch".into())
}

/// Refuses numbers out of range; drops a certificate that breaks the rules of form.
///
/// # Errors
/// [`Halt::BadRecovery`] naming the number and where it stands.
pub fn check(recovered: &mut Recovered, committee: &Committee) -> Result<(), Halt> {
    let snapshot = recovered.snapshot.as_ref().and_then(|(_, bytes)| decode::<Snapshot>(bytes).ok());
    let single = [recovered.completed.0].into_iter().chain(recovered.executed.map(|(index, _)| index.0));
    let found = snapshot
        .and_then(|snapshot| in_ledger(&snapshot.ledger, &snapshot.committed))
        .or_else(|| recovered.commits.iter().find_map(in_delivery))
        .or_else(|| recovered.blocks.iter().chain(&recovered.own_last).find_map(in_block))
        .or_else(|| recovered.own_batches.iter().find_map(in_own_batch))
        .or_else(|| first(single, || "what was completed or executed".into()));
    if let Some((number, of)) = found {
        return Err(Halt::BadRecovery(format!(
            "{of} holds the number {number}; rounds, sequences, commit indexes and times are below {LIMIT}, and what a cluster has \
             committed beyond that cannot be gone on from"
        )));
    }
    recovered.certificate.take_if(|certificate| check_form(certificate, committee).is_err());
    Ok(())
}
