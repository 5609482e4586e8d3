//! Whole deltas: of a bundle, from a bundle, as a vehicle takes them.

use proptest::prelude::{Strategy as _, any};

use super::*;
use crate::{
    bundle::{
        BundleError, BundleWriter, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, TarReader,
        chunk::VerifiedChunk,
        delta::{BaseRelease, Delta, DeltaDecoder, DeltaIndex, DeltaPlan, DeltaWriter, FullBundle, Source, VerifiedDeltaChunk},
        index::{CHUNK_RAW_MAX, Filter},
        tests::{Sample, archive, manifest, noise, sample_of, written},
        writer::WriteError,
    },
    digest::Sha256Digest,
};

/// A release, the one before it, and what is alike in them.
pub(super) struct Pair {
    pub(super) old: Sample,
    pub(super) new: Sample,
    pub(super) key: Option<ContentKey>,
    /// Of the new release's files.
    pub(super) spans: Vec<Vec<Span>>,
}

fn pair(key: Option<ContentKey>) -> Pair {
    let random = &mut Random(77);
    let (one, other) = (weights(random, Element::Bf16, 700_000), weights(random, Element::F32, 9_000));
    let mut graph = noise(1, 900);
    graph.extend_from_slice(&other);
    let (inputs, outputs) = (noise(2, 5_000), noise(3, 700));
    let old = sample_of(vec![graph.clone(), inputs.clone(), outputs, one.clone()]);
    let mut new_graph = noise(1, 901);
    new_graph.extend(trained(random, Element::F32, &other));
    let contents = vec![new_graph, inputs, noise(4, 701), trained(random, Element::Bf16, &one)];
    let writer = match &key {
        Some(key) => BundleWriter::encrypted(Vec::new(), manifest(&contents), key).unwrap(),
        None => BundleWriter::new(Vec::new(), manifest(&contents)).unwrap(),
    };
    let whole = |file: usize, element, length: usize| {
        vec![Span { offset: 0, length: length as u64, element, base: Some(BasePlace { file, offset: 0 }) }]
    };
    let tensor = Span { offset: 901, length: other.len() as u64, element: Element::F32, base: Some(BasePlace { file: 0, offset: 900 }) };
    let spans = vec![vec![tensor], whole(1, Element::Bytes, 5_000), Vec::new(), whole(3, Element::Bf16, one.len())];
    Pair { old, new: written(writer, contents), key, spans }
}

impl Pair {
    pub(super) fn base(&self) -> Memory {
        Memory(self.old.contents.clone())
    }

    fn archive(&self) -> Vec<u8> {
        archive(&self.new.manifest.to_bytes().unwrap(), &self.new.manifest.files, &self.new.contents)
    }

    /// The file whose content begins with chunk `number`, or goes on there, and where.
    fn place(&self, number: usize) -> Option<(usize, u64)> {
        let row = self.new.index.row(number).unwrap();
        let archive = self.archive();
        let mut at = 0;
        for (file, content) in self.new.contents.iter().enumerate().filter(|(_, content)| !content.is_empty()) {
            at += archive[at..].windows(content.len()).position(|bytes| bytes == content).unwrap();
            let (start, end) = (at as u64, (at + content.len()) as u64);
            if (start..end).contains(&row.raw_offset()) {
                return Some((file, row.raw_offset() - start));
            }
            at += content.len();
        }
        None
    }

    fn delta_with(&self, full_bundle: FullBundle, salt: [u8; 32]) -> (DeltaIndex, Vec<u8>) {
        let (index, _, data) = self.written(full_bundle, salt);
        (index, data)
    }

    /// Index, what each kind makes, and data file.
    pub(super) fn written(&self, full_bundle: FullBundle, salt: [u8; 32]) -> (DeltaIndex, [Tally; 5], Vec<u8>) {
        let base = BaseRelease::of(&self.old.index, &self.old.manifest);
        let plan = DeltaPlan { full: &self.new.index, full_bundle, base, content_key: self.key.as_ref(), salt };
        let mut writer = DeltaWriter::new(Vec::new(), plan).unwrap();
        let archive = self.archive();
        for row in self.new.index.rows() {
            let raw = &archive[row.raw_offset() as usize..][..row.raw_length() as usize];
            let (offset, spans) = match self.place(row.number()) {
                Some((file, offset)) => (offset, self.spans[file].as_slice()),
                None => (0, &[][..]),
            };
            writer.chunk(raw, offset, spans, &mut self.base()).unwrap();
        }
        let tallies = writer.tallies();
        let (data, index) = writer.finish().unwrap();
        (index, tallies, data)
    }

    fn delta(&self) -> (DeltaIndex, Vec<u8>) {
        self.delta_with(FullBundle::Published, [3; 32])
    }

    /// What a vehicle does with the data file, the full bundle where the delta points there, and its base.
    pub(super) fn restore(&self, index: DeltaIndex, data: &[u8], base: &mut Memory) -> Result<Vec<Vec<u8>>, BundleError> {
        let (full, key) = (&self.new.index, self.key.as_ref());
        let delta = Delta::new(index, full)?;
        let (mut restorer, mut decoder) = (DeltaDecoder::new(&delta, key)?, ChunkDecoder::new(full, key)?);
        let mut reader = TarReader::new(full);
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for (row, part) in full.rows().iter().zip(delta.rows()) {
            let range = |bytes: &[u8], offset: u64, length: u32| {
                let start = (offset as usize).min(bytes.len());
                bytes[start..(start + length as usize).min(bytes.len())].to_vec()
            };
            let stored;
            let mut chunk = match part {
                Some(part) => {
                    stored = range(data, part.stored_offset(), part.stored_length());
                    restorer.decode(delta.verify_stored(row.number(), &stored)?, base)?
                }
                None => {
                    stored = range(&self.new.bundle, row.stored_offset(), row.stored_length());
                    decoder.decode(full.verify_stored(row.number(), &stored)?)?
                }
            };
            while let Some(event) = reader.next(&mut chunk)? {
                match event {
                    crate::bundle::Event::FileStart(_) => contents.push(Vec::new()),
                    crate::bundle::Event::Data(bytes) => contents.last_mut().unwrap().extend_from_slice(bytes),
                    _ => {}
                }
            }
        }
        reader.finish()?;
        Ok(contents)
    }
}

#[test]
fn a_delta_restores_the_release_and_is_a_part_of_its_size() {
    let pair = pair(None);
    for full_bundle in [FullBundle::Published, FullBundle::Absent] {
        let (index, data) = pair.delta_with(full_bundle, [0; 32]);
        assert_eq!(DeltaIndex::parse(&index.to_bytes()).as_ref(), Ok(&index));
        assert_eq!((index.data_length(), index.data_sha256()), (data.len() as u64, Sha256Digest::of(&data)));
        let delta = Delta::new(index.clone(), &pair.new.index).unwrap();
        let left = index.rows().iter().filter(|row| **row == Source::Full).count();
        assert_eq!(full_bundle == FullBundle::Absent, left == 0, "{left}");
        let download = delta.download_length(&pair.new.index);
        assert!(download * 100 < 45 * pair.new.index.bundle_length(), "{download} of {}", pair.new.index.bundle_length());
        assert!(pair.restore(index, &data, &mut pair.base()) == Ok(pair.new.contents.clone()));
        let base = delta.base();
        assert_eq!(base.check(&BaseRelease::of(&pair.old.index, &pair.old.manifest)), Ok(()));
    }
    assert_eq!(pair.delta(), pair.delta(), "the same arguments make the same bytes");
}

#[test]
fn any_other_base_restores_nothing() {
    let pair = pair(None);
    let (index, data) = pair.delta();
    for (file, at) in [(3, 0), (3, 1_000_001), (3, 1_399_999), (0, 900), (1, 4_999)] {
        let mut base = pair.base();
        base.0[file][at] ^= 1;
        let error = pair.restore(index.clone(), &data, &mut base).unwrap_err();
        // What the coder makes of other weights often ends in the wrong place already.
        assert!([("delta_decode", 273), ("delta_result", 275)].contains(&(error.name(), error.number())), "{error}");
    }
    let mut short = pair.base();
    short.0[3].truncate(1_000_000);
    let error = pair.restore(index, &data, &mut short).unwrap_err();
    assert_eq!((error.number(), error.name()), (274, "delta_base_unreadable"));
    assert!(error.to_string().ends_with(": file 3 of the base cannot be read: file 3 is too short"), "{error}");
}

#[test]
fn a_delta_goes_with_its_own_bundle_only() {
    let (mine, other) = (pair(None), sample_of(vec![noise(1, 10), noise(2, 10), noise(3, 10)]));
    let (index, _) = mine.delta();
    let error = Delta::new(index.clone(), &other.index).unwrap_err();
    let (expected, found) = (mine.new.index.sha256(), other.index.sha256());
    let text = format!("the delta belongs to the chunk index with SHA-256 {expected}, this one has {found}");
    assert_eq!((error.number(), error.name(), error.to_string()), (271, "delta_of_another_bundle", text));

    let error = index.base().check(&BaseRelease::of(&other.index, &other.manifest)).unwrap_err();
    let expected = mine.old.index.sha256();
    let text = format!(
        "the delta starts from release 7 (chunk index {expected}), installed is release 7 (chunk index {found}): take a delta from that one, \
         or the full bundle"
    );
    assert_eq!((error.number(), error.name(), error.to_string()), (272, "delta_from_another_base", text));
    // Nor with a release that only calls itself the same.
    assert!(index.base().check(&BaseRelease::of(&mine.old.index, &other.manifest)).is_err());
}

#[test]
fn one_changed_byte_of_a_delta_is_refused() {
    let pair = pair(None);
    let (index, data) = pair.delta();
    let bytes = index.to_bytes();
    for at in (0..data.len()).step_by(4_999) {
        let mut changed = data.clone();
        changed[at] ^= 1 << (at % 8);
        assert_eq!(pair.restore(index.clone(), &changed, &mut pair.base()).unwrap_err().number(), 212, "byte {at}");
        assert!(pair.restore(index.clone(), &data[..at], &mut pair.base()).is_err(), "length {at}");
    }
    // The salt and the digest of the whole data file, which a reader of chunks does not need, can differ and still restore; who the base is
    // and how long its files are is asked before.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(other) = DeltaIndex::parse(&changed) else { continue };
        assert_eq!(other.to_bytes(), changed, "one text for one index");
        let of_base = other.base() != index.base();
        let unneeded = (120..152).contains(&at) || (160..192).contains(&at);
        if of_base {
            assert!(other.base().check(&BaseRelease::of(&pair.old.index, &pair.old.manifest)).is_err(), "byte {at}");
        } else if at % 5 == 0 && !unneeded {
            assert!(pair.restore(other, &data, &mut pair.base()).is_err(), "byte {at}");
        }
    }
    for length in 0..bytes.len() {
        assert!(DeltaIndex::parse(&bytes[..length]).is_err(), "length {length}");
    }
}

#[test]
fn an_index_outside_its_limits_is_refused() {
    let (index, _) = pair(None).delta();
    let bytes = index.to_bytes();
    let rows = bytes.len() - 38 * index.rows().len();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        let error = DeltaIndex::parse(&bytes).unwrap_err();
        assert_eq!((error.number(), error.name()), (270, "delta_index"));
        error.to_string()
    };
    assert_eq!(with(0, b"SWBX"), "delta index: its magic is [53, 57, 42, 58], expected `SWBD`");
    assert_eq!(with(4, &[2]), "delta index: its format is 2, expected 1");
    assert_eq!(with(6, &[2]), "delta index: the method of encryption is 2, expected 0 or 1");
    assert_eq!(with(8, &[255; 4]), "delta index: the number of rows is 4294967295, expected 1 to 1048576");
    assert_eq!(with(12, &[255; 4]), "delta index: the number of base files is 4294967295, expected at most 4096");
    assert_eq!(with(8, &[9, 0]), format!("delta index: its length is {}, expected {}", bytes.len(), rows + 9 * 38));
    assert!(with(152, &[1]).starts_with("delta index: the data file's length is "));
    assert_eq!(DeltaIndex::parse(b"SW").unwrap_err().to_string(), "delta index: its length is 2, expected at least 192");
    let path = "expected a relative path of at most 100 bytes that no other base file has";
    for (bytes, found) in [(&b"/"[..], "/odel.onnx"), (b"../", "../el.onnx"), (b"m//", "m//el.onnx"), (b"\\", "\\\\odel.onnx")] {
        assert_eq!(with(193, bytes), format!("delta index: the path of base file 0 is \"{found}\", {path}"));
    }
    assert!(with(193, &[0xff]).contains("the path of a base file"));
    let row = |at: usize, new: &[u8]| with(rows + at, new);
    assert_eq!(row(0, &[2]), "delta index: row 0: source is 2, expected 0 or 1");
    let delta = 38 * index.rows().iter().position(|row| *row != Source::Full).unwrap();
    let number = delta / 38;
    assert_eq!(row(delta + 1, &[1]), format!("delta index: row {number}: filter is 1, expected 2"));
    assert_eq!(row(delta, &[0, 0]), format!("delta index: row {number}: what follows the source 0 is something else, expected zeros"));
    assert_eq!(row(delta + 2, &[0; 4]), format!("delta index: row {number}: stored length is 0, expected 1 to 1114112"));
}

#[test]
fn a_delta_of_an_encrypted_bundle_is_encrypted_under_a_key_of_its_own() {
    let key = ContentKey::from_bytes([5; 32]);
    let (sealed, plain) = (pair(Some(key.clone())), pair(None));
    let (index, data) = sealed.delta();
    assert_eq!(index.encryption(), sealed.new.index.encryption());
    assert!(sealed.restore(index.clone(), &data, &mut sealed.base()) == Ok(sealed.new.contents.clone()));
    // The chunks that both have are the plain ones with a tag, under a key that differs by salt and from the bundle's own.
    let (plain_index, plain_data) = plain.delta();
    let (other_index, other_data) = sealed.delta_with(FullBundle::Published, [4; 32]);
    assert_ne!(data, other_data);
    let delta = Delta::new(index.clone(), &sealed.new.index).unwrap();
    let plain_delta = Delta::new(plain_index, &plain.new.index).unwrap();
    let mut seen = 0;
    for (row, plain_row) in delta.rows().zip(plain_delta.rows()) {
        let (Some(row), Some(plain_row)) = (row, plain_row) else { continue };
        let stored = &data[row.stored_offset() as usize..][..row.stored_length() as usize];
        let chunk = &plain_data[plain_row.stored_offset() as usize..][..plain_row.stored_length() as usize];
        assert_eq!(stored.len(), chunk.len() + 16);
        for (salt, key) in [([3; 32], Some(key.of_delta(&[3; 32]))), ([4; 32], Some(key.of_delta(&[4; 32]))), ([0; 32], Some(key.clone()))]
        {
            let mut again = chunk.to_vec();
            crate::bundle::encryption::ChunkCipher::new(&key.unwrap()).seal(row.number(), &mut again).unwrap();
            assert_eq!(again == stored, salt == [3; 32]);
        }
        seen += 1;
    }
    assert!(seen > 1);
    assert!(sealed.restore(other_index, &other_data, &mut sealed.base()).is_ok());

    let another = Pair { key: Some(ContentKey::from_bytes([6; 32])), ..pair(Some(key)) };
    let error = another.restore(index.clone(), &data, &mut another.base()).unwrap_err();
    assert_eq!(error.number(), 263);
    let without = Pair { key: None, ..another };
    assert_eq!(without.restore(index, &data, &mut without.base()).unwrap_err().number(), 261);
    let plan = |pair: &Pair, key: Option<&ContentKey>| {
        let base = BaseRelease::of(&pair.old.index, &pair.old.manifest);
        let plan = DeltaPlan { full: &pair.new.index, full_bundle: FullBundle::Published, base, content_key: key, salt: [0; 32] };
        match DeltaWriter::new(Vec::new(), plan).map(|_| ()) {
            Err(WriteError::Bundle(error)) => error.number(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(plan(&without, None), 261);
    assert_eq!(plan(&plain, Some(&ContentKey::from_bytes([6; 32]))), 262);
}

/// RFC 5869 with what Python's `cryptography` computes: HKDF(SHA256(), 32, salt=bytes(range(32)), info=b"switchback delta") of 32 sevens.
#[test]
fn the_key_of_a_delta_is_what_others_compute() {
    let key = ContentKey::from_bytes([7; 32]).of_delta(&core::array::from_fn(|at| at as u8));
    assert_eq!(crate::keys::encoding::to_hex(key.as_bytes()), DERIVED);
}
const DERIVED: &str = "53e6487f2e528b4b303ba218bc2bbf9f838fe70e9d5551c3687406a695cae7b9";

#[test]
fn a_writer_takes_the_bundles_own_chunks_only() {
    let pair = pair(None);
    let base = BaseRelease::of(&pair.old.index, &pair.old.manifest);
    let plan = DeltaPlan { full: &pair.new.index, full_bundle: FullBundle::Published, base, content_key: None, salt: [0; 32] };
    let mut writer = DeltaWriter::new(Vec::new(), plan).unwrap();
    let refused = |result: Result<Source, WriteError>| match result {
        Err(WriteError::Bundle(error)) => error.number(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(writer.chunk(b"short", 0, &[], &mut pair.base())), 214);
    assert_eq!(refused(writer.chunk(&[0; 512], 0, &[], &mut pair.base())), 215);
    let Err(WriteError::Bundle(error)) = writer.finish() else { panic!("chunks are missing") };
    let rows = pair.new.index.rows().len();
    assert_eq!(error.to_string(), format!("delta index: the number of rows is 0, expected {rows}"));
}

/// A full bundle with byte planes: smaller, restored the same, and never a question of trust.
#[test]
fn a_bundle_of_tensors_in_planes_is_read_like_any_other() {
    let random = &mut Random(13);
    let tensor = weights(random, Element::Bf16, 800_001);
    let contents = vec![noise(1, 700), Vec::new(), noise(2, 512), tensor];
    for key in [None, Some(ContentKey::from_bytes([9; 32]))] {
        let mut writer = match &key {
            Some(key) => BundleWriter::encrypted(Vec::new(), manifest(&contents), key).unwrap(),
            None => BundleWriter::new(Vec::new(), manifest(&contents)).unwrap(),
        };
        for (number, content) in contents.iter().enumerate() {
            let span = Span { offset: 1, length: (content.len() as u64).saturating_sub(2), element: Element::Bf16, base: None };
            let spans = if number == 3 { vec![span] } else { Vec::new() };
            writer.file_of_tensors(content.as_slice(), &spans).unwrap();
        }
        let (bundle, index) = writer.finish().unwrap();
        let filters: Vec<Filter> = index.rows().iter().map(ChunkRow::filter).collect();
        assert_eq!(filters.iter().filter(|filter| **filter == Filter::Planes).count(), 2, "{filters:?}");
        assert_eq!(ChunkIndex::parse(&index.to_bytes()).as_ref(), Ok(&index));
        let plain = sample_of(contents.clone());
        assert!(index.bundle_length() * 100 < 95 * plain.index.bundle_length());
        let found = crate::bundle::tests::read_with(&index, &bundle, key.as_ref()).unwrap();
        assert!(found.1 == contents);
        // A decoder of a bundle without filters is not the one for this.
        if key.is_none() {
            let mut other = ChunkDecoder::new(&plain.index, None).unwrap();
            let row = index.rows().iter().find(|row| row.filter() == Filter::Planes).unwrap();
            let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
            let error = other.decode(index.verify_stored(row.number(), stored).unwrap()).unwrap_err();
            assert_eq!(error.number(), 213);
        }
    }
}

/// Any chunk at all, behind an index whose hashes are right: what comes out is the bundle's or nothing. More are tried where
/// `SWITCHBACK_MUTANTS` says so: `SWITCHBACK_MUTANTS=1000000 cargo test --release -p switchback-signing --lib mutated`.
#[test]
fn mutated_chunks_never_restore_other_bytes() {
    let mutants: u64 = std::env::var("SWITCHBACK_MUTANTS").map_or(12_000, |number| number.parse().unwrap());
    let random = &mut Random(2027);
    let pair = pair(None);
    let delta = Delta::new(pair.delta().0, &pair.new.index).unwrap();
    let mut decoder = DeltaDecoder::new(&delta, None).unwrap();
    let mut seeds = Vec::new();
    for (element, count) in [(Element::Bf16, 8_200), (Element::F16, 500), (Element::F32, 8_192), (Element::I8, 9_001)] {
        let old = weights(random, element, count);
        let new = trained(random, element, &old);
        let mut base = old.clone();
        base.extend_from_slice(&noise(9, 50));
        for place in [Some(BasePlace { file: 0, offset: 0 }), None] {
            let span = Span { base: place, ..like_the_base(element, &new) };
            seeds.push((encode(&new, &[span], &Memory(vec![base.clone()])).0, new.clone(), Memory(vec![base.clone()])));
        }
    }
    let mut accepted = 0;
    for _ in 0..mutants {
        let at = random.below(seeds.len() as u64) as usize;
        let (chunk, raw, base) = &mut seeds[at];
        let mut mutant = chunk.clone();
        for _ in 0..=random.below(3) {
            // Half of them near the front, where the map and the tables are.
            let span = if random.below(2) == 0 { mutant.len().min(64) } else { mutant.len() };
            let at = random.below(span.max(1) as u64) as usize;
            match random.below(4) {
                0 => mutant[at] ^= 1 << random.below(8),
                1 => mutant[at] = random.next() as u8,
                2 => mutant.truncate(at + 1),
                _ => mutant.iter_mut().skip(at).take(64).for_each(|byte| *byte = random.next() as u8),
            }
        }
        // Somebody signed these bytes, and the full index says what they restore.
        let row = ChunkRow {
            stored_length: mutant.len() as u32,
            raw_length: raw.len() as u32,
            stored_sha256: Sha256Digest::of(&mutant),
            raw_sha256: Sha256Digest::of(raw),
            ..pair.new.index.rows()[0].clone()
        };
        let chunk = VerifiedChunk::check(&row, &mutant).unwrap();
        let chunk = VerifiedDeltaChunk { chunk, base_lengths: &base.lengths() };
        if let Ok(found) = decoder.decode(chunk, base) {
            assert!(found.bytes() == raw.as_slice(), "other bytes than the index says");
            accepted += 1;
        }
    }
    assert!(accepted < mutants / 4, "{accepted} of {mutants} mutants are what they were");
}

proptest::proptest! {
    #[test]
    fn garbage_is_no_delta(garbage in proptest::collection::vec(any::<u8>(), 0..2_000), length in 1..CHUNK_RAW_MAX) {
        proptest::prop_assert!(DeltaIndex::parse(&garbage).is_err());
        proptest::prop_assert!(decode(&garbage, length, &Memory(vec![vec![0; 100]])).is_err());
    }

    #[test]
    fn any_file_with_any_spans_comes_back(
        raw in proptest::collection::vec(any::<u8>(), 1..40_000),
        spans in proptest::collection::vec((0..40_000_u64, 0..40_000_u64, 0..5_usize, any::<bool>()), 0..4),
        seed in (1..u64::MAX).prop_map(|seed| seed),
    ) {
        let base = Memory(vec![noise(seed, 80_000)]);
        let mut spans: Vec<Span> = spans
            .into_iter()
            .map(|(offset, length, element, base)| {
                let base = base.then_some(BasePlace { file: 0, offset: seed % 1000 });
                Span { offset, length, element: Element::ALL[element], base }
            })
            .collect();
        spans.sort_by_key(|span| span.offset);
        let (chunk, _) = encode(&raw, &spans, &base);
        proptest::prop_assert_eq!(decode(&chunk, raw.len(), &base), Ok(raw));
    }
}
