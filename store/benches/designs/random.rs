//! Values that no compression helps with, and choices that are the same in every run.

use bytes::Bytes;

/// A small generator (xorshift64*, Vigna 2016): not for secrets.
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d }
    }

    pub fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, evenly enough for bounds far below 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

const VALUES: u64 = 64;

/// Values of one size. There are several, so that a large one comes from memory and not from the processor's cache.
pub struct Payloads {
    values: Vec<Bytes>,
}

impl Payloads {
    pub fn new(bytes: usize) -> Payloads {
        let value = |seed| {
            let mut random = Random::new(seed);
            let words = (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
            Bytes::from(words.take(bytes).collect::<Vec<u8>>())
        };
        Payloads { values: (0..VALUES).map(value).collect() }
    }

    /// One of them; takes a reference and copies nothing.
    pub fn pick(&self, number: u64) -> Bytes {
        self.values[(number % VALUES) as usize].clone()
    }
}
