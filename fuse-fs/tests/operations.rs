//! What an operation is called, which file it is about, and who is refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{Client, World};
use deadbeat_fs::{Kind, NewTime, Operation, Options, Outcome, Ruling, StatfsProfile};

/// The process that uses the mount; nothing unless started as such.
#[test]
fn client() {
    common::client::serve_if_asked();
}

/// The last settled operation of a kind.
fn last(world: &World, kind: Kind) -> (Operation, Outcome) {
    let mut settled = world.settled();
    settled.retain(|(op, _)| op.kind == kind);
    settled.pop().unwrap_or_else(|| panic!("no {kind:?}"))
}

fn paths(op: &Operation) -> Vec<String> {
    op.paths.iter().map(|path| path.display().to_string()).collect()
}

fn world() -> Option<(World, Client)> {
    let world = World::new(Options::default())?;
    fs::create_dir(world.backing().join("d")).unwrap();
    fs::write(world.backing().join("d/f"), "text").unwrap();
    // The daemon has set the umask of this process to 0.
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(world.backing().join("d"), mode).unwrap();
    let client = world.client();
    Some((world, client))
}

/// Goal: what SETATTR mixes is told apart, with its details.
#[test]
fn utimes_chmod_chown_and_truncate_are_told_apart() {
    let Some((world, mut client)) = world() else { return };
    client.run("utimes d/f now now").unwrap();
    assert_eq!(last(&world, Kind::Utimes).0.mtime, Some(NewTime::Now));
    client.run("utimes d/f 5 9").unwrap();
    let at = NewTime::At { secs: 9, nanos: 7 };
    assert_eq!(last(&world, Kind::Utimes).0.mtime, Some(at));
    client.run("utimes d/f -5 -9").unwrap();
    let at = NewTime::At { secs: -9, nanos: 7 };
    assert_eq!(last(&world, Kind::Utimes).0.mtime, Some(at));
    client.run("utimes d/f 5 omit").unwrap();
    assert_eq!(last(&world, Kind::Utimes).0.mtime, None);
    client.run("chmod d/f 640").unwrap();
    assert_eq!(last(&world, Kind::Chmod).0.mode, Some(0o640));
    client.run("chown d/f 7 -").unwrap();
    assert_eq!(last(&world, Kind::Chown).0.owner, Some((Some(7), None)));
    client.run("truncate d/f 2").unwrap();
    let op = last(&world, Kind::Truncate).0;
    assert!(op.truncates && !op.grows && op.offset == 2 && !op.by_descriptor, "{op:?}");
    client.run("open h d/f rwt 0").unwrap();
    assert!(last(&world, Kind::Open).0.truncates);
    client.run("open n d/new rwct 600").unwrap();
    assert!(!last(&world, Kind::Create).0.truncates, "there was nothing to cut");
    client.run("ftruncate h 9").unwrap();
    let op = last(&world, Kind::Truncate).0;
    assert!(op.grows && op.by_descriptor, "{op:?}");
    client.run("pwrite h abc 6").unwrap();
    assert!(!last(&world, Kind::Write).0.grows);
    client.run("pwrite h abc 7").unwrap();
    let op = last(&world, Kind::Write).0;
    assert!(op.grows && (op.offset, op.len) == (7, 3), "{op:?}");
}

/// Goal: a file is known by its path in the backing, however the client spells it.
#[test]
fn paths_are_right_through_any_spelling() {
    let Some((world, mut client)) = world() else { return };
    std::os::unix::fs::symlink("d/f", world.backing().join("s")).unwrap();
    for spelling in ["d/f", "./d/../d/f", "s"] {
        client.run(&format!("utimes {spelling} now now")).unwrap();
        let op = last(&world, Kind::Utimes).0;
        assert_eq!(paths(&op), ["d/f"], "{spelling}");
        assert!(!op.by_descriptor && !op.unlinked, "{spelling}");
    }
    client.run("enter d").unwrap();
    client.run("utimes f now now").unwrap();
    assert_eq!(paths(&last(&world, Kind::Utimes).0), ["d/f"]);
    client.run("link f g").unwrap();
    let op = last(&world, Kind::Link).0;
    assert_eq!((paths(&op), op.to), (vec!["d/f".to_owned()], Some(PathBuf::from("d/g"))));
    client.run("utimes g now now").unwrap();
    assert_eq!(paths(&last(&world, Kind::Utimes).0), ["d/g", "d/f"]);
    client.run("rename g h").unwrap();
    let op = last(&world, Kind::Rename).0;
    assert_eq!(paths(&op), ["d/g", "d/f"]);
    assert_eq!(op.to, Some(PathBuf::from("d/h")));
    assert_eq!(client.run("stat .").map(|_| ()), Ok(()));
    client.run("mkdir sub 755").unwrap();
    assert_eq!(paths(&last(&world, Kind::Mkdir).0), ["d/sub"]);
}

/// Goal: names follow what another mount does, and what is done on the backing itself.
#[test]
fn names_follow_other_mounts_and_the_backing() {
    let Some((world, mut client)) = world() else { return };
    let mut other = world.client();
    client.run("open h d/f rw 0").unwrap();
    assert_eq!(other.run("stat d/f"), Ok(4));
    other.run("rename d e").unwrap();
    client.run("futimes h 1 2").unwrap();
    let op = last(&world, Kind::Utimes).0;
    assert!(op.by_descriptor && !op.unlinked, "{op:?}");
    assert_eq!(paths(&op), ["e/f"]);
    fs::hard_link(world.backing().join("e/f"), world.backing().join("x")).unwrap();
    fs::remove_file(world.backing().join("e/f")).unwrap();
    client.run("futimes h 1 2").unwrap();
    let op = last(&world, Kind::Utimes).0;
    assert!(!op.unlinked && op.by_descriptor, "{op:?}");
    assert_eq!(other.run("stat x"), Ok(4));
    client.run("futimes h 1 2").unwrap();
    assert_eq!(paths(&last(&world, Kind::Utimes).0), ["x"]);
    other.run("unlink x").unwrap();
    client.run("write h words").unwrap();
    let op = last(&world, Kind::Write).0;
    assert!(op.unlinked && op.by_descriptor, "{op:?}");
    assert_eq!(paths(&op), ["x"]);
    client.run("futimes h 1 2").unwrap();
    assert!(last(&world, Kind::Utimes).0.unlinked);
    assert_eq!(client.run("stat x"), Err(libc::ENOENT));
}

/// Goal: a name that got another file on the backing itself is the new file.
#[test]
fn a_file_replaced_on_the_backing_is_the_new_one() {
    let Some((world, mut client)) = world() else { return };
    client.run("open h d/f r 0").unwrap();
    let old = client.run("ino d/f").unwrap();
    let backing = world.backing();
    fs::write(backing.join("new"), "another").unwrap();
    fs::rename(backing.join("new"), backing.join("d/f")).unwrap();
    assert_ne!(client.run("ino d/f").unwrap(), old);
    assert_eq!(client.run("fstat h"), Ok(4));
    let (op, outcome) = last(&world, Kind::Stat);
    assert_eq!((op.ino, outcome.ino), (old, old));
    assert!(op.unlinked && paths(&op) == ["d/f"], "{op:?}");
}

/// Goal: the backing decides who is refused, and every refused attempt is settled.
#[test]
fn refusals_are_the_backings_and_are_heard_of() {
    let Some((world, mut client)) = world() else { return };
    let file = world.backing().join("d/f");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    client.run("open h d/f r 0").unwrap();
    client.run("become 65534 65534").unwrap();
    let refused = [
        ("utimes d/f now now", Kind::Utimes, libc::EACCES),
        ("utimes d/f 5 6", Kind::Utimes, libc::EPERM),
        ("futimes h now now", Kind::Utimes, libc::EACCES),
        ("chmod d/f 666", Kind::Chmod, libc::EPERM),
        ("chown d/f 65534 65534", Kind::Chown, libc::EPERM),
        ("truncate d/f 0", Kind::Truncate, libc::EACCES),
        ("open i d/f w 0", Kind::Open, libc::EACCES),
        ("access d/f w", Kind::Stat, libc::EACCES),
        ("mkdir d/new 755", Kind::Mkdir, libc::EACCES),
        ("unlink d/f", Kind::Unlink, libc::EACCES),
        ("rename d/f d/g", Kind::Rename, libc::EACCES),
    ];
    for (command, kind, errno) in refused {
        assert_eq!(client.run(command), Err(errno), "{command}");
        let (op, outcome) = last(&world, kind);
        assert_eq!(outcome.result, Err(deadbeat_fs::Errno(errno)), "{command}");
        assert_eq!((op.caller.uid, outcome.effect), (65534, false), "{command}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(client.run("utimes d/f now now"), Ok(0));
    assert_eq!(client.run("utimes d/f 5 6"), Err(libc::EPERM));
    fs::set_permissions(world.backing().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(client.run("stat d/f"), Err(libc::EACCES));
}

/// Goal: what a user makes is the user's, and supplementary groups count.
#[test]
fn ownership_and_groups_are_the_callers() {
    use std::os::unix::fs::MetadataExt;
    let Some((world, mut client)) = world() else { return };
    let folder = world.backing().join("d");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
    std::os::unix::fs::chown(&folder, Some(0), Some(4242)).unwrap();
    let mut stranger = world.client();
    stranger.run("become 65534 65534").unwrap();
    assert_eq!(stranger.run("mkdir d/new 755"), Err(libc::EACCES));
    client.run("become 65534 65534 4242").unwrap();
    assert_eq!(client.run("mkdir d/new 755"), Ok(0));
    let made = fs::metadata(folder.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (65534, 65534));
    assert_eq!(client.run("chown d/new - 4242"), Ok(0));
    assert_eq!(client.run("chown d/new - 4243"), Err(libc::EPERM));
    // The daemon is root again afterwards.
    let mut root = world.client();
    assert_eq!(root.run("chown d/new 0 0"), Ok(0));
}

/// Goal: statfs shows what is free on the backing, or what it is told to show.
#[test]
fn statfs_shows_the_profile() {
    let Some((world, mut client)) = world() else { return };
    assert!(client.run("statfs-free d").unwrap() > 0);
    world.with(|_, script, _| {
        script.profile = Some(StatfsProfile { free_bytes: Some(0), free_inodes: None });
    });
    let real = rustix::fs::statvfs(world.backing()).unwrap().f_ffree;
    assert_eq!(client.run("statfs-free d"), Ok(0));
    assert!(client.run("statfs-inodes d").unwrap().abs_diff(real) < 1000);
    world.with(|_, script, _| {
        script.profile = Some(StatfsProfile { free_bytes: None, free_inodes: Some(3) });
    });
    assert_eq!(client.run("statfs-inodes d"), Ok(3));
}

/// Goal: names that are hidden are not there.
#[test]
fn hidden_names_are_not_there() {
    let Some((world, mut client)) = world() else { return };
    fs::write(world.backing().join("ballast"), "").unwrap();
    assert_eq!(client.run("stat ballast"), Err(libc::ENOENT));
    assert_eq!(client.run("unlink ballast"), Err(libc::ENOENT));
    assert_eq!(client.run("mkdir ballast 755"), Err(libc::EACCES));
    assert_eq!(client.run("rename d/f ballast"), Err(libc::EACCES));
    // ".", ".." and "d".
    assert_eq!(client.run("readdir ."), Ok(3));
    assert!(world.backing().join("ballast").is_file());
}

/// Goal: what is held or pretended leaves no file behind in the daemon's table or on the backing.
#[test]
fn a_ruling_is_asked_for_once() {
    let Some((world, mut client)) = world() else { return };
    let mut asked = 0_u32;
    world.rule(move |op| {
        if op.kind == Kind::Mkdir {
            asked += 1;
            assert_eq!(asked, 1, "asked again");
            return Ruling::Hold;
        }
        Ruling::Proceed
    });
    client.start_command("mkdir new 755");
    let id = world.wait_for_held(|op| op.kind == Kind::Mkdir);
    // Held again, and again.
    assert!(world.release(id, Ruling::Hold));
    assert!(world.release(id, Ruling::Hold));
    assert!(!world.backing().join("new").exists());
    assert!(world.release(id, Ruling::Proceed));
    assert_eq!(client.answer(), Ok(0));
    assert!(!world.release(id, Ruling::Proceed));
}
