//! The critical section of a subject: enter, work in ticks, leave; stop at once when told to.
//!
//! Told of a loss, the section stops its protected work, as a lock's documentation tells its
//! users to do ([`OnLoss`]). A notice wakes it at once: it waits for notices, not for time.
//!
//! Told to (`DEADBEAT_AGAIN_MS`), it tries to take the lock once more while it is inside, in another
//! thread, and says what came of it: `refused`, or `admitted`, which no lock should do.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::{Environment, Witness, WitnessError};

/// How many ticks make a beat, where the lock has none (as deadbeat sets `DEADBEAT_TICK_MS`).
const TICKS_A_BEAT: u32 = 10;

/// What the lock tells whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A beat failed; the lock is still owned.
    Degraded(Vec<(String, String)>),
    /// Beats work again.
    Healthy,
    /// Ownership is gone or in doubt.
    Lost(Vec<(String, String)>),
}

/// What came of trying to take a lock.
#[derive(Debug)]
pub enum Tried<G> {
    /// It was taken.
    Taken(G),
    /// It could not be had in time.
    GaveUp,
    /// Something else went wrong.
    Failed(String),
}

/// What a holder does once its lock is lost. Whatever it is, it writes nothing protected any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Breaks off, and says `aborted`.
    #[default]
    Abort,
    /// Leaves in order, early, and releases.
    Leave,
    /// Stays until its time is over.
    Stay,
}

/// A lock under test.
pub trait Lock {
    /// What holds it.
    type Guard: Guard;
    /// Tries to take it until `deadline`.
    fn acquire(&mut self, deadline: Instant) -> Tried<Self::Guard>;
}

/// A lock that is held.
pub trait Guard {
    /// Its fencing token, if it has one.
    fn token(&self) -> Option<u64>;
    /// Waits up to `patience` for what the lock has to tell; one that never tells anything sleeps.
    fn next_notice(&self, patience: Duration) -> Option<Notice>;
    /// Whether the lock covers a protected write right now; a lock that cannot say so always does.
    fn may_write(&self) -> bool {
        true
    }
    /// What its holder does once it is lost.
    fn on_loss(&self) -> OnLoss {
        OnLoss::Abort
    }
    /// Gives the lock back, or what of it is still one's own.
    ///
    /// # Errors
    /// Why that failed.
    fn release(self) -> Result<(), String>;
}

/// How a section ended.
enum Ended {
    Left,
    /// Left after its lock was lost: it does not come back for another turn.
    LeftLost,
    Aborted,
}

/// Plays the adapter of CONTRACTS.md for `lock`: the whole of what a subject's `main` has to do.
pub fn play<L: Lock + Send>(environment: &Environment, lock: &mut L) -> ExitCode {
    let witness = Witness::new(&environment.witness);
    for _ in 0..environment.acquires {
        let played = match lock.acquire(Instant::now() + environment.patience) {
            Tried::Taken(guard) => inside(environment, &witness, guard, lock),
            Tried::GaveUp => return say_last(&witness, "gave-up"),
            Tried::Failed(why) => Err(why),
        };
        match played {
            Ok(Ended::Left) => {}
            Ok(Ended::Aborted | Ended::LeftLost) => return ExitCode::SUCCESS,
            Err(why) => {
                // If even this cannot be said, the exit code says it.
                let _ = witness.failed(&why);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn say_last(witness: &Witness, word: &str) -> ExitCode {
    if witness.say(word, &[]).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn inside<L: Lock + Send>(
    environment: &Environment,
    witness: &Witness,
    guard: L::Guard,
    lock: &mut L,
) -> Result<Ended, String> {
    let token = guard.token().map(|token| token.to_string());
    let details: Vec<(&str, &str)> = token.iter().map(|token| ("token", token.as_str())).collect();
    let ended = match witness.say("entered", &details) {
        Ok(()) => with_a_second_try(environment, witness, lock, || {
            leave(witness, work(environment, witness, &guard, &details))
        }),
        Err(WitnessError::Fenced) => leave(witness, Ok(Ended::Aborted)),
        Err(error) => leave(witness, Err(error.to_string())),
    }?;
    let released = match guard.release() {
        Ok(()) => witness.say("released", &[]),
        Err(why) => witness.say("release-failed", &[("reason", &why)]),
    };
    released.map_err(|error| error.to_string())?;
    ended
}

/// Says that the section is over; gives how it ended.
fn leave(witness: &Witness, ended: Result<Ended, String>) -> Result<Result<Ended, String>, String> {
    let word = match ended {
        Ok(Ended::Left | Ended::LeftLost) => "left",
        Ok(Ended::Aborted) | Err(_) => "aborted",
    };
    witness.say(word, &[]).map_err(|error| error.to_string())?;
    Ok(ended)
}

/// Does `section`, and beside it, where the environment says so, tries to take the lock once more.
/// Nothing of that try is left when it returns: the lock has not been given back yet, so to be
/// let in is wrong until then, and for no longer.
fn with_a_second_try<L: Lock + Send, T>(
    environment: &Environment,
    witness: &Witness,
    lock: &mut L,
    section: impl FnOnce() -> T,
) -> T {
    let Some(after) = environment.again else { return section() };
    let patience = environment.beat.unwrap_or(environment.tick * TICKS_A_BEAT);
    std::thread::scope(|threads| {
        let (is_inside, over) = channel::<()>();
        threads.spawn(move || try_again(witness, lock, &over, after, patience));
        let ended = section();
        drop(is_inside);
        ended
    })
}

/// Tries to take the lock, `after` so long, unless the section is over by then.
fn try_again<L: Lock>(
    witness: &Witness,
    lock: &mut L,
    over: &Receiver<()>,
    after: Duration,
    patience: Duration,
) {
    if over.recv_timeout(after) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    // A line that is not recorded is missed, and the run proves nothing: no more can be done here.
    let _ = match lock.acquire(Instant::now() + patience) {
        Tried::GaveUp => witness.say("refused", &[]),
        Tried::Failed(why) => witness.say("refused", &[("reason", &why)]),
        Tried::Taken(second) => {
            let said = witness.say("admitted", &[]);
            let _ = second.release();
            said
        }
    };
}

fn work<G: Guard>(
    environment: &Environment,
    witness: &Witness,
    guard: &G,
    token: &[(&str, &str)],
) -> Result<Ended, String> {
    let entered = Instant::now();
    if let Some(stall) = environment.stall {
        std::thread::sleep(stall);
    }
    let end = entered + environment.hold;
    let mut next = Instant::now();
    let mut is_lost = false;
    loop {
        let now = Instant::now();
        let is_over = now >= end;
        if now >= next && !is_over {
            let is_covered = !is_lost && guard.may_write();
            let written = if is_covered { witness.say("wrote", token) } else { Ok(()) };
            match written {
                Ok(()) => {}
                Err(WitnessError::Fenced) => {
                    say(witness, "lost", &[("reason".to_owned(), "fenced".to_owned())])?;
                    return Ok(Ended::Aborted);
                }
                Err(error) => return Err(error.to_string()),
            }
            next = Instant::now() + environment.tick;
        }
        // No time at all once it is over: what was told meanwhile is still heard before leaving.
        let wait = next.min(end).saturating_duration_since(Instant::now());
        match guard.next_notice(wait) {
            Some(Notice::Degraded(details)) => say(witness, "degraded", &details)?,
            Some(Notice::Healthy) => say(witness, "healthy", &[])?,
            Some(Notice::Lost(details)) => {
                say(witness, "lost", &details)?;
                match guard.on_loss() {
                    OnLoss::Abort => return Ok(Ended::Aborted),
                    OnLoss::Leave => return Ok(Ended::LeftLost),
                    OnLoss::Stay => is_lost = true,
                }
            }
            None if is_over => return Ok(if is_lost { Ended::LeftLost } else { Ended::Left }),
            None => {}
        }
    }
}

fn say(witness: &Witness, word: &str, details: &[(String, String)]) -> Result<(), String> {
    let details: Vec<(&str, &str)> =
        details.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    witness.say(word, &details).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Given so often; then nobody gets it any more.
    struct Given {
        left: u32,
        witness: PathBuf,
    }

    /// Lost as soon as something was said of a second try, however slow the machine is.
    struct UntilTried(PathBuf);

    impl Lock for Given {
        type Guard = UntilTried;

        fn acquire(&mut self, _: Instant) -> Tried<UntilTried> {
            if self.left == 0 {
                return Tried::Failed("it is taken".to_owned());
            }
            self.left -= 1;
            Tried::Taken(UntilTried(self.witness.clone()))
        }
    }

    impl Guard for UntilTried {
        fn token(&self) -> Option<u64> {
            None
        }

        fn next_notice(&self, patience: Duration) -> Option<Notice> {
            let is_answer = |line: &String| line.starts_with("refused") || line == "admitted";
            if read(&self.0).iter().any(is_answer) {
                return Some(Notice::Lost(Vec::new()));
            }
            let (_sender, nobody) = channel::<()>();
            assert_eq!(nobody.recv_timeout(patience), Err(RecvTimeoutError::Timeout));
            None
        }

        fn release(self) -> Result<(), String> {
            Ok(())
        }
    }

    /// The lines of one turn that lasts so long, but for its work.
    fn lines(again: Option<Duration>, hold: Duration, given: u32) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let witness = folder.path().join("witness");
        std::fs::write(&witness, "").unwrap();
        let environment = Environment {
            role: "holder".to_owned(),
            dir: folder.path().to_owned(),
            lock: folder.path().join("lock"),
            witness: witness.clone(),
            hold,
            tick: Duration::from_millis(20),
            patience: Duration::ZERO,
            stale: None,
            beat: None,
            stall: None,
            again,
            acquires: 1,
        };
        play(&environment, &mut Given { left: given, witness: witness.clone() });
        read(&witness)
    }

    fn read(witness: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(witness).unwrap();
        text.lines().filter(|line| *line != "wrote").map(str::to_owned).collect()
    }

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(600);

    #[test]
    fn what_came_of_a_second_try_is_said_while_the_first_is_inside() {
        let refused = lines(Some(SOON), NEVER, 1);
        let answer = "refused reason=\"it is taken\"";
        assert_eq!(refused, ["entered", answer, "lost", "aborted", "released"]);
        let admitted = lines(Some(SOON), NEVER, 2);
        assert_eq!(admitted, ["entered", "admitted", "lost", "aborted", "released"]);
    }

    #[test]
    fn nobody_tries_again_who_was_not_told_to_or_whose_turn_is_over() {
        assert_eq!(lines(None, SOON, 2), ["entered", "left", "released"]);
        assert_eq!(lines(Some(NEVER), SOON, 2), ["entered", "left", "released"]);
    }
}
