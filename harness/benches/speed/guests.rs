//! The programs that the bench runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use deadbeat::engine::Stop;
use deadbeat::plan::Trial;
use deadbeat::scenario::library::{select_scenarios, select_subjects};
use deadbeat::scenario::{Resolution, resolve};
use deadbeat::setup::{Order, cache_dir, prepare, unmet_need};

/// The tiny lock in Python.
pub(crate) const PYTHON: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/speed/guests/lock.py");
/// The tiny lock for node.
pub(crate) const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/speed/guests/lock.mjs");

/// Compiled ones. They go with the handle.
pub(crate) struct Guests {
    _folder: tempfile::TempDir,
    /// `bench.c`, static.
    pub(crate) c: String,
    /// `lock.rs`, where there is a compiler.
    pub(crate) rust: Option<String>,
}

impl Guests {
    /// `None` without a C compiler.
    pub(crate) fn build() -> Option<Guests> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).expect("the folder is ours");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/speed/guests");
        let build = |compiler: &str, flags: &[&str], source: &str| {
            let program = folder.path().join(compiler);
            let mut command = Command::new(compiler);
            command.args(flags).arg("-o").arg(&program).arg(sources.join(source));
            let built = command.status().ok()?;
            assert!(built.success(), "{source} does not compile");
            Some(program.to_string_lossy().into_owned())
        };
        let c = build("cc", &["-O1", "-static"], "bench.c")?;
        let rust = build("rustc", &["--edition", "2024", "-O"], "lock.rs");
        Some(Guests { c, rust, _folder: folder })
    }
}

/// The same story as the tiny locks', told by a real lock; or why it cannot be had.
pub(crate) fn proper_lockfile() -> Result<(Trial, PathBuf), String> {
    let cwd = Path::new(".");
    let word = |text: &str| [text.to_owned()];
    let scenarios = select_scenarios(&word("control/late-comer"), cwd);
    let scenarios = scenarios.map_err(|error| error.to_string())?;
    let choices =
        select_subjects(&word("proper-lockfile"), cwd).map_err(|error| error.to_string())?;
    let choice = choices.first().ok_or("no such subject")?;
    let setup = &choice.subject.setup;
    let order = Order {
        name: &choice.subject.name,
        files: &choice.files,
        needs: &setup.needs,
        argv: &setup.argv,
    };
    let stop = Stop::default();
    if let Some(why) = unmet_need(&order, &stop) {
        return Err(why);
    }
    let cache = cache_dir().map_err(|error| error.to_string())?;
    let prepared = prepare(&order, &cache, &stop).map_err(|error| error.to_string())?;
    match resolve(&scenarios[0], &choice.subject, &choice.variants[0]) {
        Resolution::Trial(trial) => Ok((*trial, prepared.dir)),
        Resolution::Skipped(why) => Err(why),
    }
}
