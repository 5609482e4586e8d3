//! The base directory: what the release engineers keep, beside their keys, of the repositories.
//!
//! ```text
//! BASE/keys/NAME.json          secret keys (move them to their holders' own media), NAME.pub.json public halves
//! BASE/image/N.ROLE.json       metadata of the Image repository, signed and published or ready to be
//! BASE/director/N.root.json    roots of the Director
//! BASE/drafts/ROLE.json        metadata that is collecting signatures, ROLE.files.json where its files are
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use switchback_signing::{
    keys::{
        Ed25519Signer, KeyId, KeyObject, PublicKey,
        file::{KEY_FILE_BYTES_MAX, parse_public, parse_secret},
    },
    metadata::{DelegatedRole, Delegations, RoleKeys, Root, Signed, Targets},
    time::UnixTime,
    trust::{
        Repository,
        limits::{ROOT_BYTES_MAX, TARGETS_BYTES_MAX},
        publish::{Publication, check_delegated, check_targets},
    },
};

use crate::{
    failure::{Hint, failure},
    files,
};

/// Roles of the Image repository that list releases are called `vla-TIER`.
const RELEASE_ROLE_PREFIX: &str = "vla-";

/// Name of the delegated role that lists a tier's releases.
pub(crate) fn release_role(tier: &str) -> String {
    format!("{RELEASE_ROLE_PREFIX}{tier}")
}

/// Names of signers become parts of file names.
pub(crate) fn check_key_name(name: &str) -> anyhow::Result<()> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) || name.starts_with('-') {
        bail!("{name:?} is no name for a key (1 to 64 of a-z 0-9 -, beginning with a letter or digit)");
    }
    Ok(())
}

/// A metadata file with its version.
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// The base directory.
pub(crate) struct Base {
    folder: PathBuf,
}

impl Base {
    /// A base that `switchback init` has made.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let base = Self { folder: folder.to_owned() };
        if !base.image().join("1.root.json").is_file() {
            let what = format!("{} is no base directory: it has no image/1.root.json", folder.display());
            return Err(failure(what, "make one with `switchback init --base DIR`, or name the right one with --base"));
        }
        Ok(base)
    }

    /// A base that does not exist yet.
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            let what = format!("{} is not empty", folder.display());
            return Err(failure(what, "a base directory is made once; name a new folder with --base"));
        }
        let base = Self { folder: folder.to_owned() };
        for folder in [base.keys(), base.image(), base.director(), base.drafts()] {
            files::make_folder(&folder)?;
        }
        Ok(base)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("image")
    }

    pub(crate) fn director(&self) -> PathBuf {
        self.folder.join("director")
    }

    fn drafts(&self) -> PathBuf {
        self.folder.join("drafts")
    }

    /// Metadata of a role that is collecting signatures.
    pub(crate) fn draft(&self, role: &str) -> PathBuf {
        self.drafts().join(format!("{role}.json"))
    }

    /// Where the files of a draft are, by target path.
    pub(crate) fn draft_files(&self, role: &str) -> PathBuf {
        self.drafts().join(format!("{role}.files.json"))
    }

    /// Roles with a draft.
    pub(crate) fn drafted_roles(&self) -> anyhow::Result<Vec<String>> {
        let names = file_names(&self.drafts())?;
        let role = |name: &String| name.strip_suffix(".json").filter(|role| !role.contains('.')).map(ToOwned::to_owned);
        Ok(names.iter().filter_map(role).collect())
    }

    /// All versions of a role's metadata in one of the folders, oldest first.
    pub(crate) fn versions(&self, folder: &Path, role: &str) -> anyhow::Result<Vec<(u64, PathBuf)>> {
        let names = file_names(folder)?;
        let version = |name: &String| {
            let (version, rest) = name.split_once('.')?;
            (rest.strip_suffix(".json") == Some(role)).then(|| version.parse().ok()).flatten()
        };
        let mut versions: Vec<(u64, PathBuf)> = names.iter().filter_map(|name| Some((version(name)?, folder.join(name)))).collect();
        versions.sort();
        Ok(versions)
    }

    /// The newest signed version of a role's metadata in the Image repository.
    pub(crate) fn newest(&self, role: &str) -> anyhow::Result<Option<Stored>> {
        let Some((version, path)) = self.versions(&self.image(), role)?.pop() else {
            return Ok(None);
        };
        // Both limits are far below what usize can hold.
        let bytes = files::read(&path, ROOT_BYTES_MAX.max(TARGETS_BYTES_MAX) as usize)?;
        Ok(Some(Stored { version, path, bytes }))
    }

    /// The newest root of the Image repository.
    pub(crate) fn image_root(&self) -> anyhow::Result<(Root, Vec<u8>)> {
        let stored = self.newest("root")?.context("the base has no root metadata")?;
        let root = parse::<Root>(&stored)?;
        Ok((root.signed, stored.bytes))
    }

    /// The newest top-level Targets metadata, checked under the root.
    pub(crate) fn targets(&self, now: UnixTime) -> anyhow::Result<Targets> {
        let (_, root) = self.image_root()?;
        let stored = self.newest("targets")?.context("the base has no targets metadata")?;
        let publication = Publication { repository: Repository::Image, root: &root, previous: None, now };
        check_targets(&stored.bytes, &publication)
            .with_context(|| format!("{} is not acceptable", stored.path.display()))
            .hint("the file was changed, or has expired and needs a new version signed by the keyholders of `targets`")
    }

    /// Checks metadata of a delegated role as every vehicle would, against what the base has of it.
    pub(crate) fn check_release_role(&self, role: &str, bytes: &[u8], now: UnixTime) -> anyhow::Result<Targets> {
        let (targets, (_, root)) = (self.targets(now)?, self.image_root()?);
        let previous = self.newest(role)?;
        let previous = previous.as_ref().map(|stored| stored.bytes.as_slice());
        let publication = Publication { repository: Repository::Image, root: &root, previous, now };
        Ok(check_delegated(role, &targets, bytes, &publication)?)
    }

    /// Names of keys by key id, from the public halves that the base keeps.
    pub(crate) fn key_names(&self) -> anyhow::Result<BTreeMap<KeyId, String>> {
        Ok(self.key_files()?.into_iter().map(|file| (file.key.key_id(), file.name)).collect())
    }

    /// Every key of which the base knows the public half.
    pub(crate) fn key_files(&self) -> anyhow::Result<Vec<KeyFile>> {
        let folder = self.keys();
        let mut found = Vec::new();
        for name in file_names(&folder)? {
            let Some(stem) = name.strip_suffix(".pub.json") else { continue };
            let path = folder.join(&name);
            let key = parse_public(&files::read(&path, KEY_FILE_BYTES_MAX)?).with_context(|| path.display().to_string())?;
            let secret = folder.join(format!("{stem}.json"));
            found.push(KeyFile { name: stem.to_owned(), key, secret: secret.is_file().then_some(secret) });
        }
        Ok(found)
    }

    /// The secret key that `name` means for a role: a path to a key file, the name of a key, or a keyholder one of whose keys may
    /// sign for the role.
    pub(crate) fn signer(&self, name: &str, role: &Keyholders) -> anyhow::Result<Ed25519Signer> {
        let path = self.signer_path(name, role)?;
        let signer = parse_secret(&files::read(&path, KEY_FILE_BYTES_MAX)?);
        signer.with_context(|| path.display().to_string()).hint("--key takes the file of a secret key, as `switchback key new` writes it")
    }

    fn signer_path(&self, name: &str, role: &Keyholders) -> anyhow::Result<PathBuf> {
        if name.contains('/') || Path::new(name).extension().is_some() {
            return Ok(PathBuf::from(name));
        }
        let known = self.key_files()?;
        let exact = known.iter().find(|file| file.name == name);
        let suffix = format!("-{name}");
        let of_holder = || known.iter().find(|file| file.name.ends_with(&suffix) && role.holds(&file.key));
        let file = exact.or_else(of_holder).ok_or_else(|| {
            let holders = role.names().join(", ");
            failure(
                format!("no key of {name:?} may sign {}", role.role),
                format!("these may: {holders}; `switchback key list` shows all keys"),
            )
        })?;
        file.secret.clone().ok_or_else(|| {
            let what = format!("the secret half of {} is not in {}", file.name, self.keys().display());
            failure(what, "name the key's file, wherever its holder keeps it: --key /media/stick/KEY.json")
        })
    }
}

/// A key that the base knows.
pub(crate) struct KeyFile {
    pub(crate) name: String,
    pub(crate) key: PublicKey,
    /// Where the secret half is, when it is here at all.
    pub(crate) secret: Option<PathBuf>,
}

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
    /// Keyholders of a delegated role.
    pub(crate) fn of_release_role(base: &Base, targets: &Targets, role: &str) -> anyhow::Result<Self> {
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
        Ok(Self::new(role, keys, &delegations.keys, &base.key_names()?))
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

    pub(crate) fn names(&self) -> Vec<&str> {
        self.keys.iter().map(|(_, _, name)| name.as_str()).collect()
    }

    /// Who has signed `file`; only signatures that verify count.
    pub(crate) fn signatures(&self, file: &Signed<Targets>) -> Signatures {
        let (signed, missing): (Vec<_>, Vec<_>) = self.keys.iter().partition(|(id, key, _)| file.verify(id, key).is_ok());
        let names = |keys: Vec<&(KeyId, PublicKey, String)>| keys.into_iter().map(|(_, _, name)| name.clone()).collect();
        Signatures { signed: names(signed), missing: names(missing), threshold: self.threshold }
    }
}

/// Reads a metadata file, naming it in the error.
pub(crate) fn parse<T: switchback_signing::metadata::Document>(stored: &Stored) -> anyhow::Result<Signed<T>> {
    Signed::parse(&stored.bytes, stored.bytes.len()).with_context(|| stored.path.display().to_string())
}

/// The first digits of a key id, enough to tell keys apart.
pub(crate) fn short_id(id: &KeyId) -> String {
    id.as_str().chars().take(12).collect()
}

/// Names of the files in a folder, sorted.
fn file_names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        names.extend(entry.file_name().to_str().map(ToOwned::to_owned));
    }
    names.sort();
    Ok(names)
}
