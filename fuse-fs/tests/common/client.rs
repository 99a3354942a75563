//! The client of a mount: a process of its own, in a mount namespace of its own.
//!
//! It must not be the process that serves: one that waits for itself cannot be killed. It is the
//! test's own binary, started again under `unshare`, and does what it is told on standard input,
//! a socket: one line a command, one line an answer, `ok N` or `err ERRNO`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, SeekFrom,
    Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};

/// Set for a process that is to be a client.
pub(crate) const MARK: &str = "DEADBEAT_FS_CLIENT";

/// Serves commands until the socket ends, if this process was started as a client.
pub(crate) fn serve_if_asked() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    super::sys::let_sigusr1_interrupt();
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).unwrap();
    let socket = UnixStream::from(socket);
    let mut answers = socket.try_clone().unwrap();
    let mut client = Client::default();
    for line in BufReader::new(socket).lines() {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match client.run(&words) {
            Ok(number) => format!("ok {number}\n"),
            Err(errno) => format!("err {}\n", errno.raw_os_error()),
        };
        if answers.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
    std::process::exit(0);
}

#[derive(Default)]
struct Client {
    device: Option<OwnedFd>,
    open: BTreeMap<String, OwnedFd>,
}

type Answer = rustix::io::Result<u64>;

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn mode(word: &str) -> Mode {
    Mode::from_raw_mode(u32::from_str_radix(word, 8).unwrap())
}

/// `now`, `omit`, or seconds.
fn time(word: &str) -> Timespec {
    match word {
        "now" => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        "omit" => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        secs => Timespec { tv_sec: secs.parse().unwrap(), tv_nsec: 7 },
    }
}

fn flags(word: &str) -> OFlags {
    let mut flags = OFlags::CLOEXEC;
    if word.contains('r') && word.contains('w') {
        flags |= OFlags::RDWR;
    } else if word.contains('w') {
        flags |= OFlags::WRONLY;
    }
    for (letter, flag) in [
        ('a', OFlags::APPEND),
        ('c', OFlags::CREATE),
        ('x', OFlags::EXCL),
        ('t', OFlags::TRUNC),
        ('d', OFlags::DIRECTORY),
    ] {
        if word.contains(letter) {
            flags |= flag;
        }
    }
    flags
}

fn done(result: rustix::io::Result<()>) -> Answer {
    result.map(|()| 0)
}

impl Client {
    fn run(&mut self, words: &[&str]) -> Answer {
        let open = |name: &str| self.open.get(name).unwrap_or_else(|| panic!("{words:?}")).as_fd();
        match words {
            ["mount", target] => self.mount(target),
            ["mounted"] => {
                // Only the daemon may keep the device: its end must be the mount's.
                self.device = None;
                Ok(0)
            }
            ["enter", target] => done(rustix::process::chdir(*target)),
            ["become", uid, gid, groups @ ..] => become_user(uid, gid, groups),
            ["tid"] => {
                Ok(u64::from(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()))
            }
            ["open", name, path, how, bits] => {
                let file = rustix::fs::openat(CWD, *path, flags(how), mode(bits))?;
                self.open.insert((*name).to_owned(), file);
                Ok(0)
            }
            ["close", name] => {
                let file = self.open.remove(*name).unwrap();
                super::sys::close(file)
            }
            ["read", name, len] => {
                let mut buffer = vec![0; usize::try_from(number(len)).unwrap()];
                rustix::io::read(open(name), &mut buffer[..]).map(|count| count as u64)
            }
            ["write", name, text] => {
                rustix::io::write(open(name), text.as_bytes()).map(|count| count as u64)
            }
            ["pwrite", name, text, at] => {
                let count = rustix::io::pwrite(open(name), text.as_bytes(), number(at));
                count.map(|count| count as u64)
            }
            ["fsync", name] => done(rustix::fs::fsync(open(name))),
            ["ftruncate", name, len] => done(rustix::fs::ftruncate(open(name), number(len))),
            ["futimes", name, atime, mtime] => {
                let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
                done(rustix::fs::futimens(open(name), &times))
            }
            ["fchmod", name, bits] => done(rustix::fs::fchmod(open(name), mode(bits))),
            ["fstat", name] => rustix::fs::fstat(open(name)).map(|stat| size(&stat)),
            ["fallocate", name, at, len] => {
                let mode = FallocateFlags::empty();
                done(rustix::fs::fallocate(open(name), mode, number(at), number(len)))
            }
            ["seek-data", name] => rustix::fs::seek(open(name), SeekFrom::Data(0)),
            ["copy", from, to, len] => {
                let len = usize::try_from(number(len)).unwrap();
                let (mut at, mut to_at) = (0, 0);
                let (from, to) = (open(from), open(to));
                rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), len)
                    .map(|count| count as u64)
            }
            ["flock", name, how] => done(rustix::fs::flock(open(name), operation(how))),
            ["lock", name, how] => done(rustix::fs::fcntl_lock(open(name), operation(how))),
            ["getlk", name] => {
                let lock = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
                let found = rustix::process::fcntl_getlk(open(name), &lock)?;
                let pid = found.and_then(|found| found.pid);
                Ok(pid.map_or(0, |pid| u64::from(pid.as_raw_nonzero().get().cast_unsigned())))
            }
            _ => path_call(words),
        }
    }

    fn mount(&mut self, target: &str) -> Answer {
        let device = deadbeat_fs::open_device().map_err(|e| as_errno(&e))?;
        deadbeat_fs::mount_at(target.as_ref(), device.as_fd()).map_err(|e| as_errno(&e))?;
        let number = device.as_raw_fd();
        self.device = Some(device);
        Ok(u64::try_from(number).unwrap())
    }
}

fn path_call(words: &[&str]) -> Answer {
    match words {
        ["mkdir", path, bits] => done(rustix::fs::mkdirat(CWD, *path, mode(bits))),
        ["mkfifo", path, bits] => {
            done(rustix::fs::mknodat(CWD, *path, FileType::Fifo, mode(bits), 0))
        }
        ["rmdir", path] => done(rustix::fs::unlinkat(CWD, *path, AtFlags::REMOVEDIR)),
        ["unlink", path] => done(rustix::fs::unlinkat(CWD, *path, AtFlags::empty())),
        ["rename", from, to] => done(rustix::fs::renameat(CWD, *from, CWD, *to)),
        ["link", from, to] => done(rustix::fs::linkat(CWD, *from, CWD, *to, AtFlags::empty())),
        ["symlink", text, path] => done(rustix::fs::symlinkat(*text, CWD, *path)),
        ["readlink", path] => {
            rustix::fs::readlinkat(CWD, *path, Vec::new()).map(|text| text.as_bytes().len() as u64)
        }
        ["stat", path] => rustix::fs::statat(CWD, *path, AtFlags::empty()).map(|stat| size(&stat)),
        ["ino", path] => rustix::fs::statat(CWD, *path, AtFlags::empty()).map(|stat| stat.st_ino),
        ["access", path, "w"] => {
            done(rustix::fs::accessat(CWD, *path, Access::WRITE_OK, AtFlags::empty()))
        }
        ["utimes", path, atime, mtime] => {
            let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
            done(rustix::fs::utimensat(CWD, *path, &times, AtFlags::empty()))
        }
        ["chmod", path, bits] => {
            done(rustix::fs::chmodat(CWD, *path, mode(bits), AtFlags::empty()))
        }
        ["chown", path, uid, gid] => {
            let id = |word: &str| (word != "-").then(|| number(word).try_into().unwrap());
            let (uid, gid) = (id(uid).map(Uid::from_raw), id(gid).map(Gid::from_raw));
            done(rustix::fs::chownat(CWD, *path, uid, gid, AtFlags::empty()))
        }
        ["truncate", path, len] => super::sys::truncate(path, number(len)),
        ["readdir", path] => read_folder(path),
        ["statfs-free", path] => rustix::fs::statvfs(*path).map(|s| s.f_bavail * s.f_frsize),
        ["statfs-inodes", path] => rustix::fs::statvfs(*path).map(|s| s.f_ffree),
        ["setxattr", path, name, value] => {
            done(rustix::fs::setxattr(*path, *name, value.as_bytes(), XattrFlags::empty()))
        }
        ["getxattr", path, name] => {
            rustix::fs::getxattr(*path, *name, &mut [0_u8; 100][..]).map(|len| len as u64)
        }
        _ => panic!("no such command: {words:?}"),
    }
}

fn size(stat: &Stat) -> u64 {
    stat.st_size.cast_unsigned()
}

fn operation(word: &str) -> FlockOperation {
    match word {
        "shared" => FlockOperation::LockShared,
        "exclusive" => FlockOperation::LockExclusive,
        "try-shared" => FlockOperation::NonBlockingLockShared,
        "try-exclusive" => FlockOperation::NonBlockingLockExclusive,
        "unlock" => FlockOperation::Unlock,
        _ => panic!("no such lock: {word}"),
    }
}

fn read_folder(path: &str) -> Answer {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, path, how, Mode::empty())?;
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut entries = rustix::fs::RawDir::new(&folder, buffer.spare_capacity_mut());
    let mut count = 0;
    while let Some(entry) = entries.next() {
        entry?;
        count += 1;
    }
    Ok(count)
}

fn become_user(uid: &str, gid: &str, groups: &[&str]) -> Answer {
    let id = |word: &str| u32::try_from(number(word)).unwrap();
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(id(group))).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(id(uid)), Gid::from_raw(id(gid)));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    done(rustix::thread::set_thread_res_uid(uid, uid, uid))
}

fn as_errno(error: &std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO)
}
