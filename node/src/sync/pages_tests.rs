use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BlockRef, Round};

use super::*;

fn commit(index: u64, blocks: usize) -> Commit {
    let block = |round| BlockRef { round: Round(round), author: AuthorityIndex(0), digest: Digest::of("block", &[]) };
    Commit {
        epoch: 0,
        index: CommitIndex(index),
        previous: Digest::default(),
        leader_round: Round(index),
        leaders: Vec::new(),
        timestamp_ms: index,
        gc_round: Round(0),
        blocks: (0..blocks as u64).map(block).collect(),
        blocks_root: Digest::default(),
        batches_root: Digest::default(),
        aux: None,
    }
}

/// Fetches all of `commits` as a peer does, in pages of at most `limit` bytes of records; how many pages that took.
fn fetch(commits: &[Commit], limit: usize) -> (Vec<Commit>, usize) {
    let last = commits.last().expect("there are commits");
    let certificate = Certificate { commit: last.header(), signers: Vec::new() };
    let (first, mut pages) = (commits[0].index, 0);
    let mut records = Records::new(first);
    loop {
        let (next, offset) = records.next();
        let page =
            Page::of(&commits[(next.0 - first.0) as usize..], offset as usize, limit).expect("within the record");
        let ends = page.whole() as u64 + next.0 > last.index.0;
        let (message, tail) = page.answer(ends.then_some(&certificate));
        let Message::Commits { lengths, more, ends } = message else { panic!("{message:?}") };
        assert!(lengths.iter().map(|length| *length as usize).sum::<usize>() <= limit);
        pages += 1;
        if let Some(end) = records.add(&lengths, more, ends, tail).expect("a page") {
            assert_eq!(end, certificate);
            return (records.commits(), pages);
        }
    }
}

#[test]
fn a_range_of_any_size_arrives_in_pages_of_any_size() {
    // One commit after a stall is larger than many pages.
    let commits: Vec<Commit> = (5..15).map(|index| commit(index, if index == 9 { 2_000 } else { 3 })).collect();
    for limit in [1_000, 1_001, 4_096, 80_000, 1 << 20] {
        let (came, pages) = fetch(&commits, limit);
        assert_eq!(came, commits, "pages of {limit}");
        assert_eq!(pages == 1, limit == 1 << 20, "{pages} pages of {limit}");
    }
}

#[test]
fn a_page_may_end_at_any_of_its_commits() {
    let commits: Vec<Commit> = (1..9).map(|index| commit(index, 3)).collect();
    let mut page = Page::of(&commits, 0, 1 << 20).expect("a page");
    assert_eq!(page.whole(), 8);
    page.truncate(3);
    let certificate = Certificate { commit: commits[2].header(), signers: Vec::new() };
    let (Message::Commits { lengths, more, ends }, tail) = page.answer(Some(&certificate)) else {
        panic!("no commits")
    };
    let mut records = Records::new(CommitIndex(1));
    assert_eq!(records.add(&lengths, more, ends, tail), Ok(Some(certificate)));
    assert_eq!(records.commits(), commits[..3]);
}

#[test]
fn rubbish_is_refused_and_never_kept_for_ever() {
    let one = Bytes::from(encode(&commit(1, 3)));
    let length = one.len() as u32;
    let add =
        |lengths: &[u32], more, ends, tail: Bytes| Records::new(CommitIndex(1)).add(lengths, more, ends, tail).is_err();
    assert!(add(&[], 0, false, Bytes::new()), "no progress");
    assert!(add(&[0], 5, false, Bytes::new()), "no progress");
    assert!(add(&[length + 1], 0, false, one.clone()), "more than there is");
    assert!(add(&[length - 1], 0, false, one.clone()), "less than there is");
    assert!(add(&[length], 0, true, one.clone()), "no certificate");
    assert!(add(&[length], 1, true, one), "an end inside a record");
    assert!(add(&[length], 0, false, Bytes::from(encode(&commit(2, 3)))), "another index");
    assert!(Page::of(&[commit(1, 3)], length as usize, 1_000).is_none() && Page::of(&[], 0, 1_000).is_none());
    let mut endless = Records::new(CommitIndex(1));
    let page = Bytes::from(vec![0; 1 << 20]);
    let taken = (0..64).take_while(|_| endless.add(&[1 << 20], 1, false, page.clone()).is_ok()).count();
    assert_eq!(taken, MAX_RECORD_BYTES >> 20);
}
