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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_reads_at_once_on_one_connection_are_all_answered() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let key = BatchKey { author: AuthorityIndex(0), sequence: Sequence(1), digest: Digest::default() };
    let content = Bytes::from(vec![7; 200 << 10]);
    stand.store.write(schema::PAYLOAD, schema::batch_key(&key), content.clone()).await.unwrap();
    let id = super::super::receipts::batch_id(&key);
    let client = stand.client().await;
    let reading: Vec<_> = (0..200)
        .map(|_| {
            let (client, content) = (client.clone(), content.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let read = client.read(ReadKey::Batch(id), Duration::ZERO).await.unwrap();
                    assert_eq!(read, Value::Batch(content.clone()));
                }
            })
        })
        .collect();
    for task in reading {
        within(task).await.unwrap();
    }
    assert_eq!((stand.count("refused_questions"), stand.count("questions")), (0, 2_000));
}

#[tokio::test]
async fn a_question_is_over_before_its_answer_can_be_read() {
    let parameters = ClientParameters::default();
    let gate = Arc::new(Gate::new(&committee(), AuthorityIndex(0), &parameters, Arc::new(|| COMMIT_TIME_MS)));
    let outbox = Arc::new(super::super::outbox::Outbox::new(gate, 0, None));
    let asked = Arc::new(tokio::sync::Semaphore::new(2));
    for byte in [1, 2] {
        let permit = asked.clone().try_acquire_owned().unwrap();
        outbox.answer([Bytes::from(vec![byte; 10_000]), Bytes::new()], Vec::new(), Some(permit));
    }
    // The first answer fits, the second one does not: the write of both makes no end.
    let (mut near, far) = tokio::io::duplex(12_000);
    let (writing, finished) = (outbox.clone(), CancellationToken::new());
    let ended = finished.clone();
    let task = tokio::spawn(async move { writing.write(&mut near, &ended).await });
    let mut reader = FrameReader::new(far, 1 << 20);
    within(reader.next()).await.unwrap();
    assert!(asked.available_permits() > 0, "who has read an answer may ask again");
    within(reader.next()).await.unwrap();
    finished.cancel();
    within(task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_greedy_connection_does_not_keep_a_polite_one_from_its_share() {
    let parameters =
        ClientParameters { max_bytes_in_flight: 2 << 20, max_bytes_per_connection: 2 << 20, ..Default::default() };
    let stand = Stand::start(parameters, Habit::Keep).await;
    let mut greedy = Vec::new();
    for _ in 0..3 {
        greedy.push(Raw::connect(stand.address).await);
    }
    for raw in &mut greedy {
        for tag in 0..8 {
            raw.submit(tag, 120_000).await;
        }
    }
    until(|| stand.count("submissions") == 24).await;
    until(|| stand.count("refused_overloaded") > 0).await;
    let kept = stand.sink.kept.lock().unwrap().len();
    let mut polite = Raw::connect(stand.address).await;
    for tag in 0..4 {
        polite.submit(tag, 1_000).await;
    }
    until(|| stand.count("submissions") == 28).await;
    until(|| stand.sink.kept.lock().unwrap().len() == kept + 4).await;
}

#[tokio::test]
async fn the_status_is_told_when_all_places_are_taken_and_the_idle_give_theirs() {
    let stand = Stand::start(ClientParameters { max_connections: 1, ..Default::default() }, Habit::Commit).await;
    let idle = stand.client().await;
    let address = stand.address.to_string();
    assert!(Client::connect(&address, Options::default()).await.is_err());
    let options = Options { purpose: rorqual_client::Purpose::Status, ..Options::default() };
    let status = Client::connect(&address, options).await.unwrap();
    assert_eq!(within(status.status()).await.unwrap(), r#"{"round":1}"#);
    assert!(within(status.read(ReadKey::Position(0), Duration::ZERO)).await.is_err(), "that and nothing else");
    assert_eq!(stand.count("connections_status"), 1);
    // As if the first one had said nothing for long.
    let later = tokio::time::Instant::now() + Duration::from_secs(60);
    assert!(stand.gate.places().enter(later).is_none());
    let reason = within(idle.connection().closed()).await.to_string();
    assert!(reason.contains("all places were taken"), "{reason}");
    within(async { while Client::connect(&address, Options::default()).await.is_err() {} }).await;
    assert_eq!(stand.count("closed_idle"), 1);
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
    // Twice the limit at most: each connection has its share, whoever came first.
    assert!((12..24).contains(&kept) && kept * 120_000 <= 4 << 20, "{kept} were taken");
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
