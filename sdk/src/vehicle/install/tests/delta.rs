//! A delta brings the same bytes for less, or costs nothing but itself.

use std::fs;

use switchback_signing::{digest::Sha256Digest, metadata::DeltaRef};

use super::*;
use crate::testing::delta_between;

const MIB: usize = 1 << 20;
/// Stored bytes of one chunk of such weights.
const ONE_CHUNK: Range<u64> = 600_000..700_000;

const INDEX: &str = "ultra/vla-2-2.0.0.from-1.delta.index";

/// A delta as the servers have it, and what the Director says of it.
pub(super) struct Made {
    pub(super) index: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) reference: DeltaRef,
}

impl Made {
    fn between(base: &TestRelease, new: &TestRelease, key: Option<&ContentKey>) -> Self {
        let (index, data) = delta_between(base, new, key);
        let reference =
            DeltaRef { base_sha256: base.index_sha256(), path: INDEX.into(), length: index.len() as u64, sha256: Sha256Digest::of(&index) };
        Self { index, data, reference }
    }
}

/// Weights as 16-bit floats near one, and the same after a little training: every chunk differs, by a little.
fn weights(chunks: usize, seed: u64) -> Vec<u8> {
    let (base, trained) = (noise(9, chunks * MIB / 2), noise(seed, chunks * MIB / 2));
    let weight = |(base, trained): (&u8, &u8)| (0x3c00 + u16::from(*base) + u16::from(*trained % 3)).to_le_bytes();
    base.iter().zip(&trained).flat_map(weight).collect()
}

/// A vehicle whose confirmed release has other weights, and a delta that `change` may spoil before the vehicle is told of it.
fn scene(key: Option<&ContentKey>, change: impl FnOnce(&mut Made)) -> (Scene, std::path::PathBuf) {
    let disk = Arc::new(tempfile::tempdir().unwrap());
    let first = Scene::of(release_with(1, weights(6, 0), None), &disk);
    let mut store = first.store();
    let mut install = first.begin(None, &mut store).unwrap();
    let model = first.run(&mut install, &mut store).unwrap();
    store.begin_trial(model.slot()).unwrap();
    store.confirm(model.slot()).unwrap();
    let installed = disk.path().join("slots").join(model.slot().name()).join("model.onnx.data");
    let next = release_with(2, weights(6, 77), key);
    let mut made = Made::between(&first.release, &next, key);
    change(&mut made);
    (Scene::made(next, &disk, Some(made), |_| {}), installed)
}

struct Outcome {
    bytes: ChunkBytes,
    no_delta: Option<Reason>,
    delta_bytes: usize,
    bundle_bytes: usize,
}

#[track_caller]
fn install(scene: &Scene, key: Option<&ContentKey>) -> Outcome {
    let mut store = scene.store();
    let mut install = scene.begin(key, &mut store).unwrap();
    let mut no_delta = install.take_no_delta();
    let model = loop {
        let step = install.step(&scene.link, &mut store, FREE).unwrap();
        no_delta = no_delta.or(install.take_no_delta());
        if let Step::Complete(model) = step {
            break model;
        }
    };
    assert_installed(scene, &model);
    let sum = |ranges: &Mutex<Vec<Range<usize>>>| ranges.lock().unwrap().iter().map(Range::len).sum();
    Outcome { bytes: install.take_bytes(), no_delta, delta_bytes: sum(&scene.shelf.delta_ranges), bundle_bytes: sum(&scene.shelf.ranges) }
}

#[test]
fn a_delta_brings_the_release_for_a_part_of_its_bytes() {
    for key in [None, Some(key())] {
        let (scene, _) = scene(key.as_ref(), |_| {});
        let Outcome { bytes, no_delta, delta_bytes, bundle_bytes } = install(&scene, key.as_ref());
        assert_eq!(no_delta, None);
        let whole = scene.release.bundle.len();
        assert!(delta_bytes > 0 && delta_bytes + bundle_bytes < whole / 3, "{delta_bytes} and {bundle_bytes} of {whole}");
        assert_eq!(bytes.delta as usize, delta_bytes);
        assert!(bytes.restored as usize > whole * 9 / 10, "{bytes:?}");
    }
}

#[test]
fn a_delta_from_another_base_is_not_asked_for() {
    let (scene, _) = scene(None, |made| made.reference.base_sha256 = Sha256Digest::of(b"another"));
    let found = install(&scene, None);
    assert_eq!((found.no_delta, found.delta_bytes, found.bundle_bytes), (None, 0, scene.release.bundle.len()));
    let seen = scene.shelf.seen.lock().unwrap();
    assert!(seen.iter().all(|(_, path, _)| !path.contains(".delta")), "{seen:?}");
}

#[test]
fn an_index_that_is_not_what_the_director_says_leads_to_the_bundle_with_a_reason() {
    type Spoil = fn(&mut Made);
    let spoiled: [(Spoil, &str); 5] = [
        (|made| made.reference.length = 1 << 40, "its length"),
        (|made| made.index[300] ^= 1, "its SHA-256"),
        (|made| made.index.truncate(100), "its SHA-256"),
        (
            |made| {
                made.index[0] = b'X';
                made.reference.sha256 = Sha256Digest::of(&made.index);
            },
            "its magic",
        ),
        (|made| made.index.clear(), "its SHA-256"),
    ];
    for (spoil, word) in spoiled {
        let (scene, _) = scene(None, spoil);
        let found = install(&scene, None);
        let reason = found.no_delta.unwrap();
        assert_eq!((reason.number, reason.name.as_str()), (507, "delta_not_used"));
        assert!(reason.text.contains(word), "{}", reason.text);
        assert_eq!((found.delta_bytes, found.bundle_bytes), (0, scene.release.bundle.len()));
    }
}

#[test]
fn a_damaged_chunk_of_the_delta_comes_with_the_bundle() {
    let (scene, _) = scene(None, |made| {
        let middle = made.data.len() / 2;
        made.data[middle] ^= 1;
    });
    let found = install(&scene, None);
    assert_eq!(found.no_delta, None, "the delta is used for the others");
    assert!(ONE_CHUNK.contains(&found.bytes.not_restored), "{:?}", found.bytes);
    assert!(found.bundle_bytes < 2 * MIB, "{}", found.bundle_bytes);
}

#[test]
fn a_delta_whose_every_chunk_is_damaged_is_given_up_after_a_few() {
    let (scene, _) = scene(None, |made| made.data.iter_mut().for_each(|byte| *byte ^= 0x55));
    let found = install(&scene, None);
    let reason = found.no_delta.unwrap();
    assert!(reason.text.contains("too many of its chunks"), "{}", reason.text);
    assert!(found.bytes.restored == 0 && found.bytes.not_restored >= 3 * ONE_CHUNK.start, "{:?}", found.bytes);
}

#[test]
fn a_base_that_changed_on_the_disk_costs_the_chunks_that_it_spoils() {
    let (scene, installed) = scene(None, |_| {});
    let mut bytes = fs::read(&installed).unwrap();
    bytes[2 * MIB + 1234] ^= 0x10;
    fs::write(&installed, bytes).unwrap();
    let found = install(&scene, None);
    assert!(found.no_delta.is_none() && ONE_CHUNK.contains(&found.bytes.not_restored), "{:?}", found.bytes);
}

#[test]
fn data_that_no_server_has_leads_to_the_bundle() {
    let (scene, _) = scene(None, |made| made.data.clear());
    let found = install(&scene, None);
    assert!(found.no_delta.unwrap().text.contains("data cannot be fetched"));
    assert_eq!(found.bundle_bytes, scene.release.bundle.len());
}

#[test]
fn a_delta_goes_on_after_a_power_cut_where_it_stopped() {
    let (scene, _) = scene(None, |_| {});
    let mut store = scene.store();
    let mut half = scene.begin(None, &mut store).unwrap();
    while half.next < half.index.rows().len() / 2 {
        half.step(&scene.link, &mut store, FREE).unwrap();
    }
    half.save(&mut store).unwrap();
    drop((half, store));
    let before: usize = scene.shelf.delta_ranges.lock().unwrap().iter().map(Range::len).sum();
    scene.shelf.delta_ranges.lock().unwrap().clear();
    let found = install(&scene, None);
    assert!(found.delta_bytes > 0 && found.delta_bytes < before, "{} of {before}", found.delta_bytes);
    assert!(scene.shelf.delta_ranges.lock().unwrap()[0].start > 0);
}
