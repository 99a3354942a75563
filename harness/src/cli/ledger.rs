//! What came of the faults of `exec` and `mount`: counted, told, and kept in a file.
//!
//! `--log FILE` gets JSON Lines: a first line with the format and what was run, then the events
//! as in `history.jsonl`, with whole paths. The only role is `holder`: whoever makes an operation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use globset::GlobSet;
use serde::Serialize;

use super::faults::Asked;
use super::paint::Paint;
use crate::engine::Scribe;
use crate::fault::matching::compile;
use crate::fault::{Effect, Rule, Target};
use crate::history::{Event, What};
use crate::op::{Op, OpKind, Outcome};

/// How often each fault is told of as it fires; after that it is only counted.
const TOLD_MAX: u64 = 10;

/// The first line of the file.
#[derive(Debug, Serialize)]
struct Head<'a> {
    format: u32,
    /// `exec` or `mount`.
    command: &'a str,
    /// What was run, or mounted where.
    argv: &'a [String],
    /// Each fault, as it was written.
    faults: Vec<&'a str>,
}

/// One fault, and what is known of it.
#[derive(Debug)]
struct Entry {
    text: String,
    rule: Rule,
    files: GlobSet,
    fired: u64,
    /// What was done to its files, by kind.
    seen: BTreeSet<OpKind>,
}

/// Counts what fires, and writes the log.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: BTreeMap<u32, Entry>,
    log: Option<BufWriter<File>>,
    /// What paths of events are below.
    root: String,
    paint: Paint,
    /// Whether each firing is told of at once.
    tells: bool,
    /// Whether every operation on the files is seen, or only those that a fault names.
    sees_all: bool,
}

impl Ledger {
    /// A ledger of these faults; events have their paths below `root`.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(super) fn open(
        (command, argv): (&str, &[String]),
        asked: &[Asked],
        root: &Path,
        log: Option<&Path>,
        tells: bool,
    ) -> io::Result<Ledger> {
        let mut entries = BTreeMap::new();
        for one in asked {
            for rule in &one.rules {
                let glob = if let Target::Glob(glob) = &rule.on { glob.as_str() } else { "**" };
                let files = compile([glob]).map_err(io::Error::other)?;
                let (text, rule) = (one.text.clone(), rule.clone());
                let entry = Entry { text, rule, files, fired: 0, seen: BTreeSet::new() };
                entries.insert(entry.rule.number, entry);
            }
        }
        let mut log = log.map(File::create).transpose()?.map(BufWriter::new);
        if let Some(log) = &mut log {
            let faults = asked.iter().map(|one| one.text.as_str()).collect();
            write_line(log, &Head { format: 1, command, argv, faults })?;
            log.flush()?;
        }
        let root = root.to_string_lossy().trim_end_matches('/').to_owned();
        let sees_all = tells || log.is_some();
        Ok(Ledger { entries, log, root, paint: Paint::for_stderr(), tells, sees_all })
    }

    /// Prints how often each fault fired, and why one may never have; whether each one did.
    pub(super) fn sum_up(&self) -> bool {
        let mut all_fired = true;
        for entry in self.entries.values() {
            let what = self.name(entry);
            match entry.fired {
                0 => {
                    all_fired = false;
                    eprintln!("{} {what}", self.paint.bad(" NEVER FIRED"));
                    eprintln!("             (hint: {})", self.why_never(entry));
                }
                count => {
                    let times = if count == 1 { "once".to_owned() } else { format!("{count}×") };
                    eprintln!("{} {times:<5} {what}", self.paint.good("       FIRED"));
                }
            }
        }
        all_fired
    }

    /// How often fault `number` fired.
    #[cfg(test)]
    fn fired(&self, number: u32) -> u64 {
        self.entries[&number].fired
    }

    /// The text of a fault; where one text became several rules, with the kinds of this one.
    fn name(&self, entry: &Entry) -> String {
        let same = self.entries.values().filter(|other| other.text == entry.text).count();
        if same > 1 { format!("{} ({})", entry.text, entry.kinds()) } else { entry.text.clone() }
    }

    /// What stands between a fault and its files, as far as it was seen.
    fn why_never(&self, entry: &Entry) -> String {
        let kinds = entry.kinds();
        if entry.rule.ops.kinds.iter().any(|kind| entry.seen.contains(kind)) {
            return format!("there was {kinds}, but never when `times`, `from` and `until` asked");
        }
        if !self.sees_all {
            return format!("no {kinds} of its files; `--log FILE` shows what is done to them");
        }
        if entry.seen.is_empty() {
            let below = "what is below a folder is `FOLDER/**`";
            return format!("nothing was done to its files: is the path right? {below}");
        }
        let seen: Vec<&str> = entry.seen.iter().map(|kind| kind.as_str()).collect();
        format!("no {kinds} of its files; what was done to them: {}", seen.join(", "))
    }

    fn take(&mut self, event: &Event) {
        match &event.what {
            What::Fired { fault, .. } => {
                if let Some(entry) = self.entries.get_mut(fault) {
                    entry.fired += 1;
                }
            }
            What::Op { op, outcome, fault } => {
                self.note(op);
                self.tell(op, Some(outcome), *fault);
            }
            What::Waiting { op, fault } => self.tell(op, None, *fault),
            What::Trouble { why } => eprintln!("warning: {why}"),
            _ => {}
        }
    }

    fn note(&mut self, op: &Op) {
        for entry in self.entries.values_mut() {
            if op.all_paths().any(|path| entry.files.is_match(path)) {
                entry.seen.insert(op.kind);
            }
        }
    }

    fn whole(&self, path: &str) -> String {
        if path.is_empty() { format!("{}/", self.root) } else { format!("{}/{path}", self.root) }
    }

    /// The event as the log has it.
    fn with_whole_paths(&self, mut event: Event) -> Event {
        if let What::Op { op, .. } | What::Waiting { op, .. } = &mut event.what {
            op.paths = op.paths.iter().map(|path| self.whole(path)).collect();
            op.to = op.to.as_ref().map(|path| self.whole(path));
        }
        event
    }

    /// One line for an operation that a fault had a hand in. Without an outcome it waits.
    fn tell(&self, op: &Op, outcome: Option<&Outcome>, fault: Option<u32>) {
        let Some(entry) = fault.and_then(|number| self.entries.get(&number)) else { return };
        if !self.tells || entry.fired > TOLD_MAX {
            return;
        }
        let came_to = match (outcome.map(|outcome| outcome.told), &entry.rule.effect) {
            (None, _) => "waits".to_owned(),
            (Some(Err(errno)), _) => errno.to_string(),
            (Some(Ok(_)), Effect::Ignore) => "reported, not done".to_owned(),
            (Some(Ok(count)), Effect::Short(_) | Effect::Torn(_)) => format!("reports {count}"),
            (Some(Ok(_)), _) => "done".to_owned(),
        };
        let more = if entry.fired == TOLD_MAX { "  (more of it are only counted)" } else { "" };
        let path = self.whole(op.path());
        let kind = op.kind.as_str();
        let number = entry.rule.number;
        let line = format!("fault {number}: {kind} {path}: {came_to}{more}");
        eprintln!("{} {line}", self.paint.warn("       FAULT"));
    }
}

impl Entry {
    fn kinds(&self) -> String {
        let kinds: Vec<&str> = self.rule.ops.kinds.iter().map(|kind| kind.as_str()).collect();
        kinds.join(", ")
    }
}

fn write_line(log: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *log, value)?;
    log.write_all(b"\n")
}

impl Scribe for Ledger {
    fn put(&mut self, event: Event) -> io::Result<()> {
        self.take(&event);
        if self.log.is_none() {
            return Ok(());
        }
        let event = self.with_whole_paths(event);
        let Some(log) = &mut self.log else { return Ok(()) };
        let written = write_line(log, &event);
        if let Err(error) = &written {
            eprintln!("warning: the log is not written any more: {error}");
            self.log = None;
        }
        written
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Errno, OpId};
    use crate::role::Role;
    use crate::scenario::parse_fault;
    use crate::time::Nanos;

    fn ledger() -> Ledger {
        let text = "on=tmp/lock op=utimes error=EIO times=2..3";
        let rule = parse_fault(text, 1, 1).unwrap();
        let asked = Asked { text: text.to_owned(), rules: vec![rule], is_late: false };
        Ledger::open(("exec", &[]), &[asked], Path::new("/"), None, false).unwrap()
    }

    fn op(kind: OpKind, path: &str) -> Event {
        let op = Op {
            id: OpId(1),
            role: Role::Holder,
            kind,
            truncates: false,
            paths: vec![path.to_owned()],
            to: None,
            by_descriptor: false,
            unlinked: false,
            ino: None,
        };
        let outcome = Outcome { told: Err(Errno(libc::EIO)), effect: false, ino: None };
        Event { seq: 1, at: Nanos::ZERO, what: What::Op { op, outcome, fault: None } }
    }

    #[test]
    fn a_fault_that_never_fired_is_explained() {
        let mut ledger = ledger();
        let why = |ledger: &Ledger| ledger.why_never(&ledger.entries[&1]);
        assert!(why(&ledger).contains("--log"));
        ledger.sees_all = true;
        ledger.put(op(OpKind::Utimes, "tmp/other")).unwrap();
        assert!(why(&ledger).contains("is the path right"));
        ledger.put(op(OpKind::Stat, "tmp/lock")).unwrap();
        assert!(why(&ledger).contains("no utimes") && why(&ledger).contains("stat"));
        ledger.put(op(OpKind::Utimes, "tmp/lock")).unwrap();
        assert!(why(&ledger).contains("`times`"));
        assert!(!ledger.sum_up());
    }

    #[test]
    fn what_fired_is_counted() {
        let mut ledger = ledger();
        let what = What::Fired { fault: 1, role: Role::Holder, op: OpId(1) };
        ledger.put(Event { seq: 1, at: Nanos::ZERO, what }).unwrap();
        assert_eq!(ledger.fired(1), 1);
        assert!(ledger.sum_up());
    }
}
