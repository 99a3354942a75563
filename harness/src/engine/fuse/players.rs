//! The roles' processes: started, told apart, stopped, killed, listened to.
//!
//! A process belongs to the role whose mount namespace it is in: that holds for every descendant,
//! whatever parent it has by now.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_open, setrlimit,
};
use rustix::thread::UnshareFlags;

use crate::engine::casting::Casting;
use crate::engine::sys;
use crate::history::Stream;
use crate::plan::Reach;
use crate::role::Role;

/// How often a tree is listed again until a listing shows no process that was not signalled.
const SCANS_MAX: usize = 64;
/// How long the end of a role's first process may lie before the shim's word about it.
const STATUS_WAIT: Duration = Duration::from_millis(500);
/// How much output is read in one go, so that a flood starves nobody.
const READ_BYTES: usize = 64 << 10;

/// What a role's shim said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Its first process exists and waits for the start signal.
    Ready(u32),
    /// It could not be started.
    Cannot(String),
    /// Its first process ended: exit code, signal.
    Exited(Option<i32>, Option<i32>),
}

/// One role's processes.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) role: Role,
    shim: Pid,
    main: Option<(Pid, OwnedFd)>,
    control: Option<UnixStream>,
    heard: Vec<u8>,
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    mount_namespace: PathBuf,
    /// Whether its first process has ended.
    pub(crate) is_dead: bool,
    /// Whether it was stopped by the harness.
    pub(crate) is_stopped: bool,
}

impl Player {
    /// Starts the shim in a mount namespace of its own, with the role's fault mount in place.
    ///
    /// `device` is `/dev/fuse`, opened for this role's mount.
    pub(crate) fn start(casting: &Casting<'_>, device: BorrowedFd<'_>) -> io::Result<Player> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(casting.ground.bin().join("deadbeat"));
        command
            .arg("__shim")
            .args(casting.argv())
            .current_dir(casting.ground.subject())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        casting.set_environment(&mut command);
        sys::prepare_child(&mut command, enter_stage(casting, device));
        let mut child = command.spawn()?;
        let shim = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let shim = shim.expect("a child has a pid");
        let (out, err) = (child.stdout.take(), child.stderr.take());
        ours.set_nonblocking(true)?;
        for pipe in [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)] {
            rustix::io::ioctl_fionbio(pipe.expect("both were piped"), true)?;
        }
        Ok(Player {
            role: casting.part.role,
            shim,
            main: None,
            control: Some(ours),
            heard: Vec::new(),
            out,
            err,
            mount_namespace: fs::read_link(format!("/proc/{}/ns/mnt", shim.as_raw_nonzero()))?,
            is_dead: false,
            is_stopped: false,
        })
    }

    /// Everything to be polled: control, death of the first process, output.
    pub(crate) fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let pidfd = self.main.as_ref().filter(|_| !self.is_dead).map(|(_, fd)| fd.as_fd());
        let control = self.control.as_ref().map(AsFd::as_fd);
        let out = self.out.as_ref().map(AsFd::as_fd);
        pidfd.into_iter().chain(control).chain(out).chain(self.err.as_ref().map(AsFd::as_fd))
    }

    /// Whether the first process has ended, by the kernel's word.
    pub(crate) fn main_ended(&self) -> bool {
        let Some((_, pidfd)) = &self.main else { return false };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        let now = Timespec::default();
        !self.is_dead && rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Whether its parent process is gone though the first process never ran.
    pub(crate) fn is_lost(&self) -> bool {
        self.control.is_none() && self.main.is_none() && !self.is_dead
    }

    /// What the shim has said, without waiting.
    pub(crate) fn news(&mut self) -> Option<News> {
        if let Some(control) = &mut self.control {
            let mut bytes = [0; 512];
            match control.read(&mut bytes) {
                Ok(0) => self.control = None,
                Ok(n) => self.heard.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.control = None,
            }
        }
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        parse_news(String::from_utf8_lossy(&line).trim_end())
    }

    /// Waits, within a bound, for the shim's word on how the first process ended, or why it never
    /// ran. If the shim itself is gone, nobody knows.
    pub(crate) fn how_it_ended(&mut self) -> Option<News> {
        let patience = Timespec::try_from(STATUS_WAIT).expect("half a second fits");
        for _ in 0..8 {
            match self.news() {
                Some(News::Ready(_)) => continue,
                Some(last) => return Some(last),
                None => {}
            }
            let Some(control) = &self.control else { break };
            let mut fds = [PollFd::new(control, PollFlags::IN)];
            if !rustix::event::poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0) {
                break;
            }
        }
        None
    }

    /// Lets the first process run. Its pid stays ours to signal through a pidfd.
    pub(crate) fn go(&mut self, pid: u32) -> io::Result<()> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = raw.ok_or(io::ErrorKind::InvalidData)?;
        self.main = Some((pid, pidfd_open(pid, PidfdFlags::empty())?));
        let control = self.control.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        io::Write::write_all(control, b"g")
    }

    /// The role's output that is there to be read, one piece a stream.
    pub(crate) fn output(&mut self) -> Vec<(Stream, String)> {
        let mut pieces = Vec::new();
        if let Some(text) = read_some(&mut self.out) {
            pieces.push((Stream::Stdout, text));
        }
        if let Some(text) = read_some(&mut self.err) {
            pieces.push((Stream::Stderr, text));
        }
        pieces
    }

    /// Sends a signal to the whole tree, or the first process; gives how many got it.
    ///
    /// A tree is listed again until a listing shows nobody new, so that no fork slips through.
    pub(crate) fn signal(&self, signal: Signal, reach: Reach) -> usize {
        if reach == Reach::Main {
            let Some((pid, _)) = &self.main else { return 0 };
            return usize::from(!self.is_dead && kill_process(*pid, signal).is_ok());
        }
        let mut signalled = BTreeMap::new();
        for _ in 0..SCANS_MAX {
            let before = signalled.len();
            for pid in self.processes() {
                signalled
                    .entry(pid.as_raw_nonzero())
                    .or_insert_with(|| kill_process(pid, signal).is_ok());
            }
            if signalled.len() == before {
                break;
            }
        }
        signalled.values().filter(|sent| **sent).count()
    }

    /// The role's living processes.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        all_processes().filter(|pid| *pid != self.shim && self.owns(*pid)).collect()
    }

    fn owns(&self, pid: Pid) -> bool {
        let link = fs::read_link(format!("/proc/{}/ns/mnt", pid.as_raw_nonzero()));
        link.is_ok_and(|namespace| namespace == self.mount_namespace)
    }
}

/// Every process of the run's PID namespace but its init.
pub(crate) fn all_processes() -> impl Iterator<Item = Pid> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != 1)
        .filter_map(Pid::from_raw)
}

/// A process as a person would name it.
pub(crate) fn describe(pid: Pid) -> String {
    let pid = pid.as_raw_nonzero();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} (pid {pid})", name.trim_end())
}

fn parse_news(line: &str) -> Option<News> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "ready" => rest.parse().ok().map(News::Ready),
        "cannot" => Some(News::Cannot(format!("cannot {rest}"))),
        "exit" => {
            let (code, signal) = rest.split_once(' ')?;
            Some(News::Exited(code.parse().ok(), signal.parse().ok()))
        }
        _ => None,
    }
}

fn read_some(pipe: &mut Option<impl Read>) -> Option<String> {
    let mut bytes = vec![0; READ_BYTES];
    match pipe.as_mut()?.read(&mut bytes) {
        Ok(0) => *pipe = None,
        Ok(n) => return Some(String::from_utf8_lossy(&bytes[..n]).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => *pipe = None,
    }
    None
}

/// What the shim does before it runs: its own mount namespace, the role's fault mount, limits,
/// and then the role's user, after which it has no right to any of this.
fn enter_stage(
    casting: &Casting<'_>,
    device: BorrowedFd<'_>,
) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let device = device.as_raw_fd();
    let target = casting.ground.mount_point();
    let hidden = casting.ground.hidden_mount().map(Path::to_path_buf);
    let hostname = casting.plan.world.separate_hostname.then(|| casting.part.role.to_string());
    let (identity, umask) = (casting.identity(), casting.umask());
    let processes = casting.plan.bounds.processes;
    move || {
        sys::unshare(UnshareFlags::NEWNS)?;
        deadbeat_fs::mount_at(&target, device)?;
        if let Some(hidden) = &hidden {
            rustix::mount::unmount(hidden, rustix::mount::UnmountFlags::DETACH)?;
        }
        if let Some(hostname) = &hostname {
            sys::unshare(UnshareFlags::NEWUTS)?;
            rustix::system::sethostname(hostname.as_bytes())?;
        }
        let limit = |n| Rlimit { current: Some(n), maximum: Some(n) };
        setrlimit(Resource::Core, limit(0))?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        super::cell::go_as_roles_do()?;
        // Counted for each user: over the whole machine as root, in the run's user namespace as
        // anybody else (since Linux 5.14). It slows a fork bomb, which an ordinary user's
        // supervisor could not outrun; the run's own bound is counted by the supervisor.
        setrlimit(Resource::Nproc, limit(processes.saturating_mul(2).max(512)))?;
        if let Some(identity) = identity {
            rustix::thread::set_thread_groups(&[])?;
            let gid = rustix::process::Gid::from_raw(identity.group);
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            let uid = rustix::process::Uid::from_raw(identity.user);
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        // In a user namespace this is what takes the role's capabilities away, at the exec.
        rustix::thread::clear_ambient_capability_set().map_err(io::Error::from)
    }
}
