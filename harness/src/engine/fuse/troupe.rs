//! The processes of a run on the fuse engine, in real time.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use deadbeat_fs::MountId;
use rustix::process::Signal;

use super::players::{News, Player};
use crate::engine::court::{Court, World};
use crate::history::Stream;
use crate::plan::Reach;
use crate::role::{Role, Who};
use crate::time::Nanos;

/// Every role that has been started, and since when time runs.
#[derive(Debug)]
pub(crate) struct Troupe {
    began: Instant,
    pub(crate) players: Vec<Player>,
    mounts: BTreeMap<MountId, Role>,
}

impl Troupe {
    /// Nobody, at the start of a run.
    pub(crate) fn new() -> Troupe {
        Troupe { began: Instant::now(), players: Vec::new(), mounts: BTreeMap::new() }
    }

    /// Takes in a role that was started behind `mount`.
    pub(crate) fn admit(&mut self, mount: MountId, player: Player) {
        self.mounts.insert(mount, player.role);
        self.players.retain(|old| old.role != player.role);
        self.players.push(player);
    }

    /// Whose operations come through this mount.
    pub(crate) fn role_behind(&self, mount: MountId) -> Option<Role> {
        self.mounts.get(&mount).copied()
    }

    fn meant(&mut self, who: Who) -> impl Iterator<Item = &mut Player> {
        self.players.iter_mut().filter(move |player| who.means(player.role))
    }
}

impl World for Troupe {
    fn now(&self) -> Nanos {
        self.began.elapsed().into()
    }

    fn bury(&mut self, role: Role) {
        self.meant(Who::One(role)).for_each(|player| player.is_dead = true);
    }

    fn plays(&self, role: Role) -> bool {
        self.players.iter().any(|player| player.role == role && !player.is_dead)
    }

    fn stop(&mut self, who: Who, reach: Reach) -> Vec<Role> {
        let mut stopped = Vec::new();
        for player in self.meant(who) {
            if player.signal(Signal::STOP, reach) > 0 {
                player.is_stopped = true;
                stopped.push(player.role);
            }
        }
        stopped
    }

    fn stopped(&self, who: Who) -> Vec<Role> {
        let stopped = self.players.iter().filter(|player| player.is_stopped);
        stopped.map(|player| player.role).filter(|role| who.means(*role)).collect()
    }

    fn go_on(&mut self, roles: &[Role]) {
        for player in self.players.iter_mut().filter(|player| roles.contains(&player.role)) {
            player.is_stopped = false;
            player.signal(Signal::CONT, Reach::Tree);
        }
    }

    fn killable(&self, who: Who, _: Reach) -> Vec<Role> {
        let meant = self.players.iter().filter(|player| who.means(player.role));
        let alive = meant.filter(|player| !player.is_dead || !player.processes().is_empty());
        alive.map(|player| player.role).collect()
    }

    fn kill(&mut self, roles: &[Role], reach: Reach) {
        for player in self.players.iter().filter(|player| roles.contains(&player.role)) {
            player.signal(Signal::KILL, reach);
        }
    }

    fn step_clock(&mut self, _: &[Role], _: i64) -> io::Result<()> {
        Err(io::Error::other("the fuse engine runs in real time"))
    }

    fn suspend(&mut self, _: Nanos) -> io::Result<()> {
        Err(io::Error::other("the fuse engine runs in real time"))
    }

    fn changed_files(&mut self, _: Nanos) {}

    fn output(&mut self) -> Vec<(Role, Stream, String)> {
        let mut pieces = Vec::new();
        for player in &mut self.players {
            let role = player.role;
            pieces.extend(player.output().into_iter().map(|(stream, text)| (role, stream, text)));
        }
        pieces
    }
}

impl<O: Write> Court<Troupe, O> {
    /// Records every death that the kernel knows of, before anything that may come of it.
    pub(crate) fn bury_the_dead(&mut self) {
        for index in 0..self.world.players.len() {
            let player = &mut self.world.players[index];
            if player.main_ended() {
                let role = player.role;
                match player.how_it_ended() {
                    Some(News::Exited(code, signal)) => self.bury(role, code, signal),
                    Some(News::Cannot(why)) => self.could_not_start(role, &why),
                    _ => self.bury(role, None, None),
                }
            }
        }
    }
}
