//! What surrounds a run of the trace engine, with real programs: PID namespaces and host names,
//! `/proc`, the file system's personality, threads, and what is refused.

#[path = "worlds/personality.rs"]
mod personality;
#[path = "worlds/pids.rs"]
mod pids;
#[path = "worlds/refused.rs"]
mod refused;
mod support;
#[path = "worlds/threads.rs"]
mod threads;
#[path = "worlds/told.rs"]
mod told;
