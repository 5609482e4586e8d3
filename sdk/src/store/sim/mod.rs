//! A file system in memory that can lose power.
//!
//! It keeps every operation since it was made. [`SimFs::crash_images`] gives what a disk may hold when power was lost after any of
//! them, after the model of ALICE (Pillai et al., OSDI 2014). Of what was not synced, each change for itself and in any combination:
//!
//! - a write is there, lost, or there in some of its blocks, of 512 or of 4096 bytes; so writes overtake each other, and parts of one do;
//! - the length of a file arrives before its bytes, which are zeros or garbage then, or after them;
//! - a name is there or not, whatever became of the file: a name without its bytes, bytes without a name, a folder that is gone with
//!   all that was synced inside it;
//! - of a renaming one half is there: both names, or neither, though what had the new name goes only when another file gets it.
//!
//! It can also refuse an operation, run full, and pretend that a write or a sync happened which did not.

mod image;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    fs::{Access, DirEntry, EntryKind, File, Fs, Site},
    seal::Stamp,
};

pub use image::{CrashImage, Sampling};
use tree::{Node, NodeId, Tree};

/// One operation that changed, or made durable, what the disk holds.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// `name` in `dir` now means `node`.
    Link { dir: NodeId, name: String, node: NodeId, kind: EntryKind },
    /// `name` in `dir`, which meant `node`, is gone.
    Unlink { dir: NodeId, name: String, node: NodeId },
    /// `node` moved from one name to the other in one step, in the place of what had the other.
    Rename { dir: NodeId, from: String, to: String, node: NodeId, replaced: Option<NodeId> },
    /// The file has this length at least.
    Grow { node: NodeId, length: u64 },
    /// The file holds these bytes.
    Write { node: NodeId, offset: u64, bytes: Arc<[u8]> },
    /// Everything before is durable for this file.
    SyncFile { node: NodeId },
    /// Everything before is durable for the names in this directory.
    SyncDir { node: NodeId },
}

impl Change {
    /// The files and folders on which a file system notes it.
    fn noted_on(&self) -> [Option<NodeId>; 2] {
        match self {
            Self::Link { dir, node, .. } | Self::Rename { dir, node, .. } => [Some(*dir), Some(*node)],
            Self::Unlink { dir, .. } => [Some(*dir), None],
            Self::Grow { node, .. } | Self::Write { node, .. } => [Some(*node), None],
            Self::SyncFile { .. } | Self::SyncDir { .. } => [None, None],
        }
    }
}

/// What a line of the program asks the disk for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// To write bytes.
    Write,
    /// To make a file durable.
    SyncFile,
    /// To make the names in a directory durable.
    SyncDir,
}

/// An operation to interfere with, by its number among the operations of its kind, or all those that one line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sync with this number, of a file or directory, reports success and does nothing.
    SyncIgnored(usize),
    /// The write with this number reports success and does nothing.
    WriteIgnored(usize),
    /// Whatever this line asks for of this kind reports success and does nothing.
    SiteIgnored(Request, Site),
    /// The operation with this number, of any kind that changes the disk, fails with this error.
    Fails(usize, ErrorKind),
    /// From the operation with this number on, everything that changes the disk fails with this error.
    FailsFrom(usize, ErrorKind),
}

/// A file system in memory that can lose power. Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    /// What the disk held at the beginning; all of it durable.
    start: Tree,
    /// What a running program sees.
    live: Tree,
    log: Vec<Change>,
    /// How often each file or folder was changed.
    changes: BTreeMap<NodeId, i64>,
    /// Files and folders with something that is not durable.
    dirty: BTreeSet<NodeId>,
    fault: Option<Fault>,
    capacity: Option<u64>,
    operations: usize,
    syncs: usize,
    writes: usize,
    sites: BTreeSet<(Request, Site)>,
}

impl SimFs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(tree: Tree) -> Self {
        let disk = Disk { start: tree.clone(), live: tree, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Interferes with an operation to come; counting starts with the first operation on this disk.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Limits the bytes of all files.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Operations so far that changed the disk or made it durable, failed ones included.
    pub fn operations(&self) -> usize {
        self.lock().operations
    }

    /// Syncs so far of files and directories that had something to make durable.
    pub fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Writes of data so far.
    pub fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Lines of the program that wrote something or made it durable so far.
    pub fn sites(&self) -> BTreeSet<(Request, Site)> {
        self.lock().sites.clone()
    }

    /// Number of points at which power can be lost: one before the first change, one after each.
    pub fn crash_points(&self) -> usize {
        self.lock().log.len() + 1
    }

    /// What the disk may hold when power is lost after `point` changes.
    pub fn crash_images(&self, point: usize, sampling: Sampling) -> Vec<CrashImage> {
        let disk = self.lock();
        image::images(&disk.start, &disk.log[..point], sampling)
    }

    /// The disk as the next process finds it when this one ended after `point` changes and power stayed: everything is there, and what was
    /// not synced can still be lost.
    pub fn ended_after(&self, point: usize) -> Self {
        let disk = self.lock();
        let log = disk.log[..point].to_vec();
        let mut ended = Disk { start: disk.start.clone(), live: disk.start.clone(), ..Disk::default() };
        ended.live.reserve(&log);
        for change in log {
            // The same changes succeeded on the same tree before.
            let result = ended.record(change);
            debug_assert!(result.is_ok(), "{result:?}");
        }
        Self { disk: Arc::new(Mutex::new(ended)) }
    }

    /// The same for two disks exactly when a program finds the same on them.
    pub fn fingerprint(&self) -> u64 {
        self.lock().live.fingerprint()
    }

    /// A disk with the same content, all of it durable, and no history.
    pub fn settled(&self) -> Self {
        Self::of(self.lock().live.clone())
    }

    /// Changes one byte behind the back of the program, as a failing flash cell does. `false` when the file is shorter.
    pub fn corrupt(&self, path: &Path, offset: u64) -> bool {
        let mut disk = self.lock();
        let Ok(node) = disk.live.find(path) else {
            return false;
        };
        match disk.live.file_mut(node).ok().and_then(|bytes| bytes.get_mut(offset as usize)) {
            None => false,
            Some(byte) => {
                *byte ^= 0x01;
                true
            }
        }
    }

    /// Puts something that is no regular file where a program may expect one.
    pub fn plant_link(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        let (dir, name) = disk.live.parent(path)?;
        let node = disk.live.add(Node::Other);
        disk.live.link(dir, name, node)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // A test that panicked while it held the lock has failed already.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn begin(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(Fault::Fails(at, error)) if at == number => Err(error.into()),
            Some(Fault::FailsFrom(at, error)) if number >= at => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ignores(&mut self, request: Request, node: NodeId, site: Site) -> bool {
        self.sites.insert((request, site));
        let by_number = match request {
            Request::Write => {
                self.writes += 1;
                Fault::WriteIgnored(self.writes - 1)
            }
            Request::SyncFile | Request::SyncDir if !self.dirty.contains(&node) => return false,
            Request::SyncFile | Request::SyncDir => {
                self.syncs += 1;
                Fault::SyncIgnored(self.syncs - 1)
            }
        };
        self.fault == Some(by_number) || self.fault == Some(Fault::SiteIgnored(request, site))
    }

    fn record(&mut self, change: Change) -> io::Result<()> {
        self.live.apply(&change)?;
        for node in change.noted_on().into_iter().flatten() {
            *self.changes.entry(node).or_default() += 1;
        }
        match &change {
            Change::Link { dir: node, .. }
            | Change::Unlink { dir: node, .. }
            | Change::Rename { dir: node, .. }
            | Change::Grow { node, .. }
            | Change::Write { node, .. } => self.dirty.insert(*node),
            Change::SyncFile { node } | Change::SyncDir { node } => self.dirty.remove(node),
        };
        self.log.push(change);
        Ok(())
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.live.used()))
    }

    fn stamp(&self, node: NodeId) -> Stamp {
        let changes = self.changes.get(&node).copied().unwrap_or(0);
        let length = self.live.file(node).map_or(0, |bytes| bytes.len() as u64);
        Stamp { device: 0, node: node as u64, length, modified: (changes, 0), changed: (changes, 0) }
    }

    /// How long the file is, if it may become as long as this.
    fn room_for(&self, node: NodeId, length: u64) -> io::Result<u64> {
        let now = self.live.file(node)?.len() as u64;
        if length.saturating_sub(now) > self.free() { Err(ErrorKind::StorageFull.into()) } else { Ok(now) }
    }

    fn grow(&mut self, node: NodeId, length: u64) -> io::Result<()> {
        let now = self.room_for(node, length)?;
        if length > now { self.record(Change::Grow { node, length }) } else { Ok(()) }
    }
}

impl Fs for SimFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.begin()?;
        let (dir, name) = disk.live.free_name(path)?;
        let node = disk.live.add(Node::empty_directory());
        disk.record(Change::Link { dir, name, node, kind: EntryKind::Directory })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.begin()?;
        let node = disk.live.find(path)?;
        if !disk.live.directory(node)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = disk.live.parent(path)?;
        disk.record(Change::Unlink { dir, name, node })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let disk = self.lock();
        let node = disk.live.find(path)?;
        let names = disk.live.directory(node)?;
        Ok(names.iter().map(|(name, node)| DirEntry { name: name.clone(), kind: disk.live.kind(*node) }).collect())
    }

    fn sync_dir(&self, path: &Path, site: Site) -> io::Result<()> {
        let mut disk = self.lock();
        disk.begin()?;
        let node = disk.live.find(path)?;
        disk.live.directory(node)?;
        if disk.ignores(Request::SyncDir, node, site) { Ok(()) } else { disk.record(Change::SyncDir { node }) }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut disk = self.lock();
        disk.begin()?;
        let (dir, name) = disk.live.free_name(path)?;
        let node = disk.live.add(Node::empty_file());
        disk.record(Change::Link { dir, name, node, kind: EntryKind::File })?;
        Ok(Box::new(SimFile { fs: self.clone(), node, access: Access::ReadWrite }))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let disk = self.lock();
        let node = disk.live.find(path)?;
        match disk.live.kind(node) {
            EntryKind::File => Ok(Box::new(SimFile { fs: self.clone(), node, access })),
            EntryKind::Directory | EntryKind::Other => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.begin()?;
        let node = disk.live.find(from)?;
        let (dir, from) = disk.live.parent(from)?;
        let (to_dir, to) = disk.live.parent(to)?;
        if dir != to_dir {
            return Err(ErrorKind::CrossesDevices.into());
        }
        let replaced = disk.live.directory(dir)?.get(&to).copied();
        disk.record(Change::Rename { dir, from, to, node, replaced })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.begin()?;
        let node = disk.live.find(path)?;
        if disk.live.kind(node) == EntryKind::Directory {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (dir, name) = disk.live.parent(path)?;
        disk.record(Change::Unlink { dir, name, node })
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let disk = self.lock();
        disk.live.find(path).map(|node| disk.stamp(node))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free())
    }

    fn location(&self, path: &Path) -> PathBuf {
        Path::new("/simulated").join(path)
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    node: NodeId,
    access: Access,
}

impl SimFile {
    fn begin(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.fs.lock();
        match self.access {
            Access::Read => Err(ErrorKind::PermissionDenied.into()),
            Access::ReadWrite => {
                disk.begin()?;
                Ok(disk)
            }
        }
    }
}

impl File for SimFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.fs.lock().live.file(self.node)?.len() as u64)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Ok(self.fs.lock().stamp(self.node))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.fs.lock();
        let bytes = disk.live.file(self.node)?;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8], site: Site) -> io::Result<()> {
        let mut disk = self.begin()?;
        if disk.ignores(Request::Write, self.node, site) {
            return Ok(());
        }
        disk.room_for(self.node, offset + bytes.len() as u64)?;
        disk.record(Change::Write { node: self.node, offset, bytes: bytes.into() })
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.begin()?.grow(self.node, length)
    }

    fn sync(&mut self, site: Site) -> io::Result<()> {
        // Allowed on a file that is open for reading, and it makes durable what others wrote to it.
        let mut disk = self.fs.lock();
        disk.begin()?;
        let node = self.node;
        if disk.ignores(Request::SyncFile, node, site) { Ok(()) } else { disk.record(Change::SyncFile { node }) }
    }

    fn forget_cache(&self) {}
}
