//! What is shown on standard error while scenarios run: a bar on a terminal, else nothing but the
//! lines that matter.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar, if there is a terminal to draw it on.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `cases` steps.
    pub(super) fn over(cases: usize) -> Progress {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(u64::try_from(cases).ok(), target);
        let look =
            ProgressStyle::with_template("    Running [{elapsed}] {wide_bar} {pos}/{len} {msg}");
        bar.set_style(look.expect("the template is a constant, and a test parses it"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress { bar }
    }

    /// What is going on besides the count.
    pub(super) fn note(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// One more case is done.
    pub(super) fn step(&self) {
        self.bar.inc(1);
    }

    /// Prints without tearing the bar.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_parses() {
        let progress = Progress::over(3);
        progress.note("setting up");
        progress.step();
        progress.aside(|| ());
        assert_eq!(progress.bar.position(), 1);
    }
}
