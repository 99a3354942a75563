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
use super::waits::{Deadline, Wait, Wakers};
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
    std::fs::read(format!("/proc/{pid}/wchan")).is_ok_and(|text| names_a_place(&text))
}

fn names_a_place(text: &[u8]) -> bool {
    !text.is_empty() && text != b"0"
}

/// Functions of the kernel, by their names in Linux 5 and 6, in which a thread sleeps until a signal
/// or what it waits for: never for a disk or for memory. One more look is needed elsewhere.
const BEDS: [&[u8]; 11] = [
    b"__do_sys_pause",
    b"__x64_sys_pause",
    b"hrtimer_nanosleep",
    b"futex_do_wait",
    b"futex_wait_queue",
    b"futex_wait_queue_me",
    b"do_epoll_wait",
    b"ep_poll",
    b"poll_schedule_timeout",
    b"pipe_read",
    b"anon_pipe_read",
];

/// Whether a thread there sleeps for certain; compilers add to names after a dot.
fn is_bed(place: &[u8]) -> bool {
    let name = place.split(|byte| *byte == b'.').next().unwrap_or_default();
    BEDS.contains(&name)
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
    /// Known to sleep, and who could have woken it since.
    pub(crate) asleep: Option<Wakers>,
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
            asleep: None,
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

    /// Who could wake it from where it sleeps.
    pub(crate) fn wakers(&self) -> Wakers {
        match &self.state {
            State::Waiting(wait) => wait.wakers(),
            _ => Wakers::Anybody,
        }
    }

    /// Whether it waits in the kernel, so that it cannot go on by itself, nor has anything to
    /// report.
    ///
    /// The first thread of a process is not reported as ended before the others are
    /// (`leads_others`); any other end is about to be.
    /// A thread that was preempted on its way to sleep reads as asleep as well, but has no place in
    /// the kernel where it sleeps (`knows_places`: this kernel tells such places).
    pub(crate) fn is_asleep(&mut self, tid: i32, leads_others: bool, knows_places: bool) -> bool {
        let mut place = [0; 64];
        if knows_places && self.place(tid, &mut place).is_some_and(is_bed) {
            return true;
        }
        match self.kernel_state(tid) {
            Some(b'S') => !knows_places || self.place(tid, &mut place).is_none_or(names_a_place),
            Some(b'I') => true,
            Some(b'Z' | b'X') | None => leads_others,
            Some(b'D') => self.is_vforking,
            // Running, stopped with a report that is not read yet, or something unknown.
            Some(_) => false,
        }
    }

    /// Where in the kernel it sleeps (`/proc/PID/wchan`); "0" for one that runs, or waits for its
    /// turn on the cpu; `None` where that cannot be asked.
    fn place<'a>(&mut self, tid: i32, text: &'a mut [u8; 64]) -> Option<&'a [u8]> {
        if self.place.is_none() {
            self.place = File::open(format!("/proc/{tid}/wchan")).ok();
        }
        let read = self.place.as_ref()?.read_at(text, 0);
        // An empty answer is none.
        Some(&text[..read.unwrap_or(0)])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_places_are_beds_for_certain() {
        for (place, wanted) in [
            ("futex_do_wait", true),
            ("poll_schedule_timeout.constprop.0", true),
            ("futex_do_waiter", false),
            ("folio_wait_bit_common", false),
            ("ptrace_stop", false),
            ("0", false),
            ("", false),
        ] {
            assert_eq!(is_bed(place.as_bytes()), wanted, "{place}");
        }
    }
}
