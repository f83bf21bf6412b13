//! The log as a stream of transactions.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};

use crate::client::Client;
use crate::error::ClientError;
use crate::frames::{BatchId, LogRun, MAX_WAIT, NotHere, Response};

/// One committed transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Its place in the log.
    pub position: u64,
    /// The commit that applied it.
    pub commit: u64,
    /// The batch that brought it.
    pub batch: BatchId,
    /// The transaction; shares the memory of the chunk it came in.
    pub bytes: Bytes,
}

/// Transactions in order, without gaps. Asks for the next chunk when the last one is used up; a slow reader slows nobody else down.
pub struct LogStream {
    client: Client,
    follow: bool,
    next: u64,
    /// Where a stream that does not follow ends.
    end: Option<u64>,
    chunk: VecDeque<LogEntry>,
}

impl LogStream {
    pub(crate) fn new(client: Client, from: u64, follow: bool) -> Self {
        Self { client, follow, next: from, end: None, chunk: VecDeque::new() }
    }

    /// The position of the next transaction.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether the next transaction came with the last chunk: then [`Self::next`] resolves at once.
    pub fn has_next(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// The next transaction; none at the end of a log that is not followed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError::NotHere`] where the log begins later or ends earlier, [`ClientError::Disconnected`]. The call may be repeated.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, ClientError> {
        loop {
            if let Some(entry) = self.chunk.pop_front() {
                self.next = entry.position + 1;
                return Ok(Some(entry));
            }
            if self.end.is_some_and(|end| self.next >= end) {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    /// The same as a [`Stream`]; ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<LogEntry, ClientError>> {
        stream::unfold(Some(self), |log| async {
            let mut log = log?;
            match log.next().await {
                Ok(Some(entry)) => Some((Ok(entry), Some(log))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn fetch(&mut self) -> Result<(), ClientError> {
        let wait = if self.follow { MAX_WAIT } else { Duration::ZERO };
        let (Response::Log { first, end, runs, ends, .. }, tail) = self.client.log_chunk(self.next, wait).await? else {
            return self.client.nonsense();
        };
        if ends.is_empty() {
            if end < self.next && !self.follow {
                return Err(NotHere::NotYet { next: end }.into());
            }
            if !self.follow {
                self.end = Some(self.next);
            }
            return Ok(());
        }
        match entries(first, &runs, &ends, &tail) {
            Some(chunk) if first == self.next => self.chunk = chunk,
            _ => return self.client.nonsense(),
        }
        if !self.follow {
            self.end.get_or_insert(end);
        }
        Ok(())
    }
}

/// Takes a chunk apart; none if its parts do not fit together.
fn entries(first: u64, runs: &[LogRun], ends: &[u32], tail: &Bytes) -> Option<VecDeque<LogEntry>> {
    let mut owners = runs.iter().flat_map(|run| std::iter::repeat_n(run, run.count as usize));
    let mut start = 0;
    let mut entries = VecDeque::with_capacity(ends.len());
    for (position, end) in (first..).zip(ends) {
        let (run, end) = (owners.next()?, *end as usize);
        if end < start || end > tail.len() {
            return None;
        }
        entries.push_back(LogEntry { position, commit: run.commit, batch: run.batch, bytes: tail.slice(start..end) });
        start = end;
    }
    (start == tail.len() && owners.next().is_none()).then_some(entries)
}
