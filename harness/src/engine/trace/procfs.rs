//! Times that the kernel tells outside the clocks: `/proc`, sysinfo(2) and times(2).
//!
//! Locks recognise a reused pid by the start time of the process, so these must agree with the
//! run's clocks. A role that opens one of these files gets, under the same descriptor number, a
//! file in memory with the kernel's text and the run's times in it; so every way of reading it
//! works. The text is that of the moment of opening.
//!
//! | file | what is replaced |
//! |---|---|
//! | `/proc/uptime` | both numbers: CLOCK_BOOTTIME, as if the machine had been idle |
//! | `/proc/stat` | `btime`: the role's CLOCK_REALTIME less CLOCK_BOOTTIME |
//! | `/proc/PID/stat`, `/proc/PID/task/TID/stat` | field 22, the start time: CLOCK_BOOTTIME at the birth, in ticks |
//!
//! | `stat` of a path at or below `/proc/PID` | all its times: the birth, by the role's wall clock |
//!
//! Cpu times stay real, and so do the time stamps of other files of `/proc`, and of those that are
//! asked for by descriptor.

use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::arch_x86_64::Regs;
use super::attributes;
use super::clock::Domain;
use super::decode::{self, Call};
use super::supervisor::Supervisor;
use super::sys::{self, Stopped};
use super::thread::State;
use super::waits;
use crate::op::OpKind;
use crate::role::Role;

/// Clock ticks of a second, as `/proc` and times(2) count them on every Linux.
const TICKS: u128 = 100;
/// Where the start time is among the fields that follow the name: it is number 22, and the first
/// of these is number 3 (proc_pid_stat(5)).
const START: usize = 22 - 3;

/// A call that tells a time when it returns, with the registers that it was made with.
#[derive(Debug)]
pub(crate) struct Look {
    regs: Regs,
    at: At,
}

#[derive(Debug)]
enum At {
    /// The call has made a file in memory: this is its text.
    File(String),
    /// `struct sysinfo`.
    Machine,
    /// The answer of times(2).
    Ticks,
    /// The times of a process's files in `/proc`.
    Stamps(Duration),
}

/// A process or thread as a path below `/proc` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Itself,
    Number(i32),
}

/// A file that tells a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Teller {
    Uptime,
    Machine,
    /// No time, but looked after in the same way.
    HostName,
    /// A process, and one of its threads.
    Task(Named, Option<Named>),
}

/// What a path says about times, if anything.
fn teller(path: &Path) -> Option<Teller> {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) || parts.next()?.as_os_str() != "proc" {
        return None;
    }
    let parts: Option<Vec<&str>> = parts.map(|part| part.as_os_str().to_str()).collect();
    let number = |text: &str| text.parse().ok().map(Named::Number);
    match parts?[..] {
        ["uptime"] => Some(Teller::Uptime),
        ["stat"] => Some(Teller::Machine),
        ["sys", "kernel", "hostname"] => Some(Teller::HostName),
        ["self", "stat"] => Some(Teller::Task(Named::Itself, None)),
        ["thread-self", "stat"] => Some(Teller::Task(Named::Itself, Some(Named::Itself))),
        ["self", "task", thread, "stat"] => {
            Some(Teller::Task(Named::Itself, Some(number(thread)?)))
        }
        [process, "stat"] => Some(Teller::Task(number(process)?, None)),
        [process, "task", thread, "stat"] => {
            Some(Teller::Task(number(process)?, Some(number(thread)?)))
        }
        _ => None,
    }
}

/// The process whose folder in `/proc` this is, or is in.
fn owner(path: &Path) -> Option<Named> {
    let mut parts = path.strip_prefix("/proc").ok()?.components();
    match parts.next()?.as_os_str().to_str()? {
        "self" | "thread-self" => Some(Named::Itself),
        number => number.parse().ok().map(Named::Number),
    }
}

fn ticks(time: Duration) -> u128 {
    time.as_millis() * TICKS / 1000
}

/// A `/proc/PID/stat` with another start time; `None` for what is no such text.
fn with_start(text: &str, start: Duration) -> Option<String> {
    // The name before it, in parentheses, may hold anything.
    let name_end = text.rfind(')')? + 2;
    let mut fields: Vec<&str> = text.get(name_end..)?.split(' ').collect();
    let start = ticks(start).to_string();
    *fields.get_mut(START)? = &start;
    Some(format!("{}{}", &text[..name_end], fields.join(" ")))
}

/// A `/proc/stat` with another moment of booting, in seconds since 1970.
fn with_boot(text: &str, boot: u64) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix("btime ") {
        Some(_) => format!("btime {boot}\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn uptime(up: Duration) -> String {
    let up = format!("{}.{:02}", up.as_secs(), up.subsec_millis() / 10);
    format!("{up} {up}\n")
}

impl Supervisor<'_> {
    /// Looks after a call on a file of `/proc` that tells a time; gives back the stop of any other.
    pub(crate) fn look_at_proc(
        &mut self,
        stopped: Stopped,
        regs: &Regs,
        call: &Call,
    ) -> Option<Stopped> {
        if call.first.by_descriptor || !call.first.path.starts_with("/proc") {
            return Some(stopped);
        }
        match call.kind {
            OpKind::Open => self.open_proc(stopped, regs, call),
            OpKind::Stat if attributes::place(regs).is_some() => {
                let Some(birth) = self.birth_of_owner(stopped.tid(), regs) else {
                    return Some(stopped);
                };
                self.follow(stopped, regs, Look { regs: *regs, at: At::Stamps(birth) });
                None
            }
            _ => Some(stopped),
        }
    }

    /// When the process began whose files in `/proc` a call asks about, by its role's wall clock.
    fn birth_of_owner(&self, tid: i32, regs: &Regs) -> Option<Duration> {
        let owner = owner(&decode::written_path(tid, regs)?)?;
        let leader = self.threads.get(&tid)?.pid;
        let role = self.role_of(tid);
        let shown = match owner {
            Named::Itself => self.worlds.shown(leader),
            Named::Number(number) => number,
        };
        let clock = &self.court.world.clock;
        let boot = clock.shows(Domain::Real, role).saturating_sub(clock.shows(Domain::Boot, role));
        Some(boot + self.start_of(role, shown))
    }

    fn open_proc(&mut self, stopped: Stopped, regs: &Regs, call: &Call) -> Option<Stopped> {
        let flags = call.open_flags.unwrap_or(0);
        let reads = flags & (libc::O_ACCMODE | libc::O_PATH | libc::O_DIRECTORY) == libc::O_RDONLY;
        let text = reads.then(|| self.text_of(stopped.tid(), regs)).flatten();
        let Some(text) = text else { return Some(stopped) };
        let mut asked = *regs;
        // It is named by the path.
        let path = if matches!(regs.nr(), libc::SYS_open | libc::SYS_creat) { 0 } else { 1 };
        asked.set_arg(0, regs.arg(path));
        let is_closed = flags & libc::O_CLOEXEC != 0;
        asked.set_arg(1, u64::from(if is_closed { libc::MFD_CLOEXEC } else { 0 }));
        asked.set_nr(libc::SYS_memfd_create);
        self.follow(stopped, &asked, Look { regs: *regs, at: At::File(text) });
        None
    }

    /// sysinfo(2) and times(2).
    pub(crate) fn tell_time(&mut self, stopped: Stopped, regs: Regs) {
        let at = if regs.nr() == libc::SYS_times { At::Ticks } else { At::Machine };
        self.follow(stopped, &regs, Look { regs, at });
    }

    fn follow(&mut self, stopped: Stopped, asked: &Regs, look: Look) {
        if let Some(thread) = self.threads.get_mut(&stopped.tid()) {
            thread.state = State::Looking(Box::new(look));
        }
        // Both fail only if the thread was killed; its end is reported.
        if stopped.set_regs(asked).is_ok() {
            let _ = stopped.resume_to_exit();
        }
    }

    /// What a role finds in the file that it opens; `None` for files that tell no time, and where
    /// the kernel will refuse.
    fn text_of(&self, tid: i32, regs: &Regs) -> Option<String> {
        let path = decode::written_path(tid, regs)?;
        let role = self.role_of(tid);
        let up = self.court.world.clock.shows(Domain::Boot, role);
        // As the role sees it, in whatever namespaces it is.
        let read = |path: PathBuf| {
            fs::read_to_string(Path::new(&format!("/proc/{tid}/root/proc")).join(path)).ok()
        };
        match teller(&path)? {
            Teller::Uptime => Some(uptime(up)),
            Teller::HostName => self.shown_host_name(role).map(|name| format!("{name}\n")),
            Teller::Machine => {
                let real = self.court.world.clock.shows(Domain::Real, role);
                Some(with_boot(&read("stat".into())?, real.saturating_sub(up).as_secs()))
            }
            Teller::Task(process, thread) => {
                let leader = self.threads.get(&tid)?.pid;
                let shown = |named, own| match named {
                    Named::Itself => self.worlds.shown(own),
                    Named::Number(number) => number,
                };
                let process = shown(process, leader);
                let thread = thread.map(|thread| shown(thread, tid));
                let path = match thread {
                    Some(thread) => format!("{process}/task/{thread}/stat"),
                    None => format!("{process}/stat"),
                };
                let text = read(path.into())?;
                with_start(&text, self.start_of(role, thread.unwrap_or(process)))
            }
        }
    }

    /// When a thread began, by CLOCK_BOOTTIME. What was there before the run began with it.
    fn start_of(&self, role: Role, shown: i32) -> Duration {
        self.worlds.birth(role, shown).unwrap_or_else(|| {
            let clock = &self.court.world.clock;
            clock.shows(Domain::Boot, role).saturating_sub(clock.now().into())
        })
    }

    /// A call that tells a time has returned.
    pub(crate) fn looked(&mut self, stopped: Stopped, look: Look) {
        let tid = stopped.tid();
        let Ok(now) = stopped.regs() else { return };
        let up = self.court.world.clock.shows(Domain::Boot, self.role_of(tid));
        let mut regs = look.regs;
        regs.set_ret(now.ret());
        if now.ret() >= 0 {
            match look.at {
                At::File(text) => {
                    let place = format!("/proc/{tid}/fd/{}", now.ret());
                    let file = fs::OpenOptions::new().write(true).open(place);
                    if file.and_then(|mut file| file.write_all(text.as_bytes())).is_err() {
                        regs.set_ret(-i64::from(libc::EIO));
                    }
                }
                // `uptime` is its first member, in whole seconds, rounded up.
                At::Machine => {
                    let seconds = up.as_secs() + u64::from(up.subsec_nanos() > 0);
                    let _ = sys::write_memory(tid, regs.arg(0), &seconds.to_ne_bytes());
                }
                At::Stamps(birth) => stamp(tid, &look.regs, birth),
                At::Ticks => regs.set_ret(i64::try_from(ticks(up)).unwrap_or(i64::MAX)),
            }
        }
        self.resume_with(stopped, &regs);
    }
}

/// Replaces the times in the attributes that a call has filled in.
fn stamp(tid: i32, regs: &Regs, time: Duration) {
    let Some((place, is_statx)) = attributes::place(regs) else { return };
    // As `struct stat` and `struct statx` have them: seconds, then nanoseconds, of 4 bytes in the
    // latter, where nothing follows them.
    let offsets = if is_statx { [64, 96, 112] } else { [72, 88, 104] };
    for offset in offsets {
        // The kernel has just written there.
        let _ = sys::write_memory(tid, place + offset, &waits::timespec_bytes(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_replaced_whatever_the_name_is() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let text = |fields: &[String]| format!("7 (a ) b 1 2) {}\n", fields.join(" "));
        let mut wanted = fields.clone();
        wanted[START] = "10000123".to_owned();
        assert_eq!(fields[START], "22", "the field that proc_pid_stat(5) numbers 22");
        let start = Duration::from_millis(100_001_239);
        assert_eq!(with_start(&text(&fields), start), Some(text(&wanted)));
        assert_eq!(with_start("7 (a) S 1", start), None);
        assert_eq!(with_start("", start), None);
    }

    #[test]
    fn every_spelling_of_a_file_that_tells_a_time_is_known() {
        use Named::{Itself, Number};
        for (path, wanted) in [
            ("/proc/uptime", Some(Teller::Uptime)),
            ("/proc/stat", Some(Teller::Machine)),
            ("/proc//7/./stat", Some(Teller::Task(Number(7), None))),
            ("/proc/self/stat", Some(Teller::Task(Itself, None))),
            ("/proc/thread-self/stat", Some(Teller::Task(Itself, Some(Itself)))),
            ("/proc/self/task/9/stat", Some(Teller::Task(Itself, Some(Number(9))))),
            ("/proc/7/task/9/stat", Some(Teller::Task(Number(7), Some(Number(9))))),
            ("/proc/7/status", None),
            ("/proc/net/stat", None),
            ("/home/uptime", None),
            ("proc/uptime", None),
        ] {
            assert_eq!(teller(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn the_files_of_a_process_are_known() {
        use Named::{Itself, Number};
        for (path, wanted) in [
            ("/proc/7", Some(Number(7))),
            ("/proc/7/fd/1", Some(Number(7))),
            ("/proc/self/", Some(Itself)),
            ("/proc", None),
            ("/proc/uptime", None),
            ("/home/7", None),
        ] {
            assert_eq!(owner(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn uptime_and_boot_agree() {
        assert_eq!(uptime(Duration::from_millis(100_010_678)), "100010.67 100010.67\n");
        assert_eq!(with_boot("cpu 1\nbtime 5\nx\n", 77), "cpu 1\nbtime 77\nx\n");
    }
}
