//! Folders of runs on the file system under test.

use std::io;
use std::path::Path;

use super::EngineError;

/// A folder of the run's own on the file system under test. It is removed when it is dropped;
/// one whose harness was killed is removed by the next run there, because its lock is free.
pub(crate) fn scratch_folder(parent: &Path) -> Result<tempfile::TempDir, EngineError> {
    let step = |what: &str| {
        let what = format!("{what} {}", parent.display());
        move |source: io::Error| EngineError::Step { what, source }
    };
    sweep(parent).map_err(step("sweep"))?;
    let folder = tempfile::Builder::new()
        .prefix(SCRATCH_PREFIX)
        .tempdir_in(parent)
        .map_err(step("make a run folder in"))?;
    hold_for_life(folder.path()).map_err(step("lock a run folder in"))?;
    Ok(folder)
}

const SCRATCH_PREFIX: &str = "deadbeat-run-";
const SCRATCH_LOCK: &str = ".owner";

/// Takes a flock that ends with this process: the descriptor is never closed.
fn hold_for_life(folder: &Path) -> io::Result<()> {
    let file = std::fs::File::create(folder.join(SCRATCH_LOCK))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    std::mem::forget(file);
    Ok(())
}

fn sweep(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(SCRATCH_PREFIX) {
            continue;
        }
        let Ok(file) = std::fs::File::open(path.join(SCRATCH_LOCK)) else { continue };
        let lock = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if lock.is_ok() {
            // Another sweeper may be faster.
            let _ = std::fs::remove_dir_all(path);
        }
    }
    Ok(())
}

/// The name of the file system that holds `path`, for the report.
#[must_use]
pub fn file_system_of(path: Option<&Path>) -> String {
    let Some(path) = path else { return "tmpfs".to_owned() };
    let Ok(found) = rustix::fs::statfs(path) else { return "unknown".to_owned() };
    match found.f_type {
        0x0102_1994 => "tmpfs".to_owned(),
        0xef53 => "ext4".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x6969 => "nfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        0x6573_5546 => "fuse".to_owned(),
        other => format!("{other:#x}"),
    }
}
