//! Fencing tokens: each higher than every one before it, also after a crash.
//!
//! The last token is in a file beside the lock, rewritten in place under flock(2) with a fixed
//! width, so that a full disk does not stop it and a crash does not tear it. If the file is lost
//! with its folder, the clock takes its place: a token is never below the time in microseconds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::files::{Flocked, flock_until};

/// Twenty digits hold every u64; the line break makes it readable.
const WIDTH: usize = 21;

/// Draws the next token.
///
/// # Errors
/// The file could not be locked before `deadline`, read or written.
pub(crate) fn next(path: &Path, deadline: Instant) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let file = flock_until(file, deadline)?;
    let token = read(&file)?.saturating_add(1).max(clock());
    let text = format!("{token:020}\n");
    file.file().write_all_at(text.as_bytes(), 0)?;
    Ok(token)
}

fn read(file: &Flocked) -> io::Result<u64> {
    let mut bytes = [0; WIDTH];
    let mut length = 0;
    while length < WIDTH {
        match read_at(file.file(), &mut bytes[length..], length)? {
            0 => break,
            count => length += count,
        }
    }
    let text = String::from_utf8_lossy(&bytes[..length]);
    // An empty or foreign file holds no token; the clock is the floor then.
    Ok(text.trim().parse().unwrap_or(0))
}

fn read_at(file: &File, bytes: &mut [u8], at: usize) -> io::Result<usize> {
    file.read_at(bytes, at as u64)
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_rise_whatever_happens_to_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let next = || next(&path, Instant::now() + Duration::from_secs(5)).unwrap();
        let mut last = next();
        for damage in [None, Some(""), Some("junk"), Some("00000000000000000001\n")] {
            if let Some(text) = damage {
                std::fs::write(&path, text).unwrap();
            }
            let token = next();
            assert!(token > last, "{damage:?}");
            last = token;
        }
        std::fs::remove_file(&path).unwrap();
        // Without its file only the clock keeps tokens rising, so it has to have moved on.
        while clock() <= last {
            std::hint::spin_loop();
        }
        assert!(next() > last);
    }

    #[test]
    fn two_takers_never_draw_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let draw = || -> Vec<u64> {
            let until = Instant::now() + Duration::from_secs(20);
            (0..100).map(|_| next(&path, until).unwrap()).collect()
        };
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 400);
    }
}
