//! Bundles whose chunks are encrypted.

use alloc::{format, vec, vec::Vec};

use super::{Sample, contents, manifest, noise, read, read_with, sample, sample_of, written};
use crate::{
    bundle::{
        BundleError, BundleWriter, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, TarReader,
        index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX, ENCRYPTED_GROWTH, INDEX_FORMAT},
        writer::ChunkWriter,
    },
    digest::Sha256Digest,
    metadata::EncryptionMethod,
};

fn key() -> ContentKey {
    ContentKey::from_bytes([0x42; 32])
}

fn encrypted_of(contents: Vec<Vec<u8>>, key: &ContentKey) -> Sample {
    let writer = BundleWriter::encrypted(Vec::new(), manifest(&contents), key).unwrap();
    written(writer, contents)
}

/// The sample's release, encrypted.
pub(super) fn encrypted(key: &ContentKey) -> Sample {
    encrypted_of(contents(), key)
}

/// An index with the same rows over other bytes.
fn reindexed(index: &ChunkIndex, bundle: &[u8]) -> ChunkIndex {
    let mut bytes = index.to_bytes();
    bytes[32..64].copy_from_slice(Sha256Digest::of(bundle).as_bytes());
    for row in index.rows() {
        let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        bytes[96 + 73 * row.number() + 9..][..32].copy_from_slice(Sha256Digest::of(stored).as_bytes());
    }
    ChunkIndex::parse(&bytes).unwrap()
}

#[test]
fn what_was_encrypted_is_read_with_its_key() {
    let sample = encrypted_of(vec![noise(1, CHUNK_RAW_MAX + 5000), Vec::new(), noise(2, 512), vec![7; 3 * CHUNK_RAW_MAX]], &key());
    assert_eq!(sample.index.encryption(), Some(EncryptionMethod::Aes256GcmChunks));
    assert_eq!(ChunkIndex::parse(&sample.index.to_bytes()).as_ref(), Ok(&sample.index));
    let found = read_with(&sample.index, &sample.bundle, Some(&key())).unwrap();
    assert_eq!(found, (sample.manifest, sample.contents));
}

/// What the encryption adds is a tag for each chunk: the same archive, the same cuts, the same compression.
#[test]
fn an_encrypted_bundle_is_the_plain_one_with_a_tag_for_each_chunk() {
    let (plain, sealed) = (sample(), encrypted(&key()));
    assert_eq!(plain.index.encryption(), None);
    let (plain_header, sealed_header) = (plain.index.to_bytes(), sealed.index.to_bytes());
    assert_eq!((&plain_header[4..8], &sealed_header[4..8]), (&[INDEX_FORMAT as u8, 0, 0, 0][..], &[INDEX_FORMAT as u8, 0, 1, 0][..]));
    for (plain, sealed) in plain.index.rows().iter().zip(sealed.index.rows()) {
        assert_eq!((plain.raw_sha256(), plain.raw_length()), (sealed.raw_sha256(), sealed.raw_length()));
        assert_eq!(plain.stored_length() as usize + ENCRYPTED_GROWTH, sealed.stored_length() as usize);
        assert_ne!(plain.stored_sha256(), sealed.stored_sha256());
    }
    assert_eq!(plain.index.manifest_sha256(), sealed.index.manifest_sha256());
    assert_eq!(sealed.index.bundle_sha256(), Sha256Digest::of(&sealed.bundle));
    assert_eq!(encrypted(&key()).bundle, sealed.bundle, "the same key makes the same bytes");
    assert_ne!(encrypted(&ContentKey::from_bytes([0x43; 32])).bundle, sealed.bundle);
}

/// Runs of eight bytes of what went in, at any offset, are not in what comes out; in the plain bundle they are.
#[test]
fn nothing_of_the_content_is_in_the_stored_bytes() {
    let text: Vec<u8> = (0..200_u32).flat_map(|at| format!("{:08x}", at.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    let contents = vec![noise(1, 900), noise(2, 90), text.clone(), noise(3, 20)];
    let (plain, sealed) = (sample_of(contents.clone()), encrypted_of(contents.clone(), &key()));
    let manifest = sealed.manifest.to_bytes().unwrap();
    let found =
        |bundle: &[u8], secret: &[u8]| secret.windows(8).step_by(8).filter(|piece| bundle.windows(8).any(|bytes| bytes == *piece)).count();
    assert!(found(&plain.bundle, &contents[0]) > 100, "the search finds what is there");
    for secret in [manifest.as_slice(), &contents[0], &contents[1], &text] {
        assert_eq!(found(&sealed.bundle, secret), 0);
    }
    // Nor does any chunk begin as a zstd frame does.
    assert!(sealed.index.rows().iter().all(|row| sealed.bundle[row.stored_offset() as usize..][..4] != [0x28, 0xb5, 0x2f, 0xfd]));
}

#[test]
fn one_changed_bit_is_refused_before_it_is_decrypted_and_behind_a_right_hash_too() {
    let sample = encrypted(&key());
    for position in 0..sample.bundle.len() {
        let mut bundle = sample.bundle.clone();
        bundle[position] ^= 1 << (position % 8);
        let error = read_with(&sample.index, &bundle, Some(&key())).unwrap_err();
        assert!(matches!(error, BundleError::ChunkHash { .. }), "byte {position}: {error}");
        if position % 97 == 0 {
            // Somebody with good keys and without the content key.
            let error = read_with(&reindexed(&sample.index, &bundle), &bundle, Some(&key())).unwrap_err();
            let chunk = sample.index.rows().iter().rposition(|row| row.stored_offset() as usize <= position).unwrap();
            assert_eq!(error, BundleError::ContentKeyWrong { chunk }, "byte {position}");
        }
    }
}

#[test]
fn a_chunk_cannot_stand_in_for_another_of_the_same_bundle() {
    let sample = encrypted_of(vec![noise(1, 700), noise(2, 512), noise(3, 512), noise(4, 512)], &key());
    let rows = sample.index.rows();
    let same: Vec<_> = rows.iter().filter(|row| row.stored_length() == 512 + 12 + ENCRYPTED_GROWTH as u32).collect();
    let [one, other, ..] = same[..] else { panic!("chunks of one length") };
    let mut bundle = sample.bundle.clone();
    let bytes_of = |row: &ChunkRow| row.stored_offset() as usize..(row.stored_offset() + u64::from(row.stored_length())) as usize;
    bundle[bytes_of(one)].copy_from_slice(&sample.bundle[bytes_of(other)]);
    bundle[bytes_of(other)].copy_from_slice(&sample.bundle[bytes_of(one)]);
    let error = read_with(&sample.index, &bundle, Some(&key())).unwrap_err();
    assert!(matches!(error, BundleError::ChunkHash { chunk, .. } if chunk == one.number()), "{error}");
    // The nonce would tell them apart even if the index were made to fit.
    let error = read_with(&reindexed(&sample.index, &bundle), &bundle, Some(&key())).unwrap_err();
    assert_eq!(error, BundleError::ContentKeyWrong { chunk: one.number() });
}

#[test]
fn an_encrypted_bundle_is_resumed_at_any_chunk() {
    let sample = encrypted(&key());
    let manifest = sample.manifest.to_bytes().unwrap();
    for first in 2..=sample.index.rows().len() {
        let position = sample.index.rows().get(first).map_or(sample.index.tar_length(), ChunkRow::raw_offset);
        let mut decoder = ChunkDecoder::new(&sample.index, Some(&key())).unwrap();
        let mut reader = TarReader::resume(&sample.index, &manifest, position).unwrap();
        for row in &sample.index.rows()[first..] {
            let stored = &sample.bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
            let mut chunk = decoder.decode(sample.index.verify_stored(row.number(), stored).unwrap()).unwrap();
            while reader.next(&mut chunk).unwrap().is_some() {}
        }
        assert_eq!(reader.finish().as_ref(), Ok(&sample.manifest), "from chunk {first}");
    }
}

/// Under another header the same rows mean something else, so the header is part of what is signed, and no way around a check.
#[test]
fn an_index_that_lies_about_the_encryption_opens_nothing() {
    let (plain, sealed) = (sample(), encrypted(&key()));
    let flipped = |index: &ChunkIndex| {
        let mut bytes = index.to_bytes();
        bytes[6] ^= 1;
        ChunkIndex::parse(&bytes).unwrap()
    };
    let error = read(&flipped(&sealed.index), &sealed.bundle).unwrap_err();
    assert_eq!(error, BundleError::ChunkDecode { chunk: 0, reason: "it does not begin with the magic number of a zstd frame" });
    let error = read_with(&flipped(&plain.index), &plain.bundle, Some(&key())).unwrap_err();
    assert_eq!(error, BundleError::ContentKeyWrong { chunk: 0 });
}

#[test]
fn a_stored_chunk_holds_more_than_its_tag() {
    let sample = encrypted(&key());
    let with_length = |length: u8| {
        let mut bytes = sample.index.to_bytes();
        bytes[96..100].copy_from_slice(&[length, 0, 0, 0]);
        ChunkIndex::parse(&bytes).unwrap_err()
    };
    assert_eq!(with_length(16).to_string(), "chunk index row 0: stored length is 16, allowed is 17 to 66048");
    assert!(matches!(with_length(17), BundleError::IndexHeader { field: "the bundle's length", .. }));
}

#[test]
fn the_longest_chunk_stays_within_the_limit() {
    let mut chunks = ChunkWriter::new(Some(&key())).unwrap();
    let stored = chunks.add(&noise(1, CHUNK_RAW_MAX), 0).unwrap().len();
    assert_eq!(stored, CHUNK_RAW_MAX + 33 + ENCRYPTED_GROWTH);
    assert!(stored <= CHUNK_STORED_MAX);
}

/// Bundles of the first release are read by every later one: what is in the folder is never changed.
#[test]
fn bundles_that_were_published_once_are_read_for_good() {
    let golden_key = ContentKey::from_jwk(include_bytes!("../../../../tests/golden/v1/encrypted.content-key.jwk")).unwrap();
    let golden_index = include_bytes!("../../../../tests/golden/v1/encrypted.index");
    let golden_bundle = include_bytes!("../../../../tests/golden/v1/encrypted.tar.zst");
    let index = ChunkIndex::parse(golden_index).unwrap();
    assert_eq!(Sha256Digest::of(golden_bundle), index.bundle_sha256());
    let Sample { manifest, contents, .. } = sample();
    assert_eq!(read_with(&index, golden_bundle, Some(&golden_key)), Ok((manifest.clone(), contents.clone())));
    let index = ChunkIndex::parse(include_bytes!("../../../../tests/golden/v1/plain.index")).unwrap();
    assert_eq!(read(&index, include_bytes!("../../../../tests/golden/v1/plain.tar.zst")), Ok((manifest, contents)));
}
