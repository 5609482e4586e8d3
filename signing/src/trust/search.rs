//! The search for a target through the delegations: depth first, in the order the delegators wrote, one role at a time. Where roles are
//! believed only together, each of them is searched by itself, and then they are compared.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use super::{
    TrustError,
    limits::DELEGATED_ROLES_MAX,
    verify::{Fresh, KeySet},
};
use crate::metadata::{Agreement as Listed, DelegatedRole, Delegations, HardwareId, RoleKeys, TargetMeta, Targets};

/// A search that is under way (TUF specification, step 5.6.7; Uptane, 5.4.4.7).
#[derive(Debug)]
pub(super) struct Search {
    path: String,
    /// Uptane, 5.4.4.7: hardware for which the target is wanted. TUF knows none and follows every delegation of the path.
    hardware_ids: Vec<HardwareId>,
    /// The search from the top, then the one from each role that is being asked for its part of an agreement.
    levels: Vec<Level>,
    /// How many roles were visited.
    visits: usize,
    found: Option<TargetMeta>,
}

/// A search from one role on.
#[derive(Debug, Default)]
struct Level {
    /// Who is still to be asked, the next one last.
    open: Vec<Step>,
    /// Roles that were visited; a cycle ends here (step 5.6.7.1).
    visited: BTreeSet<String>,
    /// What this search is a part of; nothing for the one from the top.
    asked_for: Option<Agreement>,
}

#[derive(Debug)]
enum Step {
    Visit(Delegatee),
    Agree(Agreement),
}

/// A role to visit, with the keys that the delegator gave it. Another delegator may give the same role other keys, so a role is
/// verified for each.
#[derive(Clone, Debug)]
pub(super) struct Delegatee {
    pub(super) name: String,
    pub(super) keys: KeySet,
}

/// Roles that must list the same, and what they list as far as they were asked.
#[derive(Debug)]
struct Agreement {
    roles: Vec<String>,
    roles_min: u64,
    /// Who is still to be asked, the next one last.
    waiting: Vec<Delegatee>,
    words: Vec<Option<TargetMeta>>,
}

/// How a search goes on.
#[derive(Debug)]
pub(super) enum Next {
    /// By a visit to a role.
    Visit(Delegatee),
    /// Not at all: here is the target.
    Found(TargetMeta),
    /// Not at all: nobody who may list the target does.
    NotListed,
}

impl Search {
    pub(super) fn new(path: &str, hardware_ids: Vec<HardwareId>) -> Self {
        Self { path: path.into(), hardware_ids, levels: Vec::from([Level::default()]), visits: 0, found: None }
    }

    /// Looks into a role that has been verified; when it does not list the path, its delegatees come next.
    pub(super) fn visit(&mut self, role: &str, targets: &Fresh<Targets>) -> Result<(), TrustError> {
        if let Some(found) = targets.role().targets.get(&self.path) {
            return self.answer(Some(found.clone()));
        }
        let Some(delegations) = &targets.role().delegations else { return Ok(()) };
        let authority = format!("{role} version {}", targets.role().version);
        let (steps, is_last_word) = self.steps(&authority, delegations);
        if let Some(level) = self.levels.last_mut() {
            if is_last_word {
                // Step 5.6.7.2.1: nobody else is asked for this path, neither later delegatees nor those of outer delegators. The other
                // roles of an agreement are: what this one does not list is its word as well.
                level.open.clear();
            }
            level.open.extend(steps.into_iter().rev());
        }
        Ok(())
    }

    /// Who comes next.
    pub(super) fn next(&mut self, repository: super::Repository) -> Result<Next, TrustError> {
        loop {
            if let Some(found) = self.found.take() {
                return Ok(Next::Found(found));
            }
            let Some(level) = self.levels.last_mut() else { return Ok(Next::NotListed) };
            match level.open.pop() {
                Some(Step::Visit(delegatee)) if level.visited.contains(&delegatee.name) => {}
                Some(Step::Visit(delegatee)) => {
                    if self.visits >= DELEGATED_ROLES_MAX {
                        let path = self.path.clone();
                        return Err(TrustError::TooManyDelegations { repository, path, roles_max: DELEGATED_ROLES_MAX });
                    }
                    self.visits += 1;
                    level.visited.insert(delegatee.name.clone());
                    return Ok(Next::Visit(delegatee));
                }
                Some(Step::Agree(agreement)) => self.ask(agreement)?,
                None => self.answer(None)?,
            }
        }
    }

    /// The delegations that concern the path, in their order, and whether the last of them ends the search.
    fn steps(&self, authority: &str, delegations: &Delegations) -> (Vec<Step>, bool) {
        let delegatee = |name: &str, keys: &RoleKeys| Delegatee {
            keys: KeySet::resolve(name, authority.into(), keys, &delegations.keys),
            name: name.into(),
        };
        // By name, once: whoever signs tens of thousands of them shall not have them compared with each other.
        let agreements = delegations.agreements.iter().flat_map(|agreement| agreement.roles.iter().map(move |name| (name, agreement)));
        let agreements: BTreeMap<&String, &Listed> = agreements.collect();
        let by_name: BTreeMap<&String, &DelegatedRole> = match agreements.is_empty() {
            true => BTreeMap::new(),
            false => delegations.roles.iter().map(|role| (&role.name, role)).collect(),
        };
        let mut steps = Vec::new();
        for delegated in delegations.roles.iter().filter(|delegated| self.concerns(delegated)) {
            match agreements.get(&delegated.name) {
                None => steps.push(Step::Visit(delegatee(&delegated.name, &delegated.keys))),
                Some(agreement) if agreement.roles.first() == Some(&delegated.name) => {
                    let members = agreement.roles.iter().filter_map(|name| by_name.get(name));
                    let mut waiting: Vec<_> = members.map(|role| delegatee(&role.name, &role.keys)).collect();
                    waiting.reverse();
                    let (roles, roles_min) = (agreement.roles.clone(), agreement.roles_min);
                    steps.push(Step::Agree(Agreement { roles, roles_min, waiting, words: Vec::new() }));
                }
                // Asked with the first of its agreement.
                Some(_) => continue,
            }
            if delegated.terminating {
                return (steps, true);
            }
        }
        if let Some(bins) = &delegations.bins {
            // Nobody but its bin may list a path, so a bin is terminating (TAP 15).
            steps.push(Step::Visit(delegatee(&bins.name_of(&self.path), &bins.keys)));
            return (steps, true);
        }
        (steps, false)
    }

    /// Asks the next role of an agreement, by a search from that role on, or compares what all have said.
    fn ask(&mut self, mut agreement: Agreement) -> Result<(), TrustError> {
        match agreement.waiting.pop() {
            Some(delegatee) => {
                let open = Vec::from([Step::Visit(delegatee)]);
                self.levels.push(Level { open, visited: BTreeSet::new(), asked_for: Some(agreement) });
                Ok(())
            }
            None => match agreement.decide(&self.path)? {
                Some(found) => self.answer(Some(found)),
                // None of them lists it, so the search goes on behind them.
                None => Ok(()),
            },
        }
    }

    /// Ends the search from one role on with what was found.
    fn answer(&mut self, word: Option<TargetMeta>) -> Result<(), TrustError> {
        match self.levels.pop().and_then(|level| level.asked_for) {
            Some(mut agreement) => {
                agreement.words.push(word);
                self.ask(agreement)
            }
            None => {
                self.found = word;
                Ok(())
            }
        }
    }

    /// Path and, where the delegation names some, hardware must both match (Uptane, 5.4.4.7).
    fn concerns(&self, delegated: &DelegatedRole) -> bool {
        let fits = |wanted| delegated.hardware_ids.is_empty() || delegated.hardware_ids.contains(wanted);
        self.hardware_ids.iter().all(fits) && delegated.paths.contains(&self.path)
    }
}

impl Agreement {
    fn decide(self, path: &str) -> Result<Option<TargetMeta>, TrustError> {
        match agreed(&self.words, self.roles_min) {
            Ok(word) => Ok(word.cloned()),
            Err(agreeing) => {
                let roles = super::agree::list(&self.roles);
                Err(TrustError::RolesDisagree { path: path.into(), agreeing, roles, roles_min: self.roles_min })
            }
        }
    }
}

/// The word of a set of enough roles that say the same, the set with the earliest role before others (Uptane, 5.4.4.7), or that none of
/// them lists the path. The error is how many agree at most, where some list it and too few agree: then nobody behind them is asked, so
/// that a role that co-signs cannot be walked around.
pub(super) fn agreed(words: &[Option<TargetMeta>], roles_min: u64) -> Result<Option<&TargetMeta>, u64> {
    let agreeing = |word: &TargetMeta| words.iter().flatten().filter(|other| is_same(word, other)).count() as u64;
    let most = words.iter().flatten().map(agreeing).max().unwrap_or_default();
    match words.iter().flatten().find(|word| agreeing(word) >= roles_min) {
        None if most > 0 => Err(most),
        word => Ok(word),
    }
}

/// Length, every digest that both list, and what repositories must say alike.
fn is_same(one: &TargetMeta, other: &TargetMeta) -> bool {
    let bytes = one.length == other.length && matches!(one.hashes.agree(&other.hashes), Ok(Some(_)));
    bytes && one.shall_match() == other.shall_match()
}
