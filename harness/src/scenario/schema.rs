//! JSON Schemas of both file formats, for editors that complete and check.
//!
//! The types of this file are the formats as an editor sees them; nothing is ever read into
//! them. Tests hold their keys to the parser's, both ways, and check every file of the suite.
//! A schema is looser than the parser: it knows no moments, no contradictions.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};

use super::feature::Feature;
use super::spec::Covers;
use super::{event, subject_file};
use crate::op::{Errno, OpKind};

/// The schema of scenario files.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn schema_scenario() -> serde_json::Value {
    finish(schema_for!(ScenarioFile), "deadbeat scenario file")
}

/// The schema of subject files.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn schema_subject() -> serde_json::Value {
    finish(schema_for!(SubjectFile), "deadbeat subject file")
}

fn finish(mut schema: Schema, title: &str) -> serde_json::Value {
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

/// A schema type whose schema is one expression.
macro_rules! worded {
    ($(#[$doc:meta])* $name:ident = $schema:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

worded! {
    /// The number of the format.
    Format = json_schema!({ "const": 1, "description": "The number of the format." })
}
worded! {
    /// A length.
    Length = json_schema!({
        "type": "string",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|beat|stale)\s*$",
        "description": "A length: \"1500ms\", \"10s\", \"1m\", \"2 beat\", \"0.5 stale\".",
    })
}
worded! {
    /// A length that no subject changes.
    FixedLength = json_schema!({
        "type": "string",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)\s*$",
        "description": "A length: \"1500ms\", \"10s\", \"1m\", \"1h\".",
    })
}
worded! {
    /// A length with a sign.
    SignedLength = json_schema!({
        "type": "string",
        "pattern": r"^\s*[+-]?\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|beat|stale)\s*$",
        "description": "A length with a sign: \"+1h\", \"-5s\".",
    })
}
worded! {
    /// A length, or `never`.
    LengthOrNever = json_schema!({
        "type": "string",
        "pattern": r"^(never|\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)\s*)$",
        "description": "A length such as \"30s\", or \"never\".",
    })
}
worded! {
    /// A number of bytes.
    Size = json_schema!({
        "anyOf": [
            { "type": "string", "pattern": r"^[0-9]+\s*(B|KiB|MiB|GiB)?\s*$" },
            { "type": "integer", "minimum": 0 },
        ],
        "description": "A number of bytes: \"64KiB\", \"0\".",
    })
}
worded! {
    /// A moment of a run.
    Moment = json_schema!({
        "type": "string",
        "pattern": concat!(
            r"^\s*(start|fault\s+[0-9]+\s+fired|event\s+[0-9]+\s+done",
            r"|(holder|contender|contender-[0-9]+|any)\s+[a-z-]+)\s*(\+.*)?$",
        ),
        "description": "A moment, and lengths after it: \"start\", \"holder entered + 1 beat\", \
                        \"fault 1 fired\", \"event 2 done + 0.5 stale + 100ms\".",
    })
}
worded! {
    /// A role, or several.
    Who = json_schema!({
        "type": "string",
        "pattern": r"^(holder|contender|contender-[1-9][0-9]*|any)$",
        "description": "\"holder\", \"contender\" (every one), \"contender-1\", \"any\".",
    })
}
worded! {
    /// Which files.
    Target = json_schema!({
        "type": "string",
        "minLength": 1,
        "description": "\"heartbeat\", \"lock\" (and everything below it), \"lock-dir\", or a \
                        glob below {dir}.",
    })
}
worded! {
    /// One operation.
    Operation = json_schema!({
        "enum": std::iter::once("refresh")
            .chain(OpKind::ALL.iter().filter(|kind| kind.is_nameable()).map(|kind| kind.as_str()))
            .collect::<Vec<_>>(),
    })
}
worded! {
    /// A Linux errno.
    ErrnoName = json_schema!({ "enum": Errno::names().collect::<Vec<_>>() })
}
worded! {
    /// What the harness does.
    DeedText = json_schema!({
        "type": "string",
        "pattern": format!(
            r"^\s*({})(\s.*)?$",
            event::VERBS.iter().map(|(verb, _)| *verb).collect::<Vec<_>>().join("|")
        ),
        "description":
            event::VERBS.iter().map(|(_, usage)| *usage).collect::<Vec<_>>().join(" · "),
    })
}
worded! {
    /// A line of the checklist.
    ChecklistId = json_schema!({
        "enum": Covers::ALL.iter().map(|line| line.as_str()).collect::<Vec<_>>(),
    })
}
/// The words of some features.
fn feature_words(features: &[(&'static str, Feature)]) -> Vec<&'static str> {
    features.iter().map(|(word, _)| *word).collect()
}
worded! {
    /// What a scenario needs.
    Need = json_schema!({ "enum": feature_words(Feature::ALL) })
}
worded! {
    /// What a lock may lack.
    LockFeature = json_schema!({ "enum": feature_words(Feature::OF_LOCKS) })
}
worded! {
    /// What an adapter may play.
    AdapterFeature = json_schema!({ "enum": feature_words(Feature::OF_ADAPTERS) })
}
worded! {
    /// Which of the matching operations.
    Times = json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": r"^(all|[0-9]+|every [0-9]+|[0-9]+\.\.[0-9]*( ?every [0-9]+)?)$" },
        ],
        "description":
            "\"all\", n (the first n), \"n..m\", \"n..\", \"every n\", \"n..m every k\"; counted per role and file.",
    })
}
worded! {
    /// A kind of finding.
    FindingKind = json_schema!({ "enum": subject_file::FINDINGS })
}
worded! {
    /// A path or glob below the lock directory.
    BelowDir = json_schema!({ "type": "string", "pattern": r"^\{dir\}/." })
}
worded! {
    /// A date.
    Date = json_schema!({ "type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$" })
}

/// One or several.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the two say what they are")]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $key:literal $field:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(rename = $key)] pub $field: $type,)*
        }
    };
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($word:literal $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, JsonSchema)]
        #[expect(missing_docs, reason = "CONTRACTS.md says what each word means")]
        pub enum $name { $(#[serde(rename = $word)] $variant,)* }
    };
}

table! {
    /// A scenario: what goes wrong in a run, and what is expected of the lock.
    ScenarioFile {
        /// Always 1.
        "format" format: Format,
        /// One line: what it is.
        "title" title: String,
        /// Why it exists.
        "why" why: Option<String>,
        /// Which lines of the checklist it covers.
        "covers" covers: Option<OneOrMany<ChecklistId>>,
        /// Free words to select by: `tag:smoke`.
        "tags" tags: Option<OneOrMany<String>>,
        /// What it needs of a subject; one that lacks any of it skips the scenario.
        "needs" needs: Option<OneOrMany<Need>>,
        /// Who plays.
        "cast" cast: Option<Cast>,
        /// What surrounds the run.
        "world" world: Option<World>,
        /// What goes wrong.
        "fault" fault: Option<Vec<Fault>>,
        /// What the harness does.
        "event" event: Option<Vec<Event>>,
        /// What is expected.
        "expect" expect: Option<Expect>,
    }
}

/// Who plays. `contender-1`, `contender-2`… change one contender by itself.
#[derive(JsonSchema)]
#[schemars(
    extend("additionalProperties" = false),
    extend("patternProperties" = { "^contender-[1-9][0-9]*$": { "$ref": "#/$defs/Holder" } })
)]
pub struct Cast {
    /// The first to take the lock.
    pub holder: Option<Holder>,
    /// Every contender.
    pub contender: Option<Contender>,
}

table! {
    /// One role.
    Holder {
        /// When it starts. Default: the holder at once, a contender when the holder entered.
        "starts" starts: Option<Moment>,
        /// How long it stays inside.
        "hold" hold: Option<Length>,
        /// How long it tries.
        "patience" patience: Option<Length>,
        /// How many acquisitions it tries.
        "acquires" acquires: Option<u32>,
        /// How long its main thread is blocked right after it entered.
        "stall" stall: Option<Length>,
        /// How long after it entered the same process tries to take the same lock once more.
        "again" again: Option<Length>,
        /// The stale age that it is set to, where that is not the subject's.
        "stale-after" stale: Option<Length>,
        /// How often it beats, where that is not the subject's.
        "beat-every" beat: Option<Length>,
        /// The subject's variant that plays it.
        "variant" variant: Option<String>,
    }
}

table! {
    /// Every contender.
    Contender {
        /// How many there are.
        "count" count: Option<u8>,
        /// When each starts. Default: when the holder entered.
        "starts" starts: Option<Moment>,
        /// How long each stays inside.
        "hold" hold: Option<Length>,
        /// How long each tries.
        "patience" patience: Option<Length>,
        /// How many acquisitions each tries.
        "acquires" acquires: Option<u32>,
        /// How long its main thread is blocked right after it entered.
        "stall" stall: Option<Length>,
        /// How long after it entered the same process tries to take the same lock once more.
        "again" again: Option<Length>,
        /// The stale age that it is set to, where that is not the subject's.
        "stale-after" stale: Option<Length>,
        /// How often it beats, where that is not the subject's.
        "beat-every" beat: Option<Length>,
        /// The subject's variant that plays it.
        "variant" variant: Option<String>,
    }
}

table! {
    /// What surrounds the run.
    World {
        /// A real small file system from the start.
        "space" space: Option<Space>,
        /// Only what statfs shows.
        "statfs" statfs: Option<Space>,
        /// Roles run as this user when deadbeat is root.
        "user" user: Option<u32>,
        /// Who runs as another user than that; they share a group, with umask 002.
        "users" users: Option<BTreeMap<String, u32>>,
        /// How the roles' PID namespaces relate.
        "pids" pids: Option<Pids>,
        /// Whether each role has a host name of its own.
        "hostname" hostname: Option<Hostname>,
        /// How far a role's wall clock is ahead or behind.
        "clock" clock: Option<BTreeMap<String, SignedLength>>,
        /// The file system's personality.
        "files" files: Option<Files>,
    }
}

table! {
    /// Free bytes and inodes.
    Space {
        /// Bytes.
        "free" free: Option<Size>,
        /// Inodes.
        "inodes" inodes: Option<u32>,
    }
}

words! {
    /// How the roles' PID namespaces relate.
    Pids { "shared" Shared, "separate" Separate, "foreign" Foreign, "pid-1" PidOne, "reused" Reused, }
}
words! {
    /// Whether each role has a host name of its own.
    Hostname { "same" Same, "separate" Separate, }
}

table! {
    /// The file system's personality.
    Files {
        /// Timestamps are cut to multiples of this.
        "mtime-granularity" mtime_granularity: Option<FixedLength>,
        /// Attributes may be this old, as on NFS.
        "attr-cache" attr_cache: Option<FixedLength>,
        /// Handles of files that others removed answer ESTALE.
        "estale" estale: Option<bool>,
        /// Whether `link` works.
        "links" links: Option<bool>,
    }
}

table! {
    /// One thing that goes wrong. Exactly one of error, ignore, hang, delay, short, torn, kill
    /// and pause says how.
    Fault {
        /// Whose operations.
        "who" who: Who,
        /// On which files.
        "on" on: Target,
        /// Which operations.
        "op" op: OneOrMany<Operation>,
        /// The answer is this error.
        "error" error: Option<ErrnoName>,
        /// With `error`: it happened all the same.
        "apply" apply: Option<bool>,
        /// Success is reported, nothing happened.
        "ignore" ignore: Option<bool>,
        /// It does not return before "until MOMENT", or for a length.
        "hang" hang: Option<String>,
        /// It is carried out so much later.
        "delay" delay: Option<Length>,
        /// So many bytes are written, and so many reported.
        "short" short: Option<u32>,
        /// So many bytes are written, all are reported.
        "torn" torn: Option<u32>,
        /// The role is killed in the middle of it.
        "kill" kill: Option<bool>,
        /// The role is stopped for so long before it.
        "pause" pause: Option<Length>,
        /// From when. Default: the start.
        "from" from: Option<Moment>,
        /// Until when. Default: the end of the run.
        "until" until: Option<Moment>,
        /// Which of them. Default: all.
        "times" times: Option<Times>,
        /// That no local file system is known to do this, and that it is meant.
        "realism" realism: Option<Realism>,
    }
}

words! {
    /// That no local file system is known to do this, and that it is meant.
    Realism { "synthetic" Synthetic, }
}

table! {
    /// One thing that the harness does.
    Event {
        /// When.
        "at" at: Moment,
        /// What.
        "do" what: DeedText,
    }
}

table! {
    /// What is expected.
    Expect {
        /// What is asked of exclusion. Default: held.
        "exclusion" exclusion: Option<ExpectExclusion>,
        /// Any of these of the holder; `finishes` stands alone.
        "holder" holder: Option<OneOrMany<ExpectHolder>>,
        /// What a warning must name.
        "warning" warning: Option<OneOrMany<Detail>>,
        /// The heir must get in.
        "takeover" takeover: Option<Takeover>,
    }
}

words! {
    /// What is asked of exclusion.
    ExpectExclusion { "held" Held, "told" Told, "any" Any, }
}
words! {
    /// What a holder may do.
    ExpectHolder {
        "aborts" Aborts, "releases" Releases, "marks-unhealthy" MarksUnhealthy,
        "finishes" Finishes,
    }
}
words! {
    /// What a message names.
    Detail { "lock-path" LockPath, "operation" Operation, "errno" Errno, }
}

table! {
    /// The heir must get in.
    Takeover {
        /// From when.
        "after" after: Moment,
        /// How soon.
        "within" within: Length,
    }
}

table! {
    /// A subject: a lock implementation under test.
    SubjectFile {
        /// Always 1.
        "format" format: Format,
        /// Its name.
        "name" name: String,
        /// The version of the lock.
        "version" version: Option<String>,
        /// One line: what it is.
        "summary" summary: Option<String>,
        /// How its folder is made ready.
        "setup" setup: Option<Setup>,
        /// One process that wants the lock.
        "command" command: Command,
        /// Which files are the lock's.
        "lock" lock: Lock,
        /// Its lengths.
        "timing" timing: Option<Timing>,
        /// What its implementer promises.
        "claims" claims: Option<Claims>,
        /// Gaps that are expected to show.
        "known-gap" known_gap: Option<Vec<KnownGap>>,
        /// Variants: keys replace, env merges.
        "variant" variant: Option<BTreeMap<String, Variant>>,
    }
}

table! {
    /// How a subject's folder is made ready, once, in a cached copy.
    Setup {
        /// "PROGRAM", "PROGRAM >= VERSION" or "root".
        "needs" needs: Option<OneOrMany<String>>,
        /// What is run.
        "argv" argv: Option<Vec<String>>,
    }
}

table! {
    /// One process that wants the lock. {dir} {lock} {subject} {deadbeat} {stale-ms} {beat-ms}
    /// are replaced.
    Command {
        /// The program and its arguments.
        "argv" argv: Option<Vec<String>>,
        /// Added to the environment.
        "env" env: Option<BTreeMap<String, String>>,
        /// What the adapter plays beyond what every adapter does.
        "plays" plays: Option<OneOrMany<AdapterFeature>>,
        /// What is different for the holder.
        "holder" holder: Option<Overlay>,
        /// What is different for contenders.
        "contender" contender: Option<Overlay>,
    }
}

table! {
    /// What is different for a role.
    Overlay {
        /// The program and its arguments.
        "argv" argv: Option<Vec<String>>,
        /// Added to the environment.
        "env" env: Option<BTreeMap<String, String>>,
    }
}

table! {
    /// Which files are the lock's.
    Lock {
        /// The lock: a path, or a glob where it is several files.
        "path" path: Option<OneOrMany<BelowDir>>,
        /// What a beat refreshes; [] where there is no beat.
        "heartbeat" heartbeat: Option<OneOrMany<BelowDir>>,
        /// What the program is given where `path` is a glob.
        "name" name: Option<BelowDir>,
        /// What the lock does not do: scenarios that need it are skipped.
        "lacks" lacks: Option<OneOrMany<LockFeature>>,
    }
}

table! {
    /// The lock's lengths.
    Timing {
        /// The age at which a contender may think the owner is dead.
        "stale-after" stale_after: Option<FixedLength>,
        /// How often the lock is refreshed.
        "beat-every" beat_every: Option<FixedLength>,
        /// The library's own patience.
        "acquire-timeout" acquire_timeout: Option<FixedLength>,
        /// What "1 stale" means where there is no stale-after. Default: 2s.
        "unit" unit: Option<FixedLength>,
    }
}

table! {
    /// What the implementer promises.
    Claims {
        /// Never two inside, or the resource rejects the old token.
        "exclusion" exclusion: Option<Exclusion>,
        /// What the holder does; any of these.
        "on-heartbeat-failure" on_heartbeat_failure: Option<OneOrMany<OnFailure>>,
        /// A dead owner's lock is free within this.
        "dead-owner-takeover" dead_owner_takeover: Option<LengthOrNever>,
        /// What a message about a failed beat names.
        "warns" warns: Option<OneOrMany<Detail>>,
    }
}

words! {
    /// How two processes are kept apart.
    Exclusion { "strict" Strict, "fenced" Fenced, }
}
words! {
    /// What a holder promises to do.
    OnFailure {
        "abort" Abort, "release" Release, "mark-unhealthy" MarkUnhealthy, "none" None,
    }
}

table! {
    /// A gap that is expected to show.
    KnownGap {
        /// A glob of scenarios.
        "scenario" scenario: String,
        /// Exactly these kinds.
        "findings" findings: OneOrMany<FindingKind>,
        /// Why it is so.
        "reason" reason: String,
        /// Where it is discussed.
        "issue" issue: Option<String>,
        /// When it is overdue.
        "review-by" review_by: Date,
    }
}

table! {
    /// A variant: keys replace, env merges.
    Variant {
        /// Added to the environment of every role.
        "env" env: Option<BTreeMap<String, String>>,
        /// How it is started.
        "command" command: Option<Command>,
        /// Which files are the lock's.
        "lock" lock: Option<Lock>,
        /// Its lengths.
        "timing" timing: Option<Timing>,
        /// What its implementer promises.
        "claims" claims: Option<Claims>,
        /// Its gaps, instead of the plain subject's.
        "known-gap" known_gap: Option<Vec<KnownGap>>,
        /// What is wrong with it on purpose.
        "planted" planted: Option<Planted>,
    }
}

table! {
    /// A bug that was planted, so that one sees that it is caught.
    Planted {
        /// Scenarios with this tag were written for it.
        "class" class: String,
        /// The variant that it goes on from: what that one shows as well does not count.
        "base" base: Option<String>,
        /// The bug, in a line.
        "bug" bug: String,
        /// Where it was seen, or why it is likely.
        "seen" seen: String,
        /// The run that every gate run makes of it.
        "canary" canary: Option<Canary>,
    }
}

table! {
    /// A run that must show a planted bug before anything else is believed.
    Canary {
        /// The scenario.
        "scenario" scenario: String,
        /// What it must show, exactly.
        "shows" shows: OneOrMany<FindingKind>,
        /// Whether it is short enough for real time. Default: false.
        "real-time" real_time: Option<bool>,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::{keys, library};
    use super::*;

    /// The keys of an object schema: at the root (no name) or of a definition.
    fn keys_of(schema: &Value, definition: Option<&str>) -> BTreeSet<String> {
        let schema = definition.map_or(schema, |name| &schema["$defs"][name]);
        let properties = schema["properties"].as_object().expect("an object schema");
        properties.keys().cloned().collect()
    }

    #[test]
    fn the_schemas_know_the_keys_of_the_parser_and_no_others() {
        let scenario = schema_scenario();
        let subject = schema_subject();
        let tables: &[(&Value, Option<&str>, &[&str])] = &[
            (&scenario, None, keys::SCENARIO),
            (&scenario, Some("Cast"), keys::CAST),
            (&scenario, Some("Holder"), keys::HOLDER),
            (&scenario, Some("Contender"), keys::CONTENDER),
            (&scenario, Some("World"), keys::WORLD),
            (&scenario, Some("Space"), keys::SPACE),
            (&scenario, Some("Files"), keys::FILES),
            (&scenario, Some("Fault"), keys::FAULT),
            (&scenario, Some("Event"), keys::EVENT),
            (&scenario, Some("Expect"), keys::EXPECT),
            (&scenario, Some("Takeover"), keys::TAKEOVER),
            (&subject, None, keys::SUBJECT),
            (&subject, Some("Setup"), keys::SETUP),
            (&subject, Some("Command"), keys::COMMAND),
            (&subject, Some("Overlay"), keys::OVERLAY),
            (&subject, Some("Lock"), keys::LOCK),
            (&subject, Some("Timing"), keys::TIMING),
            (&subject, Some("Claims"), keys::CLAIMS),
            (&subject, Some("KnownGap"), keys::KNOWN_GAP),
            (&subject, Some("Variant"), keys::VARIANT),
            (&subject, Some("Planted"), keys::PLANTED),
            (&subject, Some("Canary"), keys::CANARY),
        ];
        for (schema, name, keys) in tables {
            let known = keys.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(keys_of(schema, *name), known, "{name:?}");
        }
        let objects = |schema: &Value| {
            let definitions = schema["$defs"].as_object().unwrap().values();
            definitions.filter(|one| one.get("properties").is_some()).count()
        };
        assert_eq!(objects(&scenario) + objects(&subject) + 2, tables.len(), "a table is untested");
    }

    fn valid(schema: &Value, text: &str) -> bool {
        let value: Value = toml::from_str(text).unwrap();
        jsonschema::validator_for(schema).unwrap().is_valid(&value)
    }

    #[test]
    fn every_file_of_the_repository_is_valid() {
        let scenario = schema_scenario();
        for file in library::embedded_suite() {
            assert!(valid(&scenario, std::str::from_utf8(file.bytes).unwrap()), "{}", file.path);
        }
        let subject = schema_subject();
        for (name, files) in library::embedded_subjects() {
            let file = files.iter().find(|file| file.path == "subject.toml").unwrap();
            assert!(valid(&subject, std::str::from_utf8(file.bytes).unwrap()), "{name}");
        }
    }

    #[test]
    fn a_wrong_file_is_invalid() {
        let scenario = schema_scenario();
        let with = |more: &str| valid(&scenario, &format!("format = 1\ntitle = \"t\"\n{more}"));
        assert!(with(""));
        assert!(with("cast = { contender-2 = { hold = \"1 stale\" } }"));
        for wrong in [
            "titel = \"t\"",
            "covers = [\"nothing\"]",
            "cast = { contander = {} }",
            "cast = { contender-2 = { hold = \"1 week\" } }",
            "[[event]]\nat = \"start\"\ndo = \"explode\"",
            "[[event]]\nat = \"sometime\"\ndo = \"heal\"",
            "[[fault]]\nwho = \"any\"\non = \"lock\"\nop = [\"refesh\"]\nerror = \"EIO\"",
            "[[fault]]\nwho = \"any\"\non = \"lock\"\nop = \"stat\"\nerror = \"EOI\"",
        ] {
            assert!(!with(wrong), "{wrong}");
        }
        let subject = schema_subject();
        let right = "format = 1\nname = \"s\"\ncommand = { argv = [\"x\"] }\n\
                     lock = { path = \"{dir}/l\", heartbeat = [] }\n";
        assert!(valid(&subject, right));
        assert!(!valid(&subject, &right.replace("format = 1", "format = 2")));
        assert!(!valid(&subject, &right.replace("{dir}/", "/tmp/")));
        assert!(!valid(&subject, &right.replace("lock =", "lok =")));
    }
}
