//! What a text for people names: a path, an operation, an errno.
//!
//! Pure. Libraries word their messages as they like, so this is generous with spellings, but not
//! with accidents: `open` is not named by `reopened-tabs`, `lock` not by `clock`, and an operation
//! not by a beat file that happens to be called `heartbeat`.

use crate::op::{Errno, OpKind};

/// Word parts that are seldom part of anything else: found anywhere, also in `onHeartbeatFailed`.
const STEMS: &[&str] = &[
    "utime",
    "touch",
    "refresh",
    "heartbeat",
    "renew",
    "rename",
    "truncat",
    "mtime",
    "keepalive",
    "keep-alive",
];
/// Words, with these endings only.
const WORDS: &[&str] = &["write", "open", "beat", "creat", "link", "symlink", "mkdir"];
const ENDINGS: &[&str] = &["", "e", "s", "es", "ed", "ing", "at", "atfile", "sync", "file"];
/// What processes call the operation of which only a failed look-up gets to a file system.
const LOOKUPS: &[&str] = &["stat", "lstat", "fstat", "statx", "access", "lookup"];
/// Words that say that a message is about a lock at all.
const LOCK_STEMS: &[&str] = &["lock", "lease", "stale", "compromis", "expire", "ownership"];

/// A text, ready to be asked.
#[derive(Debug)]
pub(crate) struct Mention {
    /// In lower case.
    text: String,
    /// The same without the paths that it names.
    rest: String,
    has_path: bool,
}

impl Mention {
    /// `paths` are the ones that count, each whole or by its last component.
    pub(crate) fn new(text: &str, paths: &[&str]) -> Mention {
        let text = text.to_lowercase();
        let mut names: Vec<String> = Vec::new();
        for path in paths {
            let path = path.to_lowercase();
            let last = path.rsplit('/').next().unwrap_or_default().to_owned();
            names.extend([path, last]);
        }
        names.retain(|name| !name.is_empty());
        // Whole paths first, so that nothing of them is left over.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let mut rest = text.clone();
        let mut has_path = false;
        for name in &names {
            while let Some(at) = find_name(&rest, name) {
                has_path = true;
                // Not a blank: what was one word must not become two.
                rest.replace_range(at..at + name.len(), "\u{fffc}");
            }
        }
        Mention { text, rest, has_path }
    }

    /// Whether it names one of the paths.
    pub(crate) fn names_path(&self) -> bool {
        self.has_path
    }

    /// Whether it names what a beat does, in any common spelling, or one of `kinds`.
    pub(crate) fn names_operation(&self, kinds: &[OpKind]) -> bool {
        let is_lookup = kinds.iter().any(|kind| matches!(kind, OpKind::Lookup | OpKind::Stat));
        let is_word = |token: &str| {
            WORDS.iter().any(|word| {
                token.strip_prefix(word).is_some_and(|ending| ENDINGS.contains(&ending))
            }) || matches!(token, "wrote" | "written" | "writing")
                || kinds.iter().any(|kind| kind.as_str() == token)
                || (is_lookup && LOOKUPS.contains(&token))
        };
        STEMS.iter().any(|stem| self.rest.contains(stem))
            || self.rest.split(|c: char| !c.is_alphanumeric()).any(is_word)
    }

    /// Whether it names one of the errnos, by name or by its message.
    pub(crate) fn names_errno(&self, errnos: &[Errno]) -> bool {
        errnos.iter().any(|errno| {
            let name = errno.to_string().to_lowercase();
            let message = std::io::Error::from_raw_os_error(errno.0).to_string().to_lowercase();
            let message = message.split(" (os error").next().unwrap_or_default();
            self.text.split(|c: char| !c.is_alphanumeric()).any(|token| token == name)
                || self.text.contains(message)
        })
    }

    /// Whether it says anything of a lock or of a beat, however vaguely.
    pub(crate) fn is_of_a_lock(&self) -> bool {
        let has = |stems: &[&str]| stems.iter().any(|stem| self.text.contains(stem));
        self.has_path || has(STEMS) || has(LOCK_STEMS)
    }
}

/// Where `name` stands in `text` as a name of its own: not as a part of a longer one.
fn find_name(text: &str, name: &str) -> Option<usize> {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    text.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back();
        let mut after = text[at + name.len()..].chars();
        let (next, second) = (after.next(), after.next());
        let is_joined_after = match next {
            // A full stop ends a sentence, or goes on with an extension.
            Some('.') => second.is_some_and(joins),
            Some(c) => joins(c),
            None => false,
        };
        !before.is_some_and(|c| joins(c) || c == '.') && !is_joined_after
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const PATHS: &[&str] = &["resource.lock", "resource.lock/beat"];

    #[rstest]
    #[case("cannot update '/tmp/x/resource.lock': no", true)]
    #[case("lost resource.lock.", true)]
    #[case("RESOURCE.LOCK", true)]
    #[case("path=resource.lock/beat", true)]
    #[case("resource.lock.tmp", false)]
    #[case("my-resource.lock", false)]
    #[case("resource", false)]
    #[case("deadbeat", false)]
    #[case("", false)]
    fn a_path_counts_whole_or_by_its_last_component(#[case] text: &str, #[case] named: bool) {
        assert_eq!(Mention::new(text, PATHS).names_path(), named, "{text}");
    }

    #[rstest]
    #[case("utimensat failed", true)]
    #[case("Heartbeat failed", true)]
    #[case("failedToRefresh", true)]
    #[case("Object.utimesSync", true)]
    #[case("cannot open it", true)]
    #[case("while writing", true)]
    #[case("could not renew the lease", true)]
    #[case("the status of the state", false)]
    #[case("reopening opencode", false)]
    #[case("Unable to update lock within the stale threshold", false)]
    #[case("deadbeat run", false)]
    #[case("resource.lock/beat: No space left on device", false)]
    fn an_operation_counts_by_any_common_spelling(#[case] text: &str, #[case] named: bool) {
        assert_eq!(Mention::new(text, PATHS).names_operation(&[]), named, "{text}");
    }

    #[test]
    fn a_beat_that_failed_on_the_way_is_named_by_what_the_process_called() {
        let mention = Mention::new("ENOENT: no such file or directory, stat '/x'", PATHS);
        assert!(mention.names_operation(&[OpKind::Lookup]));
        assert!(!mention.names_operation(&[OpKind::Utimes]));
    }

    #[test]
    fn a_beat_file_called_heartbeat_names_no_operation() {
        let mention = Mention::new("l/heartbeat: permission denied", &["l/heartbeat"]);
        assert!(mention.names_path() && !mention.names_operation(&[]));
    }

    #[test]
    fn an_errno_counts_by_name_or_message_and_not_by_another_one() {
        let enospc = [Errno(libc::ENOSPC)];
        for text in ["code: 'ENOSPC'", "[Errno 28] No space left on device: 'x'"] {
            assert!(Mention::new(text, PATHS).names_errno(&enospc), "{text}");
        }
        for text in ["EIO", "ENOSPCX", "Input/output error", ""] {
            assert!(!Mention::new(text, PATHS).names_errno(&enospc), "{text}");
        }
        assert!(!Mention::new("ENOSPC", PATHS).names_errno(&[]));
    }

    #[test]
    fn what_is_not_about_a_lock_tells_nothing() {
        assert!(Mention::new("Unable to update lock", PATHS).is_of_a_lock());
        assert!(!Mention::new("step 5 of 9 done", PATHS).is_of_a_lock());
    }

    proptest! {
        #[test]
        fn any_text_and_any_path_can_be_asked(text in ".{0,80}", path in ".{0,8}") {
            let mention = Mention::new(&text, &[&path, "İ", "k"]);
            let _ = (mention.names_path(), mention.names_operation(&[OpKind::Utimes]));
        }
    }
}
