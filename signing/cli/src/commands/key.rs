//! `switchback key new|import|export-public|list`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use switchback_signing::{
    keys::{
        PublicKey, Signer,
        file::public_to_bytes,
        pem::{Scheme, SecretKey, public_to_pem},
    },
    metadata::{Root, RootRole, Targets},
};

use crate::{
    base::{Base, KeyFile, Stored, check_key_name, parse, short_id},
    files::{self, Access},
    keys::{
        SigningKey,
        file::{KeyPaths, generate, read_secret, write},
        leads_to,
        passphrase::{PassphraseArguments, Protection},
        token::{Module, TokenKey},
    },
    output::{Output, pairs, table},
};

/// Make keys, bring them in, and list them
///
/// A secret key is written to NAME.pem, encrypted under a passphrase (PKCS#8, which OpenSSL reads too) and readable by its owner only; its
/// public half to NAME.pub.json. The passphrase is asked for at the terminal, or taken from --passphrase-file or SWITCHBACK_PASSPHRASE.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key pair
    ///
    /// Example: switchback key new --out /media/stick release-dora
    New {
        /// Name of the key, such as `release-dora`
        name: String,
        /// What the key signs with: ed25519, or ecdsa-sha2-nistp256
        #[arg(long, default_value = "ed25519")]
        scheme: Scheme,
        #[command(flatten)]
        place: Place,
    },
    /// Write an existing secret key as NAME.pem and NAME.pub.json, under a passphrase of its own
    ///
    /// Takes PKCS#8 in PEM form, encrypted or not, as OpenSSL and Python's cryptography write it, and the JSON in which servers and vehicles keep theirs.
    /// The file that was read stays where it is: destroy it when the new one is safe.
    ///
    /// Example: switchback key import --out /media/stick openssl.pem dora
    Import {
        /// File of the secret key
        file: PathBuf,
        /// Name of the key, such as `release-dora`
        name: String,
        /// File with the passphrase of the key that is read, where it is another one
        #[arg(long, value_name = "FILE")]
        old_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Write the public half of a key, wherever the key is
    ///
    /// A token is asked for a PIN only when it does not show public keys without one.
    #[command(after_help = "Examples:
  switchback key export-public --key dora.pem --out dora.pub.json
  switchback key export-public --key 'pkcs11:token=dora;object=release' \\
      --out dora.pub.json")]
    ExportPublic {
        #[command(flatten)]
        key: SigningKey,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The TUF key object as JSON, or PEM
        #[arg(long, value_enum, default_value = "tuf")]
        format: Format,
    },
    /// List the keys that a base knows and what each may sign, or the keys of tokens with the URIs that --key takes
    List {
        #[command(flatten)]
        what: Listed,
    },
}

/// Which keys.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Listed {
    /// Base directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// PKCS#11 library of the tokens, such as /usr/lib/softhsm/libsofthsm2.so
    #[arg(long, value_name = "MODULE")]
    pkcs11: Option<PathBuf>,
}

/// Where a new key goes, and who may read it.
#[derive(Args)]
pub(crate) struct Place {
    /// Folder to put it into
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

/// Form of a public key's file.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// The TUF key object
    Tuf,
    /// SubjectPublicKeyInfo
    Pem,
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::New { name, scheme, place } => put(&name, &place, output, || generate(scheme)),
        Command::Import { file, name, old_passphrase_file, place } => {
            let passphrase = PassphraseArguments::of_file(old_passphrase_file);
            put(&name, &place, output, || read_secret(&file, &passphrase))
        }
        Command::ExportPublic { key, out, format } => export_public(&key, &out, format, output),
        Command::List { what: Listed { base: Some(base), .. } } => list(&Base::open(&base)?, output),
        Command::List { what: Listed { pkcs11, .. } } => list_tokens(pkcs11.as_deref(), output),
    }
}

#[derive(Serialize)]
struct NewKey {
    name: String,
    key_id: String,
    scheme: &'static str,
    encrypted: bool,
    secret: PathBuf,
    public: PathBuf,
}

/// Writes a key under a name that is free, and says where it is.
fn put(name: &str, place: &Place, output: &Output, key: impl FnOnce() -> anyhow::Result<SecretKey>) -> anyhow::Result<()> {
    check_key_name(name)?;
    // Before anybody thinks of a passphrase.
    KeyPaths::new(&place.out, name).check_free()?;
    let key = key()?;
    let passphrase = place.protection.choose(name)?;
    files::make_folder(&place.out)?;
    let paths = write(&place.out, name, &key, passphrase.as_ref().map(|passphrase| passphrase.as_str()))?;
    let result = NewKey {
        name: name.to_owned(),
        key_id: key.key_id().to_string(),
        scheme: key.scheme().name(),
        encrypted: passphrase.is_some(),
        secret: paths.secret,
        public: paths.public,
    };
    output.show(&result, |key| {
        let care =
            if key.encrypted { "encrypted; keep a copy, and the passphrase elsewhere" } else { "not encrypted: whoever reads it can sign" };
        pairs(&[
            ("key id", key.key_id.clone()),
            ("scheme", key.scheme.to_owned()),
            ("secret", format!("{} ({care})", key.secret.display())),
            ("public", key.public.display().to_string()),
        ])
    })
}

#[derive(Serialize)]
struct Exported {
    key_id: String,
    scheme: &'static str,
    public: PathBuf,
}

fn export_public(key: &SigningKey, out: &Path, format: Format, output: &Output) -> anyhow::Result<()> {
    let public = key.public_key()?;
    let bytes = match format {
        Format::Tuf => public_to_bytes(&public),
        Format::Pem => public_to_pem(&public).context("the key cannot be written as PEM")?.into_bytes(),
    };
    files::write(out, &bytes, Access::Public)?;
    let exported = Exported { key_id: public.key_id().to_string(), scheme: public.scheme(), public: out.to_owned() };
    output.show(&exported, |key| {
        pairs(&[("key id", key.key_id.clone()), ("scheme", key.scheme.to_owned()), ("public", key.public.display().to_string())])
    })
}

#[derive(Serialize)]
struct ListedKey {
    name: String,
    key_id: String,
    secret_here: bool,
    /// Where it is, when a file in the base leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_at: Option<String>,
    signs: Vec<String>,
}

fn list(base: &Base, output: &Output) -> anyhow::Result<()> {
    let duties = duties(base)?;
    let listed = |file: KeyFile| {
        let signs = duties.iter().filter(|(key, _)| *key == file.key).map(|(_, duty)| duty.clone()).collect();
        let secret_at = file.secret.as_deref().map(leads_to).transpose()?.flatten().map(|reference| reference.to_string());
        let secret_here = file.secret.is_some() && secret_at.is_none();
        Ok(ListedKey { name: file.name, key_id: file.key.key_id().to_string(), secret_here, secret_at, signs })
    };
    let keys: Vec<ListedKey> = base.key_files()?.into_iter().map(listed).collect::<anyhow::Result<_>>()?;
    output.show(&keys, |keys| {
        let row = |key: &ListedKey| {
            let id: String = key.key_id.chars().take(12).collect();
            let secret = key.secret_at.as_deref().unwrap_or(if key.secret_here { "here" } else { "elsewhere" });
            vec![key.name.clone(), id, secret.to_owned(), key.signs.join(", ")]
        };
        table(&["NAME", "KEY ID", "SECRET", "SIGNS"], &keys.iter().map(row).collect::<Vec<_>>())
    })
}

#[derive(Serialize)]
struct ListedTokenKey {
    token: String,
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

fn list_tokens(module: Option<&Path>, output: &Output) -> anyhow::Result<()> {
    let mut listed = Vec::new();
    for (token, keys) in Module::open(module)?.keys()? {
        listed.extend(keys.into_iter().map(|TokenKey { uri, key }| ListedTokenKey {
            token: token.clone(),
            uri: uri.to_string(),
            scheme: key.as_ref().map(PublicKey::scheme),
            key_id: key.map(|key| key.key_id().to_string()),
        }));
    }
    output.show(&listed, |listed| {
        let row = |key: &ListedTokenKey| {
            let id = key.key_id.as_deref().unwrap_or("-").chars().take(12).collect();
            vec![id, key.scheme.unwrap_or("of no use here").to_owned(), key.uri.clone()]
        };
        table(&["KEY ID", "SCHEME", "--key"], &listed.iter().map(row).collect::<Vec<_>>())
    })
}

/// Which key may sign what, by the newest metadata.
fn duties(base: &Base) -> anyhow::Result<Vec<(PublicKey, String)>> {
    let mut duties = Vec::new();
    let mut of_root = |repository: &str, root: &Root| {
        for (role, keys) in &root.roles {
            let known = keys.key_ids.iter().filter_map(|id| root.keys.get(id)?.public_key().cloned());
            duties.extend(known.map(|key| (key, format!("{repository} {} ({} needed)", RootRole::name(*role), keys.threshold))));
        }
    };
    of_root("image", &base.image_root()?.0);
    let (version, path) = base.versions(&base.director(), "root")?.pop().context("the base has no Director root")?;
    let bytes = files::read(&path, switchback_signing::trust::limits::ROOT_BYTES_MAX as usize)?;
    of_root("director", &parse::<Root>(&Stored { version, path, bytes })?.signed);
    if let Some(targets) = base.newest("targets")? {
        let targets = parse::<Targets>(&targets)?.signed;
        for delegations in targets.delegations.iter() {
            for role in &delegations.roles {
                let known = role.keys.key_ids.iter().filter_map(|id| delegations.keys.get(id)?.public_key().cloned());
                duties.extend(known.map(|key| (key, format!("{} ({} needed)", role.name, role.keys.threshold))));
            }
        }
    }
    Ok(duties)
}

/// A key as a line of text.
pub(crate) fn title(name: &str, key: &PublicKey) -> String {
    format!("{name} ({})", short_id(&key.key_id()))
}
