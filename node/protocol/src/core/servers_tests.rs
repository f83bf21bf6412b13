use super::*;

const MS: Duration = Duration::from_millis(1);
const GAP: Duration = Duration::from_millis(20);
const A: AuthorityIndex = AuthorityIndex(0);
const B: AuthorityIndex = AuthorityIndex(1);

fn idle(peer: AuthorityIndex) -> Candidate {
    Candidate { peer, open: 0, waiting: Duration::ZERO }
}

#[test]
fn who_delivers_more_in_less_time_is_asked_and_who_is_unknown_is_tried() {
    let (mut servers, now) = (Servers::new(4, Duration::ZERO), 100 * MS);
    servers.delivered(A, 20, 10 * MS);
    servers.delivered(B, 20, 100 * MS);
    assert_eq!(servers.choose(&[idle(B), idle(A)], GAP, now), Ok(A));
    // Full hands count, and so does what is still owed.
    assert_eq!(servers.choose(&[idle(B), Candidate { open: 9, ..idle(A) }], GAP, now), Ok(B));
    let stalled = Candidate { waiting: 1_000 * MS, ..idle(A) };
    assert_eq!(servers.choose(&[idle(B), stalled], GAP, now), Ok(B));
    // Short answers are little.
    let short = AuthorityIndex(2);
    servers.delivered(short, 1, 10 * MS);
    assert_eq!(servers.choose(&[idle(short), idle(A)], GAP, now), Ok(A));
    let unknown = AuthorityIndex(3);
    assert_eq!(servers.choose(&[idle(short), idle(unknown)], GAP, now), Ok(unknown));
    // What was long ago is forgotten.
    assert_eq!(servers.choose(&[idle(B), Candidate { open: 1, ..idle(A) }], GAP, 1_000 * HALF_LIFE), Ok(B));
}

#[test]
fn a_failed_server_rests_twice_as_long_each_time_until_it_delivers() {
    let (mut servers, mut now) = (Servers::new(2, Duration::ZERO), Duration::ZERO);
    let mut rests = Vec::new();
    for _ in 0..12 {
        servers.asked(A, now);
        servers.failed(A, MS, GAP, now);
        let until = servers.servers[0].rests_until;
        rests.push(until - now);
        now = until;
    }
    assert_eq!(rests[..4], [GAP, 2 * GAP, 4 * GAP, 8 * GAP]);
    assert_eq!(rests[11], MAX_REST);
    servers.failed(A, MS, GAP, now);
    assert_eq!(servers.choose(&[idle(A), idle(B)], GAP, now), Ok(B));
    servers.delivered(A, 1, MS);
    servers.failed(A, MS, GAP, now);
    assert_eq!(servers.servers[0].rests_until, now + GAP);
}

#[test]
fn when_all_rest_the_least_bad_is_asked_at_once_but_not_without_pause() {
    let (mut servers, now) = (Servers::new(2, Duration::ZERO), 1_000 * MS);
    for (peer, failures) in [(A, 5), (B, 3)] {
        (0..failures).for_each(|_| servers.failed(peer, MS, GAP, now));
    }
    assert_eq!(servers.choose(&[idle(A), idle(B)], GAP, now), Ok(B));
    servers.asked(B, now);
    servers.failed(B, MS, GAP, now + MS);
    assert_eq!(servers.choose(&[idle(A), idle(B)], GAP, now + MS), Ok(A));
    servers.asked(A, now + MS);
    servers.failed(A, MS, GAP, now + 2 * MS);
    assert_eq!(servers.choose(&[idle(A), idle(B)], GAP, now + 2 * MS), Err(Some(now + GAP)));
    assert_eq!(servers.choose(&[idle(A), idle(B)], GAP, now + GAP), Ok(B));
    assert_eq!(servers.choose(&[], GAP, now), Err(None));
}
