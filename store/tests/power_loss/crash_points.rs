//! A store under random writes, the power cut at a random operation of the filesystem, and what the next start shows.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rorqual_store::{Completion, Direction, Durability, Options, Store, StoreError};

use crate::history::{History, Shown};
use crate::lossy::{Loss, Mounted};
use crate::mounted;
use crate::support::{self, LARGE, SMALL, soon};

const CAPACITY: u64 = 1 << 30;
/// Points on one database before a new one is made.
const POINTS_OF_A_DATABASE: u64 = 20;
/// Runs a single database again.
const SEED: &str = "RORQUAL_TEST_SEED";

/// Small enough that flushes, compactions and new logs come up between two cuts.
fn options() -> Options {
    Options { write_buffer_bytes: 1 << 20, max_wal_bytes: 2 << 20, ..support::options() }
}

/// What happened over all points: a run in which nothing could go wrong proves nothing.
#[derive(Debug, Default)]
struct Coverage {
    points: u64,
    cuts_while_opening: u64,
    cuts_while_writing: u64,
    cuts_after_shutdown: u64,
    failed_syncs: u64,
    promised: u64,
    /// Points at which batches were lost that nobody had been promised.
    lost: u64,
    /// Points at which such batches survived.
    lucky: u64,
    buffered_writes: u64,
    direct_writes: u64,
    loss: Loss,
}

impl Coverage {
    fn assert_enough(&self) {
        println!("{self:?}");
        println!(
            "payload path: {}",
            if self.direct_writes > 0 { "O_DIRECT" } else { "page cache only, no write came with O_DIRECT" }
        );
        let tenth = self.points / 10;
        assert!(self.cuts_while_writing >= tenth && self.cuts_while_opening > 0 && self.cuts_after_shutdown > 0);
        assert!(self.promised > self.points && self.lost >= tenth && self.lucky > 0);
        assert!(self.points < 200 || self.failed_syncs > 0);
        assert!(self.loss.writes_lost > self.points && self.loss.writes_torn > tenth && self.loss.names_lost > 0);
    }
}

/// One database and its history.
struct Run {
    seed: u64,
    random: ChaCha8Rng,
    lossy: Mounted,
    history: History,
}

/// How the writing of one point ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The power went at an operation of the filesystem.
    Ordered,
    /// It goes when the test says so.
    Now,
    /// It goes after a clean end.
    Clean,
    /// A sync failed.
    Failed,
}

impl Run {
    fn fail(&self, what: &str) -> ! {
        panic!("seed {}, {}: {what}; run it again with {SEED}={}", self.seed, self.history.last(), self.seed)
    }

    fn powered(&self) -> bool {
        self.lossy.disk().powered()
    }

    fn failed_syncs(&self) -> u64 {
        self.lossy.disk().counters.failed_syncs
    }

    /// The power goes, if it has not, and comes back.
    fn power_cycle(&mut self, coverage: &mut Coverage) {
        let seed = self.random.random();
        let loss = self.lossy.disk().power_on(seed);
        coverage.loss.add(&loss);
    }

    /// Opens the store and reads it whole, over as many cuts as hit the opening itself.
    async fn start(&mut self, coverage: &mut Coverage) -> Store {
        loop {
            if self.random.random_range(0..4) == 0 {
                let operations = self.random.random_range(0..60);
                self.lossy.disk().faults.cut_after(operations);
            }
            match self.try_start().await {
                Ok((store, shown)) => {
                    self.check(&shown, coverage);
                    return store;
                }
                Err(_) if !self.powered() => {
                    coverage.cuts_while_opening += 1;
                    self.power_cycle(coverage);
                }
                Err(error) => self.fail(&format!("the store does not open after a cut: {error}")),
            }
        }
    }

    async fn try_start(&self) -> Result<(Store, Shown), StoreError> {
        let store = Store::open(&self.lossy.path().join("db"), options())?;
        match dump(&store).await {
            Ok(shown) => Ok((store, shown)),
            Err(error) => {
                let _ = soon(store.shutdown()).await;
                Err(error)
            }
        }
    }

    fn check(&mut self, shown: &Shown, coverage: &mut Coverage) {
        let (promised, last) = (self.history.promised(), self.history.last());
        match self.history.restart(shown) {
            Ok(number) => {
                coverage.lost += u64::from(number < last);
                coverage.lucky += u64::from(number > promised);
            }
            Err(what) => self.fail(&what),
        }
    }

    /// Writes until the power goes or it is time for that.
    async fn write(&mut self, store: &Store, coverage: &mut Coverage) -> End {
        let failed_syncs = self.failed_syncs();
        match self.random.random_range(0..10) {
            0 => self.lossy.disk().faults.fail_sync(self.random.random_range(1..8)),
            1..7 => self.lossy.disk().faults.cut_after(self.random.random_range(0..400)),
            _ => {}
        }
        let mut waiting: Vec<(u64, Durability, Completion)> = Vec::new();
        let mut failed = false;
        for _ in 0..self.random.random_range(0..120) {
            let (number, batch) = self.history.next(&mut self.random);
            let durability =
                if self.random.random_range(0..3) == 0 { Durability::Synced } else { Durability::Buffered };
            waiting.push((number, durability, store.write_batch(batch, durability)));
            if self.random.random_range(0..3) == 0 {
                failed |= self.settle(&mut waiting, coverage).await.is_err();
            }
            if failed || !self.powered() {
                break;
            }
            if waiting.is_empty() && self.random.random_range(0..8) == 0 {
                self.look(store).await;
            }
        }
        let end = if !self.powered() {
            End::Ordered
        } else if self.failed_syncs() > failed_syncs {
            // It may have been one that no write waited for.
            End::Failed
        } else if !failed && self.random.random_range(0..4) == 0 {
            End::Clean
        } else {
            End::Now
        };
        if end == End::Clean {
            let settled = self.settle(&mut waiting, coverage).await;
            if settled.is_ok() && soon(store.shutdown()).await.is_ok() {
                self.history.promise(self.history.last());
            }
        }
        if failed && end != End::Ordered {
            self.refused_for_good(store, failed_syncs).await;
        }
        self.lossy.disk().cut();
        let _ = self.settle(&mut waiting, coverage).await;
        end
    }

    /// Takes all answers; an error if one of them is one.
    async fn settle(
        &mut self,
        waiting: &mut Vec<(u64, Durability, Completion)>,
        coverage: &mut Coverage,
    ) -> Result<(), StoreError> {
        let mut result = Ok(());
        for (number, durability, completion) in waiting.drain(..) {
            match soon(completion).await {
                Ok(()) if durability == Durability::Synced => {
                    coverage.promised += 1;
                    self.history.promise(number);
                }
                Ok(()) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// With nothing in flight a running store shows the last state.
    async fn look(&self, store: &Store) {
        match dump(store).await {
            Ok(shown) => self.history.running(&shown).unwrap_or_else(|what| self.fail(&format!("running, {what}"))),
            Err(_) if !self.powered() => {}
            Err(error) => self.fail(&format!("a running store cannot be read: {error}")),
        }
    }

    /// After a failed sync nothing is taken any more.
    async fn refused_for_good(&self, store: &Store, failed_syncs: u64) {
        if self.failed_syncs() == failed_syncs && self.powered() {
            self.fail("a write failed, although the filesystem did everything it was asked");
        }
        if soon(store.write(SMALL, "late", "late")).await.is_ok() {
            self.fail("a write was taken after a failed sync");
        }
    }

    async fn point(&mut self, coverage: &mut Coverage) {
        let store = self.start(coverage).await;
        let end = self.write(&store, coverage).await;
        // Whatever it answers: the power is off.
        let _ = soon(store.shutdown()).await;
        drop(store);
        match end {
            End::Ordered | End::Now => coverage.cuts_while_writing += 1,
            End::Clean => coverage.cuts_after_shutdown += 1,
            End::Failed => coverage.failed_syncs += 1,
        }
        coverage.points += 1;
        self.power_cycle(coverage);
    }
}

async fn dump(store: &Store) -> Result<Shown, StoreError> {
    let small = soon(store.iterate(SMALL, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await?;
    let large = soon(store.iterate(LARGE, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await?;
    Ok([small, large])
}

fn database(seed: u64, points: u64, coverage: &mut Coverage) -> bool {
    let Some((_folder, lossy)) = mounted(CAPACITY) else { return false };
    let random = ChaCha8Rng::seed_from_u64(seed);
    let mut run = Run { seed, random, lossy, history: History::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for _ in 0..points {
            run.point(coverage).await;
        }
        let store = run.start(coverage).await;
        let _ = soon(store.shutdown()).await;
    });
    let counters = run.lossy.disk().counters;
    coverage.buffered_writes += counters.buffered_writes;
    coverage.direct_writes += counters.direct_writes;
    true
}

fn points(count: u64, first_seed: u64) {
    if let Ok(seed) = std::env::var(SEED) {
        let seed = seed.parse().expect("RORQUAL_TEST_SEED is a number");
        database(seed, POINTS_OF_A_DATABASE, &mut Coverage::default());
        return;
    }
    let mut coverage = Coverage::default();
    while coverage.points < count {
        let seed = first_seed + coverage.points / POINTS_OF_A_DATABASE;
        let left = count - coverage.points;
        if !database(seed, left.min(POINTS_OF_A_DATABASE), &mut coverage) {
            return;
        }
    }
    coverage.assert_enough();
}

#[test]
fn what_40_cuts_leave_is_what_the_contract_allows() {
    points(40, 1);
}

#[test]
#[ignore = "takes minutes: scripts/test.sh --long"]
fn what_1000_cuts_leave_is_what_the_contract_allows() {
    points(1_000, 1_000);
}
