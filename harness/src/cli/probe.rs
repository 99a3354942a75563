//! One probe of `doctor`, in a process of its own: namespaces and filters end with it, so nothing
//! is left on the machine, whatever happens.
//!
//! Called as `deadbeat __probe NAME [FOLDER]`. Success is exit code 0; else one line on standard
//! output says why.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::sys;

/// What can be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// A user namespace of its own, with a user mapped into it.
    UserNamespace,
    /// A PID namespace.
    PidNamespace,
    /// A private mount namespace.
    MountNamespace,
    /// A tmpfs mounted there.
    Tmpfs,
    /// A FUSE file system mounted there.
    FuseMount,
    /// A seccomp filter.
    Seccomp,
    /// No address space randomization.
    FixedAddresses,
    /// Waits for the end of standard input: something to trace.
    Wait,
}

impl Probe {
    const ALL: [Probe; 8] = [
        Probe::UserNamespace,
        Probe::PidNamespace,
        Probe::MountNamespace,
        Probe::Tmpfs,
        Probe::FuseMount,
        Probe::Seccomp,
        Probe::FixedAddresses,
        Probe::Wait,
    ];

    /// Its name on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Probe::UserNamespace => "user-namespace",
            Probe::PidNamespace => "pid-namespace",
            Probe::MountNamespace => "mount-namespace",
            Probe::Tmpfs => "tmpfs",
            Probe::FuseMount => "fuse-mount",
            Probe::Seccomp => "seccomp",
            Probe::FixedAddresses => "fixed-addresses",
            Probe::Wait => "wait",
        }
    }
}

/// Does what `args` name.
pub(super) fn perform(args: &[OsString]) -> io::Result<()> {
    let name = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    let known = Probe::ALL.into_iter().find(|probe| probe.as_str() == name);
    let folder = args.get(1).map_or(Path::new("/"), |arg| Path::new(arg));
    match known.ok_or_else(|| io::Error::other("no such probe"))? {
        Probe::UserNamespace => enter_user_namespace(UnshareFlags::empty()),
        Probe::PidNamespace => enter(UnshareFlags::NEWPID),
        Probe::MountNamespace => enter_private_mounts(),
        Probe::Tmpfs => {
            enter_private_mounts()?;
            let options = c"size=64k,mode=0700";
            Ok(mount("deadbeat", folder, "tmpfs", MountFlags::empty(), options)?)
        }
        Probe::FuseMount => mount_fuse(folder),
        Probe::Seccomp => sys::install_allowing_filter(),
        Probe::FixedAddresses => sys::fix_addresses(),
        Probe::Wait => io::stdin().read_to_end(&mut Vec::new()).map(|_| ()),
    }
}

/// New namespaces, inside a user namespace where we are nobody special.
fn enter(flags: UnshareFlags) -> io::Result<()> {
    if geteuid().is_root() { sys::unshare(flags) } else { enter_user_namespace(flags) }
}

/// A user namespace in which we are root, and what else `flags` names (user_namespaces(7)).
fn enter_user_namespace(flags: UnshareFlags) -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(flags | UnshareFlags::NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// A mount namespace whose mounts nobody else sees.
fn enter_private_mounts() -> io::Result<()> {
    enter(UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    Ok(mount_change("/", private)?)
}

/// Mounts a FUSE file system that nobody serves. mount(2) succeeds all the same, and the kernel
/// ends it when this process closes /dev/fuse.
fn mount_fuse(folder: &Path) -> io::Result<()> {
    // In this order: the kernel wants the device opened in the user namespace that mounts it.
    enter_private_mounts()?;
    deadbeat_fs::mount_at(folder, deadbeat_fs::open_device()?.as_fd())
}
