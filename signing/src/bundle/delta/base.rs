//! The release that a delta starts from.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    bundle::{BundleError, ChunkIndex, Manifest, manifest::FileEntry},
    digest::Sha256Digest,
};

/// Which release a delta starts from. Whoever has another one restores nothing: the hash of every chunk says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRelease {
    /// SHA-256 of its chunk index: the identity of a release.
    pub index_sha256: Sha256Digest,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Sha256Digest,
    /// Its release counter.
    pub release_counter: u64,
    /// The files that a delta may refer to, by their position here: those of the manifest, in its order.
    pub files: Vec<FileEntry>,
}

impl BaseRelease {
    /// The release of this index and manifest, which belong together.
    pub fn of(index: &ChunkIndex, manifest: &Manifest) -> Self {
        Self {
            index_sha256: index.sha256(),
            manifest_sha256: index.manifest_sha256(),
            release_counter: manifest.release.release_counter,
            files: manifest.files.clone(),
        }
    }

    /// Whether the release that is installed is this one.
    ///
    /// # Errors
    /// `DeltaBase` when it is not.
    pub fn check(&self, installed: &Self) -> Result<(), BundleError> {
        if self == installed {
            return Ok(());
        }
        Err(BundleError::DeltaBase {
            expected: self.index_sha256,
            expected_counter: self.release_counter,
            found: installed.index_sha256,
            found_counter: installed.release_counter,
        })
    }
}

/// The bytes of the base's files, wherever they are. What is read is never believed: what it makes is checked.
pub trait Base {
    /// Why bytes could not be read.
    type Error: fmt::Display;

    /// Fills `into` with the bytes of file number `file`, in the order of [`BaseRelease::files`], from `offset` on. All of them lie within the
    /// length that the delta states for the file; on the disk it may be shorter, and then this is an error.
    ///
    /// # Errors
    /// When it cannot be filled.
    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), Self::Error>;
}
