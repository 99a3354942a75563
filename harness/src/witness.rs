//! The witness protocol: what a process says of itself, and the resource that checks tokens.
//!
//! The witness is outside the lock. One line is one event; the engine knows who wrote it, and
//! records it before the write returns, so the order of lines is the order of effects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::moment::Sign;

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 4096;

/// One line of the witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Said {
    /// Inside the critical section from now.
    Entered {
        /// The fencing token, if the lock gives one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// One protected write.
    Wrote {
        /// The fencing token, if the lock gives one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// A beat failed; the lock is still owned.
    Degraded {
        /// `op`, `path`, `errno` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// Beats work again.
    Healthy,
    /// Ownership is gone or in doubt.
    Lost {
        /// `reason` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// Protected work stopped early.
    Aborted,
    /// Outside from now.
    Left,
    /// The release returned.
    Released,
    /// The release returned an error.
    ReleaseFailed {
        /// `reason` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// Patience ended.
    GaveUp,
    /// Anything else went wrong.
    Failed {
        /// In the adapter's words.
        text: String,
    },
    /// No line of the protocol.
    Garbage {
        /// As much of it as is worth showing.
        text: String,
    },
}

impl Said {
    /// The sign that a moment can wait for.
    #[must_use]
    pub fn sign(&self) -> Option<Sign> {
        Some(match self {
            Said::Entered { .. } => Sign::Entered,
            Said::Wrote { .. } => Sign::Wrote,
            Said::Degraded { .. } => Sign::Degraded,
            Said::Healthy => Sign::Healthy,
            Said::Lost { .. } => Sign::Lost,
            Said::Aborted => Sign::Aborted,
            Said::Left => Sign::Left,
            Said::Released => Sign::Released,
            Said::GaveUp => Sign::GaveUp,
            Said::ReleaseFailed { .. } | Said::Failed { .. } | Said::Garbage { .. } => return None,
        })
    }

    /// The word of the line.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Said::ReleaseFailed { .. } => "release-failed",
            Said::Failed { .. } => "failed",
            Said::Garbage { .. } => "garbage",
            other => other.sign().expect("only the three above have no sign").as_str(),
        }
    }
}
