//! The checks on one metadata file, in the order of the TUF client workflow.
//!
//! The order is in the types. A [`Fresh<Timestamp>`] comes only from a [`Fresh<Root>`], a [`Fresh<Snapshot>`] only from a
//! [`Fresh<Timestamp>`], a [`Fresh<Targets>`] only from a [`Fresh<Snapshot>`]. To skip a step or to swap two does not compile.
//! Step numbers are those of the TUF specification 1.0.34, section 5; "Uptane" is the Uptane Standard 2.1.0, section 5.4.4.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
};

use super::{
    Repository, TrustError,
    cache::role_file,
    limits::{ROOT_BYTES_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX},
};
use crate::{
    keys::{KeyId, KeyObject, PublicKey},
    metadata::{Freshness, MetaFile, Nonce, Role, RoleKeys, Root, RootRole, Signed, Snapshot, Targets, Timestamp},
    time::UnixTime,
};

/// Metadata that enough of the right keys have signed, and that is not older than what was trusted before it. It may have expired.
#[derive(Debug)]
pub(crate) struct Trusted<R> {
    repository: Repository,
    role: R,
}

/// Trusted metadata that has not expired.
#[derive(Debug)]
pub(crate) struct Fresh<R> {
    trusted: Trusted<R>,
    now: UnixTime,
}

/// Whose rules a repository is held to, where the two standards differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// The TUF specification's client workflow.
    Tuf,
    /// The Uptane Standard, which asks for more.
    Uptane,
    /// The same for an offline update, whose metadata came in a file.
    UptaneOffline,
}

impl Rules {
    /// Whether the Uptane Standard counts.
    pub(crate) fn are_uptane(self) -> bool {
        match self {
            Self::Uptane | Self::UptaneOffline => true,
            Self::Tuf => false,
        }
    }
}

/// What became of a fetched timestamp.
#[derive(Debug)]
pub(crate) enum TimestampStep {
    /// A newer one, which replaces the old.
    Newer(Box<Fresh<Timestamp>>),
    /// The version that is trusted already.
    Same,
}

impl TimestampStep {
    /// That the timestamp which is in force now answers the question that was asked, if its Director answers any. One that does not was
    /// signed before the question: somebody shows what there was (a freeze attack, Uptane, 4.4), or keeps the question from the Director.
    pub(crate) fn answers(&self, asked: &Nonce, older: Option<&Trusted<Timestamp>>) -> Result<(), TrustError> {
        let (repository, timestamp) = match (self, older) {
            (Self::Newer(newer), _) => (newer.repository(), newer.role()),
            (Self::Same, Some(older)) => (older.repository, &older.role),
            (Self::Same, None) => return Err(TrustError::OutOfOrder),
        };
        let malformed = |problem| TrustError::Malformed { repository, file_name: "timestamp.json".to_string(), problem };
        let Some(Freshness { signed_at, nonce }) = timestamp.freshness().map_err(malformed)? else { return Ok(()) };
        if nonce == Some(*asked) {
            return Ok(());
        }
        let found = nonce.map_or("no nonce".to_string(), |nonce| format!("the nonce {nonce}"));
        Err(TrustError::NonceDiffers { repository, version: timestamp.version, signed_at, found, asked: *asked })
    }
}

impl<R> Trusted<R> {
    pub(crate) fn role(&self) -> &R {
        &self.role
    }

    pub(crate) fn repository(&self) -> Repository {
        self.repository
    }
}

impl<R: Role> Trusted<R> {
    /// Steps 5.3.10, 5.4.4, 5.5.6 and 5.6.6: the time that was fixed at the start of the check must be before the expiry.
    fn fresh(self, name: &str, now: UnixTime) -> Result<Fresh<R>, TrustError> {
        let expires = self.role.expires();
        if now >= expires {
            return Err(TrustError::Expired { repository: self.repository, role: name.to_string(), expires, now });
        }
        Ok(Fresh { trusted: self, now })
    }
}

impl<R> Fresh<R> {
    pub(crate) fn role(&self) -> &R {
        &self.trusted.role
    }

    pub(crate) fn repository(&self) -> Repository {
        self.trusted.repository
    }
}

impl Trusted<Root> {
    /// The root that the vehicle was provisioned with, or that an earlier check persisted. It must carry its own signatures, which
    /// finds a damaged file; where it came from is what makes it trusted (step 5.2).
    pub(crate) fn anchor(repository: Repository, bytes: &[u8]) -> Result<Self, TrustError> {
        let root = read::<Root>(repository, "root.json", bytes, ROOT_BYTES_MAX)?;
        KeySet::of_root(&root.signed, RootRole::Root).verify(repository, &root)?;
        Ok(Self { repository, role: root.signed })
    }

    /// The next link of the chain (steps 5.3.4 and 5.3.5; Uptane, 5.4.4.3): signed by a threshold of the old keys and by a
    /// threshold of its own, and exactly one version higher. A thief of the old keys cannot jump over a rotation, and who holds
    /// only the new keys has not been appointed by anybody.
    pub(crate) fn step(&self, bytes: &[u8]) -> Result<Self, TrustError> {
        let repository = self.repository;
        let expected = self.role.version + 1;
        let root = read::<Root>(repository, &format!("{expected}.root.json"), bytes, ROOT_BYTES_MAX)?;
        KeySet::of_root(&self.role, RootRole::Root).verify(repository, &root)?;
        KeySet::of_root(&root.signed, RootRole::Root).verify(repository, &root)?;
        let found = root.signed.version;
        if found != expected {
            return Err(TrustError::RootVersion { repository, found, expected });
        }
        Ok(Self { repository, role: root.signed })
    }

    /// The end of the chain. Only here does expiry count: an old root may lead to a new one (step 5.3.10).
    pub(crate) fn finish(self, now: UnixTime) -> Result<Fresh<Root>, TrustError> {
        self.fresh("root", now)
    }

    /// Whether a key that could sign for `role` no longer can: the reason to forget what the role said (step 5.3.11).
    pub(crate) fn revokes_key_of(&self, older: &Self, role: RootRole) -> bool {
        let keys = |root: &Root| KeySet::of_root(root, role).keys.into_values().collect::<BTreeSet<_>>();
        !keys(&older.role).is_subset(&keys(&self.role))
    }
}

impl Fresh<Root> {
    /// A timestamp that an earlier check persisted, if the keys of this root vouch for it. Its only use is to tell what is older.
    pub(crate) fn recall_timestamp(&self, bytes: &[u8]) -> Option<Trusted<Timestamp>> {
        let timestamp = read::<Timestamp>(self.repository(), "timestamp.json", bytes, TIMESTAMP_BYTES_MAX).ok()?;
        self.recall(RootRole::Timestamp, timestamp)
    }

    /// A snapshot that an earlier check persisted, likewise.
    pub(crate) fn recall_snapshot(&self, bytes: &[u8]) -> Option<Trusted<Snapshot>> {
        let snapshot = read::<Snapshot>(self.repository(), "snapshot.json", bytes, SNAPSHOT_BYTES_MAX).ok()?;
        self.recall(RootRole::Snapshot, snapshot)
    }

    fn recall<R: Role>(&self, role: RootRole, signed: Signed<R>) -> Option<Trusted<R>> {
        let repository = self.repository();
        KeySet::of_root(self.role(), role).verify(repository, &signed).ok()?;
        Some(Trusted { repository, role: signed.signed })
    }

    /// A fetched timestamp (steps 5.4.2 to 5.4.4; Uptane, 5.4.4.4).
    pub(crate) fn timestamp(&self, bytes: &[u8], older: Option<&Trusted<Timestamp>>, rules: Rules) -> Result<TimestampStep, TrustError> {
        let repository = self.repository();
        let timestamp = read::<Timestamp>(repository, "timestamp.json", bytes, TIMESTAMP_BYTES_MAX)?;
        KeySet::of_root(self.role(), RootRole::Timestamp).verify(repository, &timestamp)?;
        let timestamp = timestamp.signed;
        let from_file = rules == Rules::UptaneOffline;
        // Before anything is compared or kept: it is of another kind, not older or newer.
        if rules.are_uptane() && timestamp.is_for_offline_update() != from_file {
            return Err(TrustError::OfflineMark { repository, from_file });
        }
        if let Some(older) = older.map(Trusted::role) {
            not_older(repository, "timestamp", timestamp.version, older.version)?;
            if timestamp.version == older.version {
                return Ok(TimestampStep::Same);
            }
            not_older(repository, "snapshot", timestamp.snapshot.version, older.snapshot.version)?;
        }
        // Uptane, 5.2.5: "one or more hashes"; TUF leaves them out where the snapshot is small and its version enough.
        if rules.are_uptane() && !timestamp.snapshot.hashes.is_known() {
            return Err(TrustError::DigestMissing { repository, role: "snapshot".to_string() });
        }
        self.keep(Trusted { repository, role: timestamp }).map(|timestamp| TimestampStep::Newer(Box::new(timestamp)))
    }

    /// Goes on with a timestamp that is trusted already, unless it has expired.
    pub(crate) fn keep(&self, timestamp: Trusted<Timestamp>) -> Result<Fresh<Timestamp>, TrustError> {
        timestamp.fresh("timestamp", self.now)
    }

    /// A snapshot, fetched or persisted (steps 5.5.2 to 5.5.6; Uptane, 5.4.4.5).
    pub(crate) fn snapshot(
        &self,
        timestamp: &Fresh<Timestamp>,
        bytes: &[u8],
        older: Option<&Trusted<Snapshot>>,
    ) -> Result<Fresh<Snapshot>, TrustError> {
        let repository = self.repository();
        let listed = &timestamp.role().snapshot;
        matches_listed(repository, "snapshot", bytes, listed)?;
        let snapshot = read::<Snapshot>(repository, "snapshot.json", bytes, SNAPSHOT_BYTES_MAX)?;
        KeySet::of_root(self.role(), RootRole::Snapshot).verify(repository, &snapshot)?;
        let snapshot = snapshot.signed;
        same_version(repository, "snapshot", snapshot.version, listed.version, "the timestamp")?;
        if let Some(older) = older {
            nothing_went_back(repository, &snapshot, older.role())?;
        }
        Trusted { repository, role: snapshot }.fresh("snapshot", self.now)
    }

    /// Top-level targets, fetched or persisted (steps 5.6.2 to 5.6.6; Uptane, 5.4.4.6).
    pub(crate) fn targets(&self, snapshot: &Fresh<Snapshot>, bytes: &[u8], older: Option<&[u8]>) -> Result<Fresh<Targets>, TrustError> {
        snapshot.listed_targets("targets", &KeySet::of_root(self.role(), RootRole::Targets), bytes, older)
    }
}

impl Fresh<Snapshot> {
    /// What this snapshot says about a role's metadata.
    pub(crate) fn listed(&self, role: &str) -> Result<&MetaFile, TrustError> {
        // The snapshot lists names as they are; only files and URLs quote them.
        let file_name = format!("{role}.json");
        let missing = || TrustError::FileUnlisted { repository: self.repository(), file_name: file_name.clone() };
        self.role().meta.get(&file_name).ok_or_else(missing)
    }

    /// Targets metadata that a delegator vouches for (steps 5.6.2 to 5.6.6 for each delegated role).
    pub(crate) fn delegated(&self, role: &str, keys: &KeySet, bytes: &[u8], older: Option<&[u8]>) -> Result<Fresh<Targets>, TrustError> {
        self.listed_targets(role, keys, bytes, older)
    }

    fn listed_targets(&self, role: &str, keys: &KeySet, bytes: &[u8], older: Option<&[u8]>) -> Result<Fresh<Targets>, TrustError> {
        let repository = self.repository();
        let listed = self.listed(role)?;
        matches_listed(repository, role, bytes, listed)?;
        let targets = signed_targets(repository, role, keys, bytes)?;
        same_version(repository, role, targets.version, listed.version, "the snapshot")?;
        if let Some(older) = older.and_then(|bytes| signed_targets(repository, role, keys, bytes).ok()) {
            // Uptane, 5.4.4.6, 4. What the keys of today did not sign is no measure: that is how a role whose keys were stolen
            // and rotated comes back from a version number that the thief had pushed to its end.
            not_older(repository, role, targets.version, older.version)?;
        }
        Trusted { repository, role: targets }.fresh(role, self.now)
    }
}

/// The keys of one role, by the names its delegator gave them, and how many must sign.
#[derive(Clone, Debug)]
pub(crate) struct KeySet {
    role: String,
    authority: String,
    keys: BTreeMap<KeyId, PublicKey>,
    threshold: u64,
}

impl KeySet {
    pub(crate) fn of_root(root: &Root, role: RootRole) -> Self {
        let authority = format!("root version {}", root.version);
        match root.roles.get(&role) {
            Some(keys) => Self::resolve(role.name(), authority, keys, &root.keys),
            // A root that was built here and not parsed may lack a role: nobody can sign for it.
            None => Self { role: role.name().to_string(), authority, keys: BTreeMap::new(), threshold: u64::MAX },
        }
    }

    /// Keys whose type or scheme is unknown to us, and ids without a key, cannot sign; they do not spoil the others.
    pub(crate) fn resolve(role: &str, authority: String, keys: &RoleKeys, known: &BTreeMap<KeyId, KeyObject>) -> Self {
        let usable = |id: &KeyId| Some((id.clone(), known.get(id)?.public_key()?.clone()));
        Self { role: role.to_string(), authority, keys: keys.key_ids.iter().filter_map(usable).collect(), threshold: keys.threshold }
    }

    /// Counts distinct public keys, not key ids: one key under two names is one signer (Uptane, 5.4.4.3: "unique keys").
    pub(crate) fn verify<R: Role>(&self, repository: Repository, signed: &Signed<R>) -> Result<(), TrustError> {
        let signers: BTreeSet<&PublicKey> =
            self.keys.iter().filter(|(id, key)| signed.verify(id, key).is_ok()).map(|(_, key)| key).collect();
        let valid = signers.len() as u64;
        if valid >= self.threshold {
            return Ok(());
        }
        Err(TrustError::ThresholdNotMet {
            repository,
            role: format!("{} version {}", self.role, signed.signed.version()),
            valid,
            threshold: self.threshold,
            authority: self.authority.clone(),
        })
    }

    /// That the threshold can be met at all.
    pub(crate) fn reachable(&self) -> Result<(), TrustError> {
        let keys = self.keys.values().collect::<BTreeSet<_>>().len() as u64;
        if keys >= self.threshold {
            return Ok(());
        }
        Err(TrustError::ThresholdUnreachable { role: self.role.clone(), keys, threshold: self.threshold })
    }
}

/// Reads a file and refuses one that is too long, of another role, or no metadata at all.
pub(crate) fn read<R: Role>(repository: Repository, file_name: &str, bytes: &[u8], length_max: u64) -> Result<Signed<R>, TrustError> {
    let file_name = file_name.to_string();
    if bytes.len() as u64 > length_max {
        return Err(TrustError::EndlessData { repository, file_name, length_max });
    }
    Signed::parse(bytes, bytes.len()).map_err(|problem| TrustError::Malformed { repository, file_name, problem })
}

/// Targets metadata with the signatures that `keys` ask for.
pub(crate) fn signed_targets(repository: Repository, role: &str, keys: &KeySet, bytes: &[u8]) -> Result<Targets, TrustError> {
    let targets = read::<Targets>(repository, &role_file(role), bytes, TARGETS_BYTES_MAX)?;
    keys.verify(repository, &targets)?;
    Ok(targets.signed)
}

/// Steps 5.5.2 and 5.6.2: the bytes are the ones that the superior metadata lists.
fn matches_listed(repository: Repository, role: &str, bytes: &[u8], listed: &MetaFile) -> Result<(), TrustError> {
    let found = bytes.len() as u64;
    if let Some(listed) = listed.length.filter(|&listed| listed != found) {
        return Err(TrustError::OtherLength { repository, role: role.to_string(), found, listed });
    }
    // Algorithms that nobody here knows vouch for nothing; to go on without would be to ignore what the superior wanted checked.
    if !listed.hashes.is_empty() && !listed.hashes.is_known() {
        return Err(TrustError::DigestMissing { repository, role: role.to_string() });
    }
    listed.hashes.verify(bytes).map_err(|digests| TrustError::OtherDigest { repository, role: role.to_string(), digests })
}

/// Step 5.5.5: no listed file went back or disappeared.
pub(crate) fn nothing_went_back(repository: Repository, newer: &Snapshot, older: &Snapshot) -> Result<(), TrustError> {
    not_older(repository, "snapshot", newer.version, older.version)?;
    for (file_name, trusted) in &older.meta {
        let Some(found) = newer.meta.get(file_name) else {
            return Err(TrustError::FileRemoved { repository, file_name: file_name.clone() });
        };
        not_older(repository, file_name, found.version, trusted.version)?;
    }
    Ok(())
}

pub(crate) fn not_older(repository: Repository, role: &str, found: u64, trusted: u64) -> Result<(), TrustError> {
    if found >= trusted {
        return Ok(());
    }
    Err(TrustError::OlderVersion { repository, role: role.to_string(), found, trusted })
}

fn same_version(repository: Repository, role: &str, found: u64, listed: u64, authority: &'static str) -> Result<(), TrustError> {
    if found == listed {
        return Ok(());
    }
    Err(TrustError::OtherVersion { repository, role: role.to_string(), found, listed, authority })
}
