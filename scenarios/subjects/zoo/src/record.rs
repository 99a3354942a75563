//! Who owns a lock, as its record says, and what can be said of that process from here.
//!
//! One line: `1 PID STARTED NAMESPACE BOOT HOST STALE-MS BEAT-MS TOKEN NONCE end`.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};

use crate::bugs::{Bug, Bugs};

/// What a record begins with.
const FORMAT: &str = "1";
/// What a record ends with: what does not is torn.
const END: &str = "end";
/// What this system does not say; equal to nothing.
const UNKNOWN: &str = "-";

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    /// In clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub(crate) started: u64,
    /// The PID namespace.
    pub(crate) namespace: String,
    pub(crate) boot: String,
    pub(crate) host: String,
    pub(crate) stale: Duration,
    pub(crate) beat: Duration,
    pub(crate) token: u64,
    pub(crate) nonce: String,
}

/// What can be said of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is dead, for certain.
    Dead,
    /// Its process runs; it may have given its lock up all the same.
    Runs,
    /// It cannot be seen from here.
    Unseen,
}

impl Record {
    /// Of this process, for one acquisition.
    pub(crate) fn of_this_process(stale: Duration, beat: Duration) -> Record {
        let pid = std::process::id();
        let link = |path: &str| fs::read_link(path).map(|to| to.to_string_lossy().into_owned());
        let unknown = |_| UNKNOWN.to_owned();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        // Unique is all that it has to be, and two hashers of one process differ.
        let random = RandomState::new().build_hasher().finish();
        Record {
            pid,
            started: started_of(pid).flatten().unwrap_or(0),
            namespace: word(&link("/proc/self/ns/pid").unwrap_or_else(unknown)),
            boot: word(&boot.unwrap_or_else(unknown)),
            host: word(&rustix::system::uname().nodename().to_string_lossy()),
            stale,
            beat,
            token: 0,
            nonce: format!("{pid}-{random:016x}"),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        format!(
            "{FORMAT} {} {} {} {} {} {} {} {} {} {END}\n",
            self.pid,
            self.started,
            self.namespace,
            self.boot,
            self.host,
            self.stale.as_millis(),
            self.beat.as_millis(),
            self.token,
            self.nonce
        )
    }

    /// `None` for what is empty, torn, or not of this lock.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Record> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let words: Vec<&str> = text.split(' ').collect();
        let [format, pid, started, namespace, boot, host, stale, beat, token, nonce, end] =
            words.try_into().ok()?;
        if format != FORMAT || end != END {
            return None;
        }
        Some(Record {
            pid: pid.parse().ok().filter(|pid| (1..=i32::MAX.unsigned_abs()).contains(pid))?,
            started: started.parse().ok()?,
            namespace: namespace.to_owned(),
            boot: boot.to_owned(),
            host: host.to_owned(),
            stale: Duration::from_millis(stale.parse().ok()?),
            beat: Duration::from_millis(beat.parse().ok()?),
            token: token.parse().ok()?,
            nonce: nonce.to_owned(),
        })
    }

    /// What this process, which would write the record `self`, can say of the owner of another.
    pub(crate) fn fate_of(&self, owner: &Record, bugs: Bugs) -> Fate {
        let same = |one: &str, other: &str| one == other && one != UNKNOWN;
        let is_same_host = same(&self.host, &owner.host);
        let is_in_sight = if bugs.has(Bug::PidAlone) || bugs.has(Bug::AsksByKill) {
            true
        } else if bugs.has(Bug::HostNameAlone) {
            is_same_host
        } else {
            is_same_host && same(&self.boot, &owner.boot) && same(&self.namespace, &owner.namespace)
        };
        if !is_in_sight {
            return Fate::Unseen;
        }
        if bugs.has(Bug::AsksByKill) {
            return answer_of_kill(owner.pid);
        }
        match started_of(owner.pid) {
            Some(None) => Fate::Dead,
            Some(Some(_)) if bugs.has(Bug::PidAlone) || bugs.has(Bug::TrustsReusedPid) => {
                Fate::Runs
            }
            Some(Some(started)) if started != owner.started => Fate::Dead,
            Some(Some(_)) => Fate::Runs,
            None => Fate::Unseen,
        }
    }
}

/// Without what would end a word of the record.
fn word(text: &str) -> String {
    let text = text.trim();
    let plain = |c: char| if c.is_whitespace() || c.is_control() { '?' } else { c };
    if text.is_empty() { UNKNOWN.to_owned() } else { text.chars().map(plain).collect() }
}

/// What kill(pid, 0) says, as many read it: any error means that nobody is there. EPERM says that
/// somebody is there, of another user.
fn answer_of_kill(pid: u32) -> Fate {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match pid.map(test_kill_process) {
        Some(Ok(())) => Fate::Runs,
        Some(Err(_)) | None => Fate::Dead,
    }
}

/// When a process started; `Some(None)` if there is no such process, or only its remains; `None` if
/// that cannot be seen.
fn started_of(pid: u32) -> Option<Option<u64>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        // Without pid 1 this /proc hides the processes of others (proc(5), hidepid).
        Err(_) if fs::symlink_metadata("/proc/1").is_err() => return None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(None),
        // It went while its file was being read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Some(None);
        }
        Err(_) => return None,
    };
    // The name, field 2, may hold blanks and brackets.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return Some(None);
    }
    Some(Some(fields.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_no_part_of_one_does() {
        let record =
            Record::of_this_process(Duration::from_millis(1000), Duration::from_millis(300));
        let text = record.to_text();
        assert_eq!(Record::parse(text.as_bytes()), Some(record));
        for cut in 0..text.len() {
            assert_eq!(Record::parse(&text.as_bytes()[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_sound_lock_sees_that_this_process_runs_and_that_a_reused_pid_is_another() {
        let me = Record::of_this_process(Duration::ZERO, Duration::ZERO);
        let sound = Bugs::none();
        assert_eq!(me.fate_of(&me, sound), Fate::Runs);
        let before = Record { started: me.started + 1, ..me.clone() };
        assert_eq!(me.fate_of(&before, sound), Fate::Dead);
        assert_eq!(me.fate_of(&before, Bugs::new(&[Bug::TrustsReusedPid])), Fate::Runs);
        let elsewhere = Record { namespace: "pid:[1]".to_owned(), ..before };
        assert_eq!(me.fate_of(&elsewhere, sound), Fate::Unseen);
        assert_eq!(me.fate_of(&elsewhere, Bugs::new(&[Bug::PidAlone])), Fate::Runs);
    }
}
