//! What is done to a program before its first instruction: its clocks and its luck are ours.
//!
//! ```text
//! rsp -> argc, argv…, 0, envp…, 0, (type, value)…, (AT_NULL, 0)      the auxiliary vector
//! ```
//!
//! The vDSO, at `AT_SYSINFO_EHDR`, is replaced with one that shows virtual time. Where this machine's
//! cannot be, its address is taken away: every C library, and Go, then reads the clock by a system
//! call, which is trapped. `AT_RANDOM` seeds hash tables and stack guards.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sys::{self, Stopped};
use super::vdso::{Shown, Vdso};

/// How much of a new stack is looked at: arguments and environment point beyond it.
const STACK_BYTES: usize = 1 << 20;

const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_RANDOM: u64 = 25;
const AT_SYSINFO_EHDR: u64 = 33;

/// Changes the clock and the random bytes of a thread that stopped after an exec; gives where its
/// clock page is, if it has one.
pub(crate) fn prepare(
    stopped: &Stopped,
    seed: &[u8; 16],
    vdso: Option<&Vdso>,
    shown: Shown,
) -> io::Result<Option<u64>> {
    let stack = stopped.regs()?.stack();
    let tid = stopped.tid();
    let memory = File::options().read(true).write(true).open(format!("/proc/{tid}/mem"))?;
    let mut bytes = vec![0; STACK_BYTES];
    let read = memory.read_at(&mut bytes, stack)?;
    let words: Vec<u64> = bytes[..read]
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("a chunk of 8 bytes")))
        .collect();
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "its stack has no auxiliary vector");
    let argc = usize::try_from(*words.first().ok_or_else(odd)?).map_err(|_| odd())?;
    let env = argc.checked_add(2).ok_or_else(odd)?;
    let env_length = words.get(env..).ok_or_else(odd)?.iter().position(|word| *word == 0);
    let auxiliary = env + env_length.ok_or_else(odd)? + 1;
    let mut page = None;
    for index in (auxiliary..words.len().saturating_sub(1)).step_by(2) {
        let (kind, value) = (words[index], words[index + 1]);
        let place = stack + 8 * u64::try_from(index).map_err(|_| odd())?;
        match (kind, vdso) {
            (AT_NULL, _) => return Ok(page),
            (AT_SYSINFO_EHDR, Some(vdso)) => page = Some(vdso.install(&memory, value, shown)?),
            (AT_SYSINFO_EHDR, None) => memory.write_all_at(&AT_IGNORE.to_ne_bytes(), place)?,
            (AT_RANDOM, _) => memory.write_all_at(seed, value)?,
            _ => {}
        }
    }
    Err(odd())
}

/// Tries to write to the memory of a stopped thread, without changing it.
pub(crate) fn can_write(stopped: &Stopped) -> io::Result<()> {
    let mut word = [0; 8];
    let place = stopped.regs()?.stack();
    sys::read_memory(stopped.tid(), place, &mut word)?;
    sys::write_memory(stopped.tid(), place, &word)
}
