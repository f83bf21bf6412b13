use rorqual_config::encoding::encode;
use rorqual_config::parameters::StoreParameters;
use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BlockRef, Round};

use super::super::pages::Records;
use super::*;

fn commit(index: u64, blocks: u64) -> Commit {
    let block = |round| BlockRef { round: Round(round), author: AuthorityIndex(0), digest: Digest::of("block", &[]) };
    Commit {
        epoch: 0,
        index: CommitIndex(index),
        previous: Digest::default(),
        leader_round: Round(index),
        leaders: Vec::new(),
        timestamp_ms: index,
        gc_round: Round(0),
        blocks: (0..blocks).map(block).collect(),
        blocks_root: Digest::default(),
        batches_root: Digest::default(),
        aux: None,
    }
}

/// A history from commit `first` on, with commits of these many blocks and certificates of some.
async fn history(first: u64, blocks: &[u64], certified: &[u64]) -> History {
    let store = Store::in_memory(schema::options(&StoreParameters::default(), true));
    for (index, blocks) in (first..).zip(blocks) {
        let commit = commit(index, *blocks);
        let key = schema::index_key(commit.index);
        if certified.contains(&index) {
            let certificate = Certificate { commit: commit.header(), signers: Vec::new() };
            store.write(schema::CERTIFICATES, key.clone(), encode(&certificate)).await.unwrap();
        }
        store.write(schema::COMMITS, key, encode(&Delivery { commit, batches: Vec::new() })).await.unwrap();
    }
    History(store)
}

/// Fetches as a peer does: the end of the range, how many commits, how many pages, and the largest of them.
async fn fetch(history: &History, from: u64, to: u64) -> Result<(u64, usize, usize, usize), CommitIndex> {
    let mut records = Records::new(CommitIndex(from));
    let (mut pages, mut largest) = (0, 0);
    loop {
        let (next, offset) = records.next();
        let (message, tail) = history.commits(next, next.max(CommitIndex(to)), offset).await.unwrap();
        let (lengths, more, ends) = match message {
            Message::Commits { lengths, more, ends } => (lengths, more, ends),
            Message::NoCommits { first_index } => return Err(first_index),
            other => panic!("{other:?}"),
        };
        (pages, largest) = (pages + 1, largest.max(tail.len()));
        if let Some(certificate) = records.add(&lengths, more, ends, tail).expect("a page") {
            return Ok((certificate.index().0, records.commits().len(), pages, largest));
        }
    }
}

#[tokio::test]
async fn a_range_too_large_for_a_frame_ends_at_a_certified_commit_that_fits() {
    let history = history(1, &[1_000; 100], &[10, 20, 60, 100]).await;
    let (end, commits, pages, largest) = fetch(&history, 1, 100).await.unwrap();
    assert_eq!((end, commits, pages), (20, 20, 1));
    assert!(largest <= ANSWER_BYTES + 1_000, "{largest}");
}

#[tokio::test]
async fn a_range_without_a_certificate_that_low_is_served_in_pages() {
    // Ten megabytes of records, and no certificate before the last.
    let history = history(1, &[8_000; 30], &[30]).await;
    let (end, commits, pages, largest) = fetch(&history, 1, 10).await.unwrap();
    assert_eq!((end, commits), (30, 30));
    assert!((10..40).contains(&pages), "{pages}");
    assert!(largest <= ANSWER_BYTES + 1_000, "{largest}");
}

#[tokio::test]
async fn one_commit_larger_than_a_frame_is_served_in_pages() {
    let history = history(7, &[3, 80_000, 3], &[8, 9]).await;
    let (end, commits, pages, largest) = fetch(&history, 7, 8).await.unwrap();
    assert_eq!((end, commits), (8, 2));
    assert!(pages > 2 && largest <= ANSWER_BYTES + 1_000, "{pages} pages of at most {largest}");
}

#[tokio::test]
async fn what_is_not_here_is_said_so_with_where_the_log_begins() {
    let history = history(7, &[3; 4], &[9]).await;
    assert_eq!(fetch(&history, 1, 9).await, Err(CommitIndex(7)));
    assert_eq!(fetch(&history, 10, 10).await, Err(CommitIndex(7)), "not certified yet");
    assert_eq!(fetch(&history, 8, 20).await.unwrap().0, 9);
}
