//! A bundle's members as plain files, for what needs a model without a vehicle around it.

use std::{fs, fs::File, io::Write, path::Path};

use switchback_signing::bundle::{ChunkDecoder, ChunkIndex, Event, Manifest, TarReader};

use crate::desk::Bundle;

/// Verifies and unpacks a bundle into a new folder.
pub fn unpack(bundle: &Bundle, folder: &Path) -> Manifest {
    let index = ChunkIndex::parse(&fs::read(&bundle.index).unwrap()).unwrap();
    let stored = fs::read(&bundle.bundle).unwrap();
    let (mut decoder, mut reader) = (ChunkDecoder::new(&index, None).unwrap(), TarReader::new(&index));
    let mut open = None;
    for row in index.rows() {
        let stored = &stored[row.stored_offset() as usize..][..row.stored_length() as usize];
        let mut chunk = decoder.decode(index.verify_stored(row.number(), stored).unwrap()).unwrap();
        while let Some(event) = reader.next(&mut chunk).unwrap() {
            match event {
                Event::FileStart(entry) => open = Some(create(&folder.join(&entry.path))),
                Event::Data(bytes) => open.as_mut().unwrap().write_all(bytes).unwrap(),
                _ => {}
            }
        }
    }
    reader.finish().unwrap()
}

fn create(path: &Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create_new(path).unwrap()
}
