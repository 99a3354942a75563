//! The operation vocabulary that every engine shares: who did what to which file.
//!
//! Paths are relative to the run's lock directory (`{dir}`), with `""` for the directory itself.
//! Bytes that are not UTF-8 are shown with the replacement character.

use serde::{Deserialize, Serialize};

use crate::role::Role;

macro_rules! op_kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What kind of operation a process made. The first group can be named in a scenario.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "kebab-case")]
        pub enum OpKind { $($(#[$doc])* $name),+ }

        impl OpKind {
            /// Every kind, in the order of CONTRACTS.
            pub const ALL: &[OpKind] = &[$(OpKind::$name),+];

            /// The word a scenario uses.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(OpKind::$name => $text),+ }
            }
        }
    };
}

op_kinds! {
    /// A file's times are set: `utimensat` and its older spellings.
    Utimes = "utimes",
    /// Bytes are written through a descriptor.
    Write = "write",
    /// The length is set, by `truncate`, `ftruncate` or `O_TRUNC`.
    Truncate = "truncate",
    /// A file is created by opening it.
    Create = "create",
    /// An existing file is opened.
    Open = "open",
    /// A folder is made.
    Mkdir = "mkdir",
    /// A name is moved.
    Rename = "rename",
    /// A second name is made.
    Link = "link",
    /// A symbolic link is made.
    Symlink = "symlink",
    /// A name is removed.
    Unlink = "unlink",
    /// A folder is removed.
    Rmdir = "rmdir",
    /// Attributes or accessibility are asked for (`stat`, `access`).
    Stat = "stat",
    /// Bytes are read.
    Read = "read",
    /// A folder is listed.
    Readdir = "readdir",
    /// The mode is set.
    Chmod = "chmod",
    /// The owner is set.
    Chown = "chown",
    /// Data is flushed to disk.
    Fsync = "fsync",
    /// A descriptor is closed.
    Close = "close",
    /// A whole-file lock (`flock`).
    Flock = "flock",
    /// A record lock (`fcntl`).
    FcntlLock = "fcntl-lock",
    /// Free space is asked for.
    Statfs = "statfs",
    /// A thread is created.
    Thread = "thread",
    /// A name was looked up on the way to something else. Only seen, never failed.
    Lookup = "lookup",
    /// Anything else that reached the engine. Only seen, never failed.
    Other = "other",
}

impl OpKind {
    /// Whether a scenario can name this kind.
    #[must_use]
    pub fn is_nameable(self) -> bool {
        !matches!(self, OpKind::Lookup | OpKind::Other)
    }

    /// The kind that a scenario calls `text`.
    #[must_use]
    pub fn named(text: &str) -> Option<OpKind> {
        OpKind::ALL.iter().copied().find(|kind| kind.is_nameable() && kind.as_str() == text)
    }

    /// The kinds that refresh a lock when they hit a heartbeat path.
    pub const REFRESH: &[OpKind] = &[
        OpKind::Utimes,
        OpKind::Write,
        OpKind::Truncate,
        OpKind::Create,
        OpKind::Rename,
        OpKind::Link,
    ];
}

/// The number of one operation; unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub u64);

/// A Linux errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Errno(pub i32);

/// One operation of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Its number.
    pub id: OpId,
    /// Whose process made it.
    pub role: Role,
    /// What it is.
    pub kind: OpKind,
    /// Whether it also sets the length to zero (`O_TRUNC`), so that it is a `truncate` as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncates: bool,
    /// Every known name of the file, the one that was used first.
    pub paths: Vec<String>,
    /// The new name of a rename, link or symlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether a descriptor named the file, rather than a path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_descriptor: bool,
    /// Whether the file had already lost its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlinked: bool,
    /// The file's inode number where one was known; identifies a file within a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
}

impl Op {
    /// The name that the process used.
    #[must_use]
    pub fn path(&self) -> &str {
        self.paths.first().map_or("", String::as_str)
    }

    /// The file that a refresh would refresh: the new name of a rename or link, else every name.
    pub fn refreshed_paths(&self) -> impl Iterator<Item = &str> {
        let moved = matches!(self.kind, OpKind::Rename | OpKind::Link | OpKind::Symlink);
        let names = if moved { &[][..] } else { &self.paths[..] };
        names.iter().map(String::as_str).chain(self.to.as_deref().filter(|_| moved))
    }

    /// Every path that the operation touches.
    pub fn all_paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str).chain(self.to.as_deref())
    }

    /// Whether the operation is of `kind` (opening with `O_TRUNC` is a truncate as well).
    #[must_use]
    pub fn is(&self, kind: OpKind) -> bool {
        self.kind == kind || (kind == OpKind::Truncate && self.truncates)
    }

    /// Whether the operation is of a kind that can refresh a lock.
    #[must_use]
    pub fn can_refresh(&self) -> bool {
        OpKind::REFRESH.iter().any(|kind| self.is(*kind))
    }
}

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the process was told: bytes or 0, or an errno.
    pub told: Result<u64, Errno>,
    /// Whether the file system really carried it out (in part, for a short write).
    pub effect: bool,
    /// The inode of the file afterwards, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
}
