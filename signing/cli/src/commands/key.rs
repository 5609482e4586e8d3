//! `switchback key new|list`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use switchback_signing::{
    keys::{
        Ed25519Signer, PublicKey, Signer,
        file::{public_to_bytes, secret_to_bytes},
    },
    metadata::{Root, RootRole, Targets},
};

use crate::{
    base::{Base, KeyFile, Stored, check_key_name, parse, short_id},
    failure::failure,
    files::{self, Access},
    output::{Output, pairs, table},
};

/// Make keys and list them
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key pair: NAME.json with the secret half, readable by its owner only, and NAME.pub.json
    ///
    /// Example: switchback key new --out /media/stick release-dora
    New {
        /// Name of the key, such as `release-dora`
        name: String,
        /// Folder to put it into
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// List the keys that a base knows, and what each may sign
    List {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
    },
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::New { name, out } => new(&name, &out, output),
        Command::List { base } => list(&Base::open(&base)?, output),
    }
}

/// Makes a key and writes both halves.
pub(crate) fn make(folder: &Path, name: &str) -> anyhow::Result<PublicKey> {
    check_key_name(name)?;
    let secret_path = folder.join(format!("{name}.json"));
    let public_path = folder.join(format!("{name}.pub.json"));
    if let Some(path) = [&secret_path, &public_path].into_iter().find(|path| path.exists()) {
        return Err(failure(format!("{} exists", path.display()), "a key is never overwritten; choose another name"));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness from the operating system: {error}"))?;
    let signer = Ed25519Signer::from_seed(seed);
    files::write(&secret_path, &secret_to_bytes(&signer), Access::Secret)?;
    files::write(&public_path, &public_to_bytes(&signer.public_key()), Access::Public)?;
    Ok(signer.public_key())
}

#[derive(Serialize)]
struct NewKey {
    name: String,
    key_id: String,
    secret: PathBuf,
    public: PathBuf,
}

fn new(name: &str, folder: &Path, output: &Output) -> anyhow::Result<()> {
    files::make_folder(folder)?;
    let key = make(folder, name)?;
    let result = NewKey {
        name: name.to_owned(),
        key_id: key.key_id().to_string(),
        secret: folder.join(format!("{name}.json")),
        public: folder.join(format!("{name}.pub.json")),
    };
    output.show(&result, |key| {
        pairs(&[
            ("key id", key.key_id.clone()),
            ("secret", format!("{} (keep it where only its holder has access)", key.secret.display())),
            ("public", key.public.display().to_string()),
        ])
    })
}

#[derive(Serialize)]
struct ListedKey {
    name: String,
    key_id: String,
    secret_here: bool,
    signs: Vec<String>,
}

fn list(base: &Base, output: &Output) -> anyhow::Result<()> {
    let duties = duties(base)?;
    let listed = |file: KeyFile| {
        let signs = duties.iter().filter(|(key, _)| *key == file.key).map(|(_, duty)| duty.clone()).collect();
        ListedKey { name: file.name, key_id: file.key.key_id().to_string(), secret_here: file.secret.is_some(), signs }
    };
    let keys: Vec<ListedKey> = base.key_files()?.into_iter().map(listed).collect();
    output.show(&keys, |keys| {
        let row = |key: &ListedKey| {
            let id: String = key.key_id.chars().take(12).collect();
            let secret = if key.secret_here { "here" } else { "elsewhere" };
            vec![key.name.clone(), id, secret.to_owned(), key.signs.join(", ")]
        };
        table(&["NAME", "KEY ID", "SECRET", "SIGNS"], &keys.iter().map(row).collect::<Vec<_>>())
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
