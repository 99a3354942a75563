//! The whole lock on a real folder. Waits end by what happened, not by time; where a time is
//! waited for, it is one that the lock has promised.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::*;
use crate::beat::Event;
use crate::files::beside;
use crate::owner::Owner;
use crate::place::ReleaseError;
use crate::{Cause, Health, Trouble};

fn config() -> Config {
    Config {
        stale: Duration::from_millis(400),
        beat: Duration::from_millis(50),
        poll: Duration::from_millis(5),
        policy: Policy::Abort,
    }
}

/// A lock that no busy machine loses; its beats may be overdue.
fn patient() -> Config {
    Config { stale: Duration::from_secs(60), ..config() }
}

fn soon(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

fn lock_at(path: &Path, config: Config) -> ReferenceLock {
    ReferenceLock::new(path, config)
}

/// A lock whose record says what `change` makes of this process; nobody has its life lock.
fn left_by(lock: &Path, change: impl FnOnce(&mut Owner)) {
    let mut owner = Here::new(config().ages()).owner(7);
    change(&mut owner);
    fs::create_dir(lock).unwrap();
    fs::write(lock.join("owner"), owner.to_record()).unwrap();
    fs::write(lock.join("beat"), "").unwrap();
}

fn why(tried: Result<Guard, LockError>) -> String {
    match tried {
        Err(LockError::TimedOut { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// Why the lock was lost. A busy machine may make beats overdue before.
fn loss(guard: &Guard) -> Trouble {
    loop {
        match guard.wait_event(Duration::from_secs(20)).expect("the lock tells of its loss") {
            Event::Lost(trouble) => return trouble,
            Event::Degraded(_) | Event::Healthy => {}
        }
    }
}

#[test]
fn it_excludes_and_frees_and_its_tokens_rise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    let slow = Config { beat: Duration::from_secs(20), ..patient() };
    let first = lock_at(&path, slow).acquire(soon(20_000)).unwrap();
    assert_eq!(why(lock_at(&path, patient()).acquire(soon(50))), "its owner lives");
    let token = first.check().unwrap();
    assert_eq!((token, first.health()), (first.token(), Health::Healthy));
    first.release().unwrap();
    assert!(!path.exists());
    let second = lock_at(&path, patient()).acquire(soon(20_000)).unwrap();
    assert!(second.token() > token);
    drop(second);
    assert!(!path.exists(), "dropping a guard gives the lock back");
}

#[test]
fn a_living_owner_is_left_alone_however_silent_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    left_by(&path, |_| ());
    let held = File::open(path.join("owner")).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    // More than twice the window.
    assert_eq!(why(lock_at(&path, config()).acquire(soon(1000))), "its owner lives");
    // Given up by a process that lives on: free after the window.
    drop(held);
    lock_at(&path, config()).acquire(soon(20_000)).unwrap().release().unwrap();
}

#[test]
fn a_dead_owner_is_followed_at_once_and_one_that_cannot_be_judged_after_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    // The window is far longer than the patience.
    left_by(&path, |owner| (owner.started, owner.token) = (owner.started + 1, 1 << 60));
    let guard = lock_at(&path, patient()).acquire(soon(20_000)).unwrap();
    assert!(guard.token() > 1 << 60, "also where the token file was lost");
    guard.release().unwrap();
    left_by(&path, |owner| owner.host.push_str(".elsewhere"));
    let not_yet = "its owner cannot be judged, and it was not silent for long";
    assert_eq!(why(lock_at(&path, patient()).acquire(soon(50))), not_yet);
    let begun = Instant::now();
    let guard = lock_at(&path, config()).acquire(soon(20_000)).unwrap();
    assert!(begun.elapsed() >= config().stale + config().beat);
    assert!(guard.token() > 7);
    guard.release().unwrap();
}

#[test]
fn old_time_stamps_prove_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    left_by(&path, |owner| owner.boot.push('x'));
    let beat = File::options().write(true).open(path.join("beat")).unwrap();
    beat.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(lock_at(&path, patient()).acquire(soon(50)).is_err());
}

#[test]
fn a_beat_from_elsewhere_keeps_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    left_by(&path, |owner| owner.host.push_str(".elsewhere"));
    let beat = File::options().write(true).open(path.join("beat")).unwrap();
    let waits = Config { stale: Duration::from_secs(2), ..config() };
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let contender = scope.spawn(|| {
            let tried = lock_at(&path, waits).acquire(soon(5000));
            done.store(1, Ordering::SeqCst);
            tried
        });
        let (stop, never) = std::sync::mpsc::channel::<()>();
        let mut seconds = 0;
        while done.load(Ordering::SeqCst) == 0 {
            // Coarse, and going back as well as on: what counts is that it changes.
            seconds = if seconds == 4 { 2 } else { 4 };
            let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            beat.set_modified(then).unwrap();
            let _ = never.recv_timeout(Duration::from_millis(20));
        }
        drop(stop);
        let tried = contender.join().unwrap();
        assert!(tried.is_err(), "{tried:?}");
    });
}

#[test]
fn an_empty_torn_or_foreign_record_does_not_block_for_ever() {
    for record in [Some(""), Some("format=1\npid=1\nstarted="), Some("{}"), None] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        fs::create_dir(&path).unwrap();
        if let Some(record) = record {
            fs::write(path.join("owner"), record).unwrap();
        }
        let not_yet = "its record cannot be read, and it was not silent for long";
        assert_eq!(why(lock_at(&path, patient()).acquire(soon(50))), not_yet, "{record:?}");
        lock_at(&path, config()).acquire(soon(20_000)).unwrap().release().unwrap();
    }
}

#[test]
fn what_this_library_does_not_know_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    left_by(&path, |_| ());
    let record = fs::read_to_string(path.join("owner")).unwrap();
    fs::write(path.join("owner"), record.replace("format=1\n", "format=2\n")).unwrap();
    assert!(why(lock_at(&path, config()).acquire(soon(1000))).contains("newer format"));
    fs::remove_dir_all(&path).unwrap();

    fs::write(&path, "4711\n").unwrap();
    assert!(why(lock_at(&path, config()).acquire(soon(1000))).contains("no folder"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
    fs::remove_file(&path).unwrap();

    symlink("/nowhere", &path).unwrap();
    assert!(why(lock_at(&path, config()).acquire(soon(50))).contains("no folder"));
}

#[test]
fn a_removed_lock_is_lost_and_the_heirs_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    let guard = lock_at(&path, patient()).acquire(soon(20_000)).unwrap();
    fs::remove_dir_all(&path).unwrap();
    let heir = lock_at(&path, patient()).acquire(soon(20_000)).unwrap();
    let trouble = loss(&guard);
    assert!(matches!(trouble.cause, Cause::Missing | Cause::Replaced), "{trouble:?}");
    assert!(trouble.free_bytes.is_some() && trouble.free_inodes.is_some());
    assert_eq!(guard.check(), Err(trouble));
    assert!(heir.token() > guard.token());
    let released = guard.release();
    assert!(matches!(released, Err(ReleaseError::NotMine(_))), "{released:?}");
    assert!(heir.check().is_ok());
    heir.release().unwrap();
}

#[test]
fn a_record_that_is_replaced_is_a_lost_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    let guard = lock_at(&path, patient()).acquire(soon(20_000)).unwrap();
    fs::write(path.join("other"), "").unwrap();
    fs::rename(path.join("other"), path.join("owner")).unwrap();
    assert_eq!(loss(&guard).cause, Cause::Replaced);
}

#[test]
fn while_somebody_is_inside_the_recovery_lock_nobody_takes_anything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    left_by(&path, |owner| owner.started += 1);
    let inside = Recovery::enter(&path, Instant::now()).unwrap().unwrap();
    assert!(why(lock_at(&path, config()).acquire(soon(800))).contains("another process"));
    // Its death would free it as well, whatever its age.
    drop(inside);
    lock_at(&path, patient()).acquire(soon(20_000)).unwrap().release().unwrap();
}

#[test]
fn a_failure_on_the_way_leaves_no_lock_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    // The token cannot be drawn: its new file's name is taken by a folder.
    fs::create_dir(beside(&path, "token.new")).unwrap();
    assert!(why(lock_at(&path, patient()).acquire(soon(50))).contains("EISDIR"));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    fs::remove_dir(beside(&path, "token.new")).unwrap();
    lock_at(&path, patient()).acquire(soon(20_000)).unwrap().release().unwrap();
}

#[test]
fn settings_that_make_no_lock_are_refused() {
    let bad = [
        Config { beat: Duration::ZERO, ..config() },
        Config { poll: Duration::ZERO, ..config() },
        Config { beat: Duration::from_millis(201), ..config() },
    ];
    for config in bad {
        let tried = ReferenceLock::new("/nowhere/l", config).acquire(Instant::now());
        assert!(matches!(tried, Err(LockError::Config(_))), "{tried:?}");
    }
    assert!(Config::new(Duration::from_secs(10)).mistake().is_none());
}

#[test]
fn a_race_has_one_winner_at_a_time_and_every_token_is_higher_than_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l");
    let inside = AtomicU32::new(0);
    let last = std::sync::Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let guard = lock_at(&path, patient()).acquire(soon(60_000)).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    let before = std::mem::replace(&mut *last.lock().unwrap(), guard.token());
                    assert!(guard.token() > before);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.release().unwrap();
                }
            });
        }
    });
}
