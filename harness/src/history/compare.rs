//! Whether two runs of one plan went the same way.
//!
//! What belongs to the machine rather than to the run is left out: the numbers of inodes, which a
//! file system hands out as it likes, count only by their order of appearance. Everything else
//! must be equal, byte for byte.

use std::collections::BTreeMap;

use super::{History, What};

/// Where two histories part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The number of the first event that differs.
    pub seq: u64,
    /// That event of the first history, as a line; `None`: it has ended.
    pub first: Option<String>,
    /// That event of the second.
    pub second: Option<String>,
}

/// The first difference of two histories.
#[must_use]
pub fn first_difference(first: &History, second: &History) -> Option<Difference> {
    let (first, second) = (lines(first), lines(second));
    let longest = first.len().max(second.len());
    let place = (0..longest).find(|place| first.get(*place) != second.get(*place))?;
    Some(Difference {
        seq: place as u64 + 1,
        first: first.get(place).cloned(),
        second: second.get(place).cloned(),
    })
}

fn lines(history: &History) -> Vec<String> {
    let mut inodes: BTreeMap<u64, u64> = BTreeMap::new();
    let mut plain = |ino: &mut Option<u64>| {
        if let Some(number) = ino {
            let next = inodes.len() as u64 + 1;
            *number = *inodes.entry(*number).or_insert(next);
        }
    };
    let events = history.events.iter().map(|event| {
        let mut event = event.clone();
        match &mut event.what {
            What::Op { op, outcome, .. } => {
                plain(&mut op.ino);
                plain(&mut outcome.ino);
            }
            What::Waiting { op, .. } => plain(&mut op.ino),
            _ => {}
        }
        serde_json::to_string(&event).expect("events have a JSON form")
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Op, OpId, OpKind, Outcome};
    use crate::role::Role;
    use crate::time::Nanos;

    fn history(inodes: &[u64], end: u64) -> History {
        let mut history = History::default();
        for (number, ino) in (1..).zip(inodes) {
            let op = Op {
                id: OpId(number),
                role: Role::Holder,
                kind: OpKind::Utimes,
                truncates: false,
                paths: vec!["beat".to_owned()],
                to: None,
                by_descriptor: false,
                unlinked: false,
                ino: Some(*ino),
            };
            let outcome = Outcome { told: Ok(0), effect: true, ino: Some(*ino) };
            history.push(Nanos(number), What::Op { op, outcome, fault: None });
        }
        history.push(Nanos(end), What::End);
        history
    }

    #[test]
    fn inodes_count_by_their_order() {
        assert_eq!(first_difference(&history(&[7, 9, 7], 9), &history(&[1, 2, 1], 9)), None);
        let found = first_difference(&history(&[7, 9, 7], 9), &history(&[1, 2, 2], 9));
        assert_eq!(found.map(|found| found.seq), Some(3));
    }

    #[test]
    fn a_time_or_a_missing_event_is_a_difference() {
        let found = first_difference(&history(&[7], 9), &history(&[7], 8)).expect("they differ");
        assert_eq!(found.seq, 2);
        let found = first_difference(&history(&[7], 9), &History::default()).expect("they differ");
        assert_eq!((found.seq, found.second), (1, None));
    }
}
