//! Ctrl-C: the first one asks every run to end, so that the report is still written; the second
//! one ends deadbeat at once. Either way the engine leaves nothing behind.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;
use crate::engine::Stop;

/// Listens from now to the end of the program.
pub(super) fn listen(stop: &Stop) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if stop.asked() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            stop.ask();
            eprintln!("\ninterrupted: tearing down and writing the report (again: stop at once)");
        }
    })?;
    Ok(())
}
