//! A file system with a ruler that a test scripts, and clients to use it.
//!
//! The daemon is a thread of the test; clients are processes (see [`client`]). Nothing shows
//! outside: mounts are in the clients' own namespaces and end with them.
#![expect(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test may panic")]

pub(crate) mod client;
pub(crate) mod sys;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deadbeat_fs::{
    Caller, Errno, FaultFs, MountId, OpId, Operation, Options, Outcome, Ruler, Ruling, Served,
    StatfsProfile, open_device,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// After this a client that does not answer has hung, and the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether mounts can be made here. Says so where they cannot, and fails if they must.
pub(crate) fn can_mount() -> bool {
    let why = match open_device() {
        Err(error) => format!("no /dev/fuse: {error}"),
        Ok(_) if !has_sys_admin() => "no CAP_SYS_ADMIN".to_owned(),
        Ok(_) => return true,
    };
    let required = std::env::var("DEADBEAT_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == "fuse"), "fuse is required: {why}");
    // To the terminal itself, past the test's captured output.
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
    false
}

fn has_sys_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// What was seen, in order.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Settled(Operation, Outcome),
    Line(MountId, String),
}

type Rule = Box<dyn FnMut(&Operation) -> Ruling + Send>;

/// Rules as it is told, and writes down what it hears.
pub(crate) struct Script {
    pub(crate) rule: Rule,
    pub(crate) seen: Vec<Seen>,
    pub(crate) profile: Option<StatfsProfile>,
    pub(crate) refuse_lines: Option<Errno>,
}

impl Ruler for Script {
    fn rule(&mut self, op: &Operation) -> Ruling {
        (self.rule)(op)
    }

    fn settled(&mut self, op: &Operation, outcome: &Outcome) {
        self.seen.push(Seen::Settled(op.clone(), *outcome));
    }

    fn append(&mut self, mount: MountId, _: Caller, data: &[u8]) -> Result<(), Errno> {
        self.seen.push(Seen::Line(mount, String::from_utf8_lossy(data).into_owned()));
        self.refuse_lines.map_or(Ok(()), Err)
    }

    fn statfs(&mut self, _: MountId) -> Option<StatfsProfile> {
        self.profile
    }

    fn hidden(&self, name: &std::ffi::OsStr) -> bool {
        name == "ballast"
    }
}

type Job = Box<dyn FnOnce(&mut FaultFs, &mut Script, &mut Vec<MountId>) + Send>;

/// A file system, served by a thread.
pub(crate) struct World {
    top: tempfile::TempDir,
    jobs: Sender<Job>,
    wake: UnixStream,
    daemon: Option<JoinHandle<()>>,
}

impl World {
    /// `None` where mounts cannot be made.
    pub(crate) fn new(options: Options) -> Option<World> {
        if !can_mount() {
            return None;
        }
        let top = tempfile::tempdir().unwrap();
        for name in ["backing", "mount"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(top.path().join("backing"), everybody).unwrap();
        let backing: OwnedFd = fs::File::open(top.path().join("backing")).unwrap().into();
        Some(World::over(top, backing, options))
    }

    /// Over a tmpfs of 64 kB that is mounted nowhere.
    pub(crate) fn on_small_tmpfs(options: Options) -> Option<World> {
        if !can_mount() {
            return None;
        }
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("mount")).unwrap();
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&context, "size", "64k").unwrap();
        fsconfig_create(&context).unwrap();
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let backing = fsmount(&context, flags, MountAttrFlags::empty()).unwrap();
        Some(World::over(top, backing, options))
    }

    fn over(top: tempfile::TempDir, backing: OwnedFd, options: Options) -> World {
        let (jobs, inbox) = channel();
        let (wake, woken) = UnixStream::pair().unwrap();
        woken.set_nonblocking(true).unwrap();
        let daemon = std::thread::spawn(move || serve(backing, options, &inbox, &woken));
        World { top, jobs, wake, daemon: Some(daemon) }
    }

    pub(crate) fn backing(&self) -> PathBuf {
        self.top.path().join("backing")
    }

    /// Does something in the daemon's thread, between two requests.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut FaultFs, &mut Script, &mut Vec<MountId>) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = channel();
        let job: Job = Box::new(move |fs, script, mounts| {
            let _ = sender.send(job(fs, script, mounts));
        });
        self.jobs.send(job).expect("the daemon lives");
        let _ = (&self.wake).write(&[0]);
        receiver.recv_timeout(PATIENCE).expect("the daemon answers")
    }

    /// From now on this is the rule.
    pub(crate) fn rule(&self, rule: impl FnMut(&Operation) -> Ruling + Send + 'static) {
        self.with(|_, script, _| script.rule = Box::new(rule));
    }

    /// What was seen since the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.with(|_, script, _| std::mem::take(&mut script.seen))
    }

    /// The operations that were settled since the last time.
    pub(crate) fn settled(&self) -> Vec<(Operation, Outcome)> {
        let settled = |seen| match seen {
            Seen::Settled(op, outcome) => Some((op, outcome)),
            Seen::Line(..) => None,
        };
        self.seen().into_iter().filter_map(settled).collect()
    }

    /// Waits until some operation is held that `which` picks; gives its number.
    pub(crate) fn wait_for_held(
        &self,
        which: impl Fn(&Operation) -> bool + Clone + Send + 'static,
    ) -> OpId {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let which = which.clone();
            let held = self.with(move |fs, _, _| fs.held().find(|op| which(op)).map(|op| op.id));
            if let Some(id) = held {
                return id;
            }
            assert!(Instant::now() < deadline, "nothing was held");
            std::thread::yield_now();
        }
    }

    pub(crate) fn release(&self, op: OpId, ruling: Ruling) -> bool {
        self.with(move |fs, script, _| fs.release(op, ruling, script))
    }

    /// A new process with a mount of its own, and in it.
    pub(crate) fn client(&self) -> Client {
        let target = self.top.path().join("mount");
        let mut client = Client::start();
        let number = client.run(&format!("mount {}", target.display())).expect("mount");
        let pid = Pid::from_raw(client.pid()).unwrap();
        // The descriptor itself: a device that is opened again is another.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let number = i32::try_from(number).unwrap();
        let device = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).unwrap();
        client.mount = Some(self.with(|fs, _, mounts| {
            let mount = fs.add_mount(device);
            mounts.push(mount);
            mount
        }));
        client.run("mounted").unwrap();
        client.run(&format!("enter {}", target.display())).unwrap();
        client
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The channel's end is the daemon's.
        self.jobs = channel().0;
        let _ = (&self.wake).write(&[0]);
        let ended = self.daemon.take().expect("dropped once").join();
        if !std::thread::panicking() {
            ended.expect("the daemon did not panic");
        }
    }
}

fn serve(backing: OwnedFd, options: Options, inbox: &Receiver<Job>, woken: &UnixStream) {
    let mut fs = FaultFs::new(backing, options).unwrap();
    let mut script = Script {
        rule: Box::new(|_| Ruling::Proceed),
        seen: Vec::new(),
        profile: None,
        refuse_lines: None,
    };
    let mut mounts: Vec<MountId> = Vec::new();
    loop {
        loop {
            match inbox.try_recv() {
                Ok(job) => job(&mut fs, &mut script, &mut mounts),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            }
        }
        let mut gone = Vec::new();
        for mount in &mounts {
            if fs.serve(*mount, &mut script).unwrap() == Served::Gone {
                gone.push(*mount);
            }
        }
        for mount in gone {
            fs.remove_mount(mount, &mut script);
            mounts.retain(|known| *known != mount);
        }
        fs.tick(&mut script);
        wait(&fs, &mounts, woken);
    }
}

fn wait(fs: &FaultFs, mounts: &[MountId], woken: &UnixStream) {
    let now = Instant::now();
    let wait = fs.next_deadline().map(|at| at.saturating_duration_since(now));
    let wait = wait.map(|wait| Timespec::try_from(wait).unwrap());
    let mut polled = vec![PollFd::new(woken, PollFlags::IN)];
    for mount in mounts {
        polled.push(PollFd::from_borrowed_fd(fs.device(*mount), PollFlags::IN));
    }
    let _ = rustix::event::poll(&mut polled, wait.as_ref());
    let mut bytes = [0; 64];
    while matches!((&*woken).read(&mut bytes), Ok(1..)) {}
}

/// A client process.
pub(crate) struct Client {
    child: Child,
    commands: UnixStream,
    answers: BufReader<UnixStream>,
    mount: Option<MountId>,
}

impl Client {
    fn start() -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "client", "--nocapture", "--test-threads=1"])
            .env(client::MARK, "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare(1) of util-linux");
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let answers = BufReader::new(ours.try_clone().unwrap());
        Client { child, commands: ours, answers, mount: None }
    }

    pub(crate) fn mount(&self) -> MountId {
        self.mount.expect("it was mounted")
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Gives a command.
    pub(crate) fn start_command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the client lives");
    }

    /// Takes the answer to the last command; its errno, if it failed.
    pub(crate) fn answer(&mut self) -> Result<u64, i32> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the client answers in time");
        match line.trim_end().split_once(' ') {
            Some(("ok", number)) => Ok(number.parse().unwrap()),
            Some(("err", errno)) => Err(errno.parse().unwrap()),
            _ => panic!("the client said {line:?}"),
        }
    }

    pub(crate) fn run(&mut self, command: &str) -> Result<u64, i32> {
        self.start_command(command);
        self.answer()
    }

    /// The thread that does the commands.
    pub(crate) fn tid(&mut self) -> i32 {
        i32::try_from(self.run("tid").unwrap()).unwrap()
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Waits for its end; whether it came in time.
    pub(crate) fn ends(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Bounded: one that hangs must not hang the test, and is ended by the mount's end.
        self.ends();
    }
}

/// What a folder is like, to be compared: every file with what an operation could change.
pub(crate) fn fingerprint(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if meta.is_file() {
            fs::read_to_string(&path).unwrap()
        } else {
            String::new()
        };
        let below = path.strip_prefix(folder).unwrap().display().to_string();
        let (mode, links) = (meta.mode(), meta.nlink());
        // The times of a folder say what its entries say already.
        let times = if meta.is_dir() { 0 } else { meta.mtime() };
        let ids = (meta.uid(), meta.gid(), meta.ino(), meta.size() * u64::from(meta.is_file()));
        lines.push(format!("{below} {mode:o} {links} {ids:?} {times} {what}"));
    }
    lines.sort();
    lines
}
