//! What commits follow from a DAG: worked examples, and random DAGs against a second, naive committer.

mod drawing;
mod members;
mod observer;
mod random;
mod reference;
mod weaving;

use std::collections::BTreeSet;
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee, ProtocolParameters};
use rorqual_protocol::types::{Round, VerifiedBlock};

use drawing::Drawing;
use observer::Observer;
use random::Random;
use reference::NaiveCommit;
use weaving::Pattern;

/// `n` members of equal weight and one of nearly none, who watches and whose leader slots are always empty.
fn committee_with_observer(n: usize, protocol: ProtocolParameters) -> (Arc<Committee>, AuthorityIndex) {
    committee_of(vec![1000; n], protocol)
}

/// Members of these weights and the one who watches.
fn committee_of(mut stakes: Vec<u64>, protocol: ProtocolParameters) -> (Arc<Committee>, AuthorityIndex) {
    let observer = AuthorityIndex(stakes.len() as u16);
    stakes.push(1);
    (members::committee(&stakes, protocol), observer)
}

fn protocol(random: &mut Random) -> ProtocolParameters {
    ProtocolParameters {
        leaders_per_round: random.between(1, 2) as u32,
        gc_depth: *random.pick(&[5, 8, 20, 600]),
        replay_window: *random.pick(&[8, 64, 16_384]),
        sequence_ahead: 4,
        ..ProtocolParameters::default()
    }
}

/// The commits of a node to which exactly these blocks were given.
fn expected(committee: &Committee, given: &[VerifiedBlock]) -> Vec<NaiveCommit> {
    let mut gc_round = Round(0);
    loop {
        // What can be linked depends on what is garbage, and that on what was committed.
        let commits = reference::commits(committee, &reference::linkable(given, gc_round));
        let after = reference::gc_round(committee, &commits);
        if after == gc_round {
            return commits;
        }
        gc_round = after;
    }
}

/// Gives blocks in a random order, some twice; after every block the commits are a prefix of `full`, and after some of them
/// exactly what the naive committer says. Returns how many views were compared.
fn compare(
    committee: &Arc<Committee>,
    me: AuthorityIndex,
    blocks: &[VerifiedBlock],
    full: &[NaiveCommit],
    random: &mut Random,
) -> u64 {
    let mut order = blocks.to_vec();
    // Sometimes nearly in order, as links deliver; sometimes anything at all.
    let window = *random.pick(&[4, 30, 1000]);
    for start in (0..order.len()).step_by(window) {
        let end = order.len().min(start + window);
        random.shuffle(&mut order[start..end]);
    }
    let mut observer = Observer::new(committee, me, random.chance(50));
    let mut views = 0;
    for (i, block) in order.iter().enumerate() {
        let sender = *random.pick(&committee.authorities().take(committee.size() - 1).collect::<Vec<_>>());
        observer.take(sender, block);
        if random.chance(10) {
            observer.take(sender, random.pick(&order[..=i]));
        }
        let commits = observer.commits();
        assert_eq!(Some(commits), full.get(..commits.len()), "not a prefix after {} of {} blocks", i + 1, order.len());
        views += 1;
        if random.chance(12) {
            assert_eq!(commits, expected(committee, &order[..=i]), "wrong after {} of {} blocks", i + 1, order.len());
            views += 1;
        }
    }
    assert_eq!(observer.commits(), full, "wrong at the end");
    views + 1
}

fn random_dag(n: usize, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let (committee, me) = committee_with_observer(n, protocol(&mut random));
    compare_dag(&committee, me, &mut random)
}

/// The same with members of unequal stake, of whom at most F equivocate.
fn random_dag_of_unequal_stakes(n: usize, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let stakes = (0..n).map(|_| 1000 * random.between(1, 9)).collect();
    let (committee, me) = committee_of(stakes, protocol(&mut random));
    compare_dag(&committee, me, &mut random)
}

fn compare_dag(committee: &Arc<Committee>, me: AuthorityIndex, random: &mut Random) -> u64 {
    let rounds = random.between(8, 30);
    let mut pattern = Pattern::random(committee, rounds, random);
    while committee.stake_of(&pattern.equivocators) > committee.max_faulty() {
        let one = pattern.equivocators.iter().next();
        one.map(|one| pattern.equivocators.remove(one));
    }
    let blocks = weaving::weave(committee, &pattern, random);
    let full = expected(committee, &blocks);
    (0..3).map(|_| compare(committee, me, &blocks, &full, random)).sum()
}

fn random_dags(n: usize, dags: u64, compare: impl Fn(usize, u64) -> u64) {
    let mut views = 0;
    for seed in random::seeds(dags) {
        views += random::with_seed(seed, || compare(n, seed));
    }
    println!("n = {n}: {views} views compared");
}

#[test]
fn random_dags_of_four_commit_alike_in_any_order() {
    random_dags(4, 120, random_dag);
}

#[test]
fn random_dags_of_seven_commit_alike_in_any_order() {
    random_dags(7, 40, random_dag);
}

#[test]
fn random_dags_of_unequal_stakes_commit_alike_in_any_order() {
    random_dags(4, 60, random_dag_of_unequal_stakes);
    random_dags(6, 25, random_dag_of_unequal_stakes);
}

#[test]
fn random_dags_of_ten_commit_alike_in_any_order() {
    random_dags(10, 15, random_dag);
}

/// The rule itself: what follows from a part of the blocks is the beginning of what follows from all.
#[test]
fn causally_closed_views_commit_prefixes() {
    let (mut views, mut commits) = (0, 0);
    let mut seen = BTreeSet::new();
    for seed in random::seeds(60) {
        random::with_seed(seed, || {
            let mut random = Random::new(seed);
            let (committee, _) = committee_with_observer(*random.pick(&[4, 7]), protocol(&mut random));
            let pattern = Pattern::random(&committee, random.between(8, 30), &mut random);
            let blocks = weaving::weave(&committee, &pattern, &mut random);
            let full = expected(&committee, &blocks);
            seen.extend(reference::ways(&committee, &blocks));
            for _ in 0..10 {
                // Authors' blocks end at different rounds, not far apart.
                let about = random.between(3, pattern.rounds);
                let ends: Vec<u64> = committee.authorities().map(|_| about + random.below(4)).collect();
                let known: Vec<VerifiedBlock> =
                    blocks.iter().filter(|b| b.round().0 <= ends[b.author().usize()]).cloned().collect();
                let part = reference::commits(&committee, &reference::linkable(&known, Round(0)));
                assert_eq!(Some(&part[..]), full.get(..part.len()));
                (views, commits) = (views + 1, commits + part.len());
            }
        });
    }
    println!("{views} views with {commits} commits");
    assert_eq!(seen.len(), 5, "some kind of decision never happened: {seen:?}");
    assert!(commits > 3 * views, "the views are too small to say anything");
}

fn four() -> (Arc<Committee>, AuthorityIndex) {
    committee_with_observer(4, ProtocolParameters::default())
}

/// The leaders that commit, by name: according to the naive committer, and then at an observer.
fn assert_leaders(text: &str, leaders: &[&str]) {
    let (committee, me) = four();
    let drawing = Drawing::new(&committee, text);
    let commits = expected(&committee, drawing.blocks());
    let names: Vec<String> = commits.iter().flat_map(|c| &c.leaders).map(|l| drawing.name_of(l)).collect();
    assert_eq!(names, leaders);
    let mut observer = Observer::new(&committee, me, false);
    for block in drawing.blocks() {
        observer.take(block.author(), block);
    }
    assert_eq!(observer.commits(), commits);
}

// The leader of round r is member r mod 5, and the fifth member, E, never writes: A leads 5, B 1 and 6, C 2, D 3, nobody 4.

#[test]
fn a_leader_commits_with_the_third_certificate() {
    let rounds = "
        ABCD1: [ABCD0]
        ABCD2: [ABCD1]
        AB3:   [ABCD2]";
    assert_leaders(rounds, &[]);
    assert_leaders(&format!("{rounds}\n C3: [ABCD2]"), &["B1"]);
}

#[test]
fn a_silent_leader_is_skipped_by_three_blames() {
    let rounds = "
        ACD1: [ACD0]
        ACD2: [ACD1]
        ACD3: [ACD2]
        ACD4: [ACD3]";
    assert_leaders(rounds, &["C2"]);
}

#[test]
fn a_leader_with_too_few_votes_waits_for_its_anchor_and_is_skipped() {
    let rounds = "
        ABCD1: [ABCD0]
        A2:    [ACD1]
        B2:    [ABCD1]
        C2:    [ABCD1]
        ABC3:  [ABC2]
        ABC4:  [ABC3]
        ABC5:  [ABC4]
        ABC6:  [ABC5]";
    assert_leaders(rounds, &[]);
    let rounds = format!("{rounds}\n ABC7: [ABC6]");
    assert_leaders(&rounds, &["C2", "A5"]);
}

#[test]
fn an_anchor_that_reaches_a_certificate_commits_the_leader() {
    // Only D3 certifies B1, and the anchor A5 reaches it.
    let rounds = "
        ABCD1: [ABCD0]
        A2:    [ACD1]
        BCD2:  [ABCD1]
        ABC3:  [ABC2]
        D3:    [BCD2]
        ABCD4: [ABCD3]
        ABC5:  [ABCD4]
        ABC6:  [ABC5]
        ABC7:  [ABC6]";
    assert_leaders(rounds, &["B1", "C2", "D3", "A5"]);
}

#[test]
fn of_two_twins_only_the_certified_one_commits() {
    let rounds = "
        ACD1: [ABCD0]
        B1:   [ABCD0] @7
        B1':  [ABCD0] @8
        A2:   [A1 B1 C1 D1]
        B2:   [A1 B1 C1 D1]
        C2:   [A1 B1 C1 D1]
        D2:   [A1 B1' C1 D1]
        ABC3: [ABC2]
        D3:   [ABCD2]";
    assert_leaders(rounds, &["B1"]);
}

#[test]
fn of_two_twins_in_one_commit_only_the_first_delivers() {
    let (committee, me) = four();
    let text = "
        BCD1:  [ABCD0]
        A1:    [ABCD0] {1 2}
        A1':   [ABCD0] {2 3}
        BC2:   [A1 B1 C1 D1]
        D2:    [A1' B1 C1 D1]
        BCD3:  [BCD2]
        BCD4:  [BCD3]
        BCD5:  [BCD4]";
    let drawing = Drawing::new(&committee, text);
    let mut observer = Observer::new(&committee, me, true);
    for block in drawing.blocks() {
        observer.take(block.author(), block);
    }
    assert_eq!(observer.commits(), expected(&committee, drawing.blocks()));
    let blocks: Vec<_> = observer.commits().iter().flat_map(|c| &c.blocks).copied().collect();
    assert!(blocks.contains(&drawing.reference("A1")) && blocks.contains(&drawing.reference("A1'")));
    let delivered: usize = observer.commits().iter().map(|c| c.batches.len()).sum();
    assert_eq!(delivered, 2, "one twin's batches, never both");
}
