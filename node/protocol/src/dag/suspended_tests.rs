//! Limits, eviction and ownership of wants.

use rorqual_config::Digest;

use super::*;
use crate::testing::{block_core, committee, key};

fn block(author: u16, round: u64) -> VerifiedBlock {
    let committee = committee(4);
    let mut core = block_core(&committee, author, round);
    core.timestamp_ms = round;
    VerifiedBlock::sign(core, Vec::new(), &committee, &key(usize::from(author)))
}

fn parent(round: u64) -> BlockRef {
    BlockRef { round: Round(round), author: AuthorityIndex(3), digest: Digest([7; 32]) }
}

fn with_limit(blocks: usize) -> Suspended {
    Suspended::new(4, Limits { blocks, bytes: 1 << 20 })
}

#[test]
fn a_block_is_free_when_its_last_parent_comes() {
    let mut suspended = with_limit(10);
    let child = block(0, 6);
    suspended.insert(AuthorityIndex(1), child.clone(), [parent(5), parent(4)].into());
    assert_eq!(suspended.resolve(&parent(5)), []);
    assert_eq!(suspended.resolve(&parent(4)), [(AuthorityIndex(1), child)]);
    assert!(suspended.is_empty() && suspended.wanted_len() == 0);
}

#[test]
fn the_highest_rounds_of_the_sender_over_its_limit_go_and_take_their_wants_along() {
    let mut suspended = with_limit(2);
    let sender = AuthorityIndex(1);
    suspended.insert(sender, block(0, 9), [parent(8)].into());
    suspended.insert(AuthorityIndex(2), block(0, 20), [parent(8)].into());
    suspended.insert(sender, block(0, 3), [parent(2)].into());
    let change = suspended.insert(sender, block(0, 5), [parent(2)].into());
    assert_eq!(change.evicted, [block(0, 9).reference()]);
    assert_eq!(change.unwanted, []);
    let change = suspended.insert(sender, block(0, 4), [parent(3)].into());
    assert_eq!(change.evicted, [block(0, 5).reference()]);
    assert!(suspended.contains(&block(0, 20).reference()), "others do not pay");
    assert!(suspended.is_wanted(&parent(8)));
}

#[test]
fn the_total_is_bounded_too() {
    let mut suspended = with_limit(1);
    for sender in 0..4 {
        suspended.insert(AuthorityIndex(sender), block(sender, 5), [parent(4)].into());
    }
    assert_eq!(suspended.len(), 4);
    suspended.insert(AuthorityIndex(0), block(0, 4), [parent(3)].into());
    assert_eq!(suspended.len(), 4);
    assert!(suspended.contains(&block(0, 4).reference()), "the lower round stays");
}

#[test]
fn collection_frees_those_above_and_drops_those_below() {
    let mut suspended = with_limit(10);
    suspended.insert(AuthorityIndex(0), block(0, 5), [parent(4)].into());
    suspended.insert(AuthorityIndex(0), block(1, 8), [parent(6), parent(5)].into());
    suspended.insert(AuthorityIndex(0), block(2, 9), [parent(8)].into());
    let (free, change) = suspended.collect(Round(6));
    assert_eq!(free, [(AuthorityIndex(0), block(1, 8))]);
    assert_eq!(change.evicted, [block(0, 5).reference()]);
    assert_eq!(suspended.len(), 1);
    assert!(suspended.is_wanted(&parent(8)) && !suspended.is_wanted(&parent(6)));
}

#[test]
fn what_an_authors_chain_lacks_is_needed_once_another_author_stands_on_the_chain() {
    let mut suspended = with_limit(10);
    let (own, sender) = (AuthorityIndex(0), AuthorityIndex(1));
    let lowest = BlockRef { author: own, ..parent(4) };
    let (lower, upper) = (block(0, 5), block(0, 6));
    suspended.insert(own, lower.clone(), [lowest].into());
    let change = suspended.insert(own, upper.clone(), [lower.reference()].into());
    assert_eq!(change.needed, []);
    assert!(!suspended.is_needed(&lowest), "only its own author asks for it");
    let change = suspended.insert(sender, block(1, 7), [upper.reference()].into());
    assert_eq!(change.needed, [lowest]);
    assert!([lowest, lower.reference(), upper.reference()].iter().all(|reference| suspended.is_needed(reference)));
}
