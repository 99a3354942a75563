//! What the harness and a run's supervisor say to each other, one JSON value a line.
//!
//! Harness to supervisor: a [`Job`]; then its end of the pipe stays open, and closing it ends the
//! run. Supervisor to harness: one [`Line::Cell`], then the history event by event. Where the same
//! namespaces can hold another run after it, [`Line::Ready`] follows, and the harness may send the
//! next job; else both pipes are closed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::footing::Footing;
use crate::history::Event;
use crate::plan::Plan;

/// Everything the supervisor must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What to carry out.
    pub(crate) plan: Plan,
    /// The subject's prepared folder.
    pub(crate) subject: PathBuf,
    /// The deadbeat program.
    pub(crate) deadbeat: PathBuf,
    /// A folder on the file system under test, made for this run; `None`: a tmpfs. There is one
    /// always where there are no namespaces.
    pub(crate) scratch: Option<PathBuf>,
    /// Roles run as this user and group; `None`: as the user who runs deadbeat.
    pub(crate) user: Option<u32>,
    /// The cpu that everything is pinned to.
    pub(crate) cpu: Option<usize>,
    /// How far the run is apart from the machine.
    pub(crate) footing: Footing,
}

/// One line from the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The supervisor's pid, seen from the harness.
    Cell(i32),
    /// One event.
    Event(Event),
    /// Nothing of the run is left, and another may begin.
    Ready,
}
