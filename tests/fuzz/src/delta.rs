//! Delta chunks and delta indexes of any bytes, over any base.
//!
//! Parts: `base` is a file of the installed release and `raw` a chunk of the new one. `spans` says what is alike in them, eight bytes
//! each: where, how long, of what type, where in the base and whether there at all. `stored` is a delta chunk that somebody else made.

use switchback_signing::{
    bundle::{
        BundleError, ChunkIndex,
        delta::{Base, BasePlace, BaseRelease, Delta, DeltaDecoder, DeltaIndex, DeltaPlan, DeltaWriter, Element, FullBundle, Source, Span},
        index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX},
        manifest::FileEntry,
    },
    digest::Sha256Digest,
};

use crate::{CraftedBundle, Verdict, parts};

/// The index alone: one text for one index, and sums that hold.
pub(crate) fn run_index(input: &[u8]) -> Verdict {
    let Ok(index) = DeltaIndex::parse(input) else { return Verdict::Refused };
    assert_eq!(index.to_bytes(), input, "two texts of one index");
    let lengths = index.rows().iter().map(|row| match row {
        Source::Full => 0,
        Source::Delta { stored_length, .. } => {
            assert!((1..=CHUNK_STORED_MAX).contains(&(*stored_length as usize)));
            u64::from(*stored_length)
        }
    });
    assert_eq!(lengths.sum::<u64>(), index.data_length());
    for file in &index.base().files {
        assert!(!file.path.starts_with('/') && file.path.split('/').all(|name| !matches!(name, "" | "." | "..")), "{}", file.path);
    }
    // It names the digest of its bundle's index, which is not this one.
    let other = ChunkIndex::parse(&bundle_of(b"other").index(b"manifest")).expect("a crafted index is well-formed");
    assert_eq!(Delta::new(index, &other).expect_err("of another bundle").number(), 271);
    Verdict::Accepted
}

/// Chunks: what is encoded comes back, any other base brings the same bytes or none, and nobody's chunk brings others.
pub(crate) fn run(input: &[u8]) -> Verdict {
    let parts = parts::split(input);
    let part = |name| parts::named(&parts, name).unwrap_or_default();
    let (base, raw) = (part("base"), part("raw"));
    if raw.is_empty() || raw.len() > CHUNK_RAW_MAX {
        return Verdict::Refused;
    }
    let full = ChunkIndex::parse(&bundle_of(raw).index(b"manifest")).expect("a crafted index is well-formed");
    let (index, data) = encoded(&full, base, raw, &spans(part("spans"), base));
    assert_eq!(DeltaIndex::parse(&index.to_bytes()).as_ref(), Ok(&index));
    let restored = restore(&full, &index.to_bytes(), &data, base).expect("what was encoded is decoded");
    assert!(restored == raw, "other bytes than were encoded");
    only_the_bundles_bytes(&full, &index.to_bytes(), &data, raw, base);

    let stored = part("stored");
    if !stored.is_empty() && stored.len() <= CHUNK_STORED_MAX {
        only_the_bundles_bytes(&full, &index_of(&full, stored, base), stored, raw, base);
    }
    Verdict::Accepted
}

/// With this base, a shorter one and one with other bytes.
fn only_the_bundles_bytes(full: &ChunkIndex, index: &[u8], data: &[u8], raw: &[u8], base: &[u8]) {
    let other: Vec<u8> = base.iter().map(|byte| byte ^ 0x55).collect();
    for base in [base, &other, &base[..base.len() / 2]] {
        if let Ok(restored) = restore(full, index, data, base) {
            assert!(restored == raw, "bytes that are not the bundle's");
        }
    }
}

fn bundle_of(raw: &[u8]) -> CraftedBundle {
    let mut bundle = CraftedBundle::default();
    bundle.push(b"stored".to_vec(), raw);
    bundle
}

/// A file in memory.
struct Memory<'a>(&'a [u8]);

impl Base for Memory<'_> {
    type Error = &'static str;

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        assert_eq!(file, 0, "the only file that is listed");
        let bytes = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)?.get(..into.len()));
        into.copy_from_slice(bytes.ok_or("the file is too short")?);
        Ok(())
    }
}

fn base_release(base: &[u8]) -> BaseRelease {
    let file = FileEntry { path: "model.onnx".into(), length: base.len() as u64, sha256: Sha256Digest::of(base) };
    let zeros = Sha256Digest::from_bytes([0; 32]);
    BaseRelease { index_sha256: zeros, manifest_sha256: zeros, release_counter: 1, files: vec![file] }
}

fn spans(bytes: &[u8], base: &[u8]) -> Vec<Span> {
    let span = |&[offset, offset_high, length, length_high, element, at, at_high, has_base]: &[u8; 8]| {
        let number = |low, high| u64::from(u16::from_le_bytes([low, high]));
        let (length, at) = (number(length, length_high), number(at, at_high));
        // The caller promises that the base is long enough.
        let place = (has_base % 2 == 1 && at + length <= base.len() as u64).then_some(BasePlace { file: 0, offset: at });
        Span { offset: number(offset, offset_high), length, element: Element::ALL[usize::from(element % 5)], base: place }
    };
    let mut spans: Vec<Span> = bytes.as_chunks().0.iter().map(span).collect();
    spans.sort_by_key(|span| span.offset);
    spans
}

fn encoded(full: &ChunkIndex, base: &[u8], raw: &[u8], spans: &[Span]) -> (DeltaIndex, Vec<u8>) {
    let plan = DeltaPlan { full, full_bundle: FullBundle::Absent, base: base_release(base), content_key: None, salt: [0; 32] };
    let mut writer = DeltaWriter::new(Vec::new(), plan).unwrap();
    writer.chunk(raw, 0, spans, &mut Memory(base)).unwrap();
    let (data, index) = writer.finish().unwrap();
    (index, data)
}

/// The index of a delta of one chunk, by the format's description.
fn index_of(full: &ChunkIndex, stored: &[u8], base: &[u8]) -> Vec<u8> {
    let mut bytes = b"SWBD\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00".to_vec();
    bytes.extend_from_slice(Sha256Digest::of(&full.to_bytes()).as_bytes());
    bytes.extend_from_slice(&[0; 64]);
    bytes.extend_from_slice(&1_u64.to_le_bytes());
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(&(stored.len() as u64).to_le_bytes());
    bytes.extend_from_slice(Sha256Digest::of(stored).as_bytes());
    bytes.extend_from_slice(b"\x0amodel.onnx");
    bytes.extend_from_slice(&(base.len() as u64).to_le_bytes());
    bytes.extend_from_slice(Sha256Digest::of(base).as_bytes());
    bytes.extend_from_slice(&[1, 2]);
    bytes.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    bytes.extend_from_slice(Sha256Digest::of(stored).as_bytes());
    bytes
}

fn restore(full: &ChunkIndex, index: &[u8], data: &[u8], base: &[u8]) -> Result<Vec<u8>, BundleError> {
    let delta = Delta::new(DeltaIndex::parse(index)?, full)?;
    let mut decoder = DeltaDecoder::new(&delta, None)?;
    let chunk = decoder.decode(delta.verify_stored(0, data)?, &mut Memory(base))?;
    Ok(chunk.bytes().to_vec())
}

/// Weights of every type and the same a little further, with the chunks that our own encoder makes.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (element, number, count) in [(Element::I8, 1, 9_000), (Element::F16, 2, 300), (Element::Bf16, 3, 8_200), (Element::F32, 4, 400)] {
        let length = count * element.width();
        let old: Vec<u8> = (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x3f).collect();
        let new: Vec<u8> =
            old.iter().enumerate().map(|(at, byte)| if at % (3 * element.width()) == 0 { byte ^ 1 } else { *byte }).collect();
        let [low, high] = (length as u16).to_le_bytes();
        for has_base in [0, 1] {
            let span = [0, 0, low, high, number, 0, 0, has_base];
            let full = ChunkIndex::parse(&bundle_of(&new).index(b"manifest")).unwrap();
            let (_, stored) = encoded(&full, &old, &new, &spans(&span, &old));
            seeds.push(parts::join(&[("base", &old), ("raw", &new), ("spans", &span), ("stored", &stored)]));
        }
    }
    seeds
}

pub(crate) fn index_seeds() -> Vec<Vec<u8>> {
    let full = ChunkIndex::parse(&bundle_of(b"raw").index(b"manifest")).unwrap();
    let (index, _) = encoded(&full, b"base", b"raw", &[]);
    let mut encrypted = index.to_bytes();
    encrypted[6] = 1;
    let mut of_full = index.to_bytes();
    let row = of_full.len() - 38;
    of_full[row..].fill(0);
    of_full[152..160].fill(0);
    vec![index.to_bytes(), encrypted, of_full]
}
