//! The most memory that a run's supervisor ever had, for a short run and a hundred times as long.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Bench, trial};

/// How often the supervisor is looked at. What it ever had stays shown, so the end matters.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) fn print(bench: &Bench) {
    println!("\n{:<56} {:>9}", "the supervisor's memory at its most", "MiB");
    for operations in ["400", "40000"] {
        let case = trial(&[&bench.guests.c, "touch", operations]);
        let is_over = AtomicBool::new(false);
        let most = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut most = 0;
                while !is_over.load(Ordering::SeqCst) {
                    most = most.max(largest_supervisor());
                    std::thread::sleep(LOOK);
                }
                most
            });
            bench.run(&case, Path::new("/"), 0);
            is_over.store(true, Ordering::SeqCst);
            watcher.join().expect("it only looks")
        });
        let name = format!("a run of {operations} operations");
        println!("{name:<56} {:>9.1}", f64::from(most) / 1024.0);
    }
}

/// In KiB, of those that are below this process (proc_pid_status(5), VmHWM).
fn largest_supervisor() -> u32 {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let high = entries.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        if !String::from_utf8_lossy(&line).split('\0').any(|word| word == "__tracer") {
            return None;
        }
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    });
    high.max().unwrap_or(0)
}
