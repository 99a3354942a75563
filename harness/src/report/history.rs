//! `history.jsonl`: a first line with the format and what was run, then one event a line.
//!
//! # Invariants
//! - Written and read line by line; what is read is bounded in line length and in events.
//! - What is read back is a history as an engine makes it: numbered from 1 without gaps, in time.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use crate::history::{Event, History};

/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// The longest line that is read. A line of the witness has 4 KiB, a piece of output 64 KiB, and
/// JSON may write six bytes for one.
pub const LINE_BYTES_MAX: u64 = 1 << 20;

/// The most events that are read.
pub const EVENTS_MAX: usize = 1 << 20;

/// The first line: what was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the file.
    pub format: u32,
    /// `family/name`.
    pub scenario: String,
    /// `name@variant`.
    pub subject: String,
    /// Which engine.
    pub engine: String,
    /// Which seed.
    pub seed: u64,
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be read.
    #[error("read line {line} of the history failed")]
    Io {
        /// Which line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("line {line} of the history is no {what}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        #[source]
        source: serde_json::Error,
    },
    /// It is of another format.
    #[error("the history has format {0}, not {FORMAT}\n(hint: another deadbeat wrote it)")]
    Format(u32),
    /// Events are missing, twice there, or out of order.
    #[error("line {line} of the history is out of order: something is missing or was changed")]
    Disorder {
        /// Which line, from 1.
        line: usize,
    },
    /// A bound was hit.
    #[error("line {line} of the history is beyond the bound of {bound}")]
    TooMuch {
        /// Which line, from 1.
        line: usize,
        /// Which bound.
        bound: &'static str,
    },
}

/// Writes a history.
///
/// # Errors
/// Those of `out`.
pub fn write(
    mut out: impl Write,
    [scenario, subject, engine]: [&str; 3],
    seed: u64,
    history: &History,
) -> io::Result<()> {
    let head = Head {
        format: FORMAT,
        scenario: scenario.to_owned(),
        subject: subject.to_owned(),
        engine: engine.to_owned(),
        seed,
    };
    serde_json::to_writer(&mut out, &head)?;
    out.write_all(b"\n")?;
    for event in &history.events {
        serde_json::to_writer(&mut out, event)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads a history back.
///
/// # Errors
/// It cannot be read, is malformed, of another format, out of order, or too large.
pub fn read(mut from: impl BufRead) -> Result<(Head, History), ReadError> {
    let bytes = line_of(&mut from, 1)?;
    let head: Head = serde_json::from_slice(&bytes).map_err(|source| ReadError::Malformed {
        line: 1,
        what: "head",
        source,
    })?;
    if head.format != FORMAT {
        return Err(ReadError::Format(head.format));
    }
    let mut history = History::default();
    for line in 2.. {
        let bytes = line_of(&mut from, line)?;
        if bytes.is_empty() {
            break;
        }
        if history.events.len() == EVENTS_MAX {
            return Err(ReadError::TooMuch { line, bound: "1048576 events" });
        }
        let event: Event = serde_json::from_slice(&bytes)
            .map_err(|source| ReadError::Malformed { line, what: "event", source })?;
        let (seq, at) = history.events.last().map_or((0, event.at), |last| (last.seq, last.at));
        if event.seq != seq + 1 || event.at < at {
            return Err(ReadError::Disorder { line });
        }
        history.events.push(event);
    }
    Ok((head, history))
}

/// One line with its break; nothing at the end of the file.
fn line_of(from: &mut impl BufRead, line: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    from.by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut bytes)
        .map_err(|source| ReadError::Io { line, source })?;
    if bytes.len() as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
        return Err(ReadError::TooMuch { line, bound: "1 MiB a line" });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, What};
    use crate::time::Nanos;

    #[test]
    fn a_history_reads_back_line_by_line() {
        let mut history = History::default();
        history.push(Nanos(5), What::Trouble { why: "two\nlines".to_owned() });
        history.push(Nanos(7), What::End);
        let mut bytes = Vec::new();
        write(&mut bytes, ["a/b", "c@d", "fuse"], 3, &history).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        let head = lines.next().unwrap();
        assert_eq!(
            head,
            r#"{"format":1,"scenario":"a/b","subject":"c@d","engine":"fuse","seed":3}"#
        );
        let events: Vec<Event> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events, history.events);
    }

    #[test]
    fn every_kind_of_event_reads_back() {
        use crate::check::script::{C1, HOLDER, Script};
        let mut script = Script::new();
        script.at(1).says(HOLDER, "entered token=3").fails(HOLDER).hangs(HOLDER).done(1);
        script.says(HOLDER, "degraded op=\"a b\" errno=ENOSPC").prints(HOLDER, "\u{1b}\n\0");
        script.push(What::NotDone { event: 2, why: "\"".to_owned() });
        script.fenced(C1, "wrote token=2", HOLDER).says(C1, "nonsense \u{9b}").killed(C1).dies(C1);
        script.push(What::Note { role: HOLDER, text: "tries \u{7f}".to_owned() });
        script.push(What::Stopped { role: HOLDER }).push(What::Continued { role: HOLDER });
        script.exits(HOLDER, 3);
        let history = script.history();
        let mut bytes = Vec::new();
        write(&mut bytes, ["a/b", "c@d", "fuse"], 3, history).unwrap();
        let (head, back) = read(bytes.as_slice()).unwrap();
        assert_eq!((head.scenario.as_str(), head.seed), ("a/b", 3));
        assert_eq!(&back, history);
    }

    #[test]
    fn what_is_no_whole_history_is_refused() {
        let head = r#"{"format":1,"scenario":"a","subject":"b","engine":"fuse","seed":0}"#;
        let event = |seq: u64, at: u64| format!(r#"{{"seq":{seq},"at_ns":{at},"what":"end"}}"#);
        let why = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert!(read(format!("{head}\n{}\n", event(1, 5)).as_bytes()).is_ok());
        assert!(why("").contains("line 1") && why("{}").contains("line 1"));
        assert!(why(&head.replace(":1,", ":2,")).contains("format 2"));
        assert!(why(&format!("{head}\nnonsense\n")).contains("line 2"));
        assert!(why(&format!("{head}\n{}\n", event(2, 5))).contains("out of order"));
        let back = format!("{head}\n{}\n{}\n", event(1, 5), event(2, 4));
        assert!(why(&back).contains("line 3"));
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 1);
        assert!(why(&format!("{head}\n{long}\n")).contains("1 MiB"));
    }
}
