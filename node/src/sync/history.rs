//! What peers ask of the history: pages of records with certificates.
//!
//! Promises: whatever is certified and stored is served, however large it is and wherever the certificates are; one answer reads
//! no more than one page, or one record where that is larger.

use bytes::Bytes;
use rorqual_config::encoding::decode_stored;
use rorqual_protocol::types::{Certificate, Commit, CommitIndex, Delivery};
use rorqual_store::{Direction, Store, StoreError};

use super::pages::Page;
use crate::peers::message::{ANSWER_BYTES, Message};
use crate::schema;

/// Commits in one range: certificates further away are not looked for while there is one nearer.
const MAX_COMMITS: usize = 500;

/// The history in the store.
pub struct History(pub Store);

impl History {
    /// A page of the commits from `from` up to the highest certified index within `to`, else to the next certified one. A page
    /// that cannot hold them all ends at a certified commit if there is one on it, and goes on later if not.
    ///
    /// # Errors
    /// What the store says.
    pub async fn commits(
        &self,
        from: CommitIndex,
        to: CommitIndex,
        offset: u32,
    ) -> Result<(Message, Bytes), StoreError> {
        let to = to.max(from).min(from.plus(MAX_COMMITS as u64));
        let Some(mut end) = self.certificate(from, to).await? else { return self.nothing().await };
        let commits = self.records(from, end.index()).await?;
        let Some(mut page) = Page::of(&commits, offset as usize, ANSWER_BYTES) else { return self.nothing().await };
        let last = from.plus(page.whole() as u64).previous();
        if last < end.index() {
            let lower = if page.whole() > 0 { self.certificate(from, last).await? } else { None };
            let Some(lower) = lower.filter(|lower| lower.index() <= last) else { return Ok(page.answer(None)) };
            page.truncate((lower.index().next().above(from)) as usize);
            end = lower;
        }
        Ok(page.answer(Some(&end)))
    }

    /// The records from `from` on without a gap, up to `end` or as many as a page can hold, and one at least.
    async fn records(&self, from: CommitIndex, end: CommitIndex) -> Result<Vec<Commit>, StoreError> {
        let (start, after) = (schema::index_key(from), schema::index_key(end.next()));
        let limit = end.next().0.saturating_sub(from.0) as usize;
        let records = self.0.iterate(schema::COMMITS, &start, &after, limit, ANSWER_BYTES, Direction::Forward).await?;
        let commits =
            records.iter().map_while(|(_, bytes)| decode_stored::<Delivery>(bytes).ok()).map(|found| found.commit);
        Ok(commits
            .zip(from.0..)
            .take_while(|(commit, index)| commit.index.0 == *index)
            .map(|(commit, _)| commit)
            .collect())
    }

    async fn certificate(&self, from: CommitIndex, to: CommitIndex) -> Result<Option<Certificate>, StoreError> {
        let (start, end) = (schema::index_key(from), schema::index_key(to.next()));
        let within = self.0.iterate(schema::CERTIFICATES, &start, &end, 1, usize::MAX, Direction::Backward).await?;
        let found = match within.first() {
            Some(_) => within,
            None => self.0.iterate(schema::CERTIFICATES, &end, &[], 1, usize::MAX, Direction::Forward).await?,
        };
        Ok(found.first().and_then(|(_, bytes)| decode_stored(bytes).ok()))
    }

    async fn nothing(&self) -> Result<(Message, Bytes), StoreError> {
        Ok((Message::NoCommits { first_index: self.first_index().await? }, Bytes::new()))
    }

    async fn first_index(&self) -> Result<CommitIndex, StoreError> {
        let first = self.0.iterate(schema::COMMITS, &[], &[], 1, usize::MAX, Direction::Forward).await?;
        Ok(first.first().and_then(|(key, _)| schema::parse_number(key)).map_or(CommitIndex(1), CommitIndex))
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
