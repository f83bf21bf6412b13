//! The groups whose data may not be on disk yet.
//!
//! Each group of writes puts, in the same atomic write as its references, one entry that lists them. The entry goes with a
//! later write once the group's data are known to be on disk. So the next start knows exactly which records it has to
//! check, however much is stored.

use bytes::{Buf, BufMut, Bytes};

use super::reference::{Reference, Stored};

/// One reference of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailEntry {
    pub(crate) column: String,
    pub(crate) key: Bytes,
    pub(crate) reference: Reference,
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_u32_le(bytes.len() as u32);
    to.put_slice(bytes);
}

fn get_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = from.try_get_u32_le().ok()? as usize;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

/// Appends one reference to the list of a group.
pub(crate) fn append(list: &mut Vec<u8>, column: &str, key: &[u8], reference: &Reference) {
    put_bytes(list, column.as_bytes());
    put_bytes(list, key);
    put_bytes(list, &reference.encode());
}

/// Reads a list back; `None` if it is damaged.
pub(crate) fn decode(mut list: &[u8]) -> Option<Vec<TailEntry>> {
    let mut entries = Vec::new();
    while !list.is_empty() {
        let column = String::from_utf8(get_bytes(&mut list)?.to_vec()).ok()?;
        let key = Bytes::copy_from_slice(get_bytes(&mut list)?);
        let reference = Stored::reference(get_bytes(&mut list)?)?;
        entries.push(TailEntry { column, key, reference });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_a_cut_one_is_refused() {
        let reference = Reference { segment: 7, generation: 8, offset: 4096, length: 5000 };
        let mut list = Vec::new();
        append(&mut list, "payload", b"one", &reference);
        let first = list.len();
        append(&mut list, "payload", b"two", &reference);
        let entry = |key| TailEntry { column: "payload".into(), key: Bytes::from_static(key), reference };
        assert_eq!(decode(&list), Some(vec![entry(b"one"), entry(b"two")]));
        for length in (1..list.len()).filter(|length| *length != first) {
            assert_eq!(decode(&list[..length]), None, "{length}");
        }
    }
}
