//! What a person sees of a wrong file, and that no file is too wrong to be refused politely.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rstest::rstest;

use super::library::{self, LibraryError, SubjectFiles};
use super::schema::schema_scenario;
use super::*;
use crate::fault::{Effect, HangEnd, Target, Times};
use crate::moment::{Anchor, Moment, Sign};
use crate::op::{Errno, OpKind};
use crate::plan::{Deed, Exclusion, ExpectExclusion, Pids, Reach, Reaction, Trial};
use crate::role::{Role, Who};
use crate::time::Nanos;

const SCENARIO: &str = r#"format  = 1
title   = "A full disk stops the holder's heartbeat"
why     = "The beat fails."
covers  = ["steal-evidence", "two-contenders"]
tags    = ["smoke", "disk-full"]
needs   = ["record", "removal"]

[cast]
holder      = { hold = "6 stale", stall = "2 beat", again = "1 beat" }
contender   = { count = 2, hold = "1 stale", patience = "12 stale", acquires = 2 }
contender-2 = { starts = "holder entered + 1 beat", variant = "slow", beat-every = "0.5 beat" }

[world]
space    = { free = "64KiB", inodes = 200 }
statfs   = { free = 0 }
user     = 1000
users    = { "contender-2" = 1002, contender = 1001 }
pids     = "separate"
hostname = "separate"
clock    = { "contender-1" = "+1h", any = "-5s" }
files    = { mtime-granularity = "1s", attr-cache = "3s", estale = true, links = false }

[[fault]]
who     = "holder"
on      = "heartbeat"
op      = ["refresh", "fsync"]
error   = "ENOSPC"
apply   = true
from    = "holder entered"
until   = "contender-1 entered + 0.5 stale + 100ms"
times   = "2..3"
realism = "synthetic"

[[fault]]
who  = "contender"
on   = "tmp/*.new"
op   = "write"
hang = "until event 2 done"

[[event]]
at = "fault 1 fired + 1 beat"
do = "remove heartbeat"

[[event]]
at = "start"
do = "pause holder main"

[expect]
exclusion = "told"
holder    = ["aborts", "releases"]
warning   = ["lock-path", "errno"]
takeover  = { after = "holder dead", within = "2 stale" }
"#;

const SUBJECT: &str = r#"format  = 1
name    = "sample"
version = "4.1.2"
summary = "a sample"

[setup]
needs = ["node >= 18", "npm", "root"]
argv  = ["npm", "ci"]

[command]
argv = ["node", "adapter.mjs"]
env  = { STALE_MS = "{stale-ms}", A = "base" }
plays = ["again"]

[command.contender]
env = { B = "contender" }

[lock]
path      = "{dir}/resource.lock"
heartbeat = ["{dir}/resource.lock/beat"]
lacks     = ["token"]

[timing]
stale-after     = "10s"
beat-every      = "5s"
acquire-timeout = "60s"

[claims]
exclusion            = "strict"
on-heartbeat-failure = ["abort"]
dead-owner-takeover  = "30s"
warns                = ["lock-path", "operation", "errno"]

[[known-gap]]
scenario  = "disk-*/*"
findings  = ["double-held"]
reason    = "a lease"
review-by = "2027-06-01"

[variant.slow]
env = { A = "slow" }
timing = { stale-after = "20s" }
claims = { exclusion = "fenced", on-heartbeat-failure = ["none"], dead-owner-takeover = "never" }
known-gap = []

[variant.beatless]
lock = { path = "{dir}/l*", heartbeat = [], name = "{dir}/l" }
command = { argv = ["sh"] }
"#;

/// `beatless` beats in [`SUBJECT`], which is a mistake: keys replace, and none can be removed.
fn subject_text() -> String {
    SUBJECT
        .replace("\n[variant.beatless]", "\n# [variant.beatless]")
        .replace("lock = {", "# ")
        .replace("command = {", "# ")
}

fn subject() -> Subject {
    parse_subject("sample/subject.toml", &subject_text()).unwrap()
}

fn scenario() -> Scenario {
    parse_scenario("suite/disk-full/sample.toml", SCENARIO).unwrap()
}

fn trial(scenario: &Scenario, subject: &Subject, variant: &str) -> Trial {
    match resolve(scenario, subject, variant) {
        Resolution::Trial(trial) => *trial,
        Resolution::Skipped(reason) => panic!("skipped: {reason}"),
    }
}

/// The rendered mistakes of a scenario that is right but for `more` at its end.
fn mistakes_of(more: &str) -> String {
    let text = format!("format = 1\ntitle = \"t\"\n{more}\n");
    parse_scenario("suite/family/wrong.toml", &text).unwrap_err().render(false)
}

#[test]
fn every_key_of_a_scenario_reaches_the_trial() {
    let trial = trial(&scenario(), &subject(), "default");
    let plan = &trial.plan;
    assert_eq!(
        (trial.scenario.as_str(), trial.subject.as_str()),
        ("disk-full/sample", "sample@default")
    );
    let (stale, beat) = (Nanos::from_ms(10_000), Nanos::from_ms(5000));
    assert_eq!((plan.timing.stale_unit, plan.timing.beat_unit), (stale, beat));
    assert_eq!(plan.timing.tick, Nanos::from_ms(500));

    let [holder, first, second] = &plan.cast[..] else { panic!("three roles") };
    assert_eq!((holder.role, holder.hold), (Role::Holder, Nanos::from_ms(60_000)));
    assert_eq!((holder.stall, holder.patience), (Some(beat + beat), Nanos::from_ms(60_000)));
    assert_eq!((holder.again, first.again), (Some(beat), None));
    assert_eq!((first.role, first.acquires), (Role::Contender(1), 2));
    let entered = Anchor::Role(Who::One(Role::Holder), Sign::Entered);
    assert_eq!(first.starts, Moment { anchor: entered, offset: Nanos::ZERO });
    assert_eq!(second.starts, Moment { anchor: entered, offset: beat });
    assert_eq!((second.acquires, second.patience), (2, Nanos::from_ms(120_000)));
    assert_eq!(first.env["STALE_MS"], "{stale-ms}");
    assert_eq!((first.env["A"].as_str(), first.env["B"].as_str()), ("base", "contender"));
    assert!(!holder.env.contains_key("B"));
    assert_eq!((second.env["STALE_MS"].as_str(), second.env["A"].as_str()), ("20000", "slow"));
    let told = ["DEADBEAT_STALE_MS", "DEADBEAT_BEAT_MS"].map(|name| second.env[name].as_str());
    assert_eq!(told, ["20000", "2500"], "its own variant's stale age, and the beat it was set to");

    let world = &plan.world;
    assert_eq!(world.space.unwrap().free, Some(65_536));
    assert_eq!(world.statfs.unwrap().free, Some(0));
    assert_eq!(world.clock[&Role::Contender(1)], 3_600_000_000_000);
    assert_eq!(world.clock[&Role::Contender(2)], -5_000_000_000);
    assert_eq!(
        world.users.iter().collect::<Vec<_>>(),
        [(&Role::Contender(1), &1001), (&Role::Contender(2), &1002)]
    );
    assert_eq!(world.pids, Pids::Separate);
    assert!(world.files.no_links && world.files.estale && world.separate_hostname);

    let [full, hang] = &plan.faults[..] else { panic!("two faults") };
    let enospc = Errno::named("ENOSPC").unwrap();
    assert_eq!(full.effect, Effect::Error { errno: enospc, apply: true });
    assert!(full.ops.refresh && full.ops.kinds == [OpKind::Fsync] && full.synthetic);
    assert_eq!(full.times, Times::Range(2, 3));
    assert_eq!(full.until.unwrap().offset, Nanos::from_ms(5100));
    let done = Moment { anchor: Anchor::Done(2), offset: Nanos::ZERO };
    assert_eq!(hang.effect, Effect::Hang(HangEnd::Until(done)));
    assert_eq!((hang.who, &hang.on), (Who::Contenders, &Target::Glob("tmp/*.new".to_owned())));

    assert_eq!(plan.events[0].what, Deed::Remove(Target::Heartbeat));
    assert_eq!(plan.events[1].what, Deed::Pause(Who::One(Role::Holder), Reach::Main));
    assert_eq!(trial.expect.exclusion, ExpectExclusion::Told);
    assert_eq!(trial.expect.holder, [Reaction::Abort, Reaction::Release]);
    // The claim of 30 s is later than the 20 s of the scenario.
    assert_eq!(trial.expect.takeover.unwrap().within, Nanos::from_ms(30_000));
    assert_eq!(trial.gaps.len(), 1);
    assert!(plan.bounds.wall > Nanos::from_ms(180_000), "{}", plan.bounds.wall);
}

/// The parser, the schema and the plan know the same words.
#[test]
fn every_pid_world_has_one_word() {
    let schema = jsonschema::validator_for(&schema_scenario()).unwrap();
    for pids in [Pids::Shared, Pids::Separate, Pids::Foreign, Pids::PidOne, Pids::Reused] {
        let word = serde_json::to_value(pids).unwrap();
        let text = format!("format = 1\ntitle = \"t\"\n[world]\npids = {word}\n");
        let scenario = parse_scenario("suite/family/worlds.toml", &text).unwrap();
        assert_eq!(trial(&scenario, &subject(), "default").plan.world.pids, pids);
        let value: serde_json::Value = toml::from_str(&text).unwrap();
        assert!(schema.is_valid(&value), "{word}");
    }
}

#[test]
fn a_variant_replaces_keys_and_merges_env() {
    let trial = trial(&scenario(), &subject(), "slow");
    assert_eq!(trial.plan.timing.stale, Some(Nanos::from_ms(20_000)));
    assert_eq!(trial.plan.timing.beat, Some(Nanos::from_ms(5000)));
    assert_eq!(trial.claims.exclusion, Exclusion::Fenced);
    assert_eq!(trial.claims.on_failure, []);
    assert_eq!(trial.expect.takeover, None, "nobody promises to steal");
    assert_eq!(trial.gaps, []);
    assert_eq!(trial.plan.cast[1].env["A"], "slow");
    assert_eq!(trial.plan.cast[1].env["STALE_MS"], "{stale-ms}");
}

#[test]
fn a_subject_without_a_beat_skips_what_is_about_one_and_nothing_else() {
    let text = "format = 1\nname = \"flock\"\ncommand = { argv = [\"sh\"] }\n\
                lock = { path = \"{dir}/l\", heartbeat = [] }\n";
    let flock = parse_subject("flock/subject.toml", text).unwrap();
    let skipped = resolve(&scenario(), &flock, "default");
    insta::assert_debug_snapshot!(skipped, @r#"
    Skipped(
        "flock has no beat, and fault 1 is about one",
    )
    "#);
    let event = "[[event]]\nat = \"start\"\ndo = \"touch heartbeat\"";
    let event = parse_scenario("a/b.toml", &format!("format = 1\ntitle = \"t\"\n{event}")).unwrap();
    assert!(matches!(resolve(&event, &flock, "default"), Resolution::Skipped(_)));
    let plain = parse_scenario("a/b.toml", "format = 1\ntitle = \"t\"").unwrap();
    let trial = trial(&plain, &flock, "default");
    assert_eq!(trial.plan.timing.stale_unit, Nanos::from_ms(2000));
    assert_eq!(trial.plan.timing.beat_unit.as_ms(), 666);
    assert_eq!((trial.plan.timing.stale, trial.plan.timing.beat), (None, None));
    assert_eq!(trial.plan.cast[0].hold, Nanos::from_ms(12_000));
    let other = parse_scenario(
        "a/b.toml",
        "format = 1\ntitle = \"t\"\ncast = { holder = { variant = \"none\" } }",
    );
    assert_eq!(
        resolve(&other.unwrap(), &flock, "default"),
        Resolution::Skipped("flock has no variant `none`".to_owned())
    );
}

#[test]
fn what_a_subject_lacks_skips_what_needs_it_and_nothing_else() {
    let needing = |needs: &str| {
        let text = format!("format = 1\ntitle = \"t\"\nneeds = {needs}\n");
        parse_scenario("a/b.toml", &text).unwrap()
    };
    let subject_with = |lacks: &str, plays: &str| {
        let text = format!(
            "format = 1\nname = \"l\"\ncommand = {{ argv = [\"sh\"]{plays} }}\n\
             lock = {{ path = \"{{dir}}/l\"{lacks} }}\n[variant.full.lock]\nlacks = []\n"
        );
        parse_subject("l/subject.toml", &text).unwrap()
    };
    let poor = subject_with(", lacks = [\"mark\", \"record\", \"removal\", \"token\"]", "");
    let rich = subject_with("", ", plays = [\"again\"]");
    for (word, _) in Feature::ALL {
        let scenario = needing(&format!("[\"{word}\"]"));
        let Resolution::Skipped(reason) = resolve(&scenario, &poor, "default") else {
            panic!("{word} is not there");
        };
        assert!(reason.contains(&format!("`{word}`")), "{reason}");
        assert!(matches!(resolve(&scenario, &rich, "default"), Resolution::Trial(_)), "{word}");
    }
    assert!(matches!(resolve(&needing("\"record\""), &poor, "full"), Resolution::Trial(_)));
    let text = "format = 1\ntitle = \"t\"\ncast = { holder = { again = \"1 beat\" } }";
    let twice = parse_scenario("a/b.toml", text).unwrap();
    assert!(matches!(resolve(&twice, &poor, "default"), Resolution::Skipped(_)), "implied");
    assert!(matches!(resolve(&twice, &rich, "default"), Resolution::Trial(_)));
    assert!(matches!(resolve(&needing("[]"), &poor, "default"), Resolution::Trial(_)));
}

#[test]
fn an_unknown_feature_is_shown_with_the_nearest_known_one() {
    let scenario = parse_scenario("a/b.toml", "format = 1\ntitle = \"t\"\nneeds = \"removals\"");
    let shown = scenario.unwrap_err().render(false);
    assert!(shown.contains("did you mean `removal`?"), "{shown}");
    for (from, to) in [("lacks     = [\"token\"]", "tokens"), ("plays = [\"again\"]", "agan")] {
        let (key, _) = from.split_once('=').unwrap();
        let text = subject_text().replace(from, &format!("{key} = [\"{to}\"]"));
        let shown = parse_subject("sample/subject.toml", &text).unwrap_err().render(false);
        assert!(shown.contains(&format!("unknown feature `{to}`")), "{shown}");
        assert!(shown.contains("did you mean `"), "{shown}");
    }
    // What only adapters do is nothing that a lock lacks.
    let text = subject_text().replace("lacks     = [\"token\"]", "lacks = [\"again\"]");
    assert!(parse_subject("sample/subject.toml", &text).is_err());
}

#[test]
fn mistakes_are_shown_with_place_and_help() {
    let text = r#"format = 1
titel = "A typo"
covers = ["steal-evidense"]

[[fault]]
who   = "holdr"
on    = "heartbeat"
op    = ["refesh", "utime"]
error = "ENOSPCE"
from  = "holder entred"
until = "contender-3 entered + 1 beats"
"#;
    let mistakes = parse_scenario("scenarios/suite/x/wrong.toml", text).unwrap_err();
    insta::assert_snapshot!(mistakes.render(false));
    assert_eq!(mistakes.list().len(), 9);
    assert_eq!(mistakes.list()[1].line, 2);
}

#[test]
fn mistakes_of_a_subject_are_shown_together() {
    let text = r#"format = 2
name = "no/name"
[setup]
needs = ["node > 18"]
[command]
env = { A = 1, B = "{stale-sm}" }
[lock]
path = "/tmp/lock"
heartbeat = ["{dir}/../x"]
[timing]
beat-every = "1 stale"
stale-after = "0s"
[claims]
exclusion = "fence"
on-heartbeat-failure = ["none", "abort"]
[[known-gap]]
scenario = "a/[*"
findings = ["doublehold"]
review-by = "2027-02-30"
[variant.default]
[variant.x]
enviroment = {}
"#;
    insta::assert_snapshot!(parse_subject("wrong/subject.toml", text).unwrap_err().render(false));
}

/// One mistake each; the part of its message that matters.
#[rstest]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nerror=\"EIO\"\nkill=true", "contradict")]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=true\napply=true",
    "`apply` without"
)]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"", "does nothing")]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=false",
    "`kill = false` does nothing"
)]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=[]\nkill=true", "means no operation")]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nshort=3", "`short` without a write")]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"../x\"\nop=\"stat\"\nkill=true",
    "not below the lock directory"
)]
#[case("[[fault]]\nwho=\"any\"\non=\"a[\"\nop=\"stat\"\nkill=true", "malformed glob")]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"lookup\"\nkill=true",
    "unknown operation `lookup`"
)]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=true\ntimes=\"3..2\"",
    "runs backwards"
)]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=true\ntimes=0", "out of range")]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=true\ntimes=\"every 0\"",
    "starts at 1"
)]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\ndelay=\"0s\"", "the length is zero")]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\ndelay=\"99999h\"", "too long")]
#[case("[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\ndelay=\"5\"", "no unit")]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=true\nfrom=\"start + 2s\"\nuntil=\"start + 1s\"",
    "`until` is not after `from`"
)]
#[case(
    "[[fault]]\nwho=\"any\"\non=\"lock\"\nop=\"stat\"\nkill=true\nfrom=\"fault 2 fired\"",
    "there is no fault 2"
)]
#[case("[[event]]\nat=\"event 3 done\"\ndo=\"heal\"", "there is no event 3")]
#[case("[[event]]\nat=\"contender-2 left\"\ndo=\"heal\"", "there is no `contender-2`")]
#[case("[[event]]\nat=\"start\"\ndo=\"kill contender-2\"", "there is no `contender-2`")]
#[case("[[event]]\nat=\"start - 1s\"\ndo=\"heal\"", "no negative offset")]
#[case("[[event]]\nat=\"start\"\ndo=\"remov lock\"", "did you mean `remove`")]
#[case("[[event]]\nat=\"start\"\ndo=\"rename lock\"", "is not complete")]
#[case("[[event]]\nat=\"start\"\ndo=\"heal now\"", "`now` is too much")]
#[case("[[event]]\nat=\"start\"\ndo=\"chmod 888 lock\"", "`888` is no mode")]
#[case("[[event]]\nat=\"start\"\ndo=\"fill block\"", "did you mean `blocks`")]
#[case("[[event]]\nat=\"start\"\ndo=\"\"", "does nothing")]
#[case("event = { at = \"start\", do = \"heal\" }", "did you mean `[[event]]`")]
#[case("cast = { contender = { count = 2 }, contender-3 = {} }", "there is no `contender-3`")]
#[case("cast = { contender = { count = 17 } }", "out of range")]
#[case("cast = { holder = { hold = \"0 stale\" } }", "the length is zero")]
#[case("cast = { holder = { count = 2 } }", "unknown key `count`")]
#[case("cast = { contander = {} }", "did you mean `contender`")]
#[case("world = { clock = { \"contender-9\" = \"1h\" } }", "there is no `contender-9`")]
#[case("world = { users = { holdr = 1 } }", "unknown role `holdr`")]
#[case("world = { users = { holder = -1 } }", "out of range")]
#[case("world = { users = { contender-9 = 1 } }", "there is no `contender-9`")]
#[case("world = { space = {} }", "says nothing")]
#[case("world = { space = { free = \"1KB\" } }", "did you mean `KiB`")]
#[case("world = { files = { attr-cache = \"1 beat\" } }", "unknown here")]
#[case("expect = { holder = [\"finishes\", \"aborts\"] }", "stands alone")]
#[case("expect = { takeover = { after = \"start\" } }", "`within` is missing")]
#[case("expect = { exclusion = true }", "expected a string, found a boolean")]
#[case("tags = [\"a\", \"a\"]", "is there twice")]
#[case("title = \"again\"", "duplicate key")]
#[case("tags = [", "not TOML")]
fn each_contradiction_is_one_mistake(#[case] more: &str, #[case] message: &str) {
    let rendered = mistakes_of(more);
    assert!(rendered.contains(message), "{rendered}");
    assert_eq!(rendered.matches("error: ").count(), 1, "{rendered}");
}

#[test]
fn the_format_must_be_there_and_be_1() {
    for text in ["title = \"t\"", "format = 2\ntitle = \"t\"", "format = \"1\"\ntitle = \"t\""] {
        assert!(parse_scenario("a/b.toml", text).is_err(), "{text}");
    }
}

#[test]
fn line_ends_and_a_byte_order_mark_change_nothing_but_the_place() {
    let crlf = SCENARIO.replace('\n', "\r\n");
    let crlf = parse_scenario("suite/disk-full/sample.toml", &crlf).unwrap();
    assert_eq!(crlf, scenario());
    let marked = format!("\u{feff}{SCENARIO}");
    assert_eq!(parse_scenario("suite/disk-full/sample.toml", &marked).unwrap(), scenario());
    let wrong = "\u{feff}format = 1\r\ntitle = \"t\"\r\ntagz = []\r\n";
    let mistakes = parse_scenario("a/b.toml", wrong).unwrap_err();
    assert_eq!(mistakes.list()[0].line, 3);
    assert_eq!(&wrong[mistakes.list()[0].span.clone()], "tagz");
}

#[test]
fn a_hostile_file_writes_nothing_to_the_terminal() {
    let text = "format = 1\ntitle = \"t\"\n\"\\u001b]0;owned\\u0007\" = 1\n# \u{202e}\n";
    let rendered = parse_scenario("a/b.toml", text).unwrap_err().render(false);
    assert!(!rendered.contains(['\u{1b}', '\u{7}']), "{rendered:?}");
}

#[test]
fn huge_files_numbers_and_nesting_are_refused() {
    let long = format!("format = 1\ntitle = \"{}\"", "x".repeat(FILE_BYTES_MAX));
    assert!(parse_scenario("a/b.toml", &long).unwrap_err().to_string().contains("bytes"));
    for more in [
        "world = { user = 99999999999999999999999999999999999999999 }".to_owned(),
        "world = { space = { free = \"99999999999999999999GiB\" } }".to_owned(),
        "cast = { holder = { hold = \"99999999999999999999999 stale\" } }".to_owned(),
        "cast = { holder = { hold = \"1000000000000 stale\" } }".to_owned(),
        format!("tags = {}{}", "[".repeat(5000), "]".repeat(5000)),
    ] {
        mistakes_of(&more);
    }
}

#[test]
fn every_one_of_very_many_mistakes_is_shown() {
    let long_line: String = (0..20_000).map(|n| format!("k{n} = 1, ")).collect();
    let text = format!("format = 1\ntitle = \"t\"\nworld = {{ {long_line} }}\n");
    let mistakes = parse_scenario("a/b.toml", &text).unwrap_err();
    assert_eq!(mistakes.list().len(), 20_000);
    assert_eq!(mistakes.render(false).matches("unknown key").count(), 20_000);
}

#[test]
fn the_suite_and_every_subject_parse_and_resolve() {
    let sample = parse_subject("sample/subject.toml", &subject_text()).unwrap();
    let suite = library::suite().unwrap();
    assert!(suite.len() >= 100, "{} scenarios", suite.len());
    for scenario in &suite {
        let warnings = trial(scenario, &sample, "default").warnings;
        assert_eq!(warnings, Vec::<String>::new(), "{}", scenario.name);
        assert!(!scenario.title.is_empty() && !scenario.why.is_empty(), "{}", scenario.name);
        assert!(scenario.tags.iter().any(|tag| tag == scenario.family()), "{}", scenario.name);
    }
    for (name, _) in library::embedded_subjects() {
        library::select_subjects(&[(*name).to_owned()], Path::new("/nonexistent")).unwrap();
    }
}

/// Goal: the checklist is what the suite proves: no row without a scenario, no scenario without a row.
#[test]
fn every_row_of_the_checklist_has_a_scenario_and_every_scenario_a_row() {
    let suite = library::suite().unwrap();
    let idle: Vec<&str> =
        suite.iter().filter(|one| one.covers.is_empty()).map(|one| one.name.as_str()).collect();
    assert!(idle.is_empty(), "these cover no row of the checklist: {idle:?}");
    let bare: Vec<&str> = Covers::ALL
        .iter()
        .filter(|row| !suite.iter().any(|one| one.covers.contains(row)))
        .map(|row| row.as_str())
        .collect();
    assert!(bare.is_empty(), "no scenario covers these rows of the checklist: {bare:?}");
}

#[test]
fn each_family_says_what_a_wrong_lock_does() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/suite");
    let families: Vec<PathBuf> =
        suite.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(families.len() >= 10);
    for family in families {
        let readme = std::fs::read_to_string(family.join("README.md")).unwrap();
        let name = family.file_name().unwrap().to_str().unwrap();
        assert!(readme.starts_with(&format!("# {name}\n")), "{readme}");
        assert!(readme.to_lowercase().contains("a wrong lock"), "{name}");
    }
}

#[test]
fn scenarios_are_selected_by_name_family_glob_tag_and_path() {
    let cwd = tempfile::tempdir().unwrap();
    let select = |word: &str| library::select_scenarios(&[word.to_owned()], cwd.path());
    let count = |word: &str| select(word).unwrap().len();
    assert_eq!(count("disk-full/heartbeat-enospc"), 1);
    assert!(count("disk-full") > 1);
    assert_eq!(count("disk-*/*"), count("disk-full"));
    assert!(count("tag:smoke") > 5);
    assert_eq!(library::select_scenarios(&[], cwd.path()).unwrap().len(), count("*/*"));
    let twice = ["disk-full", "disk-full/heartbeat-enospc"].map(str::to_owned);
    assert_eq!(library::select_scenarios(&twice, cwd.path()).unwrap().len(), count("disk-full"));

    std::fs::create_dir(cwd.path().join("mine")).unwrap();
    std::fs::write(cwd.path().join("mine/own.toml"), "format = 1\ntitle = \"t\"").unwrap();
    let own = select("mine/own.toml").unwrap();
    assert_eq!((own.len(), own[0].name.as_str()), (1, "mine/own"));
    std::fs::write(cwd.path().join("latin.toml"), b"format = 1 # \xe9").unwrap();
    assert!(matches!(select("latin.toml"), Err(LibraryError::NotText { at: 14, .. })));
    std::fs::write(cwd.path().join("long.toml"), vec![b'\n'; FILE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(select("long.toml"), Err(LibraryError::TooLong { .. })));
    std::fs::create_dir(cwd.path().join("folder.toml")).unwrap();
    assert!(matches!(select("folder.toml"), Err(LibraryError::Read { .. })));
    assert!(matches!(select("gone.toml"), Err(LibraryError::Read { .. })));

    for word in ["disk-fill", "tag:smok", "disk-full/heartbeat-enosp", "nothing/*", "a[", ""] {
        assert!(matches!(select(word), Err(LibraryError::Unknown { .. })), "{word}");
    }
    insta::assert_snapshot!(select("disk-fill").unwrap_err(), @r"
    unknown scenario `disk-fill`
    (hint: did you mean `disk-full`?)
    ");
    insta::assert_snapshot!(select("tag:smok").unwrap_err(), @r"
    unknown scenario `tag:smok`
    (hint: did you mean `tag:smoke`?)
    ");
}

#[test]
fn a_subject_is_a_folder_or_near_or_embedded() {
    let cwd = tempfile::tempdir().unwrap();
    let select = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        library::select_subjects(&words, cwd.path())
    };
    for folder in ["scenarios/subjects/sample", "sample", "deep/er"] {
        std::fs::create_dir_all(cwd.path().join(folder)).unwrap();
        std::fs::write(cwd.path().join(folder).join("subject.toml"), subject_text()).unwrap();
    }
    let folder = |word: &str| match select(&[word]).unwrap().remove(0).files {
        SubjectFiles::Folder(folder) => folder,
        SubjectFiles::Embedded(_) => panic!("{word} is embedded"),
    };
    assert_eq!(folder("sample"), cwd.path().join("scenarios/subjects/sample"));
    assert_eq!(folder("deep/er@slow"), cwd.path().join("deep/er"));
    assert_eq!(folder("./sample"), cwd.path().join("./sample"));
    std::fs::remove_dir_all(cwd.path().join("scenarios")).unwrap();
    assert_eq!(folder("sample"), cwd.path().join("sample"));

    let merged = select(&["sample", "sample@slow", "sample"]).unwrap();
    assert_eq!(
        (merged.len(), &merged[0].variants[..]),
        (1, &["default", "slow"].map(str::to_owned)[..])
    );
    insta::assert_snapshot!(select(&["sample@slwo"]).unwrap_err(), @r"
    unknown variant `slwo`
    (hint: did you mean `slow`?)
    ");
    assert!(matches!(select(&["deep/none"]), Err(LibraryError::Read { .. })));
    for word in ["nothing-like-it", "", "@"] {
        assert!(matches!(select(&[word]), Err(LibraryError::Unknown { .. })), "{word}");
    }
}

#[test]
fn a_subject_with_planted_bugs_means_all_of_them() {
    let cwd = tempfile::tempdir().unwrap();
    std::fs::create_dir(cwd.path().join("zoo")).unwrap();
    let bug = "planted = { class = \"B1\", bug = \"b\", seen = \"s\" }";
    let text = subject_text().replace("[variant.slow]\n", &format!("[variant.slow]\n{bug}\n"));
    assert!(text.contains(bug));
    let text = text.replace("\"sample\"", "\"zoo\"");
    std::fs::write(cwd.path().join("zoo/subject.toml"), text).unwrap();
    let choose = |word: &str| {
        library::select_subjects(&[word.to_owned()], cwd.path()).unwrap().remove(0).variants
    };
    assert_eq!(choose("zoo"), ["slow"]);
    assert_eq!(choose("zoo@default"), ["default"]);
}

#[test]
fn a_planted_bug_goes_on_from_another_variant_of_its_subject() {
    let with = |base: &str| {
        let bug =
            format!("planted = {{ class = \"B1\", bug = \"b\", seen = \"s\", base = \"{base}\" }}");
        let text = subject_text().replace("[variant.slow]\n", &format!("[variant.slow]\n{bug}\n"));
        parse_subject("sample/subject.toml", &text)
    };
    assert!(with("default").is_ok());
    for wrong in ["slow", "sloww"] {
        assert!(with(wrong).unwrap_err().render(false).contains("is no other variant"));
    }
}

/// Goal: a canary is a scenario of the suite, and every planted bug has scenarios of its class.
#[test]
fn every_planted_bug_has_scenarios_and_every_canary_is_one() {
    let suite = library::suite().unwrap();
    let mut canaries = 0;
    for (subject, _) in library::subjects().unwrap() {
        for (name, variant) in &subject.variants {
            let Some(planted) = &variant.planted else { continue };
            let is_meant = |one: &&Scenario| one.tags.contains(&planted.class);
            assert!(suite.iter().any(|one| is_meant(&one)), "no scenario is for {name}");
            if let Some(canary) = &planted.canary {
                assert!(suite.iter().any(|one| one.name == canary.scenario), "{}", canary.scenario);
                canaries += 1;
            }
        }
    }
    assert!(canaries >= 10, "{canaries}");
}

/// Goal: a finding that the checks can make can be recorded as a gap, by the same word.
#[test]
fn every_finding_kind_of_a_gap_is_one_of_the_checks() {
    for word in subject_file::FINDINGS {
        let kind: crate::check::Kind = serde_json::from_value((*word).into()).unwrap();
        assert_eq!(serde_json::to_value(kind).unwrap(), *word);
    }
    // The last one of the enum: a kind that is added must be added to the words as well.
    assert_eq!(crate::check::Kind::ZombieRefresh as usize + 1, subject_file::FINDINGS.len());
}

#[test]
fn lock_and_beat_must_fit_each_other() {
    let all = parse_subject("sample/subject.toml", SUBJECT).unwrap_err();
    assert_eq!(all.list().len(), 1, "{all}");
    assert!(all.list()[0].message.contains("`beat-every` without a `heartbeat`"));
    let text = subject_text().replace("beat-every      = \"5s\"", "");
    let all = parse_subject("sample/subject.toml", &text).unwrap_err();
    assert!(all.list()[0].message.contains("without `beat-every`"), "{all}");
    let text = subject_text().replace("resource.lock\"\n", "resource*\"\n");
    let all = parse_subject("sample/subject.toml", &text).unwrap_err();
    assert!(all.list()[0].message.contains("`name` is missing"), "{all}");
}

proptest! {
    /// Random text, of which some looks like TOML.
    #[test]
    fn no_text_panics(text in "(\\PC|[\\[\\]{}=\".,\n\r\t #])*") {
        let refused = [parse_scenario("a/b.toml", &text).err(), parse_subject("a", &text).err()];
        for mistakes in refused.into_iter().flatten() {
            prop_assert!(!mistakes.list().is_empty());
            prop_assert!(!mistakes.render(true).is_empty());
        }
    }

    /// A right file with some bytes removed or put in: right, or refused with a place in it.
    #[test]
    fn no_mutation_of_a_right_file_panics(
        of_subject: bool,
        cuts in prop::collection::vec((0usize..2000, 0usize..12, "\\PC{0,4}"), 1..4),
    ) {
        let mut text = if of_subject { subject_text() } else { SCENARIO.to_owned() };
        for (at, length, put) in cuts {
            let from = text.floor_char_boundary(at.min(text.len()));
            let to = text.ceil_char_boundary((from + length).min(text.len()));
            text.replace_range(from..to, &put);
        }
        let result = if of_subject {
            parse_subject("a", &text).err()
        } else {
            parse_scenario("a", &text).err()
        };
        for mistake in result.iter().flat_map(Mistakes::list) {
            prop_assert!(mistake.span.start <= text.len(), "{:?}", mistake);
            prop_assert!(mistake.line >= 1);
        }
        prop_assert!(result.is_none_or(|mistakes| !mistakes.render(false).is_empty()));
    }

    /// What a small language takes apart never panics either.
    #[test]
    fn no_word_panics(text in "(any|holder|start|fault|[0-9.+ -]|beat|stale|\"|\\PC){0,8}") {
        let _ = words::moment(&text);
        let _ = words::length(&text);
        let _ = words::size(&text);
        let _ = words::times(&text);
        let _ = words::target(&text);
        let _ = words::signed_length(&text);
        let _ = event::deed(&text);
    }
}
