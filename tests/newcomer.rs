//! The documents work: what they tell a newcomer to write and type is written and typed, in an
//! empty folder, with nothing but the program in PATH.
//!
//! A code block whose first line is ```` ```LANG file=PATH ```` is a file; one that says
//! ```` ```sh run exit=N ```` is typed into a shell and must end with that code.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use deadbeat_tests::leftovers::Scene;
use deadbeat_tests::{finish, fuse_works, isolate, program, root};

/// One code block: the words behind its language, and its text.
fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => open = Some((words.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block has no end");
    blocks
}

/// The value of `key=value` among some words.
fn value<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn type_into_shell(folder: &Path, text: &str, code: i32) {
    let path = std::env::var("PATH").unwrap_or_default();
    let ours = program().parent().unwrap().display();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", text]).current_dir(folder).env("PATH", format!("{ours}:{path}"));
    isolate(&mut shell);
    let called = finish(shell);
    assert_eq!(called.code, Some(code), "{text}\n{}\n{}", called.stdout, called.stderr);
}

#[test]
fn five_minutes_are_all_it_takes() {
    if !fuse_works() {
        return;
    }
    let before = Scene::now();
    let document = std::fs::read_to_string(root().join("docs/test-your-own-lock.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut files, mut runs) = (0, 0);
    for (words, text) in blocks(&document) {
        if let Some(name) = value(&words, "file") {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            files += 1;
        } else if words.contains(" run") {
            let code = value(&words, "exit").expect("a run says its exit code");
            type_into_shell(folder.path(), &text, code.parse().unwrap());
            runs += 1;
        }
    }
    assert!(files >= 6 && runs >= 3, "{files} files, {runs} runs: the page is not what it was");
    before.assert_clean();
}

#[test]
fn blocks_are_told_apart() {
    let text = "a\n```sh file=x\none\ntwo\n```\nb\n```sh run exit=1\nthree\n```\n";
    let blocks = blocks(text);
    assert_eq!(blocks[0], ("sh file=x".to_owned(), "one\ntwo\n".to_owned()));
    assert_eq!((value(&blocks[0].0, "file"), value(&blocks[1].0, "exit")), (Some("x"), Some("1")));
}
