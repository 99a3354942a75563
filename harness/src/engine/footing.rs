//! What a run stands on: how far it is apart from the rest of the machine, and what it cannot show
//! where it is not.

use serde::{Deserialize, Serialize};

use crate::plan::{Deed, Pids, Plan};

/// How far a run is apart from the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Footing {
    /// In namespaces of its own, which root makes.
    Root,
    /// The same inside a user namespace, for want of root.
    UserNamespace,
    /// In no namespace, where none can be made, as in a container by default: the pids are the
    /// machine's, and the lock directory is a folder of a file system that others use.
    Bare,
}

impl Footing {
    /// Whether there are no namespaces.
    pub(crate) fn is_bare(self) -> bool {
        self == Footing::Bare
    }

    /// Its word on the command line of an anchor.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Footing::Root => "root",
            Footing::UserNamespace => "user",
            Footing::Bare => "bare",
        }
    }
}

/// Why a run without namespaces cannot show what this plan is about, if it cannot. Each reason is
/// fixed: the same plan is skipped in the same words on every such machine.
///
/// `overrides_modes`: whether the supervisor reaches files whatever their modes are.
pub(crate) fn bare_refuses(plan: &Plan, overrides_modes: bool) -> Option<String> {
    let world = &plan.world;
    let lacks = |what: &str, needs: &str| {
        Some(format!("{what} needs {needs}, and no namespaces can be made here"))
    };
    if world.pids != Pids::Shared {
        return lacks("`[world] pids`", "PID namespaces");
    }
    if world.space.is_some() {
        return lacks("`[world] space`", "a file system that is mounted for the run");
    }
    if !world.users.is_empty() {
        return lacks("`[world] users`", "a supervisor that may trace other users' processes");
    }
    plan.events.iter().find_map(|act| {
        let what = format!("`{}`", act.text);
        match act.what {
            Deed::FillBlocks(_) | Deed::FillInodes(_) => {
                lacks(&what, "a file system that is mounted for the run")
            }
            Deed::Chown(..) | Deed::Immutable(_) => {
                lacks(&what, "all rights of root over the run's files")
            }
            // Else the supervisor could not follow what happens below.
            Deed::Chmod(..) if !overrides_modes => {
                lacks(&what, "a supervisor that no file mode stops (CAP_DAC_OVERRIDE)")
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Target;
    use crate::handmade::{self, event};
    use crate::moment::Moment;
    use crate::plan::Space;
    use crate::role::Role;

    /// Goal: what a run without namespaces would only pretend to do is skipped, each for its own
    /// reason, and nothing else is.
    #[test]
    fn a_run_without_namespaces_refuses_what_needs_them() {
        let plan = handmade::trial("family/name").plan;
        assert_eq!(bare_refuses(&plan, false), None);
        let with = |change: &dyn Fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            changed
        };
        let deed =
            |deed: Deed| with(&|plan| plan.events = vec![event(1, Moment::START, deed.clone())]);
        let refused = [
            (with(&|plan| plan.world.pids = Pids::Separate), "PID namespaces"),
            (with(&|plan| plan.world.pids = Pids::Reused), "PID namespaces"),
            (with(&|plan| plan.world.space = Some(Space::default())), "mounted for the run"),
            (with(&|plan| plan.world.users = [(Role::Holder, 7)].into()), "other users' processes"),
            (deed(Deed::FillBlocks(0)), "mounted for the run"),
            (deed(Deed::FillInodes(0)), "mounted for the run"),
            (deed(Deed::Chown(0, Target::Lock)), "rights of root"),
            (deed(Deed::Immutable(Target::Lock)), "rights of root"),
        ];
        for (plan, why) in refused {
            let said = bare_refuses(&plan, true).unwrap_or_default();
            assert!(said.contains(why) && said.contains("no namespaces"), "{why}: {said:?}");
        }
        let chmod = deed(Deed::Chmod(0, Target::Lock));
        assert_eq!(bare_refuses(&chmod, true), None);
        assert!(bare_refuses(&chmod, false).is_some_and(|why| why.contains("CAP_DAC_OVERRIDE")));
        assert_eq!(bare_refuses(&deed(Deed::Remove(Target::Lock)), false), None);
    }
}
