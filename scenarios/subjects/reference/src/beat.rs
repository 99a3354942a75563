//! The heartbeat: a thread that refreshes, and a watchdog that notices when nothing comes back.
//!
//! A beat goes through the owner's own descriptor, so it can refresh nothing but its own file; it
//! then looks whether the lock's path still leads there. The time of the last good beat is the
//! moment at which that beat *began*, on the monotonic clock.
//!
//! The watchdog is a thread of its own because a beat can hang: the thread that hangs is the last
//! one to notice.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::files::{Identity, Space, space};
use crate::policy::{Health, Sight, Step, decide, limit};

/// Why a beat failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// ENOSPC, and the file system has no free blocks, or does not say.
    NoBlocks,
    /// ENOSPC, and the file system has no free inodes.
    NoInodes,
    /// EDQUOT.
    Quota,
    /// EIO.
    Io,
    /// EROFS.
    ReadOnly,
    /// EACCES.
    Access,
    /// EPERM.
    NotPermitted,
    /// The lock or its beat file is gone.
    Missing,
    /// Another file is in its place.
    Replaced,
    /// The beat did not return in time.
    Hung,
    /// The beat returned, and the time did not move.
    Frozen,
    /// Any other error.
    Other,
}

impl Cause {
    fn of(errno: i32, space: Option<Space>) -> Cause {
        match errno {
            libc::ENOSPC => match space {
                Some(space) if space.inodes > 0 && space.free_inodes == 0 => Cause::NoInodes,
                _ => Cause::NoBlocks,
            },
            libc::EDQUOT => Cause::Quota,
            libc::EIO => Cause::Io,
            libc::EROFS => Cause::ReadOnly,
            libc::EACCES => Cause::Access,
            libc::EPERM => Cause::NotPermitted,
            libc::ENOENT | libc::ENOTDIR => Cause::Missing,
            _ => Cause::Other,
        }
    }

    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::NoBlocks => "no-blocks",
            Cause::NoInodes => "no-inodes",
            Cause::Quota => "quota",
            Cause::Io => "io-error",
            Cause::ReadOnly => "read-only",
            Cause::Access => "access",
            Cause::NotPermitted => "not-permitted",
            Cause::Missing => "missing",
            Cause::Replaced => "replaced",
            Cause::Hung => "hung",
            Cause::Frozen => "frozen",
            Cause::Other => "other",
        }
    }
}

/// A failed beat, with everything that a person needs to find out why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of failure.
    pub cause: Cause,
    /// The lock.
    pub lock: PathBuf,
    /// The file that the beat refreshes.
    pub beat: PathBuf,
    /// What failed.
    pub operation: &'static str,
    /// With which error, if it returned one.
    pub errno: Option<i32>,
    /// Free bytes of the file system, if it says so.
    pub free_bytes: Option<u64>,
    /// Free inodes of the file system, if it says so.
    pub free_inodes: Option<u64>,
}

impl Trouble {
    fn new(shared: &Shared, operation: &'static str, cause: Cause, errno: Option<i32>) -> Trouble {
        Trouble {
            cause,
            lock: shared.lock.clone(),
            beat: shared.beat.clone(),
            operation,
            errno,
            free_bytes: None,
            free_inodes: None,
        }
    }

    fn of_error(shared: &Shared, operation: &'static str, error: &io::Error) -> Trouble {
        let errno = error.raw_os_error();
        let space = space(shared.lock.parent().unwrap_or(&shared.lock));
        let cause = errno.map_or(Cause::Other, |errno| Cause::of(errno, space));
        Trouble {
            free_bytes: space.map(|space| space.free_bytes),
            free_inodes: space.map(|space| space.free_inodes),
            ..Trouble::new(shared, operation, cause, errno)
        }
    }

    /// As key and value, for a structured log.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("op", self.operation.to_owned()),
            ("path", self.beat.display().to_string()),
            ("lock", self.lock.display().to_string()),
            ("cause", self.cause.as_str().to_owned()),
        ];
        if let Some(errno) = self.errno {
            fields.push(("errno", errno_text(errno)));
        }
        if let Some(bytes) = self.free_bytes {
            fields.push(("free-bytes", bytes.to_string()));
        }
        if let Some(inodes) = self.free_inodes {
            fields.push(("free-inodes", inodes.to_string()));
        }
        fields
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("heartbeat")?;
        self.fields().iter().try_for_each(|(key, value)| write!(f, " {key}={value:?}"))
    }
}

/// `ENOSPC (No space left on device)`.
fn errno_text(errno: i32) -> String {
    let name = match errno {
        libc::ENOSPC => "ENOSPC",
        libc::EDQUOT => "EDQUOT",
        libc::EIO => "EIO",
        libc::EROFS => "EROFS",
        libc::EACCES => "EACCES",
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ENOTDIR => "ENOTDIR",
        libc::ESTALE => "ESTALE",
        libc::EINTR => "EINTR",
        libc::EAGAIN => "EAGAIN",
        _ => return io::Error::from_raw_os_error(errno).to_string(),
    };
    let text = io::Error::from_raw_os_error(errno).to_string();
    format!("{name} ({})", text.split(" (os error").next().unwrap_or_default())
}

/// What the lock tells its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A beat failed; the lock is still owned.
    Degraded(Trouble),
    /// Beats work again.
    Healthy,
    /// The lock is lost; the holder follows its policy now.
    Lost(Trouble),
}

/// What both threads and the holder share.
#[derive(Debug)]
struct Shared {
    lock: PathBuf,
    beat: PathBuf,
    every: Duration,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    last_good: Instant,
    last_trouble: Option<Trouble>,
    tell: Sender<Event>,
}

impl Shared {
    /// Takes in what was seen, and tells the holder what the table says.
    fn saw(&self, sight: Sight, began: Instant, trouble: Option<Trouble>) -> Health {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if sight == Sight::Good && began.duration_since(state.last_good) < self.limit {
            state.last_good = began.max(state.last_good);
        }
        let sight = match sight {
            // A beat that came back after the lock had to be given up helps nobody.
            Sight::Good if began.duration_since(state.last_good) >= self.limit => Sight::Nothing,
            other => other,
        };
        if trouble.is_some() {
            state.last_trouble.clone_from(&trouble);
        }
        let unbeaten = state.last_good.elapsed();
        let (health, step) = decide(state.health, sight, unbeaten, self.limit);
        state.health = health;
        let trouble = trouble
            .or_else(|| state.last_trouble.clone())
            .unwrap_or_else(|| Trouble::new(self, "utimes", Cause::Hung, None));
        // A holder that does not listen any more has left.
        let _ = match step {
            Step::GoOn => Ok(()),
            Step::TellDegraded => state.tell.send(Event::Degraded(trouble)),
            Step::TellHealthy => {
                state.last_trouble = None;
                state.tell.send(Event::Healthy)
            }
            Step::TellLost => state.tell.send(Event::Lost(trouble)),
        };
        health
    }

    fn health(&self) -> (Health, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.health, self.limit.saturating_sub(state.last_good.elapsed()))
    }
}

/// The two threads of a held lock. Dropping it ends them; one that hangs ends with the process.
#[derive(Debug)]
pub(crate) struct Beats {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    _stop: [Sender<()>; 2],
}

/// What is refreshed.
#[derive(Debug)]
pub(crate) struct Pulse {
    pub(crate) lock: PathBuf,
    pub(crate) beat: PathBuf,
    pub(crate) file: File,
    pub(crate) identity: Identity,
}

impl Beats {
    /// Starts both threads. `begun` is when the beat file was last known to be fresh.
    ///
    /// # Errors
    /// A thread could not be created: without a beat there is no lock.
    pub(crate) fn start(
        pulse: Pulse,
        stale: Duration,
        every: Duration,
        begun: Instant,
    ) -> io::Result<Beats> {
        let (tell, events) = channel();
        let state = State { health: Health::Healthy, last_good: begun, last_trouble: None, tell };
        let shared = Arc::new(Shared {
            lock: pulse.lock.clone(),
            beat: pulse.beat.clone(),
            every,
            limit: limit(stale, every),
            state: Mutex::new(state),
        });
        let (stop_beats, beats_stopped) = channel();
        let (stop_watch, watch_stopped) = channel();
        let beating = Arc::clone(&shared);
        Builder::new()
            .name("lock-beat".to_owned())
            .spawn(move || beat(&beating, &pulse, &beats_stopped))?;
        let watching = Arc::clone(&shared);
        Builder::new()
            .name("lock-watchdog".to_owned())
            .spawn(move || watch(&watching, &watch_stopped))?;
        Ok(Beats { shared, events, _stop: [stop_beats, stop_watch] })
    }

    pub(crate) fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    pub(crate) fn health(&self) -> Health {
        self.shared.health().0
    }
}

fn beat(shared: &Shared, pulse: &Pulse, stopped: &Receiver<()>) {
    let mut wait = shared.every;
    let mut last_mtime = None;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let began = Instant::now();
        let health = match refresh(shared, pulse, &mut last_mtime) {
            Ok(()) => shared.saw(Sight::Good, began, None),
            Err((sight, trouble)) => shared.saw(sight, began, Some(trouble)),
        };
        wait = match health {
            Health::Healthy => shared.every,
            // A transient is over soon; there is not much time until the limit.
            Health::Degraded => shared.every / 4,
            Health::Lost => return,
        };
    }
}

/// One beat: refresh one's own file, then see whether it still is the lock's.
fn refresh(
    shared: &Shared,
    pulse: &Pulse,
    last_mtime: &mut Option<(i64, i64)>,
) -> Result<(), (Sight, Trouble)> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    futimens(&pulse.file, &times)
        .map_err(|errno| (Sight::Failed, Trouble::of_error(shared, "utimes", &errno.into())))?;
    let meta = match fs::symlink_metadata(&pulse.beat) {
        Ok(meta) => meta,
        Err(error) => {
            let trouble = Trouble::of_error(shared, "stat", &error);
            let sight =
                if trouble.cause == Cause::Missing { Sight::NotMine } else { Sight::Failed };
            return Err((sight, trouble));
        }
    };
    if Identity::of(&meta) != pulse.identity {
        let trouble = Trouble::new(shared, "stat", Cause::Replaced, None);
        return Err((Sight::NotMine, trouble));
    }
    let mtime = (meta.mtime(), meta.mtime_nsec());
    let has_moved = last_mtime.replace(mtime) != Some(mtime);
    if has_moved || is_coarse_and_fresh(mtime) {
        Ok(())
    } else {
        Err((Sight::Failed, Trouble::new(shared, "utimes", Cause::Frozen, None)))
    }
}

/// A file system with timestamps of one or two seconds shows the same one for that long.
fn is_coarse_and_fresh((seconds, nanos): (i64, i64)) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    nanos == 0 && (now - seconds).abs() <= 2
}

fn watch(shared: &Shared, stopped: &Receiver<()>) {
    loop {
        let (health, left) = shared.health();
        if health == Health::Lost {
            return;
        }
        // At least a millisecond, so that rounding does not make it spin.
        let wait = left.max(Duration::from_millis(1));
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let (_, left) = shared.health();
        if left.is_zero() {
            shared.saw(Sight::Nothing, Instant::now(), None);
        }
    }
}

/// The beat file of a lock.
pub(crate) fn beat_file(lock: &Path) -> PathBuf {
    lock.join("beat")
}
