//! What an operator does with a store that is not running: look, check every byte, salvage.
//!
//! [`View`] reads without changing anything. [`verify`] reads everything and names each damage. [`salvage`] rebuilds the
//! database from what is intact. [`Lock`] keeps a running store away meanwhile.

mod lock;
mod log_file;
mod salvage;
mod verify;
mod view;

pub use lock::{Lock, holder};
pub use log_file::{LogEnd, LogFile, read_logs};
pub use salvage::salvage;
pub use verify::{ColumnReport, Damage, Verification, verify};
pub use view::View;
