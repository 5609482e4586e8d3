//! The server's own keys: the online roles. They are made at the first start, never leave the data folder, and are worth something
//! only once an offline root names them.
//!
//! A role has the key that signs and, between the order for a new one and the root that names it, that new one as well: until then the
//! old one signs, so that a planned rotation has no gap. With that root the new key takes the place of the old one, which is gone.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use switchback_signing::{
    keys::{
        Ed25519Signer, KeyId, KeyObject, PublicKey, Sha256Digest, Signer,
        file::{KeyFileError, parse_secret, public_to_bytes, secret_to_bytes},
    },
    metadata::{Root, RootRole},
    trust::Repository,
};

use crate::director::{Signers, SignersId};

/// Why a key could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyFileError,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(#[from] getrandom::Error),
    /// A ceremony may be under way with the new keys that are there.
    #[error("there are new online keys already that no root names yet, among them {key_id} for the role {role} of the {repository}")]
    Pending {
        /// Which repository.
        repository: Repository,
        /// The role.
        role: &'static str,
        /// The key that waits.
        key_id: KeyId,
    },
}

/// A root does not let this server sign for a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {repository} root version {root_version} names, for the role {role} with threshold {threshold}, {}; this server holds {}",
    listed(named),
    listed(held)
)]
pub struct NotCertified {
    /// Which root.
    pub repository: Repository,
    /// Its version.
    pub root_version: u64,
    /// The first role that the server cannot sign for.
    pub role: &'static str,
    /// How many keys must sign.
    pub threshold: u64,
    /// The keys that the root names.
    pub named: Vec<KeyId>,
    /// The keys that the server holds.
    pub held: Vec<KeyId>,
}

fn listed(keys: &[KeyId]) -> String {
    match keys {
        [] => "no key".to_owned(),
        keys => format!("key {}", keys.iter().map(KeyId::as_str).collect::<Vec<_>>().join(" and ")),
    }
}

/// A role that the server signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlineRole {
    /// Which repository.
    pub repository: Repository,
    /// The role.
    pub role: RootRole,
}

/// All online roles.
pub const ONLINE_ROLES: [OnlineRole; 5] = [
    OnlineRole { repository: Repository::Image, role: RootRole::Snapshot },
    OnlineRole { repository: Repository::Image, role: RootRole::Timestamp },
    OnlineRole { repository: Repository::Director, role: RootRole::Targets },
    OnlineRole { repository: Repository::Director, role: RootRole::Snapshot },
    OnlineRole { repository: Repository::Director, role: RootRole::Timestamp },
];

impl OnlineRole {
    fn file(self, folder: &Path, suffix: &str) -> PathBuf {
        let repository = match self.repository {
            Repository::Image => "image",
            Repository::Director => "director",
        };
        folder.join(format!("{repository}-{}{suffix}.json", self.role.name()))
    }
}

/// The keys of one role.
#[derive(Clone, Debug)]
pub struct RoleKeys {
    /// The role.
    pub role: OnlineRole,
    /// The one that the newest root names, if things are in order.
    pub current: Arc<Ed25519Signer>,
    /// The one that the next root is to name.
    pub next: Option<Arc<Ed25519Signer>>,
}

impl RoleKeys {
    /// The key that a root made now should name.
    #[must_use]
    pub fn newest(&self) -> &Arc<Ed25519Signer> {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// All keys, the newest first.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Ed25519Signer>> {
        self.next.iter().chain([&self.current])
    }

    /// Whether `root` accepts the signatures of this key alone.
    #[must_use]
    pub fn is_certified(&self, key: &Ed25519Signer, root: &Root) -> bool {
        certifies(root, self.role.role, &key.public_key())
    }

    /// The key whose signatures `root` accepts; it alone must reach the threshold.
    fn certified(&self, root: &Root) -> Result<Arc<Ed25519Signer>, NotCertified> {
        if let Some(key) = self.held().find(|key| self.is_certified(key, root)) {
            return Ok(Arc::clone(key));
        }
        let named = root.roles.get(&self.role.role);
        Err(NotCertified {
            repository: self.role.repository,
            root_version: root.version,
            role: self.role.role.name(),
            threshold: named.map_or(0, |named| named.threshold),
            named: named.map(|named| named.key_ids.to_vec()).unwrap_or_default(),
            held: self.held().map(|key| id(key)).collect(),
        })
    }
}

/// The id that a key's signatures carry.
#[must_use]
pub fn id(key: &Ed25519Signer) -> KeyId {
    key.public_key().key_id()
}

/// Whether `root` accepts the signatures of `key` alone, under the id that they carry.
fn certifies(root: &Root, role: RootRole, key: &PublicKey) -> bool {
    let key_id = key.key_id();
    let named = root.roles.get(&role).is_some_and(|keys| keys.threshold == 1 && keys.key_ids.contains(&key_id));
    named && root.keys.get(&key_id).and_then(KeyObject::public_key) == Some(key)
}

/// Who signs for the Image repository.
#[derive(Clone, Debug)]
pub struct ImageSigners {
    /// Signs Snapshots.
    pub snapshot: Arc<Ed25519Signer>,
    /// Signs Timestamps.
    pub timestamp: Arc<Ed25519Signer>,
}

/// Who signs for the Director.
#[derive(Clone, Debug)]
pub struct DirectorSigners {
    targets: Arc<Ed25519Signer>,
    snapshot: Arc<Ed25519Signer>,
    timestamp: Arc<Ed25519Signer>,
    /// Which keys these are.
    pub id: SignersId,
}

impl DirectorSigners {
    /// As the signing functions want them.
    #[must_use]
    pub fn signers(&self) -> Signers<'_> {
        Signers { targets: &*self.targets, snapshot: &*self.snapshot, timestamp: &*self.timestamp, id: self.id }
    }
}

/// Secret keys of all online roles.
#[derive(Clone, Debug)]
pub struct OnlineKeys {
    folder: PathBuf,
    roles: [RoleKeys; 5],
}

impl OnlineKeys {
    /// Reads the keys in `folder`, and makes those that are not there.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        let wrong = |source| KeyError::File { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(wrong)?;
        restrict(folder, 0o700).map_err(wrong)?;
        let keys = |role: OnlineRole| -> Result<RoleKeys, KeyError> {
            let current = role.file(folder, "");
            let current = match read(&current)? {
                Some(key) => key,
                None => make(&current)?,
            };
            Ok(RoleKeys { role, current, next: read(&role.file(folder, NEXT))? })
        };
        let [one, two, three, four, five] = ONLINE_ROLES.map(keys);
        Ok(Self { folder: folder.to_owned(), roles: [one?, two?, three?, four?, five?] })
    }

    /// Makes a new key for every role, to be named by the next roots; until then nothing changes. Those that waited are dropped if
    /// `pending` says so.
    pub fn make_next(&mut self, pending: Pending) -> Result<(), KeyError> {
        let waiting = self.roles.iter().find_map(|keys| keys.next.as_ref().map(|next| (keys.role, next)));
        if let (Pending::Keep, Some((OnlineRole { repository, role }, next))) = (pending, waiting) {
            return Err(KeyError::Pending { repository, role: role.name(), key_id: id(next) });
        }
        for keys in &mut self.roles {
            keys.next = Some(make(&keys.role.file(&self.folder, NEXT))?);
        }
        Ok(())
    }

    /// Puts new keys that `root` names in the place of the old ones, which are gone then: a key that no root names any more only waits
    /// to be stolen. Done again at the next start when it fails.
    pub fn settle(&mut self, repository: Repository, root: &Root) -> Result<(), KeyError> {
        for keys in self.roles.iter_mut().filter(|keys| keys.role.repository == repository) {
            let named = |next: &Arc<Ed25519Signer>| certifies(root, keys.role.role, &next.public_key());
            let Some(next) = keys.next.clone().filter(named) else { continue };
            let (from, to) = (keys.role.file(&self.folder, NEXT), keys.role.file(&self.folder, ""));
            let renamed = fs::rename(&from, &to).and_then(|()| sync_folder(&self.folder));
            renamed.map_err(|source| KeyError::File { path: to, source })?;
            (keys.current, keys.next) = (next, None);
        }
        Ok(())
    }

    /// The keys of every role.
    #[must_use]
    pub fn roles(&self) -> &[RoleKeys] {
        &self.roles
    }

    /// Who signs for the Image repository under `root`.
    pub fn image_signers(&self, root: &Root) -> Result<ImageSigners, NotCertified> {
        let [snapshot, timestamp, ..] = &self.roles;
        Ok(ImageSigners { snapshot: snapshot.certified(root)?, timestamp: timestamp.certified(root)? })
    }

    /// Who signs for the Director under `root`.
    pub fn director_signers(&self, root: &Root) -> Result<DirectorSigners, NotCertified> {
        let [.., targets, snapshot, timestamp] = &self.roles;
        let [targets, snapshot, timestamp] = [targets.certified(root)?, snapshot.certified(root)?, timestamp.certified(root)?];
        let ids = [&targets, &snapshot, &timestamp].map(|key| id(key).as_str().to_owned());
        let id = SignersId::of(&Sha256Digest::of(ids.join(" ").as_bytes()));
        Ok(DirectorSigners { targets, snapshot, timestamp, id })
    }

    /// The public halves that the next roots are to name, for the root ceremonies.
    #[must_use]
    pub fn public_json(&self) -> serde_json::Value {
        let object = |key: &PublicKey| serde_json::from_slice::<serde_json::Value>(&public_to_bytes(key)).unwrap_or_default();
        let roles = |repository| {
            let keys = self.roles.iter().filter(|keys| keys.role.repository == repository);
            keys.map(|keys| (keys.role.role.name().to_owned(), object(&keys.newest().public_key()))).collect::<serde_json::Map<_, _>>()
        };
        serde_json::json!({"image": roles(Repository::Image), "director": roles(Repository::Director)})
    }
}

/// What to do with new keys that no root names yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Keep them, and make no others.
    Keep,
    /// Drop them: whoever stole the old ones may have these too.
    Replace,
}

/// What the file name of a key that waits for its root has before `.json`.
const NEXT: &str = ".next";

fn read(path: &Path) -> Result<Option<Arc<Ed25519Signer>>, KeyError> {
    match fs::read(path) {
        Ok(bytes) => {
            let key = parse_secret(&bytes).map_err(|source| KeyError::Content { path: path.to_owned(), source })?;
            Ok(Some(Arc::new(key)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::File { path: path.to_owned(), source }),
    }
}

fn make(path: &Path) -> Result<Arc<Ed25519Signer>, KeyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let signer = Ed25519Signer::from_seed(seed);
    write_secret(path, &secret_to_bytes(&signer)).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    Ok(Arc::new(signer))
}

/// Writes a file that only its owner can read, complete or not at all.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    owner_only(&mut options);
    let mut file = options.open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A file that was renamed is there after a power cut only when its folder was synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(unix)]
fn owner_only(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_options: &mut fs::OpenOptions) {}

#[cfg(unix)]
fn restrict(folder: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn restrict(_folder: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}
