//! Checks that need the committee alone: a certificate, and a range of commits that a peer serves.
//!
//! Promises: what passes here is what at least one honest member decided (weak) or what a quorum decided (full); nothing
//! here depends on local state, so that clients, catch-up and tests use the very same code.

use bytes::Bytes;
use rorqual_config::{Committee, Stake};

use crate::types::block::block_digest;
use crate::types::{Certificate, Commit, Signer, VerifiedBlock, merkle};

/// Why a certificate or a range is not to be believed. Charge whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub String);

fn wrong<T>(what: impl Into<String>) -> Result<T, CertificateError> {
    Err(CertificateError(what.into()))
}

/// Checks every signature and that the stake behind the commit is at least `threshold` (`committee.quorum()` for clients,
/// `committee.validity()` for catch-up). Returns the stake found.
///
/// # Errors
/// [`CertificateError`] naming what is wrong.
pub fn verify_certificate(
    certificate: &Certificate,
    committee: &Committee,
    threshold: Stake,
) -> Result<Stake, CertificateError> {
    let header = &certificate.commit;
    if header.epoch != committee.epoch() {
        return wrong(format!("the certificate is of epoch {}, not {}", header.epoch, committee.epoch()));
    }
    // Cheap tests first: a signature check costs more than all of them.
    let mut stake = Stake(0);
    for (place, signer) in certificate.signers.iter().enumerate() {
        if !committee.contains(signer.author) {
            return wrong(format!("signer {} is not a member", signer.author));
        }
        if place > 0 && certificate.signers[place - 1].author >= signer.author {
            return wrong("signers do not ascend");
        }
        stake += committee.stake(signer.author);
    }
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
        if last.header() != certificate.commit {
            return wrong("the certificate is not of the last commit");
        }
        // A chain that does not end where the certificate says is refused before signatures are looked at.
        let mut expected = last.digest();
        for (place, commit) in commits.iter().enumerate().rev() {
            if commit.index.0 == 0 || commit.digest() != expected {
                return wrong(format!("the digest chain breaks at commit {}", commit.index));
            }
            if place > 0 && commits[place - 1].index != commit.index.previous() {
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
