use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use super::{TrustError, verify::Trusted};

/// One of the two repositories that must agree before a vehicle installs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repository {
    /// Says what this vehicle should install; signed online, per vehicle.
    Director,
    /// Says what exists; signed offline by people, the same for every vehicle.
    Image,
}

/// The root metadata that a vehicle is provisioned with at manufacture, one per repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchors {
    /// Any version of the Director's root; newer ones are found by the chain.
    pub director_root: Vec<u8>,
    /// Any version of the Image repository's root.
    pub image_root: Vec<u8>,
}

impl TrustAnchors {
    /// That both files are root metadata with a threshold of their own signatures. They are trusted for where they came from; this
    /// finds the wrong file or a damaged one before anything depends on it.
    ///
    /// # Errors
    /// [`TrustError`] naming the repository whose root cannot be used.
    pub fn verify(&self) -> Result<(), TrustError> {
        Trusted::anchor(Repository::Director, &self.director_root)?;
        Trusted::anchor(Repository::Image, &self.image_root)?;
        Ok(())
    }
}

/// The metadata that a vehicle holds: the bytes as they were received, by repository and file name without version.
///
/// The store keeps it on disk, and nothing in it is believed on account of being there: every check verifies it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataCache {
    files: BTreeMap<(Repository, String), Vec<u8>>,
    /// The roots of the provisioning, beside the files: what a disk has done to `root.json` must not be the end of all updates.
    anchors: BTreeMap<Repository, Vec<u8>>,
}

impl MetadataCache {
    /// The cache of a vehicle that has never updated.
    pub fn provision(anchors: &TrustAnchors) -> Self {
        let mut cache = Self::default();
        for (repository, root) in [(Repository::Director, &anchors.director_root), (Repository::Image, &anchors.image_root)] {
            cache.insert(repository, ROOT_FILE, root.clone());
            cache.anchors.insert(repository, root.clone());
        }
        cache
    }

    /// The root that the vehicle was provisioned with.
    pub(super) fn anchor(&self, repository: Repository) -> Option<&[u8]> {
        self.anchors.get(&repository).map(Vec::as_slice)
    }

    /// The roots alone.
    pub(super) fn roots(&self) -> Self {
        let is_root = |((_, file_name), _): &(&(Repository, String), &Vec<u8>)| file_name == ROOT_FILE;
        let files = self.files.iter().filter(is_root).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        Self { files, anchors: self.anchors.clone() }
    }

    /// Holds a file, replacing the one of the same name.
    pub fn insert(&mut self, repository: Repository, file_name: &str, bytes: Vec<u8>) {
        self.files.insert((repository, file_name.to_string()), bytes);
    }

    /// Drops a file.
    pub fn remove(&mut self, repository: Repository, file_name: &str) {
        self.files.remove(&(repository, file_name.to_string()));
    }

    /// The bytes of a file.
    pub fn get(&self, repository: Repository, file_name: &str) -> Option<&[u8]> {
        self.files.get(&(repository, file_name.to_string())).map(Vec::as_slice)
    }

    /// Every file.
    pub fn iter(&self) -> impl Iterator<Item = (Repository, &str, &[u8])> {
        self.files.iter().map(|((repository, file_name), bytes)| (*repository, file_name.as_str(), bytes.as_slice()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Director => "Director",
            Self::Image => "Image repository",
        })
    }
}

pub(super) const ROOT_FILE: &str = "root.json";
pub(super) const TIMESTAMP_FILE: &str = "timestamp.json";
pub(super) const SNAPSHOT_FILE: &str = "snapshot.json";
pub(super) const TARGETS_FILE: &str = "targets.json";

/// The file name of a role's metadata. Names that could leave the folder or be read as a URL's punctuation are percent-quoted
/// (python-tuf quotes alike), so that a role named `../x` stays a file in the folder.
pub(super) fn role_file(role: &str) -> String {
    let mut name = String::with_capacity(role.len() + 5);
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'~') {
            name.push(char::from(byte));
        } else {
            name.push_str(&alloc::format!("%{byte:02X}"));
        }
    }
    name.push_str(".json");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_name_cannot_leave_the_folder() {
        assert_eq!(role_file("vla-ultra"), "vla-ultra.json");
        assert_eq!(role_file("../x?#\u{e9}"), "..%2Fx%3F%23%C3%A9.json");
    }
}
