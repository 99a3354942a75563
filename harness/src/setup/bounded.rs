//! Runs one command with bounds on its time and output, and leaves nothing of it behind.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::sys;
use crate::engine::Stop;

/// How often a wait looks whether it was interrupted.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long output may trickle in after the command and its group are dead: a process that left
/// the group can keep the pipe open.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How much a command may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Real time.
    pub time: Duration,
    /// Bytes of output that are kept: the last ones.
    pub output_bytes: usize,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed: its time was over.
    TimedOut,
    /// It was killed: somebody asked to stop.
    Interrupted,
}

/// Runs `command` in a process group of its own, and kills what is left of that at the end.
/// Returns how it ended and the last bytes of what it printed.
///
/// # Errors
/// It could not be started or waited for.
pub(crate) fn run_bounded(
    mut command: Command,
    bounds: Bounds,
    stop: &Stop,
) -> io::Result<(Finished, String)> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    sys::die_with_us(&mut command);
    let mut child = command.spawn()?;
    // The command holds the pipe's other end; while it lives here, the reader would never end.
    drop(command);
    let output = read_aside(reader, bounds.output_bytes);
    let ended = wait(&child, bounds.time, stop);
    // Before it is reaped, so that the number still is its group's.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let status = child.wait()?;
    let text = output.recv_timeout(DRAIN_MAX).unwrap_or_default();
    Ok((ended?.unwrap_or(Finished::Exited(status)), text))
}

/// Waits until the child is a zombie (`None`), or there is a reason to kill it.
fn wait(child: &Child, time: Duration, stop: &Stop) -> io::Result<Option<Finished>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let started = Instant::now();
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        if stop.asked() {
            return Ok(Some(Finished::Interrupted));
        }
        if started.elapsed() >= time {
            return Ok(Some(Finished::TimedOut));
        }
    }
}

/// Reads to the end on another thread, keeping the last bytes.
fn read_aside(mut reader: io::PipeReader, bytes_max: usize) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            kept.extend_from_slice(&chunk[..count]);
            let surplus = kept.len().saturating_sub(bytes_max);
            kept.drain(..surplus);
        }
        // Nobody listens any more if draining took too long; then nobody misses it.
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

/// `text` without anything that a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |c: char| if c == '\t' || !c.is_control() { c } else { '\u{fffd}' };
    text.chars().map(plain).collect()
}
