//! Which errno a local file system really gives for which operation.
//!
//! A row is what is known of Linux' local file systems (tmpfs, ext4, xfs, btrfs), measured or
//! from the manual pages, section 2. What is not in the table may be meant, but then the author
//! says `realism = "synthetic"`.
//!
//! `utimensat` never failed on any full or over-quota local file system: a lock that beats by
//! it meets ENOSPC and EDQUOT only on overlayfs copy-up, on a network or on a FUSE mount.

use super::{Effect, Rule};
use crate::op::{Errno, OpKind};

/// What any use of a path can meet.
const PATH: &[&str] =
    &["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG", "EIO", "ENOMEM", "EINTR"];
/// What a change meets besides, on a file system that is read-only or a file that is not ours.
const CHANGE: &[&str] = &["EROFS", "EPERM"];
/// What a change that needs room meets besides.
const ROOM: &[&str] = &["ENOSPC", "EDQUOT"];
/// What the use of a descriptor can meet.
const DESCRIPTOR: &[&str] = &["EIO", "EBADF", "EINTR", "ENOMEM"];

/// The groups of errnos that are known for an operation, and the ones of its own.
fn known(kind: OpKind) -> (&'static [&'static [&'static str]], &'static [&'static str]) {
    match kind {
        OpKind::Utimes => (
            &[],
            &["EROFS", "EIO", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"],
        ),
        OpKind::Write => (&[DESCRIPTOR, ROOM, CHANGE], &["EFBIG", "EAGAIN"]),
        OpKind::Truncate => {
            (&[PATH, CHANGE, ROOM], &["EISDIR", "EFBIG", "ETXTBSY", "EBADF", "EINVAL"])
        }
        OpKind::Create => {
            (&[PATH, CHANGE, ROOM], &["EEXIST", "EISDIR", "EMFILE", "ENFILE", "ETXTBSY"])
        }
        OpKind::Open => {
            (&[PATH, CHANGE], &["EISDIR", "EMFILE", "ENFILE", "ETXTBSY", "EWOULDBLOCK", "ENXIO"])
        }
        OpKind::Mkdir => (&[PATH, CHANGE, ROOM], &["EEXIST", "EMLINK"]),
        OpKind::Rename => (
            &[PATH, CHANGE, ROOM],
            &["EEXIST", "EISDIR", "ENOTEMPTY", "EXDEV", "EBUSY", "EINVAL", "EMLINK"],
        ),
        OpKind::Link => (&[PATH, CHANGE, ROOM], &["EEXIST", "EMLINK", "EXDEV"]),
        OpKind::Symlink => (&[PATH, CHANGE, ROOM], &["EEXIST"]),
        OpKind::Unlink => (&[PATH, CHANGE, ROOM], &["EISDIR", "EBUSY"]),
        OpKind::Rmdir => (&[PATH, CHANGE, ROOM], &["ENOTEMPTY", "EEXIST", "EBUSY", "EINVAL"]),
        OpKind::Stat => (&[PATH], &["EBADF", "EOVERFLOW"]),
        OpKind::Read => (&[DESCRIPTOR], &["EISDIR", "EAGAIN"]),
        OpKind::Readdir => (&[DESCRIPTOR], &["ENOENT", "ENOTDIR"]),
        OpKind::Chmod | OpKind::Chown => (&[PATH, CHANGE, ROOM], &["EBADF"]),
        OpKind::Fsync => (&[DESCRIPTOR, ROOM], &["EROFS"]),
        OpKind::Close => (&[DESCRIPTOR, ROOM], &[]),
        OpKind::Flock => (&[], &["EWOULDBLOCK", "EINTR", "ENOLCK", "EBADF"]),
        OpKind::FcntlLock => (&[], &["EAGAIN", "EACCES", "EDEADLK", "EINTR", "ENOLCK", "EBADF"]),
        OpKind::Statfs => (&[PATH], &["EBADF", "EOVERFLOW"]),
        OpKind::Thread => (&[], &["EAGAIN", "ENOMEM"]),
        OpKind::Lookup | OpKind::Other => (&[], &[]),
    }
}

/// Whether a local file system is known to give `errno` for `kind`.
#[must_use]
pub fn is_real(kind: OpKind, errno: Errno) -> bool {
    let (groups, own) = known(kind);
    let mut names = groups.iter().flat_map(|group| group.iter()).chain(own);
    names.any(|name| Errno::named(name) == Some(errno))
}

/// What a reader should know where a fault does what no local file system is known to do, and
/// its author does not say that this is meant.
///
/// A `refresh` is judged as `utimes`, the common way to beat, and the stricter one.
#[must_use]
pub fn warning(rule: &Rule) -> Option<String> {
    let Effect::Error { errno, .. } = rule.effect else { return None };
    if rule.synthetic {
        return None;
    }
    let beat = rule.ops.refresh.then_some(OpKind::Utimes);
    let mut kinds = beat.into_iter().chain(rule.ops.kinds.iter().copied());
    let kind = kinds.find(|kind| !is_real(*kind, errno))?;
    let (groups, own) = known(kind);
    let real: Vec<&str> =
        groups.iter().flat_map(|group| group.iter()).chain(own).copied().collect();
    let what =
        if rule.ops.refresh && kind == OpKind::Utimes { "a beat by utimes" } else { kind.as_str() };
    Some(format!(
        "fault {}: no local file system is known to give {errno} for {what}\n(hint: real errnos \
         there: {}; set `realism = \"synthetic\"` to say that it is meant)",
        rule.number,
        real.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::fault::{Ops, Target, Times};
    use crate::moment::Moment;
    use crate::role::Who;

    fn rule(ops: Ops, errno: &str, synthetic: bool) -> Rule {
        let errno = Errno::named(errno).unwrap();
        Rule {
            number: 1,
            who: Who::Any,
            on: Target::Heartbeat,
            ops,
            effect: Effect::Error { errno, apply: false },
            from: Moment::START,
            until: None,
            times: Times::All,
            synthetic,
        }
    }

    /// Every cell of FACTS part 1 that is an errno of a file system, not of a permission.
    #[rstest]
    #[case(OpKind::Utimes, &["EROFS", "EACCES", "EPERM", "EIO", "ENOENT"], &["ENOSPC", "EDQUOT"])]
    #[case(OpKind::Write, &["ENOSPC", "EDQUOT", "EIO", "EROFS"], &["EEXIST"])]
    #[case(OpKind::Create, &["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO"], &["ESTALE"])]
    #[case(OpKind::Rename, &["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO"], &[])]
    #[case(OpKind::Mkdir, &["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO"], &[])]
    #[case(OpKind::Link, &["ENOSPC", "EDQUOT", "EROFS", "EPERM", "EIO"], &[])]
    #[case(OpKind::Thread, &["EAGAIN"], &["EIO"])]
    fn the_table_knows_what_was_measured(
        #[case] kind: OpKind,
        #[case] real: &[&str],
        #[case] unreal: &[&str],
    ) {
        for name in real {
            assert!(is_real(kind, Errno::named(name).unwrap()), "{name}");
        }
        for name in unreal {
            assert!(!is_real(kind, Errno::named(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn every_name_of_the_table_is_an_errno() {
        for kind in OpKind::ALL {
            let (groups, own) = known(*kind);
            for name in groups.iter().flat_map(|group| group.iter()).chain(own) {
                assert!(Errno::named(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn an_unreal_errno_is_warned_of_unless_it_is_meant() {
        let refresh = || Ops { refresh: true, kinds: Vec::new() };
        insta::assert_snapshot!(warning(&rule(refresh(), "ENOSPC", false)).unwrap(), @r#"
        fault 1: no local file system is known to give ENOSPC for a beat by utimes
        (hint: real errnos there: EROFS, EIO, EACCES, EPERM, ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG; set `realism = "synthetic"` to say that it is meant)
        "#);
        assert_eq!(warning(&rule(refresh(), "ENOSPC", true)), None);
        assert_eq!(warning(&rule(refresh(), "EIO", false)), None);
        let stat = Ops { refresh: false, kinds: vec![OpKind::Write, OpKind::Stat] };
        assert!(warning(&rule(stat, "ENOSPC", false)).unwrap().contains("for stat"));
    }
}
