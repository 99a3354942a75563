//! The append-only event list of a run: one clock, totally ordered, written before the process
//! that caused an event may go on. Every verdict is a pure function of it.
//!
//! # Invariants
//! - `seq` counts from 1 without gaps; `at` never decreases.
//! - An operation appears as `Op` when it is answered; one that is held or delayed also appears
//!   as `Waiting` when it begins.

pub mod compare;

use serde::{Deserialize, Serialize};

use crate::op::{Op, OpId, Outcome};
use crate::role::Role;
use crate::time::Nanos;
use crate::witness::Said;

/// How a `Trouble` begins that says that the machine, not the lock, was late: nothing that the
/// run shows stands then, in either direction.
pub const TOO_SLOW: &str = "the machine was too slow for real time";

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the one total order, from 1.
    pub seq: u64,
    /// When, since the run began.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum What {
    /// A role's first process runs.
    Started {
        /// Which role.
        role: Role,
        /// Its pid as it sees it itself, and writes it into lock files. Roles in PID namespaces
        /// of their own may have the same.
        pid: u32,
    },
    /// An operation was answered.
    Op {
        /// Which.
        op: Op,
        /// What it came to.
        outcome: Outcome,
        /// The fault that had a hand in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<u32>,
    },
    /// An operation began and is not answered yet.
    Waiting {
        /// Which.
        op: Op,
        /// The fault that holds it; `None`: it waits for a lock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<u32>,
    },
    /// A fault fired, before its effect.
    Fired {
        /// Its number.
        fault: u32,
        /// On whose operation.
        role: Role,
        /// Which operation.
        op: OpId,
    },
    /// A role wrote a line to the witness.
    Witness {
        /// Who.
        role: Role,
        /// What.
        said: Said,
    },
    /// The resource refused a token; the process got ESTALE and is not inside by this line.
    Fenced {
        /// Whose.
        role: Role,
        /// What it tried: an `entered` or a `wrote`.
        said: Said,
        /// The highest token that the resource has accepted.
        accepted: u64,
        /// Whose that was.
        by: Role,
    },
    /// The harness did event number `event`.
    Done {
        /// Its number.
        event: u32,
        /// What it came to.
        note: String,
    },
    /// An event could not be done, or matched nothing.
    NotDone {
        /// Its number.
        event: u32,
        /// Why.
        why: String,
    },
    /// A role was stopped.
    Stopped {
        /// Which.
        role: Role,
    },
    /// A role goes on.
    Continued {
        /// Which.
        role: Role,
    },
    /// SIGKILL was sent to a role by the harness.
    Killed {
        /// Which.
        role: Role,
        /// Whether by the plan (an event or a fault), rather than at the end of the run.
        planned: bool,
    },
    /// A role's first process ended.
    Exited {
        /// Which.
        role: Role,
        /// Its exit code.
        code: Option<i32>,
        /// Or the signal that ended it.
        signal: Option<i32>,
    },
    /// A role's process printed something.
    Output {
        /// Who.
        role: Role,
        /// Where.
        stream: Stream,
        /// What, as far as it is UTF-8.
        text: String,
    },
    /// Something that a reader may want to know of a role. Nothing is judged by it.
    Note {
        /// Which role.
        role: Role,
        /// In words for the user; the role is their subject.
        text: String,
    },
    /// Something makes the run prove less than it should.
    Trouble {
        /// In words for the user: what, and which bound.
        why: String,
    },
    /// The run is over: every role is dead.
    End,
}

/// Where output went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Everything that happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    /// In order.
    pub events: Vec<Event>,
}

impl History {
    /// Appends what happened at `at`, and gives it the next number.
    ///
    /// # Panics
    /// If `at` is before the last event: the engine's clock went back, which is our bug.
    pub fn push(&mut self, at: Nanos, what: What) -> &Event {
        let last = self.events.last();
        assert!(last.is_none_or(|last| last.at <= at), "the engine's clock went back");
        let seq = last.map_or(1, |last| last.seq + 1);
        self.events.push(Event { seq, at, what });
        self.events.last().expect("one was pushed just now")
    }
}
