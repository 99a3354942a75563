//! What a role is started with: its program, arguments and environment, the same on every engine.

use std::io;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::ground::Ground;
use crate::plan::{Part, Places, Plan};

/// One role of a run, about to be started.
#[derive(Debug)]
pub(crate) struct Casting<'a> {
    pub(crate) part: &'a Part,
    pub(crate) plan: &'a Plan,
    pub(crate) ground: &'a Ground,
    /// The user and group of roles; `None`: they run as the user who runs deadbeat.
    pub(crate) user: Option<u32>,
}

/// As whom a role runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Identity {
    /// Makes this process that user's, and gives up the rights of root.
    pub(crate) fn assume(self) -> io::Result<()> {
        set_thread_groups(&[])?;
        let (gid, uid) = (Gid::from_raw(self.group), Uid::from_raw(self.user));
        set_thread_res_gid(gid, gid, gid)?;
        Ok(set_thread_res_uid(uid, uid, uid)?)
    }
}

impl Casting<'_> {
    fn places(&self) -> Places {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Places {
            dir: text(&self.ground.dir()),
            lock: text(&self.ground.dir().join(&self.plan.files.name)),
            subject: text(self.ground.subject()),
            deadbeat: text(&self.ground.bin().join("deadbeat")),
        }
    }

    /// As whom it runs; `None`: as the user who runs deadbeat.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let group = self.user?;
        let user = self.plan.world.users.get(&self.part.role).copied().unwrap_or(group);
        Some(Identity { user, group })
    }

    /// The umask it starts with: users who share a lock folder let their group write.
    pub(crate) fn umask(&self) -> u32 {
        if self.plan.world.users.is_empty() { 0o022 } else { 0o002 }
    }

    /// The program and its arguments.
    pub(crate) fn argv(&self) -> Vec<String> {
        let places = self.places();
        let fill = |text: &String| places.fill_in(text, &self.plan.timing);
        self.part.argv.iter().map(fill).collect()
    }

    /// Sets the variables that an adapter is told everything by.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        let places = self.places();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DEADBEAT_") {
                command.env_remove(name);
            }
        }
        let Casting { part, plan, ground, user } = self;
        let mut path = vec![ground.bin()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).expect("they came from a PATH"));
        // The supervisor of a run without namespaces may have become another user.
        if user.is_some() || ground.is_bare() {
            command.env("HOME", ground.home());
        }
        command.env("TMPDIR", ground.home());
        let ms = |length: crate::time::Nanos| length.as_ms().to_string();
        command
            .env("DEADBEAT_ROLE", part.role.to_string())
            .env("DEADBEAT_DIR", &places.dir)
            .env("DEADBEAT_LOCK", &places.lock)
            .env("DEADBEAT_WITNESS", ground.witness())
            .env("DEADBEAT_HOLD_MS", ms(part.hold))
            .env("DEADBEAT_TICK_MS", ms(plan.timing.tick))
            .env("DEADBEAT_PATIENCE_MS", ms(part.patience))
            .env("DEADBEAT_ACQUIRES", part.acquires.to_string());
        let optional = [
            ("DEADBEAT_STALE_MS", plan.timing.stale),
            ("DEADBEAT_BEAT_MS", plan.timing.beat),
            ("DEADBEAT_STALL_MS", part.stall),
            ("DEADBEAT_AGAIN_MS", part.again),
        ];
        for (name, length) in optional {
            if let Some(length) = length {
                command.env(name, ms(length));
            }
        }
        for (name, value) in &part.env {
            command.env(name, places.fill_in(value, &plan.timing));
        }
    }
}
