//! Puts the suite and the subjects into the program, so that it works outside the repository.
//!
//! What is embedded: every `scenarios/suite/**/*.toml`, and every file of a folder of
//! `scenarios/subjects/` that has a `subject.toml`, except what belongs to the build of a Rust
//! subject (its program is this program) and what a set-up makes.
//!
//! Order is by name, so that the same tree gives the same program.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What is never part of a subject.
const MADE: &[&str] = &["node_modules", "target", "__pycache__", ".venv", ".git"];
/// What belongs to a Rust crate.
const RUST: &[&str] = &["src", "benches", "tests", "examples", "Cargo.toml", "Cargo.lock"];

fn main() -> io::Result<()> {
    let harness = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let scenarios = harness.join("../scenarios");
    println!("cargo::rerun-if-changed=build.rs");
    let mut code = String::new();

    let suite = scenarios.join("suite");
    watch(&suite);
    let files = files_below(&suite, &|name| name.ends_with(".toml"), &|_| true)?;
    table(&mut code, "pub(super) static SUITE: &[EmbeddedFile] = ", &suite, &files);
    code.push_str(";\n");

    let subjects = scenarios.join("subjects");
    watch(&subjects);
    code.push_str("pub(super) static SUBJECTS: &[(&str, &[EmbeddedFile])] = &[\n");
    for folder in entries(&subjects)? {
        if !folder.join("subject.toml").is_file() {
            continue;
        }
        let crate_of_its_own = folder.join("Cargo.toml").is_file();
        let wanted =
            |name: &str| !(MADE.contains(&name) || crate_of_its_own && RUST.contains(&name));
        let files = files_below(&folder, &wanted, &wanted)?;
        let name = folder.file_name().and_then(|name| name.to_str()).expect("checked by entries");
        write!(code, "({name:?}, ").expect("a string takes all");
        table(&mut code, "", &folder, &files);
        code.push_str("),\n");
    }
    code.push_str("];\n");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("embedded.rs"), code)
}

/// Cargo looks at everything below a folder that it is told of.
fn watch(folder: &Path) {
    println!("cargo::rerun-if-changed={}", folder.display());
}

/// The entries of a folder by name; none where it does not exist, as in a packaged crate.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_str().is_some()));
    paths.sort();
    Ok(paths)
}

fn files_below(
    folder: &Path,
    file_wanted: &dyn Fn(&str) -> bool,
    folder_wanted: &dyn Fn(&str) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).expect("checked by entries");
        if path.is_dir() && folder_wanted(name) {
            files.extend(files_below(&path, file_wanted, folder_wanted)?);
        } else if path.is_file() && file_wanted(name) {
            files.push(path);
        }
    }
    Ok(files)
}

/// Writes one table of files.
fn table(code: &mut String, head: &str, base: &Path, files: &[PathBuf]) {
    writeln!(code, "{head}&[").expect("a string takes all");
    for file in files {
        let path = file.strip_prefix(base).expect("it is below").to_str().expect("checked");
        let full = file.canonicalize().expect("it was listed just now");
        let mode = file.metadata().map(|meta| meta.permissions().mode()).unwrap_or(0);
        let executable = mode & 0o111 != 0;
        writeln!(
            code,
            "    EmbeddedFile {{ path: {path:?}, bytes: include_bytes!({:?}), executable: \
             {executable} }},",
            full.display().to_string(),
        )
        .expect("a string takes all");
    }
    code.push(']');
}
