//! A vehicle that drives, and everything it talks to in the hands of an attacker.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Instant,
};

use switchback_sdk::{
    fetch::{Cancel, HttpRequest, HttpResponse, Transport, TransportError},
    vehicle::{EventKind, UpdateState, VehicleCallbacks, VehicleConfig},
};
use switchback_signing::{
    bundle::{ChunkDecoder, ChunkIndex},
    digest::Sha256Digest,
    keys::PublicKey,
    metadata::{TargetMeta, vehicle::EcuReport},
    testing::{NOW, TestRepositories, TestRepository},
    trust::Attack,
};
use tempfile::TempDir;

use super::common::{
    PATIENCE, Road,
    car::{self, Car},
    server::Server,
};

/// Metadata versions that an honest repository goes ahead after an attack, so that they are above all that the attacker could publish.
const VERSIONS_AHEAD: u32 = 8;

/// What a vehicle has lived through before it meets the attacker. Made once: it drives release 2, having driven release 1.
struct Story {
    disk: BTreeMap<PathBuf, Vec<u8>>,
    key: PublicKey,
    blobs: BTreeMap<String, Vec<u8>>,
    /// While release 1 was the newest.
    earlier: TestRepositories,
    /// As the vehicle has seen them last.
    seen: TestRepositories,
    /// With release 3, published and assigned, of which the vehicle does not know yet.
    offering: TestRepositories,
}

static STORY: LazyLock<Story> = LazyLock::new(|| {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let release = |counter| {
        server.release(&model(counter), counter, 0);
        server.lock().repositories.clone()
    };
    let earlier = release(1);
    let mut car = Car::open(&server, store.path());
    car.reach(UpdateState::Confirmed);
    let seen = release(2);
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    drop(car);
    let offering = release(3);
    let state = server.lock();
    Story { disk: contents(store.path()), key: state.vehicle_key.clone().unwrap(), blobs: state.blobs.clone(), earlier, seen, offering }
});

/// Both repositories, one after the other.
pub(super) const BOTH: [fn(&mut TestRepositories) -> &mut TestRepository; 2] = [|all| &mut all.director, |all| &mut all.image];

/// The model of a release: its curvature tells who drives.
fn model(counter: u64) -> Road {
    Road { control: [0.01 * counter as f32, 0.25], ..Road::default() }
}

/// The target path of a release's chunk index.
pub(super) fn index_path(counter: u64) -> String {
    format!("ultra/vla-{counter}-{counter}.0.0.index")
}

/// The repositories while release 1 was the newest.
pub(super) fn earlier() -> TestRepositories {
    STORY.earlier.clone()
}

/// The repositories as the vehicle has seen them last.
pub(super) fn seen() -> TestRepositories {
    STORY.seen.clone()
}

/// A vehicle that drives release 2 of a server that has release 3, and what becomes of it.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) car: Car,
    pub(super) store: TempDir,
    network: Network,
    clock: Clock,
    slots: BTreeMap<PathBuf, Vec<u8>>,
    honest: TestRepositories,
}

/// A scene in which the attacker has changed the repositories: what is in `now` is what the vehicle is shown next.
pub(super) fn attack(change: impl FnOnce(&mut TestRepositories)) -> Scene {
    let mut scene = Scene::new();
    scene.attack(change);
    scene
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With a configuration that is not the usual one.
    pub(super) fn with(configure: impl FnOnce(&mut VehicleConfig)) -> Self {
        let story = &*STORY;
        let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
        {
            let mut state = server.lock();
            state.repositories = story.seen.clone();
            state.vehicle_key = Some(story.key.clone());
            state.blobs = story.blobs.clone();
        }
        for (path, bytes) in &story.disk {
            let path = store.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let network = Network { server: server.clone(), rule: Arc::new(Mutex::new(Box::new(|_| None))), bundle_asked: Arc::default() };
        let clock = Clock { seconds: Arc::new(AtomicI64::new(NOW.seconds())), looked_at: Arc::new(Mutex::new(Box::new(|| {}))) };
        let mut config = car::config(&server, store.path());
        config.transport = Some(Arc::new(network.clone()));
        configure(&mut config);
        let car = open(config, &clock);
        let slots = contents(&store.path().join("slots"));
        let mut scene = Self { server, car, store, network, clock, slots, honest: story.offering.clone() };
        scene.car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
        scene.server.lock().repositories = scene.honest.clone();
        scene
    }

    /// The attacker changes what the repositories show next, beginning with what is honest.
    pub(super) fn attack(&mut self, change: impl FnOnce(&mut TestRepositories)) {
        self.go_ahead();
        let mut repositories = self.honest.clone();
        change(&mut repositories);
        self.server.lock().repositories = repositories;
    }

    /// The attacker sits on the network: an answer in place of the server's, by the address that was asked for.
    pub(super) fn intercept(&mut self, rule: impl FnMut(&str) -> Option<HttpResponse> + Send + 'static) {
        *self.network.rule.lock().unwrap() = Box::new(rule);
    }

    /// The attacker sits on the vehicle's computer, and is awake whenever the vehicle looks at its clock.
    pub(super) fn at_every_look_at_the_clock(&mut self, act: impl FnMut() + Send + 'static) {
        *self.clock.looked_at.lock().unwrap() = Box::new(act);
    }

    /// The attacker replaces the bytes of a target.
    pub(super) fn replace(&mut self, name: &str, with: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.server.lock();
        let (_, bytes) = state.blobs.iter_mut().find(|(path, _)| path.ends_with(name)).expect("there is such a target");
        with(bytes);
    }

    /// The engineers themselves are the attacker, or their tools: release 3 is this bundle, with every signature that there can be.
    pub(super) fn engineers_publish(&mut self, index: &[u8], bundle: &[u8]) {
        let path = index_path(3);
        let mut bundle_path = String::new();
        self.attack(|all| {
            let mut custom = all.image.role("vla-ultra").targets[&path].release().unwrap();
            (custom.bundle.length, custom.bundle.sha256) = (bundle.len() as u64, Sha256Digest::of(bundle));
            bundle_path = custom.bundle.path.clone();
            all.publish_target(&path, TargetMeta::of_release(index, &custom));
            all.assign(&path);
        });
        let mut state = self.server.lock();
        state.add_blob(&path, index);
        state.add_blob(&bundle_path, bundle);
    }

    /// The content of `manifest.json` of release 3, and its archive.
    pub(super) fn archive_of_release_3(&self) -> (Vec<u8>, Vec<u8>) {
        let state = self.server.lock();
        let blob = |name: &str| state.blobs.iter().find(|(path, _)| path.ends_with(name)).expect("there is such a target").1.as_slice();
        let (index, bundle) = (ChunkIndex::parse(blob("vla-3-3.0.0.index")).unwrap(), blob("vla-3-3.0.0.tar.zst"));
        let (mut decoder, mut archive) = (ChunkDecoder::new(&index, None).unwrap(), Vec::new());
        for row in index.rows() {
            let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
            let chunk = decoder.decode(index.verify_stored(row.number(), stored).unwrap()).unwrap();
            archive.extend_from_slice(chunk.bytes());
        }
        (archive[512..][..index.manifest_length() as usize].to_vec(), archive)
    }

    /// Both clocks, the vehicle's and the server's, show a time so many days later than at the beginning.
    pub(super) fn days_pass(&mut self, days: i64) {
        self.set_clock(NOW.plus_days(days).seconds());
        self.server.lock().now = NOW.plus_days(days);
    }

    /// Likewise so many hours later.
    pub(super) fn hours_pass(&mut self, hours: i64) {
        let now = NOW.plus_seconds(3_600 * hours);
        self.set_clock(now.seconds());
        self.server.lock().now = now;
    }

    /// The Director learns to answer nonces. It has nothing new for the vehicle yet.
    pub(super) fn director_answers_nonces(&mut self) {
        let mut seen = seen();
        for repositories in [&mut seen, &mut self.honest] {
            repositories.director.sign_freshness(NOW, None);
        }
        self.server.lock().repositories = seen;
    }

    /// The Director's Timestamp that the vehicle holds, as somebody on its way has recorded it.
    pub(super) fn recorded_timestamp(&self) -> Vec<u8> {
        fs::read(self.store.path().join("metadata-director/timestamp.json")).unwrap()
    }

    /// The vehicle's clock alone.
    pub(super) fn set_clock(&mut self, seconds: i64) {
        self.clock.seconds.store(seconds, Ordering::SeqCst);
    }

    /// Switched off and on again.
    pub(super) fn restart(self) -> Self {
        self.restart_after(|_| {})
    }

    /// Switched off, and on again after somebody has been at its disk.
    pub(super) fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        self.restart_with(|store, _| change(store))
    }

    /// Likewise with a configuration that is not the usual one.
    pub(super) fn restart_with(self, change: impl FnOnce(&Path, &mut VehicleConfig)) -> Self {
        let Self { server, car, store, network, clock, slots, honest } = self;
        drop(car);
        let mut config = car::config(&server, store.path());
        config.transport = Some(Arc::new(network.clone()));
        change(store.path(), &mut config);
        let car = open(config, &clock);
        Self { server, car, store, network, clock, slots, honest }
    }

    /// What the repositories show now is no attack but what the owners have done about it.
    pub(super) fn now_honest(&mut self) {
        self.honest = self.server.lock().repositories.clone();
    }

    /// The vehicle asks, and has nothing to complain of.
    pub(super) fn checks(&mut self) {
        self.car.vehicle.check_now();
        let event = self.car.drive_until(|kind| matches!(kind, EventKind::Checked | EventKind::CheckFailed), |_| {});
        assert!(event.kind == EventKind::Checked && self.car.vehicle.status().reason.is_none(), "{event:?}");
    }

    /// The vehicle asks, and refuses what it is shown; nothing of it drives, and the next report tells of the attack.
    #[track_caller]
    pub(super) fn refuses(&mut self, number: u32, name: &str, attack: Attack) -> &mut Self {
        self.server.lock().reports.clear();
        self.car.vehicle.check_now();
        self.meets(number, name);
        self.is_reported(number, name, attack)
    }

    /// As [`Scene::refuses`], after checks in which there was nothing to see.
    #[track_caller]
    pub(super) fn refuses_in_the_end(&mut self, number: u32, name: &str, attack: Attack) -> &mut Self {
        let begun = Instant::now();
        while self.car.vehicle.status().reason.is_none() {
            assert!(begun.elapsed() < PATIENCE, "nothing was refused");
            self.car.vehicle.check_now();
            let is_over = |kind: &EventKind| matches!(kind, EventKind::Checked | EventKind::CheckFailed);
            self.car.drive_until(is_over, |output| assert!(output.control_valid, "{output:?}"));
        }
        self.refuses(number, name, attack)
    }

    /// As [`Scene::refuses`], of a release that is complete in its slot.
    #[track_caller]
    pub(super) fn refuses_to_load(&mut self, number: u32, name: &str, attack: Attack) -> &mut Self {
        self.server.lock().reports.clear();
        self.car.vehicle.check_now();
        let is_end =
            |kind: &EventKind| matches!(kind, EventKind::Update(UpdateState::Refused | UpdateState::Trial | UpdateState::Confirmed));
        let event = self.car.drive_until(is_end, |output| assert!(output.control_valid, "{output:?}"));
        let reason = event.reason.clone().unwrap_or_else(|| panic!("nothing was refused: {event:?}"));
        assert_eq!((reason.number, reason.name.as_str()), (number, name), "{reason:?}");
        self.nothing_was_activated();
        self.is_reported(number, name, attack)
    }

    /// The next report tells of the attack.
    #[track_caller]
    pub(super) fn is_reported(&mut self, number: u32, name: &str, attack: Attack) -> &mut Self {
        let report = self.until_reported(name);
        let found = report.attack_detected.unwrap();
        assert_eq!(found.number, number, "{found:?}");
        assert!(found.text.starts_with(&format!("{attack}: ")), "expected a {attack}, found {found:?}");
        self
    }

    /// The vehicle says this about what it has met, and nothing else drives than before.
    #[track_caller]
    pub(super) fn meets(&mut self, number: u32, name: &str) -> &mut Self {
        let is_decision = |kind: &EventKind| match kind {
            EventKind::Update(state) => {
                !matches!(state, UpdateState::Idle | UpdateState::Offered | UpdateState::Consented | UpdateState::Downloading)
            }
            EventKind::NotBelieved | EventKind::CheckFailed | EventKind::DownloadPaused => true,
            _ => false,
        };
        let event = self.car.drive_until(is_decision, |output| assert!(output.control_valid, "{output:?}"));
        let reason = event.reason.clone().unwrap_or_else(|| panic!("nothing was refused: {event:?}"));
        assert_eq!((reason.number, reason.name.as_str()), (number, name), "{reason:?}");
        self.nothing_was_activated();
        self
    }

    /// Release 2 drives, and its bytes are the ones that were there before. The other slot may have begun to be written by a download.
    #[track_caller]
    fn nothing_was_activated(&mut self) {
        let active = self.car.vehicle.status().active.expect("a model drives");
        assert_eq!((active.release.model.as_str(), active.on_trial), ("vla-2", false));
        assert_eq!(self.car.step().control.curvature_1pm, 0.02, "the model that answers is the one of before");
        let slots = contents(&self.store.path().join("slots"));
        let of_active = |slots: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<(PathBuf, Vec<u8>)> {
            slots.clone().into_iter().filter(|(path, _)| path.starts_with(active.slot.name())).collect()
        };
        let (before, after) = (of_active(&self.slots), of_active(&slots));
        assert!(!before.is_empty() && before == after, "the slot of the model that drives has changed");
        if !self.network.bundle_asked.load(Ordering::SeqCst) {
            assert!(slots == self.slots, "no bundle was asked for, and a slot has changed");
        }
    }

    /// Drives until a report of the vehicle names the attack.
    fn until_reported(&mut self, name: &str) -> EcuReport {
        let server = self.server.clone();
        let tells = |report: &EcuReport| report.attack_detected.as_ref().is_some_and(|found| found.name == name);
        self.car.drive_while(|| !server.reports().iter().any(tells));
        self.server.reports().into_iter().find(tells).unwrap()
    }

    /// The server is in honest hands again, and the vehicle takes release 3.
    #[track_caller]
    pub(super) fn recovers(&mut self) {
        *self.network.rule.lock().unwrap() = Box::new(|_| None);
        self.go_ahead();
        {
            let mut state = self.server.lock();
            state.repositories = self.honest.clone();
            state.blobs = STORY.blobs.clone();
            (state.down, state.tampers) = (false, false);
        }
        self.car.vehicle.check_now();
        self.car.reach(UpdateState::Confirmed);
        assert_eq!(self.car.model().as_deref(), Some("vla-3"));
        assert_eq!(self.car.step().control.curvature_1pm, 0.03);
    }

    /// As [`Scene::recovers`], with a release of its own: the one that was refused is condemned on this vehicle.
    #[track_caller]
    pub(super) fn recovers_with_another_release(&mut self) {
        self.go_ahead();
        self.server.lock().repositories = self.honest.clone();
        self.server.release(&model(4), 4, 0);
        self.car.vehicle.check_now();
        self.car.reach(UpdateState::Confirmed);
        assert_eq!(self.car.model().as_deref(), Some("vla-4"));
    }

    /// The whole story of most scenarios.
    #[track_caller]
    pub(super) fn refused_as(mut self, number: u32, name: &str, attack: Attack) {
        self.refuses(number, name, attack).recovers();
    }

    /// The honest repositories publish everything anew, several times, with dates that are good for some weeks.
    fn go_ahead(&mut self) {
        for repository in [&mut self.honest.director, &mut self.honest.image] {
            repository.timestamp.expires = NOW.plus_days(20);
            for _ in 0..VERSIONS_AHEAD {
                repository.publish();
            }
        }
    }
}

/// The vehicle's clock, and somebody who knows when it is looked at.
#[derive(Clone)]
struct Clock {
    seconds: Arc<AtomicI64>,
    looked_at: Arc<Mutex<Box<dyn FnMut() + Send>>>,
}

fn open(config: VehicleConfig, clock: &Clock) -> Car {
    let clock = clock.clone();
    let look = move || {
        (clock.looked_at.lock().unwrap())();
        clock.seconds.load(Ordering::SeqCst)
    };
    let callbacks = VehicleCallbacks { clock: Some(Box::new(look)), ..VehicleCallbacks::default() };
    Car::open_with(config, callbacks)
}

type Rule = Box<dyn FnMut(&str) -> Option<HttpResponse> + Send>;

/// The way to the server, with an attacker on it.
#[derive(Clone)]
struct Network {
    server: Server,
    rule: Arc<Mutex<Rule>>,
    /// Whether a part of a bundle was asked for; until then no slot may be touched.
    bundle_asked: Arc<AtomicBool>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

impl Transport for Network {
    fn send(&self, request: &HttpRequest<'_>, cancel: &Cancel) -> Result<HttpResponse, TransportError> {
        self.bundle_asked.fetch_or(request.url.ends_with(".tar.zst"), Ordering::SeqCst);
        let answer = (self.rule.lock().unwrap())(request.url);
        answer.map_or_else(|| self.server.send(request, cancel), Ok)
    }
}

/// Every file below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    found
}
