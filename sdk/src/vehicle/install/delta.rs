//! Chunks that a delta restores from the installed release.

use switchback_signing::{
    bundle::{
        BundleError, ChunkIndex, ChunkRow, ContentKey, RawChunk,
        delta::{Base, BaseRelease, Delta, DeltaDecoder},
        index::CHUNK_STORED_MAX,
    },
    metadata::MetadataError,
    trust::VerifiedTarget,
};
use thiserror::Error;

use super::{bundle::stored_range, remote::Remote, source::Budget};
use crate::{
    fetch::FetchError,
    store::{InstalledFiles, InstalledRelease, StoreError},
    vehicle::link::Link,
};

/// By how much the index of a delta may be longer than the full one, whose rows are twice as long: it names the files of the base.
const INDEX_MORE_BYTES_MAX: u64 = 1 << 20;

/// Why a delta is not used, or not any more. The release is installed all the same.
#[derive(Debug, Error)]
pub(super) enum NoDelta {
    #[error("the Director's words about it are not understood")]
    Words(#[source] MetadataError),
    #[error("its index cannot be fetched")]
    Index(#[source] FetchError),
    #[error("it is refused")]
    Refused(#[source] BundleError),
    #[error("its data cannot be fetched")]
    Data(#[source] FetchError),
    #[error("too many of its chunks were not restored, the last for this reason")]
    Budget(#[source] BundleError),
}

/// What [`DeltaChunks::chunk`] gives instead of a chunk.
#[derive(Debug)]
pub(super) enum NotRestored {
    /// The network; it goes on with the delta later.
    Network(FetchError),
    /// This chunk comes with the bundle.
    Chunk(BundleError),
}

/// A delta on a server and its base on the disk. Holds a buffer for one chunk and the decoder's.
pub(super) struct DeltaChunks {
    pub(super) remote: Remote,
    delta: Delta,
    decoder: DeltaDecoder,
    base: Files,
    stored: Box<[u8]>,
    pub(super) budget: Budget,
}

impl DeltaChunks {
    /// Fetches the index of the delta that the Director names, if it starts from the release that is installed: that is compared before
    /// anything is asked for.
    pub(super) fn begin(
        target: &VerifiedTarget,
        key: Option<&ContentKey>,
        full: &ChunkIndex,
        base: &InstalledRelease,
        link: &Link,
    ) -> Result<Option<Self>, NoDelta> {
        let named = target.delta().map_err(|error| NoDelta::Words(error.clone()))?;
        let Some(named) = named.filter(|named| named.base_sha256 == base.occupant.index_sha256) else {
            return Ok(None);
        };
        // Before it is fetched: the Director's word alone must not reserve memory.
        let length_max = target.length() + INDEX_MORE_BYTES_MAX;
        if named.length > length_max {
            let (expected, found) = (format!("at most {length_max}"), named.length.to_string());
            return Err(NoDelta::Refused(BundleError::DeltaIndex { field: "its length".to_owned(), expected, found }));
        }
        let bytes = link.delta_index(target, named).map_err(NoDelta::Index)?;
        let installed = BaseRelease::of(&base.index, &base.manifest);
        let delta = target.verify_delta(named, &bytes, full, &installed).map_err(NoDelta::Refused)?;
        let decoder = DeltaDecoder::new(&delta, key).map_err(NoDelta::Refused)?;
        let remote = Remote::new(target.delta_data_fetch_path(named, &delta), delta.data_length());
        let (base, stored) = (Files(base.files.clone()), vec![0; CHUNK_STORED_MAX].into_boxed_slice());
        Ok(Some(Self { remote, delta, decoder, base, stored, budget: Budget::new(full.tar_length()) }))
    }

    /// Where a chunk lies in the delta's data; none where the bundle has the smaller one.
    pub(super) fn row(&self, number: usize) -> Option<&ChunkRow> {
        self.delta.row(number).ok().flatten()
    }

    /// By chunk where it lies in the delta's data.
    pub(super) fn rows(&self) -> impl Iterator<Item = Option<&ChunkRow>> {
        self.delta.rows()
    }

    pub(super) fn data_length(&self) -> u64 {
        self.delta.data_length()
    }

    /// Fetches, checks and restores a chunk that the delta has. When nothing is on its way, everything up to byte `until` is asked for.
    pub(super) fn chunk(&mut self, link: &Link, number: usize, until: u64) -> Result<RawChunk<'_>, NotRestored> {
        let refused = NotRestored::Chunk;
        let row = self.delta.row(number).map_err(refused)?;
        let row = row.ok_or(BundleError::ChunkUnknown { chunk: number, chunks: 0 }).map_err(refused)?;
        let stored = &mut self.stored[..row.stored_length() as usize];
        self.remote.read(link, &stored_range(row), until, stored).map_err(NotRestored::Network)?;
        // Hash before decoding, hash after decoding: of the delta's bytes, and of what they restore.
        let verified = self.delta.verify_stored(number, stored).map_err(refused)?;
        self.decoder.decode(verified, &mut self.base).map_err(refused)
    }
}

/// The installed files, as a delta names them.
struct Files(InstalledFiles);

#[derive(Debug, Error)]
enum NotRead {
    #[error(transparent)]
    Disk(#[from] StoreError),
    #[error("the file ends early")]
    Short,
}

impl Base for Files {
    type Error = NotRead;

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), NotRead> {
        match self.0.read(file, offset, into)? {
            count if count == into.len() => Ok(()),
            _ => Err(NotRead::Short),
        }
    }
}
