//! The runbook as a checklist: each line, the scenarios that prove it, and how they ended.
//!
//! Pure: from the suite and what a `results.json` says to data, and from that to text. The lines
//! themselves are [`Covers`], which is also what a scenario's `covers` is read against.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::plain;
use super::terminal::{Hue, wrapped};
use crate::check::Outcome;
use crate::scenario::{Covers, Scenario};

/// What a checklist needs of a run's `results.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RunFile {
    /// The format of the file: 1.
    pub format: u32,
    /// Every case of the run.
    pub results: Vec<Ended>,
}

/// How one case ended.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Ended {
    /// `family/name`.
    pub scenario: String,
    /// `name@variant`.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where the findings do not say it.
    pub reason: Option<String>,
    /// What was found.
    pub findings: Vec<Found>,
    /// The command that repeats it.
    pub replay: String,
}

/// One finding, in short.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Found {
    /// Its kind, a word of CONTRACTS.
    pub kind: String,
    /// Whether it stands against the lock.
    pub violates: bool,
}

/// How a line stands for one subject. Ordered by severity, so that `max` merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// None of its scenarios could run.
    Skipped,
    /// All that ran held.
    Held,
    /// Some are recorded gaps.
    KnownGap,
    /// Some of its scenarios are not in the run: it is not proved.
    Incomplete,
    /// Some prove nothing.
    Inconclusive,
    /// The lock broke it.
    Violated,
}

impl Standing {
    fn of(outcome: Outcome) -> Standing {
        match outcome {
            Outcome::Skipped => Standing::Skipped,
            Outcome::Held => Standing::Held,
            Outcome::KnownGap => Standing::KnownGap,
            Outcome::Inconclusive => Standing::Inconclusive,
            Outcome::Violated => Standing::Violated,
        }
    }

    /// The outcome whose hue and exit code it has: what is not proved is no pass.
    #[must_use]
    pub fn as_outcome(self) -> Outcome {
        match self {
            Standing::Skipped => Outcome::Skipped,
            Standing::Held => Outcome::Held,
            Standing::KnownGap => Outcome::KnownGap,
            Standing::Incomplete | Standing::Inconclusive => Outcome::Inconclusive,
            Standing::Violated => Outcome::Violated,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Standing::Skipped => "skipped",
            Standing::Held => "HELD",
            Standing::KnownGap => "known gap",
            Standing::Incomplete => "INCOMPLETE",
            Standing::Inconclusive => "INCONCLUSIVE",
            Standing::Violated => "VIOLATED",
        }
    }
}

/// The whole checklist.
#[derive(Clone, Debug, Serialize)]
pub struct Checklist<'a> {
    /// The format of this output: 1.
    pub format: u32,
    /// deadbeat's version.
    pub version: &'static str,
    /// The folder of the run that the results are of.
    pub run: Option<String>,
    /// In the order of the runbook.
    pub lines: Vec<Line<'a>>,
}

/// One line of it.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// Its id, as in `covers`.
    pub id: &'static str,
    /// What must be true.
    pub must_be_true: &'static str,
    /// The scenarios that prove it, by name.
    pub scenarios: Vec<&'a str>,
    /// How it stands, subject by subject.
    pub results: Vec<LineResult<'a>>,
}

/// How a line stands for one subject.
#[derive(Clone, Debug, Serialize)]
pub struct LineResult<'a> {
    /// `name@variant`.
    pub subject: &'a str,
    /// All its scenarios together.
    pub outcome: Standing,
    /// Those that are in the run; one that ran under several schedules, several times.
    pub scenarios: Vec<CaseInLine<'a>>,
}

/// How one scenario of a line ended.
#[derive(Clone, Debug, Serialize)]
pub struct CaseInLine<'a> {
    /// `family/name`.
    pub scenario: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// The kinds of the findings that stand against the lock, each once.
    pub findings: Vec<&'a str>,
    /// Why, where the findings do not say it.
    pub reason: Option<&'a str>,
}

impl<'a> Checklist<'a> {
    /// Puts together what `suite` proves and how `ended` went, in the order of their subjects.
    #[must_use]
    pub fn new(suite: &'a [Scenario], run: Option<String>, ended: &'a [Ended]) -> Checklist<'a> {
        let mut subjects: Vec<&str> = Vec::new();
        for case in ended {
            if !subjects.contains(&case.subject.as_str()) {
                subjects.push(&case.subject);
            }
        }
        let line = |row: &Covers| {
            let covers = suite.iter().filter(|scenario| scenario.covers.contains(row));
            let scenarios: Vec<&str> = covers.map(|scenario| scenario.name.as_str()).collect();
            let results = subjects.iter().map(|subject| result(subject, &scenarios, ended));
            Line {
                id: row.as_str(),
                must_be_true: row.must_be_true(),
                results: results.collect(),
                scenarios,
            }
        };
        Checklist {
            format: 1,
            version: env!("CARGO_PKG_VERSION"),
            run,
            lines: Covers::ALL.iter().map(line).collect(),
        }
    }

    /// How every line stands for every subject.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.lines.iter().flat_map(|line| line.results.iter().map(|result| result.outcome))
    }

    /// For people.
    #[must_use]
    pub fn render(&self, ended: &[Ended], hue: Hue<'_>) -> String {
        let mut text = String::new();
        for line in &self.lines {
            wrapped(&mut text, "", &format!("{}: {}", line.id, line.must_be_true));
            for result in &line.results {
                result.render(&mut text, &line.scenarios, hue);
            }
            for (family, names) in by_family(&line.scenarios) {
                wrapped(&mut text, "     ", &format!("{family}: {}", names.join(", ")));
            }
            text.push('\n');
        }
        self.render_summary(&mut text, ended, hue);
        text
    }

    fn render_summary(&self, text: &mut String, ended: &[Ended], hue: Hue<'_>) {
        let failed =
            |case: &&Ended| matches!(case.outcome, Outcome::Violated | Outcome::Inconclusive);
        for case in ended.iter().filter(failed) {
            let _ = writeln!(text, "     {}", plain(&case.replay));
        }
        let Some(run) = &self.run else { return };
        let worst = self.standings().max().unwrap_or(Standing::Skipped);
        let count = |standing| self.standings().filter(|one| *one == standing).count();
        let parts: Vec<String> = [
            Standing::Held,
            Standing::Violated,
            Standing::Inconclusive,
            Standing::Incomplete,
            Standing::KnownGap,
            Standing::Skipped,
        ]
        .into_iter()
        .filter(|standing| count(*standing) > 0)
        .map(|standing| format!("{} {}", count(standing), standing.word().to_lowercase()))
        .collect();
        let lines = self.standings().count();
        let summary = hue(worst.as_outcome(), &format!("{:>12}", "Summary"));
        let _ = writeln!(text, "{summary} {lines} lines: {}", parts.join(", "));
        let _ = writeln!(text, "{:>12} {}", "Report", plain(run));
    }
}

fn result<'a>(subject: &'a str, scenarios: &[&'a str], ended: &'a [Ended]) -> LineResult<'a> {
    let own = ended.iter().filter(|case| case.subject == subject);
    let own = own.filter(|case| scenarios.contains(&case.scenario.as_str()));
    let cases: Vec<CaseInLine<'a>> = own.map(CaseInLine::new).collect();
    let is_whole = missing(scenarios, &cases) == 0;
    let gap = if is_whole { Standing::Skipped } else { Standing::Incomplete };
    let worst = cases.iter().map(|case| Standing::of(case.outcome)).max();
    LineResult { subject, outcome: worst.unwrap_or(gap).max(gap), scenarios: cases }
}

/// How many scenarios of a line are not in the run. One that ran under several schedules is there
/// several times.
fn missing(scenarios: &[&str], cases: &[CaseInLine<'_>]) -> usize {
    let is_missing = |name: &&&str| !cases.iter().any(|case| case.scenario == **name);
    scenarios.iter().filter(is_missing).count()
}

impl<'a> CaseInLine<'a> {
    fn new(case: &'a Ended) -> CaseInLine<'a> {
        let standing = case.findings.iter().filter(|finding| finding.violates);
        let mut findings: Vec<&str> = standing.map(|finding| finding.kind.as_str()).collect();
        findings.sort_unstable();
        findings.dedup();
        CaseInLine {
            scenario: &case.scenario,
            outcome: case.outcome,
            findings,
            reason: case.reason.as_deref(),
        }
    }

    /// What kept it from holding, in a few words.
    fn why(&self) -> String {
        if self.findings.is_empty() {
            let first = self.reason.and_then(|reason| reason.lines().next());
            return plain(first.unwrap_or("no reason is given"));
        }
        plain(&self.findings.join(", "))
    }
}

impl LineResult<'_> {
    fn render(&self, text: &mut String, scenarios: &[&str], hue: Hue<'_>) {
        let word = hue(self.outcome.as_outcome(), &format!("{:>12}", self.outcome.word()));
        let count = |outcome| self.scenarios.iter().filter(|case| case.outcome == outcome).count();
        let mut parts = vec![format!("{} held", count(Outcome::Held))];
        for (outcome, name) in [
            (Outcome::Violated, "violated"),
            (Outcome::Inconclusive, "inconclusive"),
            (Outcome::KnownGap, "known gaps"),
            (Outcome::Skipped, "skipped"),
        ] {
            if count(outcome) > 0 {
                parts.push(format!("{} {name}", count(outcome)));
            }
        }
        let missing = missing(scenarios, &self.scenarios);
        if missing > 0 {
            parts.push(format!("{missing} not in the run"));
        }
        let (subject, parts) = (plain(self.subject), parts.join(", "));
        let _ = writeln!(text, "{word} {subject}: {} scenarios: {parts}", scenarios.len());
        for case in &self.scenarios {
            let word = match case.outcome {
                Outcome::Violated => "violated",
                Outcome::Inconclusive => "inconclusive",
                Outcome::KnownGap => "known gap",
                Outcome::Held | Outcome::Skipped => continue,
            };
            let words = format!("{word} {}: {}", plain(case.scenario), case.why());
            wrapped(text, "             ", &words);
        }
    }
}

/// Names by their family, each in order.
fn by_family<'a>(names: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        let (family, rest) = name.split_once('/').unwrap_or(("", name));
        families.entry(family).or_default().push(rest);
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse_scenario;

    fn suite() -> Vec<Scenario> {
        let scenario = |name: &str, covers: &str| {
            let text = format!("format = 1\ntitle = \"t\"\ncovers = [{covers}]\n");
            parse_scenario(&format!("suite/{name}.toml"), &text).unwrap()
        };
        vec![
            scenario("disk/full", "\"recovery\", \"ownership\""),
            scenario("disk/fuller", "\"recovery\""),
            scenario("pause/long", "\"ownership\""),
        ]
    }

    fn ended(scenario: &str, outcome: Outcome) -> Ended {
        let found = |kind: &str, violates| Found { kind: kind.to_owned(), violates };
        let findings = match outcome {
            Outcome::Violated => {
                vec![found("silent", true), found("double-held", true), found("fenced", false)]
            }
            _ => Vec::new(),
        };
        Ended {
            scenario: scenario.to_owned(),
            subject: "lock@default".to_owned(),
            outcome,
            reason: (outcome == Outcome::Inconclusive).then(|| "it never\nfired".to_owned()),
            findings,
            replay: format!("deadbeat run {scenario}"),
        }
    }

    fn standing_of(ended: &[Ended], id: &str) -> Standing {
        let suite = suite();
        let checklist = Checklist::new(&suite, None, ended);
        checklist.lines.iter().find(|line| line.id == id).unwrap().results[0].outcome
    }

    #[test]
    fn the_worst_scenario_of_a_line_decides_and_a_missing_one_proves_nothing() {
        use Outcome::{Held, Inconclusive, KnownGap, Skipped, Violated};
        let recovery = |first, second| {
            standing_of(&[ended("disk/full", first), ended("disk/fuller", second)], "recovery")
        };
        assert_eq!(recovery(Held, Held), Standing::Held);
        assert_eq!(recovery(Held, Skipped), Standing::Held);
        assert_eq!(recovery(Skipped, Skipped), Standing::Skipped);
        assert_eq!(recovery(KnownGap, Held), Standing::KnownGap);
        assert_eq!(recovery(Held, Inconclusive), Standing::Inconclusive);
        assert_eq!(recovery(Violated, Inconclusive), Standing::Violated);
        let partial = |outcome| standing_of(&[ended("disk/full", outcome)], "recovery");
        assert_eq!(partial(Held), Standing::Incomplete);
        assert_eq!(partial(Inconclusive), Standing::Inconclusive);
        assert_eq!(partial(Violated), Standing::Violated);
        assert_eq!(standing_of(&[ended("pause/long", Held)], "recovery"), Standing::Incomplete);
        assert_eq!(Standing::Incomplete.as_outcome(), Outcome::Inconclusive);
    }

    #[test]
    fn a_scenario_that_ran_under_several_schedules_is_one_that_is_there() {
        let ended: Vec<Ended> = (0..3).map(|_| ended("disk/full", Outcome::Held)).collect();
        let suite = suite();
        let checklist = Checklist::new(&suite, None, &ended);
        let text = checklist.render(&ended, &|_, word| word.to_owned());
        assert!(text.contains("2 scenarios: 3 held, 1 not in the run"), "{text}");
    }

    #[test]
    fn what_did_not_hold_is_named_with_its_reason_and_how_to_repeat_it() {
        let suite = suite();
        let ended = [
            ended("disk/full", Outcome::Violated),
            ended("disk/fuller", Outcome::Inconclusive),
            ended("pause/long", Outcome::Held),
        ];
        let checklist = Checklist::new(&suite, Some("target/run".to_owned()), &ended);
        let text = checklist.render(&ended, &|_, word| word.to_owned());
        let recovery = text.find("recovery: ").unwrap();
        let text = &text[recovery..];
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_data_is_as_documented() {
        let suite = suite();
        let ended = [ended("disk/fuller", Outcome::Violated)];
        let checklist = Checklist::new(&suite, Some("target/run".to_owned()), &ended);
        let recovery = checklist.lines.iter().find(|line| line.id == "recovery");
        insta::assert_snapshot!(serde_json::to_string_pretty(&recovery).unwrap());
    }

    #[test]
    fn what_a_run_writes_is_what_is_read() {
        let text = r#"{ "format": 1, "engine": "trace", "results": [ { "scenario": "a/b",
            "subject": "lock@default", "engine": "trace", "outcome": "known-gap", "reason": "r",
            "findings": [ { "check": "exclusion", "kind": "double-held", "violates": true } ],
            "replay": "deadbeat run a/b" } ] }"#;
        let run: RunFile = serde_json::from_str(text).unwrap();
        assert_eq!((run.format, run.results[0].outcome), (1, Outcome::KnownGap));
        assert_eq!(run.results[0].findings[0].kind, "double-held");
    }
}
