#![allow(clippy::unwrap_used, clippy::expect_used)]

mod contract;
mod encrypted;
mod errors;
mod hostile;
mod properties;

use alloc::{format, string::String, vec::Vec};

use super::{
    BundleError, BundleWriter, ChunkDecoder, ChunkIndex, ContentKey, Event, Manifest, TarReader, index::Summary, manifest::FileEntry,
    ustar, writer::ChunkWriter,
};
use crate::digest::Sha256Digest;

const CONTRACT: &str = include_str!("tests/contract.json");

/// A bundle and what went into it.
pub(super) struct Sample {
    pub(super) manifest: Manifest,
    pub(super) contents: Vec<Vec<u8>>,
    pub(super) index: ChunkIndex,
    pub(super) bundle: Vec<u8>,
}

/// Content that does not compress, as weights do not; the same for the same seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    core::iter::repeat_with(byte).take(length).collect()
}

pub(super) fn manifest(contents: &[Vec<u8>]) -> Manifest {
    assert!(contents.len() >= 3);
    let path = |number: usize| match number {
        0 => "model.onnx".into(),
        1 => "selftest/inputs.safetensors".into(),
        2 => "selftest/outputs.safetensors".into(),
        _ => format!("weights-{number}.bin"),
    };
    let entry = |(number, content): (usize, &Vec<u8>)| FileEntry {
        path: path(number),
        length: content.len() as u64,
        sha256: Sha256Digest::of(content),
    };
    let files: Vec<FileEntry> = contents.iter().enumerate().map(entry).collect();
    let json = format!(
        r#"{{"format":1,"release":{{"model":"vla-2","version":"2.0.0","release_counter":7,"tier":"ultra","hardware_ids":["drive-a"]}},
            "files":{},"model":"model.onnx",
            "self_test":{{"inputs":"selftest/inputs.safetensors","outputs":"selftest/outputs.safetensors","cases":2}},
            "contract":{CONTRACT}}}"#,
        serde_json::to_string(&files).unwrap()
    );
    Manifest::parse(json.as_bytes()).unwrap()
}

pub(super) fn sample_of(contents: Vec<Vec<u8>>) -> Sample {
    let writer = BundleWriter::new(Vec::new(), manifest(&contents)).unwrap();
    written(writer, contents)
}

pub(super) fn written(mut writer: BundleWriter<Vec<u8>>, contents: Vec<Vec<u8>>) -> Sample {
    let manifest = manifest(&contents);
    for content in &contents {
        writer.file(content.as_slice()).unwrap();
    }
    let (bundle, index) = writer.finish().unwrap();
    Sample { manifest, contents, index, bundle }
}

fn contents() -> Vec<Vec<u8>> {
    alloc::vec![noise(1, 700), Vec::new(), noise(2, 512), noise(3, 20)]
}

fn sample() -> Sample {
    sample_of(contents())
}

fn read(index: &ChunkIndex, bundle: &[u8]) -> Result<(Manifest, Vec<Vec<u8>>), BundleError> {
    read_with(index, bundle, None)
}

/// What a vehicle does: every chunk through every check. Returns the manifest and the files' contents.
pub(super) fn read_with(index: &ChunkIndex, bundle: &[u8], key: Option<&ContentKey>) -> Result<(Manifest, Vec<Vec<u8>>), BundleError> {
    let mut decoder = ChunkDecoder::new(index, key)?;
    let mut reader = TarReader::new(index);
    let mut contents: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<String> = None;
    let mut ended = false;
    for row in index.rows() {
        let start = (row.stored_offset() as usize).min(bundle.len());
        let end = (start + row.stored_length() as usize).min(bundle.len());
        let mut chunk = decoder.decode(index.verify_stored(row.number(), &bundle[start..end])?)?;
        while let Some(event) = reader.next(&mut chunk)? {
            assert!(!ended, "nothing follows the end");
            match event {
                Event::Manifest { manifest, bytes } => assert_eq!(manifest, &Manifest::parse(bytes).unwrap()),
                Event::FileStart(file) => {
                    assert_eq!(open.replace(file.path.clone()), None);
                    contents.push(Vec::new());
                }
                Event::Data(bytes) => contents.last_mut().unwrap().extend_from_slice(bytes),
                Event::FileEnd(file) => assert_eq!(open.take(), Some(file.path.clone())),
                Event::End => ended = true,
            }
        }
    }
    let manifest = reader.finish()?;
    assert!(ended, "the end is announced");
    Ok((manifest, contents))
}

/// The bundle of somebody whose keys are good and whose intentions are not: any archive bytes at all, with hashes that are right.
fn craft(manifest: &[u8], pieces: &[&[u8]]) -> (ChunkIndex, Vec<u8>) {
    let mut chunks = ChunkWriter::new(None).unwrap();
    let (mut bundle, mut tar_length) = (Vec::new(), 0);
    for piece in pieces.iter().flat_map(|piece| piece.chunks(super::index::CHUNK_RAW_MAX)) {
        bundle.extend_from_slice(chunks.add(piece, tar_length).unwrap());
        tar_length += piece.len() as u64;
    }
    let summary = Summary {
        encryption: None,
        manifest_length: manifest.len() as u32,
        manifest_sha256: Sha256Digest::of(manifest),
        tar_length,
        bundle_length: bundle.len() as u64,
        bundle_sha256: Sha256Digest::of(&bundle),
    };
    (ChunkIndex::new(summary, chunks.rows).unwrap(), bundle)
}

/// The whole archive of a manifest and its contents, as one piece.
pub(super) fn archive(manifest: &[u8], files: &[FileEntry], contents: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = ustar::before_member(0, "manifest.json", manifest.len() as u64);
    bytes.extend_from_slice(manifest);
    let mut previous = manifest.len() as u64;
    for (file, content) in files.iter().zip(contents) {
        bytes.extend(ustar::before_member(previous, &file.path, file.length));
        bytes.extend_from_slice(content);
        previous = file.length;
    }
    bytes.extend(ustar::after_last_member(previous));
    bytes
}

#[test]
fn where_a_files_content_lies_follows_from_the_manifest() {
    let Sample { manifest, contents, index, bundle } = sample();
    let mut decoder = ChunkDecoder::new(&index, None).unwrap();
    let mut tar = Vec::new();
    let (mut reader, mut framing) = (TarReader::new(&index), 0);
    for row in index.rows() {
        let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        let mut chunk = decoder.decode(index.verify_stored(row.number(), stored).unwrap()).unwrap();
        tar.extend_from_slice(chunk.bytes());
        if !reader.framing().is_empty() {
            // The writer gives the framing between two members a chunk of its own.
            assert_eq!(reader.framing(), chunk.bytes(), "chunk {}", row.number());
            framing += 1;
        }
        while reader.next(&mut chunk).unwrap().is_some() {}
    }
    assert_eq!(framing, contents.len() + 2, "before each member and at the end");
    let offsets: Vec<u64> = manifest.content_offsets(index.manifest_length()).collect();
    assert_eq!(offsets.len(), contents.len());
    for (offset, content) in offsets.into_iter().zip(&contents) {
        assert_eq!(&tar[offset as usize..][..content.len()], content);
    }
}
