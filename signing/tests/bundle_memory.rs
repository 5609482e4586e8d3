//! Reading a bundle takes the same memory whatever the bundle is: measured on the whole process, zstd's own memory included.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, io::Read};

use switchback_signing::{
    bundle::{BundleError, BundleWriter, ChunkDecoder, ChunkIndex, ContentKey, Event, Manifest, TarReader, manifest::FileEntry},
    digest::{Sha256Digest, Sha256Hasher},
};

/// The limit that the design sets for an installation; this is its largest part.
const GROWTH_KIB_MAX: u64 = 16 << 10;

const MIB: u64 = 1 << 20;

/// Highest resident memory of the process so far.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn zeros(length: u64) -> impl Read {
    std::io::repeat(0).take(length)
}

fn entry(path: &str, length: u64) -> FileEntry {
    let mut hasher = Sha256Hasher::new();
    let block = vec![0; MIB as usize];
    let mut left = length;
    while left > 0 {
        let count = left.min(MIB);
        hasher.update(&block[..count as usize]);
        left -= count;
    }
    FileEntry { path: path.into(), length, sha256: hasher.finish() }
}

fn manifest(weights: u64) -> Manifest {
    let files = [entry("model.onnx", 10), entry("inputs", 1), entry("outputs", 1), entry("weights.bin", weights)];
    let contract = include_str!("../src/bundle/tests/contract.json");
    let json = format!(
        r#"{{"format":1,"release":{{"model":"m","version":"1","release_counter":1,"tier":"t","hardware_ids":["h"]}},"files":{},
            "model":"model.onnx","self_test":{{"inputs":"inputs","outputs":"outputs","cases":1}},"contract":{contract}}}"#,
        serde_json::to_string(&files).unwrap()
    );
    Manifest::parse(json.as_bytes()).unwrap()
}

fn write(mut writer: BundleWriter<Vec<u8>>, manifest: &Manifest) -> (Vec<u8>, ChunkIndex) {
    for file in &manifest.files {
        writer.file(zeros(file.length)).unwrap();
    }
    writer.finish().unwrap()
}

fn read(index: &ChunkIndex, bundle: &[u8], key: Option<&ContentKey>) -> Result<u64, BundleError> {
    let mut decoder = ChunkDecoder::new(index, key)?;
    let mut reader = TarReader::new(index);
    let mut read = 0;
    for row in index.rows() {
        let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        let mut chunk = decoder.decode(index.verify_stored(row.number(), stored)?)?;
        while let Some(event) = reader.next(&mut chunk)? {
            if let Event::Data(bytes) = event {
                read += bytes.len() as u64;
            }
        }
    }
    reader.finish()?;
    Ok(read)
}

/// A zstd frame of 64 KiB that decodes to 2 GiB: run-length blocks, no content size.
fn run_length_bomb() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
    for number in 0..16_384_u32 {
        let header = (128_u32 << 10) << 3 | 1 << 1 | u32::from(number == 16_383);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// An index of one chunk that says the bomb is a megabyte.
fn bomb_index(bomb: &[u8]) -> Vec<u8> {
    let mut index = Vec::from(*b"SWBX\x01\0\0\0\x01\0\0\0\x01\0\0\0");
    index.extend_from_slice(&MIB.to_le_bytes());
    index.extend_from_slice(&(bomb.len() as u64).to_le_bytes());
    index.extend_from_slice(Sha256Digest::of(bomb).as_bytes());
    index.extend_from_slice(&[0; 32]);
    index.extend_from_slice(&(bomb.len() as u32).to_le_bytes());
    index.extend_from_slice(&(MIB as u32).to_le_bytes());
    index.push(0);
    index.extend_from_slice(Sha256Digest::of(bomb).as_bytes());
    index.extend_from_slice(&[0; 32]);
    index
}

/// One test, so that nothing else in the process moves the peak.
#[test]
fn a_large_bundle_encrypted_or_not_and_a_bomb_are_read_in_bounded_memory() {
    let weights = 256 * MIB;
    let manifest = manifest(weights);
    let key = ContentKey::from_bytes([1; 32]);
    let (bundle, index) = write(BundleWriter::new(Vec::new(), manifest.clone()).unwrap(), &manifest);
    let (sealed, sealed_index) = write(BundleWriter::encrypted(Vec::new(), manifest.clone(), &key).unwrap(), &manifest);
    assert!((bundle.len() as u64) < MIB, "zeros compress");
    let bomb = run_length_bomb();
    let bomb_index = bomb_index(&bomb);
    // A header that promises 2^32 rows must not make room for them.
    let mut rows_bomb = index.to_bytes();
    rows_bomb[8..12].fill(0xff);

    // Forgets the writer's peak, which would hide the reader's.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib();
    assert_eq!(read(&index, &bundle, None), Ok(weights + 12));
    assert_eq!(read(&sealed_index, &sealed, Some(&key)), Ok(weights + 12));
    let refused = read(&ChunkIndex::parse(&bomb_index).unwrap(), &bomb, None).unwrap_err();
    assert_eq!(refused.number(), 213, "{refused}");
    assert_eq!(ChunkIndex::parse(&rows_bomb).unwrap_err().number(), 203);
    let growth = peak_kib() - before;
    println!("peak grew by {growth} KiB");
    assert!(growth <= GROWTH_KIB_MAX, "{growth} KiB");
}
