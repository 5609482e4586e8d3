//! Releases for the tests of this crate.

use switchback_signing::{
    bundle::{
        BundleWriter, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, Event, Manifest, TarReader,
        delta::{Base, BasePlace, BaseRelease, DeltaPlan, DeltaWriter, Element, FullBundle, Span},
        manifest::{FileEntry, MANIFEST_PATH},
    },
    digest::Sha256Digest,
};

const CONTRACT: &str = r#"{
  "contract_version": 1, "platform": "road_vehicle",
  "inputs": [ { "tensor": "ego", "dtype": "f32", "shape": [1, 1], "source": { "ego": { "fields": ["speed_mps"] } } } ],
  "outputs": [
    { "tensor": "trajectory", "dtype": "f32", "shape": [1, 20, 4],
      "meaning": { "trajectory": { "step_s": 0.1, "fields": ["x_m", "y_m", "heading_rad", "speed_mps"] } } },
    { "tensor": "control", "dtype": "f32", "shape": [1, 2], "meaning": { "control": { "fields": ["curvature_1pm", "acceleration_mps2"] } } }
  ],
  "runtime": { "onnxruntime_min": "1.23" }, "memory_mib": 16, "deadline_ms": 50, "step_ms": 50,
  "envelope": { "acceleration_max_mps2": 3.0, "deceleration_max_mps2": 8.0, "lateral_acceleration_max_mps2": 4.0,
    "curvature_max_1pm": 0.2, "jerk_max_mps3": 20.0, "speed_max_mps": 40.0 },
  "acceptance": { "default_tolerance": 0.01, "shadow_frames": 4, "shadow_lateral_max_m": 0.5, "trial_frames": 8 }
}"#;

/// A release as the server has it. Its content is noise, so nothing here can be loaded by ONNX Runtime.
pub(crate) struct TestRelease {
    pub(crate) index: ChunkIndex,
    pub(crate) index_bytes: Vec<u8>,
    pub(crate) bundle: Vec<u8>,
    pub(crate) manifest: Manifest,
    /// Path and content of every member, the manifest included.
    pub(crate) members: Vec<(String, Vec<u8>)>,
}

/// Bytes that do not compress; the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

/// A release with a graph, external data of this length, and a self-test in a folder of its own.
pub(crate) fn release(counter: u64, weights: usize) -> TestRelease {
    release_under(counter, weights, None)
}

/// As [`release`], encrypted if there is a key.
pub(crate) fn release_under(counter: u64, weights: usize, key: Option<&ContentKey>) -> TestRelease {
    release_with(counter, noise(counter + 1000, weights), key)
}

/// As [`release_under`], with this external data.
pub(crate) fn release_with(counter: u64, weights: Vec<u8>, key: Option<&ContentKey>) -> TestRelease {
    let files = [
        ("model.onnx", noise(counter, 700)),
        ("model.onnx.data", weights),
        ("selftest/inputs.safetensors", noise(counter + 2000, 90)),
        ("selftest/outputs.safetensors", Vec::new()),
    ];
    let entries: Vec<FileEntry> = files
        .iter()
        .map(|(path, content)| FileEntry { path: (*path).into(), length: content.len() as u64, sha256: Sha256Digest::of(content) })
        .collect();
    let json = format!(
        r#"{{"format":1,"release":{{"model":"vla-{counter}","version":"{counter}.0.0","release_counter":{counter},"tier":"ultra",
            "hardware_ids":["thor"]}},"files":{},"model":"model.onnx",
            "self_test":{{"inputs":"selftest/inputs.safetensors","outputs":"selftest/outputs.safetensors","cases":1}},
            "contract":{CONTRACT}}}"#,
        serde_json::to_string(&entries).unwrap()
    );
    let manifest = Manifest::parse(json.as_bytes()).unwrap();
    let writer = match key {
        None => BundleWriter::new(Vec::new(), manifest.clone()),
        Some(key) => BundleWriter::encrypted(Vec::new(), manifest.clone(), key),
    };
    let mut writer = writer.unwrap();
    for (_, content) in &files {
        writer.file(content.as_slice()).unwrap();
    }
    let (bundle, index) = writer.finish().unwrap();
    let manifest_file = (MANIFEST_PATH.to_owned(), manifest.to_bytes().unwrap());
    let files = files.map(|(path, content)| (path.to_owned(), content));
    TestRelease { index_bytes: index.to_bytes(), index, bundle, manifest, members: [manifest_file].into_iter().chain(files).collect() }
}

impl TestRelease {
    pub(crate) fn index_sha256(&self) -> Sha256Digest {
        Sha256Digest::of(&self.index_bytes)
    }

    /// A reader for the chunks from `next` on.
    pub(crate) fn reader(&self, next: u64, manifest: &[u8]) -> TarReader {
        match next {
            0 => TarReader::new(&self.index),
            next => TarReader::resume(
                &self.index,
                manifest,
                self.index.row(next as usize).map_or(self.index.tar_length(), ChunkRow::raw_offset),
            )
            .unwrap(),
        }
    }

    /// What the reader says about one chunk.
    pub(crate) fn read_chunk<E>(
        &self,
        reader: &mut TarReader,
        number: u64,
        mut take: impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let row = self.index.row(number as usize).unwrap();
        let stored = &self.bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        let mut decoder = ChunkDecoder::new(&self.index, None).unwrap();
        let mut chunk = decoder.decode(self.index.verify_stored(row.number(), stored).unwrap()).unwrap();
        while let Some(event) = reader.next(&mut chunk).unwrap() {
            take(event)?;
        }
        Ok(())
    }
}

/// A delta between two releases as the server has it: its index and its data. The base's files are looked up at the same place.
pub(crate) fn delta_between(base: &TestRelease, new: &TestRelease, key: Option<&ContentKey>) -> (Vec<u8>, Vec<u8>) {
    let plan = DeltaPlan {
        full: &new.index,
        full_bundle: FullBundle::Published,
        base: BaseRelease::of(&base.index, &base.manifest),
        content_key: key,
        salt: [5; 32],
    };
    let mut writer = DeltaWriter::new(Vec::new(), plan).unwrap();
    let mut decoder = ChunkDecoder::new(&new.index, key).unwrap();
    let starts: Vec<u64> = new.manifest.content_offsets(new.index.manifest_length()).collect();
    let mut files = Members(base.members[1..].iter().map(|(_, content)| content.as_slice()).collect());
    for row in new.index.rows() {
        let stored = &new.bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        let chunk = decoder.decode(new.index.verify_stored(row.number(), stored).unwrap()).unwrap();
        let file = starts.partition_point(|start| *start <= row.raw_offset()).checked_sub(1);
        let place = file.map(|file| (file, row.raw_offset() - starts[file]));
        let place = place.filter(|(file, offset)| offset + u64::from(row.raw_length()) <= new.manifest.files[*file].length);
        let span = place.map(|(file, _)| Span {
            offset: 0,
            length: new.manifest.files[file].length,
            element: Element::F16,
            base: (base.manifest.files[file].length == new.manifest.files[file].length).then_some(BasePlace { file, offset: 0 }),
        });
        let offset = place.map_or(0, |(_, offset)| offset);
        writer.chunk(chunk.bytes(), offset, span.as_slice(), &mut files).unwrap();
    }
    let (data, index) = writer.finish().unwrap();
    (index.to_bytes(), data)
}

/// The files of a release in memory.
struct Members<'a>(Vec<&'a [u8]>);

impl Base for Members<'_> {
    type Error = &'static str;

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        into.copy_from_slice(self.0.get(file).and_then(|file| file.get(offset as usize..offset as usize + into.len())).ok_or("too short")?);
        Ok(())
    }
}
