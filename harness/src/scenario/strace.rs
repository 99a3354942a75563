//! strace's `--inject` grammar (strace(1), "Tampering"), as far as it means what a fault means.
//!
//! ```text
//! utimensat,utimes:error=EIO:when=3+2
//! ^^^^^^^^^^^^^^^^ ^^^^^^^^^ ^^^^^^^^
//! calls            what      which of them: first[..last][+[step]]
//! ```
//!
//! | strace | fault |
//! |---|---|
//! | a call | the operation that it makes, whatever other call makes it, too |
//! | `error=E` | `error = E` |
//! | `retval=0` | `ignore = true`; for a write `short = 0` |
//! | `delay_enter=D` | `delay = D`; microseconds where there is no unit |
//! | `delay_exit=D` | the same, but the operation happens first: [`Import::is_late`] |
//! | `signal=SIGKILL` | `kill = true` |
//! | `when=3`, `3..7`, `3+`, `3..7+2` | `times = "3..3"`, `"3..7"`, `"3.."`, `"3..7 every 2"` |
//!
//! strace counts each call of each thread; here each operation of each process on each file is
//! counted, whichever thread makes it. Whatever has no row is refused, with the reason.

use std::ops::Range;

use super::fault_table;
use super::mistake::{Mistakes, did_you_mean, quoted};
use super::walk::{Complaint, Sink};
use super::words::{Said, shifted, wrong};
use crate::fault::{Effect, Ops, Rule, Target, Times};
use crate::moment::Moment;
use crate::op::{Errno, OpKind};
use crate::role::Who;
use crate::time::Nanos;

/// What a message calls the place of the text.
const PLACE: &str = "--inject";
/// strace's own bounds of `when`.
const WHEN_MAX: u64 = 65535;

/// What one `--inject` means.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// One for each kind of operation, numbered on from the number that was given.
    pub rules: Vec<Rule>,
    /// Whether the delay comes after the operation, not before it.
    pub is_late: bool,
    /// In what strace would do more, one sentence each.
    pub notes: Vec<String>,
}

/// The operations of each call that is one on files, or makes a thread.
const CALLS: &[(&[OpKind], &[&str])] = {
    use OpKind::{
        Chmod, Chown, Close, Create, FcntlLock, Flock, Fsync, Link, Mkdir, Open, Read, Readdir,
        Rename, Rmdir, Stat, Statfs, Symlink, Thread, Truncate, Unlink, Utimes, Write,
    };
    &[
        (&[Utimes], &["utime", "utimes", "futimesat", "utimensat"]),
        (
            &[Write],
            &[
                "write",
                "writev",
                "pwrite64",
                "pwritev",
                "pwritev2",
                "sendfile",
                "splice",
                "copy_file_range",
                "fallocate",
            ],
        ),
        (&[Read], &["read", "readv", "pread64", "preadv", "preadv2"]),
        (&[Truncate], &["truncate", "ftruncate"]),
        (&[Open, Create], &["open", "openat", "openat2", "creat"]),
        (&[Create], &["mknod", "mknodat"]),
        (&[Mkdir], &["mkdir", "mkdirat"]),
        (&[Rename], &["rename", "renameat", "renameat2"]),
        (&[Link], &["link", "linkat"]),
        (&[Symlink], &["symlink", "symlinkat"]),
        (&[Unlink], &["unlink"]),
        (&[Unlink, Rmdir], &["unlinkat"]),
        (&[Rmdir], &["rmdir"]),
        (
            &[Stat],
            &["stat", "lstat", "fstat", "newfstatat", "statx", "access", "faccessat", "faccessat2"],
        ),
        (&[Readdir], &["getdents", "getdents64"]),
        (&[Chmod], &["chmod", "fchmod", "fchmodat", "fchmodat2"]),
        (&[Chown], &["chown", "lchown", "fchown", "fchownat"]),
        (&[Fsync], &["fsync", "fdatasync", "sync_file_range"]),
        (&[Close], &["close"]),
        (&[Flock], &["flock"]),
        (&[FcntlLock], &["fcntl"]),
        (&[Statfs], &["statfs", "fstatfs"]),
        (&[Thread], &["clone", "clone3"]),
    ]
};

/// The parts of the grammar that no fault means, and why.
const REFUSED: &[(&str, &str)] = &[
    ("syscall", "a call is failed or let through, never replaced by another"),
    ("poke_enter", "a fault changes no memory of the program"),
    ("poke_exit", "a fault changes no memory of the program"),
];
const KNOWN: &[&str] = &["error", "retval", "signal", "delay_enter", "delay_exit", "when"];

/// Parses one `--inject`. Its rules are numbered from `number` on and mean every file.
///
/// # Errors
/// Every mistake of the text, and everything that has no counterpart.
pub fn parse_inject(text: &str, number: u32) -> Result<Import, Mistakes> {
    let mut sink = Sink::new(text);
    let import = read(&mut sink, text, number);
    sink.finish(PLACE, import)
}

/// A part of the text, and where it begins.
#[derive(Clone, Copy)]
struct Part<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Part<'t> {
    fn span(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    fn split(self, separator: char) -> impl Iterator<Item = Part<'t>> {
        let mut at = self.at;
        self.text.split(separator).map(move |text| {
            let part = Part { text, at };
            at += text.len() + 1;
            part
        })
    }
}

/// What is read so far.
#[derive(Default)]
struct Draft<'t> {
    error: Option<(Part<'t>, Errno)>,
    retval: Option<Part<'t>>,
    delay: Option<(Part<'t>, Nanos)>,
    is_late: bool,
    kill: Option<Part<'t>>,
    times: Option<Times>,
}

fn read(sink: &mut Sink<'_>, text: &str, number: u32) -> Option<Import> {
    let mut parts = Part { text, at: 0 }.split(':');
    let set = parts.next()?;
    let groups = calls(sink, set);
    let mut draft = Draft::default();
    for part in parts {
        option(sink, &mut draft, part);
    }
    let effects = effects(sink, &draft, text)?;
    let mut rules = Vec::new();
    for (kinds, number) in groups.iter().zip(number..) {
        let effect = effect_on(sink, &effects, kinds, &draft)?;
        rules.push(Rule {
            number,
            who: Who::Any,
            on: Target::Glob("**".to_owned()),
            ops: Ops { refresh: false, kinds: kinds.clone() },
            effect,
            from: Moment::START,
            until: None,
            times: draft.times.unwrap_or(Times::All),
            synthetic: true,
        });
    }
    Some(Import { rules, is_late: draft.is_late, notes: notes(set) })
}

/// The kinds that each call of the set makes; calls that make the same are one.
fn calls(sink: &mut Sink<'_>, set: Part<'_>) -> Vec<Vec<OpKind>> {
    let mut groups: Vec<Vec<OpKind>> = Vec::new();
    for call in set.split(',') {
        // strace's `?name` is for calls that another machine may not have.
        let name = call.text.strip_prefix('?').unwrap_or(call.text);
        let found = CALLS.iter().find(|(_, names)| names.contains(&name));
        match found {
            Some((kinds, _)) if groups.iter().all(|group| group != kinds) => {
                groups.push(kinds.to_vec());
            }
            Some(_) => {}
            None => refuse_call(sink, call, name),
        }
    }
    groups
}

fn refuse_call(sink: &mut Sink<'_>, call: Part<'_>, name: &str) {
    let first = name.chars().next();
    let hint = match first {
        None => "the calls come first, as in `utimensat:error=EIO`".to_owned(),
        Some('%' | '/' | '!') => "name the calls, separated by commas".to_owned(),
        _ if matches!(name, "all" | "none" | "file" | "desc" | "process" | "network") => {
            "name the calls, separated by commas".to_owned()
        }
        _ if name.starts_with("inject=") || name.starts_with("fault=") => {
            "leave out what is before the `=`".to_owned()
        }
        _ if name.contains('@') => "leave out the `@` and what follows".to_owned(),
        _ => {
            let known = CALLS.iter().flat_map(|(_, names)| names.iter().copied());
            let near = did_you_mean(name, known);
            if near.is_empty() {
                "only calls on files, and those that make threads, can be failed".to_owned()
            } else {
                near
            }
        }
    };
    let what = if matches!(first, Some('%' | '/' | '!')) { "set of calls" } else { "call" };
    sink.say(call.span(), format!("no operation stands for the {what} {}", quoted(name)), hint);
}

/// One `name=value` after the calls.
fn option<'t>(sink: &mut Sink<'_>, draft: &mut Draft<'t>, part: Part<'t>) {
    let (name, value) = part.text.split_once('=').unwrap_or((part.text, ""));
    let value = Part { text: value, at: part.at + part.text.len() - value.len() };
    let is_twice = match name {
        "error" => draft.error.is_some(),
        "retval" => draft.retval.is_some(),
        "signal" => draft.kill.is_some(),
        "delay_enter" | "delay_exit" => draft.delay.is_some(),
        // strace lets the last one win; here nothing is dropped.
        "when" => draft.times.is_some(),
        _ => false,
    };
    if is_twice {
        let hint = if name.starts_with("delay") { "one delay, before or after" } else { "" };
        return sink.say(part.span(), format!("{} is there twice", quoted(name)), hint);
    }
    match name {
        "error" => {
            draft.error = heed(sink, value, errno(value.text)).map(|errno| (part, errno));
        }
        "retval" => {
            draft.retval = heed(sink, value, zero(value.text)).map(|()| part);
        }
        "signal" => {
            draft.kill = heed(sink, value, kill(value.text)).map(|()| part);
        }
        "delay_enter" | "delay_exit" => {
            draft.is_late = name == "delay_exit";
            draft.delay = heed(sink, value, delay(value.text)).map(|delay| (part, delay));
        }
        "when" => draft.times = heed(sink, value, when(value.text)),
        _ => match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some((_, why)) => {
                sink.say(part.span(), format!("{} has no counterpart", quoted(name)), *why);
            }
            None => {
                let all = KNOWN.iter().chain(REFUSED.iter().map(|(name, _)| name)).copied();
                let message = format!("unknown option {}", quoted(name));
                sink.say(part.span(), message, did_you_mean(name, all));
            }
        },
    }
}

fn heed<T>(sink: &mut Sink<'_>, value: Part<'_>, said: Said<T>) -> Option<T> {
    match shifted(said, value.at) {
        Ok(value) => Some(value),
        Err(Complaint { part, message, hint }) => {
            sink.say(part, message, hint);
            None
        }
    }
}

/// A name, or a number from 1 to 4095.
fn errno(text: &str) -> Said<Errno> {
    match text.parse::<i32>() {
        Ok(number) if (1..=4095).contains(&number) => Ok(Errno(number)),
        Ok(_) => wrong(0..text.len(), "an errno is from 1 to 4095", ""),
        Err(_) => fault_table::errno(text),
    }
}

fn zero(text: &str) -> Said<()> {
    let hint = "only retval=0: success is reported, and nothing happened";
    if matches!(text, "0" | "0x0") { Ok(()) } else { wrong(0..text.len(), "not 0", hint) }
}

fn kill(text: &str) -> Said<()> {
    if matches!(text, "SIGKILL" | "KILL" | "9") {
        return Ok(());
    }
    let hint = "a fault kills (SIGKILL), and sends no other signal";
    wrong(0..text.len(), format!("{} cannot be sent", quoted(text)), hint)
}

/// strace(1), "Time specification format": microseconds, unless a unit is given.
fn delay(text: &str) -> Said<Nanos> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1e9,
        "ms" => 1e6,
        "us" | "" => 1e3,
        "ns" => 1.0,
        _ => return wrong(digits..text.len(), "unknown unit", "one of s, ms, us, ns"),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number * unit <= 1e15 => Ok(Nanos(1).scaled(number * unit)),
        _ => wrong(0..text.len(), "no length, or too long", "such as `500ms`, or `1000` (µs)"),
    }
}

/// `first[..last][+[step]]`.
fn when(text: &str) -> Said<Times> {
    let hint = "first[..last][+[step]], from 1 to 65535";
    let (range, step) = match text.split_once('+') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (first, last) = match range.split_once("..") {
        Some((first, last)) => (first, Some(last)),
        None => (range, None),
    };
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_plain { text.parse::<u64>().ok() } else { None };
        number.filter(|number| (1..=WHEN_MAX).contains(number))
    };
    let bad = || wrong(0..text.len(), format!("{} is no count", quoted(text)), hint);
    let Some(first) = number(first) else { return bad() };
    let last = match last.map(number) {
        Some(None) => return bad(),
        Some(Some(last)) if last < first => {
            return wrong(0..text.len(), "the range runs backwards", hint);
        }
        Some(last) => last,
        None => None,
    };
    let step = match step {
        Some("") => Some(1),
        Some(step) => match number(step) {
            None => return bad(),
            step => step,
        },
        None => None,
    };
    Ok(match (last, step) {
        (None, None) => Times::Range(first, first),
        (Some(last), None | Some(1)) => Times::Range(first, last),
        (last, Some(step)) => Times::Steps { first, last, step },
    })
}

/// What shall happen, still without regard to the call.
enum Wanted {
    Fault(Effect),
    Success,
}

/// The one thing that the text asks for.
fn effects(sink: &mut Sink<'_>, draft: &Draft<'_>, text: &str) -> Option<Wanted> {
    let mut wanted = Vec::new();
    if let Some((part, errno)) = draft.error {
        wanted.push((part, Wanted::Fault(Effect::Error { errno, apply: false })));
    }
    wanted.extend(draft.retval.map(|part| (part, Wanted::Success)));
    wanted.extend(draft.delay.map(|(part, delay)| (part, Wanted::Fault(Effect::Delay(delay)))));
    wanted.extend(draft.kill.map(|part| (part, Wanted::Fault(Effect::Kill))));
    if let [(first, _), others @ ..] = &wanted[..] {
        for (other, _) in others {
            let message = format!("{} and {} together", quoted(first.text), quoted(other.text));
            sink.say(other.span(), message, "one fault does one thing");
        }
    }
    let is_read = wanted.pop().map(|(_, wanted)| wanted);
    if is_read.is_none() {
        let hint = "one of error=, retval=0, delay_enter=, delay_exit=, signal=SIGKILL";
        sink.say(0..text.len(), "nothing is injected", hint);
    }
    is_read
}

/// What it comes to for these kinds of operation.
fn effect_on(
    sink: &mut Sink<'_>,
    wanted: &Wanted,
    kinds: &[OpKind],
    draft: &Draft<'_>,
) -> Option<Effect> {
    use OpKind::{Close, Create, Open, Read, Readdir, Stat, Statfs, Thread};
    let effect = match wanted {
        Wanted::Fault(effect) => return Some(effect.clone()),
        Wanted::Success => kinds,
    };
    if effect == [OpKind::Write] {
        // Nothing written, and that is what is told: the other way round is `ignore`.
        return Some(Effect::Short(0));
    }
    let odd = |kind: &&OpKind| {
        matches!(kind, Close | Create | Open | Read | Readdir | Stat | Statfs | Thread)
    };
    if let Some(kind) = kinds.iter().find(odd) {
        let span = draft.retval.map_or(0..0, Part::span);
        let message = format!("retval=0 has no counterpart for `{}`", kind.as_str());
        sink.say(span, message, "only what changes a file can be reported and not done");
        return None;
    }
    Some(Effect::Ignore)
}

/// In what strace would do more.
fn notes(set: Part<'_>) -> Vec<String> {
    let names: Vec<&str> =
        set.split(',').map(|call| call.text.strip_prefix('?').unwrap_or(call.text)).collect();
    let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(name));
    let mut notes = Vec::new();
    if has(&["open", "openat", "openat2"]) {
        notes.push("opening a folder is not hit, nor is a file that is not there".to_owned());
    }
    if has(&["fcntl"]) {
        notes.push("of fcntl only its locks are hit".to_owned());
    }
    if has(&["clone", "clone3"]) {
        notes.push("of clone only the making of threads is hit, not that of processes".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn good(text: &str) -> Import {
        parse_inject(text, 1).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"))
    }

    #[test]
    fn the_example_of_the_manual_is_understood() {
        let import = good("utimensat,utime,futimesat:error=EIO:when=3+");
        let [rule] = &import.rules[..] else { panic!("{import:?}") };
        assert_eq!(rule.ops.kinds, [OpKind::Utimes]);
        assert_eq!(rule.effect, Effect::Error { errno: Errno(libc::EIO), apply: false });
        assert_eq!(rule.times, Times::Steps { first: 3, last: None, step: 1 });
    }

    /// Goal: each call is counted by itself, as in strace, except where two make the same.
    #[test]
    fn calls_that_make_different_operations_are_counted_apart() {
        let import = good("write,fsync,pwrite64:error=5");
        let kinds: Vec<_> = import.rules.iter().map(|rule| rule.ops.kinds.clone()).collect();
        assert_eq!(kinds, [[OpKind::Write], [OpKind::Fsync]]);
        assert_eq!(import.rules.iter().map(|rule| rule.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[rstest]
    #[case("3", &[3])]
    #[case("3+", &[3, 4, 5, 6, 7, 8, 9])]
    #[case("3+2", &[3, 5, 7, 9])]
    #[case("3..7", &[3, 4, 5, 6, 7])]
    #[case("3..7+", &[3, 4, 5, 6, 7])]
    #[case("3..7+3", &[3, 6])]
    fn when_hits_what_strace_hits(#[case] text: &str, #[case] hit: &[u64]) {
        let times = when(text).unwrap();
        let asked: Vec<u64> = (1..10).filter(|count| times.asks_for(*count)).collect();
        assert_eq!(asked, hit);
    }

    #[rstest]
    #[case("utimensat:retval=0", Effect::Ignore)]
    #[case("write:retval=0", Effect::Short(0))]
    #[case("fsync:delay_enter=1500", Effect::Delay(Nanos(1_500_000)))]
    #[case("fsync:delay_enter=1.5s", Effect::Delay(Nanos(1_500_000_000)))]
    #[case("fsync:delay_enter=20ms", Effect::Delay(Nanos(20_000_000)))]
    #[case("rename:signal=SIGKILL", Effect::Kill)]
    #[case("?mkdir:error=ENOSPC", Effect::Error { errno: Errno(libc::ENOSPC), apply: false })]
    fn each_kind_of_injection_has_its_fault(#[case] text: &str, #[case] effect: Effect) {
        assert_eq!(good(text).rules[0].effect, effect);
    }

    #[rstest]
    #[case("utimensta:error=EIO", "utimensta", "`utimensat`")]
    #[case("connect:error=EIO", "connect", "only calls on files")]
    #[case("%file:error=EIO", "%file", "name the calls")]
    #[case("/utime.*:error=EIO", "/utime.*", "name the calls")]
    #[case("inject=write:error=EIO", "inject=write", "leave out")]
    #[case("write@64:error=EIO", "write@64", "leave out the `@`")]
    #[case("write:error=EIOO", "EIOO", "`EIO`")]
    #[case("write:error=5000", "5000", "4095")]
    #[case("write:retval=3", "3", "retval=0")]
    #[case("read:retval=0", "retval=0", "only what changes")]
    #[case("close:retval=0", "retval=0", "only what changes")]
    #[case("write:signal=SIGTERM", "SIGTERM", "SIGKILL")]
    #[case("write:delay_enter=1s:delay_exit=1s", "delay_exit", "before or after")]
    #[case("write:delay_enter=1h", "h", "one of s, ms, us, ns")]
    #[case("write:syscall=getpid", "syscall", "never replaced")]
    #[case("write:poke_enter=@arg1=00", "poke_enter", "no memory")]
    #[case("write:eror=EIO", "eror", "`error`")]
    #[case("write:error=EIO:when=0", "`0` is no count", "from 1")]
    #[case("write:error=EIO:when=5..2", "5..2", "backwards")]
    #[case("write:error=EIO:when=1:when=2", "when", "twice")]
    #[case("write:error=EIO:retval=0", "retval=0", "one thing")]
    #[case("write:when=1", "write:when=1", "nothing is injected")]
    #[case("", "--inject", "the calls come first")]
    fn what_has_no_counterpart_is_refused_by_name(
        #[case] text: &str,
        #[case] word: &str,
        #[case] reason: &str,
    ) {
        let said = parse_inject(text, 1).expect_err(text).render(false);
        assert!(said.contains(word), "no `{word}` in\n{said}");
        assert!(said.contains(reason), "no `{reason}` in\n{said}");
    }

    #[test]
    fn a_delay_is_before_or_after() {
        assert!(good("fsync:delay_exit=1ms").is_late);
        assert!(!good("fsync:delay_enter=1ms").is_late);
    }

    #[test]
    fn every_operation_that_can_be_named_has_a_call() {
        for kind in OpKind::ALL.iter().filter(|kind| kind.is_nameable()) {
            assert!(CALLS.iter().any(|(kinds, _)| kinds.contains(kind)), "{kind:?}");
        }
    }

    proptest! {
        /// Goal: no text panics, and none is refused without a reason.
        #[test]
        fn any_text_is_understood_or_refused(text in "[a-z=:.,+0-9?%/é]{0,50}") {
            if let Err(mistakes) = parse_inject(&text, 1) {
                prop_assert!(!mistakes.render(false).is_empty());
            }
        }
    }
}
