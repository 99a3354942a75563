//! `deadbeat mount`: a fault mount in the foreground, until Ctrl-C, SIGTERM or `umount`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::MountArgs;
use super::complain;
use super::exit::Exit;
use super::faults::{complain_of_faults, read_faults, warn_of_faults};
use super::ledger::Ledger;
use crate::engine::EngineError;
use crate::engine::fuse::outside::{FaultMount, is_fault_mount};
use crate::op::OpKind;

/// Does what `mount` was asked for.
pub(super) fn mount(args: &MountArgs) -> Exit {
    let (source, target) = match places(args) {
        Ok(places) => places,
        Err(why) => {
            eprintln!("error: {why}");
            return Exit::BadInput;
        }
    };
    let asked = match read_faults(&args.faults, |on| below_mount(on, &target)) {
        Ok(asked) => asked,
        Err(errors) => {
            complain_of_faults(&errors);
            return Exit::BadInput;
        }
    };
    if asked.iter().flat_map(|one| &one.rules).any(|rule| rule.ops.kinds.contains(&OpKind::Thread))
    {
        eprintln!("error: a mount does not see threads\n(hint: `deadbeat exec` does)");
        return Exit::BadInput;
    }
    warn_of_faults(&asked);
    let argv = [source.display().to_string(), target.display().to_string()];
    let ledger = Ledger::open(("mount", &argv), &asked, &target, args.log.as_deref(), true);
    let ledger = match ledger {
        Ok(ledger) => ledger,
        Err(error) => {
            eprintln!("error: the log cannot be written: {error}");
            return Exit::BadInput;
        }
    };
    let rules: Vec<_> = asked.iter().flat_map(|one| one.rules.clone()).collect();
    let served = listen().map_err(|source| {
        let what = "listen for signals".to_owned();
        EngineError::Step { what, source }
    });
    let served = served.and_then(|stop| {
        let mut mount = FaultMount::lay(&source, &target, &rules, ledger)?;
        let place = target.display();
        eprintln!(
            "     MOUNTED {} on {place}; Ctrl-C or `umount {place}` ends it",
            source.display()
        );
        let served = mount.serve(stop.as_fd());
        let ledger = mount.take_down()?;
        served.map(|()| ledger)
    });
    match served {
        Ok(ledger) if !ledger.sum_up() && args.strict => Exit::Inconclusive,
        Ok(_) => Exit::Ok,
        Err(error) => {
            complain(&error);
            if let Some(hint) = hint(&error) {
                eprintln!("(hint: {hint})");
            }
            Exit::Inconclusive
        }
    }
}

/// What may help where the mount cannot be made.
fn hint(error: &EngineError) -> Option<&'static str> {
    let EngineError::Step { what, source } = error else { return None };
    let is_device = what.ends_with("/dev/fuse");
    match source.kind() {
        io::ErrorKind::NotFound if is_device => {
            Some("load the module (`modprobe fuse`), or pass the device into the container")
        }
        io::ErrorKind::PermissionDenied if is_device => {
            Some("run as root, or let your user open it (`chmod 0666 /dev/fuse`)")
        }
        io::ErrorKind::PermissionDenied => Some(
            "mounting needs root, or a user namespace: `unshare -Urm sh` gives a shell in one, \
             and the mount is seen in it only. `deadbeat exec` needs neither",
        ),
        _ => None,
    }
}

/// Becomes readable when the mount shall go. A second signal ends deadbeat at once; the guard
/// unmounts all the same.
fn listen() -> io::Result<UnixStream> {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    let (read, write) = UnixStream::pair()?;
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds `again` still false.
        let code = i32::from(Exit::Interrupted.code());
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&again))?;
        signal_hook::flag::register(signal, Arc::clone(&again))?;
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Both folders, without symbolic links.
fn places(args: &MountArgs) -> Result<(PathBuf, PathBuf), String> {
    // Asked of the mount table first: nobody may answer on a dead mount.
    let target = std::path::absolute(&args.target).map_err(|error| error.to_string())?;
    if is_fault_mount(&target) {
        let place = target.display();
        return Err(format!(
            "{place} is a fault mount already\n(hint: `umount -l {place}` takes it away)"
        ));
    }
    let target = folder(&target, "TARGET")?;
    if is_fault_mount(&target) {
        return Err(format!("{} is a fault mount already", target.display()));
    }
    let source = folder(&args.source, "SOURCE")?;
    if target != source && target.starts_with(&source) {
        return Err(format!(
            "TARGET {} is below SOURCE {}: the mount would wait for itself\n(hint: mount SOURCE \
             on itself, or on a folder elsewhere)",
            target.display(),
            source.display()
        ));
    }
    Ok((source, target))
}

fn folder(path: &Path, what: &str) -> Result<PathBuf, String> {
    let real = path.canonicalize().and_then(|real| {
        let is_folder = std::fs::metadata(&real)?.is_dir();
        if is_folder { Ok(real) } else { Err(io::ErrorKind::NotADirectory.into()) }
    });
    real.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => format!("\n(hint: `mkdir {}`)", path.display()),
            io::ErrorKind::NotConnected => {
                format!("\n(hint: a dead mount; `umount -l {}` takes it away)", path.display())
            }
            _ => String::new(),
        };
        format!("{what} {}: {error}{hint}", path.display())
    })
}

/// A path or glob below the mount: relative to it, or absolute.
fn below_mount(on: &str, target: &Path) -> Result<String, String> {
    let prefix = format!("{}/", target.display());
    let is_target = on.trim_end_matches('/') == target.to_string_lossy();
    let below = match on.strip_prefix(&prefix) {
        Some(below) => below,
        None if is_target => "",
        None if on.starts_with('/') => {
            return Err(format!(
                "`on={on}` is not below {}\n(hint: a path in the mount, or relative to it)",
                target.display()
            ));
        }
        None => on,
    };
    let below = below.trim_start_matches("./");
    if below.split('/').any(|part| part == ".." || part == ".") {
        return Err(format!("`on={on}`: no `.` and `..` in a path of a mount"));
    }
    Ok(below.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_mount_is_below_it() {
        let target = Path::new("/mnt/t");
        for (on, below) in
            [("/mnt/t/a/*", "a/*"), ("a/b", "a/b"), ("./a", "a"), ("/mnt/t", ""), ("a/", "a")]
        {
            assert_eq!(below_mount(on, target).as_deref(), Ok(below), "{on}");
        }
        for on in ["/mnt/tt/a", "/etc/passwd", "../a", "a/../../b"] {
            assert!(below_mount(on, target).is_err(), "{on}");
        }
    }
}
