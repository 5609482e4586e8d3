//! `switchback sign`: one keyholder after the other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use switchback_signing::{
    bundle::Manifest,
    keys::Signer,
    metadata::{Companion, Custom, Region, Signed, TargetMeta, Targets, Tier, Version, add_signature, sign},
    time::UnixTime,
    trust::limits::TARGETS_BYTES_MAX,
};

use super::{key, oms};
use crate::{
    base::{Base, release_role},
    bundle::{BUNDLE_EXTENSION, Beside, BundleFile},
    clock,
    companions::{self, CompanionFile, Companions},
    drafts,
    failure::failure,
    files::{self, Access},
    keyholders::{Keyholders, Signatures},
    keys::SigningKey,
    next_step,
    output::{Output, pairs},
    release::{check_listed, custom, target_paths},
};

/// The SDK version from which on the metadata that we write is understood.
const SDK_MIN: &str = "0.1.0";

/// Add a keyholder's signature to the release of a bundle
///
/// The first keyholder writes a draft of the tier's metadata that lists the bundle and its index; the others add their signatures to it.
/// Every keyholder's machine reads and checks the whole bundle before it signs. When enough have signed, `switchback publish` sends it.
#[derive(Args)]
#[command(after_help = "Examples:
  switchback sign --base release --key alice dist/ultra/vla-2-2.0.0.tar.zst
  switchback sign --base release --key /media/stick/release-bob.pem \\
      dist/ultra/vla-2-2.0.0.tar.zst
  switchback sign --base release --key alice \\
      --companion cam-a=dist/cam-a-2.0.0.cal dist/ultra/vla-2-2.0.0.tar.zst
  switchback sign --base release --key alice --renew ultra
      # before the tier's metadata expires
  switchback sign --base release --key dora --renew ultra \\
      --role oem-brand-ultra
      # as a role that co-signs the tier's releases
  switchback sign --oms model.sig --key release-p256.pem models/vla-2
      # for tools that know OpenSSF Model Signing")]
pub(crate) struct Arguments {
    /// Base directory
    #[arg(long, value_name = "DIR", required_unless_present = "oms")]
    base: Option<PathBuf>,
    #[command(flatten)]
    key: SigningKey,
    /// Write an OpenSSF Model Signing signature of the bundle, or of a model's folder, to FILE instead; needs a P-256 key and no base
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "renew", "regions", "sdk_min", "companions", "discard_draft"])]
    oms: Option<PathBuf>,
    /// The bundle
    #[arg(required_unless_present = "renew")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    beside: Beside,
    /// Sign the same releases of this tier again, with a later expiry
    #[arg(long, value_name = "TIER", conflicts_with = "bundle")]
    renew: Option<Tier>,
    /// Sign as a role that co-signs the tier's releases, such as `oem-brand-ultra` (`switchback targets require-cosigner`). What the tier's
    /// keyholders say about the release is taken over, so that both say the same
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Regions that the release is for; all when absent. Given by the first keyholder
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    regions: Option<Vec<Region>>,
    /// Smallest version of the vehicle library that may install the release. Given by the first keyholder
    #[arg(long, value_name = "VERSION")]
    sdk_min: Option<Version>,
    /// Image that the vehicles' ECUs of this hardware must run beside the release, such as a camera's calibration. Once for each
    /// hardware; every keyholder names the same files
    #[arg(long = "companion", value_name = "HARDWARE=FILE", requires = "bundle")]
    companions: Vec<CompanionFile>,
    /// Days that the tier's metadata is valid from the first signature on
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Throw the draft away that is waiting for signatures, and begin another
    #[arg(long)]
    discard_draft: bool,
}

#[derive(Serialize)]
struct SignedRelease {
    role: String,
    version: u64,
    draft: PathBuf,
    signed_now_by: String,
    signed_by: Vec<String>,
    missing: Vec<String>,
    threshold: u64,
    complete: bool,
    /// The command that comes next.
    next: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<String>,
    #[serde(skip)]
    text: String,
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    if let Some(out) = &arguments.oms {
        let model = arguments.bundle.as_deref().context("name a bundle or a model's folder")?;
        return oms::sign(model, &arguments.beside, &arguments.key, out, output);
    }
    let (base, now) = (Base::open(arguments.base.as_deref().context("name a base with --base")?)?, clock::now());
    match (&arguments.renew, &arguments.bundle) {
        (Some(tier), _) => {
            let role = arguments.role.clone().unwrap_or_else(|| release_role(tier.as_str()));
            let ceremony = Ceremony { base: &base, arguments: &arguments, role: &role, now };
            let (written, signer) = ceremony.renew()?;
            ceremony.finish(written, &signer, None, output)
        }
        (None, Some(path)) => {
            let bundle = BundleFile::open(path, &arguments.beside)?;
            let manifest = bundle.verify(output)?;
            let role = arguments.role.clone().unwrap_or_else(|| release_role(&manifest.release.tier));
            let ceremony = Ceremony { base: &base, arguments: &arguments, role: &role, now };
            let release = Release { bundle: &bundle, manifest: &manifest, companions: ceremony.companions(&manifest)? };
            let (written, signer) = ceremony.release(&release)?;
            ceremony.finish(written, &signer, Some(&release), output)
        }
        (None, None) => bail!("name a bundle, or a tier with --renew"),
    }
}

/// One keyholder at work on one role.
struct Ceremony<'a> {
    base: &'a Base,
    arguments: &'a Arguments,
    role: &'a str,
    now: UnixTime,
}

/// What is signed.
struct Release<'a> {
    bundle: &'a BundleFile,
    manifest: &'a Manifest,
    companions: Companions,
}

/// The secret key and how it is called in messages.
struct Holder {
    signer: Box<dyn Signer>,
    title: String,
}

/// A draft with this keyholder's signature.
struct Written {
    /// The draft that it was added to.
    read: Option<Vec<u8>>,
    signed: Vec<u8>,
}

impl Holder {
    /// Signs the draft that was read, or else what begins another.
    fn sign(&self, read: Option<Vec<u8>>, begin: impl FnOnce() -> anyhow::Result<Targets>) -> anyhow::Result<Written> {
        let signed = match &read {
            Some(bytes) => add_signature(bytes, bytes.len(), &*self.signer)?,
            None => sign(&begin()?, &[&*self.signer])?,
        };
        Ok(Written { read, signed })
    }
}

impl Ceremony<'_> {
    fn holders(&self) -> anyhow::Result<Keyholders> {
        Keyholders::of_release_role(&self.base.targets(self.now)?, self.role, &self.base.key_names()?)
    }

    fn holder(&self) -> anyhow::Result<Holder> {
        let holders = self.holders()?;
        let signer = self.base.signer(&self.arguments.key, &holders)?;
        let public = signer.public_key();
        if !holders.holds(&public) {
            let what = format!("the key {} may not sign {}", key::title(&self.arguments.key.name(), &public), self.role);
            return Err(failure(what, format!("these may: {}", holders.names().join(", "))));
        }
        Ok(Holder { title: key::title(&self.arguments.key.name(), &public), signer })
    }

    /// Metadata that lists the bundle, with this keyholder's signature.
    fn release(&self, release: &Release<'_>) -> anyhow::Result<(Written, Holder)> {
        let holder = self.holder()?;
        let read = match self.draft()? {
            Some((bytes, draft)) => {
                self.same_release(&draft, release)?;
                Some(bytes)
            }
            None => None,
        };
        Ok((holder.sign(read, || self.new_draft(release))?, holder))
    }

    /// The images for other ECUs, held against what the draft lists, or else against what is published.
    fn companions(&self, manifest: &Manifest) -> anyhow::Result<Companions> {
        let listed = match self.draft()? {
            Some((_, draft)) => draft.signed,
            None => self.newest()?.unwrap_or_else(|| Targets::new(1, self.expires())),
        };
        let tier = Tier::new(&manifest.release.tier)?;
        Companions::read(&self.arguments.companions, &tier, manifest.release.release_counter, &listed)
    }

    fn newest(&self) -> anyhow::Result<Option<Targets>> {
        let newest = self.base.newest(self.role)?;
        let newest = newest.map(|stored| Signed::<Targets>::parse(&stored.bytes, stored.bytes.len())).transpose()?;
        Ok(newest.map(|newest| newest.signed))
    }

    /// The same targets with a later expiry, with this keyholder's signature.
    fn renew(&self) -> anyhow::Result<(Written, Holder)> {
        let holder = self.holder()?;
        let newest = self.base.newest(self.role)?;
        let newest = newest.ok_or_else(|| {
            let what = format!("nothing of {} has been published from this base, there is nothing to renew", self.role);
            failure(what, "sign a bundle, and publish it: what expires is renewed from then on")
        })?;
        let current = Signed::<Targets>::parse(&newest.bytes, newest.bytes.len())?.signed;
        let read = match self.draft()? {
            Some((bytes, draft)) if draft.signed.targets == current.targets => Some(bytes),
            Some((_, draft)) => return Err(self.other_draft(&draft)),
            None => None,
        };
        let next = || Ok(Targets { version: current.version + 1, expires: self.expires(), ..current });
        Ok((holder.sign(read, next)?, holder))
    }

    fn draft(&self) -> anyhow::Result<Option<(Vec<u8>, Signed<Targets>)>> {
        let path = self.base.draft(self.role);
        if self.arguments.discard_draft || !path.is_file() {
            return Ok(None);
        }
        let bytes = files::read(&path, TARGETS_BYTES_MAX as usize)?;
        let draft = Signed::<Targets>::parse(&bytes, bytes.len()).with_context(|| path.display().to_string())?;
        if self.now >= draft.signed.expires {
            let what = format!("the draft {} expired at {} before it was complete", path.display(), draft.signed.expires);
            return Err(failure(what, "begin another one with --discard-draft; every keyholder has to sign that one"));
        }
        Ok(Some((bytes, draft)))
    }

    /// Why nothing else can be signed while a draft is waiting.
    fn other_draft(&self, draft: &Signed<Targets>) -> anyhow::Error {
        let published = self.base.newest(self.role).ok().flatten();
        let published = published.and_then(|stored| Signed::<Targets>::parse(&stored.bytes, stored.bytes.len()).ok());
        let known = |path: &String| published.as_ref().is_some_and(|published| published.signed.targets.contains_key(path));
        let new: Vec<&str> = draft.signed.targets.keys().filter(|path| !known(path)).map(String::as_str).collect();
        let says = if new.is_empty() { "that only renews it".to_owned() } else { format!("with {}", new.join(" and ")) };
        let signatures = match self.holders() {
            Ok(holders) => holders.signatures(draft),
            Err(error) => return error,
        };
        let what = format!("a draft of {} version {} {says} is in the way: {}", self.role, draft.signed.version, signatures.describe());
        let publish = next_step::publish(self.base);
        let first = if signatures.complete() {
            format!("`{publish}`")
        } else {
            let targets = self.base.targets(self.now).ok();
            let sign = match self.bundle_of(&new) {
                _ if new.is_empty() => next_step::renew_release(self.base, self.role, targets.as_ref()),
                bundle => next_step::sign_release(self.base, self.role, targets.as_ref(), bundle.as_deref()),
            };
            format!("`{sign}` until it is complete, and `{publish}`")
        };
        let renews = if self.arguments.renew.is_some() { ", which gives the tier a later expiry as well" } else { "" };
        let lost =
            if signatures.signed.is_empty() { String::new() } else { format!(" with the signature of {}", signatures.signed.join(", ")) };
        failure(what, format!("first {first}{renews}; or throw it away{lost} by --discard-draft, when nobody wants it any more"))
    }

    /// Where the keyholder before has found the bundle of the draft.
    fn bundle_of(&self, paths: &[&str]) -> Option<PathBuf> {
        let bytes = files::read(&self.base.draft_files(self.role), TARGETS_BYTES_MAX as usize).ok()?;
        let files: BTreeMap<String, PathBuf> = serde_json::from_slice(&bytes).ok()?;
        files.into_iter().find(|(path, _)| paths.contains(&path.as_str()) && path.ends_with(BUNDLE_EXTENSION)).map(|(_, file)| file)
    }

    /// That the draft speaks of this bundle and says about it what its manifest says.
    fn same_release(&self, draft: &Signed<Targets>, release: &Release<'_>) -> anyhow::Result<()> {
        let Release { bundle, manifest, companions } = release;
        let (index_path, _) = target_paths(manifest);
        let Some(target) = draft.signed.targets.get(&index_path) else {
            return Err(self.other_draft(draft));
        };
        check_listed(&draft.signed, bundle, manifest).context("the draft and the bundle differ")?;
        let stated = target.release().context("the draft")?;
        let Arguments { regions, sdk_min, .. } = self.arguments;
        let other_regions = regions.as_ref().is_some_and(|regions| *regions != stated.regions);
        if other_regions || sdk_min.is_some_and(|version| version != stated.sdk_min) {
            let what = format!("the draft says about {} something else than your options", stated.title());
            return Err(failure(what, "do not sign it; find out who wrote the draft, or begin another with --discard-draft"));
        }
        same_companions("the draft says", &stated.companions, companions)
    }

    fn new_draft(&self, release: &Release<'_>) -> anyhow::Result<Targets> {
        let Release { bundle, manifest, companions } = release;
        let (index_path, bundle_path) = target_paths(manifest);
        let mut draft = match self.newest()? {
            Some(previous) => Targets { version: previous.version + 1, expires: self.expires(), ..previous },
            None => Targets::new(1, self.expires()),
        };
        check_counter(&draft, manifest)?;
        let Arguments { regions, sdk_min, .. } = self.arguments;
        let sdk_min = match sdk_min {
            Some(version) => *version,
            None => SDK_MIN.parse()?,
        };
        let custom = match self.said_by_others(&index_path)? {
            Some(said) => self.cosigned(release, said)?,
            None => {
                Custom { companions: companions.named.clone(), ..custom(bundle, manifest, regions.clone().unwrap_or_default(), sdk_min)? }
            }
        };
        let index = TargetMeta::of_release(&bundle.index_bytes, &custom);
        let whole = TargetMeta::of_digest(bundle.index.bundle_length(), bundle.index.bundle_sha256());
        for (path, target) in [(index_path, index), (bundle_path, whole)] {
            if draft.targets.insert(path.clone(), target).is_some() {
                let what = format!("{path} is listed in {} version {} already", self.role, draft.version - 1);
                return Err(failure(what, "a published release never changes; give the new one another --version"));
            }
        }
        for (path, image) in &companions.targets {
            // One that an earlier release needed too stays as it is.
            draft.targets.entry(path.clone()).or_insert_with(|| image.clone());
        }
        Ok(draft)
    }

    /// What the other roles of an agreement say about a release, in a draft or in what is published.
    fn said_by_others(&self, index_path: &str) -> anyhow::Result<Option<Custom>> {
        let targets = self.base.targets(self.now)?;
        let agreement = targets.delegations.iter().find_map(|delegations| delegations.agreement_of(self.role));
        for role in agreement.iter().flat_map(|agreement| &agreement.roles).filter(|role| *role != self.role) {
            let draft = self.base.draft(role);
            let drafted = draft.is_file().then(|| files::read(&draft, TARGETS_BYTES_MAX as usize)).transpose()?;
            let newest = self.base.newest(role)?.map(|stored| stored.bytes);
            for bytes in drafted.into_iter().chain(newest) {
                let listed = Signed::<Targets>::parse(&bytes, bytes.len())?.signed.targets.remove(index_path);
                if let Some(target) = listed {
                    return Ok(Some(target.release().with_context(|| format!("what {role} lists"))?));
                }
            }
        }
        Ok(None)
    }

    /// The same as the others say, after it has been held against the bundle and the options.
    fn cosigned(&self, release: &Release<'_>, said: Custom) -> anyhow::Result<Custom> {
        let Release { bundle, manifest, companions } = release;
        let own = custom(bundle, manifest, said.regions.clone(), said.sdk_min)?;
        let Arguments { regions, sdk_min, .. } = self.arguments;
        let other_options =
            regions.as_ref().is_some_and(|regions| *regions != said.regions) || sdk_min.is_some_and(|min| min != said.sdk_min);
        // Companions are images beside the bundle, which its manifest does not know; all else must follow from the bundle.
        if other_options || (Custom { companions: said.companions.clone(), ..own }) != said {
            let what = format!("the other roles say about {} something else than the bundle or your options", said.title());
            return Err(failure(what, "do not sign it; find out who wrote it"));
        }
        same_companions("the other roles say", &said.companions, companions)?;
        Ok(said)
    }

    fn expires(&self) -> UnixTime {
        self.now.plus_days(self.arguments.days.into())
    }

    fn finish(&self, written: Written, holder: &Holder, release: Option<&Release<'_>>, output: &Output) -> anyhow::Result<()> {
        let draft = self.base.draft(self.role);
        let sources = match release {
            Some(release) => sources(release)?,
            None => BTreeMap::new(),
        };
        let bytes = if self.arguments.discard_draft {
            files::write(&draft, &written.signed, Access::Public)?;
            written.signed
        } else {
            drafts::add_signature(&draft, written.read.as_deref(), written.signed)?
        };
        files::write(&self.base.draft_files(self.role), &serde_json::to_vec_pretty(&sources)?, Access::Public)?;
        let file = Signed::<Targets>::parse(&bytes, bytes.len())?;
        let signatures: Signatures = self.holders()?.signatures(&file);
        let targets = self.base.targets(self.now)?;
        let next = match release {
            _ if signatures.complete() => next_step::publish(self.base),
            Some(release) => next_step::sign_release(self.base, self.role, Some(&targets), Some(&release.bundle.path)),
            None => next_step::renew_release(self.base, self.role, Some(&targets)),
        };
        let result = SignedRelease {
            next,
            role: self.role.to_owned(),
            version: file.signed.version,
            draft,
            signed_now_by: holder.title.clone(),
            complete: signatures.complete(),
            text: signatures.describe(),
            signed_by: signatures.signed,
            missing: signatures.missing,
            threshold: signatures.threshold,
            expires: file.signed.expires.to_string(),
            release: release.map(|release| format!("{} {}", release.manifest.release.model, release.manifest.release.version)),
            needs: release
                .map(|release| &release.companions.named)
                .filter(|named| !named.is_empty())
                .map(|named| companions::describe(named)),
        };
        output.show(&result, describe)
    }
}

fn describe(result: &SignedRelease) -> String {
    let mut facts = vec![("role", format!("{} version {}, valid until {}", result.role, result.version, result.expires))];
    if let Some(release) = &result.release {
        facts.push(("release", release.clone()));
    }
    if let Some(needs) = &result.needs {
        facts.push(("needs", needs.clone()));
    }
    facts.push(("signed by", result.signed_now_by.clone()));
    facts.push(("state", result.text.clone()));
    facts.push(("next", if result.complete { result.next.clone() } else { format!("the next keyholder signs: {}", result.next) }));
    pairs(&facts)
}

/// A counter that does not rise would leave vehicles where they are: none goes below the counter of its confirmed release.
fn check_counter(listed: &Targets, manifest: &Manifest) -> anyhow::Result<()> {
    let counters = listed.targets.values().filter(|target| target.is_release()).map(TargetMeta::release);
    let highest = counters.collect::<Result<Vec<_>, _>>()?.into_iter().max_by_key(|release| release.release_counter);
    let found = manifest.release.release_counter;
    match highest {
        Some(highest) if found <= highest.release_counter => Err(failure(
            format!("the release counter {found} is not above {}, the counter of {}", highest.release_counter, highest.title()),
            format!("pack again with --release-counter {}", highest.release_counter + 1),
        )),
        _ => Ok(()),
    }
}

/// That a keyholder has named, and so has, what the others say that the release needs.
fn same_companions(who_says: &str, stated: &[Companion], companions: &Companions) -> anyhow::Result<()> {
    if stated == companions.named {
        return Ok(());
    }
    let (stated, named) = (companions::describe(stated), companions::describe(&companions.named));
    let what = format!("{who_says} that the release needs {stated}, you have named {named}");
    Err(failure(what, "name each file with --companion HARDWARE=FILE, so that it is checked before you sign"))
}

/// Where the files of the draft are, for `publish`.
fn sources(release: &Release<'_>) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let Release { bundle, manifest, companions } = release;
    let absolute = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    let (index_path, bundle_path) = target_paths(manifest);
    let mut sources = BTreeMap::from([(index_path, absolute(&bundle.index_path)?), (bundle_path, absolute(&bundle.path)?)]);
    sources.extend(companions.sources.clone());
    Ok(sources)
}
