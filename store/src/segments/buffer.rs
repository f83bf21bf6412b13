//! Memory that begins at a block boundary, as `O_DIRECT` asks of what it reads into and writes from.

/// The block of a segment file, in bytes: every write begins and ends at a multiple of it. A multiple of the logical block
/// of all common disks.
pub(crate) const BLOCK: usize = 4096;

/// Rounds up to whole blocks.
pub(crate) fn whole_blocks(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64)
}

/// A buffer of fixed length at an aligned address.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuffer {
    // Never grows, so that it never moves.
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A buffer of zeros.
    pub(crate) fn zeroed(length: usize) -> AlignedBuffer {
        let memory = vec![0; length + BLOCK];
        let address = memory.as_ptr().addr();
        AlignedBuffer { start: address.next_multiple_of(BLOCK) - address, memory, length }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_as_long_as_asked() {
        for length in [1, BLOCK, 3 * BLOCK + 1, 1 << 20] {
            let mut buffer = AlignedBuffer::zeroed(length);
            assert_eq!(buffer.as_ref().as_ptr().addr() % BLOCK, 0);
            assert_eq!((buffer.as_ref().len(), buffer.bytes_mut().len()), (length, length));
        }
    }
}
