//! Who may sign a role, and who has.

use std::collections::{BTreeMap, BTreeSet};

use switchback_signing::{
    keys::{KeyId, KeyObject, PublicKey},
    metadata::{DelegatedRole, Delegations, Document, RoleKeys, Root, RootRole, Signed, Targets},
};

use crate::{base::short_id, failure::failure};

/// The keys of one role, with the names that the base knows them by.
pub(crate) struct Keyholders {
    pub(crate) role: String,
    pub(crate) threshold: u64,
    keys: Vec<(KeyId, PublicKey, String)>,
}

/// Who has signed a file and who could.
pub(crate) struct Signatures {
    pub(crate) signed: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) threshold: u64,
}

impl Signatures {
    /// Whether enough have signed.
    pub(crate) fn complete(&self) -> bool {
        self.signed.len() as u64 >= self.threshold
    }

    /// `1 of 2 signatures (alice; missing one of bob, carol)`.
    pub(crate) fn describe(&self) -> String {
        let Self { signed, missing, threshold } = self;
        let by = if signed.is_empty() { "nobody".into() } else { signed.join(", ") };
        let open = threshold.saturating_sub(signed.len() as u64);
        let rest = if open == 0 { String::new() } else { format!("; {open} more of {}", missing.join(", ")) };
        format!("{} of {threshold} signatures ({by}{rest})", signed.len())
    }
}

impl Keyholders {
    /// Keyholders of a role by a root.
    pub(crate) fn of_root(root: &Root, role: RootRole, names: &BTreeMap<KeyId, String>) -> Self {
        // A root that was read has all roles.
        let nobody = RoleKeys::new(Vec::new(), u64::MAX);
        Self::new(role.name(), root.roles.get(&role).unwrap_or(&nobody), &root.keys, names)
    }

    /// Keyholders of a delegated role.
    pub(crate) fn of_release_role(targets: &Targets, role: &str, names: &BTreeMap<KeyId, String>) -> anyhow::Result<Self> {
        let nobody = Delegations::default();
        let delegations = targets.delegations.as_ref().unwrap_or(&nobody);
        let delegated = delegations.roles.iter().find(|delegated| delegated.name == role);
        let DelegatedRole { keys, .. } = delegated.ok_or_else(|| {
            let roles: Vec<&str> = delegations.roles.iter().map(|role| role.name.as_str()).collect();
            failure(
                format!("targets version {} delegates to no role {role}", targets.version),
                format!("its roles are: {}; the tier of the bundle must be one of the base's tiers", roles.join(", ")),
            )
        })?;
        Ok(Self::new(role, keys, &delegations.keys, names))
    }

    pub(crate) fn new(role: &str, keys: &RoleKeys, known: &BTreeMap<KeyId, KeyObject>, names: &BTreeMap<KeyId, String>) -> Self {
        let keys_of_role = keys.key_ids.iter().filter_map(|id| {
            let key = known.get(id)?.public_key()?.clone();
            let name = names.get(&key.key_id()).cloned().unwrap_or_else(|| short_id(id));
            Some((id.clone(), key, name))
        });
        Self { role: role.to_owned(), threshold: keys.threshold, keys: keys_of_role.collect() }
    }

    /// Whether the key may sign for the role.
    pub(crate) fn holds(&self, wanted: &PublicKey) -> bool {
        self.keys.iter().any(|(_, key, _)| key == wanted)
    }

    /// Whether a file carries a signature of this key that verifies.
    pub(crate) fn accepts<T: Document>(&self, file: &Signed<T>, wanted: &KeyId) -> bool {
        self.keys.iter().any(|(id, key, _)| id == wanted && file.verify(id, key).is_ok())
    }

    /// How many keys there are to sign with, however often a key is named.
    pub(crate) fn usable(&self) -> u64 {
        self.keys.iter().map(|(_, key, _)| key).collect::<BTreeSet<_>>().len() as u64
    }

    /// The key that `name` means: its name, or the beginning of its id.
    pub(crate) fn find(&self, name: &str) -> Option<&PublicKey> {
        let found = |(id, _, known): &&(KeyId, PublicKey, String)| known == name || (name.len() >= 8 && id.as_str().starts_with(name));
        self.keys.iter().find(found).map(|(_, key, _)| key)
    }

    /// What the key is called here.
    pub(crate) fn name_of(&self, wanted: &PublicKey) -> Option<&str> {
        self.keys.iter().find(|(_, key, _)| key == wanted).map(|(_, _, name)| name.as_str())
    }

    /// Names and ids of the keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &KeyId)> {
        self.keys.iter().map(|(id, _, name)| (name.as_str(), id))
    }

    /// The keyholders of both.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let others = other.keys.iter().filter(|(_, key, _)| !self.holds(key)).cloned();
        Self { role: self.role.clone(), threshold: self.threshold, keys: self.keys.iter().cloned().chain(others).collect() }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.keys.iter().map(|(_, _, name)| name.as_str()).collect()
    }

    /// Who has signed `file`; only signatures that verify count.
    pub(crate) fn signatures<T: Document>(&self, file: &Signed<T>) -> Signatures {
        let (signed, missing): (Vec<_>, Vec<_>) = self.keys.iter().partition(|(id, key, _)| file.verify(id, key).is_ok());
        let names = |keys: Vec<&(KeyId, PublicKey, String)>| keys.into_iter().map(|(_, _, name)| name.clone()).collect();
        Signatures { signed: names(signed), missing: names(missing), threshold: self.threshold }
    }
}
