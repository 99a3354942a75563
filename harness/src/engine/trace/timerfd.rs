//! Timers behind descriptors (timerfd_create(2)): kept by the supervisor, on virtual time.
//!
//! The program gets an eventfd(2) in its place. Both are read as a number of 8 bytes, can be polled,
//! copied and inherited, and block alike; when the time has come, the supervisor adds one through
//! a descriptor of its own. Which timer a descriptor means is told by the kernel's number
//! of the eventfd (proc_pid_fdinfo(5), `eventfd-id`).

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::arch_x86_64::Regs;
use super::clock::Domain;
use super::supervisor::Supervisor;
use super::sys::{self, Stopped};
use super::thread::State;
use super::waits::{self, SLACK};
use crate::role::Role;
use crate::time::Nanos;

/// `TFD_TIMER_ABSTIME`.
const ABSOLUTE: i32 = 1;
/// The flags that eventfd2 knows as well, by the same numbers.
const FLAGS: i32 = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;

/// A timer behind a descriptor.
#[derive(Debug)]
pub(crate) struct TimerFd {
    handle: OwnedFd,
    domain: Domain,
    role: Role,
    /// When it goes off next; `None`: it is not set.
    shows: Option<Duration>,
    every: Duration,
}

impl TimerFd {
    /// How long it is until it goes off; 0 if it is not set.
    fn left(&self, now: Duration) -> Duration {
        self.shows.map_or(Duration::ZERO, |shows| shows.saturating_sub(now))
    }

    /// Takes back what it has counted.
    fn drain(&self) {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
            let _ = rustix::io::read(&self.handle, &mut [0; 8]);
        }
    }

    fn count(&self) {
        // It would only block after 2^64 − 2 times.
        let _ = rustix::io::write(&self.handle, &1_u64.to_ne_bytes());
    }
}

impl Supervisor<'_> {
    /// timerfd_create and its kin.
    pub(crate) fn timer_fd(&mut self, stopped: Stopped, mut regs: Regs) {
        if regs.nr() == libc::SYS_timerfd_create {
            return self.make_timer_fd(stopped, regs);
        }
        let tid = stopped.tid();
        let id = event_id(tid, regs.int(0));
        let answer = match id.and_then(|id| self.timer_fds.get_mut(&id)) {
            Some(timer) => {
                let now = self.court.world.clock.shows(timer.domain, timer.role);
                set_or_get(timer, tid, &regs, now)
            }
            None => Err(if id.is_some() { libc::EINVAL } else { libc::EBADF }),
        };
        regs.skip(answer.map_or_else(|errno| -i64::from(errno), |()| 0));
        self.resume_with(stopped, &regs);
    }

    fn make_timer_fd(&mut self, stopped: Stopped, mut regs: Regs) {
        let Some(domain) = Domain::of(regs.int(0)).filter(|_| regs.int(1) & !FLAGS == 0) else {
            regs.skip(-i64::from(libc::EINVAL));
            return self.resume_with(stopped, &regs);
        };
        if let Some(thread) = self.threads.get_mut(&stopped.tid()) {
            thread.state = State::MakingTimer(Box::new(regs), domain);
        }
        regs.set_nr(libc::SYS_eventfd2);
        regs.set_arg(0, 0);
        // Fails only if the thread was killed; its end is reported.
        if stopped.set_regs(&regs).is_ok() {
            let _ = stopped.resume_to_exit();
        }
    }

    /// The eventfd was made, or not.
    pub(crate) fn made_timer_fd(&mut self, stopped: Stopped, mut asked: Regs, domain: Domain) {
        let tid = stopped.tid();
        let Ok(regs) = stopped.regs() else { return };
        asked.set_ret(regs.ret());
        let made = i32::try_from(regs.ret()).ok().filter(|fd| *fd >= 0);
        if let Some(fd) = made {
            let Some(thread) = self.threads.get(&tid) else { return };
            let role = thread.role;
            match event_id(tid, fd).zip(copy(thread.pid, fd)) {
                Some((id, handle)) => {
                    let timer =
                        TimerFd { handle, domain, role, shows: None, every: Duration::ZERO };
                    self.timer_fds.insert(id, timer);
                }
                None => self.court.trouble(format!(
                    "{role} uses timerfd_create, which this kernel does not let us answer: its timers never end"
                )),
            }
        }
        self.resume_with(stopped, &asked);
    }

    /// When the first of these timers goes off.
    pub(crate) fn next_timer_fd(&self) -> Option<Nanos> {
        let timers = self.timer_fds.values();
        let ends = timers.filter_map(|timer| {
            let shows = timer.shows? + SLACK;
            Some(self.court.world.clock.when_shows(timer.domain, timer.role, shows))
        });
        ends.min()
    }

    /// Lets one timer go off whose time has come; whether there was one.
    pub(crate) fn ring_timer_fd(&mut self) -> bool {
        let clock = &self.court.world.clock;
        let is_due = |timer: &TimerFd| {
            let now = clock.shows(timer.domain, timer.role);
            timer.shows.is_some_and(|shows| shows + SLACK <= now)
        };
        let due = self.timer_fds.iter().find(|(_, timer)| is_due(timer)).map(|(id, _)| *id);
        let Some(id) = due else { return false };
        let is_open = self.is_open(id);
        if let Some(timer) = self.timer_fds.get_mut(&id)
            && is_open
        {
            timer.count();
            let every = Some(timer.every).filter(|every| !every.is_zero());
            timer.shows = timer.shows.zip(every).map(|(shows, every)| shows + every);
        } else {
            // Closed by everybody: it would ring for ever.
            self.timer_fds.remove(&id);
        }
        true
    }

    /// Whether any process of the run still has the eventfd.
    fn is_open(&self, id: u64) -> bool {
        self.court.world.processes.keys().any(|pid| {
            let names = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut numbers = names.filter_map(|name| name.file_name().to_str()?.parse().ok());
            numbers.any(|fd| event_id(*pid, fd) == Some(id))
        })
    }
}

/// timerfd_settime(2) and timerfd_gettime(2).
fn set_or_get(timer: &mut TimerFd, tid: i32, regs: &Regs, now: Duration) -> Result<(), i32> {
    let is_set = regs.nr() == libc::SYS_timerfd_settime;
    let (every, left) = (timer.every, timer.left(now));
    let show = |place: u64| {
        let both = [waits::timespec_bytes(every), waits::timespec_bytes(left)].concat();
        sys::write_memory(tid, place, &both).map_err(|_| libc::EFAULT)
    };
    if !is_set {
        return show(regs.arg(1));
    }
    let every = waits::timespec(tid, regs.arg(2)).ok_or(libc::EINVAL)?;
    let first = waits::timespec(tid, regs.arg(2) + 16).ok_or(libc::EINVAL)?;
    if regs.arg(3) != 0 {
        show(regs.arg(3))?;
    }
    let is_absolute = regs.int(1) & ABSOLUTE != 0;
    let shows = if is_absolute { first } else { now.saturating_add(first) };
    timer.drain();
    timer.shows = (!first.is_zero()).then_some(shows);
    timer.every = every;
    Ok(())
}

/// The kernel's number of the eventfd behind a descriptor; `None` for anything else.
fn event_id(tid: i32, fd: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("eventfd-id:"))?.trim().parse().ok()
}

/// A descriptor of our own of the same eventfd.
fn copy(pid: i32, fd: i32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()
}
