//! How a node answers requests: as an honest one does, or not at all, late, short or wrong.
//!
//! A false server runs a true core, so that its blocks, votes and payload are those of an honest member: it lies only to
//! whoever asks it for something.

use bytes::Bytes;
use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::CommitIndex;

use super::disk::Disk;
use super::event::Event;
use super::message::{Message, Records};
use super::outside::Outside;
use super::{MILLISECOND, Time, serve};

/// What a false server does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// Never answers.
    Mute,
    /// Answers after this long, and with as little as counts as an answer.
    Trickle(Time),
    /// Serves ranges that end as early as they can.
    Truncate,
    /// Says that it has dropped what is asked for, and that its log begins here above.
    Pruned(u64),
    /// Answers at once with what does not verify.
    Garbage,
    /// Answers with the records, and never with their blocks.
    RecordsOnly,
    /// One of the above for every request anew.
    Mixed,
}

/// Which requests a false server lies about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// Ranges of commits alone.
    Ranges,
    /// Every request.
    Everything,
}

/// What a node is as a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    Honest,
    False(Lie, About),
}

impl Lie {
    fn drawn(self, out: &mut Outside) -> Self {
        let trickle = Self::Trickle(out.random.between(5, 200) * MILLISECOND);
        let all = [Self::Mute, trickle, Self::Truncate, Self::Pruned(1), Self::Garbage, Self::RecordsOnly];
        if self == Self::Mixed { *out.random.pick(&all) } else { self }
    }
}

impl Server {
    /// Answers a request of `asker`.
    pub fn answer(self, me: AuthorityIndex, asker: AuthorityIndex, question: Message, disk: &Disk, out: &mut Outside) {
        let about = match self {
            Self::False(lie, about) if about == About::Everything || is_about_ranges(&question) => Some(lie.drawn(out)),
            _ => None,
        };
        let honest = serve::answer(&question, disk);
        let (answer, delay) = match about {
            None => (honest, 0),
            Some(lie) => lie.answer(question, honest, disk),
        };
        let Some(answer) = answer else { return };
        if delay == 0 {
            out.send(me, asker, answer);
        } else {
            out.after(delay, Event::Say { from: me, to: asker, message: Box::new(answer) });
        }
    }
}

fn is_about_ranges(question: &Message) -> bool {
    matches!(question, Message::FetchCommits { .. } | Message::FetchRangeBlocks { .. })
}

impl Lie {
    fn answer(self, question: Message, honest: Option<Message>, disk: &Disk) -> (Option<Message>, Time) {
        let answer = match (self, question, honest) {
            (Self::Mute | Self::Mixed, ..) => None,
            (Self::RecordsOnly, question, honest) => {
                honest.filter(|_| matches!(question, Message::FetchCommits { .. }))
            }
            (Self::Trickle(delay), _, honest) => return (honest.map(least), delay),
            (Self::Truncate, Message::FetchCommits { id, from, .. }, _) => {
                Some(Message::Commits { id, served: serve::commits(from, from, disk) })
            }
            (Self::Pruned(above), Message::FetchCommits { id, to, .. }, _) => {
                let first = CommitIndex(to.0.saturating_add(above));
                Some(Message::Commits { id, served: Err(Some(first)) })
            }
            (Self::Garbage, _, honest) => honest.map(garbled),
            (Self::Truncate | Self::Pruned(_), _, honest) => honest,
        };
        (answer, 0)
    }
}

/// As little of an answer as counts as one.
fn least(answer: Message) -> Message {
    match answer {
        Message::RangeBlocks { id, mut blocks } => {
            blocks.truncate(1);
            Message::RangeBlocks { id, blocks }
        }
        other => other,
    }
}

/// An answer of the right shape that does not verify.
fn garbled(answer: Message) -> Message {
    match answer {
        Message::Commits { id, served: Ok(records) } => {
            let (mut commits, certificate): Records = *records;
            if let Some(first) = commits.first_mut() {
                first.timestamp_ms += 1;
            }
            Message::Commits { id, served: Ok(Box::new((commits, certificate))) }
        }
        Message::RangeBlocks { id, blocks } => {
            let blocks = blocks.iter().map(|block| Bytes::from(vec![0xff; block.len()])).collect();
            Message::RangeBlocks { id, blocks }
        }
        other => other,
    }
}
