//! The steps, in order: cheap ones first, so that a slip is seen early.

/// One command, and the exit code that it must have.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its name on the command line and in the summary.
    pub name: &'static str,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(&'static str, &'static str)>,
    /// What it must end with.
    pub code: i32,
    /// What its output must hold, so that a step that did nothing does not pass.
    pub must_print: Option<&'static str>,
}

/// Where tools that only CI needs are installed.
pub(crate) const TOOLS: &str = "target/ci-tools";

impl Step {
    fn new(name: &'static str, line: &str) -> Step {
        let argv = line.split_whitespace().map(str::to_owned).collect();
        Step { name, argv, env: Vec::new(), code: 0, must_print: None }
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Step {
        self.env.push((name, value));
        self
    }

    fn code(mut self, code: i32) -> Step {
        self.code = code;
        self
    }

    fn must_print(mut self, text: &'static str) -> Step {
        self.must_print = Some(text);
        self
    }

    /// The step as somebody would type it.
    pub(crate) fn shown(&self) -> String {
        let env = self.env.iter().map(|(name, value)| format!("{name}='{value}'"));
        env.chain(self.argv.iter().cloned()).collect::<Vec<_>>().join(" ")
    }
}

/// A run of the suite, with a run folder of its own, so that CI can keep all of them.
fn run(name: &'static str, what: &str, code: i32) -> Step {
    let out = format!("--out target/deadbeat/ci/{name}");
    Step::new(name, &format!("cargo run --release --quiet -- run {what} {out}")).code(code)
}

/// The Rust port of the POSIX file system test suite, at the version whose answers are known.
const PJDFSTEST: &str = "--root target/ci-tools pjdfstest --version 0.2.2";

/// Everything that must pass before a merge.
pub(crate) fn all() -> Vec<Step> {
    vec![
        Step::new("fmt", "cargo fmt --all --check"),
        Step::new("clippy", "cargo clippy --workspace --all-targets -- -D warnings"),
        Step::new("doc", "cargo doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"),
        Step::new("build", "cargo build --release --workspace"),
        Step::new("doctor", "cargo run --release --quiet -- doctor"),
        Step::new("test", "cargo test --workspace --no-fail-fast"),
        run("reference", "--verify", 0),
        run("reference-fuse", "--engine fuse", 0),
        run("reference-seeds", "--seeds 3", 0),
        // Every planted bug is caught, and the page says by what.
        run("zoo", "--subject zoo --engine trace", 1).must_print("47 of 47 planted bugs caught"),
        Step::new("zoo-page", "cp target/deadbeat/ci/zoo/detection.md docs/zoo.md"),
        Step::new("zoo-page-diff", "git diff --exit-code docs/zoo.md"),
        run(
            "proper-lockfile",
            "--engine fuse disk-full/heartbeat-enospc missing-path/lock-removed dead-owner/killed-while-holding \
             --subject proper-lockfile@fast --subject proper-lockfile@logging",
            1,
        ),
        Step::new("pjdfstest-install", &format!("cargo install --quiet --locked {PJDFSTEST}")),
        // In a mount namespace of its own: what it mounts ends with it.
        Step::new(
            "pjdfstest",
            "unshare --mount --propagation private sh fuse-fs/tests/pjdfstest.sh",
        )
        .must_print("Summary: 0 failed"),
    ]
}
