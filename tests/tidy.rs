//! What STYLE asks for and a program can check: no debugging left behind, every module introduces
//! itself, and every scenario and subject is used and documented.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use deadbeat_tests::{call, root};

/// Every file below `folder` with this extension, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let made =
                ["target", "node_modules", ".git"].iter().any(|name| entry.file_name() == *name);
            if entry.file_type().unwrap().is_dir() && !made {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    ["harness", "fuse-fs", "scenarios", "tests", "ci"]
        .iter()
        .flat_map(|dir| files(dir, "rs"))
        .collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Complaints of `judge` about each file, one a line.
fn complaints(paths: &[PathBuf], judge: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    assert!(!paths.is_empty(), "nothing was checked");
    let of = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let name = relative(path);
        judge(&text).into_iter().map(|why| format!("{name}: {why}")).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_debugging_is_left_behind() {
    // In two parts, so that this file does not find itself.
    let words = [concat!("dbg", "!("), concat!("FIX", "ME"), concat!("Under ", "construction.")];
    assert_none(&complaints(&sources(), |text| {
        let numbered = text.lines().enumerate();
        let with_word = |line: &str| words.iter().find(|word| line.contains(**word)).copied();
        let found = numbered.filter_map(|(at, line)| Some((at + 1, with_word(line)?)));
        found.map(|(line, word)| format!("line {line} says `{word}`")).collect()
    }));
}

#[test]
fn every_module_introduces_itself() {
    assert_none(&complaints(&sources(), |text| {
        let introduced = text.lines().next().is_some_and(|line| line.starts_with("//! "));
        if introduced { vec![] } else { vec!["does not open with `//!`".to_owned()] }
    }));
}

#[test]
fn unsafe_code_is_in_sys_files_only() {
    let elsewhere: Vec<PathBuf> =
        sources().into_iter().filter(|path| path.file_name().unwrap() != "sys.rs").collect();
    let word = concat!("unsafe", " {");
    assert_none(&complaints(&elsewhere, |text| {
        let used = text.lines().any(|line| line.contains(word) && !line.trim().starts_with("//"));
        if used {
            vec!["holds unsafe code, which belongs to a `sys.rs`".to_owned()]
        } else {
            vec![]
        }
    }));
}

/// Goal: a scenario that is in the repository but not in the program would never run.
#[test]
fn every_scenario_is_listed_by_the_program() {
    let listed = call(root(), ["list"]).expect_code(0).stdout;
    for path in files("scenarios/suite", "toml") {
        let name = relative(&path.with_extension(""));
        let name = name.strip_prefix("scenarios/suite/").unwrap();
        assert!(listed.contains(name), "{name} is not listed:\n{listed}");
    }
}

/// Goal: a reader of a scenario learns why it exists and which line of the runbook it covers.
#[test]
fn every_scenario_says_why_it_exists() {
    assert_none(&complaints(&files("scenarios/suite", "toml"), |text| {
        let table: toml::Table = text.parse().unwrap();
        let missing = |key: &str| {
            let value = table.get(key);
            let text = value.and_then(toml::Value::as_str).is_some_and(|text| !text.is_empty());
            let list = value.and_then(toml::Value::as_array).is_some_and(|list| !list.is_empty());
            !text && !list
        };
        let keys = ["title", "why", "covers"].into_iter().filter(|key| missing(key));
        keys.map(|key| format!("has no `{key}`")).collect()
    }));
}

/// Goal: a subject that no document mentions is one that nobody finds.
#[test]
fn every_subject_and_family_is_documented() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let subjects = files("scenarios/subjects", "toml").into_iter();
    let subjects = subjects.filter(|path| path.file_name().unwrap() == "subject.toml");
    let families = files("scenarios/suite", "toml").into_iter();
    let mut named: Vec<String> = subjects
        .chain(families)
        .map(|path| path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    named.dedup();
    assert!(!named.is_empty());
    let missing: Vec<String> =
        named.into_iter().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert_none(&missing);
}

/// Goal: whoever meets a family learns what a wrong lock does in it.
#[test]
fn every_family_has_a_page() {
    let mut families: Vec<PathBuf> = files("scenarios/suite", "toml")
        .iter()
        .map(|path| path.parent().unwrap().to_owned())
        .collect();
    families.dedup();
    let pageless = |folder: &&PathBuf| !folder.join("README.md").is_file();
    let missing: Vec<String> =
        families.iter().filter(pageless).map(|path| relative(path)).collect();
    assert_none(&missing);
}

/// Goal: a reader who follows a link arrives.
#[test]
fn every_local_link_of_the_documents_leads_somewhere() {
    let documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let documents = documents.iter().map(|name| root().join(name)).chain(files("docs", "md"));
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = link.split('#').next().unwrap();
            let target = document.parent().unwrap().join(target);
            assert!(target.exists(), "{}: {link} leads nowhere", relative(&document));
        }
    }
}
