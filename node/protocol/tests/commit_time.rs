//! Commit time against every clock that lies or is corrected: it ascends, it never freezes, and nobody pumps it.

#[allow(dead_code, reason = "other tests shuffle too")]
mod random;

use random::{Random, seeds, with_seed};
use rorqual_protocol::commit::time::CommitTime;

const HOUR: u64 = 3_600_000;
const START: u64 = 1_700_000_000_000;

/// Runs medians through the rule and looks at what holds whatever they are.
fn times(medians: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let (mut time, mut last, mut found) = (CommitTime::default(), 0, Vec::new());
    for median in medians {
        let foretold = time.next_ms(median);
        let at = time.advance(median);
        assert_eq!((foretold, time.last_ms()), (at, at));
        assert!(at > last, "{at} after {last}");
        assert!(at >= median, "{at} for a median of {median}");
        last = at;
        found.push((median, at));
    }
    found
}

#[test]
fn without_a_step_back_the_time_is_the_median() {
    for (median, time) in times((0..1_000).map(|i| START + 17 * i)) {
        assert_eq!(median, time);
    }
}

#[test]
fn the_rule_to_the_letter() {
    let mut time = CommitTime::default();
    let steps = [
        (1_000, 1_000, "the median is the greatest"),
        (400, 1_001, "one more than before; from here on the reference is (1001, 400)"),
        (500, 1_091, "nine tenths of the hundred since"),
        (505, 1_095, "nine tenths rounded down"),
        (506, 1_096, "one more than before is more than nine tenths of one"),
        (506, 1_097, "the same median"),
        (300, 1_098, "the median of the reference falls to 300, its time stays"),
        (400, 1_099, "and nine tenths of a hundred lead only to 1091"),
        (500, 1_181, "nine tenths of two hundred"),
        (1_181, 1_793, "not caught up"),
        (7_300, 7_301, "seven thousand later at 1001 + 6300"),
        (7_310, 7_310, "caught up: the median is the greatest again, and there is no reference any more"),
        (7_400, 7_400, "a stale one would say 7391 here and no more"),
        (7_390, 7_401, "another reference: (7401, 7390)"),
        (7_400, 7_410, "nine tenths of ten"),
        (7_411, 7_419, "nine tenths of twenty-one, rounded down"),
        (7_500, 7_500, "nine tenths of 110 and the median are 7500 both: caught up"),
        (7_600, 7_600, "no reference"),
    ];
    for (median, expected, why) in steps {
        assert_eq!(time.advance(median), expected, "{median}: {why}");
    }
}

#[test]
fn nothing_overflows() {
    let most = u64::MAX;
    let mut time = CommitTime::default();
    for median in [0, most, 0, most, most - 1, 1, most, most] {
        assert!(time.advance(median) >= median);
    }
    let mut time = CommitTime::default();
    time.advance(most - 10);
    time.advance(0);
    assert_eq!(time.advance(most - 11), most, "it stays at the end of the range");
}

/// Honest clocks that ascend, by a median between the slowest and the fastest of them: what a liar may choose.
struct Clocks {
    slowest: u64,
    spread: u64,
}

/// Drives commit time with medians `slowest + choose(commit)`; returns the most by which it was ahead of the slowest clock.
fn most_ahead(
    clocks: &mut Clocks,
    commits: u64,
    mut step: impl FnMut() -> u64,
    mut choose: impl FnMut(u64) -> u64,
) -> u64 {
    let (mut time, mut most) = (CommitTime::default(), 0);
    for commit in 0..commits {
        clocks.slowest += step();
        let at = time.advance(clocks.slowest + choose(commit).min(clocks.spread));
        most = most.max(at - clocks.slowest);
    }
    most
}

#[test]
fn a_liar_gains_less_than_three_times_the_spread_however_it_swings() {
    for seed in seeds(60) {
        with_seed(seed, || {
            let mut random = Random::new(seed);
            let spread = *random.pick(&[20, 300, 5_000, 10 * HOUR / 10]);
            let pace = *random.pick(&[1, 2, 10, 200]);
            let period = random.between(2, 400);
            let pattern = seed % 6;
            let mut clocks = Clocks { slowest: START, spread };
            let mut of_steps = Random::new(!seed);
            let step = || of_steps.between(1, pace);
            let choose = |commit: u64| {
                let at = commit % period;
                match pattern {
                    0 => spread * (commit % 2),
                    1 => random.below(spread + 1),
                    // A saw-tooth up, one down, and swings whose low end falls.
                    2 => spread * at / period,
                    3 => spread - spread * at / period,
                    4 if commit.is_multiple_of(2) => spread,
                    4 => spread - spread * at / period,
                    _ if random.chance(3) => spread,
                    _ => random.below(spread / 2),
                }
            };
            let most = most_ahead(&mut clocks, 20_000, step, choose);
            assert!(most < 3 * spread, "pattern {pattern}: {most} ms ahead of the slowest clock, a spread of {spread}");
        });
    }
}

#[test]
fn an_hour_ahead_and_back_time_goes_on_at_nine_tenths_until_medians_have_caught_up() {
    // A commit every 50 ms; all clocks are an hour ahead for ten minutes.
    let medians = |commit: u64| START + 50 * commit + if (12_000..24_000).contains(&commit) { HOUR } else { 0 };
    let found = times((0..1_000_000).map(medians));
    let (_, back) = found[24_000];
    let caught_up =
        found.iter().skip(24_000).position(|(median, time)| median == time).expect("it is caught up") as u64;
    // Ten hours at nine tenths of the pace, within a second.
    assert!((caught_up * 50).abs_diff(10 * HOUR) < 1_000, "caught up after {} ms", caught_up * 50);
    for (passed, (_, time)) in found[24_000..24_000 + caught_up as usize].iter().enumerate() {
        let due = back + passed as u64 * 45;
        assert!(time.abs_diff(due) <= 1, "{passed} commits later at {time}, not at {due}");
    }
    assert!(
        found[24_000 + caught_up as usize..].iter().all(|(median, time)| median == time),
        "and then the medians count"
    );
}

#[test]
fn whatever_the_medians_did_before_time_goes_on_with_them() {
    for seed in seeds(40) {
        with_seed(seed, || {
            let mut random = Random::new(seed);
            let mut time = CommitTime::default();
            for _ in 0..random.between(1, 300) {
                time.advance(START + random.below(HOUR));
            }
            // From here on all clocks are right. Time stands until they are past what they said last, and no longer.
            let mut now = START + HOUR;
            let mut last = time.advance(now);
            while last != now {
                now += 100;
                let at = time.advance(now);
                assert!(at - last >= 90 || at == now, "only {} of 90 ms in 100 ms", at - last);
                last = at;
                assert!(now < START + 40 * HOUR, "the medians never catch up");
            }
        });
    }
}

#[test]
fn a_second_step_back_costs_no_more_than_what_had_passed_since_the_first() {
    // A hundred commits two hours ahead, a hundred an hour ahead, then right.
    let found = times((0..500u64).map(|i| 10 * i + START + [2 * HOUR, HOUR, 0, 0, 0][i as usize / 100]));
    let paces: Vec<u64> = found.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert!(paces[100..199].iter().all(|pace| *pace == 9), "{paces:?}");
    assert!(paces[199..299].iter().all(|pace| *pace == 1), "{paces:?}");
    assert!(paces[315..].iter().all(|pace| *pace == 9), "{paces:?}");
}

/// The price of the bound on gains: what a swing up has added is waited for.
#[test]
fn after_swings_time_stands_still_for_no_longer_than_their_span() {
    for seed in seeds(60) {
        with_seed(seed, || {
            let mut random = Random::new(seed);
            let span = *random.pick(&[50, 1_000, HOUR]);
            let (mut time, mut now) = (CommitTime::default(), START);
            for _ in 0..random.between(2, 300) {
                now += random.between(1, 50);
                let within = random.below(span + 1);
                time.advance(now + *random.pick(&[0, span, within]));
            }
            let (stood, last) = (now, time.last_ms());
            // One more a commit is no progress worth the name.
            let mut commits = 0;
            while time.last_ms() <= last + commits {
                (now, commits) = (now + 1_000, commits + 1);
                time.advance(now);
            }
            let bound = span + span / 100 + 20_000;
            assert!(now - stood <= bound, "stood still for {} ms after swings within {span}", now - stood);
        });
    }
}
