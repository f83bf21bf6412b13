//! The first failure, which is the last word: the store never recovers by itself.
//!
//! After a failed write or sync nobody can know what the disk holds (the kernel may have dropped the pages), so nothing is
//! retried. Whoever opens the directory again finds out what survived.

use std::future::Future;

use tokio::sync::watch;

use crate::error::StoreError;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Holds the first failure once there is one.
#[derive(Debug)]
pub(crate) struct Failure {
    // Asked at every write; the channel behind it has a lock.
    happened: AtomicBool,
    first: watch::Sender<Option<StoreError>>,
}

impl Failure {
    pub(crate) fn new() -> Failure {
        Failure { happened: AtomicBool::new(false), first: watch::Sender::new(None) }
    }

    /// Records a failure; only the first one counts. Whether this was it.
    pub(crate) fn set(&self, error: &StoreError) -> bool {
        self.first.send_if_modified(|first| {
            let vacant = first.is_none();
            if vacant {
                *first = Some(error.clone());
                // Before anybody is woken: whoever has heard of the failure finds it.
                self.happened.store(true, Ordering::SeqCst);
            }
            vacant
        })
    }

    pub(crate) fn first(&self) -> Option<StoreError> {
        if self.happened.load(Ordering::SeqCst) { self.first.borrow().clone() } else { None }
    }

    /// What to answer to those who come after the failure.
    pub(crate) fn aftermath(&self) -> Option<StoreError> {
        self.first().map(|first| first.aftermath())
    }

    /// Resolves with the first failure; never, if the store ends without one.
    pub(crate) fn wait(&self) -> impl Future<Output = StoreError> + Send + 'static + use<> {
        let mut receiver = self.first.subscribe();
        async move {
            let failed = match receiver.wait_for(Option::is_some).await {
                Ok(first) => first.clone(),
                Err(_) => None,
            };
            match failed {
                Some(error) => error,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_is_kept_and_told_to_all() {
        let failure = Failure::new();
        let before = failure.wait();
        assert!(failure.set(&StoreError::Io { detail: "one".into() }));
        assert!(!failure.set(&StoreError::Io { detail: "two".into() }));
        assert_eq!(before.await, StoreError::Io { detail: "one".into() });
        assert_eq!(failure.wait().await, StoreError::Io { detail: "one".into() });
        assert!(matches!(failure.aftermath(), Some(StoreError::Failed { reason }) if reason.contains("one")));
    }
}
