//! Checks that need the committee alone: a certificate, and a range of commits that a peer serves.
//!
//! Promises: what passes here is what at least one honest member decided (weak) or what a quorum decided (full); nothing
//! here depends on local state, so that clients, catch-up and tests use the very same code.

use bytes::Bytes;
use rorqual_config::{Committee, Stake};

use crate::types::block::{block_digest, check_votes};
use crate::types::commit::CommitHeader;
use crate::types::range::in_range;
use crate::types::{Certificate, Commit, Signer, VerifiedBlock, merkle};

/// Why a certificate or a range is not to be believed. Charge whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub String);

fn wrong<T>(what: impl Into<String>) -> Result<T, CertificateError> {
    Err(CertificateError(what.into()))
}

/// Everything that needs neither a signature nor a threshold: numbers in range, at most one signer a member in ascending order,
/// each with votes as a block may carry them. What passes is small: a block's votes and 98 bytes a member, and a header.
///
/// # Errors
/// [`CertificateError`] naming what is wrong.
pub fn check_form(certificate: &Certificate, committee: &Committee) -> Result<(), CertificateError> {
    check_header(&certificate.commit, committee)?;
    if certificate.signers.len() > committee.size() {
        return wrong(format!("{} signers for {} members", certificate.signers.len(), committee.size()));
    }
    if !certificate.signers.is_sorted_by(|one, next| one.author < next.author) {
        return wrong("signers do not ascend");
    }
    for signer in &certificate.signers {
        if !committee.contains(signer.author) {
            return wrong(format!("signer {} is not a member", signer.author));
        }
        if let Err(rule) = check_votes(&signer.votes, committee) {
            return wrong(format!("signer {}: {rule}", signer.author));
        }
    }
    Ok(())
}

fn check_header(header: &CommitHeader, committee: &Committee) -> Result<(), CertificateError> {
    if header.epoch != committee.epoch() {
        return wrong(format!("the certificate is of epoch {}, not {}", header.epoch, committee.epoch()));
    }
    if header.index.0 == 0 || !header.index.in_range() {
        return wrong(format!("commit {} is not a possible index", header.index));
    }
    let rounds =
        [header.leader_round, header.gc_round].into_iter().chain(header.leaders.iter().map(|leader| leader.round));
    if !rounds.map(|round| round.0).chain([header.timestamp_ms]).all(in_range) {
        return wrong(format!("a round or the time of commit {} is out of range", header.index));
    }
    if header.leaders.len() > committee.size() {
        return wrong(format!("commit {} has {} leaders", header.index, header.leaders.len()));
    }
    Ok(())
}

/// Checks the form, every signature and that the stake behind the commit is at least `threshold` (`committee.quorum()` for clients,
/// `committee.validity()` for catch-up). Returns the stake found.
///
/// # Errors
/// [`CertificateError`] naming what is wrong.
pub fn verify_certificate(
    certificate: &Certificate,
    committee: &Committee,
    threshold: Stake,
) -> Result<Stake, CertificateError> {
    // Cheap tests first: a signature check costs more than all of them.
    check_form(certificate, committee)?;
    let header = &certificate.commit;
    let stake: Stake = certificate.signers.iter().map(|signer| committee.stake(signer.author)).sum();
    if stake < threshold {
        return wrong(format!("stake {} is below the threshold {}", stake.0, threshold.0));
    }
    let digest = header.digest();
    for signer in &certificate.signers {
        if !signer.votes.iter().any(|vote| vote.index == header.index && vote.digest == digest) {
            return wrong(format!("signer {} does not vote for commit {}", signer.author, header.index));
        }
        verify_signer(signer, committee)?;
    }
    Ok(stake)
}

fn verify_signer(signer: &Signer, committee: &Committee) -> Result<(), CertificateError> {
    let digest = block_digest(&signer.core_digest, &signer.votes);
    committee
        .member(signer.author)
        .public_key
        .verify(&VerifiedBlock::domain(committee), &digest.0, &signer.signature)
        .map_err(|_| CertificateError(format!("the signature of signer {} does not verify", signer.author)))
}

/// Commits `from..=to` with the certificate of the last and all their blocks, completely verified.
#[derive(Clone, Debug)]
pub struct VerifiedRange {
    commits: Vec<Commit>,
    certificate: Certificate,
    blocks: Vec<VerifiedBlock>,
}

impl VerifiedRange {
    /// The first half of the check, before any block is fetched: the end certificate (weak), then digest chain and block roots
    /// backwards from it.
    ///
    /// # Errors
    /// [`CertificateError`]; charge the sender.
    pub fn verify_commits(
        commits: &[Commit],
        certificate: &Certificate,
        committee: &Committee,
    ) -> Result<(), CertificateError> {
        let Some(last) = commits.last() else {
            return wrong("an empty range");
        };
        check_form(certificate, committee)?;
        if last.header() != certificate.commit {
            return wrong("the certificate is not of the last commit");
        }
        // A chain that does not end where the certificate says is refused before signatures are looked at.
        let mut expected = last.digest();
        for (place, commit) in commits.iter().enumerate().rev() {
            if commit.index.0 == 0 || commit.digest() != expected {
                return wrong(format!("the digest chain breaks at commit {}", commit.index));
            }
            check_header(&commit.header(), committee)?;
            let before = place.checked_sub(1).and_then(|place| commits.get(place));
            if before.is_some_and(|before| before.index != commit.index.previous()) {
                return wrong(format!("commit {} does not follow the one before it", commit.index));
            }
            if merkle::root(&commit.blocks) != commit.blocks_root {
                return wrong(format!("the blocks of commit {} are not those under its root", commit.index));
            }
            expected = commit.previous;
        }
        verify_certificate(certificate, committee, committee.validity()).map(|_| ())
    }

    /// The second half: `blocks` are the encodings of exactly the blocks that the (verified) commits name, in that order.
    /// Digests and signatures are checked. Runs on a pool: one signature check a block.
    ///
    /// # Errors
    /// [`CertificateError`]; charge the sender.
    pub fn verify(
        commits: Vec<Commit>,
        certificate: Certificate,
        blocks: Vec<Bytes>,
        committee: &Committee,
    ) -> Result<Self, CertificateError> {
        Self::verify_commits(&commits, &certificate, committee)?;
        let named: usize = commits.iter().map(|commit| commit.blocks.len()).sum();
        if named != blocks.len() {
            return wrong(format!("{} blocks for {named} references", blocks.len()));
        }
        let mut verified = Vec::with_capacity(blocks.len());
        for (reference, bytes) in commits.iter().flat_map(|commit| &commit.blocks).zip(blocks) {
            let block = match VerifiedBlock::verify(bytes, committee) {
                Ok(block) => block,
                Err(error) => return wrong(format!("block {reference:?}: {error}")),
            };
            if block.reference() != *reference {
                return wrong(format!("{:?} came instead of {reference:?}", block.reference()));
            }
            verified.push(block);
        }
        Ok(Self { commits, certificate, blocks: verified })
    }

    /// The commits, ascending.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// The certificate of the last.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The blocks of all commits, in order.
    pub fn blocks(&self) -> &[VerifiedBlock] {
        &self.blocks
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
