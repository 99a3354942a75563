//! `passthrough [--log] [--synthetic NAME] BACKING MOUNTPOINT`: a fault file system without faults.
//!
//! For trying the file system out, and for pjdfstest. Needs the right to mount; ends, and
//! unmounts, on SIGTERM and SIGINT. `--log` prints every operation on standard error.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use deadbeat_fs::{
    Caller, Errno, FaultFs, MountId, Operation, Options, Outcome, Ruler, Ruling, Served, mount_at,
    open_device,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

static STOP: AtomicBool = AtomicBool::new(false);

/// Lets everything through.
struct Passthrough {
    log: bool,
}

impl Ruler for Passthrough {
    fn rule(&mut self, _: &Operation) -> Ruling {
        Ruling::Proceed
    }

    fn settled(&mut self, op: &Operation, outcome: &Outcome) {
        if self.log {
            let Operation { kind, caller, to, .. } = op;
            eprintln!("{} {kind:?} {:?} {to:?} {:?}", caller.tid, op.paths, outcome.result);
        }
    }

    fn append(&mut self, _: MountId, caller: Caller, data: &[u8]) -> Result<(), Errno> {
        eprint!("{}: {}", caller.tid, String::from_utf8_lossy(data));
        Ok(())
    }
}

struct Arguments {
    log: bool,
    synthetic: Option<OsString>,
    backing: PathBuf,
    target: PathBuf,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args_os().skip(1);
    let (mut log, mut synthetic, mut places) = (false, None, Vec::new());
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--log") => log = true,
            Some("--synthetic") => synthetic = Some(words.next()?),
            _ => places.push(PathBuf::from(word)),
        }
    }
    let [backing, target] = places.try_into().ok()?;
    Some(Arguments { log, synthetic, backing, target })
}

fn main() -> io::Result<()> {
    let Some(arguments) = arguments() else {
        eprintln!("usage: passthrough [--log] [--synthetic NAME] BACKING MOUNTPOINT");
        std::process::exit(2);
    };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let backing = rustix::fs::openat(CWD, &arguments.backing, flags, Mode::empty())?;
    let options = Options { synthetic: arguments.synthetic, ..Options::default() };
    let mut fs = FaultFs::new(backing, options)?;
    let device = open_device()?;
    mount_at(&arguments.target, device.as_fd())?;
    let mount = fs.add_mount(device);
    stop_on_signals(&arguments.target)?;
    serve(&mut fs, mount, &mut Passthrough { log: arguments.log })
}

/// Unmounts from a second thread: the first must be free to answer meanwhile.
fn stop_on_signals(target: &Path) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM, libc::SIGINT])?;
    let target = target.to_path_buf();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            STOP.store(true, Ordering::SeqCst);
            if let Err(error) = unmount(&target, UnmountFlags::DETACH) {
                eprintln!("unmount {}: {error}", target.display());
            }
        }
    });
    Ok(())
}

fn serve(fs: &mut FaultFs, mount: MountId, ruler: &mut dyn Ruler) -> io::Result<()> {
    loop {
        match fs.serve(mount, ruler)? {
            Served::Handled => continue,
            Served::Gone => return Ok(()),
            Served::Idle => {}
        }
        fs.tick(ruler);
        let now = Instant::now();
        let wait = fs.next_deadline().map(|at| at.saturating_duration_since(now));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut polled = [PollFd::from_borrowed_fd(fs.device(mount), PollFlags::IN)];
        match rustix::event::poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if STOP.load(Ordering::SeqCst) && polled[0].revents().contains(PollFlags::ERR) {
            return Ok(());
        }
    }
}
