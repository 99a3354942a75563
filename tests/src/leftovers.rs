//! What a run may leave on the machine outside its report: nothing. Processes, mounts, and temp
//! folders are compared before and after.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to end what was killed.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// What is on the machine that may be deadbeat's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Processes whose program is deadbeat, by pid and command line.
    pub processes: BTreeSet<String>,
    /// Lines of the mount table that name deadbeat.
    pub mounts: BTreeSet<String>,
    /// Entries of the temp folders that are called after deadbeat.
    pub folders: BTreeSet<PathBuf>,
}

impl Scene {
    /// What is there now.
    #[must_use]
    pub fn now() -> Scene {
        Scene { processes: processes(), mounts: mounts(), folders: folders() }
    }

    /// What is there now and was not there then. Waits for what is still ending.
    #[must_use]
    pub fn left_since(&self) -> Scene {
        let started = Instant::now();
        loop {
            let now = Scene::now();
            let left = Scene {
                processes: now.processes.difference(&self.processes).cloned().collect(),
                mounts: now.mounts.difference(&self.mounts).cloned().collect(),
                folders: now.folders.difference(&self.folders).cloned().collect(),
            };
            if left == Scene::default() || started.elapsed() > SETTLE_MAX {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails if there is anything now that was not there then.
    ///
    /// # Panics
    /// With a list of it.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = self.left_since();
        assert_eq!(left, Scene::default(), "left behind: {left:#?}");
    }
}

/// Processes that run a deadbeat that was built here; somebody else's is none of our business. The
/// engine runs it under other names, so it is known by its inode.
fn processes() -> BTreeSet<String> {
    let here =
        [crate::root().join("target/debug/deadbeat"), crate::built_folder().join("deadbeat")];
    let release = crate::root().join("target/release/deadbeat");
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let built: BTreeSet<(u64, u64)> =
        here.iter().chain([&release]).filter_map(|path| inode(path)).collect();
    let pids = std::fs::read_dir("/proc").expect("/proc is mounted").filter_map(Result::ok);
    let ours = pids.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let program = inode(&entry.path().join("exe"))?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        built.contains(&program).then(|| format!("{pid} {line}"))
    });
    ours.collect()
}

fn mounts() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    table.lines().filter(|line| line.contains("deadbeat")).map(str::to_owned).collect()
}

fn folders() -> BTreeSet<PathBuf> {
    let temp = std::env::temp_dir();
    let places = [temp.as_path(), Path::new("/dev/shm"), Path::new("/run")];
    let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let named =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().contains("deadbeat");
    entries.filter_map(Result::ok).filter(named).map(|entry| entry.path()).collect()
}
