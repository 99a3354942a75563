//! Mounting with plain mount(2), as root or as root of a user namespace: no setuid helper.
//!
//! Nothing here unmounts. A mount in a private mount namespace goes with it; closing the device
//! ends the connection in any case.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::mount::MountFlags;

/// Opens `/dev/fuse`, ready for [`mount_at`] and then
/// [`FaultFs::add_mount`](crate::FaultFs::add_mount).
///
/// # Errors
/// Those of open(2): mostly that the file is missing, or not for this user.
pub fn open_device() -> io::Result<OwnedFd> {
    // std opens with O_CLOEXEC: a client that inherited the device would keep a dead daemon's
    // mount hanging.
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    options.open("/dev/fuse").map(OwnedFd::from)
}

/// The data argument of mount(2) for a mount that `device` serves, on behalf of this process's
/// user.
///
/// `allow_other`, because whose request is whose is the daemon's business; not
/// `default_permissions`, because an attempt that the kernel itself refuses is never heard of.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "a number, a borrow or a reference is given")]
pub fn mount_options(device: impl AsRawFd) -> String {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other",
        device.as_raw_fd(),
        uid.as_raw(),
        gid.as_raw()
    )
}

/// Mounts on `target`, in the mount namespace of the calling thread, what `device` serves.
///
/// May be called between fork and exec, with the descriptor's number. The kernel numbers callers
/// ([`Caller::tid`](crate::Caller)) in the PID namespace of the process that mounts.
///
/// # Errors
/// Those of mount(2); EPERM without `CAP_SYS_ADMIN` over the mount namespace.
pub fn mount_at(target: &Path, device: impl AsRawFd) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    let options = CString::new(mount_options(device))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"deadbeat", &target, c"fuse.deadbeat", flags, options.as_c_str())?;
    Ok(())
}
