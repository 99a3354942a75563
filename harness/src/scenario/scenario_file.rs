//! From the text of a scenario file to a [`Scenario`], or to every mistake in it.

use std::ops::Range;

use super::feature::Feature;
use super::mistake::{Mistakes, did_you_mean, quoted};
use super::spec::{
    CastPart, Covers, DeedSpec, EventSpec, ExpectSpec, FaultSpec, Scenario, TakeoverSpec, When,
    WorldSpec,
};
use super::walk::{Node, Sink, Table, Text, read_document};
use super::words::{self, one_of};
use super::{event, fault_table, keys};
use crate::moment::Anchor;
use crate::plan::{Deed, Detail, ExpectExclusion, FilePersonality, Pids, Reaction, Space};
use crate::role::{Role, Who};

/// The most contenders of a run.
const CONTENDERS_MAX: u64 = 16;
/// The most acquisitions that one process tries.
const ACQUIRES_MAX: u64 = 1000;
/// The numbers of users; the last of 32 bits means none (chown(2)).
const USERS: Range<u64> = 0..u32::MAX as u64;

/// What a file refers to by number or role: looked at when the whole file is read.
#[derive(Default)]
pub(super) struct References {
    roles: Vec<(Who, Range<usize>)>,
    anchors: Vec<(Anchor, Range<usize>)>,
}

impl References {
    pub(super) fn role(&mut self, who: Who, span: Range<usize>) {
        self.roles.push((who, span));
    }

    pub(super) fn moment(&mut self, when: When, span: Range<usize>) {
        if let Anchor::Role(who, _) = when.anchor {
            self.role(who, span.clone());
        }
        self.anchors.push((when.anchor, span));
    }

    /// Says what does not exist.
    pub(super) fn check(
        self,
        sink: &mut Sink<'_>,
        contenders: usize,
        faults: usize,
        events: usize,
    ) {
        for (who, span) in self.roles {
            let missing = match who {
                Who::One(Role::Contender(number)) => usize::from(number) > contenders,
                Who::Contenders => contenders == 0,
                Who::One(Role::Holder) | Who::Any => false,
            };
            if missing {
                let hint = format!("[cast] has {contenders}; see `count` there");
                sink.say(span, format!("there is no `{who}`"), hint);
            }
        }
        for (anchor, span) in self.anchors {
            let (what, number, count) = match anchor {
                Anchor::Fired(number) => ("fault", number, faults),
                Anchor::Done(number) => ("event", number, events),
                Anchor::Start | Anchor::Role(..) => continue,
            };
            if usize::try_from(number).is_ok_and(|number| number > count) {
                let hint = format!("the file has {count}, counted from 1");
                sink.say(span, format!("there is no {what} {number}"), hint);
            }
        }
    }
}

/// Parses a scenario file. Its name is where `file` lies: `…/family/name.toml`.
///
/// # Errors
/// Every mistake of the file.
pub fn parse_scenario(file: &str, text: &str) -> Result<Scenario, Mistakes> {
    read_document(file, text, |sink, tree| {
        let root = Table::root(sink, tree, "a scenario file", keys::SCENARIO);
        root.check_format(sink);
        let mut refs = References::default();
        let title = root.need(sink, "title").and_then(|node| node.text(sink));
        let why = root.text(sink, "why");
        let covers = root.parsed_list(sink, "covers", covers);
        let tags = root.parsed_list(sink, "tags", tag);
        let needs = root.parsed_list(sink, "needs", need);
        let (holder, contenders) = cast(sink, &mut refs, &root);
        let world = world(sink, &mut refs, &root);
        let faults = tables(sink, &root, "fault");
        let events = tables(sink, &root, "event");
        let (fault_count, event_count) = (faults.len(), events.len());
        let faults = faults.into_iter().map(|node| fault_table::read(sink, &mut refs, node));
        let faults: Vec<Option<FaultSpec>> = faults.collect();
        let events = events.into_iter().map(|node| event_table(sink, &mut refs, node));
        let events: Vec<Option<EventSpec>> = events.collect();
        let expect = expect(sink, &mut refs, &root);
        refs.check(sink, contenders.len(), fault_count, event_count);
        // From here on nothing is read any more: every mistake has been said.
        Some(Scenario {
            name: name_of(file),
            file: file.to_owned(),
            title: title?.text.to_owned(),
            why: why.map(|why| why.text.to_owned()).unwrap_or_default(),
            covers,
            tags,
            needs,
            holder,
            contenders,
            world,
            faults: faults.into_iter().collect::<Option<_>>()?,
            events: events.into_iter().collect::<Option<_>>()?,
            expect,
        })
    })
}

/// `family/name` for `…/family/name.toml`; the name alone where there is no folder.
fn name_of(file: &str) -> String {
    let stem = file.strip_suffix(".toml").unwrap_or(file);
    let mut parts = stem.rsplit('/').filter(|part| !matches!(*part, "" | "." | ".."));
    match (parts.next(), parts.next()) {
        (Some(name), Some(family)) => format!("{family}/{name}"),
        (Some(name), None) => name.to_owned(),
        (None, _) => stem.to_owned(),
    }
}

fn covers(text: &str) -> words::Said<Covers> {
    let known: Vec<_> = Covers::ALL.iter().map(|line| (line.as_str(), *line)).collect();
    one_of(text, "checklist id", &known)
}

fn need(text: &str) -> words::Said<Feature> {
    one_of(text, "need", Feature::ALL)
}

fn tag(text: &str) -> words::Said<String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return words::wrong(0..text.len(), "a tag is one word", "");
    }
    Ok(text.to_owned())
}

/// The tables of `[[key]]`.
fn tables<'a>(sink: &mut Sink<'_>, root: &Table<'a>, key: &str) -> Vec<Node<'a>> {
    let Some(node) = root.get(key) else { return Vec::new() };
    if node.is_table() {
        let hint = format!("did you mean `[[{key}]]`?");
        sink.say(node.span(), format!("`{key}` is a list of tables"), hint);
        return vec![node];
    }
    node.list(sink)
}

/// The moment of a key that is absent or not.
pub(super) fn moment(
    sink: &mut Sink<'_>,
    refs: &mut References,
    table: &Table<'_>,
    key: &str,
) -> Option<When> {
    moment_of(sink, refs, table, key, words::moment)
}

/// The moment of a key that is absent or not, written as `parse` understands it.
pub(super) fn moment_of(
    sink: &mut Sink<'_>,
    refs: &mut References,
    table: &Table<'_>,
    key: &str,
    parse: fn(&str) -> words::Said<When>,
) -> Option<When> {
    let text = table.text(sink, key)?;
    let when = sink.heed(&text, parse(text.text))?;
    refs.moment(when, text.span);
    Some(when)
}

/// `[cast]`: the holder, and every contender by itself.
fn cast(sink: &mut Sink<'_>, refs: &mut References, root: &Table<'_>) -> (CastPart, Vec<CastPart>) {
    let one = || vec![CastPart::default()];
    let Some(node) = root.get("cast") else { return (CastPart::default(), one()) };
    let Some(cast) = node.open_table(sink, "[cast]") else { return (CastPart::default(), one()) };
    let holder =
        cast.get("holder").and_then(|node| node.table(sink, "[cast] holder", keys::HOLDER));
    let holder = holder.map(|table| part(sink, refs, &table)).unwrap_or_default();
    let all = cast.get("contender");
    let all = all.and_then(|node| node.table(sink, "[cast] contender", keys::CONTENDER));
    let count = all.as_ref().and_then(|table| table.get("count"));
    let count = count.and_then(|node| node.number(sink, 0..CONTENDERS_MAX + 1)).unwrap_or(1);
    let base = all.map(|table| part(sink, refs, &table)).unwrap_or_default();
    let count = usize::try_from(count).expect("at most 16");
    let mut contenders = vec![base; count];
    for (key, node) in cast.entries() {
        if keys::CAST.contains(&key.text) {
            continue;
        }
        let Ok(Role::Contender(number)) = key.text.parse::<Role>() else {
            cast.refuse(sink, &key, &["holder", "contender", "contender-1", "contender-2"]);
            continue;
        };
        refs.role(Who::One(Role::Contender(number)), key.span);
        let table = node.table(sink, "a role's [cast]", keys::HOLDER);
        let own = table.map(|table| part(sink, refs, &table)).unwrap_or_default();
        if let Some(slot) = contenders.get_mut(usize::from(number) - 1) {
            *slot = own.over(slot);
        }
    }
    (holder, contenders)
}

fn part(sink: &mut Sink<'_>, refs: &mut References, table: &Table<'_>) -> CastPart {
    let acquires = table.get("acquires").and_then(|node| node.number(sink, 1..ACQUIRES_MAX + 1));
    CastPart {
        starts: moment(sink, refs, table, "starts"),
        hold: table.parsed(sink, "hold", words::some_length),
        patience: table.parsed(sink, "patience", words::length),
        acquires: acquires.map(|number| u32::try_from(number).expect("at most 1000")),
        stall: table.parsed(sink, "stall", words::some_length),
        again: table.parsed(sink, "again", words::some_length),
        stale: table.parsed(sink, "stale-after", words::some_length),
        beat: table.parsed(sink, "beat-every", words::some_length),
        variant: table.text(sink, "variant").map(|text| text.text.to_owned()),
    }
}

/// `[world]`.
fn world(sink: &mut Sink<'_>, refs: &mut References, root: &Table<'_>) -> WorldSpec {
    let table = root.get("world").and_then(|node| node.table(sink, "[world]", keys::WORLD));
    let Some(table) = table else { return WorldSpec::default() };
    let user = table.get("user").and_then(|node| node.number(sink, USERS));
    let pids = [
        ("shared", Pids::Shared),
        ("separate", Pids::Separate),
        ("foreign", Pids::Foreign),
        ("pid-1", Pids::PidOne),
        ("reused", Pids::Reused),
    ];
    let hosts = [("same", false), ("separate", true)];
    let hostname = table.parsed(sink, "hostname", |text| one_of(text, "host name", &hosts));
    let mut clocks = Vec::new();
    for (who, node) in for_each_role(sink, refs, &table, "clock", "[world] clock") {
        let text = node.text(sink);
        let step = text.and_then(|text| sink.heed(&text, words::signed_length(text.text)));
        clocks.extend(step.map(|(back, by)| (who, back, by)));
    }
    let mut users = Vec::new();
    for (who, node) in for_each_role(sink, refs, &table, "users", "[world] users") {
        let user = node.number(sink, USERS).and_then(|user| u32::try_from(user).ok());
        users.extend(user.map(|user| (who, user)));
    }
    WorldSpec {
        space: space(sink, &table, "space"),
        statfs: space(sink, &table, "statfs"),
        users,
        user: user.and_then(|user| u32::try_from(user).ok()),
        pids: table
            .parsed(sink, "pids", |text| one_of(text, "PID world", &pids))
            .unwrap_or_default(),
        separate_hostname: hostname.unwrap_or(false),
        clock: clocks,
        files: personality(sink, &table),
    }
}

/// The entries of a table whose keys are roles.
fn for_each_role<'a>(
    sink: &mut Sink<'_>,
    refs: &mut References,
    world: &Table<'a>,
    key: &str,
    what: &'static str,
) -> Vec<(Who, Node<'a>)> {
    let table = world.get(key).and_then(|node| node.open_table(sink, what));
    let mut list = Vec::new();
    for (key, node) in table.iter().flat_map(Table::entries) {
        match words::who(key.text) {
            Ok(who) => {
                refs.role(who, key.span);
                list.push((who, node));
            }
            Err(complaint) => sink.say(key.span, complaint.message, complaint.hint),
        }
    }
    list
}

fn space(sink: &mut Sink<'_>, world: &Table<'_>, key: &str) -> Option<Space> {
    let table = world.get(key)?.table(sink, "a space of [world]", keys::SPACE)?;
    let free = match table.get("free") {
        Some(node) if node.is_number() => node.number(sink, 0..(1 << 40) + 1),
        _ => table.parsed(sink, "free", words::size),
    };
    let inodes = table.get("inodes").and_then(|node| node.number(sink, 0..1 << 32));
    if table.entries().next().is_none() {
        sink.say(table.span.clone(), "the table says nothing", "`free`, `inodes` or both");
    }
    Some(Space { free, inodes })
}

fn personality(sink: &mut Sink<'_>, world: &Table<'_>) -> FilePersonality {
    let table = world.get("files").and_then(|node| node.table(sink, "[world] files", keys::FILES));
    let Some(table) = table else { return FilePersonality::default() };
    let links = table.get("links").and_then(|node| node.boolean(sink));
    FilePersonality {
        mtime_granularity: table.parsed(sink, "mtime-granularity", words::fixed_length),
        attr_cache: table.parsed(sink, "attr-cache", words::fixed_length),
        estale: table.get("estale").and_then(|node| node.boolean(sink)).unwrap_or(false),
        no_links: links == Some(false),
    }
}

/// One `[[event]]`.
fn event_table(sink: &mut Sink<'_>, refs: &mut References, node: Node<'_>) -> Option<EventSpec> {
    let table = node.table(sink, "[[event]]", keys::EVENT)?;
    table.need(sink, "at");
    let at = moment(sink, refs, &table, "at");
    let text = table.need(sink, "do").and_then(|node| node.text(sink))?;
    let what = sink.heed(&text, event::deed(text.text))?;
    if let Some(who) = who_of(&what) {
        refs.role(who, text.span.clone());
    }
    Some(EventSpec { at: at?, what, text: text.text.to_owned() })
}

/// Whom a deed is done to.
fn who_of(deed: &DeedSpec) -> Option<Who> {
    match deed {
        DeedSpec::Stall(who, _) | DeedSpec::StepClock(who, _, _) => Some(*who),
        DeedSpec::Plain(
            Deed::Pause(who, _) | Deed::Resume(who) | Deed::Kill(who, _) | Deed::Start(who),
        ) => Some(*who),
        DeedSpec::Plain(_) | DeedSpec::Touch(..) | DeedSpec::Suspend(_) => None,
    }
}

pub(super) const DETAILS: &[(&str, Detail)] =
    &[("lock-path", Detail::LockPath), ("operation", Detail::Operation), ("errno", Detail::Errno)];

const EXCLUSIONS: &[(&str, ExpectExclusion)] = &[
    ("held", ExpectExclusion::Held),
    ("told", ExpectExclusion::Told),
    ("any", ExpectExclusion::Any),
];

const REACTIONS: &[(&str, Reaction)] = &[
    ("aborts", Reaction::Abort),
    ("releases", Reaction::Release),
    ("marks-unhealthy", Reaction::MarkUnhealthy),
    ("finishes", Reaction::Finish),
];

/// `[expect]`.
fn expect(sink: &mut Sink<'_>, refs: &mut References, root: &Table<'_>) -> ExpectSpec {
    let table = root.get("expect").and_then(|node| node.table(sink, "[expect]", keys::EXPECT));
    let nothing = ExpectSpec {
        exclusion: ExpectExclusion::Held,
        holder: Vec::new(),
        warning: Vec::new(),
        takeover: None,
    };
    let Some(table) = table else { return nothing };
    let exclusion = table.parsed(sink, "exclusion", |text| one_of(text, "expectation", EXCLUSIONS));
    let holder = table.parsed_list(sink, "holder", |text| one_of(text, "reaction", REACTIONS));
    if holder.contains(&Reaction::Finish) && holder.len() > 1 {
        let hint = "`finishes` means that nobody had a reason to do anything else";
        sink.say(table.key_span("holder"), "`finishes` stands alone", hint);
    }
    ExpectSpec {
        exclusion: exclusion.unwrap_or(ExpectExclusion::Held),
        holder,
        warning: table.parsed_list(sink, "warning", |text| one_of(text, "detail", DETAILS)),
        takeover: takeover(sink, refs, &table),
    }
}

fn takeover(
    sink: &mut Sink<'_>,
    refs: &mut References,
    expect: &Table<'_>,
) -> Option<TakeoverSpec> {
    let table = expect.get("takeover")?.table(sink, "[expect] takeover", keys::TAKEOVER)?;
    table.need(sink, "after");
    table.need(sink, "within");
    let after = moment(sink, refs, &table, "after");
    let within = table.parsed(sink, "within", words::some_length);
    Some(TakeoverSpec { after: after?, within: within? })
}

/// Says that a word of a list is unknown.
pub(super) fn unknown<'k>(
    sink: &mut Sink<'_>,
    text: &Text<'_>,
    what: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) {
    let message = format!("unknown {what} {}", quoted(text.text));
    let hint = did_you_mean(text.text, known);
    sink.heed(text, words::wrong::<()>(0..text.text.len(), message, hint));
}
