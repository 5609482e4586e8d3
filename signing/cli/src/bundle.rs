//! A bundle on the disk, with its chunk index beside it.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use switchback_signing::{
    bundle::{
        BundleError, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, Manifest, RawChunk, TarReader,
        content_key::CONTENT_KEY_FILE_MAX,
        index::{CHUNK_STORED_MAX, INDEX_LENGTH_MAX},
    },
    digest::Sha256Hasher,
    metadata::EncryptionMethod,
};
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Hint, failure},
    files,
    output::Output,
    progress::byte_bar,
};

/// How a bundle's name ends.
pub(crate) const BUNDLE_EXTENSION: &str = ".tar.zst";

/// How an index's name ends.
pub(crate) const INDEX_EXTENSION: &str = ".index";

/// How a content key's name ends.
pub(crate) const CONTENT_KEY_EXTENSION: &str = ".content-key.jwk";

/// Where a bundle's other files are.
#[derive(Args, Default)]
pub(crate) struct Beside {
    /// Its chunk index, when it does not lie beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// Its content key, when it is encrypted and the key does not lie beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) content_key: Option<PathBuf>,
}

/// A bundle whose index was read, and its content key if it is encrypted and the key is there.
pub(crate) struct BundleFile {
    pub(crate) path: PathBuf,
    pub(crate) index_path: PathBuf,
    pub(crate) index_bytes: Vec<u8>,
    pub(crate) index: ChunkIndex,
    content_key: Option<ContentKey>,
}

impl BundleFile {
    /// Opens a bundle, the index beside it and, if it is encrypted, the content key beside it; or those that are named.
    pub(crate) fn open(path: &Path, named: &Beside) -> anyhow::Result<Self> {
        let index_path = match &named.index {
            Some(path) => path.clone(),
            None => beside(path, INDEX_EXTENSION)?,
        };
        let index_bytes = files::read(&index_path, INDEX_LENGTH_MAX)
            .hint("a bundle's chunk index lies beside it, as `switchback pack` writes it; name another with --index")?;
        let index = ChunkIndex::parse(&index_bytes).with_context(|| index_path.display().to_string())?;
        let (found, expected) = (files::length(path)?, index.bundle_length());
        if found != expected {
            let what = format!("{} has {found} bytes, its index says {expected}", path.display());
            return Err(failure(what, "the bundle is truncated or belongs to another index"));
        }
        let content_key = match &named.content_key {
            Some(path) => Some(read_content_key(path)?),
            // A key that lies beside a bundle that is not encrypted says nothing about it: only one that is named is held against the index.
            None if index.encryption().is_some() => content_key_beside(path)?,
            None => None,
        };
        Ok(Self { path: path.to_owned(), index_path, index_bytes, index, content_key })
    }

    /// How the bundle is encrypted, in words.
    pub(crate) fn encryption(&self) -> Option<&'static str> {
        self.index.encryption().map(EncryptionMethod::as_str)
    }

    /// As [`Self::open`] without a named content key; `named` is taken where an encrypted bundle has none beside it.
    pub(crate) fn open_with_fallback(path: &Path, index: Option<&Path>, named: Option<&Path>) -> anyhow::Result<Self> {
        let mut beside = Beside { index: index.map(Path::to_owned), content_key: None };
        let bundle = Self::open(path, &beside)?;
        match named {
            Some(named) if bundle.index.encryption().is_some() && bundle.content_key.is_none() => {
                beside.content_key = Some(named.to_owned());
                Self::open(path, &beside)
            }
            _ => Ok(bundle),
        }
    }

    /// The content key of an encrypted bundle, which was seen to open it.
    pub(crate) fn content_key(&self) -> anyhow::Result<&ContentKey> {
        self.manifest()?;
        self.content_key.as_ref().with_context(|| format!("{} is not encrypted", self.path.display()))
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

    /// A decoder of its chunks.
    pub(crate) fn decoder(&self) -> anyhow::Result<ChunkDecoder> {
        ChunkDecoder::new(&self.index, self.content_key.as_ref()).map_err(|error| self.refused(error))
    }

    /// What is wrong with the bundle, and what to do about it.
    pub(crate) fn refused(&self, error: BundleError) -> anyhow::Error {
        let hint = match error {
            BundleError::ContentKeyMissing { .. } => {
                format!("the key lies beside the bundle as NAME{CONTENT_KEY_EXTENSION}; name it with --content-key where it does not")
            }
            BundleError::ContentKeyUnneeded => "leave --content-key out if the bundle is meant to be read by everybody".into(),
            BundleError::ContentKeyWrong { .. } => {
                "name the key that `switchback pack` wrote with this very bundle with --content-key".into()
            }
            _ => "the bundle was changed or damaged after its index was made".into(),
        };
        Failure::new(anyhow::Error::from(error).context(self.path.display().to_string()), hint).into()
    }
}

/// The content key of a file.
pub(crate) fn read_content_key(path: &Path) -> anyhow::Result<ContentKey> {
    let bytes = Zeroizing::new(files::read(path, CONTENT_KEY_FILE_MAX)?);
    ContentKey::from_jwk(&bytes).with_context(|| path.display().to_string())
}

/// The content key beside a bundle, if there is one.
fn content_key_beside(bundle: &Path) -> anyhow::Result<Option<ContentKey>> {
    let path = beside(bundle, CONTENT_KEY_EXTENSION)?;
    path.exists().then(|| read_content_key(&path)).transpose()
}

/// The file of this kind that belongs to a bundle.
fn beside(path: &Path, extension: &str) -> anyhow::Result<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(BUNDLE_EXTENSION).ok_or_else(|| {
        failure(format!("{} is not called NAME{BUNDLE_EXTENSION}", path.display()), "name the bundle, not its index or a folder")
    })?;
    Ok(path.with_file_name(format!("{stem}{extension}")))
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
            decoder: bundle.decoder()?,
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
            .map_err(|error| self.bundle.refused(error))
    }
}

fn drain(archive: &mut TarReader, chunk: &mut RawChunk<'_>) -> Result<(), BundleError> {
    while archive.next(chunk)?.is_some() {}
    Ok(())
}
