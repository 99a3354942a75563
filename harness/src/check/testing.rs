//! Histories made by hand, for the tests of the checks. One line is one event, 10 ms apart unless
//! it says when.

use super::{Verdict, judge};
use crate::fault::{Effect, Ops, Rule, Target, Times};
use crate::handmade;
pub(crate) use crate::handmade::{CONTENDER as HEIR, HOLDER};
use crate::history::{History, Stream, What};
use crate::moment::{Moment, Sign};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{Bounds, Detail, LockFiles, Part, Reaction, Trial};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness;

/// A history that grows line by line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) history: History,
    now: u64,
}

impl Story {
    /// The next event is at `ms`.
    pub(crate) fn at(mut self, ms: u64) -> Story {
        self.now = ms;
        self
    }

    pub(crate) fn what(mut self, what: What) -> Story {
        self.history.push(Nanos::from_ms(self.now), what);
        self.now += 10;
        self
    }

    /// A role says a line.
    pub(crate) fn says(self, role: Role, line: &str) -> Story {
        let said = witness::parse(line.as_bytes()).remove(0);
        self.what(What::Witness { role, said })
    }

    /// The resource refuses a role's line.
    pub(crate) fn refused(self, role: Role, line: &str) -> Story {
        let said = witness::parse(line.as_bytes()).remove(0);
        self.what(What::Fenced { role, said, accepted: 99, by: HEIR })
    }

    pub(crate) fn starts(self, role: Role) -> Story {
        self.what(What::Started { role, pid: 7 })
    }

    pub(crate) fn exits(self, role: Role, code: i32) -> Story {
        self.what(What::Exited { role, code: Some(code), signal: None })
    }

    pub(crate) fn killed(self, role: Role) -> Story {
        self.what(What::Killed { role, planned: true })
    }

    pub(crate) fn dies(self, role: Role) -> Story {
        self.what(What::Exited { role, code: None, signal: Some(9) })
    }

    pub(crate) fn prints(self, role: Role, text: &str) -> Story {
        self.what(What::Output { role, stream: Stream::Stderr, text: text.to_owned() })
    }

    /// An operation, answered with an errno or not.
    pub(crate) fn op(self, role: Role, kind: OpKind, path: &str, errno: Option<i32>) -> Story {
        let outcome = Outcome {
            told: errno.map_or(Ok(0), |errno| Err(Errno(errno))),
            effect: errno.is_none(),
            ino: None,
        };
        self.what(What::Op { op: op(role, kind, path), outcome, fault: errno.map(|_| 1) })
    }

    /// A beat of a role; the first that fails is preceded by the fault's firing.
    pub(crate) fn beat(self, role: Role, errno: Option<i32>) -> Story {
        let fires = errno.is_some()
            && !self.history.events.iter().any(|e| matches!(e.what, What::Fired { .. }));
        let story = if fires {
            let now = self.now;
            self.what(What::Fired { fault: 1, role, op: OpId(1) }).at(now)
        } else {
            self
        };
        story.op(role, OpKind::Utimes, "lock/beat", errno)
    }

    /// A contender looks at the lock.
    pub(crate) fn polls(self, role: Role) -> Story {
        self.op(role, OpKind::Stat, "lock", None)
    }

    pub(crate) fn end(self) -> Story {
        self.what(What::End)
    }

    pub(crate) fn judged(&self, trial: &Trial) -> Verdict {
        judge(trial, &self.history, "2026-01-01")
    }
}

fn op(role: Role, kind: OpKind, path: &str) -> Op {
    Op {
        id: OpId(1),
        role,
        kind,
        truncates: false,
        paths: vec![path.to_owned()],
        to: None,
        by_descriptor: false,
        unlinked: false,
        ino: None,
    }
}

/// Both roles are there, and the holder is inside at 0 ms.
pub(crate) fn holder_inside() -> Story {
    let story = Story::default().starts(HOLDER).starts(HEIR).at(100);
    story.says(HOLDER, "entered").at(200)
}

/// The kinds of the findings that stand, in order.
pub(crate) fn kinds(verdict: &Verdict) -> Vec<&'static str> {
    let stands = verdict.findings.iter().filter(|finding| finding.violates);
    stands.map(|finding| finding.kind.as_str()).collect()
}

/// Stale after 1 s, a beat each 300 ms, 6 s of hold; the holder's beats fail from its entering on.
pub(crate) fn trial() -> Trial {
    let mut trial = control();
    let effect = Effect::Error { errno: Errno(28), apply: false };
    trial.plan.faults = vec![Rule {
        on: Target::Heartbeat,
        ops: Ops { refresh: true, kinds: Vec::new() },
        from: handmade::at(HOLDER, Sign::Entered),
        ..handmade::fault(Who::One(HOLDER), "", &[], effect, Times::All)
    }];
    trial
}

/// The same without a fault.
pub(crate) fn control() -> Trial {
    let part = |role, hold| Part {
        hold: Nanos::from_ms(hold),
        patience: Nanos::from_ms(12_000),
        ..handmade::part(role, &["lock"], Moment::START)
    };
    let mut trial = handmade::trial("test/case");
    "lock@default".clone_into(&mut trial.subject);
    trial.plan.timing.tick = Nanos::from_ms(30);
    trial.plan.files = LockFiles {
        name: "lock".to_owned(),
        lock: vec!["lock".to_owned()],
        heartbeat: vec!["lock/beat".to_owned()],
    };
    trial.plan.cast = vec![part(HOLDER, 6000), part(HEIR, 1000)];
    trial.plan.bounds =
        Bounds { wall: Nanos::from_ms(60_000), events: 1000, output: 1000, processes: 100 };
    trial.claims.on_failure = vec![Reaction::Abort];
    trial.claims.dead_owner_takeover = Some(Nanos::from_ms(3000));
    trial.claims.warns = vec![Detail::LockPath, Detail::Operation, Detail::Errno];
    trial
}
