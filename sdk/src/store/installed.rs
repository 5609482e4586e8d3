//! What a complete slot is read for besides being loaded: the next release has much in common with it.
//!
//! Nothing that is read here is believed. A slot that was read back at the last start may have changed since, and every chunk that is
//! taken from it proves itself by its hash.

use std::{fmt, path::Path, sync::Arc};

use switchback_signing::{
    bundle::{ChunkIndex, Manifest, manifest::MANIFEST_PATH},
    digest::Sha256Digest,
};

use super::{
    Store,
    documents::{self, Folder},
    error::{Operation, StoreError, failed},
    fs::{Access, File, Fs, read_full},
    slot::{self, directory},
    state::{Occupant, SlotId},
};

/// A release in a slot, and where its chunks lie.
#[derive(Debug)]
pub struct InstalledRelease {
    /// Which release it is.
    pub occupant: Occupant,
    /// The chunk index that was signed.
    pub index: ChunkIndex,
    /// The manifest that was signed.
    pub manifest: Manifest,
    /// The files, as the disk gives them now.
    pub files: InstalledFiles,
}

/// The files of a release in a slot, in the order of its manifest. No path ever comes from whoever reads.
pub struct InstalledFiles {
    fs: Arc<dyn Fs>,
    slot: SlotId,
    paths: Vec<String>,
    /// The file that was read last.
    open: Option<(usize, Box<dyn File>)>,
}

impl Store {
    /// Keeps the chunk index of a release, durable on return, and drops those of releases that are in no slot any more.
    ///
    /// Call it before the release's first chunk is written: then every release that gets complete has one. A crash leaves the index or
    /// none, and none costs nothing but the reuse.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep_index(&mut self, occupant: &Occupant, index: &[u8]) -> Result<(), StoreError> {
        let fs = self.fs.as_ref();
        let needed = SlotId::ALL.into_iter().filter_map(|slot| self.state.slot(slot).occupant());
        let needed: Vec<String> = needed.chain([occupant]).map(document).collect();
        for name in documents::list(fs, Folder::Indexes)? {
            if !needed.contains(&name) {
                documents::remove(fs, Folder::Indexes, &name)?;
            }
        }
        let name = document(occupant);
        if documents::read(fs, Folder::Indexes, &name)?.is_some_and(|kept| kept == index) {
            return Ok(());
        }
        documents::write(fs, Folder::Indexes, &name, index)
    }

    /// The complete release in `slot`, to be read from. `None` when there is none, or when its index or manifest is not there as it was
    /// signed: releases that were installed before indexes were kept have none.
    ///
    /// # Errors
    /// What the disk says.
    pub fn installed(&self, slot: SlotId) -> Result<Option<InstalledRelease>, StoreError> {
        let Some(occupant) = self.state.slot(slot).complete() else {
            return Ok(None);
        };
        let fs = self.fs.as_ref();
        let index = documents::read(fs, Folder::Indexes, &document(occupant))?;
        let index = index.filter(|bytes| Sha256Digest::of(bytes) == occupant.index_sha256);
        let manifest = slot::read_small(fs, &directory(slot).join(MANIFEST_PATH))?;
        let manifest = manifest.filter(|bytes| Sha256Digest::of(bytes) == occupant.manifest_sha256);
        let (Some(index), Some(manifest)) = (index, manifest) else {
            return Ok(None);
        };
        // Both were read when the release was installed; an SDK from before a downgrade may not read them.
        let (Ok(index), Ok(manifest)) = (ChunkIndex::parse(&index), Manifest::parse(&manifest)) else {
            return Ok(None);
        };
        let paths = manifest.files.iter().map(|file| file.path.clone()).collect();
        let files = InstalledFiles { fs: Arc::clone(&self.fs), slot, paths, open: None };
        Ok(Some(InstalledRelease { occupant: occupant.clone(), index, manifest, files }))
    }
}

impl InstalledFiles {
    /// Reads from a file; fewer bytes than asked for only at its end, and none of a file beyond the last.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        let Some(path) = self.paths.get(file) else {
            return Ok(0);
        };
        let place = directory(self.slot).join(path);
        let file = self.open(file, &place)?;
        read_full(file, offset, into).map_err(failed(Operation::Read, &place))
    }

    fn open(&mut self, number: usize, place: &Path) -> Result<&dyn File, StoreError> {
        let open = match self.open.take() {
            Some(open) if open.0 == number => open,
            _ => (number, self.fs.open(place, Access::Read).map_err(failed(Operation::Open, place))?),
        };
        Ok(&*self.open.insert(open).1)
    }
}

impl Clone for InstalledFiles {
    /// Another reader of the same files.
    fn clone(&self) -> Self {
        Self { fs: Arc::clone(&self.fs), slot: self.slot, paths: self.paths.clone(), open: None }
    }
}

impl fmt::Debug for InstalledFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstalledFiles").field("slot", &self.slot).field("files", &self.paths.len()).finish_non_exhaustive()
    }
}

/// The name of a release's index among the documents.
fn document(occupant: &Occupant) -> String {
    format!("{}.index", occupant.index_sha256)
}
