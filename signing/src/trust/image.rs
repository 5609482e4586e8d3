use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::TrustError;
use crate::metadata::{EcuSerial, Hashes, HashesCheck, TargetMeta, json::Json};

/// Proof that Director and Image repository agree on an image and that it is meant for these ECUs.
///
/// Only a check that went through every step makes one. It cannot be cloned, parsed or built.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedImage {
    path: String,
    /// The Image repository's word, with the digests of both repositories.
    meta: TargetMeta,
    ecus: Listed,
    release_counter: Option<u64>,
    unshared: Unshared,
    consistent_snapshot: bool,
}

/// The Director's word alone, for one vehicle. What it says is for releases to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unshared {
    /// The sealed key of its bundle.
    pub(super) content_key: Option<Json>,
    /// A delta from what the vehicle has.
    pub(super) delta: Option<Json>,
}

/// The ECUs that an image is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Those that do not run it yet.
    pub(super) ecus: Vec<EcuSerial>,
    /// Those that do.
    pub(super) running: Vec<EcuSerial>,
}

/// Checks a target that arrives piece by piece.
#[derive(Debug)]
pub struct FileCheck<'a> {
    path: &'a str,
    length: u64,
    found: u64,
    hashes: HashesCheck,
}

impl VerifiedImage {
    pub(super) fn new(
        path: String,
        meta: TargetMeta,
        ecus: Listed,
        release_counter: Option<u64>,
        unshared: Unshared,
        consistent_snapshot: bool,
    ) -> Result<Self, TrustError> {
        check_relative(&path)?;
        Ok(Self { path, meta, ecus, release_counter, unshared, consistent_snapshot })
    }

    /// The target path. It stays below a folder that it is appended to; whoever makes an address of it quotes it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Length, bytes. Nothing longer need be read.
    pub fn length(&self) -> u64 {
        self.meta.length
    }

    /// Every digest that one of the two repositories lists.
    pub fn hashes(&self) -> &Hashes {
        &self.meta.hashes
    }

    /// The ECUs that it is for and that do not run it yet.
    pub fn ecus(&self) -> &[EcuSerial] {
        &self.ecus.ecus
    }

    /// The ECUs that it is for and that run it already.
    pub fn running(&self) -> &[EcuSerial] {
        &self.ecus.running
    }

    /// Its release counter, where one is listed.
    pub fn release_counter(&self) -> Option<u64> {
        self.release_counter
    }

    /// What the Image repository says about it on top.
    pub fn custom(&self) -> &BTreeMap<String, Json> {
        &self.meta.custom
    }

    /// Where the image may lie below the Image repository's targets, not quoted: a consistent snapshot keeps a copy under each digest
    /// (Uptane, 5.2.1), of which a repository may have only one.
    pub fn fetch_paths(&self) -> Vec<String> {
        let Hashes { sha256, sha512, .. } = &self.meta.hashes;
        let digests = [sha256.map(|digest| digest.to_hex()), sha512.map(|digest| digest.to_hex())];
        match self.consistent_snapshot {
            true => digests.iter().flatten().map(|digest| consistent(&self.path, digest)).collect(),
            false => [self.path.clone()].into(),
        }
    }

    /// Begins to check bytes that arrive piece by piece (Uptane, 5.4.4.8: length and every hash).
    pub fn check(&self) -> FileCheck<'_> {
        FileCheck::new(&self.path, self.meta.length, &self.meta.hashes)
    }

    /// The Image repository's word, with the digests of both repositories.
    pub(super) fn meta(&self) -> &TargetMeta {
        &self.meta
    }

    pub(super) fn unshared(&self) -> &Unshared {
        &self.unshared
    }

    pub(super) fn consistent_snapshot(&self) -> bool {
        self.consistent_snapshot
    }
}

impl<'a> FileCheck<'a> {
    pub(super) fn new(path: &'a str, length: u64, hashes: &Hashes) -> Self {
        Self { path, length, found: 0, hashes: hashes.check() }
    }

    /// The length that is listed, bytes. Nothing longer need be read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TrustError::FileLength`] as soon as there are more than listed.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        self.found += bytes.len() as u64;
        if self.found > self.length {
            return Err(self.wrong_length());
        }
        self.hashes.update(bytes);
        Ok(())
    }

    /// Takes the end of the bytes (TUF specification, step 5.7.3).
    ///
    /// # Errors
    /// [`TrustError`] when length or a digest differ.
    pub fn finish(self) -> Result<(), TrustError> {
        if self.found != self.length {
            return Err(self.wrong_length());
        }
        self.hashes.finish().map_err(|digests| TrustError::FileDigest { path: self.path.to_string(), digests })
    }

    fn wrong_length(&self) -> TrustError {
        TrustError::FileLength { path: self.path.to_string(), found: self.found, listed: self.length }
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

/// A release's path becomes part of a URL and of file names as it is, so it is held to what means the same in each.
pub(super) fn check_path(path: &str) -> Result<(), TrustError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let legal_segment = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(legal);
    if path.len() <= PATH_BYTES_MAX && path.split('/').all(legal_segment) {
        return Ok(());
    }
    Err(TrustError::TargetPath { path: path.to_string(), rule: "segments of A-Z a-z 0-9 . _ - joined by /" })
}

/// Longest target path of anybody's repository, bytes: the longest path that Linux takes.
const RELATIVE_PATH_BYTES_MAX: usize = 4_095;

/// Anybody's path: what is appended to a folder stays below it, on every system, and one path is not written in two ways.
fn check_relative(path: &str) -> Result<(), TrustError> {
    let legal_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    let legal = |text: char| !text.is_control() && text != '\\';
    if path.len() <= RELATIVE_PATH_BYTES_MAX && path.chars().all(legal) && path.split('/').all(legal_segment) {
        return Ok(());
    }
    Err(TrustError::TargetPath { path: path.to_string(), rule: "a relative path without empty segments, . and .." })
}
