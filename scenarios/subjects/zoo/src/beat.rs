//! The heartbeat: a thread that refreshes, and a watchdog that notices when nothing comes back.
//!
//! | what happened | last good beat began | the holder |
//! |---|---|---|
//! | a beat worked | < limit ago | is told that all is well again, if it was told otherwise |
//! | a beat failed, or is overdue | < limit ago | is told once |
//! | anything | ≥ limit ago | has lost the lock |
//! | the lock's names lead elsewhere | any | has lost the lock |
//!
//! The limit is a third of a beat before stale-after: the holder is out before anybody may think
//! that it is dead.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use deadbeat_kit::Notice;
use rustix::fs::{AtFlags, CWD, Timespec, futimens, utimensat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::bugs::{Bug, Bugs};
use crate::files::{BEAT, Identity, NOW, OWNER, Stamp, times};
use crate::take::Placed;

/// How many whole seconds a time stamp is moved on where the present one shows no change.
const COARSEST_SECONDS: i64 = 2;
/// How many failed beats in all end a lock that counts them for life.
const STRIKES: u32 = 3;

/// How a lock behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) stale: Duration,
    pub(crate) beat: Duration,
    pub(crate) bugs: Bugs,
}

impl Settings {
    /// How long after the last good beat the lock is lost.
    fn limit(self) -> Duration {
        if self.bugs.has(Bug::TellsLate) {
            2 * self.stale
        } else {
            self.stale.saturating_sub((self.beat / 3).max(self.stale / 10))
        }
    }

    /// How long after the last good beat its holder is told that none comes back.
    fn overdue(self) -> Duration {
        (self.beat * 3 / 2).min(self.limit())
    }
}

/// What is wrong with a beat.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    operation: &'static str,
    cause: &'static str,
    errno: Option<i32>,
    /// Whether the lock is one's own all the same, as far as that is known.
    is_mine: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    InTrouble,
    Lost,
}

#[derive(Debug)]
struct State {
    health: Health,
    last_good: Instant,
    /// The same, on a clock that goes on while the machine is suspended.
    last_good_boottime: Duration,
    doing: &'static str,
    trouble: Option<Trouble>,
    failures: u32,
    tell: Sender<Notice>,
}

#[derive(Debug)]
struct Shared {
    lock: PathBuf,
    settings: Settings,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, bug: Bug) -> bool {
        self.settings.bugs.has(bug)
    }

    /// Whether this is an error that it takes for none.
    fn ignores(&self, trouble: &Trouble) -> bool {
        let errno = trouble.errno.map(Errno::from_raw_os_error);
        errno.is_some_and(|errno| self.has(Bug::Ignores(errno)))
    }

    fn saw_good(&self, began: Instant, began_boottime: Duration) {
        let mut state = self.state();
        let gap = began.saturating_duration_since(state.last_good).max(began.elapsed());
        if gap >= self.settings.limit() {
            return self.lose(&mut state);
        }
        if state.health == Health::Lost {
            return;
        }
        state.last_good = began;
        state.last_good_boottime = began_boottime;
        state.trouble = None;
        if state.health == Health::InTrouble {
            state.health = Health::Well;
            let _ = state.tell.send(Notice::Healthy);
        }
    }

    fn saw_trouble(&self, trouble: Trouble) {
        let mut state = self.state();
        if state.health == Health::Lost {
            return;
        }
        state.failures += 1;
        let is_over = !trouble.is_mine
            || self.has(Bug::GivesUpAtOnce)
            || self.has(Bug::CountsForLife) && state.failures >= STRIKES
            || state.last_good.elapsed() >= self.settings.limit();
        state.trouble = Some(trouble);
        if is_over {
            self.lose(&mut state);
        } else {
            self.worry(&mut state);
        }
    }

    /// Takes in that time has passed.
    fn saw_nothing(&self) -> Health {
        let mut state = self.state();
        let unbeaten = state.last_good.elapsed();
        if unbeaten >= self.settings.limit() {
            self.lose(&mut state);
        } else if unbeaten >= self.settings.overdue() {
            self.worry(&mut state);
        }
        state.health
    }

    fn worry(&self, state: &mut State) {
        if state.health == Health::Well && !self.has(Bug::TellsLate) {
            state.health = Health::InTrouble;
            let details = self.details(state);
            let _ = state.tell.send(Notice::Degraded(details));
        }
    }

    fn lose(&self, state: &mut State) {
        if state.health == Health::Lost {
            return;
        }
        state.health = Health::Lost;
        let details = self.details(state);
        let notice = if self.has(Bug::NeverGivesUp) {
            Notice::Degraded(details)
        } else {
            Notice::Lost(details)
        };
        let _ = state.tell.send(notice);
    }

    /// What the holder, and the log, is told.
    fn details(&self, state: &State) -> Vec<(String, String)> {
        if self.has(Bug::SaysLittle) {
            eprintln!("the lock may be compromised");
            return Vec::new();
        }
        let hung = Trouble { operation: state.doing, cause: "hung", errno: None, is_mine: true };
        let trouble = state.trouble.clone().unwrap_or(hung);
        let mut details = vec![
            ("op", trouble.operation.to_owned()),
            ("path", self.lock.join(BEAT).display().to_string()),
            ("lock", self.lock.display().to_string()),
            ("cause", trouble.cause.to_owned()),
        ];
        if let Some(errno) = trouble.errno {
            details.push(("errno", io::Error::from_raw_os_error(errno).to_string()));
        }
        let line: Vec<String> =
            details.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        eprintln!("heartbeat {}", line.join(" "));
        details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn doing(&self, operation: &'static str) {
        self.state().doing = operation;
    }

    /// How long until the table above says something new.
    fn quiet_for(&self) -> Option<Duration> {
        let limit = match self.saw_nothing() {
            Health::Well => self.settings.overdue(),
            Health::InTrouble => self.settings.limit(),
            Health::Lost => return None,
        };
        let limit = if self.has(Bug::TellsLate) { self.settings.limit() } else { limit };
        let left = limit.saturating_sub(self.state().last_good.elapsed());
        Some(left.max(Duration::from_millis(1)))
    }
}

/// Whether a failed acquisition of this process has ended the beat that all of them share.
static SHARED_BEAT_ENDED: AtomicBool = AtomicBool::new(false);

fn shared_beat_ended() -> bool {
    SHARED_BEAT_ENDED.load(Ordering::SeqCst)
}

/// An acquisition of this process failed.
pub(crate) fn acquisition_failed(bugs: Bugs) {
    if bugs.has(Bug::SharesTheBeat) {
        SHARED_BEAT_ENDED.store(true, Ordering::SeqCst);
    }
}

/// What is refreshed.
#[derive(Debug)]
struct Pulse {
    file: File,
    record_identity: Identity,
    last: Stamp,
}

/// The beat of a held lock. Dropping it ends its threads; one that hangs ends with the process.
#[derive(Debug)]
pub(crate) struct Beats {
    shared: Arc<Shared>,
    told: Mutex<Receiver<Notice>>,
    stop: Vec<Sender<()>>,
    /// What the working thread refreshes, and when it did so last.
    in_main: Option<Mutex<(Pulse, Instant)>>,
}

impl Beats {
    /// Starts the threads. `begun` is when the beat's file was last known to be fresh, `earlier` how
    /// many acquisitions this process has had before.
    pub(crate) fn start(
        placed: &Placed,
        settings: Settings,
        begun: Instant,
        earlier: u32,
    ) -> io::Result<Beats> {
        let (tell, told) = channel();
        let state = State {
            health: Health::Well,
            last_good: begun,
            last_good_boottime: boottime().saturating_sub(begun.elapsed()),
            doing: "utimes",
            trouble: None,
            failures: 0,
            tell,
        };
        let lock = placed.lock.clone();
        let shared = Arc::new(Shared { lock, settings, state: Mutex::new(state) });
        let pulse = Pulse {
            file: placed.beat.try_clone()?,
            record_identity: placed.record_identity,
            last: placed.beat_stamp,
        };
        let bugs = settings.bugs;
        let mut beats = Beats { shared, told: Mutex::new(told), stop: Vec::new(), in_main: None };
        if bugs.has(Bug::BeatsInMain) {
            beats.in_main = Some(Mutex::new((pulse, begun)));
        } else if !(bugs.has(Bug::BeatsOnce) && earlier > 0) {
            match beats.start_threads(pulse) {
                Err(_) if bugs.has(Bug::IgnoresMissingThread) => beats.stop.clear(),
                other => other?,
            }
        }
        Ok(beats)
    }

    fn start_threads(&mut self, pulse: Pulse) -> io::Result<()> {
        let (stop, stopped) = channel();
        self.stop.push(stop);
        let shared = Arc::clone(&self.shared);
        Builder::new().name("beat".to_owned()).spawn(move || beat(&shared, pulse, &stopped))?;
        if self.has_watchdog() {
            let (stop, stopped) = channel();
            self.stop.push(stop);
            let shared = Arc::clone(&self.shared);
            Builder::new().name("watchdog".to_owned()).spawn(move || watch(&shared, &stopped))?;
        }
        Ok(())
    }

    /// A beat that ends unnoticed has nobody who watches it.
    fn has_watchdog(&self) -> bool {
        let without = [Bug::NoWatchdog, Bug::DiesOfAnError, Bug::SwallowsErrors];
        !without.iter().any(|bug| self.shared.has(*bug)) && !shared_beat_ended()
    }

    /// Whether a look at the clock may find that the lock is lost.
    fn is_watched(&self) -> bool {
        self.has_watchdog() && !self.stop.is_empty() || self.in_main.is_some()
    }

    /// Whether protected work is covered right now.
    pub(crate) fn is_covered(&self) -> bool {
        if self.shared.has(Bug::NeverGivesUp) || self.shared.has(Bug::TellsLate) {
            return true;
        }
        if !self.is_watched() {
            return self.shared.state().health != Health::Lost;
        }
        if self.shared.saw_nothing() == Health::Lost {
            return false;
        }
        let unbeaten = boottime().saturating_sub(self.shared.state().last_good_boottime);
        unbeaten < self.shared.settings.limit()
    }

    /// Waits up to `patience` for what there is to tell.
    pub(crate) fn next(&self, patience: Duration) -> Option<Notice> {
        let Some(in_main) = &self.in_main else {
            if self.is_watched() {
                // A process that was stopped hears of it before its watchdog's turn comes.
                self.shared.saw_nothing();
            }
            return self.heard(patience);
        };
        let mut in_main = in_main.lock().unwrap_or_else(PoisonError::into_inner);
        let (pulse, last) = &mut *in_main;
        let end = Instant::now() + patience;
        loop {
            let due = *last + self.shared.settings.beat;
            let wait = due.min(end).saturating_duration_since(Instant::now());
            if let Some(notice) = self.heard(wait) {
                return Some(notice);
            }
            if Instant::now() >= due {
                *last = Instant::now();
                beat_once(&self.shared, pulse);
            }
            if Instant::now() >= end {
                return self.heard(Duration::ZERO);
            }
        }
    }

    fn heard(&self, patience: Duration) -> Option<Notice> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.recv_timeout(patience).ok()
    }

    /// Ends the threads. A beat under way may still come to its end.
    pub(crate) fn end(&self) {
        for stop in &self.stop {
            // A thread that has ended already does not listen.
            let _ = stop.send(());
        }
    }
}

/// The time since boot, with that in which the machine was suspended.
fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

fn beat(shared: &Shared, mut pulse: Pulse, stopped: &Receiver<()>) {
    let mut wait = shared.settings.beat;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        if shared_beat_ended() {
            return;
        }
        if !beat_once(shared, &mut pulse) && shared.has(Bug::DiesOfAnError) {
            return;
        }
        wait = match shared.state().health {
            Health::Well => shared.settings.beat,
            // A transient is over soon, and there is not much time until the limit.
            Health::InTrouble => shared.settings.beat / 4,
            Health::Lost => return,
        };
    }
}

/// Whether it was a good one.
fn beat_once(shared: &Shared, pulse: &mut Pulse) -> bool {
    let (began, began_boottime) = (Instant::now(), boottime());
    match refresh(shared, pulse) {
        Ok(()) => shared.saw_good(began, began_boottime),
        Err(trouble) if shared.ignores(&trouble) => shared.saw_good(began, began_boottime),
        Err(trouble) => {
            let is_told = !shared.has(Bug::DiesOfAnError) && !shared.has(Bug::SwallowsErrors);
            if is_told {
                shared.saw_trouble(trouble);
            }
            return false;
        }
    }
    true
}

/// Refreshes one's own file, then looks whether the lock is still one's own.
fn refresh(shared: &Shared, pulse: &mut Pulse) -> Result<(), Trouble> {
    if shared.has(Bug::RefreshesBlindly) || shared.has(Bug::RecreatesTheBeat) {
        return touch(shared, pulse, NOW);
    }
    if shared.has(Bug::RefreshesByPath) {
        look(shared, pulse)?;
        return touch(shared, pulse, NOW);
    }
    touch(shared, pulse, NOW)?;
    let mut seen = look(shared, pulse)?;
    if seen.mtime == pulse.last.mtime && !shared.has(Bug::IgnoresCoarseTimes) {
        // The file system's clock is a coarse one: others look for a change, not for a time.
        let (seconds, _) = pulse.last.mtime;
        let later = Timespec { tv_sec: seconds.saturating_add(COARSEST_SECONDS), tv_nsec: 0 };
        touch(shared, pulse, later)?;
        seen = look(shared, pulse)?;
        if seen.mtime == pulse.last.mtime && !shared.has(Bug::TrustsTheAnswer) {
            return Err(Trouble {
                operation: "utimes",
                cause: "frozen",
                errno: None,
                is_mine: true,
            });
        }
    }
    pulse.last = seen;
    Ok(())
}

fn touch(shared: &Shared, pulse: &Pulse, time: Timespec) -> Result<(), Trouble> {
    shared.doing("utimes");
    let path = shared.lock.join(BEAT);
    let by_path = [Bug::RefreshesByPath, Bug::RefreshesBlindly, Bug::RecreatesTheBeat];
    let touched = if by_path.iter().any(|bug| shared.has(*bug)) {
        if shared.has(Bug::RecreatesTheBeat) && fs::symlink_metadata(&path).is_err() {
            let _ = fs::create_dir_all(&shared.lock);
            let _ = File::create(&path);
        }
        utimensat(CWD, &path, &times(time), AtFlags::empty())
    } else {
        futimens(&pulse.file, &times(time))
    };
    touched.map_err(|errno| Trouble {
        operation: "utimes",
        cause: "error",
        errno: Some(errno.raw_os_error()),
        is_mine: true,
    })
}

/// Whether both names lead to one's own files; the beat's file as others see it.
fn look(shared: &Shared, pulse: &Pulse) -> Result<Stamp, Trouble> {
    shared.doing("stat");
    let record = stat(&shared.lock.join(OWNER))?;
    let beat = stat(&shared.lock.join(BEAT))?;
    let is_mine = record.identity == pulse.record_identity && beat.identity == pulse.last.identity;
    if shared.has(Bug::ExistsIsMine) {
        // The file that it has open says that its beats work, wherever its name is.
        let own = pulse.file.metadata().map_err(|error| failed_stat(&error))?;
        Ok(Stamp::of(&own))
    } else if is_mine {
        Ok(beat)
    } else {
        Err(Trouble { operation: "stat", cause: "replaced", errno: None, is_mine: false })
    }
}

/// A name that is missing is looked for twice: a lock is not to be given up for one wrong answer.
fn stat(path: &Path) -> Result<Stamp, Trouble> {
    let seen = match fs::symlink_metadata(path) {
        Err(error) if is_missing(&error) => fs::symlink_metadata(path),
        other => other,
    };
    seen.map(|meta| Stamp::of(&meta)).map_err(|error| failed_stat(&error))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed_stat(error: &io::Error) -> Trouble {
    Trouble {
        operation: "stat",
        cause: if is_missing(error) { "missing" } else { "error" },
        errno: error.raw_os_error(),
        is_mine: !is_missing(error),
    }
}

/// Looks at the clock whenever the table may have something new to say.
fn watch(shared: &Shared, stopped: &Receiver<()>) {
    while let Some(wait) = shared.quiet_for().filter(|_| !shared_beat_ended()) {
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
