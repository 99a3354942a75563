//! What an operation costs through the mount, beside a tmpfs in the same run: µs for one, and the
//! ratio; with daemon and client on one cpu, and on any.
//!
//! `cargo bench -p deadbeat-fs`. Prints a table and asserts nothing: figures of one machine are to
//! be compared with each other only. Needs the right to mount; mounts in a namespace of its own,
//! through unshare(1).

use std::error::Error;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use deadbeat_fs::{
    Caller, Errno, FaultFs, MountId, Operation, Options, Outcome, Ruler, Ruling, Served, mount_at,
    open_device,
};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timestamps, UTIME_NOW};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::CpuSet;

type Done = Result<(), Box<dyn Error>>;

/// Set in the process that has its own namespace.
const INSIDE: &str = "DEADBEAT_FS_BENCH_INSIDE";
/// Set in the process that serves: the device's number and the backing folder.
const DAEMON: &str = "DEADBEAT_FS_BENCH_DAEMON";
/// How long each operation is repeated.
const SPAN: Duration = Duration::from_millis(200);

fn main() -> Done {
    if let Some(place) = std::env::var_os(DAEMON) {
        return serve(Path::new(&place));
    }
    if std::env::var_os(INSIDE).is_none() {
        if let Err(error) = open_device() {
            println!("SKIPPED: no /dev/fuse: {error}");
            return Ok(());
        }
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "--propagation", "private", "--"]);
        return Err(inside.arg(std::env::current_exe()?).env(INSIDE, "1").exec().into());
    }
    let top = std::env::temp_dir().join(format!("deadbeat-fs-bench-{}", std::process::id()));
    fs::create_dir(&top)?;
    let done = mount(c"tmpfs", &top, c"tmpfs", MountFlags::empty(), None)
        .map_err(Into::into)
        .and_then(|()| compare(&top));
    let _ = unmount(&top, UnmountFlags::DETACH);
    fs::remove_dir(&top)?;
    done
}

/// A ruler like one that works: it looks at the path and keeps a record.
#[derive(Default)]
struct Recorder {
    settled: u64,
}

impl Ruler for Recorder {
    fn rule(&mut self, op: &Operation) -> Ruling {
        if op.path().ends_with("never") { Ruling::Fail(Errno(libc::EIO)) } else { Ruling::Proceed }
    }

    fn settled(&mut self, _: &Operation, outcome: &Outcome) {
        self.settled += u64::from(outcome.effect);
    }

    fn append(&mut self, _: MountId, _: Caller, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// Mounts `place/mount` over `place/backing`, and serves until it is killed.
fn serve(place: &Path) -> Done {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let backing: OwnedFd = rustix::fs::openat(CWD, place.join("backing"), flags, Mode::empty())?;
    let mut fs = FaultFs::new(backing, Options::default())?;
    let device = open_device()?;
    mount_at(&place.join("mount"), device.as_fd())?;
    let mount = fs.add_mount(device);
    let mut ruler = Recorder::default();
    loop {
        match fs.serve(mount, &mut ruler)? {
            Served::Handled => {}
            Served::Gone => return Ok(()),
            Served::Idle => {
                let mut polled = [PollFd::from_borrowed_fd(fs.device(mount), PollFlags::IN)];
                rustix::event::poll(&mut polled, None)?;
            }
        }
    }
}

fn compare(top: &Path) -> Done {
    for name in ["backing", "mount", "plain"] {
        fs::create_dir(top.join(name))?;
    }
    println!(
        "{:<16} {:>9} {:>9} {:>7} {:>11} {:>7}",
        "µs", "tmpfs", "one cpu", "ratio", "any cpu", "ratio"
    );
    let mut columns: Vec<Vec<(&str, f64)>> = Vec::new();
    for (folder, is_pinned) in [("plain", true), ("mount", true), ("mount", false)] {
        let cpus = rustix::thread::sched_getaffinity(None)?;
        if is_pinned {
            pin()?;
        }
        // Started pinned, so it inherits the cpu.
        let daemon = if folder == "mount" { Some(start_daemon(top)?) } else { None };
        let column = measure(&top.join(folder));
        if let Some(daemon) = daemon {
            rustix::process::kill_process(daemon, Signal::KILL)?;
            rustix::process::waitpid(Some(daemon), WaitOptions::empty())?;
            unmount(top.join("mount"), UnmountFlags::DETACH)?;
        }
        rustix::thread::sched_setaffinity(None, &cpus)?;
        columns.push(column?);
    }
    let [plain, one, any] = columns.try_into().map_err(|_| "three columns")?;
    for ((name, plain), ((_, one), (_, any))) in plain.iter().zip(one.iter().zip(&any)) {
        let (first, second) = (one / plain, any / plain);
        println!("{name:<16} {plain:>9.2} {one:>9.2} {first:>6.1}x {any:>11.2} {second:>6.1}x");
    }
    Ok(())
}

fn pin() -> Done {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).ok_or("no cpu")?;
    let mut set = CpuSet::new();
    set.set(first);
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

fn start_daemon(top: &Path) -> Result<Pid, Box<dyn Error>> {
    let child = Command::new(std::env::current_exe()?).env(DAEMON, top).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("a pid")?;
    let outside = rustix::fs::statat(CWD, top, AtFlags::empty())?.st_dev;
    for _ in 0..5000 {
        if rustix::fs::statat(CWD, top.join("mount"), AtFlags::empty())?.st_dev != outside {
            return Ok(pid);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the daemon did not mount".into())
}

/// µs for each operation in `folder`.
fn measure(folder: &Path) -> Result<Vec<(&'static str, f64)>, Box<dyn Error>> {
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let (f, new, other) = (path("f"), path("new"), path("other"));
    fs::write(&f, vec![0; 4096])?;
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let file = rustix::fs::openat(CWD, &f, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let block = [7; 4096];
    let mut column = Vec::new();
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    column.push(("stat", time(|| rustix::fs::statat(CWD, &f, AtFlags::empty()).map(drop))?));
    column.push(("utimensat", time(|| rustix::fs::utimensat(CWD, &f, &times, AtFlags::empty()))?));
    column.push(("futimens", time(|| rustix::fs::futimens(&file, &times))?));
    column.push((
        "create+unlink",
        time(|| {
            drop(rustix::fs::openat(CWD, &new, create, Mode::RUSR | Mode::WUSR)?);
            rustix::fs::unlinkat(CWD, &new, AtFlags::empty())
        })?,
    ));
    column.push((
        "mkdir+rmdir",
        time(|| {
            rustix::fs::mkdirat(CWD, &new, Mode::RWXU)?;
            rustix::fs::unlinkat(CWD, &new, AtFlags::REMOVEDIR)
        })?,
    ));
    let mut is_moved = false;
    column.push((
        "rename",
        time(|| {
            let (from, to) = if is_moved { (&other, &f) } else { (&f, &other) };
            is_moved = !is_moved;
            rustix::fs::renameat(CWD, from, CWD, to)
        })?,
    ));
    column.push(("write 4k", time(|| rustix::io::pwrite(&file, &block, 0).map(drop))?));
    Ok(column)
}

fn time(mut what: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<f64> {
    for _ in 0..100 {
        what()?;
    }
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < SPAN {
        for _ in 0..50 {
            what()?;
        }
        count += 50;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}
