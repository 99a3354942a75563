//! Whether people were told of a failed beat, and well enough.

use rstest::rstest;

use crate::check::script::*;
use crate::check::{Kind, Outcome, Verdict};
use crate::fault::Target;
use crate::history::What;
use crate::op::OpKind;
use crate::plan::{Deed, Detail, Reach};
use crate::role::Who;

fn seen(verdict: &Verdict) -> Option<Kind> {
    let mut found = verdict.findings.iter().map(|finding| finding.kind);
    found.find(|kind| matches!(kind, Kind::Silent | Kind::Vague))
}

const FULL: &str = "heartbeat of resource.lock failed: utimes: ENOSPC\n";

/// Beats fail from 300 on and past stale-after; `tell` at 600, then an abort.
fn failing(tell: impl FnOnce(&mut Script)) -> Verdict {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(HOLDER, 300, 600);
    tell(&mut script);
    script.fails_from_to(HOLDER, 900, 1500);
    script.at(1600).says(HOLDER, "aborted").exits(HOLDER, 0).verdict()
}

#[rstest]
#[case("", Some(Kind::Silent))]
#[case("tick 7\n", Some(Kind::Silent))]
#[case(FULL, None)]
#[case("Error: ENOSPC: no space left on device, utime '/run/x/resource.lock'\n", None)]
#[case("OSError: [Errno 28] No space left on device: 'resource.lock/beat' on write\n", None)]
#[case("Unable to update lock within the stale threshold\n", Some(Kind::Vague))]
#[case("heartbeat of resource.lock failed: ENOSPC\n", None)]
#[case("resource.lock: ENOSPC\n", Some(Kind::Vague))]
#[case("utimes: ENOSPC\n", Some(Kind::Vague))]
#[case("resource.lock: utimes: EIO\n", Some(Kind::Vague))]
fn a_message_names_path_operation_and_errno(#[case] text: &str, #[case] kind: Option<Kind>) {
    let verdict = failing(|script| {
        script.prints(HOLDER, text);
    });
    assert_eq!(seen(&verdict), kind, "{text}: {verdict:?}");
}

#[rstest]
#[case("degraded op=utimes path=resource.lock errno=ENOSPC", None)]
#[case("lost reason=\"utimes resource.lock/beat: No space left on device\"", None)]
#[case("degraded", Some(Kind::Vague))]
#[case("lost reason=stale", Some(Kind::Vague))]
#[case("degraded op=utimes path=/elsewhere errno=ENOSPC", Some(Kind::Vague))]
fn a_notice_is_a_message_too(#[case] line: &str, #[case] kind: Option<Kind>) {
    let verdict = failing(|script| {
        script.says(HOLDER, line);
    });
    assert_eq!(seen(&verdict), kind, "{line}: {verdict:?}");
}

#[test]
fn what_was_printed_before_the_failure_is_not_about_it() {
    let mut script = Script::new();
    script.prints(HOLDER, FULL).at(0).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(HOLDER, 300, 1500);
    let verdict = script.at(1600).says(HOLDER, "aborted").exits(HOLDER, 0).verdict();
    assert_eq!(seen(&verdict), Some(Kind::Silent));
}

#[test]
fn what_another_role_printed_tells_nobody_of_this_one() {
    let verdict = failing(|script| {
        script.prints(C1, FULL);
    });
    assert_eq!(seen(&verdict), Some(Kind::Silent));
}

#[test]
fn a_message_may_come_in_pieces_and_late() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(HOLDER, 300, 1500);
    script.at(1600).says(HOLDER, "aborted").prints(HOLDER, "utimes resour");
    let verdict = script.prints(HOLDER, "ce.lock: ENOS").prints(HOLDER, "PC").exits(HOLDER, 0);
    assert_eq!(seen(&verdict.verdict()), None);
}

#[test]
fn nothing_is_asked_where_nothing_was_claimed_or_the_failure_was_short() {
    let mut script = Script::new();
    script.trial(|trial| trial.claims.warns = Vec::new());
    script.at(0).says(HOLDER, "entered").polls(C1);
    script.fails_from_to(HOLDER, 300, 1500);
    let verdict = script.at(1600).says(HOLDER, "aborted").exits(HOLDER, 0).verdict();
    assert_eq!(seen(&verdict), None);

    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(300).fails(HOLDER).at(600).beats(HOLDER);
    assert_eq!(seen(&script.at(6000).goes(HOLDER).verdict()), None);
}

#[test]
fn a_scenario_may_ask_of_transients_too_and_needs_are_a_union() {
    let transient = |text: &str| {
        let mut script = Script::new();
        script.trial(|trial| trial.expect.warning = vec![Detail::Errno]);
        script.at(0).says(HOLDER, "entered").polls(C1).at(300).fails(HOLDER).prints(HOLDER, text);
        script.at(600).beats(HOLDER).at(6000).goes(HOLDER).verdict()
    };
    assert_eq!(seen(&transient("")), Some(Kind::Silent));
    assert_eq!(seen(&transient("lock: ENOSPC")), None, "only the errno is asked for");

    let mut script = Script::new();
    script.trial(|trial| {
        trial.expect.warning = vec![Detail::Errno];
        trial.claims.warns = vec![Detail::LockPath];
    });
    script.at(0).says(HOLDER, "entered").polls(C1).at(300).fails(HOLDER).prints(HOLDER, "ENOSPC");
    script.fails_from_to(HOLDER, 600, 1500);
    let verdict = script.at(1600).says(HOLDER, "aborted").exits(HOLDER, 0).verdict();
    assert_eq!(seen(&verdict), Some(Kind::Vague), "the path was claimed");
}

#[test]
fn a_short_failure_that_cost_the_lock_is_asked_about_and_a_healed_one_is_not() {
    let lost = |heir_ms: u64| {
        let mut script = Script::new();
        script.at(0).says(HOLDER, "entered").polls(C1).at(300).fails(HOLDER).at(600).beats(HOLDER);
        script.at(heir_ms).says(C1, "entered").at(6000).goes(HOLDER).goes(C1).verdict()
    };
    assert_eq!(seen(&lost(700)), Some(Kind::Silent));
    assert_eq!(seen(&lost(3000)), None, "that failure was long over");
}

#[test]
fn a_beat_that_hangs_gives_no_errno_but_a_silence_all_the_same() {
    let hung = |text: &str| {
        let mut script = Script::new();
        script.at(0).says(HOLDER, "entered").polls(C1).at(300).hangs(HOLDER).prints(HOLDER, text);
        script.at(6000).goes(HOLDER).verdict()
    };
    assert_eq!(seen(&hung("")), Some(Kind::Silent));
    assert_eq!(seen(&hung("heartbeat on resource.lock is late")), None);
}

#[test]
fn the_error_that_lets_a_hung_beat_go_need_not_be_named() {
    let mut script = Script::new();
    script.at(0).says(HOLDER, "entered").polls(C1).at(300).hangs(HOLDER);
    script.prints(HOLDER, "heartbeat on resource.lock is late").at(5000);
    script.push(What::Op {
        op: crate::op::Op {
            id: crate::op::OpId(2),
            role: HOLDER,
            kind: OpKind::Utimes,
            truncates: false,
            paths: vec![BEAT.to_owned()],
            to: None,
            by_descriptor: false,
            unlinked: false,
            ino: None,
        },
        outcome: crate::op::Outcome {
            told: Err(crate::op::Errno(libc::EINTR)),
            effect: false,
            ino: None,
        },
        fault: Some(1),
    });
    assert_eq!(seen(&script.at(6000).goes(HOLDER).verdict()), None);
}

/// The heir gets in at 2000 after event 1; the holder's beats go on.
fn robbed(deed: Deed, text: &str) -> Verdict {
    let mut script = Script::new();
    script.with_event(1, deed, "strike").at(0).says(HOLDER, "entered").at(500).done(1).polls(C1);
    script.at(1000).beats(HOLDER).at(2000).says(C1, "entered").prints(HOLDER, text);
    script.at(6000).goes(HOLDER).goes(C1).verdict()
}

#[test]
fn a_lock_that_is_taken_from_under_its_owner_is_to_be_heard_of() {
    assert_eq!(seen(&robbed(Deed::Remove(Target::Lock), "")), Some(Kind::Silent));
    assert_eq!(seen(&robbed(Deed::Remove(Target::Lock), "lost resource.lock")), None);
}

#[test]
fn being_late_after_a_stop_is_no_failed_beat_to_be_told_of() {
    // CONTRACTS records such a lock's gap on `pause/*` as exactly `double-held`.
    let verdict = robbed(Deed::Pause(Who::One(HOLDER), Reach::Tree), "");
    assert_eq!(standing(&verdict), [Kind::DoubleHeld]);
}

#[test]
fn where_output_was_cut_nobody_can_say_what_it_named() {
    for text in ["", "lock trouble"] {
        let verdict = failing(|script| {
            script.prints(HOLDER, text);
            script.push(What::Trouble { why: "the output of holder was cut at 1 byte".to_owned() });
        });
        assert_eq!(seen(&verdict), None, "{verdict:?}");
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
    }
}
