//! Lines for people, in the form that UX asks for: one line a case, a story under what failed.
//!
//! Words carry the meaning; colour, when it is on, only helps.

use super::plain;
use super::results::{CanaryResult, CaseResult, zero};
use crate::check::{Finding, Outcome};
use crate::history::{History, What};
use crate::role::Role;
use crate::time::Nanos;

/// How many lines of history a finding shows at most.
const EXCERPT_LINES: usize = 14;
/// How wide a story is set.
const STORY_COLUMNS: usize = 96;
/// How much of one event an excerpt shows: a line of the witness may be 4 KiB.
const EVENT_COLUMNS: usize = 140;

/// Where a case stands among all.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// The schedules that it stands for, where it ran under several.
    pub schedules: Option<Schedules>,
}

/// Several runs of a case that differ by nothing but their seed.
#[derive(Clone, Copy, Debug)]
pub struct Schedules {
    /// How many ended like the one that is shown.
    pub alike: usize,
    /// How many there are.
    pub of: usize,
}

/// Adds a hue to a word, or does not.
pub type Hue<'a> = &'a dyn Fn(Outcome, &str) -> String;

/// The lines of one case that has ended.
#[must_use]
pub fn case(place: Place, case: &CaseResult, history: Option<&History>, hue: Hue<'_>) -> String {
    let fired = case.faults.iter().filter(|fault| fault.fired > 0).count();
    let done = case.events.iter().filter(|event| event.done).count();
    let mut text = format!(
        "{} [{:>7.3}s] ({:>width$}/{}) {:<44} {}",
        hue(case.outcome, &format!("{:>12}", word(case.outcome))),
        case.wall_ms / 1000.0,
        place.number,
        place.of,
        plain(&case.scenario),
        plain(&case.subject),
        width = place.of.to_string().len(),
    );
    if !case.faults.is_empty() {
        text.push_str(&format!("  faults {fired}/{}", case.faults.len()));
    }
    if !case.events.is_empty() {
        text.push_str(&format!("  events {done}/{}", case.events.len()));
    }
    if case.repeats > 0 {
        text.push_str(&format!("  run {}: the machine was too slow before", case.repeats + 1));
    }
    match place.schedules {
        Some(Schedules { alike, of }) if alike == of => text.push_str(&format!("  {of} schedules")),
        Some(Schedules { alike, of }) => text
            .push_str(&format!("  {alike} of {of} schedules, the first with seed {}", case.seed)),
        None => {}
    }
    text.push('\n');
    match case.outcome {
        Outcome::Held => {}
        Outcome::Skipped | Outcome::KnownGap => reason(&mut text, case),
        Outcome::Inconclusive | Outcome::Violated => {
            let stands: Vec<&Finding> = case.findings.iter().filter(|one| one.violates).collect();
            for finding in &stands {
                story(&mut text, finding);
            }
            if let (Some(first), Some(history)) = (stands.first(), history) {
                excerpt(&mut text, first, history);
            }
            reason(&mut text, case);
            text.push_str(&format!("     {}\n", plain(&case.replay)));
        }
    }
    text
}

/// The last lines of a run.
#[must_use]
pub fn summary(results: &[CaseResult], wall: Nanos, folder: &str, hue: Hue<'_>) -> String {
    let count = |outcome: Outcome| results.iter().filter(|case| case.outcome == outcome).count();
    let ran = results.len() - count(Outcome::Skipped);
    let worst = results.iter().map(|case| case.outcome).max().unwrap_or(Outcome::Skipped);
    let mut parts = vec![format!("{} held", count(Outcome::Held))];
    for (outcome, name) in [
        (Outcome::Violated, "violated"),
        (Outcome::Inconclusive, "inconclusive"),
        (Outcome::KnownGap, "known gaps"),
    ] {
        if count(outcome) > 0 {
            parts.push(format!("{} {name}", count(outcome)));
        }
    }
    let skipped = count(Outcome::Skipped);
    let skipped = if skipped > 0 { format!("; {skipped} skipped") } else { String::new() };
    format!(
        "{} [{:>7.1}s] {ran} run: {}{skipped}\n{:>12} {folder}\n",
        hue(worst, &format!("{:>12}", "Summary")),
        wall.as_ms_f64() / 1000.0,
        parts.join(", "),
        "Report",
    )
}

/// What came of the canaries: one line, and more where one was missed.
#[must_use]
pub fn canaries(canaries: &[CanaryResult], hue: Hue<'_>) -> String {
    let missed: Vec<&CanaryResult> = canaries.iter().filter(|canary| !canary.caught).collect();
    let outcome = if missed.is_empty() { Outcome::Held } else { Outcome::Inconclusive };
    let caught = canaries.len() - missed.len();
    let mut text = format!(
        "{} {caught} of {} planted bugs caught{}\n",
        hue(outcome, &format!("{:>12}", "Canaries")),
        canaries.len(),
        if missed.is_empty() { "" } else { ": the others make this run prove nothing" },
    );
    for canary in &missed {
        wrapped(&mut text, "     ", &plain_lines(&self::missed(canary)));
        text.push_str(&format!("     {}\n", plain(&canary.replay)));
    }
    if !missed.is_empty() {
        text.push_str(
            "     (hint: `deadbeat doctor` says what works here; --no-canaries runs without them)\n",
        );
    }
    text
}

/// What a missed canary showed, and what it had to.
pub(super) fn missed(canary: &CanaryResult) -> String {
    let list = |words: &[String]| {
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    };
    let why = canary.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
    format!(
        "{} in {} was to show {}, and showed {}{why}",
        canary.subject,
        canary.scenario,
        list(&canary.shows),
        list(&canary.found),
    )
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Skipped => "skipped",
        Outcome::Held => "HELD",
        Outcome::KnownGap => "known gap",
        Outcome::Inconclusive => "INCONCLUSIVE",
        Outcome::Violated => "VIOLATED",
    }
}

fn reason(text: &mut String, case: &CaseResult) {
    for reason in case.reason.iter().flat_map(|reason| reason.split("; ")) {
        wrapped(text, "     ", &plain_lines(reason));
    }
}

fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join(" ")
}

fn story(text: &mut String, finding: &Finding) {
    let kind = finding.kind.as_str();
    wrapped(text, "     ", &format!("{kind}: {}", plain_lines(&finding.story)));
}

/// Sets words into lines of a bounded width.
pub(super) fn wrapped(text: &mut String, indent: &str, words: &str) {
    let mut line = String::new();
    for word in words.split(' ') {
        let is_too_long = line.chars().count() + word.chars().count() >= STORY_COLUMNS;
        if !line.is_empty() && is_too_long {
            text.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        text.push_str(&format!("{indent}{line}\n"));
    }
}

/// The events that tell a finding's story, nearest to where it begins.
fn excerpt(text: &mut String, finding: &Finding, history: &History) {
    let zero = zero(history);
    let told: Vec<(f64, String)> = history
        .events
        .iter()
        .filter_map(|event| {
            let line = told(&event.what)?;
            Some((event.at.as_ms_f64() - zero.as_ms_f64(), line))
        })
        .collect();
    let middle = told.iter().position(|(at, _)| *at >= finding.from_ms).unwrap_or(told.len());
    let from = middle.saturating_sub(EXCERPT_LINES / 2 + 1);
    let to = (from + EXCERPT_LINES).min(told.len());
    for (at, line) in &told[from..to] {
        text.push_str(&format!("     {at:>9.0} ms  {}\n", clipped(line)));
    }
}

/// As much of a line as fits, and a sign where that is not all.
fn clipped(line: &str) -> String {
    if line.chars().count() <= EVENT_COLUMNS {
        return line.to_owned();
    }
    let begin: String = line.chars().take(EVENT_COLUMNS).collect();
    format!("{begin}…")
}

fn told(what: &What) -> Option<String> {
    let line =
        |role: &Role, rest: String| Some(format!("{:<12} {}", role.to_string(), plain(&rest)));
    match what {
        What::Witness { said, .. } if said.word() == "wrote" => None,
        What::Witness { role, said } => line(role, said.to_string()),
        What::Fenced { role, said, accepted, by } => {
            line(role, format!("{said}: refused, {by} has token {accepted}"))
        }
        What::Op { op, outcome, fault: Some(fault) } => line(
            &op.role,
            format!(
                "{} {} = {}   fault {fault}",
                op.kind.as_str(),
                op.all_paths().collect::<Vec<_>>().join(" -> "),
                match outcome.told {
                    Ok(value) => value.to_string(),
                    Err(errno) => errno.to_string(),
                }
            ),
        ),
        What::Waiting { op, fault: Some(fault) } => {
            line(&op.role, format!("{} {} hangs   fault {fault}", op.kind.as_str(), op.path()))
        }
        What::Done { event, note } => Some(format!("{:<12} event {event}: {}", "", plain(note))),
        What::Note { role, text } => line(role, text.clone()),
        What::Stopped { role } => line(role, "is stopped".to_owned()),
        What::Continued { role } => line(role, "goes on".to_owned()),
        What::Killed { role, planned: true } => line(role, "is killed".to_owned()),
        What::Exited { role, code: Some(code), .. } => line(role, format!("exits, code {code}")),
        What::Exited { role, signal, .. } => {
            line(role, format!("dies, signal {}", signal.unwrap_or_default()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::script::{C1, HOLDER, Script};
    use crate::report::results::CaseParts;

    /// A case of a script, as the command line would make it.
    fn result(script: &mut Script) -> (CaseResult, History) {
        let history = script.history().clone();
        let verdict = crate::check::judge(&script.trial, &history, "2026-06-01");
        let case = CaseResult::new(CaseParts {
            scenario: &script.trial.scenario,
            subject: &script.trial.subject,
            engine: "fuse",
            seed: 0,
            trial: Some(&script.trial),
            history: Some(&history),
            verdict: &verdict,
            caveats: &[],
            repeats: 0,
            wall: Nanos::from_ms(7100),
            replay: "deadbeat run family/name --subject lock --engine fuse --seed 0",
        });
        (case, history)
    }

    fn colourless(_: Outcome, word: &str) -> String {
        word.to_owned()
    }

    fn double_held() -> (CaseResult, History) {
        let mut script = Script::new();
        script.with_fault().at(100).says(HOLDER, "entered").at(150).polls(C1);
        script.fails_from_to(HOLDER, 400, 1300).at(1500).says(C1, "entered");
        script.at(1600).says(HOLDER, "wrote").at(2500).goes(C1).at(6100).goes(HOLDER);
        result(&mut script)
    }

    #[test]
    fn a_violation_tells_its_story_and_ends_with_the_command_that_repeats_it() {
        let (case, history) = double_held();
        let text = super::case(
            Place { number: 2, of: 48, schedules: None },
            &case,
            Some(&history),
            &colourless,
        );
        insta::assert_snapshot!(text);
        assert_eq!(text.lines().last().unwrap().trim(), case.replay);
    }

    #[test]
    fn a_held_case_is_one_line_and_an_inconclusive_one_says_why() {
        let mut script = Script::new();
        script.at(0).says(HOLDER, "entered").polls(C1).at(6000).goes(HOLDER);
        script.at(6100).says(C1, "entered").at(7100).goes(C1);
        let (held, _) = result(&mut script);
        let mut script = Script::new();
        script.with_fault().at(0).says(HOLDER, "entered").polls(C1).at(6000).goes(HOLDER);
        script.at(6100).says(C1, "entered").at(7100).goes(C1);
        let (unproven, history) = result(&mut script);
        let place = |number| Place { number, of: 2, schedules: None };
        let mut text = super::case(place(1), &held, None, &colourless);
        assert_eq!(text.lines().count(), 1);
        text.push_str(&super::case(place(2), &unproven, Some(&history), &colourless));
        text.push_str(&summary(&[held, unproven], Nanos::from_ms(14_200), "out", &colourless));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn nothing_of_a_subject_reaches_the_terminal_raw() {
        let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
        let mut script = Script::new();
        script.trial(|trial| {
            trial.scenario = format!("a/{hostile}");
            trial.subject = hostile.to_owned();
        });
        script.at(0).says(HOLDER, "entered").polls(C1).says(HOLDER, &format!("rubbish {hostile}"));
        let long = "x".repeat(3000);
        script.says(HOLDER, &format!("lost reason={hostile}{long}")).prints(HOLDER, hostile);
        script.push(What::Trouble { why: hostile.to_owned() }).says(C1, "entered");
        script.at(6000).goes(HOLDER).goes(C1);
        let (mut case, history) = result(&mut script);
        case.replay.push_str(hostile);
        let text = super::case(
            Place { number: 1, of: 1, schedules: None },
            &case,
            Some(&history),
            &colourless,
        );
        assert!(text.contains("VIOLATED") && text.contains("owned"), "{text}");
        let is_raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(is_raw), "{text:?}");
        assert!(text.lines().all(|line| line.chars().count() < 400), "{text}");
    }

    #[test]
    fn words_are_the_same_with_and_without_colour() {
        let (case, history) = double_held();
        let place = Place { number: 1, of: 1, schedules: None };
        let painted = |_: Outcome, word: &str| format!("<b>{word}</b>");
        let text = super::case(place, &case, Some(&history), &painted);
        let bare = super::case(place, &case, Some(&history), &colourless);
        assert_eq!(text.replace("<b>", "").replace("</b>", ""), bare);
    }
}
