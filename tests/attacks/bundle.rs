//! Whoever puts something into a bundle, or changes it on the vehicle's own disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use switchback_signing::trust::Attack::ArbitrarySoftware;

use super::scene::{Scene, index_path};

/// The slot in which release 3 is complete and was read back, by the store's records: from then on only ONNX Runtime reads it.
fn slot_of_release_3(store: &Path) -> Option<PathBuf> {
    let records = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let texts = records.filter_map(|path| fs::read(path).ok()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    texts.into_iter().find(|text| text.contains(&index_path(3)) && text.contains("pending"))?;
    let mut slots = fs::read_dir(store.join("slots")).unwrap().map(|entry| entry.unwrap().path());
    slots.find(|slot| fs::read_to_string(slot.join("manifest.json")).is_ok_and(|manifest| manifest.contains("vla-3")))
}

/// A program under the vehicle's own user exchanges the graph after the last look at it and before ONNX Runtime opens it. The golden
/// inputs do not tell: the graph answers them as before.
#[test]
fn a25_a_file_that_is_altered_after_it_was_read_back_is_not_used() {
    let mut scene = Scene::new();
    let (store, mut done) = (scene.store.path().to_owned(), false);
    scene.at_every_look_at_the_clock(move || {
        if let Some(slot) = slot_of_release_3(&store).filter(|_| !done) {
            let path = slot.join("model.onnx");
            // A field of the graph's file that no reader knows, and each skips.
            let altered = [fs::read(&path).unwrap(), vec![0xc0, 0x3e, 0x01]].concat();
            fs::write(&path, altered).unwrap();
            done = true;
        }
    });
    scene.refuses_to_load(4125, "files_altered", ArbitrarySoftware).recovers();
}
