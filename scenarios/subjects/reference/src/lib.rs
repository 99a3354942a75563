//! A heartbeat file lock that follows the runbook.
//!
//! ```text
//! resource.lock/          made complete, then renamed into place: never half a lock
//!   owner                 who: pid, start time, PID namespace, boot, host, and a nonce
//!   beat                  refreshed by its owner alone, through the owner's own descriptor
//! resource.lock.token     the last fencing token, under flock
//! resource.lock.recovery  under flock while a dead owner's lock is moved away
//! ```
//!
//! - A failed beat is never a success: it degrades the [`Health`], says so with lock path, beat
//!   path, operation, errno and free space, and loses the lock well before anybody may think that
//!   the owner is dead ([`policy`]).
//! - A beat that does not return in time has failed ([`beat`]).
//! - Nobody steals on an age alone: a contender needs proof that the owner is dead ([`owner`]).
//!   Of an owner that it cannot judge (another host, another PID namespace, an unreadable record)
//!   it takes a stale lock only under the recovery lock, and with a higher fencing token.
//! - Tokens only ever rise (module `token`); the protected resource is to refuse lower ones.
//! - A release removes, and a beat refreshes, only what is its own.
//!
//! The library knows nothing of deadbeat; module `adapter` (feature `adapter`) makes it a subject.

#[cfg(feature = "adapter")]
pub mod adapter;
pub mod beat;
mod files;
mod lock;
pub mod owner;
pub mod policy;
mod token;

pub use beat::{Cause, Event, Trouble};
pub use lock::{Config, Guard, LockError, ReferenceLock};
pub use policy::{Health, Policy};
