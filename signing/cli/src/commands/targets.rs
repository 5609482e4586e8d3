//! `switchback targets`: who may list releases, by tier.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use switchback_signing::{
    keys::PublicKey,
    metadata::{DelegatedRole, Delegations, RoleKeys, Targets, Tier},
    time::UnixTime,
};

use super::root::{Expiry, ShownRole, already, check_threshold, unknown};
use crate::{
    base::{Base, COSIGNER_PREFIX, check_tier, delegated_role, release_role},
    ceremony::{Ceremony, Part, Report, Subject},
    clock,
    failure::{Hint, failure},
    keyholders::Keyholders,
    keys::SigningKey,
    output::Output,
};

/// Add and remove tiers, replace their release engineers' keys, and renew the top-level targets
///
/// Changes collect in a draft of the next version, BASE/drafts/targets.json, which the keyholders of `targets` sign. Releases that were
/// signed by keys that a tier no longer has must be signed again: `switchback sign --renew TIER`, before `switchback publish` sends both.
#[derive(Subcommand)]
#[command(after_help = "Example: dora takes carol's place for the tier ultra
  switchback targets add-key --base release --tier ultra \\
      dora/release-dora.pub.json
  switchback targets remove-key --base release --tier ultra release-carol
  switchback targets sign --base release --key alice
  switchback targets sign --base release --key bob
  switchback sign --base release --key alice --renew ultra
  switchback sign --base release --key /media/stick/release-dora.pem \\
      --renew ultra
  switchback publish --base release")]
pub(crate) enum Command {
    /// Show tiers, keys and expiry, and of a draft what it changes, who has signed and who must still sign
    Show {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
    },
    /// Delegate a new tier to its release engineers
    #[command(after_help = "Example:
  switchback targets add-tier --base release --tier lite --threshold 2 \\
      release-alice release-bob dora/release-dora.pub.json")]
    AddTier {
        #[command(flatten)]
        place: Place,
        /// How many of the keys must sign a release
        #[arg(long, value_name = "N")]
        threshold: u64,
        /// Files of public keys, or names of keys that the base knows
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Delegate a tier to nobody
    ///
    /// From then on nothing of the tier can be installed any more; what drives, drives on.
    RemoveTier {
        #[command(flatten)]
        place: Place,
    },
    /// Let one more key sign the releases of a tier
    AddKey {
        #[command(flatten)]
        place: Place,
        /// File of a public key, or name of a key that the base knows
        key: String,
    },
    /// Let a key no longer sign the releases of a tier
    RemoveKey {
        #[command(flatten)]
        place: Place,
        /// Name of the key, or the beginning of its id
        key: String,
    },
    /// Say how many keys must sign a release of a tier
    SetThreshold {
        #[command(flatten)]
        place: Place,
        /// How many
        threshold: u64,
    },
    /// Let a tier's releases be believed only when an automaker's role lists them as well
    ///
    /// The automaker signs every release with `switchback sign --role`. Vehicles and public TUF clients of before that do not know
    /// multi-role delegations refuse the metadata; they do not go on without the automaker.
    #[command(after_help = "Example, for the whole fleet of a brand:
  switchback targets require-cosigner --base release --tier ultra \\
      --role oem-brand-ultra oem/release-brand.pub.json
  switchback targets sign --base release --key alice     # and bob, then publish
  switchback sign --base release --role oem-brand-ultra \\
      --key oem/release-brand.pem dist/ultra/vla-2-2.0.0.tar.zst")]
    RequireCosigner {
        #[command(flatten)]
        place: Place,
        /// Name of the automaker's role for this tier, which begins with `oem-`, such as `oem-brand-ultra`
        #[arg(long, value_parser = cosigner_role)]
        role: String,
        /// Files of the automaker's public keys, or names of keys that the base knows
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        /// How many of them must sign a release
        #[arg(long, default_value_t = 1)]
        threshold: u64,
    },
    /// Give the next version its expiry; without another change, renew the top-level targets
    Expire {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
        #[command(flatten)]
        expiry: Expiry,
    },
    /// Sign the draft
    Sign {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
        #[command(flatten)]
        key: SigningKey,
    },
    /// Throw the draft away with its signatures
    Discard {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
    },
}

/// Which delegation.
#[derive(Args)]
pub(crate) struct Place {
    /// Base directory
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Tier of vehicles
    #[arg(long)]
    tier: Tier,
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let now = clock::now();
    match command {
        Command::Show { base } => show(&Base::open(&base)?, now, output),
        Command::AddTier { place, threshold, keys } => add_tier(&place, threshold, &keys, now, output),
        Command::RemoveTier { place } => remove_tier(&place, now, output),
        Command::AddKey { place, key } => edit(&place, now, output, |delegations, holders, base| {
            let file = base.remember_key(&key)?;
            if delegations.add_key(&holders.role, &file.key) { Ok(()) } else { Err(already(&file.name, &holders.role)) }
        }),
        Command::RemoveKey { place, key } => edit(&place, now, output, |delegations, holders, _| {
            delegations.remove_key(&holders.role, holders.find(&key).ok_or_else(|| unknown(&key, holders))?);
            Ok(())
        }),
        Command::SetThreshold { place, threshold } => edit(&place, now, output, |delegations, holders, _| {
            check_threshold(threshold, holders)?;
            let role = delegations.roles.iter_mut().find(|role| role.name == holders.role);
            role.context("the role was just there")?.keys.threshold = threshold;
            Ok(())
        }),
        Command::RequireCosigner { place, role, keys, threshold } => edit(&place, now, output, |delegations, holders, base| {
            let keys = keys.iter().map(|key| Ok(base.remember_key(key)?.key)).collect::<anyhow::Result<Vec<_>>>()?;
            require_cosigner(delegations, &holders.role, &role, &keys, threshold)
        }),
        Command::Expire { base, expiry } => {
            let base = Base::open(&base)?;
            let mut ceremony = open(&base, now)?;
            let dropped = ceremony.expire(expiry.time(now))?;
            report(&base, &ceremony, output, None, Some(dropped))
        }
        Command::Sign { base, key } => {
            let base = Base::open(&base)?;
            let mut ceremony = open(&base, now)?;
            let by = ceremony.sign(&key, Part::Keeping)?;
            report(&base, &ceremony, output, Some(by), None)
        }
        Command::Discard { base } => {
            let base = Base::open(&base)?;
            open(&base, now)?.discard()?;
            show(&base, now, output)
        }
    }
}

fn open(base: &Base, now: UnixTime) -> anyhow::Result<Ceremony<'_, Targets>> {
    Ceremony::open(base, Subject::Targets, now)
}

fn add_tier(place: &Place, threshold: u64, keys: &[String], now: UnixTime, output: &Output) -> anyhow::Result<()> {
    check_tier(&place.tier)?;
    let base = Base::open(&place.base)?;
    let mut ceremony = open(&base, now)?;
    let dropped = ceremony.edit(|targets, base| {
        let role = release_role(place.tier.as_str());
        let delegations = targets.delegations.get_or_insert_default();
        if delegations.roles.iter().any(|known| known.name == role) {
            let what = format!("targets version {} delegates to {role} already", targets.version);
            return Err(failure(what, "its keys are changed with `targets add-key` and `remove-key`"));
        }
        delegations.add(delegated_role(&place.tier, threshold, &[]), &[]);
        for key in keys {
            let file = base.remember_key(key)?;
            if !delegations.add_key(&role, &file.key) {
                return Err(already(&file.name, &role));
            }
        }
        let holders = Keyholders::of_release_role(targets, &role, &base.key_names()?)?;
        check_threshold(threshold, &holders)
    })?;
    report(&base, &ceremony, output, None, Some(dropped))
}

fn remove_tier(place: &Place, now: UnixTime, output: &Output) -> anyhow::Result<()> {
    let role = release_role(place.tier.as_str());
    let base = Base::open(&place.base)?;
    let draft = base.draft(&role);
    if draft.is_file() {
        let what = format!("{} is waiting for signatures of keys that would then have nothing to say", draft.display());
        return Err(failure(what, "publish it first, or remove the file"));
    }
    edit(place, now, output, |delegations, _, _| {
        delegations.remove(&role);
        Ok(())
    })
}

/// Changes a tier's delegation in the draft.
fn edit(
    place: &Place,
    now: UnixTime,
    output: &Output,
    change: impl FnOnce(&mut Delegations, &Keyholders, &Base) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let base = Base::open(&place.base)?;
    let mut ceremony = open(&base, now)?;
    let role = release_role(place.tier.as_str());
    let dropped = ceremony.edit(|targets, base| {
        let holders = Keyholders::of_release_role(targets, &role, &base.key_names()?)?;
        let delegations = targets.delegations.as_mut().context("a role that was found is delegated")?;
        change(delegations, &holders, base)?;
        delegations.check_agreements().hint("roles that must agree are of different people: give each of them keys of its own")
    })?;
    report(&base, &ceremony, output, None, Some(dropped))
}

fn cosigner_role(text: &str) -> Result<String, String> {
    // A name of this alphabet is one file name and one word in an address.
    match text.parse::<Tier>() {
        Ok(name) if text.starts_with(COSIGNER_PREFIX) => Ok(name.to_string()),
        _ => Err(format!("the name of a role that co-signs begins with {COSIGNER_PREFIX} and has letters, digits, `.`, `_` and `-`")),
    }
}

/// Delegates what a tier's role lists to another one as well, and lets neither be believed without the other.
fn require_cosigner(delegations: &mut Delegations, tier_role: &str, role: &str, keys: &[PublicKey], threshold: u64) -> anyhow::Result<()> {
    if delegations.roles.iter().any(|known| known.name == role) {
        let what = format!("there is a role {role} already");
        return Err(failure(what, "a role co-signs for one tier; name another, or add keys to its delegation"));
    }
    let distinct: BTreeSet<&PublicKey> = keys.iter().collect();
    if threshold == 0 || threshold > distinct.len() as u64 {
        let what = format!("{threshold} of {} keys can never sign", distinct.len());
        return Err(failure(what, "give at least as many different keys as must sign"));
    }
    let of_tier = delegations.roles.iter().find(|known| known.name == tier_role).context("the role was just there")?.clone();
    let mut members = delegations.agreement_of(tier_role).map_or_else(|| vec![tier_role.to_owned()], |agreement| agreement.roles.clone());
    let key_ids = keys.iter().map(PublicKey::key_id).collect();
    delegations.add(DelegatedRole { name: role.to_owned(), keys: RoleKeys::new(key_ids, threshold), ..of_tier }, keys);
    members.push(role.to_owned());
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    let agreed = delegations.require_agreement(&names, names.len() as u64);
    agreed.hint("roles that must agree are of different people: give the automaker's keys, not those of the tier")
}

fn report(
    base: &Base,
    ceremony: &Ceremony<'_, Targets>,
    output: &Output,
    by: Option<String>,
    dropped: Option<usize>,
) -> anyhow::Result<()> {
    let Some(mut report) = ceremony.report()? else { return Ok(()) };
    report.warnings.extend(unsigned_releases(base, ceremony)?);
    output.show(&Report { signed_now_by: by, signatures_dropped: dropped, ..report }, Report::describe)
}

/// Tiers whose newest releases the draft's keys have not signed: vehicles find nothing there until they have.
fn unsigned_releases(base: &Base, ceremony: &Ceremony<'_, Targets>) -> anyhow::Result<Vec<String>> {
    let Some(draft) = &ceremony.draft else { return Ok(Vec::new()) };
    let mut warnings = Vec::new();
    for delegated in draft.file.signed.delegations.iter().flat_map(|delegations| &delegations.roles) {
        let Some(stored) = base.newest(&delegated.name)? else { continue };
        let holders = Keyholders::of_release_role(&draft.file.signed, &delegated.name, ceremony.names())?;
        let signatures = holders.signatures(&crate::base::parse::<Targets>(&stored)?);
        if !signatures.complete() {
            let (role, version) = (&delegated.name, stored.version);
            warnings.push(format!("{role} version {version} will have {}: renew it with `switchback sign --renew`", signatures.describe()));
        }
    }
    Ok(warnings)
}

#[derive(Serialize)]
struct Shown {
    version: u64,
    expires: String,
    roles: Vec<ShownRole>,
    draft: Option<Report>,
}

fn show(base: &Base, now: UnixTime, output: &Output) -> anyhow::Result<()> {
    let ceremony = open(base, now)?;
    let targets = &ceremony.current;
    let delegated = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    let holders = delegated.map(|role| Keyholders::of_release_role(targets, &role.name, ceremony.names()));
    let mut draft = ceremony.report()?;
    if let Some(draft) = &mut draft {
        draft.warnings.extend(unsigned_releases(base, &ceremony)?);
    }
    let shown = Shown {
        version: targets.version,
        expires: targets.expires.to_string(),
        roles: holders.map(|holders| holders.map(|holders| ShownRole::new(&holders))).collect::<anyhow::Result<_>>()?,
        draft,
    };
    output.show(&shown, |shown| {
        let mut text = format!("targets version {}, valid until {}\n{}", shown.version, shown.expires, ShownRole::table(&shown.roles));
        text.extend(shown.draft.as_ref().map(Report::describe));
        text
    })
}
