//! Names as the kernel would find them: every folder resolved.
//!
//! # Invariant
//! What is remembered of a folder holds until a name changes: every call that can change one stops
//! for us, is told here before it is made, and nothing is remembered from then until everything
//! stands still. Other programs of this machine do not reach the run's files, and are
//! not expected to rename what leads there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

const LINKS_MAX: usize = 16;
/// How many folders are remembered.
const KNOWN_MAX: usize = 4096;

/// Where folders lead.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    known: BTreeMap<PathBuf, PathBuf>,
    is_changing: bool,
}

impl Folders {
    /// A name is about to change, or has just changed.
    pub(crate) fn change(&mut self) {
        self.known.clear();
        self.is_changing = true;
    }

    /// Everything stands still: no change is on its way.
    pub(crate) fn settle(&mut self) {
        self.is_changing = false;
    }

    /// The name that the kernel would find for `path`, which is absolute; the last part is
    /// resolved only if `follow`, and its attributes are then given as well.
    pub(crate) fn resolve(
        &mut self,
        tid: i32,
        path: &Path,
        follow: bool,
    ) -> (PathBuf, Option<Option<Metadata>>) {
        let mut path = own_names(tid, path);
        for _ in 0..LINKS_MAX {
            let is_plain = matches!(path.components().next_back(), Some(Component::Normal(_)));
            let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), is_plain)
            else {
                return (real_folder(&path), None);
            };
            let found = self.folder(parent).join(name);
            if !follow {
                return (found, None);
            }
            let meta = fs::symlink_metadata(&found).ok();
            if !meta.as_ref().is_some_and(Metadata::is_symlink) {
                return (found, Some(meta));
            }
            let Ok(target) = fs::read_link(&found) else { return (found, None) };
            // A magic link (/proc/PID/fd/N) of something without a name stays as it is.
            if !target.is_absolute() && found.starts_with("/proc") {
                return (found, None);
            }
            let next = found.parent().unwrap_or(Path::new("/")).join(target);
            path = Cow::Owned(own_names(tid, &next).into_owned());
        }
        (path.into_owned(), None)
    }

    fn folder(&mut self, path: &Path) -> PathBuf {
        if let Some(real) = self.known.get(path) {
            return real.clone();
        }
        let real = real_folder(path);
        // Links in /proc change by themselves.
        if !self.is_changing && !path.starts_with("/proc") {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(path.to_path_buf(), real.clone());
        }
        real
    }
}

/// Names that mean another file for each process.
fn own_names(tid: i32, path: &Path) -> Cow<'_, Path> {
    let fd = |rest: &Path| PathBuf::from(format!("/proc/{tid}/fd")).join(rest);
    let own = |rest: &Path| PathBuf::from(format!("/proc/{tid}")).join(rest);
    if !path.starts_with("/proc") && !path.starts_with("/dev") {
        Cow::Borrowed(path)
    } else if let Ok(rest) = path.strip_prefix("/proc/self") {
        Cow::Owned(own(rest))
    } else if let Ok(rest) = path.strip_prefix("/proc/thread-self") {
        Cow::Owned(own(rest))
    } else if let Ok(rest) = path.strip_prefix("/dev/fd") {
        Cow::Owned(fd(rest))
    } else if path == Path::new("/dev/stdin") {
        Cow::Owned(fd(Path::new("0")))
    } else if path == Path::new("/dev/stdout") {
        Cow::Owned(fd(Path::new("1")))
    } else if path == Path::new("/dev/stderr") {
        Cow::Owned(fd(Path::new("2")))
    } else {
        Cow::Borrowed(path)
    }
}

/// A folder without symbolic links and dots; what does not exist is kept as it is written.
fn real_folder(path: &Path) -> PathBuf {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    if let Ok(file) = opened
        && let Ok(real) = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
    {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real_folder(parent).join(name),
        _ => path.to_path_buf(),
    }
}
