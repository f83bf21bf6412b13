//! The answer to a write, as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::shared::Shared;

/// Resolves when a write is done, or has failed.
///
/// The write took its place in the order of writes when it was called, whether or not this future is ever polled. Dropping it
/// gives up the answer alone: the batch is applied, also if it still waits for room in the queue, because what was called after
/// it may depend on it.
///
/// After it has resolved it must not be polled again; if it is, it answers [`StoreError::Closed`].
#[must_use = "a write that fails stops the store: somebody must look at the answer"]
pub struct Completion {
    state: State,
}

enum State {
    Refused(StoreError),
    Pending { answer: oneshot::Receiver<Result<(), StoreError>>, shared: Arc<Shared> },
    Done,
}

impl Completion {
    pub(crate) fn refused(error: StoreError) -> Completion {
        Completion { state: State::Refused(error) }
    }

    pub(crate) fn pending(answer: oneshot::Receiver<Result<(), StoreError>>, shared: Arc<Shared>) -> Completion {
        Completion { state: State::Pending { answer, shared } }
    }
}

impl Future for Completion {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.state {
            State::Refused(error) => Err(error.clone()),
            State::Done => Err(StoreError::Closed),
            State::Pending { answer, shared } => match Pin::new(answer).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => answer.unwrap_or_else(|_| Err(shared.reason_of_silence())),
            },
        };
        self.state = State::Done;
        Poll::Ready(result)
    }
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Refused(_) => "refused",
            State::Pending { .. } => "pending",
            State::Done => "done",
        };
        formatter.debug_tuple("Completion").field(&state).finish()
    }
}
