//! The file system's personality: an NFS client's view, and coarse time stamps.

use super::pids::said_by;
use super::support::*;

use deadbeat::fault::{Effect, HangEnd, Target, Times};
use deadbeat::handmade::{self, CONTENDER, HOLDER, event};
use deadbeat::history::What;
use deadbeat::moment::{Anchor, Moment, Sign};
use deadbeat::op::{Errno, OpKind};
use deadbeat::plan::{Deed, Trial};
use deadbeat::role::Who;
use deadbeat::time::Nanos;

fn two_python(name: &str) -> Trial {
    let mut case = trial(&["python3", &guest(name), "holder"]);
    let argv = case.plan.cast[0].argv.clone();
    let mut heir = handmade::part(CONTENDER, &[], Moment::START);
    heir.argv = argv;
    heir.argv.pop();
    heir.argv.push("contender".to_owned());
    case.plan.cast.push(heir);
    case
}

/// What a role was told of a file it is told again, up to the age that the plan allows.
#[test]
fn attributes_may_be_as_old_as_the_plan_says() {
    if is_missing("python3") {
        return;
    }
    let mut case = two_python("client.py");
    case.plan.world.files.attr_cache = Some(Nanos::from_ms(3000));
    let history = run(&case);
    no_trouble(&history);
    let old = "a:0.0:0 b:0.0:0 gone:0.0:0 moved:0.0:0 new:- folder:0.0:40";
    let new = "a:1.0:0 b:1.0:4 gone:- moved:1.0:5 new:1.0:40 folder:1.0:60";
    assert_eq!(said_by(&history, HOLDER), format!("holder {new}\n"), "its own changes");
    let expected = format!(
        "0.5 {old}\n2.0 {old}\naccess True False False\nheld 0.0\nread more\nopened b:1.0:4\n\
         exists new:1.0:40 gone:0.0:0\nown a:0.0:0\n5.0 {}\nreplaced 0\n",
        new.replace("a:1.0:0", "a:0.0:0")
    );
    assert_eq!(said_by(&history, CONTENDER), expected);
    case.plan.world.files.attr_cache = None;
    let expected = format!(
        "0.5 {old}\n2.0 {new}\naccess False True False\nheld 1.0\nread more\nopened b:1.0:4\n\
         exists new:1.0:40 gone:-\nown a:0.0:0\n5.0 {}\nreplaced 0\n",
        new.replace("a:1.0:0", "a:0.0:0")
    );
    assert_eq!(said_by(&run(&case), CONTENDER), expected, "without it the test itself is right");
}

/// The same answers from every call that tells attributes, whatever it fills.
#[test]
fn old_attributes_have_every_field_in_its_place() {
    let Some((_folder, program)) = compiled("stats.c", &[]) else { return };
    let mut case = trial(&[&program]);
    case.plan.world.files.attr_cache = Some(Nanos::from_ms(3000));
    let history = run(&case);
    no_trouble(&history);
    let text = output(&history);
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    // Each call is made twice: the second answer comes from the cache.
    assert_eq!(lines.len(), 10, "{text}");
    for pair in lines.chunks(2) {
        assert_eq!(pair[0], pair[1], "{text}");
    }
    // What makes the client forget between the pairs changes the last of them, ctime, alone.
    let but_ctime = |values: &str| values.rsplit_once(' ').map(|(rest, _)| rest.to_owned());
    assert!(lines.iter().all(|(_, values)| but_ctime(values) == but_ctime(lines[0].1)), "{text}");
}

/// nfs(5): what others removed is stale for those who have it open.
#[test]
fn handles_of_files_that_others_removed_are_stale() {
    if is_missing("python3") {
        return;
    }
    let mut case = trial(&["python3", &guest("handles.py")]);
    case.plan.world.files.estale = true;
    let heir = handmade::shell(
        CONTENDER,
        "sleep 1; rm theirs; : > x; mv x replaced; rmdir folder; ln linked two; rm linked",
        Moment::START,
    );
    case.plan.cast.push(heir);
    let history = run(&case);
    no_trouble(&history);
    let stale = "utimes ESTALE\nwrite ESTALE\nread ESTALE\nstat ESTALE\nfsync ESTALE\n\
                 truncate ESTALE\nclose ok\npath ENOENT\nreplaced ESTALE\nreplaced-path ok\n\
                 folder ESTALE\nfolder-close ok\nown ok\nlinked ok\n";
    assert_eq!(output(&history), stale);
    case.plan.world.files.estale = false;
    let local = stale.replace("ESTALE", "ok");
    assert_eq!(output(&run(&case)), local, "a local file system works on what is removed");
}

/// A beat that hangs while its file is removed returns to a stale handle.
#[test]
fn a_handle_gets_stale_while_its_operation_hangs() {
    let mut case =
        script("exec 9> beat; say entered; sleep 1; touch -h - >&9 || echo stale; say left");
    case.plan.world.files.estale = true;
    let removed = Moment { anchor: Anchor::Done(1), offset: Nanos::from_ms(5000) };
    let hang = Effect::Hang(HangEnd::Until(removed));
    case.plan.faults = vec![rule("beat", &[OpKind::Utimes], hang, Times::All)];
    let entered = Anchor::Role(Who::One(HOLDER), Sign::Entered);
    let at = Moment { anchor: entered, offset: Nanos::from_ms(10_000) };
    let what = Deed::Remove(Target::Heartbeat);
    case.plan.events = vec![event(1, at, what)];
    let history = run(&case);
    no_trouble(&history);
    let beat = history.events.iter().find_map(|event| match &event.what {
        What::Op { op, outcome, .. } if op.kind == OpKind::Utimes => {
            Some((event.at.as_ms(), outcome.told, outcome.effect))
        }
        _ => None,
    });
    assert_eq!(beat, Some((15_000, Err(Errno(libc::ESTALE)), false)), "{}", output(&history));
}

/// Time stamps are cut, whoever sets them: the kernel, the program or the harness.
#[test]
fn time_stamps_are_as_coarse_as_the_plan_says() {
    // The name, and the nanoseconds since the run began, which is an even second.
    let text = "show() { stat -c '%n %.9Y%.9X' \"$@\" | tr -d . | sed 's/^/./; s/18934560/ /g'; }; \
         show .; mkdir d; : > d/f; sleep 3.7; echo x > a; show a .; sleep 2; echo x >> a; \
         touch d/f; show a d/f; touch -d @1893456009.987654321 a; show a; mv a d/b; show d d/b; \
         : > beat; sleep 5; show beat; rm d/b; show d";
    let stamps = |grain: Option<u64>| -> Vec<u64> {
        let mut case = script(text);
        case.plan.world.files.mtime_granularity = grain.map(Nanos::from_ms);
        let at = Moment { anchor: Anchor::Start, offset: Nanos::from_ms(9500) };
        let what = Deed::Touch(Target::Heartbeat, Nanos::from_ms(4000));
        case.plan.events = vec![event(1, at, what)];
        let history = run(&case);
        no_trouble(&history);
        let text = output(&history);
        let words = text.split_ascii_whitespace().filter(|word| !word.starts_with('.'));
        words.map(|word| word.parse().unwrap_or_else(|_| panic!("{text}"))).collect()
    };
    let exact = stamps(None);
    assert_eq!(exact.len(), 20, "two times of ten files");
    assert_eq!(exact[..2], [0, 0], "the lock directory is made when the run begins");
    let fine = exact.iter().filter(|time| **time % 1_000_000_000 > 0).count();
    assert_eq!(fine, 16, "all but a few that the directory was given at the start: {exact:?}");
    for grain_ms in [1000, 2000] {
        let grain = grain_ms * 1_000_000;
        let cut: Vec<u64> = exact.iter().map(|time| time / grain * grain).collect();
        assert_eq!(stamps(Some(grain_ms)), cut, "{exact:?}");
    }
}
