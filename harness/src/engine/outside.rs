//! Faults outside scenarios: what `exec` and `mount` share.
//!
//! The same court decides as in a run, but the processes and the files are the user's: there is
//! one role, which is everybody who comes; there are no events; and nothing is held against a
//! promise afterwards.

use crate::fault::Rule;
use crate::plan::{Bounds, LockFiles, Plan, Timing, World};
use crate::role::Role;
use crate::time::Nanos;

/// The only role: whoever makes an operation.
pub(crate) const EVERYBODY: Role = Role::Holder;

/// A plan of nothing but faults.
pub(crate) fn plan(rules: &[Rule]) -> Plan {
    let none = Nanos::ZERO;
    let no_files = LockFiles { name: String::new(), lock: Vec::new(), heartbeat: Vec::new() };
    Plan {
        seed: 0,
        timing: Timing { stale: None, beat: None, stale_unit: none, beat_unit: none, tick: none },
        files: no_files,
        cast: Vec::new(),
        world: World::default(),
        faults: rules.to_vec(),
        events: Vec::new(),
        // It is the user's command, and ends when the user wants.
        bounds: Bounds { wall: Nanos(u64::MAX), events: u64::MAX, output: 0, processes: u64::MAX },
    }
}
