//! `deadbeat checklist`: the runbook line by line, what proves each line, and what holds.
//!
//! With a subject it runs the suite, exactly as `run` would, and shows the lines instead of the
//! cases; with `--from` it reads what an earlier run wrote. Exit codes are those of `run`; a line
//! of which not every scenario is in the run is not proved, and that is no pass.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Parser;

use super::args::{ChecklistArgs, ChecklistFormat, Cli, Command, Format};
use super::exit::{Exit, Tally};
use super::paint::Paint;
use super::{catalog, complain, complain_of_selection, outdir, run};
use crate::check::Outcome;
use crate::report::checklist::{Checklist, Ended, RunFile};
use crate::scenario::library;

/// The format of `results.json` that is understood.
const FORMAT: u32 = 1;
/// The longest `results.json` that is read, in bytes: the suite makes some 100 KB a subject.
const RESULTS_BYTES_MAX: u64 = 1 << 30;
/// The file of a run that is read.
const RESULTS: &str = "results.json";
/// The last run.
const LATEST: &str = "target/deadbeat/latest";

/// The results of a run cannot be had.
#[derive(Debug, thiserror::Error)]
enum FromError {
    #[error("read {} failed\n(hint: name a run's folder, such as {LATEST}, or its {RESULTS})", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is longer than {RESULTS_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is no {RESULTS} of a run", path.display())]
    NotResults { path: PathBuf, source: serde_json::Error },
    #[error("{} has format {format}, and this deadbeat reads format {FORMAT}\n(hint: use the deadbeat that wrote it)", path.display())]
    Format { path: PathBuf, format: u32 },
    #[error("the run in {} has no subject `{subject}`\n(hint: it has {known})", path.display())]
    NoSubject { path: PathBuf, subject: String, known: String },
}

/// Does what `checklist` was asked for.
pub(super) fn checklist(args: &ChecklistArgs, paint: Paint) -> Exit {
    match (&args.from, args.subjects.is_empty()) {
        (Some(from), _) => {
            let path = results_of(from);
            match read_for(&path, &args.subjects) {
                Ok(ended) => show(args, paint, Some(&path), &ended).unwrap_or_else(|| exit(&ended)),
                Err(error) => {
                    complain(&error);
                    Exit::BadInput
                }
            }
        }
        (None, true) => show(args, paint, None, &[]).unwrap_or(Exit::Ok),
        (None, false) => run_and_show(args, paint),
    }
}

/// Runs the suite, and shows what came of it.
fn run_and_show(args: &ChecklistArgs, paint: Paint) -> Exit {
    let mut asked = match Cli::try_parse_from(words_of_run(args)).map(|cli| cli.command) {
        Ok(Command::Run(asked)) => asked,
        other => unreachable!("`run` reads the words that were written for it: {other:?}"),
    };
    // Before there is a folder: a wrong word is to leave nothing behind.
    if let Err(error) = catalog::select(&asked.selection) {
        complain_of_selection(&error);
        return Exit::BadInput;
    }
    let out = match outdir::create(args.out.as_deref()) {
        Ok(out) => out,
        Err(error) => {
            complain(&error);
            return Exit::BadInput;
        }
    };
    asked.out = Some(out.clone());
    asked.format = Format::Nothing;
    let ran = run::run(&asked, paint);
    let path = out.join(RESULTS);
    if !path.exists() {
        // Nothing ran; `run` has said why.
        return ran;
    }
    match read_for(&path, &[]) {
        Ok(ended) => show(args, paint, Some(&path), &ended).unwrap_or(ran),
        Err(error) => {
            complain(&error);
            if ran == Exit::Violated { ran } else { Exit::Inconclusive }
        }
    }
}

/// The command line of the run: what a user would type.
fn words_of_run(args: &ChecklistArgs) -> Vec<OsString> {
    let engine = format!("--engine={}", args.engine.as_str());
    let mut words: Vec<OsString> = vec!["deadbeat".into(), "run".into(), engine.into()];
    words.extend(args.subjects.iter().map(|subject| format!("--subject={subject}").into()));
    words.extend(args.jobs.map(|jobs| format!("--jobs={jobs}").into()));
    words
}

/// The file that `--from` means.
fn results_of(from: &Path) -> PathBuf {
    let run = if from == Path::new("latest") && !from.exists() { Path::new(LATEST) } else { from };
    if run.is_dir() { run.join(RESULTS) } else { run.to_owned() }
}

/// How the cases of some subjects ended; all of them where none is named.
fn read_for(path: &Path, subjects: &[String]) -> Result<Vec<Ended>, FromError> {
    let ended = read(path)?;
    if subjects.is_empty() {
        return Ok(ended);
    }
    let means = |word: &str, label: &str| {
        word == label || (!word.contains('@') && label.split('@').next() == Some(word))
    };
    for subject in subjects {
        if !ended.iter().any(|case| means(subject, &case.subject)) {
            let mut known: Vec<&str> = ended.iter().map(|case| case.subject.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(FromError::NoSubject {
                path: path.to_owned(),
                subject: subject.clone(),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            });
        }
    }
    let wanted = |case: &Ended| subjects.iter().any(|subject| means(subject, &case.subject));
    Ok(ended.into_iter().filter(wanted).collect())
}

fn read(path: &Path) -> Result<Vec<Ended>, FromError> {
    let failed = |source| FromError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(RESULTS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > RESULTS_BYTES_MAX {
        return Err(FromError::TooLong { path: path.to_owned() });
    }
    let run: RunFile = serde_json::from_slice(&bytes)
        .map_err(|source| FromError::NotResults { path: path.to_owned(), source })?;
    if run.format != FORMAT {
        return Err(FromError::Format { path: path.to_owned(), format: run.format });
    }
    Ok(run.results)
}

/// Prints the checklist. Gives an exit code only where that fails.
fn show(
    args: &ChecklistArgs,
    paint: Paint,
    results: Option<&Path>,
    ended: &[Ended],
) -> Option<Exit> {
    let suite = match library::suite() {
        Ok(suite) => suite,
        Err(error) => {
            complain_of_selection(&error);
            return Some(Exit::BadInput);
        }
    };
    let folder = results.map(|path| path.parent().unwrap_or(path).display().to_string());
    let checklist = Checklist::new(&suite, folder, ended);
    match args.format {
        ChecklistFormat::Json => {
            let json = serde_json::to_string_pretty(&checklist).expect("it is plain data");
            super::print(&format!("{json}\n"));
        }
        ChecklistFormat::Human => {
            let hue = |outcome: Outcome, word: &str| match outcome {
                Outcome::Held => paint.good(word),
                Outcome::Violated => paint.bad(word),
                Outcome::Inconclusive | Outcome::KnownGap => paint.warn(word),
                Outcome::Skipped => paint.bold(word),
            };
            super::print(&checklist.render(ended, &hue));
        }
    }
    None
}

/// What `run` would have ended with, but that a line which is not proved is no pass.
fn exit(ended: &[Ended]) -> Exit {
    let suite = library::suite().unwrap_or_default();
    let checklist = Checklist::new(&suite, None, ended);
    let lines = checklist.standings().map(|standing| standing.as_outcome());
    let cases = ended.iter().map(|case| case.outcome);
    Tally { outcomes: lines.chain(cases).collect(), ..Tally::default() }.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RESULTS);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    const RUN: &str = r#"{ "format": 1, "results": [
        { "scenario": "control/long-hold", "subject": "lock@default", "outcome": "held",
          "reason": null, "findings": [], "replay": "" },
        { "scenario": "control/long-hold", "subject": "lock@fast", "outcome": "violated",
          "reason": null, "findings": [], "replay": "" } ] }"#;

    #[test]
    fn a_run_is_found_by_its_folder_or_its_file() {
        let (folder, path) = written(RUN);
        assert_eq!(results_of(folder.path()), path);
        assert_eq!(results_of(&path), path);
        assert_eq!(results_of(Path::new("latest")).parent(), Some(Path::new("target/deadbeat")));
    }

    #[test]
    fn only_the_named_subjects_are_shown() {
        let (_folder, path) = written(RUN);
        let count = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            read_for(&path, &words).map(|ended| ended.len())
        };
        assert_eq!(count(&[]).unwrap(), 2);
        assert_eq!(count(&["lock"]).unwrap(), 2);
        assert_eq!(count(&["lock@fast"]).unwrap(), 1);
        let error = count(&["lock@fats"]).unwrap_err().to_string();
        assert!(
            error.contains("lock@fats") && error.contains("lock@default, lock@fast"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_run_is_told_apart() {
        let why = |text: &str| {
            let (_folder, path) = written(text);
            read(&path).unwrap_err().to_string()
        };
        assert!(why("{").contains("is no results.json"));
        assert!(why("{\"format\": 1}").contains("is no results.json"));
        assert!(why("{\"format\": 2, \"results\": []}").contains("format 2"));
        let missing = read(Path::new("/nonexistent/results.json")).unwrap_err();
        assert!(missing.to_string().contains("hint"), "{missing}");
    }

    #[test]
    fn a_line_without_proof_is_no_pass_and_a_violation_outranks_it() {
        let (_folder, path) = written(RUN);
        let exit_of = |word: &str| exit(&read_for(&path, &[word.to_owned()]).unwrap());
        assert_eq!(exit_of("lock@default"), Exit::Inconclusive);
        assert_eq!(exit_of("lock@fast"), Exit::Violated);
        assert_eq!(exit(&[]), Exit::NothingRan);
    }

    /// Goal: whatever word a user gives is a subject's name to `run`, and never a flag.
    #[test]
    fn every_subject_reaches_the_run_as_one() {
        let words = ["deadbeat", "checklist", "--subject=-x", "--subject", "a b", "--jobs", "2"];
        let Command::Checklist(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("it is a checklist");
        };
        let Command::Run(run) = Cli::try_parse_from(words_of_run(&args)).unwrap().command else {
            panic!("it is a run");
        };
        assert_eq!(run.selection.subjects, ["-x", "a b"]);
        assert_eq!(run.jobs.map(usize::from), Some(2));
    }
}
