//! Whole clusters in simulated time, under faults: every honest node tells the same history, and goes on telling it.
//!
//! A failing seed prints how to repeat it; `RORQUAL_SEEDS=n` runs n times as many, `RORQUAL_TRACE=1` tells every step.

mod members;
mod random;
#[allow(dead_code, reason = "the tests of the commit rule use more of it")]
mod reference;
mod scenarios;
mod simulation;
