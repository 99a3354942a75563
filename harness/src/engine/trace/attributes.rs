//! The file system as an NFS client sees it (nfs(5)): attributes may be old, and a handle of a
//! file that somebody else removed is stale.
//!
//! With `attr-cache = D` each role is a client of its own. What it was told of a path, or of an
//! open file, it is told again for D; that the path was not there as well. Its own changes are
//! seen at once. It asks anew when it opens the file (close-to-open) or locks it. That something
//! exists already (EEXIST) is news only where the role thought otherwise.
//!
//! With `estale = true` every operation but close fails with ESTALE on a descriptor whose file has
//! no name any more, unless the role itself took the last one (a client renames what it still has
//! open). Operations by path find what is there.
//!
//! Only attributes are cached: what a file or a folder holds is read anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::arch_x86_64::{Regs, stat_bytes};
use super::decode::Call;
use super::files::attributes;
use super::supervisor::Supervisor;
use super::sys::{self, Stopped};
use super::thread::Case;
use crate::engine::court::Ruling;
use crate::op::{Op, OpId, OpKind};
use crate::plan::FilePersonality;
use crate::role::Role;
use crate::time::Nanos;

/// A client may forget at any time; ours forgets everything when it knows so much.
const ENTRIES_MAX: usize = 4096;

/// What proc_pid_fd(5) says of a file whose name is gone.
const GONE: &str = " (deleted)";

/// What is known of: a name, or an open file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Path(PathBuf),
    Inode(u64),
}

/// What one role was told, and when. `None`: that there is no such file.
#[derive(Debug)]
struct Cache<V> {
    lifetime: Nanos,
    entries: BTreeMap<Key, (Nanos, Option<V>)>,
}

impl<V> Cache<V> {
    fn new(lifetime: Nanos) -> Cache<V> {
        Cache { lifetime, entries: BTreeMap::new() }
    }

    /// What the role is told without asking, if it was told lately.
    fn recall(&self, key: &Key, now: Nanos) -> Option<Option<&V>> {
        let (told, value) = self.entries.get(key)?;
        (now < *told + self.lifetime).then_some(value.as_ref())
    }

    fn learn(&mut self, key: Key, value: Option<V>, now: Nanos) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        self.entries.insert(key, (now, value));
    }

    /// Forgets a name, all names below it, and its folder, which has changed as well.
    fn forget_path(&mut self, path: &Path) {
        let is_about = |known: &Path| known.starts_with(path) || Some(known) == path.parent();
        self.entries.retain(|key, _| !matches!(key, Key::Path(known) if is_about(known)));
    }

    fn forget_inode(&mut self, ino: u64) {
        self.entries.remove(&Key::Inode(ino));
    }

    /// Forgets that a file was not there.
    fn forget_absence(&mut self, path: &Path) {
        let key = Key::Path(path.to_path_buf());
        if matches!(self.entries.get(&key), Some((_, None))) {
            self.entries.remove(&key);
        }
    }
}

/// What every role's client knows, in a run with such a personality.
#[derive(Debug)]
pub(crate) struct Clients {
    attr_cache: Option<Nanos>,
    estale: bool,
    caches: BTreeMap<Role, Cache<Metadata>>,
    /// Whose last name the operation takes, should it succeed.
    taking: BTreeMap<OpId, u64>,
    /// Files whose last name the role took itself.
    taken: BTreeSet<(Role, u64)>,
}

impl Clients {
    /// Clients that know nothing yet.
    pub(crate) fn new(personality: &FilePersonality) -> Clients {
        let FilePersonality { attr_cache, estale, .. } = *personality;
        let (caches, taking, taken) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Clients { attr_cache, estale, caches, taking, taken }
    }

    fn cache(&mut self, role: Role) -> Option<&mut Cache<Metadata>> {
        let lifetime = self.attr_cache?;
        Some(self.caches.entry(role).or_insert_with(|| Cache::new(lifetime)))
    }

    /// Remembers whose name an operation is about to take.
    fn takes(&mut self, op: &Op, call: &Call) {
        let victim = match op.kind {
            OpKind::Unlink | OpKind::Rmdir => op.ino,
            OpKind::Rename => {
                let target = call.second.as_ref().map(|target| fs::symlink_metadata(&target.path));
                target.and_then(Result::ok).map(|meta| meta.ino())
            }
            _ => None,
        };
        self.taking.extend(victim.map(|ino| (op.id, ino)));
    }

    /// Whether an operation is on an open file that somebody else has removed by now: since it was
    /// opened, or while the operation was held.
    fn is_stale(&self, tid: i32, op: &Op, call: &Call) -> bool {
        let Some(fd) = call.first.fd.filter(|_| call.kind != OpKind::Close) else { return false };
        let open = format!("/proc/{tid}/fd/{fd}");
        let meta = fs::metadata(&open).ok().filter(|meta| match meta.is_dir() {
            // Another name of the file keeps its handle good.
            false => meta.nlink() == 0,
            true => fs::read_link(&open).is_ok_and(|name| name.to_string_lossy().ends_with(GONE)),
        });
        meta.is_some_and(|meta| !self.taken.contains(&(op.role, meta.ino())))
    }

    /// Takes in what an operation was answered, and what it changed.
    fn learn(&mut self, tid: i32, case: &Case, call: &Call, real: Result<u64, i32>, now: Nanos) {
        let op = &case.op;
        if let Some(ino) = self.taking.remove(&op.id).filter(|_| real.is_ok()) {
            self.taken.insert((op.role, ino));
        }
        let meta = attributes(tid, &call.first);
        let is_new = matches!(op.kind, OpKind::Create | OpKind::Mkdir | OpKind::Symlink);
        if let (true, true, Some(meta)) = (is_new, real.is_ok(), &meta) {
            // A local file system may give the number of a file that is gone to another.
            self.taken.retain(|(_, ino)| *ino != meta.ino());
        }
        let Some(cache) = self.cache(op.role) else { return };
        let path = &call.first.path;
        let is_opened = call.open_flags.is_some();
        let is_stat = op.kind == OpKind::Stat && place(&case.regs).is_some();
        let target = call.second.as_ref().unwrap_or(&call.first);
        match (real, meta) {
            (Err(libc::EEXIST), _) => cache.forget_absence(&target.path),
            (Ok(_), Some(meta)) if is_stat || is_opened => {
                if op.kind == OpKind::Create {
                    cache.forget_path(path);
                }
                cache.learn(Key::Inode(meta.ino()), Some(meta.clone()), now);
                if !call.first.by_descriptor {
                    cache.learn(Key::Path(path.clone()), Some(meta), now);
                }
            }
            (Err(libc::ENOENT), _) if (is_stat || is_opened) && !call.first.by_descriptor => {
                cache.learn(Key::Path(path.clone()), None, now);
            }
            _ if is_opened || only_looks(op.kind) => {}
            _ => {
                for file in [Some(&call.first), call.second.as_ref()].into_iter().flatten() {
                    cache.forget_path(&file.path);
                }
                if let Some(ino) = op.ino {
                    cache.forget_inode(ino);
                }
            }
        }
    }
}

/// Whether an operation changes no attribute, and tells none anew.
fn only_looks(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Stat
            | OpKind::Read
            | OpKind::Readdir
            | OpKind::Statfs
            | OpKind::Close
            | OpKind::Fsync
            | OpKind::Other
    )
}

/// Where a call wants the attributes, and whether as a `struct statx`; `None` for access(2).
pub(crate) fn place(regs: &Regs) -> Option<(u64, bool)> {
    match regs.nr() {
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_fstat => Some((regs.arg(1), false)),
        libc::SYS_newfstatat => Some((regs.arg(2), false)),
        libc::SYS_statx => Some((regs.arg(4), true)),
        _ => None,
    }
}

impl Supervisor<'_> {
    /// What an operation that may proceed comes to on the file system of this personality; gives
    /// the stop back unless the role was answered from its cache.
    pub(crate) fn at_client(
        &mut self,
        stopped: Stopped,
        case: Box<Case>,
        ruling: Ruling,
    ) -> Option<(Stopped, Box<Case>, Ruling)> {
        let Some(call) = case.call.as_ref().filter(|_| ruling == Ruling::Proceed) else {
            return Some((stopped, case, ruling));
        };
        let tid = stopped.tid();
        if self.clients.estale {
            if self.clients.is_stale(tid, &case.op, call) {
                return Some((stopped, case, Ruling::Fail(libc::ESTALE)));
            }
            self.clients.takes(&case.op, call);
        }
        let Some(known) = self.recall(&case, call) else { return Some((stopped, case, ruling)) };
        let mut regs = case.regs;
        let told = match (&known, place(&regs)) {
            (None, _) => Err(libc::ENOENT),
            // The kernel knows best whether the role may access what is there.
            (Some(_), None) if attributes(tid, &call.first).is_some() => {
                return Some((stopped, case, ruling));
            }
            (Some(_), None) => Ok(0),
            (Some(meta), Some((place, is_statx))) => {
                let bytes =
                    if is_statx { statx_bytes(meta).to_vec() } else { stat_bytes(meta).to_vec() };
                sys::write_memory(tid, place, &bytes).map(|()| 0).map_err(|_| libc::EFAULT)
            }
        };
        regs.skip(told.map_or_else(|errno| -i64::from(errno), |_| 0));
        let ino = known.map(|meta| meta.ino());
        self.court.settle(case.op, told, told.is_ok(), ino);
        self.resume_with(stopped, &regs);
        None
    }

    /// What the role's client answers without asking the server.
    fn recall(&mut self, case: &Case, call: &Call) -> Option<Option<Metadata>> {
        if case.op.kind != OpKind::Stat {
            return None;
        }
        let now = self.court.now();
        let cache = self.clients.cache(case.op.role)?;
        let key = match case.op.ino.filter(|_| call.first.by_descriptor) {
            Some(ino) => Key::Inode(ino),
            None => Key::Path(call.first.path.clone()),
        };
        cache.recall(&key, now).map(|known| known.cloned())
    }

    /// An operation has returned with this answer of the kernel.
    pub(crate) fn learn(&mut self, tid: i32, case: &Case, call: &Call, real: Result<u64, i32>) {
        if self.clients.estale || self.clients.attr_cache.is_some() {
            let now = self.court.now();
            self.clients.learn(tid, case, call, real, now);
        }
    }
}

/// `struct statx` (statx(2)), with the basic fields, and the birth where the disk knows it.
///
/// ```text
///  0 mask  4 blksize  8 attributes  16 nlink  20 uid  24 gid  28 mode  32 ino  40 size
/// 48 blocks  56 attributes_mask  64 atime  80 btime  96 ctime  112 mtime
/// 128 rdev major, minor  136 dev major, minor  144 …
/// ```
fn statx_bytes(meta: &Metadata) -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let low = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes();
    let born = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let birth = if born.is_some() { libc::STATX_BTIME } else { 0 };
    put(0, &(libc::STATX_BASIC_STATS | birth).to_ne_bytes());
    put(4, &low(meta.blksize()));
    put(16, &low(meta.nlink()));
    put(20, &meta.uid().to_ne_bytes());
    put(24, &meta.gid().to_ne_bytes());
    put(28, &u16::try_from(meta.mode()).unwrap_or(0).to_ne_bytes());
    put(32, &meta.ino().to_ne_bytes());
    put(40, &meta.size().to_ne_bytes());
    put(48, &meta.blocks().to_ne_bytes());
    let born = born.unwrap_or_default();
    let born = (i64::try_from(born.as_secs()).unwrap_or(0), i64::from(born.subsec_nanos()));
    for (at, (seconds, nanos)) in [
        (64, (meta.atime(), meta.atime_nsec())),
        (80, born),
        (96, (meta.ctime(), meta.ctime_nsec())),
        (112, (meta.mtime(), meta.mtime_nsec())),
    ] {
        put(at, &seconds.to_ne_bytes());
        put(at + 8, &low(nanos.unsigned_abs()));
    }
    for (at, device) in [(128, meta.rdev()), (136, meta.dev())] {
        put(at, &libc::major(device).to_ne_bytes());
        put(at + 4, &libc::minor(device).to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Nanos = Nanos::from_ms(3000);

    fn path(text: &str) -> Key {
        Key::Path(PathBuf::from(text))
    }

    #[test]
    fn what_was_told_is_told_again_until_it_is_too_old() {
        let mut cache = Cache::new(LIFE);
        cache.learn(path("/d/lock"), Some(1), Nanos::from_ms(1000));
        cache.learn(path("/d/gone"), None, Nanos::from_ms(1000));
        let at = |ms| Nanos::from_ms(ms);
        assert_eq!(cache.recall(&path("/d/lock"), at(3999)), Some(Some(&1)));
        assert_eq!(cache.recall(&path("/d/gone"), at(3999)), Some(None));
        assert_eq!(cache.recall(&path("/d/lock"), at(4000)), None);
        assert_eq!(cache.recall(&path("/d/other"), at(1000)), None);
        cache.learn(path("/d/lock"), Some(2), at(4000));
        assert_eq!(cache.recall(&path("/d/lock"), at(6999)), Some(Some(&2)));
    }

    #[test]
    fn a_change_forgets_the_name_what_is_below_and_the_folder_but_nothing_else() {
        let mut cache = Cache::new(LIFE);
        let all = ["/d", "/d/lock", "/d/lock/owner", "/d/lock2", "/"];
        for name in all {
            cache.learn(path(name), Some(1), Nanos::ZERO);
        }
        cache.learn(Key::Inode(7), Some(1), Nanos::ZERO);
        cache.forget_path(Path::new("/d/lock"));
        let left = all.map(|name| cache.recall(&path(name), Nanos::ZERO).is_some());
        assert_eq!(left, [false, false, false, true, true]);
        assert!(cache.recall(&Key::Inode(7), Nanos::ZERO).is_some());
        cache.forget_inode(7);
        assert!(cache.recall(&Key::Inode(7), Nanos::ZERO).is_none());
    }

    #[test]
    fn that_a_file_exists_is_news_only_where_it_was_thought_absent() {
        let mut cache = Cache::new(LIFE);
        cache.learn(path("/d/here"), Some(1), Nanos::ZERO);
        cache.learn(path("/d/gone"), None, Nanos::ZERO);
        cache.forget_absence(Path::new("/d/here"));
        cache.forget_absence(Path::new("/d/gone"));
        assert_eq!(cache.recall(&path("/d/here"), Nanos::ZERO), Some(Some(&1)));
        assert_eq!(cache.recall(&path("/d/gone"), Nanos::ZERO), None);
    }

    #[test]
    fn a_cache_is_bounded() {
        let mut cache = Cache::new(LIFE);
        for ino in 0..3 * ENTRIES_MAX as u64 {
            cache.learn(Key::Inode(ino), Some(1), Nanos::ZERO);
        }
        assert!(cache.entries.len() <= ENTRIES_MAX);
        assert!(cache.recall(&Key::Inode(3 * ENTRIES_MAX as u64 - 1), Nanos::ZERO).is_some());
    }
}
