//! `history.jsonl`: a first line with the format and what was run, then one event a line.

use std::io::{self, Write};

use serde::Serialize;

use crate::history::History;

#[derive(Serialize)]
struct Head<'a> {
    format: u32,
    scenario: &'a str,
    subject: &'a str,
    engine: &'a str,
    seed: u64,
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
    let head = Head { format: 1, scenario, subject, engine, seed };
    serde_json::to_writer(&mut out, &head)?;
    out.write_all(b"\n")?;
    for event in &history.events {
        serde_json::to_writer(&mut out, event)?;
        out.write_all(b"\n")?;
    }
    out.flush()
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
}
