//! The heartbeat: a thread that refreshes, and a watchdog that notices when nothing comes back.
//!
//! A beat goes through the owner's own descriptor, so it can refresh nothing but its own file; it
//! then looks whether the lock's names still lead to its own files. The time of the last good beat
//! is the moment at which that beat *began*, on the monotonic clock.
//!
//! The watchdog is a thread of its own because a beat can hang: the thread that hangs is the last
//! one to notice. It touches no file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use rustix::time::{ClockId, clock_gettime};

use crate::cause::{Cause, Trouble};
use crate::files::{Identity, Stamp, space};
use crate::place::{BEAT, OWNER, Placed};
use crate::policy::{Health, Limits, Sight, Step, decide};

/// How many whole seconds a time stamp is moved on where the present one shows no change: no file
/// system has a coarser one (FAT has two).
const COARSEST_SECONDS: i64 = 2;

/// What the lock tells its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A beat failed, or is overdue; the lock is still owned.
    Degraded(Trouble),
    /// Beats work again.
    Healthy,
    /// The lock is lost; the holder follows its [`Policy`](crate::Policy) now.
    Lost(Trouble),
}

/// What both threads and the holder share.
#[derive(Debug)]
struct Shared {
    lock: PathBuf,
    beat: PathBuf,
    every: Duration,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    /// When the last good beat began.
    last_good: Instant,
    /// The same, on a clock that goes on while the machine is suspended.
    last_good_boottime: Duration,
    /// What the beat thread does right now.
    doing: &'static str,
    /// What is wrong, if anything is.
    trouble: Option<Trouble>,
    tell: Sender<Event>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is done under it that could panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, operation: &'static str, cause: Cause, errno: Option<i32>) -> Trouble {
        Trouble {
            cause,
            lock: self.lock.clone(),
            beat: self.beat.clone(),
            operation,
            errno,
            free_bytes: None,
            free_inodes: None,
        }
    }

    /// Takes in a beat that began at `began` and was good.
    fn saw_good(&self, began: Instant, began_boottime: Duration) -> Health {
        let mut state = self.state();
        let gap = began.saturating_duration_since(state.last_good).max(began.elapsed());
        let (health, step) = decide(state.health, Sight::Good, gap, self.limits);
        if !matches!(health, Health::Lost(_)) {
            state.last_good = began;
            state.last_good_boottime = began_boottime;
        }
        self.follow(&mut state, health, step)
    }

    /// Takes in a beat that failed.
    fn saw_trouble(&self, is_mine: bool, trouble: Trouble) -> Health {
        let mut state = self.state();
        let cause = trouble.cause;
        let sight = if is_mine { Sight::Failed(cause) } else { Sight::NotMine(cause) };
        let (health, step) = decide(state.health, sight, state.last_good.elapsed(), self.limits);
        if !matches!(state.health, Health::Lost(_)) {
            state.trouble = Some(trouble);
        }
        self.follow(&mut state, health, step)
    }

    /// Takes in that time has passed.
    fn saw_nothing(&self) -> Health {
        let mut state = self.state();
        let unbeaten = state.last_good.elapsed();
        let (health, step) = decide(state.health, Sight::Nothing, unbeaten, self.limits);
        self.follow(&mut state, health, step)
    }

    /// Tells the holder what the table says. One that does not listen any more has left.
    fn follow(&self, state: &mut State, health: Health, step: Step) -> Health {
        state.health = health;
        let hung = || self.trouble(state.doing, Cause::Hung, None);
        let event = match step {
            Step::GoOn => return health,
            Step::TellHealthy => Event::Healthy,
            Step::TellDegraded => Event::Degraded(state.trouble.clone().unwrap_or_else(hung)),
            Step::TellLost => Event::Lost(state.trouble.clone().unwrap_or_else(hung)),
        };
        state.trouble = match &event {
            Event::Healthy => None,
            Event::Degraded(trouble) | Event::Lost(trouble) => Some(trouble.clone()),
        };
        let _ = state.tell.send(event);
        health
    }

    /// Says what the beat thread does next, so that the watchdog can name what hangs.
    fn doing(&self, operation: &'static str) {
        self.state().doing = operation;
    }
}

/// The two threads of a held lock. Dropping it ends them; one that hangs ends with the process.
#[derive(Debug)]
pub(crate) struct Beats {
    shared: Arc<Shared>,
    events: Mutex<Receiver<Event>>,
    stop: [Sender<()>; 2],
}

/// What is refreshed.
#[derive(Debug)]
struct Pulse {
    file: File,
    record: PathBuf,
    record_identity: Identity,
    last: Stamp,
}

impl Beats {
    /// Starts both threads. `begun` is when the beat file was last known to be fresh.
    ///
    /// # Errors
    /// A thread could not be created: without a beat there is no lock.
    pub(crate) fn start(
        placed: &Placed,
        limits: Limits,
        every: Duration,
        begun: Instant,
    ) -> io::Result<Beats> {
        let (tell, events) = channel();
        let state = State {
            health: Health::Healthy,
            last_good: begun,
            last_good_boottime: boottime().saturating_sub(begun.elapsed()),
            doing: "utimes",
            trouble: None,
            tell,
        };
        let shared = Arc::new(Shared {
            lock: placed.lock.clone(),
            beat: placed.lock.join(BEAT),
            every,
            limits,
            state: Mutex::new(state),
        });
        let pulse = Pulse {
            file: placed.beat.try_clone()?,
            record: placed.lock.join(OWNER),
            record_identity: placed.record_identity,
            last: placed.beat_stamp,
        };
        let (stop_beats, beats_stopped) = channel();
        let (stop_watch, watch_stopped) = channel();
        let beating = Arc::clone(&shared);
        Builder::new()
            .name("lock-beat".to_owned())
            .spawn(move || beat(&beating, pulse, &beats_stopped))?;
        let watching = Arc::clone(&shared);
        Builder::new()
            .name("lock-watchdog".to_owned())
            .spawn(move || watch(&watching, &watch_stopped))?;
        Ok(Beats { shared, events: Mutex::new(events), stop: [stop_beats, stop_watch] })
    }

    pub(crate) fn health(&self) -> Health {
        self.shared.saw_nothing()
    }

    /// What is wrong; `None` while protected work is covered by a beat.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let health = self.shared.saw_nothing();
        let state = self.shared.state();
        if let Health::Lost(cause) = health {
            let lost = || self.shared.trouble(state.doing, cause, None);
            return Some(state.trouble.clone().unwrap_or_else(lost));
        }
        let unbeaten = boottime().saturating_sub(state.last_good_boottime);
        (unbeaten >= self.shared.limits.lost)
            .then(|| self.shared.trouble(state.doing, Cause::Suspended, None))
    }

    /// Waits up to `patience` for what there is to tell.
    pub(crate) fn next(&self, patience: Duration) -> Option<Event> {
        // A process that was stopped hears of it before its watchdog's turn comes.
        self.shared.saw_nothing();
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.recv_timeout(patience).ok()
    }

    /// Ends both threads. A beat under way may still come to its end, on the owner's own file.
    pub(crate) fn end(&self) {
        for stop in &self.stop {
            // A thread that has ended already does not listen.
            let _ = stop.send(());
        }
    }
}

/// The time since boot, including the time in which the machine was suspended.
fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn beat(shared: &Shared, mut pulse: Pulse, stopped: &Receiver<()>) {
    let mut wait = shared.every;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let (began, began_boottime) = (Instant::now(), boottime());
        let health = match refresh(shared, &mut pulse, NOW) {
            Ok(()) => shared.saw_good(began, began_boottime),
            Err(failure) => failure.tell(shared, &pulse.file),
        };
        wait = match health {
            Health::Healthy => shared.every,
            // A transient is over soon, and there is not much time until the limit.
            Health::Degraded(_) => shared.every / 4,
            Health::Lost(_) => return,
        };
    }
}

/// How a beat failed.
#[derive(Debug)]
enum Failure {
    /// An operation answered with an error.
    Error { operation: &'static str, error: io::Error },
    /// It answered well, and had no effect.
    Frozen,
    /// One of the lock's names leads to nothing, or to another's file.
    NotMine { cause: Cause, errno: Option<i32> },
}

impl Failure {
    fn tell(self, shared: &Shared, file: &File) -> Health {
        let (is_mine, trouble) = match self {
            Failure::Frozen => (true, shared.trouble("utimes", Cause::Frozen, None)),
            Failure::NotMine { cause, errno } => (false, shared.trouble("stat", cause, errno)),
            Failure::Error { operation, error } => {
                let errno = error.raw_os_error();
                let cause = errno.map_or(Cause::Other(0), |errno| Cause::of(errno, None));
                (true, shared.trouble(operation, cause, errno))
            }
        };
        // The watchdog knows it already, should statvfs hang on the same file system.
        shared.state().trouble.get_or_insert_with(|| trouble.clone());
        shared.doing("statvfs");
        shared.saw_trouble(is_mine, with_space(trouble, file))
    }
}

/// Adds what the file system has left, and what that says about ENOSPC.
fn with_space(trouble: Trouble, file: &File) -> Trouble {
    let space = space(file);
    let cause = match trouble.errno {
        Some(libc::ENOSPC) => Cause::of(libc::ENOSPC, space),
        _ => trouble.cause,
    };
    Trouble {
        cause,
        free_bytes: space.map(|space| space.free_bytes),
        free_inodes: space.map(|space| space.free_inodes),
        ..trouble
    }
}

/// The present, as the file system sees it (utimensat(2)).
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// One beat: refresh one's own file, then see whether the lock is still one's own.
fn refresh(shared: &Shared, pulse: &mut Pulse, now: Timespec) -> Result<(), Failure> {
    touch(shared, pulse, now)?;
    let mut seen = look(shared, pulse)?;
    if seen.mtime == pulse.last.mtime {
        // A file system with time stamps of a second or two shows the same one for that long, and
        // others would take that for silence. They look for a change, not for a time.
        let (seconds, _) = pulse.last.mtime;
        let later = Timespec { tv_sec: seconds.saturating_add(COARSEST_SECONDS), tv_nsec: 0 };
        touch(shared, pulse, later)?;
        seen = look(shared, pulse)?;
    }
    if seen.mtime == pulse.last.mtime {
        return Err(Failure::Frozen);
    }
    pulse.last = seen;
    Ok(())
}

fn touch(shared: &Shared, pulse: &Pulse, time: Timespec) -> Result<(), Failure> {
    shared.doing("utimes");
    let times = Timestamps { last_access: time, last_modification: time };
    futimens(&pulse.file, &times)
        .map_err(|errno| Failure::Error { operation: "utimes", error: errno.into() })
}

/// Whether both names lead to one's own files; the beat file as others see it.
fn look(shared: &Shared, pulse: &Pulse) -> Result<Stamp, Failure> {
    shared.doing("stat");
    let record = stat(&pulse.record)?;
    let beat = stat(&shared.beat)?;
    let is_mine = record.identity == pulse.record_identity && beat.identity == pulse.last.identity;
    if is_mine { Ok(beat) } else { Err(Failure::NotMine { cause: Cause::Replaced, errno: None }) }
}

/// A name that is missing is looked for twice: a lock that is given up for one wrong answer is lost
/// for nothing.
fn stat(path: &Path) -> Result<Stamp, Failure> {
    let is_missing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    let looked = fs::symlink_metadata(path);
    let looked = match looked {
        Err(error) if is_missing(&error) => fs::symlink_metadata(path),
        other => other,
    };
    match looked {
        Ok(meta) => Ok(Stamp::of(&meta)),
        Err(error) if is_missing(&error) => {
            Err(Failure::NotMine { cause: Cause::Missing, errno: error.raw_os_error() })
        }
        Err(error) => Err(Failure::Error { operation: "stat", error }),
    }
}

/// Looks at the clock whenever a limit may have been reached.
fn watch(shared: &Shared, stopped: &Receiver<()>) {
    loop {
        let health = shared.saw_nothing();
        let limit = match health {
            Health::Healthy => shared.limits.overdue,
            Health::Degraded(_) => shared.limits.lost,
            Health::Lost(_) => return,
        };
        let left = limit.saturating_sub(shared.state().last_good.elapsed());
        // At least a millisecond, so that rounding does not make it spin.
        let wait = left.max(Duration::from_millis(1));
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(limits: Limits) -> (Arc<Shared>, Receiver<Event>) {
        let (tell, events) = channel();
        let state = State {
            health: Health::Healthy,
            last_good: Instant::now(),
            last_good_boottime: boottime(),
            doing: "utimes",
            trouble: None,
            tell,
        };
        let shared = Shared {
            lock: "/x/l".into(),
            beat: "/x/l/beat".into(),
            every: Duration::from_millis(10),
            limits,
            state: Mutex::new(state),
        };
        (Arc::new(shared), events)
    }

    fn limits(overdue_ms: u64, lost_ms: u64) -> Limits {
        let ms = Duration::from_millis;
        Limits { overdue: ms(overdue_ms), lost: ms(lost_ms) }
    }

    fn pulse(folder: &Path) -> (Pulse, Limits) {
        fs::write(folder.join(OWNER), "").unwrap();
        let file = File::create(folder.join(BEAT)).unwrap();
        let last = Stamp::of(&file.metadata().unwrap());
        let record = folder.join(OWNER);
        let record_identity = Identity::at(&record).unwrap().unwrap();
        (Pulse { file, record, record_identity, last }, limits(20_000, 40_000))
    }

    /// The beat thread is not even there: only the watchdog can tell, and it names what hung.
    #[test]
    fn a_beat_that_does_not_come_back_degrades_the_lock_and_then_loses_it() {
        let (shared, events) = shared(limits(20_000, 60_000));
        shared.doing("stat");
        let unbeaten_for = |seconds| {
            let then = Instant::now().checked_sub(Duration::from_secs(seconds));
            shared.state().last_good = then.expect("the machine was up for a minute");
        };
        assert_eq!(shared.saw_nothing(), Health::Healthy);
        unbeaten_for(30);
        assert_eq!(shared.saw_nothing(), Health::Degraded(Cause::Hung));
        unbeaten_for(60);
        let (_stop, stopped) = channel();
        watch(&shared, &stopped);
        let told: Vec<Event> = events.try_iter().collect();
        let is_hung =
            |trouble: &Trouble| (trouble.cause, trouble.operation) == (Cause::Hung, "stat");
        match &told[..] {
            [Event::Degraded(first), Event::Lost(second)] => {
                assert!(is_hung(first) && is_hung(second));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(shared.state().health, Health::Lost(Cause::Hung));
    }

    #[test]
    fn a_good_beat_after_the_limit_does_not_bring_the_lock_back() {
        let (shared, events) = shared(limits(1, 2));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        assert_eq!(shared.saw_good(began, boottime()), Health::Lost(Cause::Hung));
        assert_eq!(shared.saw_good(Instant::now(), boottime()), Health::Lost(Cause::Hung));
        assert!(matches!(events.try_iter().collect::<Vec<_>>()[..], [Event::Lost(_)]));
    }

    #[test]
    fn a_failed_beat_is_told_once_with_what_the_file_system_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let (pulse, limits) = pulse(folder.path());
        let (shared, events) = shared(limits);
        let fail = || {
            let error = io::Error::from_raw_os_error(libc::EIO);
            Failure::Error { operation: "utimes", error }.tell(&shared, &pulse.file)
        };
        assert_eq!((fail(), fail()), (Health::Degraded(Cause::Io), Health::Degraded(Cause::Io)));
        shared.saw_good(Instant::now(), boottime());
        let told: Vec<Event> = events.try_iter().collect();
        let [Event::Degraded(trouble), Event::Healthy] = &told[..] else { panic!("{told:?}") };
        assert_eq!((trouble.errno, trouble.operation), (Some(libc::EIO), "utimes"));
        assert!(trouble.free_bytes.is_some() && trouble.free_inodes.is_some());
    }

    /// On file systems with time stamps of a second or two the present shows no change.
    #[test]
    fn a_beat_moves_the_time_on_disk_also_where_the_clock_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pulse, limits) = pulse(folder.path());
        let (shared, _events) = shared(limits);
        let shared = Shared { beat: folder.path().join(BEAT), ..Arc::into_inner(shared).unwrap() };
        let coarse = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
        for _ in 0..5 {
            let before = pulse.last;
            refresh(&shared, &mut pulse, coarse).unwrap();
            assert_ne!(pulse.last, before);
            assert_eq!(Stamp::of(&pulse.file.metadata().unwrap()), pulse.last);
            assert_eq!(pulse.last.mtime.0 % COARSEST_SECONDS, 0, "or FAT would not show it");
        }
    }

    #[test]
    fn a_beat_that_has_no_effect_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pulse, limits) = pulse(folder.path());
        let (shared, _events) = shared(limits);
        let shared = Shared { beat: folder.path().join(BEAT), ..Arc::into_inner(shared).unwrap() };
        // What is refreshed is not what others see.
        pulse.file = tempfile::tempfile().unwrap();
        let frozen = refresh(&shared, &mut pulse, NOW);
        assert!(matches!(frozen, Err(Failure::Frozen)), "{frozen:?}");
    }

    #[test]
    fn a_beat_never_touches_the_file_that_took_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pulse, limits) = pulse(folder.path());
        let (shared, _events) = shared(limits);
        let shared = Shared { beat: folder.path().join(BEAT), ..Arc::into_inner(shared).unwrap() };
        fs::remove_file(&shared.beat).unwrap();
        let gone = refresh(&shared, &mut pulse, NOW);
        assert!(matches!(gone, Err(Failure::NotMine { cause: Cause::Missing, .. })), "{gone:?}");
        let heirs = File::create(&shared.beat).unwrap();
        heirs.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let replaced = refresh(&shared, &mut pulse, NOW);
        assert!(matches!(replaced, Err(Failure::NotMine { cause: Cause::Replaced, .. })));
        assert_eq!(
            heirs.metadata().unwrap().modified().unwrap(),
            std::time::SystemTime::UNIX_EPOCH
        );
    }
}
