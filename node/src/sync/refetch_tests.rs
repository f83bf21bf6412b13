//! What of the losses that a store names is missing from the log.

use bytes::Bytes;
use rorqual_config::Digest;
use rorqual_config::parameters::StoreParameters;

use super::*;

fn key(author: u16, sequence: u64) -> BatchKey {
    BatchKey { author: AuthorityIndex(author), sequence: Sequence(sequence), digest: Digest([7; 32]) }
}

#[tokio::test]
async fn only_what_a_commit_delivers_is_missing_and_the_rest_is_forgotten_with_its_row() {
    let store = Store::in_memory(schema::options(&StoreParameters::default(), true));
    let mut batch = WriteBatch::new();
    // Delivered; named by no commit; undelivered though another one of its sequence was delivered.
    for (author, sequence) in [(1, 5), (1, 9), (2, 5)] {
        batch.lose(schema::PAYLOAD, schema::batch_key(&key(author, sequence)), 100);
    }
    batch.put(schema::UNDELIVERED, schema::batch_key(&key(2, 5)), schema::length(100));
    batch.put(schema::UNDELIVERED, schema::batch_key(&key(3, 1)), schema::length(100));
    store.write_batch(batch, Durability::Buffered).await.unwrap();
    assert_eq!(holes(&store), 3);

    let missing = settle(&store, |_, sequence| sequence > Sequence(8)).await.unwrap();
    assert_eq!(missing, [key(1, 5)]);
    assert_eq!(store.lost(schema::PAYLOAD).unwrap(), [(schema::batch_key(&key(1, 5)), 100)]);
    assert_eq!(store.read(schema::UNDELIVERED, &schema::batch_key(&key(2, 5))).await.unwrap(), None);
    assert!(store.read(schema::UNDELIVERED, &schema::batch_key(&key(3, 1))).await.unwrap().is_some(), "not lost");

    store.write(schema::PAYLOAD, schema::batch_key(&key(1, 5)), Bytes::from_static(b"here")).await.unwrap();
    assert_eq!(holes(&store), 0);
}
