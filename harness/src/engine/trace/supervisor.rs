//! The supervisor of one run: it traces every process, and moves time.
//!
//! One thread, one loop: take every report that is there; once no thread of the run can go on by
//! itself, do one thing. That is, let one thread make its operation, or wake the wait that ends
//! next. It shares one cpu with its tracees, so that while it runs none of them does.
//!
//! # Invariants
//! - An operation is released only while everything else stands still.
//! - Time moves only then, except for a thread that does nothing but read the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::attributes::Clients;
use super::clock::{Clock, Domain};
use super::filter;
use super::pins::Pin;
use super::players::{Player, Start};
use super::process::Process;
use super::quiet::{Busy, Stir};
use super::random::Random;
use super::sys::{self, Report, Stopped};
use super::thread::{State, Thread};
use super::timerfd::TimerFd;
use super::timers::Timer;
use super::troupe::Troupe;
use super::vdso::{Shown, Vdso};
use super::waits::Deadline;
use super::worlds::Worlds;
use crate::engine::EngineError;
use crate::engine::agenda::Occurrence;
use crate::engine::casting::Casting;
use crate::engine::court::{Court, World};
use crate::engine::ground::Ground;
use crate::engine::inner::pin;
use crate::engine::wire::Job;
use crate::history::What;
use crate::moment::Sign;
use crate::op::OpId;
use crate::role::Role;
use crate::time::Nanos;

/// How often bounds, and the harness, are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(20);
/// How many reports are taken before what is due is looked at.
const REPORTS_MAX: usize = 256;
/// How long, in virtual time, processes that a role left behind may take to end.
const LEFTOVER_GRACE: Nanos = Nanos::from_ms(300);
/// How many threads the processes of a run may have, on average, at its bound of processes.
const THREADS_PER_PROCESS: u64 = 64;
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long nothing at all may be going on before the run is given up.
const DEADLOCK: Duration = Duration::from_millis(500);

/// When a timer goes off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alarm {
    pub(crate) shows: Duration,
    pub(crate) every: Duration,
}

/// Everything about a run in progress.
pub(crate) struct Supervisor<'a> {
    pub(crate) job: &'a Job,
    pub(crate) ground: &'a Ground,
    pub(crate) court: Court<Troupe, BufWriter<Stdout>>,
    pub(crate) threads: BTreeMap<i32, Thread>,
    /// Reported before the thread that made them told of it.
    pub(super) early: BTreeMap<i32, Stopped>,
    /// By process and id of the timer; −1 is the interval timer.
    pub(crate) alarms: BTreeMap<(i32, i32), Alarm>,
    pub(crate) timers: BTreeMap<(i32, i32), Timer>,
    /// By the kernel's number of the eventfd that stands for it.
    pub(crate) timer_fds: BTreeMap<u64, TimerFd>,
    /// By role, and by the number of its thread.
    pub(crate) randoms: BTreeMap<(Role, u64), Random>,
    /// How many threads each role has made.
    made: BTreeMap<Role, u64>,
    pub(crate) worlds: Worlds,
    pub(crate) clients: Clients,
    /// What was told once of a role, and is not told again.
    pub(crate) noted: BTreeSet<(Role, &'static str)>,
    pub(crate) order: Random,
    filter: Vec<libc::sock_filter>,
    pub(crate) processes: BTreeMap<i32, Process>,
    /// What held operations had found.
    pub(crate) pins: BTreeMap<OpId, Pin>,
    /// `None`: this machine's cannot be changed, so every look at a clock stops.
    pub(crate) vdso: Option<&'a Vdso>,
    /// Which state of the clocks the processes were shown.
    pub(crate) shown: Option<(u64, bool)>,
    /// Whether every look at a clock is to stop: somebody computes, or waits for the clock.
    pub(super) traps_clocks: bool,
    pub(crate) stir: Stir,
    /// Whether a role may have printed something.
    pub(crate) has_output: bool,
    pub(crate) ops: u64,
    /// Time that operations took and that the clocks do not show yet.
    pub(crate) owed: Nanos,
    /// The role that was let go last, and how many times in a row.
    pub(crate) last: Option<Role>,
    pub(crate) turns: u32,
    pub(crate) busy: Busy,
    idle_since: Option<Instant>,
    over_since: Option<Nanos>,
    began: Instant,
}

fn step(what: &str) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source }
}

/// Carries out a job in this process; the history goes to standard output. `vdso` is what programs
/// are shown in the place of their own.
pub(crate) fn run(job: &Job, vdso: Option<&Vdso>) -> Result<(), EngineError> {
    let ground = Ground::lay(job)?;
    ground.show_backing()?;
    make_witness(&ground).map_err(step("create the witness"))?;
    if let Some(cpu) = job.cpu {
        pin(cpu);
    }
    // Otherwise a tracee could run while it is taken for quiet.
    let cpus = rustix::thread::sched_getaffinity(None).map_or(0, |set| set.count());
    if cpus != 1 {
        let source = io::Error::other(format!("{cpus} cpus are left"));
        return Err(step("pin the run to one cpu")(source));
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    sys::hold_back_reports();
    sys::be_punctual(true);
    let files = &job.plan.world.files;
    let clock = Clock::new(job.plan.world.clock.clone());
    let troupe = Troupe::new(clock, ground.dir_on_backing(), files.mtime_granularity);
    let court = Court::new(&job.plan, &ground, troupe, BufWriter::new(io::stdout()))
        .map_err(|error| step("read the plan")(io::Error::other(error)))?;
    let mut supervisor = Supervisor {
        job,
        ground: &ground,
        court,
        threads: BTreeMap::new(),
        early: BTreeMap::new(),
        alarms: BTreeMap::new(),
        timers: BTreeMap::new(),
        timer_fds: BTreeMap::new(),
        randoms: BTreeMap::new(),
        made: BTreeMap::new(),
        worlds: Worlds::new(job.plan.world.pids, job.user),
        noted: BTreeSet::new(),
        clients: Clients::new(&job.plan.world.files),
        order: Random::new(job.plan.seed, 0),
        filter: filter::program(job.footing),
        processes: BTreeMap::new(),
        pins: BTreeMap::new(),
        vdso,
        shown: None,
        traps_clocks: false,
        stir: Stir::new(),
        has_output: true,
        ops: 0,
        owed: Nanos::ZERO,
        last: None,
        turns: 0,
        busy: Busy::new(),
        idle_since: None,
        over_since: None,
        began: Instant::now(),
    };
    // The lock directory was made by the machine's clock.
    supervisor.court.world.changed_files(Nanos::ZERO);
    supervisor.court.happened(Occurrence::Start);
    let ended = supervisor.play();
    supervisor.tear_down();
    ended
}

/// An empty file: what is written to it never reaches the kernel, so no full disk can refuse it.
fn make_witness(ground: &Ground) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = ground.witness();
    std::fs::File::create(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
}

impl Supervisor<'_> {
    fn play(&mut self) -> Result<(), EngineError> {
        let mut housekeeping = Instant::now();
        // Whether whoever is ready to run has had the cpu since we last did anything.
        let mut had_cpu = false;
        loop {
            let is_news = self.take_reports()?;
            if housekeeping.elapsed() >= HOUSEKEEPING {
                housekeeping = Instant::now();
                self.keep_house();
            }
            if let Some(why) = self.court.stop.take() {
                self.court.trouble(why);
                return Ok(());
            }
            let has_happened = self.catch_up();
            let only_time_has_moved = self.only_time_has_moved();
            let is_still = !is_news && !has_happened && only_time_has_moved;
            if !is_still && !self.stands_still() {
                if is_news || !had_cpu {
                    had_cpu = !is_news;
                    self.step_aside();
                    continue;
                }
                if !self.is_quiet() {
                    self.watch_the_busy();
                    self.step_aside();
                    continue;
                }
            }
            had_cpu = false;
            self.rests();
            self.court.world.folders.settle();
            if self.has_output {
                self.has_output = self.court.take_output();
                continue;
            }
            if self.bring_about()? {
                continue;
            }
            if self.is_over() {
                return Ok(());
            }
            self.act();
            self.show_time();
        }
    }

    /// Takes what there is to know of the tracees, within a bound; whether there was anything.
    fn take_reports(&mut self) -> Result<bool, EngineError> {
        for taken in 0..REPORTS_MAX {
            if self.court.stop.is_some() {
                break;
            }
            let is_all = taken > 0 && self.stands_still();
            let report = if is_all {
                None
            } else {
                sys::next_report().map_err(step("wait for a tracee"))?
            };
            if let Some(report) = &report {
                self.note(report);
            }
            match report {
                Some(Report::Stopped(stopped)) => self.stopped(stopped),
                Some(Report::Ended { tid, code, signal }) => self.ended(tid, code, signal),
                None if taken == 0 => return Ok(false),
                None => break,
            }
        }
        Ok(true)
    }

    /// Their threads are about to report; until then they do not stand still.
    fn expect_the_continued(&mut self) {
        for pid in std::mem::take(&mut self.court.world.continued) {
            for thread in self.threads.values_mut().filter(|thread| thread.pid == pid) {
                if matches!(thread.state, State::Stopped) {
                    thread.state = State::Running;
                }
            }
        }
    }

    /// Does what is due by now; whether there was anything.
    fn catch_up(&mut self) -> bool {
        let is_reused = self.reuse_numbers();
        let is_done = self.court.do_due();
        if is_reused || is_done {
            self.stir.anybody();
        }
        let is_continued = !self.court.world.continued.is_empty();
        self.expect_the_continued();
        self.show_time();
        is_reused || is_done || is_continued
    }

    /// Does one thing that moments have brought about; whether there was any. One at a time,
    /// and only while everything stands still: two that run at once would race.
    fn bring_about(&mut self) -> Result<bool, EngineError> {
        if !self.court.starts.is_empty() {
            let role = self.court.starts.remove(0);
            self.start(role)?;
            return Ok(true);
        }
        while !self.court.releases.is_empty() {
            let op = self.court.releases.remove(0);
            if self.release(op) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn start(&mut self, role: Role) -> Result<(), EngineError> {
        let plan = &self.job.plan;
        let part = plan.cast.iter().find(|part| part.role == role);
        let part = part.expect("only roles of the cast are started");
        let casting = Casting { part, plan, ground: self.ground, user: self.job.user };
        let start = Start { casting, filter: &self.filter };
        self.court.flush();
        let mut player = Player::start(&start, &mut self.worlds)
            .map_err(|source| EngineError::Step { what: format!("start {role}"), source })?;
        let pid = player.main;
        self.add_thread(pid, pid, role);
        let shown = self.born(pid, role).unsigned_abs();
        self.court.record(What::Started { role, pid: shown });
        let gone = player.go();
        self.court.world.admit(player);
        if let Err(error) = gone {
            self.court.trouble(format!("{role} could not be set going: {error}"));
        }
        self.court.happened(Occurrence::Role(role, Sign::Started));
        Ok(())
    }

    fn add_thread(&mut self, tid: i32, pid: i32, role: Role) {
        let made = self.made.entry(role).or_default();
        self.threads.insert(tid, Thread::new(pid, role, *made));
        *made += 1;
    }

    /// A new thread or process of the one that stopped; it belongs to the same role.
    pub(crate) fn adopt(&mut self, tid: i32, role: Role) {
        if tid == 0 || self.threads.contains_key(&tid) {
            return;
        }
        let pid = process_of(tid).unwrap_or(tid);
        self.add_thread(tid, pid, role);
        self.court.world.processes.insert(pid, role);
        self.has_output = true;
        self.count_processes();
        self.born(tid, role);
        if let Some(stopped) = self.early.remove(&tid) {
            self.stopped(stopped);
        }
    }

    /// Keeps the stop of a thread that nobody has told of yet.
    pub(crate) fn set_aside(&mut self, stopped: Stopped) {
        self.early.insert(stopped.tid(), stopped);
    }

    fn ended(&mut self, tid: i32, code: Option<i32>, signal: Option<i32>) {
        self.early.remove(&tid);
        let Some(thread) = self.threads.remove(&tid) else { return };
        if thread.pid != tid {
            return;
        }
        // The first thread of a process is reported last (ptrace(2), "Death under ptrace").
        self.threads.retain(|_, thread| thread.pid != tid);
        self.alarms.retain(|(pid, _), _| *pid != tid);
        self.timers.retain(|(pid, _), _| *pid != tid);
        self.processes.remove(&tid);
        self.has_output = true;
        self.court.world.forget(tid);
        self.court.take_output();
        let mut mains = self.court.world.players.iter_mut();
        let main = mains.find(|player| player.main == tid && !player.is_dead);
        if main.is_some() {
            self.worlds.vacate(tid, thread.role);
        }
        match main.map(Player::why_not_started) {
            Some(Some(why)) => self.court.could_not_start(thread.role, &why),
            Some(None) => self.court.bury(thread.role, code, signal),
            None => {}
        }
    }

    /// Lets every process read what its clocks show now.
    pub(crate) fn show_time(&mut self) {
        let clock = &self.court.world.clock;
        let shown = Some((clock.changes(), self.traps_clocks));
        if self.shown == shown {
            return;
        }
        self.shown = shown;
        for (pid, process) in &mut self.processes {
            let Some(role) = self.court.world.processes.get(pid) else { continue };
            let shown = Shown { clocks: clock.shows_all(*role), traps: self.traps_clocks };
            // One that was killed meanwhile reads no clock.
            let _ = process.show(shown);
        }
    }

    /// What a role's processes are shown now.
    pub(crate) fn shown_to(&self, role: Role) -> Shown {
        Shown { clocks: self.court.world.clock.shows_all(role), traps: self.traps_clocks }
    }

    /// Everything stands still: lets one thread go on.
    fn act(&mut self) {
        // Who is to wake by now wakes before anybody acts: a loop of operations starves nobody.
        if self.announce_waits() | self.wake_one() || self.let_one_go() || self.let_one_spin() {
            self.idle_since = None;
            return;
        }
        let next = [self.next_wake(), self.court.next_due()].into_iter().flatten().min();
        if let Some(next) = next {
            self.idle_since = None;
            // On a real clock the run would have been ended there.
            let bound = self.job.plan.bounds.wall;
            self.court.world.clock.advance_to(next.min(bound));
            self.stir.only_time_moves();
            if next > bound {
                self.court.stop =
                    Some(format!("it ran into its bound of {bound} (virtual or real time)"));
            }
            return;
        }
        let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
        if idle_since.elapsed() > DEADLOCK {
            let why = "nothing can happen any more: every process waits without a limit";
            self.court.stop = Some(why.to_owned());
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&wait));
    }

    /// An operation that blocks in the kernel waits for a lock: the history tells that once.
    fn announce_waits(&mut self) -> bool {
        let mut waiting = Vec::new();
        for thread in self.threads.values_mut() {
            if let State::Working(case) = &mut thread.state
                && !case.is_announced
            {
                case.is_announced = true;
                waiting.push(case.op.clone());
            }
        }
        let is_news = !waiting.is_empty();
        for op in waiting {
            self.court.record(What::Waiting { op, fault: None });
        }
        is_news
    }

    /// The next virtual moment at which a wait or an alarm ends.
    pub(crate) fn next_wake(&mut self) -> Option<Nanos> {
        let mut next = self.next_timer_fd();
        for thread in self.threads.values() {
            let State::Waiting(wait) = &thread.state else { continue };
            if !wait.is_over && !self.court.world.stopped.contains(&thread.pid) {
                let clock = &self.court.world.clock;
                let at = clock.when_shows(wait.deadline.domain, thread.role, wait.deadline.shows);
                next = Some(next.map_or(at, |next: Nanos| next.min(at)));
            }
        }
        for (key, alarm) in &self.alarms {
            let (domain, role) = self.clock_of(*key);
            let at = self.court.world.clock.when_shows(domain, role, alarm.shows);
            next = Some(next.map_or(at, |next: Nanos| next.min(at)));
        }
        next
    }

    /// Wakes one thread whose time has come: the one whose time came first.
    pub(crate) fn wake_one(&mut self) -> bool {
        let now = self.court.now();
        let mut first: Option<(Duration, Role, i32)> = None;
        for (tid, thread) in &self.threads {
            let State::Waiting(wait) = &thread.state else { continue };
            if wait.is_over || self.court.world.stopped.contains(&thread.pid) {
                continue;
            }
            let Deadline { domain, shows } = wait.deadline;
            let clock = &self.court.world.clock;
            if clock.when_shows(domain, thread.role, shows) > now {
                continue;
            }
            let late = clock.shows(domain, thread.role).saturating_sub(shows);
            let key = (Duration::MAX - late, thread.role, *tid);
            if first.is_none_or(|first| key < first) {
                first = Some(key);
            }
        }
        if let Some((_, _, tid)) = first {
            if let Some(thread) = self.threads.get_mut(&tid) {
                thread.asleep = None;
                if let State::Waiting(wait) = &mut thread.state {
                    wait.is_over = true;
                }
            }
            // One that was killed meanwhile needs no waking.
            let _ = sys::interrupt(tid);
            return true;
        }
        self.ring_one() || self.ring_timer_fd()
    }

    /// By which clock a timer runs, and whose.
    fn clock_of(&self, key: (i32, i32)) -> (Domain, Role) {
        let domain = self.timers.get(&key).map_or(Domain::Monotonic, |timer| timer.domain);
        (domain, self.court.world.processes.get(&key.0).copied().unwrap_or(Role::Holder))
    }

    fn ring_one(&mut self) -> bool {
        let due = self.alarms.iter().find(|(key, alarm)| {
            let (domain, role) = self.clock_of(**key);
            alarm.shows <= self.court.world.clock.shows(domain, role)
        });
        let Some((key, alarm)) = due.map(|(key, alarm)| (*key, *alarm)) else { return false };
        if alarm.every.is_zero() {
            self.alarms.remove(&key);
        } else {
            let shows = alarm.shows + alarm.every;
            self.alarms.insert(key, Alarm { shows, ..alarm });
        }
        self.ring(key.0, key.1);
        self.stir.anybody();
        true
    }

    /// Puts a held operation where it can be carried out; whether it was there.
    fn release(&mut self, op: OpId) -> bool {
        let held = self.threads.iter().find_map(|(tid, thread)| match &thread.state {
            State::Held(_, case) if case.op.id == op => Some(*tid),
            _ => None,
        });
        let Some(tid) = held else { return false };
        self.carry_out_held(tid);
        true
    }

    /// Whether every role has played, and nothing of it is left or can be waited for.
    fn is_over(&mut self) -> bool {
        let is_played_out = self.court.world.players.iter().all(|player| player.is_dead);
        if !is_played_out || self.court.expects_a_start() {
            self.over_since = None;
            return false;
        }
        let now = self.court.now();
        let since = *self.over_since.get_or_insert(now);
        if self.court.world.processes.is_empty() || now >= since + LEFTOVER_GRACE {
            return true;
        }
        // What is left may end by itself soon, or wait for ever.
        let has_work = self.threads.values().any(|t| matches!(t.state, State::Gate(..)));
        !has_work && self.next_wake().is_none_or(|next| next > since + LEFTOVER_GRACE)
    }

    fn keep_house(&mut self) {
        self.court.flush();
        let bounds = self.court.plan().bounds;
        let over = |bound: String| Some(format!("it ran into its bound of {bound}"));
        if harness_is_gone() {
            self.court.stop = Some("the run was interrupted".to_owned());
        } else if Nanos::from(self.began.elapsed()) > bounds.wall {
            self.court.stop = over(format!("{} (virtual or real time)", bounds.wall));
        } else if self.court.is_full() {
            self.court.stop = over(format!("{} events", bounds.events));
        }
    }

    /// Every new process and thread stops for us first, so none is made beyond the bound.
    fn count_processes(&mut self) {
        let bound = self.court.plan().bounds.processes;
        let processes = self.court.world.processes.len() as u64;
        let threads = self.threads.len() as u64;
        if processes > bound {
            let why = format!("it ran into its bound of {bound} processes");
            self.court.stop.get_or_insert(why);
        } else if threads > bound.saturating_mul(THREADS_PER_PROCESS) {
            let why = format!("it ran into its bound of {THREADS_PER_PROCESS} threads a process");
            self.court.stop.get_or_insert(why);
        }
    }

    fn tear_down(&mut self) {
        self.court.record_undone();
        self.report_vacant();
        let dead: Vec<Role> =
            self.court.world.players.iter().filter(|p| p.is_dead).map(|p| p.role).collect();
        let left: Vec<(i32, Role)> =
            self.court.world.processes.iter().map(|(pid, role)| (*pid, *role)).collect();
        for (pid, role) in left.iter().filter(|(_, role)| dead.contains(role)) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = name.trim_end();
            self.court.trouble(format!("{role} left a process behind: {name} (pid {pid})"));
        }
        let alive: Vec<Role> =
            self.court.world.players.iter().filter(|p| !p.is_dead).map(|p| p.role).collect();
        for role in alive {
            self.court.record(What::Killed { role, planned: false });
        }
        let deadline = Instant::now() + KILL_WAIT;
        while !self.court.world.processes.is_empty() && Instant::now() < deadline {
            for pid in self.court.world.processes.keys() {
                sys::kill(*pid, libc::SIGKILL);
            }
            while let Ok(Some(report)) = sys::next_report() {
                match report {
                    Report::Ended { tid, code, signal } => self.ended(tid, code, signal),
                    // It is about to die; a process that it makes is looked for below.
                    Report::Stopped(stopped) => drop(stopped),
                }
            }
            rustix::thread::sched_yield();
        }
        self.court.take_output();
        let left: Vec<String> =
            self.court.world.processes.keys().map(ToString::to_string).collect();
        if !left.is_empty() {
            self.court.trouble(format!("could not be killed: pids {}", left.join(", ")));
        }
        self.court.record(What::End);
        self.court.flush();
    }
}

/// The process of a thread.
pub(super) fn process_of(tid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

fn harness_is_gone() -> bool {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
    let now = Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
