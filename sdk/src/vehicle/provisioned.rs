//! What a vehicle leaves the factory with beside its roots, its map and its key.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::Path,
};

use switchback_signing::{
    metadata::{Signed, Snapshot, Targets, Timestamp},
    time::UnixTime,
    trust::{
        Repository,
        limits::{DELEGATED_ROLES_MAX, TARGETS_BYTES_MAX},
    },
};

use super::error::VehicleError;

/// Most files of one repository: its three roles and every delegated one that a check would look at.
const FILES_MAX: usize = 3 + DELEGATED_ROLES_MAX;

/// What a vehicle leaves the factory with beside its roots, its map and its key (Uptane, 5.4.1): what its first check may not fall behind.
/// Without, whoever answers that check can show it anything that was signed once and has not expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// When it was provisioned. No clock of the vehicle counts that shows an earlier time.
    pub time: Option<UnixTime>,
    /// Metadata of both repositories as they serve it, except roots. Newer files that the vehicle has verified take its place.
    pub metadata: Vec<ProvisionedFile>,
}

/// A metadata file that a vehicle is provisioned with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionedFile {
    /// Of which repository.
    pub repository: Repository,
    /// Its name without version: `timestamp.json`, `snapshot.json`, `targets.json`, or that of a delegated role, such as `vla-ultra.json`.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Provisioned {
    /// Reads what lies in `folder` as `director/NAME` and `image/NAME`, with the names of [`ProvisionedFile::name`]. One of the two may be missing.
    ///
    /// # Errors
    /// What cannot be read; a folder without any file, which would guard against nothing; files whose names state a version, as a server's
    /// do, or that are too many or too long for metadata.
    pub fn read(folder: &Path, time: Option<UnixTime>) -> io::Result<Self> {
        let mut metadata = Vec::new();
        for (repository, name) in [(Repository::Director, "director"), (Repository::Image, "image")] {
            match read_repository(repository, &folder.join(name)) {
                Ok(files) => metadata.extend(files),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if metadata.is_empty() {
            let text = "there is no metadata in its folders director and image";
            return Err(io::Error::new(ErrorKind::NotFound, text));
        }
        Ok(Self { time, metadata })
    }
}

fn read_repository(repository: Repository, folder: &Path) -> io::Result<Vec<ProvisionedFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let wrong = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(role) = name.strip_suffix(".json") else {
            return Err(wrong("metadata has a name that ends in .json"));
        };
        if role.split_once('.').is_some_and(|(version, _)| version.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(wrong("name it without its version, such as targets.json"));
        }
        if files.len() == FILES_MAX {
            return Err(wrong(&format!("there are more than {FILES_MAX} files in the folder")));
        }
        let (name, mut bytes) = (name.to_owned(), Vec::new());
        File::open(&path)?.take(TARGETS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > TARGETS_BYTES_MAX {
            return Err(wrong(&format!("metadata has at most {TARGETS_BYTES_MAX} bytes")));
        }
        files.push(ProvisionedFile { repository, name, bytes });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// That the provisioned files are metadata. One that is not would guard against nothing, and nobody would see it.
pub(super) fn verify_provisioned(provisioned: &Provisioned) -> Result<(), VehicleError> {
    for ProvisionedFile { repository, name, bytes } in &provisioned.metadata {
        let read = match name.as_str() {
            "root.json" => return Err(unprovided(format!("{repository}: roots are given in `anchors`"))),
            "timestamp.json" => Signed::<Timestamp>::parse(bytes, bytes.len()).map(drop),
            "snapshot.json" => Signed::<Snapshot>::parse(bytes, bytes.len()).map(drop),
            _ => Signed::<Targets>::parse(bytes, bytes.len()).map(drop),
        };
        read.map_err(|error| unprovided(format!("{repository}: {name}: {error}")))?;
    }
    Ok(())
}

fn unprovided(problem: String) -> VehicleError {
    VehicleError::Config { field: "provisioned.metadata", problem }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn provisioned(files: &[(&str, &[u8])]) -> io::Result<Vec<(Repository, String, usize)>> {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let read = Provisioned::read(folder.path(), None)?;
        Ok(read.metadata.into_iter().map(|file| (file.repository, file.name, file.bytes.len())).collect())
    }

    #[test]
    fn both_repositories_files_are_read_by_their_names() {
        let files: [(&str, &[u8]); 3] =
            [("image/vla-ultra.json", b"123"), ("image/snapshot.json", b"12"), ("director/timestamp.json", b"1")];
        let expected = [
            (Repository::Director, "timestamp.json", 1),
            (Repository::Image, "snapshot.json", 2),
            (Repository::Image, "vla-ultra.json", 3),
        ];
        assert_eq!(provisioned(&files).unwrap(), expected.map(|(repository, name, length)| (repository, name.to_owned(), length)));
    }

    #[test]
    fn what_would_guard_against_nothing_is_an_error() {
        let long = vec![b' '; usize::try_from(TARGETS_BYTES_MAX).unwrap() + 1];
        let many: Vec<String> = (0..=FILES_MAX).map(|number| format!("image/vla-{number}.json")).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"{}".as_slice())).collect();
        for (files, problem) in [
            (&[][..], "there is no metadata in its folders director and image"),
            (&[("targets.json", b"{}".as_slice())], "there is no metadata in its folders director and image"),
            (&[("image/3.targets.json", b"{}")], "name it without its version, such as targets.json"),
            (&[("image/targets", b"{}")], "metadata has a name that ends in .json"),
            (&[("director/targets.json", long.as_slice())], "metadata has at most 5000000 bytes"),
            (&many, "there are more than 35 files in the folder"),
        ] {
            let error = provisioned(files).expect_err(problem);
            assert!(error.to_string().ends_with(problem), "{error}");
        }
    }
}
