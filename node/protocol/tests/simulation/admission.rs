//! The way in at an honest node: blocks that are known are not verified again, and a peer that brings too many waits. What it
//! sent behind them waits with them, as in the daemon, which stops reading that stream; answers do not.

use std::collections::VecDeque;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::VerifiedBlock;
use rorqual_protocol::{Admission, Input, Verdict};

use super::Time;
use super::daemon::Daemon;
use super::disk::Disk;
use super::event::Event;
use super::message::{Message, Stream};
use super::outside::Outside;

/// The stream of one peer.
pub struct Inlet {
    pub admission: Admission,
    waiting: VecDeque<Message>,
}

impl Inlet {
    pub fn new(admission: Admission) -> Self {
        Self { admission, waiting: VecDeque::new() }
    }
}

impl Daemon {
    pub fn arrive(&mut self, sender: AuthorityIndex, message: Message, disk: &mut Disk, out: &mut Outside) {
        let is_answer = matches!(message, Message::Blocks { .. } | Message::Tip(_));
        if message.stream() == Stream::Bulk || is_answer {
            return self.receive(sender, message, disk, out);
        }
        let inlet = &mut self.inlets[sender.usize()];
        inlet.waiting.push_back(message);
        if inlet.waiting.len() == 1 {
            self.resume(sender, disk, out);
        }
    }

    /// Takes what the peer sent, as far as its budget goes.
    pub fn resume(&mut self, sender: AuthorityIndex, disk: &mut Disk, out: &mut Outside) {
        loop {
            let now = self.since_start(out);
            let inlet = &mut self.inlets[sender.usize()];
            let Some(message) = inlet.waiting.front() else { return };
            let ready = inlet.admission.ready_at();
            if matches!(message, Message::Own(_) | Message::History(_)) && ready > now {
                let delay = (ready - now).as_micros() as Time + 1;
                out.after(delay, Event::Resume { node: self.me, life: self.life, peer: sender });
                return;
            }
            if let Some(message) = inlet.waiting.pop_front() {
                self.receive(sender, message, disk, out);
            }
        }
    }

    /// Blocks that came unasked.
    pub fn unasked(&mut self, sender: AuthorityIndex, blocks: Vec<VerifiedBlock>, disk: &mut Disk, out: &mut Outside) {
        let now = self.since_start(out);
        let mut known = Vec::new();
        for block in blocks {
            match self.inlets[sender.usize()].admission.judge(now, &block.reference()) {
                Verdict::New => {
                    out.oracle.verified_by(self.me, &block.reference());
                    if super::serve::takes(sender, &block, out) {
                        self.step(Input::Block { sender, block }, disk, out);
                    }
                }
                Verdict::Known => known.push(block.reference()),
                Verdict::Old => (),
            }
        }
        if !known.is_empty() {
            out.oracle.copies += known.len() as u64;
            self.step(Input::KnownBlocks { sender, refs: known }, disk, out);
        }
    }

    fn since_start(&self, out: &Outside) -> Duration {
        Duration::from_micros(out.now - self.started)
    }
}
