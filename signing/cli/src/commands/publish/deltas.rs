//! Deltas on their way to the server: their bytes beside the bundle's, and the word that vehicles may be told of them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use switchback_signing::{
    bundle::delta::{DELTA_INDEX_LENGTH_MAX, DeltaIndex},
    digest::Sha256Digest,
    metadata::{DeltaRef, Signed, Targets},
};

use super::Publisher;
use crate::{
    base::Base,
    failure::{Hint, failure},
    files,
};

/// Digits of the base's SHA-256 that a delta's name has: enough for people, the Director names all of them.
const BASE_DIGITS: usize = 12;

/// A delta that was made, in a folder of its own.
pub(super) struct MadeDelta {
    folder: PathBuf,
    index: DeltaIndex,
    index_bytes: Vec<u8>,
    data: PathBuf,
}

impl MadeDelta {
    /// Reads what `switchback delta create` left, and checks it before anything is sent.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let (index_path, data) = (folder.join("delta.index"), folder.join("delta.data"));
        let hint = "name the folder that `switchback delta create --out DIR` made";
        let index_bytes = files::read(&index_path, DELTA_INDEX_LENGTH_MAX).hint(hint)?;
        let index = DeltaIndex::parse(&index_bytes).with_context(|| index_path.display().to_string()).hint(hint)?;
        let found = files::length(&data).hint(hint)?;
        if found != index.data_length() {
            let what = format!("{} has {found} bytes, its index says {}", data.display(), index.data_length());
            return Err(failure(what, "it was not copied completely, or is of another delta; make the delta anew"));
        }
        Ok(Self { folder: folder.to_owned(), index, index_bytes, data })
    }
}

impl Publisher<'_> {
    /// After the releases: the server takes no delta to one that it does not have.
    pub(super) fn deltas(&mut self, base: &Base, roles: &[String], deltas: &[MadeDelta]) -> anyhow::Result<()> {
        for delta in deltas {
            let release = path_of(base, roles, &delta.index.full_index_sha256())?.ok_or_else(|| {
                failure(
                    format!("{} restores no release that this base lists", delta.folder.display()),
                    "make it from the bundle that was signed: `switchback delta create --base OLD --new NEW --out DIR`",
                )
            })?;
            self.delta(&release, delta)?;
        }
        Ok(())
    }

    fn delta(&mut self, release: &str, delta: &MadeDelta) -> anyhow::Result<()> {
        let stem = release.strip_suffix(".index").unwrap_or(release);
        let (folder, name) = stem.split_once('/').with_context(|| format!("{release} is not of the form TIER/NAME"))?;
        let (from, digest) = (delta.index.base().index_sha256.to_hex(), Sha256Digest::of(&delta.index_bytes));
        let name = format!("{name}.from-{}.delta", &from[..BASE_DIGITS]);
        let data = format!("{folder}/{}.{name}", delta.index.data_sha256());
        let index = format!("{folder}/{digest}.{name}.index");
        debug_assert!(DeltaRef::is_index_path(&format!("{folder}/{name}.index")));
        let url = |path: &str| format!("/v1/image/targets/{path}");
        let sent = !self.client.exists(&url(&data))?;
        if sent {
            self.upload(&format!("{folder}/{name}"), &delta.data, delta.index.data_length(), delta.index.data_sha256(), &url(&data))?;
        }
        self.note(format!("targets/{folder}/{name}"), delta.index.data_length(), sent);
        let sent = !self.client.exists(&url(&index))?;
        if sent {
            self.client.upload(&url(&index), reqwest::blocking::Body::from(delta.index_bytes.clone())).context("the delta's index")?;
        }
        self.note(format!("targets/{folder}/{name}.index"), delta.index_bytes.len() as u64, sent);
        self.client
            .put(&format!("/v1/deltas/{index}"), Vec::new())
            .with_context(|| format!("the delta {folder}/{name} was not accepted"))?;
        Ok(())
    }
}

/// The path of the release with this chunk index, as its role lists it.
fn path_of(base: &Base, roles: &[String], index_sha256: &Sha256Digest) -> anyhow::Result<Option<String>> {
    for role in roles {
        let Some(stored) = base.newest(role)? else { continue };
        let targets = Signed::<Targets>::parse(&stored.bytes, stored.bytes.len()).with_context(|| role.clone())?.signed;
        let found = targets.targets.into_iter().find(|(_, meta)| meta.hashes.sha256.as_ref() == Some(index_sha256));
        if let Some((path, _)) = found {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
