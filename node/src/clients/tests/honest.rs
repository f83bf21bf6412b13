//! Clients that keep the rules: every submission is answered or its connection breaks, and every refusal has its reason.

use rorqual_client::frames::NotHere;
use rorqual_client::{ClientError, ReadKey, Refusal, Value};
use rorqual_protocol::types::{BatchKey, CommitIndex, Sequence};

use super::*;

#[tokio::test]
async fn thousands_in_flight_on_one_connection_are_each_answered() {
    let stand = Stand::start(ClientParameters::default(), Habit::Keep).await;
    let client = stand.client().await;
    let mut in_flight = Vec::new();
    for number in 0..5_000u32 {
        let submission = client.submission([&number.to_le_bytes()[..]]);
        in_flight.push(client.start(&submission).await.unwrap());
    }
    until(|| stand.sink.kept.lock().unwrap().len() == 5_000).await;
    assert!(stand.gate.in_flight() > 5_000 * 100);
    // In another order than they came.
    let kept: Vec<Pending> = stand.sink.kept.lock().unwrap().drain(..).rev().collect();
    for pending in kept {
        let number = u32::from_le_bytes(pending.submission.bytes[..].try_into().unwrap());
        pending.slot.resolve(Outcome::Committed(placed(u64::from(number))));
    }
    for (number, receipt) in in_flight.into_iter().enumerate() {
        assert_eq!(within(receipt).await.unwrap().placed.first_position, number as u64);
    }
    assert_eq!(stand.gate.in_flight(), 0, "all credit came back");
}

#[tokio::test]
async fn credit_makes_a_client_wait_and_never_refuses_it() {
    // Room for little more than one submission.
    let parameters =
        ClientParameters { max_bytes_in_flight: 2 << 20, max_bytes_per_connection: 2 << 20, ..Default::default() };
    let stand = Stand::start(parameters, Habit::Commit).await;
    let client = stand.client().await;
    for _ in 0..50 {
        let submission = client.submission([&[7; 100_000][..], &[8; 100_000]]);
        within(client.submit(&submission)).await.unwrap();
    }
    assert_eq!((stand.count("refused_overloaded"), stand.count("closed_credit")), (0, 0));
    assert_eq!(stand.count("receipts_committed"), 50);
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    let stand = Stand::start(ClientParameters::default(), Habit::Full).await;
    let client = stand.client().await;
    let refusal = |error: ClientError| match error {
        ClientError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    let submission = client.submission([&b"x"[..]]);
    let full = refusal(within(client.submit(&submission)).await.unwrap_err());
    assert_eq!(full, Refusal::Overloaded { retry_after_ms: 50 }, "with the hint of client.retry_hint");
    stand.closing.cancel();
    assert_eq!(refusal(within(client.submit(&submission)).await.unwrap_err()), Refusal::ShuttingDown);
    // The library would not even send these.
    let mut raw = {
        let open = Stand::start(ClientParameters::default(), Habit::Commit).await;
        let mut raw = Raw::connect(open.address).await;
        raw.submit(1, 200 << 10).await;
        let Ok((Response::Receipts(receipts), _)) = raw.next().await else { panic!("no receipt") };
        assert_eq!(receipts.refused, [(1, Refusal::TooLarge { limit: 128 << 10 })]);
        let empty = Submission { ticket: None, ends: vec![], bytes: Bytes::new() };
        raw.say(Request::submit(2, &empty)).await;
        let Ok((Response::Receipts(receipts), _)) = raw.next().await else { panic!("no receipt") };
        assert_eq!(receipts.refused, [(2, Refusal::Malformed)]);
        raw.submit(3, 10).await;
        raw
    };
    let Ok((Response::Receipts(receipts), _)) = raw.next().await else { panic!("no receipt") };
    assert_eq!(receipts.committed.len(), 1, "the connection goes on after a refusal");
}

#[tokio::test]
async fn the_limit_of_all_bytes_in_flight_is_told_with_a_hint() {
    let parameters =
        ClientParameters { max_bytes_in_flight: 2 << 20, max_bytes_per_connection: 2 << 20, ..Default::default() };
    let stand = Stand::start(parameters, Habit::Keep).await;
    // Each of them may have one large submission in flight, all of them together may not.
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(Raw::connect(stand.address).await);
    }
    for raw in &mut clients {
        for tag in 0..2 {
            raw.submit(tag, 120_000).await;
        }
    }
    until(|| stand.count("submissions") == 24).await;
    let kept = stand.sink.kept.lock().unwrap().len();
    assert!(kept * 120_000 <= 2 << 20, "{kept} were taken");
    until(|| stand.count("refused_overloaded") == 24 - kept as u64).await;
    stand.sink.kept.lock().unwrap().clear();
    until(|| stand.gate.in_flight() == 0).await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_told_so_and_the_next_one_gets_its_place() {
    let stand = Stand::start(ClientParameters { max_connections: 2, ..Default::default() }, Habit::Commit).await;
    let (one, _two) = (stand.client().await, stand.client().await);
    let error = Client::connect(&stand.address.to_string(), Options::default()).await.err().unwrap().to_string();
    assert!(error.contains("2 client connections") && error.contains("client.max_connections"), "{error}");
    assert_eq!(stand.count("connections_refused_full"), 1);
    drop(one);
    within(async { while Client::connect(&stand.address.to_string(), Options::default()).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_stopping_node_turns_newcomers_away_and_gives_the_receipts_it_has() {
    let stand = Stand::start(ClientParameters::default(), Habit::Keep).await;
    let client = stand.client().await;
    let submission = client.submission([&b"x"[..]]);
    let receipt = client.start(&submission).await.unwrap();
    until(|| stand.sink.kept.lock().unwrap().len() == 1).await;
    stand.closing.cancel();
    let error = Client::connect(&stand.address.to_string(), Options::default()).await.err().unwrap();
    assert!(error.to_string().contains("shutting down"), "{error}");
    let pending = stand.sink.kept.lock().unwrap().pop().unwrap();
    pending.slot.resolve(Outcome::Committed(placed(9)));
    stand.stopping.cancel();
    assert_eq!(within(receipt).await.unwrap().placed.first_position, 9);
    let reason = within(client.connection().closed()).await.to_string();
    assert!(reason.contains("shutting down"), "{reason}");
    within(stand.tasks.wait()).await;
}

#[tokio::test]
async fn a_read_with_a_wait_resolves_when_the_payload_is_written() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let client = stand.client().await;
    let key = BatchKey { author: AuthorityIndex(0), sequence: Sequence(1), digest: Digest::default() };
    let id = super::super::receipts::batch_id(&key);
    let reading = tokio::spawn(async move { client.read(ReadKey::Batch(id), GENEROUS).await });
    until(|| stand.store.statistics().waiters == 1).await;
    stand.store.write(schema::PAYLOAD, schema::batch_key(&key), &b"content"[..]).await.unwrap();
    assert_eq!(within(reading).await.unwrap().unwrap(), Value::Batch(Bytes::from_static(b"content")));
}

#[tokio::test]
async fn what_is_not_there_is_named_as_such() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    stand.applied.send_modify(|state| (state.next_position, state.begins, state.index) = (100, 40, CommitIndex(7)));
    let client = stand.client().await;
    let reason = |error: ClientError| match error {
        ClientError::NotHere(reason) => reason,
        other => panic!("{other}"),
    };
    let read = |position| client.read(ReadKey::Position(position), Duration::ZERO);
    assert_eq!(reason(read(39).await.unwrap_err()), NotHere::Dropped { begins: 40 });
    assert_eq!(reason(read(100).await.unwrap_err()), NotHere::NotYet { next: 100 });
    assert_eq!(reason(client.certificate(7).await.unwrap_err()), NotHere::NoCertificate { applied: 7 });
    let error = NotHere::Dropped { begins: 40 }.to_string();
    assert_eq!(error, "not stored here; the log begins at position 40");
}

#[tokio::test]
async fn deadlines_count_from_what_the_node_takes_for_the_time_of_the_next_commit() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let client = stand.client().await;
    let lifetime = client.hello().max_lifetime_ms / 2;
    let late = client.ticket().deadline_ms - COMMIT_TIME_MS;
    assert!((lifetime..lifetime + 10_000).contains(&late), "{late} ms");
}
