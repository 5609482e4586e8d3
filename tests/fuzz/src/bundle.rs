//! Decoder, archive reader, manifest and contract, behind an index whose hashes are right whatever the input is.
//!
//! Parts: `manifest` is what the index says that `manifest.json` is. `raw` is a chunk that is stored uncompressed. `stored`, with the
//! `plain` after it, is a chunk whose stored bytes are the input's own. With a `key`, the same chunks are read encrypted as well.

use switchback_signing::{
    bundle::{BundleError, ChunkDecoder, ChunkIndex, ContentKey, Event, Manifest, TarReader},
    digest::Sha256Digest,
};

use crate::{CraftedBundle, Verdict, parts};

pub(crate) fn run(input: &[u8]) -> Verdict {
    let parts = parts::split(input);
    if parts.is_empty() {
        return manifest(input);
    }
    let listed = parts::named(&parts, "manifest").unwrap_or_default();
    manifest(listed);
    let mut bundle = CraftedBundle::default();
    for (at, (name, content)) in parts.iter().enumerate() {
        match name.as_str() {
            "raw" => bundle.push_raw(content),
            "stored" => {
                bundle.push(content.to_vec(), parts.get(at + 1).filter(|(next, _)| next == "plain").map_or(&[], |(_, plain)| plain));
            }
            _ => {}
        }
    }
    let Ok(index) = ChunkIndex::parse(&bundle.index(listed)) else { return Verdict::Refused };
    let found = read(&index, &bundle.chunks, None, Start::Begin);
    if let Some(key) = parts::named(&parts, "key") {
        reads_the_same_encrypted(&bundle, listed, key, &found);
    }
    let Ok(whole) = found else { return Verdict::Refused };
    resumes_anywhere(&index, &bundle.chunks, listed, &whole);
    Verdict::Accepted
}

/// A manifest that is read and written is the same.
fn manifest(bytes: &[u8]) -> Verdict {
    let Ok(read) = Manifest::parse(bytes) else { return Verdict::Refused };
    let written = read.to_bytes().expect("what was read can be written");
    assert_eq!(Manifest::parse(&written).expect("what we write we read"), read);
    Verdict::Accepted
}

/// What was read of each chunk: paths as they begin and end, and contents.
type Read = Vec<Vec<Piece>>;

#[derive(Debug, PartialEq)]
enum Piece {
    Manifest,
    Start(String),
    Data(Vec<u8>),
    End(String),
    Finished,
}

enum Start<'a> {
    Begin,
    /// After this chunk, with the manifest's bytes.
    After(usize, &'a [u8]),
}

/// What an encrypted bundle holds is what it would hold without, or is refused as that would be; and another key opens no chunk of it.
fn reads_the_same_encrypted(plain: &CraftedBundle, listed: &[u8], key: &[u8], expected: &Result<Read, BundleError>) {
    let key = ContentKey::from_bytes(*Sha256Digest::of(key).as_bytes());
    let sealed = plain.encrypted(&key);
    // A chunk that just fits may be too long with its tag.
    let Ok(index) = ChunkIndex::parse(&sealed.index(listed)) else { return };
    assert_eq!(&read(&index, &sealed.chunks, Some(&key), Start::Begin), expected);
    assert_eq!(read(&index, &sealed.chunks, None, Start::Begin).unwrap_err().number(), 261);
    let other = ContentKey::from_bytes(*Sha256Digest::of(key.as_bytes()).as_bytes());
    assert_eq!(read(&index, &sealed.chunks, Some(&other), Start::Begin), Err(BundleError::ContentKeyWrong { chunk: 0 }));
}

/// Reads as a vehicle does.
fn read(index: &ChunkIndex, chunks: &[Vec<u8>], key: Option<&ContentKey>, start: Start<'_>) -> Result<Read, BundleError> {
    let mut decoder = ChunkDecoder::new(index, key)?;
    let (mut reader, first) = match start {
        Start::Begin => (TarReader::new(index), 0),
        Start::After(chunk, manifest) => {
            let row = index.row(chunk)?;
            (TarReader::resume(index, manifest, row.raw_offset() + u64::from(row.raw_length()))?, chunk + 1)
        }
    };
    let mut found = Vec::new();
    for (number, stored) in chunks.iter().enumerate().skip(first) {
        let mut chunk = decoder.decode(index.verify_stored(number, stored)?)?;
        let mut pieces = Vec::new();
        while let Some(event) = reader.next(&mut chunk)? {
            pieces.push(match event {
                Event::Manifest { manifest, bytes } => {
                    assert_eq!(&Manifest::parse(bytes)?, manifest);
                    Piece::Manifest
                }
                Event::FileStart(file) => Piece::Start(file.path.clone()),
                Event::Data(bytes) => Piece::Data(bytes.to_vec()),
                Event::FileEnd(file) => Piece::End(file.path.clone()),
                Event::End => Piece::Finished,
            });
        }
        found.push(pieces);
    }
    let manifest = reader.finish()?;
    if first == 0 {
        contents_are_listed(&manifest, &found);
    }
    Ok(found)
}

/// Every file of the manifest once, in its order, with its length and digest, below no other folder than its own.
fn contents_are_listed(manifest: &Manifest, found: &Read) {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for piece in found.iter().flatten() {
        match piece {
            Piece::Start(path) => files.push((path.clone(), Vec::new())),
            Piece::Data(bytes) => files.last_mut().expect("content after a start").1.extend_from_slice(bytes),
            _ => {}
        }
    }
    assert_eq!(found.iter().flatten().last(), Some(&Piece::Finished));
    assert_eq!(files.len(), manifest.files.len());
    for ((path, content), listed) in files.iter().zip(&manifest.files) {
        assert_eq!((path, content.len() as u64, Sha256Digest::of(content)), (&listed.path, listed.length, listed.sha256));
        assert!(!path.starts_with('/') && path.split('/').all(|name| !matches!(name, "" | "." | "..")), "{path} leaves its folder");
    }
}

/// A reader that goes on after any chunk behind the manifest's finds what the first one found.
fn resumes_anywhere(index: &ChunkIndex, chunks: &[Vec<u8>], manifest: &[u8], whole: &Read) {
    let begun = whole.iter().position(|pieces| pieces.contains(&Piece::Manifest)).expect("there is a manifest");
    for chunk in begun..chunks.len() {
        let rest = read(index, chunks, None, Start::After(chunk, manifest)).expect("what was read once can be resumed");
        assert_eq!(rest, whole[chunk + 1..], "resumed after chunk {chunk}");
    }
}
