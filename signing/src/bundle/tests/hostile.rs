//! Bundles whose hashes are right and whose content is meant to hurt: somebody holds good keys, or wrote a bad tool.

use alloc::{format, string::ToString, vec, vec::Vec};

use tar::{EntryType, Header};

use super::{archive, craft, noise, read, sample};
use crate::{
    bundle::{
        BundleError, ChunkDecoder, ChunkIndex,
        index::{CHUNK_RAW_MAX, ChunkRow, Filter, Summary},
        ustar,
    },
    digest::Sha256Digest,
};

/// Length of the sample's manifest member, where its first file begins.
fn first_file() -> (Vec<u8>, Vec<u8>, usize) {
    let sample = sample();
    let manifest = sample.manifest.to_bytes().unwrap();
    let archive = archive(&manifest, &sample.manifest.files, &sample.contents);
    let start = 512 + manifest.len() + ustar::padding(manifest.len() as u64);
    (manifest, archive, start)
}

/// The sample's archive with the header of its first file changed by a tar library and its checksum made right again.
#[track_caller]
fn refuse_header(change: impl FnOnce(&mut Header)) {
    let (manifest, mut archive, start) = first_file();
    let mut header = Header::from_byte_slice(&archive[start..start + 512]).clone();
    change(&mut header);
    header.set_cksum();
    archive[start..start + 512].copy_from_slice(header.as_bytes());
    refuse_archive(&manifest, &archive);
}

#[track_caller]
fn refuse_archive(manifest: &[u8], archive: &[u8]) {
    let (index, bundle) = craft(manifest, &[archive]);
    let error = read(&index, &bundle).unwrap_err();
    assert!(matches!(error, BundleError::ArchiveBytes { .. } | BundleError::ArchiveLength { .. }), "{error}");
}

#[test]
fn an_unchanged_header_is_the_one_that_a_tar_library_writes() {
    let (_, archive, start) = first_file();
    let ours = Header::from_byte_slice(&archive[start..start + 512]);
    let mut theirs = Header::new_ustar();
    theirs.set_path("model.onnx").unwrap();
    theirs.set_size(700);
    theirs.set_mode(0o644);
    theirs.set_entry_type(EntryType::Regular);
    theirs.set_device_major(0).unwrap();
    theirs.set_device_minor(0).unwrap();
    theirs.set_uid(0);
    theirs.set_gid(0);
    theirs.set_mtime(0);
    theirs.set_cksum();
    assert_eq!(ours.cksum().unwrap(), theirs.cksum().unwrap());
    assert_eq!((ours.path().unwrap(), ours.size().unwrap()), (theirs.path().unwrap(), 700));
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for name in [&b"../evil"[..], b"/etc/passwd", b"model.onnx/../../evil", b"./model.onnx", b"MODEL.ONNX", b"model.onnx\0hidden"] {
        refuse_header(|header| {
            let field = &mut header.as_old_mut().name;
            field.fill(0);
            field[..name.len()].copy_from_slice(name);
        });
    }
}

#[test]
fn entries_that_are_no_regular_files_are_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::Continuous,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::new(0),
    ] {
        refuse_header(|header| {
            header.set_entry_type(kind);
            header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        });
    }
}

#[test]
fn a_size_or_mode_that_the_manifest_does_not_state_is_refused() {
    refuse_header(|header| header.set_size(699));
    refuse_header(|header| header.set_size(512 << 20));
    refuse_header(|header| header.set_size(u64::MAX));
    refuse_header(|header| header.set_mode(0o4777));
    refuse_header(|header| header.set_uid(1000));
    refuse_header(|header| header.set_mtime(1));
    refuse_header(|header| header.as_ustar_mut().unwrap().prefix[..5].copy_from_slice(b"outer"));
}

#[test]
fn extension_headers_before_a_file_are_refused() {
    let (manifest, archive, start) = first_file();
    for (kind, length) in [(EntryType::XHeader, 20), (EntryType::GNULongName, 512 << 10), (EntryType::GNUSparse, 512)] {
        let mut header = Header::new_ustar();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(kind);
        header.set_size(length as u64);
        header.set_cksum();
        let mut extended = archive[..start].to_vec();
        extended.extend_from_slice(header.as_bytes());
        extended.resize(extended.len() + length + ustar::padding(length as u64), b'a');
        extended.extend_from_slice(&archive[start..]);
        refuse_archive(&manifest, &extended);
    }
}

#[test]
fn a_missing_end_and_anything_behind_it_are_refused() {
    let (manifest, archive, start) = first_file();
    refuse_archive(&manifest, &archive[..archive.len() - 1024]);
    refuse_archive(&manifest, &archive[..archive.len() - 512]);
    refuse_archive(&manifest, &[&archive, &archive[start..]].concat());
    refuse_archive(&manifest, &[archive.as_slice(), &[0; 512]].concat());
    let mut duplicate = archive[..archive.len() - 1024].to_vec();
    duplicate.extend_from_slice(&archive[start..]);
    refuse_archive(&manifest, &duplicate);
}

/// An index over one chunk with these stored bytes, whose raw bytes should be `raw`.
fn one_chunk(stored: &[u8], raw: &[u8]) -> ChunkIndex {
    let row = ChunkRow {
        number: 0,
        stored_offset: 0,
        raw_offset: 0,
        stored_length: stored.len() as u32,
        raw_length: raw.len() as u32,
        filter: Filter::None,
        stored_sha256: Sha256Digest::of(stored),
        raw_sha256: Sha256Digest::of(raw),
    };
    let summary = Summary {
        encryption: None,
        manifest_length: 1,
        manifest_sha256: Sha256Digest::of(b""),
        tar_length: raw.len() as u64,
        bundle_length: stored.len() as u64,
        bundle_sha256: Sha256Digest::of(stored),
    };
    ChunkIndex::new(summary, vec![row]).unwrap()
}

fn decode(stored: &[u8], raw: &[u8]) -> Result<(), BundleError> {
    let index = one_chunk(stored, raw);
    let mut decoder = ChunkDecoder::new(&index, None).unwrap();
    let chunk = decoder.decode(index.verify_stored(0, stored).unwrap())?;
    assert_eq!(chunk.bytes(), raw);
    Ok(())
}

#[track_caller]
fn refuse_frame(stored: &[u8], raw: &[u8], reason: &str) {
    let error = decode(stored, raw).unwrap_err();
    assert_eq!(error.to_string(), format!("chunk 0 cannot be decoded: {reason}"));
}

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A frame of run-length blocks: four bytes become 128 KiB.
fn run_length_frame(header: &[u8], blocks: usize) -> Vec<u8> {
    let mut frame = [&MAGIC, header].concat();
    for number in 0..blocks {
        let block = (128_u32 << 10) << 3 | 1 << 1 | u32::from(number + 1 == blocks);
        frame.extend_from_slice(&block.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_frame_that_decodes_to_more_than_the_index_says_stops_at_the_buffer() {
    let raw = vec![0; CHUNK_RAW_MAX];
    // No content size, a window of a megabyte. Eight blocks are what the index says, 16,384 are two gigabytes.
    assert_eq!(decode(&run_length_frame(&[0, 0x50], 8), &raw), Ok(()));
    for blocks in [9, 16_384] {
        refuse_frame(&run_length_frame(&[0, 0x50], blocks), &raw, "the zstd frame is damaged or longer than the index says");
    }
    let short = decode(&run_length_frame(&[0, 0x50], 7), &raw).unwrap_err();
    assert_eq!(short, BundleError::RawLength { chunk: 0, expected: 1 << 20, found: 7 << 17 });
}

#[test]
fn a_frame_header_that_asks_for_too_much_is_refused() {
    let raw = vec![0; 128 << 10];
    let frame = |header: &[u8]| run_length_frame(header, 1);
    assert_eq!(decode(&frame(&[0, 13 << 3]), &raw), Ok(()));
    refuse_frame(&frame(&[0, 13 << 3 | 1]), &raw, "the zstd frame asks for a window above 8 MiB");
    refuse_frame(&frame(&[0, 0xff]), &raw, "the zstd frame asks for a window above 8 MiB");
    refuse_frame(&frame(&[1, 0x50, 7]), &raw, "the zstd frame asks for a dictionary");
    refuse_frame(&frame(&[0x08, 0x50]), &raw, "the zstd frame header uses a reserved bit");
    refuse_frame(&frame(&[0xa0, 0, 0, 3, 0]), &raw, "the zstd frame states another length than the index");
    refuse_frame(&frame(&[0xe0, 255, 255, 255, 255, 255, 255, 255, 255]), &raw, "the zstd frame states another length than the index");
    assert_eq!(decode(&frame(&[0xa0, 0, 0, 2, 0]), &raw), Ok(()));
}

#[test]
fn bytes_that_are_not_exactly_one_frame_are_refused() {
    let raw = noise(1, 5000);
    let frame = zstd::bulk::compress(&raw, 3).unwrap();
    assert_eq!(decode(&frame, &raw), Ok(()));
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let legacy = [&[0x27, 0xb5, 0x2f, 0xfd], &frame[4..]].concat();
    let no_magic = "it does not begin with the magic number of a zstd frame";
    refuse_frame(&[&skippable, frame.as_slice()].concat(), &raw, no_magic);
    refuse_frame(&legacy, &raw, no_magic);
    refuse_frame(&raw[..100], &raw, no_magic);
    refuse_frame(&[frame.as_slice(), &frame].concat(), &raw, "bytes follow the zstd frame");
    refuse_frame(&[frame.as_slice(), &skippable].concat(), &raw, "bytes follow the zstd frame");
    refuse_frame(&[frame.as_slice(), &[0]].concat(), &raw, "bytes follow the zstd frame");
    refuse_frame(&frame[..frame.len() - 1], &raw, "the zstd frame is cut off or damaged");
    refuse_frame(&MAGIC, &raw, "the zstd frame header is cut off");
    refuse_frame(&[&MAGIC[..], &[0]].concat(), &raw, "the zstd frame header is cut off");
    refuse_frame(&[&MAGIC[..], &[0xa0, 1]].concat(), &raw, "the zstd frame header is cut off");
}
