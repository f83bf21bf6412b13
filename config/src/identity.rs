//! Keys and domain-separated signatures; the only room that touches a secret.
//!
//! Everything signed starts with `rorqual/`, the purpose, a zero byte, the chain id and the epoch, so that a signature made
//! for one purpose, chain or epoch is nothing in another. There is one strict check everywhere: batch verification accepts
//! what single verification refuses, which would split the nodes (Chalkias et al., "Taming the many EdDSAs").
//! The same key authenticates TLS links: TLS 1.3 signs 64 spaces and a context string first, and nothing here begins so.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::committee::ChainId;

/// An Ed25519 public key, 32 bytes. Text form: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Signature(pub [u8; 64]);

/// The signature does not belong to the message under this key, domain, chain and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError;

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read or written.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a key.
    #[error("key file {path} does not hold a key: expected one line of 64 hex digits as written by `rorqual keygen`")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the file.
    #[error(
        "key file {path} is open to others (mode {mode:o}): run `chmod 600 {}`; where it is mounted read-only, mount it with mode 0400, \
         or owned by root with mode 0440", shell(.path)
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is there already.
    #[error("{path} exists already and is not overwritten: choose another file or move it away")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes: {0}")]
    Entropy(String),
}

/// What a signature is for, where it counts, and when: the bytes every signed message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// For example `block`.
    pub purpose: &'static str,
    /// The chain it counts on.
    pub chain_id: ChainId,
    /// The epoch it counts in.
    pub epoch: u64,
}

impl Domain {
    fn message(&self, bytes: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(64 + bytes.len());
        message.extend_from_slice(b"rorqual/");
        message.extend_from_slice(self.purpose.as_bytes());
        message.push(0);
        message.extend_from_slice(&self.chain_id.0.0);
        message.extend_from_slice(&self.epoch.to_le_bytes());
        message.extend_from_slice(bytes);
        message
    }
}

impl PublicKey {
    /// Checks `signature` over `bytes` strictly: canonical encodings only, no small-order keys.
    ///
    /// # Errors
    /// [`SignatureError`] whatever the cause.
    pub fn verify(&self, domain: &Domain, bytes: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&domain.message(bytes), &signature).map_err(|_| SignatureError)
    }

    /// Whether this is a point on the curve that is not of small order: what a committee key must be.
    pub fn is_strong(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// A node's identity. Its secret never appears in `Debug`, logs or errors.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// A new identity from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyFileError::Entropy`] where the system gives none.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| KeyFileError::Entropy(error.to_string()))?;
        Ok(Self::from_seed(seed))
    }

    /// The identity that belongs to a 32-byte secret.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The secret, for the TLS library. Handle with care.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes` for one purpose, chain and epoch.
    pub fn sign(&self, domain: &Domain, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.message(bytes)).to_bytes())
    }

    /// Reads a key file: one line of 64 hex digits, mode 0600 or stricter. A file of root may also be read by its group (0640 or
    /// stricter): so are secrets mounted read-only.
    ///
    /// # Errors
    /// [`KeyFileError`] naming the file and the remedy.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let facts = std::fs::metadata(path).map_err(io)?;
        let mode = facts.permissions().mode() & 0o777;
        if !is_private(mode, facts.uid()) {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        let text = std::fs::read(path).map_err(io)?;
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut seed)
            .map_err(|_| KeyFileError::Malformed { path: path.to_owned() })?;
        Ok(Self::from_seed(seed))
    }

    /// Writes a new key file with mode 0600, synced to disk; an existing file is never touched.
    ///
    /// # Errors
    /// [`KeyFileError`] naming the file.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io { path: path.to_owned(), source },
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(format!("{}\n", hex::encode(self.0.to_bytes())).as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)
    }
}

/// Whether a file of this mode and owner is closed to others.
fn is_private(mode: u32, owner: u32) -> bool {
    mode & 0o077 == 0 || (owner == 0 && mode & 0o037 == 0)
}

/// A path as a shell takes it.
fn shell(path: &Path) -> String {
    crate::text::shell(&path.display().to_string())
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn domain(purpose: &'static str, epoch: u64) -> Domain {
        Domain { purpose, chain_id: ChainId(Digest([7; 32])), epoch }
    }

    #[test]
    fn a_signature_counts_for_one_purpose_and_epoch_only() {
        let key = KeyPair::from_seed([1; 32]);
        let signature = key.sign(&domain("block", 0), b"x");
        assert!(key.public().verify(&domain("block", 0), b"x", &signature).is_ok());
        assert!(key.public().verify(&domain("block", 1), b"x", &signature).is_err());
        assert!(key.public().verify(&domain("vote", 0), b"x", &signature).is_err());
        assert!(key.public().verify(&domain("block", 0), b"y", &signature).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_signature_is_refused() {
        let key = KeyPair::from_seed([2; 32]);
        let good = key.sign(&domain("block", 0), b"x");
        for bit in 0..512 {
            let mut bad = good;
            bad.0[bit / 8] ^= 1 << (bit % 8);
            assert!(key.public().verify(&domain("block", 0), b"x", &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn small_order_keys_are_not_strong() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(!PublicKey(neutral).is_strong());
        assert!(KeyPair::from_seed([3; 32]).public().is_strong());
    }

    #[test]
    fn a_group_may_read_the_key_only_where_root_owns_it() {
        for (mode, owner, private) in [
            (0o600, 1_000, true),
            (0o400, 1_000, true),
            (0o440, 1_000, false),
            (0o640, 1_000, false),
            (0o440, 0, true),
            (0o640, 0, true),
            (0o660, 0, false),
            (0o444, 0, false),
            (0o604, 0, false),
        ] {
            assert_eq!(is_private(mode, owner), private, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn a_command_for_a_path_with_blanks_is_quoted() {
        let error = KeyFileError::Exposed { path: "/a b/node's.key".into(), mode: 0o644 }.to_string();
        assert!(error.contains("run `chmod 600 '/a b/node'\\''s.key'`"), "{error}");
    }

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = KeyPair::from_seed([4; 32]);
        key.save(&path).unwrap();
        assert_eq!(KeyPair::load(&path).unwrap().public(), key.public());
        assert!(matches!(key.save(&path), Err(KeyFileError::Exists { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyPair::load(&path), Err(KeyFileError::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "no key").unwrap();
        assert!(matches!(KeyPair::load(&path), Err(KeyFileError::Malformed { .. })));
    }
}
