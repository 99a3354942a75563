//! The variants, as data: which bug each has, and where such a bug was seen.

use crate::Variant;
use crate::bugs::{Bug, Bugs};

/// What most projects write has no fencing tokens. A bug that was seen in such locks is planted in
/// one: the lock of variant `unfenced`.
const fn unfenced(
    name: &'static str,
    class: &'static str,
    bugs: &'static [Bug],
    bug: &'static str,
    seen: &'static str,
) -> Variant {
    Variant { name, class, base: Some("unfenced"), bug, seen, bugs: Bugs::new(bugs) }
}

/// Planted in the lock that is sound but for this.
const fn fenced(
    name: &'static str,
    class: &'static str,
    bugs: &'static [Bug],
    bug: &'static str,
    seen: &'static str,
) -> Variant {
    Variant { name, class, base: None, bug, seen, bugs: Bugs::new(bugs) }
}

/// Every variant, by class.
pub const VARIANTS: &[Variant] = &[
    unfenced(
        "swallowed-beat",
        "B1",
        &[Bug::Unfenced, Bug::SwallowsErrors],
        "a beat that failed is taken for one that worked",
        "opencode #32657",
    ),
    unfenced(
        "frozen-beat",
        "B2",
        &[Bug::Unfenced, Bug::TrustsTheAnswer],
        "a beat is taken for good though the file's time did not move",
        "opencode #45720, restic #2390",
    ),
    unfenced(
        "fragile-beat",
        "B3",
        &[Bug::Unfenced, Bug::DiesOfAnError],
        "the beat thread dies of the first error, and tells nobody",
        "filelock #562",
    ),
    fenced(
        "hasty-abort",
        "B4",
        &[Bug::GivesUpAtOnce],
        "the first failed beat ends live work",
        "paperclip #11735",
    ),
    unfenced(
        "beat-never-starts",
        "B5",
        &[Bug::Unfenced, Bug::IgnoresMissingThread],
        "the lock is kept though no thread could be had for its beat",
        "filelock #691",
    ),
    unfenced(
        "shared-beat",
        "B6",
        &[Bug::Unfenced, Bug::SharesTheBeat],
        "another acquisition in the same process fails, and ends the holder's beat",
        "filelock #680",
    ),
    unfenced(
        "hung-beat",
        "B7",
        &[Bug::Unfenced, Bug::NoWatchdog],
        "a beat that hangs is waited for in silence",
        "restic #4199; proper-lockfile and filelock when measured",
    ),
    unfenced(
        "takeover-race",
        "B8",
        &[Bug::Unfenced, Bug::NoRecoveryLock],
        "two contenders clear the same dead lock; the second clears the first one's",
        "proper-lockfile #121, npm/lockfile #4",
    ),
    unfenced(
        "breaker-by-age",
        "B9",
        &[Bug::Unfenced, Bug::BreaksTheBreaker],
        "the lock around taking over is itself broken by its age",
        "breaker directories",
    ),
    fenced(
        "zombie-beat",
        "B10",
        &[Bug::RefreshesByPath],
        "looks whether the lock is its own, then refreshes what is at the path",
        "remnic #1604, totem #2576",
    ),
    fenced(
        "blind-release",
        "B11",
        &[Bug::ReleasesBlindly],
        "a release removes whatever is at the path, also a successor's lock",
        "proper-lockfile when measured",
    ),
    unfenced(
        "inode-race",
        "B12",
        &[Bug::Unfenced, Bug::ExistsIsMine],
        "a lock is taken for one's own while its name exists, whichever file that is",
        "filelock #561",
    ),
    unfenced(
        "coarse-mtime",
        "B13",
        &[Bug::Unfenced, Bug::IgnoresCoarseTimes, Bug::TrustsFileTimes],
        "ages are computed from file times, and beats within one tick of that clock are lost",
        "proper-lockfile #82",
    ),
    unfenced(
        "wall-clock",
        "B14",
        &[Bug::Unfenced, Bug::WaitsOnWallClock],
        "silence is measured on the clock that people set",
        "nextly #777, borg #9883",
    ),
    unfenced(
        "trusts-skew",
        "B15",
        &[Bug::Unfenced, Bug::TrustsOwnClock],
        "another host's file times are compared with one's own clock",
        "stroom #5772",
    ),
    unfenced(
        "pid-only",
        "B16",
        &[Bug::Unfenced, Bug::PidAlone],
        "an owner is known by its pid alone: robbed from another PID namespace, or waited for \
         for ever",
        "gbrain #2840 and #4331, openclaw #88342",
    ),
    unfenced(
        "torn-record",
        "B17",
        &[Bug::Unfenced, Bug::HalfMade],
        "the lock is made piece by piece, and an unreadable one is cleared at once",
        "codeburn #1196 and #855",
    ),
    unfenced(
        "mixed-stale",
        "B18",
        &[Bug::Unfenced, Bug::OwnSettings],
        "an owner is judged by the contender's settings",
        "proper-lockfile README",
    ),
    unfenced(
        "errors-mean-gone",
        "B19",
        &[Bug::Unfenced, Bug::ErrorsMeanGone],
        "an error of the contender's look is taken for a lock that nobody has",
        "a stat helper that maps every error to absent",
    ),
    fenced(
        "lost-ack",
        "B20",
        &[Bug::BelievesTheAnswer],
        "an acquisition that worked and answered with an error is taken for failed",
        "restic #2452",
    ),
    unfenced(
        "nfs-blind",
        "B21",
        &[Bug::Unfenced, Bug::LooksAtCache],
        "a contender judges by cached attributes",
        "filelock #669",
    ),
    unfenced(
        "nested-no-beat",
        "B22",
        &[Bug::Unfenced, Bug::BeatsOnce],
        "only the first acquisition of a process gets a beat",
        "filelock #725",
    ),
    unfenced(
        "kill-errno",
        "B23",
        &[Bug::Unfenced, Bug::AsksByKill],
        "every error of kill(pid, 0) is taken for a dead owner, EPERM too",
        "trusty-tools #802",
    ),
    fenced(
        "unfenced",
        "Z1",
        &[Bug::Unfenced],
        "no fencing token: nobody refuses the late writes of an owner that was stopped",
        "nearly every lock in the wild; the reason for fencing in the literature",
    ),
    unfenced(
        "late-notice",
        "Z2",
        &[Bug::Unfenced, Bug::TellsLate],
        "the holder is told only after others may have taken the lock",
        "proper-lockfile with stale and update on its retry grid, when measured",
    ),
    unfenced(
        "never-gives-up",
        "Z3",
        &[Bug::Unfenced, Bug::NeverGivesUp],
        "reports trouble for ever, and never that the lock is lost",
        "handlers that only log: proper-lockfile `onCompromised` when measured",
    ),
    fenced(
        "says-little",
        "Z4",
        &[Bug::SaysLittle],
        "a warning without operation, path and errno",
        "proper-lockfile's message for an update that came too late, when measured",
    ),
    fenced(
        "counts-for-life",
        "Z5",
        &[Bug::CountsForLife],
        "the third failed beat of a lock's whole life ends it, however many worked in between",
        "retry counters that success does not reset",
    ),
    fenced(
        "forgets-tokens",
        "Z6",
        &[Bug::ForgetsTokens],
        "tokens start at 1 again where their file cannot be read",
        "counters kept beside the lock, with `unwrap_or(0)`",
    ),
    fenced(
        "empty-blocks",
        "Z7",
        &[Bug::EmptyBlocks],
        "an empty lock that a full disk or a crash left behind blocks everybody for ever",
        "ext4 and tmpfs when full: the create succeeds and the write fails (measured)",
    ),
    fenced(
        "never-takes-over",
        "Z8",
        &[Bug::NeverTakesOver],
        "a dead owner's lock is never taken over",
        "lock files that users are told to delete by hand",
    ),
    fenced(
        "waits-for-the-dead",
        "Z9",
        &[Bug::WaitsForTheDead],
        "an owner that is dead for certain is waited for many stale ages long",
        "fixed time-outs of an hour beside a pid that is known",
    ),
    unfenced(
        "too-eager",
        "Z10",
        &[Bug::Unfenced, Bug::TooEager],
        "a contender waits for a quarter of the stale age, less than a beat takes",
        "stale and beat settings that were tuned apart",
    ),
    unfenced(
        "never-looks-again",
        "Z11",
        &[Bug::Unfenced, Bug::NeverLooksAgain],
        "a contender counts from its first look, though the lock beat meanwhile",
        "time-outs of waiting taken for the age of the lock",
    ),
    fenced(
        "panics-on-errors",
        "Z12",
        &[Bug::PanicsOnErrors],
        "an error of a look ends the contender's process",
        "`unwrap` and uncaught exceptions around stat",
    ),
    unfenced(
        "beats-in-main",
        "Z13",
        &[Bug::Unfenced, Bug::BeatsInMain],
        "the beat shares its thread with the work",
        "timers of an event loop: proper-lockfile when measured (4 s of busy loop)",
    ),
    unfenced(
        "host-name-only",
        "Z14",
        &[Bug::Unfenced, Bug::HostNameAlone],
        "pids are compared where host names are equal, whatever namespace they are of",
        "containers of one image that share a host name",
    ),
    fenced(
        "reused-pid",
        "Z15",
        &[Bug::TrustsReusedPid],
        "a process that got the dead owner's pid is waited for",
        "pid files without a start time",
    ),
    fenced(
        "blind-beat",
        "Z16",
        &[Bug::RefreshesBlindly],
        "a beat refreshes what is at the path, whose ever it is",
        "`utimes(lockPath)` in a timer",
    ),
    fenced(
        "recreates-the-beat",
        "Z17",
        &[Bug::RecreatesTheBeat],
        "a beat makes its file anew where it is missing, also in a lock that was given up",
        "`touch` as the beat",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_of_the_wild_has_one_variant_and_ten_more_are_planted() {
        let classes: BTreeSet<&str> = VARIANTS.iter().map(|variant| variant.class).collect();
        assert_eq!(classes.len(), VARIANTS.len(), "a class a variant");
        for number in 1..=23 {
            assert!(classes.contains(format!("B{number}").as_str()), "B{number}");
        }
        assert!(VARIANTS.iter().filter(|variant| variant.class.starts_with('Z')).count() >= 10);
    }

    #[test]
    fn the_subject_file_has_just_these_variants() {
        let text = include_str!("../subject.toml");
        let heads = text.lines().filter_map(|line| {
            line.strip_prefix("[variant.").and_then(|rest| rest.strip_suffix(".command]"))
        });
        let names: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        assert_eq!(heads.collect::<Vec<_>>(), names);
        for name in names {
            let argv = format!("argv = [\"{{deadbeat}}\", \"subject\", \"zoo\", \"{name}\"]");
            assert!(text.contains(&argv), "{argv}");
        }
    }

    #[test]
    fn a_base_is_a_variant_whose_bugs_are_all_in_it() {
        for variant in VARIANTS {
            let has = |bug| variant.bugs.has(bug);
            assert_eq!(variant.base.is_some(), has(Bug::Unfenced) && variant.name != "unfenced");
            assert!(variant.base.is_none_or(|base| VARIANTS.iter().any(|one| one.name == base)));
        }
    }
}
