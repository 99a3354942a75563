//! Linux errnos by name.

use std::fmt;

use crate::op::Errno;

macro_rules! errnos {
    ($($name:ident),+ $(,)?) => {
        /// Every errno of Linux, in the order of their numbers on most machines.
        const TABLE: &[(&str, i32)] = &[$((stringify!($name), libc::$name)),+];
    };
}

errnos! {
    EPERM, ENOENT, ESRCH, EINTR, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM,
    EACCES, EFAULT, ENOTBLK, EBUSY, EEXIST, EXDEV, ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE,
    EMFILE, ENOTTY, ETXTBSY, EFBIG, ENOSPC, ESPIPE, EROFS, EMLINK, EPIPE, EDOM, ERANGE,
    EDEADLK, ENAMETOOLONG, ENOLCK, ENOSYS, ENOTEMPTY, ELOOP, ENOMSG, EIDRM, ECHRNG,
    EL2NSYNC, EL3HLT, EL3RST, ELNRNG, EUNATCH, ENOCSI, EL2HLT, EBADE, EBADR, EXFULL, ENOANO,
    EBADRQC, EBADSLT, EBFONT, ENOSTR, ENODATA, ETIME, ENOSR, ENONET, ENOPKG, EREMOTE,
    ENOLINK, EADV, ESRMNT, ECOMM, EPROTO, EMULTIHOP, EDOTDOT, EBADMSG, EOVERFLOW, ENOTUNIQ,
    EBADFD, EREMCHG, ELIBACC, ELIBBAD, ELIBSCN, ELIBMAX, ELIBEXEC, EILSEQ, ERESTART,
    ESTRPIPE, EUSERS, ENOTSOCK, EDESTADDRREQ, EMSGSIZE, EPROTOTYPE, ENOPROTOOPT,
    EPROTONOSUPPORT, ESOCKTNOSUPPORT, EOPNOTSUPP, EPFNOSUPPORT, EAFNOSUPPORT, EADDRINUSE,
    EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENETRESET, ECONNABORTED, ECONNRESET, ENOBUFS,
    EISCONN, ENOTCONN, ESHUTDOWN, ETOOMANYREFS, ETIMEDOUT, ECONNREFUSED, EHOSTDOWN,
    EHOSTUNREACH, EALREADY, EINPROGRESS, ESTALE, EUCLEAN, ENOTNAM, ENAVAIL, EISNAM,
    EREMOTEIO, EDQUOT, ENOMEDIUM, EMEDIUMTYPE, ECANCELED, ENOKEY, EKEYEXPIRED, EKEYREVOKED,
    EKEYREJECTED, EOWNERDEAD, ENOTRECOVERABLE, ERFKILL, EHWPOISON,
}

/// Second names of errnos of the table.
const ALIASES: &[(&str, i32)] = &[
    ("EWOULDBLOCK", libc::EWOULDBLOCK),
    ("EDEADLOCK", libc::EDEADLOCK),
    ("ENOTSUP", libc::ENOTSUP),
];

impl Errno {
    /// The errno that is called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Errno> {
        let mut all = TABLE.iter().chain(ALIASES);
        all.find(|(known, _)| *known == name).map(|(_, number)| Errno(*number))
    }

    /// Its name; `None` for a number that Linux does not use.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        TABLE.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        TABLE.iter().chain(ALIASES).map(|(name, _)| *name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_number_and_back() {
        for (name, number) in TABLE {
            assert_eq!(Errno::named(name), Some(Errno(*number)));
            assert_eq!(Errno(*number).name(), Some(*name));
        }
        assert_eq!(Errno::named("ENOTSUP").and_then(Errno::name), Some("EOPNOTSUPP"));
        assert_eq!(Errno::named("enospc"), None);
        assert_eq!(Errno(9999).to_string(), "errno 9999");
    }
}
