//! File times: the kernel stamps files by the machine's clock; here they get the run's.
//!
//! A run's virtual epoch lies years after the machine's clock, so a stamp close to the latter was
//! made by the kernel, and no program of the run can have asked for it. ctime and btime cannot be
//! set and stay real.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::time::Nanos;

/// How far a stamp by the kernel may lie from when it is looked at: a stalled machine included.
const NEAR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many files a deed's traces are looked for on.
const WALK_MAX: usize = 100_000;

/// A time stamp that leaves the file's own.
const OMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };

/// Replaces the times of a file that the kernel has set, or that are too fine for the world.
///
/// Gives what the file was before; a file that is gone needs no stamp.
pub(crate) fn correct(
    path: &Path,
    follow: bool,
    shown: SystemTime,
    grain: Option<Nanos>,
) -> Option<Metadata> {
    correct_near(path, follow, SystemTime::now(), shown, grain)
}

fn correct_near(
    path: &Path,
    follow: bool,
    made_at: SystemTime,
    shown: SystemTime,
    grain: Option<Nanos>,
) -> Option<Metadata> {
    let meta = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let meta = meta.ok()?;
    let right = |seconds: i64, nanos: i64| {
        let was = time(seconds, nanos);
        let is_by_kernel = was.is_some_and(|was| distance(was, made_at) < NEAR);
        let becomes = if is_by_kernel { Some(shown) } else { was };
        let becomes = becomes.map(|becomes| coarse(becomes, grain));
        if becomes == was { OMIT } else { becomes.map_or(OMIT, spec) }
    };
    let times = Timestamps {
        last_access: right(meta.atime(), meta.atime_nsec()),
        last_modification: right(meta.mtime(), meta.mtime_nsec()),
    };
    if times.last_access != OMIT || times.last_modification != OMIT {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let _ = utimensat(CWD, path, &times, flags);
    }
    Some(meta)
}

/// The same for everything below a folder, after the harness has changed files there.
pub(crate) fn correct_below(
    folder: &Path,
    made_at: SystemTime,
    shown: SystemTime,
    grain: Option<Nanos>,
) {
    let mut folders = vec![folder.to_path_buf()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > WALK_MAX {
                return;
            }
            correct_near(&entry.path(), false, made_at, shown, grain);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
        correct_near(&folder, false, made_at, shown, grain);
    }
}

fn time(seconds: i64, nanos: i64) -> Option<SystemTime> {
    let nanos = u64::try_from(nanos).ok()?;
    let whole =
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))?;
    whole.checked_add(Duration::from_nanos(nanos))
}

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

fn coarse(time: SystemTime, grain: Option<Nanos>) -> SystemTime {
    let Some(grain) = grain.filter(|grain| grain.0 > 0) else { return time };
    let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else { return time };
    let too_fine = u64::try_from(since.as_nanos() % u128::from(grain.0)).unwrap_or(0);
    time - Duration::from_nanos(too_fine)
}

fn spec(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tv_sec = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: i64::from(since.subsec_nanos()) }
}
