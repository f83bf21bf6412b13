//! What a step wants done, put in the order that keeps the promises: writes first, then words.

use std::time::Duration;

use crate::effect::{Effect, Write};
use crate::input::Token;

/// Writes in one `Persist` at most; catching up can bring thousands at once.
const MAX_WRITES: usize = 512;

/// Effects of the step under way, and the timer.
#[derive(Default)]
pub struct Output {
    writes: Vec<Write>,
    synced: Option<Token>,
    effects: Vec<Effect>,
    tokens: u64,
    armed: Option<Duration>,
    wanted: Option<Duration>,
}

impl Output {
    /// Writes something with this step.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Asks for everything written so far to be on disk before the returned token comes back.
    pub fn sync(&mut self) -> Token {
        self.tokens = self.tokens.saturating_add(1);
        let token = Token(self.tokens);
        self.synced = Some(token);
        token
    }

    /// Whether something is written with this step.
    pub fn writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Does something after the writes of this step were handed over.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Wants to be woken at this time or before.
    pub fn wake(&mut self, at: Duration) {
        self.wanted = Some(self.wanted.map_or(at, |known| known.min(at)));
    }

    /// The timer has fired.
    pub fn disarm(&mut self) {
        self.armed = None;
    }

    /// Sets the timer for the earliest wish of this step, if that differs from what is set. Every step states all wishes.
    pub fn arm(&mut self) {
        if let Some(at) = self.wanted.take()
            && self.armed != Some(at)
        {
            self.armed = Some(at);
            self.effects.push(Effect::SetTimer(at));
        }
    }

    /// The effects of the step.
    pub fn finish(&mut self) -> Vec<Effect> {
        let mut effects = Vec::with_capacity(self.effects.len().saturating_add(1));
        let mut writes = std::mem::take(&mut self.writes);
        while writes.len() > MAX_WRITES {
            let rest = writes.split_off(MAX_WRITES);
            effects.push(Effect::Persist { writes, sync: false, token: None });
            writes = rest;
        }
        let token = self.synced.take();
        if !writes.is_empty() || token.is_some() {
            effects.push(Effect::Persist { writes, sync: token.is_some(), token });
        }
        effects.append(&mut self.effects);
        effects
    }
}
