//! The witness file: one line an event, one `write(2)` a line.
//!
//! The line is recorded before the write returns, so the order of lines is the order of events
//! across all processes. The descriptor is opened for each line: nothing is left open at death.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

/// The longest line, with its line break.
const LINE_BYTES_MAX: usize = 4096;

/// Writes lines.
#[derive(Clone, Debug)]
pub struct Witness {
    path: PathBuf,
}

/// A line was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The resource refused the fencing token: another has a higher one.
    #[error("the resource refused the token")]
    Fenced,
    /// The file could not be written.
    #[error("write to the witness failed")]
    Io(#[from] io::Error),
}

impl Witness {
    /// A witness that writes to `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Witness {
        Witness { path: path.into() }
    }

    /// Writes a word and its details; values with blanks become JSON strings.
    ///
    /// # Errors
    /// The resource refused the token (ESTALE), or the file could not be written.
    pub fn say(&self, word: &str, details: &[(&str, &str)]) -> Result<(), WitnessError> {
        let mut line = word.to_owned();
        for (key, value) in details {
            line.push_str(&format!(" {key}={}", quoted(value)));
        }
        self.write(line)
    }

    /// Writes `failed` and why.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn failed(&self, why: &str) -> Result<(), WitnessError> {
        self.write(format!("failed {}", why.replace('\n', " ")))
    }

    fn write(&self, mut line: String) -> Result<(), WitnessError> {
        while line.len() >= LINE_BYTES_MAX {
            line.pop();
        }
        line.push('\n');
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        match file.write(line.as_bytes()) {
            Ok(count) if count == line.len() => Ok(()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::WriteZero, "a short write").into()),
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Err(WitnessError::Fenced),
            Err(error) => Err(error.into()),
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
    use super::*;

    #[test]
    fn each_event_is_one_line_with_quoted_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        std::fs::write(&path, "").unwrap();
        let witness = Witness::new(&path);
        witness.say("entered", &[("token", "3")]).unwrap();
        witness.say("lost", &[("reason", "no space left"), ("path", "")]).unwrap();
        witness.failed(&"x\ny".repeat(3000)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["entered token=3", r#"lost reason="no space left" path="""#]);
        assert_eq!((lines.len(), lines[2].len()), (3, LINE_BYTES_MAX - 1));
    }
}
