//! The tiny lock of `bench.c`.
use std::fs::{File, FileTimes, OpenOptions};
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

fn say(line: &str) {
    let witness = std::env::var("DEADBEAT_WITNESS").unwrap();
    OpenOptions::new().append(true).open(witness).unwrap().write_all(line.as_bytes()).unwrap();
}

fn main() {
    std::env::set_current_dir(std::env::var("DEADBEAT_DIR").unwrap()).unwrap();
    while std::fs::create_dir("lock").is_err() {
        sleep(Duration::from_secs(1));
    }
    say("entered\n");
    for _ in 0..8 {
        sleep(Duration::from_millis(2500));
        let now = FileTimes::new().set_modified(SystemTime::now());
        File::open("lock").unwrap().set_times(now).unwrap();
    }
    say("left\n");
    std::fs::remove_dir("lock").unwrap();
    say("released\n");
}
