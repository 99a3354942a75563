//! What a scenario may need of a lock or of its adapter, and a subject may not have.
//!
//! A fault on an operation that a lock never makes proves nothing: where the subject says that it
//! lacks what a scenario needs, the scenario is skipped with that reason instead of ending as
//! inconclusive. A beat and a stale age are no features: `heartbeat` and `[timing]` say those.

/// One thing that a subject has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Taking it changes something in the lock folder: a name that is made, a record written.
    Mark,
    /// Taking it writes something about its owner.
    Record,
    /// Giving it back removes or renames its files.
    Removal,
    /// Whoever has it is given a fencing token.
    Token,
    /// The adapter plays `DEADBEAT_AGAIN_MS`.
    Again,
}

impl Feature {
    /// Every feature, by its word.
    pub(super) const ALL: &[(&str, Feature)] = &[
        ("mark", Feature::Mark),
        ("record", Feature::Record),
        ("removal", Feature::Removal),
        ("token", Feature::Token),
        ("again", Feature::Again),
    ];

    /// What a lock has unless `[lock] lacks` says otherwise.
    pub(super) const OF_LOCKS: &[(&str, Feature)] = Feature::ALL.split_at(4).0;

    /// What an adapter does not play unless `[command] plays` says so.
    pub(super) const OF_ADAPTERS: &[(&str, Feature)] = Feature::ALL.split_at(4).1;

    /// Why a scenario that needs it says nothing about `subject`, which lacks it.
    pub(super) fn is_lacked_by(self, subject: &str) -> String {
        match self {
            Feature::Mark => format!("taking {subject} changes nothing on disk (`mark`)"),
            Feature::Record => format!("{subject} writes nothing about its owner (`record`)"),
            Feature::Removal => format!("giving {subject} back removes nothing (`removal`)"),
            Feature::Token => format!("{subject} gives no fencing tokens (`token`)"),
            Feature::Again => {
                format!("the adapter of {subject} does not try twice in one process (`again`)")
            }
        }
    }
}
