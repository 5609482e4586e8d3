//! Files: read with a limit, written completely or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::failure::Failure;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody whom the system's defaults allow.
    Public,
    /// Its owner alone: secret keys and tokens.
    Secret,
}

/// Opens a file to read it.
pub(crate) fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Length of a file, bytes.
pub(crate) fn length(path: &Path) -> anyhow::Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !metadata.is_file() {
        bail!("{} is no file", path.display());
    }
    Ok(metadata.len())
}

/// Reads a whole file of at most `length_max` bytes.
pub(crate) fn read(path: &Path, length_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = length_max as u64 + 1;
    open(path)?.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() > length_max {
        bail!("{} is longer than {length_max} bytes", path.display());
    }
    Ok(bytes)
}

/// Makes a folder with its parents; no harm if it is there.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).map_err(|error| cannot(format!("cannot make the folder {}", path.display()), path, error))
}

/// Writes a file so that after a crash either the old or the new content is there, and returns only when it is on the disk.
pub(crate) fn write(path: &Path, bytes: &[u8], access: Access) -> anyhow::Result<()> {
    let mut draft = Draft::create(path, access)?;
    draft.file().write_all(bytes).map_err(|error| cannot_write(path, error))?;
    draft.commit()
}

fn cannot_write(path: &Path, error: io::Error) -> anyhow::Error {
    cannot(format!("cannot write {}", path.display()), path, error)
}

/// What could not be done to `path`, why, and what to do about what people run into.
fn cannot(what: String, path: &Path, error: io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            format!("the folder {} is not there: make it, or look whether its medium is mounted", folder.display())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room and run the same again; what was written before is whole and still there".into()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the disk is mounted for reading only: mount it for writing, or work on a copy on another disk".into()
        }
        io::ErrorKind::PermissionDenied => "whoever runs this may not write there: ask the folder's owner, or work on a copy".into(),
        _ => return anyhow::Error::new(error).context(what),
    };
    Failure::new(anyhow::Error::new(error).context(what), hint).into()
}

/// Writes a file that is not there yet, and returns only when it is on the disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8], access: Access) -> anyhow::Result<()> {
    let mut file = options(access).open(path).map_err(|error| cannot_write(path, error))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path.parent()));
    if written.is_err() {
        // Half a file is nobody's; it was made here.
        let _ = fs::remove_file(path);
    }
    written.map_err(|error| cannot_write(path, error))
}

/// A file that appears under its name when it is complete, and not at all otherwise.
pub(crate) struct Draft {
    path: PathBuf,
    part: PathBuf,
    file: File,
    committed: bool,
}

impl Draft {
    /// Begins the file beside its final place, so that the rename stays within one file system.
    pub(crate) fn create(path: &Path, access: Access) -> anyhow::Result<Self> {
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_string_lossy();
        // Two processes must not write into one draft.
        let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = create(&part, access).map_err(|error| cannot_write(path, error))?;
        Ok(Self { path: path.to_owned(), part, file, committed: false })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Flushes the file and gives it its name.
    pub(crate) fn commit(mut self) -> anyhow::Result<()> {
        let Self { file, part, path, .. } = &self;
        let written = file.sync_all().and_then(|()| fs::rename(part, path)).and_then(|()| sync_folder(path.parent()));
        written.map_err(|error| cannot_write(path, error))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // What is left over hurts nobody.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Moves a file to another name on the same file system, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    let renamed = fs::rename(from, to).and_then(|()| sync_folder(to.parent())).and_then(|()| sync_folder(from.parent()));
    renamed.map_err(|error| cannot(format!("cannot rename {} to {}", from.display(), to.display()), to, error))
}

/// A name survives a power cut only when its folder was flushed.
fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn create(path: &Path, access: Access) -> io::Result<File> {
    // A draft of a killed process with our number may be here, with other rights than ours.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    options(access).open(path)
}

/// How a file is made that is not there yet.
fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if access == Access::Secret {
        owner_only(&mut options);
    }
    options
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_options: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_people_run_into_is_answered_with_what_to_do() {
        let check = |kind: io::ErrorKind, expected: &str| {
            let error = cannot_write(Path::new("stick/request.json"), kind.into());
            assert!(error.to_string().starts_with("cannot write stick/request.json"), "{error}");
            let hint = error.downcast_ref::<Failure>().map(Failure::hint);
            assert!(hint.is_some_and(|hint| hint.contains(expected)), "{kind}: {hint:?}");
        };
        check(io::ErrorKind::NotFound, "the folder stick is not there");
        check(io::ErrorKind::StorageFull, "make room and run the same again");
        check(io::ErrorKind::ReadOnlyFilesystem, "for reading only");
        check(io::ErrorKind::PermissionDenied, "may not write there");
        let other = cannot_write(Path::new("x"), io::ErrorKind::Interrupted.into());
        assert!(other.downcast_ref::<Failure>().is_none(), "{other}");
    }
}
