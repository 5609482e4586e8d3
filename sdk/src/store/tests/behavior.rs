//! What holds on every file system: one suite, run on the real one and on the simulated one.

use std::{path::Path, sync::Arc};

use super::{confirmed, download, failure, files, incoming, install, members, open};
use crate::{
    store::{Access, EntryKind, Finding, Folder, Fs, RealFs, Site, SlotId, SlotState, Store, StoreError, TRIES_MAX, Verdict, sim::SimFs},
    testing::release,
};

/// Runs a promise on a fresh disk of each kind.
fn on_every_file_system(promise: impl Fn(Arc<dyn Fs>)) {
    promise(Arc::new(SimFs::new()));
    let base = tempfile::tempdir().unwrap();
    promise(Arc::new(RealFs::open(base.path()).unwrap()));
}

#[test]
fn files_behave_like_posix_files() {
    on_every_file_system(|fs| {
        let path = Path::new("file");
        let mut file = fs.create(path).unwrap();
        assert_eq!(fs.create(path).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        file.write_at(3, b"abc", Site::here()).unwrap();
        file.allocate(8).unwrap();
        file.sync(Site::here()).unwrap();
        let file = fs.open(path, Access::Read).unwrap();
        let mut bytes = [9; 10];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 8);
        assert_eq!(&bytes, b"\0\0\0abc\0\0\x09\x09");
        assert_eq!(file.read_at(100, &mut bytes).unwrap(), 0);
        fs.rename(path, Path::new("other")).unwrap();
        assert_eq!(fs.open(path, Access::Read).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        fs.create_dir(Path::new("folder")).unwrap();
        assert_eq!(fs.create_dir(Path::new("folder")).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert!(fs.open(Path::new("folder"), Access::Read).is_err());
        fs.create(Path::new("folder/inside")).unwrap();
        assert!(fs.remove_dir(Path::new("folder")).is_err());
        let names: Vec<_> = fs.read_dir(Path::new("")).unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
        assert_eq!(names, [("folder".to_owned(), EntryKind::Directory), ("other".to_owned(), EntryKind::File)]);
        fs.remove_file(Path::new("folder/inside")).unwrap();
        fs.remove_dir(Path::new("folder")).unwrap();
        fs.sync_dir(Path::new(""), Site::here()).unwrap();
        assert!(fs.free_bytes().unwrap() > 0);
    });
}

#[test]
fn releases_take_turns_in_the_slots_and_the_floor_rises_only_when_one_is_confirmed() {
    on_every_file_system(|fs| {
        let releases = [release(1, 5000), release(2, 0), release(3, 9000)];
        for (number, release) in releases.iter().enumerate() {
            let mut store = open(&fs);
            let before = store.state().confirmed();
            let installation = download(&mut store, release).unwrap();
            let model = store.finish(installation).unwrap();
            assert_ne!(Some(model.slot()), before, "never over the active one");
            assert_eq!(store.state().floor(), number as u64);
            assert_eq!(store.state().active(), before);
            store.begin_trial(model.slot()).unwrap();
            assert_eq!((store.state().active(), store.state().fallback()), (Some(model.slot()), before));
            assert_eq!(store.state().floor(), number as u64);
            store.confirm(model.slot()).unwrap();
            assert_eq!(store.state().floor(), number as u64 + 1);
            drop(store);
            let (store, findings) = Store::open(Arc::clone(&fs)).unwrap();
            assert_eq!(findings, []);
            let model = confirmed(&store).unwrap();
            assert_eq!(model.manifest(), &release.manifest);
            assert_eq!(model.dir(), fs.location(Path::new(&format!("slots/{}", model.slot()))));
            assert_eq!(files(fs.as_ref(), model.slot()), members(release));
        }
    });
}

#[test]
fn an_interrupted_download_goes_on_after_its_last_checkpoint() {
    on_every_file_system(|fs| {
        let release = release(1, 3 << 20);
        let chunks = release.index.rows().len() as u64;
        for stop in 0..chunks {
            let mut store = open(&fs);
            let mut installation = store.prepare(&incoming(&release)).unwrap();
            let found = installation.resumption().cloned();
            assert_eq!(found.as_ref().map(|found| found.next_chunk), (stop > 2).then(|| stop - 1), "before chunk {stop}");
            let (next, manifest) = found.map_or((0, Vec::new()), |found| (found.next_chunk, found.manifest));
            let mut reader = release.reader(next, &manifest);
            for number in next..stop {
                release.read_chunk(&mut reader, number, |event| installation.apply(event)).unwrap();
            }
            if reader.manifest().is_some() {
                store.checkpoint(&mut installation, stop).unwrap();
            }
            // This chunk is on the disk and in no checkpoint.
            release.read_chunk(&mut reader, stop, |event| installation.apply(event)).unwrap();
        }
        let (mut store, findings) = Store::open(Arc::clone(&fs)).unwrap();
        assert_eq!(findings, [Finding::DownloadInterrupted { occupant: incoming(&release).occupant, next_chunk: chunks - 1 }]);
        let model = install(&mut store, &release).unwrap();
        assert_eq!(files(fs.as_ref(), model.slot()), members(&release));
    });
}

#[test]
fn another_release_starts_over_in_the_slot_of_an_interrupted_one() {
    on_every_file_system(|fs| {
        let (first, second) = (release(1, 5000), release(2, 100));
        let mut store = open(&fs);
        drop(download(&mut store, &first).unwrap());
        let mut store = open(&fs);
        assert_eq!(store.prepare(&incoming(&second)).unwrap().resumption(), None);
        let model = install(&mut store, &second).unwrap();
        assert_eq!(files(fs.as_ref(), model.slot()), members(&second));
    });
}

#[test]
fn a_trial_that_is_cut_off_costs_a_try_and_the_last_one_ends_it() {
    on_every_file_system(|fs| {
        let release = release(1, 0);
        let mut store = open(&fs);
        let installation = download(&mut store, &release).unwrap();
        let slot = store.finish(installation).unwrap().slot();
        for tries_left in (0..TRIES_MAX).rev() {
            store.begin_trial(slot).unwrap();
            drop(store);
            let (next, findings) = Store::open(Arc::clone(&fs)).unwrap();
            store = next;
            let occupant = incoming(&release).occupant;
            if tries_left > 0 {
                assert_eq!(findings, [Finding::TrialInterrupted { occupant, tries_left }]);
                assert_eq!(store.state().pending(), Some(slot));
            } else {
                assert_eq!(findings[0], Finding::TrialGivenUp { occupant });
            }
        }
        assert_eq!(store.state().slot(slot), &SlotState::Invalid);
        assert!(store.state().quarantine(&release.index_sha256()).is_some());
    });
}

#[test]
fn a_load_that_is_cut_off_counts_and_the_third_one_ends_it() {
    on_every_file_system(|fs| {
        let release = release(1, 0);
        let mut store = open(&fs);
        let installation = download(&mut store, &release).unwrap();
        let slot = store.finish(installation).unwrap().slot();
        for times in 0..TRIES_MAX {
            let (mut store, findings) = Store::open(Arc::clone(&fs)).unwrap();
            assert_eq!(store.state().pending(), Some(slot));
            let occupant = incoming(&release).occupant;
            let told = (times > 0).then_some(Finding::LoadInterrupted { occupant, times });
            assert_eq!(findings, told.into_iter().collect::<Vec<_>>());
            // Loads that end do not count.
            store.begin_load(slot).unwrap();
            store.end_load(slot).unwrap();
            store.begin_load(slot).unwrap();
        }
        let (store, findings) = Store::open(Arc::clone(&fs)).unwrap();
        assert_eq!(findings[0], Finding::LoadGivenUp { occupant: incoming(&release).occupant });
        assert_eq!(store.state().slot(slot), &SlotState::Invalid);
        assert_eq!(store.state().quarantine(&release.index_sha256()).unwrap().number, 341);
    });
}

#[test]
fn a_shadow_run_that_is_cut_off_counts_and_the_third_one_ends_it() {
    on_every_file_system(|fs| {
        let release = release(1, 0);
        let mut store = open(&fs);
        let installation = download(&mut store, &release).unwrap();
        let slot = store.finish(installation).unwrap().slot();
        for times in 0..TRIES_MAX {
            let (mut store, findings) = Store::open(Arc::clone(&fs)).unwrap();
            assert_eq!(store.state().pending(), Some(slot));
            let occupant = incoming(&release).occupant;
            let told = (times > 0).then_some(Finding::ShadowInterrupted { occupant, times });
            assert_eq!(findings, told.into_iter().collect::<Vec<_>>());
            for _ in 0..2 * TRIES_MAX {
                // Loads that end in a shadow run do not count, nor do shadow runs that end.
                store.begin_load(slot).unwrap();
                store.begin_shadow(slot).unwrap();
                store.end_shadow(slot).unwrap();
            }
            store.begin_load(slot).unwrap();
            store.begin_shadow(slot).unwrap();
        }
        let (store, findings) = Store::open(Arc::clone(&fs)).unwrap();
        assert_eq!(findings[0], Finding::ShadowGivenUp { occupant: incoming(&release).occupant });
        assert_eq!(store.state().quarantine(&release.index_sha256()).unwrap().number, 342);
    });
}

#[test]
fn a_confirmation_that_is_taken_back_leaves_what_was_before_it() {
    on_every_file_system(|fs| {
        let mut store = open(&fs);
        install(&mut store, &release(1, 0)).unwrap();
        let installation = download(&mut store, &release(2, 0)).unwrap();
        let slot = store.finish(installation).unwrap().slot();
        store.begin_trial(slot).unwrap();
        let confirmation = store.confirm(slot).unwrap();
        assert_eq!((store.state().confirmed(), store.state().floor()), (Some(slot), 2));
        store.take_back(confirmation, failure(Verdict::Condemned)).unwrap();
        drop(store);
        let store = open(&fs);
        assert_eq!((store.state().confirmed(), store.state().floor()), (Some(slot.other()), 1));
        assert_eq!(store.state().slot(slot), &SlotState::Invalid);
        assert!(store.state().quarantine(&release(2, 0).index_sha256()).is_some());
        assert_eq!(confirmed(&store).unwrap().occupant().release_counter, 1);
    });
}

#[test]
fn a_trial_that_ends_in_good_order_costs_no_try() {
    on_every_file_system(|fs| {
        let mut store = open(&fs);
        let installation = download(&mut store, &release(1, 0)).unwrap();
        let slot = store.finish(installation).unwrap().slot();
        for _ in 0..2 * TRIES_MAX {
            store.begin_trial(slot).unwrap();
            store.suspend_trial(slot).unwrap();
        }
        store.begin_trial(slot).unwrap();
        store.confirm(slot).unwrap();
    });
}

#[test]
fn a_release_that_failed_three_times_or_was_condemned_is_in_quarantine() {
    on_every_file_system(|fs| {
        let (unlucky, bad) = (release(1, 0), release(2, 0));
        let mut store = open(&fs);
        for _ in 0..TRIES_MAX {
            assert!(store.state().quarantine(&unlucky.index_sha256()).is_none());
            let installation = download(&mut store, &unlucky).unwrap();
            let slot = store.finish(installation).unwrap().slot();
            store.reject(slot, failure(Verdict::Counted)).unwrap();
        }
        let slot = store.prepare(&incoming(&bad)).unwrap().slot();
        store.reject(slot, failure(Verdict::Blameless)).unwrap();
        assert!(store.state().quarantine(&bad.index_sha256()).is_none());
        store.count_failure(bad.index_sha256(), failure(Verdict::Condemned)).unwrap();
        let store = open(&fs);
        assert!(store.state().quarantine(&unlucky.index_sha256()).is_some());
        assert!(store.state().quarantine(&bad.index_sha256()).is_some());
    });
}

#[test]
fn only_legal_moves_are_made() {
    on_every_file_system(|fs| {
        let mut store = open(&fs);
        let slot = install(&mut store, &release(1, 0)).unwrap().slot();
        let installation = download(&mut store, &release(2, 0)).unwrap();
        let other = store.finish(installation).unwrap().slot();
        assert_eq!(other, slot.other());
        let text = |result: Result<(), StoreError>| result.unwrap_err().to_string();
        assert_eq!(text(store.confirm(other).map(drop)), "slot b is pending, it cannot become confirmed");
        assert_eq!(text(store.begin_trial(slot)), "slot a is confirmed, it cannot become trial");
        assert_eq!(text(store.suspend_trial(other)), "slot b is pending, it cannot become pending");
        store.begin_trial(other).unwrap();
        let third = release(3, 0);
        let error = store.prepare(&incoming(&third)).unwrap_err();
        assert_eq!((error.number(), error.name()), (320, "no_free_slot"));
        assert_eq!(error.to_string(), "both slots are in use: b drives, a is the fallback; one is free when the trial has ended");
        store.reject(other, failure(Verdict::Condemned)).unwrap();
        assert_eq!(store.state().active(), Some(slot));
        assert_eq!(store.load(other).unwrap_err().to_string(), "slot b is invalid, it cannot become loaded");
        store.prepare(&incoming(&third)).unwrap();
    });
}

#[test]
fn a_report_number_is_never_given_out_twice() {
    on_every_file_system(|fs| {
        assert_eq!(open(&fs).reserve_report_counters(10).unwrap(), 0..10);
        assert_eq!(open(&fs).reserve_report_counters(5).unwrap(), 10..15);
    });
}

#[test]
fn leftovers_are_removed_at_the_start() {
    on_every_file_system(|fs| {
        let mut store = open(&fs);
        store.write_document(Folder::Image, "timestamp.json", b"{}").unwrap();
        drop(store);
        fs.create(Path::new("metadata-image/snapshot.json.new")).unwrap();
        fs.create_dir(Path::new("slots/b/old")).unwrap();
        fs.create(Path::new("slots/b/old/model.onnx")).unwrap();
        let (store, findings) = Store::open(Arc::clone(&fs)).unwrap();
        assert_eq!(findings, [Finding::LeftoversRemoved { files: 2 }]);
        assert_eq!(store.documents(Folder::Image).unwrap(), ["timestamp.json"]);
        assert_eq!(files(fs.as_ref(), SlotId::B), Default::default());
    });
}

#[test]
fn a_store_has_one_user_at_a_time() {
    let base = tempfile::tempdir().unwrap();
    let (first, _) = Store::open_dir(base.path()).unwrap();
    let error = Store::open_dir(base.path()).unwrap_err();
    assert_eq!((error.number(), error.name()), (305, "store_in_use"));
    drop(first);
    Store::open_dir(base.path()).unwrap();
}
