//! The FUSE protocol, 7.38: requests are read from bytes, replies are bytes.
//!
//! ```text
//! request:  len u32 | opcode u32 | unique u64 | nodeid u64 | uid u32 | gid u32 | pid u32 | ext u32
//!           then the body of the opcode, then names, each ended by a zero byte
//! reply:    len u32 | error i32 (negative or 0) | unique u64 | body
//! ```
//!
//! All numbers are in the machine's own byte order (`/usr/include/linux/fuse.h`). Only bytes: no
//! file is touched, and no request, however broken, makes this panic.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Stat;

/// Bytes of a reply's header.
pub(crate) const REPLY_HEADER_BYTES: usize = 16;
/// The most that one write or read carries.
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;
/// What one read of the device can give: a payload and what is in front of it.
pub(crate) const REQUEST_MAX: usize = PAYLOAD_MAX + 4096;

/// Protocol version that is spoken; the kernel adapts to an older minor.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 38;
/// The oldest kernel that is served (Linux 5.7): earlier ones have other layouts.
pub(crate) const MINOR_MIN: u32 = 31;

pub(crate) const ROOT: u64 = 1;

pub(crate) mod init {
    //! FUSE_INIT flags.
    pub(crate) const POSIX_LOCKS: u64 = 1 << 1;
    pub(crate) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const FLOCK_LOCKS: u64 = 1 << 10;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    pub(crate) const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
}

pub(crate) mod fattr {
    //! What a SETATTR sets.
    pub(crate) const MODE: u32 = 1;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const FH: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
}

/// FOPEN_DIRECT_IO: every read and write comes here.
pub(crate) const FOPEN_DIRECT_IO: u32 = 1;
/// FUSE_GETATTR_FH: the request names a handle.
const GETATTR_FH: u32 = 1;
/// FUSE_LK_FLOCK: flock(2), not fcntl(2).
const LK_FLOCK: u32 = 1;
/// FUSE_WRITE_CACHE: write-back of a mapped page, not a write(2).
const WRITE_CACHE: u32 = 1;
/// FUSE_FSYNC_FDATASYNC.
const FSYNC_DATA: u32 = 1;

/// What stands before every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
}

/// A range lock as the protocol has it: the end is inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) handle: u64,
    pub(crate) owner: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// F_RDLCK, F_WRLCK or F_UNLCK.
    pub(crate) kind: u32,
    pub(crate) pid: u32,
    pub(crate) is_flock: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetAttr {
    pub(crate) valid: u32,
    pub(crate) handle: u64,
    pub(crate) size: u64,
    pub(crate) atime: i64,
    pub(crate) mtime: i64,
    pub(crate) atime_nanos: u32,
    pub(crate) mtime_nanos: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Init {
        major: u32,
        minor: u32,
        readahead: u32,
        flags: u64,
    },
    Destroy,
    Interrupt {
        unique: u64,
    },
    Forget {
        lookups: u64,
    },
    /// 16 bytes for each: node, lookups.
    BatchForget {
        list: &'a [u8],
    },
    Lookup {
        name: &'a OsStr,
    },
    GetAttr {
        handle: Option<u64>,
    },
    SetAttr(SetAttr),
    Access {
        mask: u32,
    },
    ReadLink,
    Symlink {
        name: &'a OsStr,
        target: &'a OsStr,
    },
    MkNod {
        mode: u32,
        device: u32,
        name: &'a OsStr,
    },
    MkDir {
        mode: u32,
        name: &'a OsStr,
    },
    Unlink {
        name: &'a OsStr,
    },
    RmDir {
        name: &'a OsStr,
    },
    Rename {
        folder: u64,
        flags: u32,
        name: &'a OsStr,
        to: &'a OsStr,
    },
    Link {
        node: u64,
        name: &'a OsStr,
    },
    Open {
        flags: u32,
    },
    Create {
        flags: u32,
        mode: u32,
        name: &'a OsStr,
    },
    Read {
        handle: u64,
        offset: u64,
        size: u32,
    },
    Write {
        handle: u64,
        offset: u64,
        is_writeback: bool,
        data: &'a [u8],
    },
    Flush {
        handle: u64,
        owner: u64,
    },
    Release {
        handle: u64,
    },
    Fsync {
        handle: u64,
        is_data: bool,
    },
    OpenDir,
    ReadDir {
        handle: u64,
        offset: u64,
        size: u32,
    },
    ReleaseDir {
        handle: u64,
    },
    GetLock(Lock),
    SetLock {
        lock: Lock,
        wait: bool,
    },
    StatFs,
    Fallocate {
        handle: u64,
        offset: u64,
        len: u64,
        mode: u32,
    },
    CopyRange {
        from: u64,
        offset: u64,
        to: u64,
        to_offset: u64,
        len: u64,
    },
    Seek {
        handle: u64,
        offset: u64,
        whence: u32,
    },
    SetXattr {
        flags: u32,
        name: &'a OsStr,
        value: &'a [u8],
    },
    GetXattr {
        size: u32,
        name: &'a OsStr,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a OsStr,
    },
    /// Nothing that is served: the answer is ENOSYS, which the kernel has a fallback for.
    Other,
}

/// The bytes do not make a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads numbers and names off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*front))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*front))
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    /// Bytes up to a zero, which is consumed.
    fn text(&mut self) -> Result<&'a OsStr, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let text = self.take(end)?;
        self.skip(1)?;
        Ok(OsStr::from_bytes(text))
    }

    /// One component of a path. The kernel sends nothing else; anything else would lead out of the
    /// backing folder.
    fn name(&mut self) -> Result<&'a OsStr, Malformed> {
        let name = self.text()?;
        match name.as_bytes() {
            b"" | b"." | b".." => Err(Malformed),
            bytes if bytes.contains(&b'/') => Err(Malformed),
            _ => Ok(name),
        }
    }

    fn lock(&mut self) -> Result<Lock, Malformed> {
        let (handle, owner) = (self.u64()?, self.u64()?);
        let (start, end, kind, pid) = (self.u64()?, self.u64()?, self.u32()?, self.u32()?);
        let is_flock = self.u32()? & LK_FLOCK != 0;
        Ok(Lock { handle, owner, start, end, kind, pid, is_flock })
    }

    fn set_attr(&mut self) -> Result<SetAttr, Malformed> {
        let valid = self.u32()?;
        self.skip(4)?;
        let (handle, size) = (self.u64()?, self.u64()?);
        self.skip(8)?;
        // Seconds before 1970 travel as two's complement.
        let (atime, mtime) = (self.u64()?.cast_signed(), self.u64()?.cast_signed());
        self.skip(8)?;
        let (atime_nanos, mtime_nanos) = (self.u32()?, self.u32()?);
        self.skip(4)?;
        let mode = self.u32()?;
        self.skip(4)?;
        let (uid, gid) = (self.u32()?, self.u32()?);
        Ok(SetAttr { valid, handle, size, atime, mtime, atime_nanos, mtime_nanos, mode, uid, gid })
    }
}

/// Reads a request. The header is given even where the body is malformed, so that it can be
/// answered.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Header, Result<Body<'_>, Malformed>), Malformed> {
    let mut reader = Reader(bytes);
    let len = reader.u32()?;
    if usize::try_from(len) != Ok(bytes.len()) {
        return Err(Malformed);
    }
    let header = Header {
        opcode: reader.u32()?,
        unique: reader.u64()?,
        node: reader.u64()?,
        uid: reader.u32()?,
        gid: reader.u32()?,
        pid: reader.u32()?,
    };
    reader.skip(4)?;
    Ok((header, body(header.opcode, &mut reader)))
}

fn body<'a>(opcode: u32, r: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    Ok(match opcode {
        1 => Body::Lookup { name: r.name()? },
        2 => Body::Forget { lookups: r.u64()? },
        3 => {
            let flags = r.u32()?;
            r.skip(4)?;
            let handle = r.u64()?;
            Body::GetAttr { handle: (flags & GETATTR_FH != 0).then_some(handle) }
        }
        4 => Body::SetAttr(r.set_attr()?),
        5 => Body::ReadLink,
        6 => Body::Symlink { name: r.name()?, target: r.text()? },
        8..=13 => names(opcode, r)?,
        14 => Body::Open { flags: r.u32()? },
        15 => read(r, |handle, offset, size| Body::Read { handle, offset, size })?,
        16 => write(r)?,
        17 => Body::StatFs,
        18 => Body::Release { handle: r.u64()? },
        20 | 30 => {
            let handle = r.u64()?;
            Body::Fsync { handle, is_data: r.u32()? & FSYNC_DATA != 0 }
        }
        21..=24 => xattr(opcode, r)?,
        25 => {
            let handle = r.u64()?;
            r.skip(8)?;
            Body::Flush { handle, owner: r.u64()? }
        }
        26 => init_request(r)?,
        27 => Body::OpenDir,
        28 => read(r, |handle, offset, size| Body::ReadDir { handle, offset, size })?,
        29 => Body::ReleaseDir { handle: r.u64()? },
        31 => Body::GetLock(r.lock()?),
        32 => Body::SetLock { lock: r.lock()?, wait: false },
        33 => Body::SetLock { lock: r.lock()?, wait: true },
        34 => Body::Access { mask: r.u32()? },
        35 => {
            let (flags, mode) = (r.u32()?, r.u32()?);
            r.skip(8)?;
            Body::Create { flags, mode, name: r.name()? }
        }
        36 => Body::Interrupt { unique: r.u64()? },
        38 => Body::Destroy,
        42 => {
            let count = r.u32()?;
            r.skip(4)?;
            let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(16));
            Body::BatchForget { list: r.take(bytes.ok_or(Malformed)?)? }
        }
        43 => {
            let (handle, offset) = (r.u64()?, r.u64()?);
            Body::Fallocate { handle, offset, len: r.u64()?, mode: r.u32()? }
        }
        45 => names(opcode, r)?,
        46 => Body::Seek { handle: r.u64()?, offset: r.u64()?, whence: r.u32()? },
        47 => {
            let (from, offset) = (r.u64()?, r.u64()?);
            r.skip(8)?;
            Body::CopyRange { from, offset, to: r.u64()?, to_offset: r.u64()?, len: r.u64()? }
        }
        _ => Body::Other,
    })
}

/// Opcodes that make, remove or move a name.
fn names<'a>(opcode: u32, r: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    Ok(match opcode {
        8 => {
            let (mode, device) = (r.u32()?, r.u32()?);
            r.skip(8)?;
            Body::MkNod { mode, device, name: r.name()? }
        }
        9 => {
            let mode = r.u32()?;
            r.skip(4)?;
            Body::MkDir { mode, name: r.name()? }
        }
        10 => Body::Unlink { name: r.name()? },
        11 => Body::RmDir { name: r.name()? },
        12 => Body::Rename { folder: r.u64()?, flags: 0, name: r.name()?, to: r.name()? },
        13 => Body::Link { node: r.u64()?, name: r.name()? },
        _ => {
            let (folder, flags) = (r.u64()?, r.u32()?);
            r.skip(4)?;
            Body::Rename { folder, flags, name: r.name()?, to: r.name()? }
        }
    })
}

fn xattr<'a>(opcode: u32, r: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    Ok(match opcode {
        21 => {
            let (size, flags) = (r.u32()?, r.u32()?);
            let name = r.text()?;
            let value = r.take(usize::try_from(size).map_err(|_| Malformed)?)?;
            Body::SetXattr { flags, name, value }
        }
        22 => {
            let size = r.u32()?;
            r.skip(4)?;
            Body::GetXattr { size, name: r.text()? }
        }
        23 => Body::ListXattr { size: r.u32()? },
        _ => Body::RemoveXattr { name: r.text()? },
    })
}

fn read<'a>(
    r: &mut Reader<'a>,
    make: impl FnOnce(u64, u64, u32) -> Body<'a>,
) -> Result<Body<'a>, Malformed> {
    Ok(make(r.u64()?, r.u64()?, r.u32()?))
}

fn write<'a>(r: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    let (handle, offset, size, flags) = (r.u64()?, r.u64()?, r.u32()?, r.u32()?);
    r.skip(16)?;
    let data = r.take(usize::try_from(size).map_err(|_| Malformed)?)?;
    Ok(Body::Write { handle, offset, is_writeback: flags & WRITE_CACHE != 0, data })
}

fn init_request<'a>(r: &mut Reader<'a>) -> Result<Body<'a>, Malformed> {
    let (major, minor, readahead) = (r.u32()?, r.u32()?, r.u32()?);
    let low = u64::from(r.u32()?);
    // Only sent by kernels that have more than 32 flags.
    let high = if low & init::INIT_EXT != 0 { u64::from(r.u32()?) } else { 0 };
    Ok(Body::Init { major, minor, readahead, flags: low | high << 32 })
}

/// Collects the body of a reply.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u16(&mut self, value: u16) -> &mut Writer {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Writer {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Writer {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Writer {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `struct fuse_attr`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "fields of stat that the protocol halves"
    )]
    fn attr(&mut self, stat: &Stat) -> &mut Writer {
        self.u64(stat.st_ino).u64(stat.st_size.cast_unsigned());
        self.u64(stat.st_blocks.cast_unsigned());
        self.u64(stat.st_atime.cast_unsigned()).u64(stat.st_mtime.cast_unsigned());
        self.u64(stat.st_ctime.cast_unsigned());
        self.u32(stat.st_atime_nsec as u32).u32(stat.st_mtime_nsec as u32);
        self.u32(stat.st_ctime_nsec as u32).u32(stat.st_mode);
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(clippy::useless_conversion, reason = "its width depends on the architecture")
        )]
        let links = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        self.u32(links).u32(stat.st_uid).u32(stat.st_gid);
        // The kernel reads this with new_decode_dev: minor bits 0-7 and 20-31, major bits 8-19.
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        self.u32((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12));
        self.u32(stat.st_blksize as u32).u32(0)
    }

    /// `struct fuse_entry_out`, that nobody may remember.
    pub(crate) fn entry(&mut self, node: u64, stat: &Stat) -> &mut Writer {
        self.u64(node).zeros(32).attr(stat)
    }

    /// `struct fuse_attr_out`, likewise.
    pub(crate) fn attributes(&mut self, stat: &Stat) -> &mut Writer {
        self.zeros(16).attr(stat)
    }

    /// `struct fuse_open_out`.
    pub(crate) fn opened(&mut self, handle: u64, flags: u32) -> &mut Writer {
        self.u64(handle).u32(flags).u32(0)
    }

    /// `struct fuse_dirent`; false, and nothing written, if there is no room below `max`.
    pub(crate) fn dirent(
        &mut self,
        max: usize,
        (ino, next, kind): (u64, u64, u32),
        name: &OsStr,
    ) -> bool {
        let bytes = name.as_bytes();
        let len = (24 + bytes.len()).next_multiple_of(8);
        if self.0.len() + len > max {
            return false;
        }
        let end = self.0.len() + len;
        let name_len = u32::try_from(bytes.len()).expect("names have at most 255 bytes");
        self.u64(ino).u64(next).u32(name_len).u32(kind);
        self.0.extend_from_slice(bytes);
        self.0.resize(end, 0);
        true
    }
}

/// The header of a reply with a body of `body_len` bytes; `error` is positive or 0.
pub(crate) fn reply_header(unique: u64, error: i32, body_len: usize) -> [u8; REPLY_HEADER_BYTES] {
    let len = u32::try_from(REPLY_HEADER_BYTES + body_len).expect("a body is at most a payload");
    let mut header = [0; REPLY_HEADER_BYTES];
    header[..4].copy_from_slice(&len.to_ne_bytes());
    header[4..8].copy_from_slice(&(-error).to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// A device number as mknod(2) takes it, from the 32 bits of the protocol.
pub(crate) fn decode_device(device: u32) -> u64 {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    rustix::fs::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request as the kernel sends it.
    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Writer::default();
        let len = u32::try_from(40 + body.len()).unwrap();
        bytes.u32(len).u32(opcode).u64(7).u64(1).u32(1000).u32(100).u32(4242).u32(0);
        bytes.0.extend_from_slice(body);
        bytes.0
    }

    /// Goal: the two locks are told apart, and the fields are where fuse.h has them.
    #[test]
    fn a_lock_request_is_read_field_by_field() {
        let mut body = Writer::default();
        body.u64(3).u64(99).u64(10).u64(19).u32(1).u32(55).u32(LK_FLOCK).u32(0);
        let bytes = request(33, &body.0);
        let (header, parsed) = parse(&bytes).unwrap();
        assert_eq!((header.unique, header.uid, header.gid, header.pid), (7, 1000, 100, 4242));
        let lock =
            Lock { handle: 3, owner: 99, start: 10, end: 19, kind: 1, pid: 55, is_flock: true };
        assert_eq!(parsed, Ok(Body::SetLock { lock, wait: true }));
    }

    /// Goal: no name leads out of the backing folder.
    #[test]
    fn names_with_a_way_out_are_malformed() {
        for name in ["", ".", "..", "a/b", "/"] {
            let body = [name.as_bytes(), b"\0"].concat();
            let bytes = request(1, &body);
            assert_eq!(parse(&bytes).unwrap().1, Err(Malformed), "{name:?}");
        }
        let bytes = request(1, b"..a\0");
        assert_eq!(parse(&bytes).unwrap().1, Ok(Body::Lookup { name: OsStr::new("..a") }));
        assert_eq!(parse(&request(1, b"no end")).unwrap().1, Err(Malformed));
    }

    proptest! {
        /// Goal: no bytes make the parser panic, or read beyond the request.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        /// Likewise with a sound header, which random bytes hardly ever have.
        #[test]
        fn any_body_is_survived(
            opcode in 0..60_u32,
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = request(opcode, &body);
            let (header, parsed) = parse(&bytes).unwrap();
            prop_assert_eq!(header.opcode, opcode);
            if let Ok(Body::Write { data, .. }) = parsed {
                prop_assert!(data.len() <= body.len());
            }
        }

        /// Goal: what a body is cut off from is malformed, not misread.
        #[test]
        fn a_cut_write_is_malformed(size in 1_u32..100, cut in 1_usize..100) {
            let mut body = Writer::default();
            body.u64(1).u64(0).u32(size).u32(0).zeros(16);
            let data = vec![b'x'; usize::try_from(size).unwrap()];
            body.0.extend_from_slice(&data);
            prop_assert!(parse(&request(16, &body.0)).unwrap().1.is_ok());
            let kept = body.0.len().saturating_sub(cut);
            let cut = request(16, &body.0[..kept]);
            prop_assert_eq!(parse(&cut).unwrap().1, Err(Malformed));
        }
    }
}
