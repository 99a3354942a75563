//! Makes a subject's folder ready to run, once, in a cache: copies it, runs its `[setup]`, checks
//! its `needs`.
//!
//! # Invariants
//! - The subject's own folder is only read. What `npm ci` and the like make goes to the copy.
//! - A folder in the cache is complete: it is built beside its place, under a lock, and renamed
//!   when everything worked. What an interrupted set-up left is removed by the next one.
//! - The name of a folder contains the hash of everything that went into it, so an edited subject
//!   is set up again and an unchanged one never is.
//! - Everything has a bound: files, bytes, time, output.

mod bounded;
mod files;
mod needs;
mod sys;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::engine::DEFAULT_USER;
use crate::engine::Stop;
use crate::scenario::Need;
use crate::scenario::library::SubjectFiles;
use files::Manifest;

pub use bounded::printable;
pub(crate) use bounded::{Bounds, Finished, run_bounded};
pub(crate) use needs::version_of;

/// How long `[setup] argv` may take.
const SETUP_MAX: Duration = Duration::from_secs(600);
/// How long we wait for another deadbeat that sets up the same subject.
const LOCK_MAX: Duration = Duration::from_secs(900);
/// How often a wait looks whether it was interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of the set-up's output is kept: its end, which says what went wrong.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How many lines of it an error shows.
const OUTPUT_LINES_SHOWN: usize = 20;

/// What is to be prepared.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The subject's name, for the folder and for messages.
    pub name: &'a str,
    /// Where its files are.
    pub files: &'a SubjectFiles,
    /// `[setup] needs`.
    pub needs: &'a [Need],
    /// `[setup] argv`; empty: nothing to run.
    pub argv: &'a [String],
}

/// A folder that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The working folder of the subject's processes. Every user may read it.
    pub dir: PathBuf,
}

/// Why a subject cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It needs something that is not here: its scenarios are skipped, with this reason.
    #[error("{0}")]
    Missing(String),
    /// Its set-up went wrong: its scenarios are inconclusive.
    #[error("set-up of `{name}` failed: {why}")]
    Failed {
        /// The subject.
        name: String,
        /// What happened, with the end of the output.
        why: String,
    },
    /// A file operation of ours failed.
    #[error("{op} {} failed", path.display())]
    Io {
        /// What was done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The folder is no subject's folder.
    #[error("subject folder {} {why}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, and which bound it hit.
        why: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl SetupError {
    fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
        let path = path.to_owned();
        move |source| SetupError::Io { op, path, source }
    }
}

/// Where prepared folders live: `$XDG_CACHE_HOME/deadbeat`, by default `~/.cache/deadbeat`.
///
/// # Errors
/// Neither variable is set.
pub fn cache_dir() -> Result<PathBuf, SetupError> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let none = || {
        let why = "there is no place for the set-up cache: XDG_CACHE_HOME and HOME are not set";
        SetupError::Missing(why.to_owned())
    };
    Ok(cache.ok_or_else(none)?.join("deadbeat"))
}

/// The user that the roles run as: nobody in particular, if we are root, since root passes every
/// permission check.
#[must_use]
pub fn role_user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(DEFAULT_USER)
}

/// The first need that is not met here, without preparing anything.
#[must_use]
pub fn unmet_need(order: &Order<'_>, stop: &Stop) -> Option<String> {
    let check = |need| needs::check(need, role_user(), stop).err();
    order.needs.iter().find_map(check).map(|error| error.to_string())
}

/// Checks the needs, and copies and sets up the folder unless an earlier run did.
///
/// # Errors
/// Something is missing, went wrong, or hit a bound; or `stop` was asked for.
pub fn prepare(order: &Order<'_>, cache: &Path, stop: &Stop) -> Result<Prepared, SetupError> {
    for need in order.needs {
        needs::check(need, role_user(), stop)?;
    }
    let manifest = Manifest::of(order.files)?;
    let key = format!("{}-{}", safe_name(order.name), manifest.key(order.argv));
    let shelf = cache.join("subjects");
    std::fs::create_dir_all(&shelf).map_err(SetupError::io("create folder", &shelf))?;
    let place = shelf.join(&key);
    let _guard = lock(&shelf.join(format!("{key}.lock")), stop)?;
    if place.is_dir() {
        return Ok(Prepared { dir: place });
    }
    let partial = Partial::new(shelf.join(format!("{key}.partial")))?;
    manifest.copy_to(&partial.path)?;
    if !order.argv.is_empty() {
        run_setup(order, &partial.path, stop)?;
    }
    files::make_readable(&partial.path)?;
    std::fs::rename(&partial.path, &place).map_err(SetupError::io("rename to", &place))?;
    Ok(Prepared { dir: place })
}

/// A folder that is removed unless it was renamed away.
#[must_use]
struct Partial {
    path: PathBuf,
}

impl Partial {
    /// Makes it, after removing what an interrupted set-up left. The caller holds the lock.
    fn new(path: PathBuf) -> Result<Partial, SetupError> {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SetupError::io("remove", &path)(error));
            }
            _ => {}
        }
        std::fs::create_dir(&path).map_err(SetupError::io("create folder", &path))?;
        Ok(Partial { path })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename there is nothing here any more, and an error leaves what the next
        // set-up removes.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Waits for the lock file, so that two runs never set up the same folder at once. The kernel
/// frees it with the last descriptor, however we die.
fn lock(path: &Path, stop: &Stop) -> Result<std::fs::File, SetupError> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let file = opened.map_err(SetupError::io("open", path))?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if stop.asked() => {
                return Err(SetupError::Interrupted);
            }
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < LOCK_MAX => {
                // flock(2) has no time limit, and a blocked one would not hear a Ctrl-C.
                std::thread::sleep(LOOK_EVERY);
            }
            Err(errno) => return Err(SetupError::io("lock", path)(errno.into())),
        }
    }
}

fn run_setup(order: &Order<'_>, dir: &Path, stop: &Stop) -> Result<(), SetupError> {
    let mut command = Command::new(&order.argv[0]);
    command.args(&order.argv[1..]).current_dir(dir);
    let bounds = Bounds { time: SETUP_MAX, output_bytes: OUTPUT_BYTES_MAX };
    let failed = |why: String| SetupError::Failed { name: order.name.to_owned(), why };
    let shown = printable(&order.argv.join(" "));
    let (finished, output) = run_bounded(command, bounds, stop)
        .map_err(|error| failed(format!("`{shown}` could not be started: {error}")))?;
    let how = match finished {
        Finished::Exited(status) if status.success() => return Ok(()),
        Finished::Exited(status) => format!("`{shown}` ended with {status}"),
        Finished::TimedOut => format!("`{shown}` took longer than {} s", SETUP_MAX.as_secs()),
        Finished::Interrupted => return Err(SetupError::Interrupted),
    };
    Err(failed(format!("{how}{}", last_lines(&output))))
}

/// The end of some output, indented, safe to print.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let from = lines.len().saturating_sub(OUTPUT_LINES_SHOWN);
    lines[from..].iter().map(|line| format!("\n    {}", printable(line))).collect()
}

/// A name that is a file name, whatever the subject calls itself.
fn safe_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let safe: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(64).collect();
    safe.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
