//! Where a secret key lives, and how a command gets a signature from it.
//!
//! A `--key` names a key of the base, a key file, a token or an external program. Whatever it is, it becomes a [`Signer`] whose signatures
//! are verified before anybody uses them.

pub(crate) mod file;
pub(crate) mod passphrase;

use std::path::{Path, PathBuf};

use clap::Args;
use switchback_signing::keys::{PublicKey, Signature, Signer, SignerError};

use self::passphrase::PassphraseArguments;

/// The key that a command signs with.
#[derive(Args)]
pub(crate) struct SigningKey {
    /// Keyholder, key name, or path of a secret key's file
    #[arg(long = "key", value_name = "KEY")]
    name: String,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

impl SigningKey {
    /// What the key is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Opens the key that is meant outside of any base.
    pub(crate) fn open(&self) -> anyhow::Result<Box<dyn Signer>> {
        self.open_file(Path::new(&self.name))
    }

    /// Opens the key; `find` looks up what is the name of a key or a keyholder.
    pub(crate) fn open_or_find(&self, find: impl FnOnce(&str) -> anyhow::Result<PathBuf>) -> anyhow::Result<Box<dyn Signer>> {
        if is_path(&self.name) { self.open() } else { self.open_file(&find(&self.name)?) }
    }

    fn open_file(&self, path: &Path) -> anyhow::Result<Box<dyn Signer>> {
        Ok(Box::new(Checked(Box::new(file::read_secret(path, &self.passphrase)?))))
    }
}

/// Names of keys have neither folders nor extensions.
pub(crate) fn is_path(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some()
}

/// A signer that hands out no signature which its own public half does not verify: a program may be the wrong one, a token's answer may be
/// in another encoding, and memory may fail.
struct Checked(Box<dyn Signer>);

impl Signer for Checked {
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignerError> {
        let signature = self.0.sign(message)?;
        let key = self.public_key();
        match key.verify(message, signature.as_bytes()) {
            Ok(()) => Ok(signature),
            Err(_) => Err(SignerError {
                key_id: key.key_id(),
                reason: format!(
                    "it answered {} bytes that are no {} signature under its public key {key:?}",
                    signature.as_bytes().len(),
                    key.scheme()
                ),
            }),
        }
    }
}
