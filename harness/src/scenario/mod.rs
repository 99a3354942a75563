//! Scenario and subject files: parse, validate, resolve into a [`Trial`](crate::plan::Trial).
//!
//! ```text
//! text --parse--> Scenario --+
//!                            +--resolve--> Trial
//! text --parse--> Subject  --+
//! ```
//!
//! Parsing and resolving are pure: text in, types or every mistake out. [`library`] is the only
//! file of this folder that reads the disk; it finds the files that a command names.
//!
//! # Invariants
//! - Nothing of a file is ever dropped: what is not understood is a [`Mistake`].
//! - No input panics, whatever its bytes.
//! - What `parse` accepts `resolve` can resolve: against a subject it is a trial or is skipped.

mod event;
mod fault_table;
mod fault_words;
mod feature;
pub mod gap_edit;
mod keys;
pub mod library;
mod mistake;
mod resolve;
mod scenario_file;
pub mod schema;
mod spec;
mod strace;
mod subject_file;
mod walk;
mod words;

pub use fault_words::parse_fault;
pub use feature::Feature;
pub use mistake::{Mistake, Mistakes};
pub use resolve::{Resolution, resolve};
pub use scenario_file::parse_scenario;
pub use spec::{
    Canary, CastPart, Covers, DeedSpec, EffectSpec, EventSpec, ExpectSpec, FaultSpec, Launch,
    Length, Need, Planted, Scenario, Setup, Subject, TakeoverSpec, TimingSpec, Variant, When,
    WorldSpec,
};
pub use strace::{Import, parse_inject};
pub use subject_file::parse_subject;

/// The longest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
