//! The command line: names and meanings of flags, nothing else.
//!
//! Flags are public (CONTRACTS.md, "Commands"): they may be added to, never renamed. The text
//! that `--help` shows is a snapshot test.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::exit;

/// Finds out what a file lock does when its heartbeat dies.
#[derive(Debug, Parser)]
#[command(name = "deadbeat", version, after_help = exit::HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,

    // Its place in a command's help would otherwise depend on how many commands there are.
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", display_order = 900)]
    pub color: Color,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run scenarios against lock implementations: the CI gate
    #[command(after_help = exit::HELP)]
    Run(RunArgs),
    /// Show what would run
    List(ListArgs),
    /// Show the runbook as a checklist: what must be true, what proves it, and what holds
    #[command(after_help = exit::HELP)]
    Checklist(ChecklistArgs),
    /// Run one command under faults, outside scenarios
    #[command(after_help = EXEC_HELP)]
    Exec(ExecArgs),
    /// Show a folder through a mount on which operations fail as told
    #[command(after_help = MOUNT_HELP)]
    Mount(MountArgs),
    /// Probe what this machine can do, and say how to get what is missing
    Doctor,
    /// Print the JSON Schema of a file format
    Schema {
        /// Which format
        format: SchemaFormat,
    },
    /// Write one line to the witness (for adapters)
    Witness {
        /// The words of the line, as in `entered token=3`
        #[arg(required = true, value_name = "WORD", allow_hyphen_values = true)]
        line: Vec<String>,
    },
    /// Be the critical section of a lock that runs a command under the lock (for adapters)
    ///
    /// Without a command it enters, ticks, leaves, and aborts on SIGTERM. With a command it runs
    /// that, with `{cs}` replaced by a call of itself, and says how it ended.
    Cs {
        /// The locking command, as in `flock FILE {cs}`
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
    /// One process of an embedded subject
    #[command(hide = true)]
    Subject {
        /// `reference` or `zoo`
        name: String,
        /// What follows belongs to the subject
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Which scenarios and subjects.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selection {
    /// A name (`disk-full/heartbeat-enospc`), a family (`disk-full`), a glob, `tag:smoke`, or a
    /// path to a file; default: the whole suite
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,

    /// The lock under test: NAME, NAME@VARIANT, or a folder (with a `/`) that holds a
    /// `subject.toml`; may be given several times
    #[arg(long = "subject", short = 's', value_name = "SUBJECT", default_value = "reference")]
    pub subjects: Vec<String>,

    /// Run only shard M of N; stable, so that a CI matrix can split the suite
    #[arg(long, value_name = "hash:M/N")]
    pub partition: Option<Partition>,
}

/// What `run` is given.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub selection: Selection,

    /// What carries the runs out
    #[arg(long, default_value = "auto")]
    pub engine: EngineName,

    /// Engines that must work here: a skip for want of one is exit 3 (also: DEADBEAT_REQUIRE)
    #[arg(long, value_name = "ENGINE", value_delimiter = ',')]
    pub require: Vec<EngineName>,

    /// The schedule's seed; 0 is the dull one, and the only one of the fuse engine
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Run each scenario under N schedules, from `--seed` on (trace only)
    #[arg(long, value_name = "N", default_value = "1")]
    pub seeds: std::num::NonZeroU64,

    /// Run everything twice: an answer that cannot be repeated is inconclusive (trace only)
    #[arg(long)]
    pub verify: bool,

    /// The run's folder [default: target/deadbeat/<id>/, and the link target/deadbeat/latest]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// What is printed on standard output
    #[arg(long, default_value = "human")]
    pub format: Format,

    /// How many scenarios run side by side [default: the number of cpus]
    #[arg(long, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,

    /// Where run folders live, and so on which file system [default: a tmpfs]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,

    /// Whether a run of nothing is an error
    #[arg(long, value_name = "HOW", default_value = "fail")]
    pub no_tests: NoTests,

    /// Do not look first whether planted bugs are caught here
    #[arg(long)]
    pub no_canaries: bool,

    /// Afterwards, ask about each gap that was seen, has closed or is overdue, and rewrite the
    /// subject's file (never in CI)
    #[arg(long)]
    pub update_gaps: bool,

    /// Start no further scenario after the first violation
    #[arg(long)]
    pub fail_fast: bool,
}

/// What `list` is given.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub selection: Selection,

    /// Say why each scenario exists, and why one would be skipped
    #[arg(long)]
    pub explain: bool,
}

/// What `checklist` is given.
#[derive(Args, Debug)]
pub(crate) struct ChecklistArgs {
    /// Run the suite against this lock and say which lines hold; with `--from`, show only this
    /// one. NAME, NAME@VARIANT or a folder (with a `/`); may be given several times
    #[arg(long = "subject", short = 's', value_name = "SUBJECT")]
    pub subjects: Vec<String>,

    /// Read the results of a run instead of running: `latest`, a run's folder or its
    /// `results.json`
    #[arg(long, value_name = "RUN", conflicts_with_all = ["engine", "jobs", "out"])]
    pub from: Option<PathBuf>,

    /// What carries the runs out
    #[arg(long, default_value = "auto")]
    pub engine: EngineName,

    /// How many scenarios run side by side [default: the number of cpus]
    #[arg(long, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,

    /// The run's folder [default: target/deadbeat/<id>/, and the link target/deadbeat/latest]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// What is printed on standard output
    #[arg(long, default_value = "human")]
    pub format: ChecklistFormat,
}

/// What `checklist` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChecklistFormat {
    /// For people
    Human,
    /// One JSON document
    Json,
}

/// What `--help` of `exec` says besides.
const EXEC_HELP: &str = "\
Words of a fault (quote a value with blanks: times=\"every 2\"):
  on=PATH      a file, or a glob of files; everything below a folder is `FOLDER/**`
  op=OP,…      utimes write truncate create open mkdir rename link symlink unlink rmdir stat read
               readdir chmod chown fsync close flock fcntl-lock statfs thread
  error=ERRNO [apply=true] | ignore=true | hang=D | delay=D | short=N | torn=N | kill=true | pause=D
  times=N|N..M|N..|\"every N\"   which of them, counted for each file over the whole command
  from=D until=D               lengths since the start, or \"fault 1 fired + 2s\"

--inject takes strace's grammar: CALL,…:WHAT[:when=FIRST[..LAST][+[STEP]]], where WHAT is
error=ERRNO, retval=0, delay_enter=D, delay_exit=D or signal=SIGKILL. A call stands for its operation, however else it is spelt. strace
counts each call of each thread; here each operation is counted for each process and file, whichever
thread makes it, so the third beat is the third. It means files only, and those that --on names.

The command has your terminal, environment and folder. It runs in real time; only calls that a fault
names are stopped. No root and no namespace is needed, but ptrace is: nothing in the command can
itself trace (gdb, strace), and set-user-ID programs gain no rights. Processes that the command
leaves behind are reported and waited for; all die with deadbeat.

Exit codes: the command's own, or 128 + the signal that ended it; 126, 127 it could not be run;
  2 a bad flag; 3 it cannot be traced here, or --strict and a fault never fired";

/// What `exec` is given.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("some-fault").args(["faults", "injections"]).required(true).multiple(true))]
pub(crate) struct ExecArgs {
    /// What goes wrong: the keys of `[[fault]]` as words, as in
    /// `on=/tmp/*.lock op=utimes error=EIO times=3`; may be given several times
    #[arg(long = "fault", value_name = "WORDS")]
    pub faults: Vec<String>,

    /// The same in strace's words, as in `utimensat:error=EIO:when=3+`; may be given several times
    #[arg(long = "inject", value_name = "EXPR")]
    pub injections: Vec<String>,

    /// The files that --inject means: a path or glob [default: every file]
    #[arg(long, value_name = "PATH", requires = "injections")]
    pub on: Option<String>,

    /// Write every operation on the faults' files to FILE, as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Exit 3 if a fault never fired
    #[arg(long)]
    pub strict: bool,

    /// Kill what the command leaves behind, rather than wait for it
    #[arg(long)]
    pub kill_rest: bool,

    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// What `--help` of `mount` says besides.
const MOUNT_HELP: &str = "\
Words of a fault (quote a value with blanks: times=\"every 2\"):
  on=PATH      a path or glob in the mount; everything below a folder is `FOLDER/**`
  op=OP,…      utimes write truncate create open mkdir rename link symlink unlink rmdir stat read
               readdir chmod chown fsync close flock fcntl-lock statfs
  error=ERRNO [apply=true] | ignore=true | hang=D | delay=D | short=N | torn=N | kill=true | pause=D
  times=N|N..M|N..|\"every N\"   which of them, counted for each file; from=D until=D since the start

`kill` and `pause` mean the process that makes the operation. The mount is there until Ctrl-C,
SIGTERM or `umount TARGET`, and goes when deadbeat is killed. If all of deadbeat's processes are
killed at once, `umount -l TARGET` takes the dead mount away.

Mounting needs /dev/fuse and root, or a user namespace: `unshare -Urm sh` gives a shell in one, and
the mount is seen in it only. fusermount is not used.

Exit codes: 0 unmounted; 3 no mount could be made, or --strict; 2 a bad flag; 130 second Ctrl-C";

/// What `mount` is given.
#[derive(Args, Debug)]
pub(crate) struct MountArgs {
    /// The folder whose files are shown
    pub source: PathBuf,

    /// The folder on which they are shown; may be SOURCE itself
    pub target: PathBuf,

    /// What goes wrong: the keys of `[[fault]]` as words, as in
    /// `on=*.lock op=utimes error=EIO times=3`; may be given several times
    #[arg(long = "fault", value_name = "WORDS", required = true)]
    pub faults: Vec<String>,

    /// Write every operation to FILE, as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Exit 3 if a fault never fired
    #[arg(long)]
    pub strict: bool,
}

/// When output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// An engine, or the best that works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// trace; what that cannot do, fuse
    Auto,
    /// A real mount and real time
    Fuse,
    /// ptrace and virtual time
    Trace,
}

impl EngineName {
    /// The word of the flag.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EngineName::Auto => "auto",
            EngineName::Fuse => "fuse",
            EngineName::Trace => "trace",
        }
    }
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// `results.json`
    Json,
    /// `junit.xml`
    Junit,
    /// Nothing: another command shows the results
    #[value(skip)]
    Nothing,
}

/// Whether nothing is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NoTests {
    /// Exit 4
    Fail,
    /// Exit 0
    Pass,
}

/// Which schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaFormat {
    /// `scenarios/suite/<family>/<name>.toml`
    Scenario,
    /// `subject.toml`
    Subject,
}

/// Shard `index` of `count`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub index: u64,
    pub count: u64,
}

/// The text is no partition.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no partition\n(hint: write `hash:M/N` with 1 <= M <= N, as in `hash:1/4`)")]
pub(crate) struct BadPartition(String);

impl FromStr for Partition {
    type Err = BadPartition;
    fn from_str(text: &str) -> Result<Partition, BadPartition> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.strip_prefix("hash:").and_then(|rest| rest.split_once('/'));
        parsed
            .filter(|(index, count)| digits(index) && digits(count))
            .and_then(|(index, count)| {
                Some(Partition { index: index.parse().ok()?, count: count.parse().ok()? })
            })
            .filter(|part| 1 <= part.index && part.index <= part.count)
            .ok_or_else(|| BadPartition(text.to_owned()))
    }
}

impl Partition {
    /// Whether the run called `key` belongs to this shard. Depends on the key alone, so adding a
    /// scenario moves no other one.
    pub(crate) fn holds(self, key: &str) -> bool {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(key.as_bytes());
        let first: [u8; 8] = digest[..8].try_into().expect("a SHA-256 has 32 bytes");
        u64::from_be_bytes(first) % self.count == self.index - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_exactly_one_shard() {
        for count in 1..6 {
            for key in ["control/quiet", "disk-full/heartbeat-enospc", "dead-owner/kill"] {
                let shards = (1..=count).filter(|&index| Partition { index, count }.holds(key));
                assert_eq!(shards.count(), 1, "{key} of {count}");
            }
        }
    }

    #[test]
    fn shards_do_not_move_between_releases() {
        let shard = |key| (1..=8).find(|&index| Partition { index, count: 8 }.holds(key));
        assert_eq!(shard("control/quiet reference@default"), Some(7));
    }

    #[test]
    fn a_partition_counts_from_one() {
        assert_eq!("hash:2/4".parse::<Partition>().unwrap(), Partition { index: 2, count: 4 });
        for wrong in ["hash:0/4", "hash:5/4", "hash:1/0", "1/4", "hash:1", "hash:+1/4", "hash:/"] {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong}");
        }
    }
}
