//! Who owns a lock, and whether that process is dead.
//!
//! A pid alone proves nothing: it is reused, and it means another process in another PID
//! namespace or on another host. A record therefore holds the start time, the namespace, the boot
//! and the host as well, and [`Owner::fate`] says *dead* only where all of that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// The last line of a record: what has none is torn.
const END: &str = "end";
/// A record is a few lines.
pub(crate) const RECORD_BYTES_MAX: usize = 4096;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process, as its own PID namespace numbers it.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc(5), stat, field 22).
    pub started: u64,
    /// Its PID namespace (namespaces(7)).
    pub pid_namespace: String,
    /// The boot of its machine (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Its host's name.
    pub host: String,
    /// Different for each acquisition.
    pub nonce: String,
}

/// What can be said of an owner from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives.
    Alive,
    /// It is dead, for certain.
    Dead,
    /// It cannot be judged from here.
    Unknown,
}

impl Owner {
    /// This process, with a fresh nonce.
    ///
    /// # Errors
    /// `/proc` does not say who this is.
    pub fn this_process() -> io::Result<Owner> {
        let pid = std::process::id();
        let started = start_time(pid)?
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))?;
        let mut random = [0; 8];
        io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
        Ok(Owner {
            pid,
            started,
            pid_namespace: fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned(),
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            nonce: format!("{pid}-{:016x}", u64::from_ne_bytes(random)),
        })
    }

    /// The record's text.
    #[must_use]
    pub fn to_record(&self) -> String {
        format!(
            "pid={}\nstarted={}\npid-namespace={}\nboot={}\nhost={}\nnonce={}\n{END}\n",
            self.pid, self.started, self.pid_namespace, self.boot, self.host, self.nonce
        )
    }

    /// Reads a record; `None` if it is torn, empty, foreign or from a future that says less.
    #[must_use]
    pub fn from_record(text: &str) -> Option<Owner> {
        let body = text.strip_suffix(&format!("\n{END}\n"))?;
        let mut fields = BTreeMap::new();
        for line in body.lines() {
            let (key, value) = line.split_once('=')?;
            fields.insert(key, value);
        }
        let mut take = |key| fields.remove(key).map(str::to_owned);
        Some(Owner {
            pid: take("pid")?.parse().ok()?,
            started: take("started")?.parse().ok()?,
            pid_namespace: take("pid-namespace")?,
            boot: take("boot")?,
            host: take("host")?,
            nonce: take("nonce")?,
        })
    }

    /// Whether this owner is dead, as far as `here`, the process that asks, can tell.
    ///
    /// | host | boot | PID namespace | its pid | start time | fate |
    /// |---|---|---|---|---|---|
    /// | other | | | | | unknown |
    /// | same | other | | | | dead: the machine was started anew |
    /// | same | same | other | | | unknown |
    /// | same | same | same | is free, or a zombie's | | dead |
    /// | same | same | same | in use | other | dead: the pid was reused |
    /// | same | same | same | in use | same | alive |
    #[must_use]
    pub fn fate(&self, here: &Owner) -> Fate {
        self.fate_by(here, start_time)
    }

    fn fate_by(&self, here: &Owner, start: impl Fn(u32) -> io::Result<Option<u64>>) -> Fate {
        if self.host != here.host {
            return Fate::Unknown;
        }
        if self.boot != here.boot {
            return Fate::Dead;
        }
        if self.pid_namespace != here.pid_namespace {
            return Fate::Unknown;
        }
        match start(self.pid) {
            Ok(None) => Fate::Dead,
            Ok(Some(started)) if started != self.started => Fate::Dead,
            Ok(Some(_)) => Fate::Alive,
            Err(_) => Fate::Unknown,
        }
    }
}

/// A living process's start time; `None` if there is no such process, or only its zombie.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The process went while its file was being read (proc(5)).
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name, field 2, may hold blanks and brackets; what counts comes after its last bracket.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    match (fields.first(), fields.get(19)) {
        (Some(&("Z" | "X")), _) => Ok(None),
        (Some(_), Some(started)) => started.parse().map(Some).map_err(io::Error::other),
        _ => Err(io::Error::other(format!("/proc/{pid}/stat cannot be read"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_torn_one_does_not() {
        let owner = Owner::this_process().unwrap();
        let record = owner.to_record();
        assert_eq!(Owner::from_record(&record), Some(owner));
        for length in 0..record.len() {
            assert_eq!(Owner::from_record(&record[..length]), None, "{length}");
        }
        assert_eq!(Owner::from_record("{\"pid\": 1}"), None);
    }

    #[test]
    fn every_row_of_the_table_of_fates_holds() {
        let here = Owner::this_process().unwrap();
        let with = |change: fn(&mut Owner)| {
            let mut owner = here.clone();
            change(&mut owner);
            owner
        };
        let running = |_| Ok(Some(7));
        let mut there = here.clone();
        there.started = 7;
        assert_eq!(with(|o| o.host.push('x')).fate_by(&here, running), Fate::Unknown);
        assert_eq!(with(|o| o.boot.push('x')).fate_by(&here, running), Fate::Dead);
        assert_eq!(with(|o| o.pid_namespace.push('x')).fate_by(&here, running), Fate::Unknown);
        assert_eq!(there.fate_by(&here, |_| Ok(None)), Fate::Dead);
        assert_eq!(there.fate_by(&here, |_| Ok(Some(8))), Fate::Dead);
        assert_eq!(there.fate_by(&here, running), Fate::Alive);
        let hidden = |_| Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(there.fate_by(&here, hidden), Fate::Unknown);
    }

    #[test]
    fn this_process_is_alive_and_a_dead_child_is_not() {
        let here = Owner::this_process().unwrap();
        assert_eq!(here.fate(&here), Fate::Alive);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut owner = here.clone();
        owner.pid = child.id();
        child.wait().unwrap();
        assert_eq!(owner.fate(&here), Fate::Dead);
    }
}
