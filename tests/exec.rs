//! `deadbeat exec`, as its users meet it: faults hit what strace would hit, and the command stays
//! the user's own in everything else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use deadbeat_tests::{Called, call, command, root};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long something that is on its way may take.
const COME_MAX: Duration = Duration::from_secs(30);

/// A folder that holds a file called `lock`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lock"), "hello").unwrap();
    folder
}

/// `deadbeat exec FLAGS -- sh -c SCRIPT` in a folder.
fn shell(folder: &Path, flags: &[&str], script: &str) -> Called {
    let shell = ["--", "sh", "-c", script];
    call(folder, ["exec"].iter().chain(flags).chain(&shell))
}

/// Whether a program is there; a test that wants it says so and ends early.
fn has(program: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = asked.status().is_ok();
    if !is_there {
        println!("skipped: there is no {program} here");
    }
    is_there
}

#[track_caller]
fn await_that(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < COME_MAX, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[rstest]
#[case::its_own("exit 7", 7)]
#[case::signal("kill -TERM $$", 143)]
#[case::segv("kill -SEGV $$", 139)]
#[case::fine("touch lock", 0)]
fn the_exit_code_is_the_commands(#[case] script: &str, #[case] code: i32) {
    let folder = folder();
    shell(folder.path(), &["--fault=on=x op=utimes error=EIO"], script).expect_code(code);
}

#[rstest]
#[case::missing("no-such-program", 127)]
#[case::not_executable("./lock", 126)]
fn a_command_that_cannot_be_run_is_said(#[case] program: &str, #[case] code: i32) {
    let folder = folder();
    let args = ["exec", "--fault=on=x op=utimes error=EIO", "--", program];
    let called = call(folder.path(), args).expect_code(code);
    assert!(called.stderr.contains(program), "{}", called.stderr);
    assert!(!called.stderr.contains("FIRED"), "{}", called.stderr);
}

/// Goal: each kind of fault does to a command what it does in a scenario.
#[rstest]
#[case::error("op=write error=ENOSPC", "echo x >> lock || echo failed; cat lock", "failed\nhello")]
#[case::apply(
    "op=write error=EIO apply=true",
    "echo x >> lock || echo failed; cat lock",
    "failed\nhellox\n"
)]
#[case::ignore("op=write ignore=true", "echo x >> lock && cat lock", "hello")]
#[case::torn("op=write torn=2", "echo 123 >> lock && cat lock", "hello12")]
#[case::times(
    "op=write error=EIO times=2..3",
    "for i in 1 2 3 4; do echo $i >> lock; done; cat lock",
    "hello1\n4\n"
)]
#[case::kill("op=write kill=true", "echo x >> lock; echo unreachable", "")]
#[case::from("op=write error=EIO from=1h", "echo x >> lock; cat lock", "hellox\n")]
#[case::rename("op=rename error=EROFS", "mv lock other || echo failed", "failed\n")]
#[case::unlink("op=unlink error=EPERM", "rm -f lock || echo failed", "failed\n")]
fn a_fault_does_what_it_says(#[case] words: &str, #[case] script: &str, #[case] out: &str) {
    let folder = folder();
    let called = shell(folder.path(), &[&format!("--fault=on=lock {words}")], script);
    assert_eq!(called.stdout, out, "{}", called.stderr);
    let killed = words.contains("kill");
    assert_eq!(called.code == Some(137), killed, "{called:?}");
}

/// Goal: what waits waits as long as it should, and everybody else goes on meanwhile.
#[rstest]
#[case("hang=700ms")]
#[case("delay=700ms")]
#[case("pause=700ms")]
fn a_held_operation_waits(#[case] words: &str) {
    let folder = folder();
    let started = Instant::now();
    let fault = format!("--fault=on=lock op=utimes {words} times=1");
    shell(folder.path(), &[&fault], "touch lock").expect_code(0);
    assert!(started.elapsed() >= Duration::from_millis(700));
}

/// Goal: strace's two delays differ in what others see meanwhile.
#[rstest]
#[case("delay_enter", false)]
#[case("delay_exit", true)]
fn an_operation_is_delayed_before_or_after_it_happens(#[case] which: &str, #[case] is_done: bool) {
    let folder = folder();
    let script = "(sleep 0.5; test -e folder && echo there) & mkdir folder; wait; test -d folder";
    let flag = format!("--inject=mkdir:{which}=1s");
    let called = shell(folder.path(), &[&flag, "--on=folder"], script).expect_code(0);
    assert_eq!(called.stdout.contains("there"), is_done, "{called:?}");
}

/// Goal: a path means the file, however the command and the user spell it.
#[rstest]
#[case("touch lock")]
#[case("touch ./lock")]
#[case("touch $PWD/../${PWD##*/}/lock")]
#[case("ln -s . here && touch here/lock")]
#[case("ln -s lock link && touch link")]
#[case("mkdir d && cd d && touch ../lock")]
#[case("touch - >> lock")]
fn a_file_is_hit_however_it_is_spelt(#[case] script: &str) {
    let folder = folder();
    for on in ["lock", "./lock", "l?ck", &format!("{}/lock", folder.path().display())] {
        if on.starts_with("*/..") {
            continue;
        }
        let inside = tempfile::tempdir_in(folder.path()).unwrap();
        std::fs::write(inside.path().join("lock"), "").unwrap();
        let on = on.replace(folder.path().to_str().unwrap(), inside.path().to_str().unwrap());
        let called =
            shell(inside.path(), &[&format!("--fault=on={on} op=utimes error=EROFS")], script);
        assert_ne!(called.code, Some(0), "{on}: {script}");
        assert!(called.stderr.contains("Read-only file system"), "{on}: {}", called.stderr);
    }
}

/// Goal: the n-th operation is the n-th of the process, whichever thread makes it.
#[test]
fn threads_are_counted_together_and_processes_apart() {
    if !has("python3") {
        return;
    }
    let script = "
import os, sys, threading
told = []
def beat():
    for _ in range(5):
        try: os.utime('lock'); told.append(0)
        except OSError as error: told.append(error.errno)
threads = [threading.Thread(target=beat) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(told), told.count(5))
if len(sys.argv) == 1 and os.fork() == 0:
    os.execlp('python3', 'python3', sys.argv[0], 'child')
elif len(sys.argv) == 1: os.wait()
";
    let folder = folder();
    std::fs::write(folder.path().join("beat.py"), script).unwrap();
    for _ in 0..5 {
        let by_file = call(
            folder.path(),
            ["exec", "--fault=on=lock op=utimes error=EIO times=3..5", "--", "python3", "beat.py"],
        );
        assert_eq!(by_file.expect_code(0).stdout, "20 3\n20 0\n");
        let by_process = call(
            folder.path(),
            [
                "exec",
                "--inject=utimensat:error=EIO:when=3..5",
                "--on=lock",
                "--",
                "python3",
                "beat.py",
            ],
        );
        assert_eq!(by_process.expect_code(0).stdout, "20 3\n20 3\n");
    }
}

/// The C program that makes one call of each kind, linked statically.
fn calls_program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("calls");
        let mut cc = Command::new("cc");
        cc.args(["-static", "-O1", "-o"]).arg(&program).arg(root().join("tests/guests/calls.c"));
        let is_built = cc.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        is_built.then_some((folder, program))
    });
    if built.is_none() {
        println!("skipped: a static C program cannot be built here");
    }
    built.as_ref().map(|(_, program)| program.as_path())
}

/// Goal: the same call gets the same answer as under strace.
#[rstest]
#[case("utimensat:error=EIO")]
#[case("utimensat,utime,utimes:error=EROFS:when=1")]
#[case("openat:error=EACCES:when=1")]
#[case("write:error=ENOSPC")]
#[case("write:retval=0")]
#[case("read:error=EIO")]
#[case("fsync:error=28")]
#[case("fsync:retval=0")]
#[case("rename:error=EROFS")]
#[case("link:error=EPERM")]
#[case("unlink:error=EIO")]
#[case("unlink:retval=0")]
#[case("mkdir:error=ENOSPC")]
#[case("rmdir:error=EBUSY")]
#[case("symlink:error=EDQUOT")]
#[case("flock:error=ENOLCK")]
#[case("chmod:error=EPERM")]
#[case("ftruncate:error=EIO")]
#[case("stat,newfstatat:error=EIO")]
fn an_injection_does_what_strace_does(#[case] injection: &str) {
    let Some(program) = calls_program() else { return };
    if !has("strace") {
        return;
    }
    let (theirs, ours) = (folder(), folder());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("inject={injection}")]);
    // strace compares texts: every spelling, and a name for each file that will be made.
    let here = theirs.path().join("lock");
    for path in ["lock", "second", "third", "folder", "link", "nowhere", here.to_str().unwrap()] {
        strace.args(["-P", path]);
    }
    let theirs = strace.arg(program).arg("lock").current_dir(theirs.path()).output().unwrap();
    let flag = format!("--inject={injection}");
    let called = call(
        ours.path(),
        ["exec", &flag, "--on=*", "--strict", "--", program.to_str().unwrap(), "lock"],
    );
    let ours = called.expect_code(0);
    let hit = |out: &str| -> Vec<String> {
        out.lines().filter(|line| line.contains(" = -1 ")).map(str::to_owned).collect()
    };
    let theirs = String::from_utf8_lossy(&theirs.stdout).into_owned();
    assert_eq!(ours.stdout, theirs, "{}", ours.stderr);
    assert!(injection.contains("retval") || !hit(&ours.stdout).is_empty(), "{theirs}");
}

#[rstest]
#[case::node(
    "node",
    "-e",
    "const fs = require('fs'); fs.promises.utimes('lock', 1, 1).catch(e => { console.log(e.code); process.exit(9) })"
)]
#[case::python(
    "python3",
    "-c",
    "import os, sys\ntry: os.utime('lock')\nexcept OSError as e: print('EROFS' if e.errno == 30 else e); sys.exit(9)"
)]
#[case::sh("sh", "-c", "touch lock 2>/dev/null || { echo EROFS; exit 9; }")]
fn any_program_is_hit(#[case] program: &str, #[case] flag: &str, #[case] script: &str) {
    if !has(program) {
        return;
    }
    let folder = folder();
    let fault = "--fault=on=lock op=utimes error=EROFS";
    let called = call(folder.path(), ["exec", fault, "--", program, flag, script]).expect_code(9);
    assert_eq!(called.stdout, "EROFS\n");
}

#[test]
fn the_command_has_its_users_surroundings() {
    let folder = folder();
    let mut plain = Command::new("sh");
    let script = "read word; echo $word $PWD $SOME_WORD; grep Sig[BI] /proc/self/status; ps -o pgid= $$ >/dev/null";
    let mut ours = command(folder.path(), ["exec", "--fault=on=x op=utimes error=EIO", "--", "sh"]);
    let mut said = Vec::new();
    for command in [&mut plain, &mut ours] {
        command.args(["-c", script]).current_dir(folder.path()).env("SOME_WORD", "so");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"typed\n").unwrap();
        said.push(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    }
    assert!(said[0].starts_with("typed /"), "{said:?}");
    assert_eq!(said[0], said[1]);
}

#[test]
fn a_fault_that_never_fired_is_said_loudly() {
    let folder = folder();
    let flags = ["--fault=on=lock op=write error=EIO", "--fault=on=lock op=utimes error=EIO"];
    let called = shell(folder.path(), &flags, "touch lock").expect_code(1);
    for word in ["FIRED once", "NEVER FIRED", "op=write", "--log"] {
        assert!(called.stderr.contains(word), "no `{word}` in\n{}", called.stderr);
    }
    let strict = ["--strict", "--log=log", "--fault=on=lock op=write error=EIO"];
    let called = shell(folder.path(), &strict, "touch lock").expect_code(3);
    assert!(called.stderr.contains("what was done to them: utimes"), "{}", called.stderr);
}

#[test]
fn the_log_has_every_operation_on_the_faults_files() {
    let folder = folder();
    let flags = ["--log=log", "--fault=on=lock op=utimes error=EIO"];
    shell(folder.path(), &flags, "cat lock; touch lock; cat other").expect_code(1);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let mut lines =
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["format"], 1);
    let lines: Vec<_> = lines.collect();
    let ops: Vec<_> = lines.iter().filter(|line| line["what"] == "op").collect();
    let kinds: Vec<_> = ops.iter().map(|line| line["op"]["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"read") && kinds.contains(&"utimes"), "{kinds:?}");
    let lock = folder.path().canonicalize().unwrap().join("lock");
    assert!(ops.iter().all(|op| op["op"]["paths"][0] == lock.to_str().unwrap()), "{log}");
    let hit = ops.iter().find(|op| op["fault"] == 1).unwrap();
    assert_eq!(hit["outcome"]["told"]["Err"], 5);
    assert_eq!(lines.last().unwrap()["what"], "end");
}

/// A command in a process group of its own, as a shell starts one.
struct Job {
    child: Child,
    /// What it writes to standard error, as far as it has.
    err: PathBuf,
}

impl Job {
    fn start(folder: &Path, flags: &[&str], script: &str) -> Job {
        let args = ["exec", "--fault=on=x op=utimes error=EIO"].iter().chain(flags);
        let mut job = command(folder, args.chain(&["--", "sh", "-c", script]));
        let err = folder.join("err");
        let shown = std::fs::File::create(&err).unwrap();
        let child = job.process_group(0).stdout(Stdio::piped()).stderr(shown).spawn().unwrap();
        let job = Job { child, err };
        await_that("the command's mark", || folder.join("mark").exists());
        job
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// The letter of proc_pid_stat(5).
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    fn end(mut self) -> (Option<i32>, String, String) {
        let child = &mut self.child;
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > COME_MAX {
                child.kill().unwrap();
                panic!("it did not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let said = self.said();
        let output = self.child.wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), out, said)
    }

    /// What it has written to standard error by now.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }
}

#[test]
fn ctrl_c_is_the_commands() {
    let folder = folder();
    let script = "trap 'echo caught; exit 42' INT; touch mark; while :; do sleep 0.05; done";
    let job = Job::start(folder.path(), &[], script);
    kill_process_group(job.pid(), Signal::INT).unwrap();
    let (code, out, err) = job.end();
    assert_eq!((code, out.as_str()), (Some(42), "caught\n"), "{err}");
    assert!(err.contains("NEVER FIRED"), "{err}");
}

#[test]
fn a_signal_for_deadbeat_alone_is_passed_on() {
    let folder = folder();
    let script = "trap 'echo caught; exit 42' TERM; touch mark; while :; do sleep 0.05; done";
    let job = Job::start(folder.path(), &[], script);
    kill_process(job.pid(), Signal::TERM).unwrap();
    let (code, out, err) = job.end();
    assert_eq!((code, out.as_str()), (Some(42), "caught\n"), "{err}");
}

#[test]
fn ctrl_z_stops_both_and_both_go_on() {
    for _ in 0..10 {
        let folder = folder();
        let script = "touch mark; while ! test -e go; do sleep 0.01; done; exit 5";
        let job = Job::start(folder.path(), &[], script);
        kill_process_group(job.pid(), Signal::TSTP).unwrap();
        await_that("the stop", || job.state() == 'T');
        std::fs::write(folder.path().join("go"), "").unwrap();
        kill_process_group(job.pid(), Signal::CONT).unwrap();
        assert_eq!(job.end().0, Some(5));
    }
}

/// The pids that a script wrote to a file.
fn pids(folder: &Path, file: &str) -> Vec<i32> {
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn everything_dies_with_a_killed_deadbeat() {
    let folder = folder();
    let script = "setsid sleep 1000 & echo $! > pids; echo $$ >> pids; touch mark; sleep 1000";
    for _ in 0..10 {
        let _ = std::fs::remove_file(folder.path().join("mark"));
        let mut job = Job::start(folder.path(), &[], script);
        let pids = pids(folder.path(), "pids");
        assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
        job.child.kill().unwrap();
        job.child.wait().unwrap();
        await_that("the end of all", || !pids.iter().any(|pid| is_alive(*pid)));
    }
}

#[test]
fn what_is_left_behind_is_said_and_waited_for() {
    let folder = folder();
    let script =
        "(while ! test -e go; do sleep 0.05; done; echo late) & echo $! > pids; touch mark; exit 6";
    let job = Job::start(folder.path(), &[], script);
    let left = pids(folder.path(), "pids")[0];
    await_that("the words", || job.said().contains("left behind"));
    assert!(is_alive(left), "it was killed");
    std::fs::write(folder.path().join("go"), "").unwrap();
    let (code, out, err) = job.end();
    assert_eq!((code, out.as_str()), (Some(6), "late\n"), "{err}");
    assert!(err.contains("left behind") && err.contains(&left.to_string()), "{err}");
}

#[test]
fn what_is_left_behind_is_killed_if_that_is_asked_for_or_by_a_signal() {
    let folder = folder();
    let script = "sleep 1000 & echo $! > pids; touch mark; exit 6";
    let job = Job::start(folder.path(), &["--kill-rest"], script);
    let left = pids(folder.path(), "pids")[0];
    let (code, _, err) = job.end();
    assert_eq!(code, Some(6), "{err}");
    assert!(err.contains("killed") && !is_alive(left), "{err}");
    std::fs::remove_file(folder.path().join("mark")).unwrap();
    let script = "sleep 1000 & echo $! > pids; touch mark; exec 1>&- 2>&-; exit 6";
    let job = Job::start(folder.path(), &[], script);
    let left = pids(folder.path(), "pids")[0];
    await_that("the command's end", || job_main_is_gone(&job));
    kill_process(job.pid(), Signal::TERM).unwrap();
    assert_eq!(job.end().0, Some(6));
    assert!(!is_alive(left));
}

/// Whether only what was left behind is below deadbeat: its name is `sleep`.
fn job_main_is_gone(job: &Job) -> bool {
    let task = format!("/proc/{0}/task/{0}/children", job.child.id());
    let children = std::fs::read_to_string(task).unwrap_or_default();
    children.split_whitespace().all(|pid| !is_alive(pid.parse().unwrap()))
}

#[test]
fn forks_in_any_number_are_followed_to_their_end() {
    let folder = folder();
    let script = "for i in 1 2 3 4 5 6 7 8; do (touch lock &); (true | true | true); done; wait";
    for _ in 0..10 {
        let flags = ["--fault=on=lock op=utimes error=EIO times=2"];
        let called = shell(folder.path(), &flags, script).expect_code(0);
        assert!(called.stderr.contains("FIRED 2×"), "{}", called.stderr);
    }
}

#[rstest]
#[case::word(&["--fault=on=x op=utimse error=EIO", "--", "true"], "`utimes`")]
#[case::call(&["--inject=utimesnat:error=EIO", "--", "true"], "`utimensat`")]
#[case::poke(&["--inject=write:poke_enter=@arg1=00", "--", "true"], "no memory")]
#[case::no_fault(&["--", "true"], "--fault")]
#[case::no_command(&["--fault=on=x op=stat error=EIO"], "CMD")]
#[case::no_dashes(&["--fault=on=x op=stat error=EIO", "true"], "--")]
#[case::on_alone(&["--fault=on=x op=stat error=EIO", "--on=x", "--", "true"], "--inject")]
#[case::glob(&["--fault=on=*/../x op=stat error=EIO", "--", "true"], "cannot follow")]
#[case::log(&["--fault=on=x op=stat error=EIO", "--log=no/log", "--", "true"], "log")]
fn a_bad_flag_is_exit_2_and_names_the_remedy(#[case] args: &[&str], #[case] hint: &str) {
    let folder = folder();
    let called = call(folder.path(), ["exec"].iter().chain(args)).expect_code(2);
    assert!(called.stderr.contains(hint), "no `{hint}` in:\n{}", called.stderr);
}
