//! A subject's files: listed, hashed, copied. Folders that set-ups and builds make are left out.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SetupError;
use crate::scenario::library::{EmbeddedFile, SubjectFiles};

/// Folders that are made from the others, wherever they are.
const LEFT_OUT: [&str; 3] = ["node_modules", "target", ".git"];
/// How many files a subject may have.
const FILES_MAX: usize = 10_000;
/// How many bytes a subject may have.
const BYTES_MAX: u64 = 256 << 20;

/// Every file of a subject, by path.
#[derive(Debug)]
pub(crate) struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    what: Content,
}

#[derive(Debug)]
enum Content {
    Folder,
    File { bytes: Vec<u8>, executable: bool },
    Symlink(PathBuf),
}

/// An embedded file and the folders above it.
fn embedded(file: &EmbeddedFile) -> Vec<Entry> {
    let above = Path::new(file.path).ancestors().skip(1);
    let above = above.filter(|path| !path.as_os_str().is_empty());
    let folders = above.map(|path| Entry { path: path.to_owned(), what: Content::Folder });
    let what = Content::File { bytes: file.bytes.to_vec(), executable: file.executable };
    folders.chain([Entry { path: file.path.into(), what }]).collect()
}

fn from_folder(root: &Path) -> Result<Vec<Entry>, SetupError> {
    let wrong = |why: String| SetupError::Folder { path: root.to_owned(), why };
    let (mut entries, mut bytes_sum) = (Vec::new(), 0);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        let listed = std::fs::read_dir(&full).map_err(SetupError::io("list", &full))?;
        for item in listed {
            let item = item.map_err(SetupError::io("list", &full))?;
            let path = folder.join(item.file_name());
            let full = item.path();
            let kind = item.file_type().map_err(SetupError::io("stat", &full))?;
            if kind.is_dir() && LEFT_OUT.iter().any(|name| item.file_name() == *name) {
                continue;
            }
            let what = if kind.is_dir() {
                folders.push(path.clone());
                Content::Folder
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&full).map_err(SetupError::io("read", &full))?;
                Content::Symlink(target)
            } else if kind.is_file() {
                let meta = item.metadata().map_err(SetupError::io("stat", &full))?;
                bytes_sum += meta.len();
                if bytes_sum > BYTES_MAX {
                    return Err(wrong(format!("has more than {} MiB", BYTES_MAX >> 20)));
                }
                let bytes = std::fs::read(&full).map_err(SetupError::io("read", &full))?;
                Content::File { bytes, executable: meta.permissions().mode() & 0o111 != 0 }
            } else {
                return Err(wrong(format!("holds {}, which is no file", path.display())));
            };
            entries.push(Entry { path, what });
            if entries.len() > FILES_MAX {
                return Err(wrong(format!("has more than {FILES_MAX} files")));
            }
        }
    }
    Ok(entries)
}

impl Manifest {
    /// Reads everything, in the order of the paths.
    pub(crate) fn of(files: &SubjectFiles) -> Result<Manifest, SetupError> {
        let mut entries = match files {
            SubjectFiles::Folder(root) => from_folder(root)?,
            SubjectFiles::Embedded(files) => files.iter().flat_map(embedded).collect(),
        };
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries.dedup_by(|one, other| one.path == other.path);
        Ok(Manifest { entries })
    }

    /// 16 hexadecimal digits that change whenever a file, its mode or the set-up does.
    pub(crate) fn key(&self, argv: &[String]) -> String {
        let mut hash = Sha256::new();
        // Every part is preceded by its length, so that no two lists read the same.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        argv.iter().for_each(|arg| part(arg.as_bytes()));
        part(b"files");
        for entry in &self.entries {
            part(entry.path.as_os_str().as_encoded_bytes());
            match &entry.what {
                Content::Folder => part(b"d"),
                Content::Symlink(target) => {
                    part(b"l");
                    part(target.as_os_str().as_encoded_bytes());
                }
                Content::File { bytes, executable } => {
                    part(if *executable { b"x" } else { b"f" });
                    part(bytes);
                }
            }
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes everything below `target`, which exists.
    pub(crate) fn copy_to(&self, target: &Path) -> Result<(), SetupError> {
        // Sorted by path, so a folder comes before what is in it.
        for entry in &self.entries {
            let path = target.join(&entry.path);
            let made = match &entry.what {
                Content::Folder => std::fs::create_dir(&path),
                Content::Symlink(to) => std::os::unix::fs::symlink(to, &path),
                Content::File { bytes, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    std::fs::write(&path, bytes).and_then(|()| set_mode(&path, mode))
                }
            };
            made.map_err(SetupError::io("create", &path))?;
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Lets every user read everything below `root`, as `chmod -R a+rX` does: the roles run as a user
/// who owns nothing here.
pub(crate) fn make_readable(root: &Path) -> Result<(), SetupError> {
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let meta = std::fs::symlink_metadata(&path).map_err(SetupError::io("stat", &path))?;
        if meta.is_symlink() {
            continue;
        }
        let mode = meta.permissions().mode();
        let passable = if meta.is_dir() || mode & 0o111 != 0 { 0o111 } else { 0 };
        set_mode(&path, mode | 0o444 | passable).map_err(SetupError::io("chmod", &path))?;
        if meta.is_dir() {
            let listed = std::fs::read_dir(&path).map_err(SetupError::io("list", &path))?;
            for item in listed {
                paths.push(item.map_err(SetupError::io("list", &path))?.path());
            }
        }
    }
    Ok(())
}
