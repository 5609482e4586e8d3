//! What a simulated disk holds.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, ErrorKind},
    path::Path,
    sync::{Arc, OnceLock},
};

use super::{Change, EntryKind};

/// Number of a file or directory. Numbers are not reused, so that a change means the same node in every image.
pub(super) type NodeId = usize;

const BASE: NodeId = 0;

/// Images share what they have in common: a copy is made of what one of them changes.
#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Arc<Content>),
    Directory(Arc<BTreeMap<String, NodeId>>),
    Other,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// Of the bytes; most files are the same in most images, and are hashed once for all of them.
    fingerprint: OnceLock<u64>,
}

impl Clone for Content {
    /// A copy is made to be changed.
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), fingerprint: OnceLock::new() }
    }
}

impl Content {
    fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.bytes.hash(&mut hasher);
            hasher.finish()
        })
    }
}

impl Node {
    pub(super) fn empty_directory() -> Self {
        Self::Directory(Arc::default())
    }

    pub(super) fn empty_file() -> Self {
        Self::File(Arc::default())
    }
}

/// What became of the bytes of a write that power loss interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Torn {
    /// Bytes that the disk writes as a whole, counted from the start of the file.
    pub(super) block: usize,
    /// Bit by bit the blocks that arrived; beyond 64 of them it begins again.
    pub(super) arrived: u64,
    /// What is behind the old end of the file where a block did not arrive.
    pub(super) beyond: Beyond,
}

/// What a write that made a file longer leaves behind its old end when its bytes did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Beyond {
    /// Nothing: the new length did not arrive either, whatever bytes did.
    OldLength,
    /// The new length arrived before its bytes, and the blocks were empty.
    Zeros,
    /// The new length arrived before its bytes, and the blocks hold what another file left there.
    Garbage,
}

/// Blocks of the file that `length` bytes at `offset` touch.
pub(super) fn blocks(offset: usize, length: usize, block: usize) -> usize {
    if length == 0 { 0 } else { (offset + length).div_ceil(block) - offset / block }
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::empty_directory()] }
    }
}

impl Tree {
    pub(super) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Makes the nodes that the log makes, without names: an image may hold their names without the change that made them.
    pub(super) fn reserve(&mut self, log: &[Change]) {
        for change in log {
            if let Change::Link { node, kind, .. } = change
                && *node >= self.nodes.len()
            {
                self.nodes.resize(*node, Node::Other);
                self.nodes.push(match kind {
                    EntryKind::File => Node::empty_file(),
                    EntryKind::Directory => Node::empty_directory(),
                    EntryKind::Other => Node::Other,
                });
            }
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = BASE;
        for name in path {
            let names = self.directory(node)?;
            node = *name.to_str().and_then(|name| names.get(name)).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidFilename)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.directory(dir)?;
        Ok((dir, name.to_owned()))
    }

    pub(super) fn free_name(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let (dir, name) = self.parent(path)?;
        if self.directory(dir)?.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok((dir, name))
    }

    pub(super) fn kind(&self, node: NodeId) -> EntryKind {
        match self.nodes[node] {
            Node::File(_) => EntryKind::File,
            Node::Directory(_) => EntryKind::Directory,
            Node::Other => EntryKind::Other,
        }
    }

    pub(super) fn file(&self, node: NodeId) -> io::Result<&Vec<u8>> {
        match &self.nodes[node] {
            Node::File(content) => Ok(&content.bytes),
            Node::Directory(_) | Node::Other => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> io::Result<&mut Vec<u8>> {
        match &mut self.nodes[node] {
            Node::File(content) => {
                let content = Arc::make_mut(content);
                content.fingerprint = OnceLock::new();
                Ok(&mut content.bytes)
            }
            Node::Directory(_) | Node::Other => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn directory(&self, node: NodeId) -> io::Result<&BTreeMap<String, NodeId>> {
        match &self.nodes[node] {
            Node::Directory(names) => Ok(names),
            Node::File(_) | Node::Other => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn directory_mut(&mut self, node: NodeId) -> io::Result<&mut BTreeMap<String, NodeId>> {
        match &mut self.nodes[node] {
            Node::Directory(names) => Ok(Arc::make_mut(names)),
            Node::File(_) | Node::Other => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn link(&mut self, dir: NodeId, name: String, node: NodeId) -> io::Result<()> {
        self.directory_mut(dir)?.insert(name, node);
        Ok(())
    }

    pub(super) fn apply(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Link { dir, name, node, .. } => self.link(*dir, name.clone(), *node)?,
            Change::Unlink { dir, name, .. } => {
                self.directory_mut(*dir)?.remove(name);
            }
            Change::Rename { dir, from, to, node, .. } => {
                let names = self.directory_mut(*dir)?;
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            Change::Grow { node, length } => {
                let bytes = self.file_mut(*node)?;
                bytes.resize(bytes.len().max(*length as usize), 0);
            }
            Change::Write { node, offset, bytes } => self.write(*node, *offset as usize, bytes)?,
            Change::SyncFile { .. } | Change::SyncDir { .. } => {}
        }
        Ok(())
    }

    pub(super) fn write(&mut self, node: NodeId, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let content = self.file_mut(node)?;
        let end = offset + bytes.len();
        content.resize(content.len().max(end), 0);
        content[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    /// A write of which some blocks did not arrive.
    pub(super) fn write_torn(&mut self, node: NodeId, offset: usize, bytes: &[u8], torn: Torn) -> io::Result<()> {
        let content = self.file_mut(node)?;
        let (old_end, new_end) = (content.len(), offset + bytes.len());
        match torn.beyond {
            Beyond::OldLength => {}
            Beyond::Zeros => content.resize(old_end.max(new_end), 0),
            Beyond::Garbage => content.resize(old_end.max(new_end), 0xa5),
        }
        let first = offset / torn.block;
        for number in (0..blocks(offset, bytes.len(), torn.block)).filter(|number| torn.arrived >> (number % 64) & 1 == 1) {
            let start = ((first + number) * torn.block).max(offset);
            let end = ((first + number + 1) * torn.block).min(new_end).min(content.len());
            if start < end {
                content[start..end].copy_from_slice(&bytes[start - offset..end - offset]);
            }
        }
        Ok(())
    }

    /// The same for two trees exactly when a program finds the same in them (but for a chance in 2^64).
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_into(BASE, &mut hasher);
        hasher.finish()
    }

    fn hash_into(&self, node: NodeId, hasher: &mut DefaultHasher) {
        match &self.nodes[node] {
            Node::File(content) => (0_u8, content.fingerprint()).hash(hasher),
            Node::Other => 1_u8.hash(hasher),
            Node::Directory(names) => {
                (2_u8, names.len()).hash(hasher);
                for (name, node) in names.iter() {
                    name.hash(hasher);
                    self.hash_into(*node, hasher);
                }
            }
        }
    }

    /// Bytes of the files that have a name.
    pub(super) fn used(&self) -> u64 {
        let mut sum = 0;
        let mut open = vec![BASE];
        while let Some(node) = open.pop() {
            match &self.nodes[node] {
                Node::File(content) => sum += content.bytes.len() as u64,
                Node::Directory(names) => open.extend(names.values().copied()),
                Node::Other => {}
            }
        }
        sum
    }
}
