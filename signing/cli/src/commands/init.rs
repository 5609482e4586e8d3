//! `switchback init`: the first ceremony.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use switchback_signing::{
    keys::{PublicKey, Signer, pem::Scheme},
    metadata::{Delegations, Role, Root, RootRole, Targets, Tier, sign},
    time::UnixTime,
    trust::{
        Repository,
        publish::{Publication, check_root_step, check_targets},
    },
};
use zeroize::Zeroizing;

use super::online::OnlineKeys;
use crate::{
    base::{Base, check_key_name, check_tier, delegated_role, release_role},
    client::ServerArguments,
    clock,
    failure::failure,
    files::{self, Access},
    keys::{
        KeyReference,
        file::{generate, write, write_public},
        passphrase::Protection,
    },
    next_step::quoted,
    output::{Output, pairs},
};

/// Make a base directory: keys, both roots, and one delegated role per tier
///
/// Every signer gets four keys, one each for the Image repository's root, the Director's root, the top-level targets and the releases,
/// so that no key serves two purposes. The server's online keys are certified by the roots: they come from a running server (--server)
/// or from a file that the server's operator hands over (--online-keys).
///
/// Every signer's keys are encrypted under a passphrase, which the terminal asks of one after the other; --passphrase-file is everybody's.
/// Afterwards move each signer's key files from BASE/keys to a medium of their own; the .pub.json halves stay.
#[derive(Args)]
#[command(
    after_help = "Example:\n  switchback init --base release --signers alice,bob,carol --threshold 2 \\\n      --tiers ultra,ultra-se --online-keys online.json"
)]
pub(crate) struct Arguments {
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Names of the keyholders
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "alice,bob,carol")]
    signers: Vec<String>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 2)]
    threshold: u64,
    /// What the keys sign with: ed25519, or ecdsa-sha2-nistp256
    #[arg(long, default_value = "ed25519")]
    scheme: Scheme,
    #[command(flatten)]
    protection: Protection,
    /// A key that exists already, instead of a new one: NAME is PURPOSE-SIGNER (image-root-, director-root-, targets- or release-), KEY a
    /// file, pkcs11:URI or exec:PROGRAM. May be repeated
    #[arg(long, value_name = "NAME=KEY")]
    existing_key: Vec<String>,
    /// Tiers of vehicles, each with a delegated role of its own
    #[arg(long, value_name = "TIERS", value_delimiter = ',', required = true)]
    tiers: Vec<Tier>,
    /// File with the server's online keys, as `GET /v1/online-keys` gives them; goes before --server
    #[arg(long, value_name = "FILE")]
    online_keys: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArguments,
    /// Days that the roots are valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    root_days: u16,
    /// Days that the top-level targets are valid
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    targets_days: u16,
}

#[derive(Serialize)]
struct Made {
    base: PathBuf,
    image_root: PathBuf,
    director_root: PathBuf,
    signers: Vec<String>,
    threshold: u64,
    roles: Vec<String>,
    #[serde(skip)]
    new_keys: bool,
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    check(&arguments)?;
    // Before anything is made: a server that does not answer should leave no half base behind.
    let online = OnlineKeys::read(arguments.online_keys.as_deref(), &arguments.server)?;
    let mut keyholders = Keyholders::gather(&arguments)?;
    let new_keys = !keyholders.passphrases.is_empty();
    let base = Base::create(&arguments.base)?;
    let image_root = keyholders.set(&base, "image-root")?;
    let director_root = keyholders.set(&base, "director-root")?;
    let targets = keyholders.set(&base, "targets")?;
    let releases = keyholders.set(&base, "release")?;
    let (threshold, now) = (arguments.threshold, clock::now());

    let mut root = Root::new(1, now.plus_days(arguments.root_days.into()));
    root.set_role(RootRole::Root, threshold, &image_root.public());
    root.set_role(RootRole::Targets, threshold, &targets.public());
    online.certify_in_image(&mut root);
    let image_root_bytes = image_root.sign(&root)?;
    check_root_step(Repository::Image, None, &image_root_bytes, now)?;

    let mut root = Root::new(1, now.plus_days(arguments.root_days.into()));
    root.set_role(RootRole::Root, threshold, &director_root.public());
    online.certify_in_director(&mut root);
    let director_root_bytes = director_root.sign(&root)?;
    check_root_step(Repository::Director, None, &director_root_bytes, now)?;

    let expires = now.plus_days(arguments.targets_days.into());
    let targets_bytes = targets.sign(&delegating_targets(&arguments, &releases.public(), expires))?;
    let publication = Publication { repository: Repository::Image, root: &image_root_bytes, previous: None, now };
    check_targets(&targets_bytes, &publication)?;

    files::write(&base.director().join("1.root.json"), &director_root_bytes, Access::Public)?;
    files::write(&base.image().join("1.targets.json"), &targets_bytes, Access::Public)?;
    // The Image repository's root comes last: with it the folder becomes a base.
    files::write(&base.image().join("1.root.json"), &image_root_bytes, Access::Public)?;

    let made = Made {
        image_root: base.image().join("1.root.json"),
        director_root: base.director().join("1.root.json"),
        signers: arguments.signers,
        threshold,
        roles: arguments.tiers.iter().map(|tier| release_role(tier.as_str())).collect(),
        base: arguments.base,
        new_keys,
    };
    output.show(&made, |made| {
        let mut text = pairs(&[
            ("base", made.base.display().to_string()),
            ("image root", format!("{} (provision it into vehicles)", made.image_root.display())),
            ("director root", format!("{} (provision it into vehicles)", made.director_root.display())),
            ("signers", format!("{}, {} of {} must sign", made.signers.join(", "), made.threshold, made.signers.len())),
            ("roles", made.roles.join(", ")),
        ]);
        let move_keys = if made.new_keys { "move each signer's secret keys out of BASE/keys, then " } else { "" };
        text.push_str(&format!("\nNext: {move_keys}switchback publish --base {}\n", quoted(&made.base)));
        text
    })
}

fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { signers, threshold, tiers, .. } = arguments;
    for (number, signer) in signers.iter().enumerate() {
        check_key_name(signer)?;
        if signers[..number].contains(signer) {
            bail!("the signer {signer} is named twice");
        }
    }
    if let Some((number, tier)) = tiers.iter().enumerate().find(|(number, tier)| tiers[..*number].contains(tier)) {
        bail!("the tier {tier} is named twice (also as number {number})");
    }
    tiers.iter().try_for_each(check_tier)?;
    let most = signers.len() as u64;
    if *threshold == 0 || *threshold > most {
        return Err(failure(format!("{threshold} of {most} signers can never sign"), format!("choose a --threshold of 1 to {most}")));
    }
    Ok(())
}

fn delegating_targets(arguments: &Arguments, keys: &[PublicKey], expires: UnixTime) -> Targets {
    let mut delegations = Delegations::default();
    for tier in &arguments.tiers {
        delegations.add(delegated_role(tier, arguments.threshold, keys), keys);
    }
    Targets { delegations: Some(delegations), ..Targets::new(1, expires) }
}

/// What the keys of one signer are for.
const PURPOSES: [&str; 4] = ["image-root", "director-root", "targets", "release"];

/// Everybody's keys, or what it takes to make them.
struct Keyholders<'a> {
    names: &'a [String],
    scheme: Scheme,
    /// By signer, of those who get new keys.
    passphrases: BTreeMap<&'a str, Option<Zeroizing<String>>>,
    /// By name of the key.
    existing: BTreeMap<String, (KeyReference, Box<dyn Signer>)>,
}

impl<'a> Keyholders<'a> {
    /// Opens the keys that exist and asks for the passphrases of those that do not.
    fn gather(arguments: &'a Arguments) -> anyhow::Result<Self> {
        let names = arguments.signers.iter().flat_map(|signer| PURPOSES.map(|purpose| format!("{purpose}-{signer}")));
        let names: Vec<String> = names.collect();
        let mut existing = BTreeMap::new();
        for text in &arguments.existing_key {
            let (name, key) = text.split_once('=').context("--existing-key takes NAME=KEY")?;
            if !names.iter().any(|known| known == name) {
                return Err(failure(format!("{name} is none of the keys of this base"), format!("its keys are {}", names.join(", "))));
            }
            let reference: KeyReference = key.parse()?;
            let signer = reference.open(&arguments.protection.passphrase).with_context(|| format!("the existing key {name}"))?;
            if existing.insert(name.to_owned(), (reference, signer)).is_some() {
                bail!("{name} is named twice");
            }
        }
        let mut passphrases = BTreeMap::new();
        for signer in &arguments.signers {
            if PURPOSES.iter().any(|purpose| !existing.contains_key(&format!("{purpose}-{signer}"))) {
                passphrases.insert(signer.as_str(), arguments.protection.choose(signer)?);
            }
        }
        Ok(Self { names: &arguments.signers, scheme: arguments.scheme, passphrases, existing })
    }

    /// The set of keys for a purpose, one per signer.
    fn set(&mut self, base: &Base, purpose: &str) -> anyhow::Result<Ceremony> {
        let mut signers = Vec::with_capacity(self.names.len());
        for signer in self.names {
            let name = format!("{purpose}-{signer}");
            signers.push(match self.existing.remove(&name) {
                Some((reference, key)) => {
                    write_public(&base.keys().join(format!("{name}.pub.json")), &key.public_key())?;
                    reference.remember(&base.keys(), &name)?;
                    key
                }
                None => {
                    let key = generate(self.scheme)?;
                    let passphrase = self.passphrases.get(signer.as_str()).and_then(Option::as_ref);
                    write(&base.keys(), &name, &key, passphrase.map(|passphrase| passphrase.as_str()))?;
                    Box::new(key)
                }
            });
        }
        Ok(Ceremony { signers })
    }
}

/// One set of keys.
struct Ceremony {
    signers: Vec<Box<dyn Signer>>,
}

impl Ceremony {
    fn public(&self) -> Vec<PublicKey> {
        self.signers.iter().map(|signer| signer.public_key()).collect()
    }

    fn sign<T: Role>(&self, role: &T) -> anyhow::Result<Vec<u8>> {
        let signers: Vec<&dyn Signer> = self.signers.iter().map(|signer| &**signer).collect();
        Ok(sign(role, &signers)?)
    }
}
