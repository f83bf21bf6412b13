//! Clients that keep no rule: closed in bounded time, at bounded cost, with the reason, and counted; the others go on.

use rorqual_client::Refusal;
use rorqual_client::frames::{MAX_QUESTIONS, NotHere, ReadKey};
use rorqual_client::submission::Ticket;
use rorqual_protocol::types::range::LIMIT;
use rorqual_protocol::types::{BatchKey, Sequence};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn assert_served(stand: &Stand) {
    let client = stand.client().await;
    let submission = client.submission([&b"honest"[..]]);
    within(client.submit(&submission)).await.unwrap();
}

#[tokio::test]
async fn garbage_instead_of_a_hello_is_closed_and_counted() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    for (number, garbage) in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4_096], &[0; 4], &[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]]
            .iter()
            .enumerate()
    {
        let mut stream = TcpStream::connect(stand.address).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "not a byte for whoever says no hello");
        until(|| stand.count("connections_refused_hello") == number as u64 + 1).await;
    }
    assert_served(&stand).await;
}

#[tokio::test]
async fn silent_connections_take_no_clients_place() {
    let stand = Stand::start(ClientParameters { max_connections: 4, ..Default::default() }, Habit::Commit).await;
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_HALF_OPEN {
        silent.push(TcpStream::connect(stand.address).await.unwrap());
    }
    until(|| stand.count("connections_refused_half_open") == MAX_HALF_OPEN as u64).await;
    assert_served(&stand).await;
}

#[tokio::test]
async fn a_hello_byte_by_byte_is_closed_at_its_deadline() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut stream = TcpStream::connect(stand.address).await.unwrap();
    let hello = ClientHello::frame();
    let bytes = [&(hello.len() as u32).to_le_bytes()[..], &hello].concat();
    let trickle = async {
        for byte in &bytes[..bytes.len() - 1] {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    within(async { tokio::join!(trickle, until(|| stand.count("connections_refused_hello") == 1)) }).await;
    assert_served(&stand).await;
}

#[tokio::test]
async fn garbage_after_a_hello_is_closed_with_the_reason() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    raw.submit(1, 10).await;
    raw.say([Bytes::from_static(&[0xff; 100]), Bytes::new()]).await;
    let (mut receipts, mut words) = (0, String::new());
    while let Ok((response, _)) = raw.next().await {
        match response {
            Response::Receipts(some) => receipts += some.len(),
            Response::Closing { reason } => words = reason,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(receipts, 1, "what came before is answered");
    assert!(!words.is_empty());
    assert_eq!(stand.count("closed_malformed"), 1);
    assert_served(&stand).await;
}

#[tokio::test]
async fn an_oversized_frame_is_closed_by_its_length_alone() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    raw.writer.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let words = raw.last_words().await;
    assert!(words.contains("exceeds the limit"), "{words}");
    assert_eq!(stand.count("closed_oversized"), 1);
}

#[tokio::test]
async fn more_than_the_credit_is_closed_with_the_reason() {
    let parameters =
        ClientParameters { max_bytes_in_flight: 2 << 20, max_bytes_per_connection: 2 << 20, ..Default::default() };
    let stand = Stand::start(parameters, Habit::Keep).await;
    let mut raw = Raw::connect(stand.address).await;
    let many = raw.hello.credit_bytes / 100_000 + 1;
    for tag in 0..many {
        raw.submit(tag, 100_000).await;
    }
    let words = raw.last_words().await;
    assert!(words.contains("more than it has credit for"), "{words}");
    assert_eq!(stand.count("closed_credit"), 1);
    // What was taken is still answered by execution; nobody hears it, and nothing of it stays.
    stand.sink.kept.lock().unwrap().drain(..).for_each(|pending| pending.slot.resolve(Outcome::Committed(placed(0))));
    assert_eq!(stand.gate.in_flight(), 0);
}

#[tokio::test]
async fn a_million_tiny_requests_on_one_connection_are_answered_in_bounded_memory() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    // Pings are answered together: however many come, one answer waits.
    let [ping, _] = Request::Ping.frame();
    let one = [&(ping.len() as u32).to_le_bytes()[..], &ping].concat();
    let many = one.repeat(10_000);
    for _ in 0..100 {
        raw.writer.write_all(&many).await.unwrap();
    }
    let Ok((Response::Credit { .. }, _)) = raw.next().await else { panic!("no answer") };
    assert_served(&stand).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_a_bounded_amount_and_nobody_up() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let key = BatchKey { author: AuthorityIndex(0), sequence: Sequence(1), digest: Digest::default() };
    stand.store.write(schema::PAYLOAD, schema::batch_key(&key), vec![7; 1 << 20]).await.unwrap();
    let all = stand.gate.answers.available_permits();
    let mut greedy = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(stand.address).await;
        for tag in 0..MAX_QUESTIONS as u64 {
            let what = ReadKey::Batch(super::super::receipts::batch_id(&key));
            raw.say(Request::Read { tag, what, wait_ms: 0 }.frame()).await;
        }
        greedy.push(raw);
    }
    // 512 answers of 1 MiB were asked for: 4 MiB wait for each of them, and the rest of the questions.
    until(|| stand.gate.answers.available_permits() <= all - 8 * (2 << 10)).await;
    assert!(stand.gate.answers.available_permits() >= all - 8 * (5 << 10));
    let client = stand.client().await;
    let what = ReadKey::Batch(super::super::receipts::batch_id(&key));
    within(client.read(what, Duration::ZERO)).await.unwrap();
    assert_served(&stand).await;
    drop(greedy);
    drop(client);
    until(|| stand.gate.answers.available_permits() == all).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_makes_no_end_is_given_up() {
    let stand_gate = {
        let parameters = ClientParameters::default();
        Arc::new(Gate::new(&committee(), AuthorityIndex(0), &parameters, Arc::new(|| COMMIT_TIME_MS)))
    };
    let outbox = super::super::outbox::Outbox::new(stand_gate, 1 << 20, None);
    outbox.answer([Bytes::from(vec![0; 1 << 20]), Bytes::new()], Vec::new(), None);
    // Far less fits than is written, and nobody reads.
    let (mut near, _far) = tokio::io::duplex(1_024);
    let error = outbox.write(&mut near, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_question_beyond_the_limit_is_refused_by_name_and_counted() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    for tag in 0..=MAX_QUESTIONS as u64 {
        raw.say(Request::Read { tag, what: ReadKey::Position(LIMIT - 1), wait_ms: u64::MAX }.frame()).await;
    }
    let (response, _) = raw.next().await.unwrap();
    let limit = MAX_QUESTIONS as u64;
    assert_eq!(response, Response::NotHere { tag: limit, reason: NotHere::TooMany { limit } });
    assert_eq!(stand.count("refused_questions"), 1);
    raw.submit(1, 1).await;
    assert!(matches!(raw.next().await, Ok((Response::Receipts(_), _))), "the connection stands");
}

#[tokio::test]
async fn requests_that_are_never_finished_share_one_bound() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let half = Bytes::from(vec![0; 600 << 10]);
    let mut strangers = Vec::new();
    for _ in 0..150 {
        let mut raw = Raw::connect(stand.address).await;
        raw.writer.write_all(&(1u32 << 20).to_le_bytes()).await.unwrap();
        raw.writer.write_all(&half).await.unwrap();
        assert!(stand.gate.unfinished.used() <= 64 << 20);
        strangers.push(raw);
    }
    until(|| stand.count("closed_unfinished") > 0).await;
    let words = strangers[0].last_words().await;
    assert!(words.contains("unfinished for longest"), "{words}");
    let mut honest = Raw::connect(stand.address).await;
    honest.submit(1, 100_000).await;
    assert!(matches!(honest.next().await, Ok((Response::Receipts(_), _))));
    drop(strangers);
    until(|| stand.gate.unfinished.used() == 0).await;
}

#[tokio::test]
async fn waits_for_what_never_comes_leave_nothing_behind() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raws = Vec::new();
    for connection in 0..4u64 {
        let mut raw = Raw::connect(stand.address).await;
        for tag in 0..MAX_QUESTIONS as u64 {
            let sequence = Sequence(connection * 1_000 + tag);
            let key = BatchKey { author: AuthorityIndex(3), sequence, digest: Digest([9; 32]) };
            let what = ReadKey::Batch(super::super::receipts::batch_id(&key));
            raw.say(Request::Read { tag, what, wait_ms: u64::MAX }.frame()).await;
        }
        raws.push(raw);
    }
    until(|| stand.store.statistics().waiters == 4 * MAX_QUESTIONS).await;
    assert_served(&stand).await;
    drop(raws);
    until(|| stand.store.statistics().waiters == 0).await;
}

#[tokio::test]
async fn huge_ranges_and_numbers_are_answered_without_harm() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    for (tag, from) in [0, 1, u64::MAX - 1, u64::MAX].into_iter().enumerate() {
        let tag = tag as u64;
        raw.say(Request::Log { tag, from, max_count: u32::MAX, wait_ms: 0 }.frame()).await;
        raw.say(Request::Read { tag: tag + 100, what: ReadKey::Position(from), wait_ms: 0 }.frame()).await;
        raw.say(Request::Certificate { tag: tag + 200, commit: from }.frame()).await;
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 12 {
        let (response, _) = raw.next().await.unwrap();
        answered.insert(response.tag().unwrap());
    }
    raw.submit(1, 1).await;
    assert!(matches!(raw.next().await, Ok((Response::Receipts(_), _))), "the connection stands");
}

#[tokio::test]
async fn numbers_out_of_range_are_told_from_numbers_that_are_not_there_yet() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    let batch = |sequence| BatchId { author: AuthorityIndex(0), sequence, digest: Digest::default() };
    let questions = |tag, number| {
        [
            Request::Log { tag, from: number, max_count: 1, wait_ms: 0 },
            Request::Read { tag, what: ReadKey::Position(number), wait_ms: 0 },
            Request::Read { tag, what: ReadKey::Batch(batch(number)), wait_ms: 0 },
            Request::Certificate { tag, commit: number },
        ]
    };
    for (number, refused) in [(0, false), (LIMIT - 1, false), (LIMIT, true), (1 << 63, true), (u64::MAX, true)] {
        for question in questions(number, number) {
            // Waits, counts and tags of any size are no numbers of the log.
            raw.say(question.frame()).await;
            let (response, _) = raw.next().await.unwrap();
            let words = match &response {
                Response::NotHere { reason, .. } => reason.to_string(),
                _ => String::new(),
            };
            assert_eq!(response.tag(), Some(number));
            assert_eq!(words.contains(&LIMIT.to_string()), refused, "{question:?}: {response:?}");
        }
    }
    assert_served(&stand).await;
}

#[tokio::test]
async fn a_deadline_out_of_range_is_refused_before_it_is_sealed() {
    let stand = Stand::start(ClientParameters::default(), Habit::Commit).await;
    let mut raw = Raw::connect(stand.address).await;
    for (deadline_ms, refused) in [(1, false), (LIMIT - 1, false), (LIMIT, true), (u64::MAX, true)] {
        let submission = Submission::one(Some(Ticket { nonce: [1; 16], deadline_ms }), Bytes::from_static(b"x"));
        raw.say(Request::submit(deadline_ms, &submission)).await;
        let (response, _) = raw.next().await.unwrap();
        let Response::Receipts(receipts) = response else { panic!("{response:?}") };
        assert_eq!(receipts.refused == [(deadline_ms, Refusal::DeadlineTooFar)], refused, "{receipts:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_gives_everything_back() {
    let stand = Stand::start(ClientParameters::default(), Habit::Keep).await;
    let mut raw = Raw::connect(stand.address).await;
    for tag in 0..100 {
        raw.submit(tag, 1_000).await;
    }
    // Half of a further one.
    raw.writer.write_all(&50_000u32.to_le_bytes()).await.unwrap();
    raw.writer.write_all(&[0; 1_000]).await.unwrap();
    until(|| stand.sink.kept.lock().unwrap().len() == 100).await;
    drop(raw);
    until(|| stand.gate.connections() == 0).await;
    stand.sink.set(Habit::Commit);
    stand.sink.kept.lock().unwrap().drain(..).for_each(|pending| pending.slot.resolve(Outcome::Committed(placed(0))));
    assert_eq!(stand.gate.in_flight(), 0);
    assert_served(&stand).await;
}
