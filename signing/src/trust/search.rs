//! The search for a target through the delegations: depth first, in the order the delegators wrote, one role at a time.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use super::{
    TrustError,
    limits::DELEGATED_ROLES_MAX,
    verify::{Fresh, KeySet},
};
use crate::metadata::{DelegatedRole, HardwareId, RoleKeys, TargetMeta, Targets};

/// A search that is under way (TUF specification, step 5.6.7; Uptane, 5.4.4.7).
#[derive(Debug)]
pub(super) struct Search {
    path: String,
    /// Uptane, 5.4.4.7: hardware for which the target is wanted. TUF knows none and follows every delegation of the path.
    hardware_ids: Vec<HardwareId>,
    /// Roles still to visit, the next one last.
    open: Vec<Delegatee>,
    /// Roles that were visited; a cycle ends here (step 5.6.7.1).
    visited: BTreeSet<String>,
}

/// A role to visit, with the keys that the delegator gave it. Another delegator may give the same role other keys, so a role is
/// verified for each.
#[derive(Clone, Debug)]
pub(super) struct Delegatee {
    pub(super) name: String,
    pub(super) keys: KeySet,
}

impl Search {
    pub(super) fn new(path: &str, hardware_ids: Vec<HardwareId>) -> Self {
        Self { path: path.into(), hardware_ids, open: Vec::new(), visited: BTreeSet::new() }
    }

    /// Looks into a role that has been verified; when it does not list the path, its delegatees come next.
    pub(super) fn visit(&mut self, role: &str, targets: &Fresh<Targets>) -> Option<TargetMeta> {
        if let Some(found) = targets.role().targets.get(&self.path) {
            return Some(found.clone());
        }
        let Some(delegations) = &targets.role().delegations else { return None };
        let delegatee = |name: String, keys: &RoleKeys| {
            let authority = format!("{role} version {}", targets.role().version);
            Delegatee { keys: KeySet::resolve(&name, authority, keys, &delegations.keys), name }
        };
        let mut next = Vec::new();
        for delegated in delegations.roles.iter().filter(|delegated| self.concerns(delegated)) {
            next.push(delegatee(delegated.name.clone(), &delegated.keys));
            if delegated.terminating {
                // Step 5.6.7.2.1: nobody else is asked for this path, neither later delegatees nor those of outer delegators.
                self.open.clear();
                break;
            }
        }
        if let Some(bins) = &delegations.bins {
            // Nobody but its bin may list a path, so a bin is terminating (TAP 15).
            self.open.clear();
            next.push(delegatee(bins.name_of(&self.path), &bins.keys));
        }
        self.open.extend(next.into_iter().rev());
        None
    }

    /// The next role to visit, or nothing when the path is listed nowhere.
    pub(super) fn next(&mut self, repository: super::Repository) -> Result<Option<Delegatee>, TrustError> {
        while let Some(delegatee) = self.open.pop() {
            if self.visited.contains(&delegatee.name) {
                continue;
            }
            if self.visited.len() >= DELEGATED_ROLES_MAX {
                let path = self.path.clone();
                return Err(TrustError::TooManyDelegations { repository, path, roles_max: DELEGATED_ROLES_MAX });
            }
            self.visited.insert(delegatee.name.clone());
            return Ok(Some(delegatee));
        }
        Ok(None)
    }

    /// Path and, where the delegation names some, hardware must both match (Uptane, 5.4.4.7).
    fn concerns(&self, delegated: &DelegatedRole) -> bool {
        let fits = |wanted| delegated.hardware_ids.is_empty() || delegated.hardware_ids.contains(wanted);
        self.hardware_ids.iter().all(fits) && delegated.paths.contains(&self.path)
    }
}
