//! What breaks, and how it is mended.

use rorqual_config::AuthorityIndex;

#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing gets from one group to the other any more.
    Cut { from: Vec<AuthorityIndex>, to: Vec<AuthorityIndex> },
    /// All directions work again.
    Heal,
    /// `kill -9`.
    Kill(AuthorityIndex),
    /// These lose their power at the same moment.
    PowerLoss(Vec<AuthorityIndex>),
    /// A process starts on what is on its disk.
    Start(AuthorityIndex),
    /// The disk of a stopped node is replaced by a copy of when it had this percentage of its records.
    RollBack(AuthorityIndex, usize),
    /// The wall clock of a node is this wrong from now on, in milliseconds.
    Clock(AuthorityIndex, i64),
}

/// Cuts both directions between two groups.
pub fn partition(one: &[AuthorityIndex], other: &[AuthorityIndex]) -> [Fault; 2] {
    let cut = |from: &[AuthorityIndex], to: &[AuthorityIndex]| Fault::Cut { from: from.to_vec(), to: to.to_vec() };
    [cut(one, other), cut(other, one)]
}
