//! Every ruling on every operation, through a real mount: what the client is told, whether the
//! backing changed, and what is settled.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Client, World, fingerprint};
use deadbeat_fs::{Errno, Kind, NewTime, Operation, Options, Outcome, Ruling};

/// The process that uses the mount; nothing unless started as such.
#[test]
fn client() {
    common::client::serve_if_asked();
}

const ERRNOS: [i32; 10] = [
    libc::EIO,
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EROFS,
    libc::EACCES,
    libc::EPERM,
    libc::ENOENT,
    libc::ESTALE,
    libc::EINTR,
    libc::EAGAIN,
];

/// One operation: what prepares it, and what asks for it.
struct Row {
    kind: Kind,
    before: &'static [&'static str],
    command: &'static str,
    after: &'static [&'static str],
    /// Whether it changes the backing.
    changes: bool,
    /// The file whose mtime a ruling can set.
    target: Option<&'static str>,
}

const fn row(kind: Kind, command: &'static str) -> Row {
    Row { kind, before: &[], command, after: &[], changes: true, target: None }
}

const OPEN: &[&str] = &["open h f rw 0"];
const CLOSE: &[&str] = &["close h"];

fn rows() -> Vec<Row> {
    let quiet = |kind, command| Row { changes: false, ..row(kind, command) };
    let by_handle = |kind, command| Row { before: OPEN, after: CLOSE, ..row(kind, command) };
    let quiet_by_handle = |kind, command| Row { changes: false, ..by_handle(kind, command) };
    let f = Some("f");
    vec![
        quiet(Kind::Lookup, "stat f"),
        quiet(Kind::Stat, "stat f"),
        quiet(Kind::Stat, "access f w"),
        Row { target: f, ..row(Kind::Utimes, "utimes f 1000 2000") },
        Row { target: f, ..by_handle(Kind::Utimes, "futimes h 1000 2000") },
        Row { target: f, ..row(Kind::Chmod, "chmod f 600") },
        Row { target: f, ..by_handle(Kind::Chmod, "fchmod h 600") },
        Row { target: f, ..row(Kind::Chown, "chown f 5 6") },
        Row { target: f, ..row(Kind::Truncate, "truncate f 3") },
        Row { target: f, ..by_handle(Kind::Truncate, "ftruncate h 3") },
        Row { after: CLOSE, ..quiet(Kind::Open, "open h f r 0") },
        Row { after: CLOSE, target: f, ..row(Kind::Open, "open h f wt 0") },
        Row { after: CLOSE, target: Some("new"), ..row(Kind::Create, "open h new rwcx 644") },
        quiet_by_handle(Kind::Read, "read h 4"),
        Row { target: f, ..by_handle(Kind::Write, "write h WORDS") },
        quiet_by_handle(Kind::Fsync, "fsync h"),
        quiet(Kind::Opendir, "readdir d"),
        quiet(Kind::Readdir, "readdir d"),
        Row { target: Some("new"), ..row(Kind::Mkdir, "mkdir new 755") },
        Row { target: Some("new"), ..row(Kind::Mknod, "mkfifo new 644") },
        Row { target: Some("g"), ..row(Kind::Rename, "rename f g") },
        Row { target: f, ..row(Kind::Link, "link f g") },
        row(Kind::Symlink, "symlink f new"),
        quiet(Kind::Readlink, "readlink s"),
        row(Kind::Unlink, "unlink f"),
        row(Kind::Rmdir, "rmdir d"),
        quiet_by_handle(Kind::Flock, "flock h try-exclusive"),
        quiet_by_handle(Kind::FcntlLock, "lock h try-exclusive"),
        quiet(Kind::Statfs, "statfs-free f"),
        Row { target: f, ..by_handle(Kind::Fallocate, "fallocate h 0 100") },
        quiet_by_handle(Kind::Seek, "seek-data h"),
        Row { target: f, ..row(Kind::Xattr, "setxattr f user.a 1") },
        Row { before: OPEN, ..quiet(Kind::Close, "close h") },
        Row {
            before: &["open h f rw 0", "open o o rw 0"],
            after: &["close h", "close o"],
            target: f,
            ..row(Kind::CopyRange, "copy o h 3")
        },
    ]
}

fn lay(backing: &Path) {
    for entry in fs::read_dir(backing).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(backing.join("f"), "what was there").unwrap();
    fs::write(backing.join("o"), "other").unwrap();
    fs::create_dir(backing.join("d")).unwrap();
    std::os::unix::fs::symlink("f", backing.join("s")).unwrap();
}

/// What came of one command.
struct Result_ {
    told: Result<u64, i32>,
    changed: bool,
    settled: Vec<(Operation, Outcome)>,
}

struct Bench {
    world: World,
    client: Client,
}

impl Bench {
    /// Lays fresh files, and does `row` under `rule` (for all operations of its kind).
    fn try_row(&mut self, row: &Row, ruling: Ruling) -> Result_ {
        lay(&self.world.backing());
        self.world.rule(|_| Ruling::Proceed);
        for command in row.before {
            self.client.run(command).unwrap();
        }
        let before = self.fingerprint();
        self.world.seen();
        let kind = row.kind;
        self.world.rule(move |op| if op.kind == kind { ruling } else { Ruling::Proceed });
        self.client.start_command(row.command);
        if ruling == Ruling::Hold {
            let id = self.world.wait_for_held(|_| true);
            assert_eq!(self.fingerprint(), before, "held: {}", row.command);
            self.world.rule(|_| Ruling::Proceed);
            assert!(self.world.release(id, Ruling::Proceed));
        }
        let told = self.client.answer();
        self.world.rule(|_| Ruling::Proceed);
        let changed = self.fingerprint() != before;
        for command in row.after {
            // What failed to open cannot be closed, and the client knows that best.
            if told.is_ok() || !row.before.is_empty() {
                self.client.run(command).unwrap();
            }
        }
        let mut settled = self.world.settled();
        settled.retain(|(op, _)| op.kind == kind);
        Result_ { told, changed, settled }
    }

    fn fingerprint(&self) -> Vec<String> {
        let backing = self.world.backing();
        let mut lines = fingerprint(&backing);
        let mut attribute = [0_u8; 8];
        let has = rustix::fs::getxattr(backing.join("f"), "user.a", &mut attribute[..]).is_ok();
        lines.push(has.to_string());
        lines
    }
}

fn bench() -> Option<Bench> {
    let world = World::new(Options::default())?;
    let client = world.client();
    Some(Bench { world, client })
}

/// Goal: what proceeds does what it does on any file system, and is settled so.
#[test]
fn what_proceeds_happens() {
    let Some(mut bench) = bench() else { return };
    for row in rows() {
        for ruling in [Ruling::Proceed, Ruling::Hold, Ruling::Delay(Duration::from_millis(1))] {
            let case = format!("{} under {ruling:?}", row.command);
            let result = bench.try_row(&row, ruling);
            assert!(result.told.is_ok(), "{case}: {:?}", result.told);
            assert_eq!(result.changed, row.changes, "{case}");
            let (_, outcome) = result.settled.first().unwrap_or_else(|| panic!("{case}"));
            assert!(outcome.result.is_ok() && outcome.effect, "{case}: {outcome:?}");
            assert_eq!(outcome.held, ruling != Ruling::Proceed, "{case}");
        }
    }
}

/// Goal: each errno arrives as it is, and nothing happens.
#[test]
fn what_fails_tells_its_errno_and_does_nothing() {
    let Some(mut bench) = bench() else { return };
    for row in rows() {
        for errno in ERRNOS {
            let case = format!("{} fails with {}", row.command, Errno(errno));
            let result = bench.try_row(&row, Ruling::Fail(Errno(errno)));
            assert_told(&row, errno, result.told, &case);
            assert!(!result.changed, "{case}: the backing changed");
            assert!(!result.settled.is_empty(), "{case}: not settled");
            for (_, outcome) in &result.settled {
                assert_eq!(outcome.result, Err(Errno(errno)), "{case}");
                assert!(!outcome.effect, "{case}");
            }
        }
    }
}

/// Goal: an error after the effect: the change is there, and the client is told that it is not.
#[test]
fn what_fails_afterwards_has_happened() {
    let Some(mut bench) = bench() else { return };
    for row in rows() {
        for errno in ERRNOS {
            let case = format!("{} fails afterwards with {}", row.command, Errno(errno));
            let result = bench.try_row(&row, Ruling::FailAfter(Errno(errno)));
            if errno == libc::ESTALE && result.told != Err(errno) {
                // The VFS tries once more, and finds what the first try has done.
                let found = [Err(libc::EEXIST), Err(libc::ENOENT)];
                assert!(row.changes && found.contains(&result.told), "{case}: {:?}", result.told);
            } else {
                assert_told(&row, errno, result.told, &case);
            }
            assert_eq!(result.changed, row.changes, "{case}");
            let (_, outcome) = result.settled.first().unwrap_or_else(|| panic!("{case}"));
            assert_eq!(outcome.result, Err(Errno(errno)), "{case}");
            assert!(outcome.effect, "{case}");
        }
    }
}

/// What the kernel makes of an errno on its way to the client:
///
/// | operation | errno | client sees | why |
/// |---|---|---|---|
/// | locks | EINTR | some error | becomes ERESTARTSYS, which only a signal makes an errno again |
/// | setxattr | EAGAIN | EOPNOTSUPP | the VFS takes it for "no handler" (fs/xattr.c) |
/// | all others | any | the same | |
fn assert_told(row: &Row, errno: i32, told: Result<u64, i32>, case: &str) {
    match (row.kind, errno) {
        (Kind::Flock | Kind::FcntlLock, libc::EINTR) => assert!(told.is_err(), "{case}: {told:?}"),
        (Kind::Xattr, libc::EAGAIN) => assert_eq!(told, Err(libc::EOPNOTSUPP), "{case}"),
        _ => assert_eq!(told, Err(errno), "{case}"),
    }
}

/// Goal: success is reported, and nothing happens.
#[test]
fn what_is_pretended_does_not_happen() {
    let Some(mut bench) = bench() else { return };
    for row in rows() {
        let result = bench.try_row(&row, Ruling::Pretend);
        assert!(result.told.is_ok(), "{}: {:?}", row.command, result.told);
        assert!(!result.changed, "{}: the backing changed", row.command);
        let (_, outcome) = result.settled.first().unwrap_or_else(|| panic!("{}", row.command));
        assert!(outcome.result.is_ok(), "{}: {outcome:?}", row.command);
        assert!(!outcome.effect, "{}", row.command);
    }
}

/// Goal: what was pretended to be made works through its descriptor, and cannot be found.
#[test]
fn a_pretended_file_is_a_ghost() {
    let Some(Bench { world, mut client }) = bench() else { return };
    let pretend = |kind| {
        move |op: &Operation| {
            if op.kind == kind { Ruling::Pretend } else { Ruling::Proceed }
        }
    };
    world.rule(pretend(Kind::Create));
    client.run("open h ghost rwcx 600").unwrap();
    world.rule(|_| Ruling::Proceed);
    assert_eq!(client.run("write h words"), Ok(5));
    assert_eq!(client.run("fstat h"), Ok(5));
    assert_eq!(client.run("futimes h 5 6"), Ok(0));
    let unlinked = |(op, _): &(Operation, Outcome)| op.kind == Kind::Write && op.unlinked;
    assert!(world.settled().iter().any(unlinked));
    assert_eq!(client.run("stat ghost"), Err(libc::ENOENT));
    client.run("close h").unwrap();
    world.rule(pretend(Kind::Mkdir));
    client.run("mkdir ghost 755").unwrap();
    assert_eq!(client.run("stat ghost"), Err(libc::ENOENT));
    assert_eq!(fs::read_dir(world.backing()).unwrap().count(), 0);
}

/// Goal: a short write tells its length, a torn one does not.
#[test]
fn short_and_torn_writes_write_their_bytes() {
    let Some(mut bench) = bench() else { return };
    let write =
        Row { before: &["open h f wt 0"], after: CLOSE, ..row(Kind::Write, "write h WORDS") };
    for (ruling, told) in [(Ruling::Short(2), 2), (Ruling::Torn(2), 5), (Ruling::Torn(0), 5)] {
        let result = bench.try_row(&write, ruling);
        let (Ruling::Short(bytes) | Ruling::Torn(bytes)) = ruling else { unreachable!() };
        assert_eq!(result.told, Ok(told), "{ruling:?}");
        let written = fs::read_to_string(bench.world.backing().join("f")).unwrap();
        assert_eq!(written, "WORDS"[..bytes], "{ruling:?}");
        assert_eq!(result.settled[0].1.result, Ok(told), "{ruling:?}");
    }
    for row in rows().iter().filter(|row| row.kind != Kind::Write) {
        let result = bench.try_row(row, Ruling::Torn(2));
        assert!(result.told.is_ok() && result.changed == row.changes, "{}", row.command);
    }
}

/// Goal: the file has the mtime that was ruled, whatever the operation set.
#[test]
fn a_ruled_mtime_is_the_one_that_stays() {
    let Some(mut bench) = bench() else { return };
    let ruling = Ruling::SetMtime(NewTime::At { secs: 1234, nanos: 5 });
    for row in rows() {
        let result = bench.try_row(&row, ruling);
        assert!(result.told.is_ok(), "{}: {:?}", row.command, result.told);
        if let Some(target) = row.target {
            let meta = fs::symlink_metadata(bench.world.backing().join(target)).unwrap();
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (1234, 5), "{}", row.command);
        }
    }
}

/// Goal: whatever a release is told, the descriptor is gone and so are its locks.
#[test]
fn a_failed_close_gives_its_locks_back() {
    let Some(Bench { world, mut client }) = bench() else { return };
    lay(&world.backing());
    let mut other = world.client();
    for lock in ["flock h try-exclusive", "lock h try-exclusive"] {
        client.run("open h f rw 0").unwrap();
        client.run(lock).unwrap();
        other.run("open h f rw 0").unwrap();
        assert_eq!(other.run(lock), Err(libc::EAGAIN));
        let closes = |op: &Operation| matches!(op.kind, Kind::Close | Kind::Release);
        let mount = client.mount();
        let released = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&released);
        world.rule(move |op| {
            if op.mount == mount && closes(op) {
                note.fetch_or(op.kind == Kind::Release, Ordering::SeqCst);
                return Ruling::Fail(Errno(libc::EIO));
            }
            Ruling::Proceed
        });
        assert_eq!(client.run("close h"), Err(libc::EIO));
        // Nobody waits for a release: it comes when it comes.
        while !released.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert_eq!(other.run(lock), Ok(0), "{lock}");
        world.rule(|_| Ruling::Proceed);
        other.run("close h").unwrap();
    }
}
