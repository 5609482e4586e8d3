//! What can go wrong on the vehicle's disk.

use std::{
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use switchback_signing::{bundle::BundleError, digest::Sha256Digest};
use thiserror::Error;

use super::SlotId;

/// Numbers of the errors that say that nothing can be written for now.
pub(crate) const DISK_FULL: u32 = 300;
pub(crate) const SPACE_MISSING: u32 = 301;
pub(crate) const READ_ONLY: u32 = 302;

/// What went wrong on the vehicle's disk. Numbers are stable: 300 to 399 belong to the store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk or the quota is full.
    #[error("the disk is full: cannot {operation} {}", path.display())]
    DiskFull {
        /// What was tried.
        operation: Operation,
        /// The file or directory, below the store's base directory.
        path: PathBuf,
    },
    /// The update would not fit; nothing was written.
    #[error("the update needs {needed} free bytes, the disk has {free}")]
    SpaceMissing {
        /// Bytes that the update needs, the reserve included.
        needed: u64,
        /// Bytes that are free, those of the slot to be overwritten included.
        free: u64,
    },
    /// The file system is mounted read-only, or became so after an error.
    #[error("the file system is read-only: cannot {operation} {}", path.display())]
    ReadOnly {
        /// What was tried.
        operation: Operation,
        /// The file or directory, below the store's base directory.
        path: PathBuf,
    },
    /// The system refused or the device failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: Operation,
        /// The file or directory, below the store's base directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The device could not keep what was written. Fatal for the slot: its content is unknown.
    #[error("the device lost what was written to {}", path.display())]
    SyncFailed {
        /// The file or directory, below the store's base directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses the store.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The store's base directory.
        path: PathBuf,
    },
    /// Both state records are unreadable although the store was in use: which model is confirmed is no longer known.
    #[error("both state records are damaged; which model was confirmed is not known")]
    StateLost,
    /// The state was written by a release of the SDK that this one does not understand.
    #[error("state record format {found} is unknown, this release reads {known}")]
    StateFormat {
        /// Format of the record.
        found: u32,
        /// Format that is read here.
        known: u32,
    },
    /// The state does not fit its record.
    #[error("the {record} record needs {found} bytes, it has room for {allowed}: the names of the release are too long")]
    RecordTooLong {
        /// Name of the record.
        record: &'static str,
        /// Bytes that fit.
        allowed: usize,
        /// Bytes that were to be written.
        found: usize,
    },
    /// Both slots are needed: one drives, the other is what to fall back to.
    #[error("both slots are in use: {active} drives, {fallback} is the fallback; one is free when the trial has ended")]
    NoFreeSlot {
        /// Slot that drives.
        active: SlotId,
        /// Slot to fall back to.
        fallback: SlotId,
    },
    /// The caller asked for a move that the state of the slot does not allow.
    #[error("slot {slot} is {state}, it cannot become {wanted}")]
    IllegalMove {
        /// The slot.
        slot: SlotId,
        /// State that it is in.
        state: &'static str,
        /// State that was asked for.
        wanted: &'static str,
    },
    /// A file in the slot is not the signed one.
    #[error("slot {slot}: {path} has SHA-256 {found}, the manifest says {expected}")]
    ContentHash {
        /// The slot.
        slot: SlotId,
        /// Path of the member.
        path: String,
        /// Digest in the manifest.
        expected: Sha256Digest,
        /// Digest of what is on the disk.
        found: Sha256Digest,
    },
    /// A file in the slot has another length than the signed one.
    #[error("slot {slot}: {path} has {found} bytes, the manifest says {expected}")]
    ContentLength {
        /// The slot.
        slot: SlotId,
        /// Path of the member.
        path: String,
        /// Length in the manifest.
        expected: u64,
        /// Length on the disk.
        found: u64,
    },
    /// A file of the release is not in the slot.
    #[error("slot {slot}: {path} is missing, although the release has it")]
    ContentMissing {
        /// The slot.
        slot: SlotId,
        /// Path of the member.
        path: String,
    },
    /// Something lies in the slot that does not belong to the release.
    #[error("slot {slot}: {path} does not belong to the release")]
    ContentForeign {
        /// The slot.
        slot: SlotId,
        /// Path of what was found.
        path: String,
    },
    /// The manifest in the slot is no longer accepted, for instance after the SDK was exchanged.
    #[error("slot {slot}: the installed manifest is refused")]
    ManifestRefused {
        /// The slot.
        slot: SlotId,
        /// Why.
        source: BundleError,
    },
}

impl StoreError {
    /// Stable number for the C interface and the fleet log; never reused.
    pub fn number(&self) -> u32 {
        self.code().0
    }

    /// Stable name, as the fleet log shows it.
    pub fn name(&self) -> &'static str {
        self.code().1
    }

    fn code(&self) -> (u32, &'static str) {
        match self {
            Self::DiskFull { .. } => (DISK_FULL, "disk_full"),
            Self::SpaceMissing { .. } => (SPACE_MISSING, "space_missing"),
            Self::ReadOnly { .. } => (READ_ONLY, "read_only"),
            Self::Io { .. } => (303, "io"),
            Self::SyncFailed { .. } => (304, "sync_failed"),
            Self::InUse { .. } => (305, "store_in_use"),
            Self::StateLost => (310, "state_lost"),
            Self::StateFormat { .. } => (311, "state_format"),
            Self::RecordTooLong { .. } => (312, "record_too_long"),
            Self::NoFreeSlot { .. } => (320, "no_free_slot"),
            Self::IllegalMove { .. } => (321, "illegal_move"),
            Self::ContentHash { .. } => (330, "content_hash"),
            Self::ContentLength { .. } => (331, "content_length"),
            Self::ContentMissing { .. } => (332, "content_missing"),
            Self::ContentForeign { .. } => (333, "content_foreign"),
            Self::ManifestRefused { .. } => (334, "manifest_refused"),
        }
    }
}

/// What was tried when the disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a file or the store itself.
    Open,
    /// Making a file or directory.
    Create,
    /// Reserving space.
    Allocate,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Listing a directory.
    List,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Asking how much space is free.
    Measure,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Allocate => "reserve space for",
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Measure => "measure the free space of",
        })
    }
}

/// Turns an error of the system into one that says what was tried, on what.
pub(super) fn failed<'a>(operation: Operation, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull { operation, path },
            ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { operation, path },
            _ => StoreError::Io { operation, path, source },
        }
    }
}

/// The error of a failed sync, which is always fatal for what was written.
pub(super) fn sync_failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| match source.kind() {
        // Delayed allocation reports a full disk here; nothing is wrong with the device.
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull { operation: Operation::Write, path: path.to_owned() },
        _ => StoreError::SyncFailed { path: path.to_owned(), source },
    }
}
