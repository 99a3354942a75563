//! Touching what is another's: releases and beats, for each way to build a lock.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Kind, Verdict};
use crate::fault::Target;
use crate::op::{Errno, OpKind};
use crate::plan::Deed;
use crate::role::Role;

/// The findings of integrity, with who touched whose.
fn touches(verdict: &Verdict) -> Vec<(Kind, Vec<Role>)> {
    let is_touch = |kind| matches!(kind, Kind::WrongfulRelease | Kind::ZombieRefresh);
    let own = verdict.findings.iter().filter(|one| is_touch(one.kind));
    own.map(|one| (one.kind, one.roles.clone())).collect()
}

const RELEASE: Kind = Kind::WrongfulRelease;
const ZOMBIE: Kind = Kind::ZombieRefresh;

/// The holder's lock is removed by an event; its heir is inside from 700 ms to 1700 ms.
fn displaced(meanwhile: impl FnOnce(&mut Script)) -> Verdict {
    let mut script = Script::new();
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock");
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(500).done(1);
    script.at(700).takes(C1, 20).says(C1, "entered").at(900);
    meanwhile(&mut script);
    script.at(1700).says(C1, "left").clears(C1, 20).says(C1, "released").exits(C1, 0);
    script.at(6000).goes(HOLDER);
    script.verdict()
}

#[test]
fn a_clean_hand_over_touches_nobody() {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(300);
    script.beats_on(HOLDER, 10).at(6000).says(HOLDER, "left").clears(HOLDER, 10);
    script.takes(C1, 20).says(C1, "entered").says(HOLDER, "released").exits(HOLDER, 0);
    script.at(6300).beats_on(C1, 20).at(7000).says(C1, "left").clears(C1, 20);
    script.says(C1, "released").exits(C1, 0);
    assert_eq!(touches(&script.verdict()), []);
}

#[test]
fn removing_the_heirs_lock_is_a_wrongful_release() {
    let inside = displaced(|script| {
        script.clears(HOLDER, 20);
    });
    assert_eq!(touches(&inside), [(RELEASE, vec![HOLDER, C1])]);
    let leaving = displaced(|script| {
        script.says(HOLDER, "left").clears(HOLDER, 20);
    });
    assert_eq!(touches(&leaving), [(RELEASE, vec![HOLDER, C1])]);
}

#[test]
fn being_told_does_not_make_a_release_right() {
    let verdict = displaced(|script| {
        script.says(HOLDER, "lost").says(HOLDER, "aborted").clears(HOLDER, 20);
    });
    assert_eq!(touches(&verdict), [(RELEASE, vec![HOLDER, C1])]);
}

#[test]
fn a_removal_that_failed_or_was_only_pretended_removed_nothing() {
    let verdict = displaced(|script| {
        script.does(HOLDER, OpKind::Unlink, BEAT, Err(Errno(libc::EIO)), |op, _, _| {
            op.ino = Some(21);
        });
        script.does(HOLDER, OpKind::Rmdir, LOCK, Ok(0), |op, outcome, fault| {
            op.ino = Some(20);
            outcome.effect = false;
            *fault = Some(1);
        });
    });
    assert_eq!(touches(&verdict), []);
}

#[test]
fn removing_the_ghost_of_ones_own_lock_is_right() {
    // The event moved the folder away; the owner removes it there.
    let mut script = Script::new();
    script.with_event(1, Deed::Rename(Target::Lock, "old".to_owned()), "rename lock to old");
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(500).done(1);
    script.at(700).takes(C1, 20).says(C1, "entered").at(900);
    script.acts(HOLDER, OpKind::Unlink, "old/beat", 11).acts(HOLDER, OpKind::Rmdir, "old", 10);
    script.at(1700).goes(C1).at(6000).goes(HOLDER);
    assert_eq!(touches(&script.verdict()), []);
}

#[test]
fn removing_what_its_owner_has_left_behind_is_no_wrong() {
    let mut script = Script::new();
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock");
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(500).done(1);
    script.at(700).takes(C1, 20).says(C1, "entered").at(1700).goes(C1);
    script.at(6000).says(HOLDER, "left").clears(HOLDER, 20).says(HOLDER, "released");
    script.exits(HOLDER, 0);
    assert_eq!(touches(&script.verdict()), []);
}

#[rstest]
#[case(OpKind::Utimes, "aborted", ZOMBIE)]
#[case(OpKind::Write, "wrote", ZOMBIE)]
// Not its way to beat: so the owner gives its lock back.
#[case(OpKind::Write, "aborted", RELEASE)]
#[case(OpKind::Truncate, "left", RELEASE)]
#[case(OpKind::Truncate, "wrote", ZOMBIE)]
fn refreshing_the_heirs_lock(#[case] kind: OpKind, #[case] line: &str, #[case] finding: Kind) {
    let verdict = displaced(|script| {
        script.says(HOLDER, line).acts(HOLDER, kind, BEAT, 21);
    });
    assert_eq!(touches(&verdict), [(finding, vec![HOLDER, C1])]);
}

#[test]
fn a_beat_on_the_ghost_of_ones_own_file_refreshes_nothing() {
    let verdict = displaced(|script| {
        script.does(HOLDER, OpKind::Utimes, BEAT, Ok(0), |op, _, _| {
            (op.ino, op.by_descriptor, op.unlinked) = (Some(11), true, true);
        });
    });
    assert_eq!(touches(&verdict), []);
}

#[test]
fn a_beat_on_a_file_of_the_heir_that_lost_its_name_is_seen_by_nobody() {
    let verdict = displaced(|script| {
        script.done(1);
        script.does(HOLDER, OpKind::Utimes, BEAT, Ok(0), |op, _, _| {
            (op.ino, op.by_descriptor, op.unlinked) = (Some(21), true, true);
        });
    });
    assert_eq!(touches(&verdict), []);
}

#[test]
fn a_file_that_nobody_was_seen_to_make_is_nobodys() {
    // The name is the heir's; what is there now has another inode.
    let verdict = displaced(|script| {
        script.acts(HOLDER, OpKind::Utimes, BEAT, 99).acts(HOLDER, OpKind::Unlink, BEAT, 99);
    });
    assert_eq!(touches(&verdict), []);
}

#[test]
fn a_contender_that_tries_whether_it_may_write_refreshes_nothing() {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1);
    script.at(300).acts(C1, OpKind::Utimes, BEAT, 11).acts(C1, OpKind::Truncate, BEAT, 11);
    script.at(6000).goes(HOLDER).at(6100).says(C1, "entered").at(7100).goes(C1);
    assert_eq!(touches(&script.verdict()), []);
}

/// A lock that beats by create and rename, on one file.
fn rename_lock() -> Script {
    let mut script = Script::new();
    script.trial(|trial| trial.plan.files.heartbeat = vec![LOCK.to_owned()]);
    script
}

fn beat_by_rename(script: &mut Script, role: Role, ino: u64) {
    script.makes(role, OpKind::Create, "new", ino);
    script.moves(role, OpKind::Rename, ["new", LOCK], ino);
}

#[test]
fn beating_by_rename_over_ones_own_is_right() {
    let mut script = rename_lock();
    script.at(0).makes(HOLDER, OpKind::Create, LOCK, 10).says(HOLDER, "entered").polls(C1);
    for beat in 1..4 {
        beat_by_rename(script.at(beat * 300), HOLDER, 10 + beat);
    }
    script.at(6000).says(HOLDER, "left").acts(HOLDER, OpKind::Unlink, LOCK, 13).goes(HOLDER);
    assert_eq!(touches(&script.verdict()), []);
}

#[test]
fn a_zombies_rename_over_the_heirs_is_its_fault_and_not_the_heirs() {
    let mut script = rename_lock();
    script.at(0).makes(HOLDER, OpKind::Create, LOCK, 10).says(HOLDER, "entered").polls(C1);
    script.with_event(1, Deed::Remove(Target::Lock), "remove lock").at(500).done(1);
    script.at(700).makes(C1, OpKind::Create, LOCK, 20).says(C1, "entered");
    beat_by_rename(script.at(900), HOLDER, 11);
    beat_by_rename(script.at(1000), C1, 21);
    beat_by_rename(script.at(1200), HOLDER, 12);
    // What it takes away now are its own bytes.
    script.at(1300).says(HOLDER, "left").acts(HOLDER, OpKind::Unlink, LOCK, 12).goes(HOLDER);
    script.at(1700).goes(C1);
    assert_eq!(touches(&script.verdict()), [(ZOMBIE, vec![HOLDER, C1])]);
}

#[test]
fn a_beat_that_is_made_anew_in_the_heirs_folder_is_a_zombies() {
    let verdict = displaced(|script| {
        script.acts(C1, OpKind::Unlink, BEAT, 21).makes(HOLDER, OpKind::Create, BEAT, 30);
    });
    assert_eq!(touches(&verdict), [(ZOMBIE, vec![HOLDER, C1])]);
}

#[test]
fn who_puts_back_what_it_moved_has_done_nothing() {
    let away = |script: &mut Script| {
        script.says(HOLDER, "left").moves(HOLDER, OpKind::Rename, [LOCK, "away"], 20);
    };
    let back = displaced(|script| {
        away(script);
        script.moves(HOLDER, OpKind::Rename, ["away", LOCK], 20);
    });
    assert_eq!(touches(&back), []);
    let kept = displaced(away);
    assert_eq!(touches(&kept), [(RELEASE, vec![HOLDER, C1])]);
}

#[test]
fn a_contender_that_removes_a_living_lock_and_does_not_get_in_did_wrong() {
    let removing = |told: bool, token: &str| {
        let mut script = Script::new();
        script.at(0).takes(HOLDER, 10).says(HOLDER, &format!("entered{token}")).polls(C1).at(900);
        if told {
            script.says(HOLDER, "lost");
        }
        script.at(1000).clears(C1, 10).at(1100).says(C1, "gave-up").exits(C1, 0);
        touches(&script.at(6000).goes(HOLDER).verdict())
    };
    assert_eq!(removing(false, ""), [(RELEASE, vec![C1, HOLDER])]);
    assert_eq!(removing(true, ""), []);
    assert_eq!(removing(false, " token=1"), []);
}

#[test]
fn a_takeover_is_judged_as_one_and_not_twice() {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(2000);
    script.clears(C1, 10).takes(C1, 20).says(C1, "entered").at(3000).goes(C1);
    script.at(6000).goes(HOLDER);
    let verdict = script.verdict();
    assert_eq!(touches(&verdict), []);
    assert!(verdict.findings.iter().any(|one| one.kind == Kind::UnprovenSteal));
}

#[test]
fn a_token_file_that_the_next_one_rewrites_is_nobodys_wrong() {
    let mut script = Script::new();
    script.trial(|trial| trial.plan.files.lock = vec!["resource.lock*".to_owned()]);
    let token = "resource.lock.token";
    script.at(0).takes(HOLDER, 10).makes(HOLDER, OpKind::Create, token, 5);
    script.acts(HOLDER, OpKind::Write, token, 5).says(HOLDER, "entered token=1").polls(C1);
    script.at(5000).acts(C1, OpKind::Write, token, 5).at(6000).says(HOLDER, "left");
    script.clears(HOLDER, 10).says(HOLDER, "released").exits(HOLDER, 0);
    script.takes(C1, 20).says(C1, "entered token=2").at(7000).goes(C1);
    assert_eq!(touches(&script.verdict()), []);
}

#[test]
fn a_role_may_remove_what_an_earlier_life_of_it_left() {
    let mut script = Script::new();
    script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").at(500).killed(HOLDER).dies(HOLDER);
    script.at(600).starts(HOLDER).polls(C1).clears(HOLDER, 10).takes(HOLDER, 20);
    script.says(HOLDER, "entered").at(900).beats_on(HOLDER, 20).at(6600).goes(HOLDER);
    assert_eq!(touches(&script.verdict()), []);
}

#[test]
fn each_wrong_is_told_once_for_each_owner() {
    let verdict = displaced(|script| {
        for _ in 0..50 {
            script.acts(HOLDER, OpKind::Utimes, BEAT, 21);
        }
        script.clears(HOLDER, 20);
    });
    assert_eq!(touches(&verdict), [(ZOMBIE, vec![HOLDER, C1]), (RELEASE, vec![HOLDER, C1])]);
}
