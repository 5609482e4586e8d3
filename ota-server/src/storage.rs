//! Bytes of targets, each under a name that begins with its SHA-256: what is stored never changes, only appears.

use std::path::{Path, PathBuf};

use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart, local::LocalFileSystem,
    path::Path as ObjectPath,
};
use sha2::{Digest, Sha256};
use switchback_signing::keys::Sha256Digest;

/// Pieces that go to the store at once. S3 wants at least 5 MiB in every piece but the last.
const PIECE_BYTES: usize = 5 << 20;
/// Pieces under way at the same time; bounds the memory of an upload at any size of the bundle.
const PIECES_MAX: usize = 2;

/// Why bytes could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The bytes are not the ones that the name promises.
    #[error("the uploaded bytes hash to {actual}, the name says {expected}")]
    WrongHash {
        /// SHA-256 in the name.
        expected: Sha256Digest,
        /// SHA-256 of the bytes.
        actual: Sha256Digest,
    },
    /// More bytes than a target may have.
    #[error("the upload is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// The store failed.
    #[error("storage: {0}")]
    Store(#[from] object_store::Error),
    /// The folder cannot be used.
    #[error("{path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Path of a target, as requests name it: `DIR/HASH.NAME`, the consistent snapshot of the target `DIR/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFile {
    folder: String,
    sha256: Sha256Digest,
    name: String,
}

impl TargetFile {
    /// From the two parts of a request path. Both are names of the closed alphabet, so that no path can leave the store.
    #[must_use]
    pub fn parse(folder: &str, file: &str) -> Option<Self> {
        let (hash, name) = file.split_once('.')?;
        let plain = |text: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            text.len() <= 160 && text.bytes().all(legal) && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        };
        let lower = hash.bytes().all(|byte| !byte.is_ascii_uppercase());
        let sha256 = Sha256Digest::from_hex(hash).filter(|_| lower)?;
        (plain(folder) && plain(name)).then(|| Self { folder: folder.to_owned(), sha256, name: name.to_owned() })
    }

    /// The consistent snapshot of the target at `path` (TUF specification, section 6.2).
    #[must_use]
    pub fn of(path: &str, sha256: Sha256Digest) -> Option<Self> {
        let (folder, name) = path.split_once('/')?;
        Self::parse(folder, &format!("{sha256}.{name}"))
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub const fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// Where it lies below the Image repository's `targets/`: `FOLDER/HASH.NAME`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}.{}", self.folder, self.sha256, self.name)
    }

    /// Path of the target, without digest.
    #[must_use]
    pub fn target_path(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }

    fn location(&self) -> ObjectPath {
        ObjectPath::from_iter(["targets", &self.folder, &format!("{}.{}", self.sha256, self.name)])
    }
}

/// The store of target bytes.
#[derive(Debug)]
pub struct Storage {
    store: Box<dyn ObjectStore>,
}

impl Storage {
    /// Keeps bytes in a local folder. Files are flushed and appear under their name only when complete.
    pub fn local(folder: &Path) -> Result<Self, StorageError> {
        let wrong = |source| StorageError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(wrong)?;
        remove_broken_uploads(folder).map_err(wrong)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store: Box::new(store) })
    }

    /// Length of a target's bytes, if they are there.
    pub async fn length(&self, file: &TargetFile) -> Result<Option<u64>, StorageError> {
        match self.store.head(&file.location()).await {
            Ok(ObjectMeta { size, .. }) => Ok(Some(size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a target's bytes, whole or in part.
    pub async fn open(&self, file: &TargetFile, range: Option<core::ops::Range<u64>>) -> Result<GetResult, StorageError> {
        let range = range.map(GetRange::Bounded);
        Ok(self.store.get_opts(&file.location(), GetOptions { range, ..GetOptions::default() }).await?)
    }

    /// Begins to take a target's bytes, at most `bytes_max` of them.
    pub async fn receive(&self, file: &TargetFile, bytes_max: u64) -> Result<Incoming, StorageError> {
        let upload = self.store.put_multipart(&file.location()).await?;
        Ok(Incoming {
            upload: WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES),
            expected: file.sha256,
            hash: Sha256::new(),
            length: 0,
            bytes_max,
        })
    }
}

/// A target on its way into the store. It appears there when [`Incoming::finish`] has found its hash right, and not before.
#[derive(Debug)]
pub struct Incoming {
    upload: WriteMultipart,
    expected: Sha256Digest,
    hash: Sha256,
    length: u64,
    bytes_max: u64,
}

impl Incoming {
    /// Takes the next bytes.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.length += bytes.len() as u64;
        if self.length > self.bytes_max {
            return Err(StorageError::TooLong { bytes_max: self.bytes_max });
        }
        self.hash.update(bytes);
        self.upload.wait_for_capacity(PIECES_MAX).await?;
        self.upload.write(bytes);
        Ok(())
    }

    /// Puts the target under its name and returns its length.
    pub async fn finish(self) -> Result<u64, StorageError> {
        let actual = Sha256Digest::from_bytes(self.hash.finalize().into());
        if actual != self.expected {
            self.upload.abort().await?;
            return Err(StorageError::WrongHash { expected: self.expected, actual });
        }
        self.upload.finish().await?;
        Ok(self.length)
    }

    /// Forgets what came so far.
    pub async fn abort(self) -> Result<(), StorageError> {
        Ok(self.upload.abort().await?)
    }
}

/// A kill in the middle of an upload leaves its temporary file (`NAME#NUMBER`) behind; nobody will ever complete it.
fn remove_broken_uploads(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_broken_uploads(&entry.path())?;
        } else if entry.file_name().to_string_lossy().contains('#') {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_target_path_cannot_leave_the_store() {
        let hash = "0".repeat(64);
        assert!(TargetFile::parse("ultra", &format!("{hash}.vla-1.index")).is_some());
        for (folder, file) in [
            ("..", format!("{hash}.a")),
            (".", format!("{hash}.a")),
            ("", format!("{hash}.a")),
            ("a/b", format!("{hash}.a")),
            ("a", format!("{hash}./a")),
            ("a", format!("{hash}.")),
            ("a", hash.clone()),
            ("a", format!("{}.a", "F".repeat(64))),
            ("a", "vla-1.index".to_owned()),
        ] {
            assert_eq!(TargetFile::parse(folder, &file), None, "{folder} {file}");
        }
    }
}
