//! What a hanging or slow operation had found before it was held.
//!
//! A file system that does not answer has looked the path up already: it holds the file, or the
//! folder that a name is to be made or removed in. What is renamed or replaced meanwhile is no
//! concern of the operation. Here it has not been made yet when it is held, so what its
//! path leads to is pinned, and looked at again when it is let go. (A process that is *stopped*
//! before the operation has looked nothing up; its path is found afterwards.)

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::arch_x86_64::Regs;
use super::decode::Call;
use super::sys;
use crate::op::{Op, OpKind};

/// How far below its stack a thread's memory is written: beyond what a leaf function may keep
/// there (128 bytes), and with room for two paths.
const BELOW_STACK: u64 = 16 << 10;
/// The longest path, with its end.
const PATH_BYTES: u64 = 4096;

/// What an operation had found.
#[derive(Debug)]
pub(crate) struct Pin {
    places: Vec<Place>,
}

/// One path of a call.
#[derive(Debug)]
struct Place {
    /// What its path led to: the file itself, or the folder of its name.
    object: File,
    /// By what path.
    path: PathBuf,
    /// The name in the folder; `None`: the object is the file itself.
    name: Option<PathBuf>,
    /// Where the thread keeps the path.
    address: u64,
}

/// How a pinned operation goes on.
#[derive(Debug)]
pub(crate) enum GoesOn {
    /// As it was asked for, with these registers.
    With(Box<Regs>),
    /// It fails: the folder is gone.
    Fails(i32),
    /// It acts on a file that no name leads to any more.
    OnGhost,
}

impl Pin {
    /// Pins what the call's paths lead to now; `None` for what needs none.
    pub(crate) fn of(op: &Op, call: &Call) -> Option<Pin> {
        if call.first.by_descriptor {
            return None;
        }
        let by_name = matches!(
            op.kind,
            OpKind::Create
                | OpKind::Mkdir
                | OpKind::Unlink
                | OpKind::Rmdir
                | OpKind::Rename
                | OpKind::Link
                | OpKind::Symlink
        );
        let files = [Some(&call.first), call.second.as_ref()].into_iter().flatten();
        let places = files.filter_map(|file| {
            let address = file.text_at?;
            let (held, name) = match (by_name, file.path.parent(), file.path.file_name()) {
                (true, Some(parent), Some(name)) => (parent, Some(PathBuf::from(name))),
                _ => (file.path.as_path(), None),
            };
            let object = open_path(held)?;
            Some(Place { object, path: held.to_path_buf(), name, address })
        });
        let places: Vec<Place> = places.collect();
        (!places.is_empty()).then_some(Pin { places })
    }

    /// How the operation goes on, now that it is let go.
    pub(crate) fn let_go(&self, tid: i32, op: &Op, regs: &Regs) -> GoesOn {
        let mut regs = *regs;
        for (number, place) in (0..).zip(&self.places) {
            if place.is_in_place() {
                continue;
            }
            let Some(name) = &place.name else {
                let keeps_quiet = matches!(
                    op.kind,
                    OpKind::Utimes | OpKind::Truncate | OpKind::Chmod | OpKind::Chown
                );
                // A program that opens or asks for a ghost gets what is there instead.
                if keeps_quiet {
                    return GoesOn::OnGhost;
                }
                continue;
            };
            let Some(folder) = place.now() else { return GoesOn::Fails(libc::ENOENT) };
            let mut text = folder.join(name).as_os_str().as_bytes().to_vec();
            text.push(0);
            let at = regs.stack().saturating_sub(BELOW_STACK) + number * PATH_BYTES;
            if text.len() as u64 > PATH_BYTES || sys::write_memory(tid, at, &text).is_err() {
                return GoesOn::Fails(libc::ENOENT);
            }
            for index in 0..6 {
                if regs.arg(index) == place.address {
                    regs.set_arg(index, at);
                }
            }
        }
        GoesOn::With(Box::new(regs))
    }
}

impl Place {
    /// Whether its path still leads to it.
    fn is_in_place(&self) -> bool {
        let same = |one: &fs::Metadata, other: &fs::Metadata| {
            (one.dev(), one.ino()) == (other.dev(), other.ino())
        };
        let now = fs::symlink_metadata(&self.path).ok();
        now.zip(self.object.metadata().ok()).is_some_and(|(now, was)| same(&now, &was))
    }

    /// Where it is by now; `None`: it was removed.
    fn now(&self) -> Option<PathBuf> {
        let path = fs::read_link(format!("/proc/self/fd/{}", self.object.as_raw_fd())).ok()?;
        let is_gone = path.as_os_str().as_bytes().ends_with(b" (deleted)");
        (!is_gone).then_some(path)
    }
}

fn open_path(path: &Path) -> Option<File> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
}
