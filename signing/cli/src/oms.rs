//! Signatures of the OpenSSF Model Signing specification (OMS) 1.0: a file beside a model that other people's tools check.
//!
//! A Sigstore bundle around a DSSE envelope around an in-toto statement that lists every file of the model with its SHA-256. Signed by a
//! key, which in OMS is ECDSA's: here P-256. The Python package `model-signing` reads what is written here, and the other way around.
//! A vehicle takes no notice of it: what it installs hangs on the metadata of both repositories.

mod contents;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use switchback_signing::{
    digest::{Sha256Digest, Sha256Hasher},
    keys::{PublicKey, Signer, pem::public_to_pem},
};

pub(crate) use self::contents::{Contents, Filter};
use crate::{
    failure::{Hint, failure},
    files::{self, Access},
};

const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// One resource a file, listed by its path.
const METHOD: &str = "files";
const HASH: &str = "sha256";

/// Longest signature file, bytes: some 200 for each file of the model.
const SIGNATURE_BYTES_MAX: usize = 32 << 20;

/// Who made a signature, over what.
pub(crate) struct Checked {
    pub(crate) model: String,
    pub(crate) files: usize,
    pub(crate) digest: Sha256Digest,
    /// Paths in the model that the signature says nothing about.
    pub(crate) ignored: Vec<String>,
}

/// Signs a model and writes the signature.
pub(crate) fn sign(contents: &Contents, signer: &dyn Signer, out: &Path) -> anyhow::Result<Checked> {
    let key = signer.public_key();
    let hint = hint_of(&key)?;
    let statement = Statement::of(contents);
    let payload = serde_json::to_vec(&statement)?;
    let signature = signer.sign(&pre_authentication(&payload))?;
    let bundle = SigstoreBundle {
        media_type: BUNDLE_TYPE.into(),
        verification_material: Material { public_key: Some(KeyHint { hint: Some(hint) }), tlog_entries: Vec::new() },
        dsse_envelope: Envelope {
            payload: BASE64.encode(&payload),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![EnvelopeSignature { sig: BASE64.encode(signature.as_bytes()), keyid: String::new() }],
        },
    };
    files::write(out, &serde_json::to_vec(&bundle)?, Access::Public)?;
    Ok(Checked {
        model: contents.name.clone(),
        files: contents.files.len(),
        digest: statement.digest()?,
        ignored: contents.ignored.clone(),
    })
}

/// A signature that was read and verified under a key.
pub(crate) struct Verified(Statement);

impl Verified {
    /// Reads a signature and verifies it under `key`; what it is over is compared by [`Verified::check`].
    pub(crate) fn read(path: &Path, key: &PublicKey) -> anyhow::Result<Self> {
        let bytes = files::read(path, SIGNATURE_BYTES_MAX)?;
        let place = || path.display().to_string();
        let bundle: SigstoreBundle = serde_json::from_slice(&bytes)
            .with_context(place)
            .hint("an OMS signature is a Sigstore bundle: `switchback sign --oms FILE` or `model_signing sign key` writes one")?;
        bundle.open(key).and_then(|payload| Statement::parse(&payload)).with_context(place).map(Self)
    }

    /// Which of a model's files the signature leaves out, as its maker says.
    pub(crate) fn filter(&self) -> Filter {
        Filter::new(self.0.predicate.serialization.ignore_paths.clone())
    }

    /// That the signature is over exactly these files.
    pub(crate) fn check(&self, contents: &Contents) -> anyhow::Result<Checked> {
        let listed = &self.0.predicate.resources;
        let mut unsigned: BTreeMap<String, Sha256Digest> = contents.files.iter().map(|file| (file.name(), file.sha256)).collect();
        let mut wrong = Vec::new();
        for resource in listed {
            match unsigned.remove(&resource.name) {
                Some(found) if found.to_hex() == resource.digest => {}
                Some(found) => wrong.push(format!("{} has SHA-256 {found}, signed is {}", resource.name, resource.digest)),
                None => wrong.push(format!("{} is missing", resource.name)),
            }
        }
        wrong.extend(unsigned.keys().map(|name| format!("{name} was not signed")));
        if !wrong.is_empty() {
            const SHOWN: usize = 10;
            let more = if wrong.len() > SHOWN { format!("; and {} more", wrong.len() - SHOWN) } else { String::new() };
            let what = format!("{} is not the model that was signed: {}{more}", contents.name, wrong[..wrong.len().min(SHOWN)].join("; "));
            return Err(failure(what, "the model was changed after it was signed, or this is another one's signature"));
        }
        Ok(Checked {
            model: self.0.subject[0].name.clone(),
            files: listed.len(),
            digest: self.0.digest()?,
            ignored: contents.ignored.clone(),
        })
    }
}

/// What is signed: the pre-authentication encoding of DSSE 1.0, so that no payload can be taken for one of another type.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// How a signature names the key that made it: SHA-256 over its PEM form.
fn hint_of(key: &PublicKey) -> anyhow::Result<String> {
    if !matches!(key, PublicKey::P256(_)) {
        return Err(failure(
            format!("the key is of {}, and OMS knows ECDSA keys only", key.scheme()),
            "make one with `switchback key new --scheme ecdsa-sha2-nistp256`",
        ));
    }
    let pem = public_to_pem(key).context("the key cannot be written as PEM")?;
    Ok(Sha256Digest::of(pem.as_bytes()).to_hex())
}

/// Sigstore's bundle, as far as a signature by a key uses it. What else there may be is of no meaning to it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigstoreBundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyHint>,
    /// Entries of a transparency log, which signatures by a key have none of.
    #[serde(default, skip_deserializing)]
    tlog_entries: Vec<()>,
}

#[derive(Serialize, Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

impl SigstoreBundle {
    /// The payload, when the signature over it verifies.
    fn open(&self, key: &PublicKey) -> anyhow::Result<Vec<u8>> {
        expect("the bundle's media type", &self.media_type, BUNDLE_TYPE)?;
        let material = self.verification_material.public_key.as_ref();
        let hint = &material.context("it was made by a certificate or a Sigstore identity; only signatures by a key are read")?.hint;
        let expected = hint_of(key)?;
        if let Some(found) = hint.as_ref().filter(|found| **found != expected) {
            let what = format!("it was made by another key: the SHA-256 of its PEM form is {found}, that of the given one {expected}");
            return Err(failure(what, "name the signer's public key with --public-key"));
        }
        let [signature] = &self.dsse_envelope.signatures[..] else {
            bail!("it holds {} signatures, one is expected", self.dsse_envelope.signatures.len());
        };
        let payload = BASE64.decode(&self.dsse_envelope.payload).ok().context("its payload is no base64")?;
        let signature = BASE64.decode(&signature.sig).ok().context("its signature is no base64")?;
        key.verify(&pre_authentication(&payload), &signature)?;
        expect("the payload's type", &self.dsse_envelope.payload_type, PAYLOAD_TYPE)?;
        Ok(payload)
    }
}

/// The in-toto statement.
#[derive(Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

/// How the files became resources.
#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

impl Statement {
    fn of(contents: &Contents) -> Self {
        let resource = |file: &contents::ModelFile| Resource { name: file.name(), algorithm: HASH.into(), digest: file.sha256.to_hex() };
        let resources: Vec<Resource> = contents.files.iter().map(resource).collect();
        let mut hasher = Sha256Hasher::new();
        for file in &contents.files {
            hasher.update(file.sha256.as_bytes());
        }
        Self {
            kind: STATEMENT_TYPE.into(),
            subject: vec![Subject { name: contents.name.clone(), digest: SubjectDigest { sha256: hasher.finish().to_hex() } }],
            predicate_type: PREDICATE_TYPE.into(),
            predicate: Predicate {
                serialization: Serialization {
                    method: METHOD.into(),
                    hash_type: HASH.into(),
                    allow_symlinks: false,
                    ignore_paths: contents.ignored.clone(),
                },
                resources,
            },
        }
    }

    fn parse(payload: &[u8]) -> anyhow::Result<Self> {
        // The kind first: a statement about something else has other members.
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "_type")]
            kind: String,
            #[serde(rename = "predicateType")]
            predicate_type: String,
        }
        let kind: Kind = serde_json::from_slice(payload).context("its payload is no in-toto statement")?;
        expect("the statement's type", &kind.kind, STATEMENT_TYPE)?;
        expect("the predicate's type", &kind.predicate_type, PREDICATE_TYPE)?;
        let statement: Self = serde_json::from_slice(payload).context("its statement")?;
        let serialization = &statement.predicate.serialization;
        expect("the method of serialization", &serialization.method, METHOD)?;
        expect("the hash", &serialization.hash_type, HASH)?;
        let [subject] = &statement.subject[..] else { bail!("it is about {} subjects, one is expected", statement.subject.len()) };
        let found = statement.digest()?.to_hex();
        if found != subject.digest.sha256 {
            bail!("its resources hash to {found}, its subject has {}", subject.digest.sha256);
        }
        Ok(statement)
    }

    /// The digest of the subject: over the digests of all resources in their order.
    fn digest(&self) -> anyhow::Result<Sha256Digest> {
        let mut hasher = Sha256Hasher::new();
        for resource in &self.predicate.resources {
            expect("a resource's algorithm", &resource.algorithm, HASH)?;
            let digest = Sha256Digest::from_hex(&resource.digest);
            let digest = digest.with_context(|| format!("{:?}, the digest of {}, is no SHA-256", resource.digest, resource.name))?;
            hasher.update(digest.as_bytes());
        }
        Ok(hasher.finish())
    }
}

fn expect(what: &str, found: &str, expected: &str) -> anyhow::Result<()> {
    if found != expected {
        bail!("{what} is {found:?}, only {expected:?} is read");
    }
    Ok(())
}
