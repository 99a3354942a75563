//! The loop: takes requests off the devices, asks for a ruling, carries it out, answers.
//!
//! # Invariants
//! - `settled` is called for every operation that `rule` was asked about, once, before the answer
//!   is written. Only a file system that is dropped leaves operations unsettled.
//! - No call waits: what has to wait is in `pending`, and its request is copied there.
//! - What is pending when it is interrupted by death, or its mount removed, is answered EINTR.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::api::{
    Errno, Interrupts, Kind, MountId, OpId, Operation, Options, Outcome, Ruler, Ruling, Served,
};
use crate::backing::{Backing, Done, Refusal, Request};
use crate::callers::is_dying;
use crate::synthetic;
use crate::wire::{self, Body, Malformed, Writer, init};

/// How soon after a signal, and then how often, it is looked whether the signal kills. The kernel
/// tells of one signal only, so a later one must be looked for.
const DEATH_CHECK: Duration = Duration::from_millis(20);
/// How often a waiting lock is tried for the sake of holders that are no clients.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// The file system: any number of mounts over one backing folder, served by one thread.
///
/// The caller polls the [devices](FaultFs::device), calls [`serve`](FaultFs::serve) for those that
/// are readable and [`tick`](FaultFs::tick) at the [deadline](FaultFs::next_deadline). Dropping it
/// closes the devices, which ends every request with ECONNABORTED and every mount with ENOTCONN.
///
/// All calls must come from the thread that called [`new`](FaultFs::new), which must not touch the
/// mounts. Each file that clients know costs a descriptor: see `RLIMIT_NOFILE`.
#[derive(Debug)]
pub struct FaultFs {
    backing: Backing,
    mounts: BTreeMap<MountId, OwnedFd>,
    next_mount: u32,
    next_op: u64,
    pending: BTreeMap<OpId, Pending>,
    /// Where requests are read; its own while one is served.
    buffer: Vec<u8>,
}

/// An operation that is not answered yet.
#[derive(Debug)]
struct Pending {
    op: Operation,
    bytes: Vec<u8>,
    unique: u64,
    wait: Wait,
    /// When to look whether the caller is dying.
    death_check: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For `release`.
    Release,
    /// For a moment.
    Until(Instant),
    /// For a lock, to be tried at that moment at the latest; and what is ruled once it is had.
    Lock(Instant, Ruling),
}

/// An operation on its way to its answer.
struct Case<'a> {
    op: Operation,
    request: Request<'a>,
    bytes: &'a [u8],
    held: bool,
    death_check: Option<Instant>,
}

impl FaultFs {
    /// A file system over the folder `backing`, which may be an `O_PATH` descriptor.
    ///
    /// Sets the process's umask to 0: modes come from the clients' kernel with their umask applied.
    ///
    /// # Errors
    /// If the folder or `/proc` cannot be opened.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the folder is the file system's from here on"
    )]
    pub fn new(backing: OwnedFd, options: Options) -> io::Result<FaultFs> {
        Ok(FaultFs {
            backing: Backing::new(&backing, options)?,
            mounts: BTreeMap::new(),
            next_mount: 0,
            next_op: 1,
            pending: BTreeMap::new(),
            buffer: vec![0; wire::REQUEST_MAX],
        })
    }

    /// Serves one more mount: `device` is `/dev/fuse`, [mounted](crate::mount_at) already. It is
    /// made non-blocking and close-on-exec.
    pub fn add_mount(&mut self, device: OwnedFd) -> MountId {
        let flags = fcntl_getfl(&device).unwrap_or(OFlags::empty());
        // Both fail only for what is no descriptor, which serving will tell.
        let _ = fcntl_setfl(&device, flags | OFlags::NONBLOCK);
        let _ = fcntl_setfd(&device, FdFlags::CLOEXEC);
        let mount = MountId(self.next_mount);
        self.next_mount += 1;
        self.mounts.insert(mount, device);
        mount
    }

    /// The device of a mount, to poll for reading.
    ///
    /// # Panics
    /// If the mount was removed, or is of another file system.
    #[must_use]
    pub fn device(&self, mount: MountId) -> BorrowedFd<'_> {
        self.mounts.get(&mount).expect("a mount that was added and not removed").as_fd()
    }

    /// Serves at most one request.
    ///
    /// # Errors
    /// If the device cannot be read for another reason than that the mount is gone.
    pub fn serve(&mut self, mount: MountId, ruler: &mut dyn Ruler) -> io::Result<Served> {
        use rustix::io::Errno as E;
        let Some(device) = self.mounts.get(&mount) else { return Ok(Served::Gone) };
        match rustix::io::read(device, &mut self.buffer[..]) {
            Ok(len) => {
                let buffer = std::mem::take(&mut self.buffer);
                self.take_request(mount, &buffer[..len], ruler);
                self.buffer = buffer;
                Ok(Served::Handled)
            }
            // ENOENT: the request was interrupted before it was read. EPERM: not mounted yet.
            Err(E::AGAIN | E::INTR | E::NOENT | E::PERM) => Ok(Served::Idle),
            // Unmounted, or aborted (by `umount -f`, or on the way to being unmounted).
            Err(E::NODEV | E::CONNABORTED) => Ok(Served::Gone),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends a held or delayed operation with `ruling`, or gives it up to a longer hold. `false` if
    /// there is no such operation (any more).
    pub fn release(&mut self, op: OpId, ruling: Ruling, ruler: &mut dyn Ruler) -> bool {
        let Some(pending) = self.pending.remove(&op) else { return false };
        self.resume(pending, ruling, ruler);
        true
    }

    /// The operations that are not answered yet: held, delayed, or waiting for a lock.
    pub fn held(&self) -> impl Iterator<Item = &Operation> {
        self.pending.values().map(|pending| &pending.op)
    }

    /// When [`tick`](FaultFs::tick) has something to do, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.pending.values().flat_map(|pending| {
            let wait = match pending.wait {
                Wait::Release => None,
                Wait::Until(at) | Wait::Lock(at, _) => Some(at),
            };
            [wait, pending.death_check]
        });
        deadlines.flatten().min()
    }

    /// Does what is due: ends delays, tries locks, looks for callers that were killed.
    pub fn tick(&mut self, ruler: &mut dyn Ruler) {
        let now = Instant::now();
        self.end_the_dying(now, ruler);
        let due = |pending: &Pending| match pending.wait {
            Wait::Until(at) => (at <= now).then_some(Ruling::Proceed),
            Wait::Lock(at, ruling) => (at <= now).then_some(ruling),
            Wait::Release => None,
        };
        let due: Vec<(OpId, Ruling)> = self
            .pending
            .iter()
            .filter_map(|(id, pending)| due(pending).map(|ruling| (*id, ruling)))
            .collect();
        for (id, ruling) in due {
            self.release(id, ruling, ruler);
        }
    }

    /// Forgets a mount: answers what is pending on it with EINTR, closes what its clients have
    /// open, and the device.
    pub fn remove_mount(&mut self, mount: MountId, ruler: &mut dyn Ruler) {
        self.interrupt_all(|pending| pending.op.mount == mount, ruler);
        self.backing.forget_mount(mount);
        self.mounts.remove(&mount);
        self.retry_locks(ruler);
    }

    /// Answers everything that is pending with EINTR: an error, so that nothing that was held
    /// happens now. The mounts are served on.
    pub fn shutdown(&mut self, ruler: &mut dyn Ruler) {
        self.interrupt_all(|_| true, ruler);
    }

    fn take_request(&mut self, mount: MountId, bytes: &[u8], ruler: &mut dyn Ruler) {
        // The kernel writes whole headers; anything else cannot even be answered.
        let Ok((header, body)) = wire::parse(bytes) else { return };
        let body = match body {
            Ok(body) => body,
            Err(Malformed) => return self.reply(mount, header.unique, Err(Errno(libc::EINVAL))),
        };
        let request = Request { mount, header, body };
        match body {
            Body::Init { major, minor, readahead, flags } => {
                let answer = init_reply((major, minor), readahead, flags);
                self.reply(mount, header.unique, answer.as_deref().map_err(|errno| *errno));
            }
            Body::Forget { lookups } => self.backing.nodes.forget(mount, header.node, lookups),
            Body::BatchForget { list } => self.forget_all(mount, list),
            Body::Interrupt { unique } => self.interrupt(mount, unique, ruler),
            Body::Destroy => self.reply(mount, header.unique, Ok(&[])),
            _ => self.take_operation(&request, bytes, ruler),
        }
    }

    fn forget_all(&mut self, mount: MountId, list: &[u8]) {
        for pair in list.chunks_exact(16) {
            let (node, count) = pair.split_at(8);
            let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or(0);
            self.backing.nodes.forget(mount, number(node), number(count));
        }
    }

    fn take_operation(&mut self, request: &Request<'_>, bytes: &[u8], ruler: &mut dyn Ruler) {
        let (mount, unique) = (request.mount, request.header.unique);
        if let Some(answer) = synthetic::answer(&self.backing, request, ruler) {
            return self.reply(mount, unique, answer.as_deref().map_err(|errno| *errno));
        }
        let id = OpId(self.next_op);
        let Some(op) = self.backing.describe(id, request) else {
            return self.reply(mount, unique, Err(Errno(libc::ENOSYS)));
        };
        self.next_op += 1;
        let ruling = ruler.rule(&op);
        let frees = matches!(op.kind, Kind::Close | Kind::Release | Kind::Flock | Kind::FcntlLock);
        let case = Case { op, request: *request, bytes, held: false, death_check: None };
        self.carry_out(case, ruling, ruler);
        if frees {
            self.retry_locks(ruler);
        }
    }

    /// Takes a pending operation up again.
    fn resume(&mut self, pending: Pending, ruling: Ruling, ruler: &mut dyn Ruler) {
        let Pending { op, bytes, death_check, .. } = pending;
        let (header, body) = wire::parse(&bytes).expect("it was parsed before");
        let body = body.expect("it was parsed before");
        let frees = matches!(op.kind, Kind::Close | Kind::Release);
        let request = Request { mount: op.mount, header, body };
        let case = Case { op, request, bytes: &bytes, held: true, death_check };
        self.carry_out(case, ruling, ruler);
        if frees {
            self.retry_locks(ruler);
        }
    }

    fn carry_out(&mut self, case: Case<'_>, ruling: Ruling, ruler: &mut dyn Ruler) {
        let now = Instant::now();
        let wait = match ruling {
            Ruling::Hold => Some(Wait::Release),
            // Far enough ahead to be never, where the clock has no such moment.
            Ruling::Delay(length) => {
                Some(now.checked_add(length).map_or(Wait::Release, Wait::Until))
            }
            _ => None,
        };
        if let Some(wait) = wait {
            return self.suspend(case, wait);
        }
        let request = self.cut(&case.request, ruling);
        let done = match ruling {
            Ruling::Fail(errno) => {
                self.backing.give_back(&request);
                return self.answer(&case, Err(errno), false, ruler);
            }
            Ruling::Pretend => self.backing.pretend(&request, ruler),
            _ => self.backing.execute(&request, ruler),
        };
        let done = match done {
            Ok(done) => done,
            Err(Refusal::MustWait) => {
                return self.suspend(case, Wait::Lock(now + LOCK_RETRY, ruling));
            }
            Err(Refusal::Error(errno)) => {
                let told = if let Ruling::FailAfter(errno) = ruling { errno } else { errno };
                return self.answer(&case, Err(told), false, ruler);
            }
        };
        match ruling {
            Ruling::FailAfter(errno) => {
                self.backing.take_back(case.op.mount, &done);
                self.answer(&case, Err(errno), true, ruler);
            }
            Ruling::Pretend => self.answer(&case, Ok(done), false, ruler),
            Ruling::Torn(_) => {
                self.answer(&case, Ok(whole_write(&case.request, done)), true, ruler);
            }
            _ => {
                let set = self.backing.apply_ruling(&done, ruling);
                debug_assert!(set.is_ok(), "the daemon may set times: {set:?}");
                self.answer(&case, Ok(done), true, ruler);
            }
        }
    }

    /// The request of which only a part is carried out.
    fn cut<'a>(&self, request: &Request<'a>, ruling: Ruling) -> Request<'a> {
        let (Ruling::Short(bytes) | Ruling::Torn(bytes)) = ruling else { return *request };
        let Body::Write { handle, offset, is_writeback, data } = request.body else {
            return *request;
        };
        let data = &data[..bytes.min(data.len())];
        Request { body: Body::Write { handle, offset, is_writeback, data }, ..*request }
    }

    fn suspend(&mut self, case: Case<'_>, wait: Wait) {
        // A process that exits closes its files without hearing signals: the kernel will not tell
        // of its death, so it is looked for.
        let is_closing = case.op.kind == Kind::Close;
        let pending = Pending {
            unique: case.request.header.unique,
            bytes: case.bytes.to_vec(),
            wait,
            death_check: case.death_check.or_else(|| is_closing.then(Instant::now)),
            op: case.op,
        };
        self.pending.insert(pending.op.id, pending);
    }

    /// Tells the caller what became of an operation, then the client.
    fn answer(
        &mut self,
        case: &Case<'_>,
        result: Result<Done, Errno>,
        effect: bool,
        ruler: &mut dyn Ruler,
    ) {
        let node = result.as_ref().ok().and_then(|done| done.node);
        let ino = node.map_or(case.op.ino, |node| self.backing.nodes.ino(node));
        let told = result.as_ref().map(|done| done.count).map_err(|errno| *errno);
        let outcome = Outcome { result: told, effect, ino, held: case.held };
        ruler.settled(&case.op, &outcome);
        let unique = case.request.header.unique;
        match result {
            Ok(done) => {
                if !self.write_reply(case.op.mount, unique, 0, &done.body) {
                    self.backing.take_back(case.op.mount, &done);
                }
            }
            Err(errno) => self.reply(case.op.mount, unique, Err(errno)),
        }
    }

    fn reply(&self, mount: MountId, unique: u64, body: Result<&[u8], Errno>) {
        // Nobody is there to hear of a mount that is gone.
        let _ = match body {
            Ok(body) => self.write_reply(mount, unique, 0, body),
            Err(errno) => self.write_reply(mount, unique, told(errno), &[]),
        };
    }

    /// Whether the kernel took the reply; not if the mount is gone.
    fn write_reply(&self, mount: MountId, unique: u64, error: i32, body: &[u8]) -> bool {
        let Some(device) = self.mounts.get(&mount) else { return false };
        let header = wire::reply_header(unique, error, body.len());
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        let parts = if body.is_empty() { &parts[..1] } else { &parts[..] };
        rustix::io::writev(device, parts).is_ok()
    }

    /// Tries every lock that is waited for, in the order of arrival.
    fn retry_locks(&mut self, ruler: &mut dyn Ruler) {
        let waiting: Vec<(OpId, Ruling)> = self
            .pending
            .iter()
            .filter_map(|(id, pending)| match pending.wait {
                Wait::Lock(_, ruling) => Some((*id, ruling)),
                _ => None,
            })
            .collect();
        for (id, ruling) in waiting {
            self.release(id, ruling, ruler);
        }
    }

    /// A signal came for the thread that waits for the answer to `unique`.
    fn interrupt(&mut self, mount: MountId, unique: u64, ruler: &mut dyn Ruler) {
        let of_it = |pending: &&mut Pending| pending.op.mount == mount && pending.unique == unique;
        // Unknown: it was answered while the interrupt was on its way.
        let Some(pending) = self.pending.values_mut().find(of_it) else { return };
        let any = self.backing.options.interrupts == Interrupts::Any;
        if any || matches!(pending.wait, Wait::Lock(..)) {
            let id = pending.op.id;
            self.release(id, Ruling::Fail(Errno(libc::EINTR)), ruler);
        } else {
            pending.death_check = Some(Instant::now());
            self.end_the_dying(Instant::now(), ruler);
        }
    }

    /// Answers what was asked by threads that are dying: nobody would hear a later answer, and
    /// until there is one they cannot die.
    fn end_the_dying(&mut self, now: Instant, ruler: &mut dyn Ruler) {
        let mut dying = Vec::new();
        for pending in self.pending.values_mut() {
            if pending.death_check.is_none_or(|at| at > now) {
                continue;
            }
            if is_dying(self.backing.proc.as_fd(), pending.op.caller.tid) {
                dying.push(pending.op.id);
            } else {
                pending.death_check = Some(now + DEATH_CHECK);
            }
        }
        for id in dying {
            self.release(id, Ruling::Fail(Errno(libc::EINTR)), ruler);
        }
    }

    fn interrupt_all(&mut self, which: impl Fn(&Pending) -> bool, ruler: &mut dyn Ruler) {
        // What is given back may let another go on, so that one pass may not be the last.
        let ids: Vec<OpId> =
            self.pending.iter().filter(|(_, pending)| which(pending)).map(|(id, _)| *id).collect();
        for id in ids {
            self.release(id, Ruling::Fail(Errno(libc::EINTR)), ruler);
        }
    }
}

/// The kernel takes errors up to 511.
fn told(errno: Errno) -> i32 {
    if (1..512).contains(&errno.0) { errno.0 } else { libc::EIO }
}

/// A torn write: what was not written is reported all the same.
fn whole_write(request: &Request<'_>, done: Done) -> Done {
    let Body::Write { data, .. } = request.body else { return done };
    let mut body = Writer::default();
    body.u32(u32::try_from(data.len()).expect("a write is at most a payload")).u32(0);
    Done { body: body.0, count: data.len() as u64, ..done }
}

/// Agrees with the kernel on what is spoken.
fn init_reply((major, minor): (u32, u32), readahead: u32, offered: u64) -> Result<Vec<u8>, Errno> {
    let mut body = Writer::default();
    if major > wire::MAJOR {
        // The kernel asks again, in the version that it is told here.
        body.u32(wire::MAJOR).u32(wire::MINOR).zeros(56);
        return Ok(body.0);
    }
    if major < wire::MAJOR || minor < wire::MINOR_MIN {
        return Err(Errno(libc::EPROTO));
    }
    let wanted = init::POSIX_LOCKS
        | init::ATOMIC_O_TRUNC
        | init::BIG_WRITES
        | init::FLOCK_LOCKS
        | init::PARALLEL_DIROPS
        | init::MAX_PAGES
        | init::HANDLE_KILLPRIV_V2
        | init::INIT_EXT
        | init::DIRECT_IO_ALLOW_MMAP;
    let flags = wanted & offered;
    let low = u32::try_from(flags & u64::from(u32::MAX)).expect("it was masked");
    let high = u32::try_from(flags >> 32).expect("half of it is left");
    let payload = u32::try_from(wire::PAYLOAD_MAX).expect("a megabyte");
    let pages = u16::try_from(wire::PAYLOAD_MAX / 4096).expect("256 pages");
    body.u32(wire::MAJOR).u32(wire::MINOR).u32(readahead).u32(low);
    // Background requests (release, write-back) and the number at which they count as congestion.
    body.u16(64).u16(48);
    // Time granularity is a nanosecond.
    body.u32(payload).u32(1).u16(pages).u16(0).u32(high).zeros(28);
    Ok(body.0)
}
