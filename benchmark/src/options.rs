//! The command line of `rorqual-load`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use crate::payload::Fill;

/// Offers transactions to a rorqual cluster at a fixed rate and measures from the intended time to the receipt
#[derive(Clone, Parser, Debug)]
#[command(name = "rorqual-load", version)]
pub struct Options {
    /// Client address of a node; repeat it: the rate is split over all, one connection each
    #[arg(long = "node", value_name = "ADDR", required = true)]
    pub nodes: Vec<SocketAddr>,
    /// Transactions a second, all nodes together
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Bytes of a transaction
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub tx_size: u64,
    /// How long to offer load, warm-up included
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How much of the beginning is not measured
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// How long to wait for the last receipts
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// How often transactions that are due are handed over; at most 5ms
    #[arg(long, default_value = "1ms", value_parser = tick)]
    pub tick: Duration,
    /// Most transactions in one submission; less if they are larger than the node takes
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    pub submission: u32,
    /// What transactions are filled with
    #[arg(long, value_enum, default_value_t = Fill::Random)]
    pub payload: Fill,
    /// Send submissions without an id: a retry would then be applied again
    #[arg(long)]
    pub without_ids: bool,
}

impl Options {
    /// Transactions that go into one submission at most, if a node takes so many bytes.
    pub fn submission_limit(&self, max_bytes: u64) -> u64 {
        u64::from(self.submission).min(max_bytes / self.tx_size).max(1)
    }

    /// What the options mean together.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.warm_up < self.duration {
            true => Ok(()),
            false => Err("--warm-up must be shorter than --duration: nothing would be measured".into()),
        }
    }
}

fn tick(text: &str) -> Result<Duration, String> {
    let tick = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_micros(100)..=Duration::from_millis(5)).contains(&tick) {
        true => Ok(tick),
        false => Err("must be between 100us and 5ms".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_never_exceeds_the_protocol() {
        let parse = |size: &str| Options::parse_from(["rorqual-load", "--node", "127.0.0.1:1", "--tx-size", size]);
        assert_eq!(parse("512").submission_limit(256 << 10), 256);
        assert_eq!(parse("4096").submission_limit(256 << 10), 64);
        assert_eq!(parse("1000000").submission_limit(1_000_000), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let parse =
            |more: &[&str]| Options::try_parse_from([&["rorqual-load", "--node", "127.0.0.1:1"], more].concat());
        assert!(parse(&["--tick", "1s"]).is_err());
        assert!(parse(&["--rate", "0"]).is_err());
        assert!(parse(&["--duration", "1s"]).unwrap().check().is_err());
        assert!(parse(&[]).unwrap().check().is_ok());
    }
}
