//! The witness protocol: what a process says of itself, and the resource that checks tokens.
//!
//! The witness is outside the lock. One line is one event; the engine knows who wrote it, and
//! records it before the write returns, so the order of lines is the order of effects.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::moment::Sign;
use crate::role::Role;

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 4096;

/// How much of a line that is none is kept.
const GARBAGE_CHARS_SHOWN: usize = 120;

/// One line of the witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Said {
    /// Inside the critical section from now.
    Entered {
        /// The fencing token, if the lock gives one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// One protected write.
    Wrote {
        /// The fencing token, if the lock gives one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// A beat failed; the lock is still owned.
    Degraded {
        /// `op`, `path`, `errno` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// Beats work again.
    Healthy,
    /// Ownership is gone or in doubt.
    Lost {
        /// `reason` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// Protected work stopped early.
    Aborted,
    /// Outside from now.
    Left,
    /// The release returned.
    Released,
    /// The release returned an error.
    ReleaseFailed {
        /// `reason` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// Patience ended.
    GaveUp,
    /// A second try of the process that has the lock did not get in: the right answer.
    Refused {
        /// `reason` and whatever else was said.
        details: BTreeMap<String, String>,
    },
    /// A second try of the process that has the lock got in.
    Admitted,
    /// Anything else went wrong.
    Failed {
        /// In the adapter's words.
        text: String,
    },
    /// No line of the protocol.
    Garbage {
        /// As much of it as is worth showing.
        text: String,
    },
}

impl Said {
    /// The sign that a moment can wait for.
    #[must_use]
    pub fn sign(&self) -> Option<Sign> {
        Some(match self {
            Said::Entered { .. } => Sign::Entered,
            Said::Wrote { .. } => Sign::Wrote,
            Said::Degraded { .. } => Sign::Degraded,
            Said::Healthy => Sign::Healthy,
            Said::Lost { .. } => Sign::Lost,
            Said::Aborted => Sign::Aborted,
            Said::Left => Sign::Left,
            Said::Released => Sign::Released,
            Said::GaveUp => Sign::GaveUp,
            Said::ReleaseFailed { .. }
            | Said::Refused { .. }
            | Said::Admitted
            | Said::Failed { .. }
            | Said::Garbage { .. } => return None,
        })
    }

    /// The word of the line.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Said::ReleaseFailed { .. } => "release-failed",
            Said::Refused { .. } => "refused",
            Said::Admitted => "admitted",
            Said::Failed { .. } => "failed",
            Said::Garbage { .. } => "garbage",
            other => other.sign().expect("only those above have no sign").as_str(),
        }
    }
}

/// The resource refused a token that is lower than one it has accepted, or another role's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The highest token that it has accepted.
    pub accepted: u64,
    /// Whose that is.
    pub by: Role,
}

/// The protected resource, as far as fencing goes: it remembers the highest token it has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource {
    highest: Option<(u64, Role)>,
}

impl Resource {
    /// Accepts or refuses an `entered` or a `wrote`; every other line, and one without a token,
    /// is none of its business.
    ///
    /// # Errors
    /// The token is lower than one it has accepted, or equal to another role's.
    pub fn accept(&mut self, role: Role, said: &Said) -> Result<(), Refused> {
        let (Said::Entered { token: Some(token) } | Said::Wrote { token: Some(token) }) = said
        else {
            return Ok(());
        };
        match self.highest {
            Some((accepted, by)) if *token < accepted || (*token == accepted && by != role) => {
                Err(Refused { accepted, by })
            }
            _ => {
                self.highest = Some((*token, role));
                Ok(())
            }
        }
    }
}

/// The lines of one write, in order. What is no line of the protocol is [`Said::Garbage`].
#[must_use]
pub fn parse(data: &[u8]) -> Vec<Said> {
    let lines = data.strip_suffix(b"\n").unwrap_or(data).split(|byte| *byte == b'\n');
    lines.map(|line| parse_line(line).unwrap_or_else(|| garbage(line))).collect()
}

fn garbage(line: &[u8]) -> Said {
    let text: String = String::from_utf8_lossy(line).chars().take(GARBAGE_CHARS_SHOWN).collect();
    Said::Garbage { text }
}

fn parse_line(line: &[u8]) -> Option<Said> {
    // The bound counts the line break.
    if line.len() >= LINE_BYTES_MAX {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start();
    if word == "failed" {
        return Some(Said::Failed { text: rest.to_owned() });
    }
    let mut details = parse_details(rest)?;
    let mut token = || match details.remove("token") {
        None => Some(None),
        Some(text) => text.parse().ok().map(Some),
    };
    let said = match word {
        "entered" => Said::Entered { token: token()? },
        "wrote" => Said::Wrote { token: token()? },
        "degraded" => return Some(Said::Degraded { details }),
        "lost" => return Some(Said::Lost { details }),
        "release-failed" => return Some(Said::ReleaseFailed { details }),
        "refused" => return Some(Said::Refused { details }),
        "healthy" => Said::Healthy,
        "aborted" => Said::Aborted,
        "left" => Said::Left,
        "released" => Said::Released,
        "gave-up" => Said::GaveUp,
        "admitted" => Said::Admitted,
        _ => return None,
    };
    details.is_empty().then_some(said)
}

/// `key=value key="a JSON string"`; `None` if it is not that.
fn parse_details(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut details = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return None;
        }
        let (value, left) = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next()?.ok()?;
            (value, &after[values.byte_offset()..])
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        if !left.is_empty() && !left.starts_with(' ') {
            return None;
        }
        if details.insert(key.to_owned(), value).is_some() {
            return None;
        }
        rest = left.trim_start();
    }
    Some(details)
}

impl fmt::Display for Said {
    /// The line as an adapter writes it, without the line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Failed { text } => return write!(f, "failed {text}"),
            Said::Garbage { text } => return f.write_str(text),
            _ => f.write_str(self.word())?,
        }
        match self {
            Said::Entered { token: Some(token) } | Said::Wrote { token: Some(token) } => {
                write!(f, " token={token}")
            }
            Said::Degraded { details }
            | Said::Lost { details }
            | Said::ReleaseFailed { details }
            | Said::Refused { details } => {
                details.iter().try_for_each(|(key, value)| write!(f, " {key}={}", quoted(value)))
            }
            _ => Ok(()),
        }
    }
}

fn quoted(value: &str) -> String {
    let is_plain = !value.is_empty()
        && !value.starts_with('"')
        && !value.contains(|c: char| c.is_whitespace() || c.is_control());
    if is_plain {
        value.to_owned()
    } else {
        serde_json::to_string(value).expect("a string has a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn details() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-z-]{1,8}", ".{0,20}", 0..4)
    }

    fn said() -> impl Strategy<Value = Said> {
        prop_oneof![
            any::<Option<u64>>().prop_map(|token| Said::Entered { token }),
            any::<Option<u64>>().prop_map(|token| Said::Wrote { token }),
            details().prop_map(|details| Said::Degraded { details }),
            details().prop_map(|details| Said::Lost { details }),
            details().prop_map(|details| Said::ReleaseFailed { details }),
            details().prop_map(|details| Said::Refused { details }),
            Just(Said::Admitted),
            Just(Said::Healthy),
            Just(Said::Aborted),
            Just(Said::Left),
            Just(Said::Released),
            Just(Said::GaveUp),
            "[a-z]{0,9}".prop_map(|text| Said::Failed { text }),
        ]
    }

    proptest! {
        #[test]
        fn lines_parse_as_they_print(lines in proptest::collection::vec(said(), 1..4)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(parse(text.as_bytes()), lines);
        }

        #[test]
        fn any_bytes_are_lines_or_garbage(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let lines = parse(&data);
            prop_assert!(!lines.is_empty());
        }
    }

    #[test]
    fn what_is_no_line_is_garbage() {
        let long = format!("failed {}", "x".repeat(LINE_BYTES_MAX));
        for wrong in [
            "",
            "Entered",
            "enter",
            "entered now",
            "entered token=x",
            "entered token=-1",
            "left early",
            "degraded =x",
            "degraded op",
            "degraded op=\"x",
            "degraded a=1 a=2",
            "degraded op=\"x\"y",
            &long,
        ] {
            let said = parse(wrong.as_bytes());
            assert!(matches!(said[..], [Said::Garbage { .. }]), "{wrong}: {said:?}");
        }
        assert!(matches!(parse(b"entered\xff\n")[..], [Said::Garbage { .. }]));
    }

    #[test]
    fn the_resource_refuses_lower_tokens_and_anothers_equal_one() {
        let mut resource = Resource::default();
        let entered = |token| Said::Entered { token: Some(token) };
        let wrote = |token| Said::Wrote { token: Some(token) };
        let heir = Role::Contender(1);
        assert_eq!(resource.accept(Role::Holder, &entered(7)), Ok(()));
        assert_eq!(resource.accept(Role::Holder, &wrote(7)), Ok(()));
        let refused = Refused { accepted: 7, by: Role::Holder };
        assert_eq!(resource.accept(heir, &entered(7)), Err(refused));
        assert_eq!(resource.accept(heir, &entered(8)), Ok(()));
        let refused = Refused { accepted: 8, by: heir };
        assert_eq!(resource.accept(Role::Holder, &wrote(7)), Err(refused));
        assert_eq!(resource.accept(Role::Holder, &Said::Left), Ok(()));
        assert_eq!(resource.accept(Role::Holder, &Said::Wrote { token: None }), Ok(()));
    }
}
