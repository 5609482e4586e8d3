#![allow(clippy::unwrap_used, clippy::expect_used)]

mod behavior;
mod crash;
mod faults;
mod images;
mod indexes;
mod seals;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Failure, Folder, Fs, Incoming, Installation, InstalledModel, Occupant, SlotId, Store, StoreError, Verdict, fs::Access, fs::read_full,
};
use crate::testing::TestRelease;

pub(super) fn incoming(release: &TestRelease) -> Incoming {
    let names = &release.manifest.release;
    let occupant = Occupant {
        target: format!("{}.index", names.target_stem()),
        index_length: release.index_bytes.len() as u64,
        index_sha256: release.index_sha256(),
        manifest_sha256: release.index.manifest_sha256(),
        model: names.model.clone(),
        version: names.version.clone(),
        release_counter: names.release_counter,
    };
    Incoming { occupant, tar_length: release.index.tar_length() }
}

/// Downloads a release into a slot, with a checkpoint after every chunk from the manifest on.
pub(super) fn download(store: &mut Store, release: &TestRelease) -> Result<Installation, StoreError> {
    let mut installation = store.prepare(&incoming(release))?;
    let (next, manifest) = installation.resumption().map_or((0, Vec::new()), |found| (found.next_chunk, found.manifest.clone()));
    let mut reader = release.reader(next, &manifest);
    for number in next..release.index.rows().len() as u64 {
        release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
        if reader.manifest().is_some() {
            store.checkpoint(&mut installation, number + 1)?;
        }
    }
    reader.finish().unwrap();
    Ok(installation)
}

/// Downloads a release and brings it to the end of its trial.
pub(super) fn install(store: &mut Store, release: &TestRelease) -> Result<InstalledModel, StoreError> {
    let installation = download(store, release)?;
    let model = store.finish(installation)?;
    store.begin_trial(model.slot())?;
    store.confirm(model.slot())?;
    Ok(model)
}

/// What the confirmed slot gives after every check.
pub(super) fn confirmed(store: &Store) -> Option<InstalledModel> {
    store.state().confirmed().map(|slot| store.load(slot).expect("what is confirmed can be loaded"))
}

/// Every file of a model, as another program would read it.
pub(super) fn files(fs: &dyn Fs, slot: SlotId) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![format!("slots/{slot}")];
    while let Some(folder) = open.pop() {
        for entry in fs.read_dir(Path::new(&folder)).unwrap() {
            let path = format!("{folder}/{}", entry.name);
            match entry.kind {
                super::EntryKind::Directory => open.push(path),
                super::EntryKind::File | super::EntryKind::Other => {
                    let file = fs.open(Path::new(&path), Access::Read).unwrap();
                    let mut bytes = vec![0; file.length().unwrap() as usize];
                    read_full(file.as_ref(), 0, &mut bytes).unwrap();
                    found.insert(path.split_once('/').unwrap().1.split_once('/').unwrap().1.to_owned(), bytes);
                }
            }
        }
    }
    found
}

pub(super) fn members(release: &TestRelease) -> BTreeMap<String, Vec<u8>> {
    release.members.iter().cloned().collect()
}

/// A failure for a test.
pub(super) fn failure(verdict: Verdict) -> Failure<'static> {
    Failure { verdict, number: 999, name: "test" }
}

pub(super) fn open(fs: &Arc<dyn Fs>) -> Store {
    Store::open(Arc::clone(fs)).unwrap().0
}

#[test]
fn a_document_is_replaced_as_a_whole() {
    let fs: Arc<dyn Fs> = Arc::new(super::sim::SimFs::new());
    let mut store = open(&fs);
    assert_eq!(store.read_document(Folder::Image, "timestamp.json").unwrap(), None);
    store.write_document(Folder::Image, "timestamp.json", b"1").unwrap();
    store.write_document(Folder::Image, "timestamp.json", b"22").unwrap();
    store.write_document(Folder::Director, "1.root.json", b"root").unwrap();
    assert_eq!(store.read_document(Folder::Image, "timestamp.json").unwrap().unwrap(), b"22");
    assert_eq!(store.documents(Folder::Image).unwrap(), ["timestamp.json"]);
    store.remove_document(Folder::Image, "timestamp.json").unwrap();
    assert_eq!(store.documents(Folder::Image).unwrap(), [""; 0]);
    for name in ["../state.0", "", ".", "..", "a/b", "a\0b"] {
        assert!(store.write_document(Folder::Image, name, b"").is_err(), "{name:?}");
    }
}

/// The state with the longest of everything still fits its record: it must be possible to write it at any time.
#[test]
fn the_longest_state_fits_its_record() {
    let fs: Arc<dyn Fs> = Arc::new(super::sim::SimFs::new());
    let mut store = open(&fs);
    let long = |letter: &str, length: usize| letter.repeat(length);
    let mut occupant = incoming(&crate::testing::release(1, 0)).occupant;
    for number in 0..20 {
        let index_sha256 = switchback_signing::digest::Sha256Digest::of(&[number]);
        let failure = Failure { verdict: Verdict::Condemned, number: u32::MAX, name: &long("n", 100) };
        store.count_failure(index_sha256, failure).unwrap();
    }
    // The lengths that the trust checks and the manifest allow.
    (occupant.target, occupant.model, occupant.version) = (long("t", 180), long("m", 64), long("v", 64));
    (occupant.index_length, occupant.release_counter) = (u64::MAX, u64::MAX);
    for slot in SlotId::ALL {
        let writing = super::SlotState::Writing { occupant: occupant.clone(), begun: u64::MAX };
        store.commit(store.state.with_slot(slot, writing).unwrap()).unwrap();
    }
}
