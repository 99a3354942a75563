//! The small languages inside strings: lengths, sizes, moments, roles, targets, counts.
//!
//! Every parser takes the text and gives a value, or a [`Complaint`] that marks a part of it.

use std::ops::Range;

use super::mistake::{did_you_mean, quoted};
use super::spec::{Length, When};
use super::walk::Complaint;
use crate::fault::matching::compile;
use crate::fault::{Target, Times};
use crate::moment::{Anchor, Sign};
use crate::role::Who;
use crate::time::Nanos;

pub(super) type Said<T> = Result<T, Complaint>;

/// No length of a scenario is longer than this: 400 days.
const FIXED_MAX: Nanos = Nanos::from_ms(400 * 24 * 3_600_000);

/// No length is longer than so many beats or stale ages.
const FACTOR_MAX: f64 = 1e6;

/// A mistake about `part`.
pub(super) fn wrong<T>(
    part: Range<usize>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Said<T> {
    Err(Complaint { part, message: message.into(), hint: hint.into() })
}

/// A piece of a text, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    pub(super) at: Range<usize>,
}

/// The words of a text. One in double quotes may hold blanks.
pub(super) fn split(text: &str) -> Said<Vec<Word<'_>>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(skip) = text[at..].find(|c: char| !c.is_whitespace()) {
        let from = at + skip;
        let (word, end) = if let Some(rest) = text[from..].strip_prefix('"') {
            let Some(length) = rest.find('"') else {
                return wrong(from..text.len(), "a quote is not closed", "");
            };
            (&rest[..length], from + length + 2)
        } else {
            let rest = &text[from..];
            let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (&rest[..length], from + length)
        };
        words.push(Word { text: word, at: from..end });
        at = end;
    }
    Ok(words)
}

/// One of some known words.
pub(super) fn one_of<T: Copy>(text: &str, what: &str, known: &[(&str, T)]) -> Said<T> {
    let found = known.iter().find(|(word, _)| *word == text);
    found.map_or_else(
        || {
            let hint = did_you_mean(text, known.iter().map(|(word, _)| *word));
            wrong(0..text.len(), format!("unknown {what} {}", quoted(text)), hint)
        },
        |(_, value)| Ok(*value),
    )
}

/// The same complaint about a piece that begins `by` bytes into a longer text.
pub(super) fn shifted<T>(said: Said<T>, by: usize) -> Said<T> {
    said.map_err(|complaint| Complaint {
        part: complaint.part.start + by..complaint.part.end + by,
        ..complaint
    })
}

/// Parses one word of a longer text.
pub(super) fn within<'t, T>(word: &Word<'t>, parse: impl FnOnce(&'t str) -> Said<T>) -> Said<T> {
    let quote = usize::from(word.at.len() > word.text.len());
    shifted(parse(word.text), word.at.start + quote)
}

/// A number and the text behind it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let plain = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
    if !plain || number.len() > 15 {
        return None;
    }
    Some((number.parse().ok()?, unit.trim()))
}

const UNITS: &[&str] = &["ms", "s", "m", "h", "beat", "stale"];

/// A length: "1500ms", "10s", "1m", "1h", "2 beat", "0.5 stale".
pub(super) fn length(text: &str) -> Said<Length> {
    let whole = 0..text.len();
    let Some((number, unit)) = number_and_unit(text.trim()) else {
        let message = format!("{} is no length", quoted(text));
        return wrong(whole, message, "such as \"1500ms\", \"10s\", \"2 beat\", \"0.5 stale\"");
    };
    let unit_ms = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        "h" => 3.6e6,
        "beat" | "stale" if number > FACTOR_MAX => {
            return wrong(whole, "the length is too long", "at most a million of them");
        }
        "beat" => return Ok(Length { beats: number, ..Length::ZERO }),
        "stale" => return Ok(Length { stales: number, ..Length::ZERO }),
        "" => return wrong(whole, "the length has no unit", "one of ms, s, m, h, beat, stale"),
        _ => {
            let at = text.rfind(unit).unwrap_or(0);
            let hint = match unit {
                "beats" => "did you mean `beat`?".to_owned(),
                "stales" => "did you mean `stale`?".to_owned(),
                _ => did_you_mean(unit, UNITS.iter().copied()),
            };
            return wrong(at..at + unit.len(), format!("unknown unit {}", quoted(unit)), hint);
        }
    };
    let fixed = Nanos::from_ms(1).scaled(number * unit_ms);
    if fixed > FIXED_MAX {
        return wrong(whole, "the length is too long", "at most 400 days");
    }
    Ok(Length { fixed, ..Length::ZERO })
}

/// A length that is not zero.
pub(super) fn some_length(text: &str) -> Said<Length> {
    let length = length(text)?;
    if length.is_zero() {
        return wrong(0..text.len(), "the length is zero", "it would do nothing");
    }
    Ok(length)
}

/// A length that no beat or stale age has a part in.
pub(super) fn fixed_length(text: &str) -> Said<Nanos> {
    let length = some_length(text)?;
    if length.beats > 0.0 || length.stales > 0.0 {
        return wrong(0..text.len(), "beats and stale ages are unknown here", "use ms, s, m or h");
    }
    Ok(length.fixed)
}

/// A length with a sign: "+1h", "-5s". `true`: negative.
pub(super) fn signed_length(text: &str) -> Said<(bool, Length)> {
    let trimmed = text.trim_start();
    let by = text.len() - trimmed.len();
    let (negative, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let by = by + (trimmed.len() - rest.len());
    Ok((negative, shifted(some_length(rest), by)?))
}

/// A number of bytes: "0", "4096", "64KiB", "1MiB".
pub(super) fn size(text: &str) -> Said<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = text[digits..].trim();
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ if digits == 0 => {
            let message = format!("{} is no size", quoted(text));
            return wrong(0..text.len(), message, "such as \"0\" or \"64KiB\"");
        }
        _ => {
            let hint = match unit.to_ascii_lowercase().chars().next() {
                Some('k') => "did you mean `KiB`?",
                Some('m') => "did you mean `MiB`?",
                Some('g') => "did you mean `GiB`?",
                _ => "one of B, KiB, MiB, GiB",
            };
            return wrong(digits..text.len(), format!("unknown unit {}", quoted(unit)), hint);
        }
    };
    let number = text[..digits].parse::<u64>().ok();
    match number.and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if bytes <= 1 << 40 => Ok(bytes),
        _ => wrong(0..text.len(), "the size is too large or no number", "at most 1024GiB"),
    }
}

/// A role, `contender` or `any`.
pub(super) fn who(text: &str) -> Said<Who> {
    text.parse().or_else(|_| {
        let known = ["holder", "contender", "contender-1", "contender-2", "any"];
        let hint = did_you_mean(text, known);
        wrong(0..text.len(), format!("unknown role {}", quoted(text)), hint)
    })
}

/// Which files: `heartbeat`, `lock`, `lock-dir`, or a glob below `{dir}`.
pub(super) fn target(text: &str) -> Said<Target> {
    match text {
        "heartbeat" => Ok(Target::Heartbeat),
        "lock" => Ok(Target::Lock),
        "lock-dir" => Ok(Target::LockDir),
        _ => glob(text.strip_prefix("{dir}/").unwrap_or(text)).map(Target::Glob),
    }
}

/// A glob or name below `{dir}`, relative to it.
pub(super) fn glob(text: &str) -> Said<String> {
    let whole = 0..text.len();
    if text.is_empty() {
        return wrong(whole, "the path is empty", "heartbeat, lock, lock-dir or a glob");
    }
    if text.starts_with('/') || text.split('/').any(|part| part == ".." || part == ".") {
        let hint = "relative to the lock directory, without `.` and `..`";
        return wrong(whole, format!("{} is not below the lock directory", quoted(text)), hint);
    }
    if text.contains("//") || text.ends_with('/') || text.contains('\0') {
        return wrong(whole, format!("{} can match no path", quoted(text)), "");
    }
    match compile([text]) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => wrong(whole, format!("malformed glob {}", quoted(text)), error.why),
    }
}

const SIGNS: &str = "started, entered, wrote, degraded, healthy, lost, left, aborted, released, \
                     gave-up, dead";

/// A moment: an anchor, and lengths after it.
pub(super) fn moment(text: &str) -> Said<When> {
    let mut pieces = text.split('+');
    let first = pieces.next().unwrap_or_default();
    let words = split(first)?;
    let anchor = anchor(first, &words)?;
    let mut at = first.len();
    let mut offset = Length::ZERO;
    for piece in pieces {
        offset = offset.plus(shifted(length(piece), at + 1)?);
        at += 1 + piece.len();
    }
    Ok(When { anchor, offset })
}

fn anchor(text: &str, words: &[Word<'_>]) -> Said<Anchor> {
    match words {
        [only] if only.text == "start" => Ok(Anchor::Start),
        [first, number, last] if first.text == "fault" && last.text == "fired" => {
            within(number, count_from_1).map(Anchor::Fired)
        }
        [first, number, last] if first.text == "event" && last.text == "done" => {
            within(number, count_from_1).map(Anchor::Done)
        }
        [role, sign] if !matches!(role.text, "fault" | "event") => {
            let who = within(role, who)?;
            let signs: Vec<_> = Sign::ALL.iter().map(|sign| (sign.as_str(), *sign)).collect();
            Ok(Anchor::Role(who, within(sign, |text| one_of(text, "sign", &signs))?))
        }
        _ if text.contains('-') && text.contains(" - ") => {
            wrong(0..text.len(), "a moment has no negative offset", "offsets are + lengths")
        }
        _ => {
            let hint = format!(
                "`start`, `ROLE SIGN`, `fault N fired`, `event N done`, and `+ LENGTH`; signs: \
                 {SIGNS}"
            );
            wrong(0..text.len(), format!("{} is no moment", quoted(text)), hint)
        }
    }
}

/// A number of a fault or an event.
fn count_from_1(text: &str) -> Said<u32> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.map_or_else(|| wrong(0..text.len(), "expected a number from 1 on", ""), Ok)
}

/// "all", "n", "n..m", "n..", "every n", "n..m every k", "n.. every k".
pub(super) fn times(text: &str) -> Said<Times> {
    let hint = "\"all\", n, \"n..m\", \"n..\", \"every n\" or \"n..m every k\", from 1 on";
    let whole = 0..text.len();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let times = if text == "all" {
        Some(Times::All)
    } else if let Some(step) = text.strip_prefix("every ") {
        number(step).map(Times::Every)
    } else if let Some((first, rest)) = text.split_once("..") {
        number(first).and_then(|first| range(first, rest))
    } else {
        number(text).map(Times::First)
    };
    match times {
        None => wrong(whole, format!("{} is no count", quoted(text)), hint),
        Some(
            Times::First(0)
            | Times::Every(0)
            | Times::Range(0, _)
            | Times::Steps { first: 0, .. }
            | Times::Steps { step: 0, .. },
        ) => wrong(whole, "counting starts at 1", hint),
        Some(Times::Range(first, last) | Times::Steps { first, last: Some(last), .. })
            if first > last =>
        {
            wrong(whole, "the range runs backwards", format!("did you mean `{last}..{first}`?"))
        }
        Some(times) => Ok(times),
    }
}

/// What follows "n..": "m", "", "m every k", " every k".
fn range(first: u64, rest: &str) -> Option<Times> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (last, step) = match rest.split_once("every ") {
        Some((last, step)) => (last, Some(number(step)?)),
        None => (rest, None),
    };
    let last = if last.trim().is_empty() { None } else { Some(number(last)?) };
    Some(match (last, step) {
        (Some(last), None) => Times::Range(first, last),
        (last, step) => Times::Steps { first, last, step: step.unwrap_or(1) },
    })
}
