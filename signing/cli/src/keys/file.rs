//! Key files: PEM for secrets, as people and other tools have them; the TUF key object as JSON for public halves.

use std::path::{Path, PathBuf};

use anyhow::Context;
use switchback_signing::keys::{
    PublicKey, Signer,
    file::{self, KEY_FILE_BYTES_MAX, public_to_bytes},
    pem::{self, Encryption, PemError, Scheme, SecretKey},
};
use zeroize::Zeroizing;

use super::passphrase::PassphraseArguments;
use crate::{
    base::check_key_name,
    failure::{Hint, failure},
    files::{self, Access},
};

/// What a PEM file begins with.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// Extensions of secret keys' files: PEM, the JSON in which servers and vehicles keep theirs, and what leads to a key.
const SECRET_EXTENSIONS: [&str; 3] = ["pem", "json", REFERENCE_EXTENSION];

/// Extension of a file that says in one line where the key is: in a token, or behind a program.
pub(crate) const REFERENCE_EXTENSION: &str = "uri";

/// Where the two halves of a key lie.
pub(crate) struct KeyPaths {
    pub(crate) secret: PathBuf,
    pub(crate) public: PathBuf,
}

impl KeyPaths {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { secret: folder.join(format!("{name}.pem")), public: folder.join(format!("{name}.pub.json")) }
    }

    /// That nothing is there yet.
    pub(crate) fn check_free(&self) -> anyhow::Result<()> {
        match [&self.secret, &self.public].into_iter().find(|path| path.exists()) {
            Some(path) => Err(failure(format!("{} exists", path.display()), "a key is never overwritten; choose another name")),
            None => Ok(()),
        }
    }
}

/// The file of a key's secret half, if it is in the folder.
pub(crate) fn find_secret(folder: &Path, name: &str) -> Option<PathBuf> {
    SECRET_EXTENSIONS.iter().map(|extension| folder.join(format!("{name}.{extension}"))).find(|path| path.is_file())
}

/// Makes a key of a random number of the operating system.
pub(crate) fn generate(scheme: Scheme) -> anyhow::Result<SecretKey> {
    loop {
        let mut random = Zeroizing::new([0; 32]);
        fill(&mut *random)?;
        if let Some(key) = SecretKey::from_random(scheme, &random) {
            return Ok(key);
        }
    }
}

/// Writes both halves of a key.
pub(crate) fn write(folder: &Path, name: &str, key: &SecretKey, passphrase: Option<&str>) -> anyhow::Result<KeyPaths> {
    check_key_name(name)?;
    let paths = KeyPaths::new(folder, name);
    paths.check_free()?;
    let text = match passphrase {
        Some(passphrase) => {
            let mut encryption = Encryption { salt: [0; 16], iv: [0; 16] };
            fill(&mut encryption.salt)?;
            fill(&mut encryption.iv)?;
            Zeroizing::new(key.to_encrypted_pem(passphrase.as_bytes(), &encryption)?)
        }
        None => key.to_plain_pem()?,
    };
    files::write(&paths.secret, text.as_bytes(), Access::Secret)?;
    write_public(&paths.public, &key.public_key())?;
    Ok(paths)
}

/// Writes the public half of a key.
pub(crate) fn write_public(path: &Path, key: &PublicKey) -> anyhow::Result<()> {
    files::write(path, &public_to_bytes(key), Access::Public)
}

/// Reads a secret key, and asks for its passphrase if it has one.
pub(crate) fn read_secret(path: &Path, passphrase: &PassphraseArguments) -> anyhow::Result<SecretKey> {
    let bytes = Zeroizing::new(files::read(path, KEY_FILE_BYTES_MAX)?);
    let place = || path.display().to_string();
    if !bytes.starts_with(PEM_BEGIN) {
        let key = file::parse_secret(&bytes).with_context(place);
        return key.map(SecretKey::Ed25519).hint("--key takes the file of a secret key, NAME.pem, as `switchback key new` writes it");
    }
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    let key = match SecretKey::from_pem(text, None) {
        Err(PemError::PassphraseMissing) => {
            SecretKey::from_pem(text, Some(passphrase.existing(&format!("the passphrase of {}", place()))?.as_bytes()))
        }
        read => read,
    };
    let hint = match &key {
        Err(PemError::WrongPassphrase) => {
            "try again: tries are not counted. Each key has a passphrase of its own; SWITCHBACK_PASSPHRASE_FILE and SWITCHBACK_PASSPHRASE \
             are taken before anybody is asked. Who has lost it is replaced by the others (`switchback root remove-key`, `targets remove-key`)"
        }
        _ => "--key takes a secret key of Ed25519 or P-256 (`switchback key new`, `openssl genpkey`)",
    };
    let key = key.with_context(place).hint(hint)?;
    check_neighbor(path, &key.public_key())?;
    Ok(key)
}

/// That the public half beside a secret is its own. An Ed25519 key that was damaged is another key, and nothing in its file tells.
fn check_neighbor(path: &Path, key: &PublicKey) -> anyhow::Result<()> {
    let public = path.with_extension("pub.json");
    if !public.is_file() || read_public(&public)? == *key {
        return Ok(());
    }
    let what = format!("{} and {} are not the halves of one key", path.display(), public.display());
    Err(failure(what, "one of the two files was damaged or replaced: take the key from its backup"))
}

/// Reads a public key: a TUF key object, or PEM.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<PublicKey> {
    parse_public(&files::read(path, KEY_FILE_BYTES_MAX)?).with_context(|| path.display().to_string())
}

/// The same from bytes.
pub(crate) fn parse_public(bytes: &[u8]) -> anyhow::Result<PublicKey> {
    if !bytes.starts_with(PEM_BEGIN) {
        return Ok(file::parse_public(bytes)?);
    }
    let key = std::str::from_utf8(bytes).ok().and_then(pem::parse_public);
    key.context("the file holds no public key in PEM form (PUBLIC KEY) of Ed25519, P-256 or RSA")
}

/// That vehicles verify what the key signs. RSA is read in the metadata of others; a release of ours that it signs would reach no vehicle.
pub(crate) fn check_of_use(key: &PublicKey) -> anyhow::Result<()> {
    match key {
        PublicKey::Ed25519(_) | PublicKey::P256(_) => Ok(()),
        other => {
            let what = format!("the key is of {}, which vehicles do not verify", other.scheme());
            Err(failure(what, "take a key of ed25519 or ecdsa-sha2-nistp256"))
        }
    }
}

/// Random bytes for a secret.
pub(crate) fn fill(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("no randomness from the operating system: {error}"))
}
