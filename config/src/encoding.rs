//! The one canonical codec and the one hash.
//!
//! Promises: one value has exactly one encoding (bincode 2, fixed-width little-endian integers, trailing bytes refused);
//! decoding never allocates much more than the bytes it was given; digests and signatures are over these encodings.
//! Payload does not pass through here: a frame that carries payload is an encoded header and a raw tail, see
//! [`decode_header`].

use std::fmt;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};
use bytes::{Buf, Bytes};

/// Why bytes were not understood. A peer or a client sent them, or the disk returned them.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum CodecError {
    /// The bytes are not an encoding of the expected type.
    #[error("{what} cannot be decoded: {reason}")]
    Malformed {
        /// The Rust name of the expected type.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A valid encoding was followed by further bytes.
    #[error("{what} is followed by {trailing} bytes that do not belong to it")]
    Trailing {
        /// The Rust name of the expected type.
        what: &'static str,
        /// How many bytes are left over.
        trailing: usize,
    },
    /// The bytes exceed the largest size this codec reads.
    #[error("{what} of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The Rust name of the expected type.
        what: &'static str,
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// Largest encoding that [`decode`] reads, in bytes. Callers that know a tighter limit check it first.
pub const MAX_ENCODED_BYTES: usize = 16 << 20;

const fn limited<const N: usize>() -> Configuration<LittleEndian, Fixint, Limit<N>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<N>()
}

/// The canonical encoding of `value`.
///
/// # Panics
/// Never for the types of this project: encoding into memory fails only for types that refuse to be encoded.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let config = bincode::config::standard().with_fixed_int_encoding();
    bincode::encode_to_vec(value, config).expect("encoding plain data into a growing vector cannot fail")
}

/// Decodes exactly one value; bytes that follow it are an error.
///
/// # Errors
/// [`CodecError`] naming the type; nothing larger than a small multiple of the input was allocated.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = decode_some(bytes)?;
    if used == bytes.len() {
        return Ok(value);
    }
    Err(CodecError::Trailing { what: std::any::type_name::<T>(), trailing: bytes.len() - used })
}

/// Largest record of the own store that [`decode_stored`] reads, in bytes: more than any commit that the rules allow.
pub const MAX_STORED_BYTES: usize = 1 << 30;

/// As [`decode`], for what this program itself has written and whoever read it has checked: as large as it was written.
///
/// # Errors
/// [`CodecError`] naming the type.
pub fn decode_stored<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let what = std::any::type_name::<T>();
    match bytes.len() {
        0..=MAX_ENCODED_BYTES => return decode(bytes),
        size if size > MAX_STORED_BYTES => {
            return Err(CodecError::TooLarge { what, size, limit: MAX_STORED_BYTES });
        }
        _ => {}
    }
    match bincode::decode_from_slice(bytes, limited::<{ 4 * MAX_STORED_BYTES }>()) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(CodecError::Trailing { what, trailing: bytes.len() - used }),
        Err(error) => Err(CodecError::Malformed { what, reason: error.to_string() }),
    }
}

/// Decodes the value at the start of `frame` and returns it with the rest of the frame, which is not copied.
///
/// # Errors
/// [`CodecError`] naming the type.
pub fn decode_header<T: Decode<()>>(frame: &Bytes) -> Result<(T, Bytes), CodecError> {
    // A header is small by construction: limiting what the decoder sees bounds what a liar can make it allocate.
    let window = &frame[..frame.len().min(MAX_ENCODED_BYTES)];
    let (value, used) = decode_some(window)?;
    let mut tail = frame.clone();
    tail.advance(used);
    Ok((value, tail))
}

fn decode_some<T: Decode<()>>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let what = std::any::type_name::<T>();
    // The decoder reserves memory for a length prefix before it sees the elements. The limit is therefore the smallest
    // step that a valid encoding of this size can need; in memory a value may be somewhat wider than its encoding.
    let result = match bytes.len() {
        0..=512 => bincode::decode_from_slice(bytes, limited::<2_048>()),
        513..=8_192 => bincode::decode_from_slice(bytes, limited::<32_768>()),
        8_193..=131_072 => bincode::decode_from_slice(bytes, limited::<524_288>()),
        131_073..=2_097_152 => bincode::decode_from_slice(bytes, limited::<8_388_608>()),
        2_097_153..=MAX_ENCODED_BYTES => bincode::decode_from_slice(bytes, limited::<{ 4 * MAX_ENCODED_BYTES }>()),
        size => return Err(CodecError::TooLarge { what, size, limit: MAX_ENCODED_BYTES }),
    };
    result.map_err(|error| CodecError::Malformed { what, reason: error.to_string() })
}

/// A BLAKE3 digest, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// H(domain | parts), with a zero byte after the domain so that no domain is a prefix of another's input.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new(domain);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

impl std::str::FromStr for Digest {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// An incremental [`Digest`] with its domain already absorbed.
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts H(domain | 0 | …).
    pub fn new(domain: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(domain.as_bytes());
        hasher.update(&[0]);
        Self(hasher)
    }

    /// Absorbs raw bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all that was absorbed.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u64);
        assert_eq!(decode::<u64>(&bytes), Ok(7));
        bytes.push(0);
        assert!(matches!(decode::<u64>(&bytes), Err(CodecError::Trailing { trailing: 1, .. })));
    }

    #[test]
    fn a_huge_length_prefix_is_refused_without_allocating_it() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 100]);
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(CodecError::Malformed { .. })));
        let mut bytes = (1u64 << 30).to_le_bytes().to_vec();
        bytes.extend([0; 100]);
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn what_was_stored_is_read_however_large_it_is() {
        let long = vec![7_u64; MAX_ENCODED_BYTES / 8 + 1];
        let bytes = encode(&long);
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(CodecError::TooLarge { .. })));
        assert_eq!(decode_stored::<Vec<u64>>(&bytes), Ok(long));
        assert!(decode_stored::<Vec<u64>>(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode_stored::<Vec<u64>>(&[&bytes[..], &[0]].concat()).is_err());
        assert_eq!(decode_stored::<u8>(&[3]), Ok(3));
    }

    #[test]
    fn a_header_leaves_the_tail_untouched() {
        let mut bytes = encode(&(1u16, 2u64));
        bytes.extend_from_slice(b"payload");
        let (header, tail): ((u16, u64), Bytes) = decode_header(&Bytes::from(bytes)).unwrap();
        assert_eq!((header, &tail[..]), ((1, 2), &b"payload"[..]));
    }

    #[test]
    fn integers_are_fixed_width_little_endian() {
        assert_eq!(encode(&(1u16, 2u32)), [1, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn domains_do_not_run_into_their_input() {
        assert_ne!(Digest::of("ab", &[b"c"]), Digest::of("a", &[b"bc"]));
        assert_eq!(Digest::of("a", &[b"bc"]), Digest::of("a", &[b"b", b"c"]));
    }
}
