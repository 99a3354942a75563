//! SIGKILL of deadbeat, while an operation hangs and at any moment, again and again: the kernel
//! cleans up, and nothing is left.
//!
//! This process becomes the reaper of every orphan below it, so "no process is left" is a fact
//! (it has no children any more), not a search. That is why this test is alone in its file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use deadbeat_tests::leftovers::Scene;
use deadbeat_tests::{command, fuse_works, root};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};

const ROUNDS: u64 = 100;
/// How long a run may take to reach the hanging operation, or the kernel to end what was killed.
const WAIT_MAX: Duration = Duration::from_secs(60);

const SUBJECT: &str = r#"
format  = 1
name    = "hangs"
version = "1"
summary = "Beats once, by touch, after it has left a mark"

[command]
argv = ["sh", "adapter.sh"]
env  = { MARKS = "@MARKS@" }

[lock]
path      = "{dir}/lock"
heartbeat = ["{dir}/lock"]

[timing]
stale-after = "1s"
beat-every  = "300ms"

[claims]
exclusion            = "strict"
on-heartbeat-failure = ["none"]
warns                = []
"#;

const ADAPTER: &str = r#"
[ "$DEADBEAT_ROLE" = holder ] || exec sleep 1000
mkdir "$DEADBEAT_LOCK"
echo entered >> "$DEADBEAT_WITNESS"
echo $$ > "$MARKS/holder"
# It ends with an error when deadbeat dies; it succeeds only if it did not hang.
touch "$DEADBEAT_LOCK" && echo > "$MARKS/did-not-hang"
"#;

/// How many times a run is killed at a random moment, for each engine; more by `DEADBEAT_KILLS`.
const KILLS: u64 = 25;
/// The latest of these moments: by then a run on either engine is in the middle of many scenarios.
const LATEST: Duration = Duration::from_millis(700);

/// Any moment of a whole run: while namespaces are made, processes start, files are held, mounts
/// go. The seed is printed, and `DEADBEAT_SEED` gives the same moments again.
#[test]
#[serial_test::serial]
fn sigkill_at_any_moment_leaves_nothing() {
    set_child_subreaper(Some(getpid())).unwrap();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("DEADBEAT_SEED").unwrap_or(since_epoch.as_secs());
    let kills = number("DEADBEAT_KILLS").unwrap_or(KILLS);
    println!("DEADBEAT_SEED={seed}");
    let home = tempfile::tempdir().unwrap();
    let before = Scene::now();
    for engine in ["trace", "fuse"] {
        if engine == "fuse" && !fuse_works() {
            continue;
        }
        let mut killed = 0;
        for round in 1..=kills {
            let args = ["run", "--engine", engine, "--subject", "zoo", "--subject", "reference"];
            let mut run = command(home.path(), args);
            run.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            let mut run = run.spawn().unwrap();
            // Any moment will do, so nothing depends on how long this really takes.
            std::thread::sleep(LATEST.mul_f64(fraction(seed, round)));
            run.kill().unwrap();
            killed += u64::from(run.wait().unwrap().signal() == Some(9));
            reap_orphans(round);
            before.assert_clean();
        }
        assert!(killed * 2 > kills, "{engine}: only {killed} of {kills} were still running");
    }
}

/// The `index`-th of a row of numbers from 0 to 1 (splitmix64).
fn fraction(seed: u64, index: u64) -> f64 {
    let mut bits = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from((bits ^ (bits >> 31)) >> 32).unwrap()) / f64::from(u32::MAX)
}

#[test]
#[serial_test::serial]
fn sigkill_while_operations_hang_leaves_nothing() {
    if !fuse_works() {
        return;
    }
    set_child_subreaper(Some(getpid())).unwrap();
    let home = tempfile::tempdir().unwrap();
    let marks = home.path().join("marks");
    std::fs::create_dir(&marks).unwrap();
    for (path, mode) in [(home.path(), 0o755), (&marks, 0o777)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let subject = home.path().join("hangs");
    std::fs::create_dir(&subject).unwrap();
    let toml = SUBJECT.replace("@MARKS@", marks.to_str().unwrap());
    std::fs::write(subject.join("subject.toml"), toml).unwrap();
    std::fs::write(subject.join("adapter.sh"), ADAPTER).unwrap();
    let before = Scene::now();
    for round in 1..=ROUNDS {
        let _ = std::fs::remove_file(marks.join("holder"));
        let scenario = root().join("tests/scenarios/hang.toml");
        let args = [
            "run",
            "--engine",
            "fuse",
            scenario.to_str().unwrap(),
            "--subject",
            "./hangs",
            "--no-canaries",
            "--out",
            "run",
        ];
        let mut run = command(home.path(), args);
        run.stdout(Stdio::null()).process_group(0);
        let mut run = run.spawn().unwrap();
        await_hang(&mut run, &marks, round);
        run.kill().unwrap();
        run.wait().unwrap();
        reap_orphans(round);
        before.assert_clean();
    }
    assert!(!marks.join("did-not-hang").exists());
}

/// Waits until the holder's `touch` sleeps: it sleeps only in the operation that hangs.
fn await_hang(run: &mut Child, marks: &Path, round: u64) {
    let started = Instant::now();
    let comes = |what: &str, there: &dyn Fn() -> bool, run: &mut Child| {
        while !there() {
            let ended = run.try_wait().unwrap();
            assert!(ended.is_none(), "round {round}: deadbeat ended before {what}: {ended:?}");
            assert!(started.elapsed() < WAIT_MAX, "round {round}: no {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    comes("the holder's mark", &|| marks.join("holder").exists(), run);
    comes("a hanging touch", &touch_sleeps, run);
}

/// Whether some process called `touch` sleeps (proc_pid_stat(5): name in parentheses, then state).
fn touch_sleeps() -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut stats =
        processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.any(|stat| stat.contains("(touch) S") || stat.contains("(touch) D"))
}

/// Reaps what deadbeat left to us, until there is nobody.
fn reap_orphans(round: u64) {
    let started = Instant::now();
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return,
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => {
                assert!(started.elapsed() < WAIT_MAX, "round {round}: processes are left");
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(errno) => panic!("round {round}: wait failed: {errno}"),
        }
    }
}
