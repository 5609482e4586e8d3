//! What vehicles do with their disks, operation by operation.

use std::path::Path;

use super::super::{failure, incoming, install};
use super::{Recorder, World, world::shared};
use crate::{
    store::{Fs, Installation, SlotId, Store, StoreError, TRIES_MAX, Verdict, sim::SimFs},
    testing::{TestRelease, noise},
};

/// A life of a vehicle.
pub(super) type Script = fn(&World, &mut Recorder) -> Result<(), StoreError>;

/// All of them, with the disk that each begins on.
pub(super) fn all(world: &World) -> Vec<(&'static str, SimFs, Script)> {
    let unreadable = |name: &str| {
        let fs = SimFs::new();
        let mut store = Store::open(shared(&fs)).unwrap().0;
        install(&mut store, world.release(1)).unwrap();
        // Both records of the state know the release then.
        store.reserve_report_counters(1).unwrap();
        fs.remove_file(Path::new(name)).unwrap();
        fs.plant_link(Path::new(name)).unwrap();
        fs.settled()
    };
    vec![
        ("updates", SimFs::new(), updates),
        ("interruptions", SimFs::new(), interruptions),
        ("giving up", SimFs::new(), giving_up),
        ("state.0 that cannot be read", unreadable("state.0"), one_more_update),
        ("state.1 that cannot be read", unreadable("state.1"), one_more_update),
        ("checkpoint.0 that cannot be read", unreadable("checkpoint.0"), one_more_update),
    ]
}

/// When a download is saved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoints {
    EveryChunk,
    Never,
}

/// A first release, an update, one that is refused.
pub(super) fn updates(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.start()?;
    life.step("reserve report counters", |store| store.reserve_report_counters(7))?;
    for counter in [1, 2, 3] {
        life.write_document("targets.json", format!("targets for {counter}").as_bytes())?;
        let slot = download(life, world.release(counter), Checkpoints::EveryChunk)?;
        life.step("begin trial", |store| store.begin_trial(slot))?;
        if counter == 3 {
            life.step("reject", |store| store.reject(slot, failure(Verdict::Condemned)))?;
        } else {
            life.step("confirm", |store| store.confirm(slot))?;
        }
    }
    life.remove_document("targets.json")
}

/// Downloads, loads, shadow runs and trials that are cut off, by the end of the process and in good order.
fn interruptions(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.start()?;
    let slot = download(life, world.release(1), Checkpoints::Never)?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    life.step("confirm", |store| store.confirm(slot))?;

    // Saved early, stopped in the middle of a file, and in a folder that no checkpoint has seen.
    let release = world.release(2);
    let chunks = release.index.rows().len() as u64;
    let mut installation = prepare(life, release)?;
    let mut reader = release.reader(0, &[]);
    for number in 0..chunks - 1 {
        release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
        if number == 1 {
            checkpoint(life, &mut installation, number + 1)?;
        }
    }
    drop(installation);
    download(life, release, Checkpoints::Never)?;
    life.start()?;
    let slot = life.store().state().pending().expect("it was complete");

    life.step("begin load", |store| store.begin_load(slot))?;
    life.start()?;
    life.step("begin load", |store| store.begin_load(slot))?;
    life.step("end load", |store| store.end_load(slot))?;
    life.step("begin load", |store| store.begin_load(slot))?;
    life.step("begin shadow", |store| store.begin_shadow(slot))?;
    life.start()?;
    life.step("begin load", |store| store.begin_load(slot))?;
    life.step("begin shadow", |store| store.begin_shadow(slot))?;
    life.step("end shadow", |store| store.end_shadow(slot))?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    life.step("suspend trial", |store| store.suspend_trial(slot))?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    life.start()?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    let confirmation = life.step("confirm", |store| store.confirm(slot))?;
    life.step("take back", |store| store.take_back(confirmation, failure(Verdict::Counted)))?;
    life.step("count a failure", |store| store.count_failure(release.index_sha256(), failure(Verdict::Counted)))?;
    life.start().map(drop)
}

/// A download that is saved in the middle of a file.
pub(super) fn large_file(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.start()?;
    download(life, world.release(4), Checkpoints::EveryChunk).map(drop)
}

/// Releases that take the process down whenever they are loaded, run in shadow or drive.
fn giving_up(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.start()?;
    for counter in [1, 2, 3] {
        let slot = download(life, world.release(counter), Checkpoints::Never)?;
        for _ in 0..TRIES_MAX {
            match counter {
                1 => life.step("begin trial", |store| store.begin_trial(slot))?,
                2 => life.step("begin load", |store| store.begin_load(slot))?,
                _ => {
                    life.step("begin load", |store| store.begin_load(slot))?;
                    life.step("begin shadow", |store| store.begin_shadow(slot))?;
                }
            }
            life.start()?;
        }
        assert!(life.store().state().quarantine(&world.release(counter).index_sha256()).is_some());
    }
    Ok(())
}

/// Whatever may be done next is done, drawn from a seed: downloads that stop anywhere, loads, shadow runs and trials that end in every way,
/// documents, restarts.
pub(super) fn by_chance(world: &World, life: &mut Recorder, seed: u64) -> Result<(), StoreError> {
    life.start()?;
    for (step, choice) in noise(seed, STEPS).into_iter().enumerate() {
        let state = life.store().state().clone();
        let choice = usize::from(choice);
        match (choice % 8, state.trial(), state.pending()) {
            (0, ..) => drop(life.start()?),
            (1, ..) => life.write_document(["a", "b.json"][choice / 8 % 2], &noise(seed + step as u64, choice * 11))?,
            (2, ..) if choice / 8 % 2 == 0 => life.remove_document("a")?,
            (2, ..) => life.step("reserve report counters", |store| store.reserve_report_counters(choice as u64).map(|_| ()))?,
            (3 | 4, Some(slot), _) => life.step("confirm", |store| store.confirm(slot).map(|_| ()))?,
            (5, Some(slot), _) => life.step("suspend trial", |store| store.suspend_trial(slot))?,
            (6, Some(slot), _) => life.step("reject", |store| store.reject(slot, failure(Verdict::Counted)))?,
            (7, Some(slot), _) => {
                let confirmation = life.step("confirm", |store| store.confirm(slot))?;
                life.step("take back", |store| store.take_back(confirmation, failure(Verdict::Counted)))?;
            }
            (3 | 4, None, Some(slot)) => life.step("begin trial", |store| store.begin_trial(slot))?,
            (5, None, Some(slot)) => life.step("begin load", |store| store.begin_load(slot))?,
            (6, None, Some(slot)) => life.step("begin shadow", |store| store.begin_shadow(slot))?,
            (7, None, Some(slot)) => life.step("reject", |store| store.reject(slot, failure(Verdict::Blameless)))?,
            (3.., None, None) => {
                let floor = state.floor();
                let Some(release) = SMALL.into_iter().find(|counter| *counter > floor + choice as u64 / 128) else { continue };
                download_until(life, world.release(release), choice / 8 % 9)?;
            }
            (8.., ..) => unreachable!("a remainder of 8"),
        }
    }
    Ok(())
}

/// Operations of a life by chance.
const STEPS: usize = 40;

/// Releases without large files.
const SMALL: [u64; 7] = [1, 2, 3, 5, 6, 7, 8];

/// Downloads so many chunks, with a checkpoint after every other one; all of them when there are no more.
fn download_until(life: &mut Recorder, release: &TestRelease, stop: usize) -> Result<(), StoreError> {
    let mut installation = prepare(life, release)?;
    let (next, manifest) = installation.resumption().map_or((0, Vec::new()), |found| (found.next_chunk, found.manifest.clone()));
    let mut reader = release.reader(next, &manifest);
    for number in next..release.index.rows().len() as u64 {
        if number as usize == stop {
            return Ok(());
        }
        release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
        if reader.manifest().is_some() && number % 2 == 1 {
            checkpoint(life, &mut installation, number + 1)?;
        }
    }
    finish(life, installation).map(drop)
}

/// What any vehicle goes on with: release 3 over whatever there is, unless it is in quarantine or confirmed.
pub(super) fn one_more_update(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.start()?;
    let release = world.release(3);
    if let Some(slot) = life.store().state().pending() {
        life.step("reject", |store| store.reject(slot, failure(Verdict::Blameless)))?;
    }
    let slot = download(life, release, Checkpoints::EveryChunk)?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    life.step("confirm", |store| store.confirm(slot)).map(drop)
}

/// Brings a release into a slot, from wherever an earlier attempt stopped.
pub(super) fn download(life: &mut Recorder, release: &TestRelease, checkpoints: Checkpoints) -> Result<SlotId, StoreError> {
    let mut installation = prepare(life, release)?;
    let (next, manifest) = installation.resumption().map_or((0, Vec::new()), |found| (found.next_chunk, found.manifest.clone()));
    let mut reader = release.reader(next, &manifest);
    for number in next..release.index.rows().len() as u64 {
        release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
        if reader.manifest().is_some() && checkpoints == Checkpoints::EveryChunk {
            checkpoint(life, &mut installation, number + 1)?;
        }
    }
    finish(life, installation)
}

fn finish(life: &mut Recorder, installation: Installation) -> Result<SlotId, StoreError> {
    let model = life.store().finish(installation)?;
    life.next_chunk = None;
    life.reached("finish");
    Ok(model.slot())
}

pub(super) fn prepare(life: &mut Recorder, release: &TestRelease) -> Result<Installation, StoreError> {
    let installation = life.store().prepare(&incoming(release))?;
    life.next_chunk = installation.resumption().map(|found| found.next_chunk);
    life.reached("prepare");
    Ok(installation)
}

fn checkpoint(life: &mut Recorder, installation: &mut Installation, next_chunk: u64) -> Result<(), StoreError> {
    life.store().checkpoint(installation, next_chunk)?;
    life.next_chunk = Some(next_chunk);
    life.reached("checkpoint");
    Ok(())
}
