//! The language of `do`: what the harness does in a run.

use super::mistake::{did_you_mean, quoted};
use super::spec::{DeedSpec, Length};
use super::walk::Complaint;
use super::words::{self, Said, Word, within, wrong};
use crate::plan::{Deed, Reach};

/// Every verb, and how it is used.
pub(super) const VERBS: &[(&str, &str)] = &[
    ("remove", "remove PATH"),
    ("rename", "rename PATH to NAME"),
    ("chmod", "chmod MODE PATH"),
    ("chown", "chown UID PATH"),
    ("immutable", "immutable PATH"),
    ("truncate", "truncate PATH [to N]"),
    ("corrupt", "corrupt PATH [with \"TEXT\"]"),
    ("touch", "touch PATH [back D]"),
    ("fill", "fill blocks|inodes [leave N]"),
    ("free", "free"),
    ("remount", "remount ro|rw"),
    ("pause", "pause ROLE [main]"),
    ("resume", "resume ROLE"),
    ("kill", "kill ROLE [main]"),
    ("start", "start ROLE"),
    ("stall", "stall ROLE D"),
    ("step-clock", "step-clock ROLE D"),
    ("suspend", "suspend D"),
    ("heal", "heal"),
];

/// The words of a deed, read one after the other.
struct Reader<'t> {
    text: &'t str,
    words: Vec<Word<'t>>,
    next: usize,
    usage: &'static str,
}

impl<'t> Reader<'t> {
    fn missing<T>(&self) -> Said<T> {
        let message = format!("{} is not complete", quoted(self.text));
        wrong(0..self.text.len(), message, format!("`{}`", self.usage))
    }

    fn word(&mut self) -> Said<Word<'t>> {
        let Some(word) = self.words.get(self.next).cloned() else { return self.missing() };
        self.next += 1;
        Ok(word)
    }

    fn parse<T>(&mut self, parse: impl FnOnce(&'t str) -> Said<T>) -> Said<T> {
        within(&self.word()?, parse)
    }

    /// Whether the next word is `keyword`; takes it.
    fn has(&mut self, keyword: &str) -> bool {
        let found = self.words.get(self.next).is_some_and(|word| word.text == keyword);
        self.next += usize::from(found);
        found
    }

    /// Everything that is left, as one text.
    fn rest<T>(&mut self, parse: impl FnOnce(&'t str) -> Said<T>) -> Said<T> {
        let Some(first) = self.words.get(self.next) else { return self.missing() };
        let word = Word { text: &self.text[first.at.start..], at: first.at.start..self.text.len() };
        self.next = self.words.len();
        within(&word, parse)
    }

    fn finish(&self, deed: DeedSpec) -> Said<DeedSpec> {
        let Some(extra) = self.words.get(self.next) else { return Ok(deed) };
        let message = format!("{} is too much here", quoted(extra.text));
        wrong(extra.at.clone(), message, format!("`{}`", self.usage))
    }
}

/// Parses one `do`.
pub(super) fn deed(text: &str) -> Said<DeedSpec> {
    let words = words::split(text)?;
    let Some(verb) = words.first().cloned() else {
        return wrong(0..text.len(), "the event does nothing", "say what, such as `remove lock`");
    };
    let Some((_, usage)) = VERBS.iter().find(|(name, _)| *name == verb.text) else {
        let hint = did_you_mean(verb.text, VERBS.iter().map(|(name, _)| *name));
        return wrong(verb.at, format!("unknown event {}", quoted(verb.text)), hint);
    };
    let mut reader = Reader { text, words, next: 1, usage };
    let deed = match verb.text {
        "touch" => touch(&mut reader)?,
        "stall" => DeedSpec::Stall(reader.parse(words::who)?, reader.rest(words::some_length)?),
        "step-clock" => {
            let who = reader.parse(words::who)?;
            let (back, by) = reader.rest(words::signed_length)?;
            DeedSpec::StepClock(who, back, by)
        }
        "suspend" => DeedSpec::Suspend(reader.rest(words::some_length)?),
        name => DeedSpec::Plain(plain(name, &mut reader)?),
    };
    reader.finish(deed)
}

fn touch(reader: &mut Reader<'_>) -> Said<DeedSpec> {
    let path = reader.parse(words::target)?;
    let back = reader.has("back");
    let length = if back { reader.rest(words::some_length)? } else { Length::ZERO };
    Ok(DeedSpec::Touch(path, length))
}

/// The deeds without a length.
fn plain(verb: &str, reader: &mut Reader<'_>) -> Said<Deed> {
    Ok(match verb {
        "remove" => Deed::Remove(reader.parse(words::target)?),
        "rename" => {
            let path = reader.parse(words::target)?;
            if !reader.has("to") {
                return reader.missing();
            }
            Deed::Rename(path, reader.parse(words::glob)?)
        }
        "chmod" => {
            let mode = reader.parse(mode)?;
            Deed::Chmod(mode, reader.parse(words::target)?)
        }
        "chown" => {
            let uid = reader.parse(uid)?;
            Deed::Chown(uid, reader.parse(words::target)?)
        }
        "immutable" => Deed::Immutable(reader.parse(words::target)?),
        "truncate" => {
            let path = reader.parse(words::target)?;
            let to = if reader.has("to") { reader.rest(words::size)? } else { 0 };
            Deed::Truncate(path, to)
        }
        "corrupt" => {
            let path = reader.parse(words::target)?;
            let with = reader.has("with").then(|| reader.word()).transpose()?;
            Deed::Corrupt(path, with.map(|word| word.text.to_owned()))
        }
        "fill" => fill(reader)?,
        "free" => Deed::Free,
        "remount" => {
            let known = [("ro", true), ("rw", false)];
            let read_only = reader.parse(|text| words::one_of(text, "mode", &known))?;
            Deed::Remount { read_only }
        }
        "pause" => Deed::Pause(reader.parse(words::who)?, reach(reader)),
        "kill" => Deed::Kill(reader.parse(words::who)?, reach(reader)),
        "resume" => Deed::Resume(reader.parse(words::who)?),
        "start" => Deed::Start(reader.parse(words::who)?),
        "heal" => Deed::Heal,
        other => unreachable!("every verb of VERBS is read, and `{other}` is none"),
    })
}

fn reach(reader: &mut Reader<'_>) -> Reach {
    if reader.has("main") { Reach::Main } else { Reach::Tree }
}

fn fill(reader: &mut Reader<'_>) -> Said<Deed> {
    let known = [("blocks", true), ("inodes", false)];
    let blocks = reader.parse(|text| words::one_of(text, "resource", &known))?;
    let leave = reader.has("leave");
    Ok(if blocks {
        Deed::FillBlocks(if leave { reader.rest(words::size)? } else { 0 })
    } else {
        Deed::FillInodes(if leave { reader.parse(number)? } else { 0 })
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Complaint> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.map_or_else(|| wrong(0..text.len(), format!("{} is no number", quoted(text)), ""), Ok)
}

fn uid(text: &str) -> Said<u32> {
    number(text)
}

fn mode(text: &str) -> Said<u32> {
    let octal = text.bytes().all(|byte| (b'0'..b'8').contains(&byte)) && text.len() <= 5;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777);
    let message = format!("{} is no mode", quoted(text));
    mode.map_or_else(|| wrong(0..text.len(), message, "octal, such as 0 or 0555"), Ok)
}
