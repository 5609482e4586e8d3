//! What is on the disk already is not downloaded again, and not trusted either.

use std::{fs, path::PathBuf};

use super::*;
use crate::store::Folder;

const MIB: usize = 1 << 20;

/// A vehicle whose confirmed release has `weights`, and another release that is about to come.
fn scene(weights: &[u8], next: Vec<u8>, encrypted_under: Option<&ContentKey>) -> (Scene, PathBuf) {
    let disk = Arc::new(tempfile::tempdir().unwrap());
    let first = Scene::of(release_with(1, weights.to_vec(), None), &disk);
    let mut store = first.store();
    let mut install = first.begin(None, &mut store).unwrap();
    let model = first.run(&mut install, &mut store).unwrap();
    store.begin_trial(model.slot()).unwrap();
    store.confirm(model.slot()).unwrap();
    let installed = disk.path().join("slots").join(model.slot().name()).join("model.onnx.data");
    (Scene::of(release_with(2, next, encrypted_under), &disk), installed)
}

/// Weights of which the chunks at these places differ.
fn changed(weights: &[u8], chunks: &[usize]) -> Vec<u8> {
    let mut changed = weights.to_vec();
    for chunk in chunks {
        changed[chunk * MIB + 5] ^= 1;
    }
    changed
}

impl Scene {
    /// Installs the release; says where its chunks came from and what was asked of the server.
    #[track_caller]
    fn install(&self, key: Option<&ContentKey>) -> (ChunkBytes, Vec<Range<usize>>) {
        let mut store = self.store();
        let mut install = self.begin(key, &mut store).unwrap();
        let model = self.run(&mut install, &mut store).unwrap();
        assert_installed(self, &model);
        (install.take_bytes(), self.shelf.ranges.lock().unwrap().clone())
    }

    /// The row of a chunk of the weights.
    fn row_of(&self, chunk: usize) -> &ChunkRow {
        self.release.index.rows().iter().filter(|row| row.raw_length() as usize == MIB).nth(chunk).unwrap()
    }

    /// Where a chunk of the weights lies in the bundle.
    fn stored(&self, chunk: usize) -> Range<usize> {
        let row = self.row_of(chunk);
        row.stored_offset() as usize..(row.stored_offset() + u64::from(row.stored_length())) as usize
    }
}

fn total(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).sum()
}

#[test]
fn only_what_differs_is_downloaded_and_neighbors_in_one_request() {
    for key in [None, Some(key())] {
        let weights = noise(9, 8 * MIB);
        let (scene, _) = scene(&weights, changed(&weights, &[2, 5, 6]), key.as_ref());
        let (bytes, ranges) = scene.install(key.as_ref());
        let [start, one, two, end] = &ranges[..] else { panic!("{ranges:?}") };
        assert!(start.start == 0 && start.end <= scene.stored(0).start, "what stands before the weights: {ranges:?}");
        assert_eq!((one, two), (&scene.stored(2), &(scene.stored(5).start..scene.stored(6).end)));
        assert_eq!(end.end, scene.release.bundle.len());
        assert!((3 * MIB..3 * MIB + 32_000).contains(&total(&ranges)), "{} bytes", total(&ranges));
        assert_eq!(bytes.downloaded as usize, total(&ranges));
        assert_eq!((bytes.downloaded + bytes.reused, bytes.not_reused), (scene.release.index.bundle_length(), 0));
    }
}

#[test]
fn a_bad_chunk_on_the_disk_costs_that_chunk() {
    let weights = noise(9, 6 * MIB);
    let (scene, installed) = scene(&weights, weights.clone(), None);
    fs::write(installed, changed(&weights, &[3])).unwrap();
    let (bytes, ranges) = scene.install(None);
    assert!(ranges.contains(&scene.stored(3)), "{ranges:?}");
    assert!(total(&ranges) < MIB + 32_000, "{ranges:?}");
    assert_eq!(bytes.not_reused, u64::from(scene.row_of(3).stored_length()));
}

#[test]
fn a_disk_that_lies_again_and_again_is_not_asked_any_more() {
    let weights = noise(9, 12 * MIB);
    let (scene, installed) = scene(&weights, weights.clone(), None);
    fs::write(installed, changed(&weights, &Vec::from_iter(0..12))).unwrap();
    let (bytes, ranges) = scene.install(None);
    assert_eq!(bytes.not_reused as usize / MIB, 4, "{bytes:?}");
    let last = ranges.last().unwrap();
    assert_eq!(last.end, scene.release.bundle.len());
    assert!(last.len() > 8 * MIB, "all that is left at once: {ranges:?}");
}

#[test]
fn a_file_that_is_shorter_or_gone_costs_what_is_missing() {
    let weights = noise(9, 6 * MIB);
    for (left, lost) in [(Some(4 * MIB + 7), 2), (None, 4)] {
        let (scene, installed) = scene(&weights, weights.clone(), None);
        match left {
            Some(left) => fs::OpenOptions::new().write(true).open(installed).unwrap().set_len(left as u64).unwrap(),
            None => fs::remove_file(installed).unwrap(),
        }
        let (bytes, _) = scene.install(None);
        assert_eq!(bytes.not_reused as usize / MIB, lost, "{bytes:?}");
    }
}

#[test]
fn without_the_index_of_the_installed_release_everything_is_downloaded() {
    let weights = noise(9, 6 * MIB);
    let (scene, _) = scene(&weights, weights.clone(), None);
    let mut store = scene.store();
    let kept = store.documents(Folder::Indexes).unwrap();
    assert_eq!(kept.len(), 1);
    store.write_document(Folder::Indexes, &kept[0], b"another").unwrap();
    drop(store);
    let (bytes, ranges) = scene.install(None);
    assert_eq!((ranges.len(), &ranges[0]), (1, &(0..scene.release.bundle.len())), "in one request, as ever");
    assert_eq!(bytes.downloaded, scene.release.index.bundle_length());
}

#[test]
fn what_is_reused_survives_a_power_cut_as_what_was_downloaded_does() {
    let weights = noise(9, 8 * MIB);
    let (scene, _) = scene(&weights, changed(&weights, &[6]), None);
    let mut store = scene.store();
    let mut install = scene.begin(None, &mut store).unwrap();
    while install.next < scene.row_of(5).number() {
        assert!(matches!(install.step(&scene.link, &mut store, FREE).unwrap(), Step::Chunk));
    }
    install.save(&mut store).unwrap();
    drop((install, store));
    scene.shelf.ranges.lock().unwrap().clear();
    let (bytes, ranges) = scene.install(None);
    assert_eq!(ranges[0], scene.stored(6), "{ranges:?}");
    assert!((bytes.reused as usize) < 3 * MIB, "chunks 5 and 7 alone were left: {bytes:?}");
}

#[test]
fn a_server_without_ranges_is_read_once_and_what_is_at_hand_is_read_over() {
    let weights = noise(9, 8 * MIB);
    let (scene, _) = scene(&weights, changed(&weights, &[1, 3, 5, 7]), None);
    scene.shelf.knows_no_ranges.store(true, Ordering::SeqCst);
    let (_, ranges) = scene.install(None);
    assert_eq!(ranges.len(), 1, "{ranges:?}");
}

#[test]
fn small_gaps_are_downloaded_along_and_large_ones_are_not() {
    let release = release_with(1, noise(9, 4 * MIB), None);
    let rows = release.index.rows();
    let length = release.index.bundle_length();
    let rows_from = |first: usize| rows[first..].iter().map(|row| (stored_range(row), row.number()));
    let end = |at_hand: &[usize]| run_end(rows_from(0), length, u64::MAX, |number| at_hand.contains(&number));
    let large = rows.iter().position(|row| row.raw_length() as usize == MIB).unwrap();
    assert_eq!(end(&[]) as usize, release.bundle.len());
    assert_eq!(end(&[1, 2]) as usize, release.bundle.len(), "a few hundred bytes");
    assert_eq!(end(&[large + 1]), rows[large + 1].stored_offset());
    assert_eq!(end(&[large - 1, large, large + 1]), rows[large - 1].stored_offset());
    let allowed = |bytes| run_end(rows_from(large), length, bytes, |_| false);
    let (first, second) = (&rows[large], &rows[large + 1]);
    assert_eq!(allowed(first.stored_length().into()), second.stored_offset(), "the first chunk is allowed, or nothing is asked for");
    assert_eq!(
        allowed(u64::from(first.stored_length() + second.stored_length()) + 5),
        second.stored_offset() + u64::from(second.stored_length())
    );
}

#[test]
fn the_first_release_has_nothing_in_common_with_anything() {
    let scene = Scene::of(release_with(1, noise(9, 2 * MIB), None), &Arc::new(tempfile::tempdir().unwrap()));
    assert!(base_in(&scene.store(), SlotId::A).is_none());
    let (bytes, ranges) = scene.install(None);
    assert_eq!((bytes.reused, ranges.len()), (0, 1));
}
