//! One `[[fault]]` table.

use super::keys;
use super::mistake::{nearest, quoted};
use super::scenario_file::{References, moment_of, unknown};
use super::spec::{EffectSpec, FaultSpec, Length, When};
use super::walk::{Node, Sink, Table};
use super::words::{self, Said, one_of, wrong};
use crate::fault::{Effect, Ops, Target, Times};
use crate::moment::Anchor;
use crate::op::{Errno, OpKind};
use crate::role::Who;

/// Reads one fault; `None` if it is wrong, which has then been said.
pub(super) fn read(
    sink: &mut Sink<'_>,
    refs: &mut References,
    node: Node<'_>,
) -> Option<FaultSpec> {
    let table = node.table(sink, "[[fault]]", keys::FAULT)?;
    let who = table.need(sink, "who").and_then(|node| node.text(sink)).and_then(|text| {
        let who = sink.heed(&text, words::who(text.text))?;
        refs.role(who, text.span);
        Some(who)
    });
    table.need(sink, "on");
    let on = table.parsed(sink, "on", words::target);
    read_rest(sink, refs, &table, words::moment, who, on)
}

/// Reads all that says what a fault does and when; whom and what it means is known. `moment` is
/// how moments are written where the table comes from.
pub(super) fn read_rest(
    sink: &mut Sink<'_>,
    refs: &mut References,
    table: &Table<'_>,
    moment: fn(&str) -> Said<When>,
    who: Option<Who>,
    on: Option<Target>,
) -> Option<FaultSpec> {
    let ops = ops(sink, table);
    let effect = effect(sink, refs, table, moment);
    let from = moment_of(sink, refs, table, "from", moment);
    let from = from.unwrap_or(When { anchor: Anchor::Start, offset: Length::ZERO });
    let until = moment_of(sink, refs, table, "until", moment);
    if until.is_some_and(|until| is_never_after(until, from)) {
        let hint = "the fault would never be active";
        sink.say(table.key_span("until"), "`until` is not after `from`", hint);
    }
    let times = times(sink, table);
    let synthetic =
        table.parsed(sink, "realism", |text| one_of(text, "realism", &[("synthetic", true)]));
    let spec = FaultSpec {
        who: who?,
        on: on?,
        ops: ops?,
        effect: effect?,
        from,
        until,
        times: times?,
        synthetic: synthetic.unwrap_or(false),
    };
    check_bytes(sink, table, &spec);
    check_hang(sink, table, &spec);
    Some(spec)
}

/// Whether `until` is never later than `from`, as far as the file alone tells.
fn is_never_after(until: When, from: When) -> bool {
    let start = When { anchor: Anchor::Start, offset: Length::ZERO };
    until == start || (until.anchor == from.anchor && until.offset.never_exceeds(from.offset))
}

/// `op`: `refresh` and names of operations.
fn ops(sink: &mut Sink<'_>, table: &Table<'_>) -> Option<Ops> {
    let node = table.need(sink, "op")?;
    let texts = node.text_or_texts(sink);
    if texts.is_empty() && !node.is_text() {
        sink.say(node.span(), "the fault means no operation", "such as `op = [\"refresh\"]`");
    }
    let mut ops = Ops { refresh: false, kinds: Vec::new() };
    let mut whole = true;
    for text in texts {
        let kind = OpKind::named(text.text);
        let again = match kind {
            Some(kind) => ops.kinds.contains(&kind),
            None => text.text == "refresh" && ops.refresh,
        };
        match kind {
            _ if again => sink.say(text.span, "the operation is there twice", ""),
            Some(kind) => ops.kinds.push(kind),
            None if text.text == "refresh" => ops.refresh = true,
            None => {
                let nameable = OpKind::ALL.iter().filter(|kind| kind.is_nameable());
                let known = std::iter::once("refresh").chain(nameable.map(|kind| kind.as_str()));
                unknown(sink, &text, "operation", known);
                whole = false;
            }
        }
    }
    (whole && (ops.refresh || !ops.kinds.is_empty())).then_some(ops)
}

/// The one thing that the fault does.
fn effect(
    sink: &mut Sink<'_>,
    refs: &mut References,
    table: &Table<'_>,
    moment: fn(&str) -> Said<When>,
) -> Option<EffectSpec> {
    let kinds: Vec<&str> =
        keys::FAULT_KINDS.iter().copied().filter(|kind| table.get(kind).is_some()).collect();
    if let [first, others @ ..] = &kinds[..] {
        for other in others {
            let message = format!("`{first}` and `{other}` contradict each other");
            sink.say(table.key_span(other), message, "one fault does one thing: write two");
        }
    }
    let apply = table.get("apply").map(|node| (node.boolean(sink), node.span()));
    if let (Some((_, span)), None) = (&apply, table.get("error")) {
        let hint = "the operation happens, and the answer is `error = …`";
        sink.say(span.clone(), "`apply` without `error`", hint);
    }
    let Some(first) = kinds.first() else {
        let hint = format!("one of {}", keys::FAULT_KINDS.join(", "));
        sink.say(table.span.clone(), "the fault does nothing", hint);
        return None;
    };
    let apply = apply.is_some_and(|(apply, _)| apply == Some(true));
    // All of them are read, so that a mistake in the second one shows as well.
    let mut effects = kinds.iter().map(|kind| effect_of(sink, refs, table, kind, apply, moment));
    let effect = effects.next().unwrap_or_else(|| unreachable!("`{first}` is a kind"));
    effects.for_each(drop);
    effect
}

fn effect_of(
    sink: &mut Sink<'_>,
    refs: &mut References,
    table: &Table<'_>,
    kind: &str,
    apply: bool,
    moment: fn(&str) -> Said<When>,
) -> Option<EffectSpec> {
    let plain = EffectSpec::Plain;
    match kind {
        "error" => {
            let errno = table.parsed(sink, "error", errno)?;
            Some(plain(Effect::Error { errno, apply }))
        }
        "ignore" => flag(sink, table, kind).map(|()| plain(Effect::Ignore)),
        "kill" => flag(sink, table, kind).map(|()| plain(Effect::Kill)),
        "hang" => hang(sink, refs, table, moment),
        "delay" => table.parsed(sink, kind, words::some_length).map(EffectSpec::Delay),
        "pause" => table.parsed(sink, kind, words::some_length).map(EffectSpec::Pause),
        "short" => bytes(sink, table, kind).map(|bytes| plain(Effect::Short(bytes))),
        "torn" => bytes(sink, table, kind).map(|bytes| plain(Effect::Torn(bytes))),
        other => unreachable!("`{other}` is no kind of fault"),
    }
}

fn flag(sink: &mut Sink<'_>, table: &Table<'_>, key: &str) -> Option<()> {
    let node = table.get(key)?;
    if node.boolean(sink)? {
        return Some(());
    }
    sink.say(node.span(), format!("`{key} = false` does nothing"), "leave it out");
    None
}

fn bytes(sink: &mut Sink<'_>, table: &Table<'_>, key: &str) -> Option<u64> {
    table.get(key)?.number(sink, 0..1 << 31)
}

pub(super) fn errno(text: &str) -> Said<Errno> {
    Errno::named(text).map_or_else(
        || {
            let near = nearest(text, Errno::names());
            let hint = near.map_or("a Linux errno by name, such as ENOSPC".to_owned(), |near| {
                format!("did you mean `{near}`?")
            });
            wrong(0..text.len(), format!("unknown errno {}", quoted(text)), hint)
        },
        Ok,
    )
}

/// `hang = "until MOMENT"` or a length.
fn hang(
    sink: &mut Sink<'_>,
    refs: &mut References,
    table: &Table<'_>,
    moment: fn(&str) -> Said<When>,
) -> Option<EffectSpec> {
    let text = table.text(sink, "hang")?;
    let Some(end) = text.text.strip_prefix("until ") else {
        return sink.heed(&text, words::some_length(text.text)).map(EffectSpec::HangFor);
    };
    let by = text.text.len() - end.len();
    let when = sink.heed(&text, words::shifted(moment(end), by))?;
    refs.moment(when, text.span);
    Some(EffectSpec::HangUntil(when))
}

fn times(sink: &mut Sink<'_>, table: &Table<'_>) -> Option<Times> {
    match table.get("times") {
        None => Some(Times::All),
        Some(node) if node.is_number() => node.number(sink, 1..u64::MAX).map(Times::First),
        Some(_) => table.parsed(sink, "times", words::times),
    }
}

/// A short or torn write needs a write.
fn check_bytes(sink: &mut Sink<'_>, table: &Table<'_>, spec: &FaultSpec) {
    let key = match spec.effect {
        EffectSpec::Plain(Effect::Short(_)) => "short",
        EffectSpec::Plain(Effect::Torn(_)) => "torn",
        _ => return,
    };
    if !spec.ops.refresh && !spec.ops.kinds.contains(&OpKind::Write) {
        let message = format!("`{key}` without a write");
        sink.say(table.key_span(key), message, "only `write` and `refresh` carry bytes");
    }
}

/// An operation that hangs must have something to wait for.
fn check_hang(sink: &mut Sink<'_>, table: &Table<'_>, spec: &FaultSpec) {
    if let EffectSpec::HangUntil(end) = spec.effect
        && is_never_after(end, spec.from)
    {
        let hint = "the operation would not wait";
        sink.say(table.key_span("hang"), "`hang` ends before the fault begins", hint);
    }
}
