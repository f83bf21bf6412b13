//! Random operations on both engines agree with two ordered maps and a list of waiters.

mod support;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use rorqual_store::{Column, Direction, Durability, Options, StoreError, WriteBatch, verify};
use tokio::task::JoinHandle;

use support::{LARGE, SMALL, Subject, soon, until};

type Key = Vec<u8>;

#[derive(Clone, Debug)]
enum Change {
    Put(usize, Key, Bytes),
    Delete(usize, Key),
    DeleteRange(usize, Key, Key),
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Change>, bool),
    Read(usize, Key),
    Iterate { column: usize, from: Key, to: Key, limit: usize, max_bytes: usize, backward: bool },
    StartWaiter(usize, Key),
    DropWaiter(usize),
    Reopen,
}

const COLUMNS: [Column; 2] = [SMALL, LARGE];

fn key() -> impl Strategy<Value = Key> {
    vec(prop_oneof![Just(0_u8), Just(1), Just(0x7f), Just(0xff)], 0..3)
}

fn value() -> impl Strategy<Value = Bytes> {
    // Around the size from which values go to segments, and large enough to fill segments.
    let length =
        prop_oneof![3 => 0_usize..20, 3 => 4090_usize..4110, 2 => 8000_usize..9000, 2 => 100_000_usize..400_000];
    (length, any::<u8>()).prop_map(|(length, fill)| Bytes::from(vec![fill; length]))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (0_usize..2, key(), value()).prop_map(|(column, key, value)| Change::Put(column, key, value)),
        2 => (0_usize..2, key()).prop_map(|(column, key)| Change::Delete(column, key)),
        1 => (0_usize..2, key(), key()).prop_map(|(column, from, to)| Change::DeleteRange(column, from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let iterate = (0_usize..2, key(), key(), 0_usize..6, 0_usize..500_000, any::<bool>()).prop_map(
        |(column, from, to, limit, max_bytes, backward)| Step::Iterate { column, from, to, limit, max_bytes, backward },
    );
    prop_oneof![
        12 => (vec(change(), 0..5), any::<bool>()).prop_map(|(changes, synced)| Step::Batch(changes, synced)),
        8 => (0_usize..2, key()).prop_map(|(column, key)| Step::Read(column, key)),
        6 => iterate,
        5 => (0_usize..2, key()).prop_map(|(column, key)| Step::StartWaiter(column, key)),
        2 => any::<usize>().prop_map(Step::DropWaiter),
        1 => Just(Step::Reopen),
    ]
}

struct Waiter {
    column: usize,
    key: Key,
    task: JoinHandle<Result<Bytes, StoreError>>,
}

#[derive(Default)]
struct Model {
    maps: [BTreeMap<Key, Bytes>; 2],
    waiters: Vec<Waiter>,
}

fn bounds<'a>(from: &'a Key, to: &'a Key) -> Option<(Bound<&'a Key>, Bound<&'a Key>)> {
    let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
    (to.is_empty() || from < to).then_some((Bound::Included(from), end))
}

impl Model {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Put(column, key, value) => drop(self.maps[*column].insert(key.clone(), value.clone())),
            Change::Delete(column, key) => drop(self.maps[*column].remove(key)),
            Change::DeleteRange(column, from, to) => {
                if let Some(range) = bounds(from, to) {
                    let gone: Vec<Key> =
                        self.maps[*column].range::<Key, _>(range).map(|(key, _)| key.clone()).collect();
                    gone.iter().for_each(|key| drop(self.maps[*column].remove(key)));
                }
            }
        }
    }

    fn iterate(
        &self,
        column: usize,
        from: &Key,
        to: &Key,
        limit: usize,
        max_bytes: usize,
        backward: bool,
    ) -> Vec<(Bytes, Bytes)> {
        let Some(range) = bounds(from, to) else { return Vec::new() };
        let mut entries: Vec<(&Key, &Bytes)> = self.maps[column].range::<Key, _>(range).collect();
        if backward {
            entries.reverse();
        }
        let mut bytes = 0;
        let mut page = Vec::new();
        for (key, value) in entries.into_iter().take(limit) {
            bytes += key.len() + value.len();
            if !page.is_empty() && bytes > max_bytes {
                break;
            }
            page.push((Bytes::from(key.clone()), value.clone()));
        }
        page
    }
}

fn batch_of(changes: &[Change]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for change in changes.iter().cloned() {
        match change {
            Change::Put(column, key, value) => batch.put(COLUMNS[column], key, value),
            Change::Delete(column, key) => batch.delete(COLUMNS[column], key),
            Change::DeleteRange(column, from, to) => batch.delete_range(COLUMNS[column], from, to),
        }
    }
    batch
}

/// Applies a batch; every waiter of a put key gets the first value that is put there.
async fn apply(subject: &Subject, model: &mut Model, changes: &[Change], synced: bool) {
    let durability = if synced { Durability::Synced } else { Durability::Buffered };
    soon(subject.store.write_batch(batch_of(changes), durability)).await.expect("a write");
    changes.iter().for_each(|change| model.change(change));
    let waiters = std::mem::take(&mut model.waiters);
    for waiter in waiters {
        let put = changes.iter().find_map(|change| match change {
            Change::Put(column, key, value) if *column == waiter.column && *key == waiter.key => Some(value),
            _ => None,
        });
        match put {
            Some(value) => assert_eq!(soon(waiter.task).await.expect("the task"), Ok(value.clone())),
            None => model.waiters.push(waiter),
        }
    }
    assert!(model.waiters.iter().all(|waiter| !waiter.task.is_finished()));
}

async fn start_waiter(subject: &Subject, model: &mut Model, column: usize, key: &Key) {
    let (store, wanted) = (subject.store.clone(), key.clone());
    let task = tokio::spawn(async move { store.notify_read(COLUMNS[column], wanted).await });
    match model.maps[column].get(key) {
        Some(value) => assert_eq!(soon(task).await.expect("the task"), Ok(value.clone())),
        None => {
            model.waiters.push(Waiter { column, key: key.clone(), task });
            until(|| subject.store.statistics().waiters == model.waiters.len()).await;
        }
    }
}

async fn take(subject: &mut Subject, model: &mut Model, step: &Step) {
    match step {
        Step::Batch(changes, synced) => apply(subject, model, changes, *synced).await,
        Step::Read(column, key) => {
            let found = soon(subject.store.read(COLUMNS[*column], key)).await;
            assert_eq!(found, Ok(model.maps[*column].get(key).cloned()));
        }
        Step::Iterate { column, from, to, limit, max_bytes, backward } => {
            let direction = if *backward { Direction::Backward } else { Direction::Forward };
            let found = soon(subject.store.iterate(COLUMNS[*column], from, to, *limit, *max_bytes, direction)).await;
            assert_eq!(found, Ok(model.iterate(*column, from, to, *limit, *max_bytes, *backward)));
        }
        Step::StartWaiter(column, key) => start_waiter(subject, model, *column, key).await,
        Step::DropWaiter(pick) if !model.waiters.is_empty() => {
            let waiter = model.waiters.swap_remove(pick % model.waiters.len());
            waiter.task.abort();
            assert!(soon(waiter.task).await.is_err());
        }
        Step::DropWaiter(_) => {}
        Step::Reopen => {
            if subject.reopen().await {
                for waiter in model.waiters.drain(..) {
                    assert_eq!(soon(waiter.task).await.expect("the task"), Err(StoreError::Closed));
                }
            }
        }
    }
    assert_eq!(subject.store.statistics().waiters, model.waiters.len(), "a waiter was left behind");
}

fn run(mut subject: Subject, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut model = Model::default();
        for step in steps {
            take(&mut subject, &mut model, step).await;
        }
        for (column, name) in COLUMNS.into_iter().enumerate() {
            let all = soon(subject.store.iterate(name, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await;
            let (from, to) = (Key::new(), Key::new());
            assert_eq!(all, Ok(model.iterate(column, &from, &to, usize::MAX, usize::MAX, false)));
        }
        soon(subject.store.shutdown()).await.expect("a clean shutdown");
        if let Some(path) = subject.path() {
            let report = verify(&path, &support::options().columns).expect("a report");
            assert!(report.is_intact(), "{report:?}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn memory_agrees_with_the_model(steps in vec(step(), 1..60)) {
        run(Subject::memory(), &steps);
    }
}

proptest! {
    // A case opens a database on disk at least once.
    #![proptest_config(ProptestConfig { cases: 50, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn rocks_agrees_with_the_model(steps in vec(step(), 1..60)) {
        run(Subject::rocks(), &steps);
    }

    #[test]
    fn rocks_through_the_page_cache_agrees_with_the_model(steps in vec(step(), 1..60)) {
        run(Subject::rocks_with(Options { direct_io: false, ..support::options() }), &steps);
    }
}
