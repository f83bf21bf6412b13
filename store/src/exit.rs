//! A process that ends while a store is closing waits for it.
//!
//! The last handle closes its store in the background. When the process ends meanwhile, the static objects of RocksDB are
//! destroyed, and a thread that still uses one of them aborts the process: a clean end would look like a crash.

use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::Duration;

/// How long the end of the process waits at most: a disk that hangs must not keep it for ever.
const PATIENCE: Duration = Duration::from_secs(10);

static CLOSING: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();
static REGISTERED: Once = Once::new();

/// A store that is closing, until it is dropped.
#[derive(Debug)]
pub(crate) struct Closing(());

impl Closing {
    pub(crate) fn begin() -> Closing {
        *CLOSING.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Closing(())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        *CLOSING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        CHANGED.notify_all();
    }
}

/// Has the end of the process wait. Called after a database was opened: what is registered last runs first, before the
/// static objects go that opening has made.
pub(crate) fn wait_at_exit() {
    REGISTERED.call_once(|| {
        #[allow(unsafe_code, reason = "the standard library has no such hook")]
        // SAFETY: the function takes and returns nothing, does not unwind, and lives as long as the program.
        let registered = unsafe { libc::atexit(wait) } == 0;
        if !registered {
            tracing::warn!("the end of the process will not wait for stores that are closing");
        }
    });
}

extern "C" fn wait() {
    let closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
    // The result says whether it took too long, and there is nobody left to tell.
    drop(CHANGED.wait_timeout_while(closing, PATIENCE, |closing| *closing > 0));
}
