//! Who waits for which tag. One short lock a submission and one a frame of receipts.
//!
//! Bounded by credit (submissions) and by the number of open questions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::connection::Events;
use crate::error::ClientError;
use crate::frames::{Outcome, Receipts, Response};

pub type Answer = Result<(Response, Bytes), ClientError>;

#[derive(Default)]
struct Waiting {
    submissions: HashMap<u64, oneshot::Sender<Result<Outcome, ClientError>>>,
    questions: HashMap<u64, (oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
    closed: Option<ClientError>,
}

/// Shared by a client and the reader of its connection.
#[derive(Clone, Default)]
pub struct Table(Arc<Mutex<Waiting>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the receipt of this tag.
    pub fn submission(&self, tag: u64) -> Result<oneshot::Receiver<Result<Outcome, ClientError>>, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        match &waiting.closed {
            Some(reason) => Err(reason.clone()),
            None => {
                waiting.submissions.insert(tag, sender);
                Ok(receiver)
            }
        }
    }

    /// Waits for the answer of this tag. The permit is kept until the node has answered, even if nobody waits any more.
    pub fn question(&self, tag: u64, permit: OwnedSemaphorePermit) -> Result<oneshot::Receiver<Answer>, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        match &waiting.closed {
            Some(reason) => Err(reason.clone()),
            None => {
                waiting.questions.insert(tag, (sender, permit));
                Ok(receiver)
            }
        }
    }
}

// Whoever waited may have gone: then nobody hears of the outcome.
impl Events for Table {
    fn receipts(&mut self, receipts: &Receipts) {
        let mut waiting = self.lock();
        for (tag, outcome) in receipts.iter() {
            if let Some(sender) = waiting.submissions.remove(&tag) {
                let _ = sender.send(Ok(outcome));
            }
        }
    }

    fn answer(&mut self, response: Response, tail: Bytes) {
        let asked = response.tag().and_then(|tag| self.lock().questions.remove(&tag));
        if let Some((sender, _permit)) = asked {
            let _ = sender.send(Ok((response, tail)));
        }
    }

    fn closed(&mut self, reason: ClientError) {
        let mut waiting = self.lock();
        waiting.closed = Some(reason.clone());
        for (_, sender) in waiting.submissions.drain() {
            let _ = sender.send(Err(reason.clone()));
        }
        for (_, (sender, _permit)) in waiting.questions.drain() {
            let _ = sender.send(Err(reason.clone()));
        }
    }
}
