//! The lock, held.

use std::fs;
use std::io;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use deadbeat_kit::{Guard, Notice};

use crate::beat::{Beats, Settings};
use crate::bugs::Bug;
use crate::recovery::Inside;
use crate::take::Placed;

/// How long giving back may take.
const RELEASE_WAIT: Duration = Duration::from_secs(1);
/// How long a release that failed waits before it tries again.
const RETRY: Duration = Duration::from_millis(10);

/// The lock, held and refreshed.
#[derive(Debug)]
pub(crate) struct Held {
    placed: Placed,
    beats: Beats,
    token: Option<u64>,
    settings: Settings,
}

impl Held {
    pub(crate) fn new(
        placed: Placed,
        beats: Beats,
        token: Option<u64>,
        settings: Settings,
    ) -> Held {
        Held { placed, beats, token, settings }
    }
}

impl Guard for Held {
    fn token(&self) -> Option<u64> {
        self.token
    }

    fn next_notice(&self, patience: Duration) -> Option<Notice> {
        self.beats.next(patience)
    }

    fn may_write(&self) -> bool {
        self.beats.is_covered()
    }

    fn release(self) -> Result<(), String> {
        self.beats.end();
        let Held { placed, settings, .. } = self;
        let (done, released) = channel();
        // A file system that hangs must not make this hang.
        let work = move || {
            let _ = done.send(give_back(&placed, settings));
        };
        let spawned = std::thread::Builder::new().name("release".to_owned()).spawn(work);
        spawned.map_err(|error| error.to_string())?;
        let wait = RELEASE_WAIT + RELEASE_WAIT / 4;
        released.recv_timeout(wait).unwrap_or_else(|_| Err("it did not return in time".to_owned()))
    }
}

/// Takes the lock away inside the recovery lock, if it is one's own.
fn give_back(placed: &Placed, settings: Settings) -> Result<(), String> {
    if settings.bugs.has(Bug::ReleasesBlindly) {
        return fs::remove_dir_all(&placed.lock).map_err(|error| error.to_string());
    }
    let deadline = Instant::now() + RELEASE_WAIT;
    loop {
        let result = try_to_give_back(placed, settings, deadline);
        match result {
            Ok(true) => {
                placed.discard();
                return Ok(());
            }
            Ok(false) => return Err("it is gone, or another's; nothing was touched".to_owned()),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

fn try_to_give_back(placed: &Placed, settings: Settings, deadline: Instant) -> io::Result<bool> {
    let inside = Inside::enter(&placed.lock, settings.stale, settings.bugs, deadline)?;
    let Some(_inside) = inside else {
        return Err(io::Error::other("others were taking it all the time"));
    };
    placed.take_away()
}
