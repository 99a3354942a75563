//! The variants: which bug each has. What each bug is, and where such a one was seen, is said in
//! `subject.toml`.

use rustix::io::Errno;

use crate::Variant;
use crate::bugs::{Bug, Bugs};

const fn variant(name: &'static str, bugs: &'static [Bug]) -> Variant {
    Variant { name, bugs: Bugs::new(bugs) }
}

/// Every variant, in the order of the subject file.
pub(crate) const VARIANTS: &[Variant] = &[
    variant("swallowed-beat", &[Bug::Unfenced, Bug::SwallowsErrors]),
    variant("frozen-beat", &[Bug::Unfenced, Bug::TrustsTheAnswer]),
    variant("fragile-beat", &[Bug::Unfenced, Bug::DiesOfAnError]),
    variant("hasty-abort", &[Bug::GivesUpAtOnce]),
    variant("beat-never-starts", &[Bug::Unfenced, Bug::IgnoresMissingThread]),
    variant("shared-beat", &[Bug::Unfenced, Bug::SharesTheBeat]),
    variant("hung-beat", &[Bug::Unfenced, Bug::NoWatchdog]),
    variant("takeover-race", &[Bug::Unfenced, Bug::NoRecoveryLock]),
    variant("breaker-by-age", &[Bug::Unfenced, Bug::BreaksTheBreaker]),
    variant("zombie-beat", &[Bug::RefreshesByPath]),
    variant("blind-release", &[Bug::ReleasesBlindly]),
    variant("inode-race", &[Bug::Unfenced, Bug::ExistsIsMine]),
    variant("coarse-mtime", &[Bug::Unfenced, Bug::IgnoresCoarseTimes, Bug::TrustsFileTimes]),
    variant("wall-clock", &[Bug::Unfenced, Bug::WaitsOnWallClock]),
    variant("trusts-skew", &[Bug::Unfenced, Bug::TrustsOwnClock]),
    variant("pid-only", &[Bug::Unfenced, Bug::PidAlone]),
    variant("torn-record", &[Bug::Unfenced, Bug::HalfMade]),
    variant("mixed-stale", &[Bug::Unfenced, Bug::OwnSettings]),
    variant("errors-mean-gone", &[Bug::Unfenced, Bug::ErrorsMeanGone]),
    variant("lost-ack", &[Bug::BelievesTheAnswer]),
    variant("nfs-blind", &[Bug::Unfenced, Bug::LooksAtCache]),
    variant("nested-no-beat", &[Bug::Unfenced, Bug::BeatsOnce]),
    variant("kill-errno", &[Bug::Unfenced, Bug::AsksByKill]),
    variant("unfenced", &[Bug::Unfenced]),
    variant("late-notice", &[Bug::Unfenced, Bug::TellsLate]),
    variant("never-gives-up", &[Bug::Unfenced, Bug::NeverGivesUp]),
    variant("says-little", &[Bug::SaysLittle]),
    variant("counts-for-life", &[Bug::CountsForLife]),
    variant("forgets-tokens", &[Bug::ForgetsTokens]),
    variant("empty-blocks", &[Bug::EmptyBlocks]),
    variant("never-takes-over", &[Bug::NeverTakesOver]),
    variant("waits-for-the-dead", &[Bug::WaitsForTheDead]),
    variant("too-eager", &[Bug::Unfenced, Bug::TooEager]),
    variant("never-looks-again", &[Bug::Unfenced, Bug::NeverLooksAgain]),
    variant("panics-on-errors", &[Bug::PanicsOnErrors]),
    variant("beats-in-main", &[Bug::Unfenced, Bug::BeatsInMain]),
    variant("host-name-only", &[Bug::Unfenced, Bug::HostNameAlone]),
    variant("reused-pid", &[Bug::TrustsReusedPid]),
    variant("blind-beat", &[Bug::RefreshesBlindly]),
    variant("recreates-the-beat", &[Bug::RecreatesTheBeat]),
    variant("ignores-enospc", &[Bug::Unfenced, Bug::Ignores(Errno::NOSPC)]),
    variant("ignores-edquot", &[Bug::Unfenced, Bug::Ignores(Errno::DQUOT)]),
    variant("ignores-eio", &[Bug::Unfenced, Bug::Ignores(Errno::IO)]),
    variant("ignores-eacces", &[Bug::Unfenced, Bug::Ignores(Errno::ACCESS)]),
    variant("ignores-eperm", &[Bug::Unfenced, Bug::Ignores(Errno::PERM)]),
    variant("ignores-erofs", &[Bug::Unfenced, Bug::Ignores(Errno::ROFS)]),
    variant("ignores-enoent", &[Bug::Unfenced, Bug::Ignores(Errno::NOENT)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_file_has_just_these_variants() {
        let text = include_str!("../subject.toml");
        let heads = text.lines().filter_map(|line| {
            line.strip_prefix("[variant.").and_then(|rest| rest.strip_suffix("]"))
        });
        let heads = heads.filter(|head| !head.contains('.'));
        let names: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        assert_eq!(heads.collect::<Vec<_>>(), names);
        for name in names {
            let argv = format!("argv = [\"{{deadbeat}}\", \"subject\", \"zoo\", \"{name}\"]");
            assert!(text.contains(&argv), "{argv}");
        }
    }
}
