//! What an operator does with a store that is not running: look, check every byte, salvage.
//!
//! [`View`] and [`read_logs`] read without changing anything, and so does [`verify`](fn@crate::verify), which reads everything and
//! names each damage. [`salvage`] rebuilds the database from what is intact. [`Lock`] keeps a running store away meanwhile.

mod lock;
mod salvage;
mod view;

pub use lock::{Lock, holder};
pub use salvage::salvage;
pub use view::View;

pub use crate::log_file::{LogEnd, LogFile, read_logs};
