//! The base directory: what the release engineers keep, beside their keys, of the repositories.
//!
//! ```text
//! BASE/keys/NAME.pem           secret keys (move them to their holders' own media), NAME.pub.json public halves
//! BASE/image/N.ROLE.json       metadata of the Image repository, signed and published or ready to be
//! BASE/director/N.root.json    roots of the Director
//! BASE/drafts/ROLE.json        metadata that is collecting signatures, ROLE.files.json where its files are;
//!                              image.root.json and director.root.json are the next roots
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use switchback_signing::{
    keys::{KeyId, PublicKey, Signer},
    metadata::{DelegatedRole, Root, Signed, Targets, Tier},
    time::UnixTime,
    trust::{
        Repository,
        limits::{ROOT_BYTES_MAX, TARGETS_BYTES_MAX},
        publish::{Publication, check_delegated, check_root_step, check_targets},
    },
};

use crate::{
    failure::{Hint, failure},
    files,
    keyholders::Keyholders,
    keys::{self, SigningKey, file::check_of_use, is_path},
    next_step::quoted,
};

/// Roles of the Image repository that list releases are called `vla-TIER`.
const RELEASE_ROLE_PREFIX: &str = "vla-";

/// Roles that co-sign the releases of a tier are called `oem-...`.
pub(crate) const COSIGNER_PREFIX: &str = "oem-";

/// Names of the drafts of both roots, which are of different repositories.
pub(crate) const IMAGE_ROOT: &str = "image.root";
pub(crate) const DIRECTOR_ROOT: &str = "director.root";

/// Name of the delegated role that lists a tier's releases.
pub(crate) fn release_role(tier: &str) -> String {
    format!("{RELEASE_ROLE_PREFIX}{tier}")
}

/// The tier whose releases a delegated role lists.
pub(crate) fn tier_of(role: &str) -> &str {
    role.strip_prefix(RELEASE_ROLE_PREFIX).unwrap_or(role)
}

/// A delegated role that lists a tier's releases, and nothing of others.
pub(crate) fn delegated_role(tier: &Tier, threshold: u64, keys: &[PublicKey]) -> DelegatedRole {
    let role = DelegatedRole::new(release_role(tier.as_str()), threshold, keys, &[&format!("{tier}/*")]);
    // What belongs to a tier is listed by its role or by nobody.
    DelegatedRole { terminating: true, ..role }
}

/// That a tier can be part of target paths, which a bundle's manifest writes in lower case.
pub(crate) fn check_tier(tier: &Tier) -> anyhow::Result<()> {
    if tier.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
        bail!("the tier {tier} has upper-case letters");
    }
    Ok(())
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

    /// The option that names it, for a command that somebody types next.
    pub(crate) fn argument(&self) -> String {
        format!("--base {}", quoted(&self.folder))
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

    /// Release roles with a draft.
    pub(crate) fn drafted_roles(&self) -> anyhow::Result<Vec<String>> {
        let names = file_names(&self.drafts())?;
        let release =
            |role: &&str| [RELEASE_ROLE_PREFIX, COSIGNER_PREFIX].iter().any(|prefix| role.starts_with(prefix)) && !role.contains('.');
        let role = |name: &String| name.strip_suffix(".json").filter(release).map(ToOwned::to_owned);
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
        self.newest_in(&self.image(), role)
    }

    /// The newest signed version of a role's metadata in one of the folders.
    pub(crate) fn newest_in(&self, folder: &Path, role: &str) -> anyhow::Result<Option<Stored>> {
        let Some((version, path)) = self.versions(folder, role)?.pop() else {
            return Ok(None);
        };
        Ok(Some(Stored { version, bytes: read_metadata(&path)?, path }))
    }

    /// The newest root of a repository.
    pub(crate) fn root(&self, repository: Repository) -> anyhow::Result<Stored> {
        let newest = self.newest_in(&self.folder_of(repository), "root")?;
        newest.with_context(|| format!("the base has no root metadata of the {repository}"))
    }

    /// Where the signed metadata of a repository is.
    pub(crate) fn folder_of(&self, repository: Repository) -> PathBuf {
        match repository {
            Repository::Image => self.image(),
            Repository::Director => self.director(),
        }
    }

    /// The newest root of the Image repository. A complete draft is the newest: `publish` sends it before everything that it vouches for.
    pub(crate) fn image_root(&self) -> anyhow::Result<(Root, Vec<u8>)> {
        let stored = self.root(Repository::Image)?;
        let draft = self.draft(IMAGE_ROOT);
        if draft.is_file() {
            let bytes = read_metadata(&draft)?;
            // Whether it has expired is asked when it is published.
            if let Ok(root) = check_root_step(Repository::Image, Some(&stored.bytes), &bytes, UnixTime::MIN) {
                return Ok((root, bytes));
            }
        }
        let root = parse::<Root>(&stored)?;
        Ok((root.signed, stored.bytes))
    }

    /// The newest top-level Targets metadata, checked under the root; a complete draft is the newest.
    pub(crate) fn targets(&self, now: UnixTime) -> anyhow::Result<Targets> {
        Ok(self.targets_file(now)?.0)
    }

    /// The same with its bytes.
    pub(crate) fn targets_file(&self, now: UnixTime) -> anyhow::Result<(Targets, Vec<u8>)> {
        let (_, root) = self.image_root()?;
        let stored = self.newest("targets")?.context("the base has no targets metadata")?;
        let publication = Publication { repository: Repository::Image, root: &root, previous: None, now };
        let draft = self.draft("targets");
        if draft.is_file() {
            let after = Publication { previous: Some(&stored.bytes), ..publication };
            let bytes = read_metadata(&draft)?;
            if let Ok(targets) = check_targets(&bytes, &after) {
                return Ok((targets, bytes));
            }
        }
        let targets = check_targets(&stored.bytes, &publication).with_context(|| format!("{} is not acceptable", stored.path.display())).hint(
            "the file was changed, has expired, or was signed by keys that the root no longer names: the keyholders of `targets` sign a new \
             version with `switchback targets expire` and `targets sign`",
        )?;
        Ok((targets, stored.bytes))
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
            let (key, secret) = (keys::file::read_public(&folder.join(&name))?, keys::file::find_secret(&folder, stem));
            found.push(KeyFile { name: stem.to_owned(), key, secret });
        }
        Ok(found)
    }

    /// The public key that `name` means: the file of a key, or the name of one that the base knows. The base remembers it under its name.
    pub(crate) fn remember_key(&self, name: &str) -> anyhow::Result<KeyFile> {
        let known = self.key_files()?;
        if !is_path(name) {
            let found = known.into_iter().find(|file| file.name == name);
            return found.ok_or_else(|| {
                failure(format!("the base knows no key {name:?}"), "name its file, NAME.pub.json; `switchback key list` shows all keys")
            });
        }
        let path = Path::new(name);
        let key = keys::file::read_public(path)?;
        check_of_use(&key).with_context(|| path.display().to_string())?;
        if let Some(file) = known.iter().position(|file| file.key == key) {
            return known.into_iter().nth(file).context("a position that was just found");
        }
        let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = stem.strip_suffix(".json").or_else(|| stem.strip_suffix(".pem")).unwrap_or(stem);
        let stem = stem.strip_suffix(".pub").unwrap_or(stem);
        check_key_name(stem).hint("the base calls a key as its file is called")?;
        if known.iter().any(|file| file.name == stem) {
            return Err(failure(format!("the base knows another key {stem}"), "give the new key's file another name"));
        }
        keys::file::write_public(&self.keys().join(format!("{stem}.pub.json")), &key)?;
        Ok(KeyFile { name: stem.to_owned(), key, secret: None })
    }

    /// The secret key that is meant for a role: a key file, or by name a key of the base, or a keyholder one of whose keys may sign for the
    /// role.
    pub(crate) fn signer(&self, key: &SigningKey, role: &Keyholders) -> anyhow::Result<Box<dyn Signer>> {
        key.open_or_find(|name| self.secret_of(name, role))
    }

    fn secret_of(&self, name: &str, role: &Keyholders) -> anyhow::Result<PathBuf> {
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
            failure(what, "name the key's file, wherever its holder keeps it: --key /media/stick/KEY.pem")
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

/// Reads the bytes of a metadata file.
pub(crate) fn read_metadata(path: &Path) -> anyhow::Result<Vec<u8>> {
    // Both limits are far below what usize can hold.
    files::read(path, ROOT_BYTES_MAX.max(TARGETS_BYTES_MAX) as usize)
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
