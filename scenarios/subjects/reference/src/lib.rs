//! A heartbeat file lock that follows the runbook.
//!
//! ```text
//! resource.lock/          made complete, then renamed into place: never half a lock
//!   owner                 who: pid, start time, namespaces, boot, host, token, nonce; under flock
//!   beat                  refreshed by its owner alone, through the owner's own descriptor
//! resource.lock.recovery  under flock while a lock is published, cleared or given back
//! resource.lock.token     the last fencing token
//! ```
//!
//! - A failed beat is never a success: it degrades the [`Health`], says so with lock path, beat
//!   path, operation, errno and free space ([`Trouble`]), and loses the lock well before anybody
//!   may think that the owner is dead. The table is in module `policy`.
//! - A beat that does not return in time has failed: a watchdog that touches no file says so. Nor
//!   does taking, asking or giving back a lock hang with the file system.
//! - Nobody steals on an age alone. A contender needs proof that the owner is dead; one that it
//!   cannot judge (another host or PID namespace, an unreadable record) it succeeds only after a
//!   full stale window on its own monotonic clock, and with a higher fencing token. The table is in
//!   module `judge`.
//! - Tokens only ever rise, also across crashes (module `token`).
//! - A release removes, and a beat refreshes, only what is its own (modules `place`, `beat`).
//!
//! # What it needs
//! A file system with rename(2) and flock(2), write permission in the folder for all who use the
//! lock. All should have the same [`Config::stale`] and [`Config::beat`]; where they do not, the
//! longer ones count. Linux.
//!
//! # What it does not do
//! - An owner that no contender can judge (another host, or another PID namespace where flock is
//!   not shared) and that is stopped for longer than stale-after loses its lock without knowing.
//!   Until it asks, only the resource can tell, by the token.
//! - A process that forks while it holds passes its life lock on: other PID namespaces take the
//!   lock for held until the child is gone as well.
//! - A third party that removes the lock's files makes the lock free. Its owner notices at its next
//!   beat. If the token file is removed too, the clock keeps tokens rising.

#[cfg(feature = "adapter")]
pub mod adapter;
mod beat;
mod cause;
mod files;
mod guard;
mod judge;
mod lock;
mod look;
mod owner;
mod place;
mod policy;
mod recovery;
mod token;

pub use beat::Event;
pub use cause::{Cause, Trouble};
pub use guard::Guard;
pub use lock::{Config, LockError, ReferenceLock};
pub use place::ReleaseError;
pub use policy::{Health, Policy};

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
