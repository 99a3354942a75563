//! Docker's defaults, without Docker: its default capabilities and its default seccomp profile.
//! Nobody has run this in Docker; see `deadbeat_tests::docker` for what the stand-in leaves out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use deadbeat_tests::docker::confine;
use deadbeat_tests::leftovers::Scene;
use deadbeat_tests::{Called, call, engines, finish, isolate, program};
use serde_json::Value;
use serial_test::serial;
use tempfile::TempDir;

const NOBODY: u32 = 65534;
/// How long what was killed may take to be gone.
const WAIT_MAX: Duration = Duration::from_secs(30);

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

    /// A home of the user's own, as root has one: nobody else may look into it.
    fn cache(&self, user: Option<u32>) -> PathBuf {
        let cache = self.folder.path().join(format!("home-{}", user.unwrap_or(0)));
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::set_permissions(&cache, PermissionsExt::from_mode(0o700)).unwrap();
        if let Some(user) = user {
            std::os::unix::fs::chown(&cache, Some(user), Some(user)).unwrap();
        }
        cache
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("deadbeat")
    }

    /// `argv` in a container; as root, or as `user`.
    fn call(&self, user: Option<u32>, argv: &[&str]) -> Called {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).current_dir(self.folder.path()).stdin(Stdio::null());
        isolate(&mut command);
        command.env("XDG_CACHE_HOME", self.cache(user));
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

/// Goal: whoever asks in a container is told what works, what does not, and what that costs.
#[test]
fn doctor_says_what_is_missing() {
    let image = Image::new();
    for user in users() {
        let doctor = image.deadbeat(user, &["doctor"]).expect_code(0).stdout;
        let line = |name: &str| doctor.lines().find(|line| line[10..].starts_with(name)).unwrap();
        for name in ["  ptrace ", "  seccomp filter ", "  vDSO ", "  trace a run "] {
            assert!(line(name).contains("OK"), "{user:?}: {doctor}");
        }
        let missing = [
            "  FUSE mount ",
            "  PID namespace ",
            "  mount namespace ",
            "  user namespace ",
            "  tmpfs ",
            "  PID worlds ",
            "  fixed addresses ",
        ];
        for name in missing {
            assert!(line(name).contains("MISSING"), "{user:?}: {doctor}");
        }
        for cost in ["pids` and --verify are skipped", "may differ", "no fuse engine"] {
            assert!(doctor.contains(cost), "{user:?}: {cost}: {doctor}");
        }
        assert!(doctor.contains("trace works here without namespaces; fuse does not"), "{doctor}");
    }
}

/// Goal: the roles of root's runs are another user, who has to reach the program.
#[test]
fn a_program_that_the_roles_cannot_reach_is_told() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root becomes another user");
        return;
    }
    let image = Image::new();
    std::fs::set_permissions(image.folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let doctor = image.deadbeat(None, &["doctor"]).expect_code(3).stdout;
    assert!(doctor.contains("start the run's supervisor as user 65534"), "{doctor}");
    assert!(doctor.contains("let everybody execute"), "{doctor}");
}

/// The results of a run in the container, or outside where there is no `user`.
fn results(image: &Image, user: Option<Option<u32>>, words: &[&str]) -> (Vec<Value>, String) {
    let out = image.folder.path().join(format!("out-{user:?}"));
    let mut args = vec!["run", "--engine", "trace", "--format", "json", "--no-canaries"];
    args.extend(["--jobs", "2", "--out", out.to_str().unwrap()]);
    args.extend(words);
    let called = match user {
        Some(user) => image.deadbeat(user, &args),
        None => call(image.folder.path(), args),
    };
    (called.json()["results"].as_array().unwrap().clone(), called.stderr)
}

/// What two runs of a case must agree about.
fn verdict(case: &Value) -> (&Value, Vec<String>) {
    let findings = case["findings"].as_array().unwrap().iter();
    let shown = |one: &Value| format!("{} {} {}", one["check"], one["kind"], one["roles"]);
    (&case["outcome"], findings.map(shown).collect())
}

/// Goal: in a container a scenario comes to the verdict that it comes to elsewhere, or is skipped
/// and says why; and no reader of a verdict can overlook how it was come by.
#[test]
#[serial]
fn verdicts_are_those_of_any_machine_or_none() {
    if !engines().contains(&"trace") {
        return;
    }
    let image = Image::new();
    let is_whole = std::env::var("DEADBEAT_PARITY").is_ok_and(|value| value == "all");
    let mut words = vec!["--subject", "reference", "--subject", "zoo@swallowed-beat"];
    if !is_whole {
        words.extend(["disk-full/*", "pid-world/*", "permission/*", "pause/*", "zombie/*"]);
    }
    let (outside, _) = results(&image, None, &words);
    for user in users() {
        let (inside, told) = results(&image, Some(user), &words);
        assert!(told.contains("warning: no namespaces can be made here"), "{told}");
        assert!(told.contains("warning: address space randomization"), "{told}");
        assert_eq!(inside.len(), outside.len());
        let mut compared = 0;
        for (inside, outside) in inside.iter().zip(&outside) {
            assert_eq!(inside["scenario"], outside["scenario"]);
            let reason = inside["reason"].as_str().unwrap_or_default();
            if inside["outcome"] == "skipped" {
                let is_fixed = reason.ends_with("and no namespaces can be made here");
                assert!(is_fixed || outside["outcome"] == "skipped", "{inside:#}");
                continue;
            }
            assert_eq!(verdict(inside), verdict(outside), "{user:?}: {inside:#}\n{outside:#}");
            let warnings = inside["warnings"].to_string();
            assert!(warnings.contains("no namespaces can be made here"), "{inside:#}");
            assert!(!outside["warnings"].to_string().contains("no namespaces"), "{outside:#}");
            compared += 1;
        }
        let of = |outcome: &str| inside.iter().filter(|case| case["outcome"] == outcome).count();
        let counts = ["held", "violated", "skipped"].map(of);
        println!("{user:?}: {compared} compared; held, violated, skipped: {counts:?}");
        assert!(of("held") >= 10 && of("violated") >= 5 && of("skipped") >= 10);
    }
}

/// Goal: roles on hosts of their own have host names of their own, however a program asks.
#[test]
#[serial]
fn host_names_are_shown_without_a_namespace() {
    let image = Image::new();
    let script = "a=$(uname -n); b=$(hostname); read c < /proc/sys/kernel/hostname\n\
                  d=$(uname -srm); [ \"$d\" = \"$(cat machine)\" ] || exit 8\n\
                  [ \"$a $b $c\" = \"$DEADBEAT_ROLE $DEADBEAT_ROLE $DEADBEAT_ROLE\" ] || exit 9\n\
                  echo entered >> \"$DEADBEAT_WITNESS\"; echo left >> \"$DEADBEAT_WITNESS\"\n";
    subject(&image, script, "-");
    let machine = Command::new("uname").arg("-srm").output().unwrap().stdout;
    std::fs::write(image.folder.path().join("subject/machine"), machine).unwrap();
    for user in users() {
        let words = ["pid-world/other-host-alive", "--subject", "./subject"];
        let (results, _) = results(&image, Some(user), &words);
        let witness = results[0]["witness"].to_string();
        assert!(witness.contains("holder") && witness.contains("entered"), "{:#}", results[0]);
        assert!(witness.contains("contender-1"), "{:#}", results[0]);
    }
}

/// Goal: the supervisor keeps what rights it has, and no process of a lock gets any of them.
#[test]
#[serial]
fn roles_have_no_rights() {
    let image = Image::new();
    let script = "grep -qE '^CapEff:.0+$' /proc/self/status || exit 7\n\
                  grep -qE '^CapPrm:.0+$' /proc/self/status || exit 8\n\
                  [ $(id -u) = $1 ] && touch \"$HOME/x\" \"$TMPDIR/y\" || exit 9\n\
                  echo entered >> \"$DEADBEAT_WITNESS\"; echo left >> \"$DEADBEAT_WITNESS\"\n";
    let ours = rustix::process::geteuid().as_raw();
    subject(&image, script, &if ours == 0 { NOBODY } else { ours }.to_string());
    for user in users() {
        let words = ["control/long-hold", "--subject", "./subject"];
        let (results, _) = results(&image, Some(user), &words);
        assert!(results[0]["witness"].to_string().contains("entered"), "{:#}", results[0]);
    }
}

/// Goal: a folder that only the supervisor may use gives no verdict.
#[test]
#[serial]
fn a_scratch_folder_that_the_roles_cannot_reach_is_told() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root has more rights than the roles");
        return;
    }
    let image = Image::new();
    let shut = image.cache(None);
    let words = ["control/long-hold", "--subject", "reference", "--scratch"];
    let words: Vec<&str> = words.into_iter().chain([shut.to_str().unwrap()]).collect();
    let (results, _) = results(&image, Some(None), &words);
    assert_eq!(results[0]["outcome"], "inconclusive", "{:#}", results[0]);
    assert!(results[0]["reason"].as_str().unwrap().contains("cannot reach it"), "{:#}", results[0]);
}

/// Goal: with its canaries, as anybody calls it: a run in a container proves something.
#[test]
#[serial]
fn every_canary_is_caught() {
    let image = Image::new();
    for user in users() {
        let words = ["run", "--engine", "trace", "control/long-hold", "--subject", "reference"];
        let out = format!("out-canaries-{user:?}");
        let words: Vec<&str> = words.into_iter().chain(["--out", &out]).collect();
        let called = image.deadbeat(user, &words).expect_code(0);
        assert!(called.stdout.contains("HELD"), "{}", called.stdout);
    }
}

/// Goal: two runs are not compared where they need not be the same.
#[test]
#[serial]
fn verify_is_skipped_with_the_reason() {
    let image = Image::new();
    for user in users() {
        let words = ["control/long-hold", "--subject", "reference", "--verify"];
        let (results, _) = results(&image, Some(user), &words);
        assert_eq!(results[0]["outcome"], "skipped");
        let reason = results[0]["reason"].as_str().unwrap();
        assert!(reason.contains("--verify cannot repeat") && reason.contains("pids"), "{reason}");
    }
}

/// A subject whose processes run this script; the words after it mark them.
fn subject(image: &Image, script: &str, mark: &str) {
    let folder = image.folder.path().join("subject");
    std::fs::create_dir_all(&folder).unwrap();
    let toml = format!(
        "format = 1\nname = \"script\"\nversion = \"1\"\nsummary = \"A script\"\n\
         [command]\nargv = [\"sh\", \"adapter.sh\", \"{mark}\"]\n\
         [lock]\npath = \"{{dir}}/lock\"\nheartbeat = []\n[timing]\nunit = \"300ms\"\n\
         [claims]\nexclusion = \"strict\"\non-heartbeat-failure = [\"none\"]\nwarns = []\n"
    );
    std::fs::write(folder.join("subject.toml"), toml).unwrap();
    std::fs::write(folder.join("adapter.sh"), script).unwrap();
}

/// The command lines of processes that name one of these words.
fn running(words: &[&str]) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

/// Waits until no process names one of these words.
fn expect_nobody(words: &[&str]) {
    let started = Instant::now();
    loop {
        let left = running(words);
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < WAIT_MAX, "left behind: {left:?}");
        std::thread::yield_now();
    }
}

/// Goal: no PID namespace keeps a run together, and still nothing of it is left: neither what a
/// lock's process leaves behind, nor the folder that it has shut.
#[test]
#[serial]
fn what_a_process_leaves_behind_dies_with_the_run() {
    let image = Image::new();
    let mark = format!("7{}", std::process::id());
    let script = "mkdir -p \"$DEADBEAT_LOCK/shut\"; chmod 0 \"$DEADBEAT_LOCK\"\n\
                  setsid sh -c \"sleep $1; :\" & (sleep $1; :) & sleep 0.1; exit 0\n";
    subject(&image, script, &mark);
    let before = Scene::now();
    for user in users() {
        let words = ["control/long-hold", "--subject", "./subject"];
        let (results, _) = results(&image, Some(user), &words);
        assert_eq!(results[0]["outcome"], "inconclusive", "{:#}", results[0]);
        expect_nobody(&[&mark, image.folder.path().to_str().unwrap()]);
        before.assert_clean();
    }
}

/// Goal: a process that escapes its tracer does not escape the run (clone(2), CLONE_UNTRACED).
#[test]
#[serial]
fn what_nobody_traces_dies_with_the_run() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: python3 is not installed");
        return;
    }
    let image = Image::new();
    let mark = format!("6{}", std::process::id());
    let script = "exec python3 -c '\nimport ctypes, os, signal\n\
                  if ctypes.CDLL(None).syscall(56, 0x800000 | 17, 0, 0, 0, 0) == 0:\n    \
                  os.setsid(); signal.pause()\n' \"$1\"\n";
    subject(&image, script, &mark);
    for user in users() {
        let words = ["control/long-hold", "--subject", "./subject"];
        let (results, _) = results(&image, Some(user), &words);
        assert_eq!(results[0]["outcome"], "inconclusive", "{:#}", results[0]);
        expect_nobody(&[&mark]);
    }
}

/// Goal: a lock that signals everybody hits nobody: not deadbeat, not the machine. The signal that
/// the test sends is none, should it hit.
#[test]
#[serial]
fn nobody_can_signal_everybody() {
    let image = Image::new();
    let script = "kill -s 0 -- -1 && exit 7\n\
                  kill -s 0 -- $$ && kill -s 0 -- -$$ && echo entered >> \"$DEADBEAT_WITNESS\"; sleep 0.1\n\
                  echo left >> \"$DEADBEAT_WITNESS\"\n";
    subject(&image, script, "-");
    for user in users() {
        let words = ["control/long-hold", "--subject", "./subject"];
        let (results, _) = results(&image, Some(user), &words);
        let witness = results[0]["witness"].to_string();
        assert!(witness.contains("entered") && witness.contains("left"), "{:#}", results[0]);
    }
}

/// Goal: whenever deadbeat is killed, no process and no folder is left.
#[test]
#[serial]
fn sigkill_at_any_moment_leaves_nothing() {
    let image = Image::new();
    let mark = format!("8{}", std::process::id());
    let script =
        "mkdir \"$DEADBEAT_LOCK\"; setsid sh -c \"sleep $1; :\" & while :; do [ -e x ]; done\n";
    subject(&image, script, &mark);
    let before = Scene::now();
    let program = image.program();
    for round in 0..kills() {
        for user in users() {
            let mut command = Command::new(&program);
            command.args(["run", "--engine", "trace", "--subject", "./subject", "--no-canaries"]);
            command.args(["--out", "out"]).current_dir(image.folder.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            isolate(&mut command);
            command.env("XDG_CACHE_HOME", image.cache(user));
            confine(&mut command, user);
            let mut run = command.spawn().unwrap();
            // Any moment will do, so nothing depends on how long this really takes.
            std::thread::sleep(Duration::from_millis(round * 37 % 400));
            run.kill().unwrap();
            run.wait().unwrap();
            expect_nobody(&[&mark, image.folder.path().to_str().unwrap()]);
            before.assert_clean();
        }
    }
}

/// How often deadbeat is killed; more by `DEADBEAT_KILLS`.
fn kills() -> u64 {
    std::env::var("DEADBEAT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
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
