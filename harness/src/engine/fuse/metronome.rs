//! A process that does nothing but wake up on time, at the roles' priority and on their cpu.
//!
//! The engine runs in real time. Where the machine lets a ready process wait, a beat comes late
//! and a lock looks dead, which is not the lock's fault. The metronome waits as the roles do, and
//! says so whenever it waited too long: nothing that such a run shows stands.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Short against every margin of a lock, long enough to cost nothing.
const BEAT: Duration = Duration::from_millis(10);

/// `__metronome NANOS`: prints how late it was, a line in nanoseconds, whenever that is more.
/// Ends when nobody reads any more, or with the run's PID namespace.
pub(crate) fn main(threshold: &str) -> ExitCode {
    let Ok(nanos) = threshold.parse() else { return ExitCode::FAILURE };
    match keep_time(Duration::from_nanos(nanos)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::engine::inner::report_and_fail(&error),
    }
}

fn keep_time(threshold: Duration) -> io::Result<()> {
    let mut stdout = io::stdout();
    loop {
        let begun = Instant::now();
        // How late this ends is what is measured.
        std::thread::sleep(BEAT);
        let late = begun.elapsed().saturating_sub(BEAT);
        if late > threshold {
            writeln!(stdout, "{}", late.as_nanos())?;
            stdout.flush()?;
        }
    }
}
