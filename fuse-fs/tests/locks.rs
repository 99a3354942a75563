//! flock and fcntl locks across mounts, and races between mounts.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;

use common::{Client, World};
use deadbeat_fs::{Kind, LockKind, Operation, Options};
use rustix::process::Signal;

/// The process that uses the mount; nothing unless started as such.
#[test]
fn client() {
    common::client::serve_if_asked();
}

fn two_clients() -> Option<(World, Client, Client)> {
    let world = World::new(Options::default())?;
    fs::write(world.backing().join("f"), "").unwrap();
    let mut clients = [world.client(), world.client()];
    for client in &mut clients {
        client.run("open h f rw 0").unwrap();
    }
    let [one, other] = clients;
    Some((world, one, other))
}

const BOTH: [(&str, Kind); 2] = [("flock", Kind::Flock), ("lock", Kind::FcntlLock)];

fn is_lock(op: &Operation) -> bool {
    matches!(op.kind, Kind::Flock | Kind::FcntlLock)
}

/// Goal: locks exclude across mounts, by kind, and are told apart.
#[test]
fn locks_exclude_across_mounts() {
    let Some((world, mut one, mut other)) = two_clients() else { return };
    for (lock, kind) in BOTH {
        world.seen();
        assert_eq!(one.run(&format!("{lock} h try-exclusive")), Ok(0));
        let (op, _) = world.settled().pop().unwrap();
        let request = op.lock.unwrap();
        assert_eq!((op.kind, request.kind), (kind, LockKind::Exclusive));
        assert!(op.by_descriptor && !request.wait && paths_are_f(&op), "{op:?}");
        assert_eq!(other.run(&format!("{lock} h try-exclusive")), Err(libc::EAGAIN), "{lock}");
        assert_eq!(other.run(&format!("{lock} h try-shared")), Err(libc::EAGAIN), "{lock}");
        assert_eq!(one.run(&format!("{lock} h try-shared")), Ok(0), "{lock}");
        assert_eq!(other.run(&format!("{lock} h try-shared")), Ok(0), "{lock}");
        for client in [&mut one, &mut other] {
            assert_eq!(client.run(&format!("{lock} h unlock")), Ok(0), "{lock}");
        }
        assert_eq!(other.run(&format!("{lock} h try-exclusive")), Ok(0), "{lock}");
        assert_eq!(other.run(&format!("{lock} h unlock")), Ok(0), "{lock}");
    }
}

fn paths_are_f(op: &Operation) -> bool {
    op.path().as_os_str() == "f" && op.paths.len() == 1
}

/// Goal: a lock that waits is had when the holder unlocks, closes or dies; meanwhile all else is
/// served.
#[test]
fn a_waiting_lock_is_had_when_it_is_free() {
    for (lock, _) in BOTH {
        for how in ["unlock", "close", "die"] {
            let Some((world, mut one, mut other)) = two_clients() else { return };
            one.run(&format!("{lock} h exclusive")).unwrap();
            other.start_command(&format!("{lock} h exclusive"));
            world.wait_for_held(is_lock);
            assert_eq!(one.run("stat f"), Ok(0), "the loop is free");
            match how {
                "unlock" => assert_eq!(one.run(&format!("{lock} h unlock")), Ok(0)),
                "close" => assert_eq!(one.run("close h"), Ok(0)),
                _ => one.signal(Signal::KILL),
            }
            assert_eq!(other.answer(), Ok(0), "{lock} {how}");
            let held = |(op, outcome): &(Operation, _)| is_lock(op) && held(outcome);
            assert!(world.settled().iter().any(held), "{lock} {how}");
        }
    }
}

fn held(outcome: &deadbeat_fs::Outcome) -> bool {
    outcome.held && outcome.result.is_ok()
}

/// Goal: a signal ends the wait with EINTR; the lock stays the holder's, and the waiter lives.
#[test]
fn a_signal_ends_the_wait() {
    for (lock, _) in BOTH {
        let Some((world, mut one, mut other)) = two_clients() else { return };
        one.run(&format!("{lock} h exclusive")).unwrap();
        let tid = other.tid();
        other.start_command(&format!("{lock} h exclusive"));
        world.wait_for_held(is_lock);
        common::sys::signal_thread(other.pid(), tid, libc::SIGUSR1);
        assert_eq!(other.answer(), Err(libc::EINTR), "{lock}");
        assert_eq!(other.run(&format!("{lock} h try-exclusive")), Err(libc::EAGAIN), "{lock}");
        one.run(&format!("{lock} h unlock")).unwrap();
        assert_eq!(other.run(&format!("{lock} h try-exclusive")), Ok(0), "{lock}");
    }
}

/// Goal: F_GETLK names the process behind a lock that another mount holds.
#[test]
fn the_holder_of_a_lock_is_named() {
    let Some((_world, mut one, mut other)) = two_clients() else { return };
    assert_eq!(other.run("getlk h"), Ok(0));
    one.run("lock h exclusive").unwrap();
    assert_eq!(other.run("getlk h"), Ok(u64::try_from(one.pid()).unwrap()));
    assert_eq!(one.run("getlk h"), Ok(0), "one's own lock is in nobody's way");
}

/// Goal: a lock on the backing itself excludes, and a waiter gets it when it is free.
#[test]
fn locks_exclude_against_the_backing_too() {
    let Some((world, mut one, _)) = two_clients() else { return };
    let file = fs::File::open(world.backing().join("f")).unwrap();
    file.lock().unwrap();
    assert_eq!(one.run("flock h try-exclusive"), Err(libc::EAGAIN));
    one.start_command("flock h exclusive");
    world.wait_for_held(is_lock);
    file.unlock().unwrap();
    assert_eq!(one.answer(), Ok(0));
}

/// Goal: of two mounts that race for one name, one wins, 150 times of 150.
#[test]
fn races_have_one_winner() {
    let Some((world, mut one, mut other)) = two_clients() else { return };
    let races =
        [("mkdir l 755", "rmdir l"), ("open l l wcx 644", "unlink l"), ("link f l", "unlink l")];
    for (take, give) in races {
        let mut both_ways = [0; 2];
        for _ in 0..150 {
            one.start_command(take);
            other.start_command(take);
            let told = [one.answer(), other.answer()];
            let winner = told.iter().position(Result::is_ok).expect("somebody wins");
            assert_eq!(told[1 - winner], Err(libc::EEXIST), "{take}");
            both_ways[winner] += 1;
            let client = if winner == 0 { &mut one } else { &mut other };
            if take.starts_with("open") {
                client.run("close l").unwrap();
            }
            client.run(give).unwrap();
            world.seen();
        }
        println!("{take}: {both_ways:?}");
    }
}
