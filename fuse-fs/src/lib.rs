//! A passthrough file system that asks its caller for a ruling on every operation.
//!
//! # Why a loop of our own
//!
//! fuser (0.18) answers FUSE_INTERRUPT with ENOSYS, so that a caller of a held operation cannot be
//! killed; it reads `lk_flags` and does not hand them on, so that flock cannot be told from fcntl;
//! and it wants a thread and 16 MiB for each mount. polyfuse (0.5) has both, but its requests
//! borrow a session's buffer, while one that is held must outlive many others and is carried out
//! later; what would be left of its use is the decoding, which is `wire` here. What is needed of
//! the protocol is small: a read gives one request, a write answers it. So one thread serves all
//! mounts, which also makes the order of reports the order of effects.
//!
//! # How it is put together
//!
//! - `api`: what the caller hears and can answer.
//! - `wire`: the protocol, as bytes.
//! - `server`: the loop, and what is held.
//! - `backing`: carries requests out, with the rights that `credentials` assumes.
//! - `nodes`: which files the kernel knows, by which names.
//! - `callers`: whether a thread that waits is dying.
//! - `synthetic`: the file that is not on the backing.
//! - `mount`: mount(2).
//! - `sys`: the only unsafe code.
//!
//! The [README](https://github.com/deadbeat-lock/deadbeat/tree/main/fuse-fs) has an example, what
//! is promised, and what is not.

mod api;
mod backing;
mod callers;
mod credentials;
mod mount;
mod nodes;
mod server;
mod synthetic;
mod sys;
mod wire;

pub use api::{
    Caller, Errno, Interrupts, Kind, LockKind, LockRequest, MountId, NewTime, OpId, Operation,
    Options, Outcome, Ruler, Ruling, Served, StatfsProfile,
};
pub use mount::{mount_at, mount_options, open_device};
pub use server::FaultFs;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
