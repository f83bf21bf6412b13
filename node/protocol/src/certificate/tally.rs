//! Commit votes of all members, counted.
//!
//! Promises: one digest an author and index counts, the first; memory is bounded by a window around our last commit, however
//! far votes reach; order statistics over the highest index of each author cannot be moved by stake of at most F beyond what
//! honest members said.

use std::collections::BTreeMap;
use std::sync::Arc;

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee, Digest, Stake};

use super::check::check_form;
use crate::types::commit::CommitHeader;
use crate::types::{Certificate, CommitIndex, Signer, VerifiedBlock};

/// Votes this far below our last commit are still compared with ours.
const BELOW: u64 = 1_024;
/// Votes this far above our last commit are kept for the comparison.
const ABOVE: u64 = 8_192;
/// Signatures are kept for commits this far above our last one; further ahead catch-up brings certificates.
const SIGNED_ABOVE: u64 = 1_024;

#[derive(Debug, Default)]
struct Support {
    authors: AuthoritySet,
    signers: BTreeMap<AuthorityIndex, Arc<Signer>>,
}

#[derive(Debug, Default)]
struct Entry {
    voters: AuthoritySet,
    /// Dissenters that were named.
    named: AuthoritySet,
    digests: BTreeMap<Digest, Support>,
}

/// All votes that matter.
#[derive(Debug)]
pub struct Tally {
    entries: BTreeMap<CommitIndex, Entry>,
    highest: Vec<CommitIndex>,
    /// All authors, descending by highest index.
    order: Vec<AuthorityIndex>,
    /// At and below this index a full certificate is stored.
    certified: CommitIndex,
}

impl Tally {
    /// No votes; a certificate of `certified` is stored.
    pub fn new(members: usize, certified: CommitIndex) -> Self {
        let order = (0..members as u16).map(AuthorityIndex).collect();
        Self { entries: BTreeMap::new(), highest: vec![CommitIndex(0); members], order, certified }
    }

    /// How many indices have votes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no votes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The highest index with a stored full certificate.
    pub fn certified(&self) -> CommitIndex {
        self.certified
    }

    /// The highest index an author voted for.
    pub fn highest_of(&self, author: AuthorityIndex) -> CommitIndex {
        self.highest[author.usize()]
    }

    /// Counts the votes of a block, where `last` is our last commit; returns the indices with news, ascending.
    pub fn observe(&mut self, block: &VerifiedBlock, last: CommitIndex) -> Vec<CommitIndex> {
        let Some(top) = block.votes().last() else { return Vec::new() };
        let author = block.author();
        self.reached(author, top.index);
        let (mut signer, mut news) = (None, Vec::new());
        for vote in block.votes() {
            if vote.index.0.saturating_add(BELOW) <= last.0 || vote.index.0 > last.0.saturating_add(ABOVE) {
                continue;
            }
            let entry = self.entries.entry(vote.index).or_default();
            if !entry.voters.insert(author) {
                continue;
            }
            let support = entry.digests.entry(vote.digest).or_default();
            support.authors.insert(author);
            if vote.index > self.certified && vote.index.0 <= last.0.saturating_add(SIGNED_ABOVE) {
                let signer = signer.get_or_insert_with(|| {
                    let (core_digest, signature) = (block.core_digest(), block.block().signature);
                    Arc::new(Signer { author, core_digest, votes: block.votes().to_vec(), signature })
                });
                support.signers.insert(author, signer.clone());
            }
            news.push(vote.index);
        }
        news
    }

    /// Whether the author voted for another digest of one of these indices before.
    pub fn contradicts(&self, block: &VerifiedBlock) -> bool {
        let author = block.author();
        block.votes().iter().any(|vote| {
            let Some(entry) = self.entries.get(&vote.index).filter(|entry| entry.voters.contains(author)) else {
                return false;
            };
            entry.digests.get(&vote.digest).is_none_or(|support| !support.authors.contains(author))
        })
    }

    /// Authors that voted for another digest of `index` than `ours`, each of them once.
    pub fn dissenters(&mut self, index: CommitIndex, ours: &Digest) -> AuthoritySet {
        let Some(entry) = self.entries.get_mut(&index) else { return AuthoritySet::EMPTY };
        let agreeing = entry.digests.get(ours).map_or(AuthoritySet::EMPTY, |support| support.authors);
        let named = entry.named.union(agreeing);
        let fresh: AuthoritySet = entry.voters.iter().filter(|voter| !named.contains(*voter)).collect();
        entry.named = entry.named.union(fresh);
        fresh
    }

    /// The signers of a verified certificate voted for these indices.
    pub fn observe_certificate(&mut self, certificate: &Certificate) {
        for signer in &certificate.signers {
            if let Some(top) = signer.votes.last() {
                self.reached(signer.author, top.index);
            }
        }
    }

    /// An author voted for this index.
    fn reached(&mut self, author: AuthorityIndex, index: CommitIndex) {
        if index <= self.highest[author.usize()] {
            return;
        }
        self.highest[author.usize()] = index;
        let mut place = self.order.iter().position(|other| *other == author).unwrap_or(0);
        while let Some(before) = place.checked_sub(1).filter(|before| self.highest[self.order[*before].usize()] < index)
        {
            self.order.swap(before, place);
            place = before;
        }
    }

    /// The highest x such that authors with stake of at least `threshold` voted for an index of x or more.
    pub fn reached_by(&self, threshold: Stake, committee: &Committee) -> CommitIndex {
        let mut stake = Stake(0);
        for author in &self.order {
            stake += committee.stake(*author);
            if stake >= threshold {
                return self.highest_of(*author);
            }
        }
        CommitIndex(0)
    }

    /// Stake behind digests of `index` other than `ours`, with the first of them that has the most.
    pub fn against(&self, index: CommitIndex, ours: &Digest, committee: &Committee) -> Option<(Stake, Digest)> {
        let others = self.entries.get(&index)?.digests.iter().filter(|(digest, _)| *digest != ours);
        let (mut all, mut heaviest) = (AuthoritySet::EMPTY, None);
        for (digest, support) in others {
            all = all.union(support.authors);
            let stake = committee.stake_of(&support.authors);
            if heaviest.is_none_or(|(most, _)| stake > most) {
                heaviest = Some((stake, *digest));
            }
        }
        heaviest.map(|(_, digest)| (committee.stake_of(&all), digest))
    }

    /// A certificate of our commit, once stake of at least `threshold` signed it.
    pub fn certificate(&self, header: &CommitHeader, threshold: Stake, committee: &Committee) -> Option<Certificate> {
        let support = self.entries.get(&header.index)?.digests.get(&header.digest())?;
        let authors: AuthoritySet = support.signers.keys().copied().collect();
        if committee.stake_of(&authors) < threshold {
            return None;
        }
        let signers = support.signers.values().map(|signer| Signer::clone(signer)).collect();
        let certificate = Certificate { commit: header.clone(), signers };
        // Votes come from verified blocks, so that this holds; what others would refuse is not made.
        check_form(&certificate, committee).is_ok().then_some(certificate)
    }

    /// A full certificate of `index` is stored: signatures at and below it are not needed any more.
    pub fn set_certified(&mut self, index: CommitIndex) {
        if index <= self.certified {
            return;
        }
        let from = self.certified;
        self.certified = index;
        for (_, entry) in self.entries.range_mut(from..=index) {
            for support in entry.digests.values_mut() {
                support.signers.clear();
            }
        }
    }

    /// Forgets what is too far below our last commit.
    pub fn prune(&mut self, last: CommitIndex) {
        let floor = last.minus(BELOW);
        while self.entries.first_key_value().is_some_and(|(index, _)| *index <= floor) {
            self.entries.pop_first();
        }
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
