//! The synthetic file: order, and that nothing reaches it.

mod common;

use std::fs;

use common::{Seen, World};
use deadbeat_fs::{Errno, Kind, Options, Ruling};

/// The process that uses the mount; nothing unless started as such.
#[test]
fn client() {
    common::client::serve_if_asked();
}

fn world() -> Option<World> {
    World::new(Options { synthetic: Some("witness".into()), ..Options::default() })
}

/// Goal: lines and operations of all mounts are in one order, that of their effects.
#[test]
fn lines_and_operations_are_in_order() {
    let Some(world) = world() else { return };
    let mut clients = [world.client(), world.client()];
    for client in &mut clients {
        client.run("open w witness wa 0").unwrap();
    }
    world.seen();
    for round in 0..50 {
        let client = &mut clients[round % 2];
        client.run(&format!("mkdir d{round} 755")).unwrap();
        assert_eq!(client.run(&format!("write w entered-{round}")).map(|n| n > 8), Ok(true));
    }
    let mut order = Vec::new();
    for seen in world.seen() {
        match seen {
            Seen::Settled(op, _) if op.kind == Kind::Mkdir => {
                order.push(op.path().display().to_string());
            }
            Seen::Line(mount, line) => {
                let round: usize = line.strip_prefix("entered-").unwrap().parse().unwrap();
                assert_eq!(mount, clients[round % 2].mount());
                order.push(line);
            }
            Seen::Settled(..) => {}
        }
    }
    let expected: Vec<String> =
        (0..50).flat_map(|round| [format!("d{round}"), format!("entered-{round}")]).collect();
    assert_eq!(order, expected);
}

/// Goal: no ruling, no permission and nothing on the backing reaches it.
#[test]
fn nothing_reaches_the_synthetic_file() {
    let Some(world) = world() else { return };
    fs::write(world.backing().join("witness"), "what is on the backing").unwrap();
    let mut client = world.client();
    world.rule(|op| match op.kind {
        // Without these nobody gets anywhere.
        Kind::Stat | Kind::Opendir | Kind::Readdir => Ruling::Proceed,
        _ => Ruling::Fail(Errno(libc::ENOSPC)),
    });
    client.run("become 65534 65534").unwrap();
    for how in ["wa", "w", "wt", "wct", "rw"] {
        assert_eq!(client.run(&format!("open w witness {how} 600")), Ok(0), "{how}");
        assert_eq!(client.run("write w left"), Ok(4), "{how}");
        assert_eq!(client.run("close w"), Ok(0), "{how}");
    }
    assert_eq!(client.run("stat witness"), Ok(0), "always empty");
    assert_eq!(client.run("unlink witness"), Err(libc::EPERM));
    assert_eq!(client.run("mkdir witness 755"), Err(libc::EEXIST));
    assert_eq!(client.run("rename witness x"), Err(libc::ENOSPC), "x is looked up, and ruled on");
    // ".", ".." and the file, once.
    assert_eq!(client.run("readdir ."), Ok(3));
    let lines = world.seen().into_iter().filter(|seen| matches!(seen, Seen::Line(..))).count();
    assert_eq!(lines, 5);
    let kept = fs::read_to_string(world.backing().join("witness")).unwrap();
    assert_eq!(kept, "what is on the backing");
}

/// Goal: a line that is refused fails with that error, exactly.
#[test]
fn a_refused_line_tells_its_errno() {
    let Some(world) = world() else { return };
    let mut client = world.client();
    client.run("open w witness wa 0").unwrap();
    world.with(|_, script, _| script.refuse_lines = Some(Errno(libc::ESTALE)));
    assert_eq!(client.run("write w entered"), Err(libc::ESTALE));
    world.with(|_, script, _| script.refuse_lines = None);
    assert_eq!(client.run("write w entered"), Ok(7));
}

/// Goal: a full backing fails its own files with ENOSPC, and not the synthetic one.
#[test]
fn a_full_backing_leaves_it_writable() {
    let Some(world) =
        World::on_small_tmpfs(Options { synthetic: Some("witness".into()), ..Options::default() })
    else {
        return;
    };
    let mut client = world.client();
    client.run("open h f wc 644").unwrap();
    let block = "x".repeat(4096);
    let mut told = Ok(4096);
    for _ in 0..64 {
        told = client.run(&format!("write h {block}"));
        if told != Ok(4096) {
            break;
        }
    }
    assert_eq!(told, Err(libc::ENOSPC));
    assert_eq!(client.run("statfs-free f"), Ok(0));
    assert_eq!(client.run("utimes f now now"), Ok(0), "tmpfs never fails utimes for space");
    client.run("open w witness wa 0").unwrap();
    assert_eq!(client.run("write w lost"), Ok(4));
}
