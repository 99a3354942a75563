//! The same promises for an ordinary user: copies of this program and of deadbeat, in a folder of
//! their own, started as `nobody`, hold the engine to them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use deadbeat_tests::finish;

use crate::promises::{Bench, promises};
use crate::{broken, engine, required};

/// Who it is.
const NOBODY: &str = "65534";
/// What the copy says once it has held an engine to its promises.
const KEPT: &str = "an ordinary user was promised the same";

/// Copies of both programs in a folder that everybody can read.
fn copies() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = |from: &Path, name: &str| {
        std::fs::copy(from, folder.path().join(name)).expect("a program can be copied");
    };
    copy(deadbeat_tests::program(), "deadbeat");
    copy(&std::env::current_exe().expect("/proc is mounted"), "tests");
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).expect("the folder is ours");
    folder
}

/// Whether this user may become another; says so if not.
fn can_become_nobody() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can become an ordinary user; this is one already");
    }
    is_root
}

/// Runs [`as_ordinary_user`] in the copy, by way of these words.
fn hold(folder: &Path, name: &str, mut command: Command) {
    command.arg(folder.join("tests")).args(["--exact", "ordinary::as_ordinary_user"]);
    command.args(["--nocapture"]).current_dir("/");
    command.env("DEADBEAT_TEST_PROGRAM", folder.join("deadbeat"));
    command.env("DEADBEAT_TEST_ENGINE", name).env("TMPDIR", "/tmp");
    let called = finish(command).expect_code(0);
    assert!(called.stdout.contains(KEPT), "{called:#?}");
}

fn become_nobody() -> Command {
    // Should a fork bomb of a case get out of hand, it is to take this program, not the machine.
    let mut command = Command::new("prlimit");
    command.args(["--nproc=4096", "setpriv"]);
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    // As in somebody's build: an ordinary user cannot go back to the usual priority.
    command.args(["nice", "-n", "5"]);
    command
}

/// Whether a program is there; says so if not, and fails if the engine is required.
fn is_missing(program: &str, engine: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        assert!(!required(engine), "{program} (util-linux) is not installed");
        println!("skipped: {program} (util-linux) is not installed");
    }
    missing
}

#[test]
fn the_trace_engine_keeps_its_promises_to_an_ordinary_user() {
    if !can_become_nobody() || is_missing("setpriv", "trace") {
        return;
    }
    hold(copies().path(), "trace", become_nobody());
}

/// The fuse device is root's on some machines and everybody's on others. A device file of our own
/// in a mount namespace of our own, open to everybody, is a machine of the second kind.
#[test]
#[serial_test::serial(fuse)]
fn the_fuse_engine_keeps_its_promises_to_an_ordinary_user() {
    if !can_become_nobody() || is_missing("setpriv", "fuse") || is_missing("unshare", "fuse") {
        return;
    }
    let folder = copies();
    let node = folder.path().join("fuse");
    let open = r#"mknod -m 0666 "$0" c 10 229 && mount --bind "$0" /dev/fuse"#;
    let script = format!(r#"{open} || {{ echo cannot-open; exit 0; }}; exec "$@""#);
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&node);
        command
    };
    let tried = finish(in_namespace(&format!(r#"{open} && : <> "$0" && rm "$0" && echo open"#)));
    if !tried.stdout.contains("open") {
        assert!(!required("fuse"), "the fuse device cannot be opened to everybody: {tried:?}");
        println!("skipped: the fuse device cannot be opened to everybody here: {}", tried.stderr);
        return;
    }
    let mut command = in_namespace(&script);
    let nobody = become_nobody();
    command.arg(nobody.get_program()).args(nobody.get_args());
    hold(folder.path(), "fuse", command);
}

/// What the two above run as that user.
#[test]
fn as_ordinary_user() {
    let Ok(name) = std::env::var("DEADBEAT_TEST_ENGINE") else { return };
    assert!(!rustix::process::geteuid().is_root(), "this is to be an ordinary user");
    let engine = engine(&name).expect("the engine works for ordinary users");
    assert_eq!(broken(promises(&Bench { engine: &*engine, worker: 0 })), []);
    println!("{KEPT}");
}
