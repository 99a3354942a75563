//! Why a beat failed, in words that tell people what to do about it, and the line that says so.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::files::Space;

/// Why a beat failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// ENOSPC, and blocks are what is used up, or the file system does not say.
    NoBlocks,
    /// ENOSPC, and inodes are what is used up.
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
    /// The lock, its record or its beat file is gone.
    Missing,
    /// Another file is in its place.
    Replaced,
    /// The beat did not return in time, or no thread ran that could have made it.
    Hung,
    /// The beat returned, and the time on disk did not move.
    Frozen,
    /// The machine was suspended, and no beat was made since.
    Suspended,
    /// Any other error, by its number.
    Other(i32),
}

impl Cause {
    /// From an error number, and what statvfs(3) showed of the file system.
    ///
    /// | errno | inodes in all | free inodes | free bytes | cause |
    /// |---|---|---|---|---|
    /// | ENOSPC | > 0 | 0 | > 0 | no inodes |
    /// | ENOSPC | > 0 | 0 | 0 | no blocks: both are used up, and bytes are the usual reason |
    /// | ENOSPC | > 0 | > 0 | any | no blocks |
    /// | ENOSPC | 0 (btrfs has no such number) | any | any | no blocks |
    /// | ENOSPC | statvfs failed | | | no blocks |
    /// | any other | | | | by its own number |
    pub(crate) fn of(errno: i32, space: Option<Space>) -> Cause {
        match errno {
            libc::ENOSPC => match space {
                Some(Space { inodes: 1.., free_inodes: 0, free_bytes: 1.. }) => Cause::NoInodes,
                _ => Cause::NoBlocks,
            },
            libc::EDQUOT => Cause::Quota,
            libc::EIO => Cause::Io,
            libc::EROFS => Cause::ReadOnly,
            libc::EACCES => Cause::Access,
            libc::EPERM => Cause::NotPermitted,
            libc::ENOENT | libc::ENOTDIR => Cause::Missing,
            other => Cause::Other(other),
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
            Cause::Suspended => "suspended",
            Cause::Other(_) => "other",
        }
    }
}

/// A failed beat, with everything that a person needs to find out why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// What kind of failure.
    pub cause: Cause,
    /// The lock.
    pub lock: PathBuf,
    /// The file that the beat refreshes.
    pub beat: PathBuf,
    /// What failed, or did not return.
    pub operation: &'static str,
    /// With which error, if it returned one.
    pub errno: Option<i32>,
    /// Free bytes of the file system, if it says so.
    pub free_bytes: Option<u64>,
    /// Free inodes of the file system, if it says so; 0 on one that has no such number (btrfs).
    pub free_inodes: Option<u64>,
}

impl Trouble {
    /// As keys and values, for a structured log.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("op", self.operation.to_owned()),
            ("path", self.beat.display().to_string()),
            ("lock", self.lock.display().to_string()),
            ("cause", self.cause.as_str().to_owned()),
        ];
        if let Some(errno) = self.errno {
            fields.push(("errno", errno_name(errno)));
        }
        let or_unknown = |number: Option<u64>| {
            number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
        };
        fields.push(("free-bytes", or_unknown(self.free_bytes)));
        fields.push(("free-inodes", or_unknown(self.free_inodes)));
        fields
    }
}

/// One line, `key=value`; a value with anything but plain characters in it is quoted.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("heartbeat")?;
        self.fields().iter().try_for_each(|(key, value)| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@".contains(c);
            if !value.is_empty() && value.chars().all(is_plain) {
                write!(f, " {key}={value}")
            } else {
                write!(f, " {key}={value:?}")
            }
        })
    }
}

/// `ENOSPC`; `errno 4095` where the number has no name here.
fn errno_name(errno: i32) -> String {
    let named = ERRNOS.iter().find(|(number, _)| *number == errno);
    named.map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}

/// What an error says, without the number that [`io::Error`] adds.
pub(crate) fn error_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            format!("{} ({text})", errno_name(errno))
        }
        None => error.to_string(),
    }
}

macro_rules! errnos {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// What operations on files answer with (errno(3)).
const ERRNOS: &[(i32, &str)] = errnos! {
    E2BIG EACCES EAGAIN EBADF EBUSY ECONNREFUSED ECONNRESET EDEADLK EDQUOT EEXIST EFAULT EFBIG
    EHOSTDOWN EHOSTUNREACH EINTR EINVAL EIO EISDIR EKEYEXPIRED EKEYREVOKED ELOOP EMFILE EMLINK
    ENAMETOOLONG ENETDOWN ENETUNREACH ENFILE ENODATA ENODEV ENOENT ENOKEY ENOLCK ENOLINK ENOMEM
    ENOSPC ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTO
    ERANGE EREMOTEIO EROFS ESHUTDOWN ESPIPE ESRCH ESTALE ETIMEDOUT ETXTBSY EUCLEAN EUSERS EXDEV
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trouble(lock: &str) -> Trouble {
        Trouble {
            cause: Cause::NoBlocks,
            lock: lock.into(),
            beat: format!("{lock}/beat").into(),
            operation: "utimes",
            errno: Some(libc::ENOSPC),
            free_bytes: Some(0),
            free_inodes: None,
        }
    }

    #[test]
    fn a_trouble_is_one_line_of_keys_and_values() {
        assert_eq!(
            trouble("/srv/a.lock").to_string(),
            "heartbeat op=utimes path=/srv/a.lock/beat lock=/srv/a.lock cause=no-blocks \
             errno=ENOSPC free-bytes=0 free-inodes=unknown"
        );
        let odd = trouble("/srv/a \"b\"\nc").to_string();
        assert_eq!(odd.lines().count(), 1);
        assert!(odd.contains(r#"lock="/srv/a \"b\"\nc""#), "{odd}");
    }

    #[test]
    fn each_errno_that_the_runbook_names_has_a_cause_of_its_own() {
        let rows = [
            (libc::EDQUOT, Cause::Quota),
            (libc::EIO, Cause::Io),
            (libc::EROFS, Cause::ReadOnly),
            (libc::EACCES, Cause::Access),
            (libc::EPERM, Cause::NotPermitted),
            (libc::ENOENT, Cause::Missing),
            (libc::ENOTDIR, Cause::Missing),
            (libc::ESTALE, Cause::Other(libc::ESTALE)),
        ];
        for (errno, cause) in rows {
            assert_eq!(Cause::of(errno, None), cause);
        }
        assert_eq!(
            error_text(&io::Error::from_raw_os_error(libc::EIO)),
            "EIO (Input/output error)"
        );
        assert_eq!(errno_name(4095), "errno 4095");
    }

    proptest! {
        /// Each row of the table about ENOSPC.
        #[test]
        fn blocks_and_inodes_are_told_apart(
            inodes in 0u64..3, free_inodes in 0u64..3, free_bytes in 0u64..3, says in any::<bool>(),
        ) {
            let space = says.then_some(Space { inodes, free_inodes, free_bytes });
            let is_inodes = says && inodes > 0 && free_inodes == 0 && free_bytes > 0;
            let cause = if is_inodes { Cause::NoInodes } else { Cause::NoBlocks };
            prop_assert_eq!(Cause::of(libc::ENOSPC, space), cause);
        }

        #[test]
        fn whatever_a_path_holds_the_line_is_one(lock in ".{0,40}") {
            prop_assert_eq!(trouble(&lock).to_string().lines().count(), 1);
        }
    }
}
