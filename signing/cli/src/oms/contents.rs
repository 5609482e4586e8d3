//! What an OMS signature is over: the files of a model's folder, or those that a bundle unpacks to.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use switchback_signing::{
    bundle::{Manifest, manifest::MANIFEST_PATH},
    digest::{Sha256Digest, Sha256Hasher},
};

use crate::{bundle::BundleFile, failure::failure, files};

/// What `model_signing` leaves out unless it is told otherwise.
const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// Most files of one model, and deepest folder in it.
const FILES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 32;

/// Read at once, bytes.
const READ_BYTES: usize = 1 << 20;

/// The files of a model.
pub(crate) struct Contents {
    pub(crate) name: String,
    /// In the order in which OMS lists them: by the parts of their paths.
    pub(crate) files: Vec<ModelFile>,
    /// What was left out.
    pub(crate) ignored: Vec<String>,
}

/// One file.
pub(crate) struct ModelFile {
    parts: Vec<String>,
    pub(crate) sha256: Sha256Digest,
}

impl ModelFile {
    /// Its path in the model.
    pub(crate) fn name(&self) -> String {
        self.parts.join("/")
    }
}

/// Paths in a model that its signature says nothing about.
pub(crate) struct Filter(Vec<String>);

impl Filter {
    /// Leaves out these paths with all that is below them.
    pub(crate) fn new(paths: Vec<String>) -> Self {
        Self(paths)
    }

    /// Leaves out git's files.
    pub(crate) fn usual() -> Self {
        Self(GIT_PATHS.map(String::from).to_vec())
    }

    /// Leaves out this file too, if it is in the folder: a signature that lies beside what it is over.
    pub(crate) fn and_file(mut self, folder: &Path, file: &Path) -> anyhow::Result<Self> {
        // The file may not be there yet, its folder is.
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let absolute = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
        let place = absolute(parent)?.join(file.file_name().with_context(|| format!("{} names no file", file.display()))?);
        if let Ok(inside) = place.strip_prefix(absolute(folder)?) {
            self.0.push(inside.to_string_lossy().into_owned());
        }
        Ok(self)
    }

    fn ignores(&self, parts: &[String]) -> bool {
        self.0.iter().any(|path| {
            let ignored: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            !ignored.is_empty() && ignored.len() <= parts.len() && ignored.iter().zip(parts).all(|(ignored, part)| ignored == part)
        })
    }
}

impl Contents {
    /// Hashes the files of a folder.
    pub(crate) fn of_folder(folder: &Path, filter: Filter) -> anyhow::Result<Self> {
        let absolute = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let name = absolute.file_name().with_context(|| format!("{} has no name", folder.display()))?.to_string_lossy().into_owned();
        let mut walk = Walk { filter: &filter, found: Vec::new() };
        walk.folder(&absolute, &mut Vec::new())?;
        let files = walk.found.into_iter().map(|(parts, path)| Ok(ModelFile { parts, sha256: hash(&path)? }));
        Self::new(name, files.collect::<anyhow::Result<_>>()?, filter.0)
    }

    /// The files that a bundle, which was verified, unpacks to.
    pub(crate) fn of_bundle(bundle: &BundleFile, manifest: &Manifest) -> anyhow::Result<Self> {
        let file = |path: &str, sha256| ModelFile { parts: path.split('/').map(str::to_owned).collect(), sha256 };
        let members = manifest.files.iter().map(|entry| file(&entry.path, entry.sha256));
        let files = members.chain([file(MANIFEST_PATH, bundle.index.manifest_sha256())]).collect();
        Self::new(format!("{}-{}", manifest.release.model, manifest.release.version), files, Vec::new())
    }

    fn new(name: String, mut files: Vec<ModelFile>, ignored: Vec<String>) -> anyhow::Result<Self> {
        if files.is_empty() {
            bail!("{name} has no files");
        }
        files.sort_by(|one, other| one.parts.cmp(&other.parts));
        Ok(Self { name, files, ignored })
    }
}

/// Finds the files of a folder.
struct Walk<'a> {
    filter: &'a Filter,
    found: Vec<(Vec<String>, PathBuf)>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, parts: &mut Vec<String>) -> anyhow::Result<()> {
        if parts.len() > DEPTH_MAX {
            bail!("{} is more than {DEPTH_MAX} folders deep", folder.display());
        }
        let cannot = || format!("cannot list {}", folder.display());
        for entry in fs::read_dir(folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let (path, kind) = (entry.path(), entry.file_type().with_context(cannot)?);
            let part = entry.file_name().into_string().ok().with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
            parts.push(part);
            if self.filter.ignores(parts) {
            } else if kind.is_dir() {
                self.folder(&path, parts)?;
            } else if kind.is_file() {
                self.found.push((parts.clone(), path));
            } else {
                let what = format!("{} is neither a file nor a folder", path.display());
                return Err(failure(what, "links are not followed, as where they lead is not in the model: put a copy in their place"));
            }
            parts.pop();
            if self.found.len() > FILES_MAX {
                bail!("{} has more than {FILES_MAX} files", folder.display());
            }
        }
        Ok(())
    }
}

fn hash(path: &Path) -> anyhow::Result<Sha256Digest> {
    let mut file = files::open(path)?;
    let (mut hasher, mut buffer) = (Sha256Hasher::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_ignored_is_ignored_with_all_below_it_and_nothing_beside_it() {
        let filter = Filter::new(vec![".git".into(), "a/b/".into(), "./c".into(), String::new(), ".".into()]);
        let ignores = |path: &str| filter.ignores(&path.split('/').map(str::to_owned).collect::<Vec<_>>());
        assert!([".git", ".git/x", "a/b", "a/b/c", "c"].iter().all(|path| ignores(path)));
        assert!([".gitx", "a", "a/bb", "x/.git", "b", "cc"].iter().all(|path| !ignores(path)));
    }
}
