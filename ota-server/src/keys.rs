//! The server's own keys: the online roles. They are made at the first start, never leave the data folder, and are worth something
//! only once an offline root names them.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use switchback_signing::{
    keys::{
        Ed25519Signer, KeyObject, PublicKey, Signer,
        file::{KeyFileError, parse_secret, public_to_bytes, secret_to_bytes},
    },
    metadata::{Root, RootRole},
};

use crate::director;

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
}

/// Secret keys of all online roles.
#[derive(Debug)]
pub struct OnlineKeys {
    /// Signs the Image repository's Snapshot.
    pub image_snapshot: Ed25519Signer,
    /// Signs the Image repository's Timestamp.
    pub image_timestamp: Ed25519Signer,
    /// Signs the Director's Targets.
    pub director_targets: Ed25519Signer,
    /// Signs the Director's Snapshot.
    pub director_snapshot: Ed25519Signer,
    /// Signs the Director's Timestamp.
    pub director_timestamp: Ed25519Signer,
}

impl OnlineKeys {
    /// Reads the keys in `folder`, and makes those that are not there.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        let wrong = |source| KeyError::File { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(wrong)?;
        restrict(folder, 0o700).map_err(wrong)?;
        let key = |name: &str| read_or_make(&folder.join(format!("{name}.json")));
        Ok(Self {
            image_snapshot: key("image-snapshot")?,
            image_timestamp: key("image-timestamp")?,
            director_targets: key("director-targets")?,
            director_snapshot: key("director-snapshot")?,
            director_timestamp: key("director-timestamp")?,
        })
    }

    /// The Director's keys as its signing functions want them.
    #[must_use]
    pub fn director(&self) -> director::Signers<'_> {
        director::Signers { targets: &self.director_targets, snapshot: &self.director_snapshot, timestamp: &self.director_timestamp }
    }

    /// Online roles of the Image repository with their keys.
    #[must_use]
    pub fn image_roles(&self) -> [(RootRole, PublicKey); 2] {
        [(RootRole::Snapshot, self.image_snapshot.public_key()), (RootRole::Timestamp, self.image_timestamp.public_key())]
    }

    /// Online roles of the Director with their keys.
    #[must_use]
    pub fn director_roles(&self) -> [(RootRole, PublicKey); 3] {
        [
            (RootRole::Targets, self.director_targets.public_key()),
            (RootRole::Snapshot, self.director_snapshot.public_key()),
            (RootRole::Timestamp, self.director_timestamp.public_key()),
        ]
    }

    /// The public halves, for the root ceremonies.
    #[must_use]
    pub fn public_json(&self) -> serde_json::Value {
        let object = |key: &PublicKey| serde_json::from_slice::<serde_json::Value>(&public_to_bytes(key)).unwrap_or_default();
        let roles = |keys: &[(RootRole, PublicKey)]| {
            keys.iter().map(|(role, key)| (role.name().to_owned(), object(key))).collect::<serde_json::Map<_, _>>()
        };
        serde_json::json!({"image": roles(&self.image_roles()), "director": roles(&self.director_roles())})
    }
}

/// The first role whose signatures `root` would not accept from us: its key alone must reach the threshold.
#[must_use]
pub fn role_not_certified(root: &Root, roles: &[(RootRole, PublicKey)]) -> Option<RootRole> {
    let certified = |(role, key): &(RootRole, PublicKey)| {
        // Under the id that our signatures carry.
        let key_id = key.key_id();
        let named = root.roles.get(role).is_some_and(|keys| keys.threshold == 1 && keys.key_ids.contains(&key_id));
        named && root.keys.get(&key_id).and_then(KeyObject::public_key) == Some(key)
    };
    roles.iter().find(|role| !certified(role)).map(|(role, _)| *role)
}

fn read_or_make(path: &Path) -> Result<Ed25519Signer, KeyError> {
    let wrong = |source| KeyError::File { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => parse_secret(&bytes).map_err(|source| KeyError::Content { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)?;
            let signer = Ed25519Signer::from_seed(seed);
            write_secret(path, &secret_to_bytes(&signer)).map_err(wrong)?;
            Ok(signer)
        }
        Err(error) => Err(wrong(error)),
    }
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
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
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
