//! Docker's defaults, without Docker: its default capabilities and its default seccomp profile.
//! Nobody has run this in Docker; see `deadbeat_tests::docker` for what the stand-in leaves out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use deadbeat_tests::docker::confine;
use deadbeat_tests::{Called, finish, isolate, program};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// A folder with the program that anybody may use, as an image would have it.
struct Image {
    folder: TempDir,
}

impl Image {
    fn new() -> Image {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        // By another process: a test that forks meanwhile would inherit the open copy, and a
        // program that is open for writing cannot be started (ETXTBSY).
        let copied = Command::new("cp").arg(program()).arg(folder.path().join("deadbeat")).status();
        assert!(copied.unwrap().success());
        Image { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("deadbeat")
    }

    /// `argv` in a container; as root, or as `user`.
    fn call(&self, user: Option<u32>, argv: &[&str]) -> Called {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).current_dir(self.folder.path()).stdin(Stdio::null());
        isolate(&mut command);
        let cache = format!("cache-{}", user.unwrap_or(0));
        command.env("XDG_CACHE_HOME", self.folder.path().join(cache));
        confine(&mut command, user);
        finish(command)
    }

    fn deadbeat(&self, user: Option<u32>, words: &[&str]) -> Called {
        let program = self.program();
        let argv = [program.to_str().unwrap()].into_iter().chain(words.iter().copied());
        self.call(user, &argv.collect::<Vec<&str>>())
    }
}

/// The users that a container may have; without root only our own.
fn users() -> Vec<Option<u32>> {
    if rustix::process::geteuid().is_root() { vec![None, Some(NOBODY)] } else { vec![None] }
}

/// Goal: the other tests of this file mean something: what Docker refuses is refused here.
#[test]
fn the_stand_in_refuses_what_docker_refuses() {
    let image = Image::new();
    let tries = [
        ("unshare --user true", "Operation not permitted"),
        ("unshare --pid --fork true", "Operation not permitted"),
        ("setarch --addr-no-randomize true", "Operation not permitted"),
        ("mount -t tmpfs none /mnt", ""),
    ];
    for user in users() {
        for (line, why) in tries {
            let called = image.call(user, &["sh", "-c", line]);
            assert_ne!(called.code, Some(0), "{user:?}: {line}");
            assert!(called.stderr.contains(why), "{user:?}: {line}: {}", called.stderr);
        }
        let rights =
            image.call(user, &["grep", "-E", "^(CapEff|Seccomp|NoNewPrivs)", "/proc/self/status"]);
        // As `docker run --rm alpine grep CapEff /proc/self/status` is known to print.
        let effective = if user.is_none() { "00000000a80425fb" } else { "0000000000000000" };
        let is_root = rustix::process::geteuid().is_root();
        assert!(!is_root || rights.stdout.contains(effective), "{user:?}: {}", rights.stdout);
        assert!(rights.stdout.contains("Seccomp:\t2"), "{}", rights.stdout);
        // It is no cage beyond that: threads, processes and files work.
        let called = image.call(user, &["sh", "-c", "(id -u; mkdir d && rmdir d) | cat"]);
        assert_eq!(called.expect_code(0).stderr, "");
    }
}

/// Goal: whoever asks in a container is told what is missing, and gets no verdict by accident.
#[test]
fn doctor_and_run_say_what_is_missing() {
    let image = Image::new();
    for user in users() {
        let doctor = image.deadbeat(user, &["doctor"]).expect_code(3).stdout;
        let line = |name: &str| doctor.lines().find(|line| line[10..].starts_with(name)).unwrap();
        for name in ["  ptrace ", "  seccomp filter ", "  vDSO "] {
            assert!(line(name).contains("OK"), "{user:?}: {doctor}");
        }
        for name in ["  PID namespace ", "  mount namespace ", "  tmpfs ", "  PID worlds "] {
            assert!(line(name).contains("MISSING"), "{user:?}: {doctor}");
        }
        let words = ["run", "--engine", "trace", "control/long-hold", "--subject", "reference"];
        let run = image.deadbeat(user, &words).expect_code(3);
        assert!(run.stderr.contains("unshare"), "{}", run.stderr);
    }
}

/// Goal: faults outside scenarios need no namespace.
#[test]
fn exec_works() {
    let image = Image::new();
    for user in users() {
        let file = image.folder.path().join(format!("file-{}", user.unwrap_or(0)));
        let file = file.to_str().unwrap();
        let fault = format!("on={file} op=create error=ENOSPC");
        let called = image.deadbeat(user, &["exec", "--fault", &fault, "--", "touch", file]);
        let called = called.expect_code(1);
        assert!(called.stderr.contains("No space left on device"), "{}", called.stderr);
        assert!(called.stderr.contains("FIRED"), "{}", called.stderr);
    }
}
