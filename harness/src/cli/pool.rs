//! A few workers, many cases: each case is done once, and one that panics stops no other.
//!
//! # Invariants
//! - Results are handed over on the caller's thread, in the order in which they finish.
//! - Worker numbers count from 0 and are below the number of workers: engines pin by them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Our own bug while a case ran, in the words of the panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panicked(pub String);

/// Does `work(worker, case)` for every case, and calls `done(index, result)` as they finish.
pub(super) fn run_all<C: Sync, R: Send>(
    cases: &[C],
    workers: usize,
    work: impl Fn(usize, &C) -> R + Sync,
    mut done: impl FnMut(usize, Result<R, Panicked>),
) {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for worker in 0..workers.min(cases.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(case) = cases.get(index) else { return };
                    // A case shares nothing mutable with another, so what a panic leaves half
                    // done is seen by nobody.
                    let result = catch_unwind(AssertUnwindSafe(|| work(worker, case)));
                    let result = result.map_err(|panic| Panicked(words(&*panic)));
                    if sender.send((index, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, result) in receiver {
            done(index, result);
        }
    });
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_case_is_reported_and_the_others_go_on() {
        let mut seen = vec![None; 5];
        let work = |_worker: usize, case: &u32| {
            assert!(*case != 3, "three is too many");
            case * 10
        };
        run_all(&[1, 2, 3, 4, 5], 2, work, |index, result| seen[index] = Some(result));
        let seen: Vec<_> = seen.into_iter().map(|result| result.expect("each ends once")).collect();
        assert_eq!(seen[4], Ok(50));
        assert_eq!(seen[2], Err(Panicked("three is too many".to_owned())));
        assert_eq!(seen.iter().filter(|result| result.is_ok()).count(), 4);
    }

    #[test]
    fn worker_numbers_stay_below_the_number_of_workers() {
        let cases: Vec<u32> = (0..100).collect();
        let mut most = 0;
        run_all(&cases, 3, |worker, _| worker, |_, worker| most = most.max(worker.unwrap()));
        assert!(most < 3);
        run_all(&[], 3, |_, (): &()| (), |_, _| panic!("there is nothing to do"));
    }
}
