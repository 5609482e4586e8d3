//! Disks that run full, fail, or are mounted read-only.

use std::{io::ErrorKind, path::Path, sync::Arc};

use super::{confirmed, download, failure, files, incoming, install, members, open};
use crate::{
    store::{
        Access, Finding, Fs, SPACE_RESERVE, Site, SlotId, Store, StoreError, Verdict,
        sim::{Fault, SimFs},
    },
    testing::release,
};

/// A disk with a confirmed release, and an operation number after which faults count.
fn used_disk() -> (SimFs, Arc<dyn Fs>) {
    let fs = SimFs::new();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    install(&mut open(&shared), &release(1, 1500)).unwrap();
    (fs, shared)
}

#[test]
fn an_update_that_does_not_fit_is_refused_before_its_first_byte() {
    let (fs, shared) = used_disk();
    let mut store = open(&shared);
    let big = release(2, 100_000);
    fs.set_capacity(Some(SPACE_RESERVE + 50_000));
    let before = fs.operations();
    let error = store.prepare(&incoming(&big)).unwrap_err();
    let StoreError::SpaceMissing { needed, free } = error else { panic!("{error}") };
    assert_eq!(needed, big.index.tar_length() + SPACE_RESERVE);
    assert!(free < needed);
    assert_eq!(fs.operations(), before, "nothing was touched");
    fs.set_capacity(Some(SPACE_RESERVE + 150_000));
    install(&mut store, &big).unwrap();
}

#[test]
fn space_of_the_slot_to_be_overwritten_counts_as_free() {
    let (fs, shared) = used_disk();
    let mut store = open(&shared);
    install(&mut store, &release(2, 100_000)).unwrap();
    install(&mut store, &release(3, 0)).unwrap();
    // Slot of release 2 is the one to overwrite; without it, the next would not fit.
    fs.set_capacity(Some(SPACE_RESERVE + 150_000));
    install(&mut store, &release(4, 100_000)).unwrap();
}

#[test]
fn a_disk_that_runs_full_at_any_write_costs_the_update_and_nothing_else() {
    let (fs, _) = used_disk();
    for error in [ErrorKind::StorageFull, ErrorKind::Other, ErrorKind::ReadOnlyFilesystem] {
        let mut failures = 0;
        for number in 0.. {
            let fs = fs.settled();
            let shared: Arc<dyn Fs> = Arc::new(fs.clone());
            let mut store = open(&shared);
            let before = fs.operations();
            fs.set_fault(Some(Fault::FailsFrom(before + number, error)));
            let result = install(&mut store, &release(2, 2500));
            fs.set_fault(None);
            drop(store);
            let store = open(&shared);
            let model = confirmed(&store).unwrap();
            let Err(found) = result else {
                assert_eq!(files(&fs, model.slot()), members(&release(2, 2500)));
                break;
            };
            failures += 1;
            let named = matches!(
                (error, &found),
                (ErrorKind::StorageFull, StoreError::DiskFull { .. })
                    | (ErrorKind::ReadOnlyFilesystem, StoreError::ReadOnly { .. } | StoreError::SyncFailed { .. })
                    | (ErrorKind::Other, StoreError::Io { .. } | StoreError::SyncFailed { .. })
            );
            assert!(named, "operation {number}: {error} became {found:?}");
            // The last sync of all is the confirmation's own: it may have reached the disk although it reported a failure.
            let counter = model.occupant().release_counter;
            assert!(counter == 1 || store.state().floor() == counter, "operation {number}");
            assert_eq!(files(&fs, model.slot()), members(&release(counter, if counter == 1 { 1500 } else { 2500 })));
            let mut store = store;
            if counter == 1 {
                if let Some(slot) = store.state().pending() {
                    store.reject(slot, failure(Verdict::Blameless)).unwrap();
                }
                install(&mut store, &release(2, 2500)).expect("the update works once the disk does");
            }
        }
        assert!(failures > 20, "{failures}");
    }
}

#[test]
fn one_changed_byte_on_the_disk_is_noticed_before_the_model_is_loaded() {
    let (fs, shared) = used_disk();
    for path in files(&fs, SlotId::A).into_keys() {
        let fs = fs.settled();
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let store = open(&shared);
        if fs.corrupt(&Path::new("slots/a").join(&path), 5) {
            let error = store.load(SlotId::A).unwrap_err();
            assert!(matches!(&error, StoreError::ContentHash { path: found, .. } if *found == path), "{error}");
        }
    }
    let store = open(&shared);
    shared.create(Path::new("slots/a/libevil.so")).unwrap();
    assert_eq!(store.load(SlotId::A).unwrap_err().to_string(), "slot a: libevil.so does not belong to the release");
    shared.remove_file(Path::new("slots/a/libevil.so")).unwrap();
    store.load(SlotId::A).unwrap();
    shared.open(Path::new("slots/a/model.onnx.data"), Access::ReadWrite).unwrap().write_at(1500, b"x", Site::here()).unwrap();
    let refused = |number, name, text| {
        let error = store.load(SlotId::A).unwrap_err();
        assert_eq!((error.number(), error.name(), error.to_string().as_str()), (number, name, text));
    };
    refused(331, "content_length", "slot a: model.onnx.data has 1501 bytes, the manifest says 1500");
    shared.remove_file(Path::new("slots/a/model.onnx.data")).unwrap();
    refused(332, "content_missing", "slot a: model.onnx.data is missing, although the release has it");
    // A link is not followed.
    fs.plant_link(Path::new("slots/a/model.onnx.data")).unwrap();
    refused(303, "io", "cannot open slots/a/model.onnx.data");
}

#[test]
fn a_state_that_does_not_fit_its_record_is_not_written() {
    let (fs, shared) = used_disk();
    let mut store = open(&shared);
    let mut incoming = incoming(&release(2, 0));
    // Longer than the trust checks let through.
    incoming.occupant.target = "t".repeat(5000);
    let before = fs.operations();
    let error = store.prepare(&incoming).unwrap_err();
    let StoreError::RecordTooLong { found, allowed, .. } = error else { panic!("{error}") };
    assert!(found > 5000 && allowed < 4096);
    let text = format!("record needs {found} bytes, it has room for {allowed}: the names of the release are too long");
    assert!(error.to_string().starts_with("the state.") && error.to_string().ends_with(&text), "{error}");
    assert_eq!((error.number(), error.name()), (312, "record_too_long"));
    assert_eq!(fs.operations(), before, "nothing was touched");
    assert_eq!(confirmed(&open(&shared)).unwrap().occupant().release_counter, 1);
}

#[test]
fn content_that_the_disk_does_not_give_back_never_becomes_pending() {
    let (fs, shared) = used_disk();
    let mut store = open(&shared);
    let release = release(2, 1500);
    let installation = download(&mut store, &release).unwrap();
    assert!(fs.corrupt(Path::new("slots/b/model.onnx.data"), 700));
    let error = store.finish(installation).unwrap_err();
    assert_eq!((error.number(), error.name()), (330, "content_hash"));
    assert_eq!(store.state().pending(), None);
    store.reject(SlotId::B, failure(Verdict::Counted)).unwrap();
    assert_eq!(store.state().failures(&release.index_sha256()), 1);
    install(&mut store, &release).unwrap();
}

#[test]
fn one_damaged_record_costs_nothing_and_two_are_never_taken_for_a_new_store() {
    let (fs, shared) = used_disk();
    let newest = |fs: &SimFs| {
        // The record that was written last is the one whose loss shows.
        ["state.0", "state.1"].map(|name| fs.corrupt(Path::new(name), 30))
    };
    let one = fs.settled();
    one.corrupt(Path::new("state.0"), 30);
    let (store, findings) = Store::open(Arc::new(one)).unwrap();
    assert!(!findings.is_empty());
    assert!(store.state().confirmed().or(store.state().pending()).is_some(), "at most one step back");
    assert_eq!(newest(&fs), [true, true]);
    let error = Store::open(shared).unwrap_err();
    assert_eq!(
        (error.number(), error.to_string().as_str()),
        (310, "both state records are damaged; which model was confirmed is not known")
    );
}

#[test]
fn a_record_that_cannot_be_read_costs_nothing_while_the_other_one_can() {
    let (fs, _) = used_disk();
    let make_unreadable = |fs: &SimFs, name: &str| {
        fs.remove_file(Path::new(name)).unwrap();
        fs.plant_link(Path::new(name)).unwrap();
    };
    for (broken, whole) in [("state.0", "state.1"), ("state.1", "state.0")] {
        let fs = fs.settled();
        make_unreadable(&fs, broken);
        let (store, findings) = Store::open(Arc::new(fs.clone())).unwrap();
        assert!(findings.contains(&Finding::RecordTorn), "{broken}: {findings:?}");
        assert!(store.state().confirmed().or(store.state().pending()).is_some(), "{broken}: at most one step back");
        drop(store);
        // It is made anew by the next write, and the store is what it was.
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        install(&mut open(&shared), &release(2, 1500)).unwrap();
        let (store, findings) = Store::open(shared).unwrap();
        assert_eq!((findings, store.state().floor()), (vec![], 2), "{broken}");
        make_unreadable(&fs, broken);
        make_unreadable(&fs, whole);
        let error = Store::open(Arc::new(fs)).unwrap_err();
        assert!(matches!(&error, StoreError::Io { .. }), "without either, it is not a new store: {error}");
    }
}

#[test]
fn a_record_of_a_later_release_is_not_overwritten() {
    let (fs, shared) = used_disk();
    for name in ["state.0", "state.1"] {
        let mut file = shared.open(Path::new(name), Access::ReadWrite).unwrap();
        let mut record = vec![0; 4096];
        file.read_at(0, &mut record).unwrap();
        record[8] = 2;
        let checksum = switchback_signing::digest::Sha256Digest::of(&record[..4064]);
        record[4064..].copy_from_slice(checksum.as_bytes());
        file.write_at(0, &record, Site::here()).unwrap();
    }
    let before = fs.operations();
    let error = Store::open(shared).unwrap_err();
    assert_eq!((error.number(), error.to_string().as_str()), (311, "state record format 2 is unknown, this release reads 1"));
    assert_eq!(fs.operations(), before);
}
