//! The rules against a naive model, over random commits full of copies, retries, late and oversized submissions, and restarts.

use bytes::Bytes;
use proptest::prelude::*;
use rorqual_client::submission::{Submission, SubmissionId};
use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::{CommitIndex, Delivery};
use rorqual_store::{Durability, Store, WriteBatch};

use super::support::{Batch, committee, delivery, plain, store, ticketed};
use crate::execution::apply::{BatchOutcome, Changes, Outcome, apply};
use crate::execution::ids::Spent;
use crate::execution::prepare::{Prepared, Rules};
use crate::execution::record;
use crate::execution::recover::{Found, load};
use crate::execution::state::State;

/// A commit of the plan: how much later it is, and its batches: author, and which submissions of the pool; none is rubbish.
type Plan = Vec<(u64, Vec<(u16, Option<Vec<usize>>)>)>;

/// What members and liars put into batches, again and again.
fn pool() -> Vec<Submission> {
    vec![
        ticketed(1, 500, &["a"]),
        ticketed(2, 700, &["b", "c"]),
        ticketed(3, 1_200, &["d"]),
        ticketed(4, 1_900, &["e", ""]),
        ticketed(5, 2_500, &["f"]),
        ticketed(6, u64::MAX, &["g"]),
        // One id cannot be spent on other bytes or prolonged: these are other submissions.
        ticketed(1, 501, &["a"]),
        ticketed(1, 500, &["A"]),
        plain(&["h"]),
        plain(&["i", "j", "k"]),
        ticketed(7, 1_000, &["seventeen bytes!!"]),
        ticketed(8, 1_000, &["twelve bytes", "thirteen byte"]),
        plain(&["twelve bytes", "twelve bytes"]),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let batch = (0u16..4, prop::option::weighted(0.95, prop::collection::vec(0..pool().len(), 0..6)));
    prop::collection::vec((1u64..300, prop::collection::vec(batch, 0..4)), 1..14)
}

/// Deliveries with their contents.
fn deliveries(plan: &Plan) -> Vec<(Delivery, Vec<Batch>)> {
    let (pool, mut time, mut sequence) = (pool(), 0, 0);
    let commits = plan.iter().zip(1..).map(|((later, batches), index)| {
        time += later;
        let batches: Vec<Batch> = batches
            .iter()
            .map(|(author, chosen)| {
                sequence += 1;
                match chosen {
                    Some(chosen) => {
                        let submissions: Vec<Submission> = chosen.iter().map(|i| pool[*i].clone()).collect();
                        Batch::new(*author, sequence, &submissions)
                    }
                    None => Batch::raw(*author, sequence, Bytes::from_static(b"rubbish")),
                }
            })
            .collect();
        (delivery(index, time, &batches).as_ref().clone(), batches)
    });
    commits.collect()
}

fn step(state: &mut State, rules: &Rules, delivery: &Delivery, batches: &[Batch]) -> (Changes, Vec<BatchOutcome>) {
    let contents: Vec<_> = batches.iter().map(|batch| Prepared::new(batch.payload.clone(), rules)).collect();
    apply(state, rules, delivery, &contents)
}

/// Remembers everything for ever and looks through all of it.
#[derive(Default)]
struct Model {
    log: Vec<Bytes>,
    spent: Vec<(SubmissionId, u64, Spent)>,
}

impl Model {
    fn submission(&mut self, submission: &Submission, batch: &Batch, index: u64, time: u64) -> Outcome {
        let first_position = self.log.len() as u64;
        if submission.largest() > 16 || submission.bytes.len() > 24 {
            return Outcome::TooLarge;
        }
        if let Some(id) = submission.id(committee().chain_id()) {
            let deadline = submission.ticket.unwrap().deadline_ms;
            let author = batch.key().author;
            let alive = self.spent.iter().filter(|(_, d, spent)| *d >= time && spent.batch.author == author).count();
            if time > deadline {
                return Outcome::Expired;
            } else if deadline > time + 1_000 {
                return Outcome::DeadlineTooFar;
            } else if let Some((_, _, spent)) = self.spent.iter().find(|(known, ..)| *known == id) {
                return Outcome::Already(*spent);
            } else if alive >= 2 {
                return Outcome::TooManyLiveIds;
            }
            self.spent.push((id, deadline, Spent { commit: CommitIndex(index), first_position, batch: batch.key() }));
        }
        let mut start = 0;
        for end in &submission.ends {
            self.log.push(submission.bytes.slice(start..*end as usize));
            start = *end as usize;
        }
        Outcome::Committed { first_position }
    }
}

/// Everything that two nodes must agree on.
fn facts(state: &State) -> (record::AppliedRecord, Vec<(SubmissionId, u64, Spent)>, Vec<u64>) {
    let mut ids: Vec<_> = state.ids.iter().collect();
    ids.sort_by_key(|(id, ..)| *id);
    (state.record(), ids, (0..4).map(|author| state.ids.count(AuthorityIndex(author))).collect())
}

async fn write(store: &Store, changes: &Changes) {
    let mut write = WriteBatch::new();
    record::put(&mut write, &changes.record, &changes.refused, &changes.spent, &changes.applied);
    store.write_batch(write, Durability::Buffered).await.unwrap();
}

/// A node that is restarted after some of the commits.
async fn restarted(deliveries: &[(Delivery, Vec<Batch>)], restarts: &[bool]) -> Vec<State> {
    let (store, committee) = (store(), committee());
    let rules = Rules::of(&committee);
    let (mut state, mut after) = (State::default(), Vec::new());
    for (number, (delivery, batches)) in deliveries.iter().enumerate() {
        let (changes, _) = step(&mut state, &rules, delivery, batches);
        write(&store, &changes).await;
        let Found { state: found, .. } = load(&store, &committee).await.unwrap();
        assert_eq!(facts(&found), facts(&state));
        if restarts.get(number).copied().unwrap_or(false) {
            state = found;
            after.push(load(&store, &committee).await.unwrap().state);
        } else {
            after.push(found);
        }
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_rules_agree_with_a_model_that_never_forgets(plan in plan()) {
        let rules = Rules::of(&committee());
        let (mut state, mut model, pool) = (State::default(), Model::default(), pool());
        for ((delivery, batches), (_, chosen)) in deliveries(&plan).iter().zip(&plan) {
            let first = state.next_position;
            prop_assert_eq!(first, model.log.len() as u64, "positions are dense");
            let (changes, outcomes) = step(&mut state, &rules, delivery, batches);
            let (index, time) = (delivery.commit.index.0, delivery.commit.timestamp_ms);
            for ((batch, (_, chosen)), outcome) in batches.iter().zip(chosen).zip(outcomes) {
                let expected = match chosen {
                    None => BatchOutcome::Malformed,
                    Some(chosen) => BatchOutcome::Decoded(
                        chosen.iter().map(|i| model.submission(&pool[*i], batch, index, time)).collect(),
                    ),
                };
                prop_assert_eq!(outcome, expected);
            }
            prop_assert_eq!(changes.record.first_position, first);
            prop_assert_eq!(changes.record.transactions, state.next_position - first);
            let applied: u64 = changes.record.batches.iter().map(|batch| u64::from(batch.applied)).sum();
            prop_assert_eq!(applied, changes.record.transactions);
            let alive: Vec<_> = model.spent.iter().filter(|(_, deadline, _)| *deadline >= time).collect();
            prop_assert_eq!(state.ids.len(), alive.len() as u64, "what cannot be applied any more is forgotten");
        }
    }

    #[test]
    fn nodes_agree_whenever_they_are_restarted(plan in plan(), restarts in prop::collection::vec(any::<bool>(), 14)) {
        let deliveries = deliveries(&plan);
        let rules = Rules::of(&committee());
        let mut state = State::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let other = runtime.block_on(restarted(&deliveries, &restarts));
        for ((delivery, batches), other) in deliveries.iter().zip(&other) {
            step(&mut state, &rules, delivery, batches);
            prop_assert_eq!(facts(&state), facts(other));
        }
    }

    /// A client sends one submission again and again, through whatever node it reaches; liars copy it into their own batches;
    /// a node goes down before it has written what it applied, comes back and gets it again.
    #[test]
    fn one_submission_through_many_nodes_with_copies_and_crashes_is_in_the_log_once(
        attempts in prop::collection::vec((1u64..=8, 0u16..4, any::<bool>()), 1..16),
        crashes in prop::collection::vec(any::<bool>(), 8),
    ) {
        const DEADLINE: u64 = 550;
        let (rules, submission) = (Rules::of(&committee()), ticketed(1, DEADLINE, &["pay", "5"]));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut steady, mut crashing, disk) = (State::default(), State::default(), store());
        let (mut first, mut next, mut sequence) = (None, 0, 0);
        for index in 1..=8u64 {
            let time = index * 100;
            let here = attempts.iter().filter(|(commit, ..)| *commit == index);
            let batches: Vec<Batch> = here.map(|(_, author, alone)| {
                sequence += 1;
                let company = [plain(&["noise"]), submission.clone()];
                Batch::new(*author, sequence, if *alone { &company[1..] } else { &company[..] })
            }).collect();
            let delivery = delivery(index, time, &batches);
            let (_, outcomes) = step(&mut steady, &rules, &delivery, &batches);
            if crashes[index as usize - 1] {
                step(&mut crashing, &rules, &delivery, &batches);
                crashing = runtime.block_on(load(&disk, &committee())).unwrap().state;
            }
            let (again, same) = step(&mut crashing, &rules, &delivery, &batches);
            runtime.block_on(write(&disk, &again));
            prop_assert_eq!(&same, &outcomes, "who was down answers like who was not");
            for (batch, outcome) in batches.iter().zip(&outcomes) {
                let BatchOutcome::Decoded(outcomes) = outcome else { panic!("honest batches") };
                // The noise before it takes one position.
                next += outcomes.len() as u64 - 1;
                let expected = match (time > DEADLINE, first) {
                    (true, _) => Outcome::Expired,
                    (false, Some(spent)) => Outcome::Already(spent),
                    (false, None) => {
                        first = Some(Spent { commit: delivery.commit.index, first_position: next, batch: batch.key() });
                        next += 2;
                        Outcome::Committed { first_position: next - 2 }
                    }
                };
                prop_assert_eq!(outcomes.last(), Some(&expected));
            }
            prop_assert_eq!(steady.next_position, next, "nothing else is in the log");
        }
        let in_time = attempts.iter().any(|(commit, ..)| commit * 100 <= DEADLINE);
        prop_assert_eq!(first.is_some(), in_time, "applied if any copy came in time");
    }

    #[test]
    fn the_digest_tells_histories_apart(one in plan(), other in plan()) {
        let digest = |plan: &Plan| {
            let (rules, mut state) = (Rules::of(&committee()), State::default());
            let records = deliveries(plan).iter().map(|(delivery, batches)| {
                let changes = step(&mut state, &rules, delivery, batches).0;
                (changes.record.first_position, changes.record.batches, changes.refused)
            }).collect::<Vec<_>>();
            (state.digest, records)
        };
        let (one, other) = (digest(&one), digest(&other));
        prop_assert_eq!(one.0 == other.0, one.1 == other.1);
    }
}

#[test]
fn a_copy_in_another_batch_is_the_same_submission() {
    let rules = Rules::of(&committee());
    let mut state = State::default();
    let victim = ticketed(1, 500, &["pay 5"]);
    let liar = Batch::new(3, 1, std::slice::from_ref(&victim));
    let honest = Batch::new(0, 1, &[victim.clone(), plain(&["x"])]);
    let batches = [liar.clone(), honest];
    let (_, outcomes) = step(&mut state, &rules, &delivery(1, 10, &batches), &batches);
    let spent = Spent { commit: CommitIndex(1), first_position: 0, batch: liar.key() };
    assert_eq!(outcomes[0], BatchOutcome::Decoded(vec![Outcome::Committed { first_position: 0 }]));
    let honest = vec![Outcome::Already(spent), Outcome::Committed { first_position: 1 }];
    assert_eq!(outcomes[1], BatchOutcome::Decoded(honest), "a refused submission takes no position");
    assert_eq!(state.ids.count(AuthorityIndex(3)), 1, "the copier pays");

    // A retry through yet another node at the deadline, and one after it.
    let retry = [Batch::new(2, 1, std::slice::from_ref(&victim))];
    let (_, outcomes) = step(&mut state, &rules, &delivery(2, 500, &retry), &retry);
    assert_eq!(outcomes[0], BatchOutcome::Decoded(vec![Outcome::Already(spent)]));
    let late = [Batch::new(2, 2, &[victim])];
    let (_, outcomes) = step(&mut state, &rules, &delivery(3, 501, &late), &late);
    assert_eq!(outcomes[0], BatchOutcome::Decoded(vec![Outcome::Expired]));
    assert!(state.ids.is_empty());
    assert_eq!(state.next_position, 2);
}

#[tokio::test]
async fn an_id_may_live_exactly_as_long_as_the_rules_allow() {
    let (store, committee) = (store(), committee());
    let rules = Rules::of(&committee);
    let mut state = State::default();
    let longest = ticketed(1, 1_010, &["x"]);
    let batches = [Batch::new(0, 1, &[longest.clone(), ticketed(2, 1_011, &["y"])])];
    let (changes, outcomes) = step(&mut state, &rules, &delivery(1, 10, &batches), &batches);
    let expected = vec![Outcome::Committed { first_position: 0 }, Outcome::DeadlineTooFar];
    assert_eq!(outcomes[0], BatchOutcome::Decoded(expected));
    write(&store, &changes).await;

    // At its last moment it is known, also to a node that has just started.
    let (changes, _) = step(&mut state, &rules, &delivery(2, 1_010, &[]), &[]);
    write(&store, &changes).await;
    let mut restarted = load(&store, &committee).await.unwrap().state;
    let retry = [Batch::new(1, 1, &[longest])];
    for state in [&mut state, &mut restarted] {
        assert_eq!(state.ids.len(), 1);
        let contents = [Prepared::new(retry[0].payload.clone(), &rules)];
        let same_time = delivery(3, 1_010, &retry);
        let (_, outcomes) = apply(state, &rules, &same_time, &contents);
        assert!(matches!(&outcomes[0], BatchOutcome::Decoded(one) if matches!(one[0], Outcome::Already(_))));
    }
}
