//! The truth table of time: every wait of every kind of program ends at its virtual moment, by
//! every clock that the program can ask.
//!
//! A guest prints `NAME WANTED REAL MONO BOOT DAY AGREE ERROR` for each wait: by how many ms each
//! clock moved, whether `time` and `gettimeofday` show the same, and what the wait answered.

mod support;

use std::path::Path;
use std::process::Command;

use support::{compiled, guest, is_missing, no_trouble, output, repeats, run, trial};

/// How many repeats there are by default: with both ways of pinning, a few seconds.
const REPEATS: usize = 2;

/// Runs the guest again and again, and fails unless each wait took what it should, by every
/// clock. `late_ms` is what the program itself may add; `waits` is how many lines there are.
#[track_caller]
fn expect_truth(argv: &[&str], late_ms: u64, waits: usize) {
    let everywhere =
        format!("0-{}", std::thread::available_parallelism().map_or(1, usize::from) - 1);
    let unpinned: Vec<&str> =
        ["taskset", "-c", &everywhere].into_iter().chain(argv.iter().copied()).collect();
    let mut ways = vec![argv.to_vec()];
    if !is_missing("taskset") {
        ways.push(unpinned);
    }
    let mut first = None;
    for way in ways {
        for repeat in 1..=repeats(REPEATS) {
            let history = run(&trial(&way));
            no_trouble(&history);
            let text = output(&history);
            expect_lines(&text, late_ms, waits);
            let shown = waits_only(&text);
            let first = first.get_or_insert_with(|| shown.clone());
            assert_eq!(*first, shown, "{way:?}: repeat {repeat} showed other times");
        }
    }
}

/// The lines of waits that the kernel ends. How often a busy loop looks at the clock depends on when
/// a just-in-time compiler has finished with it, so its length may differ by some milliseconds.
fn waits_only(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("busy")).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn expect_lines(text: &str, late_ms: u64, waits: usize) {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"done"), "\n{text}");
    assert_eq!(lines.len(), waits + 1, "\n{text}");
    for line in &lines[..waits] {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, lengths @ .., agree, error] = words.as_slice() else {
            panic!("no line of a guest: {line}\n{text}");
        };
        let lengths: Result<Vec<u64>, _> = lengths.iter().map(|word| word.parse()).collect();
        let lengths = lengths.unwrap_or_else(|_| panic!("no lengths: {line}\n{text}"));
        let [wanted, shown @ ..] = lengths.as_slice() else { panic!("no lengths: {line}") };
        // A wait ends a millisecond late, a poll by a thousandth of its length more, and a length
        // is cut to whole milliseconds.
        let latest = wanted + 2 + wanted / 1000 + late_ms;
        assert_eq!(shown.len(), 4, "{line}");
        for length in shown {
            assert!((*wanted..=latest).contains(length), "{name}: {line}\n{text}");
        }
        assert_eq!(*agree, "agree", "{line}");
        assert!(["-", "ETIMEDOUT", "EAGAIN"].contains(error), "{line}");
    }
}

#[test]
fn waits_of_static_c() {
    let Some((_folder, program)) = compiled("clocks.c", &["-static"]) else { return };
    expect_truth(&[&program], 0, 42);
}

#[test]
fn waits_of_dynamic_c() {
    let Some((_folder, program)) = compiled("clocks.c", &[]) else { return };
    expect_truth(&[&program], 0, 42);
}

#[test]
fn waits_of_rust() {
    if is_missing("rustc") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("guest");
    build(
        Command::new("rustc").args(["--edition", "2024", "-O", &guest("clocks.rs"), "-o"]),
        &program,
    );
    expect_truth(&[&program.to_string_lossy()], 0, 6);
}

#[test]
fn waits_of_static_go() {
    if is_missing("go") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("guest");
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0").env("GOCACHE", folder.path().join("cache")).args(["build", "-o"]);
    let built = go.arg(&program).arg(guest("clocks.go")).status().expect("go was there just now");
    assert!(built.success(), "clocks.go does not compile");
    expect_truth(&[&program.to_string_lossy()], 2, 4);
}

#[track_caller]
fn build(command: &mut Command, program: &Path) {
    let built = command.arg(program).status().expect("it was there just now");
    assert!(built.success(), "the guest does not compile");
}

#[test]
fn waits_of_python() {
    // Not whatever `python3` is in PATH: a version manager's is a shell script.
    let python = "/usr/bin/python3";
    if is_missing(python) {
        return;
    }
    expect_truth(&[python, "-I", "-S", &guest("clocks.py")], 10, 12);
}

#[test]
fn waits_of_node() {
    if is_missing("node") {
        return;
    }
    expect_truth(&["node", &guest("clocks.mjs")], 40, 8);
}

#[test]
fn waits_of_sh() {
    expect_truth(&["/bin/sh", &guest("clocks.sh")], 10, 5);
}

#[test]
fn waits_of_timerfd() {
    for flags in [&[][..], &["-static"][..]] {
        let Some((_folder, program)) = compiled("timerfd.c", flags) else { return };
        expect_truth(&[&program], 0, 15);
    }
}
