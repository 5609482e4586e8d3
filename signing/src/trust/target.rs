use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
};

use super::TrustError;
use crate::{
    bundle::ChunkIndex,
    digest::{Sha256Digest, Sha512Digest},
    metadata::{Custom, Hashes},
};

/// Proof that Director and Image repository agree on a release, and that it is meant for this vehicle.
///
/// Only a [`super::MetadataCheck`] that went through every step makes one; installing demands it. It cannot be cloned, parsed or
/// built, so that no path leads around the check.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedTarget {
    path: String,
    length: u64,
    sha256: Sha256Digest,
    /// SHA-512 digests that the two repositories list on top (Uptane, 5.4.4.8: every hash is checked).
    also: [Option<Sha512Digest>; 2],
    release: Box<Custom>,
    consistent_snapshot: bool,
}

/// What the check found out about a target.
pub(super) struct Findings {
    pub(super) path: String,
    pub(super) length: u64,
    pub(super) sha256: Sha256Digest,
    pub(super) also: [Option<Sha512Digest>; 2],
    pub(super) release: Custom,
    pub(super) consistent_snapshot: bool,
}

impl VerifiedTarget {
    pub(super) fn new(findings: Findings) -> Result<Self, TrustError> {
        let Findings { path, length, sha256, also, release, consistent_snapshot } = findings;
        for path in [&path, &release.bundle.path] {
            check_path(path)?;
        }
        Ok(Self { path, length, sha256, also, release: Box::new(release), consistent_snapshot })
    }

    /// Target path of the chunk index, such as `ultra/vla-2-2.0.0.index`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Length of the chunk index, bytes. Nothing longer need be read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the chunk index.
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// What both repositories say about the release.
    pub fn release(&self) -> &Custom {
        &self.release
    }

    /// Where the chunk index lies below the Image repository's `targets/`, such as `ultra/HASH.vla-2-2.0.0.index`.
    pub fn fetch_path(&self) -> String {
        self.consistent(&self.path, self.sha256)
    }

    /// Where the bundle lies below the Image repository's `targets/`.
    pub fn bundle_fetch_path(&self) -> String {
        self.consistent(&self.release.bundle.path, self.release.bundle.sha256)
    }

    /// Takes the fetched bytes of the chunk index for what the metadata says they are (Uptane, 5.4.4.8: verify images).
    ///
    /// # Errors
    /// [`TrustError`] when length or digest differ, when the signed index cannot be read, or when it is of another bundle.
    pub fn verify_index(&self, bytes: &[u8]) -> Result<ChunkIndex, TrustError> {
        let path = || self.path.clone();
        let found = bytes.len() as u64;
        if found != self.length {
            return Err(TrustError::IndexLength { path: path(), found, listed: self.length });
        }
        for sha512 in self.also {
            let listed = Hashes { sha512, ..Hashes::of_sha256(self.sha256) };
            listed.verify(bytes).map_err(|digests| TrustError::IndexDigest { path: path(), digests })?;
        }
        let index = ChunkIndex::parse(bytes).map_err(|problem| TrustError::IndexMalformed { path: path(), problem })?;
        let (found, listed) = (index.bundle_sha256(), self.release.bundle.sha256);
        if found != listed || index.bundle_length() != self.release.bundle.length {
            return Err(TrustError::IndexOfOtherBundle { path: path(), found, listed });
        }
        Ok(index)
    }

    fn consistent(&self, path: &str, sha256: Sha256Digest) -> String {
        if self.consistent_snapshot { consistent(path, &sha256.to_hex()) } else { path.to_string() }
    }
}

/// TUF specification, step 5.7.3: a consistent snapshot keeps a file under its digest, in the file's folder.
pub(super) fn consistent(path: &str, digest: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{digest}.{name}"),
        None => format!("{digest}.{path}"),
    }
}

/// Longest target path, bytes; a digest and a dot come on top where a file system allows 255 in a name.
const PATH_BYTES_MAX: usize = 180;

/// A target path becomes part of a URL and of file names, so it is held to what means the same in each.
pub(super) fn check_path(path: &str) -> Result<(), TrustError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let legal_segment = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(legal);
    if path.len() <= PATH_BYTES_MAX && path.split('/').all(legal_segment) {
        return Ok(());
    }
    Err(TrustError::TargetPath { path: path.to_string() })
}
