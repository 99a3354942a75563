//! Whether people were told of a failed beat: in the log, or in a `degraded` or `lost` line.
//!
//! Pure. Asked when a failure lasted to stale-after or cost the lock, and the subject claims to
//! warn; or when the scenario asks, also for failures that heal.

use super::beats::{Failure, failures};
use super::reaction::what_failed;
use super::view::{Hold, View};
use super::{Check, Doubt, Finding, Kind};
use crate::history::What;
use crate::op::Errno;
use crate::plan::Detail;
use crate::witness::Said;

/// Ways in which libraries name a beat or what it does.
const OPERATION_WORDS: &[&str] = &[
    "utime",
    "touch",
    "write",
    "open",
    "refresh",
    "heartbeat",
    "renew",
    "update",
    "rename",
    "mtime",
    "creat",
    "link",
    "truncate",
    "stat",
    "keepalive",
    "keep-alive",
];

/// A holder whose failed beats nobody heard of, or not enough of.
pub(crate) fn visibility(view: &View<'_>, doubts: &mut Vec<Doubt>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hold in &view.holds {
        let failures = failures(view, hold);
        if failures.is_empty() {
            findings.extend(robbed_without_a_word(view, hold));
        }
        for failure in failures {
            let needed = needed(view, hold, &failure);
            if needed.is_empty() {
                continue;
            }
            if let Some(finding) = judge(view, hold, &failure, &needed) {
                if finding.kind == Kind::Silent && is_output_cut(view) {
                    doubts.push(Doubt(format!(
                        "{} printed so much that a message may have been cut",
                        hold.role
                    )));
                } else {
                    findings.push(finding);
                }
                break;
            }
        }
    }
    findings
}

/// A holder whose lock was taken from under it by what the harness did, while its beats went on as
/// if nothing had happened: they may refresh its heir's lock by now. Nothing failed that a message
/// could name, but nobody heard a word either.
fn robbed_without_a_word(view: &View<'_>, hold: &Hold) -> Option<Finding> {
    let heir = view.holds.iter().find(|heir| {
        heir.role != hold.role && heir.taken.seq > hold.taken.seq && hold.covers(heir.taken.seq)
    })?;
    let is_blow = |what: &What| matches!(what, What::Fired { .. } | What::Done { .. });
    let blow = view.events.iter().find(|event| {
        is_blow(&event.what) && event.seq > hold.taken.seq && event.seq < heir.taken.seq
    })?;
    let has_notice = view.notices(hold, u64::MAX).next().is_some();
    let has_beat = view.trial.plan.timing.beat.is_some();
    let lock = view.trial.plan.files.name.to_lowercase();
    let is_said = everything_said(view, hold).to_lowercase().contains(&lock);
    if view.trial.claims.warns.is_empty() || !has_beat || has_notice || is_said {
        return None;
    }
    Some(Finding {
        check: Check::Visibility,
        kind: Kind::Silent,
        roles: vec![hold.role],
        from_ms: view.ms(blow.at),
        overlap_ms: 0.0,
        stopped_ms: 0.0,
        late_writes: 0,
        story: format!(
            "{} lost its lock at {:.0} ms and {} entered at {:.0} ms; neither a log nor a notice \
             of {} said a word of it, and its beats went on.",
            hold.role,
            view.ms(blow.at),
            heir.role,
            view.ms(heir.taken.at),
            hold.role,
        ),
        violates: true,
    })
}

fn needed(view: &View<'_>, hold: &Hold, failure: &Failure) -> Vec<Detail> {
    let mut needed = view.trial.expect.warning.clone();
    let cost_the_lock = view.holds.iter().any(|heir| {
        heir.role != hold.role && heir.taken.seq > failure.seq && hold.covers(heir.taken.seq)
    });
    if failure.lasted(view.trial.plan.timing.stale) || cost_the_lock {
        needed.extend(&view.trial.claims.warns);
    }
    needed.sort();
    needed.dedup();
    needed
}

fn judge(view: &View<'_>, hold: &Hold, failure: &Failure, needed: &[Detail]) -> Option<Finding> {
    let text = everything_said(view, hold);
    let has = |detail: Detail| is_named(view, failure, &text.to_lowercase(), detail);
    let missing: Vec<Detail> = needed.iter().copied().filter(|detail| !has(*detail)).collect();
    let has_notice = view.notices(hold, u64::MAX).next().is_some();
    let is_mentioned = has_notice || has(Detail::LockPath) || has(Detail::Errno);
    let kind = match (is_mentioned, missing.is_empty()) {
        (true, true) => return None,
        (true, false) => Kind::Vague,
        (false, _) => Kind::Silent,
    };
    let names: Vec<&str> = missing
        .iter()
        .map(|detail| match detail {
            Detail::LockPath => "the lock path",
            Detail::Operation => "the operation",
            Detail::Errno => "the errno",
        })
        .collect();
    let how = match kind {
        Kind::Silent => "neither its log nor a notice said a word of it".to_owned(),
        _ => format!("what it said does not name {}", names.join(" or ")),
    };
    Some(Finding {
        check: Check::Visibility,
        kind,
        roles: vec![hold.role],
        from_ms: view.ms(failure.since),
        overlap_ms: 0.0,
        stopped_ms: 0.0,
        late_writes: 0,
        story: format!(
            "A beat of {} failed at {:.0} ms ({}), and {how}.",
            hold.role,
            view.ms(failure.since),
            what_failed(failure),
        ),
        violates: true,
    })
}

/// Output, and the details of notices, from the whole run: a message may come late.
fn everything_said(view: &View<'_>, hold: &Hold) -> String {
    let mut text = view.output_of(hold.role);
    for event in view.events {
        if let What::Witness { role, said: Said::Degraded { details } | Said::Lost { details } } =
            &event.what
            && *role == hold.role
        {
            for (key, value) in details {
                text.push_str(&format!("\n{key}={value}"));
            }
        }
    }
    text
}

fn is_named(view: &View<'_>, failure: &Failure, text: &str, detail: Detail) -> bool {
    match detail {
        Detail::LockPath => {
            let lock = std::iter::once(view.trial.plan.files.name.as_str());
            lock.chain(failure.paths.iter().map(String::as_str))
                .filter_map(|path| path.rsplit('/').next())
                .filter(|name| !name.is_empty())
                .any(|name| text.contains(&name.to_lowercase()))
        }
        Detail::Operation => OPERATION_WORDS.iter().any(|word| text.contains(word)),
        // Where the file system gave no error, none can be named.
        Detail::Errno => {
            failure.errnos.is_empty()
                || failure.errnos.iter().any(|errno| is_errno_named(*errno, text))
        }
    }
}

fn is_errno_named(errno: Errno, text: &str) -> bool {
    let name = errno.to_string().to_lowercase();
    let message = std::io::Error::from_raw_os_error(errno.0).to_string().to_lowercase();
    let message = message.split(" (os error").next().unwrap_or_default();
    text.contains(&name) || text.contains(message)
}

fn is_output_cut(view: &View<'_>) -> bool {
    view.events.iter().any(
        |event| matches!(&event.what, What::Trouble { why } if why.starts_with("the output of")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HEIR, HOLDER, Story, holder_inside, kinds, trial};
    use crate::plan::Detail;

    /// A holder whose beats fail for good, that says `words`, and that aborts.
    fn said(words: impl Fn(Story) -> Story) -> Story {
        let mut story = holder_inside().polls(HEIR);
        for n in 0..4 {
            story = story.at(400 + n * 300).beat(HOLDER, Some(28));
        }
        let story = words(story.at(1500)).at(1700).says(HOLDER, "aborted").exits(HOLDER, 0);
        story.says(HEIR, "entered").at(2800).says(HEIR, "left").exits(HEIR, 0).end()
    }

    #[test]
    fn silence_is_silent_and_a_vague_word_is_vague() {
        let log = |text: &'static str| move |story: Story| story.prints(HOLDER, text);
        let judged = |text| kinds(&said(log(text)).judged(&trial()));
        assert_eq!(judged("started"), ["silent"]);
        assert_eq!(judged("lock trouble"), ["vague"]);
        assert_eq!(judged("utimes of /x/lock/beat failed"), ["vague"]);
        assert!(judged("utimes of /x/lock/beat failed: ENOSPC").is_empty());
        assert!(judged("touch of lock: No space left on device").is_empty());
    }

    #[test]
    fn a_notice_counts_like_a_log() {
        let full = |s: Story| s.says(HOLDER, "lost op=utimes path=/x/lock/beat errno=ENOSPC");
        assert!(kinds(&said(full).judged(&trial())).is_empty());
        let bare = |s: Story| s.says(HOLDER, "lost");
        assert_eq!(kinds(&said(bare).judged(&trial())), ["vague"]);
    }

    #[test]
    fn who_claims_no_warning_owes_none_unless_the_scenario_asks() {
        let mut quiet = trial();
        quiet.claims.warns.clear();
        let same = |s: Story| s;
        assert!(kinds(&said(same).judged(&quiet)).is_empty());
        quiet.expect.warning = vec![Detail::Errno];
        assert_eq!(kinds(&said(same).judged(&quiet)), ["silent"]);
    }

    #[test]
    fn a_flooded_log_proves_no_silence() {
        use crate::history::What;
        let why = "the output of holder was cut at its bound of 10 bytes".to_owned();
        let cut = |s: Story| s.what(What::Trouble { why: why.clone() });
        let verdict = said(cut).judged(&trial());
        assert!(kinds(&verdict).is_empty());
        assert_eq!(verdict.outcome, super::super::Outcome::Inconclusive);
    }

    #[test]
    fn a_lock_that_is_taken_away_without_a_word_is_silent() {
        use crate::history::What;
        let story = holder_inside().beat(HOLDER, None).at(500);
        let story = story.what(What::Done { event: 1, note: "lock".to_owned() }).polls(HEIR);
        let story = story.at(600).says(HEIR, "entered").at(800).beat(HOLDER, None);
        let story = story.at(1700).says(HEIR, "left").exits(HEIR, 0);
        let story = story.at(6100).says(HOLDER, "left").exits(HOLDER, 0).end();
        let verdict = story.judged(&super::super::testing::control());
        assert_eq!(kinds(&verdict), ["double-held", "silent"]);
    }
}
