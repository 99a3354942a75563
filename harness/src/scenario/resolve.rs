//! A scenario and a subject become a trial: lengths, roles and globs are made definite.
//!
//! # Choices
//! - "1 stale" is `stale-after`, else `unit`; "1 beat" is `beat-every`, else a third of a stale.
//! - What a scenario leaves open: hold 6 stale for the holder and 1 for a contender, patience the
//!   subject's `acquire-timeout` or 12 stale, one acquisition, contenders start when the holder
//!   has entered.
//! - A scenario about a beat is skipped for a subject without one, and one that needs what the
//!   subject lacks as well. Lengths alone never skip.
//! - For a dead owner the later of claim and scenario bounds the takeover; where nobody promises
//!   to steal, no takeover is asked for. A lock that was released has the scenario's bound only.

use std::collections::BTreeMap;

use super::feature::Feature;
use super::library::scenario_glob;
use super::spec::{
    CastPart, DeedSpec, EffectSpec, EventSpec, FaultSpec, Launch, Length, Scenario, Subject,
    TimingSpec, Variant, When,
};
use crate::fault::{Effect, HangEnd, Rule, Target, realism};
use crate::moment::{Anchor, Moment, Sign};
use crate::plan::{Act, Bounds, Deed, Expect, Part, Plan, Takeover, Timing, Trial, World};
use crate::role::{Role, Who};
use crate::time::Nanos;

/// "1 stale" of a subject that says nothing.
const UNIT_DEFAULT: Nanos = Nanos::from_ms(2000);
/// The shortest time between two protected writes.
const TICK_MIN: Nanos = Nanos::from_ms(20);
/// How long a contender stays inside where the scenario does not say.
const CONTENDER_HOLD: Length = Length::stales(1.0);
/// How long the holder stays inside where the scenario does not say.
const HOLDER_HOLD: Length = Length::stales(6.0);
/// How long a role tries where neither scenario nor subject says.
const PATIENCE: Length = Length::stales(12.0);
/// Real time on top of everything that a run waits for: starting programs on a loaded machine.
const WALL_SPARE: Nanos = Nanos::from_ms(30_000);
/// Events that a run's history may hold.
const EVENTS_MAX: u64 = 200_000;
/// Bytes of output that are kept for each role.
const OUTPUT_MAX: u64 = 1 << 20;
/// Processes and threads of one run.
const PROCESSES_MAX: u64 = 512;
/// The user that roles run as when deadbeat is root.
const USER_DEFAULT: u32 = 65534;

/// What a scenario comes to for one variant of a subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// It can be run.
    Trial(Box<Trial>),
    /// The subject lacks what it is about; this is the reason.
    Skipped(String),
}

/// Resolves `scenario` for `variant` of `subject`. The trial's seed is 0.
#[must_use]
pub fn resolve(scenario: &Scenario, subject: &Subject, variant: &str) -> Resolution {
    match trial(scenario, subject, variant) {
        Ok(trial) => Resolution::Trial(Box::new(trial)),
        Err(reason) => Resolution::Skipped(reason),
    }
}

fn trial(scenario: &Scenario, subject: &Subject, name: &str) -> Result<Trial, String> {
    let variant = find(subject, name)?;
    needs_a_beat(scenario, subject, variant)?;
    if let Some(lacked) = needs(scenario).find(|need| variant.lacks.contains(need)) {
        return Err(lacked.is_lacked_by(&subject.name));
    }
    let timing = timing_of(&variant.timing);
    let mut warnings = fallbacks(subject, variant, &timing);
    let faults: Vec<Rule> = scenario
        .faults
        .iter()
        .zip(1..)
        .map(|(fault, number)| rule(fault, number, &timing))
        .collect();
    warnings.extend(faults.iter().filter_map(realism::warning));
    let events: Vec<Act> = scenario
        .events
        .iter()
        .zip(1..)
        .map(|(event, number)| act(event, number, &timing))
        .collect();
    let expect = expect(scenario, variant, &timing);
    let cast = cast(scenario, subject, variant, &timing)?;
    let wall = wall(scenario, &cast, &expect, &timing);
    Ok(Trial {
        scenario: scenario.name.clone(),
        subject: format!("{}@{name}", subject.name),
        plan: Plan {
            seed: 0,
            timing,
            files: variant.files.clone(),
            world: world(scenario, cast.len(), &timing),
            cast,
            faults,
            events,
            bounds: Bounds {
                wall,
                events: EVENTS_MAX,
                output: OUTPUT_MAX,
                processes: PROCESSES_MAX,
            },
        },
        claims: variant.claims.clone(),
        expect,
        gaps: variant
            .gaps
            .iter()
            .filter(|gap| {
                let glob = scenario_glob(&gap.scenario);
                glob.expect("the parser compiled it").is_match(&scenario.name)
            })
            .cloned()
            .collect(),
        warnings,
    })
}

fn find<'s>(subject: &'s Subject, name: &str) -> Result<&'s Variant, String> {
    let found = subject.variants.get(name);
    found.ok_or_else(|| format!("{} has no variant `{name}`", subject.name))
}

/// What a scenario says that it needs, and what its cast cannot be played without.
fn needs(scenario: &Scenario) -> impl Iterator<Item = Feature> {
    let mut cast = std::iter::once(&scenario.holder).chain(&scenario.contenders);
    let again = cast.any(|part| part.again.is_some()).then_some(Feature::Again);
    scenario.needs.iter().copied().chain(again)
}

/// Whether the scenario is about a beat that the subject does not have.
fn needs_a_beat(scenario: &Scenario, subject: &Subject, variant: &Variant) -> Result<(), String> {
    if !variant.files.heartbeat.is_empty() {
        return Ok(());
    }
    let mut faults = scenario.faults.iter().zip(1..);
    let fault = faults.find(|(fault, _)| fault.ops.refresh || fault.on == Target::Heartbeat);
    if let Some((_, number)) = fault {
        return Err(format!("{} has no beat, and fault {number} is about one", subject.name));
    }
    let on_beat = |deed: &DeedSpec| match deed {
        DeedSpec::Touch(path, _) => *path == Target::Heartbeat,
        DeedSpec::Plain(
            Deed::Remove(path)
            | Deed::Rename(path, _)
            | Deed::Chmod(_, path)
            | Deed::Chown(_, path)
            | Deed::Immutable(path)
            | Deed::Truncate(path, _)
            | Deed::Corrupt(path, _),
        ) => *path == Target::Heartbeat,
        _ => false,
    };
    let mut events = scenario.events.iter().zip(1..);
    match events.find(|(event, _)| on_beat(&event.what)) {
        Some((_, number)) => {
            Err(format!("{} has no beat, and event {number} is about one", subject.name))
        }
        None => Ok(()),
    }
}

/// The lengths of a subject, with what they fall back to.
fn timing_of(timing: &TimingSpec) -> Timing {
    // A lock that beats but never grows stale: a stale age shorter than three beats would make
    // every "longer than stale" of a scenario shorter than the beats it is about.
    let three_beats = timing.beat.map(|beat| beat.scaled(3.0)).unwrap_or_default();
    let unit = timing.unit.unwrap_or(UNIT_DEFAULT.max(three_beats));
    let stale_unit = timing.stale.unwrap_or(unit);
    let beat_unit = timing.beat.unwrap_or(stale_unit.scaled(1.0 / 3.0));
    Timing {
        stale: timing.stale,
        beat: timing.beat,
        stale_unit,
        beat_unit,
        tick: beat_unit.scaled(0.1).max(TICK_MIN),
    }
}

fn fallbacks(subject: &Subject, variant: &Variant, timing: &Timing) -> Vec<String> {
    let mut warnings = Vec::new();
    if timing.stale.is_none() {
        let unit = timing.stale_unit;
        warnings.push(format!("{} has no stale age: \"1 stale\" is {unit}", subject.name));
    }
    if variant.timing.stale.zip(variant.timing.beat).is_some_and(|(stale, beat)| beat >= stale) {
        warnings.push(format!("{} beats no sooner than it grows stale", subject.name));
    }
    warnings
}

fn moment(when: When, timing: &Timing) -> Moment {
    Moment { anchor: when.anchor, offset: when.offset.resolve(timing) }
}

pub(super) fn rule(fault: &FaultSpec, number: u32, timing: &Timing) -> Rule {
    let effect = match &fault.effect {
        EffectSpec::Plain(effect) => effect.clone(),
        EffectSpec::HangUntil(when) => Effect::Hang(HangEnd::Until(moment(*when, timing))),
        EffectSpec::HangFor(length) => Effect::Hang(HangEnd::After(length.resolve(timing))),
        EffectSpec::Delay(length) => Effect::Delay(length.resolve(timing)),
        EffectSpec::Pause(length) => Effect::Pause(length.resolve(timing)),
    };
    Rule {
        number,
        who: fault.who,
        on: fault.on.clone(),
        ops: fault.ops.clone(),
        effect,
        from: moment(fault.from, timing),
        until: fault.until.map(|until| moment(until, timing)),
        times: fault.times,
        synthetic: fault.synthetic,
    }
}

fn act(event: &EventSpec, number: u32, timing: &Timing) -> Act {
    let what = match &event.what {
        DeedSpec::Plain(deed) => deed.clone(),
        DeedSpec::Touch(path, back) => Deed::Touch(path.clone(), back.resolve(timing)),
        DeedSpec::Stall(who, length) => Deed::Stall(*who, length.resolve(timing)),
        DeedSpec::StepClock(who, back, by) => Deed::StepClock(*who, signed(*back, *by, timing)),
        DeedSpec::Suspend(length) => Deed::Suspend(length.resolve(timing)),
    };
    Act { number, at: moment(event.at, timing), what, text: event.text.clone() }
}

fn signed(back: bool, by: Length, timing: &Timing) -> i64 {
    let by = i64::try_from(by.resolve(timing).0).unwrap_or(i64::MAX);
    if back { -by } else { by }
}

/// Every role by itself. A role of another variant brings its own command and lengths; one that is
/// set to other lengths is told those.
fn cast(
    scenario: &Scenario,
    subject: &Subject,
    variant: &Variant,
    timing: &Timing,
) -> Result<Vec<Part>, String> {
    let contenders = scenario.contenders.iter().zip(1..);
    let contenders = contenders.map(|(part, number)| (Role::Contender(number), part));
    let mut cast = Vec::new();
    for (role, part) in std::iter::once((Role::Holder, &scenario.holder)).chain(contenders) {
        let own = match &part.variant {
            Some(name) => find(subject, name)?,
            None => variant,
        };
        let launch = if role == Role::Holder { &own.holder } else { &own.contender };
        let mut launch = launch.clone();
        let lengths = timing_of(&own.timing);
        // A subject that has no such age is not given one.
        let set = |own: Option<Nanos>, to: Option<Length>| {
            own.map(|own| to.map_or(own, |length| length.resolve(timing)))
        };
        let lengths = Timing {
            stale: set(lengths.stale, part.stale),
            beat: set(lengths.beat, part.beat),
            ..lengths
        };
        if part.variant.is_some() || part.stale.is_some() || part.beat.is_some() {
            settle(&mut launch, &lengths);
        }
        cast.push(one_part(role, part, launch, own, timing));
    }
    Ok(cast)
}

fn one_part(
    role: Role,
    part: &CastPart,
    launch: Launch,
    variant: &Variant,
    timing: &Timing,
) -> Part {
    let (starts, hold) = match role {
        Role::Holder => (Anchor::Start, HOLDER_HOLD),
        Role::Contender(_) => (Anchor::Role(Who::One(Role::Holder), Sign::Entered), CONTENDER_HOLD),
    };
    let starts = part.starts.unwrap_or(When { anchor: starts, offset: Length::ZERO });
    let patience = part.patience.map(|patience| patience.resolve(timing));
    let own = || variant.timing.acquire_timeout.unwrap_or(PATIENCE.resolve(timing));
    Part {
        role,
        argv: launch.argv,
        env: launch.env,
        starts: moment(starts, timing),
        hold: part.hold.unwrap_or(hold).resolve(timing),
        patience: patience.unwrap_or_else(own),
        acquires: part.acquires.unwrap_or(1),
        stall: part.stall.map(|stall| stall.resolve(timing)),
        again: part.again.map(|again| again.resolve(timing)),
    }
}

/// Gives a role that has other lengths than the subject under test its own, in the place of those
/// that the engine would fill in and tell it.
fn settle(launch: &mut Launch, timing: &Timing) {
    for (name, length) in [("stale", timing.stale), ("beat", timing.beat)] {
        let ms = length.map_or(String::new(), |length| length.as_ms().to_string());
        let placeholder = format!("{{{name}-ms}}");
        let fill = |text: &mut String| *text = text.replace(&placeholder, &ms);
        launch.argv.iter_mut().for_each(fill);
        launch.env.values_mut().for_each(fill);
        if length.is_some() {
            let told = format!("DEADBEAT_{}_MS", name.to_uppercase());
            launch.env.entry(told).or_insert(ms);
        }
    }
}

fn world(scenario: &Scenario, cast: usize, timing: &Timing) -> World {
    let spec = &scenario.world;
    let contenders = u8::try_from(cast.saturating_sub(1)).unwrap_or(u8::MAX);
    let roles: Vec<Role> =
        std::iter::once(Role::Holder).chain((1..=contenders).map(Role::Contender)).collect();
    let clock = spec.clock.iter().map(|(who, back, by)| (*who, signed(*back, *by, timing)));
    World {
        space: spec.space,
        statfs: spec.statfs,
        user: Some(spec.user.unwrap_or(USER_DEFAULT)),
        users: by_role(&roles, spec.users.clone()),
        pids: spec.pids,
        separate_hostname: spec.separate_hostname,
        clock: by_role(&roles, clock.collect()),
        files: spec.files,
    }
}

/// What was said of groups of roles, role by role.
fn by_role<T: Copy>(roles: &[Role], mut said: Vec<(Who, T)>) -> BTreeMap<Role, T> {
    // `any` first, then `contender`, then single roles: the narrower one wins.
    said.sort_by_key(|(who, _)| match who {
        Who::Any => 0,
        Who::Contenders => 1,
        Who::One(_) => 2,
    });
    let mut each = BTreeMap::new();
    for (who, value) in said {
        each.extend(roles.iter().filter(|role| who.means(**role)).map(|role| (*role, value)));
    }
    each
}

fn expect(scenario: &Scenario, variant: &Variant, timing: &Timing) -> Expect {
    let spec = &scenario.expect;
    let takeover = spec.takeover.and_then(|takeover| {
        let within = takeover.within.resolve(timing);
        let within = if is_about_a_death(scenario, takeover.after.anchor) {
            within.max(variant.claims.dead_owner_takeover?)
        } else {
            within
        };
        Some(Takeover { after: moment(takeover.after, timing), within })
    });
    Expect {
        exclusion: spec.exclusion,
        holder: spec.holder.clone(),
        warning: spec.warning.clone(),
        takeover,
    }
}

/// Whether the lock is free because its owner died, rather than because it was released.
fn is_about_a_death(scenario: &Scenario, anchor: Anchor) -> bool {
    let number = |number: u32| usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    match anchor {
        Anchor::Role(_, sign) => sign == Sign::Dead,
        Anchor::Done(event) => number(event)
            .and_then(|index| scenario.events.get(index))
            .is_some_and(|event| matches!(event.what, DeedSpec::Plain(Deed::Kill(..)))),
        Anchor::Fired(fault) => number(fault)
            .and_then(|index| scenario.faults.get(index))
            .is_some_and(|fault| fault.effect == EffectSpec::Plain(Effect::Kill)),
        Anchor::Start => false,
    }
}

/// More real time than everything that the run waits for, one after the other.
fn wall(scenario: &Scenario, cast: &[Part], expect: &Expect, timing: &Timing) -> Nanos {
    let parts = cast.iter().map(|part| {
        let once = part.hold + part.patience + part.stall.unwrap_or_default();
        once.scaled(f64::from(part.acquires)) + part.starts.offset
    });
    let faults = scenario.faults.iter().map(|fault| {
        let own = match fault.effect {
            EffectSpec::HangUntil(when) => when.offset,
            EffectSpec::HangFor(length) | EffectSpec::Delay(length) | EffectSpec::Pause(length) => {
                length
            }
            EffectSpec::Plain(_) => Length::ZERO,
        };
        let until = fault.until.map_or(Length::ZERO, |until| until.offset);
        own.plus(fault.from.offset).plus(until).resolve(timing)
    });
    let events = scenario.events.iter().map(|event| {
        let own = match event.what {
            DeedSpec::Stall(_, length) | DeedSpec::Suspend(length) => length,
            _ => Length::ZERO,
        };
        own.plus(event.at.offset).resolve(timing)
    });
    let takeover = expect.takeover.map_or(Nanos::ZERO, |one| one.within + one.after.offset);
    parts.chain(faults).chain(events).fold(WALL_SPARE + takeover, |sum, length| sum + length)
}
