//! `switchback sign --oms` and `switchback verify --oms`.

use std::path::Path;

use serde::Serialize;
use switchback_signing::digest::Sha256Digest;

use crate::{
    bundle::{Beside, BundleFile},
    keys::{SigningKey, file::read_public},
    oms::{self, Checked, Contents, Filter},
    output::{Output, pairs},
};

#[derive(Serialize)]
struct Outcome<'a> {
    model: String,
    files: usize,
    digest: Sha256Digest,
    ignored: Vec<String>,
    key_id: String,
    signature: &'a Path,
}

impl Outcome<'_> {
    fn show(&self, what: &'static str, output: &Output) -> anyhow::Result<()> {
        output.show(self, |outcome| {
            let mut facts = vec![
                ("model", format!("{}, {} files", outcome.model, outcome.files)),
                ("digest", outcome.digest.to_string()),
                ("key id", outcome.key_id.clone()),
                (what, outcome.signature.display().to_string()),
            ];
            if !outcome.ignored.is_empty() {
                facts.push(("not signed", outcome.ignored.join(", ")));
            }
            pairs(&facts)
        })
    }
}

pub(crate) fn sign(model: &Path, beside: &Beside, key: &SigningKey, out: &Path, output: &Output) -> anyhow::Result<()> {
    let signer = key.open()?;
    let contents = match model.is_dir() {
        true => Contents::of_folder(model, Filter::usual().and_file(model, out)?)?,
        false => of_bundle(model, beside, output)?,
    };
    let Checked { model, files, digest, ignored } = oms::sign(&contents, &*signer, out)?;
    Outcome { model, files, digest, ignored, key_id: signer.key_id().to_string(), signature: out }.show("written", output)
}

pub(crate) fn verify(model: &Path, beside: &Beside, signature: &Path, public_key: &Path, output: &Output) -> anyhow::Result<()> {
    let key = read_public(public_key)?;
    // Its signature first: an ignored path counts only when the signer said so.
    let verified = oms::Verified::read(signature, &key)?;
    let contents = match model.is_dir() {
        true => Contents::of_folder(model, verified.filter().and_file(model, signature)?)?,
        false => of_bundle(model, beside, output)?,
    };
    let Checked { model, files, digest, ignored } = verified.check(&contents)?;
    Outcome { model, files, digest, ignored, key_id: key.key_id().to_string(), signature }.show("signature", output)
}

/// What a bundle unpacks to, after every byte of it was checked against its index.
fn of_bundle(path: &Path, beside: &Beside, output: &Output) -> anyhow::Result<Contents> {
    let bundle = BundleFile::open(path, beside)?;
    let manifest = bundle.verify(output)?;
    Contents::of_bundle(&bundle, &manifest)
}
