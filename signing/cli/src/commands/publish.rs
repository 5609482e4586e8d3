//! `switchback publish`: from the base to the server. Every step may be repeated.

mod deltas;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use reqwest::blocking::Body;
use serde::Serialize;
use switchback_signing::{
    digest::Sha256Digest,
    metadata::{Root, Signed, TargetMeta, Targets},
    time::UnixTime,
    trust::{
        Repository,
        limits::{ROOT_BYTES_MAX, TARGETS_BYTES_MAX},
        publish::check_root_step,
    },
};

use deltas::MadeDelta;

use crate::{
    base::Base,
    bundle::{BundleFile, read_content_key},
    ceremony::{Ceremony, Deliberate, Subject},
    client::{Client, ServerArguments},
    clock,
    failure::{Hint, failure},
    files,
    keyholders::{Keyholders, Signatures},
    output::{Output, bytes, table},
    progress::{Counted, byte_bar},
    release::target_paths,
};

/// Length of a content key, bytes.
const CONTENT_KEY_BYTES: u64 = 32;

/// Longest list of a draft's files, bytes.
const FILES_BYTES_MAX: usize = 1 << 20;

/// Send what was signed to the server: roots, bundles, then the metadata that lists them
///
/// Checks everything as a vehicle would before the first byte is sent, and sends only what the server does not have: after an
/// interruption run it again.
#[derive(Args)]
#[command(after_help = "Example:\n  switchback publish --base release --server https://ota.example \\\n      --token-file admin.token")]
pub(crate) struct Arguments {
    /// Base directory
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
    /// Publish what is complete and leave drafts that lack signatures where they are
    #[arg(long)]
    leave_incomplete: bool,
    /// Publish roots although the server holds none of the online keys that they name
    ///
    /// What they revoke is revoked at once; vehicles get nothing new until the server has the keys that they name.
    #[arg(long)]
    without_online_keys: bool,
    /// Content key of the encrypted bundle that has none beside it
    ///
    /// `pack --encrypt` writes it beside the bundle, where it is found. The server seals it for each vehicle that is assigned the release.
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// Folder of a delta to a release that is listed, as `switchback delta create` made it; once for each
    ///
    /// Vehicles that have the release which it starts from fetch it in place of the bundle.
    #[arg(long, value_name = "DIR")]
    delta: Vec<PathBuf>,
    /// Bundles of the drafts, where they are no longer where they were when they were signed
    bundles: Vec<PathBuf>,
}

#[derive(Default, Serialize)]
struct Published {
    files: Vec<PublishedFile>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct PublishedFile {
    file: String,
    bytes: u64,
    sent: bool,
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    let (base, now) = (Base::open(&arguments.base)?, clock::now());
    let content_key = arguments.content_key.as_deref();
    let bundles = arguments.bundles.iter().map(|path| located(path, content_key)).collect::<anyhow::Result<Vec<_>>>()?;
    let bundles: BTreeMap<String, PathBuf> = bundles.into_iter().flatten().collect();
    // All checks first: what is ready is published whole or not at all.
    let mut ready = Ready { base: &base, now, leave_incomplete: arguments.leave_incomplete, left: Vec::new() };
    let image_root = ready.root(Repository::Image)?;
    let director_root = ready.root(Repository::Director)?;
    let targets = ready.targets()?;
    let drafts = ready.releases(&bundles)?;
    let deltas = arguments.delta.iter().map(|folder| MadeDelta::open(folder)).collect::<anyhow::Result<Vec<_>>>()?;

    let published = Published { warnings: ready.left, ..Published::default() };
    let (client, without_online_keys) = (Client::new(&arguments.server)?, arguments.without_online_keys);
    let mut publisher = Publisher { client, output, content_key, without_online_keys, published };
    for (repository, draft) in [(Repository::Image, image_root), (Repository::Director, director_root)] {
        publisher.roots(&base, repository, draft.is_some())?;
        publisher.promote(&base, &Subject::Root(repository), draft)?;
    }
    publisher.targets_versions(&base)?;
    publisher.promote(&base, &Subject::Targets, targets)?;
    for role in signed_roles(&base, now)? {
        publisher.newest_metadata(&base, &role, &bundles)?;
    }
    for draft in &drafts {
        publisher.draft(&base, draft)?;
    }
    publisher.deltas(&base, &signed_roles(&base, now)?, &deltas)?;
    output.show(&publisher.published, |published| {
        let row =
            |file: &PublishedFile| vec![file.file.clone(), bytes(file.bytes), if file.sent { "sent" } else { "was there" }.to_owned()];
        let mut text = table(&["FILE", "SIZE", ""], &published.files.iter().map(row).collect::<Vec<_>>());
        text.extend(published.warnings.iter().map(|warning| format!("warning: {warning}\n")));
        text
    })
}

/// Delegated roles by the base's targets.
fn signed_roles(base: &Base, now: UnixTime) -> anyhow::Result<Vec<String>> {
    let targets = base.targets(now)?;
    Ok(targets.delegations.iter().flat_map(|delegations| &delegations.roles).map(|role| role.name.clone()).collect())
}

/// Files of a bundle by target path.
fn located(path: &Path, content_key: Option<&Path>) -> anyhow::Result<[(String, PathBuf); 2]> {
    let bundle = BundleFile::open_with_fallback(path, None, content_key)?;
    let (index_path, bundle_path) = target_paths(&bundle.manifest()?);
    Ok([(index_path, bundle.index_path), (bundle_path, bundle.path)])
}

/// Finds the drafts that have all their signatures, and checks them as a vehicle would.
struct Ready<'a> {
    base: &'a Base,
    now: UnixTime,
    leave_incomplete: bool,
    /// Drafts that stay behind, with what they lack.
    left: Vec<String>,
}

/// Version and bytes of what a ceremony has completed.
type Completed = (u64, Vec<u8>);

impl Ready<'_> {
    fn root(&mut self, repository: Repository) -> anyhow::Result<Option<Completed>> {
        let Some(completed) = self.complete::<Root>(Subject::Root(repository))? else { return Ok(None) };
        let trusted = self.base.root(repository)?.bytes;
        check_root_step(repository, Some(&trusted), &completed.1, self.now)?;
        Ok(Some(completed))
    }

    fn targets(&mut self) -> anyhow::Result<Option<Completed>> {
        // Checks what counts, which is the draft if it is complete.
        let version = self.base.targets(self.now)?.version;
        Ok(self.complete::<Targets>(Subject::Targets)?.filter(|(completed, _)| *completed == version))
    }

    fn releases(&mut self, bundles: &BTreeMap<String, PathBuf>) -> anyhow::Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        for role in self.base.drafted_roles()? {
            let (version, signatures) = Draft::signatures(self.base, &role, self.now)?;
            if signatures.complete() {
                drafts.push(Draft::open(self.base, &role, bundles, self.now)?);
            } else {
                let report = Ceremony::<Targets>::open(self.base, Subject::Release(role.clone()), self.now)?.report()?;
                let hint = format!("the next keyholder signs: `{}`", report.context("the draft was just there")?.next);
                self.leave(format!("{role} version {version} cannot be published: it has {}", signatures.describe()), &hint)?;
            }
        }
        Ok(drafts)
    }

    fn complete<T: Deliberate>(&mut self, subject: Subject) -> anyhow::Result<Option<Completed>> {
        let ceremony = Ceremony::<T>::open(self.base, subject, self.now)?;
        let Some(report) = ceremony.report()? else { return Ok(None) };
        if report.complete {
            return Ok(Some((report.version, ceremony.signable()?.bytes.clone())));
        }
        let what = format!("{} version {} cannot be published: {}", report.document, report.version, report.waiting());
        self.leave(what, &format!("the next keyholder signs: `{}`", report.next))?;
        Ok(None)
    }

    fn leave(&mut self, what: String, hint: &str) -> anyhow::Result<()> {
        if self.leave_incomplete {
            self.left.push(what);
            return Ok(());
        }
        Err(failure(what, format!("{hint}; or leave it where it is with --leave-incomplete")))
    }
}

/// A complete draft and its files.
struct Draft {
    role: String,
    version: u64,
    bytes: Vec<u8>,
    files: Vec<DraftFile>,
}

struct DraftFile {
    target: String,
    meta: TargetMeta,
    path: Option<PathBuf>,
}

impl Draft {
    /// Version of a role's draft, and who has signed it.
    fn signatures(base: &Base, role: &str, now: UnixTime) -> anyhow::Result<(u64, Signatures)> {
        let path = base.draft(role);
        let bytes = files::read(&path, TARGETS_BYTES_MAX as usize)?;
        let file = Signed::<Targets>::parse(&bytes, bytes.len()).with_context(|| path.display().to_string())?;
        let holders = Keyholders::of_release_role(&base.targets(now)?, role, &base.key_names()?)?;
        Ok((file.signed.version, holders.signatures(&file)))
    }

    fn open(base: &Base, role: &str, bundles: &BTreeMap<String, PathBuf>, now: UnixTime) -> anyhow::Result<Self> {
        let path = base.draft(role);
        let bytes = files::read(&path, TARGETS_BYTES_MAX as usize)?;
        let targets = base.check_release_role(role, &bytes, now).with_context(|| path.display().to_string())?;
        // The index comes before its bundle by name; the order does not matter, as nothing points to either yet.
        Ok(Self { role: role.to_owned(), version: targets.version, files: DraftFile::all(base, role, &targets, bundles)?, bytes })
    }
}

impl DraftFile {
    /// What a role lists, and where it was when it was signed, unless `bundles` knows better.
    fn all(base: &Base, role: &str, targets: &Targets, bundles: &BTreeMap<String, PathBuf>) -> anyhow::Result<Vec<Self>> {
        let sources = base.draft_files(role);
        let mut sources: BTreeMap<String, PathBuf> = match sources.is_file() {
            true => serde_json::from_slice(&files::read(&sources, FILES_BYTES_MAX)?).with_context(|| sources.display().to_string())?,
            false => BTreeMap::new(),
        };
        sources.extend(bundles.clone());
        let file = |(target, meta): (&String, &TargetMeta)| Self {
            path: sources.get(target).cloned(),
            target: target.clone(),
            meta: meta.clone(),
        };
        Ok(targets.targets.iter().map(file).collect())
    }
}

struct Publisher<'a> {
    client: Client,
    output: &'a Output,
    content_key: Option<&'a Path>,
    without_online_keys: bool,
    published: Published,
}

/// Where a root is in its chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InChain {
    Link,
    End,
}

/// Has the server take a root under which it can sign nothing.
const UNCERTIFIED: &str = "?uncertified=accept";

impl Publisher<'_> {
    /// The whole chain, oldest first. Only its end must name the online keys of this server: the chain may be that of another one, which
    /// is no more.
    fn roots(&mut self, base: &Base, repository: Repository, followed: bool) -> anyhow::Result<()> {
        let versions = base.versions(&base.folder_of(repository), "root")?;
        let last = versions.len().saturating_sub(1);
        for (place, (version, path)) in versions.into_iter().enumerate() {
            let place = if followed || place < last { InChain::Link } else { InChain::End };
            self.root(repository, version, files::read(&path, ROOT_BYTES_MAX as usize)?, place)?;
        }
        Ok(())
    }

    fn root(&mut self, repository: Repository, version: u64, bytes: Vec<u8>, place: InChain) -> anyhow::Result<()> {
        let query = if place == InChain::Link || self.without_online_keys { UNCERTIFIED } else { "" };
        let warnings = self.published.warnings.len();
        match repository {
            Repository::Image => self.metadata("root", version, bytes, query)?,
            // The Director's roots are private: the server says whether it knows one only by accepting it again.
            Repository::Director => {
                let (name, length) = (format!("director/{version}.root.json"), bytes.len() as u64);
                self.put(&format!("/v1/director/root/{version}.root.json{query}"), bytes, &name)?;
                self.note(name, length, true);
            }
        }
        if place == InChain::Link {
            // What the server says of it is over with the root that follows.
            self.published.warnings.truncate(warnings);
        }
        Ok(())
    }

    /// Sends what a ceremony has completed; with the server's acceptance it becomes the newest version.
    fn promote(&mut self, base: &Base, subject: &Subject, completed: Option<Completed>) -> anyhow::Result<()> {
        let Some((version, bytes)) = completed else { return Ok(()) };
        match subject {
            Subject::Root(repository) => self.root(*repository, version, bytes, InChain::End)?,
            Subject::Targets | Subject::Release(_) => self.metadata(subject.role(), version, bytes, "")?,
        }
        let to = base.folder_of(subject.repository()).join(format!("{version}.{}.json", subject.role()));
        files::rename(&base.draft(subject.draft_name()), &to)
    }

    /// Every version of the top-level targets, oldest first.
    fn targets_versions(&mut self, base: &Base) -> anyhow::Result<()> {
        for (version, path) in base.versions(&base.image(), "targets")? {
            self.metadata("targets", version, files::read(&path, TARGETS_BYTES_MAX as usize)?, "")?;
        }
        Ok(())
    }

    /// A role's newest version: when the last `publish` was interrupted between signing off and sending. And the content keys that a
    /// server which has lost its own lacks.
    fn newest_metadata(&mut self, base: &Base, role: &str, bundles: &BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
        let Some(stored) = base.newest(role)? else { return Ok(()) };
        let targets = Signed::<Targets>::parse(&stored.bytes, stored.bytes.len()).with_context(|| role.to_owned())?.signed;
        let files = DraftFile::all(base, role, &targets, bundles)?;
        for release in files.iter().filter(|file| file.meta.is_release()) {
            if let Err(error) = self.release_key(release, &files) {
                // Another desk may have the key; what is new here goes out all the same.
                self.published.warnings.push(format!("{error:#}"));
            }
        }
        self.metadata(role, stored.version, stored.bytes, "")
    }

    fn metadata(&mut self, role: &str, version: u64, bytes: Vec<u8>, query: &str) -> anyhow::Result<()> {
        let (name, length) = (format!("{version}.{role}.json"), bytes.len() as u64);
        let url = format!("/v1/image/metadata/{name}");
        let sent = match self.client.find(&url)? {
            Some(there) if there == bytes => false,
            Some(_) => {
                return Err(failure(
                    format!("the server has another {name} than the base"),
                    "it is another base's server (--server, SWITCHBACK_SERVER), or somebody published from another copy of this base: a \
                     version is signed once, so bring the two together before going on",
                ));
            }
            None => {
                self.put(&format!("{url}{query}"), bytes, &name)?;
                true
            }
        };
        self.note(format!("image/{name}"), length, sent);
        Ok(())
    }

    fn put(&mut self, url: &str, bytes: Vec<u8>, name: &str) -> anyhow::Result<()> {
        let answer = self.client.put(url, bytes).with_context(|| format!("{name} was not accepted"))?;
        let warnings = answer.get("warnings").and_then(|warnings| warnings.as_array()).into_iter().flatten();
        self.published.warnings.extend(warnings.filter_map(|warning| warning.as_str().map(ToOwned::to_owned)));
        Ok(())
    }

    /// Bytes first, then the metadata that lists them; at last the draft becomes the role's newest version.
    fn draft(&mut self, base: &Base, draft: &Draft) -> anyhow::Result<()> {
        for file in &draft.files {
            self.target(file)?;
        }
        for release in draft.files.iter().filter(|file| file.meta.is_release()) {
            self.release_key(release, &draft.files)?;
        }
        self.metadata(&draft.role, draft.version, draft.bytes.clone(), "")?;
        files::rename(&base.draft(&draft.role), &base.image().join(format!("{}.{}.json", draft.version, draft.role)))
    }

    fn target(&mut self, file: &DraftFile) -> anyhow::Result<()> {
        let DraftFile { target, meta, path } = file;
        let sha256 = meta.hashes.sha256.with_context(|| format!("{target} has no SHA-256"))?;
        let (folder, name) = target.split_once('/').with_context(|| format!("{target} is not of the form TIER/NAME"))?;
        let url = format!("/v1/image/targets/{folder}/{sha256}.{name}");
        let sent = !self.client.exists(&url)?;
        if sent {
            let path = path.as_deref().ok_or_else(|| {
                failure(
                    format!("the server does not have {target}, and the base does not know where it is"),
                    "name its bundle: `switchback publish BUNDLE`",
                )
            })?;
            self.upload(target, path, meta.length, sha256, &url)?;
        }
        self.note(format!("targets/{target}"), meta.length, sent);
        Ok(())
    }

    /// The content key of an encrypted release, before the metadata that lists it: the server publishes none that no vehicle can open.
    fn release_key(&mut self, release: &DraftFile, files: &[DraftFile]) -> anyhow::Result<()> {
        let bundle = release.meta.release()?.bundle;
        if bundle.encryption.is_none() {
            return Ok(());
        }
        let url = format!("/v1/content-keys/{}", bundle.sha256);
        if !self.client.exists(&url)? {
            let at = files.iter().find(|file| file.target == bundle.path).and_then(|file| file.path.as_deref());
            let key = match (at.filter(|path| path.is_file()), self.content_key) {
                // Seen to open the bundle: with another one no vehicle could install what is approved and rolled out.
                (Some(path), named) => BundleFile::open_with_fallback(path, release.path.as_deref(), named)?.content_key()?.clone(),
                (None, Some(named)) => read_content_key(named)?,
                (None, None) => {
                    return Err(failure(
                        format!("{} is encrypted, and the server does not have its content key", bundle.path),
                        "name the file that `switchback pack --encrypt` wrote beside the bundle: --content-key FILE",
                    ));
                }
            };
            let body = key.to_jwk().as_bytes().to_vec();
            self.client.upload(&url, Body::from(body)).with_context(|| format!("the content key of {} was not accepted", bundle.path))?;
            self.note(format!("content-keys/{}", bundle.path), CONTENT_KEY_BYTES, true);
        }
        Ok(())
    }

    fn upload(&self, target: &str, path: &Path, length: u64, sha256: Sha256Digest, url: &str) -> anyhow::Result<()> {
        let found = files::length(path).hint("name the bundle where it is now: `switchback publish BUNDLE`")?;
        if found != length {
            bail!("{} has {found} bytes, signed are {length}", path.display());
        }
        let bar = byte_bar(self.output, target, length);
        let body = Body::sized(Counted::new(files::open(path)?, &bar), length);
        // The server hashes what arrives and refuses anything but the signed bytes.
        self.client.upload(url, body).with_context(|| format!("{} (SHA-256 {sha256})", path.display()))?;
        bar.finish_and_clear();
        Ok(())
    }

    fn note(&mut self, file: String, bytes: u64, sent: bool) {
        self.published.files.push(PublishedFile { file, bytes, sent });
    }
}
