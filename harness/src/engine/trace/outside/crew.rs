//! The processes of the command, in real time.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use super::super::sys;
use crate::engine::court::World;
use crate::engine::outside::EVERYBODY;
use crate::history::Stream;
use crate::plan::Reach;
use crate::role::{Role, Who};
use crate::time::Nanos;

/// The command's processes.
#[derive(Debug)]
pub(super) struct Crew {
    began: Instant,
    pub(super) processes: BTreeSet<i32>,
    pub(super) stopped: BTreeSet<i32>,
}

impl Crew {
    /// Nobody yet; time runs from now.
    pub(super) fn new() -> Crew {
        Crew { began: Instant::now(), processes: BTreeSet::new(), stopped: BTreeSet::new() }
    }

    /// Sends a signal to each process.
    pub(super) fn signal_all(&self, signal: i32) {
        for pid in &self.processes {
            sys::kill(*pid, signal);
        }
    }

    fn everybody(&self, is_there: bool) -> Vec<Role> {
        if is_there { vec![EVERYBODY] } else { Vec::new() }
    }
}

impl World for Crew {
    fn now(&self) -> Nanos {
        self.began.elapsed().into()
    }

    fn bury(&mut self, _: Role) {}

    fn plays(&self, _: Role) -> bool {
        !self.processes.is_empty()
    }

    fn stop(&mut self, _: Who, _: Reach) -> Vec<Role> {
        self.signal_all(libc::SIGSTOP);
        self.stopped.clone_from(&self.processes);
        self.everybody(!self.stopped.is_empty())
    }

    fn stopped(&self, _: Who) -> Vec<Role> {
        self.everybody(!self.stopped.is_empty())
    }

    fn go_on(&mut self, _: &[Role]) {
        for pid in std::mem::take(&mut self.stopped) {
            sys::kill(pid, libc::SIGCONT);
        }
    }

    fn killable(&self, _: Who, _: Reach) -> Vec<Role> {
        self.everybody(!self.processes.is_empty())
    }

    fn kill(&mut self, _: &[Role], _: Reach) {
        self.signal_all(libc::SIGKILL);
    }

    fn step_clock(&mut self, _: &[Role], _: i64) -> io::Result<()> {
        Err(io::Error::other("time is real"))
    }

    fn suspend(&mut self, _: Nanos) -> io::Result<()> {
        Err(io::Error::other("time is real"))
    }

    fn changed_files(&mut self, _: Nanos) {}

    fn output(&mut self) -> Vec<(Role, Stream, String)> {
        Vec::new()
    }
}
