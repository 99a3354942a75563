//! `deadbeat mount`, as its users meet it: faults act and are told of, and however it ends the
//! mount is gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use deadbeat_tests::{call, command, fuse_works};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};

/// How long the kernel may take to take a mount away.
const GONE_MAX: Duration = Duration::from_secs(20);

/// A folder with SOURCE `s`, which holds `lock`, and TARGET `t`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("s")).unwrap();
        std::fs::create_dir(folder.path().join("t")).unwrap();
        std::fs::write(folder.path().join("s/lock"), "hello").unwrap();
        Place(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn mount(&self, arguments: &[&str]) -> Mounted {
        let mut mount = command(self.0.path(), ["mount", "s", "t"]);
        mount.args(arguments).stderr(Stdio::piped());
        let mut child = mount.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("MOUNTED") {
            let read = stderr.read_line(&mut said).unwrap();
            assert!(read > 0, "it ended without a mount:\n{said}");
        }
        Mounted { child, stderr, said }
    }

    fn is_mounted(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let target = self.path("t");
        table.lines().any(|line| line.split(' ').nth(4) == target.to_str())
    }

    fn await_gone(&self) {
        let started = Instant::now();
        while self.is_mounted() {
            assert!(started.elapsed() < GONE_MAX, "the mount is left");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Place {
    /// A failing test leaves no mount either.
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = Command::new("umount").arg("-l").arg(self.path("t")).status();
        }
    }
}

struct Mounted {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Mounted {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; gives its status and all that it said.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        std::io::Read::read_to_string(&mut self.stderr, &mut self.said).unwrap();
        (status, self.said)
    }
}

fn touch(path: &Path) -> std::process::Output {
    Command::new("touch").arg(path).output().unwrap()
}

#[rstest]
#[case::ctrl_c(Signal::INT)]
#[case::term(Signal::TERM)]
#[case::hang_up(Signal::HUP)]
fn faults_act_and_are_told_of_until_a_signal_comes(#[case] signal: Signal) {
    if !fuse_works() {
        return;
    }
    let place = Place::new();
    let lock = place.path("t/lock");
    let mounted = place.mount(&[
        "--fault=on=lock op=utimes error=EIO times=2..3",
        "--fault=on=*.new op=write ignore=true",
        "--fault=on=never op=write error=ENOSPC",
        "--log=log.jsonl",
    ]);
    let failed: Vec<bool> = (0..4).map(|_| !touch(&lock).status.success()).collect();
    assert_eq!(failed, [false, true, true, false]);
    std::fs::write(place.path("t/a.new"), "lost").unwrap();
    assert_eq!(std::fs::read(place.path("s/a.new")).unwrap(), b"");
    assert_eq!(std::fs::read(&lock).unwrap(), b"hello");
    mounted.signal(signal);
    let (status, said) = mounted.end();
    assert_eq!(status.code(), Some(0), "{said}");
    place.await_gone();
    for word in ["FIRED 2×", "FIRED once", "NEVER FIRED", "is the path right"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
    let told = said.lines().filter(|line| line.contains("fault 1: utimes")).count();
    assert_eq!(told, 2, "{said}");
    let log = std::fs::read_to_string(place.path("log.jsonl")).unwrap();
    assert!(log.starts_with("{\"format\":1,\"command\":\"mount\""), "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("\"what\":\"fired\"")).count(), 3);
}

#[test]
fn a_killed_mount_goes_away_by_itself() {
    if !fuse_works() {
        return;
    }
    let place = Place::new();
    for _ in 0..10 {
        let mut mounted = place.mount(&["--fault=on=lock op=utimes hang=1h"]);
        let mut hanging = Command::new("touch").arg(place.path("t/lock")).spawn().unwrap();
        mounted.child.kill().unwrap();
        mounted.child.wait().unwrap();
        place.await_gone();
        // Whatever it was told, it was let go.
        hanging.wait().unwrap();
    }
}

#[test]
fn what_hangs_when_the_mount_goes_gets_an_error() {
    if !fuse_works() {
        return;
    }
    let place = Place::new();
    let mounted = place.mount(&["--fault=on=lock op=utimes hang=1h"]);
    let hanging = Command::new("touch").arg(place.path("t/lock")).stderr(Stdio::piped()).spawn();
    let hanging = hanging.unwrap();
    let (mut mounted, mut said) = (mounted, String::new());
    while !said.contains("waits") {
        assert!(mounted.stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    mounted.signal(Signal::INT);
    let hanging = hanging.wait_with_output().unwrap();
    assert!(!hanging.status.success());
    let told = String::from_utf8_lossy(&hanging.stderr).into_owned();
    assert!(told.contains("Interrupted system call"), "{told}");
    assert_eq!(mounted.end().0.code(), Some(0));
    place.await_gone();
}

#[test]
fn umount_ends_it_and_a_user_of_the_mount_keeps_nobody_waiting() {
    if !fuse_works() {
        return;
    }
    let place = Place::new();
    let mounted = place.mount(&["--fault=on=lock op=utimes error=EIO"]);
    let unmounted = Command::new("umount").arg(place.path("t")).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(mounted.end().0.code(), Some(0));
    let mounted = place.mount(&["--fault=on=lock op=utimes error=EIO"]);
    let mut inside = Command::new("sleep").arg("1000").current_dir(place.path("t")).spawn();
    mounted.signal(Signal::INT);
    let (status, said) = mounted.end();
    place.await_gone();
    let inside = inside.as_mut().unwrap();
    inside.kill().unwrap();
    inside.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn a_folder_can_be_mounted_on_itself_and_strict_asks_for_every_fault() {
    if !fuse_works() {
        return;
    }
    let place = Place::new();
    let mut mount = command(place.0.path(), ["mount", "t", "t", "--strict"]);
    mount.args(["--fault=on=x op=utimes error=EIO"]).stderr(Stdio::piped());
    let mut child = mount.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("MOUNTED"), "{said}");
    std::fs::write(place.path("t/y"), "through").unwrap();
    let again = call(place.0.path(), ["mount", "s", "t", "--fault=on=x op=stat error=EIO"]);
    let mounted = Mounted { child, stderr, said };
    mounted.signal(Signal::TERM);
    assert_eq!(mounted.end().0.code(), Some(3));
    assert!(again.expect_code(2).stderr.contains("umount -l"));
    assert_eq!(std::fs::read(place.path("t/y")).unwrap(), b"through");
}

#[rstest]
#[case::word(&["s", "t", "--fault=on=x op=utimse error=EIO"], "`utimes`")]
#[case::no_fault(&["s", "t"], "--fault")]
#[case::no_target(&["s", "u", "--fault=on=x op=stat error=EIO"], "mkdir")]
#[case::no_folder(&["s", "s/lock", "--fault=on=x op=stat error=EIO"], "ot a directory")]
#[case::below(&[".", "t", "--fault=on=x op=stat error=EIO"], "wait for itself")]
#[case::elsewhere(&["s", "t", "--fault=on=/etc/x op=stat error=EIO"], "not below")]
#[case::thread(&["s", "t", "--fault=on=x op=thread error=EAGAIN"], "deadbeat exec")]
#[case::log(&["s", "t", "--log=no/log", "--fault=on=x op=stat error=EIO"], "log")]
fn a_bad_flag_is_exit_2_and_names_the_remedy(#[case] args: &[&str], #[case] hint: &str) {
    let place = Place::new();
    let args = std::iter::once("mount").chain(args.iter().copied());
    let called = call(place.0.path(), args).expect_code(2);
    assert!(called.stderr.contains(hint), "no `{hint}` in:\n{}", called.stderr);
    assert!(!place.is_mounted());
}
