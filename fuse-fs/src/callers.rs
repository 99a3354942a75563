//! Whether a thread that waits for an answer is on its way out.
//!
//! A killed thread whose request was read waits for the answer uninterruptibly, and the kernel
//! sends one interrupt for a request at most: so this is asked of /proc.

use std::os::fd::BorrowedFd;

use crate::credentials::read_proc;

/// SIGKILL in a signal mask of `/proc/TID/status`.
const KILL_BIT: u64 = 1 << (libc::SIGKILL - 1);
/// `PF_EXITING` of the flags in `/proc/TID/stat` (include/linux/sched.h): it is past its last
/// signal.
const EXITING: u64 = 0x4;

/// Whether the thread was killed, exits, or is gone. A thread that cannot be seen (0) counts as
/// dying: better an interrupted operation than a process that cannot be killed.
pub(crate) fn is_dying(proc: BorrowedFd<'_>, tid: u32) -> bool {
    if tid == 0 {
        return true;
    }
    let Some(status) = read_proc(proc, &format!("{tid}/status")) else { return true };
    if is_killed(&status) {
        return true;
    }
    read_proc(proc, &format!("{tid}/stat")).is_none_or(|stat| is_exiting(&stat))
}

fn is_killed(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    // A kill of a process is pending for each of its threads; one by tgkill for one.
    (mask("SigPnd:") | mask("ShdPnd:")) & KILL_BIT != 0
}

/// The ninth field of proc_pid_stat(5); the second may hold any character, in parentheses.
fn is_exiting(stat: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else { return true };
    let flags = fields.split_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only SIGKILL kills, whichever mask it is in.
    #[test]
    fn a_pending_sigkill_is_seen() {
        assert!(is_killed("SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(is_killed("SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"));
        assert!(!is_killed("SigPnd:\t0000000000004002\nShdPnd:\t0000000000000000\n"));
    }

    /// Goal: the flags are found behind a command with blanks and parentheses.
    #[test]
    fn exiting_is_read_behind_the_name() {
        assert!(!is_exiting("7 (a) b (c) S 1 7 7 0 -1 4194304 1 2"));
        assert!(is_exiting("7 (a) b (c) D 1 7 7 0 -1 4194308 1 2"));
    }
}
