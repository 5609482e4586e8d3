//! Whether files that were read back are still the same while somebody else opens them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::fs::Fs;

/// What a file system says about a file or folder, and changes with every change to it. A program can set the time of modification, but
/// not the time of the change itself; a file that was exchanged has another number, one that was moved away and back another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Device.
    pub device: u64,
    /// Number on that device.
    pub node: u64,
    /// Length, bytes.
    pub length: u64,
    /// Last change of the content, seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Last change of content, names or attributes, seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// The files of a slot as they were when they were read back.
///
/// ONNX Runtime opens them by their names and by itself, after the hashes were checked: asked once it has read them, the seal says
/// whether they were the same files all the time. Whoever can write below the store is its user or the system's administrator; the
/// latter could also set the clock back, and nothing in this process would notice.
#[derive(Debug)]
pub struct Seal {
    fs: Arc<dyn Fs>,
    stamps: Vec<(PathBuf, Stamp)>,
}

impl Seal {
    pub(super) fn new(fs: Arc<dyn Fs>, stamps: Vec<(PathBuf, Stamp)>) -> Self {
        Self { fs, stamps }
    }

    /// The first file or folder that is not as it was when it was read back; what cannot be looked at is not.
    pub fn broken(&self) -> Option<&Path> {
        let is_broken = |(path, stamp): &&(PathBuf, Stamp)| self.fs.stamp(path).ok() != Some(*stamp);
        self.stamps.iter().find(is_broken).map(|(path, _)| path.as_path())
    }
}
