//! Faults of a command line, read into rules.

use super::paint::Paint;
use crate::fault::realism;
use crate::fault::{Rule, Target};
use crate::scenario::{Mistakes, parse_fault, parse_inject};

/// One `--fault` or `--inject`, as it was written, and the rules that it became.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// As the user wrote it, with the flag.
    pub text: String,
    pub rules: Vec<Rule>,
    /// Whether its delay comes after the operation.
    pub is_late: bool,
}

/// Why a fault cannot mean what it says.
#[derive(Debug, thiserror::Error)]
pub(super) enum FaultsError {
    /// The text is wrong.
    #[error("{0}")]
    Mistakes(Mistakes),
    /// A file is out of reach.
    #[error("{0}")]
    Place(String),
}

/// Prints what is wrong, with the marked words.
pub(super) fn complain_of_faults(errors: &[FaultsError]) {
    let colour = Paint::for_stderr().is_on();
    for error in errors {
        match error {
            FaultsError::Mistakes(mistakes) => eprintln!("{}", mistakes.render(colour)),
            FaultsError::Place(why) => eprintln!("error: {why}"),
        }
    }
}

/// What the user should know before anything runs.
pub(super) fn warn_of_faults(asked: &[Asked]) {
    let rules = asked.iter().flat_map(|asked| &asked.rules);
    for warning in rules.filter_map(realism::warning) {
        eprintln!("warning: {warning}");
    }
}

/// Reads every `--fault`. `place` turns a path or glob into one below the root.
///
/// # Errors
/// Everything that is wrong with any of them.
pub(super) fn read_faults(
    texts: &[String],
    place: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<Asked>, Vec<FaultsError>> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for (text, number) in texts.iter().zip(1..) {
        let parsed = parse_fault(text, number, texts.len()).map_err(FaultsError::Mistakes);
        match parsed.and_then(|rule| placed(rule, &place).map_err(FaultsError::Place)) {
            Ok(rule) => {
                let text = format!("--fault '{text}'");
                all.push(Asked { text, rules: vec![rule], is_late: false });
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

fn placed(rule: Rule, place: impl Fn(&str) -> Result<String, String>) -> Result<Rule, String> {
    let Target::Glob(glob) = &rule.on else { return Ok(rule) };
    let on = Target::Glob(place(glob)?);
    Ok(Rule { on, ..rule })
}

/// Reads every `--inject`; their rules are numbered on from `number`, and mean the files of the
/// glob `on`. The notes say in what strace would do more.
///
/// # Errors
/// Everything that is wrong with any of them.
pub(super) fn read_injections(
    texts: &[String],
    mut number: u32,
    on: &str,
) -> Result<(Vec<Asked>, Vec<String>), Vec<FaultsError>> {
    let (mut all, mut notes, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for text in texts {
        match parse_inject(text, number) {
            Ok(import) => {
                number += u32::try_from(import.rules.len()).unwrap_or(0);
                let text = format!("--inject '{text}'");
                notes.extend(import.notes.iter().map(|note| format!("{text}: {note}")));
                let rules = import.rules.into_iter();
                let on = Target::Glob(on.to_owned());
                let rules = rules.map(|rule| Rule { on: on.clone(), ..rule }).collect();
                all.push(Asked { text, rules, is_late: import.is_late });
            }
            Err(mistakes) => errors.push(FaultsError::Mistakes(mistakes)),
        }
    }
    if errors.is_empty() { Ok((all, notes)) } else { Err(errors) }
}
