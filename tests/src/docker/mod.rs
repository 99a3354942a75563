//! A stand-in for a container: what Docker's defaults take away from a process, without Docker.
//!
//! The process keeps Docker's default capabilities at most, and runs under a filter that answers as
//! Docker's default seccomp profile does on x86-64. What else a container has (namespaces of its
//! own, AppArmor, parts of `/proc` that are hidden) is not there; no_new_privs, which Docker does
//! not set by default, is, since nobody without it may load a filter.

mod sys;

use std::process::Command;

use libc::sock_filter;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What is refused whatever its arguments are.
const REFUSED: &str = include_str!("refused.txt");
/// The highest call that the profile names. runc answers what is above with ENOSYS, so that
/// programs take it for an older kernel.
const HIGHEST: u32 = 466;
/// Numbers of x86-64 that no call has (`syscall_64.tbl` of Linux).
const UNASSIGNED: std::ops::RangeInclusive<u32> = 337..=423;
/// The flags of clone(2) that make namespaces.
const NAMESPACES: u32 = 0x7e02_0000;
/// All that personality(2) may be called with: neither of them switches ASLR off.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// Address families of socket(2) that are refused; so are all above the last.
const FAMILIES: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
const LAST_FAMILY: u32 = 45;

const ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const ABOVE: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` (seccomp(2)).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Puts `command` where a container's processes are: as `user` (and the group of that number), or
/// as who we are, with the rights that Docker leaves. Without root there are none to be left.
pub fn confine(command: &mut Command, user: Option<u32>) {
    let filter = filter();
    let kept = default_capabilities();
    let is_root = rustix::process::geteuid().is_root();
    sys::before_exec(command, move || {
        if is_root {
            for one in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
                // A kernel that does not know it cannot give it either.
                let _ = rustix::thread::remove_capability_from_bounding_set(one);
            }
        }
        if let Some(user) = user {
            rustix::thread::set_thread_groups(&[])?;
            let (gid, uid) = (Gid::from_raw(user), Uid::from_raw(user));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        } else if is_root {
            let inheritable = CapabilitySet::empty();
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
            rustix::thread::set_capabilities(None, sets)?;
        }
        rustix::thread::set_no_new_privs(true)?;
        sys::load(&filter)
    });
}

/// The capabilities of a process in a container (<https://docs.docker.com/engine/security/>).
fn default_capabilities() -> CapabilitySet {
    CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::FOWNER
        | CapabilitySet::MKNOD
        | CapabilitySet::NET_RAW
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::KILL
        | CapabilitySet::AUDIT_WRITE
}

/// The numbers of [`REFUSED`].
fn refused() -> impl Iterator<Item = u32> {
    let lines = REFUSED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let number = line.split_ascii_whitespace().next().unwrap_or_default();
        number.parse().expect("a line begins with a number")
    })
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips `then` instructions if it is so, else `otherwise`.
fn jump(code: u16, k: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: then, jf: otherwise, k }
}

/// ```text
/// another ABI              -> EPERM    (Docker lets 32-bit programs through; none is here)
/// number above the highest -> ENOSYS
/// refused, unassigned      -> EPERM
/// clone3                   -> ENOSYS   (its flags are in memory, where no filter can look)
/// clone of a namespace     -> EPERM
/// personality, socket      -> EPERM but for some arguments
/// everything else          -> ALLOW
/// ```
fn filter() -> Vec<sock_filter> {
    let mut code = vec![
        statement(LOAD, ARCH),
        jump(EQUAL, ARCH_X86_64, 1, 0),
        statement(RETURN, EPERM),
        statement(LOAD, NUMBER),
        jump(AT_LEAST, X32_BIT, 0, 1),
        statement(RETURN, EPERM),
        jump(ABOVE, HIGHEST, 0, 1),
        statement(RETURN, ENOSYS),
        jump(AT_LEAST, *UNASSIGNED.start(), 0, 2),
        jump(ABOVE, *UNASSIGNED.end(), 1, 0),
        statement(RETURN, EPERM),
    ];
    for number in refused() {
        code.extend([jump(EQUAL, number, 0, 1), statement(RETURN, EPERM)]);
    }
    code.extend([jump(EQUAL, number_of(libc::SYS_clone3), 0, 1), statement(RETURN, ENOSYS)]);
    let flags = [jump(ANY_BIT, NAMESPACES, 0, 1), statement(RETURN, EPERM)];
    on_first_argument(&mut code, libc::SYS_clone, &flags);
    let mut personality: Vec<sock_filter> = PERSONALITIES
        .iter()
        .flat_map(|value| [jump(EQUAL, *value, 0, 1), statement(RETURN, ALLOW)])
        .collect();
    personality.push(statement(RETURN, EPERM));
    on_first_argument(&mut code, libc::SYS_personality, &personality);
    let mut socket: Vec<sock_filter> = FAMILIES
        .iter()
        .flat_map(|family| [jump(EQUAL, *family, 0, 1), statement(RETURN, EPERM)])
        .collect();
    socket.extend([jump(ABOVE, LAST_FAMILY, 0, 1), statement(RETURN, EPERM)]);
    on_first_argument(&mut code, libc::SYS_socket, &socket);
    code.push(statement(RETURN, ALLOW));
    code
}

fn number_of(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("calls have small numbers")
}

/// For this call, `body` on its first argument; what falls off its end is allowed.
fn on_first_argument(code: &mut Vec<sock_filter>, call: libc::c_long, body: &[sock_filter]) {
    let length = u8::try_from(body.len() + 2).expect("a body is short");
    code.extend([jump(EQUAL, number_of(call), 0, length), statement(LOAD, FIRST_ARGUMENT)]);
    code.extend_from_slice(body);
    code.push(statement(RETURN, ALLOW));
}
