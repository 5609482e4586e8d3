//! A request to sign that travels: one JSON file with the draft, what it is measured by, and what it changes in words.
//!
//! Nothing in it is believed for being in it. What it changes is computed again from the metadata before anybody signs, and on the way
//! home only signatures over exactly the draft that the base has are taken.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use switchback_signing::{
    digest::Sha256Digest,
    keys::KeyId,
    metadata::{Root, Signed, Targets},
    time::UnixTime,
    trust::{
        Repository,
        publish::{Publication, check_root_step, check_targets},
    },
};

use crate::{
    ceremony::{Authority, Deliberate, Draft, Quorum, Subject},
    failure::{Hint, failure},
    files::{self, Access},
};

const FORMAT: &str = "switchback-signing-request-1";

/// Longest request, bytes: four files of metadata of 5 MB at most, escaped.
const REQUEST_BYTES_MAX: usize = 48 << 20;

const ALTERED: &str = "the file was altered or damaged on its way: have it exported again, and compare the SHA-256 with the sender's";

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SigningRequest {
    format: String,
    /// What is to be signed, for people.
    pub(crate) document: String,
    subject: WireSubject,
    /// What the next version changes, for people; computed again before it is signed.
    pub(crate) changes: Vec<String>,
    /// SHA-256 of the bytes that the signatures cover: what keyholders compare.
    pub(crate) signed_sha256: Sha256Digest,
    /// SHA-256 of the file of the version before.
    pub(crate) base_sha256: Option<Sha256Digest>,
    /// What keys are called, by key id.
    names: BTreeMap<String, String>,
    /// The file of the version before.
    current: Option<String>,
    /// The Image repository's root, which vouches for targets.
    root: Option<String>,
    /// The top-level targets, which vouch for releases.
    targets: Option<String>,
    /// The draft with the signatures that it has.
    draft: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WireSubject {
    ImageRoot,
    DirectorRoot,
    Targets,
    Release(String),
}

impl From<&Subject> for WireSubject {
    fn from(subject: &Subject) -> Self {
        match subject {
            Subject::Root(Repository::Image) => Self::ImageRoot,
            Subject::Root(Repository::Director) => Self::DirectorRoot,
            Subject::Targets => Self::Targets,
            Subject::Release(role) => Self::Release(role.clone()),
        }
    }
}

impl From<&WireSubject> for Subject {
    fn from(subject: &WireSubject) -> Self {
        match subject {
            WireSubject::ImageRoot => Self::Root(Repository::Image),
            WireSubject::DirectorRoot => Self::Root(Repository::Director),
            WireSubject::Targets => Self::Targets,
            WireSubject::Release(role) => Self::Release(role.clone()),
        }
    }
}

/// What a request is made of.
pub(crate) struct Contents<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) changes: Vec<String>,
    pub(crate) names: &'a BTreeMap<KeyId, String>,
    pub(crate) current: Option<Vec<u8>>,
    pub(crate) root: Option<Vec<u8>>,
    pub(crate) targets: Option<Vec<u8>>,
}

/// A request whose parts belong together.
pub(crate) struct Opened<T> {
    pub(crate) draft: Draft<T>,
    pub(crate) quorums: Vec<Quorum>,
}

impl SigningRequest {
    pub(crate) fn new<T: Deliberate>(contents: Contents<'_>, draft: &Draft<T>) -> anyhow::Result<Self> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("metadata is UTF-8");
        Ok(Self {
            format: FORMAT.to_owned(),
            document: format!("{} version {}", contents.subject.title(), draft.file.signed.version()),
            subject: contents.subject.into(),
            changes: contents.changes,
            signed_sha256: Sha256Digest::of(draft.file.message()),
            base_sha256: contents.current.as_deref().map(Sha256Digest::of),
            names: contents.names.iter().map(|(id, name)| (id.to_string(), name.clone())).collect(),
            current: contents.current.map(text).transpose()?,
            root: contents.root.map(text).transpose()?,
            targets: contents.targets.map(text).transpose()?,
            draft: text(draft.bytes.clone())?,
        })
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read(path, REQUEST_BYTES_MAX)?;
        let request: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no signing request", path.display()))
            .hint("a request is made with `switchback request export`")?;
        if request.format != FORMAT {
            bail!("{} has the format {:?}, this release reads {FORMAT:?}", path.display(), request.format);
        }
        Ok(request)
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        files::write(path, &serde_json::to_vec_pretty(self)?, Access::Public)
    }

    pub(crate) fn subject(&self) -> Subject {
        (&self.subject).into()
    }

    pub(crate) fn draft(&self) -> &[u8] {
        self.draft.as_bytes()
    }

    /// With another signature.
    pub(crate) fn signed(self, draft: Vec<u8>) -> anyhow::Result<Self> {
        Ok(Self { draft: String::from_utf8(draft).context("metadata is UTF-8")?, ..self })
    }

    /// That everything in the request is about one and the same thing, and is what it says in words.
    pub(crate) fn open<T: Deliberate>(&self) -> anyhow::Result<Opened<T>> {
        let subject = self.subject();
        let altered = |what: &str| failure(format!("the request is not what it says: {what}"), ALTERED);
        let bytes = self.draft.clone().into_bytes();
        let draft = Draft { file: Signed::<T>::parse(&bytes, bytes.len()).context("the draft in the request")?, bytes };
        if Sha256Digest::of(draft.file.message()) != self.signed_sha256 {
            return Err(altered("its draft has another SHA-256"));
        }
        if self.current.as_ref().map(|current| Sha256Digest::of(current.as_bytes())) != self.base_sha256 {
            return Err(altered("the version before has another SHA-256"));
        }
        let current = match &self.current {
            Some(current) => Signed::<T>::parse(current.as_bytes(), current.len()).context("the version before")?.signed,
            None => T::nothing().ok_or_else(|| altered("the version before is missing"))?,
        };
        let next = &draft.file.signed;
        if next.version() != current.version() + 1 || self.document != format!("{} version {}", subject.title(), next.version()) {
            return Err(altered("it is about another version"));
        }
        let authority = self.authority(&subject).hint(ALTERED)?;
        if current.changes(next, &authority.names) != self.changes {
            return Err(altered("its list of changes is not what the draft changes"));
        }
        let quorums = current.quorums(next, &subject, &authority)?;
        Ok(Opened { draft, quorums })
    }

    /// The metadata that vouches for the draft, checked as far as it can be without a clock that one can trust: expiry is asked at home.
    fn authority(&self, subject: &Subject) -> anyhow::Result<Authority> {
        let names = self.names.iter().map(|(id, name)| (KeyId::new(id), name.clone())).collect();
        let (mut root, mut targets): (Option<Root>, Option<Targets>) = (None, None);
        if let Subject::Root(repository) = subject {
            let current = self.current.as_deref().context("the root before is missing")?;
            check_root_step(*repository, None, current.as_bytes(), UnixTime::MIN)?;
        } else {
            let bytes = self.root.as_deref().context("the root is missing")?.as_bytes();
            root = Some(check_root_step(Repository::Image, None, bytes, UnixTime::MIN)?);
            if let Subject::Release(_) = subject {
                let listed = self.targets.as_deref().context("the top-level targets are missing")?;
                let to = Publication { repository: Repository::Image, root: bytes, previous: None, now: UnixTime::MIN };
                targets = Some(check_targets(listed.as_bytes(), &to)?);
            }
        }
        Ok(Authority { root, targets, names })
    }
}
