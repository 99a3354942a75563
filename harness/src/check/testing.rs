//! Histories made by hand, for the tests of the checks. One line is one event, 10 ms apart unless
//! it says when.

use std::collections::BTreeMap;

use super::{Verdict, judge};
use crate::fault::{Effect, Ops, Rule, Target, Times};
use crate::history::{History, Stream, What};
use crate::moment::{Anchor, Moment, Sign};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{
    Bounds, Claims, Detail, Exclusion, Expect, ExpectExclusion, LockFiles, Part, Plan, Reaction,
    Timing, Trial, World,
};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness;

pub(crate) const HOLDER: Role = Role::Holder;
pub(crate) const HEIR: Role = Role::Contender(1);

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
    trial.plan.faults = vec![Rule {
        number: 1,
        who: Who::One(HOLDER),
        on: Target::Heartbeat,
        ops: Ops { refresh: true, kinds: Vec::new() },
        effect: Effect::Error { errno: Errno(28), apply: false },
        from: Moment { anchor: Anchor::Role(Who::One(HOLDER), Sign::Entered), offset: Nanos::ZERO },
        until: None,
        times: Times::All,
        synthetic: true,
    }];
    trial
}

/// The same without a fault.
pub(crate) fn control() -> Trial {
    let unit = Nanos::from_ms(1000);
    let part = |role, hold| Part {
        role,
        argv: vec!["lock".to_owned()],
        env: BTreeMap::new(),
        starts: Moment::START,
        hold: Nanos::from_ms(hold),
        patience: Nanos::from_ms(12_000),
        acquires: 1,
        stall: None,
    };
    Trial {
        scenario: "test/case".to_owned(),
        subject: "lock@default".to_owned(),
        plan: Plan {
            seed: 0,
            timing: Timing {
                stale: Some(unit),
                beat: Some(Nanos::from_ms(300)),
                stale_unit: unit,
                beat_unit: Nanos::from_ms(300),
                tick: Nanos::from_ms(30),
            },
            files: LockFiles {
                name: "lock".to_owned(),
                lock: vec!["lock".to_owned()],
                heartbeat: vec!["lock/beat".to_owned()],
            },
            cast: vec![part(HOLDER, 6000), part(HEIR, 1000)],
            world: World::default(),
            faults: Vec::new(),
            events: Vec::new(),
            bounds: Bounds {
                wall: Nanos::from_ms(60_000),
                events: 1000,
                output: 1000,
                processes: 100,
            },
        },
        claims: Claims {
            exclusion: Exclusion::Strict,
            on_failure: vec![Reaction::Abort],
            dead_owner_takeover: Some(Nanos::from_ms(3000)),
            warns: vec![Detail::LockPath, Detail::Operation, Detail::Errno],
        },
        expect: Expect {
            exclusion: ExpectExclusion::Held,
            holder: Vec::new(),
            warning: Vec::new(),
            takeover: None,
        },
        gaps: Vec::new(),
        warnings: Vec::new(),
    }
}
