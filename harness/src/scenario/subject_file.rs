//! From the text of a subject file to a [`Subject`], or to every mistake in it.
//!
//! A variant is the plain subject with some keys replaced and its environment merged. Both are
//! read as layers first; what must be there is asked of the merged result.

use std::collections::BTreeMap;
use std::ops::Range;

use super::feature::Feature;
use super::mistake::{Mistakes, nearest, quoted};
use super::scenario_file::DETAILS;
use super::spec::{Canary, Launch, Need, Planted, Setup, Subject, TimingSpec, Variant};
use super::walk::{Node, Sink, Table, Text, read_document};
use super::words::{self, Said, one_of, wrong};
use super::{keys, library};
use crate::plan::{Claims, Detail, Exclusion, KnownGap, LockFiles, Reaction};
use crate::time::Nanos;

/// The placeholders of argv and env.
const PLACEHOLDERS: &[&str] =
    &["{dir}", "{lock}", "{subject}", "{deadbeat}", "{stale-ms}", "{beat-ms}"];

/// The finding kinds that a known gap may name.
pub(super) const FINDINGS: &[&str] = &[
    "told-ignored",
    "told-late",
    "double-held",
    "fenced",
    "ignored-failure",
    "stuck",
    "false-compromise",
    "crashed",
    "silent",
    "vague",
    "unproven-steal",
    "wrongful-release",
    "zombie-refresh",
];

/// One table's worth of `[command]`, `[lock]`, `[timing]`, `[claims]` and `[[known-gap]]`.
#[derive(Clone, Default)]
struct Layer {
    command: CommandLayer,
    plays: Option<Vec<Feature>>,
    holder: CommandLayer,
    contender: CommandLayer,
    lock: LockLayer,
    timing: TimingSpec,
    claims: ClaimsLayer,
    gaps: Option<Vec<KnownGap>>,
}

#[derive(Clone, Default)]
struct CommandLayer {
    argv: Option<Vec<String>>,
    env: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct LockLayer {
    path: Option<Vec<String>>,
    heartbeat: Option<Vec<String>>,
    name: Option<String>,
    lacks: Option<Vec<Feature>>,
}

#[derive(Clone, Default)]
struct ClaimsLayer {
    exclusion: Option<Exclusion>,
    on_failure: Option<Vec<Reaction>>,
    takeover: Option<Option<Nanos>>,
    warns: Option<Vec<Detail>>,
}

/// Parses a subject file.
///
/// # Errors
/// Every mistake of the file.
pub fn parse_subject(file: &str, text: &str) -> Result<Subject, Mistakes> {
    read_document(file, text, |sink, tree| {
        let root = Table::root(sink, tree, "a subject file", keys::SUBJECT);
        root.check_format(sink);
        root.need(sink, "name");
        let name = root.parsed(sink, "name", name);
        let base = layer(sink, &root);
        root.need(sink, "command");
        root.need(sink, "lock");
        let setup = setup(sink, &root);
        let version = root.text(sink, "version");
        let summary = root.text(sink, "summary");
        let plain = complete(sink, &root, &base);
        let mut variants = BTreeMap::new();
        let table = root.get("variant").and_then(|node| node.open_table(sink, "[variant]"));
        for (key, node) in table.iter().flat_map(Table::entries) {
            let Some(table) = node.table(sink, "a variant", keys::VARIANT) else { continue };
            if sink.heed(&key, variant_name(key.text)).is_none() {
                continue;
            }
            let mut own = layer(sink, &table);
            own.command.env.extend(env(sink, &table));
            // A base that lacks something has been told so: not once more for each variant.
            let Some(_) = plain else { continue };
            let planted = planted(sink, &table);
            if let Some(variant) = complete(sink, &table, &own.over(&base)) {
                variants.insert(key.text.to_owned(), Variant { planted, ..variant });
            }
        }
        for (key, node) in table.iter().flat_map(Table::entries) {
            check_base(sink, &key, node, &variants);
        }
        // From here on nothing is read any more: every mistake has been said.
        variants.insert(Subject::DEFAULT.to_owned(), plain?);
        let line = |text: Option<Text<'_>>| text.map(|t| t.text.to_owned()).unwrap_or_default();
        Some(Subject {
            name: name?,
            version: line(version),
            summary: line(summary),
            setup,
            variants,
        })
    })
}

fn name(text: &str) -> Said<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    let hint = "letters, digits, `-`, `_` and `.`, at most 64, a letter or digit first";
    wrong(0..text.len(), format!("{} is no name", quoted(text)), hint)
}

fn variant_name(text: &str) -> Said<String> {
    if text == Subject::DEFAULT {
        let hint = "`default` is the plain subject: what it needs stands at the top";
        return wrong(0..text.len(), "no variant can be called `default`", hint);
    }
    name(text)
}

impl Layer {
    /// `self` on top of `base`: keys replace, env merges.
    fn over(self, base: &Layer) -> Layer {
        Layer {
            command: self.command.over(&base.command),
            plays: self.plays.or_else(|| base.plays.clone()),
            holder: self.holder.over(&base.holder),
            contender: self.contender.over(&base.contender),
            lock: LockLayer {
                path: self.lock.path.or_else(|| base.lock.path.clone()),
                heartbeat: self.lock.heartbeat.or_else(|| base.lock.heartbeat.clone()),
                name: self.lock.name.or_else(|| base.lock.name.clone()),
                lacks: self.lock.lacks.or_else(|| base.lock.lacks.clone()),
            },
            timing: TimingSpec {
                stale: self.timing.stale.or(base.timing.stale),
                beat: self.timing.beat.or(base.timing.beat),
                acquire_timeout: self.timing.acquire_timeout.or(base.timing.acquire_timeout),
                unit: self.timing.unit.or(base.timing.unit),
            },
            claims: ClaimsLayer {
                exclusion: self.claims.exclusion.or(base.claims.exclusion),
                on_failure: self.claims.on_failure.or_else(|| base.claims.on_failure.clone()),
                takeover: self.claims.takeover.or(base.claims.takeover),
                warns: self.claims.warns.or_else(|| base.claims.warns.clone()),
            },
            gaps: self.gaps.or_else(|| base.gaps.clone()),
        }
    }
}

impl CommandLayer {
    fn over(self, base: &CommandLayer) -> CommandLayer {
        let mut env = base.env.clone();
        env.extend(self.env);
        CommandLayer { argv: self.argv.or_else(|| base.argv.clone()), env }
    }

    fn launch(self) -> Option<Launch> {
        Some(Launch { argv: self.argv?, env: self.env })
    }
}

/// What one table says, of the file or of a variant.
fn layer(sink: &mut Sink<'_>, table: &Table<'_>) -> Layer {
    let mut layer = Layer::default();
    let command = table.get("command");
    if let Some(command) = command.and_then(|node| node.table(sink, "[command]", keys::COMMAND)) {
        layer.command = command_layer(sink, &command);
        layer.plays = features(sink, &command, "plays", Feature::OF_ADAPTERS);
        for (key, slot) in [("holder", &mut layer.holder), ("contender", &mut layer.contender)] {
            let overlay = command.get(key);
            let overlay = overlay.and_then(|node| node.table(sink, "a role's", keys::OVERLAY));
            *slot = overlay.map(|table| command_layer(sink, &table)).unwrap_or_default();
        }
    }
    if let Some(lock) = table.get("lock").and_then(|node| node.table(sink, "[lock]", keys::LOCK)) {
        layer.lock = lock_layer(sink, &lock);
    }
    let timing = table.get("timing").and_then(|node| node.table(sink, "[timing]", keys::TIMING));
    if let Some(timing) = timing {
        // A beat of the wrong form is a beat all the same: it asks for a `heartbeat`.
        let beat = timing.parsed(sink, "beat-every", words::fixed_length);
        let beat = beat.or_else(|| timing.get("beat-every").map(|_| Nanos::from_ms(1)));
        layer.timing = TimingSpec {
            stale: timing.parsed(sink, "stale-after", words::fixed_length),
            beat,
            acquire_timeout: timing.parsed(sink, "acquire-timeout", words::fixed_length),
            unit: timing.parsed(sink, "unit", words::fixed_length),
        };
    }
    let claims = table.get("claims").and_then(|node| node.table(sink, "[claims]", keys::CLAIMS));
    if let Some(claims) = claims {
        layer.claims = claims_layer(sink, &claims);
    }
    layer.gaps = table.get("known-gap").map(|node| {
        let list = node.list(sink);
        list.into_iter().filter_map(|node| known_gap(sink, node)).collect()
    });
    layer
}

fn command_layer(sink: &mut Sink<'_>, table: &Table<'_>) -> CommandLayer {
    let argv = table.get("argv").map(|node| {
        let argv = node.texts(sink);
        if argv.first().is_none_or(|program| program.text.is_empty()) {
            sink.say(node.span(), "`argv` names no program", "such as [\"node\", \"adapter.mjs\"]");
        }
        argv.iter().map(|text| with_placeholders(sink, text)).collect()
    });
    CommandLayer { argv, env: env(sink, table) }
}

fn env(sink: &mut Sink<'_>, table: &Table<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let table = table.get("env").and_then(|node| node.open_table(sink, "env"));
    for (key, node) in table.iter().flat_map(Table::entries) {
        if key.text.is_empty() || key.text.contains(['=', '\0']) {
            let hint = "not empty, without `=`";
            sink.say(key.span.clone(), "this is no name of an environment variable", hint);
        }
        let value = node.text(sink).map(|text| with_placeholders(sink, &text));
        env.extend(value.map(|value| (key.text.to_owned(), value)));
    }
    env
}

/// The text, after a look for misspelt placeholders. Other braces are the program's own.
fn with_placeholders(sink: &mut Sink<'_>, text: &Text<'_>) -> String {
    if text.text.contains('\0') {
        sink.say(text.span.clone(), "no argument can hold a zero byte", "");
    }
    for (from, _) in text.text.match_indices('{') {
        let Some(length) = text.text[from..].find('}') else { break };
        let word = &text.text[from..=from + length];
        if text.text[..from].ends_with('$') || PLACEHOLDERS.contains(&word) {
            continue;
        }
        // `{cs}` and a shell's own braces are far from every placeholder.
        if let Some(near) = nearest(word, PLACEHOLDERS.iter().copied()).filter(|_| length > 3) {
            let message = format!("unknown placeholder {}", quoted(word));
            sink.say(text.span.clone(), message, format!("did you mean `{near}`?"));
        }
    }
    text.text.to_owned()
}

fn lock_layer(sink: &mut Sink<'_>, table: &Table<'_>) -> LockLayer {
    // A wrong path is kept as it stands: the file is refused, and nothing is said of it twice.
    let globs = |sink: &mut Sink<'_>, key: &str| -> Option<Vec<String>> {
        let texts = table.get(key)?.text_or_texts(sink);
        let read = |text: &Text<'_>| {
            let below = sink.heed(text, below_dir(text.text));
            below.unwrap_or_else(|| text.text.to_owned())
        };
        Some(texts.iter().map(read).collect())
    };
    let path = globs(sink, "path");
    if table.get("path").is_some_and(Node::is_empty_list) {
        sink.say(table.key_span("path"), "`path` names no file", "");
    }
    let name = table.parsed(sink, "name", |text| {
        let name = below_dir(text)?;
        if is_glob(&name) {
            return wrong(0..text.len(), "`name` is one name", "not a glob");
        }
        Ok(name)
    });
    let lacks = features(sink, table, "lacks", Feature::OF_LOCKS);
    LockLayer { path, heartbeat: globs(sink, "heartbeat"), name, lacks }
}

/// The features that a key names, if it is there.
fn features(
    sink: &mut Sink<'_>,
    table: &Table<'_>,
    key: &str,
    known: &[(&str, Feature)],
) -> Option<Vec<Feature>> {
    table.get(key)?;
    Some(table.parsed_list(sink, key, |text| one_of(text, "feature", known)))
}

/// A path of `[lock]`, relative to `{dir}`.
fn below_dir(text: &str) -> Said<String> {
    match text.strip_prefix("{dir}/") {
        Some(below) => words::shifted(words::glob(below), "{dir}/".len()),
        None => {
            let message = format!("{} does not begin with `{{dir}}/`", quoted(text));
            wrong(0..text.len(), message, "such as \"{dir}/resource.lock\"")
        }
    }
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

fn claims_layer(sink: &mut Sink<'_>, table: &Table<'_>) -> ClaimsLayer {
    let exclusions = [("strict", Exclusion::Strict), ("fenced", Exclusion::Fenced)];
    let reactions = [
        ("abort", Some(Reaction::Abort)),
        ("release", Some(Reaction::Release)),
        ("mark-unhealthy", Some(Reaction::MarkUnhealthy)),
        ("none", None),
    ];
    let on_failure = table.get("on-heartbeat-failure").map(|_| {
        table.parsed_list(sink, "on-heartbeat-failure", |text| one_of(text, "reaction", &reactions))
    });
    if on_failure.as_ref().is_some_and(|list| list.contains(&None) && list.len() > 1) {
        let span = table.key_span("on-heartbeat-failure");
        sink.say(span, "`none` stands alone", "it contradicts every reaction");
    }
    ClaimsLayer {
        exclusion: table.parsed(sink, "exclusion", |text| one_of(text, "claim", &exclusions)),
        on_failure: on_failure.map(|list| list.into_iter().flatten().collect()),
        takeover: table.parsed(sink, "dead-owner-takeover", |text| match text {
            "never" => Ok(None),
            _ => words::fixed_length(text).map(Some),
        }),
        warns: table
            .get("warns")
            .map(|_| table.parsed_list(sink, "warns", |text| one_of(text, "detail", DETAILS))),
    }
}

fn known_gap(sink: &mut Sink<'_>, node: Node<'_>) -> Option<KnownGap> {
    let table = node.table(sink, "[[known-gap]]", keys::KNOWN_GAP)?;
    for key in ["scenario", "findings", "reason", "review-by"] {
        table.need(sink, key);
    }
    let known: Vec<(&str, &str)> = FINDINGS.iter().map(|kind| (*kind, *kind)).collect();
    let findings = table.parsed_list(sink, "findings", |text| one_of(text, "finding", &known));
    if table.get("findings").is_some_and(Node::is_empty_list) {
        sink.say(table.key_span("findings"), "a gap without a finding is none", "");
    }
    let scenario = table.parsed(sink, "scenario", |text| match library::scenario_glob(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => wrong(0..text.len(), format!("malformed glob {}", quoted(text)), why),
    });
    let reason = table.text(sink, "reason");
    let issue = table.text(sink, "issue");
    let review_by = table.parsed(sink, "review-by", date);
    Some(KnownGap {
        scenario: scenario?,
        findings: findings.into_iter().map(str::to_owned).collect(),
        reason: reason?.text.to_owned(),
        issue: issue.map(|issue| issue.text.to_owned()),
        review_by: review_by?,
    })
}

/// `[variant.X.planted]`.
fn planted(sink: &mut Sink<'_>, variant: &Table<'_>) -> Option<Planted> {
    let node = variant.get("planted")?;
    let table = node.table(sink, "a planted bug's", keys::PLANTED)?;
    for key in ["class", "bug", "seen"] {
        table.need(sink, key);
    }
    let class = table.parsed(sink, "class", name);
    let line = |text: Option<Text<'_>>| text.map(|text| text.text.to_owned());
    let base = line(table.text(sink, "base"));
    let bug = line(table.text(sink, "bug"));
    let seen = line(table.text(sink, "seen"));
    let canary = table.get("canary").and_then(|node| canary(sink, node));
    Some(Planted { class: class?, base, bug: bug?, seen: seen?, canary })
}

fn canary(sink: &mut Sink<'_>, node: Node<'_>) -> Option<Canary> {
    let table = node.table(sink, "a canary's", keys::CANARY)?;
    for key in ["scenario", "shows"] {
        table.need(sink, key);
    }
    if table.get("shows").is_some_and(Node::is_empty_list) {
        sink.say(table.key_span("shows"), "a canary that shows nothing is none", "");
    }
    let scenario = table.text(sink, "scenario").map(|text| text.text.to_owned());
    let known: Vec<(&str, &str)> = FINDINGS.iter().map(|kind| (*kind, *kind)).collect();
    let shows = table.parsed_list(sink, "shows", |text| one_of(text, "finding", &known));
    let real_time = table.get("real-time").and_then(|node| node.boolean(sink)).unwrap_or(false);
    let shows = shows.into_iter().map(str::to_owned).collect();
    Some(Canary { scenario: scenario?, shows, real_time })
}

/// The base of a planted bug is a variant of the same file.
fn check_base(
    sink: &mut Sink<'_>,
    key: &Text<'_>,
    node: Node<'_>,
    variants: &BTreeMap<String, Variant>,
) {
    let base = variants.get(key.text).and_then(|variant| variant.planted.as_ref()?.base.clone());
    let is_there = |base: &String| base == Subject::DEFAULT || variants.contains_key(base);
    let Some(base) = base.filter(|base| base == key.text || !is_there(base)) else {
        return;
    };
    let near = nearest(&base, variants.keys().map(String::as_str));
    let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
    sink.say(node.span(), format!("its base {} is no other variant", quoted(&base)), hint);
}

/// A date of the calendar, `YYYY-MM-DD`: two of them compare as text.
pub(super) fn date(text: &str) -> Said<String> {
    let parsed = text.parse::<toml::value::Datetime>().ok();
    let whole = parsed.filter(|date| date.date.is_some() && date.time.is_none());
    if whole.is_some() && text.len() == "2027-06-01".len() {
        return Ok(text.to_owned());
    }
    wrong(0..text.len(), format!("{} is no date", quoted(text)), "such as \"2027-06-01\"")
}

/// `[setup]`.
fn setup(sink: &mut Sink<'_>, root: &Table<'_>) -> Setup {
    let table = root.get("setup").and_then(|node| node.table(sink, "[setup]", keys::SETUP));
    let Some(table) = table else { return Setup::default() };
    let argv = table.get("argv").map(|node| node.texts(sink)).unwrap_or_default();
    Setup {
        needs: table.parsed_list(sink, "needs", need),
        argv: argv.iter().map(|text| text.text.to_owned()).collect(),
    }
}

/// `PROGRAM`, `PROGRAM >= VERSION` or `root`.
fn need(text: &str) -> Said<Need> {
    let words = words::split(text)?;
    let version = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    match &words[..] {
        [only] if only.text == "root" => Ok(Need::Root),
        [program] => Ok(Need::Program { name: program.text.to_owned(), at_least: None }),
        [program, sign, least] if sign.text == ">=" && version(least.text) => {
            let (name, at_least) = (program.text.to_owned(), Some(least.text.to_owned()));
            Ok(Need::Program { name, at_least })
        }
        _ => {
            let hint = "\"PROGRAM\", \"PROGRAM >= VERSION\" or \"root\"";
            wrong(0..text.len(), format!("{} is no need", quoted(text)), hint)
        }
    }
}

/// The variant that a merged layer comes to; what it lacks is said at `table`.
fn complete(sink: &mut Sink<'_>, table: &Table<'_>, layer: &Layer) -> Option<Variant> {
    let at = |key: &str| -> Range<usize> { table.key_span(key) };
    let holder = layer.holder.clone().over(&layer.command).launch();
    let contender = layer.contender.clone().over(&layer.command).launch();
    if (holder.is_none() || contender.is_none()) && table.get("command").is_some() {
        sink.say(at("command"), "`argv` is missing in [command]", "");
    }
    if layer.lock.path.is_none() && table.get("lock").is_some() {
        sink.say(at("lock"), "`path` is missing in [lock]", "");
    }
    let heartbeat = layer.lock.heartbeat.clone().unwrap_or_default();
    if layer.timing.beat.is_some() && heartbeat.is_empty() && layer.lock.path.is_some() {
        let hint = "name the files that a beat refreshes";
        sink.say(at("timing"), "`beat-every` without a `heartbeat` in [lock]", hint);
    }
    if layer.timing.beat.is_none() && !heartbeat.is_empty() {
        let hint = "say `beat-every` in [timing], or `heartbeat = []`";
        sink.say(at("lock"), "a `heartbeat` without `beat-every`", hint);
    }
    let lock = layer.lock.path.clone().filter(|lock| !lock.is_empty())?;
    let only = (lock.len() == 1 && !is_glob(&lock[0])).then(|| lock[0].clone());
    let name = layer.lock.name.clone().or(only);
    if name.is_none() {
        let hint = "`path` is several files: `name` is what the program is given";
        sink.say(at("lock"), "`name` is missing in [lock]", hint);
    }
    let mut lacks = layer.lock.lacks.clone().unwrap_or_default();
    let plays = layer.plays.as_deref().unwrap_or_default();
    let of_adapters = Feature::OF_ADAPTERS.iter().map(|(_, feature)| *feature);
    lacks.extend(of_adapters.filter(|feature| !plays.contains(feature)));
    Some(Variant {
        holder: holder?,
        contender: contender?,
        files: LockFiles { name: name?, lock, heartbeat },
        planted: None,
        timing: layer.timing,
        claims: Claims {
            exclusion: layer.claims.exclusion.unwrap_or(Exclusion::Strict),
            on_failure: layer.claims.on_failure.clone().unwrap_or_default(),
            dead_owner_takeover: layer.claims.takeover.flatten(),
            warns: layer.claims.warns.clone().unwrap_or_default(),
        },
        lacks,
        gaps: layer.gaps.clone().unwrap_or_default(),
    })
}
