//! The groups whose data may not be on disk yet.
//!
//! Each group of writes puts, in the same atomic write as its references, one entry that lists them. The entry goes with a
//! later write once the group's data are known to be on disk. So the next start knows exactly which records it has to
//! check, however much is stored, and what to put in the place of one that was lost.

use bytes::{Buf, BufMut, Bytes};

use super::reference::Reference;

/// One reference of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailEntry {
    pub(crate) column: String,
    pub(crate) key: Bytes,
    pub(crate) reference: Reference,
    /// The index entry that this one replaced.
    pub(crate) previous: Option<Bytes>,
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
pub(crate) fn append(list: &mut Vec<u8>, column: &str, key: &[u8], reference: &Reference, previous: Option<&Bytes>) {
    put_bytes(list, column.as_bytes());
    put_bytes(list, key);
    put_bytes(list, &reference.encode());
    match previous {
        Some(entry) => {
            list.put_u8(1);
            put_bytes(list, entry);
        }
        None => list.put_u8(0),
    }
}

/// Reads a list back; `None` if it is damaged.
pub(crate) fn decode(mut list: &[u8]) -> Option<Vec<TailEntry>> {
    let mut entries = Vec::new();
    while !list.is_empty() {
        let column = String::from_utf8(get_bytes(&mut list)?.to_vec()).ok()?;
        let key = Bytes::copy_from_slice(get_bytes(&mut list)?);
        let reference = super::reference::Stored::reference(get_bytes(&mut list)?)?;
        let previous = match list.try_get_u8().ok()? {
            0 => None,
            _ => Some(Bytes::copy_from_slice(get_bytes(&mut list)?)),
        };
        entries.push(TailEntry { column, key, reference, previous });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_a_cut_one_is_refused() {
        let reference = Reference { segment: 7, generation: 8, offset: 4096, length: 5000 };
        let previous = Bytes::from("\0old");
        let mut list = Vec::new();
        append(&mut list, "payload", b"one", &reference, None);
        let first = list.len();
        append(&mut list, "payload", b"two", &reference, Some(&previous));
        let entry = |key, previous| TailEntry { column: "payload".into(), key, reference, previous };
        let expected = vec![entry(Bytes::from("one"), None), entry(Bytes::from("two"), Some(previous))];
        assert_eq!(decode(&list), Some(expected));
        for length in (1..list.len()).filter(|length| *length != first) {
            assert_eq!(decode(&list[..length]), None, "{length}");
        }
    }
}
