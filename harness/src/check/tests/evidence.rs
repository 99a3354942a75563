//! Takeovers from the living: what is a steal without proof, for each way to build a lock.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Kind, Outcome, Verdict};
use crate::fault::Target;
use crate::history::What;
use crate::op::OpKind;
use crate::plan::{Deed, ExpectExclusion};
use crate::role::Role;

fn steals(verdict: &Verdict) -> Vec<Vec<Role>> {
    let steals = verdict.findings.iter().filter(|one| one.kind == Kind::UnprovenSteal);
    steals.map(|one| one.roles.clone()).collect()
}

/// The holder is inside by a mkdir lock; what `before` adds comes before the heir enters at 2 s.
fn entered_beside(before: impl FnOnce(&mut Script)) -> Verdict {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(1500);
    before(&mut script);
    script.at(2000).says(C1, "entered").at(3000).goes(C1).at(6000).goes(HOLDER);
    script.verdict()
}

#[test]
fn removing_a_living_owners_lock_and_entering_is_a_steal() {
    let verdict = entered_beside(|script| {
        script.clears(C1, 10).takes(C1, 20);
    });
    assert_eq!(steals(&verdict), [[HOLDER, C1]]);
}

#[test]
fn entering_beside_a_lock_that_is_there_is_a_steal() {
    assert_eq!(steals(&entered_beside(|_| {})), [[HOLDER, C1]]);
}

#[test]
fn what_was_applied_though_it_was_answered_with_an_error_was_done() {
    let verdict = entered_beside(|script| {
        script.acts(C1, OpKind::Unlink, BEAT, 11);
        script.does(C1, OpKind::Rmdir, LOCK, Err(crate::op::Errno(libc::EIO)), |op, outcome, _| {
            op.ino = Some(10);
            outcome.effect = true;
        });
        script.takes(C1, 20);
    });
    assert_eq!(steals(&verdict), [[HOLDER, C1]]);
}

#[rstest]
#[case("degraded op=utimes", true)]
#[case("lost reason=stale", true)]
#[case("wrote", false)]
fn who_was_told_before_is_not_robbed(#[case] line: &str, #[case] is_excused: bool) {
    let verdict = entered_beside(|script| {
        script.says(HOLDER, line).clears(C1, 10).takes(C1, 20);
    });
    assert_eq!(steals(&verdict).is_empty(), is_excused);
}

#[test]
fn a_notice_that_was_taken_back_excuses_nothing() {
    let verdict = entered_beside(|script| {
        script.says(HOLDER, "lost").says(HOLDER, "healthy").clears(C1, 10).takes(C1, 20);
    });
    assert_eq!(steals(&verdict), [[HOLDER, C1]]);
}

#[test]
fn what_a_third_party_removed_nobody_stole() {
    for deed in [Deed::Remove(Target::Lock), Deed::Rename(Target::Lock, "gone".to_owned())] {
        let verdict = entered_beside(|script| {
            script.with_event(1, deed, "strike").done(1).takes(C1, 20);
        });
        assert!(steals(&verdict).is_empty(), "{verdict:?}");
        assert!(verdict.findings.iter().any(|one| one.kind == Kind::DoubleHeld));
    }
}

#[test]
fn what_is_left_of_a_struck_lock_is_the_owners_still() {
    let verdict = entered_beside(|script| {
        script.with_event(1, Deed::Remove(Target::Heartbeat), "remove heartbeat").done(1);
        script.acts(C1, OpKind::Rmdir, LOCK, 10).takes(C1, 20);
    });
    assert_eq!(steals(&verdict), [[HOLDER, C1]]);
}

#[test]
fn what_the_owner_removed_itself_nobody_stole() {
    let verdict = entered_beside(|script| {
        script.clears(HOLDER, 10).takes(C1, 20);
    });
    assert!(steals(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn what_vanished_unseen_is_nobodys_doing() {
    let verdict = entered_beside(|script| {
        let gone = Err(crate::op::Errno(libc::ENOENT));
        // Its folder is there still; what was in it is not.
        script.does(C1, OpKind::Stat, BEAT, gone, |_, _, _| {});
    });
    assert!(steals(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn tokens_excuse_a_takeover() {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered token=1").polls(C1).at(2000);
    script.clears(C1, 10).takes(C1, 20).says(C1, "entered token=2").at(3000).goes(C1);
    script.at(6000).goes(HOLDER);
    assert!(steals(&script.verdict()).is_empty());
}

#[test]
fn following_the_dead_and_the_gone_is_right() {
    for how in ["left", "aborted", "kill"] {
        let mut script = Script::new();
        script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(1000);
        match how {
            "kill" => script.killed(HOLDER).dies(HOLDER),
            line => script.says(HOLDER, line),
        };
        script.at(2000).clears(C1, 10).takes(C1, 20).says(C1, "entered").at(3000).goes(C1);
        let verdict = script.verdict();
        assert!(steals(&verdict).is_empty(), "{how}: {verdict:?}");
        assert!(verdict.findings.iter().all(|one| one.kind != Kind::WrongfulRelease), "{how}");
    }
}

#[test]
fn where_nothing_is_asked_of_exclusion_a_steal_is_told_and_does_not_stand() {
    let verdict = entered_beside(|script| {
        script.trial(|trial| trial.expect.exclusion = ExpectExclusion::Any);
        script.clears(C1, 10).takes(C1, 20);
    });
    let steal = verdict.findings.iter().find(|one| one.kind == Kind::UnprovenSteal);
    assert!(!steal.expect("it is told of").violates);
}

#[test]
fn a_record_that_is_overwritten_in_place_is_stolen() {
    let mut script = Script::new();
    script.at(0).makes(HOLDER, OpKind::Create, LOCK, 10).acts(HOLDER, OpKind::Write, LOCK, 10);
    script.says(HOLDER, "entered").polls(C1).at(2000).acts(C1, OpKind::Write, LOCK, 10);
    script.says(C1, "entered").at(3000).goes(C1).at(6000).goes(HOLDER);
    let verdict = script.verdict();
    assert_eq!(steals(&verdict), [[HOLDER, C1]]);
    let steal = verdict.findings.iter().find(|one| one.kind == Kind::UnprovenSteal);
    assert!(steal.is_some_and(|one| one.story.contains("overwritten")), "{verdict:?}");
}

#[test]
fn a_link_or_rename_over_the_owners_name_is_a_steal() {
    let mut script = Script::new();
    script.at(0).makes(HOLDER, OpKind::Create, "mine", 10);
    script.moves(HOLDER, OpKind::Link, ["mine", LOCK], 10).says(HOLDER, "entered").polls(C1);
    script.at(2000).makes(C1, OpKind::Create, "other", 20);
    script.moves(C1, OpKind::Rename, ["other", LOCK], 20).says(C1, "entered");
    script.at(3000).goes(C1).at(6000).goes(HOLDER);
    assert_eq!(steals(&script.verdict()), [[HOLDER, C1]]);
}

#[test]
fn a_folder_that_is_moved_into_place_takes_what_is_in_it_along() {
    let mut script = Script::new();
    script.at(0).makes(HOLDER, OpKind::Mkdir, "new", 10);
    script.makes(HOLDER, OpKind::Create, "new/beat", 11);
    script.moves(HOLDER, OpKind::Rename, ["new", LOCK], 10).says(HOLDER, "entered").polls(C1);
    script.at(2000).acts(C1, OpKind::Unlink, BEAT, 11).says(C1, "entered");
    script.at(3000).goes(C1).at(6000).goes(HOLDER);
    let verdict = script.verdict();
    assert_eq!(steals(&verdict), [[HOLDER, C1]]);
    let steal = verdict.findings.iter().find(|one| one.kind == Kind::UnprovenSteal);
    assert!(steal.is_some_and(|one| one.story.contains("removed resource.lock/beat")));
}

#[test]
fn an_event_strikes_what_was_moved_into_place_with_its_folder() {
    let mut script = Script::new();
    script.with_event(1, Deed::Remove(Target::Heartbeat), "remove heartbeat");
    script.at(0).makes(HOLDER, OpKind::Mkdir, "new", 10);
    script.makes(HOLDER, OpKind::Create, "new/beat", 11);
    script.moves(HOLDER, OpKind::Rename, ["new", LOCK], 10).says(HOLDER, "entered").polls(C1);
    script.at(1000).done(1).at(2000).says(C1, "entered").at(3000).goes(C1).at(6000).goes(HOLDER);
    assert!(steals(&script.verdict()).is_empty());
}

/// flock(1) and its kin: the file stays, and the kernel says whose it is.
#[test]
fn a_kernel_lock_is_no_steal() {
    let mut script = Script::new();
    script.at(0).makes(HOLDER, OpKind::Create, LOCK, 10).acts(HOLDER, OpKind::Flock, LOCK, 10);
    script.acts(HOLDER, OpKind::Write, LOCK, 10).says(HOLDER, "entered").polls(C1);
    // A contender may empty the file and wait; the owner closes a descriptor, and so lets go.
    script.at(1000).acts(C1, OpKind::Truncate, LOCK, 10).at(2000);
    script.acts(C1, OpKind::FcntlLock, LOCK, 10).acts(C1, OpKind::Write, LOCK, 10);
    script.says(C1, "entered").at(3000).goes(C1).at(6000).goes(HOLDER);
    let verdict = script.verdict();
    assert!(steals(&verdict).is_empty(), "{verdict:?}");
    assert_eq!(verdict.outcome, Outcome::Violated, "two were inside all the same");
}

#[test]
fn a_recovery_lock_that_is_gone_is_no_part_of_the_lock() {
    let mut script = Script::new();
    script.trial(|trial| trial.plan.files.lock = vec!["resource.lock*".to_owned()]);
    let recovery = "resource.lock.recovery";
    script.at(0).makes(HOLDER, OpKind::Mkdir, recovery, 5).takes(HOLDER, 10);
    script.acts(HOLDER, OpKind::Rmdir, recovery, 5).says(HOLDER, "entered").polls(C1);
    script.with_event(1, Deed::Remove(Target::Glob(LOCK.to_owned())), "remove lock");
    script.at(1000).done(1).makes(C1, OpKind::Mkdir, recovery, 6).takes(C1, 20);
    script.acts(C1, OpKind::Rmdir, recovery, 6).says(C1, "entered").at(2000).goes(C1);
    script.at(6000).goes(HOLDER);
    assert!(steals(&script.verdict()).is_empty());
}

#[test]
fn who_was_there_first_is_no_thief() {
    // Two takers: contender-2 removes what contender-1 has just made, and enters before it.
    let mut script = Script::new();
    script.with_c2().stays(HOLDER, 0, 500).at(600).takes(C1, 20).clears(C2, 20).takes(C2, 30);
    script.says(C2, "entered").at(700).says(C1, "entered").at(1000).goes(C2).at(1500).goes(C1);
    let verdict = script.verdict();
    assert!(steals(&verdict).is_empty(), "{verdict:?}");
    let wrong = verdict.findings.iter().find(|one| one.kind == Kind::WrongfulRelease);
    assert_eq!(wrong.expect("contender-2 took it away").roles, [C2, C1]);
}

#[test]
fn what_a_try_lost_before_it_tried_again_is_no_part_of_its_lock() {
    let mut script = Script::new();
    script.with_c2().stays(HOLDER, 0, 500).at(600).takes(C1, 20).clears(C2, 20);
    script.at(700).takes(C1, 30).says(C1, "entered");
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock").at(800).done(1);
    script.takes(C2, 40).says(C2, "entered").at(1000).goes(C1).at(1500).goes(C2);
    let verdict = script.verdict();
    assert!(steals(&verdict).is_empty(), "{verdict:?}");
}

#[test]
fn an_owner_of_whom_nobody_can_tell_whether_it_lives_is_not_robbed() {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(900);
    script.says(HOLDER, "wrote").at(950).clears(C1, 10).takes(C1, 20).says(C1, "entered");
    script.at(1000).exits(HOLDER, 1).at(3000).goes(C1);
    let verdict = script.verdict();
    assert!(steals(&verdict).is_empty());
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    // The heir's folder gets the number of the owner's, which an event has removed.
    let mut script = Script::new();
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock");
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(1000).done(1);
    script.takes(C1, 10).says(C1, "entered").at(2000).clears(C1, 10).goes(C1);
    script.at(6000).goes(HOLDER);
    let verdict = script.verdict();
    assert!(steals(&verdict).is_empty(), "{verdict:?}");
    let is_touch = |kind| matches!(kind, Kind::WrongfulRelease | Kind::ZombieRefresh);
    assert!(!verdict.findings.iter().any(|one| is_touch(one.kind)), "{verdict:?}");
}

#[test]
fn a_flood_of_takeovers_is_bounded_and_is_no_pass() {
    let mut script = Script::new();
    script.trial(|trial| trial.expect.exclusion = ExpectExclusion::Any);
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1);
    for _ in 0..500 {
        script.says(C1, "entered").says(C1, "left");
    }
    let verdict = script.at(6000).goes(HOLDER).verdict();
    assert!(steals(&verdict).len() <= 100);
    assert_eq!(verdict.outcome, Outcome::Inconclusive);
}

#[test]
fn the_owner_that_is_stopped_meanwhile_lives() {
    let verdict = entered_beside(|script| {
        script.push(What::Stopped { role: HOLDER }).clears(C1, 10).takes(C1, 20);
    });
    let steal = verdict.findings.iter().find(|one| one.kind == Kind::UnprovenSteal);
    assert!(steal.is_some_and(|one| (one.stopped_ms - 1000.0).abs() < 1e-9), "{verdict:?}");
}

#[test]
fn a_removal_that_was_held_back_hits_what_is_there_when_it_goes_on() {
    // It began when the dead owner's folder was there; by now the name is contender-1's.
    let mut script = Script::new();
    script.with_c2().at(0).takes(HOLDER, 10).says(HOLDER, "entered").at(500).killed(HOLDER);
    script.dies(HOLDER).at(600).acts(C2, OpKind::Unlink, BEAT, 11).waits(
        C2,
        OpKind::Rmdir,
        LOCK,
        10,
    );
    script.at(700).acts(C1, OpKind::Rmdir, LOCK, 10).takes(C1, 20).says(C1, "entered").at(900);
    script.goes_on(C2, OpKind::Rmdir, LOCK, 10).takes(C2, 30).says(C2, "entered");
    script.at(1900).goes(C1).at(2000).goes(C2);
    let verdict = script.verdict();
    assert_eq!(steals(&verdict), [[C1, C2]], "{verdict:?}");
}
