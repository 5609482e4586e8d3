//! What a simulated disk holds.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::Path,
};

use super::{Change, EntryKind};

/// Number of a file or directory. Numbers are not reused, so that a change means the same node in every image.
pub(super) type NodeId = usize;

const BASE: NodeId = 0;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<String, NodeId>),
    Other,
}

impl Node {
    pub(super) fn empty_directory() -> Self {
        Self::Directory(BTreeMap::new())
    }
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
                    EntryKind::File => Node::File(Vec::new()),
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
            Node::File(bytes) => Ok(bytes),
            Node::Directory(_) | Node::Other => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> io::Result<&mut Vec<u8>> {
        match &mut self.nodes[node] {
            Node::File(bytes) => Ok(bytes),
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
            Node::Directory(names) => Ok(names),
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
            Change::Unlink { dir, name } => {
                self.directory_mut(*dir)?.remove(name);
            }
            Change::Rename { dir, from, to, node } => {
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

    /// Bytes of the files that have a name.
    pub(super) fn used(&self) -> u64 {
        let mut sum = 0;
        let mut open = vec![BASE];
        while let Some(node) = open.pop() {
            match &self.nodes[node] {
                Node::File(bytes) => sum += bytes.len() as u64,
                Node::Directory(names) => open.extend(names.values()),
                Node::Other => {}
            }
        }
        sum
    }
}
