//! A release that a delta starts from or leads to: a bundle, or any folder of files. Both are read piece by piece, wherever one likes.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use switchback_signing::{
    bundle::{
        ChunkDecoder, ChunkIndex, ContentKey, Manifest,
        delta::{Base, BaseRelease, FolderWriter, FullBundle},
        index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX},
        manifest::{FILES_MAX, FileEntry},
    },
    digest::Sha256Digest,
};

use crate::{
    bundle::{Beside, BundleFile},
    failure::{Hint, failure},
    files,
    oms::{Contents, Filter},
};

/// Chunks of a bundle that are kept when they were decoded, for what reads here and there.
const CACHED_CHUNKS: usize = 8;

/// Length of a record of the archive: headers have it, contents are padded to it.
const RECORD: u64 = 512;

/// The files of a bare folder, in the place of a manifest.
#[derive(Serialize, Deserialize)]
pub(super) struct Listing {
    pub(super) files: Vec<FileEntry>,
}

/// A bundle or a folder.
pub(crate) struct Release {
    files: Vec<FileEntry>,
    source: Source,
}

enum Source {
    Bundle(Box<Bundle>),
    Folder(Folder),
}

struct Bundle {
    bundle: BundleFile,
    manifest: Manifest,
    file: File,
    decoder: ChunkDecoder,
    stored: Vec<u8>,
    /// Numbers and raw bytes, the newest last.
    cache: VecDeque<(usize, Vec<u8>)>,
    /// Where in the archive the content of each file begins.
    starts: Vec<u64>,
}

struct Folder {
    paths: Vec<PathBuf>,
    listing: Vec<u8>,
    open: Option<(usize, File)>,
}

/// A chunk of a release, as its index has it.
pub(crate) struct Place {
    /// The file whose content it is, and where it begins there; none for what lies between.
    pub(crate) of_file: Option<(usize, u64)>,
}

impl Release {
    /// Opens a bundle by its path, or takes a folder as it is.
    pub(crate) fn open(path: &Path, content_key: Option<&Path>) -> anyhow::Result<Self> {
        if !path.is_dir() {
            let bundle = BundleFile::open(path, &Beside { index: None, content_key: content_key.map(Path::to_owned) })
                .hint("name a bundle, NAME.tar.zst with its index beside it, or a folder of files")?;
            return Self::of_bundle(bundle);
        }
        let contents = Contents::of_folder(path, Filter::usual())?;
        ensure!(contents.files.len() <= FILES_MAX, "{} has more than {FILES_MAX} files", path.display());
        let mut found = Vec::new();
        for file in &contents.files {
            let place = path.join(file.name());
            found.push((FileEntry { path: file.name(), length: files::length(&place)?, sha256: file.sha256 }, place));
        }
        let (files, paths): (Vec<FileEntry>, _) = found.into_iter().unzip();
        let listing = serde_json::to_vec(&Listing { files: files.clone() })?;
        Ok(Self { files, source: Source::Folder(Folder { paths, listing, open: None }) })
    }

    /// Files of a model that lie anywhere, under the paths that they have in it. Only where their tensors are can be asked.
    pub(crate) fn of_files(files: Vec<FileEntry>, paths: Vec<PathBuf>) -> Self {
        Self { files, source: Source::Folder(Folder { paths, listing: Vec::new(), open: None }) }
    }

    fn of_bundle(bundle: BundleFile) -> anyhow::Result<Self> {
        let manifest = bundle.manifest()?;
        let files = manifest.files.clone();
        let mut starts = Vec::new();
        let mut end = RECORD + u64::from(bundle.index.manifest_length());
        for file in &files {
            let start = end.next_multiple_of(RECORD) + RECORD;
            starts.push(start);
            end = start + file.length;
        }
        let (decoder, file) = (bundle.decoder()?, files::open(&bundle.path)?);
        let stored = vec![0; CHUNK_STORED_MAX];
        let bundle = Bundle { bundle, manifest, file, decoder, stored, cache: VecDeque::new(), starts };
        Ok(Self { files, source: Source::Bundle(Box::new(bundle)) })
    }

    pub(crate) fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// How a delta names it as its base.
    pub(crate) fn base(&self) -> BaseRelease {
        match &self.source {
            Source::Bundle(bundle) => BaseRelease::of(&bundle.bundle.index, &bundle.manifest),
            Source::Folder(folder) => {
                let sha256 = Sha256Digest::of(&folder.listing);
                BaseRelease { index_sha256: sha256, manifest_sha256: sha256, release_counter: 0, files: self.files.clone() }
            }
        }
    }

    /// Whether there is a bundle from which chunks can be fetched that a delta does not make smaller.
    pub(crate) fn full_bundle(&self) -> FullBundle {
        match &self.source {
            Source::Bundle(_) => FullBundle::Published,
            Source::Folder(_) => FullBundle::Absent,
        }
    }

    pub(crate) fn content_key(&self) -> anyhow::Result<Option<ContentKey>> {
        match &self.source {
            Source::Bundle(bundle) if bundle.bundle.encryption().is_some() => bundle.bundle.content_key().map(|key| Some(key.clone())),
            _ => Ok(None),
        }
    }

    /// The manifest of a bundle; a folder has none.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match &self.source {
            Source::Bundle(bundle) => Some(&bundle.manifest),
            Source::Folder(_) => None,
        }
    }

    /// What its files hold, bytes.
    pub(crate) fn content_length(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// Its chunk index. That of a folder is made here, as a bundle's would be.
    pub(crate) fn index(&mut self, bar: &ProgressBar) -> anyhow::Result<ChunkIndex> {
        let listing = match &self.source {
            Source::Bundle(bundle) => return Ok(bundle.bundle.index.clone()),
            Source::Folder(folder) => folder.listing.clone(),
        };
        let mut writer = FolderWriter::new(io::sink(), &listing).context("the folder cannot be indexed")?;
        let mut raw = vec![0; CHUNK_RAW_MAX];
        for number in 0..self.files.len() {
            let length = self.files[number].length;
            for offset in (0..length).step_by(CHUNK_RAW_MAX) {
                let raw = &mut raw[..(length - offset).min(CHUNK_RAW_MAX as u64) as usize];
                self.read_file(number, offset, raw)?;
                writer.chunk(raw)?;
                bar.inc(raw.len() as u64);
            }
        }
        Ok(writer.finish()?.1)
    }

    /// Where the chunk that begins at this byte of the archive lies, and its raw bytes.
    pub(crate) fn chunk(&mut self, index: &ChunkIndex, number: usize, raw: &mut Vec<u8>) -> anyhow::Result<Place> {
        let row = index.row(number)?;
        let (at, length) = (row.raw_offset(), row.raw_length() as usize);
        raw.resize(length, 0);
        match &mut self.source {
            Source::Bundle(bundle) => {
                raw.copy_from_slice(bundle.decoded(number)?);
                Ok(Place { of_file: file_at(&bundle.starts, &self.files, at) })
            }
            Source::Folder(folder) => {
                let starts = folder_starts(&folder.listing, &self.files);
                let of_file = file_at(&starts, &self.files, at);
                match of_file {
                    Some((file, offset)) => folder.read(file, offset, raw)?,
                    None => raw.copy_from_slice(folder.listing.get(..length).context("the folder's listing has another length now")?),
                }
                Ok(Place { of_file })
            }
        }
    }

    /// Fills `into` with the bytes of a file from `offset` on.
    pub(crate) fn read_file(&mut self, file: usize, offset: u64, into: &mut [u8]) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Folder(folder) => folder.read(file, offset, into),
            Source::Bundle(bundle) => {
                let start = *bundle.starts.get(file).context("there is no such file")?;
                bundle.read(start + offset, into)
            }
        }
    }
}

impl Base for Release {
    type Error = String;

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), String> {
        self.read_file(file, offset, into).map_err(|error| format!("{error:#}"))
    }
}

impl Folder {
    fn read(&mut self, number: usize, offset: u64, into: &mut [u8]) -> anyhow::Result<()> {
        let path = self.paths.get(number).context("there is no such file")?;
        let file = match &mut self.open {
            Some((open, file)) if *open == number => file,
            other => &mut other.insert((number, files::open(path)?)).1,
        };
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(into));
        read.with_context(|| format!("cannot read {}", path.display()))
    }
}

impl Bundle {
    /// Fills `into` from byte `at` of the archive on.
    fn read(&mut self, mut at: u64, mut into: &mut [u8]) -> anyhow::Result<()> {
        while !into.is_empty() {
            let after = self.bundle.index.rows().partition_point(|row| row.raw_offset() <= at);
            let number = after.checked_sub(1).context("before the first chunk")?;
            let skipped = (at - self.bundle.index.rows()[number].raw_offset()) as usize;
            let chunk = self.decoded(number)?;
            let bytes = chunk.get(skipped..).filter(|bytes| !bytes.is_empty()).context("beyond the last chunk")?;
            let count = bytes.len().min(into.len());
            let (now, later) = into.split_at_mut(count);
            now.copy_from_slice(&bytes[..count]);
            (into, at) = (later, at + count as u64);
        }
        Ok(())
    }

    /// The raw bytes of a chunk.
    fn decoded(&mut self, number: usize) -> anyhow::Result<&[u8]> {
        if let Some(found) = self.cache.iter().position(|(cached, _)| *cached == number) {
            return Ok(&self.cache[found].1);
        }
        let row = self.bundle.index.row(number)?;
        let stored = &mut self.stored[..row.stored_length() as usize];
        let read = self.file.seek(SeekFrom::Start(row.stored_offset())).and_then(|_| self.file.read_exact(stored));
        read.with_context(|| format!("cannot read {}", self.bundle.path.display()))?;
        let verified = self.bundle.index.verify_stored(number, stored);
        let raw = verified.and_then(|chunk| self.decoder.decode(chunk)).map_err(|error| self.bundle.refused(error))?;
        let mut buffer = if self.cache.len() == CACHED_CHUNKS { self.cache.pop_front().unwrap_or_default().1 } else { Vec::new() };
        buffer.clear();
        buffer.extend_from_slice(raw.bytes());
        self.cache.push_back((number, buffer));
        self.cache.back().map(|(_, raw)| raw.as_slice()).context("a chunk that was just decoded")
    }
}

/// Where each file of a folder begins behind the listing.
fn folder_starts(listing: &[u8], files: &[FileEntry]) -> Vec<u64> {
    let mut end = listing.len() as u64;
    files
        .iter()
        .map(|file| {
            let start = end;
            end += file.length;
            start
        })
        .collect()
}

/// The file that holds byte `at`, and where in it.
fn file_at(starts: &[u64], files: &[FileEntry], at: u64) -> Option<(usize, u64)> {
    let last = starts.partition_point(|start| *start <= at);
    // Of files that begin there, all but the last are empty.
    let file = last.checked_sub(1)?;
    let offset = at - starts[file];
    (offset < files[file].length).then_some((file, offset))
}

/// That `path` is a name below a folder.
pub(super) fn check_relative(path: &str) -> anyhow::Result<()> {
    let legal = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains(['\\', '\0']);
    if legal { Ok(()) } else { Err(failure(format!("{path:?} leaves the folder"), "the delta is not one that `switchback delta` made")) }
}
