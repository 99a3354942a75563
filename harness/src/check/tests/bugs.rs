//! One recorded bug for each kind of finding: what each check is there to catch.
//!
//! Where a check is left out, a test fails and names the bug that would slip through.

use std::collections::BTreeSet;

use crate::check::script::*;
use crate::check::{CHECKS, Judge, Kind, Outcome, Verdict};
use crate::fault::Target;
use crate::history::What;
use crate::moment::Sign;
use crate::op::OpKind;
use crate::plan::{Deed, Reach, Reaction};
use crate::role::Who;

/// A history in which a lock did something wrong.
struct Bug {
    /// What went wrong, as one would tell a colleague.
    name: &'static str,
    /// The check that catches it.
    check: &'static str,
    /// What it finds; `None`: that the run proves nothing.
    kind: Option<Kind>,
    history: fn() -> Script,
}

const BUGS: &[Bug] = &[
    Bug {
        name: "a lock on an inode lets a second one in once its name is removed",
        check: "exclusion",
        kind: Some(Kind::DoubleHeld),
        history: || unlinked(|_| {}, |_| {}),
    },
    Bug {
        name: "the owner learns of its loss only when its heir is at work already",
        check: "exclusion",
        kind: Some(Kind::ToldLate),
        history: || {
            unlinked(
                |_| {},
                |script| {
                    script.says(HOLDER, "lost reason=replaced");
                },
            )
        },
    },
    Bug {
        name: "the owner is told of its loss and works on",
        check: "exclusion",
        kind: Some(Kind::ToldIgnored),
        history: || {
            unlinked(
                |script| {
                    script.says(HOLDER, "lost reason=missing");
                },
                |_| {},
            )
        },
    },
    Bug {
        name: "a lock that promises exclusion leaves it to the resource to refuse the old token",
        check: "exclusion",
        kind: Some(Kind::Fenced),
        history: fenced,
    },
    Bug {
        name: "a contender takes an old time on a file for a death",
        check: "evidence",
        kind: Some(Kind::UnprovenSteal),
        history: stolen,
    },
    Bug {
        name: "a late release removes the lock of the heir",
        check: "integrity",
        kind: Some(Kind::WrongfulRelease),
        history: released_blindly,
    },
    Bug {
        name: "a beat thread outlives its lock and keeps the heir's lock fresh",
        check: "integrity",
        kind: Some(Kind::ZombieRefresh),
        history: beaten_by_a_zombie,
    },
    Bug {
        name: "the errors of the beat are only printed, and the work goes on",
        check: "reaction",
        kind: Some(Kind::IgnoredFailure),
        history: only_printed,
    },
    Bug {
        name: "nobody ever follows an owner that was killed",
        check: "liveness",
        kind: Some(Kind::Stuck),
        history: never_followed,
    },
    Bug {
        name: "one failed beat kills live work though the next one works",
        check: "liveness",
        kind: Some(Kind::FalseCompromise),
        history: hasty,
    },
    Bug {
        name: "a removed file makes a process crash",
        check: "liveness",
        kind: Some(Kind::Crashed),
        history: crashed,
    },
    Bug {
        name: "the work stops, and no word says why",
        check: "visibility",
        kind: Some(Kind::Silent),
        history: || aborted("bye"),
    },
    Bug {
        name: "the message names neither path nor operation nor error",
        check: "visibility",
        kind: Some(Kind::Vague),
        history: || aborted("lost the lock"),
    },
    Bug {
        name: "a fault that never fired passes for a lock that holds",
        check: "vacuity",
        kind: None,
        history: || {
            let mut script = Script::new();
            script.with_fault().at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1);
            script.at(6000).says(HOLDER, "left").clears(HOLDER, 10).says(HOLDER, "released");
            script.exits(HOLDER, 0).takes(C1, 20).says(C1, "entered").at(7000).goes(C1);
            script
        },
    },
];

/// A lock on an open file, whose name a third party removes at 1 s; the next one locks another.
fn unlinked(before: impl FnOnce(&mut Script), after: impl FnOnce(&mut Script)) -> Script {
    let mut script = Script::new();
    script.trial(|trial| {
        trial.plan.files.heartbeat.clear();
        trial.plan.timing.beat = None;
    });
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock");
    script.at(0).makes(HOLDER, OpKind::Create, LOCK, 10).says(HOLDER, "entered");
    script.at(1000).done(1).at(1500);
    before(&mut script);
    script.at(2000).makes(C1, OpKind::Create, LOCK, 20).says(C1, "entered").at(2300);
    after(&mut script);
    script.at(2400).says(HOLDER, "wrote").at(3000).goes(C1).at(6000).goes(HOLDER);
    script
}

fn fenced() -> Script {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered token=1").polls(C1);
    script.at(1000).clears(C1, 10).takes(C1, 20).says(C1, "entered token=2");
    script.at(1500).fenced(HOLDER, "wrote token=1", C1).says(HOLDER, "aborted").exits(HOLDER, 0);
    script.at(2000).goes(C1);
    script
}

fn stolen() -> Script {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").at(300).beats_on(HOLDER, 10).polls(C1);
    script.push(What::Stopped { role: HOLDER }).at(1400);
    script.clears(C1, 10).takes(C1, 20).says(C1, "entered").at(2000);
    script.push(What::Continued { role: HOLDER }).says(HOLDER, "wrote").at(2400).goes(C1);
    script.at(6000).goes(HOLDER);
    script
}

/// It lost its lock to a third party, knew, and left; its release comes late.
fn displaced() -> Script {
    let mut script = Script::new();
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock");
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").at(300).beats_on(HOLDER, 10);
    script.at(500).done(1).says(HOLDER, "lost reason=missing path=resource.lock");
    script.at(600).says(HOLDER, "aborted").at(700).takes(C1, 20).says(C1, "entered");
    script
}

fn released_blindly() -> Script {
    let mut script = displaced();
    script.at(900).clears(HOLDER, 20).says(HOLDER, "released").exits(HOLDER, 0).at(1700).goes(C1);
    script
}

fn beaten_by_a_zombie() -> Script {
    let mut script = displaced();
    script.says(HOLDER, "release-failed reason=gone").at(900).beats_on(HOLDER, 20);
    script.at(1700).goes(C1).at(1800).exits(HOLDER, 0);
    script
}

fn only_printed() -> Script {
    let mut script = Script::new();
    script.with_fault().at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(HOLDER, 300, 5700).prints(HOLDER, "utimes resource.lock: ENOSPC\n");
    script.polls(C1).at(6000).says(HOLDER, "left").clears(HOLDER, 10).says(HOLDER, "released");
    script.exits(HOLDER, 0).at(6100).takes(C1, 20).says(C1, "entered").at(7100).goes(C1);
    script
}

fn never_followed() -> Script {
    let mut script = Script::new();
    script.with_event(1, Deed::Kill(Who::One(HOLDER), Reach::Tree), "kill holder").takeover(
        HOLDER,
        Sign::Dead,
        2000,
    );
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").at(1000).killed(HOLDER).done(1);
    script.dies(HOLDER).polls(C1).at(12_000).polls(C1).says(C1, "gave-up").exits(C1, 0);
    script
}

fn hasty() -> Script {
    let mut script = Script::new();
    script.with_fault().trial(|trial| trial.expect.holder = vec![Reaction::Finish]);
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").at(300).fails(HOLDER).polls(C1);
    script.at(600).beats_on(HOLDER, 10).says(HOLDER, "lost reason=utimes errno=ENOSPC");
    script.says(HOLDER, "aborted").clears(HOLDER, 10).exits(HOLDER, 0);
    script.at(700).takes(C1, 20).says(C1, "entered").at(1700).goes(C1);
    script
}

fn crashed() -> Script {
    let mut script = Script::new();
    let other = Target::Glob("other".to_owned());
    script.with_event(1, Deed::Remove(other), "remove other").takeover(HOLDER, Sign::Dead, 3000);
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(500).done(1).polls(C1);
    script.at(900).exits(HOLDER, 139).at(2000).takes(C1, 20).says(C1, "entered");
    script.at(3000).goes(C1);
    script
}

fn aborted(words: &str) -> Script {
    let mut script = Script::new();
    script.with_fault().at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(HOLDER, 300, 1200).at(1350).prints(HOLDER, words);
    script.says(HOLDER, "aborted").clears(HOLDER, 10).exits(HOLDER, 0);
    script.at(1500).takes(C1, 20).says(C1, "entered").at(2500).goes(C1);
    script
}

fn shows(bug: &Bug, verdict: &Verdict) -> bool {
    match bug.kind {
        Some(kind) => verdict.findings.iter().any(|one| one.kind == kind && one.violates),
        None => verdict.outcome == Outcome::Inconclusive,
    }
}

fn all_but(check: &str) -> Vec<(&'static str, Judge)> {
    CHECKS.iter().filter(|(name, _)| *name != check).copied().collect()
}

#[test]
fn no_recorded_bug_slips_through() {
    for bug in BUGS {
        let is_listed = CHECKS.iter().any(|(name, _)| *name == bug.check);
        assert!(is_listed, "there is no check `{}`: slips through: {}", bug.check, bug.name);
        let verdict = (bug.history)().verdict();
        assert!(shows(bug, &verdict), "slips through: {}: {verdict:#?}", bug.name);
    }
}

#[test]
fn each_check_is_needed_for_the_bugs_that_it_catches() {
    for bug in BUGS {
        let verdict = (bug.history)().verdict_by(&all_but(bug.check));
        assert!(!shows(bug, &verdict), "not only `{}` sees: {}", bug.check, bug.name);
        // Only a steal is an overlap too: all other bugs are seen by one check alone.
        let is_seen_otherwise = verdict.outcome == Outcome::Violated;
        assert_eq!(is_seen_otherwise, bug.check == "evidence", "{}: {verdict:#?}", bug.name);
    }
}

#[test]
fn every_check_and_every_kind_has_a_bug() {
    let checks: BTreeSet<&str> = BUGS.iter().map(|bug| bug.check).collect();
    assert_eq!(checks, CHECKS.iter().map(|(name, _)| *name).collect());
    let kinds: BTreeSet<Kind> = BUGS.iter().filter_map(|bug| bug.kind).collect();
    let all: BTreeSet<Kind> = Kind::ALL.iter().copied().collect();
    assert_eq!(kinds, all);
}

#[test]
fn each_finding_tells_its_story() {
    for bug in BUGS {
        let Some(kind) = bug.kind else { continue };
        let verdict = (bug.history)().verdict();
        let found = verdict.findings.iter().find(|one| one.kind == kind);
        let story = &found.unwrap_or_else(|| panic!("{}: {verdict:#?}", bug.name)).story;
        assert!(!story.contains("  ") && !story.contains('\n'), "one paragraph: {story}");
        insta::with_settings!({ description => bug.name, omit_expression => true }, {
            insta::assert_snapshot!(kind.as_str(), story);
        });
    }
}
