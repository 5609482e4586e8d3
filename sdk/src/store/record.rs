//! A small value that survives power loss: two files, written in turn.
//!
//! Each file holds one record of 4 KiB: a rising generation, the value, and a SHA-256 over both. A write goes to the file that does
//! not hold the newest valid record, so a torn write costs the new value and never the old one. Writing in place needs no rename
//! and no directory sync, and reads no more than two blocks at start.

use std::{io::ErrorKind, path::Path, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use switchback_signing::digest::Sha256Digest;

use super::{
    error::{Operation, StoreError, failed, sync_failed},
    fs::{Access, File, Fs, Site, read_full},
};

/// One block of every file system in use: written by one request, and no larger than what a torn write can be checked by.
pub(super) const RECORD_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"SWBRECRD";
/// The record format that this release writes and reads.
pub(super) const RECORD_FORMAT: u32 = 1;

const FORMAT_AT: usize = 8;
const GENERATION_AT: usize = 12;
const LENGTH_AT: usize = 20;
const VALUE_AT: usize = 24;
const CHECKSUM_AT: usize = RECORD_BYTES - 32;

/// Bytes of JSON that one record has room for.
pub(super) const VALUE_BYTES_MAX: usize = CHECKSUM_AT - VALUE_AT;

/// Two files that hold one value.
#[derive(Debug)]
pub(super) struct RecordPair {
    fs: Arc<dyn Fs>,
    names: [&'static str; 2],
    /// Which of the two holds the newest valid record; the other one is written next.
    newest: usize,
    generation: u64,
    /// The disk does not give the other one back; it is made anew before it is written.
    other_is_unreadable: bool,
}

/// What the two files held.
pub(super) struct Found<T> {
    pub(super) value: Option<T>,
    /// A record that was begun and not completed: power was lost while it was written.
    pub(super) torn: bool,
}

impl RecordPair {
    /// Makes both files without a value. Their space is reserved now, so that a disk that runs full later can still be told what
    /// state it is in. The names are durable only after the directory is synced, which is left to the caller.
    pub(super) fn create(fs: Arc<dyn Fs>, names: [&'static str; 2]) -> Result<Self, StoreError> {
        for name in names.map(Path::new) {
            make_anew(fs.as_ref(), name)?;
        }
        Ok(Self { fs, names, newest: 1, generation: 0, other_is_unreadable: false })
    }

    /// Reads both files and keeps the newest valid value. One that the disk does not give back is as good as torn while the other one is
    /// valid: it costs one step, where refusing would cost the model. Without a valid one it might hold all there is to know.
    pub(super) fn open<T: DeserializeOwned>(fs: Arc<dyn Fs>, names: [&'static str; 2]) -> Result<(Self, Found<T>), StoreError> {
        let mut pair = Self { fs, names, newest: 1, generation: 0, other_is_unreadable: false };
        let (mut torn, mut unreadable) = (false, None);
        let mut records = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            match pair.read(name) {
                Err(error @ StoreError::Io { .. }) => {
                    tracing::warn!(%error, "a record cannot be read");
                    (torn, unreadable) = (true, Some(error));
                }
                Ok(Read::Nothing) => {}
                Ok(Read::Torn) => torn = true,
                Ok(Read::Record { generation, value }) => records.push((generation, number, value)),
                Err(error) => return Err(error),
            }
        }
        records.sort_by_key(|(generation, ..)| *generation);
        while let Some((generation, number, value)) = records.pop() {
            match pair.settle(names[number]) {
                Err(error) => {
                    tracing::warn!(%error, "a record cannot be made durable");
                    (torn, unreadable) = (true, Some(error));
                }
                Ok(()) => {
                    (pair.newest, pair.generation, pair.other_is_unreadable) = (number, generation, unreadable.is_some());
                    return Ok((pair, Found { value: Some(value), torn }));
                }
            }
        }
        match unreadable {
            Some(error) => Err(error),
            None => Ok((pair, Found { value: None, torn })),
        }
    }

    /// Makes a record durable that another process may have written without living to sync it. What is acted on must not be lost
    /// afterwards, and the next write goes over the only other record that there is.
    fn settle(&self, name: &'static str) -> Result<(), StoreError> {
        let path = Path::new(name);
        let mut file = self.fs.open(path, Access::Read).map_err(failed(Operation::Open, path))?;
        match file.sync(Site::here()) {
            // Nothing waits to be written to a file system that is not written to.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(()),
            result => result.map_err(sync_failed(path)),
        }
    }

    /// Generation of the newest record; 0 before the first.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Writes `value` and returns when it is durable. After an error the old value stands as far as this process is concerned; the
    /// next start may find either.
    #[track_caller]
    pub(super) fn write<T: Serialize>(&mut self, value: &T) -> Result<(), StoreError> {
        let target = 1 - self.newest;
        let name = self.names[target];
        let record = encode(name, self.generation + 1, value)?;
        let path = Path::new(name);
        let mut file = match self.fs.open(path, Access::ReadWrite) {
            Ok(file) if !self.other_is_unreadable => file,
            Err(error) if !self.other_is_unreadable && error.kind() != ErrorKind::NotFound => {
                return Err(failed(Operation::Open, path)(error));
            }
            // Not there: a power cut in the middle of the move.
            _ => self.move_other()?,
        };
        file.write_at(0, &record, Site::here()).map_err(failed(Operation::Write, path))?;
        file.sync(Site::here()).map_err(sync_failed(path))?;
        (self.newest, self.generation) = (target, self.generation + 1);
        Ok(())
    }

    /// Puts the file that the disk does not give back elsewhere on the disk. The valid record is not touched, so that a crash here leaves
    /// what there was.
    fn move_other(&mut self) -> Result<Box<dyn File>, StoreError> {
        let file = make_anew(self.fs.as_ref(), Path::new(self.names[1 - self.newest]))?;
        let base = Path::new("");
        self.fs.sync_dir(base, Site::here()).map_err(sync_failed(base))?;
        self.other_is_unreadable = false;
        Ok(file)
    }

    /// What a mistake would do: the next write goes over the newest record.
    #[cfg(test)]
    pub(super) fn swap_files(&mut self) {
        self.newest = 1 - self.newest;
    }

    fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Read<T>, StoreError> {
        let path = Path::new(name);
        let file = match self.fs.open(path, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Read::Nothing),
            result => result.map_err(failed(Operation::Open, path))?,
        };
        let mut record = [0; RECORD_BYTES];
        let count = read_full(file.as_ref(), 0, &mut record).map_err(failed(Operation::Read, path))?;
        if record.iter().all(|&byte| byte == 0) {
            return Ok(Read::Nothing);
        }
        if count < RECORD_BYTES { Ok(Read::Torn) } else { decode(&record) }
    }
}

/// An empty record, its space reserved. The name is durable only after the directory is synced.
fn make_anew(fs: &dyn Fs, name: &Path) -> Result<Box<dyn File>, StoreError> {
    match fs.remove_file(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(Operation::Remove, name)(error)),
        _ => {}
    }
    let mut file = fs.create(name).map_err(failed(Operation::Create, name))?;
    file.allocate(RECORD_BYTES as u64).map_err(failed(Operation::Allocate, name))?;
    Ok(file)
}

enum Read<T> {
    Nothing,
    Torn,
    Record { generation: u64, value: T },
}

fn encode<T: Serialize>(name: &'static str, generation: u64, value: &T) -> Result<[u8; RECORD_BYTES], StoreError> {
    // The values are structs of numbers, strings and lists; serializing those into memory has no way to fail.
    let value = serde_json::to_vec(value).unwrap_or_default();
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::RecordTooLong { record: name, allowed: VALUE_BYTES_MAX, found: value.len() });
    }
    let mut record = [0; RECORD_BYTES];
    record[..FORMAT_AT].copy_from_slice(&MAGIC);
    record[FORMAT_AT..GENERATION_AT].copy_from_slice(&RECORD_FORMAT.to_le_bytes());
    record[GENERATION_AT..LENGTH_AT].copy_from_slice(&generation.to_le_bytes());
    record[LENGTH_AT..VALUE_AT].copy_from_slice(&(value.len() as u32).to_le_bytes());
    record[VALUE_AT..VALUE_AT + value.len()].copy_from_slice(&value);
    let checksum = Sha256Digest::of(&record[..CHECKSUM_AT]);
    record[CHECKSUM_AT..].copy_from_slice(checksum.as_bytes());
    Ok(record)
}

fn decode<T: DeserializeOwned>(record: &[u8; RECORD_BYTES]) -> Result<Read<T>, StoreError> {
    if Sha256Digest::of(&record[..CHECKSUM_AT]).as_bytes() != &record[CHECKSUM_AT..] || record[..FORMAT_AT] != MAGIC {
        return Ok(Read::Torn);
    }
    // From here on the record is whole: what cannot be read was written by another release of the SDK and must not be overwritten.
    let format = u32::from_le_bytes(field(record, FORMAT_AT));
    let generation = u64::from_le_bytes(field(record, GENERATION_AT));
    let length = u32::from_le_bytes(field(record, LENGTH_AT)) as usize;
    let unknown = StoreError::StateFormat { found: format, known: RECORD_FORMAT };
    if format != RECORD_FORMAT || length > VALUE_BYTES_MAX {
        return Err(unknown);
    }
    match serde_json::from_slice(&record[VALUE_AT..VALUE_AT + length]) {
        Ok(value) => Ok(Read::Record { generation, value }),
        Err(_) => Err(unknown),
    }
}

fn field<const N: usize>(record: &[u8; RECORD_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[at..at + N]);
    bytes
}
