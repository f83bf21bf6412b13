//! What execution finds on disk at start: the very state it had written last.

use bytes::Bytes;
use rorqual_config::{Committee, Digest};
use rorqual_protocol::types::CommitIndex;
use rorqual_store::{Direction, Store};

use super::error::{ExecutionError, present, record, unusable};
use super::ids::LiveIds;
use super::prepare::Rules;
use super::record::{AppliedRecord, Begins, ExecutionRecord, SpentRow, parse_index};
use super::state::State;
use crate::schema::{self, Meta};

/// Rows read at once.
const PAGE: usize = 256;
/// Bytes read at once.
const PAGE_BYTES: usize = 8 << 20;
/// State digests handed out, at multiples of the checkpoint interval.
const DIGESTS: u64 = 3;

/// What the disk says.
pub struct Found {
    /// The state after the last applied commit.
    pub state: State,
    /// Where the log begins.
    pub begins: Begins,
    /// State digests after the last multiples of the checkpoint interval, ascending.
    pub digests: Vec<(CommitIndex, Digest)>,
}

/// Reads the state. Changes nothing.
///
/// # Errors
/// [`ExecutionError`] where the store fails or contradicts itself.
pub async fn load(store: &Store, committee: &Committee) -> Result<Found, ExecutionError> {
    let begins: Begins = meta(store, Meta::BEGINS).await?.unwrap_or_default();
    let Some(applied) = meta::<AppliedRecord>(store, Meta::APPLIED).await? else {
        let state = State::default();
        return Ok(Found { digests: vec![(state.index, state.digest)], state, begins });
    };
    let key = schema::index_key(applied.index);
    let last: ExecutionRecord = present(schema::EXECUTED, &key, store.read(schema::EXECUTED, &key).await?)?;
    if (last.digest, last.first_position + last.transactions) != (applied.digest, applied.next_position) {
        return Err(unusable(schema::EXECUTED, &key, "it is not the one that was applied last".into()));
    }
    let ids = live_ids(store, applied.time_ms, &Rules::of(committee)).await?;
    let digests = digests(store, applied.index, begins.index, committee.protocol().checkpoint_interval).await?;
    Ok(Found { state: State::new(&applied, ids), begins, digests })
}

async fn meta<T: bincode::Decode<()>>(store: &Store, name: &'static [u8]) -> Result<Option<T>, ExecutionError> {
    let value = store.read(schema::META, name).await?;
    value.map(|value| record(schema::META, name, &value)).transpose()
}

/// The ids alive at commit time `time_ms`. An id lives at most `max_lifetime` after the commit that applied it, so that older
/// commits need not be looked at.
async fn live_ids(store: &Store, time_ms: u64, rules: &Rules) -> Result<LiveIds, ExecutionError> {
    let (mut ids, mut end) = (LiveIds::default(), Bytes::new());
    loop {
        let page = store.iterate(schema::IDS, &[], &end, PAGE, PAGE_BYTES, Direction::Backward).await?;
        let Some((last, _)) = page.last() else { return Ok(ids) };
        end = last.clone();
        for (key, value) in &page {
            let row: SpentRow = record(schema::IDS, key, value)?;
            if row.time_ms.saturating_add(rules.max_lifetime_ms) < time_ms {
                return Ok(ids);
            }
            let index = parse_index(key).ok_or_else(|| unusable(schema::IDS, key, "it has no number".into()))?;
            insert(&mut ids, index, row, time_ms);
        }
    }
}

fn insert(ids: &mut LiveIds, index: CommitIndex, row: SpentRow, time_ms: u64) {
    for batch in row.batches {
        let mut alive = batch.ids.iter().filter(|spent| spent.deadline_ms >= time_ms).peekable();
        if alive.peek().is_none() {
            continue;
        }
        let slot = ids.open(batch.key, index);
        alive.for_each(|spent| ids.insert(spent.id, spent.deadline_ms, spent.first_position, slot));
    }
}

async fn digests(
    store: &Store,
    applied: CommitIndex,
    begins: CommitIndex,
    interval: u64,
) -> Result<Vec<(CommitIndex, Digest)>, ExecutionError> {
    let mut digests = Vec::new();
    let newest = applied.0 / interval.max(1);
    for multiple in newest.saturating_sub(DIGESTS - 1)..=newest {
        let index = CommitIndex(multiple * interval);
        if index.0 == 0 {
            digests.push((index, State::default().digest));
        } else if index >= begins {
            let key = schema::index_key(index);
            let record: ExecutionRecord = present(schema::EXECUTED, &key, store.read(schema::EXECUTED, &key).await?)?;
            digests.push((index, record.digest));
        }
    }
    Ok(digests)
}
