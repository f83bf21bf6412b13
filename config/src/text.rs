//! Values as people write them: `512 KiB`, `3ms`, `127.0.0.1:9600`.
//!
//! What [`Text::show`] writes, [`Text::read`] reads back unchanged. Errors are the end of a sentence that begins with the key
//! and its value.

use std::net::SocketAddr;
use std::time::Duration;

use crate::encoding::Digest;
use crate::identity::PublicKey;
use crate::parameters::{Durability, LogFormat};

/// Largest size that is taken for meant: 1 PiB.
const MAX_BYTES: u64 = 1 << 50;
/// Longest duration that is taken for meant: ten years.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a value is written in TOML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In quotes.
    Quoted,
    /// In quotes with a unit; a plain number counts bytes.
    Size,
    /// As a plain number.
    Number,
    /// As `true` or `false`.
    Boolean,
    /// As an array of quoted items; in one text, with commas between them.
    List,
}

/// A text as one word of a POSIX shell: in quotes where it needs them.
pub fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A value with one text form.
pub(crate) trait Text: Sized {
    /// How the value is written in TOML.
    const FORM: Form;
    /// Reads the text form.
    fn read(text: &str) -> Result<Self, String>;
    /// Writes the text form.
    fn show(&self) -> String;
}

/// A size in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub u64);

impl From<u64> for Bytes {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for u64 {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl Text for Bytes {
    const FORM: Form = Form::Size;

    fn read(text: &str) -> Result<Self, String> {
        if text.contains('.') && !text.contains(char::is_alphabetic) {
            return Err("is not a whole number of bytes: write for example \"512 KiB\"".into());
        }
        let size: bytesize::ByteSize = text.parse().map_err(|_| "is not a size: write for example \"512 KiB\"")?;
        match size.as_u64() <= MAX_BYTES {
            true => Ok(Self(size.as_u64())),
            false => Err("is larger than 1 PiB: choose a size that fits the machine".into()),
        }
    }

    fn show(&self) -> String {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{} {name}", self.0 / unit),
            None => format!("{} B", self.0),
        }
    }
}

impl Text for Duration {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|_| "is not a duration: write a number and a unit, for example \"3ms\", \"5s\" or \"1h\"")?;
        match duration <= MAX_DURATION {
            true => Ok(duration),
            false => Err("is longer than ten years: choose a shorter one".into()),
        }
    }

    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Text for bool {
    const FORM: Form = Form::Boolean;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be `true` or `false`".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_number {
    ($($number:ty),*) => {$(
        impl Text for $number {
            const FORM: Form = Form::Number;

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("is not a whole number from 0 to {}", <$number>::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_number!(u32, u64, usize);

impl Text for String {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Text for SocketAddr {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not an address to bind: write IP:PORT, for example \"127.0.0.1:9601\"".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Text for PublicKey {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not a public key: write the 64 hex digits that `rorqual keygen` prints".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Text for Digest {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be 64 hex digits, as `rorqual testnet` writes them".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A list. In TOML an array; in the environment and in flags, items with commas between them.
impl Text for Vec<String> {
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    fn show(&self) -> String {
        self.join(", ")
    }
}

impl Text for Durability {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Text for LogFormat {
    const FORM: Form = Form::Quoted;

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A TOML string literal.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The known key nearest to `key`, if it is near enough to be a typing error.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
    let distances = known.map(|k| {
        // The right name in the wrong section is as near as one wrong letter.
        let misplaced = if last(k) == last(key) { 1 } else { usize::MAX };
        (distance(key, k).min(misplaced), k)
    });
    distances.min().filter(|(d, _)| *d <= 2 + key.len() / 8).map(|(_, k)| k)
}

/// Letters to insert, delete or change to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_divides_them() {
        for (bytes, text) in
            [(0, "0 B"), (1_023, "1023 B"), (512 << 10, "512 KiB"), (1 << 20, "1 MiB"), (8 << 30, "8 GiB")]
        {
            assert_eq!(Bytes(bytes).show(), text);
            assert_eq!(Bytes::read(text).unwrap().0, bytes);
        }
        for (text, bytes) in [("512KiB", 512 << 10), ("1.5 MiB", 3 << 19), ("1000", 1_000), ("1 kB", 1_000), ("0", 0)] {
            assert_eq!(Bytes::read(text).unwrap().0, bytes, "{text}");
        }
        for text in ["", "-1", "1 PB x", "KiB", "99999999 EiB", "1 parsec", "NaN", "inf"] {
            assert!(Bytes::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [("3ms", 3), ("5s", 5_000), ("1h", 3_600_000), ("1m 500ms", 60_500), ("0s", 0)] {
            assert_eq!(Duration::read(text).unwrap(), Duration::from_millis(millis));
            assert_eq!(Duration::read(text).unwrap().show(), text);
        }
        for text in ["", "3", "-3ms", "3 parsecs", "999999999 years"] {
            assert!(Duration::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let known = ["batch.max_bytes", "client.max_bytes_in_flight", "listen.peer", "durability"];
        for (typed, meant) in [
            ("batch.max_byte", Some("batch.max_bytes")),
            ("batch.maxbytes", Some("batch.max_bytes")),
            ("durablity", Some("durability")),
            ("peer", Some("listen.peer")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in 0..=MAX_BYTES, micros in 0u64..=1 << 40) {
            proptest::prop_assert_eq!(Bytes::read(&Bytes(bytes).show()).unwrap().0, bytes);
            let duration = Duration::from_micros(micros);
            proptest::prop_assert_eq!(Duration::read(&duration.show()).unwrap(), duration);
        }

        #[test]
        fn nothing_that_is_typed_panics(text: String) {
            let _ = (Bytes::read(&text), Duration::read(&text), u32::read(&text), Vec::<String>::read(&text));
            let _ = nearest(&text, ["batch.max_bytes", "durability"].into_iter());
        }
    }
}
