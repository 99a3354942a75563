//! A process that does nothing but wake up on time, at the roles' priority and on their cpu.
//!
//! The engine runs in real time. Where the machine lets a ready process wait, a beat comes late
//! and a lock looks dead, which is not the lock's fault. The metronome waits as the roles do, and
//! says so whenever it waited too long: nothing that such a run shows stands.
//!
//! A beat is several operations, each of which may be kept waiting a little. So what counts is the
//! sum of what was lost within the time that a lock has left between a beat and stale-after.

use std::collections::VecDeque;
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
    // The threshold is half of what a lock has left.
    let mut lost = Lost::within(threshold * 2);
    loop {
        let begun = Instant::now();
        // How late this ends is what is measured.
        std::thread::sleep(BEAT);
        let late = begun.elapsed().saturating_sub(BEAT);
        let lost = lost.add(begun, late);
        if lost > threshold {
            writeln!(stdout, "{}", lost.as_nanos())?;
            stdout.flush()?;
        }
    }
}

/// What was lost lately.
#[derive(Debug)]
struct Lost {
    window: Duration,
    /// When each wait began, and how late it ended: one entry for each beat of the window at most.
    recent: VecDeque<(Instant, Duration)>,
    sum: Duration,
}

impl Lost {
    fn within(window: Duration) -> Lost {
        Lost { window, recent: VecDeque::new(), sum: Duration::ZERO }
    }

    /// Takes in one wait, and gives what was lost within the window up to its end.
    fn add(&mut self, begun: Instant, late: Duration) -> Duration {
        self.recent.push_back((begun, late));
        self.sum += late;
        let end = begun + BEAT + late;
        while let Some((first, lost)) = self.recent.front().copied()
            && self.recent.len() > 1
            && end.saturating_duration_since(first) > self.window
        {
            self.recent.pop_front();
            self.sum -= lost;
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The most that is seen lost within 700 ms, where each of so many waits ends so late.
    fn most(late: Duration, waits: u32) -> Duration {
        let mut lost = Lost::within(ms(700));
        let mut now = Instant::now();
        let mut most = Duration::ZERO;
        for _ in 0..waits {
            most = most.max(lost.add(now, late));
            now += BEAT + late;
        }
        assert!(lost.recent.len() <= 71, "{}", lost.recent.len());
        most
    }

    #[test]
    fn many_short_waits_add_up_and_old_ones_are_forgotten() {
        assert!(most(ms(400), 1) > ms(350), "one alone, as it was");
        assert!(most(ms(30), 40) > ms(350), "three of four milliseconds are lost, none for long");
        assert!(most(ms(30), 8) < ms(350), "not for long enough");
        assert!(most(ms(1), 100_000) < ms(100), "the noise of a machine with time to spare");
    }

    #[test]
    fn one_long_wait_counts_even_if_it_is_longer_than_the_window() {
        assert_eq!(most(ms(5000), 3), ms(5000));
    }
}
