//! What is done when a thread stops: signals, new threads, programs, clocks, and waits. What
//! needs its turn is left at the gate.
//!
//! A request to a thread that was killed meanwhile fails with ESRCH. Its end is reported later,
//! so such errors are dropped here.

use std::path::Path;
use std::time::Duration;

use super::arch_x86_64::Regs;
use super::clock::Domain;
use super::decode::{Call, Resolved};
use super::process::{Outside, Process};
use super::supervisor::{Alarm, Supervisor};
use super::sys::{self, Stopped, Why};
use super::thread::{Ask, READS_FREE, State, Thread};
use super::waits::{self, Deadline};
use super::{decode, exec, files, filter};
use crate::op::OpKind;
use crate::role::Role;
use crate::time::Nanos;

/// After so many more reads than are free, each takes twice as long.
const READS_DOUBLE: u64 = 100;
/// So many calls on files outside the run with nothing else between them are no busy loop yet.
const CALLS_FREE: u64 = 5000;
/// How long each further one takes.
const CALL: Nanos = Nanos(10_000);
/// The longest that one clock read of a busy loop takes.
const READ_MAX: Nanos = Nanos::from_ms(1);
/// How many random bytes one call gives; getrandom(2) may give less than asked for.
const RANDOM_MAX: u64 = 1 << 20;

/// What a descriptor leads to.
enum Descriptor {
    OfTheRun(Resolved),
    Outside(Outside),
}

impl Supervisor<'_> {
    /// Takes a stop of any thread.
    pub(crate) fn stopped(&mut self, stopped: Stopped) {
        let tid = stopped.tid();
        let Some(thread) = self.threads.get_mut(&tid) else {
            self.set_aside(stopped);
            return;
        };
        let role = thread.role;
        match stopped.why() {
            Why::Call => self.call(stopped),
            Why::Return => self.returned(stopped),
            Why::Signal(signal) => {
                self.forget_cut(tid, signal);
                self.stir.may_have_killed();
                let _ = stopped.resume(signal);
            }
            Why::Group(_) => {
                thread.state = State::Stopped;
                let _ = stopped.listen();
            }
            Why::Interrupted => {
                if matches!(thread.state, State::Stopped) {
                    thread.state = State::Running;
                }
                let _ = stopped.resume(0);
            }
            Why::Made(child, is_vfork) => {
                thread.is_vforking = is_vfork;
                let is_working = matches!(thread.state, State::Working(_));
                self.inherit(&stopped, child);
                self.adopt(child, role);
                let _ = if is_working { stopped.resume_to_exit() } else { stopped.resume(0) };
            }
            Why::VforkDone => {
                thread.is_vforking = false;
                let _ = stopped.resume(0);
            }
            Why::Exec(_) => self.executed(stopped),
            Why::Other => drop(stopped.resume(0)),
        }
    }

    /// A handler runs before the call is restarted, if at all: what comes then is another call.
    fn forget_cut(&mut self, tid: i32, signal: i32) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let is_cut = thread.cut_wait.is_some() || thread.cut_case.is_some();
        if is_cut && has_handler(tid, signal) {
            thread.cut_wait = None;
            self.settle_cut(tid);
        }
    }

    /// The whole process, however many threads it had, is now one thread with another program.
    fn executed(&mut self, stopped: Stopped) {
        let tid = stopped.tid();
        self.threads.retain(|other, thread| thread.pid != tid || *other == tid);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.renew();
        let role = thread.role;
        // Timers of timer_create do not survive an exec; the interval timer does.
        self.timers.retain(|(pid, _), _| *pid != tid);
        self.alarms.retain(|(pid, id), _| *pid != tid || *id == -1);
        let mut seed = [0; 16];
        self.random(tid).fill(&mut seed);
        let prepared = exec::prepare(&stopped, &seed, self.vdso, self.shown_to(role));
        match prepared.and_then(|page| Process::open(tid, page)) {
            Ok(process) => drop(self.processes.insert(tid, process)),
            Err(error) => {
                self.processes.remove(&tid);
                self.court.trouble(format!("{role}: a program's clock may be real: {error}"));
            }
        }
        let _ = stopped.resume(0);
    }

    /// A new process has its parent's memory and descriptors; a new thread has them anyway.
    fn inherit(&mut self, parent: &Stopped, child: i32) {
        let Some(pid) = self.threads.get(&parent.tid()).map(|thread| thread.pid) else { return };
        let flags = parent.regs().ok().and_then(|regs| clone_flags(parent.tid(), &regs));
        let has = |flag: i32| flags.unwrap_or(0) & u64::from(flag.unsigned_abs()) != 0;
        if has(libc::CLONE_THREAD) {
            return;
        }
        if has(libc::CLONE_VM) || parent.why() == Why::Made(child, true) {
            self.stir.shares_memory();
        }
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let shares_descriptors = has(libc::CLONE_FILES);
        if shares_descriptors {
            process.remember_nothing();
        }
        // It fails for a child that was killed already.
        if let Ok(copy) = process.fork(child, shares_descriptors) {
            self.processes.insert(child, copy);
            self.shown = None;
        }
    }

    /// What a thread draws its random numbers from.
    fn random(&mut self, tid: i32) -> &mut super::random::Random {
        let seed = self.job.plan.seed;
        let role = self.role_of(tid);
        let number = self.threads.get(&tid).map_or(0, |thread| thread.number);
        let of_role = match role {
            Role::Holder => 1,
            Role::Contender(number) => 1 + u64::from(number),
        };
        let stream = of_role + (number << 16);
        let new = || super::random::Random::new(seed, stream);
        self.randoms.entry((role, number)).or_insert_with(new)
    }

    /// A thread is about to make a call that the filter traces.
    fn call(&mut self, stopped: Stopped) {
        let tid = stopped.tid();
        let Ok(regs) = stopped.regs() else { return };
        if self.resumes_cut(tid, &regs) {
            let _ = stopped.resume_to_exit();
            return;
        }
        match regs.nr() {
            libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_time => {
                self.read_clock(stopped, regs);
            }
            libc::SYS_alarm | libc::SYS_setitimer | libc::SYS_getitimer => {
                self.set_alarm(stopped, regs);
            }
            libc::SYS_timer_create
            | libc::SYS_timer_settime
            | libc::SYS_timer_gettime
            | libc::SYS_timer_getoverrun
            | libc::SYS_timer_delete => self.posix_timer(stopped, regs),
            libc::SYS_exit_group => {
                if let Some(thread) = self.threads.get(&tid) {
                    self.court.world.dying.insert(thread.pid);
                }
                let _ = stopped.resume(0);
            }
            libc::SYS_kill
            | libc::SYS_tkill
            | libc::SYS_tgkill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_rt_tgsigqueueinfo
            | libc::SYS_pidfd_send_signal => {
                if filter::signal(&regs) == libc::SIGKILL {
                    self.stir.may_have_killed();
                } else {
                    self.stir.anybody();
                }
                let _ = stopped.resume(0);
            }
            libc::SYS_timerfd_create | libc::SYS_timerfd_settime | libc::SYS_timerfd_gettime => {
                self.timer_fd(stopped, regs);
            }
            libc::SYS_getrandom => self.give_random(stopped, regs, 0),
            libc::SYS_sysinfo | libc::SYS_times => self.tell_time(stopped, regs),
            libc::SYS_uname => self.tell_host_name(stopped, regs),
            libc::SYS_nanosleep
            | libc::SYS_clock_nanosleep
            | libc::SYS_poll
            | libc::SYS_ppoll
            | libc::SYS_select
            | libc::SYS_pselect6
            | libc::SYS_epoll_wait
            | libc::SYS_epoll_pwait
            | libc::SYS_epoll_pwait2
            | libc::SYS_rt_sigtimedwait
            | libc::SYS_futex => self.wait(stopped, regs),
            libc::SYS_sendmsg | libc::SYS_sendmmsg => self.send(stopped, regs),
            nr if filter::is_refused(nr) => self.refuse(stopped, regs),
            libc::SYS_clone | libc::SYS_clone3 | libc::SYS_fork | libc::SYS_vfork => {
                self.make_thread(stopped, regs);
            }
            libc::SYS_dup2 | libc::SYS_dup3 | libc::SYS_close_range => {
                self.renumber(stopped, &regs);
            }
            libc::SYS_tee | libc::SYS_vmsplice => {
                self.has_output = true;
                let _ = stopped.resume(0);
            }
            _ => self.file_call(stopped, regs),
        }
    }

    /// Whether this call is a restart of an operation that a signal cut short.
    fn resumes_cut(&mut self, tid: i32, regs: &Regs) -> bool {
        let Some(thread) = self.threads.get_mut(&tid) else { return false };
        let Some(case) = thread.cut_case.take() else { return false };
        if case.regs.fingerprint() == regs.fingerprint() {
            thread.state = State::Working(case);
            return true;
        }
        thread.cut_case = Some(case);
        self.settle_cut(tid);
        false
    }

    /// The operation that a signal cut short was answered with EINTR.
    fn settle_cut(&mut self, tid: i32) {
        let case = self.threads.get_mut(&tid).and_then(|thread| thread.cut_case.take());
        if let Some(case) = case {
            self.court.settle(case.op, Err(libc::EINTR), false, None);
        }
    }

    fn read_clock(&mut self, stopped: Stopped, regs: Regs) {
        let tid = stopped.tid();
        let Some(domain) = read_domain(&regs) else {
            // Cpu time is real.
            let _ = stopped.resume(0);
            return;
        };
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        if thread.reads_in_a_loop(regs.stack()) {
            // It waits for the clock to move: the others have their turns first.
            thread.state = State::Spinning(stopped, regs);
            return;
        }
        self.answer_look(stopped, regs, domain);
    }

    /// Lets a thread make a call that has nothing to do with the run. One that does nothing else
    /// waits for something, and gives the others their turns.
    fn pass(&mut self, stopped: Stopped, regs: Regs) {
        let Some(thread) = self.threads.get_mut(&stopped.tid()) else { return };
        thread.calls += 1;
        if thread.calls > CALLS_FREE {
            thread.state = State::Spinning(stopped, regs);
        } else {
            let _ = stopped.resume(0);
        }
    }

    /// Lets time pass for a thread that does nothing but look, and lets it look.
    pub(crate) fn let_one_spin(&mut self) -> bool {
        let looking = self.threads.iter().filter(|(_, thread)| {
            matches!(thread.state, State::Spinning(..))
                && !self.court.world.stopped.contains(&thread.pid)
        });
        let first = looking.min_by_key(|(tid, thread)| (thread.role, thread.reads, **tid));
        let Some(tid) = first.map(|(tid, _)| *tid) else { return false };
        let now = self.court.now();
        let next = [self.next_wake(), self.court.next_due()].into_iter().flatten().min();
        let Some(thread) = self.threads.get_mut(&tid) else { return false };
        let doublings = (thread.reads.saturating_sub(READS_FREE) / READS_DOUBLE).min(10);
        let State::Spinning(stopped, regs) = std::mem::replace(&mut thread.state, State::Running)
        else {
            return false;
        };
        let domain = is_clock_read(&regs).then(|| read_domain(&regs)).flatten();
        let length = domain.map_or(CALL, |_| Nanos(1000 << doublings).min(READ_MAX));
        let then = now + length;
        let then = next.filter(|next| *next > now).map_or(then, |next| next.min(then));
        self.court.world.clock.advance_to(then.min(self.job.plan.bounds.wall));
        match domain {
            Some(domain) => self.answer_look(stopped, regs, domain),
            None => {
                self.show_time();
                let _ = stopped.resume(0);
            }
        }
        true
    }

    fn answer_look(&mut self, stopped: Stopped, mut regs: Regs, domain: Domain) {
        let tid = stopped.tid();
        let role = self.role_of(tid);
        let shows = self.court.world.clock.shows(domain, role);
        let mut answer = 0;
        let mut write = |place: u64, bytes: &[u8]| {
            if place != 0 && sys::write_memory(tid, place, bytes).is_err() {
                answer = -i64::from(libc::EFAULT);
            }
        };
        match regs.nr() {
            libc::SYS_clock_gettime => write(regs.arg(1), &waits::timespec_bytes(shows)),
            libc::SYS_gettimeofday => {
                write(regs.arg(0), &waits::timeval_bytes(shows));
                write(regs.arg(1), &[0; 8]);
            }
            _ => {
                let seconds = i64::try_from(shows.as_secs()).unwrap_or(i64::MAX);
                write(regs.arg(0), &seconds.to_ne_bytes());
                answer = seconds;
            }
        }
        regs.skip(answer);
        self.resume_with(stopped, &regs);
    }

    /// Answers a call whose arguments from `first` on are a buffer and its length.
    fn give_random(&mut self, stopped: Stopped, mut regs: Regs, first: usize) {
        let tid = stopped.tid();
        let length = usize::try_from(regs.arg(first + 1).min(RANDOM_MAX)).expect("a megabyte fits");
        let mut bytes = vec![0; length];
        self.random(tid).fill(&mut bytes);
        let answer = match sys::write_memory(tid, regs.arg(first), &bytes) {
            Ok(()) => i64::try_from(length).expect("a megabyte fits"),
            Err(_) => -i64::from(libc::EFAULT),
        };
        regs.skip(answer);
        self.resume_with(stopped, &regs);
    }

    fn wait(&mut self, stopped: Stopped, regs: Regs) {
        let tid = stopped.tid();
        let role = self.role_of(tid);
        let begun = waits::begin(tid, role, &regs, &self.court.world.clock);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let cut = thread.cut_wait.take();
        let Some((asked, mut wait)) = begun else {
            let _ = stopped.resume(0);
            return;
        };
        thread.settle_down();
        if let Some((fingerprint, deadline)) = cut
            && fingerprint == regs.fingerprint()
        {
            wait.deadline = deadline;
        }
        thread.state = State::Waiting(wait);
        if stopped.set_regs(&asked).is_ok() {
            let _ = stopped.resume_to_exit();
        }
    }

    /// A call that was to be followed to its end has returned.
    fn returned(&mut self, stopped: Stopped) {
        let tid = stopped.tid();
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        match std::mem::replace(&mut thread.state, State::Running) {
            State::Waiting(wait) => {
                let Ok(regs) = stopped.regs() else { return };
                let role = thread.role;
                let Deadline { domain, shows } = wait.deadline;
                let left = shows.saturating_sub(self.court.world.clock.shows(domain, role));
                let (regs, may_restart) = wait.end(tid, &regs, left);
                if may_restart && let Some(thread) = self.threads.get_mut(&tid) {
                    thread.cut_wait = Some((wait.regs.fingerprint(), wait.deadline));
                }
                self.resume_with(stopped, &regs);
            }
            State::Working(case) => self.finish(stopped, case),
            State::MakingTimer(asked, domain) => self.made_timer_fd(stopped, *asked, domain),
            State::Looking(look) => self.looked(stopped, *look),
            _ => drop(stopped.resume(0)),
        }
    }

    /// alarm(2) and setitimer(2) for ITIMER_REAL: the kernel's timer is never armed.
    fn set_alarm(&mut self, stopped: Stopped, mut regs: Regs) {
        let tid = stopped.tid();
        let is_alarm = regs.nr() == libc::SYS_alarm;
        if !is_alarm && regs.int(0) != 0 {
            // The other timers count cpu time.
            let _ = stopped.resume(0);
            return;
        }
        let Some(pid) = self.threads.get(&tid).map(|thread| thread.pid) else { return };
        let now = self.court.world.clock.shows(Domain::Monotonic, Role::Holder);
        let key = (pid, -1);
        let old = self.alarms.get(&key).copied();
        let left = old.map_or(Duration::ZERO, |old| old.shows.saturating_sub(now));
        let new = match regs.nr() {
            libc::SYS_alarm => {
                Some((Duration::ZERO, Duration::from_secs(regs.arg(0) & u64::from(u32::MAX))))
            }
            libc::SYS_setitimer if regs.arg(1) == 0 => Some((Duration::ZERO, Duration::ZERO)),
            libc::SYS_setitimer => {
                let every = waits::timespec_like(tid, regs.arg(1), true);
                let first = waits::timespec_like(tid, regs.arg(1) + 16, true);
                let Some(new) = every.zip(first) else {
                    regs.skip(-i64::from(libc::EFAULT));
                    return self.resume_with(stopped, &regs);
                };
                Some(new)
            }
            _ => None,
        };
        if let Some((every, first)) = new {
            if first.is_zero() {
                self.alarms.remove(&key);
            } else {
                self.alarms.insert(key, Alarm { shows: now + first, every });
            }
        }
        let place = match regs.nr() {
            libc::SYS_setitimer => regs.arg(2),
            libc::SYS_getitimer => regs.arg(1),
            _ => 0,
        };
        if place != 0 {
            let every = old.map_or(Duration::ZERO, |old| old.every);
            let _ = sys::write_memory(tid, place, &waits::timeval_bytes(every));
            let _ = sys::write_memory(tid, place + 16, &waits::timeval_bytes(left));
        }
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        regs.skip(if is_alarm { i64::try_from(seconds).unwrap_or(i64::MAX) } else { 0 });
        self.resume_with(stopped, &regs);
    }

    fn make_thread(&mut self, stopped: Stopped, regs: Regs) {
        let is_thread = makes_thread(stopped.tid(), &regs);
        let mut faults = self.job.plan.faults.iter();
        let may_fail = faults.any(|rule| rule.ops.kinds.contains(&OpKind::Thread));
        self.queue(stopped, regs, if is_thread && may_fail { Ask::Thread } else { Ask::Process });
    }

    /// What a call is about, by the names that files have now.
    pub(crate) fn decode(&mut self, tid: i32, regs: &Regs) -> Option<Call> {
        let state = self.court.world.files_state;
        decode::call(tid, regs, &mut self.court.world.folders, state)
    }

    /// A call that closes descriptors, or puts other files in their place.
    fn renumber(&mut self, stopped: Stopped, regs: &Regs) {
        let tid = stopped.tid();
        let Some(pid) = self.threads.get(&tid).map(|thread| thread.pid) else { return };
        let has_others = self.threads.values().filter(|thread| thread.pid == pid).count() > 1;
        if let Some(process) = self.processes.get_mut(&pid) {
            match regs.nr() {
                // Another thread may use the number before this call is made, and after.
                libc::SYS_dup2 | libc::SYS_dup3 if has_others => process.remember_nothing(),
                libc::SYS_dup2 | libc::SYS_dup3 => process.forget(regs.int(1)),
                _ => process.forget_all(),
            }
        }
        let _ = stopped.resume(0);
    }

    /// What a call's descriptor leads to; `None` where it takes none, or none that is open.
    fn descriptor(&mut self, tid: i32, regs: &Regs) -> Option<Descriptor> {
        let fd = decode::descriptor(regs)?;
        let pid = self.threads.get(&tid)?.pid;
        let process = self.processes.get_mut(&pid)?;
        let known = process.outside(fd);
        if regs.nr() == libc::SYS_close {
            process.forget(fd);
        }
        if let Some(outside) = known {
            return Some(Descriptor::Outside(outside));
        }
        // One that is not open is none, and may be another file's a moment later.
        let link = decode::link(tid, fd)?;
        let file = decode::file_of(&link, fd);
        if let Some(file) = file.filter(|file| file.path.starts_with(self.ground.mount_point())) {
            return Some(Descriptor::OfTheRun(file));
        }
        let outside = if self.court.world.listens_to(&link) {
            Outside::Output
        } else if link == Path::new("/dev/urandom") || link == Path::new("/dev/random") {
            Outside::Random
        } else {
            Outside::Other
        };
        if regs.nr() != libc::SYS_close {
            process.remember(fd, outside);
        }
        Some(Descriptor::Outside(outside))
    }

    /// A call on files: those of the run wait for their turn.
    fn file_call(&mut self, stopped: Stopped, regs: Regs) {
        let tid = stopped.tid();
        let call = match self.descriptor(tid, &regs) {
            Some(Descriptor::Outside(Outside::Random)) if regs.nr() == libc::SYS_read => {
                return self.give_random(stopped, regs, 1);
            }
            Some(Descriptor::Outside(outside)) => {
                self.has_output |= outside == Outside::Output;
                return self.pass(stopped, regs);
            }
            Some(Descriptor::OfTheRun(file)) => {
                decode::call_on(&regs, file, self.court.world.files_state)
            }
            None => self.decode(tid, &regs),
        };
        let Some(call) = call else { return self.pass(stopped, regs) };
        if call.first.by_descriptor && call.first.path == self.ground.witness() {
            match files::payload(tid, &regs) {
                Some(bytes) => return self.queue(stopped, regs, Ask::Witness(bytes)),
                None if call.kind == OpKind::Write => {
                    // sendfile and the like: programs fall back to write.
                    let mut regs = regs;
                    regs.skip(-i64::from(libc::EINVAL));
                    return self.resume_with(stopped, &regs);
                }
                None => {}
            }
        }
        if !files::concerns(&call, &self.ground.dir()) {
            if let Some(stopped) = self.look_at_proc(stopped, &regs, &call) {
                self.pass(stopped, regs);
            }
            return;
        }
        if call.kind == OpKind::Other {
            let role = self.role_of(tid);
            let path = call.first.path.display().to_string();
            self.court.trouble(format!(
                "{role} maps {path} shared and writable: such writes cannot be seen, so ENODEV"
            ));
            let mut regs = regs;
            regs.skip(-i64::from(libc::ENODEV));
            return self.resume_with(stopped, &regs);
        }
        self.queue(stopped, regs, Ask::Files(Box::new(call)));
    }

    fn queue(&mut self, stopped: Stopped, regs: Regs, ask: Ask) {
        if let Some(thread) = self.threads.get_mut(&stopped.tid()) {
            thread.settle_down();
            thread.state = State::Gate(stopped, regs, ask);
        }
    }

    /// Lets a thread go on with these registers, at the time that it is now.
    pub(crate) fn resume_with(&mut self, stopped: Stopped, regs: &Regs) {
        self.show_time();
        // Both fail only if the thread was killed; its end is reported.
        if stopped.set_regs(regs).is_ok() {
            let _ = stopped.resume(0);
        }
    }

    pub(crate) fn role_of(&self, tid: i32) -> Role {
        self.threads.get(&tid).map_or(Role::Holder, |thread: &Thread| thread.role)
    }
}

/// Which clock a call reads; `None`: one of cpu time, which is real.
fn read_domain(regs: &Regs) -> Option<Domain> {
    if regs.nr() == libc::SYS_clock_gettime { Domain::of(regs.int(0)) } else { Some(Domain::Real) }
}

fn is_clock_read(regs: &Regs) -> bool {
    matches!(regs.nr(), libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_time)
}

/// Whether a call makes a thread, rather than a process.
pub(super) fn makes_thread(tid: i32, regs: &Regs) -> bool {
    let flags = clone_flags(tid, regs).unwrap_or(0);
    flags & u64::from(libc::CLONE_THREAD.unsigned_abs()) != 0
}

/// The flags with which a thread or process is made; `None` for fork and vfork.
fn clone_flags(tid: i32, regs: &Regs) -> Option<u64> {
    match regs.nr() {
        libc::SYS_clone => Some(regs.arg(0)),
        libc::SYS_clone3 => {
            // The first field of struct clone_args.
            let mut bytes = [0; 8];
            let read = sys::read_memory(tid, regs.arg(0), &mut bytes).ok()?;
            (read == bytes.len()).then(|| u64::from_ne_bytes(bytes))
        }
        _ => None,
    }
}

/// Whether the process handles the signal (proc_pid_status(5), `SigCgt`).
pub(super) fn has_handler(tid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX);
    let bit = u32::try_from(signal - 1).unwrap_or(0).min(63);
    mask & (1 << bit) != 0
}
