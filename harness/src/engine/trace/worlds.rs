//! PID worlds: which number each role has, and what else may have it.
//!
//! ```text
//! shared, reused    one namespace: init ── supervisor ── holder 20000, contender-1 20100, …
//! separate          one a role:    init 1, role 12                  the same two numbers in each
//! foreign           one a role:    init 1, holder 12, contender-1 112, …
//! pid-1             one a role:    role 1
//! ```
//!
//! The supervisor traces across namespaces. It calls every thread by the number that its own
//! namespace has for it; the number that a role sees is *shown* here. Only `/proc` as a role reads
//! it, the history and POSIX timers know shown numbers.
//!
//! # Invariants
//! - A role has the same number in every run. What it makes is numbered by the kernel, upwards.
//! - A thread's birth is kept as long as `/proc` may show it.
//! - In a reused world, a number that became free is taken before any role can look.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::pause;
use rustix::mount::{MountFlags, mount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::clock::Domain;
use super::supervisor::Supervisor;
use super::sys::{self, Place};
use crate::engine::casting::Identity;
use crate::plan::Pids;
use crate::role::Role;

/// The first number of roles in one namespace: none that the kernel would come to by counting.
const NUMBERS: i32 = 20_000;
/// How many numbers each role has, for each time that it is started.
const NUMBERS_EACH: i32 = 100;
/// The first number of a role in a namespace of its own.
const FIRST: i32 = 12;
/// The unit of start times in `/proc` (`sysconf(_SC_CLK_TCK)` on every Linux).
const TICK: Duration = Duration::from_millis(10);
/// How long the kernel may take to let go of a dead process's number.
const VACATE_WAIT: Duration = Duration::from_secs(1);
/// From so many births on, those that `/proc` does not show any more are forgotten.
const BIRTHS_MAX: usize = 10_000;

/// When a thread began, and under which number its role sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Birth {
    role: Role,
    shown: i32,
    /// As CLOCK_BOOTTIME.
    at: Duration,
}

/// The numbers of a run's processes.
#[derive(Debug)]
pub(crate) struct Worlds {
    pids: Pids,
    user: Option<u32>,
    /// How often each role was started.
    starts: BTreeMap<Role, i32>,
    births: BTreeMap<i32, Birth>,
    /// Numbers of dead roles that nobody has yet.
    vacant: BTreeMap<i32, Role>,
}

impl Worlds {
    /// Nobody is born yet. Roles run as `user`, if they are not the user of this process.
    pub(crate) fn new(pids: Pids, user: Option<u32>) -> Worlds {
        let (starts, births, vacant) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Worlds { pids, user, starts, births, vacant }
    }

    /// Makes a role's first process where the world wants it; its number in our namespace.
    pub(crate) fn fork(&mut self, role: Role, body: &dyn Fn() -> i32) -> io::Result<i32> {
        match self.pids {
            Pids::Separate => fork_apart(FIRST, body),
            Pids::Foreign => fork_apart(FIRST + NUMBERS_EACH * index(role), body),
            Pids::PidOne => sys::fork_as(Place::Init, body),
            Pids::Shared | Pids::Reused => {
                let started = self.starts.entry(role).or_default();
                let numbers = numbers(role, *started);
                *started += 1;
                sys::fork_as(Place::Numbered(&numbers), body).or_else(|error| match self.pids {
                    // Without the right to choose, the kernel counts: nearly always the same.
                    Pids::Shared => sys::fork(body),
                    _ => Err(error),
                })
            }
        }
    }

    /// Whether each role sees a namespace of its own.
    fn are_apart(&self) -> bool {
        matches!(self.pids, Pids::Separate | Pids::Foreign | Pids::PidOne)
    }

    /// Notes a new thread; gives the number that its role sees.
    pub(crate) fn born(&mut self, tid: i32, role: Role, at: Duration) -> i32 {
        let shown = if self.are_apart() { shown_number(tid).unwrap_or(tid) } else { tid };
        self.births.insert(tid, Birth { role, shown, at });
        if self.births.len() > BIRTHS_MAX {
            self.births.retain(|tid, _| Path::new(&format!("/proc/{tid}")).exists());
        }
        shown
    }

    /// A role's first process is gone, and its number is free.
    pub(crate) fn vacate(&mut self, tid: i32, role: Role) {
        if self.pids == Pids::Reused {
            self.vacant.insert(tid, role);
        }
    }

    /// The number that a role sees for a thread.
    pub(crate) fn shown(&self, tid: i32) -> i32 {
        self.births.get(&tid).map_or(tid, |birth| birth.shown)
    }

    /// The thread of the role that it knows under this number; the last that had it.
    pub(crate) fn ours(&self, role: Role, shown: i32) -> Option<i32> {
        if !self.are_apart() {
            return Some(shown);
        }
        let known = self.births.iter().filter(|(_, b)| b.role == role && b.shown == shown);
        known.max_by_key(|(tid, birth)| (birth.at, **tid)).map(|(tid, _)| *tid)
    }

    /// When the thread began that a role knows under this number, as CLOCK_BOOTTIME; `None` for
    /// processes that were there before the run.
    pub(crate) fn birth(&self, role: Role, shown: i32) -> Option<Duration> {
        self.births.get(&self.ours(role, shown)?).map(|birth| birth.at)
    }

    /// Gives vacant numbers to processes that have nothing to do with the run; how many.
    fn reuse(&mut self, now: Duration, has_left: impl Fn(Role) -> bool) -> io::Result<usize> {
        let mut reused = 0;
        for (number, role) in self.vacant.clone() {
            // Processes in a dead leader's group keep its number (setpgid(2)), as on any machine.
            let Some(pid) = take_number(number, self.user, has_left(role))? else { continue };
            self.vacant.remove(&number);
            // Numbers tell start times apart by the tick.
            let after = self.births.get(&pid).map_or(Duration::ZERO, |old| old.at + TICK);
            self.births.insert(pid, Birth { role, shown: pid, at: now.max(after) });
            reused += 1;
        }
        Ok(reused)
    }
}

impl Supervisor<'_> {
    /// Notes a new thread; gives the number that its role sees.
    pub(crate) fn born(&mut self, tid: i32, role: Role) -> i32 {
        let now = self.court.world.clock.shows(Domain::Boot, role);
        self.worlds.born(tid, role, now)
    }

    /// Sees to it that numbers of dead roles mean another process, where the world wants that.
    pub(crate) fn reuse_numbers(&mut self) -> bool {
        if self.worlds.vacant.is_empty() {
            return false;
        }
        let now = self.court.world.clock.shows(Domain::Boot, Role::Holder);
        let processes = &self.court.world.processes;
        let has_left = |role| processes.values().any(|other| *other == role);
        match self.worlds.reuse(now, has_left) {
            Ok(reused) => reused > 0,
            Err(error) => {
                self.worlds.vacant.clear();
                self.court.trouble(format!("a dead role's pid could not be reused: {error}"));
                true
            }
        }
    }

    /// At the end of a run: a number that nobody took proves nothing.
    pub(crate) fn report_vacant(&mut self) {
        for (number, role) in std::mem::take(&mut self.worlds.vacant) {
            self.court.trouble(format!(
                "pid {number} of {role} was not reused: processes that it left behind keep it"
            ));
        }
    }
}

/// The numbers that a role may get, the best first, when it was started so often before.
fn numbers(role: Role, started: i32) -> Vec<i32> {
    let first = NUMBERS + NUMBERS_EACH * index(role);
    (0..NUMBERS_EACH).map(|next| first + (started + next) % NUMBERS_EACH).collect()
}

/// Different for every two roles, but for those of a very large cast.
fn index(role: Role) -> i32 {
    match role {
        Role::Holder => 0,
        Role::Contender(number) => i32::from(number % 100),
    }
}

/// The number of a thread in the innermost namespace (proc_pid_status(5), `NSpid`).
fn shown_number(tid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// What a role's first process does in a namespace of its own: a `/proc` that tells of it.
pub(crate) fn enter(pids: Pids) -> io::Result<()> {
    if matches!(pids, Pids::Shared | Pids::Reused) {
        return Ok(());
    }
    crate::engine::sys::unshare(UnshareFlags::NEWNS)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "/proc", "proc", flags, None)?)
}

/// Makes a process in a new namespace that has an init, and this number there. Its parent is us,
/// outside: it reads as 0, as for a program that was sent into a container.
fn fork_apart(number: i32, body: &dyn Fn() -> i32) -> io::Result<i32> {
    let init =
        idler(Place::Init, || fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()))?;
    let theirs = pidfd_open(pid(init)?, PidfdFlags::empty())?;
    let ours = pidfd_open(getpid(), PidfdFlags::empty())?;
    move_into_thread_name_spaces(theirs.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
    let forked = sys::fork(body);
    move_into_thread_name_spaces(ours.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
    forked
}

fn pid(number: i32) -> io::Result<Pid> {
    Pid::from_raw(number).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Makes a process with this number that has nothing to do with the run; `None` where others
/// still keep the number.
fn take_number(number: i32, user: Option<u32>, has_left: bool) -> io::Result<Option<i32>> {
    let begun = Instant::now();
    loop {
        let identity = user.map(|user| Identity { user, group: user });
        let made = idler(Place::Numbered(&[number]), || identity.map_or(Ok(()), Identity::assume));
        match made {
            Ok(pid) => return Ok(Some(pid)),
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            Err(_) if has_left => return Ok(None),
            Err(error) if begun.elapsed() > VACATE_WAIT => return Err(error),
            // Somebody else has yet to reap what was in the dead process's group.
            Err(_) => rustix::thread::sched_yield(),
        }
    }
}

/// Makes a process that does nothing until the run ends, and is prepared when this returns. It is
/// no tracee, and dies with the run's namespace.
fn idler(place: Place<'_>, prepare: impl FnOnce() -> io::Result<()>) -> io::Result<i32> {
    let (answer, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    let idler = sys::fork_as(place, || {
        sys::default_signals();
        sys::never_wait_for_children();
        // What `/proc/PID/comm` shows; a longer name than 15 bytes would be cut.
        let _ = rustix::thread::set_name(c"unrelated");
        let prepared = prepare();
        let errno = prepared.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
        let is_heard = rustix::io::write(&tell, &errno.to_ne_bytes()).is_ok();
        sys::close_everything();
        if errno != 0 || !is_heard {
            return 1;
        }
        loop {
            pause();
        }
    })?;
    drop(tell);
    let mut errno = [0; 4];
    match rustix::io::read(&answer, &mut errno)? {
        4 if errno == [0; 4] => Ok(idler),
        4 => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Tries everything that the worlds need, on processes that end with this one's namespace.
pub(crate) fn try_out() -> io::Result<()> {
    idler(Place::Numbered(&[NUMBERS]), || Ok(()))?;
    let gone = fork_apart(FIRST, &|| i32::from(enter(Pids::Separate).is_err()))?;
    match sys::wait_for(gone) {
        0 => Ok(()),
        _ => Err(io::Error::other("a /proc for a PID namespace cannot be mounted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIR: Role = Role::Contender(1);

    #[test]
    fn no_two_roles_can_get_the_same_number() {
        let first: Vec<i32> =
            [Role::Holder, HEIR, Role::Contender(99)].map(|role| numbers(role, 0)[0]).to_vec();
        assert_eq!(first, [20_000, 20_100, 29_900]);
        assert_eq!(numbers(HEIR, 1)[0], 20_101, "a role that starts again is another process");
        let last = numbers(HEIR, 99);
        assert_eq!((last[0], last[1], last.len()), (20_199, 20_100, 100));
    }

    #[test]
    fn a_number_means_a_process_of_the_reader_in_worlds_apart() {
        let mut worlds = Worlds::new(Pids::Separate, None);
        let second = Duration::from_secs(1);
        for (tid, role, shown, at) in [
            (40, Role::Holder, 12, second),
            (50, HEIR, 12, 2 * second),
            (60, Role::Holder, 12, 3 * second),
        ] {
            worlds.births.insert(tid, Birth { role, shown, at });
        }
        assert_eq!(worlds.ours(Role::Holder, 12), Some(60), "the last that had it");
        assert_eq!(worlds.birth(HEIR, 12), Some(2 * second));
        assert_eq!(worlds.birth(HEIR, 1), None);
        let mut shared = Worlds::new(Pids::Shared, None);
        shared.births = worlds.births;
        assert_eq!(shared.birth(HEIR, 40), Some(second), "one namespace, one meaning");
    }
}
