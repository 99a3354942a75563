//! `deadbeat witness` and `deadbeat cs`, with a plain file as the witness: what adapters get from
//! them, without any engine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadbeat_tests::{Called, command, finish};
use rustix::process::{Pid, Signal, kill_process};

/// A folder with a witness and a lock file.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("witness"), "").unwrap();
        Place(folder)
    }

    fn lock(&self) -> PathBuf {
        self.0.path().join("lock")
    }

    fn command(&self, args: &[&str], hold_ms: u32, patience_ms: u32) -> Command {
        let mut command = command(self.0.path(), args);
        command.env("DEADBEAT_WITNESS", self.0.path().join("witness"));
        command.env("DEADBEAT_LOCK", self.lock()).env("DEADBEAT_TICK_MS", "20");
        command.env("DEADBEAT_HOLD_MS", hold_ms.to_string());
        command.env("DEADBEAT_PATIENCE_MS", patience_ms.to_string());
        command
    }

    fn call(&self, args: &[&str], hold_ms: u32, patience_ms: u32) -> Called {
        finish(self.command(args, hold_ms, patience_ms))
    }

    /// The lines of the witness; neighbours that are `wrote` count as one.
    fn said(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.path().join("witness")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.dedup_by(|one, other| one == "wrote" && other == "wrote");
        lines
    }

    fn await_line(&self, line: &str) {
        let started = Instant::now();
        while !self.said().iter().any(|said| said == line) {
            assert!(started.elapsed() < Duration::from_secs(60), "no `{line}`: {:?}", self.said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Somebody else who has the lock until it is dropped.
struct Other(Child);

impl Other {
    fn holding(lock: &Path) -> Other {
        let mut flock = Command::new("flock");
        flock.arg(lock).args(["sh", "-c", "echo; exec cat"]);
        let mut child = flock.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Its first byte says that it has the lock.
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        Other(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn witness_writes_its_words_as_one_line() {
    let place = Place::new();
    place.call(&["witness", "lost", "reason=gone"], 0, 0).expect_code(0);
    assert_eq!(place.said(), ["lost reason=gone"]);
    place.call(&["witness", &"x".repeat(4096)], 0, 0).expect_code(1);
    place.call(&["witness", "two\nlines"], 0, 0).expect_code(1);
    assert_eq!(place.said().len(), 1);
    let unset = finish(command(place.0.path(), ["witness", "entered"])).expect_code(1);
    assert!(unset.stderr.contains("DEADBEAT_WITNESS is not set"), "{}", unset.stderr);
}

#[test]
fn cs_enters_ticks_and_leaves() {
    let place = Place::new();
    place.call(&["cs"], 200, 0).expect_code(0);
    assert_eq!(place.said(), ["entered", "wrote", "left"]);
}

#[test]
fn cs_aborts_on_sigterm() {
    let place = Place::new();
    let mut child = place.command(&["cs"], 600_000, 0).spawn().unwrap();
    place.await_line("wrote");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(place.said(), ["entered", "wrote", "aborted"]);
}

#[test]
fn a_command_around_cs_ends_with_released() {
    let place = Place::new();
    let lock = place.lock();
    place.call(&["cs", "--", "flock", lock.to_str().unwrap(), "{cs}"], 100, 60_000).expect_code(0);
    assert_eq!(place.said(), ["entered", "wrote", "left", "released"]);
}

/// Goal: giving up is said when patience ends, and nobody enters afterwards.
#[test]
fn a_command_that_never_gets_the_lock_gives_up() {
    let place = Place::new();
    let lock = place.lock();
    let other = Other::holding(&lock);
    // In a shell, so that the command's own child still waits when the command is ended.
    let script = format!("flock '{}' {{cs}}; true", lock.display());
    let mut command = place.command(&["cs", "--", "sh", "-c", &script], 100, 200);
    // That child outlives the command, and would keep pipes of ours open.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!((status.code(), place.said()), (Some(0), vec!["gave-up".to_owned()]));
    drop(other);
    // Whoever takes the lock now waits behind the command's child, if that still wants it.
    assert!(Command::new("flock").arg(&lock).arg("true").status().unwrap().success());
    assert_eq!(place.said(), ["gave-up"]);
}

#[test]
fn a_lock_that_gives_up_by_itself_before_the_patience_failed() {
    let place = Place::new();
    let lock = place.lock();
    let _other = Other::holding(&lock);
    let args = ["cs", "--", "flock", "-n", lock.to_str().unwrap(), "{cs}"];
    place.call(&args, 100, 60_000).expect_code(1);
    let said = place.said();
    assert!(said.len() == 1 && said[0].starts_with("failed "), "{said:?}");
}

#[test]
fn a_command_that_is_missing_or_never_calls_cs_failed() {
    let place = Place::new();
    place.call(&["cs", "--", "deadbeat-no-such-program", "{cs}"], 100, 1000).expect_code(1);
    place.call(&["cs", "--", "flock", "lock", "true"], 100, 1000).expect_code(1);
    let said = place.said();
    assert!(said.len() == 2 && said.iter().all(|line| line.starts_with("failed ")), "{said:?}");
}

#[test]
fn sigterm_reaches_the_cs_through_the_command() {
    let place = Place::new();
    // `exec`: the command is the critical section itself once it has the lock.
    let args = ["cs", "--", "sh", "-c", "exec {cs}"];
    let mut child = place.command(&args, 600_000, 60_000).spawn().unwrap();
    place.await_line("wrote");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(place.said(), ["entered", "wrote", "aborted", "released"]);
}
