//! A folder of files, each replaced as a whole.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
};

use anyhow::Context as _;
use switchback_signing::trust::{MetadataCache, Repository};

/// Puts every metadata file of a folder into the cache.
pub(crate) fn load(folder: &Path, repository: Repository, cache: &mut MetadataCache) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} is not initialized", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".json") {
            cache.insert(repository, name, fs::read(&path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(())
}

/// Replaces a file; whoever looks sees the old bytes or the new ones, also after a power cut.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let part = folder.join(format!("{name}.part"));
    let mut file = File::create(&part).with_context(|| part.display().to_string())?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, folder.join(name))?;
    sync(folder)
}

/// Makes durable what was renamed or deleted in a folder.
pub(crate) fn sync(folder: &Path) -> anyhow::Result<()> {
    Ok(File::open(folder)?.sync_all()?)
}

/// Deletes a file, if it is there.
pub(crate) fn remove(folder: &Path, name: &str) -> anyhow::Result<()> {
    match fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => sync(folder),
    }
}

/// A name for a target path that is one file in one folder: other paths have other names, and none leaves the folder.
pub(crate) fn file_name(target_path: &str) -> String {
    /// Longest name that file systems take, less `.part`.
    const NAME_BYTES_MAX: usize = 250;
    let name = super::network::quoted(target_path, "");
    if name.len() <= NAME_BYTES_MAX && !matches!(name.as_str(), "" | "." | "..") {
        return name;
    }
    switchback_signing::digest::Sha256Digest::of(target_path.as_bytes()).to_hex()
}
