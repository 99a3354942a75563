//! `--fault 'on=/path op=utimes error=EIO'`: the keys of `[[fault]]` as words of a command line.
//!
//! ```text
//! on=/tmp/*.lock op=utimes,write hang="until fault 1 fired" times=3
//! ^^ ^^^^^^^^^^^ one key, one value; a value with blanks is in double quotes
//! ```
//!
//! The words become the table that a scenario file would hold, and the reader of those files
//! reads it: the vocabulary, the mistakes and their hints are the same. What differs: there is no
//! `who` (the command is the only role), `on` is any path (`lock` is a file of that name), no length counts in beats, and `from`
//! and `until` may be lengths since the start.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::mistake::{Mistakes, quoted};
use super::resolve;
use super::scenario_file::References;
use super::spec::{EffectSpec, FaultSpec, Length, When};
use super::walk::{Complaint, Sink, Table};
use super::words::{self, Said, wrong};
use super::{fault_table, keys};
use crate::fault::matching::compile;
use crate::fault::{Rule, Target};
use crate::moment::Anchor;
use crate::plan::Timing;
use crate::role::Who;
use crate::time::Nanos;

/// What a message calls the place of the words.
const PLACE: &str = "--fault";
/// The keys whose value is `true` or `false`.
const FLAGS: &[&str] = &["apply", "ignore", "kill"];

/// Parses the `number`-th of `count` faults. Its `on` is a glob of [`Target::Glob`] exactly as it
/// is written: what it is relative to is the caller's business.
///
/// # Errors
/// Every mistake of the text.
pub fn parse_fault(text: &str, number: u32, count: usize) -> Result<Rule, Mistakes> {
    let mut sink = Sink::new(text);
    let entries = entries(&mut sink, text);
    let table = Table::of_words(&entries, 0..text.len(), PLACE);
    let mut refs = References::default();
    let spec = read(&mut sink, &mut refs, &table);
    refs.check(&mut sink, 0, count, 0);
    let rule = spec.map(|spec| resolve::rule(&spec, number, &no_timing()));
    sink.finish(PLACE, rule)
}

/// No length of the words depends on a subject.
pub(super) fn no_timing() -> Timing {
    let none = Nanos::ZERO;
    Timing { stale: None, beat: None, stale_unit: none, beat_unit: none, tick: none }
}

fn read(sink: &mut Sink<'_>, refs: &mut References, table: &Table<'_>) -> Option<FaultSpec> {
    let known: Vec<&str> = keys::FAULT.iter().copied().filter(|key| *key != "who").collect();
    if table.get("who").is_some() {
        let hint = "the command is the only role: leave it out";
        sink.say(table.key_span("who"), "there is no `who` here", hint);
    }
    for (key, _) in table.entries() {
        if key.text != "who" && !known.contains(&key.text) {
            table.refuse(sink, &key, &known);
        }
    }
    table.need(sink, "on");
    let on = table.parsed(sink, "on", path);
    let spec = fault_table::read_rest(sink, refs, table, moment, Some(Who::Any), on)?;
    if spec.ops.refresh {
        let hint = "name operations, such as op=utimes,write,rename";
        let span = table.get("op").map_or(table.span.clone(), |node| node.span());
        sink.say(span, "`refresh` needs a subject, which says what its beat is", hint);
    }
    check_length(sink, table, &spec);
    Some(spec)
}

/// The words as a table. What is no `key=value` is a mistake, and left out.
fn entries<'t>(sink: &mut Sink<'_>, text: &'t str) -> DeTable<'t> {
    let mut entries = DeTable::new();
    for word in split(sink, text) {
        let whole = word.start..word.end;
        let Some(equals) = text[whole.clone()].find('=') else {
            let hint = "a fault is `on=PATH op=OPERATION error=ERRNO` and the like";
            let message = format!("{} is no `key=value`", quoted(&text[whole.clone()]));
            sink.say(whole, message, hint);
            continue;
        };
        let (key, value) = (whole.start..whole.start + equals, whole.start + equals + 1..whole.end);
        let name = Spanned::new(key.clone(), Cow::Borrowed(&text[key.clone()]));
        if entries.contains_key(&text[key.clone()]) {
            let hint = if name.as_ref() == "op" { "write op=utimes,write" } else { "" };
            sink.say(key, format!("{} is there twice", quoted(name.as_ref())), hint);
            continue;
        }
        let value = typed(name.as_ref(), text, value);
        entries.insert(name, value);
    }
    entries
}

/// Where each word is: what blanks outside double quotes separate.
fn split(sink: &mut Sink<'_>, text: &str) -> Vec<Range<usize>> {
    let (mut words, mut start, mut quote) = (Vec::new(), None, None);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quote = if quote.is_some() { None } else { Some(at) },
            blank if blank.is_whitespace() && quote.is_none() => {
                words.extend(start.take().map(|start| start..at));
                continue;
            }
            _ => {}
        }
        start = start.or(Some(at));
    }
    words.extend(start.map(|start| start..text.len()));
    if let Some(at) = quote {
        sink.say(at..text.len(), "a quote is not closed", "");
    }
    words
}

/// A value of the type that a scenario file would give it.
fn typed<'t>(key: &str, text: &'t str, at: Range<usize>) -> Spanned<DeValue<'t>> {
    let raw = &text[at.clone()];
    let inside = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    if let Some(inside) = inside {
        return Spanned::new(at, DeValue::String(Cow::Borrowed(inside)));
    }
    if key == "op" {
        return Spanned::new(at.clone(), DeValue::Array(list(text, &at)));
    }
    let value = match raw {
        "true" if FLAGS.contains(&key) => DeValue::Boolean(true),
        "false" if FLAGS.contains(&key) => DeValue::Boolean(false),
        _ => number(raw).unwrap_or(DeValue::String(Cow::Borrowed(raw))),
    };
    Spanned::new(at, value)
}

fn number(raw: &str) -> Option<DeValue<'_>> {
    if raw.is_empty() || !raw.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    DeValue::parse(raw).ok().map(Spanned::into_inner)
}

/// The parts between commas.
fn list<'t>(text: &'t str, at: &Range<usize>) -> DeArray<'t> {
    let mut list = DeArray::new();
    let mut start = at.start;
    for part in text[at.clone()].split(',') {
        let span = start..start + part.len();
        start = span.end + 1;
        list.push(Spanned::new(span, DeValue::String(Cow::Borrowed(part))));
    }
    list
}

/// `on`: any path, or a glob of paths.
fn path(text: &str) -> Said<Target> {
    let whole = 0..text.len();
    if text.is_empty() {
        return wrong(whole, "the path is empty", "a file, or a glob such as `/tmp/*.lock`");
    }
    if text.starts_with("~/") {
        let hint = "the shell expands it outside quotes only: write $HOME";
        return wrong(0..1, "`~` is not expanded", hint);
    }
    if text.contains('\0') {
        return wrong(whole, "no path holds a zero byte", "");
    }
    match compile([text]) {
        Ok(_) => Ok(Target::Glob(text.to_owned())),
        Err(error) => wrong(whole, format!("malformed glob {}", quoted(text)), error.why),
    }
}

/// A length since the start, `start + LENGTH`, or `fault N fired + LENGTH`.
fn moment(text: &str) -> Said<When> {
    let when = if text.starts_with(|first: char| first.is_ascii_digit()) {
        When { anchor: Anchor::Start, offset: words::length(text)? }
    } else {
        words::moment(text)?
    };
    let whole = 0..text.len();
    let hint = "a length such as `2s`, or \"fault 1 fired + 2s\"";
    match when.anchor {
        Anchor::Role(..) => wrong(whole, "there are no roles here", hint),
        Anchor::Done(_) => wrong(whole, "there are no events here", hint),
        Anchor::Start | Anchor::Fired(_) => fixed(when.offset, whole).map(|()| when),
    }
}

fn fixed(length: Length, whole: Range<usize>) -> Said<()> {
    if length.beats > 0.0 || length.stales > 0.0 {
        return wrong(whole, "beats and stale ages are unknown here", "use ms, s, m or h");
    }
    Ok(())
}

/// The length of the effect depends on nothing.
fn check_length(sink: &mut Sink<'_>, table: &Table<'_>, spec: &FaultSpec) {
    let (key, length) = match &spec.effect {
        EffectSpec::HangFor(length) => ("hang", length),
        EffectSpec::Delay(length) => ("delay", length),
        EffectSpec::Pause(length) => ("pause", length),
        EffectSpec::Plain(_) | EffectSpec::HangUntil(_) => return,
    };
    let Some(node) = table.get(key) else { return };
    if let Err(Complaint { message, hint, .. }) = fixed(*length, node.span()) {
        sink.say(node.span(), message, hint);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::fault::{Effect, HangEnd, Ops, Times};
    use crate::moment::Moment;
    use crate::op::{Errno, OpKind};

    fn good(text: &str) -> Rule {
        parse_fault(text, 1, 2).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"))
    }

    #[test]
    fn the_words_of_the_contract_are_understood() {
        let rule = good("on=/path/or/glob op=utimes,write error=EIO times=3 apply=true");
        assert_eq!(rule.on, Target::Glob("/path/or/glob".to_owned()));
        let kinds = vec![OpKind::Utimes, OpKind::Write];
        assert_eq!(rule.ops, Ops { refresh: false, kinds });
        assert_eq!(rule.effect, Effect::Error { errno: Errno(libc::EIO), apply: true });
        assert_eq!((rule.times, rule.from, rule.until), (Times::First(3), Moment::START, None));
    }

    #[rstest]
    #[case("ignore=true", Effect::Ignore)]
    #[case("hang=5s", Effect::Hang(HangEnd::After(Nanos::from_ms(5000))))]
    #[case("delay=100ms", Effect::Delay(Nanos::from_ms(100)))]
    #[case("short=3", Effect::Short(3))]
    #[case("torn=0", Effect::Torn(0))]
    #[case("kill=true", Effect::Kill)]
    #[case("pause=2s", Effect::Pause(Nanos::from_ms(2000)))]
    fn every_kind_of_fault_has_its_word(#[case] word: &str, #[case] effect: Effect) {
        assert_eq!(good(&format!("on=x op=write {word}")).effect, effect);
    }

    #[test]
    fn a_moment_is_a_length_or_another_fault() {
        let rule = good("on=x op=stat ignore=true from=2s until=\"fault 2 fired + 1s\"");
        let at = |anchor, ms| Moment { anchor, offset: Nanos::from_ms(ms) };
        assert_eq!(rule.from, at(Anchor::Start, 2000));
        assert_eq!(rule.until, Some(at(Anchor::Fired(2), 1000)));
    }

    #[rstest]
    #[case("times=all", Times::All)]
    #[case("times=2..4", Times::Range(2, 4))]
    #[case("times=3..", Times::Steps { first: 3, last: None, step: 1 })]
    #[case("times=\"every 2\"", Times::Every(2))]
    #[case("times=\"3..9 every 2\"", Times::Steps { first: 3, last: Some(9), step: 2 })]
    fn which_of_them_are_hit_is_said_as_in_a_scenario(#[case] word: &str, #[case] times: Times) {
        assert_eq!(good(&format!("on=x op=stat error=EIO {word}")).times, times);
    }

    #[test]
    fn a_value_in_quotes_may_hold_blanks() {
        let rule = good("on=\"/tmp/my lock\" op=stat error=EIO");
        assert_eq!(rule.on, Target::Glob("/tmp/my lock".to_owned()));
    }

    /// Goal: every mistake names the word, marks it, and says what was probably meant.
    #[rstest]
    #[case("on=x op=utime error=EIO", "utime", "`utimes`")]
    #[case("on=x op=stat,wriet error=EIO", "wriet", "`write`")]
    #[case("on=x op=stat eror=EIO", "eror", "`error`")]
    #[case("on=x op=stat error=ENOSPCC", "ENOSPCC", "`ENOSPC`")]
    #[case("on=x op=refresh error=EIO", "refresh", "op=utimes")]
    #[case("on=~/x op=stat error=EIO", "~", "$HOME")]
    #[case("who=holder on=x op=stat error=EIO", "who", "leave it out")]
    #[case("on=x op=stat hang=\"until holder dead\"", "holder", "no roles")]
    #[case("on=x op=stat error=EIO from=\"event 1 done\"", "event", "no events")]
    #[case("on=x op=stat delay=\"2 beat\"", "2 beat", "beats and stale ages")]
    #[case("on=x op=stat error=EIO from=\"1 stale\"", "stale", "beats and stale ages")]
    #[case("on=x op=stat error=EIO until=\"fault 3 fired\"", "fault 3", "has 2")]
    #[case("on=x op=stat error=EIO error=EPERM", "error", "twice")]
    #[case("on=x op=stat kill", "kill", "key=value")]
    #[case("on=x op=stat", "op=stat", "one of error")]
    #[case("op=stat error=EIO", "op=stat", "`on` is missing")]
    #[case("on=x error=EIO", "on=x", "`op` is missing")]
    #[case("on=x op=stat short=3", "short", "without a write")]
    #[case("on=x op=write short=three", "three", "whole number")]
    #[case("on=x op=write ignore=yes", "yes", "true or false")]
    #[case("on=[ op=write error=EIO", "[", "malformed glob")]
    #[case("on=x op=write error=EIO times=0", "times=0", "out of range")]
    #[case("on=x op=write error=EIO times=0..2", "0..2", "starts at 1")]
    #[case("on=x op=write error=EIO times=5..2", "5..2", "2..5")]
    #[case("on=\"x op=write error=EIO", "\"x", "not closed")]
    #[case("on= op=write error=EIO", "on=", "empty")]
    fn a_mistake_names_the_word_and_the_remedy(
        #[case] text: &str,
        #[case] word: &str,
        #[case] remedy: &str,
    ) {
        let said = parse_fault(text, 1, 2).expect_err(text).render(false);
        assert!(said.contains("--fault") && said.contains(word), "no `{word}` in\n{said}");
        assert!(said.contains(remedy), "no `{remedy}` in\n{said}");
    }

    #[test]
    fn the_mark_is_under_the_word_itself() {
        let text = "on=x op=stat,wriet error=EIO";
        let mistakes = parse_fault(text, 1, 1).expect_err("wriet is unknown");
        assert_eq!(&text[mistakes.list()[0].span.clone()], "wriet");
    }

    proptest! {
        /// Goal: no text panics, and none is refused without a reason.
        #[test]
        fn any_text_is_a_fault_or_has_a_mistake(text in "[a-z=,. \"\\[{}0-9é/]{0,60}") {
            if let Err(mistakes) = parse_fault(&text, 1, 1) {
                prop_assert!(!mistakes.render(false).is_empty());
            }
        }
    }
}
