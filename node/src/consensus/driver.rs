//! The loop: wait, step the core, carry out. It only dispatches.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rorqual_config::Digest;
use rorqual_protocol::core::Status;
use rorqual_protocol::types::{CommitIndex, Sequence};
use rorqual_protocol::{Core, Effect, Input, Now};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::effects::{Effects, Rooms, Stop, next_persisted};

/// Inputs taken in one go before the status is published and timers are looked at.
const BURST: usize = 128;

/// What outsiders see of the core.
pub type ConsensusStatus = Status;

/// What the task is made of.
pub struct ConsensusSetup {
    /// The recovered core.
    pub core: Core,
    /// What recovery asked for.
    pub effects: Vec<Effect>,
    /// The clock that the core was recovered with.
    pub clock: Clock,
    /// Where effects go.
    pub rooms: Rooms,
    /// The oldest own batch with a record on disk.
    pub sealed_from: Sequence,
    /// Inputs from peers, payload, batches.
    pub inputs: mpsc::Receiver<Input>,
    /// What execution has applied.
    pub executed: mpsc::Receiver<(CommitIndex, Digest)>,
    /// Where the status is published.
    pub status: watch::Sender<ConsensusStatus>,
}

/// The two clocks of the core.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn now(&self) -> Now {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Now { monotonic: self.0.elapsed(), wall_ms }
    }

    fn at(&self, monotonic: Duration) -> Instant {
        self.0 + monotonic
    }
}

/// The task that owns the core.
pub struct Consensus {
    core: Core,
    effects: Effects,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    executed: mpsc::Receiver<(CommitIndex, Digest)>,
    status: watch::Sender<ConsensusStatus>,
}

impl Consensus {
    /// Runs until something makes the node stop; the reason is the result.
    pub async fn run(setup: ConsensusSetup) -> Stop {
        let mut this = Self {
            core: setup.core,
            effects: Effects::new(setup.rooms, setup.sealed_from),
            clock: setup.clock,
            inputs: setup.inputs,
            executed: setup.executed,
            status: setup.status,
        };
        if let Err(stop) = this.effects.carry_out(setup.effects).await {
            return stop;
        }
        loop {
            if let Err(stop) = this.turn().await {
                return stop;
            }
        }
    }

    /// Waits for one thing to happen and acts on it.
    async fn turn(&mut self) -> Result<(), Stop> {
        let deadline = self.effects.timer.map(|at| self.clock.at(at));
        if deadline.is_some_and(|at| at <= Instant::now()) {
            // Inputs that never cease must not keep a timer from firing.
            let input = self.on_timer();
            self.step(input).await?;
            return Ok(());
        }
        let input = tokio::select! {
            biased;
            Some((token, result)) = next_persisted(&mut self.effects.persists), if !self.effects.persists.is_empty() => {
                result?;
                Input::Persisted(token)
            }
            Some((index, state)) = self.executed.recv() => self.on_executed(index, state),
            input = self.inputs.recv() => input.ok_or(Stop::Closed)?,
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.on_timer(),
        };
        self.step(input).await?;
        for _ in 0..BURST {
            let Ok(input) = self.inputs.try_recv() else { break };
            self.step(input).await?;
        }
        self.status.send_replace(self.core.status());
        Ok(())
    }

    fn on_executed(&mut self, index: CommitIndex, state: Digest) -> Input {
        self.effects.executed(index);
        Input::Executed { index, state }
    }

    fn on_timer(&mut self) -> Input {
        self.effects.timer = None;
        Input::Timer
    }

    async fn step(&mut self, input: Input) -> Result<(), Stop> {
        let effects = self.core.step(self.clock.now(), input);
        self.effects.carry_out(effects).await?;
        // The core tries nothing of it again before a while has passed, so this ends.
        while let Some(refused) = self.effects.refused.pop_front() {
            let effects = self.core.step(self.clock.now(), refused);
            self.effects.carry_out(effects).await?;
        }
        Ok(())
    }
}
