//! Power is cut after every operation, and everything that was not synced is lost, torn or reordered.

use std::{collections::BTreeMap, sync::Arc};

use switchback_signing::bundle::Event;

use super::{failure, files, incoming, install, members};
use crate::{
    store::{
        Finding, Folder, Fs, SlotId, SlotState, State, Store, StoreError, Verdict,
        sim::{Fault, Sampling, SimFs},
    },
    testing::{TestRelease, release},
};

/// Everything that a start must find again.
#[derive(Clone, Debug, PartialEq)]
struct View {
    state: State,
    next_chunk: Option<u64>,
    documents: BTreeMap<String, Vec<u8>>,
}

/// The disk after an operation that the caller saw succeed.
struct Milestone {
    name: String,
    /// Changes of the disk before the operation returned.
    point: usize,
    view: View,
}

/// The same before the disk was looked at.
struct Reached {
    name: String,
    point: usize,
    disk: SimFs,
    /// What must be found on the disk.
    expected: View,
}

struct World {
    releases: [TestRelease; 3],
    /// By release and chunk: what the chunks before it put into each file.
    prefixes: BTreeMap<(u64, u64), BTreeMap<String, Vec<u8>>>,
}

fn shared(fs: &SimFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

impl World {
    fn new() -> Self {
        let releases = [release(1, 1500), release(2, 2500), release(3, 600)];
        let prefixes = releases.iter().flat_map(prefixes).collect();
        Self { releases, prefixes }
    }

    fn release(&self, counter: u64) -> &TestRelease {
        &self.releases[counter as usize - 1]
    }

    /// Opens the disk, checks every promise about what is found, and says what that is.
    fn recover(&self, fs: &SimFs) -> Result<View, String> {
        let (store, findings) = Store::open(shared(fs)).map_err(|error| format!("the store does not open: {error}"))?;
        for slot in [store.state().confirmed(), store.state().pending()].into_iter().flatten() {
            let model = store.load(slot).map_err(|error| format!("a complete slot does not load: {error}"))?;
            if files(fs, slot) != members(self.release(model.occupant().release_counter)) {
                return Err(format!("slot {slot} has other files"));
            }
        }
        let next_chunk = findings.iter().find_map(|finding| match finding {
            Finding::DownloadInterrupted { next_chunk, .. } => Some(*next_chunk),
            _ => None,
        });
        if let Some(next_chunk) = next_chunk {
            self.check_resumption(fs, next_chunk)?;
        }
        let read = |name: &String| store.read_document(Folder::Image, name).unwrap().unwrap();
        let documents = store.documents(Folder::Image).unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect();
        Ok(View { state: store.state().clone(), next_chunk, documents })
    }

    /// What a checkpoint says is on the disk is there.
    fn check_resumption(&self, fs: &SimFs, next_chunk: u64) -> Result<(), String> {
        let (mut store, _) = Store::open(shared(fs)).map_err(|error| error.to_string())?;
        let writing = SlotId::ALL.into_iter().find(|slot| store.state().slot(*slot).name() == "writing");
        let slot = writing.ok_or("a download goes on in no slot")?;
        let counter = store.state().slot(slot).occupant().ok_or("a download of nothing")?.release_counter;
        let installation = store.prepare(&incoming(self.release(counter))).map_err(|error| error.to_string())?;
        if installation.resumption().map(|found| found.next_chunk) != Some(next_chunk) {
            return Err(format!("the download does not go on at chunk {next_chunk}"));
        }
        let found = files(fs, slot);
        let is_there = |(path, start): (&String, &Vec<u8>)| found.get(path).is_some_and(|content| content.starts_with(start));
        match self.prefixes[&(counter, next_chunk)].iter().find(|file| !is_there(*file)) {
            Some((path, _)) => Err(format!("{path} lacks what the checkpoint at chunk {next_chunk} promises")),
            None => Ok(()),
        }
    }

    /// From whatever was found, the update to release 2 comes to its end.
    fn complete(&self, fs: &SimFs) -> Result<(), String> {
        let (mut store, _) = Store::open(shared(fs)).map_err(|error| error.to_string())?;
        if store.state().floor() < 2 {
            let pending = store.state().pending().filter(|slot| store.load(*slot).is_ok_and(|model| model.occupant().release_counter == 2));
            let done = match pending {
                Some(slot) => store.begin_trial(slot).and_then(|()| store.confirm(slot).map(drop)),
                None => install(&mut store, self.release(2)).map(|_| ()),
            };
            done.map_err(|error| format!("the update cannot be completed: {error}"))?;
        }
        match store.state().confirmed() {
            Some(slot) if files(fs, slot) == members(self.release(2)) => Ok(()),
            _ => Err("the completed update is not complete".into()),
        }
    }

    /// The life of a vehicle: a first release, an update, one that is refused. Returns what was true after each step.
    fn live(&self, fs: &SimFs) -> Result<Vec<Milestone>, String> {
        let mut milestones = Vec::new();
        self.live_into(fs, &mut milestones).map_err(|error| error.to_string())?;
        milestones.into_iter().map(|reached| self.look(reached)).collect()
    }

    fn look(&self, Reached { name, point, disk, expected }: Reached) -> Result<Milestone, String> {
        // A process that dies without a power cut finds everything that was written.
        let view = self.recover(&disk)?;
        if view == expected { Ok(Milestone { name, point, view }) } else { Err(format!("{name}: {view:#?} instead of {expected:#?}")) }
    }

    fn live_into(&self, fs: &SimFs, milestones: &mut Vec<Reached>) -> Result<(), StoreError> {
        let mut documents = BTreeMap::new();
        let mut reached = |name: String, store: &Store, next_chunk: Option<u64>, documents: &BTreeMap<String, Vec<u8>>| {
            let expected = View { state: after_restart(store.state()), next_chunk, documents: documents.clone() };
            milestones.push(Reached { name, point: fs.crash_points() - 1, disk: fs.settled(), expected });
        };
        let (mut store, _) = Store::open(shared(fs))?;
        reached("open".into(), &store, None, &documents);
        store.reserve_report_counters(7)?;
        reached("reserve report counters".into(), &store, None, &documents);
        for counter in [1, 2, 3] {
            let release = self.release(counter);
            let document = format!("targets for {counter}").into_bytes();
            store.write_document(Folder::Image, "targets.json", &document)?;
            documents.insert("targets.json".into(), document);
            reached(format!("{counter}: metadata"), &store, None, &documents);
            let mut installation = store.prepare(&incoming(release))?;
            reached(format!("{counter}: prepare"), &store, None, &documents);
            let mut reader = release.reader(0, &[]);
            for number in 0..release.index.rows().len() as u64 {
                release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
                if reader.manifest().is_some() {
                    store.checkpoint(&mut installation, number + 1)?;
                    reached(format!("{counter}: checkpoint {}", number + 1), &store, Some(number + 1), &documents);
                }
            }
            let slot = store.finish(installation)?.slot();
            reached(format!("{counter}: finish"), &store, None, &documents);
            store.begin_trial(slot)?;
            reached(format!("{counter}: begin trial"), &store, None, &documents);
            if counter == 3 {
                store.reject(slot, failure(Verdict::Condemned))?;
                reached(format!("{counter}: reject"), &store, None, &documents);
            } else {
                store.confirm(slot)?;
                reached(format!("{counter}: confirm"), &store, None, &documents);
            }
        }
        store.remove_document(Folder::Image, "targets.json")?;
        documents.clear();
        reached("remove metadata".into(), &store, None, &documents);
        Ok(())
    }

    /// Cuts the power at every point; returns the number of images, or what went wrong.
    fn crash_everywhere(&self, fs: &SimFs, milestones: &[Milestone], sampling: Sampling, depth: Depth) -> Result<usize, String> {
        let empty = SimFs::new();
        let nothing = self.recover(&empty)?;
        let mut images = 0;
        for point in 0..fs.crash_points() {
            let done = milestones.iter().rposition(|milestone| milestone.point <= point);
            let before = done.map_or(&nothing, |number| &milestones[number].view);
            let next = milestones.get(done.map_or(0, |number| number + 1));
            let begun = next.map_or("nothing", |milestone| milestone.name.as_str());
            for (number, image) in fs.crash_images(point, sampling).into_iter().enumerate() {
                images += 1;
                let story = |what: String| {
                    format!("power cut after change {point} (during {begun}), seed {}:\n{}  -> {what}", sampling.seed, image.story)
                };
                let found = self.recover(&image.fs).map_err(&story)?;
                if found != *before && next.is_none_or(|next| found != next.view) {
                    return Err(story(format!("found {found:#?}\nexpected {before:#?}\nor {:#?}", next.map(|next| &next.view))));
                }
                let again = self.recover(&image.fs).map_err(&story)?;
                if again != found {
                    return Err(story(format!("the second start found {again:#?} after {found:#?}")));
                }
                if number % depth.complete_every == 0 {
                    self.complete(&image.fs).map_err(&story)?;
                }
                if depth.crash_recovery_every.is_some_and(|every| number % every == 0) {
                    for second in 0..image.fs.crash_points() {
                        for image in image.fs.crash_images(second, sampling) {
                            images += 1;
                            self.recover(&image.fs).map_err(&story)?;
                        }
                    }
                }
            }
        }
        Ok(images)
    }
}

/// What each number of chunks puts into the files, from the first number with which a download can go on.
fn prefixes(release: &TestRelease) -> BTreeMap<(u64, u64), BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut path = String::new();
    let mut reader = release.reader(0, &[]);
    for number in 0..release.index.rows().len() as u64 {
        let take = |event: Event<'_>| -> Result<(), StoreError> {
            match event {
                Event::Manifest { bytes, .. } => {
                    contents.insert("manifest.json".into(), bytes.to_vec());
                    Ok(())
                }
                Event::FileStart(file) => {
                    path.clone_from(&file.path);
                    contents.entry(path.clone()).or_default();
                    Ok(())
                }
                Event::Data(bytes) => {
                    contents.entry(path.clone()).or_default().extend_from_slice(bytes);
                    Ok(())
                }
                Event::FileEnd(_) | Event::End => Ok(()),
            }
        };
        release.read_chunk(&mut reader, number, take).unwrap();
        found.insert((release.manifest.release.release_counter, number + 1), contents.clone());
    }
    found
}

/// A start turns a trial that was cut off into one that may be tried again.
fn after_restart(state: &State) -> State {
    match state.trial().map(|slot| (slot, state.slot(slot))) {
        Some((slot, SlotState::Trial { occupant, tries_left })) => {
            state.with_slot(slot, SlotState::pending(occupant.clone(), *tries_left)).unwrap()
        }
        _ => state.clone(),
    }
}

#[derive(Clone, Copy)]
struct Depth {
    /// Every n-th image is brought to the end of the update.
    complete_every: usize,
    /// Every n-th image is crashed again in whatever was done on it.
    crash_recovery_every: Option<usize>,
}

#[test]
fn power_loss_at_any_operation_leaves_the_old_or_the_new_model_complete() {
    let world = World::new();
    let fs = SimFs::new();
    let milestones = world.live(&fs).unwrap();
    let sampling = Sampling { exhaustive_changes_max: 8, random_images: 24, seed: 0x5eed };
    let depth = Depth { complete_every: 7, crash_recovery_every: Some(29) };
    let images = world.crash_everywhere(&fs, &milestones, sampling, depth).unwrap_or_else(|story| panic!("{story}"));
    println!("{images} crash images over {} points", fs.crash_points());
    assert!(images > 5_000, "{images} images");
}

/// Runs the life with one operation left out; `Err` says how the omission was noticed.
fn live_without(world: &World, fault: Fault) -> Result<usize, String> {
    let fs = SimFs::new();
    fs.set_fault(Some(fault));
    let milestones = world.live(&fs)?;
    let sampling = Sampling { exhaustive_changes_max: 4, random_images: 4, seed: 1 };
    let depth = Depth { complete_every: 5, crash_recovery_every: None };
    world.crash_everywhere(&fs, &milestones, sampling, depth)
}

fn operations() -> (usize, usize) {
    let fs = SimFs::new();
    World::new().live(&fs).unwrap();
    (fs.syncs(), fs.writes())
}

#[test]
fn no_sync_can_be_left_out() {
    let world = World::new();
    let (syncs, _) = operations();
    let unnoticed: Vec<usize> = (0..syncs).filter(|&sync| live_without(&world, Fault::SyncIgnored(sync)).is_ok()).collect();
    assert!(syncs > 40, "{syncs}");
    assert_eq!(unnoticed, [0; 0], "of {syncs} syncs");
}

#[test]
fn no_write_can_be_left_out() {
    let world = World::new();
    let (_, writes) = operations();
    let unnoticed: Vec<usize> = (0..writes).filter(|&write| live_without(&world, Fault::WriteIgnored(write)).is_ok()).collect();
    assert!(writes > 40, "{writes}");
    assert_eq!(unnoticed, [0; 0], "of {writes} writes");
}
