//! Starting a child that does not outlive us.
#![expect(unsafe_code, reason = "what a child does between fork and exec is up to us to keep safe")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Makes the kernel kill the child when the thread that starts it ends, even by SIGKILL.
pub(crate) fn die_with_us(command: &mut Command) {
    // SAFETY: the closure makes one prctl(2) call, which is async-signal-safe, allocates nothing
    // and touches no memory that is shared with the parent.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}
