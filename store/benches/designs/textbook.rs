//! The textbook actor store, as in the Narwhal and HotStuff prototypes: one task that owns the database, takes one
//! command at a time from a channel and calls RocksDB on the runtime's thread. Errors of writes are dropped.

use std::collections::HashMap;

use bytes::Bytes;
use rocksdb::DB;
use tokio::sync::{mpsc, oneshot};

use crate::design::{Write, get, put};
use crate::plain;

/// Commands that may wait; the prototypes have 100.
const CAPACITY: usize = 100;

enum Command {
    Write { write: Write, done: oneshot::Sender<()> },
    Read { key: Bytes, answer: oneshot::Sender<Option<Bytes>> },
    NotifyRead { key: Bytes, answer: oneshot::Sender<Bytes> },
    Waiters { answer: oneshot::Sender<usize> },
    Flush { done: oneshot::Sender<()> },
}

/// The handle of a running textbook actor.
#[derive(Clone)]
pub struct Textbook {
    commands: mpsc::Sender<Command>,
}

impl Textbook {
    /// Starts the task.
    pub fn start(database: DB) -> Textbook {
        let (commands, receiver) = mpsc::channel(CAPACITY);
        tokio::spawn(run(database, receiver));
        Textbook { commands }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.expect("the actor lives as long as its handles");
        answered.await.expect("the actor answers every command")
    }

    pub async fn write(&self, write: Write) {
        self.ask(|done| Command::Write { write, done }).await;
    }

    pub async fn read(&self, key: Bytes) -> Option<Bytes> {
        self.ask(|answer| Command::Read { key, answer }).await
    }

    pub async fn notify_read(&self, key: Bytes) -> Bytes {
        self.ask(|answer| Command::NotifyRead { key, answer }).await
    }

    /// How many `notify_read`s wait.
    pub async fn waiters(&self) -> usize {
        self.ask(|answer| Command::Waiters { answer }).await
    }

    pub async fn flush(&self) {
        self.ask(|done| Command::Flush { done }).await;
    }
}

async fn run(database: DB, mut commands: mpsc::Receiver<Command>) {
    let mut waiting: HashMap<Bytes, Vec<oneshot::Sender<Bytes>>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Write { write, done } => {
                let _ = put(&database, &write);
                for waiter in waiting.remove(&write.key).unwrap_or_default() {
                    let _ = waiter.send(write.value.clone());
                }
                let _ = done.send(());
            }
            Command::Read { key, answer } => drop(answer.send(get(&database, &key))),
            Command::NotifyRead { key, answer } => match get(&database, &key) {
                Some(value) => drop(answer.send(value)),
                None => waiting.entry(key).or_default().push(answer),
            },
            Command::Waiters { answer } => drop(answer.send(waiting.values().map(Vec::len).sum())),
            Command::Flush { done } => {
                plain::flush(&database);
                let _ = done.send(());
            }
        }
    }
}
