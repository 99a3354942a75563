//! The cache is complete or empty, whatever happens during a set-up.

use super::*;
use crate::scenario::library::EmbeddedFile;

const FILES: &SubjectFiles = &SubjectFiles::Embedded(&[
    EmbeddedFile { path: "subject.toml", bytes: b"format = 1\n", executable: false },
    EmbeddedFile { path: "lib/adapter.sh", bytes: b"#!/bin/sh\n", executable: true },
]);

fn order<'a>(files: &'a SubjectFiles, argv: &'a [String]) -> Order<'a> {
    Order { name: "made-up", files, needs: &[], argv }
}

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(String::from).to_vec()
}

fn shelf(cache: &Path) -> Vec<String> {
    let listed = std::fs::read_dir(cache.join("subjects")).unwrap();
    let names = listed.map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".lock")).collect();
    names.sort();
    names
}

#[test]
fn a_set_up_runs_once_in_a_copy_that_every_user_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().unwrap();
    let argv = sh("umask 077; echo x >> ran; mkdir private; test -x lib/adapter.sh");
    let order = order(FILES, &argv);
    let first = prepare(&order, cache.path(), &Stop::default()).unwrap();
    let second = prepare(&order, cache.path(), &Stop::default()).unwrap();
    assert_eq!(first, second);
    assert_eq!(std::fs::read_to_string(first.dir.join("ran")).unwrap(), "x\n");
    let mode = |name| std::fs::metadata(first.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ran"), mode("private")), (0o644, 0o755));
    assert_eq!((mode("subject.toml"), mode("lib/adapter.sh")), (0o644, 0o755));
}

#[test]
fn a_failing_set_up_says_why_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let argv = sh("echo 'no \u{1b}]0;such\u{7} network' >&2; exit 7");
    let error = prepare(&order(FILES, &argv), cache.path(), &Stop::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit status: 7") && text.contains("network"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert_eq!(shelf(cache.path()), Vec::<String>::new());
}

#[test]
fn an_interrupted_set_up_leaves_nothing_and_no_process() {
    let cache = tempfile::tempdir().unwrap();
    let (stop, asked) = (Stop::default(), Stop::default());
    asked.ask();
    let error = prepare(&order(FILES, &sh("sleep 1000")), cache.path(), &asked).unwrap_err();
    assert!(matches!(error, SetupError::Interrupted), "{error}");
    assert_eq!(shelf(cache.path()), Vec::<String>::new());
    assert!(prepare(&order(FILES, &[]), cache.path(), &stop).is_ok());
}

#[test]
fn what_a_killed_set_up_left_is_not_mistaken_for_a_complete_one() {
    let cache = tempfile::tempdir().unwrap();
    let argv = sh("test ! -e half");
    let order = order(FILES, &argv);
    let key = format!("made-up-{}", Manifest::of(FILES).unwrap().key(&argv));
    let partial = cache.path().join("subjects").join(format!("{key}.partial"));
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join("half"), "done").unwrap();
    let prepared = prepare(&order, cache.path(), &Stop::default()).unwrap();
    assert!(!prepared.dir.join("half").exists());
    assert_eq!(shelf(cache.path()), vec![key]);
}

#[test]
fn two_set_ups_of_one_subject_wait_for_each_other() {
    let cache = tempfile::tempdir().unwrap();
    let log = cache.path().join("log");
    let argv = sh(&format!("echo begin >> {0}; echo end >> {0}", log.display()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| prepare(&order(FILES, &argv), cache.path(), &Stop::default()).unwrap());
        }
    });
    assert_eq!(std::fs::read_to_string(log).unwrap(), "begin\nend\n");
}

#[test]
fn an_edited_folder_is_set_up_again_and_made_folders_do_not_count() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter.sh"), "one").unwrap();
    let files = SubjectFiles::Folder(folder.path().to_owned());
    let prepared = || prepare(&order(&files, &[]), cache.path(), &Stop::default());
    let first = prepared().unwrap();
    std::fs::create_dir(folder.path().join("node_modules")).unwrap();
    std::fs::write(folder.path().join("node_modules/x"), "x").unwrap();
    assert_eq!(prepared().unwrap(), first);
    assert!(!first.dir.join("node_modules").exists());
    std::fs::write(folder.path().join("adapter.sh"), "two").unwrap();
    let second = prepared().unwrap();
    assert_ne!(second, first);
    assert_eq!(std::fs::read_to_string(second.dir.join("adapter.sh")).unwrap(), "two");
}

#[test]
fn a_folder_with_something_that_is_no_file_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let files = SubjectFiles::Folder(folder.path().to_owned());
    let order = order(&files, &[]);
    let error = prepare(&order, cache.path(), &Stop::default()).unwrap_err().to_string();
    assert!(error.contains("holds socket, which is no file"), "{error}");
}

#[test]
fn output_is_kept_to_its_bound_and_time_too() {
    let stop = Stop::default();
    let mut flood = Command::new("sh");
    flood.args(["-c", "head -c 1000000 /dev/zero | tr '\\0' a; echo; echo end"]);
    let bounds = Bounds { time: Duration::from_secs(60), output_bytes: 1000 };
    let (finished, text) = run_bounded(flood, bounds, &stop).unwrap();
    assert!(matches!(finished, Finished::Exited(status) if status.success()));
    assert!(text.len() == 1000 && text.ends_with("end\n"));
    let mut endless = Command::new("sh");
    endless.args(["-c", "sleep 1000 & sleep 1000"]);
    let short = Bounds { time: Duration::from_millis(100), output_bytes: 10 };
    assert_eq!(run_bounded(endless, short, &stop).unwrap().0, Finished::TimedOut);
}
