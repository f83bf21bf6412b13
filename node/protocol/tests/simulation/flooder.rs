//! Sends payload that it never names.

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::VerifiedBlock;

use super::hoarder::fill;
use super::message::Message;
use super::outside::Outside;
use super::puppet::{Draft, Mischief};

pub struct Flooder;

/// Batches sent with each block.
const MANY: u64 = 8;

impl Mischief for Flooder {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let (author, round, peers) = (draft.core.author, draft.core.round.0, draft.peers.clone());
        for number in 0..MANY {
            let batch = fill(author, number + 1, round, out);
            for peer in &peers {
                out.send(author, *peer, Message::Batch(batch.key(author)));
            }
        }
        vec![(draft.sign(out), peers)]
    }
}
