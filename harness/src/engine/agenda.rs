//! What is to happen at which moment. Pure: the engine tells it what happened and what time it is.
//!
//! # Invariants
//! - A moment counts from the first occurrence of its anchor.
//! - What is due comes out in the order of its time, then of its being added.

use std::collections::BTreeMap;

use crate::moment::{Anchor, Moment, Sign};
use crate::role::Role;
use crate::time::Nanos;

/// Something that happened once and that a moment can count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occurrence {
    /// The run began.
    Start,
    /// A role showed a sign.
    Role(Role, Sign),
    /// A fault fired.
    Fired(u32),
    /// An event was done.
    Done(u32),
}

impl Occurrence {
    fn is(self, anchor: Anchor) -> bool {
        match (anchor, self) {
            (Anchor::Start, Occurrence::Start) => true,
            (Anchor::Role(who, wanted), Occurrence::Role(role, sign)) => {
                wanted == sign && who.means(role)
            }
            (Anchor::Fired(wanted), Occurrence::Fired(number))
            | (Anchor::Done(wanted), Occurrence::Done(number)) => wanted == number,
            _ => false,
        }
    }
}

/// Items of type `T`, each waiting for its moment.
#[derive(Debug)]
pub struct Agenda<T> {
    first_seen: BTreeMap<Occurrence, Nanos>,
    /// Added before their anchor was seen; the number keeps the order of adding.
    waiting: Vec<(u64, Moment, T)>,
    due: BTreeMap<(Nanos, u64), T>,
    added: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Agenda<T> {
        Agenda { first_seen: BTreeMap::new(), waiting: Vec::new(), due: BTreeMap::new(), added: 0 }
    }
}

impl<T> Agenda<T> {
    /// Adds an item. If its anchor was seen already, its time counts from then.
    pub fn add(&mut self, moment: Moment, item: T) {
        self.added += 1;
        let seen =
            self.first_seen.iter().filter(|(what, _)| what.is(moment.anchor)).map(|(_, at)| *at);
        match seen.min() {
            Some(at) => {
                self.due.insert((at + moment.offset, self.added), item);
            }
            None => self.waiting.push((self.added, moment, item)),
        }
    }

    /// Adds an item for a point in time.
    pub fn add_at(&mut self, at: Nanos, item: T) {
        self.added += 1;
        self.due.insert((at, self.added), item);
    }

    /// Tells what happened at `now`; later occurrences of the same change nothing.
    pub fn happened(&mut self, what: Occurrence, now: Nanos) {
        if self.first_seen.contains_key(&what) {
            return;
        }
        self.first_seen.insert(what, now);
        let waiting = std::mem::take(&mut self.waiting);
        for (order, moment, item) in waiting {
            if what.is(moment.anchor) {
                self.due.insert((now + moment.offset, order), item);
            } else {
                self.waiting.push((order, moment, item));
            }
        }
    }

    /// Takes the first item whose time has come.
    pub fn pop_due(&mut self, now: Nanos) -> Option<T> {
        let (&key, _) = self.due.first_key_value()?;
        if key.0 > now { None } else { self.due.remove(&key) }
    }

    /// When the next item is due.
    #[must_use]
    pub fn next(&self) -> Option<Nanos> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The items that have a time, in order.
    pub fn timed(&self) -> impl Iterator<Item = &T> {
        self.due.values()
    }

    /// The items that still wait for their anchor, with their moments.
    pub fn waiting(&self) -> impl Iterator<Item = (&Moment, &T)> {
        self.waiting.iter().map(|(_, moment, item)| (moment, item))
    }

    /// Every item that is left, those without a time last.
    pub fn left(&self) -> impl Iterator<Item = &T> {
        self.due.values().chain(self.waiting.iter().map(|(_, _, item)| item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Who;

    fn moment(anchor: Anchor, offset: u64) -> Moment {
        Moment { anchor, offset: Nanos(offset) }
    }

    #[test]
    fn an_item_waits_for_the_first_occurrence_and_its_offset() {
        let mut agenda = Agenda::default();
        agenda.add(moment(Anchor::Role(Who::Contenders, Sign::Entered), 5), "late");
        agenda.add(moment(Anchor::Role(Who::Any, Sign::Entered), 0), "at once");
        agenda.happened(Occurrence::Role(Role::Holder, Sign::Entered), Nanos(10));
        assert_eq!(agenda.pop_due(Nanos(10)), Some("at once"));
        assert_eq!(agenda.pop_due(Nanos(1000)), None);
        agenda.happened(Occurrence::Role(Role::Contender(2), Sign::Entered), Nanos(20));
        agenda.happened(Occurrence::Role(Role::Contender(1), Sign::Entered), Nanos(30));
        assert_eq!(agenda.next(), Some(Nanos(25)));
        assert_eq!(agenda.pop_due(Nanos(24)), None);
        assert_eq!(agenda.pop_due(Nanos(25)), Some("late"));
    }

    #[test]
    fn an_item_added_after_its_anchor_counts_from_the_anchor() {
        let mut agenda = Agenda::default();
        agenda.happened(Occurrence::Start, Nanos(3));
        agenda.add(moment(Anchor::Start, 4), ());
        assert_eq!(agenda.next(), Some(Nanos(7)));
    }

    #[test]
    fn items_of_one_time_keep_the_order_of_adding() {
        let mut agenda = Agenda::default();
        agenda.add(moment(Anchor::Done(1), 0), 1);
        agenda.add(moment(Anchor::Done(1), 0), 2);
        agenda.happened(Occurrence::Done(1), Nanos(0));
        assert_eq!([agenda.pop_due(Nanos(0)), agenda.pop_due(Nanos(0))], [Some(1), Some(2)]);
    }
}
