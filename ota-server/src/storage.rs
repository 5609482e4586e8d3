//! Bytes of targets, each under a name that begins with its SHA-256: what is stored never changes, only appears.

use std::path::{Path, PathBuf};

use axum::body::Bytes;
use http_body_util::BodyExt;
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
    /// The client stopped sending.
    #[error("the upload broke off: {0}")]
    BrokenOff(axum::Error),
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

    /// Takes a target's bytes as they come. They appear in the store when all are there and hash to what the name says.
    pub async fn receive(&self, file: &TargetFile, body: axum::body::Body, bytes_max: u64) -> Result<u64, StorageError> {
        let upload = self.store.put_multipart(&file.location()).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
        match receive_into(&mut upload, file, body, bytes_max).await {
            Ok(length) => {
                upload.finish().await?;
                Ok(length)
            }
            Err(error) => {
                upload.abort().await?;
                Err(error)
            }
        }
    }
}

async fn receive_into(
    upload: &mut WriteMultipart,
    file: &TargetFile,
    mut body: axum::body::Body,
    bytes_max: u64,
) -> Result<u64, StorageError> {
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(StorageError::BrokenOff)?.into_data() else { continue };
        length += Bytes::len(&bytes) as u64;
        if length > bytes_max {
            return Err(StorageError::TooLong { bytes_max });
        }
        hash.update(&bytes);
        upload.wait_for_capacity(PIECES_MAX).await?;
        upload.put(bytes);
    }
    let actual = Sha256Digest::from_bytes(hash.finalize().into());
    if actual != file.sha256 {
        return Err(StorageError::WrongHash { expected: file.sha256, actual });
    }
    Ok(length)
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
