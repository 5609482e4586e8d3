//! Files that metadata lists, brought piece by piece and checked as they come.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

use switchback_sdk::fetch::{Client, DownloadRequest};
use switchback_signing::trust::FileCheck;

/// Bytes per read.
const PIECE_BYTES: usize = 64 << 10;

/// Downloads a file and makes it durable. What differs from what is listed is no error of the disk: ask the error what it is.
pub(crate) fn download(client: &Client, path: &str, mut check: FileCheck<'_>, into: &Path) -> anyhow::Result<()> {
    let length = check.length();
    let mut download = client.download(&DownloadRequest { path, length, range: 0..length, etag: None })?;
    let (mut file, mut piece) = (File::create(into)?, vec![0; PIECE_BYTES]);
    let mut missing = length;
    while missing > 0 {
        let piece = &mut piece[..usize::try_from(missing).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
        download.read_exact(piece)?;
        check.update(piece)?;
        file.write_all(piece)?;
        missing -= piece.len() as u64;
    }
    download.finish()?;
    check.finish()?;
    Ok(file.sync_all()?)
}

/// Whether a file holds the bytes that are listed.
pub(crate) fn is_held(mut check: FileCheck<'_>, path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return check.finish().is_ok(),
            Ok(count) if check.update(&piece[..count]).is_ok() => {}
            _ => return false,
        }
    }
}
