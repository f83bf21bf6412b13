//! Which blocks are known already, for the tasks that verify: what is linked or waits for parents needs no second look at its
//! signature. With n members each header arrives up to n - 1 times.
//!
//! Promises: only what the core holds *now* counts, so that a block that was dropped can come again; the core alone writes and
//! never reads, so it stays a function of its inputs; a lock is held for one look-up among the blocks of one author. Bounded by
//! what the core holds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rorqual_config::{AuthorityIndex, Digest};

use crate::types::{BlockRef, Round};

#[derive(Debug)]
struct Shared {
    gc_round: AtomicU64,
    authors: Vec<Mutex<BTreeSet<(Round, Digest)>>>,
}

/// Names of blocks. Clones are the same set.
#[derive(Clone, Debug)]
pub struct Names(Arc<Shared>);

impl Names {
    /// The empty set of a committee of `members`.
    pub(crate) fn new(members: usize) -> Self {
        let authors = (0..members).map(|_| Mutex::default()).collect();
        Self(Arc::new(Shared { gc_round: AtomicU64::new(0), authors }))
    }

    fn of(&self, author: AuthorityIndex) -> Option<MutexGuard<'_, BTreeSet<(Round, Digest)>>> {
        Some(self.0.authors.get(author.usize())?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn insert(&self, reference: &BlockRef) {
        if let Some(mut names) = self.of(reference.author) {
            names.insert((reference.round, reference.digest));
        }
    }

    pub(crate) fn remove(&self, reference: &BlockRef) {
        if let Some(mut names) = self.of(reference.author) {
            names.remove(&(reference.round, reference.digest));
        }
    }

    /// Forgets everything at and below this round.
    pub(crate) fn collect(&self, gc_round: Round) {
        self.0.gc_round.store(gc_round.0, Ordering::Release);
        for author in 0..self.0.authors.len() as u16 {
            if let Some(mut names) = self.of(AuthorityIndex(author)) {
                while names.first().is_some_and(|(round, _)| *round <= gc_round) {
                    names.pop_first();
                }
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        (0..self.0.authors.len() as u16)
            .filter_map(|author| self.of(AuthorityIndex(author)))
            .map(|names| names.len())
            .sum()
    }

    fn contains(&self, reference: &BlockRef) -> bool {
        self.of(reference.author).is_some_and(|names| names.contains(&(reference.round, reference.digest)))
    }
}

/// What the core holds, as everybody may see it.
#[derive(Clone, Debug)]
pub struct Known {
    pub(crate) linked: Names,
    pub(crate) suspended: Names,
    pub(crate) me: AuthorityIndex,
}

/// What is to be done with a block before its signature is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Verify it, and give it to the core.
    New,
    /// It is here: only tell the core who has it too. Whatever the signature of this copy says, nothing depends on it.
    Known,
    /// At or below the garbage-collection round: nobody needs it.
    Old,
}

impl Known {
    /// Looks at a name. Our own blocks are always new unless they are here: one that we do not know must reach the core however old it is.
    pub fn judge(&self, reference: &BlockRef) -> Verdict {
        if self.linked.contains(reference) || self.suspended.contains(reference) {
            Verdict::Known
        } else if reference.author != self.me && reference.round.0 <= self.linked.0.gc_round.load(Ordering::Acquire) {
            Verdict::Old
        } else {
            Verdict::New
        }
    }
}
