//! POSIX timers (timer_create(2)): kept by the supervisor, on virtual time.
//!
//! The kernel never hears of them: ids are ours, and the signal is sent with the same contents
//! (`SI_TIMER`, the value) that the kernel would give. Overruns are not counted.

use std::time::Duration;

use super::arch_x86_64::Regs;
use super::clock::Domain;
use super::supervisor::{Alarm, Supervisor};
use super::sys::{self, Stopped};
use super::waits;

/// How many timers a process may have.
const TIMERS_MAX: i32 = 1024;
/// `TIMER_ABSTIME`.
const ABSOLUTE: i32 = 1;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD_ID: i32 = 4;

/// What a timer does when its time has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) domain: Domain,
    /// 0: nothing.
    pub(crate) signal: i32,
    pub(crate) value: u64,
    /// The thread that gets the signal; 0: any of the process.
    pub(crate) thread: i32,
}

impl Supervisor<'_> {
    /// timer_create and its kin.
    pub(crate) fn posix_timer(&mut self, stopped: Stopped, mut regs: Regs) {
        let answer = self.answer(&stopped, &regs).unwrap_or_else(|errno| -i64::from(errno));
        regs.skip(answer);
        self.resume_with(stopped, &regs);
    }

    fn answer(&mut self, stopped: &Stopped, regs: &Regs) -> Result<i64, i32> {
        let tid = stopped.tid();
        let pid = self.threads.get(&tid).map(|thread| thread.pid).ok_or(libc::ESRCH)?;
        if regs.nr() == libc::SYS_timer_create {
            return self.create_timer(tid, pid, regs);
        }
        let key = (pid, regs.int(0));
        let timer = *self.timers.get(&key).ok_or(libc::EINVAL)?;
        let role = self.role_of(tid);
        let now = self.court.world.clock.shows(timer.domain, role);
        let old = self.alarms.get(&key).copied();
        let left = old.map_or(Duration::ZERO, |old| old.shows.saturating_sub(now));
        let every = old.map_or(Duration::ZERO, |old| old.every);
        let show = |place: u64| -> Result<(), i32> {
            let both = [waits::timespec_bytes(every), waits::timespec_bytes(left)].concat();
            sys::write_memory(tid, place, &both).map_err(|_| libc::EFAULT)
        };
        match regs.nr() {
            libc::SYS_timer_settime => {
                let every = waits::timespec(tid, regs.arg(2)).ok_or(libc::EINVAL)?;
                let first = waits::timespec(tid, regs.arg(2) + 16).ok_or(libc::EINVAL)?;
                if regs.arg(3) != 0 {
                    show(regs.arg(3))?;
                }
                if first.is_zero() {
                    self.alarms.remove(&key);
                } else {
                    let is_absolute = regs.int(1) & ABSOLUTE != 0;
                    let shows = if is_absolute { first } else { now.saturating_add(first) };
                    self.alarms.insert(key, Alarm { shows, every });
                }
            }
            libc::SYS_timer_gettime => show(regs.arg(1))?,
            libc::SYS_timer_delete => {
                self.alarms.remove(&key);
                self.timers.remove(&key);
            }
            _ => {}
        }
        Ok(0)
    }

    fn create_timer(&mut self, tid: i32, pid: i32, regs: &Regs) -> Result<i64, i32> {
        // A clock of cpu time cannot be virtual; such a timer is refused, as before.
        let domain = Domain::of(regs.int(0)).ok_or(libc::ENOTSUP)?;
        let taken = |id: &i32| self.timers.contains_key(&(pid, *id));
        let id = (0..TIMERS_MAX).find(|id| !taken(id)).ok_or(libc::EAGAIN)?;
        let value = u64::from(id.unsigned_abs());
        let mut timer = Timer { domain, signal: libc::SIGALRM, value, thread: 0 };
        if regs.arg(1) != 0 {
            // struct sigevent: value, signal, notification, thread.
            let mut bytes = [0; 20];
            let read = sys::read_memory(tid, regs.arg(1), &mut bytes).map_err(|_| libc::EFAULT)?;
            if read < bytes.len() {
                return Err(libc::EFAULT);
            }
            let int = |at: usize| {
                i32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes of 20"))
            };
            timer.value = u64::from_ne_bytes(bytes[..8].try_into().expect("8 bytes of 20"));
            timer.signal = if int(12) == SIGEV_NONE { 0 } else { int(8) };
            if int(12) & SIGEV_THREAD_ID != 0 {
                timer.thread = self.worlds.ours(self.role_of(tid), int(16)).ok_or(libc::EINVAL)?;
            }
        }
        sys::write_memory(tid, regs.arg(2), &id.to_ne_bytes()).map_err(|_| libc::EFAULT)?;
        self.timers.insert((pid, id), timer);
        Ok(0)
    }

    /// Sends what a timer sends; id −1 is the process's own interval timer.
    pub(crate) fn ring(&self, pid: i32, id: i32) {
        match self.timers.get(&(pid, id)) {
            None => drop(sys::kill(pid, libc::SIGALRM)),
            Some(timer) if timer.signal == 0 => {}
            Some(timer) => sys::ring(pid, timer.thread, timer.signal, id, timer.value),
        }
    }
}
