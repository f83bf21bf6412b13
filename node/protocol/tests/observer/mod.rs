//! A core that only watches: blocks in, commits out. It has no peers, so it never proposes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::core::{Core, Setup};
use rorqual_protocol::types::VerifiedBlock;
use rorqual_protocol::{Effect, Input, Now, Recovered, Rule, Write};

use crate::members;
use crate::reference::NaiveCommit;

pub struct Observer {
    core: Core,
    now: Duration,
    /// Whether payload is there whenever it is asked for, or never.
    has_payload: bool,
    commits: Vec<NaiveCommit>,
}

impl Observer {
    pub fn new(committee: &Arc<Committee>, me: AuthorityIndex, has_payload: bool) -> Self {
        let parameters = ConsensusParameters::default();
        let setup = Setup { committee: committee.clone(), me, key: members::key(me), parameters };
        let recovered = Recovered { never_signed: true, ..Recovered::default() };
        let now = Now { monotonic: Duration::ZERO, wall_ms: 0 };
        let (core, effects) = Core::recover(setup, recovered, now).expect("an empty disk is consistent");
        let mut observer = Self { core, now: Duration::ZERO, has_payload, commits: Vec::new() };
        let mut answers = VecDeque::new();
        observer.carry_out(effects, &mut answers);
        observer.settle(answers);
        observer
    }

    /// Everything committed so far.
    pub fn commits(&self) -> &[NaiveCommit] {
        &self.commits
    }

    pub fn take(&mut self, sender: AuthorityIndex, block: &VerifiedBlock) {
        self.settle(VecDeque::from([Input::Block { sender, block: block.clone() }]));
    }

    fn settle(&mut self, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            self.now += Duration::from_micros(10);
            let wall_ms = self.now.as_millis() as u64;
            let effects = self.core.step(Now { monotonic: self.now, wall_ms }, input);
            self.carry_out(effects, &mut inputs);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, answers: &mut VecDeque<Input>) {
        for effect in effects {
            match effect {
                Effect::Persist { writes, token, .. } => {
                    let records = writes.iter().filter_map(|w| match w {
                        Write::Commit(delivery) => Some(NaiveCommit::from(&**delivery)),
                        _ => None,
                    });
                    self.commits.extend(records);
                    answers.extend(token.map(Input::Persisted));
                }
                Effect::WaitBatch { key, bytes, .. } if self.has_payload => {
                    answers.push_back(Input::BatchStored { key, bytes });
                }
                Effect::Halt(reason) => panic!("the observer stopped: {reason}"),
                // Drawn graphs have twins.
                Effect::Penalise { rule: Rule::Equivocation, .. } => (),
                Effect::Penalise { peer, rule } => panic!("{peer} was penalised: it {rule}"),
                Effect::SendOwn { .. } => panic!("an observer proposed"),
                _ => (),
            }
        }
    }
}
