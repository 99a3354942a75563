//! What the supervisor knows of each process of the run: its memory, and its descriptors.
//!
//! # Invariants
//! - A descriptor is remembered only as something outside the run's files, and only until a call
//!   that could give its number to another file: close, dup2, dup3, close_range, exec. Numbers that
//!   other calls hand out were free before, so nothing was remembered of them.
//! - A process that shares its descriptors with another process is remembered nothing of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::vdso::Shown;

/// What a descriptor is, if it is none of the run's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    /// A pipe that the supervisor reads.
    Output,
    /// A source of random bytes (random(4)).
    Random,
    /// Anything else.
    Other,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    memory: File,
    clock_page: Option<u64>,
    shown: Option<Shown>,
    descriptors: BTreeMap<i32, Outside>,
    shares_descriptors: bool,
}

impl Process {
    /// A process that was just made, or that a program was just started in; its thread stands
    /// still.
    pub(crate) fn open(pid: i32, clock_page: Option<u64>) -> io::Result<Process> {
        let memory = open_memory(pid)?;
        let descriptors = BTreeMap::new();
        Ok(Process { memory, clock_page, shown: None, descriptors, shares_descriptors: false })
    }

    /// Its child: a copy, but for its memory.
    pub(crate) fn fork(&self, pid: i32, shares_descriptors: bool) -> io::Result<Process> {
        let memory = open_memory(pid)?;
        let Process { clock_page, shown, .. } = *self;
        let descriptors =
            if shares_descriptors { BTreeMap::new() } else { self.descriptors.clone() };
        Ok(Process { memory, clock_page, shown, descriptors, shares_descriptors })
    }

    /// Lets the process read this time, if it has a clock page.
    ///
    /// # Errors
    /// Its memory cannot be written: it was killed.
    pub(crate) fn show(&mut self, shown: Shown) -> io::Result<()> {
        if let Some(page) = self.clock_page
            && self.shown != Some(shown)
        {
            self.memory.write_all_at(&shown.bytes(), page)?;
            self.shown = Some(shown);
        }
        Ok(())
    }

    /// What is known of a descriptor.
    pub(crate) fn outside(&self, fd: i32) -> Option<Outside> {
        self.descriptors.get(&fd).copied()
    }

    /// Remembers a descriptor.
    pub(crate) fn remember(&mut self, fd: i32, outside: Outside) {
        if !self.shares_descriptors {
            self.descriptors.insert(fd, outside);
        }
    }

    /// The descriptor may be another file soon.
    pub(crate) fn forget(&mut self, fd: i32) {
        self.descriptors.remove(&fd);
    }

    /// All of them may be.
    pub(crate) fn forget_all(&mut self) {
        self.descriptors.clear();
    }

    /// From now on: another process has the same descriptors, or they change behind our back.
    pub(crate) fn remember_nothing(&mut self) {
        self.shares_descriptors = true;
        self.forget_all();
    }
}

fn open_memory(pid: i32) -> io::Result<File> {
    File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))
}
