//! What the supervisor knows of each thread of the run.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::arch_x86_64::Regs;
use super::clock::Domain;
use super::decode::Call;
use super::procfs::Look;
use super::sys::Stopped;
use super::waits::{Deadline, Wait};
use crate::op::Op;
use crate::role::Role;

/// So many trapped clock reads with nothing else between them are no busy loop yet.
///
/// Whether reads are trapped depends on real time, so a program that works must stay below: its
/// reads would take time in one run and none in the next.
pub(crate) const READS_FREE: u64 = 5000;
/// So many at one place are none.
const READS_HERE: u64 = 100;
/// How many places are told apart.
const PLACES_MAX: usize = 64;

/// Whether this kernel tells where `pid`, which certainly sleeps, does so.
pub(crate) fn tells_places(pid: i32) -> bool {
    File::open(format!("/proc/{pid}/wchan")).is_ok_and(|file| names_a_place(&file))
}

fn names_a_place(wchan: &File) -> bool {
    let mut bytes = [0; 8];
    // An empty answer is none.
    wchan.read_at(&mut bytes, 0).is_ok_and(|read| read > 0 && bytes[..read] != *b"0")
}

/// What a thread wants to do, and waits for the supervisor's word on.
#[derive(Debug)]
pub(crate) enum Ask {
    /// An operation on files below `{dir}`.
    Files(Box<Call>),
    /// To write these bytes to the witness.
    Witness(Vec<u8>),
    /// To make a thread, where the plan has faults for that.
    Thread,
    /// To make a process, or a thread: in turn, so that their numbers are the same in every run.
    Process,
}

/// What is done when an operation has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The answer is the kernel's.
    Plain,
    /// The answer is this error.
    Fail(i32),
    /// The answer, unless it is an error, is this number of bytes.
    Claim(u64),
    /// Nothing happened to the file, whatever the kernel did instead.
    Pretend,
    /// The answer is the kernel's, but the call was made with another path.
    Redirected,
}

/// An operation on its way.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) op: Op,
    /// `None`: it makes a thread.
    pub(crate) call: Option<Call>,
    /// The registers with which it was made.
    pub(crate) regs: Regs,
    pub(crate) after: After,
    /// Whether the history tells that it waits.
    pub(crate) is_announced: bool,
}

/// Where a thread is.
#[derive(Debug)]
pub(crate) enum State {
    /// It runs, or waits in the kernel for something without a limit in time.
    Running,
    /// It waits in the kernel, and we shall end that.
    Waiting(Wait),
    /// Before a look at the clock or at a file, of very many in a row.
    Spinning(Stopped, Regs),
    /// It makes the eventfd that stands for a timer on this clock, as it asked with these registers.
    MakingTimer(Box<Regs>, Domain),
    /// It is in a group stop.
    Stopped,
    /// Before a call, until it is its turn.
    Gate(Stopped, Regs, Ask),
    /// Before a call, until its fault lets it go.
    Held(Stopped, Box<Case>),
    /// An operation is being carried out.
    Working(Box<Case>),
    /// A call is being made that tells a time.
    Looking(Box<Look>),
}

/// One thread.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) pid: i32,
    pub(crate) role: Role,
    /// How many threads the role had made before it.
    pub(crate) number: u64,
    pub(crate) state: State,
    /// Whether it waits, uninterruptibly, for a child that shares its memory.
    pub(crate) is_vforking: bool,
    /// A wait that a signal cut short, and its deadline.
    pub(crate) cut_wait: Option<([u64; 8], Deadline)>,
    /// An operation that a signal cut short.
    pub(crate) cut_case: Option<Box<Case>>,
    /// Trapped clock reads since it last waited or made an operation on the run's files.
    pub(crate) reads: u64,
    /// How many of them were made at each height of the stack: that of a loop comes again and
    /// again.
    places: BTreeMap<u64, u64>,
    /// Calls on other files since then.
    pub(crate) calls: u64,
    /// How much cpu time it had used when it began to compute.
    pub(crate) worked: Duration,
    stat: Option<File>,
    place: Option<File>,
}

impl Thread {
    /// A thread that was just made.
    pub(crate) fn new(pid: i32, role: Role, number: u64) -> Thread {
        Thread {
            pid,
            role,
            number,
            state: State::Running,
            is_vforking: false,
            cut_wait: None,
            cut_case: None,
            reads: 0,
            places: BTreeMap::new(),
            calls: 0,
            worked: Duration::ZERO,
            stat: None,
            place: None,
        }
    }

    /// It waits, or makes an operation on the run's files: it is not just looking.
    pub(crate) fn settle_down(&mut self) {
        (self.reads, self.calls) = (0, 0);
        self.places.clear();
    }

    /// Counts a trapped clock read at this height of the stack; whether it is one of a loop.
    ///
    /// A just-in-time compiler reads the clock as well, whenever its other threads have finished
    /// something: if such a read took time, runs would differ.
    pub(crate) fn reads_in_a_loop(&mut self, stack: u64) -> bool {
        self.reads += 1;
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&stack) {
            return self.reads > READS_FREE;
        }
        let here = self.places.entry(stack).or_default();
        *here += 1;
        self.reads > READS_FREE && *here > READS_HERE
    }

    /// Another program runs in it: what was known of it is void.
    pub(crate) fn renew(&mut self) {
        *self = Thread::new(self.pid, self.role, self.number);
    }

    /// Whether it stands still until we let it go on.
    pub(crate) fn is_ours(&self) -> bool {
        match self.state {
            State::Gate(..) | State::Held(..) | State::Spinning(..) | State::Stopped => true,
            State::Running
            | State::Waiting(_)
            | State::Working(_)
            | State::Looking(_)
            | State::MakingTimer(..) => false,
        }
    }

    /// Whether it is stopped for us, as far as the kernel knows: one that was killed is not.
    pub(crate) fn is_really_stopped(&mut self, tid: i32) -> bool {
        matches!(self.kernel_state(tid), Some(b't' | b'T'))
    }

    /// Whether it does nothing but look at the clock, or at files.
    pub(crate) fn is_spinning(&self) -> bool {
        matches!(self.state, State::Spinning(..))
    }

    /// Whether it waits in the kernel, so that it cannot go on by itself, nor has anything to
    /// report.
    ///
    /// The first thread of a process is not reported as ended before the others are
    /// (`leads_others`); any other end is about to be.
    /// A thread that was preempted on its way to sleep reads as asleep as well, but has no place in
    /// the kernel where it sleeps (`knows_places`: this kernel tells such places).
    pub(crate) fn is_asleep(&mut self, tid: i32, leads_others: bool, knows_places: bool) -> bool {
        match self.kernel_state(tid) {
            Some(b'S') => !knows_places || self.has_a_place(tid),
            Some(b'I') => true,
            Some(b'Z' | b'X') | None => leads_others,
            Some(b'D') => self.is_vforking,
            // Running, stopped with a report that is not read yet, or something unknown.
            Some(_) => false,
        }
    }

    /// Whether the kernel can say where it sleeps (`/proc/PID/wchan`): not for one that waits for
    /// its turn on the cpu.
    fn has_a_place(&mut self, tid: i32) -> bool {
        if self.place.is_none() {
            self.place = File::open(format!("/proc/{tid}/wchan")).ok();
        }
        self.place.as_ref().is_none_or(names_a_place)
    }

    /// The letter of proc_pid_stat(5), field 3.
    fn kernel_state(&mut self, tid: i32) -> Option<u8> {
        if self.stat.is_none() {
            self.stat = File::open(format!("/proc/{tid}/stat")).ok();
        }
        let mut bytes = [0; 128];
        let read = self.stat.as_ref()?.read_at(&mut bytes, 0).ok()?;
        // The name before it, in parentheses, may hold anything, and has 16 bytes at most.
        let name_end = bytes[..read].iter().rposition(|byte| *byte == b')')?;
        bytes.get(name_end + 2).copied()
    }
}
