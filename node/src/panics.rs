//! Panics, wherever in the process they happen: in a room, in a task that a room spawned, on a thread of the store, in a library.
//!
//! Promises: no panic is only the silent end of one task: whoever watches hears of the first one, with its place and message. It
//! is told by the hook of the process, so that no task has to be spawned in a special way and none can be forgotten.

use std::any::Any;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Reasons kept for a watcher that has not read the first one yet: those that follow from it.
const KEPT: usize = 64;

static TOLD: OnceLock<broadcast::Sender<String>> = OnceLock::new();

/// Hears of panics from its making on.
pub struct Panics(broadcast::Receiver<String>);

impl Panics {
    /// Begins to watch. What the process did about panics before it still does.
    pub fn watch() -> Self {
        let told = TOLD.get_or_init(|| {
            let (told, _) = broadcast::channel(KEPT);
            let (to, before) = (told.clone(), panic::take_hook());
            panic::set_hook(Box::new(move |info| {
                before(info);
                // Without a watcher nobody is told: then there is no node to end.
                let _ = to.send(reason(info));
            }));
            told
        });
        Self(told.subscribe())
    }

    /// Resolves with the reason of the next one.
    pub async fn next(&mut self) -> String {
        loop {
            match self.0.recv().await {
                Ok(reason) => return reason,
                Err(RecvError::Lagged(_)) => {}
                // The sender is never dropped.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

fn reason(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name").to_owned();
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    format!("a task panicked at {place} (thread {name}): {}", message(info.payload()))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_any_task_or_thread_is_heard_with_its_place() {
        let mut panics = Panics::watch();
        let _ = tokio::spawn(async { panic!("in a task") }).await;
        let _ = tokio::task::spawn_blocking(|| panic!("{} thread", "on a blocking")).await;
        let _ = thread::Builder::new().name("worker".into()).spawn(|| panic!("on a thread")).unwrap().join();
        for expected in ["in a task", "on a blocking thread", "on a thread"] {
            let reason = panics.next().await;
            assert!(reason.ends_with(expected) && reason.contains("panics.rs"), "{reason}");
        }
        let mut later = Panics::watch();
        let _ = thread::Builder::new().name("worker".into()).spawn(|| panic!("once more")).unwrap().join();
        for heard in [panics.next().await, later.next().await] {
            assert!(heard.contains("(thread worker): once more"), "{heard}");
        }
    }
}
