//! Promise 8: what an engine cannot do it refuses before the run, with the reason. So whatever it
//! does not refuse it is asked to do, and the processes must see it done.

use std::path::Path;

use deadbeat::fault::Target;
use deadbeat::handmade::{CONTENDER, HOLDER, at, event, shell};
use deadbeat::history::History;
use deadbeat::moment::{Moment, Sign};
use deadbeat::plan::{Deed, Pids, Space, Trial};
use deadbeat::role::{Role, Who};
use deadbeat::time::Nanos;

use crate::promises::{Bench, Kept, ensure, said, trial};

const HOUR: i64 = 3_600_000_000_000;

/// Something that a plan can ask for, and what its roles say if it was done.
struct Ability {
    name: &'static str,
    trial: Trial,
    is_done: fn(&[String], &[String]) -> bool,
}

/// Each ability is refused with a reason, or is there.
pub(crate) fn are_true(bench: &Bench<'_>) -> Kept {
    let mut wrong = Vec::new();
    for ability in abilities() {
        if let Some(why) = bench.engine.refuses(&ability.trial, None) {
            if why.trim().is_empty() {
                wrong.push(format!("{}: refused without a reason", ability.name));
            }
            continue;
        }
        let history = bench.run(&ability.trial).unwrap_or_else(|why| {
            wrong.push(format!("{}: {why}", ability.name));
            History::default()
        });
        let (holder, contender) = (words(&history, HOLDER), words(&history, CONTENDER));
        if !(ability.is_done)(&holder, &contender) {
            wrong.push(format!("{}: accepted, but {holder:?} {contender:?}", ability.name));
        }
    }
    // A full disk that others share would be theirs, too.
    let mut full = trial("true");
    full.plan.events = vec![event(1, Moment::START, Deed::FillBlocks(0))];
    if bench.engine.refuses(&full, Some(Path::new("/"))).is_none() {
        wrong.push("filling the file system of --scratch: accepted".to_owned());
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// What a role said but for `entered`.
fn words(history: &History, role: Role) -> Vec<String> {
    said(history, role).into_iter().filter(|word| word != "entered").collect()
}

fn number(words: &[String], index: usize) -> i64 {
    words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A holder and a contender that comes once the holder has entered.
fn pair(name: &'static str, holder: &str, contender: &str) -> Ability {
    let mut trial = trial(holder);
    trial.plan.cast.push(shell(CONTENDER, contender, at(HOLDER, Sign::Entered)));
    Ability { name, trial, is_done: |_, _| false }
}

fn single(name: &'static str, holder: &str) -> Ability {
    Ability { name, trial: trial(holder), is_done: |_, _| false }
}

fn abilities() -> Vec<Ability> {
    let mut all = clocks();
    all.extend(worlds());
    all.extend(files());
    all.extend(rights());
    all
}

fn clocks() -> Vec<Ability> {
    let now = "say failed $(date +%s)";
    let entered = at(HOLDER, Sign::Entered);
    let mut ahead = pair("[world] clock", &format!("{now}; say entered; sleep 1"), now);
    ahead.trial.plan.world.clock.insert(CONTENDER, HOUR);
    ahead.is_done =
        |holder, contender| (3590..3700).contains(&(number(contender, 0) - number(holder, 0)));
    let twice = format!("{now}; say entered; sleep 0.2; {now}");
    let mut step = single("step-clock", &twice);
    step.trial.plan.events = vec![event(1, entered, Deed::StepClock(Who::One(HOLDER), -HOUR))];
    step.is_done = |holder, _| (-3610..-3500).contains(&(number(holder, 1) - number(holder, 0)));
    let mut suspend = single("suspend", &twice);
    suspend.trial.plan.events = vec![event(1, entered, Deed::Suspend(Nanos::from_ms(3_600_000)))];
    // Longer than the bound of the others: the run's time goes on while nothing runs.
    suspend.trial.plan.bounds.wall = Nanos::from_ms(4_000_000);
    suspend.is_done = |holder, _| number(holder, 1) - number(holder, 0) >= 3600;
    vec![ahead, step, suspend]
}

fn worlds() -> Vec<Ability> {
    let own = |what: &str| format!("say entered; say failed \"$({what})\"; sleep 0.1");
    let pid = own("readlink /proc/self/ns/pid");
    let mut pids = pair("[world] pids = separate", &pid, &pid);
    pids.trial.plan.world.pids = Pids::Separate;
    let host = own("uname -n");
    let mut hosts = pair("[world] hostname = separate", &host, &host);
    hosts.trial.plan.world.separate_hostname = true;
    for each in [&mut pids, &mut hosts] {
        each.is_done =
            |holder, contender| !holder.is_empty() && !contender.is_empty() && holder != contender;
    }
    vec![pids, hosts]
}

fn files() -> Vec<Ability> {
    let mut coarse = single("mtime-granularity", "touch a; say failed $(stat -c %.9Y a)");
    coarse.trial.plan.world.files.mtime_granularity = Some(Nanos::from_ms(1000));
    coarse.is_done = |holder, _| holder.first().is_some_and(|time| time.ends_with(".000000000"));
    let link = ": > a; if ln a b 2>/dev/null; then say failed linked; else say failed refused; fi";
    let mut links = single("links = false", link);
    links.trial.plan.world.files.no_links = true;
    links.is_done = |holder, _| holder == ["refused"];
    let reader = "exec 3< a; say degraded; sleep 0.5; cat <&3 2>/dev/null || say failed stale";
    let remover = "until [ -e a ]; do sleep 0.01; done; sleep 0.2; rm a; say left";
    let mut stale = pair("estale", &format!("echo x > a; say entered; {reader}"), remover);
    stale.trial.plan.world.files.estale = true;
    stale.is_done = |holder, _| holder.last().is_some_and(|word| word == "stale");
    let writer = ": > a; say entered; sleep 0.5; echo x > a; sleep 1";
    let looker = "stat a > /dev/null; sleep 1; say failed $(stat -c %s a)";
    let mut cache = pair("attr-cache", writer, looker);
    cache.trial.plan.world.files.attr_cache = Some(Nanos::from_ms(3000));
    cache.is_done = |_, contender| contender == ["0"];
    let mut shown = single("[world] statfs", "say failed $(stat -f -c %a .)");
    shown.trial.plan.world.statfs = Some(Space { free: Some(0), inodes: None });
    shown.is_done = |holder, _| holder == ["0"];
    let big = "dd if=/dev/zero of=a bs=1024 count=1024 2>/dev/null || { rm a; say failed full; }";
    let mut space = single("[world] space", big);
    space.trial.plan.world.space = Some(Space { free: Some(64 << 10), inodes: None });
    space.is_done = |holder, _| holder == ["full"];
    vec![coarse, links, stale, cache, shown, space]
}

fn rights() -> Vec<Ability> {
    let entered = at(HOLDER, Sign::Entered);
    let mut user = single("[world] user", "say failed $(id -u)");
    user.trial.plan.world.user = Some(1234);
    user.is_done = |holder, _| holder == ["1234"];
    let mut owner = single("chown", ": > a; say entered; sleep 0.1; say failed $(stat -c %u a)");
    let file = Target::Glob("a".to_owned());
    owner.trial.plan.events = vec![event(1, entered, Deed::Chown(4321, file.clone()))];
    owner.is_done = |holder, _| holder == ["4321"];
    let fixed = ": > a; say entered; sleep 0.1; (echo x > a) 2>/dev/null || say failed refused";
    let mut immutable = single("immutable", fixed);
    immutable.trial.plan.events = vec![event(1, entered, Deed::Immutable(file))];
    immutable.is_done = |holder, _| holder == ["refused"];
    // Roles run as this user when deadbeat is root: for others the key means nothing.
    let user = rustix::process::geteuid().is_root().then_some(user);
    user.into_iter().chain([owner, immutable]).collect()
}
