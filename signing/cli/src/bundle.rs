//! A bundle on the disk, with its chunk index beside it.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use switchback_signing::{
    bundle::{
        BundleError, ChunkDecoder, ChunkIndex, ChunkRow, Manifest, RawChunk, TarReader,
        index::{CHUNK_STORED_MAX, INDEX_LENGTH_MAX},
    },
    digest::Sha256Hasher,
};

use crate::{
    failure::{Hint, failure},
    files,
    output::Output,
    progress::byte_bar,
};

/// How a bundle's name ends.
pub(crate) const BUNDLE_EXTENSION: &str = ".tar.zst";

/// How an index's name ends.
pub(crate) const INDEX_EXTENSION: &str = ".index";

/// A bundle whose index was read.
pub(crate) struct BundleFile {
    pub(crate) path: PathBuf,
    pub(crate) index_path: PathBuf,
    pub(crate) index_bytes: Vec<u8>,
    pub(crate) index: ChunkIndex,
}

impl BundleFile {
    /// Opens a bundle and the index beside it, or the one that is named.
    pub(crate) fn open(path: &Path, index_path: Option<&Path>) -> anyhow::Result<Self> {
        let index_path = match index_path {
            Some(path) => path.to_owned(),
            None => index_beside(path)?,
        };
        let index_bytes = files::read(&index_path, INDEX_LENGTH_MAX)
            .hint("a bundle's chunk index lies beside it, as `switchback pack` writes it; name another with --index")?;
        let index = ChunkIndex::parse(&index_bytes).with_context(|| index_path.display().to_string())?;
        let (found, expected) = (files::length(path)?, index.bundle_length());
        if found != expected {
            let what = format!("{} has {found} bytes, its index says {expected}", path.display());
            return Err(failure(what, "the bundle is truncated or belongs to another index"));
        }
        Ok(Self { path: path.to_owned(), index_path, index_bytes, index })
    }

    /// Reads just enough of the bundle to see its manifest.
    pub(crate) fn manifest(&self) -> anyhow::Result<Manifest> {
        let mut reader = Chunks::open(self)?;
        let mut archive = TarReader::new(&self.index);
        for row in self.index.rows() {
            reader.feed(row, &mut archive)?;
            if let Some(manifest) = archive.manifest() {
                return Ok(manifest.clone());
            }
        }
        bail!("{} has no manifest", self.path.display())
    }

    /// Checks every byte of the bundle as a vehicle would, and the hash of the whole.
    pub(crate) fn verify(&self, output: &Output) -> anyhow::Result<Manifest> {
        let bar = byte_bar(output, "verifying", self.index.bundle_length());
        let mut reader = Chunks::open(self)?;
        let mut archive = TarReader::new(&self.index);
        for row in self.index.rows() {
            reader.feed(row, &mut archive)?;
            bar.inc(row.stored_length().into());
        }
        let manifest = archive.finish().with_context(|| self.path.display().to_string())?;
        bar.finish_and_clear();
        let (found, expected) = (reader.hasher.finish(), self.index.bundle_sha256());
        if found != expected {
            bail!("{} has SHA-256 {found}, its index says {expected}", self.path.display());
        }
        Ok(manifest)
    }
}

fn index_beside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(BUNDLE_EXTENSION).ok_or_else(|| {
        failure(format!("{} is not called NAME{BUNDLE_EXTENSION}", path.display()), "name the bundle, not its index or a folder")
    })?;
    Ok(path.with_file_name(format!("{stem}{INDEX_EXTENSION}")))
}

/// Reads a bundle chunk by chunk.
struct Chunks<'a> {
    bundle: &'a BundleFile,
    file: File,
    stored: Vec<u8>,
    decoder: ChunkDecoder,
    hasher: Sha256Hasher,
}

impl<'a> Chunks<'a> {
    fn open(bundle: &'a BundleFile) -> anyhow::Result<Self> {
        Ok(Self {
            bundle,
            file: files::open(&bundle.path)?,
            stored: vec![0; CHUNK_STORED_MAX],
            decoder: ChunkDecoder::new()?,
            hasher: Sha256Hasher::new(),
        })
    }

    /// Moves the next chunk through every check into the archive reader.
    fn feed(&mut self, row: &ChunkRow, archive: &mut TarReader) -> anyhow::Result<()> {
        let stored = &mut self.stored[..row.stored_length() as usize];
        self.file.read_exact(stored).with_context(|| format!("cannot read {}", self.bundle.path.display()))?;
        self.hasher.update(stored);
        let verified = self.bundle.index.verify_stored(row.number(), stored);
        verified
            .and_then(|chunk| self.decoder.decode(chunk))
            .and_then(|mut chunk| drain(archive, &mut chunk))
            .with_context(|| self.bundle.path.display().to_string())
            .hint("the bundle was changed or damaged after its index was made")
    }
}

fn drain(archive: &mut TarReader, chunk: &mut RawChunk<'_>) -> Result<(), BundleError> {
    while archive.next(chunk)?.is_some() {}
    Ok(())
}
