//! `switchback delta apply`.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use switchback_signing::{
    bundle::{
        ChunkDecoder, ChunkIndex, Event, RawChunk, TarReader,
        delta::{DELTA_INDEX_LENGTH_MAX, Delta, DeltaDecoder, DeltaIndex},
        index::{CHUNK_STORED_MAX, INDEX_LENGTH_MAX},
        manifest::{FileEntry, MANIFEST_PATH},
    },
    digest::Sha256Hasher,
};

use super::{
    DATA_NAME, FULL_INDEX_NAME, INDEX_NAME, part,
    release::{Listing, Release, check_relative},
};
use crate::{
    bundle::{Beside, BundleFile, read_content_key},
    failure::{Hint, failure},
    files,
    output::{Output, bytes, pairs},
    progress::byte_bar,
};

/// Restore a release from a delta and its base
///
/// Checks every piece as a vehicle does: nothing is decoded before its hash was right, nothing is written that is not what the full index
/// says. Leaves the release's files in a folder.
#[derive(Args)]
pub(super) struct Arguments {
    /// The release that the delta starts from: a bundle or a folder
    #[arg(long, value_name = "DIR_OR_BUNDLE")]
    base: PathBuf,
    /// The delta, as `delta create` left it
    #[arg(long, value_name = "DIR")]
    delta: PathBuf,
    /// Folder for the restored files, which must not be there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The full bundle, where the delta leaves chunks to it
    #[arg(long, value_name = "BUNDLE")]
    full: Option<PathBuf>,
    /// Content key of the new bundle, when it is encrypted
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// Content key of the base, when it is an encrypted bundle and the key does not lie beside it
    #[arg(long, value_name = "FILE")]
    base_content_key: Option<PathBuf>,
}

#[derive(Serialize)]
struct Applied {
    out: PathBuf,
    files: usize,
    restored_bytes: u64,
    /// Time to read, check, decode and write, s.
    seconds: f64,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let mut base = Release::open(&arguments.base, arguments.base_content_key.as_deref())?;
    let named = |name| part(&arguments.delta, name);
    let full_path = named(FULL_INDEX_NAME);
    let full = ChunkIndex::parse(&files::read(&full_path, INDEX_LENGTH_MAX)?).with_context(|| full_path.display().to_string())?;
    let index_path = named(INDEX_NAME);
    let index = DeltaIndex::parse(&files::read(&index_path, DELTA_INDEX_LENGTH_MAX)?).with_context(|| index_path.display().to_string())?;
    let delta = Delta::new(index, &full).with_context(|| arguments.delta.display().to_string())?;
    delta.base().check(&base.base()).hint("name the release that the delta was made from with --base")?;
    if arguments.out.exists() {
        return Err(failure(format!("{} exists", arguments.out.display()), "choose a folder that is not there yet"));
    }
    let began = Instant::now();
    let files = restore(arguments, &mut base, &delta, &full, output).inspect_err(|_| {
        // It was made here, and half a release is of no use.
        let _ = fs::remove_dir_all(&arguments.out);
    })?;
    let restored_bytes = files.iter().map(|file| file.length).sum();
    let seconds = began.elapsed().as_secs_f64();
    let applied = Applied { out: arguments.out.clone(), files: files.len(), restored_bytes, seconds };
    output.show(&applied, |applied| {
        pairs(&[
            ("restored", format!("{} files, {} in {}", applied.files, bytes(applied.restored_bytes), applied.out.display())),
            ("time", format!("{:.1} s", applied.seconds)),
        ])
    })
}

/// Writes every file of the release; they are all there when it succeeds.
fn restore(arguments: &Arguments, base: &mut Release, delta: &Delta, full: &ChunkIndex, output: &Output) -> anyhow::Result<Vec<FileEntry>> {
    let key = arguments.content_key.as_deref().map(read_content_key).transpose()?;
    let (mut restorer, mut decoder) = (DeltaDecoder::new(delta, key.as_ref())?, ChunkDecoder::new(full, key.as_ref())?);
    let mut data = Stored::open(&part(&arguments.delta, DATA_NAME))?;
    let mut bundle = arguments.full.as_deref().map(|path| full_bundle(path, full)).transpose()?;
    let mut restored = Restored::new(&arguments.out, full)?;
    let bar = byte_bar(output, "restoring", full.tar_length());
    for row in full.rows() {
        let number = row.number();
        let chunk = match delta.row(number)? {
            Some(row) => {
                let verified = delta.verify_stored(number, data.read(row.stored_offset(), row.stored_length())?)?;
                restorer.decode(verified, base)
            }
            None => {
                let missing = || failure("the delta leaves chunks to the full bundle", "name the bundle with --full");
                let bundle = bundle.as_mut().ok_or_else(missing)?;
                decoder.decode(full.verify_stored(number, bundle.read(row.stored_offset(), row.stored_length())?)?)
            }
        };
        restored.write(chunk?)?;
        bar.inc(row.raw_length().into());
    }
    bar.finish_and_clear();
    restored.finish()
}

fn full_bundle(path: &Path, full: &ChunkIndex) -> anyhow::Result<Stored> {
    let bundle = BundleFile::open(path, &Beside::default())?;
    if bundle.index != *full {
        return Err(failure(format!("{} is another bundle than the delta restores", path.display()), "name the one it was made for"));
    }
    Stored::open(path)
}

/// A file of stored chunks.
struct Stored {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Stored {
    fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), file: files::open(path)?, buffer: vec![0; CHUNK_STORED_MAX] })
    }

    fn read(&mut self, offset: u64, length: u32) -> anyhow::Result<&[u8]> {
        // Both indexes bound it by CHUNK_STORED_MAX.
        let buffer = &mut self.buffer[..length as usize];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(buffer));
        read.with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(buffer)
    }
}

/// The files as they come out.
struct Restored {
    out: PathBuf,
    content: Content,
    open: Option<(PathBuf, File)>,
    files: Vec<FileEntry>,
}

enum Content {
    /// Of a bundle, whose archive begins with a manifest.
    Archive(Box<TarReader>),
    /// Of a folder: its listing, then the contents one after the other. The first chunk tells which of the two it is.
    Folder {
        number: usize,
        left: u64,
        hasher: Sha256Hasher,
    },
    Unknown(ChunkIndex),
}

impl Restored {
    fn new(out: &Path, full: &ChunkIndex) -> anyhow::Result<Self> {
        files::make_folder(out)?;
        Ok(Self { out: out.to_owned(), content: Content::Unknown(full.clone()), open: None, files: Vec::new() })
    }

    fn write(&mut self, mut chunk: RawChunk<'_>) -> anyhow::Result<()> {
        if let Content::Unknown(full) = &self.content {
            // A folder's first chunk is the listing, whose hash the index has; an archive's is the manifest's header.
            let listing = Listing::read(chunk.bytes()).filter(|_| chunk.bytes().len() == full.manifest_length() as usize);
            if let Some(listing) = listing {
                self.files = listing.files;
                self.files.iter().try_for_each(|file| check_relative(&file.path))?;
                self.content = Content::Folder { number: 0, left: 0, hasher: Sha256Hasher::new() };
                return self.begin(0);
            }
            self.content = Content::Archive(Box::new(TarReader::new(full)));
        }
        match &mut self.content {
            Content::Archive(reader) => {
                while let Some(event) = reader.next(&mut chunk)? {
                    match event {
                        Event::Manifest { manifest, bytes } => {
                            self.files.clone_from(&manifest.files);
                            fs::write(self.out.join(MANIFEST_PATH), bytes).context("cannot write the manifest")?;
                        }
                        Event::FileStart(file) => self.open = Some(create(&self.out, &file.path)?),
                        Event::Data(bytes) => append(&mut self.open, bytes)?,
                        Event::FileEnd(_) => close(&mut self.open)?,
                        Event::End => {}
                    }
                }
                Ok(())
            }
            Content::Folder { .. } => self.folder_content(chunk.bytes()),
            Content::Unknown(_) => bail!("the delta begins with neither a listing nor an archive"),
        }
    }

    fn folder_content(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while let Content::Folder { number, left, hasher } = &mut self.content {
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
            append(&mut self.open, now)?;
            hasher.update(now);
            *left -= now.len() as u64;
            bytes = later;
            if *left > 0 || self.open.is_none() {
                break;
            }
            let (found, expected, next) = (std::mem::take(hasher).finish(), &self.files[*number], *number + 1);
            if found != expected.sha256 {
                bail!("{} has SHA-256 {found}, the listing says {}", expected.path, expected.sha256);
            }
            close(&mut self.open)?;
            self.begin(next)?;
        }
        if bytes.is_empty() {
            Ok(())
        } else {
            Err(failure("bytes follow the last file", "the delta is not one that `switchback delta` made"))
        }
    }

    /// Begins file `number` of a folder, and all that follow if it is empty.
    fn begin(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(file) = self.files.get(number) else { return Ok(()) };
        self.content = Content::Folder { number, left: file.length, hasher: Sha256Hasher::new() };
        self.open = Some(create(&self.out, &file.path)?);
        if file.length == 0 { self.folder_content(&[]) } else { Ok(()) }
    }

    /// The files, all of which are complete.
    fn finish(self) -> anyhow::Result<Vec<FileEntry>> {
        match (self.content, self.open) {
            (Content::Archive(reader), None) => Ok(reader.finish().map(|manifest| manifest.files)?),
            (Content::Folder { left: 0, .. }, None) => Ok(self.files),
            _ => bail!("the delta ends before the last file does"),
        }
    }
}

impl Listing {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn create(out: &Path, path: &str) -> anyhow::Result<(PathBuf, File)> {
    let path = out.join(path);
    files::make_folder(path.parent().unwrap_or(out))?;
    let file = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((path, file))
}

fn append(open: &mut Option<(PathBuf, File)>, bytes: &[u8]) -> anyhow::Result<()> {
    match open {
        Some((path, file)) => file.write_all(bytes).with_context(|| format!("cannot write {}", path.display())),
        None if bytes.is_empty() => Ok(()),
        None => bail!("content without a file"),
    }
}

fn close(open: &mut Option<(PathBuf, File)>) -> anyhow::Result<()> {
    match open.take() {
        Some((path, file)) => file.sync_all().with_context(|| format!("cannot write {}", path.display())),
        None => Ok(()),
    }
}
