//! The state machine.

use std::sync::Arc;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee, KeyPair};

use crate::effect::{Effect, Halt};
use crate::input::{Input, Now, Recovered};

/// What a core is made of.
#[derive(Clone)]
pub struct Setup {
    /// The committee and the common rules.
    pub committee: Arc<Committee>,
    /// Our place in it.
    pub me: AuthorityIndex,
    /// Signs our blocks.
    pub key: KeyPair,
    /// Timings and local limits.
    pub parameters: ConsensusParameters,
}

/// The state machine.
pub struct Core {
    setup: Setup,
}

impl Core {
    /// Rebuilds the state from disk. The effects are carried out like those of `step`.
    ///
    /// # Errors
    /// [`Halt`] where the disk contradicts itself.
    pub fn recover(setup: Setup, recovered: Recovered, now: Now) -> Result<(Self, Vec<Effect>), Halt> {
        let _ = (recovered, now);
        Ok((Self { setup }, Vec::new()))
    }

    /// Takes one input; says what to do.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let _ = (now, input, &self.setup);
        Vec::new()
    }
}
