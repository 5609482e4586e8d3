//! Other ECUs of the vehicle: what exactly belongs beside a release, what each of them believes, and what is believed of them.

use switchback_sdk::vehicle::{EnrolledSecondary, MetadataSource, SecondaryEcu, SecondaryError, Sha256Digest, UnixTime};
use switchback_signing::{
    keys::Signer as _,
    metadata::{
        EcuSerial, Hashes, PathSet, TargetMeta,
        json::{self, Json},
        vehicle::{EcuReport, ReportPayload, sign_report},
    },
    testing::{NOW, TestRepositories, identity, key},
    trust::{Attack::MixAndMatch, FetchRequest},
};
use tempfile::TempDir;

use super::{
    common::{
        Road,
        camera::{Broken, Camera},
        car::{Car, callbacks, config},
        server::Server,
    },
    secondaries::{CALIBRATION_1, CALIBRATION_2, Scene, assigned},
};
use switchback_sdk::vehicle::{UpdateState, VehicleCallbacks};

/// Where the calibration of release 2 is.
const PATH: &str = "ultra/cam-2.cal";

/// Both repositories list the camera's image otherwise than the release that needs it.
fn listed_as(all: &mut TestRepositories, path: &str, change: impl FnOnce(&mut TargetMeta)) {
    let mut meta = all.image.role("vla-ultra").targets.remove(PATH).unwrap();
    change(&mut meta);
    all.image.role("vla-ultra").targets.insert(path.into(), meta);
    all.image.publish();
    let meta = assigned(all, path, "cam-1");
    all.director.targets.targets.remove(PATH);
    all.director.targets.targets.insert(path.into(), meta);
}

/// Which image belongs beside a release is said to the last byte.
#[test]
fn a09_an_image_that_differs_from_the_needed_one_in_anything_is_refused() {
    type Change = fn(&mut TargetMeta);
    let changes: [(&str, Change); 4] = [
        ("ultra/cam-2-b.cal", |_| {}),
        (PATH, |meta| meta.length += 1),
        (PATH, |meta| meta.hashes = Hashes::of(b"calibration 3")),
        (PATH, |meta| {
            let Some(Json::Object(block)) = meta.custom.get_mut("shallMatch") else { panic!("there is a block") };
            block.insert("releaseCounter".into(), Json::Integer(7));
        }),
    ];
    for (path, change) in changes {
        let mut scene = Scene::new();
        scene.director_says(|all| listed_as(all, path, change));
        scene.refuses(181, "companion_differs", MixAndMatch).recovers();
    }
}

/// Images that come without a block that must match: what both say of them must be the same all the same.
#[test]
fn a09_an_image_that_is_described_in_two_ways_without_a_block_is_refused() {
    let plain = |meta: TargetMeta, counter: i64, hardware: &str| {
        let mut custom = meta.custom;
        custom.remove("shallMatch");
        custom.insert("releaseCounter".into(), Json::Integer(counter));
        custom.insert("hardwareIds".into(), Json::Array(["cam-a", hardware].map(Json::string).to_vec()));
        TargetMeta { custom, ..meta }
    };
    for (counter, hardware) in [(3, "cam-b"), (2, "cam-c")] {
        let mut scene = Scene::new();
        scene.director_says(|all| {
            listed_as(all, PATH, |meta| *meta = plain(meta.clone(), 2, "cam-b"));
            let told = all.director.targets.targets.get_mut(PATH).unwrap();
            *told = plain(told.clone(), counter, hardware);
        });
        scene.refuses(145, "custom_differs", MixAndMatch).recovers();
    }
}

/// The camera, in the hands of whoever has taken the driving computer over, and the repositories as they are.
struct Alone {
    camera: Camera,
    all: TestRepositories,
    _disk: TempDir,
}

impl Alone {
    fn new() -> Self {
        let server = Server::default();
        server.release_with(&Road::default(), 1, CALIBRATION_1);
        let disk = tempfile::tempdir().unwrap();
        let mut camera = Camera::open(disk.path(), &server.lock().repositories.anchors());
        let first = server.lock().repositories.clone();
        camera.verify(NOW, &mut |request: &FetchRequest| first.fetch(request)).unwrap();
        camera.stage(CALIBRATION_1).unwrap();
        let release = Sha256Digest::of(b"release 1");
        camera.activate(Sha256Digest::of(CALIBRATION_1), release).unwrap();
        camera.settle(Some(release)).unwrap();
        server.release_with(&Road::default(), 2, CALIBRATION_2);
        let all = server.lock().repositories.clone();
        Self { camera, all, _disk: disk }
    }

    fn verify(&mut self, now: UnixTime) -> Result<(), SecondaryError> {
        let all = &self.all;
        let source: &mut MetadataSource<'_> = &mut |request: &FetchRequest| all.fetch(request);
        self.camera.verify(now, source)
    }

    /// It takes calibration 2 from whoever hands it over rightly.
    fn recovers(&mut self) {
        self.all.director.timestamp.expires = NOW.plus_days(20);
        self.all.image.timestamp.expires = NOW.plus_days(20);
        (0..8).for_each(|_| self.all.director.publish());
        (0..8).for_each(|_| self.all.image.publish());
        self.verify(NOW).unwrap();
        self.camera.stage(CALIBRATION_2).unwrap();
        let release = Sha256Digest::of(b"release 2");
        self.camera.activate(Sha256Digest::of(CALIBRATION_2), release).unwrap();
        self.camera.settle(Some(release)).unwrap();
        assert_eq!(self.camera.running().as_deref(), Some("calibration 2"));
    }
}

#[track_caller]
fn refused(result: Result<(), SecondaryError>, number: u32, name: &str) {
    match result {
        Err(SecondaryError::Refused { reason }) => assert_eq!((reason.number, reason.name.as_str()), (number, name), "{reason:?}"),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// The driving computer does not keep to the length that the camera asks for.
#[test]
fn a08_a_camera_takes_no_more_metadata_than_there_may_be() {
    let mut alone = Alone::new();
    let all = alone.all.clone();
    let source: &mut MetadataSource<'_> = &mut |request: &FetchRequest| {
        let mut bytes = all.fetch(request)?;
        if request.file_name == "timestamp.json" {
            bytes.resize(20_000, b' ');
        }
        Ok(bytes)
    };
    refused(alone.camera.verify(NOW, source), 113, "endless_data");
    alone.recovers();
}

/// The path of an image becomes part of a file name wherever it is kept.
#[test]
fn a22_a_path_for_a_camera_that_leaves_its_folder_is_refused() {
    let mut alone = Alone::new();
    let honest = alone.all.clone();
    alone.all.image.targets.delegations.as_mut().unwrap().roles[0].paths = PathSet::Patterns(vec!["*/*/*".into()]);
    listed_as(&mut alone.all, "ultra/../evil.cal", |_| {});
    alone.all.director.publish();
    refused(alone.verify(NOW), 141, "target_path");
    alone.all = honest;
    alone.recovers();
}

/// More than the image, and less.
#[test]
fn a08_a_camera_takes_no_more_of_an_image_than_is_listed() {
    let mut alone = Alone::new();
    for bytes in [&b"calibration 2 and more"[..], b"calibration"] {
        alone.verify(NOW).unwrap();
        refused(alone.camera.stage(bytes), 164, "file_length_differs");
    }
    assert_eq!(alone.camera.running().as_deref(), Some("calibration 1"));
    alone.recovers();
}

/// A camera has no clock of its own: what was verified once tells it that it is not earlier.
#[test]
fn a21_a_time_that_is_set_back_makes_nothing_fresh_for_a_camera() {
    let mut alone = Alone::new();
    let publish = |all: &mut TestRepositories, days| {
        for repository in [&mut all.director, &mut all.image] {
            repository.timestamp.expires = NOW.plus_days(days);
            repository.publish();
        }
    };
    publish(&mut alone.all, 20);
    alone.verify(NOW.plus_days(10)).unwrap();
    publish(&mut alone.all, 5);
    refused(alone.verify(NOW), 112, "expired");
    let mut honest = alone;
    honest.recovers();
}

/// A camera runs what it was ordered to run and has checked, and keeps it with the release that it was for and no other.
#[test]
fn a05_a_camera_runs_nothing_that_it_was_not_given_and_keeps_nothing_that_does_not_drive() {
    let mut alone = Alone::new();
    alone.verify(NOW).unwrap();
    alone.camera.stage(CALIBRATION_2).unwrap();
    let release = Sha256Digest::of(b"release 2");
    refused(alone.camera.activate(Sha256Digest::of(b"calibration 3"), release), 616, "secondary_not_staged");
    assert_eq!(alone.camera.running().as_deref(), Some("calibration 1"));
    alone.camera.activate(Sha256Digest::of(CALIBRATION_2), release).unwrap();
    assert_eq!(alone.camera.running().as_deref(), Some("calibration 2"));
    alone.camera.settle(Some(Sha256Digest::of(b"another release"))).unwrap();
    assert_eq!(alone.camera.running().as_deref(), Some("calibration 1"));
    alone.recovers();
}

/// An ECU whose report is not its own would silence the whole vehicle, whose manifest the Director drops: it is named instead.
#[test]
fn a26_a_report_that_is_not_the_cameras_does_not_silence_the_vehicle() {
    let mut scene = Scene::new();
    scene.camera.set_broken(&[Broken::Report]);
    scene.server.lock().reports.clear();
    scene.car.vehicle.check_now();
    let server = scene.server.clone();
    scene.car.drive_while(|| server.lock().silent.is_empty() || server.lock().reports.is_empty());
    assert_eq!(scene.server.lock().silent[0].ecu_serial.as_str(), "cam-1");
    scene.camera.set_broken(&[]);
    scene.recovers();
}

/// A part from a thief: it has a key of its own, and reports in the name of the driving computer.
struct Impostor(Camera);

impl SecondaryEcu for Impostor {
    fn identity(&self) -> EnrolledSecondary {
        let EnrolledSecondary { hardware_id, .. } = self.0.identity();
        EnrolledSecondary { ecu_serial: EcuSerial::new("cam-1").unwrap(), hardware_id, public_key: key("impostor").public_key() }
    }

    fn installed(&mut self) -> Result<Option<Sha256Digest>, SecondaryError> {
        self.0.installed()
    }

    fn verify(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError> {
        self.0.verify(now, metadata)
    }

    fn verify_offline(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError> {
        self.0.verify_offline(now, metadata)
    }

    fn stage(&mut self, image: &[u8]) -> Result<(), SecondaryError> {
        self.0.stage(image)
    }

    fn activate(&mut self, image: Sha256Digest, release: Sha256Digest) -> Result<(), SecondaryError> {
        self.0.activate(image, release)
    }

    fn settle(&mut self, release: Option<Sha256Digest>) -> Result<(), SecondaryError> {
        self.0.settle(release)
    }

    fn report(&mut self, now: UnixTime) -> Result<Vec<u8>, SecondaryError> {
        let (ecu_serial, payload) = (identity().ecu_serial, ReportPayload::idle());
        let report = EcuReport { ecu_serial, installed: None, attack_detected: None, time: now, counter: u64::from(u32::MAX), payload };
        Ok(json::to_bytes(&sign_report(&report, &key("impostor")).unwrap()))
    }
}

#[test]
fn a26_a_camera_cannot_report_for_the_driving_computer() {
    let (server, disks) = (Server::default(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    server.release_with(&Road::default(), 1, CALIBRATION_1);
    let camera = Camera::open(disks[1].path(), &server.lock().repositories.anchors());
    let callbacks = VehicleCallbacks { secondaries: vec![Box::new(Impostor(camera))], ..callbacks() };
    let mut car = Car::open_with(config(&server, disks[0].path()), callbacks);
    car.reach(UpdateState::Confirmed);
    let told = server.clone();
    car.drive_while(|| told.lock().silent.is_empty() || told.lock().reports.is_empty());
    assert_eq!(server.lock().silent[0].ecu_serial.as_str(), "cam-1");
    assert!(server.reports().iter().all(|report| report.counter < u64::from(u32::MAX)));
    // Heard on, and taken on.
    server.release_with(&Road::default(), 2, CALIBRATION_2);
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
}
