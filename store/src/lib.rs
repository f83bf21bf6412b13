//! The store: durable bytes behind three verbs, `write`, `read` and `notify_read`.
//!
//! A [`Store`] is a handle, cheap to clone and usable from any task. Behind it one writer thread applies batches to the
//! engine, a syncer thread makes them durable, and a few reader threads fetch what is not in memory. The engine is RocksDB
//! with segment files for large values ([`Store::open`]), or memory ([`Store::in_memory`]); callers cannot tell them apart except by a restart.
//!
//! # What it promises
//!
//! - **A write that resolved is seen** by every read that starts later, on any clone.
//! - **Writes apply in call order**, but that others overtake a bulk one with which they share no key ([`WriteBatch::set_bulk`]); a [`WriteBatch`] applies whole or not at all, also over a crash.
//! - **[`Durability::Buffered`]** survives the end of the process; **[`Durability::Synced`]** survives a power cut, together
//!   with everything applied before it. Concurrent synced writers share one sync; buffered ones never wait for it.
//! - **Reads do not queue behind writes.** What is in memory is answered on the caller's thread; only what needs the disk
//!   goes to a reader thread.
//! - **No lost wake-up.** [`Store::notify_read`] gets the value that exists, or the very value that is written next.
//! - **Everything is bounded.** The write queue in bytes, the reader queue in requests, the caches in bytes. Who comes to a
//!   full queue waits in order, or is refused if it used a `try_` method.
//! - **Fail closed.** After a write or sync error every further write is refused, with the reason. Nothing is retried.
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | write queue | [`Options::queue_bytes`] | writers wait in order; `try_` writes are refused |
//! | batches waiting for a sync | part of the write queue | the same |
//! | reader queue | [`Options::reader_queue`] requests | readers wait in order |
//! | backups | 4, one at work | callers wait in order |
//! | value cache of a column | [`ColumnOptions::cache_bytes`] | the oldest written value leaves |
//! | waiting readers | whoever waits bounds it | counted in [`Statistics::waiters`] |
//!
//! # Example
//!
//! ```
//! use rorqual_store::{Column, ColumnOptions, Options, Store};
//!
//! const NAMES: Column = Column("names");
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rorqual_store::StoreError> {
//! let store = Store::in_memory(Options::with_columns(vec![ColumnOptions::small(NAMES.0)]));
//! store.write(NAMES, "blue", "Balaenoptera musculus").await?;
//! assert_eq!(store.notify_read(NAMES, "blue").await?, "Balaenoptera musculus");
//! store.shutdown().await
//! # }
//! ```

mod actor;
mod batch;
mod cache;
mod completion;
mod engine;
mod error;
mod exit;
mod failure;
mod handle;
mod log_file;
mod lost;
mod memory;
mod notify;
pub mod offline;
mod open;
mod options;
mod queue;
mod readers;
mod reclaim;
mod rocks;
mod rocks_backup;
mod rocks_group;
mod rocks_log;
mod rocks_open;
mod rocks_tables;
mod segments;
mod shared;
mod statistics;
mod sync;
mod syncer;
mod verify;
mod waiters;

pub use batch::{Durability, WriteBatch};
pub use completion::Completion;
pub use engine::Direction;
pub use error::{Refused, StoreError};
pub use handle::Store;
pub use options::{Column, ColumnOptions, Options};
pub use rocks_backup::AMNESIA_FILE;
pub use statistics::{ColumnSize, SegmentAccess, SegmentStatistics, Statistics};
pub use verify::{ColumnReport, Damage, DamageKind, Report, verify, verify_entries};

#[cfg(test)]
mod tests;
