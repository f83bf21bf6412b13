//! The first frame in each direction after TLS, and the reasons to refuse it. Pure: bytes in, verdict out.
//!
//! Promises: a hello is accepted only if protocol version, chain and epoch are ours and its author is the owner of the key
//! that TLS proved. The version comes first and is read alone, so that any later version can still be named. A refusal travels
//! as an enumeration and becomes prose only at the reader: no text of a peer reaches a log.

use std::fmt;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_config::ChainId;
use rorqual_config::committee::AuthorityIndex;
use rorqual_config::encoding::{decode, decode_header, encode};

use crate::Stream;

/// Largest handshake frame, in bytes.
pub const MAX_HANDSHAKE_BYTES: usize = 256;

/// First byte of a hello frame.
pub(crate) const HELLO: u8 = 0;

/// First byte of a refusal frame.
pub(crate) const REFUSE: u8 = 1;

/// Who speaks, on which chain, for which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Version of the frames; must stay the first field.
    pub version: u32,
    /// The chain.
    pub chain_id: ChainId,
    /// The epoch.
    pub epoch: u64,
    /// The speaker.
    pub author: AuthorityIndex,
    /// What this connection is for.
    pub stream: Stream,
    /// Drawn by the dialer for each pair of connections, echoed by the listener: tells which two belong together.
    pub session: u64,
}

/// Why a hello was not accepted, seen from who refuses. Grows at the end only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// Other version of the frames.
    WrongVersion {
        /// Of who refuses.
        ours: u32,
        /// Of who is refused.
        yours: u32,
    },
    /// Another chain.
    WrongChain {
        /// Of who refuses.
        ours: ChainId,
        /// Of who is refused.
        yours: ChainId,
    },
    /// Another epoch.
    WrongEpoch {
        /// Of who refuses.
        ours: u64,
        /// Of who is refused.
        yours: u64,
    },
    /// The author is not the owner of the key.
    WrongAuthor {
        /// Owner of the proven key.
        owner: AuthorityIndex,
        /// Named in the hello.
        named: AuthorityIndex,
    },
    /// The frame is not a hello, or its answer names another stream or session.
    Malformed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongVersion { ours, yours } => {
                write!(f, "protocol versions differ: {ours} at who refuses, {yours} at who is refused")
            }
            Self::WrongChain { ours, yours } => {
                write!(f, "chains differ: {ours} at who refuses, {yours} at who is refused")
            }
            Self::WrongEpoch { ours, yours } => {
                write!(f, "epochs differ: {ours} at who refuses, {yours} at who is refused")
            }
            Self::WrongAuthor { owner, named } => {
                write!(f, "the key belongs to member {owner} but the hello names {named}")
            }
            Self::Malformed => f.write_str("the hello was not understood"),
        }
    }
}

/// What the other side answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is ready.
    Hello(Hello),
    /// It refused our hello.
    Refused(Refusal),
}

/// The frame of a hello.
pub fn hello_frame(hello: &Hello) -> Bytes {
    frame(HELLO, encode(hello))
}

/// The frame of a refusal.
pub fn refusal_frame(refusal: &Refusal) -> Bytes {
    frame(REFUSE, encode(refusal))
}

fn frame(kind: u8, encoded: Vec<u8>) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + encoded.len());
    bytes.push(kind);
    bytes.extend(encoded);
    bytes.into()
}

/// Checks the hello of a peer whose key belongs to `owner` against `mine`, of which stream and session do not matter.
///
/// # Errors
/// The refusal to send back.
pub fn check_hello(frame: &Bytes, mine: &Hello, owner: AuthorityIndex) -> Result<Hello, Refusal> {
    if frame.first() != Some(&HELLO) {
        return Err(Refusal::Malformed);
    }
    let body = frame.slice(1..);
    let (version, _) = decode_header::<u32>(&body).map_err(|_| Refusal::Malformed)?;
    if version != mine.version {
        return Err(Refusal::WrongVersion { ours: mine.version, yours: version });
    }
    let hello: Hello = decode(&body).map_err(|_| Refusal::Malformed)?;
    if hello.chain_id != mine.chain_id {
        return Err(Refusal::WrongChain { ours: mine.chain_id, yours: hello.chain_id });
    }
    if hello.epoch != mine.epoch {
        return Err(Refusal::WrongEpoch { ours: mine.epoch, yours: hello.epoch });
    }
    if hello.author != owner {
        return Err(Refusal::WrongAuthor { owner, named: hello.author });
    }
    Ok(hello)
}

/// Checks what came back for the hello `mine` from the peer whose key belongs to `owner`.
///
/// # Errors
/// Our own refusal of that answer.
pub fn check_answer(frame: &Bytes, mine: &Hello, owner: AuthorityIndex) -> Result<Answer, Refusal> {
    if frame.first() == Some(&REFUSE) {
        let refusal = decode(&frame[1..]).unwrap_or(Refusal::Malformed);
        return Ok(Answer::Refused(refusal));
    }
    let hello = check_hello(frame, mine, owner)?;
    if (hello.stream, hello.session) != (mine.stream, mine.session) {
        return Err(Refusal::Malformed);
    }
    Ok(Answer::Hello(hello))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rorqual_config::Digest;

    fn hello(author: u16) -> Hello {
        Hello {
            version: 1,
            chain_id: ChainId(Digest([5; 32])),
            epoch: 2,
            author: AuthorityIndex(author),
            stream: Stream::Bulk,
            session: 77,
        }
    }

    #[test]
    fn a_matching_hello_is_accepted_and_fits_the_limit() {
        let frame = hello_frame(&hello(3));
        assert!(frame.len() <= MAX_HANDSHAKE_BYTES);
        assert_eq!(check_hello(&frame, &hello(0), AuthorityIndex(3)), Ok(hello(3)));
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let check = |theirs: Hello| check_hello(&hello_frame(&theirs), &hello(0), AuthorityIndex(3)).unwrap_err();
        assert_eq!(check(Hello { version: 9, ..hello(3) }), Refusal::WrongVersion { ours: 1, yours: 9 });
        assert_eq!(check(Hello { epoch: 9, ..hello(3) }), Refusal::WrongEpoch { ours: 2, yours: 9 });
        let other = ChainId(Digest([6; 32]));
        let wrong_chain = check(Hello { chain_id: other, ..hello(3) });
        assert_eq!(wrong_chain, Refusal::WrongChain { ours: hello(0).chain_id, yours: other });
        assert!(wrong_chain.to_string().contains(&other.to_string()));
        let named = AuthorityIndex(4);
        assert_eq!(check(hello(4)), Refusal::WrongAuthor { owner: AuthorityIndex(3), named });
    }

    #[test]
    fn a_later_version_with_another_layout_is_still_named() {
        let frame = Bytes::from_static(&[HELLO, 2, 0, 0, 0, 1, 2, 3]);
        let refusal = check_hello(&frame, &hello(0), AuthorityIndex(3));
        assert_eq!(refusal, Err(Refusal::WrongVersion { ours: 1, yours: 2 }));
    }

    #[test]
    fn an_answer_is_a_hello_for_the_same_stream_or_a_refusal() {
        let owner = AuthorityIndex(3);
        assert_eq!(check_answer(&hello_frame(&hello(3)), &hello(0), owner), Ok(Answer::Hello(hello(3))));
        let other = Hello { stream: Stream::Priority, ..hello(3) };
        assert_eq!(check_answer(&hello_frame(&other), &hello(0), owner), Err(Refusal::Malformed));
        let refusal = Refusal::WrongEpoch { ours: 1, yours: 2 };
        let frame = refusal_frame(&refusal);
        assert!(frame.len() <= MAX_HANDSHAKE_BYTES);
        assert_eq!(check_answer(&frame, &hello(0), owner), Ok(Answer::Refused(refusal)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..3) {
            if let Some(first) = bytes.first_mut() { *first = kind; }
            let frame = Bytes::from(bytes);
            prop_assert!(check_hello(&frame, &hello(0), AuthorityIndex(3)).is_err());
            let _ = check_answer(&frame, &hello(0), AuthorityIndex(3));
        }
    }
}
