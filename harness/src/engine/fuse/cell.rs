//! The supervisor of one run: init of the run's PID namespace, and the daemon behind its mounts.
//!
//! One thread, one loop. It never touches a fault mount itself. Whatever ends it, the kernel
//! kills every process of the namespace, and closing `/dev/fuse` answers what hangs.

use std::io::{self, BufWriter, Read, Stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use deadbeat_fs::{FaultFs, MountId, OpId as FsOpId, Options, Ruling, Served};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{WaitOptions, wait};

use super::players::{News, Player, all_processes, describe};
use super::troupe::Troupe;
use crate::engine::agenda::Occurrence;
use crate::engine::casting::Casting;
use crate::engine::court::Court;
use crate::engine::ground::{Ground, WITNESS, enter_namespaces};
use crate::engine::inner::{pin, read_job, report_and_fail};
use crate::engine::wire::Job;
use crate::engine::{EngineError, sys};
use crate::history::{TOO_SLOW, What};
use crate::moment::Sign;
use crate::plan::Timing;
use crate::role::Role;
use crate::time::Nanos;

/// How often bounds are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// Lateness below this is no matter, however short a lock's lengths are.
const LATENESS_MIN: Duration = Duration::from_millis(50);
/// How long processes that a role left behind may take to end by themselves.
const LEFTOVER_GRACE: Duration = Duration::from_millis(300);
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// `__cell`: a job on standard input, the history on standard output.
pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_and_fail(&error),
    }
}

fn run() -> Result<(), EngineError> {
    let Some(job) = read_job()? else { return Ok(()) };
    enter_namespaces()?;
    let ground = Ground::lay(&job)?;
    if let Some(cpu) = job.cpu {
        pin(cpu);
    }
    go_first();
    rustix::process::umask(rustix::fs::Mode::empty());
    let options = Options { synthetic: Some(WITNESS.into()), ..Options::default() };
    let fs = FaultFs::new(ground.open_backing()?, options).map_err(step("open the backing"))?;
    let out = BufWriter::new(io::stdout());
    let court = Court::new(&job.plan, &ground, Troupe::new(), out)
        .map_err(|error| step("read the plan")(io::Error::other(error)))?;
    let margin = margin(&job.plan.timing);
    let metronome = start_metronome(&ground, margin).map_err(step("start the metronome"))?;
    let mounts = Vec::new();
    let mut cell =
        Cell { job: &job, ground: &ground, fs, court, mounts, metronome, margin, was_late: false };
    cell.court.happened(Occurrence::Start);
    let ended = cell.play();
    cell.tear_down();
    ended
}

fn step(what: &str) -> impl FnOnce(io::Error) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Step { what, source }
}

struct Cell<'a> {
    job: &'a Job,
    ground: &'a Ground,
    fs: FaultFs,
    court: Court<Troupe, BufWriter<Stdout>>,
    mounts: Vec<MountId>,
    metronome: Child,
    margin: Duration,
    was_late: bool,
}

/// What the loop waits for.
#[derive(Clone, Copy)]
enum Source {
    Harness,
    Mount(MountId),
    Player,
}

impl Cell<'_> {
    fn play(&mut self) -> Result<(), EngineError> {
        let mut housekeeping = Instant::now();
        loop {
            let begun = Instant::now();
            self.catch_up()?;
            self.note_lateness("what was due", begun.elapsed());
            if let Some(why) = self.court.stop.take() {
                self.court.trouble(why);
                return Ok(());
            }
            let is_played_out = self.court.world.players.iter().all(|player| player.is_dead);
            if is_played_out && !self.court.expects_a_start() {
                return Ok(());
            }
            if housekeeping.elapsed() >= HOUSEKEEPING {
                housekeeping = Instant::now();
                self.keep_house();
            }
            self.wait_and_serve()?;
        }
    }

    /// Brings about everything that is due before anything else may run.
    fn catch_up(&mut self) -> Result<(), EngineError> {
        self.court.bury_the_dead();
        self.court.do_due();
        while !self.court.releases.is_empty() || !self.court.starts.is_empty() {
            for op in std::mem::take(&mut self.court.releases) {
                self.fs.release(FsOpId(op.0), Ruling::Proceed, &mut self.court);
            }
            for role in std::mem::take(&mut self.court.starts) {
                self.start(role)?;
            }
            self.court.do_due();
        }
        Ok(())
    }

    fn wait_and_serve(&mut self) -> Result<(), EngineError> {
        let until = self.time_to_wait();
        let begun = Instant::now();
        let (ready, harness_is_gone) = self.wait(until)?;
        self.note_lateness("the engine", begun.elapsed().saturating_sub(until));
        let begun = Instant::now();
        let served = self.serve_all(ready, harness_is_gone);
        self.note_lateness("an operation", begun.elapsed());
        served
    }

    fn serve_all(&mut self, ready: Vec<MountId>, harness_is_gone: bool) -> Result<(), EngineError> {
        if harness_is_gone {
            self.court.stop = Some("the run was interrupted".to_owned());
            return Ok(());
        }
        // Deaths first: a request that is ready now may be a consequence of one.
        self.court.bury_the_dead();
        self.hear_players();
        if self.fs.next_deadline().is_some_and(|at| at <= Instant::now()) {
            self.fs.tick(&mut self.court);
        }
        for mount in ready {
            // One request at a time, and everything that it brings about, before the next.
            self.catch_up()?;
            match self.fs.serve(mount, &mut self.court) {
                Ok(Served::Handled | Served::Idle) => {}
                Ok(Served::Gone) => self.forget(mount),
                Err(source) => {
                    let what = "serve a fault mount".to_owned();
                    return Err(EngineError::Step { what, source });
                }
            }
        }
        Ok(())
    }

    /// Waits for the next thing to happen; gives the mounts with requests, and whether the
    /// harness closed its end.
    fn wait(&mut self, until: Duration) -> Result<(Vec<MountId>, bool), EngineError> {
        self.court.flush();
        let stdin = io::stdin();
        let mut sources = vec![Source::Harness];
        let mut fds: Vec<BorrowedFd<'_>> = vec![stdin.as_fd()];
        for mount in &self.mounts {
            sources.push(Source::Mount(*mount));
            fds.push(self.fs.device(*mount));
        }
        for fd in self.court.world.players.iter().flat_map(Player::watched) {
            sources.push(Source::Player);
            fds.push(fd);
        }
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let until = Timespec::try_from(until).expect("waits are short");
        match rustix::event::poll(&mut polled, Some(&until)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(EngineError::Step { what: "poll".to_owned(), source: errno.into() });
            }
        }
        let mut ready = Vec::new();
        let mut is_gone = false;
        for (source, fd) in sources.iter().zip(&polled) {
            match source {
                _ if fd.revents().is_empty() => {}
                Source::Harness => is_gone = true,
                Source::Mount(mount) => ready.push(*mount),
                Source::Player => {}
            }
        }
        Ok((ready, is_gone))
    }

    /// While the engine is late, every operation of every role waits for it, and a beat that comes
    /// too late is not the lock's fault.
    fn note_lateness(&mut self, doing: &str, late: Duration) {
        if late > self.margin && !self.was_late {
            self.was_late = true;
            self.court.trouble(format!("{TOO_SLOW}: {doing} was {} late", Nanos::from(late)));
        }
    }

    /// What the metronome has to say, without waiting.
    fn hear_metronome(&mut self) {
        let mut bytes = [0; 256];
        let heard = self.metronome.stdout.as_mut().and_then(|pipe| pipe.read(&mut bytes).ok());
        let text = String::from_utf8_lossy(&bytes[..heard.unwrap_or(0)]).into_owned();
        let latest = text.lines().filter_map(|line| line.parse().ok()).max();
        if let Some(nanos) = latest {
            self.note_lateness("a process that was ready to run", Duration::from_nanos(nanos));
        }
    }

    fn time_to_wait(&self) -> Duration {
        let now = self.court.now();
        let due = self.court.next_due().map(|at| Duration::from(at.since(now)));
        let fs = self.fs.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        [due, fs, Some(HOUSEKEEPING)].into_iter().flatten().min().unwrap_or(HOUSEKEEPING)
    }

    fn hear_players(&mut self) {
        self.court.take_output();
        for index in 0..self.court.world.players.len() {
            while let Some(news) = self.court.world.players[index].news() {
                self.act_on(index, news);
            }
            if self.court.world.players[index].is_lost() {
                let role = self.court.world.players[index].role;
                self.court.could_not_start(role, "ended before its program ran");
            }
        }
    }

    fn act_on(&mut self, index: usize, news: News) {
        let role = self.court.world.players[index].role;
        match news {
            News::Ready(pid) => {
                self.court.record(What::Started { role, pid });
                self.court.happened(Occurrence::Role(role, Sign::Started));
                if let Err(error) = self.court.world.players[index].go(pid) {
                    self.court.trouble(format!("{role} could not be set going: {error}"));
                }
            }
            News::Cannot(why) => {
                if !self.court.world.players[index].is_dead {
                    self.court.could_not_start(role, &why);
                }
            }
            News::Exited(code, signal) => {
                if !self.court.world.players[index].is_dead {
                    self.court.bury(role, code, signal);
                }
            }
        }
    }

    fn start(&mut self, role: Role) -> Result<(), EngineError> {
        let plan = &self.job.plan;
        let part = plan.cast.iter().find(|part| part.role == role);
        let part = part.expect("only roles of the cast are started");
        let device = deadbeat_fs::open_device().map_err(step("open /dev/fuse"))?;
        let casting = Casting { part, plan, ground: self.ground, user: self.job.user };
        let player = Player::start(&casting, device.as_fd())
            .map_err(|source| EngineError::Step { what: format!("start {role}"), source })?;
        let mount = self.fs.add_mount(device);
        self.mounts.push(mount);
        self.court.world.admit(mount, player);
        Ok(())
    }

    fn forget(&mut self, mount: MountId) {
        self.mounts.retain(|known| *known != mount);
        self.fs.remove_mount(mount, &mut self.court);
    }

    /// Bounds, and processes that lost their parent.
    fn keep_house(&mut self) {
        reap();
        self.hear_metronome();
        let bounds = self.court.plan().bounds;
        if self.court.now() > bounds.wall {
            self.court.stop = Some(format!("it ran into its bound of {} real time", bounds.wall));
        } else if self.court.is_full() {
            self.court.stop = Some(format!("it ran into its bound of {} events", bounds.events));
        } else if all_processes().count() as u64 > bounds.processes.saturating_add(1) {
            let what = format!("it ran into its bound of {} processes", bounds.processes);
            self.court.stop = Some(what);
        }
    }

    /// Ends whatever is left, in the order that leaves nothing hanging: what is held is answered
    /// with an error, then everything is killed, then everything is reaped.
    fn tear_down(&mut self) {
        self.hear_metronome();
        self.court.record_undone();
        self.report_leftovers();
        self.fs.shutdown(&mut self.court);
        let killed: Vec<Role> =
            self.court.world.players.iter().filter(|p| !p.is_dead).map(|p| p.role).collect();
        for role in killed {
            self.court.record(What::Killed { role, planned: false });
        }
        let deadline = Instant::now() + KILL_WAIT;
        loop {
            sys::kill_everyone();
            reap();
            self.serve_the_dying();
            if all_processes().next().is_none() || Instant::now() > deadline {
                break;
            }
        }
        self.court.take_output();
        let left: Vec<String> = all_processes().map(describe).collect();
        if !left.is_empty() {
            self.court.trouble(format!("could not be killed: {}", left.join(", ")));
        }
        self.court.record(What::End);
        self.court.flush();
    }

    /// Answers what dying processes still ask, so that none of them hangs.
    fn serve_the_dying(&mut self) {
        for mount in self.mounts.clone() {
            for _ in 0..1000 {
                match self.fs.serve(mount, &mut self.court) {
                    Ok(Served::Handled) => {}
                    Ok(Served::Idle) => break,
                    Ok(Served::Gone) | Err(_) => {
                        self.forget(mount);
                        break;
                    }
                }
            }
        }
        self.fs.shutdown(&mut self.court);
    }

    /// A role whose first process has ended must not leave others behind.
    fn report_leftovers(&mut self) {
        let deadline = Instant::now() + LEFTOVER_GRACE;
        let left = loop {
            reap();
            self.serve_the_dying_only();
            let mut left: Vec<(Role, String)> = Vec::new();
            for player in self.court.world.players.iter().filter(|player| player.is_dead) {
                left.extend(player.processes().into_iter().map(|pid| (player.role, describe(pid))));
            }
            if left.is_empty() || Instant::now() > deadline {
                break left;
            }
            let wait = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&wait));
        };
        for (role, process) in left {
            self.court.trouble(format!("{role} left a process behind: {process}"));
        }
    }

    fn serve_the_dying_only(&mut self) {
        for mount in self.mounts.clone() {
            if matches!(self.fs.serve(mount, &mut self.court), Ok(Served::Gone)) {
                self.forget(mount);
            }
        }
    }
}

/// How late things may be before a verdict could be the machine's doing: half of what a lock has
/// left between a beat and stale-after.
fn margin(timing: &Timing) -> Duration {
    let spare = Duration::from(timing.stale_unit.since(timing.beat_unit));
    (spare / 2).max(LATENESS_MIN)
}

/// Starts the metronome as the roles are: on their cpu, at their priority.
fn start_metronome(ground: &Ground, margin: Duration) -> io::Result<Child> {
    let mut command = Command::new(ground.bin().join("deadbeat"));
    command.arg("__metronome").arg(margin.as_nanos().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    sys::prepare_child(&mut command, go_as_roles_do);
    let child = command.spawn()?;
    rustix::io::ioctl_fionbio(child.stdout.as_ref().expect("it was piped"), true)?;
    Ok(child)
}

/// The supervisor goes before its roles, or a fork bomb could keep it from ending the run. An
/// ordinary user may not; the bomb then only takes longer to end.
fn go_first() {
    let _ = rustix::process::setpriority_process(None, -20);
}

/// In a child of the supervisor: takes back what [`go_first`] did. A priority that is already lower
/// was inherited, and only root may raise it.
pub(crate) fn go_as_roles_do() -> io::Result<()> {
    if rustix::process::getpriority_process(None)? < 0 {
        rustix::process::setpriority_process(None, 0)?;
    }
    Ok(())
}

fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
