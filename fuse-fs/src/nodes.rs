//! The files that the kernel knows, and their names.
//!
//! One table for all mounts, keyed by (device, inode) of the backing, so that a file is one node
//! whichever mount and name it was found by. Names follow every rename, link and unlink that goes
//! through a mount; one that was changed on the backing itself is dropped when it is next looked
//! at. Touches the backing only to compare a name with its file.
//!
//! # Invariants
//! - A node holds an `O_PATH` descriptor: its inode number cannot be used again while it lives.
//! - A node lives while a mount's kernel has looked it up, a handle is open, or a node below it
//!   lives. The root always lives. Node numbers are never used again.
//! - `children` of a folder and `names` of its entries say the same.
//! - A folder has one name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, statat};

use crate::api::MountId;
use crate::wire::ROOT;

/// How deep a path is followed up. Deeper files keep a cut path.
const DEPTH_MAX: usize = 256;

/// Device and inode on the backing.
pub(crate) type Key = (u64, u64);

/// The key of a file that was asked for.
pub(crate) fn key_of(stat: &Stat) -> Key {
    (stat.st_dev, stat.st_ino)
}

/// A name in a folder.
type Name = (u64, OsString);

#[derive(Debug)]
struct Node {
    file: OwnedFd,
    key: Key,
    is_folder: bool,
    /// Made by a pretended operation: nobody can find it.
    is_phantom: bool,
    names: Vec<Name>,
    /// The name each mount used last.
    used: BTreeMap<MountId, Name>,
    /// Where it was when its last name went.
    last: PathBuf,
    children: BTreeMap<OsString, u64>,
    lookups: BTreeMap<MountId, u64>,
    handles: u64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: BTreeMap<u64, Node>,
    by_key: BTreeMap<Key, u64>,
    next: u64,
}

impl Nodes {
    /// A table with nothing but the root. Numbers below `first` stay free.
    pub(crate) fn new(root: OwnedFd, stat: &Stat, first: u64) -> Nodes {
        let mut nodes = Nodes { nodes: BTreeMap::new(), by_key: BTreeMap::new(), next: ROOT };
        nodes.insert(root, stat);
        nodes.next = first;
        nodes
    }

    fn insert(&mut self, file: OwnedFd, stat: &Stat) -> u64 {
        let id = self.next;
        self.next += 1;
        let key = key_of(stat);
        let node = Node {
            file,
            key,
            is_folder: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            is_phantom: false,
            names: Vec::new(),
            used: BTreeMap::new(),
            last: PathBuf::new(),
            children: BTreeMap::new(),
            lookups: BTreeMap::new(),
            handles: 0,
        };
        self.nodes.insert(id, node);
        self.by_key.insert(key, id);
        id
    }

    /// The node of a file, if it is known.
    pub(crate) fn find(&self, key: Key) -> Option<u64> {
        self.by_key.get(&key).copied()
    }

    /// The node of `file`, an `O_PATH` descriptor: the one that is known, or a new one.
    pub(crate) fn intern(&mut self, file: OwnedFd, stat: &Stat) -> u64 {
        self.find(key_of(stat)).unwrap_or_else(|| self.insert(file, stat))
    }

    /// Takes in a file that nobody can find, under the name that it should have got.
    pub(crate) fn intern_phantom(&mut self, file: OwnedFd, stat: &Stat, path: PathBuf) -> u64 {
        let id = self.insert(file, stat);
        let node = self.nodes.get_mut(&id).expect("it was just inserted");
        node.is_phantom = true;
        node.last = path;
        id
    }

    /// An `O_PATH` descriptor of the file.
    pub(crate) fn file(&self, id: u64) -> Option<BorrowedFd<'_>> {
        self.nodes.get(&id).map(|node| node.file.as_fd())
    }

    /// Its inode number; 0 for a node that is not known.
    pub(crate) fn ino(&self, id: u64) -> u64 {
        self.nodes.get(&id).map_or(0, |node| node.key.1)
    }

    /// Whether a pretended operation made it.
    pub(crate) fn is_phantom(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_phantom)
    }

    /// The node that was last seen under a name.
    pub(crate) fn child(&self, folder: u64, name: &OsStr) -> Option<u64> {
        self.nodes.get(&folder)?.children.get(name).copied()
    }

    /// `name` in `folder` is `id` now, whatever it was before.
    pub(crate) fn name_is(&mut self, folder: u64, name: &OsStr, id: u64) {
        if id == ROOT || self.child(folder, name) == Some(id) {
            return;
        }
        self.remove_name(folder, name);
        if self.nodes.get(&id).is_some_and(|node| node.is_folder) {
            self.remove_all_names(id);
        }
        let Some(parent) = self.nodes.get_mut(&folder) else { return };
        parent.children.insert(name.to_owned(), id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.names.push((folder, name.to_owned()));
        }
    }

    /// Nothing is under `name` in `folder`.
    pub(crate) fn remove_name(&mut self, folder: u64, name: &OsStr) {
        let Some(id) = self.child(folder, name) else { return };
        let path = self.path_below(folder, name);
        if let Some(parent) = self.nodes.get_mut(&folder) {
            parent.children.remove(name);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.names.retain(|(parent, known)| *parent != folder || known != name);
            node.used.retain(|_, (parent, known)| *parent != folder || known != name);
            if node.names.is_empty() {
                node.last = path;
            }
        }
        self.collect(id);
        self.collect(folder);
    }

    fn remove_all_names(&mut self, id: u64) {
        let names = self.nodes.get(&id).map(|node| node.names.clone()).unwrap_or_default();
        for (folder, name) in names {
            self.remove_name(folder, &name);
        }
    }

    /// A rename took place.
    pub(crate) fn renamed(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) {
        let moved = self.child(from.0, from.1);
        // Two names of one file: rename(2) leaves both.
        if moved.is_some() && moved == self.child(to.0, to.1) {
            return;
        }
        // The new name first: a node without any name might be collected.
        match moved {
            Some(id) => self.name_is(to.0, to.1, id),
            None => self.remove_name(to.0, to.1),
        }
        self.remove_name(from.0, from.1);
    }

    /// Two names changed places.
    pub(crate) fn exchanged(&mut self, one: (u64, &OsStr), other: (u64, &OsStr)) {
        let (first, second) = (self.child(one.0, one.1), self.child(other.0, other.1));
        for (place, id) in [(one, second), (other, first)] {
            match id {
                Some(id) => self.name_is(place.0, place.1, id),
                None => self.remove_name(place.0, place.1),
            }
        }
    }

    /// The kernel of `mount` was told of `id`, perhaps by a name.
    pub(crate) fn looked_up(&mut self, mount: MountId, id: u64, name: Option<Name>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            *node.lookups.entry(mount).or_default() += 1;
            if let Some(name) = name {
                node.used.insert(mount, name);
            }
        }
    }

    /// The kernel of `mount` gives back `count` of what it was told of `id`.
    pub(crate) fn forget(&mut self, mount: MountId, id: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(known) = node.lookups.get_mut(&mount) {
            *known = known.saturating_sub(count);
            if *known == 0 {
                node.lookups.remove(&mount);
                node.used.remove(&mount);
            }
        }
        self.collect(id);
    }

    /// A mount is gone, and with it all that its kernel knew.
    pub(crate) fn forget_mount(&mut self, mount: MountId) {
        let known: Vec<u64> = self.nodes.keys().copied().collect();
        for id in known {
            self.forget(mount, id, u64::MAX);
        }
    }

    /// A handle of `id` was opened.
    pub(crate) fn opened(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles += 1;
        }
    }

    /// A handle of `id` was closed.
    pub(crate) fn closed(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles = node.handles.saturating_sub(1);
        }
        self.collect(id);
    }

    /// Drops `id` if nothing needs it, then perhaps its parents.
    pub(crate) fn collect(&mut self, id: u64) {
        let is_needed =
            |node: &Node| !node.lookups.is_empty() || node.handles > 0 || !node.children.is_empty();
        if id == ROOT || self.nodes.get(&id).is_none_or(is_needed) {
            return;
        }
        let node = self.nodes.remove(&id).expect("it was just found");
        self.by_key.remove(&node.key);
        for (folder, name) in node.names {
            if let Some(parent) = self.nodes.get_mut(&folder) {
                parent.children.remove(&name);
            }
            self.collect(folder);
        }
    }

    /// Every name of `id`, the one that `mount` used last first, and whether it has none. Names
    /// that are not true any more are dropped.
    pub(crate) fn paths(&mut self, id: u64, mount: MountId) -> (Vec<PathBuf>, bool) {
        if id == ROOT {
            return (vec![PathBuf::new()], false);
        }
        self.verify(id, DEPTH_MAX);
        let Some(node) = self.nodes.get(&id) else { return (Vec::new(), true) };
        if node.names.is_empty() {
            // A name may have been given on the backing itself; then there is a link more.
            let links = statat(&node.file, c"", AtFlags::EMPTY_PATH).map_or(0, |s| s.st_nlink);
            return (vec![node.last.clone()], node.is_phantom || links == 0);
        }
        let used = node.used.get(&mount);
        let mut names: Vec<&Name> = node.names.iter().collect();
        // Stable: the others stay in the order in which they were found.
        names.sort_by_key(|name| Some(*name) != used);
        (names.iter().map(|(folder, name)| self.path_below(*folder, name)).collect(), false)
    }

    /// The path of `name` in `folder`.
    pub(crate) fn path_below(&self, folder: u64, name: &OsStr) -> PathBuf {
        let mut parts = vec![name];
        let mut at = folder;
        let mut front = Path::new("");
        while at != ROOT && parts.len() < DEPTH_MAX {
            let Some(node) = self.nodes.get(&at) else { break };
            let Some((parent, name)) = node.names.first() else {
                front = &node.last;
                break;
            };
            parts.push(name);
            at = *parent;
        }
        let mut path = front.to_path_buf();
        path.extend(parts.iter().rev());
        path
    }

    /// Drops names of `id`, and of the folders above it, that are not on the backing any more.
    fn verify(&mut self, id: u64, depth: usize) {
        let Some(node) = self.nodes.get(&id) else { return };
        if id == ROOT || depth == 0 {
            return;
        }
        let mut wrong = Vec::new();
        let mut folders: Vec<u64> = Vec::new();
        for (folder, name) in &node.names {
            let Some(parent) = self.nodes.get(folder) else { continue };
            let found = statat(&parent.file, name, AtFlags::SYMLINK_NOFOLLOW);
            match found {
                Ok(stat) if key_of(&stat) == node.key => folders.push(*folder),
                // EACCES or EIO prove nothing.
                Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                    wrong.push((*folder, name.clone()));
                }
                Err(_) => {}
            }
        }
        for (folder, name) in wrong {
            self.remove_name(folder, &name);
        }
        for folder in folders {
            self.verify(folder, depth - 1);
        }
    }

    /// How many files are known; for tests.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags, fstat, openat};

    const MOUNT: MountId = MountId(0);

    fn open(path: &Path) -> (OwnedFd, Stat) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).unwrap();
        let stat = fstat(&file).unwrap();
        (file, stat)
    }

    fn know(nodes: &mut Nodes, top: &Path, folder: u64, name: &str) -> u64 {
        let (file, stat) = open(&top.join(nodes.path_below(folder, name.as_ref())));
        let id = nodes.intern(file, &stat);
        nodes.name_is(folder, name.as_ref(), id);
        nodes.looked_up(MOUNT, id, Some((folder, name.into())));
        id
    }

    fn paths(nodes: &mut Nodes, id: u64) -> (Vec<String>, bool) {
        let (paths, unlinked) = nodes.paths(id, MOUNT);
        (paths.iter().map(|path| path.to_string_lossy().into_owned()).collect(), unlinked)
    }

    fn table(top: &Path) -> Nodes {
        let (root, stat) = open(top);
        Nodes::new(root, &stat, 3)
    }

    /// Goal: names follow renames of the file and of a folder above it, and links.
    #[test]
    fn names_follow_renames_and_links() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("a")).unwrap();
        std::fs::write(top.path().join("a/f"), "").unwrap();
        let mut nodes = table(top.path());
        let folder = know(&mut nodes, top.path(), ROOT, "a");
        let file = know(&mut nodes, top.path(), folder, "f");
        assert_eq!(paths(&mut nodes, file), (vec!["a/f".to_owned()], false));

        std::fs::rename(top.path().join("a"), top.path().join("b")).unwrap();
        nodes.renamed((ROOT, "a".as_ref()), (ROOT, "b".as_ref()));
        assert_eq!(paths(&mut nodes, file), (vec!["b/f".to_owned()], false));

        std::fs::hard_link(top.path().join("b/f"), top.path().join("g")).unwrap();
        assert_eq!(know(&mut nodes, top.path(), ROOT, "g"), file);
        assert_eq!(paths(&mut nodes, file), (vec!["g".to_owned(), "b/f".to_owned()], false));
    }

    /// Goal: what is removed on the backing itself is unlinked, under its last name.
    #[test]
    fn a_file_removed_behind_the_table_is_unlinked() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("f"), "").unwrap();
        let mut nodes = table(top.path());
        let file = know(&mut nodes, top.path(), ROOT, "f");
        std::fs::remove_file(top.path().join("f")).unwrap();
        assert_eq!(paths(&mut nodes, file), (vec!["f".to_owned()], true));
    }

    /// Goal: a file lives as long as kernel, handle or child need it, and no longer.
    #[test]
    fn nodes_live_as_long_as_they_are_needed() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("a")).unwrap();
        std::fs::write(top.path().join("a/f"), "").unwrap();
        let mut nodes = table(top.path());
        let folder = know(&mut nodes, top.path(), ROOT, "a");
        let file = know(&mut nodes, top.path(), folder, "f");
        nodes.opened(file);
        nodes.forget(MOUNT, folder, 1);
        nodes.forget(MOUNT, file, 1);
        assert_eq!(nodes.len(), 3);
        nodes.closed(file);
        assert_eq!(nodes.len(), 1);
    }
}
