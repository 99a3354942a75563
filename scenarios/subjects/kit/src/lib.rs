//! What a Rust program needs to be a deadbeat subject.
//!
//! A subject's process is told by its environment what to do ([`Environment`]), says what it does
//! in the witness file ([`Witness`]), and plays one critical section, or a few
//! ([`play`]). The lock under test comes in through two traits, [`Lock`] and [`Guard`].
//!
//! Nothing here knows anything of a particular lock.

mod environment;
mod section;
mod witness;

pub use environment::{BadEnvironment, Environment};
pub use section::{Guard, Lock, Notice, OnLoss, Tried, play};
pub use witness::{Witness, WitnessError};
