//! Waits with a time limit: the kernel is asked to wait without one, and the supervisor wakes the
//! thread at the virtual deadline.
//!
//! | call | asked of the kernel | at the deadline |
//! |---|---|---|
//! | nanosleep, clock_nanosleep | pause() | 0 |
//! | poll, epoll_wait, epoll_pwait | timeout −1 | 0 |
//! | ppoll, select, pselect6, epoll_pwait2 | no timeout | 0; select's sets are emptied |
//! | futex | no timeout | ETIMEDOUT |
//! | rt_sigtimedwait | no timeout | EAGAIN |
//!
//! A wait ends late, as on a real machine: by a millisecond, in which the woken thread gets its
//! cpu and does its work (computing itself takes no virtual time), and a poll by a thousandth of
//! its length more, up to 100 ms (fs/select.c, `select_estimate_accuracy`). Programs count in
//! whole milliseconds and compare with `<`: they would otherwise meet ties that real clocks do not
//! show, and one lock's margin would turn into its opposite.
//!
//! A wait that a signal interrupts is restarted by the kernel with its old arguments: it stops
//! for us again, and keeps the deadline that it had.

use std::time::Duration;

use super::arch_x86_64::Regs;
use super::clock::{Clock, Domain};
use super::sys;
use crate::role::Role;

/// `TIMER_ABSTIME`.
const ABSOLUTE: i32 = 1;
const FUTEX_CLOCK_REALTIME: i32 = 256;
/// By how much a wait ends late.
pub(crate) const SLACK: Duration = Duration::from_millis(1);
/// The most by which a poll ends later; it is a thousandth of its length.
const POLL_SLACK_MAX: Duration = Duration::from_millis(100);
/// What fits into the sets of select: no more descriptors than this are looked at.
const SELECT_MAX: u64 = 1 << 16;

/// A moment on one of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) domain: Domain,
    pub(crate) shows: Duration,
}

/// What the thread gets at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Zero,
    Errno(i32),
    /// Zero, after emptying the sets of so many descriptors, and the time that is left.
    Select {
        sets: [u64; 3],
        descriptors: u64,
        left: u64,
    },
}

/// Who, beside us and whoever sends it a signal, can wake a thread that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakers {
    Nobody,
    /// Threads with the same memory.
    Process,
    Anybody,
}

/// One wait of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) deadline: Deadline,
    answer: Answer,
    /// As the thread made the call.
    pub(crate) regs: Regs,
    /// Where a sleep that is cut short reports what is left.
    rest: Option<u64>,
    /// Whether the thread was woken because its time has come.
    pub(crate) is_over: bool,
}

/// The registers with which the kernel is asked to wait, and what is to be remembered; `None` for
/// a call that is no wait, or that the kernel will refuse.
pub(crate) fn begin(tid: i32, role: Role, regs: &Regs, clock: &Clock) -> Option<(Regs, Wait)> {
    let mut asked = *regs;
    let mut rest = None;
    let mut answer = Answer::Zero;
    let after = |length: Duration, domain: Domain| Deadline {
        domain,
        shows: clock.shows(domain, role).saturating_add(length),
    };
    let mono = |length| after(length, Domain::Monotonic);
    let polls = matches!(
        regs.nr(),
        libc::SYS_poll
            | libc::SYS_ppoll
            | libc::SYS_select
            | libc::SYS_pselect6
            | libc::SYS_epoll_wait
            | libc::SYS_epoll_pwait
            | libc::SYS_epoll_pwait2
    );
    let exact = match regs.nr() {
        libc::SYS_nanosleep => {
            rest = Some(regs.arg(1)).filter(|place| *place != 0);
            asked.set_nr(libc::SYS_pause);
            mono(timespec(tid, regs.arg(0))?)
        }
        libc::SYS_clock_nanosleep => {
            let domain = Domain::of(regs.int(0))?;
            let length = timespec(tid, regs.arg(2))?;
            asked.set_nr(libc::SYS_pause);
            if regs.int(1) & ABSOLUTE != 0 {
                Deadline { domain, shows: length }
            } else {
                rest = Some(regs.arg(3)).filter(|place| *place != 0);
                // A relative sleep on a wall clock that is stepped is not affected by the step.
                after(length, if domain == Domain::Real { Domain::Monotonic } else { domain })
            }
        }
        libc::SYS_poll => {
            asked.set_arg(2, u64::MAX);
            mono(millis(regs.int(2))?)
        }
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => {
            asked.set_arg(3, u64::MAX);
            mono(millis(regs.int(3))?)
        }
        libc::SYS_ppoll => {
            asked.set_arg(2, 0);
            mono(timespec(tid, regs.arg(2))?)
        }
        libc::SYS_epoll_pwait2 => {
            asked.set_arg(3, 0);
            mono(timespec(tid, regs.arg(3))?)
        }
        libc::SYS_select | libc::SYS_pselect6 => {
            asked.set_arg(4, 0);
            answer = Answer::Select {
                sets: [regs.arg(1), regs.arg(2), regs.arg(3)],
                descriptors: u64::try_from(regs.int(0)).ok()?.min(SELECT_MAX),
                left: regs.arg(4),
            };
            let length = timespec_like(tid, regs.arg(4), regs.nr() == libc::SYS_select)?;
            mono(length)
        }
        libc::SYS_rt_sigtimedwait => {
            asked.set_arg(2, 0);
            answer = Answer::Errno(libc::EAGAIN);
            mono(timespec(tid, regs.arg(2))?)
        }
        libc::SYS_futex => {
            asked.set_arg(3, 0);
            answer = Answer::Errno(libc::ETIMEDOUT);
            futex_deadline(regs, timespec(tid, regs.arg(3))?, mono)
        }
        _ => return None,
    };
    let length = exact.shows.saturating_sub(clock.shows(exact.domain, role));
    if polls && length.is_zero() {
        // A poll that only looks does not wait.
        return None;
    }
    let more = if polls { (length / 1000).min(POLL_SLACK_MAX) } else { Duration::ZERO };
    let deadline = Deadline { shows: exact.shows.saturating_add(SLACK + more), ..exact };
    Some((asked, Wait { deadline, answer, regs: *regs, rest, is_over: false }))
}

/// futex(2): WAIT takes a length, the others a moment; LOCK_PI always one of the wall clock.
fn futex_deadline(
    regs: &Regs,
    time: Duration,
    after: impl FnOnce(Duration) -> Deadline,
) -> Deadline {
    match regs.int(1) & 127 {
        libc::FUTEX_WAIT => after(time),
        libc::FUTEX_LOCK_PI => Deadline { domain: Domain::Real, shows: time },
        _ if regs.int(1) & FUTEX_CLOCK_REALTIME != 0 => {
            Deadline { domain: Domain::Real, shows: time }
        }
        _ => Deadline { domain: Domain::Monotonic, shows: time },
    }
}

impl Wait {
    /// Who can end it early.
    pub(crate) fn wakers(&self) -> Wakers {
        match self.regs.nr() {
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Wakers::Nobody,
            libc::SYS_futex if self.regs.int(1) & libc::FUTEX_PRIVATE_FLAG != 0 => Wakers::Process,
            _ => Wakers::Anybody,
        }
    }

    /// The registers with which a thread goes on whose call has returned with `now`; whether the
    /// call may be restarted and must keep its deadline.
    pub(crate) fn end(&self, tid: i32, now: &Regs, left: Duration) -> (Regs, bool) {
        let mut regs = *now;
        regs.set_nr(self.regs.nr());
        for index in 0..6 {
            regs.set_arg(index, self.regs.arg(index));
        }
        let was_cut_short = is_restart(now.ret()) || now.ret() == -i64::from(libc::EINTR);
        if self.is_over && was_cut_short {
            regs.set_ret(self.time_out(tid));
            return (regs, false);
        }
        if is_restart(now.ret()) {
            // Answered with EINTR if a handler runs, else restarted with its own arguments: 516
            // would continue, by restart_syscall(2), the wait without an end.
            regs.set_ret(-514);
            if let Some(place) = self.rest {
                // The place may be bad, as in any sleep that is cut short.
                let _ = sys::write_memory(tid, place, &timespec_bytes(left));
            }
            return (regs, true);
        }
        (regs, false)
    }

    fn time_out(&self, tid: i32) -> i64 {
        match self.answer {
            Answer::Zero => 0,
            Answer::Errno(errno) => -i64::from(errno),
            Answer::Select { sets, descriptors, left } => {
                let bytes = usize::try_from(descriptors.div_ceil(64) * 8).unwrap_or(0);
                let empty = vec![0; bytes];
                for set in sets.iter().filter(|set| **set != 0) {
                    let _ = sys::write_memory(tid, *set, &empty);
                }
                let _ = sys::write_memory(tid, left, &[0; 16]);
                0
            }
        }
    }
}

/// Whether the kernel would restart the call, or answer EINTR, once signals are seen to:
/// ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK (linux/errno.h).
pub(crate) fn is_restart(ret: i64) -> bool {
    matches!(ret, -514..=-512 | -516)
}

fn millis(number: i32) -> Option<Duration> {
    u64::try_from(number).ok().map(Duration::from_millis)
}

/// A `struct timespec` of the thread; `None` if it is unreadable or invalid.
pub(crate) fn timespec(tid: i32, place: u64) -> Option<Duration> {
    timespec_like(tid, place, false)
}

/// The same, or a `struct timeval`.
pub(crate) fn timespec_like(tid: i32, place: u64, is_micros: bool) -> Option<Duration> {
    let mut bytes = [0; 16];
    if sys::read_memory(tid, place, &mut bytes).ok()? < 16 {
        return None;
    }
    let (whole, part) = bytes.split_at(8);
    let number = |half: &[u8]| u64::from_ne_bytes(half.try_into().expect("half of 16 bytes is 8"));
    // Negative numbers are too large as unsigned ones.
    let whole = number(whole);
    let part = number(part);
    let nanos = if is_micros { part.checked_mul(1000)? } else { part };
    let is_valid = whole <= i64::MAX.unsigned_abs() && (nanos < 1_000_000_000 || is_micros);
    // More than a run can last is as good as for ever, and cannot overflow.
    let whole = Duration::from_secs(whole.min(1 << 40));
    is_valid.then(|| whole.saturating_add(Duration::from_nanos(nanos)))
}

/// A `struct timespec`.
pub(crate) fn timespec_bytes(time: Duration) -> [u8; 16] {
    pair(time.as_secs(), u64::from(time.subsec_nanos()))
}

/// A `struct timeval`.
pub(crate) fn timeval_bytes(time: Duration) -> [u8; 16] {
    pair(time.as_secs(), u64::from(time.subsec_micros()))
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes[8..].copy_from_slice(&second.to_ne_bytes());
    bytes
}
