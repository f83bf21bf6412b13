//! Answers matched to questions by an id.
//!
//! Promises: an answer reaches the one who asked or nobody; a question whose asker gave up leaves nothing behind; the number of
//! open questions to a peer is bounded; all of them fail at once when the link breaks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rorqual_config::committee::AuthorityIndex;
use tokio::sync::oneshot;

use crate::RequestError;
use crate::peer::Shared;

/// Where the answer to one request goes. It is of use only while the link that brought the request is up. Dropping it
/// answers nothing.
#[must_use = "dropping it answers nothing"]
pub struct ReplyTo {
    pub(crate) peer: Arc<Shared>,
    pub(crate) link: u64,
    pub(crate) id: u64,
}

impl ReplyTo {
    /// Who asked.
    pub fn peer(&self) -> AuthorityIndex {
        self.peer.peer.index
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyTo({:?}, {})", self.peer(), self.id)
    }
}

#[derive(Default)]
struct Open {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Bytes>>,
}

/// Open questions to one peer.
pub(crate) struct Requests {
    limit: usize,
    open: Mutex<Open>,
}

impl Requests {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a question; it closes when what is returned is dropped.
    pub(crate) fn register(&self) -> Result<Question<'_>, RequestError> {
        let mut open = self.lock();
        if open.waiting.len() >= self.limit {
            return Err(RequestError::Full);
        }
        let (sender, answer) = oneshot::channel();
        let id = open.next;
        open.next += 1;
        open.waiting.insert(id, sender);
        Ok(Question { requests: self, id, answer })
    }

    /// An answer came. False if nobody waits for it (any more).
    pub(crate) fn answer(&self, id: u64, content: Bytes) -> bool {
        let waiting = self.lock().waiting.remove(&id);
        waiting.is_some_and(|sender| sender.send(content).is_ok())
    }

    /// The link broke: nobody will be answered.
    pub(crate) fn clear(&self) {
        self.lock().waiting.clear();
    }
}

/// One open question.
pub(crate) struct Question<'a> {
    requests: &'a Requests,
    pub(crate) id: u64,
    pub(crate) answer: oneshot::Receiver<Bytes>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.requests.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_questions_are_bounded_and_a_dropped_one_makes_room() {
        let requests = Requests::new(1);
        let question = requests.register().unwrap();
        assert!(matches!(requests.register(), Err(RequestError::Full)));
        let id = question.id;
        drop(question);
        assert!(!requests.answer(id, Bytes::new()));
        let mut question = requests.register().unwrap();
        assert!(requests.answer(question.id, Bytes::from_static(b"yes")));
        assert!(!requests.answer(question.id, Bytes::from_static(b"again")));
        assert_eq!(question.answer.try_recv().unwrap(), "yes");
    }
}
