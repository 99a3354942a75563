//! What is held lets go of those who die, and never makes a process that cannot be killed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::World;
use deadbeat_fs::{Errno, Interrupts, Kind, Operation, Options, Ruling};
use rustix::process::Signal;

/// The process that uses the mount; nothing unless started as such.
#[test]
fn client() {
    common::client::serve_if_asked();
}

fn hold(world: &World, kind: Kind) {
    world.rule(move |op| if op.kind == kind { Ruling::Hold } else { Ruling::Proceed });
}

fn world(interrupts: Interrupts) -> Option<World> {
    let world = World::new(Options { interrupts, ..Options::default() })?;
    std::fs::write(world.backing().join("f"), "text").unwrap();
    Some(world)
}

/// What can be held in a client, and what prepares it.
const HELD: [(Kind, &str); 7] = [
    (Kind::Utimes, "utimes f now now"),
    (Kind::Write, "write h words"),
    (Kind::Close, "close h"),
    (Kind::Lookup, "stat f"),
    (Kind::Mkdir, "mkdir d 755"),
    (Kind::Create, "open i new wc 644"),
    (Kind::Fsync, "fsync h"),
];

/// Goal: SIGKILL ends a client whatever of it is held, with EINTR and without the effect.
#[test]
fn a_killed_client_dies() {
    for (kind, command) in HELD {
        let Some(world) = world(Interrupts::FatalOnly) else { return };
        let mut client = world.client();
        client.run("open h f rw 0").unwrap();
        hold(&world, kind);
        client.start_command(command);
        world.wait_for_held(move |op| op.kind == kind);
        client.signal(Signal::KILL);
        assert!(client.ends(), "{command}: not killed");
        let mut settled = world.settled();
        settled.retain(|(op, outcome)| op.kind == kind && outcome.held);
        let (_, outcome) = settled.first().unwrap_or_else(|| panic!("{command}: not settled"));
        assert_eq!(outcome.result, Err(Errno(libc::EINTR)), "{command}");
        assert!(!outcome.effect, "{command}");
        assert!(!world.backing().join("d").exists());
    }
}

/// Goal: a process that dies closes its files, and a hold on that close does not keep it.
#[test]
fn a_held_close_does_not_keep_the_dying() {
    let Some(world) = world(Interrupts::FatalOnly) else { return };
    let mut client = world.client();
    client.run("open h f rw 0").unwrap();
    world.seen();
    hold(&world, Kind::Close);
    client.signal(Signal::KILL);
    assert!(client.ends(), "kept by its close");
    let settled = world.settled();
    let held = settled.iter().find(|(op, outcome)| op.kind == Kind::Close && outcome.held);
    assert_eq!(held.expect("it was held").1.result, Err(Errno(libc::EINTR)));
}

/// Goal: other signals do not end a hold; a kill after one still does.
#[test]
fn other_signals_do_not_end_a_hold() {
    let Some(world) = world(Interrupts::FatalOnly) else { return };
    let mut client = world.client();
    let tid = client.tid();
    hold(&world, Kind::Utimes);
    client.start_command("utimes f now now");
    let id = world.wait_for_held(|op| op.kind == Kind::Utimes);
    common::sys::signal_thread(client.pid(), tid, libc::SIGUSR1);
    // The interrupt was heard when there is a time at which to look again.
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.with(|fs, _, _| fs.next_deadline()).is_none() {
        assert!(Instant::now() < deadline, "no interrupt came");
        std::thread::yield_now();
    }
    assert_eq!(world.wait_for_held(|op| op.kind == Kind::Utimes), id);
    assert!(world.release(id, Ruling::Proceed));
    assert_eq!(client.answer(), Ok(0));

    client.start_command("utimes f now now");
    world.wait_for_held(|op| op.kind == Kind::Utimes);
    common::sys::signal_thread(client.pid(), tid, libc::SIGUSR1);
    while world.with(|fs, _, _| fs.next_deadline()).is_none() {
        assert!(Instant::now() < deadline, "no interrupt came");
        std::thread::yield_now();
    }
    client.signal(Signal::KILL);
    assert!(client.ends(), "not killed after another signal");
}

/// Goal: with `Any`, a signal that a process handles ends the operation with EINTR.
#[test]
fn any_signal_ends_a_hold_if_that_is_asked_for() {
    let Some(world) = world(Interrupts::Any) else { return };
    let mut client = world.client();
    let tid = client.tid();
    hold(&world, Kind::Utimes);
    client.start_command("utimes f now now");
    world.wait_for_held(|op| op.kind == Kind::Utimes);
    common::sys::signal_thread(client.pid(), tid, libc::SIGUSR1);
    assert_eq!(client.answer(), Err(libc::EINTR));
}

/// Goal: one client's held create blocks neither another mount nor the loop.
#[test]
fn a_held_create_blocks_nobody_else() {
    let Some(world) = world(Interrupts::FatalOnly) else { return };
    let (mut one, mut other) = (world.client(), world.client());
    let mount = one.mount();
    world.rule(move |op| {
        if op.kind == Kind::Create && op.mount == mount { Ruling::Hold } else { Ruling::Proceed }
    });
    one.start_command("open i new wcx 644");
    let id = world.wait_for_held(|_| true);
    assert_eq!(other.run("open i new wcx 644"), Ok(0));
    assert!(world.release(id, Ruling::Proceed));
    assert_eq!(one.answer(), Err(libc::EEXIST));
}

/// Goal: shutting down answers everything that is held with an error, and goes on serving.
#[test]
fn shutdown_answers_with_an_error() {
    let Some(world) = world(Interrupts::FatalOnly) else { return };
    let mut client = world.client();
    hold(&world, Kind::Mkdir);
    client.start_command("mkdir d 755");
    world.wait_for_held(|op| op.kind == Kind::Mkdir);
    world.with(|fs, script, _| {
        fs.shutdown(script);
        assert_eq!(fs.held().count(), 0);
    });
    assert_eq!(client.answer(), Err(libc::EINTR));
    assert!(!world.backing().join("d").exists());
    world.rule(|_| Ruling::Proceed);
    assert_eq!(client.run("mkdir d 755"), Ok(0));
}

/// Goal: a mount that is removed answers what is held there, frees its locks, and then answers
/// nothing.
#[test]
fn a_removed_mount_lets_go() {
    let Some(world) = world(Interrupts::FatalOnly) else { return };
    let (mut one, mut other) = (world.client(), world.client());
    for client in [&mut one, &mut other] {
        client.run("open h f rw 0").unwrap();
    }
    one.run("flock h exclusive").unwrap();
    other.start_command("flock h exclusive");
    world.wait_for_held(|op| op.kind == Kind::Flock);
    hold(&world, Kind::Mkdir);
    one.start_command("mkdir d 755");
    world.wait_for_held(|op| op.kind == Kind::Mkdir);
    let mount = one.mount();
    world.with(move |fs, script, mounts| {
        mounts.retain(|known| *known != mount);
        fs.remove_mount(mount, script);
    });
    assert_eq!(one.answer(), Err(libc::EINTR));
    assert_eq!(other.answer(), Ok(0), "the lock was freed");
    assert_eq!(one.run("stat f"), Err(libc::ENOTCONN));
}

/// Set for a process that serves, holds what its own child does, and is to be killed.
const DAEMON: &str = "DEADBEAT_FS_DAEMON";

/// The process that is killed below; nothing unless started as such.
#[test]
fn daemon() {
    if std::env::var_os(DAEMON).is_none() {
        return;
    }
    let world = world(Interrupts::FatalOnly).expect("mounts were possible before");
    let mut client = world.client();
    world.rule(|op: &Operation| match op.kind {
        Kind::Utimes => Ruling::Hold,
        _ => Ruling::Proceed,
    });
    client.start_command("utimes f now now");
    world.wait_for_held(|_| true);
    // Its folder outlives it otherwise.
    std::fs::remove_dir_all(world.backing()).unwrap();
    eprintln!("held {}", client.pid());
    loop {
        std::thread::park();
    }
}

/// Goal: a daemon killed with SIGKILL while it holds operations leaves no process behind, 100
/// times of 100.
#[test]
fn a_killed_daemon_leaves_nothing_behind() {
    if !common::can_mount() {
        return;
    }
    let top = tempfile::tempdir().unwrap();
    for round in 0..100 {
        let mut daemon = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "daemon", "--nocapture", "--test-threads=1"])
            .env(DAEMON, "1")
            .env("TMPDIR", top.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(daemon.stderr.take().unwrap());
        let mut line = String::new();
        words.read_line(&mut line).unwrap();
        let pid = line.trim_end().strip_prefix("held ").unwrap_or_else(|| panic!("{line:?}"));
        let pid: i32 = pid.parse().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // The client has the other end of the daemon's standard error, and reads the end of its
        // commands once its operation returns. It is gone when nobody has that end any more.
        let mut rest = String::new();
        let reader = std::thread::spawn(move || words.read_to_string(&mut rest));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !reader.is_finished() {
            assert!(Instant::now() < deadline, "round {round}: {pid} hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
        reader.join().unwrap().unwrap();
    }
}
