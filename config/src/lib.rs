//! What an operator writes, and what every node must agree on before it says a word.
//!
//! - [`committee`]: members, stake, thresholds, the values under `[protocol]`, and the chain id that binds them.
//! - [`identity`]: keys and domain-separated signatures; the only room that touches a secret.
//! - [`parameters`]: what one node decides for itself, with units, defaults and validation.
//! - [`load`]: files, environment and flags in layers; every error at once; the origin of every value.
//! - [`encoding`]: the one canonical codec and the one hash.
//! - [`range`]: the one bound of all numbers that come from outside.
//!
//! This crate knows no runtime, no network and no database.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod committee;
mod committee_file;
pub mod encoding;
pub mod identity;
mod layers;
pub mod load;
pub mod parameters;
pub mod range;
mod settings;
mod text;
mod validate;
mod write;

pub use committee::{AuthorityIndex, ChainId, Committee, Member, ProtocolParameters, Stake};
pub use encoding::{CodecError, Digest};
pub use identity::{KeyPair, PublicKey, Signature, SignatureError};
pub use load::{ConfigErrors, NodeConfig, load_committee, load_node};
pub use parameters::{Durability, NodeParameters, Problem};
pub use text::shell;
