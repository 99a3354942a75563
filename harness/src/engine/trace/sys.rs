//! The unsafe code of the trace engine: ptrace, fork, other processes' memory, seccomp.
//!
//! # Invariants
//! - A [`Stopped`] exists only for a thread that waitpid(2) reported as stopped and that was not
//!   resumed since: there is no other constructor, and resuming consumes it. The thread may
//!   still have been killed meanwhile; every request then fails with ESRCH.
//! - All requests come from the one thread of the supervisor, which seized every tracee.
#![expect(unsafe_code, reason = "ptrace, fork and process memory have no safe interface")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the C types of the kernel interface"
)]

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::ptr;

use super::arch_x86_64::Regs;

const OPTIONS: c_int = libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEVFORKDONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_EXITKILL;

/// Why a thread stopped (ptrace(2), "Stopped states").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Before a system call that the filter traces.
    Call,
    /// After a system call that was resumed with [`Stopped::resume_to_exit`].
    Return,
    /// A signal is about to be delivered.
    Signal(i32),
    /// The whole process is stopped by this signal.
    Group(i32),
    /// After an INTERRUPT, when a group stop ended, or at the start of a new thread.
    Interrupted,
    /// It made a thread or process with this id; the flag tells that it waits for it (vfork).
    Made(i32, bool),
    /// The process for which it waited has gone on.
    VforkDone,
    /// Another program runs; the id was the thread's until now.
    Exec(i32),
    /// Some other event.
    Other,
}

/// A thread that does not run until it is resumed.
#[derive(Debug)]
#[must_use = "a stopped thread that is dropped never runs again"]
pub(crate) struct Stopped {
    tid: i32,
    why: Why,
}

/// What became of a thread.
#[derive(Debug)]
pub(crate) enum Report {
    Stopped(Stopped),
    Ended { tid: i32, code: Option<i32>, signal: Option<i32> },
}

impl Stopped {
    /// The thread's id.
    pub(crate) fn tid(&self) -> i32 {
        self.tid
    }

    /// Why it stopped.
    pub(crate) fn why(&self) -> Why {
        self.why
    }

    /// Its registers.
    pub(crate) fn regs(&self) -> io::Result<Regs> {
        // SAFETY: all-zero bytes are a valid value of this struct of integers.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let place: *mut c_void = (&raw mut regs).cast();
        // SAFETY: self proves a ptrace-stop; `place` is one live, writable register set.
        check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.tid, 0, place) })?;
        Ok(Regs(regs))
    }

    /// Replaces its registers.
    pub(crate) fn set_regs(&self, regs: &Regs) -> io::Result<()> {
        let place: *const c_void = (&raw const regs.0).cast();
        // SAFETY: self proves a ptrace-stop; `place` is one live register set.
        check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.tid, 0, place) })
    }

    /// Lets it run, and delivers `signal` if that is not 0.
    pub(crate) fn resume(self, signal: i32) -> io::Result<()> {
        // SAFETY: self proves a ptrace-stop; CONT takes a number, no pointer.
        check(unsafe { libc::ptrace(libc::PTRACE_CONT, self.tid, 0, c_long(signal)) })
    }

    /// Lets it run until the call that it is about to make returns.
    pub(crate) fn resume_to_exit(self) -> io::Result<()> {
        // SAFETY: self proves a ptrace-stop; SYSCALL takes a number, no pointer.
        check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, self.tid, 0, 0) })
    }

    /// Leaves it in its group stop, but lets it hear SIGCONT.
    pub(crate) fn listen(self) -> io::Result<()> {
        // SAFETY: self proves a group-stop; LISTEN takes no pointer.
        check(unsafe { libc::ptrace(libc::PTRACE_LISTEN, self.tid, 0, 0) })
    }
}

fn c_long(number: i32) -> libc::c_long {
    libc::c_long::from(number)
}

fn check(answer: libc::c_long) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes `pid`, a child that waits for us, our tracee. It dies when we do.
pub(crate) fn seize(pid: i32) -> io::Result<()> {
    // SAFETY: SEIZE takes two numbers; the kernel checks that `pid` may be traced.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, libc::c_long::from(OPTIONS)) })
}

/// Asks a running tracee to stop.
pub(crate) fn interrupt(tid: i32) -> io::Result<()> {
    // SAFETY: INTERRUPT takes no pointer; the kernel checks that `tid` is our tracee.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) })
}

/// Blocks SIGCHLD, so that [`await_report`] can wait for it. Roles unblock it before they run.
pub(crate) fn hold_back_reports() {
    hold_back(&[]);
}

/// Sleeps until a tracee may have something to report, at most so long.
pub(crate) fn await_report(patience: std::time::Duration) {
    next_signal(&[], patience);
}

/// The next thing that happened to any tracee or child, without waiting.
pub(crate) fn next_report() -> io::Result<Option<Report>> {
    let mut status: c_int = 0;
    // SAFETY: `status` is one live, writable int.
    let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
    if tid < 0 {
        let error = io::Error::last_os_error();
        let nobody = [Some(libc::ECHILD), Some(libc::EINTR)].contains(&error.raw_os_error());
        return if nobody { Ok(None) } else { Err(error) };
    }
    if tid == 0 {
        return Ok(None);
    }
    if libc::WIFEXITED(status) {
        let code = Some(libc::WEXITSTATUS(status));
        return Ok(Some(Report::Ended { tid, code, signal: None }));
    }
    if libc::WIFSIGNALED(status) {
        let signal = Some(libc::WTERMSIG(status));
        return Ok(Some(Report::Ended { tid, code: None, signal }));
    }
    Ok(Some(Report::Stopped(Stopped { tid, why: why(tid, status) })))
}

fn why(tid: i32, status: c_int) -> Why {
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Why::Return,
        0 => Why::Signal(signal),
        libc::PTRACE_EVENT_SECCOMP => Why::Call,
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Why::Interrupted,
        libc::PTRACE_EVENT_STOP => Why::Group(signal),
        libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK => Why::Made(message(tid), false),
        libc::PTRACE_EVENT_VFORK => Why::Made(message(tid), true),
        libc::PTRACE_EVENT_VFORK_DONE => Why::VforkDone,
        libc::PTRACE_EVENT_EXEC => Why::Exec(message(tid)),
        _ => Why::Other,
    }
}

/// The id that an event is about; 0 if the thread was killed meanwhile.
fn message(tid: i32) -> i32 {
    let mut value: libc::c_ulong = 0;
    let place: *mut c_void = (&raw mut value).cast();
    // SAFETY: the thread was just reported stopped; `place` is one live, writable long.
    let answer = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, place) };
    if answer == -1 { 0 } else { value as i32 }
}

/// Reads the memory of a stopped thread; gives how many bytes were there.
pub(crate) fn read_memory(tid: i32, address: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec {
        iov_base: ptr::without_provenance_mut(address as usize),
        iov_len: bytes.len(),
    };
    // SAFETY: `local` is exactly `bytes`, live and writable; `remote` is another address space,
    // where the kernel checks every access.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

/// Writes the memory of a stopped thread, as the thread itself could.
pub(crate) fn write_memory(tid: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec {
        iov_base: ptr::without_provenance_mut(address as usize),
        iov_len: bytes.len(),
    };
    // SAFETY: `local` is exactly `bytes`, which the call only reads; `remote` is another address
    // space, whose permissions the kernel checks.
    let written =
        unsafe { libc::process_vm_writev(tid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(written) {
        Ok(length) if length == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Runs `body` in a new child, which ends with the status that it gives.
///
/// # Panics
/// If this process has more than one thread: the child could then wait for ever for a lock that
/// another thread held at the fork.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> io::Result<i32> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    assert_eq!(threads.ok(), Some(1), "only a process with one thread may fork");
    // SAFETY: the assertion above proves that no other thread can hold a lock at the fork, so the
    // child may do whatever the parent could.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => run_child(body),
        pid => Ok(pid),
    }
}

/// Where the process that [`fork_as`] makes stands among the PID namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// In the namespace of this process's children, under the first of these numbers that is free.
    Numbered(&'a [i32]),
    /// In a new namespace, as its init.
    Init,
}

/// As [`fork`], under a number of the caller's choice (clone(2), `set_tid`) or in a PID namespace
/// of its own. EEXIST: every number is taken. EPERM: the user may not choose numbers here.
///
/// # Panics
/// As [`fork`].
pub(crate) fn fork_as(place: Place<'_>, body: impl FnOnce() -> i32) -> io::Result<i32> {
    /// `struct clone_args` of version 2 (clone(2)).
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
    }
    let attempt = |flags: c_int, number: Option<&i32>| {
        let arguments = Arguments {
            flags: flags as u64,
            exit_signal: libc::SIGCHLD as u64,
            set_tid: number.map_or(0, |number| ptr::from_ref(number).expose_provenance() as u64),
            set_tid_size: u64::from(number.is_some()),
            ..Arguments::default()
        };
        let size = size_of::<Arguments>();
        // SAFETY: the arguments are live, and ask for a copy of this process with a stack of its
        // own (no CLONE_VM), as fork does; the assertion below proves that no other thread can
        // hold a lock.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) } {
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(pid as i32),
        }
    };
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    assert_eq!(threads.ok(), Some(1), "only a process with one thread may fork");
    let pid = match place {
        Place::Init => attempt(libc::CLONE_NEWPID, None)?,
        Place::Numbered(numbers) => {
            let mut answer = Err(io::ErrorKind::InvalidInput.into());
            for number in numbers {
                answer = attempt(0, Some(number));
                let is_taken = |error: &io::Error| error.raw_os_error() == Some(libc::EEXIST);
                if !answer.as_ref().is_err_and(is_taken) {
                    break;
                }
            }
            answer?
        }
    };
    if pid == 0 { run_child(body) } else { Ok(pid) }
}

/// What a new child does, and no more.
fn run_child(body: impl FnOnce() -> i32) -> ! {
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor of a child that runs our own code to its end.
pub(crate) fn close_everything() {
    // SAFETY: close_range takes numbers; nothing that this process does from now on uses a
    // descriptor, and it ends without dropping what owned one.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
}

/// Lets the kernel reap this process's children (wait(2), "SIGCHLD is ignored").
pub(crate) fn never_wait_for_children() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Runs another program in this process; returns only if that failed.
pub(crate) fn exec(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Undoes what the Rust runtime and our parents did to the signals of this process.
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: SIG_DFL installs no handler; numbers that libc reserves fail without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: all-zero bytes are a valid, empty signal set.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is one live signal set, and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// A set of signals.
fn set_of(signals: impl Iterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid, empty signal set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: `set` is one live signal set; a number that is no signal fails without effect.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Which signals this process blocked before [`hold_back`].
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    /// Blocks these again, and no others.
    pub(crate) fn restore(self) {
        // SAFETY: `self` holds one live signal set, and no old set is asked for.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// Keeps these signals, and SIGCHLD, for [`next_signal`].
pub(crate) fn hold_back(signals: &[i32]) -> Mask {
    let set = set_of(signals.iter().copied().chain([libc::SIGCHLD]));
    let mut old = set_of(std::iter::empty());
    // SAFETY: both are live signal sets; `old` is writable.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old) };
    Mask(old)
}

/// Waits for one of these signals, or for a report of a tracee or child, at most for so long.
/// Gives the signal, and whether a process sent it rather than the kernel.
pub(crate) fn next_signal(signals: &[i32], patience: std::time::Duration) -> Option<(i32, bool)> {
    let set = set_of(signals.iter().copied().chain([libc::SIGCHLD]));
    let patience = libc::timespec {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(patience.subsec_nanos().cast_signed()),
    };
    // SAFETY: all-zero bytes are a valid value of this struct of integers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the three places are live for the call; `info` is writable.
    let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const patience) };
    // SI_USER, SI_QUEUE and SI_TKILL are not positive (sigaction(2)).
    (signal > 0 && signal != libc::SIGCHLD).then_some((signal, info.si_code <= 0))
}

/// Stops this process until somebody sends SIGCONT.
pub(crate) fn stop_this_process() {
    // SAFETY: raise takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Installs a filter on this process and all that come from it.
pub(crate) fn install_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: this prctl takes numbers only.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check(libc::c_long::from(answer))?;
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let place = &raw const program;
    // SAFETY: `place` is one live program whose instructions the kernel copies and checks.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, place) };
    check(answer)
}

/// Lets the programs of this process lie at the same addresses in every run: some mix addresses
/// into their random numbers. A refusal (seccomp in a container) only costs equal histories.
/// Gives whether the kernel agreed.
pub(crate) fn fix_addresses() -> bool {
    let now: libc::c_ulong = 0xffff_ffff;
    // SAFETY: personality takes a number; this one only asks for the current value.
    let current = unsafe { libc::personality(now) };
    if current < 0 {
        return false;
    }
    let flags = current as libc::c_ulong | libc::ADDR_NO_RANDOMIZE as libc::c_ulong;
    // SAFETY: personality takes a number, and affects only later calls of exec.
    unsafe { libc::personality(flags) >= 0 }
}

/// How much cpu time a thread has used (proc_pid_schedstat: its first number); none if it is gone.
pub(crate) fn cpu_time(tid: i32) -> std::time::Duration {
    let text = std::fs::read_to_string(format!("/proc/{tid}/schedstat")).unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    std::time::Duration::from_nanos(nanos.unwrap_or(0))
}

/// How much cpu time a process has used; none if it is gone.
pub(crate) fn process_time(pid: i32) -> std::time::Duration {
    /// `CPUCLOCK_SCHED` (include/linux/posix-timers.h): the precise clock, of a whole process.
    const SCHED: i32 = 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is one live, writable struct; a clock of nobody fails without effect.
    unsafe { libc::clock_gettime((!pid << 3) | SCHED, &raw mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    std::time::Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Lets waits with a limit end as soon as it is reached, or as late as on any machine
/// (PR_SET_TIMERSLACK(2const)).
pub(crate) fn be_punctual(is_punctual: bool) {
    let nanos: libc::c_ulong = if is_punctual { 1 } else { 50_000 };
    // SAFETY: this prctl takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos, 0, 0, 0) };
}

/// How often this thread has left its cpu so far.
pub(crate) fn switches() -> i64 {
    // SAFETY: all-zero bytes are a valid value of this struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is one live, writable struct.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nvcsw + usage.ru_nivcsw
}

/// Sends a signal to a process; whether there was one.
pub(crate) fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: kill takes two numbers.
    pid > 1 && unsafe { libc::kill(pid, signal) } == 0
}

/// Sends the signal of a POSIX timer, with the contents that the kernel would give it
/// (rt_sigqueueinfo(2) lets a process claim any negative code).
pub(crate) fn ring(pid: i32, thread: i32, signal: i32, timer: i32, value: u64) {
    /// `siginfo_t` of `SI_TIMER`.
    #[repr(C)]
    struct Info {
        signal: i32,
        errno: i32,
        code: i32,
        pad: i32,
        timer: i32,
        overrun: i32,
        value: u64,
        rest: [u64; 12],
    }
    let (errno, pad, overrun, rest) = (0, 0, 0, [0; 12]);
    let info = Info { signal, errno, code: libc::SI_TIMER, pad, timer, overrun, value, rest };
    let info = &raw const info;
    if thread == 0 {
        // SAFETY: `info` is one live struct of 128 bytes, the size of a siginfo_t.
        unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, info) };
    } else {
        // SAFETY: `info` is one live struct of 128 bytes, the size of a siginfo_t.
        unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, thread, signal, info) };
    }
}

/// Waits until this process has no children.
pub(crate) fn reap_everyone() {
    loop {
        // SAFETY: no status is asked for.
        let ended = unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL) };
        let error = io::Error::last_os_error().raw_os_error();
        if ended < 0 && error != Some(libc::EINTR) {
            return;
        }
    }
}

/// Waits for a child to end; its exit code, or 128 and its signal.
pub(crate) fn wait_for(pid: i32) -> i32 {
    loop {
        let mut status: c_int = 0;
        // SAFETY: `status` is one live, writable int.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == pid && libc::WIFEXITED(status) {
            return libc::WEXITSTATUS(status);
        }
        if ended == pid && libc::WIFSIGNALED(status) {
            return 128 + libc::WTERMSIG(status);
        }
        let error = io::Error::last_os_error().raw_os_error();
        if ended < 0 && error != Some(libc::EINTR) {
            return 127;
        }
    }
}
