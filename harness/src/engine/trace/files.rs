//! Operations on the files of a run: whose turn it is, what happens to it, what came of it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::arch_x86_64::Regs;
use super::decode::{self, Call, Resolved};
use super::pins::{GoesOn, Pin};
use super::supervisor::Supervisor;
use super::sys::{self, Stopped};
use super::thread::{After, Ask, Case, State};
use super::{stamps, waits};
use crate::engine::court::Ruling;
use crate::op::{Op, OpId, OpKind};
use crate::role::Role;
use crate::time::Nanos;

/// How long an operation takes: what a small one takes on a local disk's cache. A loop that only
/// looks at files therefore ends.
const OPERATION: Nanos = Nanos(10_000);
/// By how much the clocks move at least: showing each process the time costs more than all else.
const TICK: Nanos = Nanos(100_000);
/// How many operations a role makes in a row, if others are ready: one that tries without a pause
/// must not keep the others from their turns.
const TURNS_MAX: u32 = 500;
/// More of one write than this is no line of the witness.
const PAYLOAD_MAX: usize = 64 << 10;
/// How many parts of a gathered write are looked at.
const PARTS_MAX: usize = 16;
/// How many files are looked at for other names of one.
const NAMES_WALK_MAX: usize = 2000;

/// Whether a call touches anything at or below `dir`.
pub(crate) fn concerns(call: &Call, dir: &Path) -> bool {
    let second = call.second.as_ref();
    call.first.path.starts_with(dir) || second.is_some_and(|second| second.path.starts_with(dir))
}

/// The bytes that a call is about to write; `None` for calls that write no bytes of their own.
pub(crate) fn payload(tid: i32, regs: &Regs) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (place, length) in parts(tid, regs)? {
        let wanted = length.min(PAYLOAD_MAX - bytes.len());
        let start = bytes.len();
        bytes.resize(start + wanted, 0);
        let read = sys::read_memory(tid, place, &mut bytes[start..]).ok()?;
        bytes.truncate(start + read);
    }
    Some(bytes)
}

/// Where the bytes of a write are.
fn parts(tid: i32, regs: &Regs) -> Option<Vec<(u64, usize)>> {
    match regs.nr() {
        libc::SYS_write | libc::SYS_pwrite64 => {
            Some(vec![(regs.arg(1), usize::try_from(regs.arg(2)).ok()?)])
        }
        libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 => {
            let count = usize::try_from(regs.arg(2)).ok()?.min(PARTS_MAX);
            let mut bytes = vec![0; count * 16];
            sys::read_memory(tid, regs.arg(1), &mut bytes).ok()?;
            let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().expect("8 bytes"));
            let part =
                |pair: &[u8]| Some((word(&pair[..8]), usize::try_from(word(&pair[8..])).ok()?));
            bytes.chunks_exact(16).map(part).collect()
        }
        _ => None,
    }
}

/// What the disk has to say about a call.
pub(super) struct Finding {
    pub(super) op: Op,
    /// The kernel will refuse it by itself, as a file system is never asked.
    pub(super) is_refused: bool,
    pub(super) changes_files: bool,
}

impl Supervisor<'_> {
    /// Lets one thread that waits at the gate make its operation; whether there was one.
    pub(crate) fn let_one_go(&mut self) -> bool {
        let mut ready: Vec<(bool, Role, u32, PathBuf, i32)> = Vec::new();
        for (tid, thread) in &self.threads {
            let State::Gate(_, _, ask) = &thread.state else { continue };
            if self.court.world.stopped.contains(&thread.pid) {
                continue;
            }
            let (rank, path) = match ask {
                Ask::Files(call) => (call.kind as u32, call.first.path.clone()),
                Ask::Witness(_) => (u32::MAX, PathBuf::new()),
                Ask::Thread | Ask::Process => (OpKind::Thread as u32, PathBuf::new()),
            };
            // The dull schedule: whoever went last goes on until it blocks, or has had many turns.
            let is_other = (self.last != Some(thread.role)) ^ (self.turns >= TURNS_MAX);
            ready.push((is_other, thread.role, rank, path, *tid));
        }
        ready.sort();
        let index = match (self.job.plan.seed, ready.len()) {
            (_, 0) => return false,
            (0, _) => 0,
            (_, count) => self.order.below(count),
        };
        let (_, role, _, _, tid) = ready.swap_remove(index);
        self.turns = if self.last == Some(role) { self.turns + 1 } else { 1 };
        self.last = Some(role);
        // Making a process takes no more time than what else it computes.
        let state = self.threads.get(&tid).map(|thread| &thread.state);
        if !matches!(state, Some(State::Gate(_, _, Ask::Process))) {
            self.owed = self.owed + OPERATION;
        }
        if self.owed >= TICK {
            let now = self.court.now();
            self.court.world.clock.advance_to(now + self.owed);
            self.owed = Nanos::ZERO;
        }
        let Some(thread) = self.threads.get_mut(&tid) else { return false };
        if let State::Gate(stopped, regs, ask) =
            std::mem::replace(&mut thread.state, State::Running)
        {
            self.carry_out(stopped, regs, ask);
        }
        true
    }

    fn carry_out(&mut self, stopped: Stopped, mut regs: Regs, ask: Ask) {
        let role = self.role_of(stopped.tid());
        match ask {
            Ask::Witness(bytes) => {
                let length = i64::try_from(bytes.len()).expect("it is short");
                let answer = match self.court.hear(role, &bytes) {
                    Ok(()) => length,
                    Err(errno) => -i64::from(errno),
                };
                regs.skip(answer);
                self.resume_with(stopped, &regs);
            }
            Ask::Files(call) => {
                // Names may have moved while it waited for its turn.
                let is_fresh = call.state == self.court.world.files_state;
                let tid = stopped.tid();
                let again = if is_fresh { None } else { self.decode(tid, &regs).map(Box::new) };
                let call = again.unwrap_or(call);
                self.court.world.files_state += 1;
                let found = self.examine(stopped.tid(), role, &call);
                let ruling = if found.is_refused {
                    Ruling::Proceed
                } else {
                    self.court.decide(&found.op, found.changes_files)
                };
                let case = Case {
                    op: found.op,
                    call: Some(*call),
                    regs,
                    after: After::Plain,
                    is_announced: false,
                };
                self.rule(stopped, Box::new(case), ruling);
            }
            Ask::Process => drop(stopped.resume(0)),
            Ask::Thread => {
                let op = self.op(role, OpKind::Thread);
                let ruling = self.court.decide(&op, false);
                let case = Case { op, call: None, regs, after: After::Plain, is_announced: false };
                self.rule(stopped, Box::new(case), ruling);
            }
        }
    }

    fn op(&mut self, role: Role, kind: OpKind) -> Op {
        self.ops += 1;
        Op {
            id: OpId(self.ops),
            role,
            kind,
            truncates: false,
            paths: Vec::new(),
            to: None,
            by_descriptor: false,
            unlinked: false,
            ino: None,
        }
    }

    /// Describes a call, as the disk is now.
    fn examine(&mut self, tid: i32, role: Role, call: &Call) -> Finding {
        let op = self.op(role, call.kind);
        let dir = self.ground.dir();
        describe(op, tid, call, &dir, |ino| other_names(&dir, ino, &call.first.path))
    }

    /// Does to an operation what was ruled.
    fn rule(&mut self, stopped: Stopped, case: Box<Case>, ruling: Ruling) {
        let answered = self.at_client(stopped, case, ruling);
        let Some((stopped, mut case, ruling)) = answered else { return };
        let tid = stopped.tid();
        let is_as_asked = ruling == Ruling::Proceed;
        let regs = match apply(tid, &mut case, ruling) {
            Step::Wait => {
                if let Some(call) = &case.call
                    && self.court.hangs(case.op.id)
                    && let Some(pin) = Pin::of(&case.op, call)
                {
                    self.pins.insert(case.op.id, pin);
                }
                if let Some(thread) = self.threads.get_mut(&tid) {
                    thread.state = State::Held(stopped, case);
                }
                return;
            }
            Step::Skip(regs, told) => {
                let ino = told.ok().and(case.op.ino);
                self.court.settle(case.op, told, false, ino);
                return self.resume_with(stopped, &regs);
            }
            Step::Make(regs) => regs,
        };
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.state = State::Working(case);
        }
        self.show_time();
        // Both fail only if the thread was killed; its end is reported.
        if is_as_asked || stopped.set_regs(&regs).is_ok() {
            let _ = stopped.resume_to_exit();
        }
    }

    /// Carries out an operation that its fault has let go.
    pub(crate) fn carry_out_held(&mut self, tid: i32) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        match std::mem::replace(&mut thread.state, State::Running) {
            State::Held(stopped, case) => {
                self.court.world.files_state += 1;
                match self.pins.remove(&case.op.id) {
                    Some(pin) => self.go_on_pinned(stopped, case, &pin),
                    None => self.rule(stopped, case, Ruling::Proceed),
                }
            }
            other => thread.state = other,
        }
    }

    /// Carries out an operation that had found its files before it was held.
    fn go_on_pinned(&mut self, stopped: Stopped, mut case: Box<Case>, pin: &Pin) {
        let tid = stopped.tid();
        let mut regs = case.regs;
        let (told, effect) = match pin.let_go(tid, &case.op, &case.regs) {
            GoesOn::With(there) if there.fingerprint() == regs.fingerprint() => {
                return self.rule(stopped, case, Ruling::Proceed);
            }
            GoesOn::With(there) => {
                case.after = After::Redirected;
                if let Some(thread) = self.threads.get_mut(&tid) {
                    thread.state = State::Working(case);
                }
                self.show_time();
                // Fails only if the thread was killed; its end is reported.
                if stopped.set_regs(&there).is_ok() {
                    let _ = stopped.resume_to_exit();
                }
                return;
            }
            GoesOn::Fails(errno) => (Err(errno), false),
            GoesOn::OnGhost => (Ok(0), true),
        };
        regs.skip(told.map_or_else(|errno| -i64::from(errno), |_: u64| 0));
        let ino = case.op.ino;
        self.court.settle(case.op, told, effect, ino);
        self.resume_with(stopped, &regs);
    }

    /// An operation has returned: writes down what came of it, and what the process is told.
    pub(crate) fn finish(&mut self, stopped: Stopped, mut case: Box<Case>) {
        let tid = stopped.tid();
        let Ok(regs) = stopped.regs() else { return };
        if waits::is_restart(regs.ret()) {
            if let Some(thread) = self.threads.get_mut(&tid) {
                thread.cut_case = Some(case);
            }
            let _ = stopped.resume(0);
            return;
        }
        let is_as_answered = case.after == After::Plain;
        let Answer { real, told, regs } = answer(&case, regs);
        let effect = real.is_ok() && case.after != After::Pretend;
        let mut ino = None;
        if let Some(call) = case.call.take() {
            if decode::changes_names(case.op.kind) {
                self.court.world.folders.change();
            }
            let seen = if effect { self.stamp(tid, &call, case.op.kind) } else { None };
            self.learn(tid, &case, &call, real);
            let target = call.second.as_ref().unwrap_or(&call.first);
            // Where the call was sent elsewhere, its path may name another file by now.
            let seen = seen.filter(|_| case.after != After::Redirected);
            let is_known = case.after == After::Plain && keeps_its_file(case.op.kind);
            let found = || if is_known { None } else { attributes(tid, target) };
            ino = seen.or_else(found).map(|meta| meta.ino()).or(case.op.ino);
            if case.op.kind == OpKind::Statfs && effect {
                self.show_space(tid, &case.regs);
            }
        }
        // What a descriptor's number is says nothing, and differs from run to run.
        let opens = matches!(case.op.kind, OpKind::Open | OpKind::Create);
        let told = if opens { told.map(|_| 0) } else { told };
        self.court.settle(case.op, told, effect, ino);
        if is_as_answered {
            self.show_time();
            let _ = stopped.resume(0);
        } else {
            self.resume_with(stopped, &regs);
        }
    }

    /// Gives the files that were changed the run's time, in place of the machine's; gives what is
    /// known by then of the file that the call was about.
    fn stamp(&mut self, tid: i32, call: &Call, kind: OpKind) -> Option<Metadata> {
        let (file_changes, folder_changes) = changes(kind, call.open_flags.unwrap_or(0));
        if !file_changes {
            return None;
        }
        let grain = self.court.plan().world.files.mtime_granularity;
        let now = self.court.world.clock.stamp();
        if let (true, Some(fd)) = (call.first.unlinked, call.first.fd) {
            let open = PathBuf::from(format!("/proc/{tid}/fd/{fd}"));
            return stamps::correct(&open, true, now, grain);
        }
        let dir = self.ground.dir();
        let mut seen = None;
        for file in [Some(&call.first), call.second.as_ref()].into_iter().flatten() {
            if file.path.starts_with(&dir) {
                seen = stamps::correct(&file.path, false, now, grain);
            }
            let parent = file.path.parent().filter(|parent| parent.starts_with(&dir));
            if let Some(parent) = parent.filter(|_| folder_changes) {
                stamps::correct(parent, false, now, grain);
            }
        }
        // The name may be another file's by now; a descriptor's is not.
        seen.filter(|_| !call.first.by_descriptor)
    }

    /// Lets `statfs` show what the plan says: `f_bfree`, `f_bavail` and `f_ffree`.
    fn show_space(&mut self, tid: i32, regs: &Regs) {
        let Some(shown) = self.court.shown_space() else { return };
        let mut bytes = [0; 120];
        if sys::read_memory(tid, regs.arg(1), &mut bytes).is_err() {
            return;
        }
        let size = u64::from_ne_bytes(bytes[8..16].try_into().expect("8 bytes")).max(1);
        if let Some(free) = shown.free {
            let blocks = (free / size).to_ne_bytes();
            bytes[24..32].copy_from_slice(&blocks);
            bytes[32..40].copy_from_slice(&blocks);
        }
        if let Some(inodes) = shown.inodes {
            bytes[48..56].copy_from_slice(&inodes.to_ne_bytes());
        }
        let _ = sys::write_memory(tid, regs.arg(1), &bytes);
    }
}

/// Completes the description of an operation, as the disk is now. Its paths are told below `dir`;
/// `other_names` gives further names of a file with several links, by its inode.
pub(super) fn describe(
    mut op: Op,
    tid: i32,
    call: &Call,
    dir: &Path,
    other_names: impl Fn(u64) -> Vec<String>,
) -> Finding {
    let flags = call.open_flags.unwrap_or(0);
    let meta = call.seen.clone().unwrap_or_else(|| attributes(tid, &call.first));
    let second = call.second.as_ref().and_then(|second| attributes(tid, second));
    let exists = meta.is_some();
    let creates = flags & libc::O_CREAT != 0;
    let is_nameless = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    let is_folder = meta.as_ref().is_some_and(Metadata::is_dir);
    let kind = match call.kind {
        OpKind::Open if is_nameless || (creates && !exists) => OpKind::Create,
        OpKind::Open | OpKind::Close if is_folder => OpKind::Other,
        kind => kind,
    };
    op.kind = kind;
    op.truncates = exists && flags & libc::O_TRUNC != 0 && kind == OpKind::Open;
    op.paths = below(&call.first.path, dir).into_iter().collect();
    if let Some(meta) = meta.as_ref().filter(|meta| meta.nlink() > 1 && meta.is_file()) {
        op.paths.extend(other_names(meta.ino()));
    }
    op.to = call.second.as_ref().and_then(|second| below(&second.path, dir));
    op.by_descriptor = call.first.by_descriptor;
    op.unlinked = call.first.unlinked;
    op.ino = meta.map(|meta| meta.ino());
    let is_refused = match call.kind {
        _ if call.first.by_descriptor => false,
        OpKind::Mkdir | OpKind::Symlink | OpKind::Create => exists,
        OpKind::Open if is_nameless => !exists,
        OpKind::Open => (exists && decode::is_exclusive(flags)) || !(exists || creates),
        OpKind::Link => !exists || second.is_some(),
        _ => !exists,
    };
    let changes_files = match kind {
        OpKind::Open => flags & libc::O_ACCMODE != libc::O_RDONLY || op.truncates,
        OpKind::Other
        | OpKind::Stat
        | OpKind::Read
        | OpKind::Readdir
        | OpKind::Statfs
        | OpKind::Close
        | OpKind::Fsync
        | OpKind::Flock
        | OpKind::FcntlLock => false,
        _ => true,
    };
    Finding { op, is_refused, changes_files }
}

/// How an operation goes on under a ruling.
pub(super) enum Step {
    /// It waits.
    Wait,
    /// It is not made; these registers hold the answer, and this is what the thread is told.
    Skip(Regs, Result<u64, i32>),
    /// It is made, with these registers.
    Make(Regs),
}

/// Makes an operation ready for what was ruled.
pub(super) fn apply(tid: i32, case: &mut Case, ruling: Ruling) -> Step {
    let mut regs = case.regs;
    // A close gives its descriptor back whatever it answers, as on every file system.
    let is_close = case.op.kind == OpKind::Close;
    match ruling {
        Ruling::Hold => return Step::Wait,
        Ruling::Fail(errno) if !is_close => {
            regs.skip(-i64::from(errno));
            return Step::Skip(regs, Err(errno));
        }
        Ruling::Fail(errno) | Ruling::FailAfter(errno) => case.after = After::Fail(errno),
        Ruling::Pretend => {
            if let Some(answer) = pretend(&mut regs, case) {
                regs.skip(answer);
                return Step::Skip(regs, Ok(u64::try_from(answer).unwrap_or(0)));
            }
        }
        Ruling::Short(bytes) => {
            cut(tid, &mut regs, bytes);
        }
        Ruling::Torn(bytes) => {
            if let Some(whole) = cut(tid, &mut regs, bytes) {
                case.after = After::Claim(whole);
            }
        }
        Ruling::Proceed => {}
    }
    Step::Make(regs)
}

/// What came of an operation that was made and has returned.
pub(super) struct Answer {
    /// What the kernel really did.
    pub(super) real: Result<u64, i32>,
    /// What the thread is told.
    pub(super) told: Result<u64, i32>,
    /// The registers with which it goes on.
    pub(super) regs: Regs,
}

/// What came of an operation whose call returned with these registers.
pub(super) fn answer(case: &Case, mut regs: Regs) -> Answer {
    let real = match u64::try_from(regs.ret()) {
        Ok(value) => Ok(value),
        Err(_) => Err(i32::try_from(-regs.ret()).unwrap_or(libc::EIO)),
    };
    let told = match (case.after, real) {
        (After::Fail(errno), _) => Err(errno),
        (After::Claim(bytes), Ok(_)) => Ok(bytes),
        (_, real) => real,
    };
    if case.after != After::Plain {
        // Whatever was put in the place of the call, the thread finds its own arguments.
        let ret = regs.ret();
        regs = case.regs;
        regs.set_ret(ret);
    }
    match told {
        Ok(value) => regs.set_ret(i64::try_from(value).unwrap_or(i64::MAX)),
        Err(errno) => regs.set_ret(-i64::from(errno)),
    }
    Answer { real, told, regs }
}

/// Whether an operation makes the kernel stamp the file, and the folder that its name is in.
fn changes(kind: OpKind, open_flags: i32) -> (bool, bool) {
    match kind {
        OpKind::Stat
        | OpKind::Statfs
        | OpKind::Flock
        | OpKind::FcntlLock
        | OpKind::Close
        | OpKind::Fsync
        | OpKind::Chmod
        | OpKind::Chown
        | OpKind::Lookup
        | OpKind::Thread => (false, false),
        OpKind::Open => (open_flags & libc::O_TRUNC != 0, false),
        OpKind::Utimes | OpKind::Write | OpKind::Truncate | OpKind::Read | OpKind::Readdir => {
            (true, false)
        }
        OpKind::Create
        | OpKind::Mkdir
        | OpKind::Rename
        | OpKind::Link
        | OpKind::Symlink
        | OpKind::Unlink
        | OpKind::Rmdir
        | OpKind::Other => (true, true),
    }
}

/// Whether the name, or the descriptor, of such an operation means the same file before and after
/// it: nobody else acts meanwhile.
fn keeps_its_file(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Stat
            | OpKind::Statfs
            | OpKind::Chmod
            | OpKind::Chown
            | OpKind::Utimes
            | OpKind::Read
            | OpKind::Readdir
            | OpKind::Write
            | OpKind::Truncate
            | OpKind::Fsync
            | OpKind::Close
            | OpKind::Flock
            | OpKind::FcntlLock
    )
}

/// What a pretended call answers; `None`: something harmless is done in its place, or it changes
/// nothing anyway.
fn pretend(regs: &mut Regs, case: &mut Case) -> Option<i64> {
    let call = case.call.as_ref()?;
    match case.op.kind {
        OpKind::Create if call.open_flags.is_some() => {
            let flags = call.open_flags.unwrap_or(0);
            // A nameless file that lives as long as its descriptors; it is named by the path.
            let path =
                if regs.nr() == libc::SYS_open || regs.nr() == libc::SYS_creat { 0 } else { 1 };
            regs.set_arg(0, regs.arg(path));
            let is_closed = flags & libc::O_CLOEXEC != 0;
            regs.set_arg(1, u64::from(if is_closed { libc::MFD_CLOEXEC } else { 0 }));
            regs.set_nr(libc::SYS_memfd_create);
            case.after = After::Pretend;
            None
        }
        OpKind::Open => {
            let index = match regs.nr() {
                libc::SYS_open => Some(1),
                libc::SYS_openat => Some(2),
                _ => None,
            };
            if let Some(index) = index {
                let truncate = u64::from(libc::O_TRUNC.unsigned_abs());
                regs.set_arg(index, regs.arg(index) & !truncate);
                case.after = After::Pretend;
            }
            None
        }
        OpKind::Write => match regs.nr() {
            libc::SYS_fallocate => Some(0),
            libc::SYS_write | libc::SYS_pwrite64 => i64::try_from(regs.arg(2)).ok(),
            libc::SYS_sendfile => i64::try_from(regs.arg(3)).ok(),
            libc::SYS_copy_file_range | libc::SYS_splice => i64::try_from(regs.arg(4)).ok(),
            _ => case.op.ino.map(|_| 0),
        },
        OpKind::Stat
        | OpKind::Read
        | OpKind::Readdir
        | OpKind::Statfs
        | OpKind::Close
        | OpKind::Thread
        | OpKind::Lookup
        | OpKind::Other => None,
        _ => Some(0),
    }
}

/// Cuts a write to so many bytes; gives how many it had.
fn cut(tid: i32, regs: &mut Regs, bytes: u64) -> Option<u64> {
    let parts = parts(tid, regs)?;
    let whole: u64 = parts.iter().map(|(_, length)| *length as u64).sum();
    let (place, length) = *parts.iter().find(|(_, length)| *length > 0)?;
    let is_at_offset = regs.nr() != libc::SYS_write && regs.nr() != libc::SYS_writev;
    regs.set_nr(if is_at_offset { libc::SYS_pwrite64 } else { libc::SYS_write });
    regs.set_arg(1, place);
    regs.set_arg(2, bytes.min(length as u64));
    Some(whole)
}

/// The attributes of a file, as they are on disk.
pub(crate) fn attributes(tid: i32, file: &Resolved) -> Option<Metadata> {
    match file.fd {
        Some(fd) => fs::metadata(format!("/proc/{tid}/fd/{fd}")).ok(),
        None => fs::symlink_metadata(&file.path).ok(),
    }
}

/// A path relative to `{dir}`; `None` for what is not below it.
fn below(path: &Path, dir: &Path) -> Option<String> {
    path.strip_prefix(dir).ok().map(|rest| rest.to_string_lossy().into_owned())
}

/// The other names of a file with several.
fn other_names(dir: &Path, ino: u64, used: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > NAMES_WALK_MAX {
                return names;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.ino() == ino && entry.path() != used {
                names.extend(below(&entry.path(), dir));
            }
        }
    }
    names.sort();
    names
}
