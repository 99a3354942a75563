//! `run --update-gaps`: what a run has shown of known gaps, asked about and written down.
//!
//! # Invariants
//! - Nothing is written without an answer at a terminal, and never in CI: a gap that nobody has
//!   given a reason for is a bug that nobody looks at.
//! - An inconclusive run is never a gap.
//! - The run ends as it would have without this: what was written counts from the next run on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use similar::{ChangeTag, TextDiff};

use super::catalog::{Case, Catalog};
use crate::check::Outcome;
use crate::plan::KnownGap;
use crate::report::plain;
use crate::report::results::CaseResult;
use crate::scenario::gap_edit::{is_date, with_gaps};

/// Variables that CI systems set.
const CI: &[&str] = &["CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TF_BUILD"];
/// The answers that a question is asked for before it counts as left out.
const ANSWERS_MAX: u32 = 3;

/// What may be changed in one list of gaps.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    /// Recorded, and shown by no scenario any more.
    closed: Vec<KnownGap>,
    /// Shown, and to be reviewed before today.
    overdue: Vec<KnownGap>,
    /// Shown, and not recorded: the scenario, and exactly what it showed.
    new: BTreeSet<(String, Vec<String>)>,
}

/// By the place of the subject, and the variant.
pub(super) type Proposals = BTreeMap<(usize, String), Proposal>;

/// Whether there is anybody to ask, and a file to write.
pub(super) fn may_ask(catalog: &Catalog) -> Result<(), String> {
    let is_set = |name: &&&str| {
        std::env::var(name).is_ok_and(|value| !matches!(&*value, "" | "false" | "0"))
    };
    if let Some(name) = CI.iter().find(is_set) {
        return Err(format!(
            "--update-gaps never runs in CI, and {name} is set here\n(hint: run it on your own \
             machine, and commit the subject's file)"
        ));
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err("--update-gaps asks before it writes, and there is no terminal to ask at\n\
                    (hint: edit [[known-gap]] in the subject's file by hand)"
            .to_owned());
    }
    for case in &catalog.cases {
        let subject = &catalog.subjects[case.subject];
        if subject.folder().is_none() {
            return Err(format!(
                "{} is inside the program, and has no file to write\n(hint: name the folder of a \
                 subject of your own, as in --subject ./my-lock)",
                subject.name()
            ));
        }
    }
    Ok(())
}

/// What the results say about the recorded gaps.
pub(super) fn proposals(
    cases: &[Case],
    results: &[CaseResult],
    closed: &[(String, KnownGap)],
    today: &str,
) -> Proposals {
    let mut proposals = Proposals::new();
    for (case, result) in cases.iter().zip(results) {
        let variant = case.label.rsplit('@').next().unwrap_or_default().to_owned();
        let Ok(trial) = &case.trial else { continue };
        let kinds: BTreeSet<&str> = result
            .findings
            .iter()
            .filter(|finding| finding.violates)
            .map(|finding| finding.kind.as_str())
            .collect();
        if result.outcome != Outcome::Violated {
            continue;
        }
        let proposal = proposals.entry((case.subject, variant)).or_default();
        if kinds.is_empty() {
            let of_it = closed.iter().filter(|(label, _)| *label == case.label);
            for (_, gap) in of_it {
                if !proposal.closed.contains(gap) {
                    proposal.closed.push(gap.clone());
                }
            }
            continue;
        }
        let is_it = |gap: &&KnownGap| {
            gap.findings.iter().map(String::as_str).collect::<BTreeSet<_>>() == kinds
        };
        match trial.gaps.iter().find(is_it) {
            Some(gap) if gap.review_by.as_str() < today => {
                if !proposal.overdue.contains(gap) {
                    proposal.overdue.push(gap.clone());
                }
            }
            Some(_) => {}
            None => {
                let kinds = kinds.into_iter().map(str::to_owned).collect();
                proposal.new.insert((result.scenario.clone(), kinds));
            }
        }
    }
    proposals
}

/// Asks about each, shows what would change in each file, asks once more, and writes.
pub(super) fn ask_and_write(
    catalog: &Catalog,
    proposals: Proposals,
    today: &str,
) -> io::Result<()> {
    let mut texts: BTreeMap<&Path, (String, String)> = BTreeMap::new();
    if proposals.is_empty() {
        eprintln!("{:>12} nothing to change", "Gaps");
    }
    for ((subject, variant), proposal) in proposals {
        let subject = &catalog.subjects[subject];
        let Some(folder) = subject.folder() else { continue };
        eprintln!("{:>12} {}@{variant}", "Gaps", plain(subject.name()));
        let Some(gaps) = ask(subject.gaps(&variant), proposal, today)? else { continue };
        if !texts.contains_key(folder) {
            let text = fs::read_to_string(folder.join("subject.toml"))?;
            texts.insert(folder, (text.clone(), text));
        }
        if let Some((_, text)) = texts.get_mut(folder) {
            *text = with_gaps(text, &variant, &gaps).map_err(io::Error::other)?;
        }
    }
    for (folder, (old, new)) in texts {
        // Without the dots that the current folder and `./my-lock` make together.
        let path: PathBuf = folder.join("subject.toml").components().collect();
        show_change(&old, &new);
        if old == new || !is_yes(&format!("write {}? [y/N]", path.display()))? {
            eprintln!("{:>12} {} is as it was", "Gaps", path.display());
            continue;
        }
        replace(&path, &new)?;
        eprintln!("{:>12} {} is written; run again to see it hold", "Gaps", path.display());
    }
    Ok(())
}

/// The list as it should be; `None` if nothing is to change.
fn ask(
    recorded: &[KnownGap],
    proposal: Proposal,
    today: &str,
) -> io::Result<Option<Vec<KnownGap>>> {
    let mut gaps = recorded.to_vec();
    for gap in proposal.closed {
        if is_yes(&format!(
            "closed: {} shows no {} any more; remove it? [y/N]",
            gap.scenario,
            gap.findings.join(", ")
        ))? {
            gaps.retain(|other| *other != gap);
        }
    }
    for gap in proposal.overdue {
        let question = format!(
            "overdue since {}: {} ({}): {}\n             review it again by (YYYY-MM-DD; nothing leaves it overdue):",
            gap.review_by,
            gap.scenario,
            gap.findings.join(", "),
            plain(&gap.reason),
        );
        let Some(date) = ask_for_date(&question, today)? else { continue };
        for one in gaps.iter_mut().filter(|one| **one == gap) {
            one.review_by = date.clone();
        }
    }
    for (scenario, findings) in proposal.new {
        let question = format!(
            "violated: {scenario} ({}); why is that to be accepted? (nothing leaves it violated)",
            findings.join(", ")
        );
        let reason = answer(&question)?;
        if reason.is_empty() {
            continue;
        }
        let Some(review_by) = ask_for_date("to be reviewed by (YYYY-MM-DD):", today)? else {
            eprintln!("             without a date it is left out");
            continue;
        };
        gaps.push(KnownGap { scenario, findings, reason, issue: None, review_by });
    }
    Ok((gaps != recorded).then_some(gaps))
}

/// A day that is not over; `None` if none is given.
fn ask_for_date(question: &str, today: &str) -> io::Result<Option<String>> {
    for _ in 0..ANSWERS_MAX {
        let text = answer(question)?;
        if text.is_empty() {
            return Ok(None);
        }
        if is_date(&text) && text.as_str() >= today {
            return Ok(Some(text));
        }
        eprintln!("             a date from {today} on, such as 2027-06-01");
    }
    Ok(None)
}

fn is_yes(question: &str) -> io::Result<bool> {
    Ok(matches!(answer(question)?.as_str(), "y" | "Y" | "yes"))
}

/// One line of the terminal; empty at its end.
fn answer(question: &str) -> io::Result<String> {
    eprint!("             {question} ");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn show_change(old: &str, new: &str) {
    for change in TextDiff::from_lines(old, new).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => continue,
        };
        eprintln!("           {sign} {}", plain(change.value().trim_end_matches('\n')));
    }
}

/// A crash half way leaves the old file.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("toml.new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::metadata(path)?.permissions())?;
    fs::rename(new, path)
}
