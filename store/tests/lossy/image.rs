//! The bytes of a file: pages that exist only where something was written, shared between the images that agree on them.

use std::sync::Arc;

/// Size of a page, and the granularity of what a real disk writes back.
pub const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// A length and the pages below it; a page that is not there reads as zeros.
#[derive(Clone, Debug, Default)]
pub struct Image {
    length: u64,
    pages: Vec<Option<Arc<Page>>>,
    /// How many pages are there.
    present: u64,
}

fn index(page: u64) -> usize {
    usize::try_from(page).expect("a page number fits the address space, because its page is kept in memory")
}

/// The pages that a range touches, each with the part of the range that lies in it: page, offset in it, bytes.
fn pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length;
    let (first, last) = (offset / PAGE, end.div_ceil(PAGE));
    (first..last).map(move |page| {
        let from = offset.max(page * PAGE);
        let to = end.min((page + 1) * PAGE);
        (page, index(from % PAGE), index(to - from))
    })
}

impl Image {
    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the pages that are there.
    pub fn allocated(&self) -> u64 {
        self.present * PAGE
    }

    /// Bytes that a write would allocate.
    pub fn missing(&self, offset: u64, length: u64) -> u64 {
        let absent = |page: &u64| !matches!(self.pages.get(index(*page)), Some(Some(_)));
        pieces(offset, length).map(|(page, ..)| page).filter(absent).count() as u64 * PAGE
    }

    /// Up to `length` bytes from `offset` on; fewer where the file ends.
    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let length = length.min(self.length.saturating_sub(offset));
        let mut bytes = Vec::with_capacity(index(length));
        for (page, from, count) in pieces(offset, length) {
            match self.pages.get(index(page)) {
                Some(Some(page)) => bytes.extend_from_slice(&page[from..from + count]),
                _ => bytes.resize(bytes.len() + count, 0),
            }
        }
        bytes
    }

    /// Puts bytes at an offset; the file grows if they reach beyond its end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (page, from, count) in pieces(offset, bytes.len() as u64) {
            let (here, beyond) = rest.split_at(count);
            self.page(page)[from..from + count].copy_from_slice(here);
            rest = beyond;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    fn page(&mut self, page: u64) -> &mut Page {
        let page = index(page);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let present = &mut self.present;
        Arc::make_mut(self.pages[page].get_or_insert_with(|| {
            *present += 1;
            Arc::new([0; PAGE as usize])
        }))
    }

    /// Cuts the file off, or lets it grow by zeros.
    pub fn resize(&mut self, length: u64) {
        if length < self.length {
            let kept = index(length.div_ceil(PAGE)).min(self.pages.len());
            self.present -= self.pages.drain(kept..).flatten().count() as u64;
            let from = index(length % PAGE);
            if from != 0 && matches!(self.pages.get(index(length / PAGE)), Some(Some(_))) {
                self.page(length / PAGE)[from..].fill(0);
            }
        }
        self.length = length;
    }

    /// Takes over the pages of a range from another image, without copying them.
    pub fn share(&mut self, other: &Image, offset: u64, length: u64) {
        for (page, ..) in pieces(offset, length) {
            let page = index(page);
            let shared = other.pages.get(page).cloned().flatten();
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            self.present += u64::from(shared.is_some());
            self.present -= u64::from(std::mem::replace(&mut self.pages[page], shared).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_reads_as_zeros() {
        let mut image = Image::default();
        image.write(PAGE - 1, b"ab");
        image.write(3 * PAGE, b"c");
        assert_eq!(image.read(PAGE - 2, 5), b"\0ab\0\0");
        assert_eq!(image.read(3 * PAGE - 1, 100), b"\0c");
        assert_eq!((image.length(), image.allocated()), (3 * PAGE + 1, 3 * PAGE));
        assert_eq!(image.missing(2 * PAGE - 1, 2), PAGE);
    }

    #[test]
    fn a_file_that_shrinks_and_grows_again_does_not_show_its_old_end() {
        let mut image = Image::default();
        image.write(0, &[7; 10_000]);
        image.resize(5_000);
        image.resize(10_000);
        assert_eq!(image.read(4_999, 3), [7, 0, 0]);
        assert!(image.read(5_000, 5_000).iter().all(|byte| *byte == 0));
        assert_eq!(image.allocated(), 2 * PAGE);
    }

    #[test]
    fn a_shared_page_is_copied_before_it_changes() {
        let mut image = Image::default();
        image.write(0, b"old");
        let mut other = image.clone();
        other.share(&image, 0, 3);
        image.write(0, b"new");
        assert_eq!((image.read(0, 3), other.read(0, 3)), (b"new".to_vec(), b"old".to_vec()));
    }
}
