//! Where the engines cannot show the same, as data: for each, a reason that does not go away.
//!
//! Every other scenario that both engines carry has the same outcome and findings on both; a test
//! holds them to it, and to this list: an exception that meets no case is a mistake.

use globset::Glob;

/// Scenarios and subjects for which the engines may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// A glob of scenarios, `family/name`.
    pub scenario: &'static str,
    /// A glob of subjects, `name@variant`.
    pub subject: &'static str,
    /// Why, in a sentence for `list --explain`.
    pub reason: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[Exception {
    scenario: "pause/everybody",
    subject: "zoo@*",
    reason: "who runs first after everybody wakes is the kernel's choice on fuse, and the \
                 seed's on trace: a lock that loses only one of these races shows it only there",
}];

impl Exception {
    /// Whether this case is meant.
    ///
    /// # Panics
    /// If one of the globs is none, which a test would have shown.
    #[must_use]
    pub fn covers(&self, scenario: &str, subject: &str) -> bool {
        let matches = |glob: &str, text: &str| {
            let glob = Glob::new(glob).expect("the list holds valid globs");
            glob.compile_matcher().is_match(text)
        };
        matches(self.scenario, scenario) && matches(self.subject, subject)
    }
}

/// Why the engines may differ about this case, if they may.
#[must_use]
pub fn exception(scenario: &str, subject: &str) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| exception.covers(scenario, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_covers_what_its_globs_mean_and_nothing_else() {
        let one = Exception { scenario: "hang/*", subject: "zoo@*", reason: "because" };
        assert!(one.covers("hang/short", "zoo@swallowed-beat"));
        assert!(!one.covers("pause/short", "zoo@swallowed-beat"));
        assert!(!one.covers("hang/short", "reference@default"));
    }

    #[test]
    fn every_exception_has_valid_globs_a_bound_and_a_reason() {
        for exception in EXCEPTIONS {
            assert!(!exception.covers("family/name", "nobody@default"), "it is for everything");
            assert!(exception.reason.len() > 20, "{exception:?}");
        }
    }
}
