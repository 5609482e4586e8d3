//! Bundles whose index, chunks or list of contents contradict themselves or each other, with every signature that there can be.

use switchback_fuzz::CraftedBundle;
use switchback_signing::{
    bundle::index::{CHUNK_GROWTH_MAX, CHUNK_RAW_MAX, CHUNKS_MAX},
    bundle::manifest::MANIFEST_LENGTH_MAX,
    digest::Sha256Digest,
    trust::Attack::{EndlessData, MixAndMatch},
};

use super::{
    bundle::{of_archive, signed_and_refused, with_manifest},
    scene::Scene,
};

/// Where fields of an index stand, and where its first row begins.
const MAGIC: usize = 0;
const FORMAT: usize = 4;
const ENCRYPTION: usize = 6;
const ROWS: usize = 8;
const MANIFEST_LENGTH: usize = 12;
const TAR_LENGTH: usize = 16;
const BUNDLE_LENGTH: usize = 24;
const BUNDLE_SHA256: usize = 32;
const ROW: usize = 96;
const ROW_BYTES: usize = 73;

fn put_u32(index: &mut [u8], at: usize, value: u32) {
    index[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get_u32(index: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(index[at..at + 4].try_into().unwrap())
}

fn add_u32(index: &mut [u8], at: usize, more: u32) {
    let value = get_u32(index, at);
    put_u32(index, at, value + more);
}

fn add_u64(index: &mut [u8], at: usize, more: i64) {
    let value = u64::from_le_bytes(index[at..at + 8].try_into().unwrap());
    index[at..at + 8].copy_from_slice(&value.checked_add_signed(more).unwrap().to_le_bytes());
}

/// The bundle has other bytes than its chunks, and the index says so.
fn lengthen(index: &mut [u8], bundle: &mut Vec<u8>, by: usize) {
    bundle.resize(bundle.len() + by, 0);
    add_u64(index, BUNDLE_LENGTH, by as i64);
    index[BUNDLE_SHA256..BUNDLE_SHA256 + 32].copy_from_slice(Sha256Digest::of(bundle).as_bytes());
}

/// Another length in the first row, and a sum that is right all the same.
fn first_raw_length(index: &mut [u8], length: u32) {
    let before = get_u32(index, ROW + 4);
    put_u32(index, ROW + 4, length);
    add_u64(index, TAR_LENGTH, i64::from(length) - i64::from(before));
}

type Change = fn(&mut Vec<u8>, &mut Vec<u8>);

/// Each of these would have something read, reserved or left out that nobody has signed.
#[test]
fn a08_an_index_that_contradicts_itself_is_refused() {
    let changes: [(&str, Change); 15] = [
        ("it does not begin as one", |index, _| index[MAGIC] = b'X'),
        ("a later format", |index, _| index[FORMAT] = 2),
        ("a method of encryption that nobody knows", |index, _| index[ENCRYPTION] = 2),
        ("a byte behind the last row", |index, _| index.push(0)),
        ("no row", |index, bundle| {
            index.truncate(ROW);
            index[TAR_LENGTH..BUNDLE_SHA256].fill(0);
            put_u32(index, ROWS, 0);
            bundle.clear();
            index[BUNDLE_SHA256..BUNDLE_SHA256 + 32].copy_from_slice(Sha256Digest::of(bundle).as_bytes());
        }),
        ("no manifest", |index, _| put_u32(index, MANIFEST_LENGTH, 0)),
        ("a manifest of more than a mebibyte", |index, _| put_u32(index, MANIFEST_LENGTH, MANIFEST_LENGTH_MAX as u32 + 1)),
        ("a longer archive than the rows make", |index, _| add_u64(index, TAR_LENGTH, 1)),
        ("a longer bundle than the rows make", |index, bundle| lengthen(index, bundle, 1)),
        ("a filter that only deltas have", |index, _| index[ROW + 8] = 2),
        ("a chunk that decodes to nothing", |index, _| first_raw_length(index, 0)),
        ("a chunk that decodes to more than the buffer", |index, _| first_raw_length(index, CHUNK_RAW_MAX as u32 + 1)),
        ("a chunk of no bytes", |index, _| {
            let row: Vec<u8> = [0_u32, 1].map(u32::to_le_bytes).concat().into_iter().chain([0; ROW_BYTES - 8]).collect();
            index.extend(row);
            add_u32(index, ROWS, 1);
            add_u64(index, TAR_LENGTH, 1);
        }),
        ("a chunk that is longer than the buffer for it", |index, bundle| {
            let by = get_u32(index, ROW + 4) + CHUNK_GROWTH_MAX as u32 + 1 - get_u32(index, ROW);
            add_u32(index, ROW, by);
            lengthen(index, bundle, by as usize);
        }),
        ("more rows than a bundle may have", |index, _| {
            let row = index[ROW..ROW + ROW_BYTES].to_vec();
            let more = CHUNKS_MAX + 1 - get_u32(index, ROWS) as usize;
            (0..more).for_each(|_| index.extend_from_slice(&row));
            put_u32(index, ROWS, CHUNKS_MAX as u32 + 1);
            add_u64(index, TAR_LENGTH, more as i64 * i64::from(get_u32(&row, 4)));
            add_u64(index, BUNDLE_LENGTH, more as i64 * i64::from(get_u32(&row, 0)));
        }),
    ];
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let honest = of_archive(&archive);
    for (what, change) in changes {
        eprintln!("an index with {what}");
        let (mut index, mut bundle) = (honest.index(&manifest), honest.bundle());
        change(&mut index, &mut bundle);
        let mut scene = Scene::new();
        scene.engineers_publish(&index, &bundle);
        scene.car.vehicle.check_now();
        scene.meets(162, "index_malformed").recovers_with_another_release();
    }
}

/// The release is one that anybody may read, and its index says that it is encrypted.
#[test]
fn a09_an_index_that_is_encrypted_otherwise_than_the_release_is_refused() {
    let mut scene = Scene::new();
    let (manifest, archive) = scene.archive_of_release_3();
    let bundle = of_archive(&archive);
    let mut index = bundle.index(&manifest);
    index[ENCRYPTION] = 1;
    scene.engineers_publish(&index, &bundle.bundle());
    scene.refuses(166, "index_encryption_differs", MixAndMatch).recovers_with_another_release();
}

/// The server gives out the beginning of an index.
#[test]
fn a09_an_index_that_is_cut_off_is_refused() {
    let mut scene = Scene::new();
    scene.replace("vla-3-3.0.0.index", |bytes| bytes.truncate(bytes.len() - ROW_BYTES));
    scene.refused_as(160, "index_length_differs", EndlessData);
}

/// A zstd frame of one uncompressed block, which does not say its length.
fn plain_frame(raw: &[u8]) -> Vec<u8> {
    let block = (raw.len() as u32) << 3 | 1;
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00][..], &block.to_le_bytes()[..3], raw].concat()
}

/// Chunks that are the signed ones, and decode to something else than is signed, or to more than one thing.
#[test]
fn a08_a_chunk_that_decodes_to_something_else_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let (first, rest) = archive.split_at(512);
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), b"evil"].concat();
    let chunks = [
        (plain_frame(&first[..511]), Sha256Digest::of(&first[..511]), 214, "raw_length"),
        (plain_frame(first), Sha256Digest::of(rest), 215, "raw_hash"),
        ([plain_frame(first), skippable].concat(), Sha256Digest::of(first), 213, "chunk_decode"),
    ];
    for (stored, raw_sha256, number, name) in chunks {
        let mut bundle = CraftedBundle::default();
        bundle.push_as(stored, first.len() as u32, raw_sha256);
        rest.chunks(64 << 10).for_each(|piece| bundle.push_raw(piece));
        signed_and_refused(&manifest, &bundle, number, name);
    }
}

/// Lists of contents that are signed, and that no honest program writes.
#[test]
fn a22_a_list_of_contents_that_contradicts_itself_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let text = String::from_utf8(manifest.clone()).unwrap();
    let sha256 = text.split_once(r#""sha256": ""#).unwrap().1.split('"').next().unwrap();
    let changes = [
        ("a later format", r#""format": 1"#, r#""format": 2"#.to_owned(), 233, "manifest_format"),
        ("a later contract", r#""contract_version": 1"#, r#""contract_version": 99"#.into(), 240, "contract_version"),
        ("a contract that nobody can keep", r#""confidence_min": 0.2"#, r#""confidence_min": 2.0"#.into(), 242, "contract"),
        ("another hash of a file", sha256, "0".repeat(64), 224, "file_hash"),
        ("two files of one name", "selftest/outputs.safetensors", "selftest/inputs.safetensors".into(), 234, "manifest"),
        ("a file that is a folder", "selftest/inputs.safetensors", "model.onnx/x".into(), 234, "manifest"),
        ("a graph that is not in it", r#""model": "model.onnx""#, r#""model": "weights.bin""#.into(), 234, "manifest"),
        ("no test", r#""cases": 2"#, r#""cases": 0"#.into(), 234, "manifest"),
        ("no counter", r#""release_counter": 3"#, r#""release_counter": 0"#.into(), 234, "manifest"),
    ];
    for (what, from, to, number, name) in changes {
        assert!(text.contains(from), "{what}: {text}");
        eprintln!("a list of contents with {what}");
        let changed = text.replace(from, &to);
        signed_and_refused(changed.as_bytes(), &of_archive(&with_manifest(&archive, &manifest, &changed)), number, name);
    }
}

/// The index says the hash of one list of contents, and the archive has another of the same length.
#[test]
fn a09_a_list_of_contents_that_is_not_the_indexs_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let other = String::from_utf8(manifest).unwrap().replace("vla-3", "vla-9");
    signed_and_refused(other.as_bytes(), &of_archive(&archive), 230, "manifest_hash");
}

/// The metadata is for one kind of computer, and the bundle says that it is for more.
#[test]
fn a09_a_bundle_for_other_hardware_than_the_metadata_says_is_refused() {
    let mut scene = Scene::new();
    let (manifest, archive) = scene.archive_of_release_3();
    let text = String::from_utf8(manifest.clone()).unwrap();
    let changed = text.replacen(r#""thor""#, r#""thor", "orin""#, 1);
    assert_ne!(changed, text);
    let bundle = of_archive(&with_manifest(&archive, &manifest, &changed));
    scene.engineers_publish(&bundle.index(changed.as_bytes()), &bundle.bundle());
    scene.refuses(504, "manifest_differs", MixAndMatch).recovers_with_another_release();
}
