//! Fencing tokens: each higher than every one before it, also after a crash.
//!
//! The last token is in `resource.lock.token`, and is drawn under the recovery lock, so no two
//! draw at once. The order, and what a crash of the process or the machine after each step leaves:
//!
//! 1. read the last token: nothing has changed
//! 2. write the next one to `.token.new`, read it back, and fsync it: the old file still counts, and
//!    nobody has seen the next token
//! 3. rename it to `.token`: a process that crashes here has used up a number, no more. A machine
//!    that crashes may come back with the old file, but nobody has seen the new token either
//! 4. fsync the folder: from here on the new file outlives the machine
//! 5. only now the token is given out
//!
//! So a token that anybody has seen is on disk. The floor is the token in the record of the lock
//! that is being cleared, for the case that somebody removed the token file alone. If all of that is
//! lost, the clock takes its place: a token is never below the time in microseconds. A file that
//! was lost together with the lock, *and* a clock that went back, is the one case that is not
//! covered.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::files::{beside, open_warily, parent, present, sync_folder};
use crate::recovery::Recovery;

/// `token=`, twenty digits, which hold every u64, and a line break.
const LENGTH: usize = 27;

/// Draws the next token, higher than `floor` as well.
pub(crate) fn draw(lock: &Path, floor: u64, _inside: &Recovery) -> io::Result<u64> {
    let path = beside(lock, "token");
    let token = next(read(&path)?, floor, clock())
        .ok_or_else(|| io::Error::other("the tokens are used up"))?;
    let new = beside(lock, "token.new");
    let text = to_text(token);
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    if read(&new)? != Some(token) {
        return Err(io::Error::other("the new token does not read back"));
    }
    fs::rename(&new, &path)?;
    sync_folder(&fs::File::open(parent(lock))?)?;
    Ok(token)
}

/// Above everything that is known; `None` if there is no such number.
fn next(last: Option<u64>, floor: u64, clock: u64) -> Option<u64> {
    Some(last.unwrap_or(0).max(floor).checked_add(1)?.max(clock))
}

fn to_text(token: u64) -> String {
    format!("token={token:020}\n")
}

/// The token in a file; `None` if there is no file, or no whole token in it.
fn read(path: &Path) -> io::Result<Option<u64>> {
    let Some(file) = present(open_warily(path))? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let digits = bytes.strip_prefix(b"token=").and_then(|rest| rest.strip_suffix(b"\n"));
    Ok(digits
        .filter(|_| bytes.len() == LENGTH)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok()))
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn draw_soon(lock: &Path, floor: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(20);
        let inside = Recovery::enter(lock, deadline).unwrap().unwrap();
        draw(lock, floor, &inside).unwrap()
    }

    #[test]
    fn tokens_rise_whatever_happens_to_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let path = beside(&lock, "token");
        let far = draw_soon(&lock, u64::MAX / 2);
        assert!(far > u64::MAX / 2);
        assert_eq!(draw_soon(&lock, 0), far + 1, "the file counts, not only the clock");
        let mut last = far + 1;
        for damage in ["", "junk", "token=1\n", "token=00000000000000000001\n", "token=0000000"] {
            fs::write(&path, damage).unwrap();
            let is_whole = damage.len() == LENGTH;
            assert_eq!(read(&path).unwrap(), is_whole.then_some(1), "{damage:?}");
            // The record of the lock that is cleared is the floor then.
            let token = draw_soon(&lock, last);
            assert!(token > last, "{damage:?}");
            last = token;
        }
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_token() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let first = draw_soon(&lock, u64::MAX / 2);
        for half_written in ["", "token=000", &to_text(first + 100)] {
            fs::write(beside(&lock, "token.new"), half_written).unwrap();
            let before = read(&beside(&lock, "token")).unwrap().unwrap();
            assert_eq!(draw_soon(&lock, 0), before + 1);
        }
        assert!(!beside(&lock, "token.new").exists());
    }

    #[test]
    fn when_the_numbers_end_no_token_is_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        assert_eq!(draw_soon(&lock, u64::MAX - 1), u64::MAX);
        let inside = Recovery::enter(&lock, Instant::now()).unwrap().unwrap();
        assert!(draw(&lock, 0, &inside).is_err());
    }

    #[test]
    fn two_takers_never_draw_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("l");
        let draw_some = || -> Vec<u64> { (0..20).map(|_| draw_soon(&lock, 0)).collect() };
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(draw_some)).collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 80);
    }

    proptest! {
        #[test]
        fn the_next_token_is_above_everything_that_is_known(
            last in any::<Option<u64>>(), floor in any::<u64>(), clock in 0..u64::MAX,
        ) {
            match next(last, floor, clock) {
                Some(token) => {
                    prop_assert!(token > floor && last.is_none_or(|last| token > last));
                    prop_assert!(token >= clock);
                }
                None => prop_assert!(floor == u64::MAX || last == Some(u64::MAX)),
            }
        }

        #[test]
        fn a_token_reads_back_and_a_torn_one_is_none(token in any::<u64>(), cut in 0..LENGTH) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("t");
            fs::write(&path, to_text(token)).unwrap();
            prop_assert_eq!(read(&path).unwrap(), Some(token));
            fs::write(&path, &to_text(token)[..cut]).unwrap();
            prop_assert_eq!(read(&path).unwrap(), None);
        }
    }
}
