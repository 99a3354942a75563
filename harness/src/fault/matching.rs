//! From an operation to a ruling: which fault hits it, if any.
//!
//! Owns the counting, not the time: the engine says which rules are active
//! ([`Matcher::activate`], [`Matcher::deactivate`]), this file says what they do.
//!
//! # Which rule wins
//! An operation counts for *every* active rule that matches it. Of the rules whose `times` asks
//! for the operation, the first in file order acts; the others have counted it and let it pass.
//!
//! # What is counted
//! For each rule, role and file a number of its own, from 1, never per thread. The file is the
//! matching path; where a file has several matching names, the first of them in byte order, so
//! that the spelling a process happens to use does not start a new count. A refresh by rename or
//! link counts for the heartbeat path that it makes.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{Effect, Rule, Target, Times};
use crate::op::{Op, OpKind};
use crate::plan::{LockFiles, Plan};
use crate::role::Role;

/// A glob of a plan or subject is malformed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed glob `{glob}`: {why}")]
pub struct BadGlob {
    /// Which.
    pub glob: String,
    /// What is wrong with it.
    pub why: String,
}

/// What hits an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The fault's number.
    pub fault: u32,
    /// What it does.
    pub effect: Effect,
}

/// Compiles globs in which `*` and `?` never cross a `/`.
///
/// # Errors
/// One of them is malformed.
pub fn compile<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<GlobSet, BadGlob> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let bad = |error: &globset::Error| BadGlob {
            glob: glob.to_owned(),
            why: error.kind().to_string(),
        };
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        set.add(built.map_err(|error| bad(&error))?);
    }
    set.build().map_err(|error| BadGlob { glob: String::new(), why: error.to_string() })
}

/// Which files are the lock's: paths relative to `{dir}`.
#[derive(Clone, Debug)]
pub struct Files {
    lock: GlobSet,
    heartbeat: GlobSet,
}

impl Files {
    /// Compiles the globs of a subject.
    ///
    /// # Errors
    /// One of them is malformed.
    pub fn new(files: &LockFiles) -> Result<Files, BadGlob> {
        Ok(Files {
            lock: compile(files.lock.iter().map(String::as_str))?,
            heartbeat: compile(files.heartbeat.iter().map(String::as_str))?,
        })
    }

    /// Whether a beat refreshes this file.
    #[must_use]
    pub fn is_heartbeat(&self, path: &str) -> bool {
        self.heartbeat.is_match(path)
    }

    /// Whether this file is the lock, or is below it.
    #[must_use]
    pub fn is_lock(&self, path: &str) -> bool {
        self.lock.is_match("") || ancestors(path).any(|part| self.lock.is_match(part))
    }

    /// Whether a fault or an event on `target` means this file. A glob is compiled at each call;
    /// [`Matcher`] keeps its own. A malformed glob means nothing.
    #[must_use]
    pub fn matches(&self, target: &Target, path: &str) -> bool {
        match target {
            Target::Heartbeat => self.is_heartbeat(path),
            Target::Lock => self.is_lock(path),
            Target::LockDir => true,
            Target::Glob(glob) => {
                compile([glob.as_str()]).is_ok_and(|compiled| compiled.is_match(path))
            }
        }
    }
}

/// `a`, `a/b`, `a/b/c` for `a/b/c`.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

/// One rule, and what it has counted.
#[derive(Clone, Debug)]
struct Counted {
    rule: Rule,
    glob: Option<GlobSet>,
    active: bool,
    seen: BTreeMap<(Role, String), u64>,
}

/// Rules on operations, and counts.
#[derive(Clone, Debug)]
pub struct Matcher {
    files: Files,
    rules: Vec<Counted>,
}

impl Matcher {
    /// A matcher for `plan` with no rule active yet.
    ///
    /// # Errors
    /// A glob is malformed.
    pub fn new(plan: &Plan) -> Result<Matcher, BadGlob> {
        let counted = |rule: &Rule| {
            let glob = match &rule.on {
                Target::Glob(glob) => Some(compile([glob.as_str()])?),
                Target::Heartbeat | Target::Lock | Target::LockDir => None,
            };
            Ok(Counted { rule: rule.clone(), glob, active: false, seen: BTreeMap::new() })
        };
        Ok(Matcher {
            files: Files::new(&plan.files)?,
            rules: plan.faults.iter().map(counted).collect::<Result<_, BadGlob>>()?,
        })
    }

    /// Which files are the lock's.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Whether fault `number` is active.
    #[must_use]
    pub fn is_active(&self, number: u32) -> bool {
        self.rules.iter().any(|one| one.rule.number == number && one.active)
    }

    /// Fault `number` acts from now on.
    pub fn activate(&mut self, number: u32) {
        self.switch(number, true);
    }

    /// Fault `number` acts no more.
    pub fn deactivate(&mut self, number: u32) {
        self.switch(number, false);
    }

    /// Ends every active fault. One that begins later still begins.
    pub fn heal(&mut self) {
        for one in &mut self.rules {
            one.active = false;
        }
    }

    fn switch(&mut self, number: u32, active: bool) {
        for one in &mut self.rules {
            if one.rule.number == number {
                one.active = active;
            }
        }
    }

    /// What hits `op`, made by a role that is inside its critical section or not. Counts it.
    pub fn rule_on(&mut self, op: &Op, inside: bool) -> Option<Hit> {
        let mut hit = None;
        for one in self.rules.iter_mut().filter(|one| one.active) {
            let Some(file) = one.file_hit(&self.files, op, inside) else { continue };
            let file = file.to_owned();
            let count = one.seen.entry((op.role, file)).or_insert(0);
            *count += 1;
            if hit.is_none() && one.rule.times.asks_for(*count) {
                hit = Some(Hit { fault: one.rule.number, effect: one.rule.effect.clone() });
            }
        }
        hit
    }
}

impl Counted {
    /// The file under which a matching operation is counted; `None`: it does not match.
    fn file_hit<'op>(&self, files: &Files, op: &'op Op, inside: bool) -> Option<&'op str> {
        if !self.rule.who.means(op.role) {
            return None;
        }
        if self.rule.ops.kinds.iter().any(|kind| op.is(*kind)) {
            // Creating a thread touches no file, so `on` cannot tell two of them apart.
            if op.kind == OpKind::Thread {
                return Some("");
            }
            let names = op.paths.iter().map(String::as_str);
            let named = names.filter(|path| self.is_on(files, path)).min();
            let hit = named.or_else(|| op.to.as_deref().filter(|path| self.is_on(files, path)));
            if hit.is_some() {
                return hit;
            }
        }
        if self.rule.ops.refresh && inside && op.can_refresh() {
            let refreshed = op.refreshed_paths().filter(|path| files.is_heartbeat(path));
            return refreshed.filter(|path| self.is_on(files, path)).min();
        }
        None
    }

    fn is_on(&self, files: &Files, path: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(path),
            None => files.matches(&self.rule.on, path),
        }
    }
}

impl Times {
    /// Whether the `count`-th matching operation (from 1) is hit.
    #[must_use]
    pub fn asks_for(self, count: u64) -> bool {
        match self {
            Times::All => true,
            Times::First(last) => count <= last,
            Times::Range(first, last) => (first..=last).contains(&count),
            Times::Every(step) => count.is_multiple_of(step),
            Times::Steps { first, last, step } => {
                count >= first
                    && last.is_none_or(|last| count <= last)
                    && (count - first).is_multiple_of(step)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::fault::Ops;
    use crate::moment::Moment;
    use crate::op::{Errno, OpId};
    use crate::role::Who;

    fn lock_files() -> LockFiles {
        LockFiles {
            name: "l".to_owned(),
            lock: vec!["l".to_owned(), "side-*".to_owned()],
            heartbeat: vec!["l/beat*".to_owned()],
        }
    }

    fn rule(number: u32, who: Who, on: Target, ops: Ops, times: Times) -> Rule {
        Rule {
            number,
            who,
            on,
            ops,
            effect: Effect::Error { errno: Errno(i32::try_from(number).unwrap()), apply: false },
            from: Moment::START,
            until: None,
            times,
            synthetic: false,
        }
    }

    fn kinds(kinds: &[OpKind]) -> Ops {
        Ops { refresh: false, kinds: kinds.to_vec() }
    }

    fn refresh() -> Ops {
        Ops { refresh: true, kinds: Vec::new() }
    }

    fn matcher(rules: Vec<Rule>) -> Matcher {
        let plan = plan(rules);
        let mut matcher = Matcher::new(&plan).unwrap();
        for rule in &plan.faults {
            matcher.activate(rule.number);
        }
        matcher
    }

    fn plan(faults: Vec<Rule>) -> Plan {
        use crate::plan::{Bounds, Timing, World};
        use crate::time::Nanos;
        let one = Nanos::from_ms(1);
        Plan {
            seed: 0,
            timing: Timing { stale: None, beat: None, stale_unit: one, beat_unit: one, tick: one },
            files: lock_files(),
            cast: Vec::new(),
            world: World::default(),
            faults,
            events: Vec::new(),
            bounds: Bounds { wall: one, events: 1, output: 1, processes: 1 },
        }
    }

    fn op(role: Role, kind: OpKind, paths: &[&str], to: Option<&str>) -> Op {
        Op {
            id: OpId(0),
            role,
            kind,
            truncates: false,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            to: to.map(str::to_owned),
            by_descriptor: false,
            unlinked: false,
            ino: None,
        }
    }

    fn fault(hit: Option<Hit>) -> u32 {
        hit.map_or(0, |hit| hit.fault)
    }

    #[rstest]
    #[case("l", true, false)]
    #[case("l/beat", true, true)]
    #[case("l/beat/deep", true, false)]
    #[case("l/deep/beat", true, false)]
    #[case("side-1", true, false)]
    #[case("side-1/x/y", true, false)]
    #[case("other/l", false, false)]
    #[case("lx", false, false)]
    #[case("", false, false)]
    fn the_lock_is_its_path_and_all_below_and_a_star_stays_in_its_folder(
        #[case] path: &str,
        #[case] lock: bool,
        #[case] heartbeat: bool,
    ) {
        let files = Files::new(&lock_files()).unwrap();
        assert_eq!((files.is_lock(path), files.is_heartbeat(path)), (lock, heartbeat));
        assert!(files.matches(&Target::LockDir, path));
        assert_eq!(files.matches(&Target::Lock, path), lock);
        assert_eq!(files.matches(&Target::Glob("*".to_owned()), path), !path.contains('/'));
    }

    #[test]
    fn a_malformed_glob_is_an_error_that_names_it() {
        let rule = rule(1, Who::Any, Target::Glob("a[".to_owned()), refresh(), Times::All);
        assert_eq!(Matcher::new(&plan(vec![rule])).unwrap_err().glob, "a[");
    }

    #[test]
    fn a_refresh_needs_a_holder_inside_and_a_heartbeat_path() {
        let mut matcher =
            matcher(vec![rule(1, Who::Any, Target::Heartbeat, refresh(), Times::All)]);
        let holder = Role::Holder;
        let beat = op(holder, OpKind::Utimes, &["l/beat"], None);
        assert_eq!(fault(matcher.rule_on(&beat, false)), 0);
        assert_eq!(fault(matcher.rule_on(&beat, true)), 1);
        assert_eq!(fault(matcher.rule_on(&op(holder, OpKind::Utimes, &["l/x"], None), true)), 0);
        assert_eq!(fault(matcher.rule_on(&op(holder, OpKind::Stat, &["l/beat"], None), true)), 0);
        let renamed = op(holder, OpKind::Rename, &["l/tmp"], Some("l/beat"));
        assert_eq!(fault(matcher.rule_on(&renamed, true)), 1);
        let away = op(holder, OpKind::Rename, &["l/beat"], Some("l/old"));
        assert_eq!(fault(matcher.rule_on(&away, true)), 0, "it refreshes nothing");
        let mut emptied = op(holder, OpKind::Open, &["l/beat"], None);
        emptied.truncates = true;
        assert_eq!(fault(matcher.rule_on(&emptied, true)), 1);
    }

    #[test]
    fn a_refresh_by_rename_and_one_by_utimes_count_for_the_same_file() {
        let times = Times::Range(2, 2);
        let mut matcher = matcher(vec![rule(1, Who::Any, Target::Lock, refresh(), times)]);
        let renamed = op(Role::Holder, OpKind::Rename, &["l/tmp.1"], Some("l/beat"));
        let touched = op(Role::Holder, OpKind::Utimes, &["l/beat"], None);
        assert_eq!(fault(matcher.rule_on(&renamed, true)), 0);
        assert_eq!(fault(matcher.rule_on(&touched, true)), 1);
    }

    #[test]
    fn the_spelling_of_a_file_with_two_names_starts_no_new_count() {
        let times = Times::Range(2, 2);
        let write = kinds(&[OpKind::Write]);
        let mut matcher = matcher(vec![rule(1, Who::Any, Target::LockDir, write, times)]);
        let first = op(Role::Holder, OpKind::Write, &["l/a", "l/b"], None);
        let second = op(Role::Holder, OpKind::Write, &["l/b", "l/a"], None);
        assert_eq!(fault(matcher.rule_on(&first, true)), 0);
        assert_eq!(fault(matcher.rule_on(&second, true)), 1);
    }

    #[test]
    fn the_first_rule_that_wants_an_operation_wins_and_all_count_it() {
        let stat = || kinds(&[OpKind::Stat]);
        let mut matcher = matcher(vec![
            rule(1, Who::Any, Target::Lock, stat(), Times::Range(2, 2)),
            rule(2, Who::Any, Target::LockDir, stat(), Times::First(2)),
            rule(3, Who::Any, Target::LockDir, stat(), Times::Every(3)),
        ]);
        let stat = op(Role::Holder, OpKind::Stat, &["l"], None);
        let hits: Vec<u32> = (0..4).map(|_| fault(matcher.rule_on(&stat, false))).collect();
        assert_eq!(hits, [2, 1, 3, 0]);
    }

    #[test]
    fn roles_and_files_count_by_themselves() {
        let times = Times::First(1);
        let stat = kinds(&[OpKind::Stat]);
        let mut matcher = matcher(vec![rule(1, Who::Contenders, Target::Lock, stat, times)]);
        for (role, path, hit) in [
            (Role::Holder, "l", 0),
            (Role::Contender(1), "l", 1),
            (Role::Contender(2), "l", 1),
            (Role::Contender(1), "l", 0),
            (Role::Contender(1), "l/x", 1),
        ] {
            let stat = op(role, OpKind::Stat, &[path], None);
            assert_eq!(fault(matcher.rule_on(&stat, false)), hit, "{role} {path}");
        }
    }

    #[test]
    fn a_thread_has_no_file_and_is_matched_all_the_same() {
        let thread = kinds(&[OpKind::Thread]);
        let times = Times::First(1);
        let mut matcher = matcher(vec![rule(1, Who::Any, Target::Heartbeat, thread, times)]);
        let thread = op(Role::Holder, OpKind::Thread, &[], None);
        assert_eq!(fault(matcher.rule_on(&thread, false)), 1);
        assert_eq!(fault(matcher.rule_on(&thread, false)), 0);
    }

    #[test]
    fn only_active_rules_act_and_count_and_healing_ends_them() {
        let stat = || kinds(&[OpKind::Stat]);
        let rules = vec![
            rule(1, Who::Any, Target::Lock, stat(), Times::First(1)),
            rule(2, Who::Any, Target::Lock, stat(), Times::All),
        ];
        let mut matcher = Matcher::new(&plan(rules)).unwrap();
        let stat = op(Role::Holder, OpKind::Stat, &["l"], None);
        assert_eq!(fault(matcher.rule_on(&stat, false)), 0);
        matcher.activate(1);
        assert_eq!(fault(matcher.rule_on(&stat, false)), 1, "it had counted nothing before");
        matcher.heal();
        assert!(!matcher.is_active(1));
        assert_eq!(fault(matcher.rule_on(&stat, false)), 0);
        matcher.activate(2);
        assert_eq!(fault(matcher.rule_on(&stat, false)), 2, "one that begins later still begins");
        matcher.deactivate(2);
        assert_eq!(fault(matcher.rule_on(&stat, false)), 0);
    }

    /// The slow and obvious model: keeps every operation, and counts anew for each question.
    struct Model {
        rules: Vec<Rule>,
        past: Vec<(Op, bool)>,
    }

    impl Model {
        /// The file under which `rule` counts `op`, by plain words instead of globs.
        fn file(rule: &Rule, op: &Op, inside: bool) -> Option<String> {
            let is_beat = |path: &str| path == "l/beat" || path == "l/beat2";
            let is_lock = |path: &str| path == "l" || path.starts_with("l/") || path == "side-1";
            let is_on = |path: &str| match rule.on {
                Target::Heartbeat => is_beat(path),
                Target::Lock => is_lock(path),
                Target::LockDir => true,
                Target::Glob(_) => path == "x",
            };
            if !rule.who.means(op.role) {
                return None;
            }
            let mut names: Vec<String> = op.paths.clone();
            names.sort();
            if rule.ops.kinds.contains(&op.kind) {
                let named = names.iter().find(|path| is_on(path)).cloned();
                let found = named.or_else(|| op.to.clone().filter(|to| is_on(to)));
                if found.is_some() {
                    return found;
                }
            }
            let refreshed = match op.kind {
                OpKind::Rename => op.to.iter().cloned().collect(),
                OpKind::Utimes | OpKind::Write => names,
                _ => Vec::new(),
            };
            let hit = refreshed.into_iter().find(|path| is_beat(path) && is_on(path));
            hit.filter(|_| rule.ops.refresh && inside)
        }

        fn rule_on(&mut self, op: &Op, inside: bool) -> u32 {
            self.past.push((op.clone(), inside));
            let wants = |rule: &&Rule| {
                let Some(file) = Model::file(rule, op, inside) else { return false };
                let same = self.past.iter().filter(|(past, inside)| {
                    past.role == op.role && Model::file(rule, past, *inside).as_ref() == Some(&file)
                });
                let count = u64::try_from(same.count()).unwrap();
                match rule.times {
                    Times::All => true,
                    Times::First(last) => count <= last,
                    Times::Range(first, last) => first <= count && count <= last,
                    Times::Every(step) => count.is_multiple_of(step),
                    Times::Steps { first, last, step } => (first..=last.unwrap_or(count))
                        .step_by(usize::try_from(step).unwrap())
                        .any(|n| n == count),
                }
            };
            self.rules.iter().find(wants).map_or(0, |rule| rule.number)
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let who = prop::sample::select(vec![Who::Any, Who::Contenders, Who::One(Role::Holder)]);
        let on = prop::sample::select(vec![
            Target::Heartbeat,
            Target::Lock,
            Target::LockDir,
            Target::Glob("x".to_owned()),
        ]);
        let named = vec![OpKind::Utimes, OpKind::Stat, OpKind::Rename];
        let kinds = prop::sample::subsequence(named, 0..=3);
        let times = prop_oneof![
            Just(Times::All),
            (1u64..4).prop_map(Times::First),
            (1u64..4, 0u64..3).prop_map(|(first, more)| Times::Range(first, first + more)),
            (1u64..4).prop_map(Times::Every),
            (1u64..4, prop::option::of(1u64..6), 1u64..4)
                .prop_map(|(first, last, step)| Times::Steps { first, last, step }),
        ];
        (who, on, kinds, any::<bool>(), times).prop_map(|(who, on, kinds, refresh, times)| {
            rule(0, who, on, Ops { refresh, kinds }, times)
        })
    }

    fn any_op() -> impl Strategy<Value = (Op, bool)> {
        let names = ["l", "l/beat", "l/beat2", "l/x", "side-1", "x", "y/l"];
        let name = prop::sample::select(names.to_vec());
        let role = prop::sample::select(vec![Role::Holder, Role::Contender(1), Role::Contender(2)]);
        let kind = prop::sample::select(vec![
            OpKind::Utimes,
            OpKind::Write,
            OpKind::Stat,
            OpKind::Rename,
            OpKind::Unlink,
        ]);
        let paths = prop::collection::vec(name.clone(), 1..3);
        (role, kind, paths, name, any::<bool>()).prop_map(|(role, kind, paths, to, inside)| {
            let to = (kind == OpKind::Rename).then_some(to);
            (op(role, kind, &paths, to), inside)
        })
    }

    proptest! {
        #[test]
        fn the_matcher_does_what_the_model_does(
            rules in prop::collection::vec(any_rule(), 1..4),
            ops in prop::collection::vec(any_op(), 1..40),
        ) {
            let numbered: Vec<Rule> = rules
                .into_iter()
                .zip(1..)
                .map(|(rule, number)| Rule { number, ..rule })
                .collect();
            let mut model = Model { rules: numbered.clone(), past: Vec::new() };
            let mut matcher = matcher(numbered);
            for (op, inside) in ops {
                let hit = fault(matcher.rule_on(&op, inside));
                prop_assert_eq!(hit, model.rule_on(&op, inside), "{:?} {}", op, inside);
            }
        }
    }
}
