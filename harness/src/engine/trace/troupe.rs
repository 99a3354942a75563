//! The processes of a run under the trace engine, and the run's clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::clock::Clock;
use super::folders::Folders;
use super::players::Player;
use super::{stamps, sys};
use crate::engine::court::World;
use crate::history::Stream;
use crate::plan::Reach;
use crate::role::{Role, Who};
use crate::time::Nanos;

/// Every role that has been started, every process of the run, and what time it is.
#[derive(Debug)]
pub(crate) struct Troupe {
    pub(crate) clock: Clock,
    pub(crate) players: Vec<Player>,
    /// Every process of the run, and whose it is.
    pub(crate) processes: BTreeMap<i32, Role>,
    /// Processes that the plan has stopped.
    pub(crate) stopped: BTreeSet<i32>,
    /// Processes that were just told to go on, and have not been heard of since.
    pub(crate) continued: Vec<i32>,
    /// Processes that were killed, and whose end is not reported yet.
    pub(crate) dying: BTreeSet<i32>,
    pub(crate) folders: Folders,
    /// Grows whenever files below `{dir}` may have changed.
    pub(crate) files_state: u64,
    /// The lock directory.
    dir: PathBuf,
    /// Times of files are multiples of this.
    grain: Option<Nanos>,
}

impl Troupe {
    /// Nobody, at the start of a run.
    pub(crate) fn new(clock: Clock, dir: PathBuf, grain: Option<Nanos>) -> Troupe {
        let (processes, stopped, dying) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let folders = Folders::default();
        let (players, files_state) = (Vec::new(), 0);
        Troupe {
            clock,
            players,
            processes,
            stopped,
            continued: Vec::new(),
            dying,
            folders,
            files_state,
            dir,
            grain,
        }
    }

    /// Takes in a role that was started.
    pub(crate) fn admit(&mut self, player: Player) {
        self.processes.insert(player.main, player.role);
        self.players.retain(|old| old.role != player.role);
        self.players.push(player);
    }

    /// The living processes that a deed means, with their roles.
    fn meant(&self, who: Who, reach: Reach) -> impl Iterator<Item = (i32, Role)> {
        let is_main = |pid: i32| self.players.iter().any(|p| p.main == pid && !p.is_dead);
        let meant = self.processes.iter().filter(move |(_, role)| who.means(**role));
        meant
            .filter(move |(pid, _)| reach == Reach::Tree || is_main(**pid))
            .map(|(pid, role)| (*pid, *role))
    }

    /// The process is no more.
    pub(crate) fn forget(&mut self, pid: i32) {
        self.processes.remove(&pid);
        self.stopped.remove(&pid);
        self.dying.remove(&pid);
    }

    /// Whether a link of `/proc/PID/fd` is a pipe that the supervisor reads.
    pub(crate) fn listens_to(&self, link: &Path) -> bool {
        self.players.iter().any(|player| player.pipes.iter().any(|pipe| pipe == link))
    }

    fn signal(&self, roles: &[Role], reach: Reach, signal: i32) -> Vec<i32> {
        let meant = self.meant(Who::Any, reach).filter(|(_, role)| roles.contains(role));
        let pids: Vec<i32> = meant.map(|(pid, _)| pid).collect();
        for pid in &pids {
            sys::kill(*pid, signal);
        }
        pids
    }
}

fn roles_of(pids: impl Iterator<Item = (i32, Role)>) -> Vec<Role> {
    pids.map(|(_, role)| role).collect::<BTreeSet<Role>>().into_iter().collect()
}

impl World for Troupe {
    fn now(&self) -> Nanos {
        self.clock.now()
    }

    fn bury(&mut self, role: Role) {
        let players = self.players.iter_mut().filter(|player| player.role == role);
        players.for_each(|player| player.is_dead = true);
    }

    fn plays(&self, role: Role) -> bool {
        self.players.iter().any(|player| player.role == role && !player.is_dead)
    }

    fn stop(&mut self, who: Who, reach: Reach) -> Vec<Role> {
        let roles = roles_of(self.meant(who, reach));
        self.stopped.extend(self.signal(&roles, reach, libc::SIGSTOP));
        roles
    }

    fn stopped(&self, who: Who) -> Vec<Role> {
        let stopped = self.meant(who, Reach::Tree).filter(|(pid, _)| self.stopped.contains(pid));
        roles_of(stopped)
    }

    fn go_on(&mut self, roles: &[Role]) {
        let is_theirs = |pid: &i32| self.processes.get(pid).is_some_and(|r| roles.contains(r));
        let (theirs, others): (BTreeSet<i32>, _) =
            self.stopped.iter().partition(|pid| is_theirs(pid));
        self.stopped = others;
        self.continued.extend(&theirs);
        for pid in theirs {
            sys::kill(pid, libc::SIGCONT);
        }
    }

    fn killable(&self, who: Who, reach: Reach) -> Vec<Role> {
        roles_of(self.meant(who, reach))
    }

    fn kill(&mut self, roles: &[Role], reach: Reach) {
        self.dying.extend(self.signal(roles, reach, libc::SIGKILL));
    }

    fn step_clock(&mut self, roles: &[Role], by: i64) -> io::Result<()> {
        for role in roles {
            self.clock.step(*role, by);
        }
        Ok(())
    }

    fn suspend(&mut self, length: Nanos) -> io::Result<()> {
        self.clock.suspend(length);
        Ok(())
    }

    /// The harness itself changes files by the machine's clock.
    fn changed_files(&mut self, back: Nanos) {
        self.folders.change();
        self.files_state += 1;
        let made_at = SystemTime::now().checked_sub(Duration::from(back));
        let shown = self.clock.stamp().checked_sub(Duration::from(back));
        if let (Some(made_at), Some(shown)) = (made_at, shown) {
            stamps::correct_below(&self.dir, made_at, shown, self.grain);
        }
    }

    fn output(&mut self) -> Vec<(Role, Stream, String)> {
        let mut pieces = Vec::new();
        for player in &mut self.players {
            let role = player.role;
            pieces.extend(player.output().into_iter().map(|(stream, text)| (role, stream, text)));
        }
        pieces
    }
}
