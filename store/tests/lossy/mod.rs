//! A filesystem that keeps only what was synced: what a power cut leaves, without cutting the power.
//!
//! It is mounted through FUSE and held in memory. It knows for every file which bytes, and for every directory which names,
//! a sync has covered; a cut forgets the rest, or keeps a random part of it, torn at sector boundaries, as a disk may. It also
//! fails a sync, fills up, slows down and flips bits on order. `O_DIRECT` is served; shared writable mappings are not.
//!
//! | promise | where |
//! |---|---|
//! | synced data survives every cut; unsynced data survives by chance, in pieces, in any order | `file.rs` |
//! | a name survives only after a sync of its directory; names of one directory survive in order | `directory.rs` |
//! | pages of a failed sync are never written, though later syncs succeed | `file.rs` |
//! | nothing that runs when the power goes changes what is left | `disk.rs` |

// Its users each need a part of it.
#![allow(dead_code)]

mod directory;
mod disk;
mod faults;
mod file;
mod image;
mod loss;
mod mount;

#[allow(unused_imports)]
pub use disk::{Counters, Disk};
#[allow(unused_imports)]
pub use loss::Loss;
pub use mount::Mounted;
