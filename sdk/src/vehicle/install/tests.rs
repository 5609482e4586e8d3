#![allow(clippy::unwrap_used, clippy::expect_used)]

mod delta;
mod mirrors;
mod reuse;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use switchback_signing::{
    metadata::{BundleRef, TargetMeta},
    testing::{NOW, TestRepositories, TestVehicle, custom},
    trust::Outcome,
};

use super::*;
use crate::{
    fetch::{Body, Cancel, HttpRequest, HttpResponse, Transport, TransportError},
    testing::{TestRelease, noise, release_under, release_with},
    vehicle::{Identity, VehicleConfig},
};

const INDEX_PATH: &str = "ultra/vla-2.index";

/// Weights of several chunks.
const WEIGHTS: usize = 5 << 20;

/// Nothing is asked of anybody, and no checkpoint is made for bytes.
const FREE: Terms = Terms { allowed_bytes: u64::MAX, checkpoint_bytes: u64::MAX };

fn key() -> ContentKey {
    ContentKey::from_bytes([3; 32])
}

/// An Image repository with one release, whose connection breaks after so many bytes of the bundle.
#[derive(Debug)]
struct Shelf {
    index: Vec<u8>,
    bundle: Vec<u8>,
    breaks_after: Mutex<Option<usize>>,
    /// A server that sends the whole file whatever part is asked for.
    knows_no_ranges: AtomicBool,
    /// What becomes of requests for the bundle, by host.
    fates: Mutex<BTreeMap<String, Fate>>,
    /// Host, path and names of the headers of every request.
    seen: Mutex<Vec<(String, String, Vec<&'static str>)>>,
    /// What each request for the bundle asked for.
    ranges: Mutex<Vec<Range<usize>>>,
    /// Index and data of a delta; the data is not there when it is empty.
    delta: Option<(Vec<u8>, Vec<u8>)>,
    /// What each request for the delta's data asked for.
    delta_ranges: Mutex<Vec<Range<usize>>>,
}

/// What one of several servers does with a request for the bundle.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Refuses,
    /// One bit of what it sends is another one.
    Alters,
}

struct Sent {
    bytes: Vec<u8>,
    taken: usize,
    breaks: bool,
}

impl Body for Sent {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let rest = &self.bytes[self.taken..];
        if rest.is_empty() && self.breaks {
            return Err(TransportError::Broken { reason: "reset".into() });
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Transport for Shelf {
    fn send(&self, request: &HttpRequest<'_>, _: &Cancel) -> Result<HttpResponse, TransportError> {
        let (host, path) = request.url.strip_prefix("https://").unwrap().split_once('/').unwrap();
        let names = request.headers.iter().map(|(name, _)| *name).collect();
        self.seen.lock().unwrap().push((host.to_owned(), path.to_owned(), names));
        let range = request.headers.iter().find(|(name, _)| *name == "range");
        let of_delta = self.delta.as_ref().filter(|_| path.contains(".delta"));
        let Some((_, range)) = range else {
            let bytes = of_delta.map_or(&self.index, |(index, _)| index).clone();
            let body = Sent { bytes, taken: 0, breaks: false };
            return Ok(HttpResponse { status: 200, headers: Vec::new(), body: Box::new(body) });
        };
        let (file, ranges) = of_delta.map_or((&self.bundle, &self.ranges), |(_, data)| (data, &self.delta_ranges));
        if file.is_empty() {
            let body = Sent { bytes: Vec::new(), taken: 0, breaks: false };
            return Ok(HttpResponse { status: 404, headers: Vec::new(), body: Box::new(body) });
        }
        let (start, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (start, end) = (start.parse().unwrap(), last.parse().map_or(file.len(), |last: usize| last + 1));
        ranges.lock().unwrap().push(start..end);
        let fate = self.fates.lock().unwrap().get(host).copied();
        if let Some(Fate::Refuses) = fate {
            return Err(TransportError::Broken { reason: "refused".into() });
        }
        if self.knows_no_ranges.load(Ordering::SeqCst) {
            let body = Sent { bytes: self.bundle.clone(), taken: 0, breaks: false };
            return Ok(HttpResponse { status: 200, headers: Vec::new(), body: Box::new(body) });
        }
        let headers = vec![("content-range".to_owned(), format!("bytes {start}-{}/{}", end - 1, file.len()))];
        let breaks = self.breaks_after.lock().unwrap().take();
        let end = breaks.map_or(end, |after| end.min(start + after));
        let mut bytes = file[start..end].to_vec();
        if let Some(Fate::Alters) = fate {
            bytes[0] ^= 1;
        }
        let body = Sent { bytes, taken: 0, breaks: breaks.is_some() };
        Ok(HttpResponse { status: 206, headers, body: Box::new(body) })
    }
}

/// A vehicle that may install the release, and the repository that has it.
struct Scene {
    release: TestRelease,
    target: VerifiedTarget,
    shelf: Arc<Shelf>,
    link: Link,
    disk: Arc<tempfile::TempDir>,
}

impl Scene {
    fn new(encrypted_under: Option<&ContentKey>) -> Self {
        Self::of(release_under(2, WEIGHTS, encrypted_under), &Arc::new(tempfile::tempdir().unwrap()))
    }

    fn of(release: TestRelease, disk: &Arc<tempfile::TempDir>) -> Self {
        Self::with(release, disk, |_| {})
    }

    fn with(release: TestRelease, disk: &Arc<tempfile::TempDir>, change: impl FnOnce(&mut VehicleConfig)) -> Self {
        Self::made(release, disk, None, change)
    }

    fn made(
        release: TestRelease,
        disk: &Arc<tempfile::TempDir>,
        delta: Option<delta::Made>,
        change: impl FnOnce(&mut VehicleConfig),
    ) -> Self {
        let names = &release.manifest.release;
        let mut said = custom(names.release_counter);
        (said.model, said.version) = (names.model.clone(), names.version.clone());
        said.bundle = BundleRef {
            path: "ultra/vla-2.tar.zst".into(),
            length: release.index.bundle_length(),
            sha256: release.index.bundle_sha256(),
            encryption: release.index.encryption(),
        };
        let mut repositories = TestRepositories::new();
        repositories.publish_target(INDEX_PATH, TargetMeta::of_release(&release.index_bytes, &said));
        repositories.assign(INDEX_PATH);
        if let Some(delta) = &delta {
            let director = &mut repositories.director;
            let target = director.targets.targets.remove(INDEX_PATH).unwrap();
            director.targets.targets.insert(INDEX_PATH.into(), target.with_delta(&delta.reference));
            director.publish();
        }
        let Outcome::Install(target) = TestVehicle::new(&repositories).check(&repositories, NOW) else { panic!("a release to install") };
        let shelf = Arc::new(Shelf {
            index: release.index_bytes.clone(),
            bundle: release.bundle.clone(),
            breaks_after: Mutex::default(),
            knows_no_ranges: AtomicBool::default(),
            fates: Mutex::default(),
            seen: Mutex::default(),
            ranges: Mutex::default(),
            delta: delta.map(|delta| (delta.index, delta.data)),
            delta_ranges: Mutex::default(),
        });
        let identity = Identity {
            vehicle_id: "v-1".into(),
            ecu_serial: "ecu-1".into(),
            hardware_id: "thor".into(),
            tier: "ultra".into(),
            region: "eu".into(),
        };
        let mut config = VehicleConfig::new(disk.path(), "https://server", repositories.anchors(), identity);
        config.transport = Some(Arc::clone(&shelf) as Arc<dyn Transport>);
        change(&mut config);
        let link = Link::new(&config, &Cancel::default()).unwrap();
        Self { release, target, shelf, link, disk: Arc::clone(disk) }
    }

    fn store(&self) -> Store {
        Store::open_dir(self.disk.path()).unwrap().0
    }

    fn begin(&self, key: Option<&ContentKey>, store: &mut Store) -> Result<Install, Setback> {
        Install::begin(&self.target, key, &self.link, store)
    }

    /// Steps until the release is complete or something comes in between.
    fn run(&self, install: &mut Install, store: &mut Store) -> Result<Box<InstalledModel>, Setback> {
        loop {
            if let Step::Complete(model) = install.step(&self.link, store, FREE)? {
                return Ok(model);
            }
        }
    }
}

#[track_caller]
fn reason_of<T>(result: Result<T, Setback>) -> (u32, Blame) {
    match result {
        Err(Setback::Failed(reason, blame, None)) => (reason.number, blame),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// What the vehicle has on its disk are the members, whatever they were wrapped in on the way.
fn assert_installed(scene: &Scene, model: &InstalledModel) {
    let folder = scene.disk.path().join(model.dir());
    for (path, content) in &scene.release.members {
        assert!(std::fs::read(folder.join(path)).unwrap() == *content, "{path}");
    }
}

#[test]
fn an_encrypted_release_goes_on_after_a_power_cut_where_it_stopped() {
    let scene = Scene::new(Some(&key()));
    *scene.shelf.breaks_after.lock().unwrap() = Some(WEIGHTS / 2);
    let mut store = scene.store();
    let mut install = scene.begin(Some(&key()), &mut store).unwrap();
    assert!(matches!(scene.run(&mut install, &mut store), Err(Setback::Network(_))));
    drop((install, store));

    let mut store = scene.store();
    let mut install = scene.begin(Some(&key()), &mut store).unwrap();
    let model = scene.run(&mut install, &mut store).unwrap();
    assert_installed(&scene, &model);
    let ranges = scene.shelf.ranges.lock().unwrap().clone();
    let [Range { start: 0, .. }, resumed] = &ranges[..] else { panic!("{ranges:?}") };
    assert!(resumed.start > WEIGHTS / 4, "resumed at {resumed:?}");
}

#[test]
fn a_key_that_does_not_go_with_the_release_is_refused_before_a_slot_is_touched() {
    let encrypted = Scene::new(Some(&key()));
    let mut store = encrypted.store();
    let untouched = store.generation();
    assert_eq!(reason_of(encrypted.begin(None, &mut store)), (261, Blame::Nobody));
    let plain = Scene::new(None);
    let mut plain_store = plain.store();
    assert_eq!(reason_of(plain.begin(Some(&key()), &mut plain_store)), (262, Blame::Circumstances));
    assert_eq!((store.generation(), plain_store.generation()), (untouched, untouched));
    assert!(encrypted.shelf.ranges.lock().unwrap().is_empty() && plain.shelf.ranges.lock().unwrap().is_empty());
}

#[test]
fn a_wrong_key_ends_the_update_with_its_first_chunk_and_the_right_one_installs_it() {
    let scene = Scene::new(Some(&key()));
    let mut store = scene.store();
    let mut install = scene.begin(Some(&ContentKey::from_bytes([4; 32])), &mut store).unwrap();
    assert_eq!(reason_of(scene.run(&mut install, &mut store)), (263, Blame::Circumstances));
    drop(install);
    let mut install = scene.begin(Some(&key()), &mut store).unwrap();
    let model = scene.run(&mut install, &mut store).unwrap();
    assert_installed(&scene, &model);
}
