//! The detection table: which scenarios caught which planted bug, and what they found.
//!
//! A bug is *caught* where its variant is violated with a finding that its base, if it has one, does
//! not show there; where nobody knows what the base shows, because it did not run there or that run
//! proved nothing, nothing counts as caught. A scenario that carries the bug's class as a tag was written for it; all others
//! are the generic ones. Names of variants are only shown, never compared with anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::results::CaseResult;
use crate::check::{Kind, Outcome};
use crate::scenario::Planted;

/// What the page begins with.
const PREFACE: &str = "\
# What catches what

Written by `deadbeat run --subject zoo` (`detection.md` in the run's folder); not edited by hand.

Each variant of the zoo has one planted bug. *Own* are the scenarios that were written for bugs of
its class (they carry it as a tag), *others* are all the rest of the suite. A variant that was planted
in a lock without fencing is caught only by what the lock without fencing does not show as well.

";

/// What the terminal's table ends with where a base is missing.
const ALONE: &str = "     \
(what a bug's base shows as well is no catch, and some bases came to no
     verdict here: run them too, in the same shard, as `--subject zoo` does)
";

/// How wide the terminal's table is.
const COLUMNS: usize = 80;

/// A variant that has a bug.
#[derive(Clone, Copy, Debug)]
pub struct Bug<'a> {
    /// `name@variant`.
    pub subject: &'a str,
    /// What was planted.
    pub planted: &'a Planted,
}

/// One planted bug, and what caught it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its class.
    pub class: String,
    /// `name@variant`.
    pub subject: String,
    /// The bug, in a line.
    pub bug: String,
    /// Where it was seen.
    pub seen: String,
    /// The scenarios of its class that caught it, by name.
    pub by_class: Vec<Caught>,
    /// The other scenarios that caught it, by name.
    pub by_generic: Vec<Caught>,
    /// How many scenarios of its class there were to catch it.
    pub of_class: usize,
    /// In how many scenarios it was violated, and nobody knows whether its base is as well.
    #[serde(skip_serializing_if = "is_zero")]
    pub without_base: usize,
}

/// A scenario that caught a bug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caught {
    /// The scenario.
    pub scenario: String,
    /// What it found beyond what the base shows there.
    pub findings: Vec<Kind>,
}

/// The table, by class. `tags` are the tags of each scenario.
#[must_use]
pub fn detection(
    bugs: &[Bug<'_>],
    tags: &BTreeMap<&str, &[String]>,
    results: &[CaseResult],
) -> Vec<Row> {
    let mut shown: BTreeMap<(&str, &str), BTreeSet<Kind>> = BTreeMap::new();
    for case in results.iter().filter(|case| case.outcome == Outcome::Violated) {
        let stands = case.findings.iter().filter(|one| one.violates).map(|one| one.kind);
        shown.entry((&case.subject, &case.scenario)).or_default().extend(stands);
    }
    let judged = judged(results);
    let nothing = BTreeSet::new();
    let mut rows: Vec<Row> = bugs
        .iter()
        .map(|bug| {
            let base = bug.planted.base.as_ref().map(|base| sibling(bug.subject, base));
            let is_comparable = |scenario: &str| {
                base.as_ref().is_none_or(|base| judged.contains(&(base.as_str(), scenario)))
            };
            let violated =
                tags.keys().filter(|scenario| shown.contains_key(&(bug.subject, scenario)));
            let (comparable, alone): (Vec<&&str>, Vec<&&str>) =
                violated.partition(|scenario| is_comparable(scenario));
            let caught = comparable.into_iter().filter_map(|scenario| {
                let own = shown.get(&(bug.subject, scenario))?;
                let known = base.as_ref().and_then(|base| shown.get(&(base, scenario)));
                let findings: Vec<Kind> =
                    own.difference(known.unwrap_or(&nothing)).copied().collect();
                let scenario = (*scenario).to_owned();
                (!findings.is_empty()).then_some(Caught { scenario, findings })
            });
            let is_own =
                |caught: &Caught| tags[caught.scenario.as_str()].contains(&bug.planted.class);
            let (by_class, by_generic) = caught.partition(is_own);
            Row {
                class: bug.planted.class.clone(),
                subject: bug.subject.to_owned(),
                bug: bug.planted.bug.clone(),
                seen: bug.planted.seen.clone(),
                by_class,
                by_generic,
                of_class: tags.values().filter(|tags| tags.contains(&bug.planted.class)).count(),
                without_base: alone.len(),
            }
        })
        .collect();
    rows.sort_by_key(|row| class_key(&row.class));
    rows
}

/// The subjects and scenarios of which every run came to a verdict.
fn judged(results: &[CaseResult]) -> BTreeSet<(&str, &str)> {
    let mut judged = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for case in results {
        let is_known = !matches!(case.outcome, Outcome::Inconclusive | Outcome::Skipped);
        let set = if is_known { &mut judged } else { &mut unknown };
        set.insert((case.subject.as_str(), case.scenario.as_str()));
    }
    judged.difference(&unknown).copied().collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Another variant of the same subject.
fn sibling(subject: &str, variant: &str) -> String {
    let name = subject.split('@').next().unwrap_or_default();
    format!("{name}@{variant}")
}

/// `B2` before `B10`.
fn class_key(class: &str) -> (String, u64) {
    let digits = class.find(|c: char| c.is_ascii_digit()).unwrap_or(class.len());
    (class[..digits].to_owned(), class[digits..].parse().unwrap_or(0))
}

impl Row {
    fn is_caught(&self) -> bool {
        !self.by_class.is_empty() || !self.by_generic.is_empty()
    }

    /// What stands where nothing was found.
    fn not_caught(&self) -> &'static str {
        if self.without_base > 0 {
            "not known without its base"
        } else if self.of_class == 0 {
            "not tried: none of its scenarios ran"
        } else {
            "NOT CAUGHT"
        }
    }

    fn variant(&self) -> &str {
        self.subject.rsplit('@').next().unwrap_or_default()
    }

    fn kinds(&self) -> BTreeSet<Kind> {
        let all = self.by_class.iter().chain(&self.by_generic);
        all.flat_map(|caught| caught.findings.iter().copied()).collect()
    }
}

/// The table for a terminal: one line a bug, and counts.
#[must_use]
pub fn for_terminal(rows: &[Row]) -> String {
    let count = |wanted: fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).count();
    let mut text = format!(
        "{:>12} {} of {} planted bugs caught: {} by their own scenarios, {} by others\n",
        "Detection",
        count(Row::is_caught),
        rows.len(),
        count(|row| !row.by_class.is_empty()),
        count(|row| !row.by_generic.is_empty()),
    );
    let head =
        format!("     {:<5} {:<20} {:>5} {:>6}  findings", "class", "variant", "own", "others");
    let _ = writeln!(text, "{head}");
    let indent = head.len() - "findings".len();
    for row in rows {
        let kinds = row.kinds();
        let words = kinds.iter().map(|kind| kind.as_str());
        let mut line = format!(
            "     {:<5} {:<20} {:>5} {:>6} ",
            row.class,
            row.variant(),
            row.by_class.len(),
            row.by_generic.len(),
        );
        if kinds.is_empty() {
            line.push(' ');
            line.push_str(row.not_caught());
        }
        for word in words {
            if line.len() + 1 + word.len() > COLUMNS {
                let _ = writeln!(text, "{line}");
                line = " ".repeat(indent - 1);
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(text, "{line}");
    }
    if rows.iter().any(|row| row.without_base > 0) {
        text.push_str(ALONE);
    }
    text
}

/// The whole table as Markdown.
#[must_use]
pub fn as_markdown(rows: &[Row]) -> String {
    let mut text = String::from(PREFACE);
    text.push_str("| class | variant | own | others | findings |\n|---|---|---|---|---|\n");
    for row in rows {
        let kinds: Vec<&str> = row.kinds().iter().map(|kind| kind.as_str()).collect();
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {} | {} |",
            row.class,
            row.variant(),
            row.by_class.len(),
            row.by_generic.len(),
            if kinds.is_empty() { format!("**{}**", row.not_caught()) } else { kinds.join(", ") },
        );
    }
    for row in rows {
        let _ = write!(
            text,
            "\n## {} `{}`\n\n{}. Seen: {}.\n\n",
            row.class,
            row.variant(),
            capital(&row.bug),
            row.seen
        );
        for (title, list) in [("Own", &row.by_class), ("Others", &row.by_generic)] {
            let _ = writeln!(text, "- {title}: {}", listed(list));
        }
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// Scenarios that found the same stand together.
fn listed(list: &[Caught]) -> String {
    if list.is_empty() {
        return "none".to_owned();
    }
    let mut by_findings: BTreeMap<&[Kind], Vec<&str>> = BTreeMap::new();
    for caught in list {
        by_findings.entry(&caught.findings).or_default().push(&caught.scenario);
    }
    let groups = by_findings.iter().map(|(kinds, scenarios)| {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let scenarios: Vec<String> = scenarios.iter().map(|name| format!("`{name}`")).collect();
        format!("**{}** in {}", kinds.join(", "), scenarios.join(", "))
    });
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::violated;

    fn planted(class: &str, base: Option<&str>) -> Planted {
        Planted {
            class: class.to_owned(),
            base: base.map(str::to_owned),
            bug: "a bug".to_owned(),
            seen: "here".to_owned(),
            canary: None,
        }
    }

    fn table(names: [&str; 3]) -> Vec<Row> {
        table_with(names, Some(Outcome::Held))
    }

    /// `in_hang` is what the base came to in the second scenario, if it ran there.
    fn table_with(names: [&str; 3], in_hang: Option<Outcome>) -> Vec<Row> {
        let [base, second, tenth] = names.map(|name| format!("zoo@{name}"));
        let plants = [planted("Z1", None), planted("B2", Some(names[0])), planted("B10", None)];
        let bugs = [
            Bug { subject: &base, planted: &plants[0] },
            Bug { subject: &second, planted: &plants[1] },
            Bug { subject: &tenth, planted: &plants[2] },
        ];
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let tags: [Vec<String>; 2] = [owned(&["pause", "B10"]), owned(&["hang", "B2"])];
        let tags = BTreeMap::from([("pause/a", &tags[0][..]), ("hang/b", &tags[1][..])]);
        let mut results = vec![
            violated("pause/a", &base, &[Kind::DoubleHeld]),
            violated("pause/a", &second, &[Kind::DoubleHeld]),
            violated("hang/b", &second, &[Kind::Silent, Kind::Silent]),
        ];
        let beside = violated("hang/b", &base, &[]);
        results.extend(in_hang.map(|outcome| CaseResult { outcome, ..beside }));
        detection(&bugs, &tags, &results)
    }

    #[test]
    fn what_the_base_shows_as_well_catches_nothing() {
        let rows = table(["plain", "second", "tenth"]);
        let classes: Vec<&str> = rows.iter().map(|row| row.class.as_str()).collect();
        assert_eq!(classes, ["B2", "B10", "Z1"]);
        let by_class = [Caught { scenario: "hang/b".to_owned(), findings: vec![Kind::Silent] }];
        assert_eq!((rows[0].by_class.as_slice(), rows[0].by_generic.len()), (&by_class[..], 0));
        assert!(!rows[1].is_caught() && rows[2].by_generic.len() == 1);
        let text = for_terminal(&rows);
        assert!(text.contains("2 of 3 planted bugs caught: 1 by") && text.contains("NOT CAUGHT"));
        assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert!(as_markdown(&rows).contains("- Own: **silent** in `hang/b`"));
    }

    #[test]
    fn nothing_is_caught_where_nobody_knows_what_the_base_shows() {
        for in_hang in [None, Some(Outcome::Inconclusive), Some(Outcome::Skipped)] {
            let rows = table_with(["plain", "second", "tenth"], in_hang);
            assert!(!rows[0].is_caught() && rows[0].without_base == 1, "{rows:?}");
            let text = for_terminal(&rows);
            assert!(text.contains("second                   0      0  not known"), "{text}");
            assert!(text.ends_with(ALONE) && text.lines().all(|line| line.len() <= COLUMNS));
            assert!(as_markdown(&rows).contains("| **not known without its base** |"));
        }
        let rows = table(["plain", "second", "tenth"]);
        assert!(rows.iter().all(|row| row.without_base == 0));
        assert!(!for_terminal(&rows).contains(ALONE));
    }

    #[test]
    fn the_names_of_the_variants_do_not_matter() {
        let renamed = |names| {
            let strip = |row: Row| Row { subject: String::new(), ..row };
            table(names).into_iter().map(strip).collect::<Vec<_>>()
        };
        assert_eq!(renamed(["plain", "second", "tenth"]), renamed(["x", "a", "pause/a"]));
    }
}
