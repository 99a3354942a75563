//! The system calls of `doctor`'s probes that the standard library and rustix leave to us.
#![expect(unsafe_code, reason = "unshare, ptrace and seccomp have no safe wrapper")]

use std::io;
use std::process::Child;

use rustix::thread::UnshareFlags;

/// Moves this process into new namespaces. Only a probe process that ends right after calls it.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flags never contain FILES, so no descriptor that another thread relies on
    // changes meaning; a probe process has one thread anyway.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Attaches to `child` as a tracer, and lets go.
pub(super) fn seize_and_detach(child: &Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: `child` is borrowed and not waited for, so `pid` is still our child. SEIZE reads
    // no memory of ours: its address argument must be null and is.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, null, null) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above; INTERRUPT takes no memory either.
    if unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, null, null) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: `status` is one live, writable int; the seized child is stopping, so this returns.
    if unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } != pid {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitpid proved a ptrace stop; DETACH with signal 0 takes no memory.
    match unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, null, null) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Installs a seccomp filter that allows everything. It stays for the life of this process.
pub(super) fn install_allowing_filter() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let allow = u16::try_from(libc::BPF_RET | libc::BPF_K).map_err(io::Error::other)?;
    let mut code = [libc::sock_filter { code: allow, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    let flags: libc::c_ulong = 0;
    // SAFETY: `program` points at `code`, which holds `len` instructions; both outlive the call,
    // and the kernel copies them.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Switches address space randomization off for what this process executes (personality(2)).
pub(super) fn fix_addresses() -> io::Result<()> {
    let flag = libc::c_ulong::try_from(libc::ADDR_NO_RANDOMIZE).map_err(io::Error::other)?;
    // SAFETY: personality takes a number and touches no memory.
    match unsafe { libc::personality(flag) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
