//! The few file operations that the store is built from.
//!
//! Everything that the store does to a disk goes through [`Fs`], so that the simulated file system of the tests sees every single
//! operation and can lose, tear or refuse it. Paths are relative to the store's base directory.

use std::{
    fmt, io,
    panic::Location,
    path::{Path, PathBuf},
};

use super::seal::Stamp;

/// A file system below the store's base directory.
///
/// Implementations keep the rules of POSIX: data is durable after [`File::sync`], a name after [`Fs::sync_dir`] of the directory
/// that holds it, and neither before.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Makes a directory that only its owner may enter. Fails when the name exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted. Symbolic links are listed, never followed.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path, site: Site) -> io::Result<()>;

    /// Makes a file that only its owner may read and write. Fails when the name exists, also as a symbolic link.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens a file that exists. Fails on anything but a regular file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;

    /// Gives a file another name in the same directory, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name that is no directory.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// What changes with every change to a file or folder. A symbolic link is not followed.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;

    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Where other programs, such as ONNX Runtime, find `path`.
    fn location(&self, path: &Path) -> PathBuf;
}

/// An open file.
pub trait File: Send + fmt::Debug {
    /// Length, bytes.
    fn length(&self) -> io::Result<u64>;

    /// The stamp of the file that is open, whatever has its name by now.
    fn stamp(&self) -> io::Result<Stamp>;

    /// Reads from `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8], site: Site) -> io::Result<()>;

    /// Reserves the space of a file of `length` bytes, so that a full disk shows now and not in the middle.
    fn allocate(&mut self, length: u64) -> io::Result<()>;

    /// Makes what was written durable. After an error the content is unknown and must not be used: a second call would report
    /// success for pages that the kernel has already given up.
    fn sync(&mut self, site: Site) -> io::Result<()>;

    /// Forgets cached pages, so that the next read comes from the device. Advice: may do nothing.
    fn forget_cache(&self);
}

/// The line of the store that writes something or makes it durable.
///
/// A real disk has no use for it. The crash tests leave one such line out at a time, in all of its calls, and demand that it is noticed;
/// a function that writes or syncs for others is `#[track_caller]`, so that each of those counts by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(&'static Location<'static>);

impl Site {
    /// The line that calls this, or that calls the `#[track_caller]` function that does.
    #[track_caller]
    pub fn here() -> Self {
        Self(Location::caller())
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file();
        write!(f, "{}:{}", file.rsplit_once('/').map_or(file, |(_, name)| name), self.0.line())
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name; names that are no UTF-8 appear with replacement characters and match nothing.
    pub name: String,
    /// What has the name.
    pub kind: EntryKind,
}

/// What has a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link or special file; never made by the store.
    Other,
}

/// Reads up to the whole of `into`, or to the end of the file.
pub(super) fn read_full(file: &dyn File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(offset + filled as u64, &mut into[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
