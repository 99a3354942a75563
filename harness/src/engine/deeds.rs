//! What the harness does to files: the events of a scenario, carried out on the backing folder.
//!
//! A deed that matches nothing, or that the kernel refuses, is an error: it did not happen.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::ground::Ground;
use crate::fault::Target;
use crate::fault::matching::Files;
use crate::time::Nanos;

/// The file whose blocks are the ballast, and the folder whose files are inode ballast; both
/// beside `{dir}`, where no role sees them.
pub(crate) const BALLAST: &str = ".ballast";
pub(crate) const INODE_BALLAST: &str = ".ballast-inodes";

/// How many files a deed looks at.
const WALK_MAX: usize = 100_000;
/// How many bytes one write of the ballast has.
const BALLAST_CHUNK: usize = 64 << 10;

/// How to take back a deed.
#[derive(Debug)]
pub(crate) enum Undo {
    Mode(PathBuf, u32),
    Owner(PathBuf, u32, u32),
    Mutable(PathBuf),
}

/// Carries out deeds on files.
#[derive(Debug)]
pub(crate) struct Hand {
    dir: PathBuf,
    backing: PathBuf,
    files: Files,
    undo: Vec<Undo>,
}

impl Hand {
    /// A hand over the run's backing folder.
    pub(crate) fn new(ground: &Ground, files: Files) -> Hand {
        Hand {
            dir: ground.dir_on_backing(),
            backing: ground.backing().to_path_buf(),
            files,
            undo: Vec::new(),
        }
    }

    /// `remove PATH`: recursive, every match.
    pub(crate) fn remove(&self, target: &Target) -> io::Result<String> {
        self.each(target, |path| match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        })
    }

    /// `rename PATH to NAME`.
    pub(crate) fn rename(&self, target: &Target, name: &str) -> io::Result<String> {
        let to = self.dir.join(name);
        self.each(target, |path| fs::rename(path, &to))
    }

    /// `chmod MODE PATH`.
    pub(crate) fn chmod(&mut self, mode: u32, target: &Target) -> io::Result<String> {
        let mut undo = Vec::new();
        let note = self.each(target, |path| {
            undo.push(Undo::Mode(path.to_path_buf(), fs::metadata(path)?.mode() & 0o7777));
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        });
        self.undo.extend(undo);
        note
    }

    /// `chown UID PATH`.
    pub(crate) fn chown(&mut self, uid: u32, target: &Target) -> io::Result<String> {
        let mut undo = Vec::new();
        let note = self.each(target, |path| {
            let meta = fs::symlink_metadata(path)?;
            undo.push(Undo::Owner(path.to_path_buf(), meta.uid(), meta.gid()));
            lchown(path, Some(uid), None)
        });
        self.undo.extend(undo);
        note
    }

    /// `immutable PATH`.
    pub(crate) fn immutable(&mut self, target: &Target) -> io::Result<String> {
        let mut undo = Vec::new();
        let note = self.each(target, |path| {
            set_immutable(path, true)?;
            undo.push(Undo::Mutable(path.to_path_buf()));
            Ok(())
        });
        self.undo.extend(undo);
        note
    }

    /// `truncate PATH [to N]`.
    pub(crate) fn truncate(&self, target: &Target, length: u64) -> io::Result<String> {
        self.each(target, |path| OpenOptions::new().write(true).open(path)?.set_len(length))
    }

    /// `corrupt PATH [with "TEXT"]`: by default bytes that are neither a record nor UTF-8.
    pub(crate) fn corrupt(&self, target: &Target, text: Option<&str>) -> io::Result<String> {
        let bytes = text.map_or(&b"\xff\x00\xfe{{ not a record"[..], str::as_bytes);
        self.each(target, |path| {
            let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
            file.write_all(bytes)
        })
    }

    /// `touch PATH [back D]`.
    pub(crate) fn touch(&self, target: &Target, back: Nanos) -> io::Result<String> {
        let back = Duration::from(back);
        self.each(target, |path| {
            let then = SystemTime::now().checked_sub(back).unwrap_or(SystemTime::UNIX_EPOCH);
            File::open(path)?.set_times(FileTimes::new().set_modified(then))
        })
    }

    /// `fill blocks [leave N]`.
    pub(crate) fn fill_blocks(&self, leave: u64) -> io::Result<String> {
        let path = self.backing.join(BALLAST);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let chunk = vec![0x5a; BALLAST_CHUNK];
        loop {
            match file.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(leave))?;
        self.space_note()
    }

    /// `fill inodes [leave N]`.
    pub(crate) fn fill_inodes(&self, leave: u64) -> io::Result<String> {
        let folder = self.backing.join(INODE_BALLAST);
        fs::create_dir_all(&folder)?;
        let mut made = Vec::new();
        for number in 0..WALK_MAX {
            let path = folder.join(number.to_string());
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(_) => made.push(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        let leave = usize::try_from(leave).unwrap_or(usize::MAX);
        for path in made.iter().rev().take(leave) {
            fs::remove_file(path)?;
        }
        self.space_note()
    }

    /// `free`.
    pub(crate) fn free(&self) -> io::Result<String> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(self.backing.join(BALLAST)))?;
        gone(fs::remove_dir_all(self.backing.join(INODE_BALLAST)))?;
        self.space_note()
    }

    /// Undoes every chmod, chown and immutable, last first, and frees what was filled.
    pub(crate) fn heal(&mut self) -> io::Result<String> {
        let undo = std::mem::take(&mut self.undo);
        for deed in undo.iter().rev() {
            let undone = match deed {
                Undo::Mode(path, mode) => {
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                }
                Undo::Owner(path, uid, gid) => lchown(path, Some(*uid), Some(*gid)),
                Undo::Mutable(path) => set_immutable(path, false),
            };
            match undone {
                // The lock may have been removed or replaced meanwhile: nothing to undo then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        self.free()?;
        Ok(format!("{} undone", undo.len()))
    }

    fn space_note(&self) -> io::Result<String> {
        let space = rustix::fs::statvfs(&self.backing)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        Ok(format!("{free} bytes and {} inodes are free", space.f_favail))
    }

    /// Does `deed` to every match, and names them.
    fn each(
        &self,
        target: &Target,
        mut deed: impl FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<String> {
        let matches = self.matches(target)?;
        if matches.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it matched nothing"));
        }
        let mut names = Vec::new();
        for path in &matches {
            let name = path.strip_prefix(&self.dir).unwrap_or(path).display().to_string();
            deed(path).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
            names.push(if name.is_empty() { "the lock directory".to_owned() } else { name });
        }
        Ok(names.join(", "))
    }

    /// The topmost matches: what lies below a match belongs to it.
    fn matches(&self, target: &Target) -> io::Result<Vec<PathBuf>> {
        if *target == Target::LockDir {
            return Ok(self.dir.exists().then(|| self.dir.clone()).into_iter().collect());
        }
        let mut found = Vec::new();
        let mut folders = vec![self.dir.clone()];
        let mut looked_at = 0;
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let entry = entry?;
                looked_at += 1;
                if looked_at > WALK_MAX {
                    return Err(io::Error::other(format!("more than {WALK_MAX} files")));
                }
                let path = entry.path();
                let name = path.strip_prefix(&self.dir).unwrap_or(&path).to_string_lossy();
                if self.files.matches(target, &name) {
                    found.push(path);
                } else if entry.file_type()?.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn set_immutable(path: &Path, immutable: bool) -> io::Result<()> {
    let file = File::open(path)?;
    let mut flags = ioctl_getflags(&file)?;
    flags.set(IFlags::IMMUTABLE, immutable);
    Ok(ioctl_setflags(&file, flags)?)
}
