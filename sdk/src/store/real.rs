//! The real file system.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags};

use super::{
    fs::{Access, DirEntry, EntryKind, File, Fs, Site},
    seal::Stamp,
};

/// Only the owner: weights that another user can exchange between verification and loading were never verified.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Name of the lock file in the base directory.
const LOCK: &str = "lock";

/// A directory of the real file system, locked for one user at a time.
#[derive(Debug)]
pub struct RealFs {
    base: PathBuf,
    /// Holds the advisory lock as long as it is open; the kernel releases it when the process dies.
    _lock: fs::File,
}

impl RealFs {
    /// Opens `base`, making it where it does not exist, and locks it.
    ///
    /// # Errors
    /// `ResourceBusy` when another process or another [`RealFs`] holds the lock; else what the system says.
    pub fn open(base: &Path) -> io::Result<Self> {
        make_durable(base)?;
        let base = base.canonicalize()?;
        let lock = options().read(true).write(true).create(true).truncate(false).open(base.join(LOCK))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => ErrorKind::ResourceBusy.into(),
            other => io::Error::from(other),
        })?;
        Ok(Self { base, _lock: lock })
    }
}

/// Makes `folder` and those above it, as far as they are missing, each durable in the one above it: with its name a power cut would take
/// everything that was ever confirmed below it.
fn make_durable(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_durable(folder.parent().ok_or(error)?)?;
            fs::DirBuilder::new().mode(DIRECTORY_MODE).create(folder)?;
        }
        result => result?,
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.mode(FILE_MODE).custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32);
    options
}

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(DIRECTORY_MODE).create(self.location(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(self.location(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.location(path))? {
            let entry = entry?;
            if path.as_os_str().is_empty() && entry.file_name() == LOCK {
                continue;
            }
            let kind = match entry.file_type()? {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            entries.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind });
        }
        entries.sort();
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path, _: Site) -> io::Result<()> {
        fs::File::open(self.location(path))?.sync_all()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = options().read(true).write(true).create_new(true).open(self.location(path))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let write = match access {
            Access::Read => false,
            Access::ReadWrite => true,
        };
        let file = options().read(true).write(write).open(self.location(path))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.location(from), self.location(to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.location(path))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        fs::symlink_metadata(self.location(path)).map(|found| stamp(&found))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::statvfs(&self.base)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn location(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }
}

fn stamp(found: &fs::Metadata) -> Stamp {
    Stamp {
        device: found.dev(),
        node: found.ino(),
        length: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn stamp(&self) -> io::Result<Stamp> {
        self.0.metadata().map(|found| stamp(&found))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(&self.0, into, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8], _: Site) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            // Not every file system can reserve; there a full disk shows at the write.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(length),
            result => result.map_err(io::Error::from),
        }
    }

    fn sync(&mut self, _: Site) -> io::Result<()> {
        self.0.sync_all()
    }

    fn forget_cache(&self) {
        // Advice: a file system that cannot do it serves the read-back from memory, which still catches our own mistakes.
        let _ = rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed);
    }
}
