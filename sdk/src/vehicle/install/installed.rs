//! Chunks of the new release that an installed one has on the disk already.

use std::{collections::BTreeMap, error::Error};

use switchback_signing::{
    bundle::{ChunkIndex, Manifest, RawChunk, index::CHUNK_RAW_MAX},
    digest::Sha256Digest,
};
use thiserror::Error;

use super::source::Budget;
use crate::store::{InstalledFiles, InstalledRelease, StoreError};

/// Where a chunk's bytes lie in an installed release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In no file: what stands between two members is nowhere on the disk, and the manifest says it.
    BetweenFiles,
    File {
        number: usize,
        offset: u64,
    },
}

/// Why a chunk was not taken from the disk.
#[derive(Debug, Error)]
pub(super) enum NotReused {
    #[error(transparent)]
    Disk(#[from] StoreError),
    #[error("the disk does not give back what was installed")]
    Altered(#[source] Box<dyn Error + Send + Sync>),
}

/// The chunks that a new release has in common with an installed one.
pub(super) struct InstalledChunks {
    files: InstalledFiles,
    /// By the number of the chunk in the new release.
    places: Vec<Option<Place>>,
    budget: Budget,
    raw: Box<[u8]>,
}

impl InstalledChunks {
    /// `None` when there is nothing in common.
    pub(super) fn of(base: InstalledRelease, new: &ChunkIndex) -> Option<Self> {
        let InstalledRelease { index, manifest, files, .. } = base;
        let known = places(&index, &manifest);
        let places: Vec<_> = new.rows().iter().map(|row| known.get(&row.raw_sha256()).copied()).collect();
        let in_files = |place: &Option<Place>| matches!(place, Some(Place::File { .. }));
        let budget = Budget::new(new.tar_length());
        places.iter().any(in_files).then(|| Self { files, places, budget, raw: vec![0; CHUNK_RAW_MAX].into_boxed_slice() })
    }

    /// Whether the disk should have this chunk.
    pub(super) fn has(&self, number: usize) -> bool {
        self.places.get(number).is_some_and(Option::is_some)
    }

    /// The chunk, when a file should have it: read and hashed, never trusted.
    pub(super) fn chunk<'a>(&'a mut self, new: &'a ChunkIndex, number: usize) -> Option<Result<RawChunk<'a>, NotReused>> {
        let Some(Some(Place::File { number: file, offset })) = self.places.get(number).copied() else {
            return None;
        };
        // Every row's raw length is bounded by CHUNK_RAW_MAX, the length of the buffer.
        let length = new.rows().get(number)?.raw_length() as usize;
        Some(match self.files.read(file, offset, &mut self.raw[..length]) {
            Err(error) => Err(error.into()),
            Ok(count) => new.verify_raw(number, &self.raw[..count]).map_err(|error| NotReused::Altered(Box::new(error))),
        })
    }

    /// Counts a chunk that was not taken; says whether the next one is worth a try.
    #[must_use]
    pub(super) fn failed(&mut self, raw_bytes: u32) -> bool {
        self.budget.failed(raw_bytes)
    }
}

/// Where the chunks of an installed release lie, by the SHA-256 of their raw bytes.
fn places(index: &ChunkIndex, manifest: &Manifest) -> BTreeMap<Sha256Digest, Place> {
    let starts: Vec<u64> = manifest.content_offsets(index.manifest_length()).collect();
    let place = |start: u64, end: u64| {
        // The last file that begins at or before the chunk; an empty one begins where the framing after it does.
        let number = starts.partition_point(|file| *file <= start).checked_sub(1)?;
        let offset = start - starts[number];
        (end - starts[number] <= manifest.files[number].length).then_some(Place::File { number, offset })
    };
    // The manifest is in no slot twice, and what stands before it comes with it.
    let rows = index.rows().iter().filter(|row| row.raw_offset() >= u64::from(index.manifest_length()));
    rows.map(|row| {
        let start = row.raw_offset();
        let place = place(start, start + u64::from(row.raw_length())).unwrap_or(Place::BetweenFiles);
        (row.raw_sha256(), place)
    })
    .collect()
}
