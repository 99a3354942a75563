//! Follows every thread of the command: what stops is decided and goes on at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use globset::GlobSet;

use super::super::arch_x86_64::Regs;
use super::super::decode::{self, Call};
use super::super::files::{Answer, Step, answer, apply, attributes, describe};
use super::super::folders::Folders;
use super::super::stops::{has_handler, makes_thread};
use super::super::supervisor::process_of;
use super::super::sys::{self, Report, Stopped, Why};
use super::super::thread::{After, Case};
use super::super::waits;
use super::crew::Crew;
use super::{Ended, HEARD, Orders, step};
use crate::engine::EngineError;
use crate::engine::court::{Court, Ruling, Scribe};
use crate::engine::outside::EVERYBODY;
use crate::fault::Effect;
use crate::fault::matching::{Hit, Matcher};
use crate::history::What;
use crate::op::{Op, OpId, OpKind};
use crate::time::Nanos;

/// What a terminal stops a job with.
const STOPS: &[i32] = &[libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
/// The longest wait: a moment that is due must not be missed for want of a report.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// How long what the command leaves behind may take to end by itself before it is told of.
const REST_GRACE: Nanos = Nanos::from_ms(300);
/// How long killed processes may take to be gone.
const KILL_WAIT: Nanos = Nanos::from_ms(5000);

/// The state of the supervision.
pub(super) struct Tracer<S> {
    court: Court<Crew, S>,
    /// The files of all rules, below `/`.
    files: GlobSet,
    /// Where paths lead. Anybody may change that at any time, so nothing is remembered.
    folders: Folders,
    /// The rules that are counted in each process by itself, and a copy with counts for each.
    injected: Matcher,
    injected_in: BTreeMap<i32, Matcher>,
    /// The rules that delay an operation after it has happened.
    late: BTreeSet<u32>,
    main: i32,
    /// The process of each thread.
    threads: BTreeMap<i32, i32>,
    /// Threads that stopped before the one that made them told of it. They may have ended since.
    early: BTreeSet<i32>,
    /// Operations that are being carried out, by thread.
    working: BTreeMap<i32, Box<Case>>,
    /// Operations that a fault holds.
    held: BTreeMap<OpId, (Stopped, Box<Case>)>,
    /// Operations that are to be answered this much later than they happen.
    late_ops: BTreeMap<OpId, Nanos>,
    /// Those of them that have happened, by when they are answered.
    parked: BTreeMap<(Nanos, OpId), (Stopped, Box<Case>)>,
    /// Operations that a signal cut short, by thread.
    cut: BTreeMap<i32, Box<Case>>,
    ops: u64,
    ended: Option<Ended>,
    /// The terminal has stopped the command.
    shall_stop: bool,
    /// It has let it go on, and what is reported now happened before.
    is_waking: bool,
    /// Files whose mapping was told of.
    mapped: BTreeSet<String>,
    kill_rest: bool,
    /// When what is left behind is told of, or killed.
    rest_due: Option<Nanos>,
    /// When it is given up that killed processes end.
    give_up_at: Option<Nanos>,
}

impl<S: Scribe> Tracer<S> {
    /// A tracer of the command whose first process is `main`.
    pub(super) fn new(
        orders: &Orders<'_>,
        court: Court<Crew, S>,
        files: GlobSet,
        injected: Matcher,
        main: i32,
    ) -> Tracer<S> {
        let mut folders = Folders::default();
        folders.change();
        Tracer {
            court,
            files,
            folders,
            injected,
            injected_in: BTreeMap::new(),
            late: orders.late.clone(),
            main,
            threads: BTreeMap::from([(main, main)]),
            early: BTreeSet::new(),
            working: BTreeMap::new(),
            held: BTreeMap::new(),
            late_ops: BTreeMap::new(),
            parked: BTreeMap::new(),
            cut: BTreeMap::new(),
            ops: 0,
            ended: None,
            shall_stop: false,
            is_waking: false,
            mapped: BTreeSet::new(),
            kill_rest: orders.kill_rest,
            rest_due: None,
            give_up_at: None,
        }
    }

    /// Follows the command to its end, and everything that it leaves behind.
    ///
    /// # Errors
    /// Reports of tracees cannot be waited for.
    pub(super) fn follow(mut self, mut failure: &File) -> Result<(Ended, S), EngineError> {
        while !self.threads.is_empty() {
            while let Some(report) = sys::next_report().map_err(step("wait for the command"))? {
                self.take(report);
            }
            self.is_waking = false;
            self.court.do_due();
            for op in std::mem::take(&mut self.court.releases) {
                self.release(op);
            }
            let now = self.court.now();
            self.answer_parked(now);
            if self.rest_due.is_some_and(|due| due <= now) {
                self.rest_due = None;
                self.deal_with_rest();
            }
            if self.threads.is_empty() || self.give_up_at.is_some_and(|at| at <= now) {
                break;
            }
            self.court.flush();
            if std::mem::take(&mut self.shall_stop) {
                sys::stop_this_process();
                self.is_waking = true;
                continue;
            }
            let parked = self.parked.first_key_value().map(|((at, _), _)| *at);
            let due = [self.court.next_due(), self.rest_due, self.give_up_at, parked];
            let due = due.into_iter().flatten().min().map(|at| Duration::from(at.since(now)));
            if let Some((signal, by_somebody)) = sys::next_signal(HEARD, due.unwrap_or(WAIT_MAX)) {
                self.heard(signal, by_somebody);
            }
        }
        let mut errno = [0; 4];
        let ended = match failure.read_exact(&mut errno) {
            Ok(()) => Ended::NotRun(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(_) => self.ended.take().unwrap_or(Ended::Signal(libc::SIGKILL)),
        };
        self.court.record(What::End);
        self.court.flush();
        Ok((ended, self.court.close()))
    }

    /// A signal for deadbeat. The terminal has sent its own to the command as well.
    fn heard(&mut self, signal: i32, by_somebody: bool) {
        let ends = !matches!(signal, libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGTSTP);
        if self.ended.is_none() {
            if by_somebody {
                sys::kill(self.main, signal);
            }
        } else if ends {
            self.kill_the_rest();
        }
    }

    fn kill_the_rest(&mut self) {
        let rest = self.describe_rest();
        self.court.trouble(format!("killed, because the command left it behind: {rest}"));
        self.court.world.signal_all(libc::SIGKILL);
        self.give_up_at = Some(self.court.now() + KILL_WAIT);
    }

    fn deal_with_rest(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        if self.kill_rest {
            return self.kill_the_rest();
        }
        let rest = self.describe_rest();
        self.court.trouble(format!(
            "the command has ended, and left behind: {rest}\n(hint: waiting for it; Ctrl-C kills it)"
        ));
    }

    fn describe_rest(&self) -> String {
        let name = |pid: &i32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim_end())
        };
        self.court.world.processes.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Stopped(stopped) => self.stopped(stopped),
            Report::Ended { tid, code, signal } => self.thread_ended(tid, code, signal),
        }
    }

    /// The process of a thread; one that nobody has told of yet is taken in.
    fn adopt(&mut self, tid: i32) -> i32 {
        if let Some(pid) = self.threads.get(&tid) {
            return *pid;
        }
        let pid = process_of(tid).unwrap_or(tid);
        self.threads.insert(tid, pid);
        self.court.world.processes.insert(pid);
        pid
    }

    fn stopped(&mut self, stopped: Stopped) {
        let tid = stopped.tid();
        if !self.threads.contains_key(&tid) {
            self.early.insert(tid);
        }
        let pid = self.adopt(tid);
        // A request to a thread that was killed meanwhile fails; its end is reported later.
        let _ = match stopped.why() {
            Why::Call => return self.call(stopped, pid),
            Why::Return => return self.returned(stopped),
            // A stop from before the SIGCONT that woke us would come too late.
            Why::Signal(signal) if self.is_waking && STOPS.contains(&signal) => stopped.resume(0),
            Why::Signal(signal) => {
                self.forget_cut(tid, signal);
                stopped.resume(signal)
            }
            Why::Group(signal) => {
                // Its parent may wait for it by vfork, and then not stop.
                let with_all = signal == libc::SIGTSTP && is_in_our_group(pid);
                let by_terminal = with_all || (pid == self.main && STOPS.contains(&signal));
                self.shall_stop |= by_terminal && !self.is_waking;
                stopped.listen()
            }
            Why::Made(child, _) => {
                if child != 0 && !self.early.remove(&child) {
                    self.adopt(child);
                }
                let is_working = self.working.contains_key(&tid);
                if is_working { stopped.resume_to_exit() } else { stopped.resume(0) }
            }
            Why::Exec(_) => {
                self.forget(|other, its| its == pid && other != tid);
                self.working.remove(&tid);
                self.cut.remove(&tid);
                stopped.resume(0)
            }
            Why::Interrupted | Why::VforkDone | Why::Other => stopped.resume(0),
        };
    }

    /// Forgets threads, by id and process, and what they were doing.
    fn forget(&mut self, which: impl Fn(i32, i32) -> bool) {
        let gone: Vec<i32> =
            self.threads.iter().filter(|(tid, pid)| which(**tid, **pid)).map(|(t, _)| *t).collect();
        for tid in gone {
            self.threads.remove(&tid);
            self.working.remove(&tid);
            self.cut.remove(&tid);
            self.held.retain(|_, (stopped, _)| stopped.tid() != tid);
            self.parked.retain(|_, (stopped, _)| stopped.tid() != tid);
        }
    }

    fn thread_ended(&mut self, tid: i32, code: Option<i32>, signal: Option<i32>) {
        let is_process = self.threads.get(&tid).is_none_or(|pid| *pid == tid);
        // The first thread of a process is reported last (ptrace(2), "Death under ptrace").
        self.forget(|other, pid| other == tid || (is_process && pid == tid));
        if !is_process {
            return;
        }
        self.court.world.processes.remove(&tid);
        self.court.world.stopped.remove(&tid);
        self.injected_in.remove(&tid);
        if tid != self.main || self.ended.is_some() {
            return;
        }
        self.ended = match (code, signal) {
            (_, Some(signal)) => Some(Ended::Signal(signal)),
            (code, None) => Some(Ended::Code(code.unwrap_or(0))),
        };
        self.court.bury(EVERYBODY, code, signal);
        self.rest_due = Some(self.court.now() + REST_GRACE);
    }

    /// A thread is about to make a call.
    fn call(&mut self, stopped: Stopped, pid: i32) {
        let tid = stopped.tid();
        let Ok(regs) = stopped.regs() else { return };
        if self.resumes_cut(tid, &regs) {
            let _ = stopped.resume_to_exit();
            return;
        }
        if matches!(regs.nr(), libc::SYS_clone | libc::SYS_clone3) {
            if !makes_thread(tid, &regs) {
                let _ = stopped.resume(0);
                return;
            }
            let op = self.op(OpKind::Thread);
            let ruling = self.decide(&op, pid);
            let case = Case { op, call: None, regs, after: After::Plain, is_announced: false };
            return self.rule(stopped, Box::new(case), ruling);
        }
        let call = decode::call(tid, &regs, &mut self.folders, 0).filter(|call| self.means(call));
        match call {
            None => drop(stopped.resume(0)),
            Some(call) if call.kind == OpKind::Other => {
                self.tell_of_mapping(&call);
                let _ = stopped.resume(0);
            }
            Some(call) => self.file_call(stopped, regs, call, pid),
        }
    }

    /// Whether a rule means a file of the call.
    fn means(&self, call: &Call) -> bool {
        let is_meant =
            |path: &Path| path.strip_prefix("/").is_ok_and(|below| self.files.is_match(below));
        is_meant(&call.first.path) || call.second.as_ref().is_some_and(|two| is_meant(&two.path))
    }

    /// Writing through a shared mapping is no call.
    fn tell_of_mapping(&mut self, call: &Call) {
        let path = call.first.path.display().to_string();
        if self.mapped.insert(path.clone()) {
            self.court.trouble(format!(
                "{path} is mapped shared and writable: such writes are not seen, and never fail"
            ));
        }
    }

    fn file_call(&mut self, stopped: Stopped, regs: Regs, call: Call, pid: i32) {
        let op = self.op(call.kind);
        let found = describe(op, stopped.tid(), &call, Path::new("/"), |_| Vec::new());
        let ruling = if found.is_refused { Ruling::Proceed } else { self.decide(&found.op, pid) };
        let call = Some(call);
        let case = Case { op: found.op, call, regs, after: After::Plain, is_announced: false };
        self.rule(stopped, Box::new(case), ruling);
    }

    fn op(&mut self, kind: OpKind) -> Op {
        self.ops += 1;
        Op {
            id: OpId(self.ops),
            role: EVERYBODY,
            kind,
            truncates: false,
            paths: Vec::new(),
            to: None,
            by_descriptor: false,
            unlinked: false,
            ino: None,
        }
    }

    /// What shall happen to an operation of process `pid`. Every rule counts it.
    fn decide(&mut self, op: &Op, pid: i32) -> Ruling {
        let matcher = self.injected_in.entry(pid).or_insert_with(|| self.injected.clone());
        let hit = if op.kind.is_nameable() { matcher.rule_on(op, false) } else { None };
        let ruling = self.court.decide(op, false);
        match hit {
            Some(Hit { fault, effect: Effect::Kill }) if ruling == Ruling::Proceed => {
                self.court.record(What::Fired { fault, role: op.role, op: op.id });
                sys::kill(pid, libc::SIGKILL);
                Ruling::Fail(libc::EINTR)
            }
            Some(Hit { fault, effect: Effect::Delay(length) })
                if ruling == Ruling::Proceed && self.late.contains(&fault) =>
            {
                self.court.record(What::Fired { fault, role: op.role, op: op.id });
                self.late_ops.insert(op.id, length);
                Ruling::Proceed
            }
            Some(hit) if ruling == Ruling::Proceed => {
                self.court.rule_by(hit.fault, &hit.effect, op)
            }
            _ => ruling,
        }
    }

    fn rule(&mut self, stopped: Stopped, mut case: Box<Case>, ruling: Ruling) {
        let tid = stopped.tid();
        match apply(tid, &mut case, ruling) {
            Step::Wait => {
                self.held.insert(case.op.id, (stopped, case));
            }
            Step::Skip(regs, told) => {
                let ino = told.ok().and(case.op.ino);
                self.court.settle(case.op, told, false, ino);
                resume_with(stopped, &regs);
            }
            Step::Make(regs) => {
                self.working.insert(tid, case);
                if stopped.set_regs(&regs).is_ok() {
                    let _ = stopped.resume_to_exit();
                }
            }
        }
    }

    /// A fault lets an operation go.
    fn release(&mut self, op: OpId) {
        if let Some((stopped, case)) = self.held.remove(&op) {
            self.rule(stopped, case, Ruling::Proceed);
        }
    }

    /// A call that was followed to its end has returned.
    fn returned(&mut self, stopped: Stopped) {
        let tid = stopped.tid();
        let Some(case) = self.working.remove(&tid) else {
            let _ = stopped.resume(0);
            return;
        };
        let Ok(regs) = stopped.regs() else { return };
        if waits::is_restart(regs.ret()) {
            self.cut.insert(tid, case);
            let _ = stopped.resume(0);
            return;
        }
        if let Some(length) = self.late_ops.remove(&case.op.id) {
            self.parked.insert((self.court.now() + length, case.op.id), (stopped, case));
            return;
        }
        self.finish(stopped, regs, case);
    }

    /// Answers the operations that were late enough.
    fn answer_parked(&mut self, now: Nanos) {
        while let Some(entry) = self.parked.first_entry()
            && entry.key().0 <= now
        {
            let (stopped, case) = entry.remove();
            if let Ok(regs) = stopped.regs() {
                self.finish(stopped, regs, case);
            }
        }
    }

    /// An operation has returned with these registers, and is answered now.
    fn finish(&mut self, stopped: Stopped, regs: Regs, case: Box<Case>) {
        let tid = stopped.tid();
        let Answer { real, told, regs } = answer(&case, regs);
        let effect = real.is_ok() && case.after != After::Pretend;
        let target = case.call.as_ref().map(|call| call.second.as_ref().unwrap_or(&call.first));
        let ino = target
            .and_then(|file| attributes(tid, file))
            .map(|meta| std::os::unix::fs::MetadataExt::ino(&meta));
        let ino = ino.or(case.op.ino);
        // What a descriptor's number is says nothing.
        let opens = matches!(case.op.kind, OpKind::Open | OpKind::Create);
        let told = if opens { told.map(|_| 0) } else { told };
        self.court.settle(case.op, told, effect, ino);
        resume_with(stopped, &regs);
    }

    /// Whether this call is a restart of an operation that a signal cut short.
    fn resumes_cut(&mut self, tid: i32, regs: &Regs) -> bool {
        let Some(case) = self.cut.remove(&tid) else { return false };
        if case.regs.fingerprint() == regs.fingerprint() {
            self.working.insert(tid, case);
            return true;
        }
        self.court.settle(case.op, Err(libc::EINTR), false, None);
        false
    }

    /// A handler runs before the call is restarted, if at all: what comes then is another call.
    fn forget_cut(&mut self, tid: i32, signal: i32) {
        if self.cut.contains_key(&tid)
            && has_handler(tid, signal)
            && let Some(case) = self.cut.remove(&tid)
        {
            self.court.settle(case.op, Err(libc::EINTR), false, None);
        }
    }
}

/// Whether what the terminal sends to us reaches the process, too.
fn is_in_our_group(pid: i32) -> bool {
    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid));
    group.is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Lets a thread go on with these registers.
fn resume_with(stopped: Stopped, regs: &Regs) {
    // Both fail only if the thread was killed; its end is reported.
    if stopped.set_regs(regs).is_ok() {
        let _ = stopped.resume(0);
    }
}
