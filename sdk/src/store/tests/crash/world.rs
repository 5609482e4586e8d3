//! What every crash test needs: releases, what a start must find, and the search through the crash images.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use switchback_signing::bundle::Event;

use super::super::{files, incoming, install, members};
use crate::{
    store::{
        Failure, Finding, Folder, Fs, LOAD_GIVEN_UP, SHADOW_GIVEN_UP, SlotId, SlotState, State, Store, StoreError, TRIAL_GIVEN_UP,
        TRIES_MAX, Verdict,
        sim::{CrashImage, Sampling, SimFs},
    },
    testing::{TestRelease, release},
};

/// Everything that a start must find again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    state: State,
    next_chunk: Option<u64>,
    documents: BTreeMap<String, Vec<u8>>,
}

/// The disk after an operation that the caller saw succeed.
#[derive(Debug)]
pub(super) struct Milestone {
    pub(super) name: String,
    /// Changes of the disk before the operation returned.
    pub(super) point: usize,
    view: View,
}

/// What was done on a disk, and what must be found on it.
pub(super) struct History {
    pub(super) fs: SimFs,
    /// Where the search begins.
    pub(super) from: usize,
    /// What may be found before the first milestone, besides that one's view.
    before: Vec<View>,
    pub(super) milestones: Vec<Milestone>,
}

impl History {
    /// What may be found when power is cut after `point` changes, and in the middle of what that is.
    fn allowed(&self, point: usize) -> (Vec<&View>, &str) {
        let done = self.milestones.iter().rposition(|milestone| milestone.point <= point);
        let next = self.milestones.get(done.map_or(0, |number| number + 1));
        let mut views: Vec<&View> = done.map_or_else(|| self.before.iter().collect(), |number| vec![&self.milestones[number].view]);
        views.extend(next.map(|next| &next.view));
        (views, next.map_or("nothing", |next| next.name.as_str()))
    }

    /// What may be found when power is cut after so many milestones.
    pub(super) fn allowed_after(&self, milestones: usize) -> Vec<&View> {
        let done = milestones.checked_sub(1).map_or_else(|| self.before.iter().collect(), |last| vec![&self.milestones[last].view]);
        done.into_iter().chain(self.milestones.get(milestones).map(|next| &next.view)).collect()
    }

    /// As a process that was killed after `point` changes left it, and what the next one may find.
    pub(super) fn killed(&self, point: usize) -> (SimFs, Vec<View>) {
        (self.fs.ended_after(point), self.allowed(point).0.into_iter().cloned().collect())
    }
}

/// How much was looked at, over all searches of a test.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Crash images, the same content more than once included.
    pub(super) images: usize,
    /// Images that differ in what a program finds.
    pub(super) distinct: HashSet<u64>,
    /// Crashes in the recovery from a crash.
    pub(super) second_crashes: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Depth {
    /// Every n-th image is brought to the end of the update.
    pub(super) complete_every: usize,
    /// Every n-th image is crashed again in whatever was done on it.
    pub(super) crash_recovery_every: Option<usize>,
}

/// How a line begins that says what was reached on a real disk.
pub(super) const REACHED: &str = "reached ";

/// Writes down what was done on a disk.
pub(super) struct Recorder {
    disk: Arc<dyn Fs>,
    /// The same disk, if it is simulated.
    sim: Option<SimFs>,
    store: Option<Store>,
    pub(super) documents: BTreeMap<String, Vec<u8>>,
    pub(super) next_chunk: Option<u64>,
    reached: Vec<(Milestone, SimFs)>,
}

impl Recorder {
    fn new(sim: SimFs) -> Self {
        Self { sim: Some(sim.clone()), ..Self::on(shared(&sim)) }
    }

    /// On a real disk: what was reached is printed, line by line, for whoever cuts the power.
    pub(super) fn on(disk: Arc<dyn Fs>) -> Self {
        Self { disk, sim: None, store: None, documents: BTreeMap::new(), next_chunk: None, reached: Vec::new() }
    }

    pub(super) fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("the script opens the store first")
    }

    /// A process begins; if there was one, it ended without a word, and power stayed.
    pub(super) fn start(&mut self) -> Result<Vec<Finding>, StoreError> {
        self.store = None;
        let (store, findings) = Store::open(Arc::clone(&self.disk))?;
        self.next_chunk = found_chunk(&findings);
        self.documents = documents(&store);
        self.store = Some(store);
        self.reached("start");
        Ok(findings)
    }

    /// One operation, which is durable when it has returned.
    pub(super) fn step<T>(&mut self, name: &str, operation: impl FnOnce(&mut Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let done = operation(self.store())?;
        self.reached(name);
        Ok(done)
    }

    pub(super) fn write_document(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.store().write_document(Folder::Image, name, bytes)?;
        self.documents.insert(name.into(), bytes.into());
        self.reached("write a document");
        Ok(())
    }

    pub(super) fn remove_document(&mut self, name: &str) -> Result<(), StoreError> {
        self.store().remove_document(Folder::Image, name)?;
        self.documents.remove(name);
        self.reached("remove a document");
        Ok(())
    }

    pub(super) fn reached(&mut self, name: &str) {
        let Some(sim) = &self.sim else { return println!("{REACHED}{name}") };
        let (point, disk) = (sim.crash_points() - 1, sim.settled());
        let state = after_restart(self.store().state());
        let view = View { state, next_chunk: self.next_chunk, documents: self.documents.clone() };
        let name = format!("{}: {name}", self.reached.len() + 1);
        self.reached.push((Milestone { name, point, view }, disk));
    }
}

pub(super) struct World {
    releases: Vec<TestRelease>,
    /// By release and chunk: what the chunks before it put into each file.
    prefixes: BTreeMap<(u64, u64), BTreeMap<String, Vec<u8>>>,
}

pub(super) fn shared(fs: &SimFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

/// Images of the second crash: there are many of them.
const SECOND_CRASH: Sampling = Sampling { exhaustive_changes_max: 6, exhaustive_blocks_max: 0, random_images: 2, seed: 2 };

/// What was found on an image; it depends on the image alone.
type Known = HashMap<u64, Result<View, String>>;

impl World {
    pub(super) fn new() -> Self {
        // Of the second one some writes are longer than a page; of the fourth one a file is longer than a chunk.
        let weights = [1500, 9500, 600, (1 << 20) + 700, 0, 4000, 513, 2000];
        let releases: Vec<_> = (1..).zip(weights).map(|(counter, weights)| release(counter, weights)).collect();
        let prefixes = releases.iter().flat_map(prefixes).collect();
        Self { releases, prefixes }
    }

    pub(super) fn release(&self, counter: u64) -> &TestRelease {
        &self.releases[counter as usize - 1]
    }

    /// Runs a script on a disk.
    pub(super) fn live(&self, fs: SimFs, script: impl FnOnce(&Self, &mut Recorder) -> Result<(), StoreError>) -> Result<History, String> {
        let before = vec![self.recover(&shared(&fs.settled()))?];
        self.live_on(fs, before, script)
    }

    /// The same on a disk on which something was done before, so that some views may be found.
    pub(super) fn live_on(
        &self,
        fs: SimFs,
        before: Vec<View>,
        script: impl FnOnce(&Self, &mut Recorder) -> Result<(), StoreError>,
    ) -> Result<History, String> {
        let from = fs.crash_points() - 1;
        let mut recorder = Recorder::new(fs.clone());
        script(self, &mut recorder).map_err(|error| format!("{error} ({error:?})"))?;
        let reached = recorder.reached;
        let mut milestones = Vec::new();
        for (milestone, disk) in reached {
            // A process that dies without a power cut finds everything that was written.
            let found = self.recover(&shared(&disk))?;
            if found != milestone.view {
                return Err(format!("{}: found {found:#?} instead of {:#?}", milestone.name, milestone.view));
            }
            milestones.push(milestone);
        }
        Ok(History { fs, from, before, milestones })
    }

    /// Opens the disk, checks every promise about what is found, and says what that is.
    pub(super) fn recover(&self, fs: &Arc<dyn Fs>) -> Result<View, String> {
        let (store, findings) = Store::open(Arc::clone(fs)).map_err(|error| format!("the store does not open: {error}"))?;
        let state = store.state();
        for slot in [state.confirmed(), state.pending()].into_iter().flatten() {
            let model = store.load(slot).map_err(|error| format!("a complete slot does not load: {error}"))?;
            if files(fs.as_ref(), slot) != members(self.release(model.occupant().release_counter)) {
                return Err(format!("slot {slot} has other files"));
            }
        }
        // Higher, and it would forbid the way back to what is confirmed; without anything confirmed, to everything.
        let confirmed = state.confirmed().and_then(|slot| state.slot(slot).occupant()).map_or(0, |occupant| occupant.release_counter);
        if state.floor() != confirmed {
            return Err(format!("the floor is {}, the confirmed release has {confirmed}", state.floor()));
        }
        let next_chunk = found_chunk(&findings);
        if let Some(next_chunk) = next_chunk {
            self.check_resumption(fs, next_chunk)?;
        }
        Ok(View { state: state.clone(), next_chunk, documents: documents(&store) })
    }

    /// What a checkpoint says is on the disk is there.
    fn check_resumption(&self, fs: &Arc<dyn Fs>, next_chunk: u64) -> Result<(), String> {
        let (mut store, _) = Store::open(Arc::clone(fs)).map_err(|error| error.to_string())?;
        let writing = SlotId::ALL.into_iter().find(|slot| store.state().slot(*slot).name() == "writing");
        let slot = writing.ok_or("a download goes on in no slot")?;
        let counter = store.state().slot(slot).occupant().ok_or("a download of nothing")?.release_counter;
        let installation = store.prepare(&incoming(self.release(counter))).map_err(|error| error.to_string())?;
        if installation.resumption().map(|found| found.next_chunk) != Some(next_chunk) {
            return Err(format!("the download does not go on at chunk {next_chunk}"));
        }
        let found = files(fs.as_ref(), slot);
        let is_there = |(path, start): (&String, &Vec<u8>)| found.get(path).is_some_and(|content| content.starts_with(start));
        match self.prefixes[&(counter, next_chunk)].iter().find(|file| !is_there(*file)) {
            Some((path, _)) => Err(format!("{path} lacks what the checkpoint at chunk {next_chunk} promises")),
            None => Ok(()),
        }
    }

    /// From whatever was found, the update to release 2 comes to its end, or does not begin, because the release is in quarantine.
    pub(super) fn complete(&self, fs: &Arc<dyn Fs>) -> Result<(), String> {
        let (mut store, _) = Store::open(Arc::clone(fs)).map_err(|error| error.to_string())?;
        let second = self.release(2).index_sha256();
        if store.state().floor() >= 2 || store.state().quarantine(&second).is_some() {
            return Ok(());
        }
        let pending = store.state().pending().filter(|slot| store.load(*slot).is_ok_and(|model| model.occupant().release_counter == 2));
        let done = match pending {
            Some(slot) => store.begin_trial(slot).and_then(|()| store.confirm(slot).map(drop)),
            None => install(&mut store, self.release(2)).map(|_| ()),
        };
        done.map_err(|error| format!("the update cannot be completed: {error}"))?;
        match store.state().confirmed() {
            Some(slot) if files(fs.as_ref(), slot) == members(self.release(2)) => Ok(()),
            _ => Err("the completed update is not complete".into()),
        }
    }

    /// Cuts the power at every point; says what went wrong.
    pub(super) fn crash_everywhere(&self, history: &History, sampling: Sampling, depth: Depth, tally: &mut Tally) -> Result<(), String> {
        let (mut known, mut number) = (Known::new(), 0);
        for point in history.from..history.fs.crash_points() {
            let (allowed, during) = history.allowed(point);
            for image in history.fs.crash_images(point, sampling) {
                number += 1;
                let story = |what: String| {
                    format!("power cut after change {point} (during {during}), seed {}:\n{}  -> {what}", sampling.seed, image.story())
                };
                let found = self.found(&image, &mut known, tally).map_err(&story)?;
                if !allowed.contains(&&found) {
                    return Err(story(format!("found {found:#?}\nallowed {allowed:#?}")));
                }
                let recovered = image.fs.crash_points();
                if number % depth.complete_every == 0 {
                    self.complete(&shared(&image.fs)).map_err(&story)?;
                }
                if depth.crash_recovery_every.is_some_and(|every| number % every == 0_usize) {
                    self.crash_again(&image, recovered, &found, &mut known, tally).map_err(&story)?;
                }
            }
        }
        Ok(())
    }

    /// Recovery from an image, twice: what it finds, it finds again.
    fn found(&self, image: &CrashImage, known: &mut Known, tally: &mut Tally) -> Result<View, String> {
        tally.images += 1;
        let fingerprint = image.fs.fingerprint();
        tally.distinct.insert(fingerprint);
        let recover = || {
            let fs = shared(&image.fs);
            let found = self.recover(&fs)?;
            let again = self.recover(&fs)?;
            if again == found { Ok(found) } else { Err(format!("the second start found {again:#?} after {found:#?}")) }
        };
        known.entry(fingerprint).or_insert_with(recover).clone()
    }

    /// Power is cut again while the start after the first cut is at work, up to change `recovered`, or the update after that.
    fn crash_again(&self, image: &CrashImage, recovered: usize, found: &View, known: &mut Known, tally: &mut Tally) -> Result<(), String> {
        for second in 0..image.fs.crash_points() {
            for again in image.fs.crash_images(second, SECOND_CRASH) {
                tally.second_crashes += 1;
                let story = |what| format!("{}  (second cut) {what}", again.story());
                let view = self.found(&again, known, tally).map_err(story)?;
                if second < recovered && view != *found {
                    return Err(story(format!("found {view:#?} instead of {found:#?}")));
                }
            }
        }
        Ok(())
    }
}

fn documents(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &String| store.read_document(Folder::Image, name).unwrap().unwrap();
    store.documents(Folder::Image).unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
}

fn found_chunk(findings: &[Finding]) -> Option<u64> {
    findings.iter().find_map(|finding| match finding {
        Finding::DownloadInterrupted { next_chunk, .. } => Some(*next_chunk),
        _ => None,
    })
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
                }
                Event::FileStart(file) => {
                    path.clone_from(&file.path);
                    contents.entry(path.clone()).or_default();
                }
                Event::Data(bytes) => contents.entry(path.clone()).or_default().extend_from_slice(bytes),
                Event::FileEnd(_) | Event::End => {}
            }
            Ok(())
        };
        release.read_chunk(&mut reader, number, take).unwrap();
        found.insert((release.manifest.release.release_counter, number + 1), contents.clone());
    }
    found
}

/// What a start makes of a state: a trial that was cut off may be tried again, and what was cut off too often is given up.
fn after_restart(state: &State) -> State {
    let mut state = state.clone();
    for slot in SlotId::ALL {
        let given_up = |number, name| state.with_invalid(slot, Failure { verdict: Verdict::Condemned, number, name }).unwrap();
        state = match state.slot(slot).clone() {
            SlotState::Trial { tries_left: 0, .. } => given_up(TRIAL_GIVEN_UP, "trial_interrupted"),
            SlotState::Trial { occupant, tries_left } => state.with_slot(slot, SlotState::pending(occupant, tries_left)).unwrap(),
            SlotState::Pending { loads_begun: TRIES_MAX.., .. } => given_up(LOAD_GIVEN_UP, "load_interrupted"),
            SlotState::Pending { shadows_begun: TRIES_MAX.., .. } => given_up(SHADOW_GIVEN_UP, "shadow_interrupted"),
            _ => continue,
        };
    }
    state
}
