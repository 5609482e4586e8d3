//! Deltas between bundles, made as `switchback delta create` leaves them; every file is compared with the base's of the same name.

use std::path::Path;

use switchback_signing::bundle::{
    ChunkDecoder, ChunkIndex, Event, Manifest, TarReader,
    delta::{Base, BasePlace, BaseRelease, DeltaPlan, DeltaWriter, Element, FullBundle, Span},
};

use crate::desk::Bundle;

/// A bundle in memory.
struct Unpacked {
    index: ChunkIndex,
    manifest: Manifest,
    /// Raw bytes of every chunk, and where they lie.
    chunks: Vec<(Vec<u8>, Option<Place>)>,
    files: Vec<Vec<u8>>,
}

/// A file by its number, and an offset in it.
type Place = (usize, u64);

impl Unpacked {
    fn read(bundle: &Bundle) -> Self {
        let index = ChunkIndex::parse(&std::fs::read(&bundle.index).unwrap()).unwrap();
        let stored = std::fs::read(&bundle.bundle).unwrap();
        let (mut decoder, mut reader) = (ChunkDecoder::new(&index, None).unwrap(), TarReader::new(&index));
        let (mut chunks, mut files) = (Vec::new(), Vec::<Vec<u8>>::new());
        for row in index.rows() {
            let stored = &stored[row.stored_offset() as usize..][..row.stored_length() as usize];
            let mut chunk = decoder.decode(index.verify_stored(row.number(), stored).unwrap()).unwrap();
            let (raw, mut place) = (chunk.bytes().to_vec(), None);
            while let Some(event) = reader.next(&mut chunk).unwrap() {
                match event {
                    Event::FileStart(_) => files.push(Vec::new()),
                    Event::Data(bytes) => {
                        place = Some((files.len() - 1, files.last().unwrap().len() as u64));
                        files.last_mut().unwrap().extend_from_slice(bytes);
                    }
                    Event::Manifest { .. } | Event::FileEnd(_) | Event::End => {}
                }
            }
            chunks.push((raw, place));
        }
        Self { manifest: reader.finish().unwrap(), index, chunks, files }
    }
}

/// Its files.
struct Files<'a>(&'a [Vec<u8>]);

impl Base for Files<'_> {
    type Error = &'static str;

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        let bytes = self.0.get(file).and_then(|file| file.get(offset as usize..offset as usize + into.len()));
        into.copy_from_slice(bytes.ok_or("too short")?);
        Ok(())
    }
}

/// Writes a delta between two bundles whose large files are 16-bit floats.
pub fn make(base: &Bundle, new: &Bundle, out: &Path) {
    let (base, new) = (Unpacked::read(base), Unpacked::read(new));
    let plan = DeltaPlan {
        full: &new.index,
        full_bundle: FullBundle::Published,
        base: BaseRelease::of(&base.index, &base.manifest),
        content_key: None,
        salt: [0; 32],
    };
    let mut writer = DeltaWriter::new(Vec::new(), plan).unwrap();
    for (raw, place) in &new.chunks {
        let span = place.map(|(file, _)| {
            let entry = &new.manifest.files[file];
            let like = base.manifest.files.iter().position(|other| other.path == entry.path && other.length == entry.length);
            Span { offset: 0, length: entry.length, element: Element::F16, base: like.map(|file| BasePlace { file, offset: 0 }) }
        });
        let offset = place.map_or(0, |(_, offset)| offset);
        writer.chunk(raw, offset, span.as_slice(), &mut Files(&base.files)).unwrap();
    }
    let (data, index) = writer.finish().unwrap();
    std::fs::write(out.join("delta.data"), data).unwrap();
    std::fs::write(out.join("delta.index"), index.to_bytes()).unwrap();
}
