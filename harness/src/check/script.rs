//! Hand-made histories for the tests of the checks: `script.at(300).says(HOLDER, "entered")`.
//!
//! The dull setting: stale after 1 s, beats every 300 ms on `resource.lock/beat`, ticks of 30 ms, a
//! holder of 6 s and two contenders of 1 s that try for 12 s; strict, aborting, telling all.

use std::collections::BTreeMap;

use crate::check::{Judge, Kind, Verdict, judge, judge_by};
use crate::fault::{Effect, Ops, Rule, Target, Times};
use crate::history::{History, Stream, What};
use crate::moment::{Anchor, Moment, Sign};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{
    Act, Bounds, Claims, Deed, Detail, Exclusion, Expect, ExpectExclusion, KnownGap, LockFiles,
    Part, Plan, Reaction, Takeover, Timing, Trial, World,
};
use crate::role::{Role, Who};
use crate::time::Nanos;
use crate::witness;

pub(crate) const HOLDER: Role = Role::Holder;
pub(crate) const C1: Role = Role::Contender(1);
pub(crate) const C2: Role = Role::Contender(2);
pub(crate) const BEAT: &str = "resource.lock/beat";
pub(crate) const LOCK: &str = "resource.lock";
pub(crate) const ENOSPC: Errno = Errno(libc::ENOSPC);

/// A trial and its history in the making.
pub(crate) struct Script {
    pub(crate) trial: Trial,
    history: History,
    now: Nanos,
    ops: u64,
}

impl Script {
    /// The dull setting, with all roles started.
    pub(crate) fn new() -> Script {
        let mut script =
            Script { trial: control(), history: History::default(), now: Nanos::ZERO, ops: 0 };
        script.starts(HOLDER).starts(C1);
        script
    }

    pub(crate) fn trial(&mut self, change: impl FnOnce(&mut Trial)) -> &mut Script {
        change(&mut self.trial);
        self
    }

    /// A second contender.
    pub(crate) fn with_c2(&mut self) -> &mut Script {
        let part = self.trial.plan.cast[1].clone();
        self.trial.plan.cast.push(Part { role: C2, ..part });
        self.starts(C2)
    }

    /// Fault 1: every refresh of the holder fails.
    pub(crate) fn with_fault(&mut self) -> &mut Script {
        self.trial.plan.faults = vec![failing_beats()];
        self
    }

    /// Event `number` of the plan.
    pub(crate) fn with_event(&mut self, number: u32, what: Deed, text: &str) -> &mut Script {
        let text = text.to_owned();
        self.trial.plan.events.push(Act { number, at: Moment::START, what, text });
        self
    }

    /// `takeover = { after = "ROLE SIGN", within = … }`.
    pub(crate) fn takeover(&mut self, role: Role, sign: Sign, within_ms: u64) -> &mut Script {
        let after = Moment { anchor: Anchor::Role(Who::One(role), sign), offset: Nanos::ZERO };
        self.trial.expect.takeover = Some(Takeover { after, within: Nanos::from_ms(within_ms) });
        self
    }

    /// A known gap of these kinds, to be reviewed by 2027-01-01.
    pub(crate) fn gap(&mut self, kinds: &[&str]) -> &mut Script {
        self.trial.gaps.push(KnownGap {
            scenario: "family/*".to_owned(),
            findings: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            reason: "it is so".to_owned(),
            issue: None,
            review_by: "2027-01-01".to_owned(),
        });
        self
    }

    /// What follows happens at this many milliseconds.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Script {
        self.now = Nanos::from_ms(ms);
        self
    }

    pub(crate) fn push(&mut self, what: What) -> &mut Script {
        self.history.push(self.now, what);
        self
    }

    pub(crate) fn starts(&mut self, role: Role) -> &mut Script {
        self.push(What::Started { role, pid: 1 })
    }

    /// One line of the witness.
    pub(crate) fn says(&mut self, role: Role, line: &str) -> &mut Script {
        for said in witness::parse(line.as_bytes()) {
            self.push(What::Witness { role, said });
        }
        self
    }

    /// A line that the resource refused for its token.
    pub(crate) fn fenced(&mut self, role: Role, line: &str, by: Role) -> &mut Script {
        for said in witness::parse(line.as_bytes()) {
            self.push(What::Fenced { role, said, accepted: 9, by });
        }
        self
    }

    fn op(&mut self, role: Role, kind: OpKind, path: &str) -> Op {
        self.ops += 1;
        Op {
            id: OpId(self.ops),
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

    /// An operation, as the changes make it.
    pub(crate) fn does(
        &mut self,
        role: Role,
        kind: OpKind,
        path: &str,
        told: Result<u64, Errno>,
        change: impl FnOnce(&mut Op, &mut Outcome, &mut Option<u32>),
    ) -> &mut Script {
        let mut op = self.op(role, kind, path);
        let mut outcome = Outcome { told, effect: told.is_ok(), ino: None };
        let mut fault = None;
        change(&mut op, &mut outcome, &mut fault);
        self.push(What::Op { op, outcome, fault })
    }

    /// Makes a file or folder with this inode.
    pub(crate) fn makes(&mut self, role: Role, kind: OpKind, path: &str, ino: u64) -> &mut Script {
        self.does(role, kind, path, Ok(0), |_, outcome, _| outcome.ino = Some(ino))
    }

    /// Does to a file with this inode what works.
    pub(crate) fn acts(&mut self, role: Role, kind: OpKind, path: &str, ino: u64) -> &mut Script {
        self.does(role, kind, path, Ok(1), |op, outcome, _| {
            (op.ino, outcome.ino) = (Some(ino), Some(ino));
        })
    }

    /// Moves or links a file with this inode to another name.
    pub(crate) fn moves(
        &mut self,
        role: Role,
        kind: OpKind,
        [from, to]: [&str; 2],
        ino: u64,
    ) -> &mut Script {
        self.does(role, kind, from, Ok(0), |op, outcome, _| {
            (op.ino, outcome.ino) = (Some(ino), Some(ino));
            op.to = Some(to.to_owned());
        })
    }

    /// Begins what is held back for now.
    pub(crate) fn waits(&mut self, role: Role, kind: OpKind, path: &str, ino: u64) -> &mut Script {
        let mut op = self.op(role, kind, path);
        op.ino = Some(ino);
        self.push(What::Waiting { op, fault: Some(1) })
    }

    /// What was held back last goes on, and works: its inode is what was there when it began.
    pub(crate) fn goes_on(
        &mut self,
        role: Role,
        kind: OpKind,
        path: &str,
        ino: u64,
    ) -> &mut Script {
        let begun = self.history.events.iter().rev().find_map(|event| match &event.what {
            What::Waiting { op, .. } => Some(op.id),
            _ => None,
        });
        let id = begun.expect("something was held back");
        self.does(role, kind, path, Ok(0), |op, outcome, _| {
            (op.id, op.ino, outcome.ino) = (id, Some(ino), Some(ino));
        })
    }

    /// Takes a mkdir lock: its folder gets this inode, the beat in it the next one.
    pub(crate) fn takes(&mut self, role: Role, ino: u64) -> &mut Script {
        self.makes(role, OpKind::Mkdir, LOCK, ino).makes(role, OpKind::Create, BEAT, ino + 1)
    }

    /// Removes a mkdir lock, whoever took it.
    pub(crate) fn clears(&mut self, role: Role, ino: u64) -> &mut Script {
        self.acts(role, OpKind::Unlink, BEAT, ino + 1).acts(role, OpKind::Rmdir, LOCK, ino)
    }

    /// A beat that works, on the beat of a mkdir lock with this inode.
    pub(crate) fn beats_on(&mut self, role: Role, ino: u64) -> &mut Script {
        self.acts(role, OpKind::Utimes, BEAT, ino + 1)
    }

    /// A beat that works.
    pub(crate) fn beats(&mut self, role: Role) -> &mut Script {
        self.does(role, OpKind::Utimes, BEAT, Ok(0), |_, _, _| {})
    }

    /// A beat that fault 1 makes fail.
    pub(crate) fn fails(&mut self, role: Role) -> &mut Script {
        self.push(What::Fired { fault: 1, role, op: OpId(self.ops + 1) });
        self.does(role, OpKind::Utimes, BEAT, Err(ENOSPC), |_, _, fault| *fault = Some(1))
    }

    /// A beat that does not return.
    pub(crate) fn hangs(&mut self, role: Role) -> &mut Script {
        self.push(What::Fired { fault: 1, role, op: OpId(self.ops + 1) });
        let op = self.op(role, OpKind::Utimes, BEAT);
        self.push(What::Waiting { op, fault: Some(1) })
    }

    /// Failed beats every 300 ms, both ends included.
    pub(crate) fn fails_from_to(&mut self, role: Role, from_ms: u64, to_ms: u64) -> &mut Script {
        for ms in (from_ms..=to_ms).step_by(300) {
            self.at(ms).fails(role);
        }
        self
    }

    /// A look at the lock.
    pub(crate) fn polls(&mut self, role: Role) -> &mut Script {
        self.does(role, OpKind::Mkdir, LOCK, Err(Errno(libc::EEXIST)), |_, _, _| {})
    }

    pub(crate) fn done(&mut self, event: u32) -> &mut Script {
        self.push(What::Done { event, note: String::new() })
    }

    pub(crate) fn prints(&mut self, role: Role, text: &str) -> &mut Script {
        self.push(What::Output { role, stream: Stream::Stderr, text: text.to_owned() })
    }

    pub(crate) fn killed(&mut self, role: Role) -> &mut Script {
        self.push(What::Killed { role, planned: true })
    }

    pub(crate) fn exits(&mut self, role: Role, code: i32) -> &mut Script {
        self.push(What::Exited { role, code: Some(code), signal: None })
    }

    pub(crate) fn dies(&mut self, role: Role) -> &mut Script {
        self.push(What::Exited { role, code: None, signal: Some(9) })
    }

    /// Enters at `from_ms` and leaves properly at `to_ms`; only where nothing lies between.
    pub(crate) fn stays(&mut self, role: Role, from_ms: u64, to_ms: u64) -> &mut Script {
        self.at(from_ms).says(role, "entered");
        self.at(to_ms).goes(role)
    }

    /// Leaves, releases, exits.
    pub(crate) fn goes(&mut self, role: Role) -> &mut Script {
        self.says(role, "left").says(role, "released").exits(role, 0)
    }

    /// The verdict over what happened so far, ended here.
    pub(crate) fn verdict(&mut self) -> Verdict {
        self.push(What::End);
        judge(&self.trial, &self.history, "2026-06-01")
    }

    /// The same by some of the checks only.
    pub(crate) fn verdict_by(&mut self, checks: &[(&str, Judge)]) -> Verdict {
        self.push(What::End);
        judge_by(checks, &self.trial, &self.history, "2026-06-01")
    }

    /// The history so far, ended here.
    pub(crate) fn history(&mut self) -> &History {
        self.push(What::End);
        &self.history
    }
}

/// The kinds that stand against the lock, in order of finding.
pub(crate) fn standing(verdict: &Verdict) -> Vec<Kind> {
    verdict.findings.iter().filter(|finding| finding.violates).map(|finding| finding.kind).collect()
}

/// Fault 1: every beat of the holder fails, from its entering on.
fn failing_beats() -> Rule {
    Rule {
        number: 1,
        who: Who::One(HOLDER),
        on: Target::Heartbeat,
        ops: Ops { refresh: true, kinds: Vec::new() },
        effect: Effect::Error { errno: Errno(28), apply: false },
        from: Moment { anchor: Anchor::Role(Who::One(HOLDER), Sign::Entered), offset: Nanos::ZERO },
        until: None,
        times: Times::All,
        synthetic: true,
    }
}

/// Stale after 1 s, a beat each 300 ms, a holder of 6 s and a contender of 1 s; no fault.
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
        again: None,
    };
    Trial {
        scenario: "family/name".to_owned(),
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
                name: LOCK.to_owned(),
                lock: vec![LOCK.to_owned()],
                heartbeat: vec![BEAT.to_owned()],
            },
            cast: vec![part(HOLDER, 6000), part(C1, 1000)],
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
