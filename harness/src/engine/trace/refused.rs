//! Calls that the engine cannot follow: refused, and told.
//!
//! What a program does without (it falls back) is a note in the history, once for each role. What
//! the lock itself may need is a `Trouble`: the run then proves nothing.

use super::arch_x86_64::Regs;
use super::decode;
use super::supervisor::Supervisor;
use super::sys::{self, Stopped};
use crate::history::What;

/// The size of `struct msghdr`, and of `struct mmsghdr`, which holds one (sendmmsg(2)).
const MESSAGE_BYTES: u64 = 56;
const NUMBERED_MESSAGE_BYTES: u64 = 64;
/// How many messages one call sends at most (`UIO_MAXIOV`).
const MESSAGES_MAX: u64 = 1024;
/// How much ancillary data is looked at: several times what 253 descriptors (`SCM_MAX_FD`) take.
const CONTROL_BYTES_MAX: u64 = 16 << 10;
/// `struct cmsghdr`: the length of all of it, the level, the type; then what is passed.
const HEAD_BYTES: usize = 16;

/// The name of a call that is refused for what it is.
fn name(nr: i64) -> &'static str {
    match nr {
        libc::SYS_io_uring_setup | libc::SYS_io_uring_enter | libc::SYS_io_uring_register => {
            "io_uring"
        }
        libc::SYS_semtimedop => "semtimedop",
        libc::SYS_mq_timedreceive | libc::SYS_mq_timedsend => "a timed message queue",
        libc::SYS_io_setup => "io_setup",
        libc::SYS_futex_waitv => "futex_waitv",
        libc::SYS_ptrace => "ptrace",
        _ => "a call that is refused",
    }
}

impl Supervisor<'_> {
    /// Answers ENOSYS, as a kernel that was built without the call.
    pub(crate) fn refuse(&mut self, stopped: Stopped, mut regs: Regs) {
        let (role, name) = (self.role_of(stopped.tid()), name(regs.nr()));
        if self.noted.insert((role, name)) {
            let text = format!("tries {name}, which is not there on this engine (ENOSYS)");
            self.court.record(What::Note { role, text });
        }
        regs.skip(-i64::from(libc::ENOSYS));
        self.resume_with(stopped, &regs);
    }

    /// sendmsg(2) and sendmmsg(2): a descriptor of the lock directory is not passed on.
    pub(crate) fn send(&mut self, stopped: Stopped, mut regs: Regs) {
        let tid = stopped.tid();
        let (count, size) = match regs.nr() {
            libc::SYS_sendmmsg => (regs.arg(2).min(MESSAGES_MAX), NUMBERED_MESSAGE_BYTES),
            _ => (1, MESSAGE_BYTES),
        };
        let dir = self.ground.dir();
        let passed = (0..count)
            .filter_map(|index| regs.arg(1).checked_add(index * size))
            .flat_map(|message| passed(&control(tid, message).unwrap_or_default()));
        let found = passed.filter_map(|fd| decode::open_file(tid, fd)).map(|file| file.path);
        let Some(path) = found.into_iter().find(|path| path.starts_with(&dir)) else {
            let _ = stopped.resume(0);
            return;
        };
        let role = self.role_of(tid);
        if self.noted.insert((role, "SCM_RIGHTS")) {
            self.court.trouble(format!(
                "{role} passes a descriptor of {} over a socket (SCM_RIGHTS): which role then uses \
                 it cannot be promised, so ENOSYS",
                path.display()
            ));
        }
        regs.skip(-i64::from(libc::ENOSYS));
        self.resume_with(stopped, &regs);
    }
}

/// The ancillary data of a `struct msghdr`: its address is at byte 32, its length at 40.
fn control(tid: i32, message: u64) -> Option<Vec<u8>> {
    let mut words = [0; 16];
    sys::read_memory(tid, message.checked_add(32)?, &mut words).ok()?;
    let word = |at: usize| u64::from_ne_bytes(words[at..at + 8].try_into().expect("8 bytes of 16"));
    let length = usize::try_from(word(8).min(CONTROL_BYTES_MAX)).ok()?;
    let mut bytes = vec![0; length];
    let read = sys::read_memory(tid, word(0), &mut bytes).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// The descriptors that ancillary data passes (cmsg(3), unix(7)).
fn passed(control: &[u8]) -> Vec<i32> {
    let int =
        |bytes: &[u8]| i32::from_ne_bytes(bytes.try_into().expect("the caller gives 4 bytes"));
    let mut passed = Vec::new();
    let mut rest = control;
    while let Some((head, _)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let length = u64::from_ne_bytes(head[..8].try_into().expect("8 bytes of 16"));
        let Ok(length) = usize::try_from(length) else { break };
        if length < HEAD_BYTES {
            break;
        }
        if int(&head[8..12]) == libc::SOL_SOCKET && int(&head[12..]) == libc::SCM_RIGHTS {
            let data = &rest[HEAD_BYTES..length.min(rest.len())];
            passed.extend(data.chunks_exact(4).map(int));
        }
        // The next one begins at a multiple of 8.
        let next = length.checked_next_multiple_of(8).unwrap_or(usize::MAX);
        rest = rest.get(next..).unwrap_or_default();
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[i32]) -> Vec<u8> {
        let mut bytes = (HEAD_BYTES + 4 * data.len()).to_ne_bytes().to_vec();
        bytes.extend([level, kind].iter().chain(data).flat_map(|word| word.to_ne_bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn every_descriptor_is_found_and_nothing_else() {
        let rights = |data: &[i32]| message(libc::SOL_SOCKET, libc::SCM_RIGHTS, data);
        let other = message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[1, 2, 3]);
        assert_eq!(passed(&rights(&[3])), [3]);
        assert_eq!(passed(&[other, rights(&[4, 5, 6]), rights(&[7])].concat()), [4, 5, 6, 7]);
        assert_eq!(passed(&[]), [0; 0]);
    }

    #[test]
    fn malformed_data_ends_the_search() {
        let mut rights = message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[3, 4]);
        for length in [0_u64, 15, u64::MAX, u64::MAX - 3] {
            rights[..8].copy_from_slice(&length.to_ne_bytes());
            let found = passed(&rights);
            assert!(found.is_empty() || found == [3, 4], "{length}: {found:?}");
        }
        for end in 0..rights.len() {
            let found = passed(&rights[..end]);
            assert!(found.len() <= 2);
        }
    }
}
