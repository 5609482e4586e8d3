//! What all ceremonies share: a draft of the next version, the sets of keyholders that must sign it, and who has.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use switchback_signing::{
    keys::PublicKey,
    metadata::{Delegations, Role, Root, RootRole, SignatureEntry, Signed, Targets, add_signature, merge_signatures, sign},
    time::UnixTime,
    trust::Repository,
};

use crate::{
    base::{Base, DIRECTOR_ROOT, IMAGE_ROOT, read_metadata},
    changes::{self, Names},
    commands::key,
    drafts,
    failure::failure,
    keyholders::Keyholders,
    keys::SigningKey,
    next_step,
    output::pairs,
};

/// Metadata that people sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The root of a repository.
    Root(Repository),
    /// Top-level targets of the Image repository.
    Targets,
    /// The releases of one tier.
    Release(String),
}

impl Subject {
    /// The role's name in file names.
    pub(crate) fn role(&self) -> &str {
        match self {
            Self::Root(_) => "root",
            Self::Targets => "targets",
            Self::Release(role) => role,
        }
    }

    pub(crate) fn title(&self) -> String {
        match self {
            Self::Root(repository) => format!("{repository} root"),
            Self::Targets | Self::Release(_) => self.role().to_owned(),
        }
    }

    pub(crate) fn repository(&self) -> Repository {
        match self {
            Self::Root(repository) => *repository,
            Self::Targets | Self::Release(_) => Repository::Image,
        }
    }

    pub(crate) fn draft_name(&self) -> &str {
        match self {
            Self::Root(Repository::Image) => IMAGE_ROOT,
            Self::Root(Repository::Director) => DIRECTOR_ROOT,
            Self::Targets | Self::Release(_) => self.role(),
        }
    }
}

/// What vouches for a draft besides the version before it, and what keys are called.
pub(crate) struct Authority {
    pub(crate) root: Option<Root>,
    pub(crate) targets: Option<Targets>,
    pub(crate) names: Names,
}

impl Authority {
    /// As the base has it.
    pub(crate) fn of_base(base: &Base, subject: &Subject, now: UnixTime) -> anyhow::Result<Self> {
        let root = matches!(subject, Subject::Targets).then(|| base.image_root().map(|(root, _)| root)).transpose()?;
        let targets = matches!(subject, Subject::Release(_)).then(|| base.targets(now)).transpose()?;
        Ok(Self { root, targets, names: base.key_names()? })
    }
}

/// A set of keyholders that must reach its threshold.
pub(crate) struct Quorum {
    /// Which metadata names them.
    pub(crate) authority: String,
    pub(crate) holders: Keyholders,
}

/// Metadata that is made and signed by people.
pub(crate) trait Deliberate: Role + Clone {
    /// Days that a new version is valid, when nobody says otherwise.
    const DAYS: i64;

    /// The same content as the next version.
    fn next(&self, expires: UnixTime) -> Self;

    /// What stands before the first version, for metadata that begins with a release.
    fn nothing() -> Option<Self>;

    fn set_expires(&mut self, expires: UnixTime);

    /// What `next` changes, for people.
    fn changes(&self, next: &Self, names: &Names) -> Vec<String>;

    /// All that this version says, for people who cannot trust what it is said to change.
    fn all(&self, names: &Names) -> Vec<String>;

    /// Who must sign `next`; the last of the sets is the one that `next` is to be kept by.
    fn quorums(&self, next: &Self, subject: &Subject, authority: &Authority) -> anyhow::Result<Vec<Quorum>>;

    /// Roles that could never be signed under this metadata.
    fn unsignable(&self) -> Vec<String>;

    /// The command with which the next keyholder signs `next`; `missing` says of each set whether it lacks signatures.
    fn sign_command(&self, next: &Self, base: &Base, subject: &Subject, authority: &Authority, missing: &[bool]) -> String;
}

impl Deliberate for Root {
    const DAYS: i64 = 365;

    fn next(&self, expires: UnixTime) -> Self {
        let mut next = self.clone();
        (next.version, next.expires) = (self.version + 1, expires);
        next
    }

    fn nothing() -> Option<Self> {
        None
    }

    fn set_expires(&mut self, expires: UnixTime) {
        self.expires = expires;
    }

    fn changes(&self, next: &Self, names: &Names) -> Vec<String> {
        changes::of_root(self, next, names)
    }

    fn all(&self, names: &Names) -> Vec<String> {
        changes::all_of_root(self, names)
    }

    /// TUF specification, 5.3.4: "a threshold of keys specified in the trusted root metadata file (version N), and a threshold of keys
    /// specified in the new root metadata file being validated (version N+1)".
    fn quorums(&self, next: &Self, _: &Subject, authority: &Authority) -> anyhow::Result<Vec<Quorum>> {
        let quorum = |root: &Self| Quorum {
            authority: format!("root version {}", root.version),
            holders: Keyholders::of_root(root, RootRole::Root, &authority.names),
        };
        Ok(vec![quorum(self), quorum(next)])
    }

    fn unsignable(&self) -> Vec<String> {
        let holders = RootRole::ALL.map(|role| Keyholders::of_root(self, role, &Names::new()));
        holders.iter().filter_map(out_of_reach).collect()
    }

    fn sign_command(&self, _: &Self, base: &Base, subject: &Subject, _: &Authority, missing: &[bool]) -> String {
        // Where only those of the version before are missing, who stays counts for both sets and who leaves for that one.
        let verb = if missing.last() == Some(&false) { "cross-sign" } else { "sign" };
        next_step::sign_root(base, subject.repository(), verb)
    }
}

impl Deliberate for Targets {
    const DAYS: i64 = 90;

    fn next(&self, expires: UnixTime) -> Self {
        Self { version: self.version + 1, expires, ..self.clone() }
    }

    fn nothing() -> Option<Self> {
        Some(Self::new(0, UnixTime::MIN))
    }

    fn set_expires(&mut self, expires: UnixTime) {
        self.expires = expires;
    }

    fn changes(&self, next: &Self, names: &Names) -> Vec<String> {
        changes::of_targets(self, next, names)
    }

    fn all(&self, names: &Names) -> Vec<String> {
        changes::all_of_targets(self, names)
    }

    fn quorums(&self, _: &Self, subject: &Subject, authority: &Authority) -> anyhow::Result<Vec<Quorum>> {
        let quorum = match subject {
            Subject::Release(role) => {
                let targets = authority.targets.as_ref().context("the top-level targets are missing")?;
                Quorum {
                    authority: format!("targets version {}", targets.version),
                    holders: Keyholders::of_release_role(targets, role, &authority.names)?,
                }
            }
            Subject::Targets | Subject::Root(_) => {
                let root = authority.root.as_ref().context("the root is missing")?;
                Quorum {
                    authority: format!("root version {}", root.version),
                    holders: Keyholders::of_root(root, RootRole::Targets, &authority.names),
                }
            }
        };
        Ok(vec![quorum])
    }

    fn unsignable(&self) -> Vec<String> {
        let nobody = Delegations::default();
        let delegations = self.delegations.as_ref().unwrap_or(&nobody);
        let holders = delegations.roles.iter().map(|role| Keyholders::new(&role.name, &role.keys, &delegations.keys, &Names::new()));
        holders.filter_map(|holders| out_of_reach(&holders)).collect()
    }

    fn sign_command(&self, next: &Self, base: &Base, subject: &Subject, authority: &Authority, _: &[bool]) -> String {
        let targets = authority.targets.as_ref();
        match subject {
            Subject::Release(role) if self.version > 0 && self.targets == next.targets => next_step::renew_release(base, role, targets),
            Subject::Release(role) => next_step::sign_release(base, role, targets, None),
            Subject::Targets | Subject::Root(_) => next_step::sign_targets(base),
        }
    }
}

/// Why a role's threshold can never be reached.
fn out_of_reach(holders: &Keyholders) -> Option<String> {
    let (usable, threshold) = (holders.usable(), holders.threshold);
    (usable < threshold).then(|| format!("{} has {usable} usable keys, {threshold} must sign", holders.role))
}

/// Which keyholders a signature comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those who keep the new version.
    Keeping,
    /// Those of the version before, who vouch for their successors.
    Leaving,
}

/// A draft of the next version.
pub(crate) struct Draft<T> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) file: Signed<T>,
}

/// A draft as it stands, for people and programs.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) document: String,
    pub(crate) version: u64,
    pub(crate) expires: String,
    pub(crate) draft: PathBuf,
    pub(crate) changes: Vec<String>,
    pub(crate) signatures: Vec<QuorumState>,
    pub(crate) complete: bool,
    /// The command that comes next.
    pub(crate) next: String,
    pub(crate) warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed_now_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signatures_dropped: Option<usize>,
}

/// Who has signed of one set of keyholders.
#[derive(Serialize)]
pub(crate) struct QuorumState {
    pub(crate) authority: String,
    pub(crate) threshold: u64,
    pub(crate) signed: Vec<String>,
    pub(crate) missing: Vec<String>,
    #[serde(skip)]
    pub(crate) text: String,
    #[serde(skip)]
    complete: bool,
}

impl Quorum {
    /// Who of the set has signed.
    pub(crate) fn state<T: Role>(&self, file: &Signed<T>) -> QuorumState {
        let signatures = self.holders.signatures(file);
        QuorumState {
            authority: self.authority.clone(),
            threshold: signatures.threshold,
            text: format!("{}: {}", self.authority, signatures.describe()),
            complete: signatures.complete(),
            signed: signatures.signed,
            missing: signatures.missing,
        }
    }
}

impl Report {
    pub(crate) fn describe(&self) -> String {
        let mut facts = vec![("draft", format!("{} version {}, valid until {}", self.document, self.version, self.expires))];
        facts.extend(self.changes.iter().map(|line| ("change", line.clone())));
        facts.extend(self.signed_now_by.iter().map(|name| ("signed by", name.clone())));
        if let Some(dropped) = self.signatures_dropped.filter(|dropped| *dropped > 0) {
            facts.push(("note", format!("the draft changed: {dropped} signatures were dropped, and must be made again")));
        }
        facts.extend(self.signatures.iter().map(|state| ("state", state.text.clone())));
        facts.extend(self.warnings.iter().map(|warning| ("warning", warning.clone())));
        facts.push(("next", if self.complete { self.next.clone() } else { format!("the next keyholder signs: {}", self.next) }));
        pairs(&facts)
    }

    /// What it takes until the draft is the newest version.
    pub(crate) fn steps(&self) -> String {
        if self.complete {
            return format!("version {} is complete, send it: `{}`", self.version, self.next);
        }
        format!("complete the draft of version {} ({}): `{}`", self.version, self.waiting(), self.next)
    }

    /// Who must still sign, in one line.
    pub(crate) fn waiting(&self) -> String {
        let open = self.signatures.iter().filter(|state| !state.complete).map(|state| state.text.as_str());
        open.collect::<Vec<_>>().join("; ")
    }
}

/// One document and the draft of its next version.
pub(crate) struct Ceremony<'a, T> {
    base: &'a Base,
    pub(crate) subject: Subject,
    authority: Authority,
    /// The signed file of the current version.
    pub(crate) stored: Option<Vec<u8>>,
    pub(crate) current: T,
    pub(crate) draft: Option<Draft<T>>,
    now: UnixTime,
}

impl<'a, T: Deliberate> Ceremony<'a, T> {
    pub(crate) fn open(base: &'a Base, subject: Subject, now: UnixTime) -> anyhow::Result<Self> {
        let stored = base.newest_in(&base.folder_of(subject.repository()), subject.role())?;
        let current = match (&stored, &subject) {
            (Some(stored), _) => crate::base::parse::<T>(stored)?.signed,
            (None, Subject::Release(_)) => T::nothing().context("a release has nothing before it")?,
            (None, _) => bail!("the base has no {}", subject.title()),
        };
        let path = base.draft(subject.draft_name());
        let draft = path.is_file().then(|| read_draft(path)).transpose()?;
        let authority = Authority::of_base(base, &subject, now)?;
        Ok(Self { base, subject, authority, stored: stored.map(|stored| stored.bytes), current, draft, now })
    }

    fn path(&self) -> PathBuf {
        self.base.draft(self.subject.draft_name())
    }

    /// Changes the draft, or begins one. Signatures on what it said before are dropped.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut T, &Base) -> anyhow::Result<()>) -> anyhow::Result<usize> {
        self.check_current()?;
        let (mut role, dropped) = match &self.draft {
            Some(draft) => (draft.file.signed.clone(), draft.file.signatures.len()),
            None => (self.current.next(self.now.plus_days(T::DAYS)), 0),
        };
        change(&mut role, self.base)?;
        let bytes = sign(&role, &[])?;
        drafts::replace(&self.path(), self.draft.as_ref().map(|draft| draft.bytes.as_slice()), &bytes)?;
        self.set(bytes)?;
        // A new key may have been remembered with its name.
        self.authority.names = self.base.key_names()?;
        Ok(dropped)
    }

    /// Gives the draft another expiry, or begins one with it.
    pub(crate) fn expire(&mut self, expires: UnixTime) -> anyhow::Result<usize> {
        if expires <= self.now {
            return Err(failure(format!("{expires} is past"), "choose a time to come with --at, or --days"));
        }
        self.edit(|role, _| {
            role.set_expires(expires);
            Ok(())
        })
    }

    /// Adds a keyholder's signature to the draft, and says whose it was.
    pub(crate) fn sign(&mut self, key: &SigningKey, part: Part) -> anyhow::Result<String> {
        let draft = self.signable()?;
        let quorums = self.quorums(draft)?;
        let (Some(leaving), Some(keeping)) = (quorums.first(), quorums.last()) else { bail!("nobody is to sign {}", self.subject.title()) };
        let signer = self.base.signer(key, &keeping.holders.union(&leaving.holders))?;
        let public = signer.public_key();
        self.check_part(&key.name(), &public, part, leaving, keeping)?;
        let signed = add_signature(&draft.bytes, draft.bytes.len(), &*signer)?;
        self.set(drafts::add_signature(&self.path(), Some(&draft.bytes), signed)?)?;
        Ok(key::title(&key.name(), &public))
    }

    fn check_part(&self, name: &str, key: &PublicKey, part: Part, leaving: &Quorum, keeping: &Quorum) -> anyhow::Result<()> {
        let wanted = if part == Part::Keeping { keeping } else { leaving };
        if wanted.holders.holds(key) {
            return Ok(());
        }
        let title = key::title(name, key);
        let called = |quorum: &Quorum| quorum.holders.name_of(key).map(ToOwned::to_owned);
        Err(match (part, called(leaving), called(keeping)) {
            (Part::Keeping, Some(known), _) => failure(
                format!("{known} is no longer a key of {}", keeping.authority),
                "a leaving keyholder vouches for the new set with `switchback root cross-sign`",
            ),
            (Part::Leaving, _, Some(known)) => {
                failure(format!("{known} is no key of {}", leaving.authority), "a new keyholder signs with `switchback root sign`")
            }
            _ => failure(
                format!("the key {title} may not sign {}", self.subject.title()),
                format!("these may: {}", wanted.holders.names().join(", ")),
            ),
        })
    }

    /// The draft, when it can be signed at all.
    pub(crate) fn signable(&self) -> anyhow::Result<&Draft<T>> {
        self.check_current()?;
        let title = self.subject.title();
        let draft = self.draft.as_ref().ok_or_else(|| {
            failure(format!("there is no draft of the {title}"), "begin one by changing a key, a threshold or the expiry")
        })?;
        let role = &draft.file.signed;
        if role.expires() <= self.now {
            return Err(failure(
                format!("the draft of the {title} expired at {}", role.expires()),
                "give it another expiry, which drops its signatures",
            ));
        }
        match role.unsignable().first() {
            Some(problem) => Err(failure(format!("the draft cannot be completed: {problem}"), "add keys or lower the threshold first")),
            None => Ok(draft),
        }
    }

    /// That the draft is of the version after the newest.
    fn check_current(&self) -> anyhow::Result<()> {
        let (found, newest) = match &self.draft {
            Some(draft) => (draft.file.signed.version(), self.current.version()),
            None => return Ok(()),
        };
        if found == newest + 1 {
            return Ok(());
        }
        let what = format!("the draft is version {found}, and the base has version {newest} already");
        Err(failure(what, "the draft was made for a base that has moved on: `discard` it and make the change again"))
    }

    /// Adds the signatures that a copy of the draft brings home; how many were new. Only those of its keyholders that verify count.
    pub(crate) fn merge(&mut self, copy: &[u8]) -> anyhow::Result<usize> {
        let draft = self.signable()?;
        let signed = Signed::<T>::parse(copy, copy.len())?;
        let quorums = self.quorums(draft)?;
        let accept = |entry: &SignatureEntry| quorums.iter().any(|quorum| quorum.holders.accepts(&signed, &entry.key_id));
        let merged = merge_signatures(&draft.bytes, copy, copy.len().max(draft.bytes.len()), accept)?;
        let before = draft.file.signatures.len();
        self.set(drafts::add_signature(&self.path(), Some(&draft.bytes), merged)?)?;
        Ok(self.draft.as_ref().map_or(0, |draft| draft.file.signatures.len()) - before)
    }

    pub(crate) fn discard(&mut self) -> anyhow::Result<()> {
        let path = self.path();
        if self.draft.take().is_none() {
            bail!("there is no draft of the {}", self.subject.title());
        }
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    pub(crate) fn quorums(&self, draft: &Draft<T>) -> anyhow::Result<Vec<Quorum>> {
        self.current.quorums(&draft.file.signed, &self.subject, &self.authority)
    }

    /// Keyholders by name.
    pub(crate) fn names(&self) -> &Names {
        &self.authority.names
    }

    /// The draft as it stands.
    pub(crate) fn report(&self) -> anyhow::Result<Option<Report>> {
        let Some(draft) = &self.draft else { return Ok(None) };
        let role = &draft.file.signed;
        let signatures: Vec<QuorumState> = self.quorums(draft)?.iter().map(|quorum| quorum.state(&draft.file)).collect();
        let missing: Vec<bool> = signatures.iter().map(|state| !state.complete).collect();
        let next = match missing.contains(&true) {
            true => self.current.sign_command(role, self.base, &self.subject, &self.authority, &missing),
            false => next_step::publish(self.base),
        };
        Ok(Some(Report {
            document: self.subject.title(),
            version: role.version(),
            expires: role.expires().to_string(),
            draft: self.path(),
            changes: self.current.changes(role, self.names()),
            complete: !missing.contains(&true),
            next,
            signatures,
            warnings: role.unsignable(),
            signed_now_by: None,
            signatures_dropped: None,
        }))
    }

    fn set(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.draft = Some(Draft { file: Signed::parse(&bytes, bytes.len())?, bytes });
        Ok(())
    }
}

fn read_draft<T: Role>(path: PathBuf) -> anyhow::Result<Draft<T>> {
    let bytes = read_metadata(&path)?;
    let file = Signed::parse(&bytes, bytes.len()).with_context(|| path.display().to_string())?;
    Ok(Draft { bytes, file })
}
