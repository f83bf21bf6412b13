//! Checks that need the committee alone: a certificate, and a range of commits that a peer serves.

use bytes::Bytes;
use rorqual_config::{Committee, Stake};

use crate::types::{Certificate, Commit, VerifiedBlock};

/// Why a certificate or a range is not to be believed. Charge whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub String);

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
    let _ = (certificate, committee, threshold);
    Err(CertificateError("not written yet".into()))
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
        let _ = (commits, certificate, committee);
        Err(CertificateError("not written yet".into()))
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
        let _ = blocks;
        Ok(Self { commits, certificate, blocks: Vec::new() })
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
