//! What the end-to-end tests and `deadbeat-ci` share: the program, calls of it, and what it may
//! leave behind (nothing).
//!
//! The tests are a crate of their own, so cargo names no `CARGO_BIN_EXE_deadbeat` for them.
//! [`program`] therefore builds `deadbeat` with the cargo that runs the tests, in the profile of
//! the tests; a second build of the same thing costs nothing.

pub mod docker;
pub mod leftovers;

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// How long one call of deadbeat may take before the test fails.
const CALL_MAX: Duration = Duration::from_secs(300);

/// How long output may be open after the program that wrote it has ended.
const PIPE_MAX: Duration = Duration::from_secs(20);

/// The folder of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// The built program.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "deadbeat", "--bin", "deadbeat"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let built = build.current_dir(root()).status().expect("cargo runs the tests, so it runs");
        assert!(built.success(), "building deadbeat failed");
        built_folder().join("deadbeat")
    })
}

/// `target/<profile>/`: this program is there, or in `deps/` or `examples/` below it.
pub(crate) fn built_folder() -> PathBuf {
    let this = std::env::current_exe().expect("/proc is mounted");
    let folders = this.ancestors().skip(1);
    let mut above = folders.skip_while(|folder| folder.file_name() == Some(OsStr::new("deps")));
    above.next().expect("a program is in a folder").to_owned()
}

/// What a call of deadbeat came to.
#[derive(Debug)]
pub struct Called {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Called {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("standard output is not JSON: {error}\n{self:?}");
        })
    }

    /// Fails the test, with everything that was printed, unless the exit code is `code`.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Called {
        let Called { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        self
    }
}

/// deadbeat in `dir`, without anything of the caller's environment that it would obey. Set-ups
/// are cached below the target folder, not in the home of who runs the tests.
pub fn command<I: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program());
    command.args(args).current_dir(dir).stdin(Stdio::null());
    isolate(&mut command);
    command
}

/// Takes away what would change deadbeat's behaviour, and gives it a cache of the tests' own.
pub fn isolate(command: &mut Command) {
    let obeyed = std::env::vars_os().map(|(name, _)| name);
    for name in obeyed.filter(|name| name.to_string_lossy().starts_with("DEADBEAT_")) {
        command.env_remove(name);
    }
    command.env_remove("NO_COLOR").env("XDG_CACHE_HOME", built_folder().join("test-cache"));
}

/// Calls deadbeat in `dir` and waits for it.
///
/// # Panics
/// If it cannot be started, or takes longer than five minutes.
#[track_caller]
pub fn call<I: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = I>) -> Called {
    finish(command(dir, args))
}

/// Whether the engine that a test named does not work here; says so.
#[must_use]
pub fn is_without_engine(called: &Called) -> bool {
    let without = called.code == Some(3) && called.stderr.contains("does not work here");
    if without {
        println!("skipped: {}", called.stderr);
    }
    without
}

/// Runs `command` to its end.
///
/// # Panics
/// If it cannot be started, or takes longer than five minutes.
#[track_caller]
pub fn finish(mut command: Command) -> Called {
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("the program was built");
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if started.elapsed() > CALL_MAX {
            child.kill().expect("it is our child");
            let (stdout, stderr) = (text(&stdout), text(&stderr));
            panic!("{command:?} took longer than {CALL_MAX:?}\n{stdout}\n{stderr}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Called { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
}

/// What was printed, to the end. A process that is left behind would keep the pipe open for ever.
#[track_caller]
fn text(printed: &mpsc::Receiver<Vec<u8>>) -> String {
    let bytes = printed.recv_timeout(PIPE_MAX);
    let bytes = bytes.expect("a process that outlived deadbeat keeps its output open");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Cut short or not: what was read is what the test gets to see.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// The engines that work here, trace first.
///
/// # Panics
/// If one does not work and `DEADBEAT_REQUIRE` names it: then a skip is a failure.
#[must_use]
#[track_caller]
pub fn engines() -> Vec<&'static str> {
    static DOCTOR: OnceLock<String> = OnceLock::new();
    let doctor = DOCTOR.get_or_init(|| call(root(), ["doctor"]).stdout);
    let verdict = doctor.lines().find(|line| line.trim_start().starts_with("Engine"));
    let verdict = verdict.unwrap_or_default();
    let works = |name: &str| match name {
        "trace" => verdict.contains("trace works"),
        _ => verdict.contains("fuse works"),
    };
    let required = std::env::var("DEADBEAT_REQUIRE").unwrap_or_default();
    let mut engines = vec!["trace", "fuse"];
    engines.retain(|name| {
        let is_here = works(name);
        let is_required = required.split(',').any(|required| required == *name);
        assert!(
            is_here || !is_required,
            "DEADBEAT_REQUIRE={name}, but it does not work:\n{doctor}"
        );
        if !is_here {
            println!("skipped: the {name} engine does not work here:\n{doctor}");
        }
        is_here
    });
    engines
}

/// Whether the fuse engine works here.
///
/// # Panics
/// As [`engines`].
#[must_use]
#[track_caller]
pub fn fuse_works() -> bool {
    engines().contains(&"fuse")
}
