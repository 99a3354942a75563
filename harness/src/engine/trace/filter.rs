//! Which system calls stop for the supervisor: a seccomp program (seccomp(2)).
//!
//! ```text
//! foreign ABI                      -> ENOSYS
//! io_uring, timers we cannot run   -> TRACE      (answered with ENOSYS: programs fall back)
//! sched_setaffinity                -> 0, ignored (everything shares one cpu)
//! kill of everybody, no namespace  -> EPERM
//! uname, no namespace              -> TRACE
//! paths, descriptors, clocks, fork -> TRACE
//! waits                            -> TRACE where they have a time limit
//! everything else                  -> ALLOW
//! ```
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "call numbers and offsets are small, and non-negative"
)]

use libc::sock_filter;

use super::arch_x86_64::{AUDIT_ARCH, Regs, X32_BIT};
use crate::engine::footing::Footing;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_ERRNO: u32 = 0x0005_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const AND: u16 = 0x54;

/// Calls on files by path.
pub(crate) const BY_PATH: &[i64] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_statfs,
];

/// Calls on open files.
pub(crate) const BY_DESCRIPTOR: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_splice,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_getdents,
    libc::SYS_getdents64,
    libc::SYS_flock,
    libc::SYS_close,
];

/// Calls that are no operation on a file, but change what a descriptor means, or may be one.
const ON_DESCRIPTORS: &[i64] =
    &[libc::SYS_close_range, libc::SYS_dup2, libc::SYS_dup3, libc::SYS_tee, libc::SYS_vmsplice];

/// New threads and processes.
const MAKERS: &[i64] = &[libc::SYS_clone, libc::SYS_clone3, libc::SYS_fork, libc::SYS_vfork];

/// Clocks, sleeps and timers, and what else a run must see.
const OF_TIME: &[i64] = &[
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_alarm,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_getrandom,
    // Descriptors that are passed on.
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sysinfo,
    libc::SYS_times,
    // A death comes before all that may come of it.
    libc::SYS_exit_group,
];

/// Calls that reach files past every stop: answered with ENOSYS, as by a kernel without them.
const UNSEEN: &[i64] =
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Calls that are answered with ENOSYS besides, because their time would be real.
const UNSUPPORTED: &[i64] = &[
    libc::SYS_semtimedop,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_io_setup,
    libc::SYS_futex_waitv,
    libc::SYS_ptrace,
];

/// Whether a run answers the call with ENOSYS, and says so.
pub(crate) fn is_refused(nr: i64) -> bool {
    UNSEEN.contains(&nr) || UNSUPPORTED.contains(&nr)
}

/// Waits that stop where the pointer to their time limit is not null: number, argument.
const LIMITED_BY_POINTER: &[(i64, u32)] = &[
    (libc::SYS_ppoll, 2),
    (libc::SYS_select, 4),
    (libc::SYS_pselect6, 4),
    (libc::SYS_epoll_pwait2, 3),
    (libc::SYS_rt_sigtimedwait, 2),
];

/// Waits that stop where their limit in milliseconds is above 0: number, argument.
const LIMITED_BY_NUMBER: &[(i64, u32)] =
    &[(libc::SYS_poll, 2), (libc::SYS_epoll_wait, 3), (libc::SYS_epoll_pwait, 3)];

/// Calls that send a signal, which stop unless that is 0, which sends none: number, argument.
const SENDS: &[(i64, u32)] = &[
    (libc::SYS_kill, 1),
    (libc::SYS_tkill, 1),
    (libc::SYS_tgkill, 2),
    (libc::SYS_rt_sigqueueinfo, 1),
    (libc::SYS_rt_tgsigqueueinfo, 2),
    (libc::SYS_pidfd_send_signal, 1),
];

/// The signal that a call sends; 0 for a call that sends none.
pub(crate) fn signal(regs: &Regs) -> i32 {
    let sends = SENDS.iter().find(|(nr, _)| *nr == regs.nr());
    sends.map_or(0, |(_, argument)| regs.int(*argument as usize))
}

/// `fcntl` commands that lock.
const LOCK_COMMANDS: &[u32] = &[5, 6, 7, 36, 37, 38];

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// `struct seccomp_data`: nr, arch, instruction pointer, six arguments of 64 bits.
const NR: u32 = 0;
const ARCH: u32 = 4;
const fn low_half(argument: u32) -> u32 {
    16 + 8 * argument
}

/// The filter of a run.
pub(crate) fn program(footing: Footing) -> Vec<sock_filter> {
    let mut code = beginning();
    if footing.is_bare() {
        spare_the_machine(&mut code);
        answer(&mut code, libc::SYS_uname, RET_TRACE);
    }
    for nr in UNSEEN.iter().chain(UNSUPPORTED) {
        answer(&mut code, *nr, RET_TRACE);
    }
    answer(&mut code, libc::SYS_sched_setaffinity, RET_ERRNO);
    stop_at(
        &mut code,
        BY_PATH.iter().chain(BY_DESCRIPTOR).chain(ON_DESCRIPTORS).chain(MAKERS).chain(OF_TIME),
    );
    for (nr, argument) in LIMITED_BY_POINTER {
        guarded(&mut code, *nr, &pointer_is_set(*argument));
    }
    for (nr, argument) in LIMITED_BY_NUMBER {
        guarded(
            &mut code,
            *nr,
            &[
                statement(LOAD, low_half(*argument)),
                jump(JUMP_EQUAL, 0, 2, 0),
                jump(JUMP_ANY_BIT, 0x8000_0000, 1, 0),
                statement(RETURN, RET_TRACE),
            ],
        );
    }
    for (nr, argument) in SENDS {
        guarded(
            &mut code,
            *nr,
            &[
                statement(LOAD, low_half(*argument)),
                jump(JUMP_EQUAL, 0, 1, 0),
                statement(RETURN, RET_TRACE),
            ],
        );
    }
    let mut futex = vec![
        statement(LOAD, low_half(1)),
        statement(AND, 127),
        // WAIT, WAIT_BITSET, LOCK_PI, WAIT_REQUEUE_PI, LOCK_PI2 wait; the others never do.
        jump(JUMP_EQUAL, 0, 5, 0),
        jump(JUMP_EQUAL, 9, 4, 0),
        jump(JUMP_EQUAL, 6, 3, 0),
        jump(JUMP_EQUAL, 11, 2, 0),
        jump(JUMP_EQUAL, 13, 1, 0),
        statement(RETURN, RET_ALLOW),
    ];
    futex.extend(pointer_is_set(3));
    guarded(&mut code, libc::SYS_futex, &futex);
    record_locks(&mut code);
    shared_maps(&mut code);
    code.push(statement(RETURN, RET_ALLOW));
    code
}

/// A filter for real time: only these calls stop, and waits and clocks are the kernel's.
pub(crate) fn real_time(calls: &[i64], locks: bool, maps: bool, threads: bool) -> Vec<sock_filter> {
    let mut code = beginning();
    for nr in UNSEEN {
        answer(&mut code, *nr, RET_ERRNO | libc::ENOSYS as u32);
    }
    let makers: &[i64] = if threads { &[libc::SYS_clone, libc::SYS_clone3] } else { &[] };
    stop_at(&mut code, makers.iter().chain(calls));
    if locks {
        record_locks(&mut code);
    }
    if maps {
        shared_maps(&mut code);
    }
    code.push(statement(RETURN, RET_ALLOW));
    code
}

/// Refuses foreign ABIs, and loads the number of the call.
fn beginning() -> Vec<sock_filter> {
    vec![
        statement(LOAD, ARCH),
        jump(JUMP_EQUAL, AUDIT_ARCH, 1, 0),
        statement(RETURN, RET_ERRNO | libc::ENOSYS as u32),
        statement(LOAD, NR),
        jump(JUMP_AT_LEAST, X32_BIT, 0, 1),
        statement(RETURN, RET_ERRNO | libc::ENOSYS as u32),
    ]
}

/// Without a PID namespace, "everybody" (kill(2), pid -1) would be everybody of the user, us
/// included: refused as by a kernel that lets the caller signal nobody.
fn spare_the_machine(code: &mut Vec<sock_filter>) {
    code.extend([
        jump(JUMP_EQUAL, libc::SYS_kill as u32, 0, 4),
        statement(LOAD, low_half(0)),
        jump(JUMP_EQUAL, u32::MAX, 0, 1),
        statement(RETURN, RET_ERRNO | libc::EPERM as u32),
        statement(LOAD, NR),
    ]);
}

fn answer(code: &mut Vec<sock_filter>, nr: i64, ret: u32) {
    code.push(jump(JUMP_EQUAL, nr as u32, 0, 1));
    code.push(statement(RETURN, ret));
}

fn stop_at<'a>(code: &mut Vec<sock_filter>, calls: impl Iterator<Item = &'a i64>) {
    for nr in calls {
        answer(code, *nr, RET_TRACE);
    }
}

/// Stops at the commands of fcntl that lock.
fn record_locks(code: &mut Vec<sock_filter>) {
    let mut fcntl = vec![statement(LOAD, low_half(1))];
    for command in LOCK_COMMANDS {
        fcntl.push(jump(JUMP_EQUAL, *command, 0, 1));
        fcntl.push(statement(RETURN, RET_TRACE));
    }
    guarded(code, libc::SYS_fcntl, &fcntl);
}

/// Stops at an mmap with MAP_SHARED (the low bit) and PROT_WRITE that is not anonymous.
fn shared_maps(code: &mut Vec<sock_filter>) {
    guarded(
        code,
        libc::SYS_mmap,
        &[
            statement(LOAD, low_half(3)),
            jump(JUMP_ANY_BIT, libc::MAP_SHARED as u32, 0, 4),
            jump(JUMP_ANY_BIT, libc::MAP_ANONYMOUS as u32, 3, 0),
            statement(LOAD, low_half(2)),
            jump(JUMP_ANY_BIT, libc::PROT_WRITE as u32, 0, 1),
            statement(RETURN, RET_TRACE),
        ],
    );
}

fn pointer_is_set(argument: u32) -> Vec<sock_filter> {
    vec![
        statement(LOAD, low_half(argument)),
        jump(JUMP_EQUAL, 0, 0, 2),
        statement(LOAD, low_half(argument) + 4),
        jump(JUMP_EQUAL, 0, 1, 0),
        statement(RETURN, RET_TRACE),
    ]
}

/// `body` for call `nr` only; it returns, or falls off its end to `ALLOW`.
fn guarded(code: &mut Vec<sock_filter>, nr: i64, body: &[sock_filter]) {
    let length = u8::try_from(body.len() + 1).expect("a guarded part is short");
    code.push(jump(JUMP_EQUAL, nr as u32, 0, length));
    code.extend_from_slice(body);
    code.push(statement(RETURN, RET_ALLOW));
}
