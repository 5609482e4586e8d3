//! Carries one release from the server into its slot, a chunk at a time.

use std::time::Instant;

use switchback_signing::{
    bundle::{BundleError, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, Event, Manifest, TarReader, index::CHUNK_STORED_MAX},
    keys::sealing::DecryptionKey,
    metadata::{Custom, vehicle::Reason},
    trust::{Attack, VehicleIdentity, VerifiedTarget},
};

use super::{
    link::Link,
    reason::{self, MANIFEST_DIFFERS},
};
use crate::{
    fetch::{Download, FetchError},
    store::{CHECKPOINT_BYTES, CHECKPOINT_INTERVAL, Incoming, Installation, InstalledModel, Occupant, SlotId, Store, StoreError},
    update::Blame,
};

#[cfg(test)]
mod tests;

/// How often one chunk may arrive with other bytes than the signed ones. A broken proxy or cache is known to heal on the second try;
/// whoever sends wrong bytes three times in a row does it on purpose.
const BAD_CHUNKS_MAX: u32 = 3;

/// Why a release is not in its slot yet.
#[derive(Debug)]
pub(super) enum Setback {
    /// The network; what arrived stays, and it goes on later.
    Network(FetchError),
    /// The update ends here; with the attack that it would be, if somebody did it on purpose.
    Failed(Reason, Blame, Option<Attack>),
}

/// What one step did.
#[derive(Debug)]
pub(super) enum Step {
    /// Some chunk arrived, or will be asked for again.
    Chunk,
    /// Everything is in the slot and was read back.
    Complete(Box<InstalledModel>),
}

/// A release on its way into its slot. Holds a buffer for one chunk and the decoder's, which has the key of an encrypted bundle too; nothing
/// here grows with the bundle but the index.
pub(super) struct Install {
    occupant: Occupant,
    release: Custom,
    bundle_path: String,
    index: ChunkIndex,
    /// Taken when the release is complete.
    installation: Option<Installation>,
    reader: TarReader,
    decoder: ChunkDecoder,
    stored: Box<[u8]>,
    next: usize,
    download: Option<Download>,
    etag: Option<String>,
    bad_chunks: u32,
    unsaved_bytes: u64,
    saved_at: Instant,
}

impl Install {
    /// Fetches the chunk index and makes a slot ready; goes on where an interrupted download of the same release stopped. The key is the one
    /// that the Director brought for an encrypted bundle.
    pub(super) fn begin(
        target: &VerifiedTarget,
        content_key: Option<&ContentKey>,
        link: &Link,
        store: &mut Store,
    ) -> Result<Self, Setback> {
        let bytes = link.index(target).map_err(Setback::Network)?;
        let index = target.verify_index(&bytes);
        let index = index.map_err(|error| Setback::Failed(reason::of_trust(&error), Blame::Nobody, error.attack()))?;
        // Before the slot is touched: what cannot be decoded costs neither its content nor a download.
        let decoder = ChunkDecoder::new(&index, content_key).map_err(refused)?;
        let release = target.release().clone();
        let occupant = Occupant {
            target: target.path().to_owned(),
            index_length: target.length(),
            index_sha256: target.sha256(),
            manifest_sha256: index.manifest_sha256(),
            model: release.model.clone(),
            version: release.version.clone(),
            release_counter: release.release_counter,
        };
        let incoming = Incoming { occupant: occupant.clone(), tar_length: index.tar_length() };
        let installation = store.prepare(&incoming).map_err(disk)?;
        let (next, reader) = match installation.resumption() {
            None => (0, TarReader::new(&index)),
            Some(found) => {
                let next = usize::try_from(found.next_chunk).unwrap_or(usize::MAX);
                let position = index.rows().get(next).map_or(index.tar_length(), ChunkRow::raw_offset);
                (next, TarReader::resume(&index, &found.manifest, position).map_err(refused)?)
            }
        };
        Ok(Self {
            occupant,
            release,
            bundle_path: target.bundle_fetch_path(),
            index,
            installation: Some(installation),
            reader,
            decoder,
            stored: vec![0; CHUNK_STORED_MAX].into_boxed_slice(),
            next,
            download: None,
            etag: None,
            bad_chunks: 0,
            unsaved_bytes: 0,
            saved_at: Instant::now(),
        })
    }

    /// Fetches, checks and writes the next chunk; after the last one reads the slot back.
    pub(super) fn step(&mut self, link: &Link, store: &mut Store) -> Result<Step, Setback> {
        let Some(row) = self.index.rows().get(self.next) else {
            return self.complete(store).map(|model| Step::Complete(Box::new(model)));
        };
        let (offset, length) = (row.stored_offset(), row.stored_length() as usize);
        if let Err(error) = self.fetch(link, offset, length) {
            self.download = None;
            self.save(store)?;
            return Err(Setback::Network(error));
        }
        match self.write(length) {
            Ok(()) => {
                self.next += 1;
                self.bad_chunks = 0;
                self.unsaved_bytes += length as u64;
                if self.unsaved_bytes >= CHECKPOINT_BYTES || self.saved_at.elapsed() >= CHECKPOINT_INTERVAL {
                    self.save(store)?;
                }
                Ok(Step::Chunk)
            }
            Err(Problem::WrongBytes(error)) => {
                // Another connection may lead around whatever changed them. Only this chunk is fetched again.
                self.download = None;
                self.bad_chunks += 1;
                tracing::warn!(chunk = self.next, %error, tries = self.bad_chunks, "a chunk is not the signed one");
                if self.bad_chunks < BAD_CHUNKS_MAX {
                    return Ok(Step::Chunk);
                }
                self.save(store)?;
                // The metadata is the signed one and the bytes are not: somebody's, over and over.
                Err(Setback::Failed(reason::of_bundle(&error), reason::blame_of_bundle(&error), Some(Attack::ArbitrarySoftware)))
            }
            Err(Problem::Setback(setback)) => Err(setback),
        }
    }

    /// Makes durable what arrived, so that the next start goes on from here.
    pub(super) fn save(&mut self, store: &mut Store) -> Result<(), Setback> {
        if self.unsaved_bytes > 0
            && self.reader.manifest().is_some()
            && let Some(installation) = &mut self.installation
        {
            store.checkpoint(installation, self.next as u64).map_err(disk)?;
            self.unsaved_bytes = 0;
        }
        self.saved_at = Instant::now();
        Ok(())
    }

    pub(super) fn occupant(&self) -> &Occupant {
        &self.occupant
    }

    pub(super) fn slot(&self) -> Option<SlotId> {
        self.installation.as_ref().map(Installation::slot)
    }

    pub(super) fn progress_permille(&self) -> u32 {
        let done = self.index.rows().get(self.next).map_or(self.index.bundle_length(), ChunkRow::stored_offset);
        // Both are below 2^50, so neither the product nor the quotient overflows.
        (done * 1000 / self.index.bundle_length().max(1)) as u32
    }

    fn fetch(&mut self, link: &Link, offset: u64, length: usize) -> Result<(), FetchError> {
        let download = match &mut self.download {
            Some(download) if download.position() == offset => download,
            place => {
                let download = link.bundle(&self.bundle_path, self.index.bundle_length(), offset, self.etag.as_deref())?;
                self.etag = download.etag().map(str::to_owned);
                place.insert(download)
            }
        };
        download.read_exact(&mut self.stored[..length])
    }

    /// Hash before decoding, hash after decoding, framing byte by byte: only then the disk.
    fn write(&mut self, length: usize) -> Result<(), Problem> {
        let verified = self.index.verify_stored(self.next, &self.stored[..length]).map_err(Problem::WrongBytes)?;
        let mut chunk = self.decoder.decode(verified).map_err(refused)?;
        let Some(installation) = &mut self.installation else {
            return Ok(());
        };
        while let Some(event) = self.reader.next(&mut chunk).map_err(refused)? {
            if let Event::Manifest { manifest, .. } = &event {
                check_manifest(manifest, &self.release)?;
            }
            installation.apply(event).map_err(disk)?;
        }
        Ok(())
    }

    fn complete(&mut self, store: &mut Store) -> Result<InstalledModel, Setback> {
        match self.installation.take() {
            Some(installation) => store.finish(installation).map_err(disk),
            // `step` is not called again after it said that the release is complete.
            None => {
                let reason = reason::reason(MANIFEST_DIFFERS, "complete_twice", "the release is complete already");
                Err(Setback::Failed(reason, Blame::Nobody, None))
            }
        }
    }
}

/// Why a chunk was not written.
enum Problem {
    /// It is not the signed one; fetched again it may be.
    WrongBytes(BundleError),
    Setback(Setback),
}

impl From<Setback> for Problem {
    fn from(setback: Setback) -> Self {
        Self::Setback(setback)
    }
}

/// Opens the key of an encrypted bundle. Whose fault it is that it does not open, if anybody's, the release's it is not.
pub(super) fn content_key(target: &VerifiedTarget, own: &DecryptionKey, identity: &VehicleIdentity) -> Result<Option<ContentKey>, Setback> {
    target.content_key(own, identity).map_err(|error| Setback::Failed(reason::of_trust(&error), Blame::Nobody, error.attack()))
}

fn disk(error: StoreError) -> Setback {
    Setback::Failed(reason::of_store(&error), reason::blame_of_store(&error), None)
}

fn refused(error: BundleError) -> Setback {
    Setback::Failed(reason::of_bundle(&error), reason::blame_of_bundle(&error), None)
}

/// The metadata says for whom the release is, and the vehicle acted on that; the bundle must say the same.
fn check_manifest(manifest: &Manifest, release: &Custom) -> Result<(), Setback> {
    let found = &manifest.release;
    let hardware_differs = found.hardware_ids.len() != release.hardware_ids.len()
        || !release.hardware_ids.iter().all(|id| found.hardware_ids.iter().any(|found| found == id.as_str()));
    let pairs = [
        ("model", found.model.clone(), release.model.clone()),
        ("version", found.version.clone(), release.version.clone()),
        ("tier", found.tier.clone(), release.tier.to_string()),
        ("release counter", found.release_counter.to_string(), release.release_counter.to_string()),
        ("contract version", manifest.contract.contract_version.to_string(), release.contract_version.to_string()),
    ];
    let differs = pairs.into_iter().find(|(_, found, expected)| found != expected);
    let differs = differs.or_else(|| hardware_differs.then(|| ("hardware ids", found.hardware_ids.join(", "), "others".into())));
    match differs {
        None => Ok(()),
        Some((field, found, expected)) => {
            let text = format!("the bundle's {field} is {found}, the metadata says {expected}");
            // Each part is signed, and they do not belong together.
            let reason = reason::reason(MANIFEST_DIFFERS, "manifest_differs", text);
            Err(Setback::Failed(reason, Blame::Release, Some(Attack::MixAndMatch)))
        }
    }
}
