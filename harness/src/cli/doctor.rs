//! `deadbeat doctor`: what this machine can do, found out by doing it.
//!
//! Nothing is concluded from versions, settings or user ids: each line is the result of an
//! attempt. A miss comes with what it costs and how to get it.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::exit::Exit;
use super::paint::Paint;
use super::probe::Probe;
use super::sys;
use crate::engine::Stop;
use crate::engine::fuse::FuseEngine;
use crate::engine::trace::{TraceEngine, try_vdso};
use crate::setup::{self, Bounds, Finished, run_bounded};

/// One probe may take and print so much.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), output_bytes: 4096 };

/// How to be let mount.
const MOUNT_REMEDY: &str = "be root, or allow user namespaces; in a container add \
                            `--cap-add SYS_ADMIN --security-opt apparmor=unconfined`";

/// What was tried, and what a miss means.
struct Line {
    name: &'static str,
    /// What was seen, or why not.
    found: Result<String, String>,
    costs: &'static str,
    remedy: &'static str,
}

/// Prints one line a probe, and says whether some engine works.
pub(super) fn doctor(paint: Paint) -> Exit {
    let trace = TraceEngine::probe();
    let lines = examine(&trace);
    let mut shown: String = lines.iter().map(|line| line.shown(paint)).collect();
    let exit = match (trace, usable_fuse()) {
        (Ok(engine), fuse) => {
            let bare = if engine.lacks_namespaces().is_some() { " without namespaces" } else { "" };
            let too = if fuse.is_ok() { "; fuse works as well" } else { "; fuse does not" };
            shown.push_str(&format!("{}  trace works here{bare}{too}\n", paint.bold("    Engine")));
            Exit::Ok
        }
        (Err(_), Ok(_)) => {
            let engine = paint.bold("    Engine");
            shown.push_str(&format!("{engine}  fuse works here; trace does not\n"));
            Exit::Ok
        }
        (Err(trace), Err(fuse)) => {
            shown.push_str(&format!("{}  none works here\n", paint.bad("    Engine")));
            let why = [("trace", trace), ("fuse", fuse)];
            for (name, why) in why {
                shown.extend(why.lines().map(|line| format!("            {name}: {line}\n")));
            }
            Exit::Inconclusive
        }
    };
    super::print(&shown);
    exit
}

/// The fuse engine, if it works here: what it tries by itself, and a mount.
///
/// # Errors
/// Why not, and what to do about it.
pub(super) fn usable_fuse() -> Result<FuseEngine, String> {
    let engine = FuseEngine::probe()?;
    let why = |why| format!("/dev/fuse cannot be mounted: {why}\n(hint: {MOUNT_REMEDY})");
    in_child(Probe::FuseMount, "").map_err(why)?;
    Ok(engine)
}

impl Line {
    fn shown(&self, paint: Paint) -> String {
        let Line { name, found, costs, remedy } = self;
        match found {
            Ok(detail) => format!("{}  {name:16} {detail}\n", paint.good("        OK")),
            Err(why) => {
                let why = setup::printable(why.lines().next().unwrap_or_default());
                let missing = paint.warn("   MISSING");
                let costs = format!("            costs: {costs}\n");
                format!("{missing}  {name:16} {why}\n{costs}            (hint: {remedy})\n")
            }
        }
    }
}

fn examine(trace: &Result<TraceEngine, String>) -> Vec<Line> {
    let mut lines = vec![
        Line {
            name: "/dev/fuse",
            found: open_device(),
            costs: "no fuse engine: no real mount to compare with",
            remedy: "load it with `modprobe fuse`; in a container add `--device /dev/fuse`; as an \
                     ordinary user let root `chmod 0666 /dev/fuse`",
        },
        Line {
            name: "FUSE mount",
            found: in_child(Probe::FuseMount, "mounted in a private mount namespace"),
            costs: "no fuse engine: no real mount to compare with",
            remedy: MOUNT_REMEDY,
        },
        Line {
            name: "mount namespace",
            found: in_child(Probe::MountNamespace, "private mounts"),
            costs: "no fuse engine; trace runs lie in a plain folder: `[world] space`, `[world] \
                    users` and events that fill or change owners are skipped",
            remedy: "be root, or allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1` \
                     and `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        },
        Line {
            name: "PID namespace",
            found: in_child(Probe::PidNamespace, "a process tree that ends with its first process"),
            costs: "no fuse engine; in trace runs a lock has this machine's pids, and can see and \
                    signal other processes of its user; `[world] pids` and --verify are skipped",
            remedy: "as for the mount namespace",
        },
        Line {
            name: "user namespace",
            found: in_child(Probe::UserNamespace, "a user that is root inside"),
            costs: "an ordinary user has no mount and no PID namespace",
            remedy: "as for the mount namespace; `sysctl user.max_user_namespaces` must not be 0",
        },
        Line {
            name: "tmpfs",
            found: in_child(Probe::Tmpfs, "mounted in a private mount namespace"),
            costs: "scenarios that fill a file system are skipped; run folders lie in /dev/shm or \
                    the folder for temporary files",
            remedy: "as for the mount namespace",
        },
        Line {
            name: "ptrace",
            found: trace_a_child(),
            costs: "no trace engine",
            remedy: "in a container add `--cap-add SYS_PTRACE`; else `sysctl \
                     kernel.yama.ptrace_scope=1` or lower",
        },
        Line {
            name: "seccomp filter",
            found: in_child(Probe::Seccomp, "can be installed"),
            costs: "no trace engine",
            remedy: "use a kernel with CONFIG_SECCOMP_FILTER",
        },
        Line {
            name: "fixed addresses",
            found: in_child(Probe::FixedAddresses, "programs can lie at the same ones in each run"),
            costs: "two trace runs of one plan may differ, where a program uses an address as a \
                    random number",
            remedy: "let personality(2) switch off address space randomization; in a container \
                     `--security-opt seccomp=unconfined`",
        },
        Line {
            name: "trace a run",
            found: trace.as_ref().map_err(Clone::clone).map(|engine| {
                let apart =
                    if engine.lacks_namespaces().is_some() { ", in no namespace" } else { "" };
                format!("a call was answered for a traced child{apart}")
            }),
            costs: "no trace engine: runs take real time, and clocks, schedules and PID worlds are skipped",
            remedy: "as for ptrace and the namespaces",
        },
        Line {
            name: "PID worlds",
            found: trace.as_ref().map_err(Clone::clone).and_then(|engine| {
                match engine.lacks_pid_worlds() {
                    None => Ok("a process was made with the number that was asked for".to_owned()),
                    Some(why) => Err(why.to_owned()),
                }
            }),
            costs: "scenarios with `[world] pids` are skipped: equal and reused process numbers",
            remedy: "be root, or allow user namespaces; a kernel since 5.5 (clone3, set_tid)",
        },
        Line {
            name: "vDSO",
            found: try_vdso()
                .map(|()| "its clocks can be replaced".to_owned())
                .map_err(|error| error.to_string()),
            costs: "the trace engine is slower: every look at a clock stops the program",
            remedy: "none is needed; a newer kernel may help",
        },
    ];
    lines.extend([
        program("node", "node locks such as proper-lockfile are skipped", "apt install nodejs npm"),
        program("python3", "python locks are skipped", "apt install python3"),
        program("go", "go locks are skipped", "apt install golang-go"),
        program("strace", "nothing: it only helps to look at an adapter", "apt install strace"),
    ]);
    lines
}

fn open_device() -> Result<String, String> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    opened.map(|_| "can be opened".to_owned()).map_err(|error| error.to_string())
}

fn program(name: &'static str, costs: &'static str, remedy: &'static str) -> Line {
    let found = setup::version_of(name, &Stop::default());
    Line { name, found: found.map(|version| format!("version {version}")), costs, remedy }
}

/// This same program as a probe.
fn probe_command(probe: Probe) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["__probe", probe.as_str()]);
    Ok(command)
}

/// Tries `probe` in a process of its own, on an empty folder that nobody else uses.
fn in_child(probe: Probe, success: &str) -> Result<String, String> {
    let attempt = || {
        let folder = tempfile::tempdir()?;
        let mut command = probe_command(probe)?;
        command.arg(folder.path());
        run_bounded(command, BOUNDS, &Stop::default())
    };
    match attempt() {
        Ok((Finished::Exited(status), _)) if status.success() => Ok(success.to_owned()),
        Ok((Finished::Exited(_), why)) => Err(why.trim().to_owned()),
        Ok(_) => Err(format!("no answer within {} s", BOUNDS.time.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

fn trace_a_child() -> Result<String, String> {
    let traced = probe_command(Probe::Wait).and_then(|mut command| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let seized = sys::seize_and_detach(&child);
        child.kill()?;
        child.wait()?;
        seized
    });
    traced.map(|()| "a child can be seized".to_owned()).map_err(|error| error.to_string())
}
