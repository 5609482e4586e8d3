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
    /// What the draft says beside its changes. They are measured by a version before that the file brings along: whoever made up both
    /// could have one sign what stands in neither.
    pub(crate) rest: Vec<String>,
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
        let told = |line: &String| self.changes.iter().any(|change| change.strip_prefix("+ ") == Some(line));
        let rest = next.all(&authority.names).into_iter().filter(|line| !told(line)).collect();
        Ok(Opened { draft, rest, quorums })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use switchback_signing::{
        keys::{Ed25519Signer, Signer},
        metadata::{DelegatedRole, Delegations, RootRole, TargetMeta, sign},
    };

    use super::*;

    /// A request to sign the second version of a tier's releases, as it is written to the stick.
    fn written() -> Vec<u8> {
        let key = Ed25519Signer::from_seed([1; 32]);
        let (public, expires) = ([key.public_key()], UnixTime::from_seconds(4_000_000_000));
        let mut root = Root::new(1, expires);
        RootRole::ALL.iter().for_each(|role| root.set_role(*role, 1, &public));
        let mut delegations = Delegations::default();
        delegations.add(DelegatedRole::new("vla-ultra", 1, &public, &["ultra/*"]), &public);
        let targets = Targets { delegations: Some(delegations), ..Targets::new(1, expires) };
        let mut release = Targets::new(1, expires);
        release.targets.insert("ultra/a".into(), TargetMeta::of_digest(1, Sha256Digest::of(b"a")));
        let current = sign(&release, &[&key]).unwrap();
        let before = release.clone();
        release.version = 2;
        release.targets.insert("ultra/b".into(), TargetMeta::of_digest(2, Sha256Digest::of(b"b")));
        let bytes = sign(&release, &[]).unwrap();
        let names = BTreeMap::from([(key.key_id(), "alice".to_owned())]);
        let contents = Contents {
            subject: &Subject::Release("vla-ultra".into()),
            changes: before.changes(&release, &names),
            names: &names,
            current: Some(current),
            root: Some(sign(&root, &[&key]).unwrap()),
            targets: Some(sign(&targets, &[&key]).unwrap()),
        };
        let draft = Draft { file: Signed::<Targets>::parse(&bytes, bytes.len()).unwrap(), bytes };
        serde_json::to_vec(&SigningRequest::new(contents, &draft).unwrap()).unwrap()
    }

    /// Everything that is shown of a request, where it opens at all.
    fn opened(bytes: &[u8]) -> Option<(String, Vec<String>)> {
        let request: SigningRequest = serde_json::from_slice(bytes).ok()?;
        let (draft, rest) = match request.subject() {
            Subject::Root(_) => request.open::<Root>().map(|opened| (opened.draft.file.message().to_vec(), opened.rest)),
            _ => request.open::<Targets>().map(|opened| (opened.draft.file.message().to_vec(), opened.rest)),
        }
        .ok()?;
        assert_eq!(Sha256Digest::of(&draft), request.signed_sha256, "what is compared is what is signed");
        Some((String::from_utf8(draft).unwrap(), [request.changes, rest].concat()))
    }

    /// A stick may bring any bytes: nothing panics, and what opens tells of all that would be signed.
    #[test]
    fn an_altered_request_is_refused_or_tells_of_all_that_it_would_have_one_sign() {
        let honest = written();
        let (signed, told) = opened(&honest).unwrap();
        assert!(
            told.iter().any(|line| line.starts_with("+ ultra/b: 2 bytes")) && told.iter().any(|line| line.starts_with("ultra/a: 1 bytes"))
        );
        let words: [&[u8]; 10] = [b"null", b"\"", b"{", b"]", b"\\\"", b"9223372036854775807", b"-1", b"ultra", b"\\u001b[2K", b"root"];
        let mut random = 7_u64;
        let mut next = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % bound
        };
        let mut others = 0;
        for _ in 0..20_000 {
            let mut bytes = honest.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] ^= 1 << next(8),
                    1 => drop(bytes.drain(at..(at + next(40)).min(bytes.len()))),
                    2 => drop(bytes.splice(at..at, words[next(words.len())].iter().copied())),
                    _ => drop(bytes.splice(at..(at + 6).min(bytes.len()), words[next(words.len())].iter().copied())),
                }
            }
            // Names of keys are the sender's; what is signed cannot change without the line that tells of it.
            if let Some((altered, lines)) = opened(&bytes) {
                others += 1;
                assert!(altered == signed && lines.len() == told.len(), "{altered}\n{lines:?}");
            }
        }
        assert!(others > 0, "some changes are of no importance, such as to the names of keys");
    }
}
