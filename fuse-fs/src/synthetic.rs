//! The file that is not on the backing: what is written to it goes to the caller.
//!
//! Never ruled on, never full, no permissions, always empty. Locks, extended attributes and
//! mappings of it are refused: it is for write(2) alone. Names that the caller hides are kept out
//! of clients' hands here, too.

use std::ffi::OsStr;

use rustix::fs::{AtFlags, statat};

use crate::api::{Errno, Ruler};
use crate::backing::{Backing, Request, SYNTHETIC, SYNTHETIC_INO};
use crate::wire::{Body, FOPEN_DIRECT_IO, ROOT, Writer};

const MODE: u32 = libc::S_IFREG | 0o666;

/// The answer to a request about the synthetic file, or one that would give or take its name;
/// `None` for all others.
pub(crate) fn answer(
    backing: &Backing,
    request: &Request<'_>,
    ruler: &mut dyn Ruler,
) -> Option<Result<Vec<u8>, Errno>> {
    if request.header.node == SYNTHETIC {
        return on_the_file(backing, request, ruler);
    }
    if let Body::Link { node: SYNTHETIC, .. } = request.body {
        return Some(Err(Errno(libc::EPERM)));
    }
    let is_synthetic = |folder: u64, name: &OsStr| {
        folder == ROOT && backing.options.synthetic.as_deref() == Some(name)
    };
    let node = request.header.node;
    match request.body {
        Body::Lookup { name } if is_synthetic(node, name) => Some(entry(backing)),
        Body::Create { name, flags, .. } if is_synthetic(node, name) => {
            let is_exclusive = flags.cast_signed() & libc::O_EXCL != 0;
            let made = if is_exclusive { Err(Errno(libc::EEXIST)) } else { entry(backing) };
            Some(made.map(|body| {
                let mut body = Writer(body);
                body.opened(0, FOPEN_DIRECT_IO);
                body.0
            }))
        }
        Body::MkDir { name, .. }
        | Body::MkNod { name, .. }
        | Body::Symlink { name, .. }
        | Body::Link { name, .. }
            if is_synthetic(node, name) =>
        {
            Some(Err(Errno(libc::EEXIST)))
        }
        Body::Unlink { name } | Body::RmDir { name } if is_synthetic(node, name) => {
            Some(Err(Errno(libc::EPERM)))
        }
        Body::Rename { folder, name, to, .. }
            if is_synthetic(node, name) || is_synthetic(folder, to) =>
        {
            Some(Err(Errno(libc::EPERM)))
        }
        _ => hidden(request, ruler),
    }
}

/// A name in the root that the caller hides is not there, and cannot be made.
fn hidden(request: &Request<'_>, ruler: &mut dyn Ruler) -> Option<Result<Vec<u8>, Errno>> {
    let node = request.header.node;
    let refuse = |folder: u64, name: &OsStr, errno: i32| {
        (folder == ROOT && ruler.hidden(name)).then_some(Err(Errno(errno)))
    };
    match request.body {
        Body::Lookup { name } | Body::Unlink { name } | Body::RmDir { name } => {
            refuse(node, name, libc::ENOENT)
        }
        Body::Create { name, .. }
        | Body::MkDir { name, .. }
        | Body::MkNod { name, .. }
        | Body::Symlink { name, .. }
        | Body::Link { name, .. } => refuse(node, name, libc::EACCES),
        Body::Rename { folder, name, to, .. } => {
            refuse(node, name, libc::ENOENT).or_else(|| refuse(folder, to, libc::EACCES))
        }
        _ => None,
    }
}

fn on_the_file(
    backing: &Backing,
    request: &Request<'_>,
    ruler: &mut dyn Ruler,
) -> Option<Result<Vec<u8>, Errno>> {
    let mut body = Writer::default();
    match request.body {
        Body::GetAttr { .. } | Body::SetAttr(_) => match stat(backing) {
            Ok(stat) => {
                body.attributes(&stat);
            }
            Err(errno) => return Some(Err(errno)),
        },
        Body::Open { .. } => {
            body.opened(0, FOPEN_DIRECT_IO);
        }
        Body::Write { data, .. } => {
            if let Err(errno) = ruler.append(request.mount, request.caller(), data) {
                return Some(Err(errno));
            }
            body.u32(u32::try_from(data.len()).expect("a write is at most a payload")).u32(0);
        }
        Body::Read { .. }
        | Body::Flush { .. }
        | Body::Release { .. }
        | Body::Fsync { .. }
        | Body::Access { .. } => {}
        Body::GetLock(_) | Body::SetLock { .. } => return Some(Err(Errno(libc::ENOLCK))),
        // Of the file system, not of the file.
        Body::StatFs => return None,
        _ => return Some(Err(Errno(libc::EOPNOTSUPP))),
    }
    Some(Ok(body.0))
}

fn entry(backing: &Backing) -> Result<Vec<u8>, Errno> {
    let mut body = Writer::default();
    body.entry(SYNTHETIC, &stat(backing)?);
    Ok(body.0)
}

/// Owner and times are those of the root, for want of better ones.
fn stat(backing: &Backing) -> Result<rustix::fs::Stat, Errno> {
    let root = backing.nodes.file(ROOT).expect("the root always lives");
    let mut stat = statat(root, c"", AtFlags::EMPTY_PATH)?;
    stat.st_ino = SYNTHETIC_INO;
    stat.st_mode = MODE;
    stat.st_nlink = 1;
    stat.st_size = 0;
    stat.st_blocks = 0;
    Ok(stat)
}
