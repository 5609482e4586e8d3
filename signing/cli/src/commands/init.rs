//! `switchback init`: the first ceremony.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use switchback_signing::{
    keys::{
        PublicKey, Signer,
        pem::{Scheme, SecretKey},
    },
    metadata::{DelegatedRole, Delegations, Role, Root, RootRole, Targets, Tier, sign},
    time::UnixTime,
    trust::{
        Repository,
        publish::{Publication, check_root_step, check_targets},
    },
};
use zeroize::Zeroizing;

use super::online::OnlineKeys;
use crate::{
    base::{Base, check_key_name, release_role},
    client::ServerArguments,
    clock,
    failure::failure,
    files::{self, Access},
    keys::{
        file::{generate, write},
        passphrase::Protection,
    },
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
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    check(&arguments)?;
    // Before anything is made: a server that does not answer should leave no half base behind.
    let online = OnlineKeys::read(arguments.online_keys.as_deref(), &arguments.server)?;
    let passphrases = arguments.signers.iter().map(|signer| arguments.protection.choose(signer)).collect::<anyhow::Result<Vec<_>>>()?;
    let base = Base::create(&arguments.base)?;
    let keyholders = Keyholders { names: &arguments.signers, passphrases: &passphrases, scheme: arguments.scheme };
    let image_root = keyholders.make(&base, "image-root")?;
    let director_root = keyholders.make(&base, "director-root")?;
    let targets = keyholders.make(&base, "targets")?;
    let releases = keyholders.make(&base, "release")?;
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
    };
    output.show(&made, |made| {
        let mut text = pairs(&[
            ("base", made.base.display().to_string()),
            ("image root", format!("{} (provision it into vehicles)", made.image_root.display())),
            ("director root", format!("{} (provision it into vehicles)", made.director_root.display())),
            ("signers", format!("{}, {} of {} must sign", made.signers.join(", "), made.threshold, made.signers.len())),
            ("roles", made.roles.join(", ")),
        ]);
        text.push_str("\nNext: move each signer's secret keys out of BASE/keys, then pack, sign and publish a release.\n");
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
    // Tiers become parts of target paths, which a bundle's manifest writes in lower case.
    if let Some(tier) = tiers.iter().find(|tier| tier.as_str().bytes().any(|byte| byte.is_ascii_uppercase())) {
        bail!("the tier {tier} has upper-case letters");
    }
    let most = signers.len() as u64;
    if *threshold == 0 || *threshold > most {
        return Err(failure(format!("{threshold} of {most} signers can never sign"), format!("choose a --threshold of 1 to {most}")));
    }
    Ok(())
}

fn delegating_targets(arguments: &Arguments, keys: &[PublicKey], expires: UnixTime) -> Targets {
    let mut delegations = Delegations::default();
    for tier in &arguments.tiers {
        let pattern = format!("{tier}/*");
        let role = DelegatedRole::new(release_role(tier.as_str()), arguments.threshold, keys, &[&pattern]);
        // What belongs to a tier is listed by its role or by nobody.
        delegations.add(DelegatedRole { terminating: true, ..role }, keys);
    }
    Targets { delegations: Some(delegations), ..Targets::new(1, expires) }
}

/// For whom keys are made.
struct Keyholders<'a> {
    names: &'a [String],
    passphrases: &'a [Option<Zeroizing<String>>],
    scheme: Scheme,
}

impl Keyholders<'_> {
    /// Makes a set of keys, one per signer.
    fn make(&self, base: &Base, purpose: &str) -> anyhow::Result<Ceremony> {
        let made = |(signer, passphrase): (&String, &Option<Zeroizing<String>>)| {
            let key = generate(self.scheme)?;
            write(&base.keys(), &format!("{purpose}-{signer}"), &key, passphrase.as_ref().map(|passphrase| passphrase.as_str()))?;
            Ok(key)
        };
        Ok(Ceremony { signers: self.names.iter().zip(self.passphrases).map(made).collect::<anyhow::Result<_>>()? })
    }
}

/// One set of keys.
struct Ceremony {
    signers: Vec<SecretKey>,
}

impl Ceremony {
    fn public(&self) -> Vec<PublicKey> {
        self.signers.iter().map(Signer::public_key).collect()
    }

    fn sign<T: Role>(&self, role: &T) -> anyhow::Result<Vec<u8>> {
        let signers: Vec<&dyn Signer> = self.signers.iter().map(|signer| signer as &dyn Signer).collect();
        Ok(sign(role, &signers)?)
    }
}
