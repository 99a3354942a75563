//! What the engine must know of x86_64: registers, call numbers, and the arguments of calls.
//!
//! The only file that another architecture would have to replace.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the kernel reads and writes registers as 64 bits, whatever the argument's type"
)]

/// `AUDIT_ARCH_X86_64` (linux/audit.h): what a filter must find in `seccomp_data.arch`.
pub(crate) const AUDIT_ARCH: u32 = 0xc000_003e;
/// Numbers from here on belong to the x32 ABI, which is refused.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

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
