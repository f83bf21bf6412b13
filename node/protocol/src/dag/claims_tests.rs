use super::*;
use crate::types::Round;

const ME: AuthorityIndex = AuthorityIndex(0);
const LIAR: AuthorityIndex = AuthorityIndex(3);

fn block(round: u64, twin: u8) -> BlockRef {
    BlockRef { round: Round(round), author: LIAR, digest: Digest([twin; 32]) }
}

fn batch(sequence: u64, content: u8, bytes: u32) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest([content; 32]), bytes }
}

fn claims(bytes: u64, names: usize) -> Claims {
    let mut claims = Claims::new(4, ME, Limit { bytes, names });
    claims.recover(|_| Vec::new());
    claims
}

#[test]
fn bytes_and_names_are_bounded_at_the_limit() {
    let mut claims = claims(100, 3);
    assert!(claims.name(block(1, 0), &[batch(1, 0, 99)]));
    assert!(claims.name(block(2, 0), &[batch(2, 0, 1)]), "at the limit");
    assert!(!claims.name(block(3, 0), &[batch(3, 0, 1)]), "one byte beyond");
    assert!(claims.name(block(4, 0), &[]), "what names nothing needs no room");
    let mut claims = self::claims(100, 2);
    assert!(claims.name(block(1, 0), &[batch(1, 0, 1), batch(1, 1, 1)]));
    assert!(!claims.name(block(2, 0), &[batch(1, 2, 0)]), "one name beyond");
    assert_eq!((claims.named(), claims.waiting()), (2, 1));
}

#[test]
fn a_batch_counts_once_and_another_length_is_another_batch() {
    let mut claims = claims(100, 10);
    assert!(claims.name(block(1, 0), &[batch(1, 0, 60)]));
    assert!(claims.name(block(1, 1), &[batch(1, 0, 60)]), "twins of one payload");
    assert!(!claims.name(block(2, 0), &[batch(1, 0, 41)]));
    assert_eq!(claims.release(&block(1, 0), &[batch(1, 0, 60)]), []);
    assert!(claims.is_named(&batch(1, 0, 60).key(LIAR)));
    assert_eq!(claims.release(&block(1, 1), &[batch(1, 0, 60)]), [batch(1, 0, 60)]);
    assert!(!claims.is_named(&batch(1, 0, 60).key(LIAR)));
    assert_eq!(claims.retry(LIAR, |_| vec![batch(1, 0, 41)]).blocks, [block(2, 0)]);
}

#[test]
fn blocks_wait_in_the_order_of_their_rounds() {
    let mut claims = claims(100, 10);
    let payload = |block: &BlockRef| vec![batch(block.round.0, 0, if block.round.0 == 2 { 80 } else { 30 })];
    assert!(claims.name(block(1, 0), &payload(&block(1, 0))));
    assert!(!claims.name(block(2, 0), &payload(&block(2, 0))));
    assert!(!claims.name(block(3, 0), &payload(&block(3, 0))), "there is room, but not before round 2");
    assert_eq!(claims.retry(LIAR, payload).blocks, []);
    claims.release(&block(1, 0), &payload(&block(1, 0)));
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(2, 0)]);
    assert_eq!(claims.settle(LIAR, Sequence(2)..=Sequence(2)).len(), 1);
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(3, 0)]);
    assert_eq!(claims.release(&block(2, 0), &payload(&block(2, 0))), [], "it was settled before");
}

#[test]
fn what_others_build_on_has_accounts_of_its_own_with_the_same_limit() {
    let mut claims = claims(100, 10);
    let payload = |block: &BlockRef| vec![batch(block.round.0, block.digest.0[0], 60)];
    for twin in 0..4 {
        claims.name(block(1, twin), &payload(&block(1, twin)));
    }
    assert_eq!(claims.waiting(), 3);
    assert!(claims.pull(&block(1, 2), AuthorityIndex(1)) && !claims.pull(&block(1, 2), AuthorityIndex(1)));
    assert!(!claims.pull(&block(1, 0), AuthorityIndex(1)), "it does not wait");
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(1, 2)]);
    assert!(claims.is_pulled(&block(1, 2)) && !claims.is_pulled(&block(1, 0)));
    assert!(claims.pull(&block(1, 3), AuthorityIndex(1)));
    assert_eq!(claims.retry(LIAR, payload).blocks, [], "nor has the other member room for two");
    claims.release(&block(1, 0), &payload(&block(1, 0)));
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(1, 1)], "on our own account again");
}

#[test]
fn what_cannot_be_delivered_needs_no_room() {
    let mut claims = claims(100, 10);
    assert!(claims.name(block(1, 0), &[batch(7, 0, 100)]));
    assert!(!claims.name(block(2, 0), &[batch(7, 1, 1)]));
    let settled = claims.settle(LIAR, Sequence(0)..=Sequence(7));
    assert_eq!(settled, [(batch(7, 0, 100), BTreeSet::from([block(1, 0)]))]);
    assert_eq!(claims.retry(LIAR, |_| Vec::new()).blocks, [block(2, 0)]);
    assert_eq!((claims.named(), claims.waiting()), (0, 0));
}

#[test]
fn what_is_on_the_account_of_another_moves_to_our_own_before_anything_above_it() {
    let mut claims = claims(100, 10);
    let payload = |block: &BlockRef| vec![batch(block.round.0, 0, 60)];
    assert!(claims.name(block(1, 0), &payload(&block(1, 0))));
    assert!(!claims.name(block(2, 0), &payload(&block(2, 0))));
    claims.pull(&block(2, 0), AuthorityIndex(1));
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(2, 0)]);
    assert!(!claims.name(block(3, 0), &[batch(3, 0, 1)]), "there is room for it, but it stands on what is not ours");
    claims.release(&block(1, 0), &payload(&block(1, 0)));
    let admitted = claims.retry(LIAR, |block| vec![batch(block.round.0, 0, if block.round.0 == 3 { 1 } else { 60 })]);
    assert_eq!(admitted, Admitted { blocks: vec![block(3, 0)], adopted: vec![block(2, 0)] });
    assert!(!claims.is_pulled(&block(2, 0)));
    // The other's account has room again.
    for twin in [1, 2] {
        assert!(!claims.name(block(4, twin), &[batch(4, twin, 50)]));
        claims.pull(&block(4, twin), AuthorityIndex(1));
    }
    assert_eq!(claims.retry(LIAR, |block| vec![batch(4, block.digest.0[0], 50)]).blocks, [block(4, 1), block(4, 2)]);
}

#[test]
fn after_a_restart_what_we_had_built_on_comes_first() {
    let mut claims = Claims::new(4, ME, Limit { bytes: 100, names: 10 });
    let payload = |block: &BlockRef| vec![batch(1, block.digest.0[0], 60)];
    for twin in 0..4 {
        assert!(!claims.name(block(1, twin), &payload(&block(1, twin))), "nothing before all is here");
    }
    assert_eq!(claims.retry(LIAR, payload), Admitted::default());
    claims.pull(&block(1, 2), ME);
    claims.pull(&block(1, 3), ME);
    assert_eq!(
        claims.recover(payload),
        [block(1, 2), block(1, 3)],
        "more than there is room for: commits have made room"
    );
    assert!(!claims.is_pulled(&block(1, 2)));
    assert_eq!(claims.retry(LIAR, payload), Admitted::default());
    claims.release(&block(1, 3), &payload(&block(1, 3)));
    assert_eq!(claims.retry(LIAR, payload), Admitted::default(), "one of 60 and one of 60 do not fit into 100");
    claims.release(&block(1, 2), &payload(&block(1, 2)));
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(1, 0)]);
}

#[test]
fn eased_accounts_of_others_hold_twice_as_much_each_time_until_a_commit() {
    let mut claims = claims(100, 10);
    let payload = |block: &BlockRef| vec![batch(1, block.digest.0[0], 100)];
    assert!(claims.name(block(1, 0), &payload(&block(1, 0))));
    for twin in 1..8 {
        claims.name(block(1, twin), &payload(&block(1, twin)));
        claims.pull(&block(1, twin), AuthorityIndex(1));
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(claims.retry(LIAR, payload).blocks.len());
        claims.ease();
    }
    assert_eq!(held, [1, 1, 2], "1, 2 and 4 in all");
    claims.tighten();
    assert_eq!(claims.retry(LIAR, payload), Admitted::default());
    assert_eq!(claims.waiting(), 3);
}

#[test]
fn what_was_on_the_account_of_another_and_is_released_holds_nothing_up() {
    let mut claims = claims(100, 10);
    let payload = |block: &BlockRef| vec![batch(1, block.digest.0[0], 60)];
    assert!(claims.name(block(1, 0), &payload(&block(1, 0))));
    assert!(!claims.name(block(1, 1), &payload(&block(1, 1))));
    claims.pull(&block(1, 1), AuthorityIndex(1));
    assert_eq!(claims.retry(LIAR, payload).blocks, [block(1, 1)]);
    assert_eq!(claims.release(&block(1, 1), &payload(&block(1, 1))), payload(&block(1, 1)));
    assert!(!claims.is_pulled(&block(1, 1)));
    assert!(claims.name(block(2, 0), &[batch(2, 0, 40)]), "nothing below it is on another's account");
    claims.release(&block(1, 0), &payload(&block(1, 0)));
    assert_eq!(claims.retry(LIAR, payload), Admitted::default(), "it does not come back");
}
