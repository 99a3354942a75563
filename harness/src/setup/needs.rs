//! `[setup] needs`: whether a program is here, new enough, and usable by the roles.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::{Bounds, Finished, SetupError, run_bounded};
use crate::engine::Stop;
use crate::scenario::Need;

/// `PROGRAM --version` may take and print so much.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(20), output_bytes: 16 * 1024 };

/// A dotted number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(Vec<u64>);

impl Version {
    /// The first dotted number in `text`, as in `Python 3.11.2` or `v20.20.2`.
    pub(crate) fn first_in(text: &str) -> Option<Version> {
        let from = text.find(|c: char| c.is_ascii_digit())?;
        let number = text[from..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let parts = number.split('.').take_while(|part| !part.is_empty());
        parts.map(|part| part.parse().ok()).collect::<Option<_>>().map(Version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

/// Fails with the reason unless the need is met for `user` (`None`: for ourselves).
pub(crate) fn check(need: &Need, user: Option<u32>, stop: &Stop) -> Result<(), SetupError> {
    let missing = |why: String| Err(SetupError::Missing(why));
    let (program, at_least) = match need {
        Need::Root if rustix::process::geteuid().is_root() => return Ok(()),
        Need::Root => return missing("needs root".to_owned()),
        Need::Program { name, at_least } => (name, at_least.as_deref()),
    };
    let shown = match at_least {
        Some(version) => format!("needs `{program} >= {version}`"),
        None => format!("needs `{program}`"),
    };
    let printed = match ask(program, user, stop)? {
        Answer::Printed(text) => text,
        Answer::Unusable(why) => return missing(format!("{shown}: {why}")),
    };
    let Some(at_least) = at_least else { return Ok(()) };
    match (Version::first_in(at_least), Version::first_in(&printed)) {
        (None, _) => missing(format!("{shown}, which is no version")),
        (_, None) => missing(format!("{shown}: `{program} --version` prints no version")),
        (Some(least), Some(found)) if found < least => {
            missing(format!("{shown}: this is version {found}"))
        }
        _ => Ok(()),
    }
}

/// The version that a program prints, or why it cannot be used here. For `doctor`.
pub(crate) fn version_of(program: &str, stop: &Stop) -> Result<String, String> {
    match ask(program, super::role_user(), stop) {
        Ok(Answer::Printed(text)) => Version::first_in(&text)
            .map(|version| version.to_string())
            .ok_or_else(|| format!("`{program} --version` prints no version")),
        Ok(Answer::Unusable(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

enum Answer {
    Printed(String),
    Unusable(String),
}

/// Runs `PROGRAM --version` as the roles would.
///
/// Not every program knows `--version`, so its exit code alone proves nothing; what works for us
/// and not for the roles' user does.
fn ask(program: &str, user: Option<u32>, stop: &Stop) -> Result<Answer, SetupError> {
    let ours = version(program, None, stop);
    let (ok, text) = match ours {
        Ok(answer) => answer?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Answer::Unusable(format!("there is no `{program}` in PATH")));
        }
        // execvp(3) says so, too, when it found nothing but could not look into every folder.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Answer::Unusable(format!("no `{program}` in PATH may be run")));
        }
        Err(error) => return Ok(Answer::Unusable(format!("`{program}` does not start: {error}"))),
    };
    let Some(uid) = user else { return Ok(Answer::Printed(text)) };
    let usable = match version(program, Some(uid), stop) {
        Ok(answer) => answer?.0 || !ok,
        Err(_) => false,
    };
    if usable {
        return Ok(Answer::Printed(text));
    }
    Ok(Answer::Unusable(format!(
        "`{program}` works for root, but not for user {uid}, as whom the roles run\n(hint: install \
         it where every user can read it)"
    )))
}

type Outcome = Result<(bool, String), SetupError>;

/// Whether it ended well, and what it printed. The outer error: it could not be started.
fn version(program: &str, user: Option<u32>, stop: &Stop) -> io::Result<Outcome> {
    // Go is the one common tool that has a word instead of a flag.
    let flag = if program == "go" { "version" } else { "--version" };
    let mut command = Command::new(program);
    command.arg(flag).current_dir("/");
    if let Some(uid) = user {
        command.uid(uid).gid(uid);
    }
    let (finished, text) = run_bounded(command, BOUNDS, stop)?;
    Ok(match finished {
        Finished::Exited(status) => Ok((status.success(), text)),
        Finished::TimedOut => Ok((false, text)),
        Finished::Interrupted => Err(SetupError::Interrupted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_text() {
        let version = |text| Version::first_in(text).unwrap();
        assert!(version("v20.20.2") > version("9"));
        assert!(version("Python 3.11.2") >= version("3.11"));
        assert!(version("git version 2.39.5 (Apple Git)") < version("2.40"));
        assert_eq!(version("go version go1.22.1 linux").to_string(), "1.22.1");
        assert_eq!(Version::first_in("no number"), None);
    }

    fn program(name: &str, at_least: Option<&str>) -> Need {
        Need::Program { name: name.to_owned(), at_least: at_least.map(str::to_owned) }
    }

    fn reason(need: &Need) -> String {
        check(need, None, &Stop::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_program_is_a_reason_and_a_present_one_is_not() {
        assert!(check(&program("sh", None), None, &Stop::default()).is_ok());
        let reason = reason(&program("deadbeat-no-such-program", Some("3")));
        assert!(reason.contains("there is no `deadbeat-no-such-program` in PATH"), "{reason}");
    }

    #[test]
    fn a_program_that_is_too_old_is_a_reason() {
        assert!(check(&program("cargo", Some("1.0")), None, &Stop::default()).is_ok());
        let too_old = reason(&program("cargo", Some("99999")));
        assert!(too_old.contains("this is version 1."), "{too_old}");
        assert!(reason(&program("cargo", Some("new"))).contains("no version"));
    }

    /// Goal: what only root can run is told apart from what the roles can run.
    #[test]
    fn a_program_that_the_roles_cannot_run_is_a_reason() {
        use std::os::unix::fs::PermissionsExt;
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root runs roles as another user");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder.path(), private).unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "#!/bin/sh\necho 1.2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let need = program(path.to_str().unwrap(), Some("1.0"));
        assert!(check(&need, None, &Stop::default()).is_ok());
        let reason = check(&need, Some(65534), &Stop::default()).unwrap_err().to_string();
        assert!(reason.contains("not for user 65534"), "{reason}");
    }
}
