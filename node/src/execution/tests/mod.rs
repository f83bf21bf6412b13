//! Execution as a whole: the rules against a naive model, and the room over a store in memory.

mod exactly_once;
mod keeping;
mod reading;
mod running;
mod support;
