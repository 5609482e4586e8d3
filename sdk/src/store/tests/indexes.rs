//! The chunk indexes by which the content of a slot is found again.

use std::sync::Arc;

use super::{Folder, Fs, Store, incoming, install, open};
use crate::{
    store::{
        SlotId, StoreError,
        sim::{Sampling, SimFs},
    },
    testing::{TestRelease, release},
};

fn install_with_index(store: &mut Store, release: &TestRelease) -> Result<SlotId, StoreError> {
    store.keep_index(&incoming(release).occupant, &release.index_bytes)?;
    install(store, release).map(|model| model.slot())
}

#[test]
fn a_release_with_its_index_can_be_read_from() {
    let (first, fs): (_, Arc<dyn Fs>) = (release(1, 1500), Arc::new(SimFs::new()));
    let slot = install_with_index(&mut open(&fs), &first).unwrap();
    let mut found = open(&fs).installed(slot).unwrap().expect("both are there");
    assert_eq!((found.index, found.occupant, &found.manifest), (first.index.clone(), incoming(&first).occupant, &first.manifest));
    for (number, (path, content)) in first.members.iter().skip(1).enumerate() {
        let mut bytes = vec![0; content.len() + 1];
        let count = found.files.read(number, 0, &mut bytes).unwrap();
        assert_eq!((count, &bytes[..count]), (content.len(), content.as_slice()), "{path}");
    }
    let beyond = first.members.len();
    assert_eq!(found.files.read(beyond, 0, &mut [0; 8]).unwrap(), 0, "there is no such file");
    assert_eq!(found.files.read(1, u64::MAX, &mut [0; 8]).unwrap(), 0, "nor such a place");
}

#[test]
fn an_index_that_is_missing_or_altered_is_none() {
    let (first, fs): (_, Arc<dyn Fs>) = (release(1, 1500), Arc::new(SimFs::new()));
    let mut store = open(&fs);
    let slot = install(&mut store, &first).unwrap().slot();
    assert!(store.installed(slot).unwrap().is_none(), "installed before indexes were kept");
    assert!(store.installed(slot.other()).unwrap().is_none(), "nothing is there");
    let mut altered = first.index_bytes.clone();
    altered[100] ^= 1;
    store.keep_index(&incoming(&first).occupant, &altered).unwrap();
    assert!(store.installed(slot).unwrap().is_none(), "not the signed one");
    store.keep_index(&incoming(&first).occupant, &first.index_bytes).unwrap();
    assert!(store.installed(slot).unwrap().is_some());
}

#[test]
fn an_index_goes_when_its_release_is_in_no_slot_any_more() {
    let (releases, fs): (_, Arc<dyn Fs>) = ([release(1, 10), release(2, 10), release(3, 10)], Arc::new(SimFs::new()));
    let mut store = open(&fs);
    for release in &releases {
        install_with_index(&mut store, release).unwrap();
    }
    store.keep_index(&incoming(&releases[2]).occupant, &releases[2].index_bytes).unwrap();
    let mut expected = [1, 2].map(|number| format!("{}.index", releases[number].index_sha256()));
    expected.sort();
    assert_eq!(store.documents(Folder::Indexes).unwrap(), expected);
}

#[test]
fn power_loss_at_any_operation_leaves_the_right_index_or_none_and_of_what_is_confirmed_the_right_one() {
    let (releases, fs) = ([release(1, 700), release(2, 300)], SimFs::new());
    let mut store = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>));
    for release in &releases {
        install_with_index(&mut store, release).unwrap();
    }
    let sampling = Sampling { exhaustive_changes_max: 4, exhaustive_blocks_max: 0, random_images: 4, seed: 7 };
    let mut confirmed = 0;
    for point in 0..fs.crash_points() {
        for image in fs.crash_images(point, sampling) {
            let store = open(&(Arc::new(image.fs.clone()) as Arc<dyn Fs>));
            for slot in SlotId::ALL {
                let found = store.installed(slot).unwrap();
                let right = |release: &&TestRelease| found.as_ref().is_some_and(|found| found.index == release.index);
                assert!(found.is_none() || releases.iter().any(|release| right(&release)), "after change {point}:\n{}", image.story());
                if store.state().confirmed() == Some(slot) {
                    confirmed += 1;
                    assert!(found.is_some(), "after change {point}:\n{}", image.story());
                }
            }
        }
    }
    assert!(confirmed > 100, "{confirmed} images with a confirmed release");
}
