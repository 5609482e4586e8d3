//! Carries one release into its slot, a chunk at a time, each from where it costs least.
//!
//! Most of tomorrow's release is today's: a chunk is asked of the network only when neither the manifest nor the disk has it, and then by what
//! differs from the installed release, where somebody has made a delta. Wherever it comes from, it is hashed before anything looks at it, so that a wrong source costs a download and never a wrong byte.

mod bundle;
mod delta;
mod installed;
mod remote;
mod source;

use std::{ops::Range, time::Instant};

use switchback_signing::{
    bundle::{BundleError, ChunkIndex, ChunkRow, ContentKey, Event, Manifest, RawChunk, TarReader},
    keys::sealing::DecryptionKey,
    metadata::{Custom, vehicle::Reason},
    trust::{Attack, VehicleIdentity, VerifiedTarget},
};

use super::{
    link::Link,
    reason::{self, DELTA_NOT_USED, MANIFEST_DIFFERS},
};
use crate::{
    fetch::FetchError,
    store::{CHECKPOINT_INTERVAL, Incoming, Installation, InstalledModel, InstalledRelease, Occupant, SlotId, Store, StoreError},
    update::Blame,
};
use bundle::{Bundle, NotFetched, stored_range};
use delta::{DeltaChunks, NoDelta, NotRestored};
use installed::InstalledChunks;
pub use source::ChunkBytes;
use source::ChunkSource;

#[cfg(test)]
mod tests;

/// How often one chunk may arrive with other bytes than the signed ones. A broken proxy or cache is known to heal on the second try;
/// whoever sends wrong bytes three times in a row does it on purpose.
const BAD_CHUNKS_MAX: u32 = 3;

/// Bytes of a bundle that are downloaded although they are at hand, when bytes on both sides of them are not: another request costs a
/// round trip, in which a cellular link carries as much.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Why a release is not in its slot yet.
#[derive(Debug)]
pub(super) enum Setback {
    /// The network; what arrived stays, and it goes on later.
    Network(FetchError),
    /// The update ends here; with the attack that it would be, if somebody did it on purpose.
    Failed(Reason, Blame, Option<Attack>),
}

/// Under what terms a step is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Bytes that may be asked for.
    pub(super) allowed_bytes: u64,
    /// Most bytes between two checkpoints.
    pub(super) checkpoint_bytes: u64,
}

/// What one step did.
#[derive(Debug)]
pub(super) enum Step {
    /// Some chunk arrived, or will be asked for again.
    Chunk,
    /// Everything is in the slot and was read back.
    Complete(Box<InstalledModel>),
}

/// A release on its way into its slot. Nothing here grows with the bundle but the index, and what is known of it.
pub(super) struct Install {
    occupant: Occupant,
    index: ChunkIndex,
    /// Absent when no installed release has anything in common, or the disk does not give it back.
    installed: Option<InstalledChunks>,
    /// Absent when there is none from the installed release, or it is of no use.
    delta: Option<DeltaChunks>,
    bundle: Bundle,
    sink: Sink,
    next: usize,
    /// The chunk that the disk should have had and did not.
    not_reused: Option<usize>,
    /// The chunk that the delta should have restored and did not.
    not_restored: Option<usize>,
    /// Why the delta was given up, until it is told.
    no_delta: Option<Reason>,
    /// Bytes of the chunks from `next` on that are not at hand.
    missing_bytes: u64,
    bad_chunks: u32,
    unsaved_bytes: u64,
    saved_at: Instant,
    /// Since they were asked for last.
    bytes: ChunkBytes,
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
        let bundle = Bundle::new(target.bundle_fetch_path(), &index, content_key).map_err(refused)?;
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
        if let Err(error) = store.keep_index(&occupant, &bytes) {
            // It is for the update after this one, which then costs more.
            tracing::warn!(error = %reason::story(&error), "the chunk index was not kept");
        }
        let (next, reader) = match installation.resumption() {
            None => (0, TarReader::new(&index)),
            Some(found) => {
                let next = usize::try_from(found.next_chunk).unwrap_or(usize::MAX);
                let position = index.rows().get(next).map_or(index.tar_length(), ChunkRow::raw_offset);
                (next, TarReader::resume(&index, &found.manifest, position).map_err(refused)?)
            }
        };
        let (base, mut no_delta) = (base_in(store, installation.slot().other()), None);
        let delta = match base.as_ref().map(|base| DeltaChunks::begin(target, content_key, &index, base, link)).transpose() {
            Ok(delta) => delta.flatten(),
            Err(NoDelta::Index(error)) if may_pass(&error) => return Err(Setback::Network(error)),
            Err(error) => {
                no_delta = Some(given_up(&error));
                None
            }
        };
        let installed = base.and_then(|base| InstalledChunks::of(base, &index));
        let mut install = Self {
            occupant,
            index,
            installed,
            delta,
            bundle,
            sink: Sink { release, reader, installation: Some(installation) },
            next,
            not_reused: None,
            not_restored: None,
            no_delta,
            missing_bytes: 0,
            bad_chunks: 0,
            unsaved_bytes: 0,
            saved_at: Instant::now(),
            bytes: ChunkBytes::default(),
        };
        install.missing_bytes =
            (next..install.index.rows().len()).filter(|chunk| !install.has(*chunk)).map(|chunk| install.remote_length(chunk)).sum();
        Ok(install)
    }

    /// Brings, checks and writes the next chunk; after the last one reads the slot back.
    pub(super) fn step(&mut self, link: &Link, store: &mut Store, terms: Terms) -> Result<Step, Setback> {
        let Some(row) = self.index.rows().get(self.next) else {
            return self.sink.complete(store).map(|model| Step::Complete(Box::new(model)));
        };
        let length = u64::from(row.stored_length());
        let remote_length = self.remote_length(self.next);
        match self.bring(link, terms.allowed_bytes) {
            Ok(None) => Ok(Step::Chunk),
            Ok(Some(source)) => {
                if source.is_remote() {
                    self.missing_bytes = self.missing_bytes.saturating_sub(remote_length);
                }
                self.bytes.count(source, length, remote_length);
                self.next += 1;
                self.bad_chunks = 0;
                self.unsaved_bytes += length;
                if self.unsaved_bytes >= terms.checkpoint_bytes || self.saved_at.elapsed() >= CHECKPOINT_INTERVAL {
                    self.save(store)?;
                }
                Ok(Step::Chunk)
            }
            Err(Problem::Chunk(NotFetched::Network(error))) => {
                self.hang_up();
                self.save(store)?;
                Err(Setback::Network(error))
            }
            Err(Problem::Chunk(NotFetched::WrongBytes(error))) => {
                // Only this chunk is fetched again, and from somebody else if there is one.
                let _ = self.bundle.remote.turn_away(link);
                self.bytes.downloaded += length;
                self.bad_chunks += 1;
                tracing::warn!(chunk = self.next, %error, tries = self.bad_chunks, "a chunk is not the signed one");
                if (self.bad_chunks as usize) < (BAD_CHUNKS_MAX as usize).max(link.bundle_servers()) {
                    return Ok(Step::Chunk);
                }
                self.save(store)?;
                // The metadata is the signed one and the bytes are not: somebody's, over and over.
                Err(Setback::Failed(reason::of_bundle(&error), reason::blame_of_bundle(&error), Some(Attack::ArbitrarySoftware)))
            }
            Err(Problem::Chunk(NotFetched::Refused(error))) => Err(refused(error)),
            Err(Problem::Setback(setback)) => Err(setback),
        }
    }

    /// Makes durable what arrived, so that the next start goes on from here.
    pub(super) fn save(&mut self, store: &mut Store) -> Result<(), Setback> {
        if self.unsaved_bytes > 0
            && self.sink.reader.manifest().is_some()
            && let Some(installation) = &mut self.sink.installation
        {
            store.checkpoint(installation, self.next as u64).map_err(disk)?;
            self.unsaved_bytes = 0;
        }
        self.saved_at = Instant::now();
        Ok(())
    }

    /// Hangs up for a while. What arrived is made durable.
    pub(super) fn pause(&mut self, store: &mut Store) -> Result<(), Setback> {
        self.hang_up();
        self.save(store)
    }

    /// Why no delta is used although the Director named one, told once.
    pub(super) fn take_no_delta(&mut self) -> Option<Reason> {
        self.no_delta.take()
    }

    /// Bytes that the next step needs of the network; 0 when it needs none.
    pub(super) fn next_bytes(&self) -> u64 {
        match self.index.rows().get(self.next) {
            Some(row) if self.is_on_its_way() || !(self.has(self.next) || self.sink.framing(row).is_some()) => {
                self.remote_length(self.next)
            }
            _ => 0,
        }
    }

    /// Bytes that the network must still bring, as far as is known.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    pub(super) fn occupant(&self) -> &Occupant {
        &self.occupant
    }

    pub(super) fn slot(&self) -> Option<SlotId> {
        self.sink.installation.as_ref().map(Installation::slot)
    }

    pub(super) fn progress_permille(&self) -> u32 {
        let done = self.index.rows().get(self.next).map_or(self.index.bundle_length(), ChunkRow::stored_offset);
        // Both are below 2^50, so neither the product nor the quotient overflows.
        (done * 1000 / self.index.bundle_length().max(1)) as u32
    }

    /// Where the chunks came from since this was asked last.
    pub(super) fn take_bytes(&mut self) -> ChunkBytes {
        std::mem::take(&mut self.bytes)
    }

    fn hang_up(&mut self) {
        self.bundle.remote.hang_up();
        if let Some(delta) = &mut self.delta {
            delta.remote.hang_up();
        }
    }

    /// Whether the disk should have the chunk.
    fn has(&self, chunk: usize) -> bool {
        self.not_reused != Some(chunk) && self.installed.as_ref().is_some_and(|installed| installed.has(chunk))
    }

    /// Where the delta has a chunk, if it has it and did not fail to restore it.
    fn in_delta(&self, chunk: usize) -> Option<&ChunkRow> {
        self.delta.as_ref().filter(|_| self.not_restored != Some(chunk))?.row(chunk)
    }

    /// Bytes of the network that a chunk takes which is not at hand.
    fn remote_length(&self, chunk: usize) -> u64 {
        let row = self.in_delta(chunk).or(self.index.rows().get(chunk));
        row.map_or(0, |row| row.stored_length().into())
    }

    /// Whether a connection brings the next chunk already.
    fn is_on_its_way(&self) -> bool {
        match (self.in_delta(self.next), &self.delta) {
            (Some(row), Some(delta)) => delta.remote.is_bringing(&stored_range(row)),
            _ => self.index.rows().get(self.next).is_some_and(|row| self.bundle.remote.is_bringing(&stored_range(row))),
        }
    }

    /// The next chunk, from the cheapest source that has it, into the slot; `None` when another one has to be tried, or it takes more of the
    /// network than is allowed.
    fn bring(&mut self, link: &Link, allowed: u64) -> Result<Option<ChunkSource>, Problem> {
        // What is on its way already costs no more than to leave it out.
        if !self.is_on_its_way() {
            if self.take_from_manifest()? {
                return Ok(Some(ChunkSource::Manifest));
            }
            if self.has(self.next) && self.take_from_disk()? {
                return Ok(Some(ChunkSource::Installed));
            }
        }
        if self.remote_length(self.next) > allowed {
            return Ok(None);
        }
        let (brought, source) = match self.in_delta(self.next) {
            Some(_) => (self.take_from_delta(link, allowed)?, ChunkSource::Delta),
            None => (self.take_from_bundle(link, allowed)?, ChunkSource::Bundle),
        };
        Ok(brought.then_some(source))
    }

    fn take_from_manifest(&mut self) -> Result<bool, Setback> {
        let framing = self.index.rows().get(self.next).and_then(|row| self.sink.framing(row));
        // A bundle whose framing differs from its manifest's is refused by the reader, with its own bytes.
        match framing.as_ref().and_then(|raw| self.index.verify_raw(self.next, raw).ok()) {
            Some(chunk) => self.sink.write(chunk).map(|()| true),
            None => Ok(false),
        }
    }

    fn take_from_disk(&mut self) -> Result<bool, Setback> {
        let (chunk, raw_length) = (self.next, self.index.rows().get(self.next).map_or(0, ChunkRow::raw_length));
        let Some(installed) = &mut self.installed else {
            return Ok(false);
        };
        let error = match installed.chunk(&self.index, chunk) {
            None => return Ok(false),
            Some(Ok(chunk)) => return self.sink.write(chunk).map(|()| true),
            Some(Err(error)) => error,
        };
        tracing::warn!(chunk, error = %reason::story(&error), "a chunk is not reused but downloaded");
        if !installed.failed(raw_length) {
            tracing::warn!("the disk fails too often: nothing of the installed release is reused any more");
            self.installed = None;
        }
        self.not_reused = Some(chunk);
        let length = self.remote_length(chunk);
        self.missing_bytes += length;
        self.bytes.not_reused += length;
        Ok(false)
    }

    /// `false` when it is to be tried again, from another server or from the bundle.
    fn take_from_delta(&mut self, link: &Link, allowed: u64) -> Result<bool, Problem> {
        let Some(delta) = &mut self.delta else {
            return Ok(false);
        };
        let rows = delta.rows().skip(self.next).flatten().map(|row| (stored_range(row), row.number()));
        let at_hand = |chunk: usize| self.installed.as_ref().is_some_and(|installed| installed.has(chunk));
        let until = run_end(rows, delta.data_length(), allowed, at_hand);
        let error = match delta.chunk(link, self.next, until) {
            Ok(chunk) => {
                self.sink.write(chunk)?;
                delta.remote.delivered();
                return Ok(true);
            }
            Err(NotRestored::Network(error)) => {
                if matches!(error, FetchError::Canceled) || !delta.remote.turn_away(link) {
                    // Every server was asked.
                    if may_pass(&error) {
                        return Err(Problem::Chunk(NotFetched::Network(error)));
                    }
                    self.give_delta_up(&NoDelta::Data(error));
                }
                return Ok(false);
            }
            Err(NotRestored::Chunk(error)) => error,
        };
        // Bytes that are not what the Director's word says, or a base that is not what it was: the bundle has the chunk as well.
        let (chunk, row) = (self.next, self.index.rows().get(self.next));
        tracing::warn!(chunk, error = %reason::story(&error), "a chunk is not restored by the delta but downloaded");
        delta.remote.hang_up();
        let goes_on = delta.budget.failed(row.map_or(0, ChunkRow::raw_length));
        let length = self.remote_length(chunk);
        self.bytes.delta += length;
        self.not_restored = Some(chunk);
        if !goes_on {
            self.give_delta_up(&NoDelta::Budget(error));
        }
        let more = self.remote_length(chunk);
        self.bytes.not_restored += more;
        self.missing_bytes = (self.missing_bytes + more).saturating_sub(length);
        Ok(false)
    }

    fn give_delta_up(&mut self, why: &NoDelta) {
        self.no_delta = Some(given_up(why));
        self.delta = None;
        self.missing_bytes =
            (self.next..self.index.rows().len()).filter(|chunk| !self.has(*chunk)).map(|chunk| self.remote_length(chunk)).sum();
    }

    /// `false` when it is to be tried again, from another server.
    fn take_from_bundle(&mut self, link: &Link, allowed: u64) -> Result<bool, Problem> {
        let Some(row) = self.index.rows().get(self.next) else {
            return Ok(false);
        };
        let rows = self.index.rows()[self.next..].iter().map(|row| (stored_range(row), row.number()));
        let until = run_end(rows, self.index.bundle_length(), allowed, |chunk| {
            let on_disk = self.installed.as_ref().is_some_and(|installed| installed.has(chunk));
            on_disk || self.delta.as_ref().is_some_and(|delta| delta.row(chunk).is_some())
        });
        let error = match self.bundle.chunk(link, &self.index, row, until) {
            Ok(chunk) => {
                self.sink.write(chunk)?;
                self.bundle.remote.delivered();
                return Ok(true);
            }
            Err(error) => error,
        };
        match error {
            NotFetched::Network(error) if !matches!(error, FetchError::Canceled) && self.bundle.remote.turn_away(link) => {
                tracing::warn!(chunk = self.next, error = %reason::story(&error), "another server is asked for the bundle");
                Ok(false)
            }
            error => Err(Problem::Chunk(error)),
        }
    }
}

/// Where chunks go, in their order: through the archive reader into the slot.
struct Sink {
    release: Custom,
    reader: TarReader,
    /// Taken when the release is complete.
    installation: Option<Installation>,
}

impl Sink {
    /// The bytes of the chunk, when they follow from the manifest.
    fn framing(&self, row: &ChunkRow) -> Option<Vec<u8>> {
        // Not before the manifest: its own header is the only framing that does not come with it.
        self.reader.manifest()?;
        self.reader.framing().get(..row.raw_length() as usize).map(<[u8]>::to_vec)
    }

    /// Framing byte by byte: only then the disk.
    fn write(&mut self, mut chunk: RawChunk<'_>) -> Result<(), Setback> {
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
    Chunk(NotFetched),
    Setback(Setback),
}

impl From<Setback> for Problem {
    fn from(setback: Setback) -> Self {
        Self::Setback(setback)
    }
}

/// The release in the other slot. That slot is not written while this one is.
fn base_in(store: &Store, other: SlotId) -> Option<InstalledRelease> {
    store.installed(other).unwrap_or_else(|error| {
        tracing::warn!(error = %reason::story(&error), "nothing of the installed release is reused");
        None
    })
}

/// Whether a failure may be gone when it is tried again: the network's, as opposed to an answer that is no delta.
fn may_pass(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Unreachable { .. }
            | FetchError::Stalled { .. }
            | FetchError::TooSlow { .. }
            | FetchError::TooShort { .. }
            | FetchError::Busy { .. }
            | FetchError::Canceled
    )
}

fn given_up(why: &NoDelta) -> Reason {
    let reason = reason::reason(DELTA_NOT_USED, "delta_not_used", format!("the delta is not used: {}", reason::story(why)));
    tracing::warn!(reason.text, "the release is downloaded without a delta");
    reason
}

/// Where a download of at most `allowed` bytes ends that begins with the first of these chunks: before the next bytes that are `at_hand` and
/// worth a request of their own, or at the end of the file.
fn run_end(mut chunks: impl Iterator<Item = (Range<u64>, usize)>, end_of_file: u64, allowed: u64, at_hand: impl Fn(usize) -> bool) -> u64 {
    let Some((first, _)) = chunks.next() else {
        return end_of_file;
    };
    let (last_byte, mut gap) = (first.start.saturating_add(allowed), None);
    for (range, chunk) in chunks {
        if range.end > last_byte {
            return gap.unwrap_or(range.start);
        }
        match (at_hand(chunk), gap) {
            (false, _) => gap = None,
            (true, None) => gap = Some(range.start),
            (true, Some(_)) => {}
        }
        if let Some(from) = gap
            && range.end - from > GAP_BYTES_MAX
        {
            return from;
        }
    }
    end_of_file
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
