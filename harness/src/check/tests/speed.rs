//! What a flooding subject can make the checks do is bounded.

use std::time::Instant;

use crate::check::script::*;
use crate::op::OpKind;

/// Adds the n-th piece.
type Flood = fn(&mut Script, u64);

/// Histories of 100 000 events (a tenth of it where nothing is optimised), each bad for another part. Real time is printed and only asserted
/// loosely: a quadratic pass takes minutes here.
#[test]
fn a_long_history_is_judged_in_no_time() {
    let half = if cfg!(debug_assertions) { 5_000 } else { 50_000 };
    let floods: [(&str, Flood); 5] = [
        ("beats and writes", |script, n| {
            script.at(300 + n).beats_on(HOLDER, 10).says(HOLDER, "wrote");
        }),
        ("stays of an heir", |script, _| {
            script.says(C1, "entered").says(C1, "left");
        }),
        ("takeovers after a word", |script, n| {
            if n == 0 {
                script.says(HOLDER, "lost");
            }
            script.says(C1, "entered").says(C1, "left");
        }),
        ("files in a folder that moves", |script, n| {
            if n < 1000 {
                script.makes(C1, OpKind::Create, &format!("a/{n}"), 100 + n);
            } else {
                let names = if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                script.moves(C1, OpKind::Rename, names, 99);
            }
        }),
        ("beats on the lock of another", |script, n| {
            if n == 0 {
                script.takes(C1, 20).says(C1, "entered");
            }
            script.acts(HOLDER, OpKind::Utimes, BEAT, 21).acts(C1, OpKind::Utimes, BEAT, 21);
        }),
    ];
    for (name, flood) in floods {
        let mut script = Script::new();
        script.at(0).takes(HOLDER, 10).says(HOLDER, "entered").polls(C1).at(300);
        for n in 0..half {
            flood(&mut script, n);
        }
        let begun = Instant::now();
        let verdict = script.verdict();
        let took = begun.elapsed();
        println!("{name}: {:?}, {} findings", took, verdict.findings.len());
        assert!(took.as_secs() < 60, "{name} took {took:?}");
        assert!(verdict.findings.len() <= 401, "{name}: {}", verdict.findings.len());
    }
}
