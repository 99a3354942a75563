//! The ground a run stands on: its mounts, seen by nobody outside its mount namespace.
//!
//! ```text
//! BASE/                tmpfs of the run
//!   deadbeat/bin/      the deadbeat program (bind mount), first in the roles' PATH
//!   deadbeat/subject   the subject's folder, where the roles could not reach it otherwise
//!   deadbeat/home      HOME and TMPDIR of the roles
//!   deadbeat/run/      the fault mount, one for each role, in that role's own mount namespace
//!     dir/             {dir}
//!     witness          the synthetic witness file
//!   backing/           the file system under the fault mounts; hidden from the roles
//!     dir/
//! ```
//!
//! `BASE` is an existing folder that nothing needed lies below, `/dev/shm` as a rule: the
//! namespace then vanishes without leaving even an empty folder behind.
//!
//! Without namespaces nothing is mounted, and everybody may look: `BASE` is a folder made for the
//! run, `deadbeat/bin/deadbeat` a symbolic link, and the backing is `deadbeat/run` itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::wire::Job;
use super::{EngineError, bare};

/// Where the run's own tmpfs can be mounted: the first that nothing needed lies below.
const BASES: &[&str] = &["/dev/shm", "/mnt", "/media", "/srv", "/opt", "/sys/fs/fuse/connections"];

/// The name of `{dir}` below the mount point and on the backing.
pub(crate) const DIR: &str = "dir";
/// The name of the witness below the mount point.
pub(crate) const WITNESS: &str = "witness";

/// The size of the backing tmpfs where the scenario names none: plenty for a lock, and little to
/// fill.
const SPACE_BYTES: u64 = 16 << 20;
const SPACE_INODES: u64 = 4096;

/// The folders of a run.
#[derive(Debug)]
pub(crate) struct Ground {
    base: PathBuf,
    backing: PathBuf,
    subject: PathBuf,
    own_space: bool,
    is_bare: bool,
}

fn step<E: Into<io::Error>>(what: String) -> impl FnOnce(E) -> EngineError {
    move |source| EngineError::Step { what, source: source.into() }
}

/// What the init of new PID and mount namespaces does first: no mount of theirs is seen outside,
/// and `/proc` tells of their processes.
pub(crate) fn enter_namespaces() -> Result<(), EngineError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(step("make mounts private".to_owned()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None)
        .map_err(step("mount proc on /proc".to_owned()))
}

impl Ground {
    /// Mounts everything but the fault mounts, in a mount namespace of the run's own.
    pub(crate) fn lay(job: &Job) -> Result<Ground, EngineError> {
        if job.footing.is_bare() {
            return Ground::lay_bare(job);
        }
        let base = base_for(job)?;
        mount_tmpfs(&base, "mode=0755,size=64m")?;
        let mut ground = Ground {
            backing: base.join("backing"),
            subject: job.subject.clone(),
            own_space: job.scratch.is_none(),
            is_bare: false,
            base,
        };
        for folder in ["deadbeat", "deadbeat/bin", "deadbeat/home", "deadbeat/run", "backing"] {
            let path = ground.base.join(folder);
            fs::create_dir(&path).map_err(step(format!("mkdir {}", path.display())))?;
        }
        ground.bind_program(&job.deadbeat)?;
        ground.bind_subject(job)?;
        ground.lay_backing(job)?;
        if let Some(user) = job.user {
            let home = ground.home();
            give_to(&home, job, user)?;
        }
        Ok(ground)
    }

    /// The same without a single mount: folders, a symbolic link and, if need be, a copy.
    fn lay_bare(job: &Job) -> Result<Ground, EngineError> {
        let base = job.scratch.clone().expect("a run without namespaces has a folder");
        // We may have rights that the roles do not have: they would fail where we do not.
        let user = rustix::process::geteuid().as_raw();
        if !is_reachable(&base, user) {
            let why = format!("user {user}, as whom the roles run, cannot reach it");
            return Err(step(format!("use {}", base.display()))(io::Error::other(why)));
        }
        let mut ground = Ground {
            backing: base.join("deadbeat/run"),
            subject: job.subject.clone(),
            own_space: false,
            is_bare: true,
            base,
        };
        for folder in ["deadbeat", "deadbeat/bin", "deadbeat/home", "deadbeat/run"] {
            let path = ground.base.join(folder);
            fs::create_dir(&path).map_err(step(format!("mkdir {}", path.display())))?;
        }
        let seat = ground.bin().join("deadbeat");
        symlink(&job.deadbeat, &seat).map_err(step(format!("link {}", seat.display())))?;
        if !is_reachable(&job.subject, user) {
            ground.subject = ground.base.join("deadbeat/subject");
            bare::copy_subject(&job.subject, &ground.subject)?;
        }
        ground.lay_dir()?;
        Ok(ground)
    }

    fn bind_program(&self, program: &Path) -> Result<(), EngineError> {
        let seat = self.bin().join("deadbeat");
        File::create(&seat).map_err(step(format!("create {}", seat.display())))?;
        rustix::mount::mount_bind(program, &seat).map_err(step(format!(
            "bind {} to {}",
            program.display(),
            seat.display()
        )))
    }

    /// A folder below another user's home cannot be reached by the roles; a bind mount can.
    fn bind_subject(&mut self, job: &Job) -> Result<(), EngineError> {
        let Some(user) = job.user else { return Ok(()) };
        let mut users = std::iter::once(&user).chain(job.plan.world.users.values());
        if users.all(|user| is_reachable(&job.subject, *user)) {
            return Ok(());
        }
        let seat = self.base.join("deadbeat/subject");
        fs::create_dir(&seat).map_err(step(format!("mkdir {}", seat.display())))?;
        rustix::mount::mount_bind(&job.subject, &seat).map_err(step(format!(
            "bind {} to {}",
            job.subject.display(),
            seat.display()
        )))?;
        self.subject = seat;
        Ok(())
    }

    fn lay_backing(&mut self, job: &Job) -> Result<(), EngineError> {
        if let Some(scratch) = &job.scratch {
            self.backing = scratch.clone();
        } else {
            let space = job.plan.world.space.unwrap_or_default();
            // A tmpfs of size 0 would be unlimited (tmpfs(5)), hence at least one page; the three
            // inodes are the root, {dir} and the folder of the inode ballast.
            let bytes = space.free.unwrap_or(SPACE_BYTES).max(4096);
            let inodes = space.inodes.unwrap_or(SPACE_INODES).saturating_add(3);
            mount_tmpfs(&self.backing, &format!("mode=0755,size={bytes},nr_inodes={inodes}"))?;
        }
        self.lay_dir()?;
        if let Some(user) = job.user {
            give_to(&self.dir_on_backing(), job, user)?;
        }
        Ok(())
    }

    fn lay_dir(&self) -> Result<(), EngineError> {
        let dir = self.dir_on_backing();
        fs::create_dir(&dir).map_err(step(format!("mkdir {}", dir.display())))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))
            .map_err(step(format!("chmod {}", dir.display())))
    }

    /// Shows the roles the backing as it is, with no fault mount between.
    pub(crate) fn show_backing(&self) -> Result<(), EngineError> {
        if self.is_bare {
            return Ok(());
        }
        rustix::mount::mount_bind(&self.backing, self.mount_point())
            .map_err(step("bind the lock directory".to_owned()))
    }

    /// Whether nothing is mounted, since there is no namespace to do it in.
    pub(crate) fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// The folder whose first entry in PATH is `deadbeat`.
    pub(crate) fn bin(&self) -> PathBuf {
        self.base.join("deadbeat/bin")
    }

    /// A folder that the roles may write to and that is no part of the test.
    pub(crate) fn home(&self) -> PathBuf {
        self.base.join("deadbeat/home")
    }

    /// Where each role's fault mount is, in its own mount namespace.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.base.join("deadbeat/run")
    }

    /// `{dir}` as the roles see it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.mount_point().join(DIR)
    }

    /// The witness as the roles see it.
    pub(crate) fn witness(&self) -> PathBuf {
        self.mount_point().join(WITNESS)
    }

    /// `{subject}` as the roles see it.
    pub(crate) fn subject(&self) -> &Path {
        &self.subject
    }

    /// `{dir}` underneath the fault mounts, reachable by the supervisor alone.
    pub(crate) fn dir_on_backing(&self) -> PathBuf {
        self.backing.join(DIR)
    }

    /// The mount that roles must not see, if it is one.
    pub(crate) fn hidden_mount(&self) -> Option<&Path> {
        self.own_space.then_some(self.backing.as_path())
    }

    /// The root of the file system under test.
    pub(crate) fn backing(&self) -> &Path {
        &self.backing
    }

    /// The backing folder, opened.
    pub(crate) fn open_backing(&self) -> Result<OwnedFd, EngineError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(&self.backing, flags, Mode::empty())
            .map_err(step(format!("open {}", self.backing.display())))
    }
}

/// Makes a folder the roles' own; where they are several users, it is their group's as well.
fn give_to(folder: &Path, job: &Job, user: u32) -> Result<(), EngineError> {
    if !job.plan.world.users.is_empty() {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o775))
            .map_err(step(format!("chmod {}", folder.display())))?;
    }
    chown(folder, Some(user), Some(user)).map_err(step(format!("chown {}", folder.display())))
}

fn mount_tmpfs(target: &Path, options: &str) -> Result<(), EngineError> {
    let options = std::ffi::CString::new(options).expect("options hold no zero byte");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("deadbeat", target, "tmpfs", flags, options.as_c_str())
        .map_err(step(format!("mount tmpfs on {}", target.display())))
}

fn base_for(job: &Job) -> Result<PathBuf, EngineError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut needed: Vec<PathBuf> = std::env::split_paths(&path).collect();
    needed.extend([job.subject.clone(), job.deadbeat.clone()]);
    needed.extend(job.scratch.clone());
    needed.extend(std::env::current_dir());
    let free = BASES
        .iter()
        .map(PathBuf::from)
        .find(|base| base.is_dir() && !needed.iter().any(|path| path.starts_with(base)));
    free.ok_or_else(|| EngineError::Step {
        what: format!("find an unused folder among {}", BASES.join(", ")),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Whether `user`, who owns nothing here, can enter every folder above and read `path`.
fn is_reachable(path: &Path, user: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|meta| {
            let bits = if meta.uid() == user { meta.mode() >> 6 } else { meta.mode() };
            bits & 0o1 != 0
        })
    })
}
