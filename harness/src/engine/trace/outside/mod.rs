//! One command under faults, outside scenarios: the user's command, files and terminal.
//!
//! No namespaces, no ground, no virtual time. Only those calls stop that can make an operation
//! that a fault names (or, for the log, any operation), and each is decided as soon as it stops:
//! nobody waits for anybody else. Which files are meant is a set of globs below `/`.
//!
//! # Signals
//! The command is in deadbeat's process group, so that what the terminal sends reaches it without
//! our doing; what somebody sends to deadbeat alone is passed on. When the terminal stops the
//! command, deadbeat stops with it, or the shell would wait for ever.
//!
//! # What is left at the end
//! A filter cannot be taken off a process, and a stop without a supervisor is ENOSYS: so processes
//! that the command leaves behind are waited for. They die with deadbeat (PTRACE_O_EXITKILL).

mod crew;
mod start;
mod tracer;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;

use self::crew::Crew;
use self::start::Started;
use self::tracer::Tracer;
use super::{calls, filter, sys};
use crate::engine::EngineError;
use crate::engine::agenda::Occurrence;
use crate::engine::court::{Court, Scribe};
use crate::engine::outside::{EVERYBODY, plan};
use crate::fault::matching::{Matcher, compile};
use crate::fault::{Rule, Target};
use crate::history::What;
use crate::moment::Sign;
use crate::op::OpKind;

/// Signals that deadbeat takes note of, beside the end and the stops of tracees.
const HEARD: &[i32] = &[
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
];

/// What is to be run, under which faults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders<'a> {
    /// The program and its arguments.
    pub(crate) argv: &'a [OsString],
    /// Counted for each file over the whole command.
    pub(crate) rules: &'a [Rule],
    /// Counted for each process and file. They have no moments, and kill only who is hit.
    pub(crate) injected: &'a [Rule],
    /// Numbers of those of them that delay an operation after it has happened, not before.
    pub(crate) late: &'a BTreeSet<u32>,
    /// Whether every operation on the rules' files is written down, not only of their kinds.
    pub(crate) watch_all: bool,
    /// Whether what the command leaves behind is killed, rather than waited for.
    pub(crate) kill_rest: bool,
}

/// How the command ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It never ran.
    NotRun(io::Error),
}

fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.into();
    move |source| EngineError::Step { what, source }
}

/// Runs the command to its end, and everything that it leaves behind.
///
/// # Errors
/// Processes cannot be traced here.
pub(crate) fn run<S: Scribe>(orders: &Orders<'_>, scribe: S) -> Result<(Ended, S), EngineError> {
    let malformed = |error| step("read the faults")(io::Error::other(error));
    let rules: Vec<Rule> = orders.rules.iter().chain(orders.injected).cloned().collect();
    let globs = rules.iter().map(|rule| if let Target::Glob(on) = &rule.on { on } else { "**" });
    let files = compile(globs).map_err(malformed)?;
    let mut court = Court::outside(&plan(orders.rules), Crew::new(), scribe).map_err(malformed)?;
    let mut injected = Matcher::new(&plan(orders.injected)).map_err(malformed)?;
    for rule in orders.injected {
        injected.activate(rule.number);
    }
    court.happened(Occurrence::Start);
    // Before the first child: what is reported must not be missed.
    let mask = sys::hold_back(HEARD);
    let filter = filter_for(&rules, orders.watch_all);
    let started = Started::fork(orders.argv, mask, &filter)?;
    court.world.processes.insert(started.main);
    court.record(What::Started { role: EVERYBODY, pid: started.main.unsigned_abs() });
    court.happened(Occurrence::Role(EVERYBODY, Sign::Started));
    let tracer = Tracer::new(orders, court, files, injected, started.main);
    started.go().map_err(step("let the command run"))?;
    tracer.follow(&started.failure)
}

/// The calls that stop: those that the rules' operations can be, and for the log all on files.
fn filter_for(rules: &[Rule], watch_all: bool) -> Vec<libc::sock_filter> {
    let named = rules.iter().flat_map(|rule| rule.ops.kinds.iter().copied());
    let all = OpKind::ALL.iter().copied().filter(|kind| watch_all && *kind != OpKind::Thread);
    let kinds: BTreeSet<OpKind> = named.chain(all).collect();
    let has = |kind| kinds.contains(&kind);
    let (locks, maps) = (has(OpKind::FcntlLock), has(OpKind::Write));
    filter::real_time(&calls::making(&kinds), locks, maps, has(OpKind::Thread))
}
