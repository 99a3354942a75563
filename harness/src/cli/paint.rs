//! Whether and how output is coloured. Words carry the meaning; hue only helps.

use std::io::IsTerminal;
use std::sync::OnceLock;

use super::args::Color;

/// Adds colour, or does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

/// What [`set_choice`] was given: one flag of one command line.
static CHOICE: OnceLock<Color> = OnceLock::new();

/// Keeps the `--color` flag for every stream.
pub(crate) fn set_choice(color: Color) {
    // A second call would be another command line; there is only one.
    let _ = CHOICE.set(color);
}

impl Paint {
    /// By the flag, the environment and what standard output is.
    pub(crate) fn for_stdout() -> Paint {
        Paint::for_stream(std::io::stdout().is_terminal())
    }

    /// By the flag, the environment and what standard error is.
    pub(crate) fn for_stderr() -> Paint {
        Paint::for_stream(std::io::stderr().is_terminal())
    }

    fn for_stream(terminal: bool) -> Paint {
        let color = CHOICE.get().copied().unwrap_or(Color::Auto);
        Paint(wanted(color, std::env::var_os("NO_COLOR"), terminal))
    }

    /// Whether colour is on.
    pub(crate) fn is_on(self) -> bool {
        self.0
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrapped("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.wrapped("31;1", text)
    }

    pub(crate) fn warn(self, text: &str) -> String {
        self.wrapped("33", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrapped("1", text)
    }

    fn wrapped(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// NO_COLOR counts when it is not empty (no-color.org); the flag counts more.
fn wanted(color: Color, no_color: Option<std::ffi::OsString>, terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && no_color.is_none_or(|value| value.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_counts_more_than_the_environment() {
        let no_color = || Some("1".into());
        assert!(wanted(Color::Always, no_color(), false));
        assert!(!wanted(Color::Auto, no_color(), true));
        assert!(wanted(Color::Auto, Some("".into()), true));
        assert!(!wanted(Color::Auto, None, false));
        assert!(!wanted(Color::Never, None, true));
    }
}
