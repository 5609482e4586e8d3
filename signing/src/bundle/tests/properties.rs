//! What holds for every bundle.

use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::{archive, craft, noise, read, sample, sample_of};
use crate::bundle::{ChunkDecoder, ChunkIndex, ChunkRow, Event, TarReader, index::CHUNK_RAW_MAX};

#[test]
fn what_was_written_is_read() {
    for length in [0, 1, 511, 512, 513, CHUNK_RAW_MAX - 1, CHUNK_RAW_MAX, CHUNK_RAW_MAX + 1, 3 * CHUNK_RAW_MAX] {
        let sample = sample_of(vec![noise(4, length), vec![0; length], noise(5, 3)]);
        let (manifest, contents) = read(&sample.index, &sample.bundle).unwrap();
        assert_eq!(manifest, sample.manifest);
        assert!(contents == sample.contents, "length {length}");
    }
}

#[test]
fn the_same_files_make_the_same_bundle() {
    let (first, second) = (sample(), sample());
    assert_eq!(first.bundle, second.bundle);
    assert_eq!(first.index.to_bytes(), second.index.to_bytes());
}

#[test]
fn a_chunk_of_content_holds_bytes_of_one_file_only() {
    let sample = sample_of(vec![noise(6, 2 * CHUNK_RAW_MAX + 100), noise(7, 100), noise(8, 1000)]);
    let archive = archive(&sample.manifest.to_bytes().unwrap(), &sample.manifest.files, &sample.contents);
    for content in sample.contents {
        let start = archive.windows(content.len()).position(|window| window == content).unwrap() as u64;
        let end = start + content.len() as u64;
        let cuts: Vec<u64> = sample.index.rows().iter().map(ChunkRow::raw_offset).collect();
        assert!(cuts.contains(&start) && cuts.contains(&end));
    }
}

#[test]
fn any_tar_reads_a_bundle() {
    let sample = sample();
    let mut archive = tar::Archive::new(zstd::Decoder::new(sample.bundle.as_slice()).unwrap());
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert!(header.as_ustar().is_some());
        assert_eq!(header.entry_type(), tar::EntryType::Regular);
        assert_eq!((header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap()), (0o644, 0, 0));
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        names.push((entry.path().unwrap().to_str().unwrap().to_owned(), content));
    }
    let expected = sample.manifest.files.iter().map(|file| file.path.clone()).zip(sample.contents);
    assert_eq!(names[0].0, "manifest.json");
    assert_eq!(names[1..], expected.collect::<Vec<_>>());
}

#[test]
fn one_changed_byte_anywhere_is_refused() {
    let sample = sample();
    for position in 0..sample.bundle.len() {
        let mut bundle = sample.bundle.clone();
        bundle[position] ^= 1 << (position % 8);
        assert!(read(&sample.index, &bundle).is_err(), "byte {position}");
    }
}

#[test]
fn a_bundle_truncated_at_any_point_is_refused() {
    let sample = sample();
    for length in 0..sample.bundle.len() {
        assert!(read(&sample.index, &sample.bundle[..length]).is_err(), "length {length}");
    }
}

#[test]
fn an_index_with_one_changed_byte_is_another_index_or_none() {
    let sample = sample();
    let bytes = sample.index.to_bytes();
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 1 << (position % 8);
        let Ok(index) = ChunkIndex::parse(&changed) else { continue };
        // The index's own hash is signed. Should it ever be believed without: only the hash of the whole bundle, which a TUF tool
        // checks and the chunk reader does not need, can differ and still read.
        let same_bundle = index.bundle_sha256() == sample.index.bundle_sha256();
        assert!(!same_bundle || read(&index, &sample.bundle).is_err(), "byte {position}");
        assert_eq!(index.to_bytes(), changed);
    }
    for length in 0..bytes.len() {
        assert!(ChunkIndex::parse(&bytes[..length]).is_err(), "length {length}");
    }
}

#[test]
fn chunks_out_of_turn_are_refused() {
    let sample = sample();
    let archive = archive(&sample.manifest.to_bytes().unwrap(), &sample.manifest.files, &sample.contents);
    let raw = |number: usize| {
        let row = sample.index.row(number).unwrap();
        let start = row.raw_offset() as usize;
        sample.index.verify_raw(number, &archive[start..start + row.raw_length() as usize]).unwrap()
    };
    let mut reader = TarReader::new(&sample.index);
    let skipped = reader.next(&mut raw(1)).unwrap_err();
    assert_eq!(skipped.number(), 220);
    assert!(reader.next(&mut raw(0)).unwrap().is_none());
    let repeated = reader.next(&mut raw(0)).unwrap_err();
    assert_eq!(repeated.number(), 220);
}

#[test]
fn raw_bytes_from_a_disk_read_like_downloaded_ones() {
    let sample = sample();
    let archive = archive(&sample.manifest.to_bytes().unwrap(), &sample.manifest.files, &sample.contents);
    let mut reader = TarReader::new(&sample.index);
    for row in sample.index.rows() {
        let start = row.raw_offset() as usize;
        let mut chunk = sample.index.verify_raw(row.number(), &archive[start..start + row.raw_length() as usize]).unwrap();
        while reader.next(&mut chunk).unwrap().is_some() {}
    }
    assert_eq!(reader.finish().unwrap(), sample.manifest);
}

#[test]
fn a_resumed_reader_says_exactly_what_was_not_said_before() {
    let sample = sample_of(alloc::vec![noise(1, 3000), Vec::new(), noise(2, 512), noise(3, 20), Vec::new()]);
    // Cuts that fall inside files too, as they do in files of more than a megabyte.
    let manifest = sample.manifest.to_bytes().unwrap();
    let whole = archive(&manifest, &sample.manifest.files, &sample.contents);
    let pieces: Vec<&[u8]> = whole.chunks(333).collect();
    let (index, bundle) = craft(&manifest, &pieces);
    let mut decoder = ChunkDecoder::new(&index, None).unwrap();
    let mut events_of = |reader: &mut TarReader, number: usize| {
        let row = index.row(number).unwrap();
        let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        let mut chunk = decoder.decode(index.verify_stored(number, stored).unwrap()).unwrap();
        let mut events = Vec::new();
        while let Some(event) = reader.next(&mut chunk).unwrap() {
            events.push(format!("{event:?}"));
        }
        events
    };
    let mut straight = TarReader::new(&index);
    let said: Vec<Vec<String>> = (0..pieces.len()).map(|number| events_of(&mut straight, number)).collect();
    let mut resumed_at = 0;
    for stop in 1..=pieces.len() {
        let position = (stop * 333).min(whole.len()) as u64;
        let Ok(mut reader) = TarReader::resume(&index, &manifest, position) else {
            assert!(position < 512 + manifest.len() as u64, "only the manifest itself cannot be resumed: {position}");
            continue;
        };
        resumed_at += 1;
        let rest: Vec<Vec<String>> = (stop..pieces.len()).map(|number| events_of(&mut reader, number)).collect();
        assert_eq!(rest, said[stop..], "resumed after chunk {stop}");
        reader.finish().unwrap();
    }
    assert!(resumed_at > 10);
    assert!(TarReader::resume(&index, &manifest, whole.len() as u64 + 1).is_err());
    assert!(TarReader::resume(&index, &manifest[1..], whole.len() as u64).is_err());
}

/// A manifest's archive with some bytes replaced, inserted or removed.
fn damaged_archive() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let sample = sample();
    let manifest = sample.manifest.to_bytes().unwrap();
    let archive = archive(&manifest, &sample.manifest.files, &sample.contents);
    let edit = (0..archive.len(), 0..600_usize, proptest::collection::vec(any::<u8>(), 0..600));
    proptest::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut damaged = archive.clone();
        for (position, removed, inserted) in edits {
            let start = position.min(damaged.len());
            let end = (start + removed).min(damaged.len());
            damaged.splice(start..end, inserted);
        }
        (manifest.clone(), damaged)
    })
}

proptest! {
    #[test]
    fn cuts_do_not_matter(cuts in proptest::collection::vec(1..2000_usize, 1..40)) {
        let sample = sample();
        let manifest = sample.manifest.to_bytes().unwrap();
        let archive = archive(&manifest, &sample.manifest.files, &sample.contents);
        let mut rest = archive.as_slice();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let (index, bundle) = craft(&manifest, &pieces);
        prop_assert_eq!(read(&index, &bundle).unwrap().1, sample.contents);
    }

    #[test]
    fn a_damaged_archive_with_right_hashes_is_refused((manifest, damaged) in damaged_archive()) {
        prop_assume!(!damaged.is_empty());
        let sample = sample();
        let (index, bundle) = craft(&manifest, &[&damaged]);
        // An edit may undo another; what is accepted is the archive of the manifest and nothing else.
        if let Ok((_, contents)) = read(&index, &bundle) {
            prop_assert_eq!(contents, sample.contents);
        }
    }

    #[test]
    fn garbage_never_panics(manifest in proptest::collection::vec(any::<u8>(), 1..300), garbage in proptest::collection::vec(any::<u8>(), 1..5000)) {
        let (index, bundle) = craft(&manifest, &[&garbage]);
        prop_assert!(read(&index, &bundle).is_err());
        prop_assert!(ChunkIndex::parse(&garbage).is_err());
    }

    #[test]
    fn an_archive_after_a_good_beginning_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..3000), at in 0..4000_usize) {
        let sample = sample();
        let manifest = sample.manifest.to_bytes().unwrap();
        let mut bytes = archive(&manifest, &sample.manifest.files, &sample.contents);
        let at = at.min(bytes.len());
        for (byte, garbage) in bytes[at..].iter_mut().zip(garbage) {
            *byte = garbage;
        }
        let (index, bundle) = craft(&manifest, &[&bytes]);
        if let Ok((_, contents)) = read(&index, &bundle) {
            prop_assert_eq!(contents, sample.contents);
        }
    }
}

#[test]
fn data_is_borrowed_from_the_chunk() {
    // The store writes what it is handed without a copy in between: one chunk of content is one event.
    let sample = sample_of(vec![noise(9, CHUNK_RAW_MAX), Vec::new(), Vec::new()]);
    let raw = &sample.contents[0];
    let row = sample.index.rows().iter().find(|row| row.raw_length() as usize == CHUNK_RAW_MAX).unwrap();
    let archive = archive(&sample.manifest.to_bytes().unwrap(), &sample.manifest.files, &sample.contents);
    let mut reader = TarReader::new(&sample.index);
    for before in &sample.index.rows()[..row.number()] {
        let start = before.raw_offset() as usize;
        let mut chunk = sample.index.verify_raw(before.number(), &archive[start..start + before.raw_length() as usize]).unwrap();
        while reader.next(&mut chunk).unwrap().is_some() {}
    }
    let mut chunk = sample.index.verify_raw(row.number(), raw).unwrap();
    match reader.next(&mut chunk).unwrap() {
        Some(Event::Data(data)) => assert!(core::ptr::eq(data, raw.as_slice())),
        other => panic!("{other:?}"),
    }
}
