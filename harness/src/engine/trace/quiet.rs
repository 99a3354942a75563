//! Whether anything of the run can go on by itself: the one question on which order and time hang.
//!
//! A thread stands still if it waits for our word, or sleeps in the kernel. The kernel is asked
//! once about each sleep; from then on the thread is taken for asleep until something happens that
//! could wake it:
//!
//! | it sleeps in | woken by |
//! |---|---|
//! | nanosleep, clock_nanosleep | us; a signal |
//! | a timed wait on a private futex | these; another thread of its process |
//! | anything else | asked again each time |
//!
//! A signal comes from us, from a call that stops for us (`filter`, `SENDS`), or with a death or a
//! new process, which is reported: any report but that of a call makes all be asked again. Signals
//! for input and output (fcntl(2), `F_SETOWN`) are no business of locks.
//!
//! # Invariant
//! We share one cpu with all tracees: while this code runs, none of them does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::supervisor::Supervisor;
use super::sys::{self, Report, Stopped, Why};
use super::thread::{self, Thread};
use super::waits::Wakers;

/// Somebody who computes this long without a stop may be waiting for the clock to move.
const COMPUTE_MAX: Duration = Duration::from_millis(20);
/// So may somebody who does nothing else for so long but calls that do not touch the run's files.
const BUSY_MAX: Duration = Duration::from_millis(250);
/// Whoever gives up the cpu for longer than this, most of it not for the run's own processes,
/// shares it with other programs.
const YIELD_MAX: Duration = Duration::from_micros(400);
/// For how long that is taken to last.
const CROWDED_FOR: Duration = Duration::from_millis(50);
/// How long a report is waited for then.
const CROWDED_WAIT: Duration = Duration::from_micros(100);
/// A thread that computes this long without a stop no longer keeps the others waiting.
const SPIN_MAX: Duration = Duration::from_secs(2);

/// What has happened that could have woken somebody.
#[derive(Debug)]
pub(crate) struct Stir {
    /// Processes of which a thread has run since all was last seen to be quiet.
    ran: BTreeSet<i32>,
    /// Whether there was more than calls: a signal, a death, something new.
    is_great: bool,
    /// Whether a process has run that has another's memory as well, so that it could wake its
    /// threads.
    shares_memory: bool,
    /// Whether a thread that stands still for us may have been killed since it was last looked at.
    fears_deaths: bool,
    /// Whether the kernel says where a thread sleeps.
    knows_places: bool,
    /// How often we had left our cpu when all was last seen to be quiet.
    quiet_at: i64,
    /// The same, if nothing but time has moved since then.
    still_at: Option<i64>,
}

impl Stir {
    /// Nothing is known yet.
    pub(crate) fn new() -> Stir {
        Stir {
            ran: BTreeSet::new(),
            is_great: true,
            shares_memory: false,
            fears_deaths: false,
            // Our parent waits for us.
            knows_places: rustix::process::getppid()
                .is_some_and(|parent| thread::tells_places(parent.as_raw_nonzero().get())),
            quiet_at: 0,
            still_at: None,
        }
    }

    /// A signal was sent, or something else was done that could wake anybody.
    pub(crate) fn anybody(&mut self) {
        self.is_great = true;
    }

    /// A signal was sent that may have killed somebody.
    pub(crate) fn may_have_killed(&mut self) {
        (self.is_great, self.fears_deaths) = (true, true);
    }

    /// A process with the memory of another was made.
    pub(crate) fn shares_memory(&mut self) {
        self.shares_memory = true;
    }

    /// All was quiet when nothing but time was moved just now.
    pub(crate) fn only_time_moves(&mut self) {
        self.still_at = Some(self.quiet_at);
    }

    /// Whether a thread that was asleep still is.
    fn leaves_asleep(&self, thread: &Thread) -> bool {
        !self.is_great
            && match thread.asleep {
                Some(Wakers::Nobody) => true,
                Some(Wakers::Process) => !self.shares_memory && !self.ran.contains(&thread.pid),
                Some(Wakers::Anybody) | None => false,
            }
    }
}

/// For how long the run has been computing, and who else wants the cpu.
#[derive(Debug)]
pub(crate) struct Busy {
    crowded_until: Option<Instant>,
    /// How much cpu time the run's processes had used when that was last asked.
    used: Duration,
    since: Option<Instant>,
    reported_at: Instant,
    /// Whether it is known how much cpu time each thread had used when it last reported.
    is_timed: bool,
    was_unruly: bool,
}

impl Busy {
    /// Nobody has computed yet.
    pub(crate) fn new() -> Busy {
        Busy {
            crowded_until: None,
            used: Duration::ZERO,
            since: None,
            reported_at: Instant::now(),
            is_timed: false,
            was_unruly: false,
        }
    }
}

impl Supervisor<'_> {
    /// Notes whom what a report tells of could have woken.
    pub(super) fn note(&mut self, report: &Report) {
        self.busy.reported_at = Instant::now();
        match report {
            Report::Stopped(stopped) => self.note_stop(stopped),
            Report::Ended { .. } => self.stir.anybody(),
        }
    }

    fn note_stop(&mut self, stopped: &Stopped) {
        let is_call = matches!(stopped.why(), Why::Call | Why::Return);
        match self.threads.get_mut(&stopped.tid()) {
            Some(thread) if is_call => {
                thread.asleep = None;
                self.stir.ran.insert(thread.pid);
            }
            Some(thread) => {
                thread.asleep = None;
                self.stir.anybody();
            }
            None => self.stir.anybody(),
        }
    }

    /// Whether every thread of the run stands still, as far as is known: nothing can happen, and
    /// nothing needs to be asked of the kernel.
    pub(super) fn stands_still(&self) -> bool {
        !self.stir.fears_deaths
            && self.early.is_empty()
            && self.court.world.dying.is_empty()
            && self.threads.values().all(|one| one.is_ours() || self.stir.leaves_asleep(one))
    }

    /// Whether all was quiet, and nobody can have run since: nobody was let go, and we never left
    /// the cpu that we share. Forgets it.
    pub(super) fn only_time_has_moved(&mut self) -> bool {
        self.stir.still_at.take().is_some_and(|at| at == sys::switches())
            && self.early.is_empty()
            && self.court.world.dying.is_empty()
    }

    /// Whether no thread of the run can go on by itself, nor has anything to report: asks the
    /// kernel.
    pub(super) fn is_quiet(&mut self) -> bool {
        // A death is reported soon, and comes before all that may come of it.
        if !self.early.is_empty() || !self.court.world.dying.is_empty() {
            return false;
        }
        let is_awake = |thread: &&Thread| !thread.is_ours() && thread.asleep.is_none();
        // Their threads may have run without a stop.
        self.stir.ran.extend(self.threads.values().filter(is_awake).map(|thread| thread.pid));
        let mut sizes = std::collections::BTreeMap::<i32, u32>::new();
        for thread in self.threads.values() {
            *sizes.entry(thread.pid).or_default() += 1;
        }
        let stir = &self.stir;
        let before = sys::switches();
        let is_quiet = self.threads.iter_mut().all(|(tid, thread)| {
            if thread.is_ours() {
                return !stir.fears_deaths || thread.is_really_stopped(*tid);
            }
            if stir.leaves_asleep(thread) {
                return true;
            }
            let leads_others = *tid == thread.pid && sizes.get(tid).is_some_and(|size| *size > 1);
            let is_asleep = thread.is_asleep(*tid, leads_others, stir.knows_places);
            thread.asleep = is_asleep.then(|| thread.wakers());
            is_asleep
        });
        // If we have not left the cpu that we share, nobody else was on it.
        let is_quiet = is_quiet && sys::switches() == before;
        self.stir.quiet_at = before;
        if is_quiet {
            (self.stir.fears_deaths, self.stir.is_great) = (false, false);
            self.stir.ran.clear();
        }
        is_quiet
    }

    /// Lets those run that can, until they report or block.
    ///
    /// Giving up the cpu is quickest while nobody else wants it. Other programs of the machine
    /// would keep it for a whole time slice, each time; then we sleep until there is a report, and
    /// briefly: a thread that goes to sleep makes none.
    pub(super) fn step_aside(&mut self) {
        let now = Instant::now();
        if let Some(until) = self.busy.crowded_until {
            if now < until {
                sys::await_report(CROWDED_WAIT);
                return;
            }
            self.busy.crowded_until = None;
            self.busy.used = self.cpu_time();
        }
        rustix::thread::sched_yield();
        let gone = now.elapsed();
        if gone > YIELD_MAX {
            let used = self.cpu_time();
            let is_theirs = used.saturating_sub(self.busy.used) >= gone / 2;
            self.busy.used = used;
            self.busy.crowded_until = (!is_theirs).then(|| now + CROWDED_FOR);
        }
    }

    /// How much cpu time the living processes of the run have used.
    fn cpu_time(&self) -> Duration {
        self.court.world.processes.keys().map(|pid| sys::process_time(*pid)).sum()
    }

    /// All is quiet: nobody computes any more.
    pub(super) fn rests(&mut self) {
        self.busy.since = None;
        self.traps_clocks &= self.threads.values().any(Thread::is_spinning);
    }

    /// Somebody runs, and has for a while: it may wait for the clock, or only compute.
    pub(super) fn watch_the_busy(&mut self) {
        let since = *self.busy.since.get_or_insert_with(Instant::now);
        let busy = since.elapsed();
        if busy < COMPUTE_MAX {
            return;
        }
        let silent = busy.min(self.busy.reported_at.elapsed());
        if silent < COMPUTE_MAX {
            self.busy.is_timed = false;
        } else if !self.busy.is_timed {
            self.busy.is_timed = true;
            for (tid, thread) in &mut self.threads {
                thread.worked = sys::cpu_time(*tid);
            }
        }
        if !self.traps_clocks && (silent > COMPUTE_MAX || busy > BUSY_MAX) {
            self.traps_clocks = true;
            self.show_time();
        }
        if silent > SPIN_MAX && !self.busy.was_unruly {
            self.name_the_busy();
        }
    }

    /// Tells of a thread that has used so much of the cpu since the last report; one that only
    /// waits for a cpu that others use has not.
    fn name_the_busy(&mut self) {
        let spins = |tid: &i32, thread: &Thread| {
            !thread.is_ours() && sys::cpu_time(*tid) > SPIN_MAX + thread.worked
        };
        let busy = self.threads.iter().find(|(tid, thread)| spins(tid, thread));
        let Some(role) = busy.map(|(_, thread)| thread.role) else { return };
        self.busy.was_unruly = true;
        let seconds = SPIN_MAX.as_secs();
        self.court.trouble(format!(
            "{role} computed for {seconds} s without a system call: nobody else could go on"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;

    fn asleep(pid: i32, wakers: Wakers) -> Thread {
        let mut thread = Thread::new(pid, Role::Holder, 0);
        thread.asleep = Some(wakers);
        thread
    }

    #[test]
    fn a_sleeper_is_left_alone_until_somebody_could_have_woken_it() {
        let quiet = Stir { is_great: false, ..Stir::new() };
        let ran = Stir { ran: BTreeSet::from([7]), is_great: false, ..Stir::new() };
        let shared = Stir { shares_memory: true, is_great: false, ..Stir::new() };
        let signal = Stir::new();
        for (wakers, pid, wanted) in [
            (Wakers::Nobody, 7, [true, true, true, false]),
            (Wakers::Process, 7, [true, false, false, false]),
            (Wakers::Process, 8, [true, true, false, false]),
            (Wakers::Anybody, 8, [false; 4]),
        ] {
            let thread = asleep(pid, wakers);
            let found = [&quiet, &ran, &shared, &signal].map(|stir| stir.leaves_asleep(&thread));
            assert_eq!(found, wanted, "{wakers:?} of {pid}");
        }
        assert!(!quiet.leaves_asleep(&Thread::new(7, Role::Holder, 0)), "it was never asked");
    }
}
