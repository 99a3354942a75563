//! Host names of the roles' own where no UTS namespace can be made: the supervisor answers uname(2),
//! which gethostname(3) goes by, and `/proc/sys/kernel/hostname`.
//!
//! `/etc/hostname` is a file like any other, in a UTS namespace as well.

use super::arch_x86_64::Regs;
use super::supervisor::Supervisor;
use super::sys::{self, Stopped};
use crate::role::Role;

/// The length of each text of `struct utsname` (uname(2)), its zero byte included.
const TEXT_BYTES: usize = 65;

impl Supervisor<'_> {
    /// The host name that is shown to a role in the kernel's stead, if one is.
    pub(crate) fn shown_host_name(&self, role: Role) -> Option<String> {
        let is_shown = self.job.footing.is_bare() && self.job.plan.world.separate_hostname;
        is_shown.then(|| role.to_string())
    }

    /// uname(2).
    pub(crate) fn tell_host_name(&mut self, stopped: Stopped, mut regs: Regs) {
        let tid = stopped.tid();
        if let Some(name) = self.shown_host_name(self.role_of(tid)) {
            let told = sys::write_memory(tid, regs.arg(0), &utsname(&name));
            regs.skip(if told.is_ok() { 0 } else { -i64::from(libc::EFAULT) });
        }
        self.resume_with(stopped, &regs);
    }
}

/// `struct utsname` of this machine, but for the name: six texts of the same length.
fn utsname(name: &str) -> Vec<u8> {
    let machine = rustix::system::uname();
    let texts = [
        machine.sysname().to_bytes(),
        name.as_bytes(),
        machine.release().to_bytes(),
        machine.version().to_bytes(),
        machine.machine().to_bytes(),
        machine.domainname().to_bytes(),
    ];
    let padded = texts.iter().flat_map(|text| {
        let kept = text.iter().copied().take(TEXT_BYTES - 1);
        kept.chain(std::iter::repeat(0)).take(TEXT_BYTES)
    });
    padded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_cut_to_its_place_and_ends_with_zero() {
        let bytes = utsname(&"n".repeat(100));
        assert_eq!(bytes.len(), 6 * TEXT_BYTES);
        assert!(bytes.starts_with(b"Linux\0"));
        let name = &bytes[TEXT_BYTES..2 * TEXT_BYTES];
        assert_eq!(name, [vec![b'n'; 64], vec![0]].concat());
        assert!(bytes[4 * TEXT_BYTES..].starts_with(b"x86_64\0"));
    }
}
