//! The designs that are compared: one way each to write and read a key.
//!
//! All write through to the operating system with every write and sync when asked, so that *done* means the same in
//! each.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, WriteOptions};
use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, WriteBatch};
use tokio::sync::Mutex;

use crate::plain;
use crate::relay::Relay;
use crate::textbook::Textbook;

/// Where the actor store keeps values of less than 4 KiB. The plain databases have one column for both, and RocksDB's
/// own separation of large values at the same size.
pub const SMALL: Column = Column("small");
const LARGE: Column = Column("large");
const LARGE_BYTES: usize = 4 << 10;

/// The memory for recent payload, as a node has it.
const CACHE_BYTES: usize = 64 << 20;

/// Which design; the order is the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The actor store of this crate.
    Actor,
    /// Calls on a shared handle, from the async task itself.
    Direct,
    /// Calls on a shared handle, each moved to tokio's blocking threads.
    Blocking,
    /// A mutex around the handle, locked by async tasks.
    Mutex,
    /// One task, one command at a time, put on the runtime thread, errors dropped.
    Textbook,
    /// No store at all: what the measurement itself costs; of writes that somebody waits for, the hand-overs alone. Never in
    /// a ratio.
    Nothing,
}

impl Kind {
    /// All that store something.
    pub const ALL: [Kind; 5] = [Kind::Actor, Kind::Direct, Kind::Blocking, Kind::Mutex, Kind::Textbook];

    /// The name in tables and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Actor => "actor store",
            Kind::Direct => "direct, runtime thread",
            Kind::Blocking => "direct, blocking threads",
            Kind::Mutex => "mutex around the handle",
            Kind::Textbook => "textbook actor",
            Kind::Nothing => "(no store)",
        }
    }
}

/// An open store of one kind. Clones share it.
#[derive(Clone)]
pub enum Design {
    Actor(Store),
    Direct(Arc<DB>),
    Blocking(Arc<DB>),
    Mutex(Arc<Mutex<DB>>),
    Textbook(Textbook),
    Nothing(Relay),
}

/// One write.
pub struct Write {
    pub key: Bytes,
    pub value: Bytes,
    pub synced: bool,
    /// A key that is deleted with it.
    pub old: Option<Bytes>,
}

impl Design {
    /// Opens a new store in the directory. Must be called inside a runtime: the textbook actor is a task of it.
    pub fn open(kind: Kind, path: &Path) -> Design {
        match kind {
            Kind::Actor => {
                let columns = vec![ColumnOptions::small(SMALL.0), ColumnOptions::large(LARGE.0, CACHE_BYTES)];
                Design::Actor(Store::open(path, Options::with_columns(columns)).unwrap())
            }
            Kind::Direct => Design::Direct(Arc::new(plain::open(path))),
            Kind::Blocking => Design::Blocking(Arc::new(plain::open(path))),
            Kind::Mutex => Design::Mutex(Arc::new(Mutex::new(plain::open(path)))),
            Kind::Textbook => Design::Textbook(Textbook::start(plain::open(path))),
            Kind::Nothing => Design::Nothing(Relay::start()),
        }
    }

    /// Returns when the value is written: read by everyone, and on disk if `synced`.
    pub async fn write(&self, write: Write) {
        match self {
            Design::Actor(store) => {
                let mut batch = WriteBatch::new();
                let column = column(write.value.len());
                if let Some(old) = write.old {
                    batch.delete(column, old);
                }
                batch.put(column, write.key, write.value);
                let durability = if write.synced { Durability::Synced } else { Durability::Buffered };
                store.write_batch(batch, durability).await.unwrap();
            }
            Design::Direct(database) => put(database, &write).unwrap(),
            Design::Blocking(database) => {
                let database = Arc::clone(database);
                tokio::task::spawn_blocking(move || put(&database, &write).unwrap()).await.unwrap();
            }
            Design::Mutex(database) => put(&*database.lock().await, &write).unwrap(),
            Design::Textbook(textbook) => textbook.write(write).await,
            Design::Nothing(_) => tokio::task::yield_now().await,
        }
    }

    /// Reads a value that was written with `bytes` bytes.
    pub async fn read(&self, key: Bytes, bytes: usize) -> Option<Bytes> {
        match self {
            Design::Actor(store) => store.read(column(bytes), &key).await.unwrap(),
            Design::Direct(database) => get(database, &key),
            Design::Blocking(database) => {
                let database = Arc::clone(database);
                tokio::task::spawn_blocking(move || get(&database, &key)).await.unwrap()
            }
            Design::Mutex(database) => get(&*database.lock().await, &key),
            Design::Textbook(textbook) => textbook.read(key).await,
            Design::Nothing(_) => {
                tokio::task::yield_now().await;
                None
            }
        }
    }

    /// Puts everything into table and value files on disk, so that what a design postpones is counted too.
    pub async fn close(self) {
        match self {
            Design::Actor(store) => store.shutdown().await.unwrap(),
            Design::Direct(database) | Design::Blocking(database) => plain::flush(&database),
            Design::Mutex(database) => plain::flush(&*database.lock().await),
            Design::Textbook(textbook) => textbook.flush().await,
            Design::Nothing(_) => {}
        }
    }
}

fn column(bytes: usize) -> Column {
    if bytes < LARGE_BYTES { SMALL } else { LARGE }
}

/// One write, as every design on the plain database does it.
pub fn put(database: &DB, write: &Write) -> Result<(), rocksdb::Error> {
    let mut options = WriteOptions::default();
    options.set_sync(write.synced);
    let Some(old) = &write.old else { return database.put_opt(&write.key, &write.value, &options) };
    let mut batch = rocksdb::WriteBatch::default();
    batch.delete(old);
    batch.put(&write.key, &write.value);
    database.write_opt(batch, &options)
}

/// One read, as every design on the plain database does it: the value is copied out once, as in the actor store.
pub fn get(database: &DB, key: &[u8]) -> Option<Bytes> {
    database.get_pinned(key).unwrap().map(|value| Bytes::copy_from_slice(&value))
}
