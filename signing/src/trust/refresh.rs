//! One repository's metadata, brought up to date: what to fetch next, what to persist, in the order of [`super::verify`].

use alloc::{boxed::Box, collections::VecDeque, format, string::String, vec::Vec};

use super::{
    Action, Challenge, FetchFailure, FetchRequest, MetadataCache, Repository, TrustError,
    cache::{ROOT_FILE, SNAPSHOT_FILE, TARGETS_FILE, TIMESTAMP_FILE, role_file},
    limits::{ROOT_BYTES_MAX, ROOT_STEPS_MAX, SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX},
    verify::{Fresh, KeySet, Rules, TimestampStep, Trusted},
};
use crate::{
    metadata::{MetaFile, Nonce, Root, RootRole, Snapshot, Targets, Timestamp},
    time::UnixTime,
};

/// A change to what the vehicle holds on disk, to be made durable before anything else is asked for.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Persist { repository: Repository, file_name: String, bytes: Vec<u8> },
    Remove { repository: Repository, file_name: String },
}

/// What the vehicle holds, and the changes that its disk has yet to see.
#[derive(Debug)]
pub(super) struct Held {
    /// What the check goes by.
    pub(super) cache: MetadataCache,
    /// What the disk has, where that is something else: the check of an offline update goes by the file and leaves all but the roots alone.
    disk: Option<MetadataCache>,
    pub(super) changes: VecDeque<Change>,
    pub(super) now: UnixTime,
    pub(super) rules: Rules,
    /// Whether to ask the Director with a nonce.
    pub(super) challenge: Option<Challenge>,
    /// The repository whose chain of roots was followed twice.
    asked_again: Option<Repository>,
}

impl Held {
    pub(super) fn new(cache: MetadataCache, now: UnixTime, rules: Rules) -> Self {
        // An offline update is neither older nor newer than what the repositories say over the network; only the chain of roots is one
        // and the same.
        let (cache, disk) = if rules == Rules::UptaneOffline { (cache.roots(), Some(cache)) } else { (cache, None) };
        Self { cache, disk, changes: VecDeque::new(), now, rules, challenge: None, asked_again: None }
    }

    /// What the disk has when every change has reached it. After an offline update this is not what came in the file: it would take the
    /// place of the measure by which the next check over the network knows what is old.
    pub(super) fn into_disk(self) -> MetadataCache {
        self.disk.unwrap_or(self.cache)
    }

    /// Whether the end of the chain of roots may be looked for a second time; once for each repository, one after the other. Not in TUF,
    /// whose client workflow has every request counted, nor in a file, which does not change meanwhile.
    fn may_ask_again(&mut self, repository: Repository) -> bool {
        self.rules == Rules::Uptane && self.asked_again.replace(repository) != Some(repository)
    }

    /// The change that the disk must see before anything else happens.
    pub(super) fn change<O>(&self) -> Option<Action<O>> {
        Some(match self.changes.front().cloned()? {
            Change::Persist { repository, file_name, bytes } => Action::Persist { repository, file_name, bytes },
            Change::Remove { repository, file_name } => Action::Remove { repository, file_name },
        })
    }

    /// The caller says that the disk has seen it.
    pub(super) fn changed(&mut self) -> Result<(), TrustError> {
        self.changes.pop_front().map(drop).ok_or(TrustError::OutOfOrder)
    }

    /// The file by which a fetched one is judged not to be older. In TUF the snapshot alone says which versions are current, so that
    /// rotating its key also takes back Targets versions that a thief had pushed to their end (step 5.3.11); Uptane asks for more
    /// (5.4.4.6, 4).
    fn older(&self, repository: Repository, file_name: &str) -> Option<&[u8]> {
        self.cache.get(repository, file_name).filter(|_| self.rules.are_uptane())
    }

    fn persist(&mut self, repository: Repository, file_name: &str, bytes: &[u8]) {
        self.cache.insert(repository, file_name, bytes.to_vec());
        if let Some(disk) = &mut self.disk {
            if file_name != ROOT_FILE {
                return;
            }
            disk.insert(repository, file_name, bytes.to_vec());
        }
        let change = Change::Persist { repository, file_name: file_name.into(), bytes: bytes.to_vec() };
        self.changes.push_back(change);
    }

    fn remove(&mut self, repository: Repository, file_name: &str) {
        let disk = self.disk.as_mut().unwrap_or(&mut self.cache);
        if disk.get(repository, file_name).is_some() {
            disk.remove(repository, file_name);
            self.changes.push_back(Change::Remove { repository, file_name: file_name.into() });
        }
    }
}

/// How far a repository's metadata is. Each state but the last waits for one file.
#[derive(Debug)]
pub(super) enum Refresh {
    /// For the next root, or the word that there is none. Where that is asked a second time, with the refusal that it is to explain.
    Root { root: Trusted<Root>, steps: u32, refused: Option<Box<TrustError>> },
    /// For the timestamp.
    Timestamp { root: Fresh<Root>, older: Option<Trusted<Timestamp>>, nonce: Option<Nonce> },
    /// For the snapshot that the timestamp lists.
    Snapshot { root: Fresh<Root>, timestamp: Fresh<Timestamp>, older: Option<Trusted<Snapshot>> },
    /// For the top-level targets that the snapshot lists.
    Targets { root: Fresh<Root>, snapshot: Fresh<Snapshot> },
    /// For nothing: everything is verified and fresh.
    Done(Box<Refreshed>),
}

/// A repository whose metadata is verified and fresh.
#[derive(Debug)]
pub(super) struct Refreshed {
    pub(super) root: Fresh<Root>,
    pub(super) snapshot: Fresh<Snapshot>,
    pub(super) targets: Fresh<Targets>,
}

impl Refresh {
    pub(super) fn start(repository: Repository, held: &Held) -> Result<Self, TrustError> {
        Ok(Self::Root { root: start_of_chain(repository, &held.cache)?, steps: 0, refused: None })
    }

    /// The file that this state waits for.
    pub(super) fn request(&self) -> Option<FetchRequest> {
        let (repository, file_name, length_max) = match self {
            Self::Root { root, .. } => (root.repository(), format!("{}.{ROOT_FILE}", root.role().version + 1), ROOT_BYTES_MAX),
            Self::Timestamp { root, .. } => (root.repository(), TIMESTAMP_FILE.into(), TIMESTAMP_BYTES_MAX),
            Self::Snapshot { root, timestamp, .. } => {
                let listed = &timestamp.role().snapshot;
                (root.repository(), versioned(root, listed, SNAPSHOT_FILE), length_max(listed, SNAPSHOT_BYTES_MAX))
            }
            Self::Targets { root, snapshot } => {
                let listed = snapshot.listed("targets").ok()?;
                (root.repository(), versioned(root, listed, TARGETS_FILE), length_max(listed, TARGETS_BYTES_MAX))
            }
            Self::Done(_) => return None,
        };
        let nonce = if let Self::Timestamp { nonce, .. } = self { *nonce } else { None };
        Some(FetchRequest { repository, file_name, length_max, nonce })
    }

    /// Takes the file that was asked for and goes as far as the files that are held allow.
    ///
    /// A file that the keys of the newest root have not signed may be one that the keys of a newer one have: a root that was published since
    /// the chain was followed. So its end is looked for once more, before anybody is told of an attack.
    pub(super) fn handle(
        self,
        request: &FetchRequest,
        fetched: Result<Vec<u8>, FetchFailure>,
        held: &mut Held,
    ) -> Result<Self, TrustError> {
        let is_root = matches!(self, Self::Root { .. });
        match self.advance(request, fetched, held) {
            Err(refused @ TrustError::ThresholdNotMet { .. }) if !is_root && held.may_ask_again(request.repository) => {
                let root = start_of_chain(request.repository, &held.cache)?;
                Ok(Self::Root { root, steps: 0, refused: Some(Box::new(refused)) })
            }
            result => result,
        }
    }

    fn advance(self, request: &FetchRequest, fetched: Result<Vec<u8>, FetchFailure>, held: &mut Held) -> Result<Self, TrustError> {
        match (self, fetched) {
            // Step 5.3.9. Only the word that there is no newer root ends the chain; a server that fails does not.
            (Self::Root { refused: Some(refused), .. }, Err(_)) => Err(*refused),
            (Self::Root { root, .. }, Err(FetchFailure::NotFound)) => enter_timestamp(root, held),
            (_, Err(failure)) => Err(failure.into_error(request)),
            (Self::Root { root, steps, .. }, Ok(bytes)) => next_root(&root, steps, &bytes, held),
            (Self::Timestamp { root, older, nonce }, Ok(bytes)) => next_timestamp(root, older, nonce, &bytes, held),
            (Self::Snapshot { root, timestamp, older }, Ok(bytes)) => {
                let snapshot = root.snapshot(&timestamp, &bytes, older.as_ref())?;
                held.persist(root.repository(), SNAPSHOT_FILE, &bytes);
                enter_targets(root, snapshot, held)
            }
            (Self::Targets { root, snapshot }, Ok(bytes)) => {
                let older = held.older(root.repository(), TARGETS_FILE);
                let targets = root.targets(&snapshot, &bytes, older)?;
                held.persist(root.repository(), TARGETS_FILE, &bytes);
                Ok(Self::Done(Box::new(Refreshed { root, snapshot, targets })))
            }
            (Self::Done(_), Ok(_)) => Err(TrustError::OutOfOrder),
        }
    }
}

/// The root from which the chain is followed: the one that an earlier check persisted, or the one of the provisioning, when that is
/// newer because the vehicle's software was replaced, or when the disk has damaged the other. From an older root the chain leads to
/// the newest one again (Uptane, 5.4.4: an error "should not leave the ECU in an unrecoverable state").
fn start_of_chain(repository: Repository, cache: &MetadataCache) -> Result<Trusted<Root>, TrustError> {
    let persisted = cache.get(repository, ROOT_FILE).map(|bytes| Trusted::anchor(repository, bytes));
    let provisioned = cache.anchor(repository).and_then(|bytes| Trusted::anchor(repository, bytes).ok());
    match (persisted, provisioned) {
        (Some(Ok(persisted)), Some(provisioned)) if provisioned.role().version > persisted.role().version => Ok(provisioned),
        (Some(Ok(persisted)), _) => Ok(persisted),
        (_, Some(provisioned)) => Ok(provisioned),
        (Some(Err(error)), None) => Err(error),
        (None, None) => Err(TrustError::AnchorMissing { repository }),
    }
}

/// Steps 5.3.3 to 5.3.8, with the recovery of step 5.3.11 at each link of the chain.
fn next_root(root: &Trusted<Root>, steps: u32, bytes: &[u8], held: &mut Held) -> Result<Refresh, TrustError> {
    let newer = root.step(bytes)?;
    let repository = newer.repository();
    // A thief of the timestamp or snapshot key may have pushed a version number to its end; with the key revoked, what it signed
    // is forgotten. Forgotten before the root is persisted: a power cut between the two then repeats this step instead of skipping it.
    if newer.revokes_key_of(root, RootRole::Timestamp) || newer.revokes_key_of(root, RootRole::Snapshot) {
        held.remove(repository, TIMESTAMP_FILE);
        held.remove(repository, SNAPSHOT_FILE);
    }
    held.persist(repository, ROOT_FILE, bytes);
    let steps = steps + 1;
    if steps >= ROOT_STEPS_MAX {
        let version = newer.role().version;
        return Err(TrustError::TooManyRoots { repository, steps_max: ROOT_STEPS_MAX, version });
    }
    Ok(Refresh::Root { root: newer, steps, refused: None })
}

fn enter_timestamp(root: Trusted<Root>, held: &Held) -> Result<Refresh, TrustError> {
    let root = root.finish(held.now)?;
    let older = held.cache.get(root.repository(), TIMESTAMP_FILE).and_then(|bytes| root.recall_timestamp(bytes));
    // The Image repository is the same for everybody, from any cache: it answers nobody.
    let challenge = held.challenge.filter(|_| root.repository() == Repository::Director && held.rules == Rules::Uptane);
    let nonce = challenge.and_then(|challenge| challenge.due(older.as_ref().map(Trusted::role), held.now));
    Ok(Refresh::Timestamp { root, older, nonce })
}

fn next_timestamp(
    root: Fresh<Root>,
    older: Option<Trusted<Timestamp>>,
    nonce: Option<Nonce>,
    bytes: &[u8],
    held: &mut Held,
) -> Result<Refresh, TrustError> {
    let step = root.timestamp(bytes, older.as_ref(), held.rules)?;
    if let Some(nonce) = nonce {
        step.answers(&nonce, older.as_ref())?;
    }
    let timestamp = match (step, older) {
        (TimestampStep::Newer(timestamp), _) => {
            held.persist(root.repository(), TIMESTAMP_FILE, bytes);
            *timestamp
        }
        // Step 5.4.3: the same version brings nothing; what is held stays, and so does its expiry.
        (TimestampStep::Same, Some(older)) => root.keep(older)?,
        (TimestampStep::Same, None) => return Err(TrustError::OutOfOrder),
    };
    enter_snapshot(root, timestamp, held)
}

fn enter_snapshot(root: Fresh<Root>, timestamp: Fresh<Timestamp>, held: &Held) -> Result<Refresh, TrustError> {
    let cached = held.cache.get(root.repository(), SNAPSHOT_FILE);
    let older = cached.and_then(|bytes| root.recall_snapshot(bytes));
    // Uptane, 5.4.4.5, 1: the snapshot that is held is the one the timestamp lists, so it need not be fetched.
    match cached.map(|bytes| root.snapshot(&timestamp, bytes, None)) {
        Some(Ok(snapshot)) => enter_targets(root, snapshot, held),
        _ => Ok(Refresh::Snapshot { root, timestamp, older }),
    }
}

fn enter_targets(root: Fresh<Root>, snapshot: Fresh<Snapshot>, held: &Held) -> Result<Refresh, TrustError> {
    snapshot.listed("targets")?;
    let cached = held.cache.get(root.repository(), TARGETS_FILE);
    match cached.map(|bytes| root.targets(&snapshot, bytes, None)) {
        Some(Ok(targets)) => Ok(Refresh::Done(Box::new(Refreshed { root, snapshot, targets }))),
        _ => Ok(Refresh::Targets { root, snapshot }),
    }
}

impl Refreshed {
    /// The file of a delegated role.
    pub(super) fn request_delegated(&self, role: &str) -> Result<FetchRequest, TrustError> {
        let listed = self.snapshot.listed(role)?;
        Ok(FetchRequest {
            repository: self.root.repository(),
            file_name: versioned(&self.root, listed, &role_file(role)),
            length_max: length_max(listed, TARGETS_BYTES_MAX),
            nonce: None,
        })
    }

    /// A delegated role that is held, if this delegator vouches for it and nothing about it is out of date.
    pub(super) fn held_delegated(&self, role: &str, keys: &KeySet, held: &Held) -> Option<Fresh<Targets>> {
        let bytes = held.cache.get(self.root.repository(), &role_file(role))?;
        self.snapshot.delegated(role, keys, bytes, None).ok()
    }

    /// A delegated role that was fetched.
    pub(super) fn fetched_delegated(&self, role: &str, keys: &KeySet, bytes: &[u8], held: &mut Held) -> Result<Fresh<Targets>, TrustError> {
        let (repository, file_name) = (self.root.repository(), role_file(role));
        let older = held.older(repository, &file_name);
        let targets = self.snapshot.delegated(role, keys, bytes, older)?;
        held.persist(repository, &file_name, bytes);
        Ok(targets)
    }
}

/// The name under which a consistent snapshot keeps a version of a file (step 5.5.1 and 5.6.1).
fn versioned(root: &Fresh<Root>, listed: &MetaFile, file_name: &str) -> String {
    if root.role().consistent_snapshot { format!("{}.{file_name}", listed.version) } else { file_name.into() }
}

/// A listed length is exact; it never raises the limit, because the key that lists it may be stolen.
fn length_max(listed: &MetaFile, limit: u64) -> u64 {
    listed.length.map_or(limit, |listed| listed.min(limit))
}
