//! `run --update-gaps`, at a terminal: a pseudo-terminal that this test types into.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use deadbeat_tests::{call, command};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const SUBJECT: &str = r#"# A lock of ours.
format  = 1
name    = "mine"

[command]
argv = ["{deadbeat}", "subject", "zoo", "swallowed-beat"]

[lock]
path      = "{dir}/resource.lock"
heartbeat = ["{dir}/resource.lock/beat"]

[timing]
stale-after = "1s"
beat-every  = "300ms"

[claims]
on-heartbeat-failure = ["abort"]
warns                = ["lock-path"]
"#;

const RUN: [&str; 7] = [
    "run",
    "disk-full/heartbeat-enospc",
    "--subject",
    "./mine",
    "--engine",
    "trace",
    "--no-canaries",
];

fn subject_in(folder: &Path, more: &str) {
    fs::create_dir_all(folder.join("mine")).unwrap();
    fs::write(folder.join("mine/subject.toml"), format!("{SUBJECT}{more}")).unwrap();
}

fn file_in(folder: &Path) -> String {
    fs::read_to_string(folder.join("mine/subject.toml")).unwrap()
}

/// The command as somebody at a terminal has it.
fn at_a_terminal(folder: &Path) -> (Command, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    let mut deadbeat = command(folder, RUN.iter().chain(&["--update-gaps"]));
    for name in ["CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TF_BUILD"] {
        deadbeat.env_remove(name);
    }
    deadbeat.stdin(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave));
    deadbeat.stdout(Stdio::null());
    (deadbeat, master)
}

/// Types these answers ahead, and gives the exit code and all that was shown.
fn answered(folder: &Path, answers: &str) -> (Option<i32>, String) {
    let (mut deadbeat, master) = at_a_terminal(folder);
    let mut child = deadbeat.spawn().unwrap();
    // The last of our own copies of the other end.
    drop(deadbeat);
    let mut typing = File::from(master.as_fd().try_clone_to_owned().unwrap());
    typing.write_all(answers.as_bytes()).unwrap();
    let mut shown = Vec::new();
    let mut bytes = [0; 4096];
    let mut screen = File::from(master);
    // EIO once nobody has the other end open any more (pty(7)).
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..count]);
    }
    (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn a_gap_is_written_with_its_reason_and_holds_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    subject_in(folder.path(), "");
    if deadbeat_tests::is_without_engine(&call(folder.path(), RUN)) {
        return;
    }
    let (code, shown) = answered(folder.path(), "a lease\n2999-01-01\ny\n");
    assert_eq!(code, Some(1), "what was written counts from the next run on: {shown}");
    assert!(shown.contains("+ [[known-gap]]"), "{shown}");
    let text = file_in(folder.path());
    assert!(text.starts_with(SUBJECT.trim_end()), "{text}");
    assert!(text.contains("reason = \"a lease\"") && text.contains("2999-01-01"), "{text}");
    call(folder.path(), RUN).expect_code(0);
}

#[test]
fn without_a_reason_a_date_or_a_yes_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    subject_in(folder.path(), "");
    if deadbeat_tests::is_without_engine(&call(folder.path(), RUN)) {
        return;
    }
    for answers in ["\n", "why\n\n", "why\n1999-01-01\nsoon\nx\n", "why\n2999-01-01\nn\n"] {
        let (_, shown) = answered(folder.path(), answers);
        assert_eq!(file_in(folder.path()), SUBJECT, "{answers:?}: {shown}");
    }
}

#[test]
fn an_overdue_gap_gets_a_new_date_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let findings = r#"["double-held", "ignored-failure", "silent"]"#;
    let gap = format!(
        "\n# Known since 2020.\n[[known-gap]]\nscenario = \"disk-full/*\"\nfindings = {findings}\n\
         reason = \"old\" # really\nreview-by = \"2020-01-01\"\n"
    );
    subject_in(folder.path(), &gap);
    if deadbeat_tests::is_without_engine(&call(folder.path(), RUN)) {
        return;
    }
    let (_, shown) = answered(folder.path(), "2999-01-01\ny\n");
    let wanted = format!("{SUBJECT}{}", gap.replace("2020-01-01", "2999-01-01"));
    assert_eq!(file_in(folder.path()), wanted, "{shown}");
    call(folder.path(), RUN).expect_code(0);
}

#[test]
fn nobody_is_asked_in_ci_nor_without_a_terminal_nor_for_what_has_no_file() {
    let folder = tempfile::tempdir().unwrap();
    subject_in(folder.path(), "");
    let called = call(folder.path(), RUN.iter().chain(&["--update-gaps"])).expect_code(2);
    assert!(called.stderr.contains("never runs in CI") || called.stderr.contains("no terminal"));
    let (mut in_ci, master) = at_a_terminal(folder.path());
    let status = in_ci.env("CI", "true").status().unwrap();
    drop((in_ci, master));
    assert_eq!(status.code(), Some(2));
    let (mut embedded, master) = at_a_terminal(folder.path());
    let status = embedded.args(["--subject", "reference"]).status().unwrap();
    drop((embedded, master));
    assert_eq!(status.code(), Some(2));
    assert_eq!(file_in(folder.path()), SUBJECT);
}
