//! Small files that are replaced as a whole: trusted metadata and the vehicle's key.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    error::{Operation, StoreError, failed, sync_failed},
    fs::{Access, EntryKind, Fs, Site, read_full},
};

/// Suffix of a document that is not complete yet; a crash leaves it behind, the next start removes it.
const UNFINISHED: &str = ".new";

/// Most bytes of one document. The largest is a Targets file; the trust checks have their own, smaller limits.
pub const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// Longest name; a file system takes 255, and a suffix comes on top.
const NAME_BYTES_MAX: usize = 240;

/// A folder of documents in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Metadata of the Director repository that was verified.
    Director,
    /// Metadata of the Image repository that was verified.
    Image,
    /// What the ECU has of its own: its key, its time; a Secondary its images.
    Keys,
    /// Chunk indexes of the releases in the slots, by which their content is found again.
    Indexes,
}

impl Folder {
    pub(super) const ALL: [Self; 4] = [Self::Director, Self::Image, Self::Keys, Self::Indexes];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Director => "metadata-director",
            Self::Image => "metadata-image",
            Self::Keys => "keys",
            Self::Indexes => "indexes",
        }
    }
}

/// Names in a folder, sorted.
pub(super) fn list(fs: &dyn Fs, folder: Folder) -> Result<Vec<String>, StoreError> {
    let place = Path::new(folder.name());
    let entries = fs.read_dir(place).map_err(failed(Operation::List, place))?;
    let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File && !entry.name.ends_with(UNFINISHED));
    Ok(files.map(|entry| entry.name).collect())
}

/// Content of a document; `None` when there is none.
pub(super) fn read(fs: &dyn Fs, folder: Folder, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let path = place(folder, name)?;
    let file = match fs.open(&path, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed(Operation::Open, &path))?,
    };
    let length = file.length().map_err(failed(Operation::Read, &path))?;
    if length > DOCUMENT_BYTES_MAX {
        return Err(failed(Operation::Read, &path)(ErrorKind::FileTooLarge.into()));
    }
    let mut bytes = vec![0; length as usize];
    let count = read_full(file.as_ref(), 0, &mut bytes).map_err(failed(Operation::Read, &path))?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

/// Replaces a document; durable on return. A crash leaves the old content or the new one.
pub(super) fn write(fs: &dyn Fs, folder: Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = place(folder, name)?;
    let unfinished = place(folder, &format!("{name}{UNFINISHED}"))?;
    remove_file(fs, &unfinished)?;
    let mut file = fs.create(&unfinished).map_err(failed(Operation::Create, &unfinished))?;
    file.write_at(0, bytes, Site::here()).map_err(failed(Operation::Write, &unfinished))?;
    file.sync(Site::here()).map_err(sync_failed(&unfinished))?;
    fs.rename(&unfinished, &path).map_err(failed(Operation::Rename, &path))?;
    sync(fs, folder)
}

/// Removes a document; durable on return.
pub(super) fn remove(fs: &dyn Fs, folder: Folder, name: &str) -> Result<(), StoreError> {
    remove_file(fs, &place(folder, name)?)?;
    sync(fs, folder)
}

/// Removes what a crash left behind; returns how many files there were.
pub(super) fn collect_unfinished(fs: &dyn Fs, folder: Folder) -> Result<usize, StoreError> {
    let place = Path::new(folder.name());
    let mut removed = 0;
    for entry in fs.read_dir(place).map_err(failed(Operation::List, place))? {
        if entry.kind != EntryKind::Directory && entry.name.ends_with(UNFINISHED) {
            remove_file(fs, &place.join(entry.name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes the names in a folder durable.
#[track_caller]
pub(super) fn sync(fs: &dyn Fs, folder: Folder) -> Result<(), StoreError> {
    let place = Path::new(folder.name());
    fs.sync_dir(place, Site::here()).map_err(sync_failed(place))
}

fn remove_file(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    match fs.remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(Operation::Remove, path)(error)),
        _ => Ok(()),
    }
}

/// Names come from verified metadata; they are checked all the same, because a path is made of them.
fn place(folder: Folder, name: &str) -> Result<PathBuf, StoreError> {
    let path = Path::new(folder.name()).join(name);
    // Names of roles come percent-quoted and may begin with a dot.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'%');
    if matches!(name, "" | "." | "..") || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err(failed(Operation::Open, &path)(ErrorKind::InvalidFilename.into()));
    }
    Ok(path)
}
