//! One look of a contender at a lock.
//!
//! An error says nothing about the lock, least of all that it is free: it ends the look.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::files::{Identity, Stamp, open_warily, present};
use crate::judge::{Found, Life, Process, Seen};
use crate::owner::{BadRecord, Here, Owner, Place, RECORD_BYTES_MAX};
use crate::place::{BEAT, OWNER};

/// What a look came to.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) seen: Seen,
    /// What moves when the lock lives; `None` where that need not be watched.
    pub(crate) signs: Option<Signs>,
    pub(crate) owner: Option<Owner>,
}

/// Everything of a lock that an owner or a third party may change. Two that are equal say that the
/// lock was silent in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signs {
    pub(crate) folder: Stamp,
    record: Option<(Stamp, Vec<u8>)>,
    beat: Option<Stamp>,
}

/// Looks at what is at `lock` now.
pub(crate) fn look(lock: &Path, here: &Here) -> io::Result<Look> {
    let nothing_more = |found| Look {
        seen: Seen { found, life: Life::NotAsked, process: Process::Unseen },
        signs: None,
        owner: None,
    };
    let Some(folder) = present(fs::symlink_metadata(lock))? else {
        return Ok(nothing_more(Found::Nothing));
    };
    if !folder.is_dir() {
        return Ok(nothing_more(Found::NotAFolder));
    }
    let file = present(open_warily(&lock.join(OWNER)))?;
    if file.is_none() && is_listed(lock, OWNER)? {
        return Err(io::Error::other("the lock's record is listed, and cannot be found"));
    }
    let record = file.as_ref().map(read_record).transpose()?;
    let read = record.as_ref().map(|(_, bytes)| Owner::from_record(bytes));
    if read == Some(Err(BadRecord::Future)) {
        return Ok(nothing_more(Found::Future));
    }
    let owner = read.and_then(Result::ok);
    let found = if owner.is_some() { Found::Readable } else { Found::Unreadable };
    let place = owner.as_ref().map(|owner| here.place_of(owner));
    let life = match &file {
        Some(file) if place != Some(Place::Elsewhere) => life(file)?,
        _ => Life::NotAsked,
    };
    if life == Life::Held {
        // The kernel has spoken; nothing else would change it.
        let seen = Seen { found, life, process: Process::Unseen };
        return Ok(Look { seen, signs: None, owner });
    }
    let process = match &owner {
        Some(owner) if place == Some(Place::InSight) => here.process_of(owner),
        _ => Process::Unseen,
    };
    // Opened rather than looked up by name: opening makes a network file system ask its server
    // (nfs(5), close-to-open consistency).
    let beat = present(open_warily(&lock.join(BEAT)))?;
    let beat = beat.map(|beat| beat.metadata()).transpose()?.map(|meta| Stamp::of(&meta));
    let signs = Signs { folder: Stamp::of(&folder), record, beat };
    Ok(Look { seen: Seen { found, life, process }, signs: Some(signs), owner })
}

impl Look {
    /// The folder that was looked at.
    pub(crate) fn folder(&self) -> Option<Identity> {
        self.signs.as_ref().map(|signs| signs.folder.identity)
    }
}

fn read_record(file: &File) -> io::Result<(Stamp, Vec<u8>)> {
    let meta = file.metadata()?;
    let mut bytes = Vec::new();
    if meta.is_file() && meta.size() > 0 {
        file.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    }
    Ok((Stamp::of(&meta), bytes))
}

/// Whether a process has the life lock. Asking takes a shared flock for a moment, which keeps
/// nobody out: an owner takes its own before anybody can see its record.
fn life(record: &File) -> io::Result<Life> {
    match flock(record, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Life::Free),
        Err(Errno::WOULDBLOCK) => Ok(Life::Held),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a folder's listing has a name. A name that is listed and cannot be found is a
/// contradiction, and nothing follows from one.
fn is_listed(folder: &Path, name: &str) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.file_name() == name {
            return Ok(true);
        }
    }
    Ok(false)
}
