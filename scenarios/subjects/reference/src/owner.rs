//! Who owns a lock, as its record says, and what can be said of that process from here.
//!
//! A pid alone proves nothing: it is reused, and it means another process in another PID namespace
//! or on another host. A record therefore holds the start time, the namespaces, the boot and the
//! host as well.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

use crate::judge::Process;

/// The format of the records that this library writes.
const FORMAT: u64 = 1;
/// The last line of a record: what has none is torn.
const END: &str = "end";
/// A record is a few lines; what is longer is not one.
pub(crate) const RECORD_BYTES_MAX: usize = 4096;
/// What this system does not say. Equal to nothing, itself included.
const UNKNOWN: &str = "-";

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The process, as its own PID namespace numbers it.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub(crate) started: u64,
    /// Its PID namespace (namespaces(7)).
    pub(crate) pid_namespace: String,
    /// Its time namespace (`time_namespaces(7)`): start times are shown shifted by it.
    pub(crate) time_namespace: String,
    /// The boot of its machine (`/proc/sys/kernel/random/boot_id`).
    pub(crate) boot: String,
    /// Its host's name.
    pub(crate) host: String,
    /// The ages that it was set to; `None` in a record of before they were written down.
    pub(crate) ages: Option<Ages>,
    /// Its fencing token.
    pub(crate) token: u64,
    /// Different for each acquisition.
    pub(crate) nonce: String,
}

/// The settings of an owner that others judge it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ages {
    /// The age at which it may be thought dead.
    pub(crate) stale: Duration,
    /// How often it beats.
    pub(crate) beat: Duration,
}

impl Ages {
    /// How long a lock must have been silent before its owner may be thought dead: stale-after and
    /// a beat, since the first look may have come right before a beat. Where two processes do not
    /// agree the longer counts: an owner is robbed by nobody's settings but its own, and a contender
    /// never sooner than by its own.
    pub(crate) fn window(self, owner: Option<Ages>) -> Duration {
        let own = self.stale + self.beat;
        owner.map_or(own, |owner| own.max(owner.stale.saturating_add(owner.beat)))
    }
}

/// Why a record cannot be read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    /// It has a newer format.
    Future,
    /// It is empty, torn, or was written by something else.
    Unreadable,
}

/// Where an owner runs, seen from here.
///
/// | host | boot | PID and time namespace | place |
/// |---|---|---|---|
/// | other, or not known | | | elsewhere |
/// | same | other, or not known | | elsewhere: hosts may share a name, so this need not be a reboot |
/// | same | same | other, or not known | under this kernel |
/// | same | same | same | within sight, if this process sees others at all |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its pid means the same process here as there.
    InSight,
    /// Under this kernel, but its pid means nothing here.
    SameKernel,
    /// On another machine, or in another boot of this one.
    Elsewhere,
}

/// This process, as far as it needs to be compared with owners; new for each acquisition.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    me: Owner,
    /// Whether `/proc` shows the processes of our own PID namespace, those of others included.
    sees_processes: bool,
}

impl Here {
    pub(crate) fn new(ages: Ages) -> Here {
        let pid = std::process::id();
        let line = |path: &str| fs::read_to_string(path).map(|text| plain(text.trim()));
        let link = |path: &str| fs::read_link(path).map(|to| plain(&to.to_string_lossy()));
        let unknown = |_| UNKNOWN.to_owned();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Unique is all that it has to be, and two hashers of one process differ.
        let random = RandomState::new().build_hasher().finish();
        let me = Owner {
            pid,
            started: parse_stat(&stat).map_or(0, |stat| stat.started),
            pid_namespace: link("/proc/self/ns/pid").unwrap_or_else(unknown),
            time_namespace: link("/proc/self/ns/time").unwrap_or_else(unknown),
            boot: line("/proc/sys/kernel/random/boot_id").unwrap_or_else(unknown),
            host: plain(&rustix::system::uname().nodename().to_string_lossy()),
            ages: Some(ages),
            token: 0,
            nonce: format!("{pid}-{random:016x}"),
        };
        // A `/proc` of another namespace numbers other processes; one that hides those of other
        // users hides pid 1 (`proc(5)`, hidepid).
        let is_own = link("/proc/self").is_ok_and(|to| to == pid.to_string());
        let sees_processes = is_own && fs::symlink_metadata("/proc/1").is_ok();
        Here { me, sees_processes }
    }

    /// The owner that this process would be.
    pub(crate) fn owner(&self, token: u64) -> Owner {
        Owner { token, ..self.me.clone() }
    }

    /// The table of places.
    pub(crate) fn place_of(&self, owner: &Owner) -> Place {
        let same = |one: &str, other: &str| one == other && one != UNKNOWN;
        if !same(&owner.host, &self.me.host) || !same(&owner.boot, &self.me.boot) {
            return Place::Elsewhere;
        }
        let is_same_namespace = same(&owner.pid_namespace, &self.me.pid_namespace)
            && same(&owner.time_namespace, &self.me.time_namespace);
        if is_same_namespace && self.sees_processes { Place::InSight } else { Place::SameKernel }
    }

    /// Whether an owner that is [`Place::InSight`] runs.
    ///
    /// | its pid | start time | process |
    /// |---|---|---|
    /// | is free, or a zombie's | | gone |
    /// | in use | other | gone: the pid was reused |
    /// | in use | same | runs |
    /// | cannot be read | | unseen |
    pub(crate) fn process_of(&self, owner: &Owner) -> Process {
        process(owner, &stat_of(owner.pid))
    }
}

fn process(owner: &Owner, stat: &io::Result<Option<Stat>>) -> Process {
    match stat {
        Ok(None) => Process::Gone,
        Ok(Some(stat)) if stat.is_dead || stat.started != owner.started => Process::Gone,
        Ok(Some(_)) => Process::Runs,
        Err(_) => Process::Unseen,
    }
}

impl Owner {
    /// The record's text.
    pub(crate) fn to_record(&self) -> String {
        let ms = |length: Duration| length.as_millis();
        let ages = self.ages.map_or(String::new(), |ages| {
            format!("stale-ms={}\nbeat-ms={}\n", ms(ages.stale), ms(ages.beat))
        });
        format!(
            "format={FORMAT}\npid={}\nstarted={}\npid-namespace={}\ntime-namespace={}\nboot={}\n\
             host={}\n{ages}token={}\nnonce={}\n{END}\n",
            self.pid,
            self.started,
            self.pid_namespace,
            self.time_namespace,
            self.boot,
            self.host,
            self.token,
            self.nonce
        )
    }

    /// Reads a record. Keys that are not known are left alone: this format may get more of them.
    pub(crate) fn from_record(bytes: &[u8]) -> Result<Owner, BadRecord> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadRecord::Unreadable)?;
        let (first, rest) = text.split_once('\n').ok_or(BadRecord::Unreadable)?;
        let format: Option<u64> =
            first.strip_prefix("format=").and_then(|number| number.parse().ok());
        match format {
            Some(FORMAT) if bytes.len() <= RECORD_BYTES_MAX => {}
            Some(newer) if newer > FORMAT => return Err(BadRecord::Future),
            _ => return Err(BadRecord::Unreadable),
        }
        Owner::from_lines(rest).ok_or(BadRecord::Unreadable)
    }

    fn from_lines(text: &str) -> Option<Owner> {
        let body = text.strip_suffix(&format!("\n{END}\n"))?;
        let mut fields = BTreeMap::new();
        for line in body.lines() {
            let (key, value) = line.split_once('=')?;
            fields.insert(key, value);
        }
        let mut take = |key| fields.remove(key).map(str::to_owned);
        // An age that is written down and cannot be read says nothing about any other.
        let mut age = |key| match take(key) {
            Some(text) => text.parse().ok().map(|ms| Some(Duration::from_millis(ms))),
            None => Some(None),
        };
        let ages = match (age("stale-ms")?, age("beat-ms")?) {
            (Some(stale), Some(beat)) => Some(Ages { stale, beat }),
            _ => None,
        };
        Some(Owner {
            // No process has pid 0, and none a pid that does not fit into pid_t.
            pid: take("pid")?
                .parse()
                .ok()
                .filter(|pid| (1..=i32::MAX.unsigned_abs()).contains(pid))?,
            started: take("started")?.parse().ok()?,
            pid_namespace: take("pid-namespace")?,
            time_namespace: take("time-namespace")?,
            boot: take("boot")?,
            host: take("host")?,
            ages,
            token: take("token")?.parse().ok()?,
            nonce: take("nonce")?,
        })
    }
}

/// Without what would end a line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What counts of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    is_dead: bool,
    started: u64,
}

/// `None` if there is no such process.
fn stat_of(pid: u32) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be read"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // The process went while its file was being read (proc(5)).
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, field 2, may hold blanks and brackets; what counts comes after its last bracket.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let threads: u64 = fields.get(17)?.parse().ok()?;
    // A process whose first thread has ended shows as a zombie while its others run.
    let is_dead = matches!(*fields.first()?, "Z" | "X") && threads <= 1;
    Some(Stat { is_dead, started: fields.get(19)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGES: Ages = Ages { stale: Duration::from_secs(9), beat: Duration::from_secs(3) };

    fn here() -> Here {
        Here::new(AGES)
    }

    #[test]
    fn a_record_reads_back_and_a_torn_one_does_not() {
        let owner = here().owner(7);
        let record = owner.to_record();
        assert_eq!(Owner::from_record(record.as_bytes()), Ok(owner));
        for length in 0..record.len() {
            let torn = Owner::from_record(&record.as_bytes()[..length]);
            assert_eq!(torn, Err(BadRecord::Unreadable), "{length}");
        }
    }

    #[test]
    fn foreign_and_future_records_are_told_apart() {
        let record = here().owner(7).to_record();
        let newer = record.replace("format=1\n", "format=2\n");
        assert_eq!(Owner::from_record(newer.as_bytes()), Err(BadRecord::Future));
        assert_eq!(Owner::from_record(b"format=12\nanything"), Err(BadRecord::Future));
        let more = record.replace("\nend\n", "\nmood=good\nend\n");
        assert!(Owner::from_record(more.as_bytes()).is_ok());
        let pid = format!("\npid={}\n", std::process::id());
        let without = |pid_line: &str| record.replace(&pid, pid_line);
        let long = record.replace("\nend\n", &format!("\nx={}\nend\n", "x".repeat(5000)));
        let bad = ["", "{\"pid\": 1}", "4711\n", "format=0\nend\n", &without("\n"), &long];
        let odd = ["\npid=0\n", "\npid=-1\n", "\npid=4294967295\n"].map(without);
        for text in bad.into_iter().chain(odd.iter().map(String::as_str)) {
            assert_eq!(Owner::from_record(text.as_bytes()), Err(BadRecord::Unreadable), "{text}");
        }
        assert_eq!(Owner::from_record(b"format=1\n\xff\nend\n"), Err(BadRecord::Unreadable));
    }

    #[test]
    fn every_row_of_the_table_of_places_holds() {
        let mut here = here();
        here.sees_processes = true;
        let place = |here: &Here, change: fn(&mut Owner)| {
            let mut owner = here.owner(1);
            change(&mut owner);
            here.place_of(&owner)
        };
        assert_eq!(place(&here, |_| ()), Place::InSight);
        assert_eq!(place(&here, |o| o.host.push('x')), Place::Elsewhere);
        assert_eq!(place(&here, |o| o.boot.push('x')), Place::Elsewhere);
        assert_eq!(place(&here, |o| o.pid_namespace.push('x')), Place::SameKernel);
        assert_eq!(place(&here, |o| o.time_namespace.push('x')), Place::SameKernel);
        let blind = Here { sees_processes: false, ..here.clone() };
        assert_eq!(place(&blind, |_| ()), Place::SameKernel);
        // What is not known on either side is not the same.
        here.me.pid_namespace = UNKNOWN.to_owned();
        assert_eq!(place(&here, |_| ()), Place::SameKernel);
        here.me.boot = UNKNOWN.to_owned();
        assert_eq!(place(&here, |_| ()), Place::Elsewhere);
    }

    proptest! {
        /// The table of processes.
        #[test]
        fn every_row_of_the_table_of_processes_holds(
            is_dead in any::<bool>(), started in 0u64..3, recorded in 0u64..3,
            exists in any::<bool>(), reads in any::<bool>(),
        ) {
            let owner = Owner { started: recorded, ..here().owner(1) };
            let stat = match (reads, exists) {
                (false, _) => Err(io::ErrorKind::PermissionDenied.into()),
                (true, false) => Ok(None),
                (true, true) => Ok(Some(Stat { is_dead, started })),
            };
            let expected = match (reads, exists && !is_dead) {
                (false, _) => Process::Unseen,
                (true, false) => Process::Gone,
                (true, true) if started != recorded => Process::Gone,
                (true, true) => Process::Runs,
            };
            prop_assert_eq!(process(&owner, &stat), expected);
        }
    }

    #[test]
    fn this_process_runs_and_a_dead_child_does_not() {
        let here = here();
        let mut owner = here.owner(1);
        assert_eq!(here.process_of(&owner), Process::Runs);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        owner.pid = child.id();
        child.wait().unwrap();
        assert_eq!(here.process_of(&owner), Process::Gone);
        assert_ne!(here.owner(1).nonce, Here::new(AGES).owner(1).nonce);
    }

    #[test]
    fn names_with_brackets_and_dead_first_threads_are_read_right() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a) b) {state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 9 9")
        };
        let parsed = |is_dead| Some(Stat { is_dead, started: 4711 });
        assert_eq!(parse_stat(&stat("S", 2)), parsed(false));
        assert_eq!(parse_stat(&stat("Z", 1)), parsed(true));
        assert_eq!(parse_stat(&stat("Z", 2)), parsed(false));
        assert_eq!(parse_stat("7 (a"), None);
    }

    proptest! {
        /// Nobody is robbed sooner than by its own settings, nor by anybody sooner than by theirs.
        #[test]
        fn the_longer_ages_count(own in ages(), owner in proptest::option::of(ages())) {
            let window = own.window(owner);
            let of = |ages: Ages| ages.stale + ages.beat;
            prop_assert!(window >= of(own) && owner.is_none_or(|owner| window >= of(owner)));
            prop_assert!(window == of(own) || Some(window) == owner.map(of));
        }
    }

    fn ages() -> impl Strategy<Value = Ages> {
        (0..100_000u64, 0..100_000u64).prop_map(|(stale, beat)| Ages {
            stale: Duration::from_millis(stale),
            beat: Duration::from_millis(beat),
        })
    }

    #[test]
    fn a_record_of_before_the_ages_is_read_and_a_bad_age_is_no_record() {
        let record = here().owner(7).to_record();
        let without: String = record
            .lines()
            .filter(|line| !line.contains("-ms="))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(Owner::from_record(without.as_bytes()).unwrap().ages, None);
        assert_eq!(Owner::from_record(record.as_bytes()).unwrap().ages, Some(AGES));
        let bad = record.replace("stale-ms=9000", "stale-ms=soon");
        assert_eq!(Owner::from_record(bad.as_bytes()), Err(BadRecord::Unreadable));
    }
}
