//! deadbeat finds out what a file lock does when its heartbeat dies.
//!
//! The flow, one noun a stage:
//!
//! ```text
//! Scenario + Subject -> Plan -> Engine -> History -> Checks -> Verdict -> Report
//! ```
//!
//! - [`scenario`] parses and resolves scenario and subject files into a [`plan::Trial`]. Pure.
//! - [`plan`] is every choice of one run as data.
//! - [`setup`] makes a subject's folder ready to run, once, in a cache.
//! - [`engine`] carries a plan out with real processes and returns a [`history::History`].
//! - [`check`] holds pure functions of a history and of what was promised; they give the outcome.
//! - [`report`] shows it; decides nothing.
//! - [`cli`] is the only place that prints or exits.
//!
//! Arrows point down only: `check`, `scenario`, `fault` and `plan` never import an engine.

pub mod check;
pub mod cli;
pub mod engine;
pub mod fault;
pub mod handmade;
pub mod history;
pub mod moment;
pub mod op;
pub mod plan;
pub mod report;
pub mod role;
pub mod scenario;
pub mod setup;
pub mod time;
pub mod witness;
