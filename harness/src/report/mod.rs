//! Reports: every form in which results are shown. They consume the same data and decide nothing.
//!
//! - [`checklist`] is the runbook, line by line, with what proves each.
//! - [`results`] is `results.json`, as CONTRACTS.md has it.
//! - [`terminal`] has lines for people.
//! - [`junit`] is `junit.xml`.
//! - [`detection`] is the table of what caught which planted bug.
//! - [`history`] is `history.jsonl`, one event a line.
//!
//! All are functions from data to text: nothing here prints, and what a subject wrote reaches a
//! terminal only without its control characters ([`plain`]).

pub mod checklist;
pub mod detection;
pub mod history;
pub mod junit;
pub mod results;
pub mod terminal;

/// Text of a subject, safe for a terminal and for XML: control characters, which could move the
/// cursor, set a title or end a line, are shown as `\u{1b}` and the like.
#[must_use]
pub fn plain(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .flat_map(|c| {
            let shown: Vec<char> =
                if is_unsafe(c) { c.escape_unicode().collect() } else { vec![c] };
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}b\r\nc\u{202e}d\u{9b}31m";
        let shown = plain(hostile);
        assert!(!shown.chars().any(char::is_control), "{shown}");
        assert!(!shown.contains('\u{202e}'));
        assert!(shown.starts_with("a\\u{1b}]0;title\\u{7}b"));
        assert_eq!(plain("déjà vu ✓"), "déjà vu ✓");
    }
}
