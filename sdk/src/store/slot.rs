//! One slot's content: written file by file, read back before it is believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use switchback_signing::{
    bundle::{
        Event, Manifest,
        manifest::{MANIFEST_LENGTH_MAX, MANIFEST_PATH},
    },
    digest::{Sha256Digest, Sha256Hasher},
};

use super::{
    error::{Operation, StoreError, failed, sync_failed},
    fs::{Access, EntryKind, File, Fs, Site, read_full},
    seal::{Seal, Stamp},
    state::{Occupant, SlotId},
};

/// Name of the directory that holds the slots.
pub(super) const SLOTS: &str = "slots";

/// Bytes per read when a slot is read back: large enough for the device, small beside the 16 MiB that an install may use.
const READ_BYTES: usize = 256 << 10;

/// The slot's directory.
pub(super) fn directory(slot: SlotId) -> PathBuf {
    Path::new(SLOTS).join(slot.name())
}

/// A model in a slot whose every byte was read back from the disk and found to be the signed one.
///
/// Only [`super::Store::load`] and [`super::Store::finish`] make it; it cannot be copied or read from anywhere.
#[derive(Debug)]
pub struct InstalledModel {
    slot: SlotId,
    dir: PathBuf,
    occupant: Occupant,
    manifest: Manifest,
    seal: Arc<Seal>,
}

impl InstalledModel {
    /// The slot that holds it.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// Directory that holds the graph, its external data and the self-test. Private to the SDK.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which release it is.
    pub fn occupant(&self) -> &Occupant {
        &self.occupant
    }

    /// The bundle's list of contents, with the model contract.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether the files are still the ones that were read back.
    pub fn seal(&self) -> &Arc<Seal> {
        &self.seal
    }
}

/// Where an interrupted download goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The first chunk that is not on the disk yet.
    pub next_chunk: u64,
    /// Content of `manifest.json`, with the signed hash.
    pub manifest: Vec<u8>,
}

/// A release on its way into a slot. Dropped halfway it leaves the slot unusable and resumable.
#[derive(Debug)]
pub struct Installation {
    fs: Arc<dyn Fs>,
    slot: SlotId,
    begun: u64,
    open: Option<OpenFile>,
    /// Directories with names that are not durable yet.
    unsynced: BTreeSet<PathBuf>,
    resumption: Option<Resumption>,
}

#[derive(Debug)]
struct OpenFile {
    path: String,
    file: Box<dyn File>,
    written: u64,
    /// Bytes of `written` that are durable.
    synced: u64,
}

/// What must be known of the file that was being written when the download stopped.
pub(super) struct OpenPosition {
    pub(super) path: String,
    pub(super) written: u64,
}

impl Installation {
    pub(super) fn new(fs: Arc<dyn Fs>, slot: SlotId, begun: u64) -> Self {
        Self { fs, slot, begun, open: None, unsynced: BTreeSet::new(), resumption: None }
    }

    /// Takes up what an earlier attempt left; `None` when it is not all there.
    pub(super) fn resume(
        self,
        manifest_sha256: Sha256Digest,
        next_chunk: u64,
        open: Option<OpenPosition>,
    ) -> Result<Option<Self>, StoreError> {
        let path = directory(self.slot).join(MANIFEST_PATH);
        let Some(manifest) = read_small(self.fs.as_ref(), &path)? else {
            return Ok(None);
        };
        if Sha256Digest::of(&manifest) != manifest_sha256 {
            return Ok(None);
        }
        let open = match open {
            None => None,
            Some(OpenPosition { path, written }) => {
                let place = directory(self.slot).join(&path);
                match self.fs.open(&place, Access::ReadWrite) {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(failed(Operation::Open, &place)(error)),
                    Ok(file) => Some(OpenFile { path, file, written, synced: written }),
                }
            }
        };
        Ok(Some(Self { open, resumption: Some(Resumption { next_chunk, manifest }), ..self }))
    }

    /// Where an interrupted download goes on; `None` when it starts from the first chunk.
    pub fn resumption(&self) -> Option<&Resumption> {
        self.resumption.as_ref()
    }

    /// The slot that is being written.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Writes what the archive reader found next.
    ///
    /// # Errors
    /// What the disk says; after it the installation must be dropped.
    pub fn apply(&mut self, event: Event<'_>) -> Result<(), StoreError> {
        match event {
            Event::Manifest { bytes, .. } => {
                self.start(MANIFEST_PATH, bytes.len() as u64)?;
                self.write(bytes)?;
                self.end()
            }
            Event::FileStart(file) => self.start(&file.path, file.length),
            Event::Data(bytes) => self.write(bytes),
            Event::FileEnd(_) => self.end(),
            Event::End => Ok(()),
        }
    }

    fn start(&mut self, path: &str, length: u64) -> Result<(), StoreError> {
        let place = directory(self.slot).join(path);
        self.make_parents(path)?;
        if self.resumption.is_some() {
            // What was written after the last checkpoint is written again.
            match self.fs.remove_file(&place) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(Operation::Remove, &place)(error)),
                _ => {}
            }
        }
        let mut file = self.fs.create(&place).map_err(failed(Operation::Create, &place))?;
        if let Some(parent) = place.parent() {
            self.unsynced.insert(parent.to_owned());
        }
        file.allocate(length).map_err(failed(Operation::Allocate, &place))?;
        self.open = Some(OpenFile { path: path.to_owned(), file, written: 0, synced: 0 });
        Ok(())
    }

    /// The archive has no entries for directories; they follow from the paths.
    fn make_parents(&mut self, path: &str) -> Result<(), StoreError> {
        let mut parent = directory(self.slot);
        let Some((folders, _)) = path.rsplit_once('/') else {
            return Ok(());
        };
        for folder in folders.split('/') {
            let place = parent.join(folder);
            match self.fs.create_dir(&place) {
                Ok(()) => {
                    self.unsynced.insert(parent);
                }
                // Perhaps since the last checkpoint, which is what the attempt before this one went on after.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && self.resumption.is_some() => {
                    self.unsynced.insert(parent);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(Operation::Create, &place)(error)),
            }
            parent = place;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(open) = &mut self.open else {
            // The archive reader sends data only between the start and the end of a file; a resumed file is open from the start.
            return Err(StoreError::IllegalMove { slot: self.slot, state: "between two files", wanted: "written" });
        };
        let path = directory(self.slot).join(&open.path);
        open.file.write_at(open.written, bytes, Site::here()).map_err(failed(Operation::Write, &path))?;
        open.written += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if let Some(mut open) = self.open.take() {
            open.sync(self.slot)?;
            open.file.forget_cache();
        }
        Ok(())
    }

    /// Makes durable what was written so far; files that ended already are.
    #[track_caller]
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(open) = &mut self.open {
            open.sync(self.slot)?;
        }
        while let Some(path) = self.unsynced.pop_first() {
            self.fs.sync_dir(&path, Site::here()).map_err(sync_failed(&path))?;
        }
        Ok(())
    }

    pub(super) fn open_position(&self) -> Option<OpenPosition> {
        self.open.as_ref().map(|open| OpenPosition { path: open.path.clone(), written: open.written })
    }
}

impl OpenFile {
    #[track_caller]
    fn sync(&mut self, slot: SlotId) -> Result<(), StoreError> {
        if self.synced < self.written {
            let path = directory(slot).join(&self.path);
            self.file.sync(Site::here()).map_err(sync_failed(&path))?;
            self.synced = self.written;
        }
        Ok(())
    }
}

/// Reads a whole slot back and compares it with the signed hashes.
pub(super) fn read_back(disk: &Arc<dyn Fs>, slot: SlotId, occupant: &Occupant) -> Result<InstalledModel, StoreError> {
    let fs = disk.as_ref();
    let dir = directory(slot);
    let missing = |path: &str| StoreError::ContentMissing { slot, path: path.to_owned() };
    // Before anything is read: what changes from here on shows.
    let mut stamps = folder_stamps(fs, &dir)?;
    let bytes = read_small(fs, &dir.join(MANIFEST_PATH))?.ok_or_else(|| missing(MANIFEST_PATH))?;
    let found = Sha256Digest::of(&bytes);
    if found != occupant.manifest_sha256 {
        let (path, expected) = (MANIFEST_PATH.to_owned(), occupant.manifest_sha256);
        return Err(StoreError::ContentHash { slot, path, expected, found });
    }
    let manifest = Manifest::parse(&bytes).map_err(|source| StoreError::ManifestRefused { slot, source })?;
    let mut foreign = contents(fs, &dir)?;
    foreign.remove(MANIFEST_PATH);
    let mut buffer = vec![0; READ_BYTES];
    for file in &manifest.files {
        foreign.remove(&file.path).ok_or_else(|| missing(&file.path))?;
        let place = dir.join(&file.path);
        let open = fs.open(&place, Access::Read).map_err(failed(Operation::Open, &place))?;
        // Of the very file that is hashed below, whatever comes to have its name.
        stamps.push((place.clone(), open.stamp().map_err(failed(Operation::Read, &place))?));
        let found = open.length().map_err(failed(Operation::Read, &place))?;
        if found != file.length {
            return Err(StoreError::ContentLength { slot, path: file.path.clone(), expected: file.length, found });
        }
        let found = hash(open.as_ref(), &mut buffer).map_err(failed(Operation::Read, &place))?;
        if found != file.sha256 {
            return Err(StoreError::ContentHash { slot, path: file.path.clone(), expected: file.sha256, found });
        }
    }
    // A file that nobody signed could still be what a graph refers to.
    if let Some((path, _)) = foreign.pop_first() {
        return Err(StoreError::ContentForeign { slot, path });
    }
    let seal = Arc::new(Seal::new(Arc::clone(disk), stamps));
    Ok(InstalledModel { slot, dir: fs.location(&dir), occupant: occupant.clone(), manifest, seal })
}

/// Stamps of the slot's folder, of those below it, and of the one that it has its name in: a folder that is exchanged for another one
/// takes all files along.
fn folder_stamps(fs: &dyn Fs, dir: &Path) -> Result<Vec<(PathBuf, Stamp)>, StoreError> {
    let mut stamps = Vec::new();
    let mut open = vec![PathBuf::from(SLOTS), dir.to_owned()];
    while let Some(folder) = open.pop() {
        if folder != Path::new(SLOTS) {
            let entries = fs.read_dir(&folder).map_err(failed(Operation::List, &folder))?;
            open.extend(entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory).map(|entry| folder.join(entry.name)));
        }
        let stamp = fs.stamp(&folder).map_err(failed(Operation::List, &folder))?;
        stamps.push((folder, stamp));
    }
    Ok(stamps)
}

fn hash(file: &dyn File, buffer: &mut [u8]) -> std::io::Result<Sha256Digest> {
    let (mut hasher, mut offset) = (Sha256Hasher::new(), 0);
    loop {
        match read_full(file, offset, buffer)? {
            0 => return Ok(hasher.finish()),
            count => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
        }
    }
}

/// Everything below `dir` that is no directory, by path.
fn contents(fs: &dyn Fs, dir: &Path) -> Result<BTreeMap<String, EntryKind>, StoreError> {
    let mut found = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(folder) = open.pop() {
        let place = dir.join(&folder);
        for entry in fs.read_dir(&place).map_err(failed(Operation::List, &place))? {
            let path = if folder.is_empty() { entry.name } else { format!("{folder}/{}", entry.name) };
            match entry.kind {
                EntryKind::Directory => open.push(path),
                EntryKind::File | EntryKind::Other => {
                    found.insert(path, entry.kind);
                }
            }
        }
    }
    Ok(found)
}

/// Bytes that a slot's files take.
pub(super) fn used_bytes(fs: &dyn Fs, slot: SlotId) -> Result<u64, StoreError> {
    let dir = directory(slot);
    let mut sum = 0;
    for (path, kind) in contents(fs, &dir)? {
        if kind == EntryKind::File {
            let place = dir.join(path);
            let file = fs.open(&place, Access::Read).map_err(failed(Operation::Open, &place))?;
            sum += file.length().map_err(failed(Operation::Read, &place))?;
        }
    }
    Ok(sum)
}

/// Removes everything from a slot; returns how many files there were. What a crash brings back is removed the next time.
pub(super) fn clear(fs: &dyn Fs, slot: SlotId) -> Result<usize, StoreError> {
    clear_directory(fs, &directory(slot))
}

fn clear_directory(fs: &dyn Fs, dir: &Path) -> Result<usize, StoreError> {
    let mut removed = 0;
    for entry in fs.read_dir(dir).map_err(failed(Operation::List, dir))? {
        let place = dir.join(&entry.name);
        match entry.kind {
            EntryKind::Directory => {
                removed += clear_directory(fs, &place)?;
                fs.remove_dir(&place).map_err(failed(Operation::Remove, &place))?;
            }
            EntryKind::File | EntryKind::Other => {
                fs.remove_file(&place).map_err(failed(Operation::Remove, &place))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Reads a manifest; `None` when there is none or it is longer than one may be.
pub(super) fn read_small(fs: &dyn Fs, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match fs.open(path, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed(Operation::Open, path))?,
    };
    let length = file.length().map_err(failed(Operation::Read, path))?;
    if length > MANIFEST_LENGTH_MAX as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    let count = read_full(file.as_ref(), 0, &mut bytes).map_err(failed(Operation::Read, path))?;
    bytes.truncate(count);
    Ok(Some(bytes))
}
