//! The contract of an engine: it carries a plan out with real processes and returns a history.
//!
//! # Promises
//! 1. Events are in the order of their effects, and an event is recorded before the process that
//!    caused it may go on.
//! 2. A fault acts on exactly the operations that its rule means, counted per role and file.
//! 3. A moment's consequences (`from`, `until`, `at`) take effect before the next operation runs.
//! 4. The witness is reached by no fault, event, full disk or permission.
//! 5. A role's death is recorded before anything that another process does because of it.
//! 6. Every bound that is hit, and everything that was left behind, is a `Trouble` event.
//! 7. When `run` returns, or deadbeat dies, nothing that the run started is left: no process, no
//!    mount, no folder.
//! 8. What an engine cannot do it refuses before the run, with the reason.

pub mod agenda;
mod anchor;
mod bare;
mod casting;
mod court;
mod deeds;
pub mod exceptions;
mod footing;
pub mod fuse;
mod ground;
mod inner;
pub(crate) mod outside;
mod scratch;
mod supervised;
mod sys;
pub mod trace;
mod wire;

pub(crate) use court::Scribe;
pub use scratch::file_system_of;
pub use supervised::DEFAULT_USER;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::history::History;
use crate::plan::Trial;

/// Runs a hidden subcommand, one of the processes that a run consists of; `None` if `name` is none.
#[must_use]
pub fn inner(name: &str, arguments: &[OsString]) -> Option<ExitCode> {
    match name {
        "__anchor" => Some(anchor::main(arguments)),
        _ => fuse::inner(name, arguments).or_else(|| trace::inner(name, arguments)),
    }
}

/// Carries plans out.
pub trait Engine: Send + Sync {
    /// Its name in flags and reports.
    fn name(&self) -> &'static str;

    /// Why the same plan does not always give the same history, if so.
    fn cannot_repeat(&self) -> Option<String> {
        Some("its time is real".to_owned())
    }

    /// What every run of this engine lacks here, for whoever reads a verdict.
    fn caveats(&self) -> &[String] {
        &[]
    }

    /// The name of the file system that runs lie on; `scratch` is where they are to, if somebody
    /// said so.
    fn file_system(&self, scratch: Option<&Path>) -> String {
        file_system_of(scratch)
    }

    /// Why this trial cannot be run by this engine, on this machine, by this user; `scratch` is
    /// where run folders are to live, if not on a tmpfs.
    fn refuses(&self, trial: &Trial, scratch: Option<&Path>) -> Option<String>;

    /// Runs the trial to its end, or until `stop` is asked for.
    ///
    /// # Errors
    /// The world failed, not the lock: the run is inconclusive.
    fn run(&self, trial: &Trial, stage: &Stage, stop: &Stop) -> Result<History, EngineError>;
}

/// Where a run takes place.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The subject's prepared folder on this machine: the working folder of its processes.
    pub subject: PathBuf,
    /// Where run folders live; `None`: a tmpfs of the run's own.
    pub scratch: Option<PathBuf>,
    /// Which worker runs it, from 0: workers are pinned to different cpus.
    pub worker: usize,
}

/// A request to stop, shared by every worker. The first Ctrl-C sets it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks every run to end now.
    pub fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The world failed, not the lock. Becomes `inconclusive`; never a pass, never a violation.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A step of setting up or carrying out a run failed.
    #[error("{what} failed")]
    Step {
        /// What was being done, and to what.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The engine's own process ended without a complete history.
    #[error("the run's supervisor ended early: {how}")]
    Supervisor {
        /// Its status and last words.
        how: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}
