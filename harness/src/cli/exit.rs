//! Exit codes: one run, one code, and a proven violation is never hidden by a broken scenario.
//!
//! # Invariants
//! - 2 is decided before anything runs. After that: 1, 130, 3, 4, 0, in this order.
//! - 101 is Rust's own code for a panic of ours; nothing here makes it.

use std::process::ExitCode;

use crate::check::Outcome;

/// What `--help` says about exit codes. The table of CONTRACTS.md in other words.
pub(crate) const HELP: &str = "\
Exit codes, worst first:
    2  a bad flag or file; nothing ran
    1  violated: a lock broke a promise, or a known gap closed unnoticed or is overdue
  130  interrupted
    3  inconclusive; or no engine works here; or something required (--require) was skipped;
       or a planted bug was not caught (--no-canaries to go without them)
    4  nothing ran, or everything was skipped (--no-tests=pass to allow)
    0  every scenario held, or is a recorded known gap
  101  deadbeat itself panicked";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every scenario held, or is a recorded known gap.
    Ok,
    /// A lock broke a promise.
    Violated,
    /// A bad flag or file.
    BadInput,
    /// The run proves nothing.
    Inconclusive,
    /// Nothing ran.
    NothingRan,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Violated => 1,
            Exit::BadInput => 2,
            Exit::Inconclusive => 3,
            Exit::NothingRan => 4,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// What the code of a run depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How every scenario ended, skipped ones included.
    pub outcomes: Vec<Outcome>,
    /// Whether Ctrl-C came.
    pub interrupted: bool,
    /// Whether something that `--require` names is missing.
    pub required_missing: bool,
    /// Whether a planted bug was not caught.
    pub canary_missed: bool,
    /// Whether `--no-tests=pass` was given.
    pub nothing_is_fine: bool,
}

impl Tally {
    /// The code of the run.
    pub(crate) fn exit(&self) -> Exit {
        let any = |wanted: Outcome| self.outcomes.contains(&wanted);
        let ran = self.outcomes.iter().any(|outcome| *outcome != Outcome::Skipped);
        if any(Outcome::Violated) {
            Exit::Violated
        } else if self.interrupted {
            Exit::Interrupted
        } else if any(Outcome::Inconclusive) || self.required_missing || self.canary_missed {
            Exit::Inconclusive
        } else if !ran && !self.nothing_is_fine {
            Exit::NothingRan
        } else {
            Exit::Ok
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(outcomes: &[Outcome]) -> Tally {
        Tally { outcomes: outcomes.to_vec(), ..Tally::default() }
    }

    #[test]
    fn a_violation_outranks_everything_else() {
        let mut all = tally(&[Outcome::Held, Outcome::Violated, Outcome::Inconclusive]);
        all.interrupted = true;
        all.required_missing = true;
        assert_eq!(all.exit(), Exit::Violated);
        all.outcomes.remove(1);
        assert_eq!(all.exit(), Exit::Interrupted);
        all.interrupted = false;
        assert_eq!(all.exit(), Exit::Inconclusive);
    }

    #[test]
    fn what_proves_nothing_is_never_a_pass() {
        assert_eq!(tally(&[]).exit(), Exit::NothingRan);
        assert_eq!(tally(&[Outcome::Skipped]).exit(), Exit::NothingRan);
        assert_eq!(tally(&[Outcome::Held, Outcome::Inconclusive]).exit(), Exit::Inconclusive);
        let blind = Tally { canary_missed: true, ..tally(&[Outcome::Held]) };
        assert_eq!(blind.exit(), Exit::Inconclusive);
        let mut required = tally(&[Outcome::Held]);
        required.required_missing = true;
        assert_eq!(required.exit(), Exit::Inconclusive);
    }

    #[test]
    fn held_and_known_gaps_pass_beside_skips() {
        let mixed = tally(&[Outcome::Held, Outcome::KnownGap, Outcome::Skipped]);
        assert_eq!(mixed.exit(), Exit::Ok);
        let mut empty = tally(&[Outcome::Skipped]);
        empty.nothing_is_fine = true;
        assert_eq!(empty.exit(), Exit::Ok);
    }
}
