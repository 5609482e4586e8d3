//! The vehicle's disk: two slots for models, and a state that survives power loss at any instruction.
//!
//! ```text
//! lock                    held by the process that uses the store
//! state.0, state.1        which slot holds what; written in turn, the newest valid record counts
//! checkpoint.0, .1        how far a download got
//! slots/a, slots/b        manifest.json, model.onnx, its external data, selftest/
//! metadata-director, metadata-image, keys, indexes
//! ```
//!
//! The order of operations is the product. A slot is declared invalid before its first byte changes; files and directories are
//! synced and everything is read back before the slot is declared complete; a load and a shadow run are counted before they begin and a try
//! before the model may drive; the floor
//! rises only when the trial was passed. Every prefix of that is a legal state: after a crash the vehicle has the old model or the
//! new one, complete.

mod documents;
mod error;
mod fs;
mod installed;
mod real;
mod record;
mod seal;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slot;
mod state;

#[cfg(test)]
mod tests;

use std::{io::ErrorKind, ops::Range, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use switchback_signing::digest::Sha256Digest;

pub use documents::{DOCUMENT_BYTES_MAX, Folder};
pub(crate) use error::{DISK_FULL, READ_ONLY, SPACE_MISSING};
pub use error::{Operation, StoreError};
pub use fs::{Access, DirEntry, EntryKind, File, Fs, Site};
pub use installed::{InstalledFiles, InstalledRelease};
pub use real::RealFs;
pub use seal::{Seal, Stamp};
pub use slot::{Installation, InstalledModel, Resumption};
pub use state::{Failure, FailureCount, Occupant, SlotId, SlotState, State, TRIES_MAX, Verdict};

use error::{failed, sync_failed};
use record::RecordPair;
use slot::OpenPosition;

/// Most bytes that are downloaded between two checkpoints unless the vehicle is configured otherwise, and so the most that a power cut costs again. A sync every 16 MiB was
/// measured at a fifth of the disk's speed, every 64 MiB costs a few percent.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Longest time between two checkpoints while chunks arrive: on a slow link 64 MiB are minutes of paid traffic.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Free bytes that stay for metadata, records, the vehicle's own logs and the file system's bookkeeping.
pub const SPACE_RESERVE: u64 = 16 << 20;

/// Numbers of the reasons that the store itself gives: every trial of a release was cut off, perhaps by the release,
const TRIAL_GIVEN_UP: u32 = 340;
/// or so many loads were,
const LOAD_GIVEN_UP: u32 = 341;
/// or so many shadow runs.
const SHADOW_GIVEN_UP: u32 = 342;

const STATE: [&str; 2] = ["state.0", "state.1"];
const CHECKPOINT: [&str; 2] = ["checkpoint.0", "checkpoint.1"];

/// A release that is about to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Which release it is.
    pub occupant: Occupant,
    /// Length of its uncompressed archive, which is a little more than the sum of its files.
    pub tar_length: u64,
}

/// A confirmation that is on record; what is needed to [take it back](Store::take_back).
#[derive(Debug)]
pub struct Confirmation {
    slot: SlotId,
    floor_before: u64,
}

/// How far a download got, as it is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    /// Equals that of the slot's `Writing` state, or the checkpoint belongs to an earlier attempt.
    begun: u64,
    next_chunk: u64,
    open: Option<OpenFileRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenFileRecord {
    path: String,
    written: u64,
}

/// What the start found that an orderly end would not have left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Power was lost while a record was written; the one before it counts.
    RecordTorn,
    /// A download was interrupted and can go on.
    DownloadInterrupted {
        /// The release.
        occupant: Occupant,
        /// The first chunk that is not on the disk yet.
        next_chunk: u64,
    },
    /// A trial was interrupted; the release will be tried again.
    TrialInterrupted {
        /// The release.
        occupant: Occupant,
        /// Trials that may still begin.
        tries_left: u8,
    },
    /// Every trial of the release was interrupted; it is in quarantine.
    TrialGivenUp {
        /// The release.
        occupant: Occupant,
    },
    /// Loads of the release ended with the process, this many; it will be loaded again.
    LoadInterrupted {
        /// The release.
        occupant: Occupant,
        /// Loads that began and did not end.
        times: u8,
    },
    /// Shadow runs of the release ended with the process, this many; it will be tried again.
    ShadowInterrupted {
        /// The release.
        occupant: Occupant,
        /// Shadow runs that began and did not end.
        times: u8,
    },
    /// So many loads of the release ended with the process that it is in quarantine.
    LoadGivenUp {
        /// The release.
        occupant: Occupant,
    },
    /// So many shadow runs of the release ended with the process that it is in quarantine.
    ShadowGivenUp {
        /// The release.
        occupant: Occupant,
    },
    /// Files that belonged to nothing were removed.
    LeftoversRemoved {
        /// Number of files.
        files: usize,
    },
}

/// The vehicle's disk.
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    state: State,
    records: RecordPair,
    checkpoints: RecordPair,
    checkpoint: Option<Checkpoint>,
}

impl Store {
    /// Opens the store below `base` on the real file system, making it where it does not exist.
    ///
    /// # Errors
    /// `InUse` when another process has it open, and what [`Store::open`] returns.
    pub fn open_dir(base: &Path) -> Result<(Self, Vec<Finding>), StoreError> {
        let fs = RealFs::open(base).map_err(|error| match error.kind() {
            ErrorKind::ResourceBusy => StoreError::InUse { path: base.to_owned() },
            _ => failed(Operation::Open, base)(error),
        })?;
        Self::open(Arc::new(fs))
    }

    /// Opens the store, finishes what a crash interrupted and removes what it left.
    ///
    /// # Errors
    /// `StateLost` when neither state record can be read although the store was in use; `StateFormat` when a newer release of the
    /// SDK wrote them; else what the disk says.
    pub fn open(fs: Arc<dyn Fs>) -> Result<(Self, Vec<Finding>), StoreError> {
        let mut findings = Vec::new();
        let (records, found) = RecordPair::open(Arc::clone(&fs), STATE)?;
        if found.torn {
            findings.push(Finding::RecordTorn);
        }
        let (checkpoints, checkpoint) = RecordPair::open(Arc::clone(&fs), CHECKPOINT)?;
        let mut store = match found.value {
            Some(state) => Self { fs, state, records, checkpoints, checkpoint: checkpoint.value },
            None => Self::create(fs)?,
        };
        store.make_folders()?;
        for slot in SlotId::ALL {
            store.settle(slot, &mut findings)?;
        }
        let files = store.collect_leftovers()?;
        if files > 0 {
            findings.push(Finding::LeftoversRemoved { files });
        }
        Ok((store, findings))
    }

    /// A number that rises with everything that the store is told to remember, over all starts.
    pub fn generation(&self) -> u64 {
        self.records.generation()
    }

    /// What the store remembers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reads the release in `slot` back and compares every byte with what was signed. Required before each load: the disk may have
    /// changed since the last one.
    ///
    /// # Errors
    /// `IllegalMove` when the slot holds nothing complete; `ContentHash`, `ContentLength`, `ContentMissing`, `ContentForeign` or
    /// `ManifestRefused` when it is not what was signed.
    pub fn load(&self, slot: SlotId) -> Result<InstalledModel, StoreError> {
        let state = self.state.slot(slot);
        let occupant = state.complete().ok_or(StoreError::IllegalMove { slot, state: state.name(), wanted: "loaded" })?;
        slot::read_back(&self.fs, slot, occupant)
    }

    /// Makes a slot ready for a release: the one that is neither active nor the fallback. Goes on where an interrupted download of
    /// the same release stopped.
    ///
    /// # Errors
    /// `NoFreeSlot` during a trial; `SpaceMissing` before anything was changed; else what the disk says.
    pub fn prepare(&mut self, incoming: &Incoming) -> Result<Installation, StoreError> {
        let slot = self.state.writable()?;
        self.check_space(slot, incoming.tar_length)?;
        if let Some(installation) = self.resume(slot, incoming)? {
            return Ok(installation);
        }
        // The slot is invalid on the disk before its first byte changes.
        let begun = self.records.generation() + 1;
        self.commit(self.state.with_slot(slot, SlotState::Writing { occupant: incoming.occupant.clone(), begun })?)?;
        slot::clear(self.fs.as_ref(), slot)?;
        Ok(Installation::new(Arc::clone(&self.fs), slot, begun))
    }

    /// Remembers that every chunk before `next_chunk` is on the disk. Costs a sync: call it every [`CHECKPOINT_BYTES`] or
    /// [`CHECKPOINT_INTERVAL`], whichever comes first.
    ///
    /// # Errors
    /// What the disk says; after `SyncFailed` the installation must be dropped.
    pub fn checkpoint(&mut self, installation: &mut Installation, next_chunk: u64) -> Result<(), StoreError> {
        // The data first: a checkpoint that is ahead of its data would promise bytes that are not there.
        installation.sync()?;
        let open = installation.open_position().map(|OpenPosition { path, written }| OpenFileRecord { path, written });
        let checkpoint = Checkpoint { begun: installation.begun(), next_chunk, open };
        self.checkpoints.write(&checkpoint)?;
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Completes a release: syncs it, reads it back, and declares it ready for its trial.
    ///
    /// # Errors
    /// What [`Store::load`] returns when the disk does not give back what was written; else what the disk says. The caller then
    /// [rejects](Store::reject) the slot.
    pub fn finish(&mut self, mut installation: Installation) -> Result<InstalledModel, StoreError> {
        let slot = installation.slot();
        installation.sync()?;
        let state = self.state.slot(slot);
        let SlotState::Writing { occupant, .. } = state else {
            return Err(StoreError::IllegalMove { slot, state: state.name(), wanted: "pending" });
        };
        let model = slot::read_back(&self.fs, slot, occupant)?;
        let tries_left = TRIES_MAX - self.state.failures(&occupant.index_sha256).min(TRIES_MAX - 1);
        let pending = SlotState::pending(occupant.clone(), tries_left);
        self.commit(self.state.with_slot(slot, pending)?)?;
        Ok(model)
    }

    /// Counts a load of the release in `slot`. Call it before ONNX Runtime sees the model: one that takes the process down with it would
    /// be loaded again at every start, for ever.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not pending; else what the disk says.
    pub fn begin_load(&mut self, slot: SlotId) -> Result<(), StoreError> {
        self.count_run(slot, |loads, _| *loads = loads.saturating_add(1))
    }

    /// The load of the release in `slot` ended with the process alive, or the vehicle is being switched off in good order: it does not
    /// count.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not pending; else what the disk says.
    pub fn end_load(&mut self, slot: SlotId) -> Result<(), StoreError> {
        self.count_run(slot, |loads, _| *loads = loads.saturating_sub(1))
    }

    /// The load of the release in `slot` ended and its shadow run begins, which is counted like the load and for the same reason: live
    /// frames may do to the process what the golden inputs did not.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not pending; else what the disk says.
    pub fn begin_shadow(&mut self, slot: SlotId) -> Result<(), StoreError> {
        self.count_run(slot, |loads, shadows| (*loads, *shadows) = (loads.saturating_sub(1), shadows.saturating_add(1)))
    }

    /// The shadow run of the release in `slot` ended with the process alive, or the vehicle is being switched off in good order: it
    /// does not count.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not pending; else what the disk says.
    pub fn end_shadow(&mut self, slot: SlotId) -> Result<(), StoreError> {
        self.count_run(slot, |_, shadows| *shadows = shadows.saturating_sub(1))
    }

    fn count_run(&mut self, slot: SlotId, count: impl FnOnce(&mut u8, &mut u8)) -> Result<(), StoreError> {
        let mut state = self.state.slot(slot).clone();
        let SlotState::Pending { loads_begun, shadows_begun, .. } = &mut state else {
            return Err(StoreError::IllegalMove { slot, state: state.name(), wanted: "loading" });
        };
        count(loads_begun, shadows_begun);
        self.commit(self.state.with_slot(slot, state)?)
    }

    /// Counts a try of the release in `slot`. Call it before the model may drive, and swap only after it returned.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not pending or has no try left; else what the disk says.
    pub fn begin_trial(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let state = self.state.slot(slot);
        let refused = StoreError::IllegalMove { slot, state: state.name(), wanted: "trial" };
        let SlotState::Pending { occupant, tries_left, .. } = state else {
            return Err(refused);
        };
        let tries_left = tries_left.checked_sub(1).ok_or(refused)?;
        self.commit(self.state.with_slot(slot, SlotState::Trial { occupant: occupant.clone(), tries_left })?)
    }

    /// Ends a trial without a verdict, because the vehicle is being switched off in good order: the try is given back.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not in its trial; else what the disk says.
    pub fn suspend_trial(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let state = self.state.slot(slot);
        let SlotState::Trial { occupant, tries_left } = state else {
            return Err(StoreError::IllegalMove { slot, state: state.name(), wanted: "pending" });
        };
        let pending = SlotState::pending(occupant.clone(), tries_left + 1);
        self.commit(self.state.with_slot(slot, pending)?)
    }

    /// The trial in `slot` was passed: from now on this release is what the vehicle starts with, and the floor is its counter.
    ///
    /// # Errors
    /// `IllegalMove` when the slot is not in its trial; else what the disk says.
    pub fn confirm(&mut self, slot: SlotId) -> Result<Confirmation, StoreError> {
        let confirmation = Confirmation { slot, floor_before: self.state.floor() };
        self.commit(self.state.with_confirmed(slot)?)?;
        Ok(confirmation)
    }

    /// Takes a confirmation back that was recorded and not acted on: the release failed before the one before it was let go. That one
    /// is confirmed again, and the floor is what it was.
    ///
    /// # Errors
    /// What the disk says.
    pub fn take_back(&mut self, confirmation: Confirmation, failure: Failure<'_>) -> Result<(), StoreError> {
        let Confirmation { slot, floor_before } = confirmation;
        self.commit(self.state.without_confirmation(slot, floor_before, failure)?)?;
        slot::clear(self.fs.as_ref(), slot)?;
        Ok(())
    }

    /// Gives up the release in `slot`: it failed before, in or after its trial, or a newer one takes its place.
    ///
    /// # Errors
    /// What the disk says.
    pub fn reject(&mut self, slot: SlotId, failure: Failure<'_>) -> Result<(), StoreError> {
        self.commit(self.state.with_invalid(slot, failure)?)?;
        slot::clear(self.fs.as_ref(), slot)?;
        Ok(())
    }

    /// Remembers a failure of a release that never got into a slot.
    ///
    /// # Errors
    /// What the disk says.
    pub fn count_failure(&mut self, index_sha256: Sha256Digest, failure: Failure<'_>) -> Result<(), StoreError> {
        self.commit(self.state.with_failure(index_sha256, failure))
    }

    /// Takes numbers for `count` reports. A number is never given out twice, also not after a crash; some may be skipped.
    ///
    /// # Errors
    /// What the disk says.
    pub fn reserve_report_counters(&mut self, count: u64) -> Result<Range<u64>, StoreError> {
        let first = self.state.report_counter();
        let end = first.saturating_add(count);
        self.commit(self.state.with_report_counter(end))?;
        Ok(first..end)
    }

    /// Names of the documents in `folder`, sorted.
    ///
    /// # Errors
    /// What the disk says.
    pub fn documents(&self, folder: Folder) -> Result<Vec<String>, StoreError> {
        documents::list(self.fs.as_ref(), folder)
    }

    /// Content of a document; `None` when there is none.
    ///
    /// # Errors
    /// What the disk says; a document above [`DOCUMENT_BYTES_MAX`] is refused.
    pub fn read_document(&self, folder: Folder, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        documents::read(self.fs.as_ref(), folder, name)
    }

    /// Replaces a document; durable on return.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_document(&mut self, folder: Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        documents::write(self.fs.as_ref(), folder, name, bytes)
    }

    /// Removes a document; durable on return.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_document(&mut self, folder: Folder, name: &str) -> Result<(), StoreError> {
        documents::remove(self.fs.as_ref(), folder, name)
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// What the disk says.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        self.fs.free_bytes().map_err(failed(Operation::Measure, Path::new("")))
    }

    /// Makes the records of a new store. The slots are made afterwards: where they exist, records existed.
    fn create(fs: Arc<dyn Fs>) -> Result<Self, StoreError> {
        let base = Path::new("");
        let entries = fs.read_dir(base).map_err(failed(Operation::List, base))?;
        if entries.iter().any(|entry| entry.name == slot::SLOTS) {
            return Err(StoreError::StateLost);
        }
        let mut records = RecordPair::create(Arc::clone(&fs), STATE)?;
        let checkpoints = RecordPair::create(Arc::clone(&fs), CHECKPOINT)?;
        // The names first: once a state can be read, all four files exist.
        fs.sync_dir(base, Site::here()).map_err(sync_failed(base))?;
        let state = State::new();
        records.write(&state)?;
        Ok(Self { fs, state, records, checkpoints, checkpoint: None })
    }

    /// Makes the folders that do not exist yet, and durable what another process may have named without living to sync it: everything that
    /// is confirmed from now on hangs on those names.
    fn make_folders(&self) -> Result<(), StoreError> {
        let base = Path::new("");
        let slots = Path::new(slot::SLOTS);
        let mut new_in_base = self.make_folder(slots)?;
        for folder in Folder::ALL {
            new_in_base |= self.make_folder(Path::new(folder.name()))?;
        }
        let mut new_in_slots = false;
        for slot in SlotId::ALL {
            new_in_slots |= self.make_folder(&slot::directory(slot))?;
        }
        let own = [
            (new_in_slots, self.fs.sync_dir(slots, Site::here()).map_err(sync_failed(slots))),
            (new_in_base, self.fs.sync_dir(base, Site::here()).map_err(sync_failed(base))),
        ];
        let documents = Folder::ALL.map(|folder| (false, documents::sync(self.fs.as_ref(), folder)));
        for (is_new, synced) in own.into_iter().chain(documents) {
            match synced {
                // What was found was durable before but for a process that was killed at the wrong instant, and a disk that has begun to
                // fail can still be read: the vehicle drives.
                Err(error) if !is_new => tracing::warn!(%error, "names that were found cannot be made durable"),
                result => result?,
            }
        }
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> Result<bool, StoreError> {
        match self.fs.create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed(Operation::Create, path)(error)),
        }
    }

    /// Brings a slot from what a crash left to a state that the vehicle can go on from.
    fn settle(&mut self, slot: SlotId, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        match self.state.slot(slot).clone() {
            SlotState::Pending { occupant, loads_begun: TRIES_MAX.., .. } => {
                self.give_up(slot, LOAD_GIVEN_UP, "load_interrupted")?;
                findings.push(Finding::LoadGivenUp { occupant });
            }
            SlotState::Pending { occupant, shadows_begun: TRIES_MAX.., .. } => {
                self.give_up(slot, SHADOW_GIVEN_UP, "shadow_interrupted")?;
                findings.push(Finding::ShadowGivenUp { occupant });
            }
            SlotState::Pending { occupant, loads_begun, shadows_begun, .. } => {
                if loads_begun > 0 {
                    findings.push(Finding::LoadInterrupted { occupant: occupant.clone(), times: loads_begun });
                }
                if shadows_begun > 0 {
                    findings.push(Finding::ShadowInterrupted { occupant, times: shadows_begun });
                }
            }
            SlotState::Invalid | SlotState::Confirmed { .. } | SlotState::Previous { .. } => {}
            SlotState::Writing { occupant, begun } => {
                if let Some(checkpoint) = self.checkpoint_of(begun) {
                    findings.push(Finding::DownloadInterrupted { occupant, next_chunk: checkpoint.next_chunk });
                }
            }
            SlotState::Trial { occupant, tries_left: 0 } => {
                self.give_up(slot, TRIAL_GIVEN_UP, "trial_interrupted")?;
                findings.push(Finding::TrialGivenUp { occupant });
            }
            SlotState::Trial { occupant, tries_left } => {
                self.commit(self.state.with_slot(slot, SlotState::pending(occupant.clone(), tries_left))?)?;
                findings.push(Finding::TrialInterrupted { occupant, tries_left });
            }
        }
        Ok(())
    }

    fn give_up(&mut self, slot: SlotId, number: u32, name: &str) -> Result<(), StoreError> {
        self.commit(self.state.with_invalid(slot, Failure { verdict: Verdict::Condemned, number, name })?)
    }

    fn collect_leftovers(&self) -> Result<usize, StoreError> {
        let mut files = 0;
        for folder in Folder::ALL {
            files += documents::collect_unfinished(self.fs.as_ref(), folder)?;
        }
        for slot in SlotId::ALL {
            let useless = match self.state.slot(slot) {
                SlotState::Invalid => true,
                SlotState::Writing { begun, .. } => self.checkpoint_of(*begun).is_none(),
                SlotState::Pending { .. } | SlotState::Trial { .. } | SlotState::Confirmed { .. } | SlotState::Previous { .. } => false,
            };
            if useless {
                files += slot::clear(self.fs.as_ref(), slot)?;
            }
        }
        Ok(files)
    }

    fn checkpoint_of(&self, begun: u64) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().filter(|checkpoint| checkpoint.begun == begun)
    }

    fn check_space(&self, slot: SlotId, tar_length: u64) -> Result<(), StoreError> {
        let free = self.free_bytes()?;
        let free = free.saturating_add(slot::used_bytes(self.fs.as_ref(), slot)?);
        let needed = tar_length.saturating_add(SPACE_RESERVE);
        if free < needed { Err(StoreError::SpaceMissing { needed, free }) } else { Ok(()) }
    }

    fn resume(&self, slot: SlotId, incoming: &Incoming) -> Result<Option<Installation>, StoreError> {
        let SlotState::Writing { occupant, begun } = self.state.slot(slot) else {
            return Ok(None);
        };
        let Some(checkpoint) = self.checkpoint_of(*begun).filter(|_| *occupant == incoming.occupant) else {
            return Ok(None);
        };
        let open = checkpoint.open.as_ref().map(|open| OpenPosition { path: open.path.clone(), written: open.written });
        Installation::new(Arc::clone(&self.fs), slot, *begun).resume(occupant.manifest_sha256, checkpoint.next_chunk, open)
    }

    /// Every decision is on the disk before it is acted on.
    #[track_caller]
    fn commit(&mut self, state: State) -> Result<(), StoreError> {
        self.records.write(&state)?;
        self.state = state;
        Ok(())
    }
}
