use rorqual_config::parameters::StoreParameters;
use rorqual_config::{Digest, KeyPair, Member, ProtocolParameters, Stake};
use rorqual_protocol::commit::window::ReplayWindow;
use rorqual_protocol::types::Sequence;

use super::*;
use crate::disk::Monitor;

const AUTHOR: AuthorityIndex = AuthorityIndex(1);
const LIMIT: u64 = 4_096;

/// The intake of member 0 over a store; of each author everything up to `delivered` was delivered.
fn intake(store: &Store, delivered: u64) -> Intake {
    let members = (0..4u8).map(|i| Member {
        name: format!("node-{i}"),
        public_key: KeyPair::from_seed([i + 1; 32]).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9_000 + u16::from(i)),
    });
    let rules = ProtocolParameters::default();
    let committee = Arc::new(Committee::new(0, Digest::default(), members.collect(), rules).unwrap());
    let mut window = ReplayWindow::new(16);
    (1..=delivered).for_each(|sequence| assert!(window.deliver(Sequence(sequence))));
    let undelivered = committee.authorities().map(|author| Undelivered::new(author, window.clone(), 8, LIMIT));
    let parameters = StoreParameters { min_free_bytes: 0, ..StoreParameters::default() };
    let (_monitor, disk) = Monitor::start(&std::env::temp_dir(), &parameters).unwrap();
    let metrics = Arc::new(Metrics::new(&committee).unwrap());
    Intake::new(committee.clone(), AuthorityIndex(0), store.clone(), disk, undelivered.collect(), metrics)
}

fn store() -> Store {
    Store::in_memory(schema::options(&StoreParameters::default(), true))
}

fn batch(sequence: u64, content: &'static [u8]) -> (BatchKey, Bytes) {
    let sequence = Sequence(sequence);
    let digest = BatchKey::digest_of(0, AUTHOR, sequence, content);
    (BatchKey { author: AUTHOR, sequence, digest }, Bytes::from_static(content))
}

async fn is_here(store: &Store, key: &BatchKey) -> bool {
    let key = schema::batch_key(key);
    // Whatever was queued before this is applied when this is.
    store.write(schema::META, "barrier", "").await.unwrap();
    let row = store.read(schema::UNDELIVERED, &key).await.unwrap().is_some();
    let payload = store.read(schema::PAYLOAD, &key).await.unwrap().is_some();
    assert_eq!(row, payload, "payload that no commit delivers has a row, and no row is without payload");
    payload
}

#[tokio::test]
async fn a_start_counts_what_is_here_and_deletes_what_can_never_be_delivered() {
    let store = store();
    let before = intake(&store, 0);
    let (fresh, twin, kept) = (batch(3, b"fresh"), batch(2, b"twin"), batch(1, b"kept"));
    for (key, content) in [fresh.clone(), twin.clone(), kept.clone()] {
        assert!(before.admits(AUTHOR, &key, content.len() as u32));
        before.store(AUTHOR, key, content).await.unwrap();
    }
    assert_eq!(before.undelivered_bytes(), 13);
    assert!(is_here(&store, &twin.0).await);
    // Other content was delivered under the first two sequences, and then the process died.
    let after = intake(&store, 2);
    after.restore(&BTreeSet::from([kept.0])).await.unwrap();
    assert!(is_here(&store, &fresh.0).await && is_here(&store, &kept.0).await);
    assert!(!is_here(&store, &twin.0).await);
    assert_eq!(after.undelivered_bytes(), 5);
    assert!(!after.admits(AUTHOR, &fresh.0, 5), "it is here");
    assert!(!after.admits(AUTHOR, &twin.0, 4), "it is stale");
}

#[tokio::test]
async fn tiny_batches_are_bounded_by_what_an_entry_costs() {
    let store = store();
    let intake = intake(&store, 0);
    for number in 0..100u8 {
        let digest = BatchKey::digest_of(0, AUTHOR, Sequence(1), &[number]);
        let (key, content) = (BatchKey { author: AUTHOR, sequence: Sequence(1), digest }, Bytes::from(vec![number]));
        intake.store(AUTHOR, key, content).await.unwrap();
    }
    let taken = intake.undelivered_bytes();
    assert_eq!(taken, LIMIT / (rorqual_protocol::undelivered::ENTRY_BYTES + 1));
    // What a block names is taken all the same, and pushes one out.
    let (key, content) = batch(2, b"named");
    assert!(!intake.admits(AuthorityIndex(2), &key, 5), "nobody asked for it");
    assert!(intake.want(key, 4).is_none());
    assert!(!intake.admits(AuthorityIndex(2), &key, 5), "longer than what is named");
    assert!(intake.want(key, 5).is_none());
    assert!(intake.admits(AuthorityIndex(2), &key, 5));
    intake.store(AuthorityIndex(2), key, content).await.unwrap();
    assert!(is_here(&store, &key).await);
    assert_eq!(intake.undelivered_bytes(), taken - 1 + 5);
}

#[tokio::test]
async fn whoever_wants_what_is_being_deleted_waits_for_the_deletion() {
    let store = store();
    let intake = intake(&store, 0);
    let (key, content) = batch(1, b"content");
    intake.want(key, 7);
    intake.store(AuthorityIndex(2), key, content).await.unwrap();
    intake.unwant(&key);
    intake.delete([key]);
    assert_eq!(intake.undelivered_bytes(), 0);
    if let Some(mut deleted) = intake.want(key, 7) {
        deleted.wait_for(|done| *done).await.unwrap();
    }
    assert_eq!(store.read(schema::PAYLOAD, &schema::batch_key(&key)).await.unwrap(), None);
}
