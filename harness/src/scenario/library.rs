//! Which scenarios and subjects a command means, and where their files are.
//!
//! The suite and the subjects of the repository are inside the program; files of the user's are
//! read from the disk, each at most [`FILE_BYTES_MAX`] long.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use super::mistake::{Mistakes, nearest, quoted};
use super::spec::{Scenario, Subject, Variant};
use super::{FILE_BYTES_MAX, parse_scenario, parse_subject};

/// What `--subject` means where it is not given.
const SUBJECT_DEFAULT: &str = "reference";
/// The file that makes a folder a subject.
const SUBJECT_FILE: &str = "subject.toml";

/// A file that is inside the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedFile {
    /// Relative to its subject's folder, or to the suite.
    pub path: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
    /// Whether it may be executed.
    pub executable: bool,
}

/// The tables that the build script writes.
mod embedded {
    use super::EmbeddedFile;
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Where a subject's folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectFiles {
    /// Inside the program.
    Embedded(&'static [EmbeddedFile]),
    /// On this machine.
    Folder(PathBuf),
}

/// One subject that a `--subject` named, with the variants that it meant.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectChoice {
    /// The subject.
    pub subject: Subject,
    /// Which of its variants, in order.
    pub variants: Vec<String>,
    /// Where its files are.
    pub files: SubjectFiles,
}

/// A command names something that cannot be used. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file is wrong.
    #[error("{0}")]
    Mistakes(Box<Mistakes>),
    /// A word of the command line means nothing.
    #[error("unknown {what} {}{hint}", quoted(.word))]
    Unknown {
        /// What it should have been.
        what: &'static str,
        /// The word.
        word: String,
        /// A line of its own, or nothing.
        hint: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no text.
    #[error("{} is not UTF-8: byte {at} is no character", .path.display())]
    NotText {
        /// Which.
        path: PathBuf,
        /// The first offending byte, from 1.
        at: usize,
    },
    /// A file is longer than any scenario or subject.
    #[error("{} is longer than {FILE_BYTES_MAX} bytes", .path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
}

impl From<Mistakes> for LibraryError {
    fn from(mistakes: Mistakes) -> LibraryError {
        LibraryError::Mistakes(Box::new(mistakes))
    }
}

/// The files of the embedded suite, `family/name.toml` each, by name.
#[must_use]
pub fn embedded_suite() -> &'static [EmbeddedFile] {
    embedded::SUITE
}

/// The embedded subjects and their files, by name.
#[must_use]
pub fn embedded_subjects() -> &'static [(&'static str, &'static [EmbeddedFile])] {
    embedded::SUBJECTS
}

/// The glob that selects scenarios by name. `*` stays within a family.
///
/// # Errors
/// It is malformed; this is why.
pub(super) fn scenario_glob(text: &str) -> Result<GlobMatcher, String> {
    let glob = globset::GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

/// Every scenario of the embedded suite, by name.
///
/// # Errors
/// A file of the suite is wrong, which a test rules out.
pub fn suite() -> Result<Vec<Scenario>, LibraryError> {
    let parse = |file: &EmbeddedFile| {
        let name = format!("scenarios/suite/{}", file.path);
        Ok(parse_scenario(&name, text(Path::new(&name), file.bytes)?)?)
    };
    embedded_suite().iter().map(parse).collect()
}

/// Every embedded subject, with its files.
///
/// # Errors
/// A subject file is wrong, which a test rules out.
pub fn subjects() -> Result<Vec<(Subject, SubjectFiles)>, LibraryError> {
    let load = |(name, files): &(&'static str, &'static [EmbeddedFile])| {
        let files = SubjectFiles::Embedded(files);
        Ok((load_subject(name, &files)?, files))
    };
    embedded_subjects().iter().map(load).collect()
}

/// The scenarios that `words` select, by name and once each; the whole suite for no words.
///
/// # Errors
/// A word selects nothing, or a named file is wrong.
pub fn select_scenarios(words: &[String], cwd: &Path) -> Result<Vec<Scenario>, LibraryError> {
    let suite = suite()?;
    if words.is_empty() {
        return Ok(suite);
    }
    let mut names = BTreeSet::new();
    let mut files: Vec<Scenario> = Vec::new();
    for word in words {
        if is_toml_file(word) {
            let path = cwd.join(word);
            let scenario = parse_scenario(word, text(&path, &read(&path)?)?)?;
            if files.iter().all(|file| file.file != scenario.file) {
                files.push(scenario);
            }
            continue;
        }
        let selected = select(&suite, word)?;
        names.extend(selected.map(|scenario| scenario.name.as_str()).collect::<Vec<_>>());
    }
    let mut chosen: Vec<Scenario> =
        suite.iter().filter(|scenario| names.contains(scenario.name.as_str())).cloned().collect();
    chosen.extend(files);
    Ok(chosen)
}

fn is_toml_file(word: &str) -> bool {
    Path::new(word).extension().is_some_and(|extension| extension == "toml")
}

/// The scenarios of the suite that one word means: at least one.
fn select<'s>(
    suite: &'s [Scenario],
    word: &str,
) -> Result<impl Iterator<Item = &'s Scenario> + use<'s>, LibraryError> {
    let chosen: Vec<&Scenario> = if let Some(tag) = word.strip_prefix("tag:") {
        suite.iter().filter(|scenario| scenario.tags.iter().any(|own| own == tag)).collect()
    } else if word.contains(['*', '?', '[', '{']) {
        let glob = scenario_glob(word).map_err(|why| LibraryError::Unknown {
            what: "scenario",
            word: word.to_owned(),
            hint: format!("\n(hint: the glob is malformed: {why})"),
        })?;
        suite.iter().filter(|scenario| glob.is_match(&scenario.name)).collect()
    } else {
        let meant = |scenario: &&Scenario| scenario.name == word || scenario.family() == word;
        suite.iter().filter(meant).collect()
    };
    if chosen.is_empty() {
        return Err(unknown_scenario(suite, word));
    }
    Ok(chosen.into_iter())
}

fn unknown_scenario(suite: &[Scenario], word: &str) -> LibraryError {
    let tags = suite.iter().flat_map(|scenario| &scenario.tags).map(|tag| format!("tag:{tag}"));
    let names = suite.iter().flat_map(|one| [one.name.clone(), one.family().to_owned()]);
    let known: BTreeSet<String> =
        if word.starts_with("tag:") { tags.collect() } else { names.collect() };
    unknown("scenario", word, known.iter().map(String::as_str), "see `deadbeat list`")
}

fn unknown<'k>(
    what: &'static str,
    word: &str,
    known: impl Iterator<Item = &'k str>,
    otherwise: &str,
) -> LibraryError {
    let hint = nearest(word, known).map(|near| format!("did you mean `{near}`?"));
    let hint = hint.unwrap_or_else(|| otherwise.to_owned());
    LibraryError::Unknown { what, word: word.to_owned(), hint: format!("\n(hint: {hint})") }
}

/// The subjects that the `--subject` words mean (none: `reference`).
///
/// A word is `SUBJECT` or `SUBJECT@VARIANT`. `SUBJECT` with a `/` is a folder; else it is
/// `./scenarios/subjects/SUBJECT`, then `./SUBJECT`, then an embedded one. `zoo` alone means each
/// of its planted bugs: its plain subject has none.
///
/// # Errors
/// A word means nothing, or a subject file is wrong.
pub fn select_subjects(words: &[String], cwd: &Path) -> Result<Vec<SubjectChoice>, LibraryError> {
    let default = [SUBJECT_DEFAULT.to_owned()];
    let words = if words.is_empty() { &default[..] } else { words };
    let mut choices: Vec<SubjectChoice> = Vec::new();
    for word in words {
        let choice = select_subject(word, cwd)?;
        match choices.iter_mut().find(|known| known.files == choice.files) {
            Some(known) => {
                let new = choice.variants.into_iter();
                let new: Vec<_> = new.filter(|one| !known.variants.contains(one)).collect();
                known.variants.extend(new);
            }
            None => choices.push(choice),
        }
    }
    Ok(choices)
}

fn select_subject(word: &str, cwd: &Path) -> Result<SubjectChoice, LibraryError> {
    // An `@` of a parent folder is no variant.
    let (name, variant) = match word.rsplit_once('@') {
        Some((name, variant)) if !variant.contains('/') => (name, Some(variant)),
        _ => (word, None),
    };
    let files = find_subject(name, cwd)?;
    let subject = load_subject(name, &files)?;
    let variants = match variant {
        Some(variant) if subject.variants.contains_key(variant) => vec![variant.to_owned()],
        Some(variant) => {
            let known = subject.variants.keys().map(String::as_str);
            let all: Vec<&str> = known.clone().collect();
            let otherwise = format!("its variants: {}", all.join(", "));
            return Err(unknown("variant", variant, known, &otherwise));
        }
        None => {
            let has_bug = |(_, variant): &(&String, &Variant)| variant.planted.is_some();
            let bugs: Vec<String> =
                subject.variants.iter().filter(has_bug).map(|(name, _)| name.clone()).collect();
            if bugs.is_empty() { vec![Subject::DEFAULT.to_owned()] } else { bugs }
        }
    };
    Ok(SubjectChoice { subject, variants, files })
}

fn find_subject(name: &str, cwd: &Path) -> Result<SubjectFiles, LibraryError> {
    if name.contains('/') {
        return Ok(SubjectFiles::Folder(cwd.join(name)));
    }
    let folders = [cwd.join("scenarios/subjects").join(name), cwd.join(name)];
    // An empty name would make `./` a subject.
    let folder =
        folders.into_iter().find(|folder| !name.is_empty() && folder.join(SUBJECT_FILE).is_file());
    if let Some(folder) = folder {
        return Ok(SubjectFiles::Folder(folder));
    }
    let embedded = embedded_subjects().iter().find(|(known, _)| *known == name);
    embedded.map(|(_, files)| SubjectFiles::Embedded(files)).ok_or_else(|| {
        let known = embedded_subjects().iter().map(|(known, _)| *known);
        let all: Vec<&str> = known.clone().collect();
        let otherwise = format!("a folder with a `/` in its name, or one of: {}", all.join(", "));
        unknown("subject", name, known, &otherwise)
    })
}

fn load_subject(name: &str, files: &SubjectFiles) -> Result<Subject, LibraryError> {
    match files {
        SubjectFiles::Folder(folder) => {
            let path = folder.join(SUBJECT_FILE);
            Ok(parse_subject(&path.display().to_string(), text(&path, &read(&path)?)?)?)
        }
        SubjectFiles::Embedded(files) => {
            let path = format!("scenarios/subjects/{name}/{SUBJECT_FILE}");
            let file = files.iter().find(|file| file.path == SUBJECT_FILE);
            let file = file.expect("the build embeds only folders that have one");
            Ok(parse_subject(&path, text(Path::new(&path), file.bytes)?)?)
        }
    }
}

/// Reads a plain file of bounded length. A pipe or a device would block or never end.
fn read(path: &Path) -> Result<Vec<u8>, LibraryError> {
    let failed = |source| LibraryError::Read { path: path.to_owned(), source };
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no plain file")));
    }
    let limit = u64::try_from(FILE_BYTES_MAX).expect("a mebibyte fits");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(LibraryError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn text<'b>(path: &Path, bytes: &'b [u8]) -> Result<&'b str, LibraryError> {
    std::str::from_utf8(bytes).map_err(|error| LibraryError::NotText {
        path: path.to_owned(),
        at: error.valid_up_to() + 1,
    })
}
