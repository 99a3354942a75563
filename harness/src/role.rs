//! Which process of a run is meant: the holder, or one of the contenders.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One process (tree) of a run. Contenders count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Role {
    /// The first process to take the lock.
    Holder,
    /// The n-th process that wants it.
    Contender(u8),
}

/// Whom a fault, an event or a moment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Who {
    /// Exactly this role.
    One(Role),
    /// Every contender.
    Contenders,
    /// Every role.
    Any,
}

impl Who {
    /// Whether `role` is meant.
    #[must_use]
    pub fn means(self, role: Role) -> bool {
        match self {
            Who::One(one) => one == role,
            Who::Contenders => matches!(role, Role::Contender(_)),
            Who::Any => true,
        }
    }
}

/// The text is no role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown role `{0}`\n(hint: a role is `holder`, `contender`, `contender-1`…, or `any`)")]
pub struct UnknownRole(pub String);

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Holder => f.write_str("holder"),
            Role::Contender(n) => write!(f, "contender-{n}"),
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        if text == "holder" {
            return Ok(Role::Holder);
        }
        let number = text.strip_prefix("contender-").filter(|digits| !digits.starts_with('0'));
        number
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Role::Contender)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::One(role) => role.fmt(f),
            Who::Contenders => f.write_str("contender"),
            Who::Any => f.write_str("any"),
        }
    }
}

impl FromStr for Who {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Who, UnknownRole> {
        match text {
            "contender" => Ok(Who::Contenders),
            "any" => Ok(Who::Any),
            one => one.parse().map(Who::One),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.to_string()
    }
}

impl TryFrom<String> for Role {
    type Error = UnknownRole;
    fn try_from(text: String) -> Result<Role, UnknownRole> {
        text.parse()
    }
}

impl From<Who> for String {
    fn from(who: Who) -> String {
        who.to_string()
    }
}

impl TryFrom<String> for Who {
    type Error = UnknownRole;
    fn try_from(text: String) -> Result<Who, UnknownRole> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_print_as_they_parse() {
        for text in ["holder", "contender-1", "contender-12"] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        for wrong in ["contender", "contender-0", "contender-", "contender-+1", "Holder", "any"] {
            assert!(wrong.parse::<Role>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn contender_means_each_contender_and_never_the_holder() {
        assert!(Who::Contenders.means(Role::Contender(3)));
        assert!(!Who::Contenders.means(Role::Holder));
        assert!(Who::Any.means(Role::Holder));
    }
}
