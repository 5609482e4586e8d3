//! The same checks before publishing: what a vehicle would refuse, the server and the command line refuse first.
//!
//! Also the two roles that the server makes by itself: the next snapshot and the next timestamp of what was published.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Repository, TrustError,
    image::check_path,
    limits::TARGETS_BYTES_MAX,
    search::agreed,
    target::check_length,
    verify::{KeySet, Trusted, not_older, nothing_went_back, read, signed_targets},
};
use crate::{
    metadata::{Agreement, Custom, Delegations, MetaFile, Root, RootRole, Snapshot, Targets, Timestamp, normal},
    time::UnixTime,
};

/// A file that a snapshot is to list.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotEntry<'a> {
    /// Name of the role: `targets` or a delegated role.
    pub role: &'a str,
    /// Version of its metadata.
    pub version: u64,
    /// The metadata's bytes.
    pub bytes: &'a [u8],
}

/// Where a role's metadata is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The repository.
    pub repository: Repository,
    /// Its newest root, trusted by the caller.
    pub root: &'a [u8],
    /// What is published under this role now.
    pub previous: Option<&'a [u8]>,
    /// The time to hold expiry against.
    pub now: UnixTime,
}

/// Checks a root before it is published: as the next link of the chain, or, without a trusted root, as the first.
///
/// # Errors
/// [`TrustError`] as a vehicle would give it; also when a role names fewer usable keys than its threshold, which nobody could ever sign.
pub fn check_root_step(repository: Repository, trusted: Option<&[u8]>, new: &[u8], now: UnixTime) -> Result<Root, TrustError> {
    normal::check(new).map_err(|problem| TrustError::Malformed { repository, file_name: "root.json".to_string(), problem })?;
    let root = match trusted {
        Some(trusted) => Trusted::anchor(repository, trusted)?.step(new)?,
        None => Trusted::anchor(repository, new)?,
    };
    for role in RootRole::ALL {
        KeySet::of_root(root.role(), role).reachable()?;
    }
    Ok(root.finish(now)?.role().clone())
}

/// Checks top-level Targets metadata before it is published.
///
/// # Errors
/// [`TrustError`] as a vehicle would give it, plus [`TrustError::TargetPath`] and [`TrustError::ThresholdUnreachable`].
pub fn check_targets(new: &[u8], to: &Publication<'_>) -> Result<Targets, TrustError> {
    let root = Trusted::anchor(to.repository, to.root)?.finish(to.now)?;
    check_signed("targets", &KeySet::of_root(root.role(), RootRole::Targets), new, to)
}

/// Checks the metadata of a delegated role before it is published. `delegator` is the Targets metadata that delegates to it and has
/// been checked itself.
///
/// # Errors
/// As [`check_targets`], plus [`TrustError::RoleUnknown`] and [`TrustError::OutsideDelegation`]: a vehicle would silently never find
/// what lies outside.
pub fn check_delegated(role: &str, delegator: &Targets, new: &[u8], to: &Publication<'_>) -> Result<Targets, TrustError> {
    let nobody = Delegations::default();
    let delegations = delegator.delegations.as_ref().unwrap_or(&nobody);
    let delegated = delegations.roles.iter().find(|delegated| delegated.name == role);
    let delegated = delegated.ok_or_else(|| TrustError::RoleUnknown { role: role.to_string() })?;
    let authority = format!("targets version {}", delegator.version);
    let keys = KeySet::resolve(role, authority, &delegated.keys, &delegations.keys);
    let targets = check_signed(role, &keys, new, to)?;
    match targets.targets.keys().find(|path| !delegated.paths.contains(path)) {
        Some(path) => Err(TrustError::OutsideDelegation { role: role.to_string(), path: path.clone() }),
        None => Ok(targets),
    }
}

fn check_signed(role: &str, keys: &KeySet, new: &[u8], to: &Publication<'_>) -> Result<Targets, TrustError> {
    let (repository, file_name) = (to.repository, format!("{role}.json"));
    normal::check(new).map_err(|problem| TrustError::Malformed { repository, file_name, problem })?;
    let targets = signed_targets(to.repository, role, keys, new)?;
    if let Some(previous) = to.previous {
        let previous = read::<Targets>(to.repository, role, previous, TARGETS_BYTES_MAX)?.signed;
        // A version is published once: who has read it must not meet other bytes under the same number.
        not_older(to.repository, role, targets.version, previous.version + 1)?;
    }
    for path in targets.targets.keys() {
        check_path(path)?;
    }
    for (path, meta) in targets.targets.iter().filter(|(_, meta)| meta.shall_match().is_some()) {
        let malformed = |problem| TrustError::CustomMalformed { path: path.clone(), problem };
        if meta.is_release() {
            let release = meta.release().map_err(malformed)?;
            companions_are_listed(role, path, &release, &targets)?;
        } else {
            meta.ecu_image().map_err(malformed)?;
        }
    }
    for delegated in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
        let known = targets.delegations.as_ref().map(|delegations| &delegations.keys);
        let authority = format!("{role} version {}", targets.version);
        KeySet::resolve(&delegated.name, authority, &delegated.keys, known.unwrap_or(&BTreeMap::new())).reachable()?;
    }
    let (expires, now) = (targets.expires, to.now);
    if now >= expires {
        return Err(TrustError::Expired { repository: to.repository, role: role.to_string(), expires, now });
    }
    Ok(targets)
}

/// A release and what it needs are signed by the same people at the same time, so that neither is ever to be had without the other.
fn companions_are_listed(role: &str, path: &str, release: &Custom, targets: &Targets) -> Result<(), TrustError> {
    for companion in &release.companions {
        let unlisted = |problem| TrustError::CompanionUnlisted {
            role: role.to_string(),
            path: path.to_string(),
            companion: companion.path.clone(),
            hardware_id: companion.hardware_id.clone(),
            problem,
        };
        check_length(&companion.path, companion.length)?;
        let meta = targets.targets.get(&companion.path).ok_or_else(|| unlisted("does not list"))?;
        if meta.length != companion.length || meta.hashes.sha256 != Some(companion.sha256) {
            return Err(unlisted("lists with other bytes"));
        }
        let block = meta.ecu_image().map_err(|problem| TrustError::CustomMalformed { path: companion.path.clone(), problem })?;
        if !block.hardware_ids.contains(&companion.hardware_id) {
            return Err(unlisted("lists for other hardware"));
        }
        if block.release_counter != companion.release_counter {
            return Err(unlisted("lists with another release counter"));
        }
    }
    Ok(())
}

/// What a vehicle finds where roles are believed only together: as the earliest role, with what enough of them list alike, until the
/// first of them expires. `roles` are all of the agreement's, in its order.
pub fn agreed_targets(agreement: &Agreement, roles: &[Targets]) -> Option<Targets> {
    let first = roles.first()?;
    let paths: BTreeSet<&String> = roles.iter().flat_map(|targets| targets.targets.keys()).collect();
    let word = |path: &String| {
        let words: Vec<_> = roles.iter().map(|targets| targets.targets.get(path).cloned()).collect();
        Some((path.clone(), agreed(&words, agreement.roles_min).ok()??.clone()))
    };
    let expires = roles.iter().map(|targets| targets.expires).min()?;
    Some(Targets { targets: paths.into_iter().filter_map(word).collect(), expires, ..first.clone() })
}

/// The snapshot that lists these files, and those of the previous one that are not replaced; a file that was listed stays listed.
///
/// # Errors
/// [`TrustError::OlderVersion`] when a file would go back, which every vehicle would refuse.
pub fn next_snapshot(
    repository: Repository,
    previous: Option<&Snapshot>,
    files: &[SnapshotEntry<'_>],
    expires: UnixTime,
) -> Result<Snapshot, TrustError> {
    let mut snapshot = Snapshot::new(previous.map_or(1, |previous| previous.version + 1), expires);
    snapshot.meta = previous.map(|previous| previous.meta.clone()).unwrap_or_default();
    for file in files {
        snapshot.meta.insert(format!("{}.json", file.role), MetaFile::of(file.version, file.bytes));
    }
    if let Some(previous) = previous {
        nothing_went_back(repository, &snapshot, previous)?;
    }
    Ok(snapshot)
}

/// The timestamp of a snapshot.
pub fn next_timestamp(previous: Option<&Timestamp>, snapshot: &Snapshot, snapshot_bytes: &[u8], expires: UnixTime) -> Timestamp {
    let version = previous.map_or(1, |previous| previous.version + 1);
    Timestamp::new(version, expires, MetaFile::of(snapshot.version, snapshot_bytes))
}
