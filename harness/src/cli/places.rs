//! Which files a path or glob of a command line means.
//!
//! Files are named as the user sees them; a rule names them below `/`. What a glob begins with is
//! resolved as far as it is there now: the kernel tells an engine where a file is, not by which
//! symbolic link a process came.

use std::path::{Component, Path, PathBuf};

/// A path or glob, seen from the folder `here`, as a glob below `/`.
pub(super) fn below_root(on: &str, here: &Path) -> Result<String, String> {
    let is_literal = |part: &&str| !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
    let mut parts = on.split('/').peekable();
    let mut literal = if on.starts_with('/') { PathBuf::from("/") } else { here.to_path_buf() };
    while let Some(part) = parts.next_if(is_literal) {
        literal.push(part);
    }
    let rest: Vec<&str> = parts.collect();
    if rest.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(format!("`{on}`: `.` and `..` cannot follow a `*`"));
    }
    let rest = rest.iter().map(|part| format!("/{part}")).collect::<String>();
    let names: Vec<String> =
        names_of(&literal, rest.is_empty()).iter().map(|path| glob_of(path)).collect();
    let glob = match &names[..] {
        [one] => format!("{one}{rest}"),
        all => format!("{{{}}}{rest}", all.join(",")),
    };
    Ok(glob.trim_start_matches('/').to_owned())
}

/// The names of a file without symbolic links on the way: its own and, if it is a link itself,
/// that of its target.
fn names_of(path: &Path, is_whole: bool) -> Vec<PathBuf> {
    let target = resolved(path);
    let own = match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) if is_whole => resolved(parent).join(name),
        _ => return vec![target],
    };
    if own == target { vec![own] } else { vec![own, target] }
}

/// Without symbolic links and dots, as far as it exists; the rest as it is written.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::ParentDir)) => {
            let mut above = resolved(parent);
            above.pop();
            above
        }
        (Some(parent), Some(Component::Normal(name))) => resolved(parent).join(name),
        (Some(parent), _) => resolved(parent),
        (None, _) => path.to_path_buf(),
    }
}

/// A glob that means exactly this path, also inside `{a,b}`.
fn glob_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    globset::escape(text.trim_start_matches('/')).replace(',', "[,]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::matching::compile;

    fn means(on: &str, here: &Path, path: &Path) -> bool {
        let glob = below_root(on, here).unwrap();
        let path = path.to_string_lossy();
        compile([glob.as_str()]).unwrap().is_match(path.trim_start_matches('/'))
    }

    #[test]
    fn a_path_is_meant_however_it_is_spelt() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(here.join("real/deep")).unwrap();
        std::os::unix::fs::symlink(here.join("real"), here.join("link")).unwrap();
        let file = here.join("real/deep/lock");
        for on in ["real/deep/lock", "./link/deep/lock", "link/../real/deep/./lock", "r*/*/lock"] {
            assert!(means(on, &here, &file), "{on}");
        }
        assert!(means(&format!("{}/link/**", here.display()), &here, &file));
        assert!(!means("real/deep/loc", &here, &file) && !means("real/*", &here, &file));
        assert!(below_root("*/../x", &here).is_err());
    }

    /// Goal: a fault on a symbolic link means the link and what it points to.
    #[test]
    fn a_link_means_itself_and_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(here.join("re,al"), here.join("link")).unwrap();
        std::fs::write(here.join("re,al"), "").unwrap();
        assert!(means("link", &here, &here.join("link")));
        assert!(means("link", &here, &here.join("re,al")));
        assert!(!means("link", &here, &here.join("re")));
    }
}
