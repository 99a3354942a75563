//! The slow, obvious versions: they look at all steps again for each question.

use super::{Do, Step};
use crate::check::Kind;
use crate::check::script::HOLDER;
use crate::role::Role;

/// One stay: who, from which step on.
type Stay = (Role, usize);

/// One lock on disk.
#[derive(Clone, Copy, Debug)]
struct Lock {
    maker: Role,
    made: usize,
    /// The step that removed it; `None`: it is there still.
    gone: Option<usize>,
}

/// All steps, to be looked at again for each question.
pub(super) struct Obvious<'a> {
    pub(super) steps: &'a [Step],
}

impl Obvious<'_> {
    /// The last step of a role before `at` that is one of these.
    fn last(&self, role: Role, at: usize, wanted: &[Do]) -> Option<usize> {
        (0..at).rev().find(|n| self.steps[*n].0 == role && wanted.contains(&self.steps[*n].1))
    }

    pub(super) fn is_dead(&self, role: Role, at: usize) -> bool {
        let last = self.last(role, at, &[Do::Kill, Do::Crash, Do::Start]);
        last.is_some_and(|n| self.steps[n].1 != Do::Start)
    }

    /// The step at which the stay began that a role is in right before step `at`.
    pub(super) fn stay_at(&self, role: Role, at: usize) -> Option<usize> {
        let ends = [Do::Enter, Do::Leave, Do::LeaveAndClear, Do::Kill, Do::Crash];
        self.last(role, at, &ends).filter(|n| self.steps[*n].1 == Do::Enter)
    }

    /// The step that ends a stay, or the number of steps.
    fn end(&self, (role, from): Stay) -> usize {
        let ends = [Do::Leave, Do::LeaveAndClear, Do::Kill, Do::Crash];
        let mut later = from + 1..self.steps.len();
        later
            .find(|n| self.steps[*n].0 == role && ends.contains(&self.steps[*n].1))
            .unwrap_or(self.steps.len())
    }

    /// Whether a role is certainly inside at a step of another: who is killed without having been
    /// seen again may have been dead before.
    fn is_certain(&self, stay: Stay, at: usize) -> bool {
        let (role, from) = stay;
        let end = self.end(stay);
        let is_in = from < at && at < end;
        is_in && (at..=self.last_seen(stay)).any(|n| self.is_trace(role, n) || n == end)
    }

    /// The last step at which a role certainly was in a stay.
    fn last_seen(&self, stay: Stay) -> usize {
        let (role, from) = stay;
        let end = self.end(stay);
        let is_stopped = self
            .last(role, end, &[Do::Stop, Do::Continue, Do::Start])
            .is_some_and(|n| self.steps[n].1 == Do::Stop);
        match self.steps.get(end).map(|step| step.1) {
            Some(Do::Kill) if is_stopped => end,
            Some(Do::Kill | Do::Crash) => {
                (from..end).rev().find(|n| self.is_trace(role, *n)).unwrap_or(from)
            }
            _ => end,
        }
    }

    fn is_trace(&self, role: Role, at: usize) -> bool {
        self.steps.get(at).is_some_and(|step| step.0 == role && self.shows(step.1, at))
    }

    /// Whether a step leaves a trace of the role in the history.
    fn shows(&self, deed: Do, at: usize) -> bool {
        match deed {
            Do::Clear => self.lock_at(at).is_some(),
            Do::Continue | Do::Strike | Do::Start | Do::Kill | Do::Crash => false,
            _ => true,
        }
    }

    /// Every lock that was ever made.
    fn locks(&self) -> Vec<Lock> {
        let mut locks: Vec<Lock> = Vec::new();
        for (n, Step(role, deed)) in self.steps.iter().enumerate() {
            let is_there = locks.last().is_some_and(|lock| lock.gone.is_none());
            match deed {
                Do::Take if !is_there => locks.push(Lock { maker: *role, made: n, gone: None }),
                Do::Clear | Do::LeaveAndClear | Do::Strike if is_there => {
                    locks.last_mut().expect("one is there").gone = Some(n);
                }
                _ => {}
            }
        }
        locks
    }

    /// The lock that is there right before a step.
    fn lock_at(&self, at: usize) -> Option<Lock> {
        Obvious { steps: &self.steps[..at] }.locks().pop().filter(|lock| lock.gone.is_none())
    }

    /// When a role was told for the last time that its lock is lost, if it was not taken back.
    fn is_told(&self, (role, from): Stay, at: usize) -> bool {
        let word = self.last(role, at, &[Do::Lost, Do::Healthy]);
        word.is_some_and(|n| n > from && self.steps[n].1 == Do::Lost)
    }

    fn is_told_later(&self, stay: Stay, at: usize) -> bool {
        let end = self.end(stay);
        let words: Vec<Do> = (at..end)
            .filter(|n| self.steps[*n].0 == stay.0)
            .map(|n| self.steps[n].1)
            .filter(|deed| matches!(deed, Do::Lost | Do::Healthy))
            .collect();
        words.last() == Some(&Do::Lost)
    }

    /// Every pair of a stay that certainly is on and one of another that begins.
    fn meetings(&self) -> Vec<(Stay, Stay)> {
        let mut found = Vec::new();
        for heir in 0..self.steps.len() {
            let Step(who, Do::Enter) = self.steps[heir] else { continue };
            for from in 0..heir {
                let Step(owner, Do::Enter) = self.steps[from] else { continue };
                if owner != who && self.is_certain((owner, from), heir) {
                    found.push(((owner, from), (who, heir)));
                }
            }
        }
        found
    }

    pub(super) fn exclusion(&self) -> Vec<(Kind, Vec<Role>)> {
        self.meetings()
            .into_iter()
            .map(|(on, heir)| {
                let kind = if self.is_told(on, heir.1) {
                    Kind::ToldIgnored
                } else if self.is_told_later(on, heir.1) {
                    Kind::ToldLate
                } else {
                    Kind::DoubleHeld
                };
                (kind, vec![on.0, heir.0])
            })
            .collect()
    }

    /// The stay that a lock was made for.
    fn stay_of(&self, lock: Lock) -> Option<Stay> {
        let starts = [Do::Enter, Do::Leave, Do::LeaveAndClear, Do::Kill, Do::Crash, Do::Start];
        let mut later = lock.made + 1..self.steps.len();
        let next =
            later.find(|n| self.steps[*n].0 == lock.maker && starts.contains(&self.steps[*n].1))?;
        match self.steps[next].1 {
            Do::Enter => Some((lock.maker, next)),
            // It died on its way in, or after: its next life is the same try.
            Do::Kill | Do::Crash | Do::Start => {
                let enter = (next..self.steps.len())
                    .find(|n| self.steps[*n] == Step(lock.maker, Do::Enter))?;
                Some((lock.maker, enter))
            }
            _ => None,
        }
    }

    /// The locks of a stay that count: from the last that it made before it entered.
    fn own_locks(&self, stay: Stay) -> Vec<Lock> {
        let own: Vec<Lock> =
            self.locks().into_iter().filter(|lock| self.stay_of(*lock) == Some(stay)).collect();
        let last = own.iter().map(|lock| lock.made).max().unwrap_or(0);
        own.into_iter().filter(|lock| lock.gone.is_none_or(|gone| gone > last)).collect()
    }

    /// Who took away a stay's lock before a step: another role, or nobody that can be blamed.
    fn thief(&self, stay: Stay, before: usize) -> Option<Role> {
        let gone = |lock: Lock| lock.gone.filter(|gone| *gone < before);
        let by = |gone: usize| match self.steps[gone] {
            Step(_, Do::Strike) => None,
            Step(role, _) => Some(role).filter(|role| *role != stay.0),
        };
        self.own_locks(stay).into_iter().filter_map(gone).find_map(by)
    }

    pub(super) fn evidence(&self) -> Vec<(Kind, Vec<Role>)> {
        let mut found = Vec::new();
        for (on, heir) in self.meetings() {
            let locks = self.own_locks(on);
            let is_there = locks.iter().any(|lock| lock.gone.is_none_or(|gone| gone > heir.1));
            let is_struck = locks.iter().any(|lock| {
                lock.gone.is_some_and(|gone| gone < heir.1 && self.steps[gone].1 == Do::Strike)
            });
            let is_taken = self.thief(on, heir.1).is_some();
            let was_first = self.thief(heir, heir.1) == Some(on.0);
            if !was_first && !self.is_told(on, heir.1) && (is_taken || (is_there && !is_struck)) {
                found.push((Kind::UnprovenSteal, vec![on.0, heir.0]));
            }
        }
        found
    }

    pub(super) fn integrity(&self) -> Vec<(Kind, Vec<Role>)> {
        let mut found: Vec<(Kind, Role, Stay)> = Vec::new();
        for (n, Step(role, deed)) in self.steps.iter().enumerate() {
            let Some(lock) = self.lock_at(n) else { continue };
            let Some(owner) = self.stay_of(lock).filter(|owner| owner.0 != *role) else { continue };
            let is_on = self.is_certain(owner, n);
            let is_inside = self.stay_at(*role, n).is_some();
            let is_coming =
                n < owner.1 && self.own_locks(owner).iter().any(|own| own.made == lock.made);
            let kind = match deed {
                Do::Beat if is_on && is_inside => Kind::ZombieRefresh,
                Do::LeaveAndClear if is_on || is_coming => Kind::WrongfulRelease,
                Do::Clear if (is_on || is_coming) && is_inside => Kind::WrongfulRelease,
                Do::Clear if is_on || is_coming => {
                    let enter = (n..self.steps.len())
                        .find(|later| self.steps[*later] == Step(*role, Do::Enter));
                    let is_takeover = enter.is_some_and(|enter| self.is_certain(owner, enter));
                    if is_takeover || self.is_told(owner, n) {
                        continue;
                    }
                    Kind::WrongfulRelease
                }
                _ => continue,
            };
            if !found.contains(&(kind, *role, owner)) {
                found.push((kind, *role, owner));
            }
        }
        found.into_iter().map(|(kind, role, owner)| (kind, vec![role, owner.0])).collect()
    }
}

impl Obvious<'_> {
    fn stays(&self) -> Vec<Stay> {
        let enters = self.steps.iter().enumerate().filter(|(_, step)| step.1 == Do::Enter);
        enters.map(|(n, step)| (step.0, n)).collect()
    }

    /// Whether a step is a beat of the role that works (`Some(true)`) or fails (`Some(false)`).
    fn beat(&self, role: Role, at: usize) -> Option<bool> {
        match self.steps[at] {
            Step(who, Do::FailedBeat) if who == role => Some(false),
            Step(who, Do::Beat) if who == role => Some(self.lock_at(at).is_some()),
            _ => None,
        }
    }

    /// The first and the last step of each stretch in which the beats of a stay failed.
    fn failures(&self, stay: Stay) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut at = stay.1 + 1;
        while let Some(since) = (at..self.end(stay)).find(|n| self.beat(stay.0, *n) == Some(false))
        {
            let healed = (since..self.end(stay)).find(|n| self.beat(stay.0, *n) == Some(true));
            let until = healed.unwrap_or(self.last_seen(stay).max(since));
            found.push((since, until));
            at = healed.unwrap_or(self.end(stay)) + 1;
        }
        found
    }

    /// Whether a role is stopped from a step on to the next one.
    fn is_stopped(&self, role: Role, at: usize) -> bool {
        let words = [Do::Stop, Do::Continue, Do::Kill, Do::Crash];
        self.last(role, at + 1, &words).is_some_and(|n| self.steps[n].1 == Do::Stop)
    }

    /// No stay is left early here, and none aborts; who ends by itself has aborted.
    pub(super) fn reaction(&self) -> Vec<(Kind, Vec<Role>)> {
        let is_ignored = |stay: &Stay| {
            let end = self.steps.get(self.end(*stay)).map(|step| step.1);
            // 1 s in steps, and a beat of 300 ms more for whoever was not let to its end.
            let needed = match end {
                Some(Do::Crash) => return false,
                Some(Do::Kill) | None => 13,
                _ => 10,
            };
            self.failures(*stay).into_iter().any(|(since, until)| {
                (since..until).filter(|n| !self.is_stopped(stay.0, *n)).count() >= needed
            })
        };
        let ignored = self.stays().into_iter().filter(is_ignored);
        ignored.map(|stay| (Kind::IgnoredFailure, vec![stay.0])).collect()
    }

    /// Nothing is printed here, and a word has no details.
    pub(super) fn visibility(&self) -> Vec<(Kind, Vec<Role>)> {
        let meetings = self.meetings();
        let mut found = Vec::new();
        for stay in self.stays() {
            let is_word = |n: &usize| self.steps[*n] == Step(stay.0, Do::Lost);
            let is_told = |from: usize| (from..self.steps.len()).any(|n| is_word(&n));
            let heirs: Vec<usize> =
                meetings.iter().filter(|(on, _)| *on == stay).map(|(_, heir)| heir.1).collect();
            let failures = self.failures(stay);
            if failures.is_empty() {
                let Some(heir) = heirs.first() else { continue };
                let strike = (stay.1..*heir).find(|n| self.steps[*n].1 == Do::Strike);
                if strike.is_some_and(|strike| !is_told(strike)) {
                    found.push((Kind::Silent, vec![stay.0]));
                }
                continue;
            }
            let costly = failures.into_iter().find(|(since, until)| {
                until - since >= 10 || heirs.iter().any(|heir| since < heir && *heir <= until + 3)
            });
            if let Some((since, _)) = costly {
                let kind = if is_told(since) { Kind::Vague } else { Kind::Silent };
                found.push((kind, vec![stay.0]));
            }
        }
        found
    }

    /// Nobody gives up here: what is left of liveness are crashes.
    pub(super) fn liveness(&self) -> Vec<(Kind, Vec<Role>)> {
        let mut found = Vec::new();
        for (n, step) in self.steps.iter().enumerate().filter(|(_, step)| step.1 == Do::Crash) {
            let role = step.0;
            let born = self.last(role, n, &[Do::Start]).unwrap_or(0);
            let has_blow =
                self.steps[..n].iter().any(|one| matches!(one.1, Do::FailedBeat | Do::Strike));
            let has_reason = (born..n).any(|at| {
                let is_failing = self.stay_at(role, at).is_some_and(|from| from >= born)
                    && self.beat(role, at) == Some(false);
                is_failing || self.steps[at] == Step(role, Do::Lost)
            });
            if has_blow && !has_reason {
                found.push((Kind::Crashed, vec![role]));
            }
        }
        found
    }

    /// Which of the doubts that these histories can give are due.
    pub(super) fn vacuity(&self) -> Vec<&'static str> {
        let has = |wanted: &[Do]| self.steps.iter().any(|step| wanted.contains(&step.1));
        let mut due = Vec::new();
        if !has(&[Do::FailedBeat]) {
            due.push("never fired");
        }
        if !has(&[Do::Strike]) {
            due.push("event 1 did not happen");
        }
        match self.stays() {
            stays if stays.is_empty() => due.push("nobody ever entered"),
            stays if stays.iter().all(|stay| stay.0 != HOLDER) => {
                due.push("the holder never entered");
            }
            _ => {}
        }
        let is_blow = |step: &Step| matches!(step.1, Do::FailedBeat | Do::Strike);
        let blow = self.steps.iter().position(is_blow);
        let touches = |n: usize| {
            let Step(role, deed) = self.steps[n];
            let is_op = match deed {
                Do::Take | Do::Beat | Do::FailedBeat => true,
                Do::Clear | Do::LeaveAndClear => self.lock_at(n).is_some(),
                _ => false,
            };
            is_op && role != HOLDER
        };
        // A failed beat is a blow, and right after it an operation.
        if !(blow.unwrap_or(0)..self.steps.len()).any(touches) {
            due.push("no contender touched the lock");
        }
        due
    }
}
