//! Where a secret key lives, and how a command gets a signature from it.
//!
//! A `--key` names a key of the base, a key file, a token or an external program. Whatever it is, it becomes a [`Signer`] whose signatures
//! are verified before anybody uses them.

pub(crate) mod file;
pub(crate) mod passphrase;
mod program;
pub(crate) mod token;
mod uri;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use clap::Args;
use switchback_signing::keys::{PublicKey, Signature, Signer, SignerError};

use self::{file::REFERENCE_EXTENSION, passphrase::PassphraseArguments, program::ProgramSigner, token::TokenSigner, uri::TokenUri};
use crate::{
    failure::failure,
    files::{self, Access},
};

/// Longest file that says where a key is, bytes.
const REFERENCE_BYTES_MAX: usize = 4096;

/// The key that a command signs with.
#[derive(Args)]
pub(crate) struct SigningKey {
    /// Keyholder, key name, path of a secret key's file, pkcs11:URI of a key in a token, or exec:PROGRAM that signs
    #[arg(long = "key", value_name = "KEY")]
    // Taken apart later: clap would print a URI that it cannot read, with the PIN in it.
    reference: String,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// Where a secret key is.
#[derive(Clone)]
pub(crate) enum KeyReference {
    /// In a file; or the name of a key, which the base finds.
    File(String),
    /// In a token or a hardware module.
    Token(Box<TokenUri>),
    /// Behind a program.
    Program(String),
}

impl FromStr for KeyReference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match (text.strip_prefix("pkcs11:"), text.strip_prefix("exec:")) {
            (Some(uri), _) => Self::Token(Box::new(TokenUri::parse(uri)?)),
            (_, Some(command_line)) => Self::Program(command_line.to_owned()),
            _ => Self::File(text.to_owned()),
        })
    }
}

/// As it was written, without a PIN.
impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => f.write_str(name),
            Self::Token(uri) => uri.fmt(f),
            Self::Program(command_line) => write!(f, "exec:{command_line}"),
        }
    }
}

impl KeyReference {
    /// Opens the key.
    pub(crate) fn open(&self, passphrase: &PassphraseArguments) -> anyhow::Result<Box<dyn Signer>> {
        let signer: Box<dyn Signer> = match self {
            Self::File(path) => match leads_to(Path::new(path))? {
                Some(reference) => return reference.open(passphrase),
                None => Box::new(file::read_secret(Path::new(path), passphrase)?),
            },
            Self::Token(uri) => Box::new(TokenSigner::open(uri, passphrase)?),
            Self::Program(command_line) => Box::new(ProgramSigner::open(command_line)?),
        };
        Ok(Box::new(Checked(signer)))
    }

    /// The public half. Of a key in a token without its PIN, where the token shows it.
    pub(crate) fn public_key(&self, passphrase: &PassphraseArguments) -> anyhow::Result<PublicKey> {
        let shown = match self {
            Self::Token(uri) => token::shown_public_key(uri)?,
            Self::File(path) => match leads_to(Path::new(path))? {
                Some(reference) => return reference.public_key(passphrase),
                None => None,
            },
            Self::Program(_) => None,
        };
        match shown {
            Some(key) => Ok(key),
            None => Ok(self.open(passphrase)?.public_key()),
        }
    }

    /// Writes down where a key is that is in no file, for those who call it by its name.
    pub(crate) fn remember(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        match self {
            Self::File(_) => Ok(()),
            reference => {
                files::write(&folder.join(format!("{name}.{REFERENCE_EXTENSION}")), format!("{reference}\n").as_bytes(), Access::Public)
            }
        }
    }
}

/// The reference in a file that leads to a key; nothing when the file is the key.
pub(crate) fn leads_to(path: &Path) -> anyhow::Result<Option<KeyReference>> {
    path.extension().is_some_and(|extension| extension == REFERENCE_EXTENSION).then(|| read_reference(path)).transpose()
}

/// Reads where a key is. It does not lead to another such file, so that there is no circle.
fn read_reference(path: &Path) -> anyhow::Result<KeyReference> {
    let bytes = files::read(path, REFERENCE_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    match text.trim().parse().with_context(|| path.display().to_string())? {
        KeyReference::File(found) => {
            let what = format!("{} says that the key is {found:?}", path.display());
            Err(failure(what, "it holds one line, pkcs11:URI or exec:PROGRAM"))
        }
        reference => Ok(reference),
    }
}

impl SigningKey {
    /// What the key is called in messages.
    pub(crate) fn name(&self) -> String {
        self.reference.parse().map_or_else(|_| "the key".to_owned(), |reference: KeyReference| reference.to_string())
    }

    /// The public half of the key that is meant outside of any base.
    pub(crate) fn public_key(&self) -> anyhow::Result<PublicKey> {
        self.reference.parse::<KeyReference>()?.public_key(&self.passphrase)
    }

    /// Opens the key that is meant outside of any base.
    pub(crate) fn open(&self) -> anyhow::Result<Box<dyn Signer>> {
        self.reference.parse::<KeyReference>()?.open(&self.passphrase)
    }

    /// Opens the key; `find` looks up what is the name of a key or a keyholder.
    pub(crate) fn open_or_find(&self, find: impl FnOnce(&str) -> anyhow::Result<PathBuf>) -> anyhow::Result<Box<dyn Signer>> {
        match self.reference.parse()? {
            KeyReference::File(name) if !is_path(&name) => KeyReference::File(find(&name)?.display().to_string()).open(&self.passphrase),
            reference => reference.open(&self.passphrase),
        }
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
