//! What RocksDB holds under the key of a column of large values: the value itself, or where it is.

use bytes::{Buf, BufMut, Bytes};

use super::record::record_bytes;

const INLINE: u8 = 0;
const SEGMENT: u8 = 1;

/// Where a large value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The number of the file.
    pub(crate) segment: u32,
    /// Which life of the file.
    pub(crate) generation: u64,
    /// Where the record begins in the file.
    pub(crate) offset: u64,
    /// Bytes of the value.
    pub(crate) length: u64,
}

/// An entry of a column of large values, told apart by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Inline(&'a [u8]),
    Segment(Reference),
}

impl Reference {
    /// Bytes of the whole record under this key.
    pub(crate) fn record_bytes(&self, key: &[u8]) -> u64 {
        record_bytes(key.len(), self.length)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(29);
        bytes.put_u8(SEGMENT);
        bytes.put_u32_le(self.segment);
        bytes.put_u64_le(self.generation);
        bytes.put_u64_le(self.offset);
        bytes.put_u64_le(self.length);
        Bytes::from(bytes)
    }

    fn decode(mut bytes: &[u8]) -> Option<Reference> {
        let reference = Reference {
            segment: bytes.try_get_u32_le().ok()?,
            generation: bytes.try_get_u64_le().ok()?,
            offset: bytes.try_get_u64_le().ok()?,
            length: bytes.try_get_u64_le().ok()?,
        };
        bytes.is_empty().then_some(reference)
    }
}

impl<'a> Stored<'a> {
    /// `None` for what no version of this program writes.
    pub(crate) fn decode(entry: &'a [u8]) -> Option<Stored<'a>> {
        match entry.split_first()? {
            (&INLINE, value) => Some(Stored::Inline(value)),
            (&SEGMENT, rest) => Reference::decode(rest).map(Stored::Segment),
            _ => None,
        }
    }

    /// The reference, if the entry is one.
    pub(crate) fn reference(entry: &[u8]) -> Option<Reference> {
        match Stored::decode(entry) {
            Some(Stored::Segment(reference)) => Some(reference),
            _ => None,
        }
    }
}

/// The entry of a value that stays in RocksDB.
pub(crate) fn inline(value: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + value.len());
    bytes.put_u8(INLINE);
    bytes.put_slice(value);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_as_what_they_were() {
        let reference = Reference { segment: 7, generation: u64::MAX, offset: 4096, length: 1 << 40 };
        assert_eq!(Stored::decode(&reference.encode()), Some(Stored::Segment(reference)));
        assert_eq!(Stored::decode(&inline(b"")), Some(Stored::Inline(b"")));
        assert_eq!(Stored::decode(&inline(b"value")), Some(Stored::Inline(b"value")));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let reference = Reference { segment: 7, generation: 1, offset: 0, length: 0 }.encode();
        for entry in [&b""[..], b"\x02", &reference[..28], &[&reference[..], b"\0"].concat()] {
            assert_eq!(Stored::decode(entry), None, "{entry:?}");
        }
    }
}
