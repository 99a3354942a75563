//! Waits of Rust's standard library, and what its two clocks show.
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

fn wait(name: &str, wanted_ms: u64, wait: impl FnOnce(Duration)) {
    let (real, mono) = (SystemTime::now(), Instant::now());
    wait(Duration::from_millis(wanted_ms));
    let real = real.elapsed().expect("the wall clock does not go back").as_millis();
    let mono = mono.elapsed().as_millis();
    println!("{name} {wanted_ms} {real} {mono} {mono} {real} agree -");
}

fn main() {
    wait("sleep", 3000, thread::sleep);
    wait("park_timeout", 1500, thread::park_timeout);
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    wait("wait_timeout", 2500, |length| {
        drop(condvar.wait_timeout(mutex.lock().unwrap(), length).unwrap());
    });
    let (_sender, receiver) = mpsc::channel::<()>();
    wait("recv_timeout", 1200, |length| assert!(receiver.recv_timeout(length).is_err()));
    wait("thread", 4000, |length| thread::spawn(move || thread::sleep(length)).join().unwrap());
    wait("busy", 700, |length| {
        let begun = Instant::now();
        while begun.elapsed() < length {}
    });
    println!("done");
}
