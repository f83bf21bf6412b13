//! One large value in a segment file, and how it proves that it is the one that was asked for.
//!
//! ```text
//!  0  4  magic
//!  4  4  length of the key
//!  8  8  length of the value
//! 16  8  generation of the file
//! 24     key, then value
//!    32  BLAKE3 over value, key, column, generation, offset and lengths
//! ```
//!
//! Integers are little-endian. The generation is drawn at random each time a file begins a new life: whoever chose the
//! bytes of an earlier life could not know it, so no old bytes pass for a record of the new one. The check comes last, so
//! that a value is hashed and copied in one pass.

use blake3::Hasher;
use bytes::Bytes;

use super::buffer::AlignedBuffer;
use super::reference::Reference;

const MAGIC: [u8; 4] = *b"RQL2";
/// Bytes before the key.
const HEADER: usize = 24;
/// Bytes after the value.
const CHECK: usize = 32;

/// Which record this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) column: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) generation: u64,
    pub(crate) offset: u64,
}

/// Bytes of a record with a key and a value of these lengths.
pub(crate) fn record_bytes(key: usize, value: u64) -> u64 {
    ((HEADER + key + CHECK) as u64).saturating_add(value)
}

impl Identity<'_> {
    /// What stands before key and value.
    pub(crate) fn header(&self, value_bytes: u64) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&(self.key.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&value_bytes.to_le_bytes());
        header[16..24].copy_from_slice(&self.generation.to_le_bytes());
        header
    }

    /// What stands after the value, which the hasher has seen. First the value: its chunks then lie as BLAKE3 likes them.
    /// The lengths at the end tell the parts apart.
    pub(crate) fn check(&self, mut value: Hasher, header: &[u8; HEADER]) -> [u8; CHECK] {
        value.update(self.key).update(self.column.as_bytes());
        value.update(header).update(&self.offset.to_le_bytes());
        value.update(&(self.column.len() as u64).to_le_bytes());
        *value.finalize().as_bytes()
    }
}

/// The value in a piece of the file, if the record that begins at `start` is the one that is referred to, whole and
/// undamaged.
pub(crate) fn value_in(
    buffer: AlignedBuffer,
    start: usize,
    column: &str,
    key: &[u8],
    reference: &Reference,
) -> Option<Bytes> {
    let bytes = buffer.as_ref();
    let key_at = start + HEADER;
    let value_at = key_at + key.len();
    let check_at = value_at.checked_add(usize::try_from(reference.length).ok()?)?;
    let value = bytes.get(value_at..check_at)?;
    let check = bytes.get(check_at..check_at.checked_add(CHECK)?)?;
    let identity = Identity { column, key, generation: reference.generation, offset: reference.offset };
    let header = identity.header(reference.length);
    let named = bytes[start..key_at] == header && bytes[key_at..value_at] == *key;
    let intact = named && *check == identity.check(hashed(value), &header);
    intact.then(|| Bytes::from_owner(buffer).slice(value_at..check_at))
}

fn hashed(value: &[u8]) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(value);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"key";
    const REFERENCE: Reference = Reference { segment: 1, generation: 77, offset: 4096, length: 5000 };

    fn piece(change: impl FnOnce(&mut [u8])) -> AlignedBuffer {
        let value = vec![3; 5000];
        let identity = Identity { column: "c", key: KEY, generation: 77, offset: 4096 };
        let mut buffer = AlignedBuffer::zeroed(8192);
        let header = identity.header(5000);
        let record = [&header[..], KEY, &value, &identity.check(hashed(&value), &header)].concat();
        buffer.bytes_mut()[..record.len()].copy_from_slice(&record);
        change(buffer.bytes_mut());
        buffer
    }

    #[test]
    fn an_intact_record_gives_its_value() {
        assert_eq!(value_in(piece(|_| {}), 0, "c", KEY, &REFERENCE), Some(Bytes::from(vec![3; 5000])));
    }

    #[test]
    fn a_change_of_any_byte_is_found() {
        for position in 0..HEADER + 5003 + CHECK {
            let changed = piece(|bytes| bytes[position] ^= 1);
            assert_eq!(value_in(changed, 0, "c", KEY, &REFERENCE), None, "byte {position}");
        }
    }

    #[test]
    fn another_place_generation_column_or_key_is_another_record() {
        let others = [
            ("d", KEY, REFERENCE),
            ("c", b"kez".as_slice(), REFERENCE),
            ("c", b"ke", REFERENCE),
            ("c", KEY, Reference { generation: 78, ..REFERENCE }),
            ("c", KEY, Reference { offset: 8192, ..REFERENCE }),
            ("c", KEY, Reference { length: 4999, ..REFERENCE }),
            ("c", KEY, Reference { length: u64::MAX, ..REFERENCE }),
        ];
        for (column, key, reference) in others {
            assert_eq!(value_in(piece(|_| {}), 0, column, key, &reference), None, "{column} {key:?} {reference:?}");
        }
    }
}
