//! Trials made by hand, for the tests and benches of engines and checks: they need a plan that
//! says exactly what happens, rather than one resolved from a scenario and a subject.
//!
//! Everything starts from [`trial`], which has nobody in it and in which nothing goes wrong; a
//! test then says only what it is about.

use std::collections::BTreeMap;

use crate::fault::{Effect, Ops, Rule, Target, Times};
use crate::moment::{Anchor, Moment, Sign};
use crate::op::OpKind;
use crate::plan::{
    Act, Bounds, Claims, Deed, Exclusion, Expect, ExpectExclusion, LockFiles, Part, Plan, Timing,
    Trial, World,
};
use crate::role::{Role, Who};
use crate::time::Nanos;

/// The role that most trials are about.
pub const HOLDER: Role = Role::Holder;
/// The first that comes after it.
pub const CONTENDER: Role = Role::Contender(1);

/// What [`shell`] puts before a script: `say` writes one line to the witness, in one write.
const PRELUDE: &str = r#"say() { echo "$*" >> "$DEADBEAT_WITNESS"; }; cd "$DEADBEAT_DIR"; "#;

/// A trial without roles, faults and events: a lock that is stale after 1 s and beats each 300 ms,
/// at most 20 s, and nothing claimed or expected beyond strict exclusion.
#[must_use]
pub fn trial(scenario: &str) -> Trial {
    let (stale, beat) = (Nanos::from_ms(1000), Nanos::from_ms(300));
    Trial {
        scenario: scenario.to_owned(),
        subject: "handmade@default".to_owned(),
        plan: Plan {
            seed: 0,
            timing: Timing {
                stale: Some(stale),
                beat: Some(beat),
                stale_unit: stale,
                beat_unit: beat,
                tick: Nanos::from_ms(20),
            },
            files: LockFiles {
                name: "resource.lock".to_owned(),
                lock: vec!["resource.lock".to_owned()],
                heartbeat: vec!["resource.lock/beat".to_owned()],
            },
            cast: Vec::new(),
            world: World::default(),
            faults: Vec::new(),
            events: Vec::new(),
            bounds: Bounds {
                wall: Nanos::from_ms(20_000),
                events: 100_000,
                output: 1 << 20,
                processes: 200,
            },
        },
        claims: Claims {
            exclusion: Exclusion::Strict,
            on_failure: Vec::new(),
            dead_owner_takeover: None,
            warns: Vec::new(),
        },
        expect: Expect {
            exclusion: ExpectExclusion::Held,
            holder: Vec::new(),
            warning: Vec::new(),
            takeover: None,
        },
        gaps: Vec::new(),
        warnings: Vec::new(),
    }
}

/// One role's process: it holds for 100 ms and tries for 1 s, if it reads its environment.
#[must_use]
pub fn part(role: Role, argv: &[&str], starts: Moment) -> Part {
    Part {
        role,
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        starts,
        hold: Nanos::from_ms(100),
        patience: Nanos::from_ms(1000),
        acquires: 1,
        stall: None,
        again: None,
    }
}

/// A role that runs a shell script in `{dir}`; `say WORD…` in it writes a line to the witness.
#[must_use]
pub fn shell(role: Role, script: &str, starts: Moment) -> Part {
    part(role, &["/bin/sh", "-c", &format!("{PRELUDE}{script}")], starts)
}

/// A fault, number 1, from the start to the end of the run, on files below `{dir}` that `glob`
/// means. Marked as synthetic, so that it warns nobody.
#[must_use]
pub fn fault(who: Who, glob: &str, kinds: &[OpKind], effect: Effect, times: Times) -> Rule {
    Rule {
        number: 1,
        who,
        on: Target::Glob(glob.to_owned()),
        ops: Ops { refresh: false, kinds: kinds.to_vec() },
        effect,
        from: Moment::START,
        until: None,
        times,
        synthetic: true,
    }
}

/// An event of the harness.
#[must_use]
pub fn event(number: u32, at: Moment, what: Deed) -> Act {
    Act { number, at, what, text: "made by hand".to_owned() }
}

/// The moment at which a role is first seen doing something.
#[must_use]
pub fn at(role: Role, sign: Sign) -> Moment {
    Moment { anchor: Anchor::Role(Who::One(role), sign), offset: Nanos::ZERO }
}

/// So many milliseconds after a moment.
#[must_use]
pub fn later(moment: Moment, ms: u64) -> Moment {
    Moment { offset: moment.offset + Nanos::from_ms(ms), ..moment }
}
