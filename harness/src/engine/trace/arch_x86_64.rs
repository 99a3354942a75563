//! What the engine must know of x86_64: registers, call numbers, and the arguments of calls.
//!
//! The only file that another architecture would have to replace.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the kernel reads and writes registers as 64 bits, whatever the argument's type"
)]

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// `AUDIT_ARCH_X86_64` (linux/audit.h): what a filter must find in `seccomp_data.arch`.
pub(crate) const AUDIT_ARCH: u32 = 0xc000_003e;
/// Numbers from here on belong to the x32 ABI, which is refused.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// A clock page: what the functions of a program's vDSO are replaced with. It holds the time
/// that they show, and runs at any address.
///
/// ```text
/// 00 real  08 monotonic  10 boot        nanoseconds
/// 18 flag                               not 0: every read is a system call
/// 20 table: 0 1 - - 1 0 1 2 0 2 - 0     which of them a clockid_t shows
///
/// 30 clock_gettime(edi, rsi):           80 gettimeofday(rdi, rsi):      d0 time(rdi):
///    cmpl $0, flag; jne 6f                 cmpl $0, flag; jne c0           cmpl $0, flag; jne f3
///    cmp $11, edi; ja 6f                   test rdi; jz b1                 mov real, rax
///    movzbl table[edi], eax                mov real, rax                   div 10^9
///    cmp $2, eax; ja 6f                    div 10^9; mov rax, (rdi)        test rdi; jz f2
///    mov quads[rax], rax; div 10^9         edx div 1000; mov rax, 8(rdi)   mov rax, (rdi)
///    mov rax, (rsi); mov rdx, 8(rsi)    b1 test rsi; jz bd; movq $0, (rsi) f2 ret
///    xor eax, eax; ret                  bd xor eax, eax; ret            f3 mov $201, eax
/// 6f mov $228, eax; syscall; ret        c0 mov $96, eax; syscall; ret      syscall; ret
///
/// 100 getrandom: mov $-38, rax; ret     ENOSYS: the caller makes the system call
/// ```
pub(crate) const CLOCK_PAGE: [u8; 264] = [
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0xff, 0xff, 0x01, 0x00, 0x01, 0x02, 0x00, 0x02, 0xff, 0x00, 0x0f, 0x1f, 0x40, 0x00,
    0x83, 0x3d, 0xe1, 0xff, 0xff, 0xff, 0x00, 0x75, 0x36, 0x83, 0xff, 0x0b, 0x77, 0x31, 0x89, 0xf8,
    0x48, 0x8d, 0x15, 0xd9, 0xff, 0xff, 0xff, 0x0f, 0xb6, 0x04, 0x02, 0x83, 0xf8, 0x02, 0x77, 0x1f,
    0x48, 0x8d, 0x15, 0xa9, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x04, 0xc2, 0x31, 0xd2, 0xb9, 0x00, 0xca,
    0x9a, 0x3b, 0x48, 0xf7, 0xf1, 0x48, 0x89, 0x06, 0x48, 0x89, 0x56, 0x08, 0x31, 0xc0, 0xc3, 0xb8,
    0xe4, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3, 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x83, 0x3d, 0x91, 0xff, 0xff, 0xff, 0x00, 0x75, 0x37, 0x48, 0x85, 0xff, 0x74, 0x23, 0x48, 0x8b,
    0x05, 0x6b, 0xff, 0xff, 0xff, 0x31, 0xd2, 0xb9, 0x00, 0xca, 0x9a, 0x3b, 0x48, 0xf7, 0xf1, 0x48,
    0x89, 0x07, 0x89, 0xd0, 0x31, 0xd2, 0xb9, 0xe8, 0x03, 0x00, 0x00, 0xf7, 0xf1, 0x48, 0x89, 0x47,
    0x08, 0x48, 0x85, 0xf6, 0x74, 0x07, 0x48, 0xc7, 0x06, 0x00, 0x00, 0x00, 0x00, 0x31, 0xc0, 0xc3,
    0xb8, 0x60, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x83, 0x3d, 0x41, 0xff, 0xff, 0xff, 0x00, 0x75, 0x1a, 0x48, 0x8b, 0x05, 0x20, 0xff, 0xff, 0xff,
    0x31, 0xd2, 0xb9, 0x00, 0xca, 0x9a, 0x3b, 0x48, 0xf7, 0xf1, 0x48, 0x85, 0xff, 0x74, 0x03, 0x48,
    0x89, 0x07, 0xc3, 0xb8, 0xc9, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3, 0x0f, 0x1f, 0x44, 0x00, 0x00,
    0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3,
];

/// The functions of a vDSO that are replaced, and where in the clock page they are sent.
pub(crate) const CLOCK_FUNCTIONS: &[(&str, usize)] = &[
    ("__vdso_clock_gettime", 0x30),
    ("__vdso_gettimeofday", 0x80),
    ("__vdso_time", 0xd0),
    ("__vdso_getrandom", 0x100),
];

/// A jump from `from` to `to`, both in one image: `jmp rel32`.
pub(crate) fn jump(from: usize, to: usize) -> Option<[u8; 5]> {
    let distance = i32::try_from(to as i64 - (from as i64 + 5)).ok()?;
    let [a, b, c, d] = distance.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// `struct stat`, as the kernel fills it.
///
/// ```text
/// 0 dev  8 ino  16 nlink  24 mode  28 uid  32 gid  40 rdev  48 size  56 blksize  64 blocks
/// 72 atime  88 mtime  104 ctime  120 …
/// ```
pub(crate) fn stat_bytes(meta: &Metadata) -> [u8; 144] {
    let mut bytes = [0; 144];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    for (at, value) in [(0, meta.dev()), (8, meta.ino()), (16, meta.nlink()), (40, meta.rdev())] {
        put(at, &value.to_ne_bytes());
    }
    for (at, value) in [(24, meta.mode()), (28, meta.uid()), (32, meta.gid())] {
        put(at, &value.to_ne_bytes());
    }
    for (at, value) in [(48, meta.size()), (56, meta.blksize()), (64, meta.blocks())] {
        put(at, &value.to_ne_bytes());
    }
    for (at, seconds, nanos) in [
        (72, meta.atime(), meta.atime_nsec()),
        (88, meta.mtime(), meta.mtime_nsec()),
        (104, meta.ctime(), meta.ctime_nsec()),
    ] {
        put(at, &seconds.to_ne_bytes());
        put(at + 8, &nanos.to_ne_bytes());
    }
    bytes
}

/// The registers of a stopped thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regs(pub(crate) libc::user_regs_struct);

impl Regs {
    /// The number of the system call.
    pub(crate) fn nr(&self) -> i64 {
        self.0.orig_rax as i64
    }

    /// Another call is made, or none (-1).
    pub(crate) fn set_nr(&mut self, nr: i64) {
        self.0.orig_rax = nr as u64;
    }

    /// Argument `index`, from 0.
    pub(crate) fn arg(&self, index: usize) -> u64 {
        let r = &self.0;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9][index]
    }

    /// An argument that is an `int`, such as a descriptor.
    pub(crate) fn int(&self, index: usize) -> i32 {
        self.arg(index) as u32 as i32
    }

    /// Replaces argument `index`.
    pub(crate) fn set_arg(&mut self, index: usize, value: u64) {
        let r = &mut self.0;
        *[&mut r.rdi, &mut r.rsi, &mut r.rdx, &mut r.r10, &mut r.r8, &mut r.r9][index] = value;
    }

    /// What the call returned, or minus an errno.
    pub(crate) fn ret(&self) -> i64 {
        self.0.rax as i64
    }

    /// What the call shall return.
    pub(crate) fn set_ret(&mut self, value: i64) {
        self.0.rax = value as u64;
    }

    /// The call is not made; the thread sees this answer (ptrace(2): a negative number skips).
    pub(crate) fn skip(&mut self, answer: i64) {
        self.set_nr(-1);
        self.set_ret(answer);
    }

    /// The top of the stack.
    pub(crate) fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// What tells one place that makes a call from another.
    pub(crate) fn fingerprint(&self) -> [u64; 8] {
        let r = &self.0;
        [r.rip, r.orig_rax, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
    }
}
