//! Vehicles of several ECUs: what each is given, what it believes, and what it is believed.

use switchback_sdk::vehicle::{EventKind, MetadataSource, SecondaryEcu, SecondaryError, UpdateState, VehicleCallbacks};
use switchback_signing::{
    metadata::{
        EcuAssignment, EcuImage, EcuSerial, HardwareId, TargetMeta,
        json::{self, Json},
        vehicle::{EcuReport, ReportPayload, VehicleVersionManifest, sign_manifest, sign_report},
    },
    testing::{NOW, TestRepositories, identity, key, public},
    trust::{
        Attack,
        report::{VehicleInventory, verify_manifest},
    },
};
use tempfile::TempDir;

use super::common::{
    Road,
    camera::Camera,
    car::{Car, callbacks, config},
    server::Server,
};

pub(super) const CALIBRATION_1: &[u8] = b"calibration 1";
pub(super) const CALIBRATION_2: &[u8] = b"calibration 2";

/// A vehicle with a camera unit that drives release 1 with calibration 1, and is about to hear of release 2 with calibration 2.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) camera: Camera,
    pub(super) car: Car,
    pub(super) honest: TestRepositories,
    blobs: std::collections::BTreeMap<String, Vec<u8>>,
    _disks: [TempDir; 2],
}

impl Scene {
    pub(super) fn new() -> Self {
        let (server, disks) = (Server::default(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
        let model = |counter: u64| Road { control: [0.01 * counter as f32, 0.25], ..Road::default() };
        server.release_with(&model(1), 1, CALIBRATION_1);
        let camera = Camera::open(disks[1].path(), &server.lock().repositories.anchors());
        let callbacks = VehicleCallbacks { secondaries: vec![Box::new(camera.clone())], ..callbacks() };
        let mut car = Car::open_with(config(&server, disks[0].path()), callbacks);
        car.reach(UpdateState::Confirmed);
        server.release_with(&model(2), 2, CALIBRATION_2);
        let state = server.lock();
        let (honest, blobs) = (state.repositories.clone(), state.blobs.clone());
        drop(state);
        Self { server, camera, car, honest, blobs, _disks: disks }
    }

    /// The thief of the Director's keys changes what the vehicle is told to install.
    pub(super) fn director_says(&mut self, change: impl FnOnce(&mut TestRepositories)) -> &mut Self {
        {
            let repositories = &mut self.server.lock().repositories;
            change(repositories);
            repositories.director.publish();
        }
        self
    }

    /// A target's bytes are not to be had.
    fn withhold(&mut self, suffix: &str) {
        self.server.lock().blobs.retain(|path, _| !path.ends_with(suffix));
    }

    /// The vehicle asks, refuses what it is told by this name, changes nothing on any ECU, and tells of the attack.
    #[track_caller]
    pub(super) fn refuses(&mut self, number: u32, name: &str, attack: Attack) -> &mut Self {
        self.car.vehicle.check_now();
        let event = self.car.drive_until(
            |kind| matches!(kind, EventKind::NotBelieved | EventKind::Update(UpdateState::Refused)),
            |output| assert!(output.control_valid, "{output:?}"),
        );
        let reason = event.reason.unwrap();
        assert_eq!((reason.number, reason.name.as_str()), (number, name), "{reason:?}");
        self.nothing_was_activated();
        let server = self.server.clone();
        let told = move || server.reports().iter().rev().find_map(|report| report.attack_detected.clone());
        let waiting = told.clone();
        self.car.drive_while(|| waiting().is_none());
        assert!(told().unwrap().text.starts_with(&format!("{attack}: ")), "{:?}", told());
        self
    }

    #[track_caller]
    pub(super) fn nothing_was_activated(&mut self) {
        assert_eq!(self.car.model().as_deref(), Some("vla-1"));
        assert_eq!(self.car.step().control.curvature_1pm, 0.01);
        assert_eq!(self.camera.running().as_deref(), Some("calibration 1"));
    }

    /// The repositories are in honest hands again, and both ECUs take what they offer.
    #[track_caller]
    pub(super) fn recovers(&mut self) {
        {
            let mut state = self.server.lock();
            for repository in [&mut self.honest.director, &mut self.honest.image] {
                for _ in 0..8 {
                    repository.publish();
                }
            }
            state.repositories = self.honest.clone();
            state.blobs = self.blobs.clone();
        }
        self.car.vehicle.check_now();
        self.car.reach(UpdateState::Confirmed);
        assert_eq!(self.car.model().as_deref(), Some("vla-2"));
        assert_eq!(self.camera.running().as_deref(), Some("calibration 2"));
    }
}

pub(super) fn assigned(repositories: &mut TestRepositories, path: &str, serial: &str) -> TargetMeta {
    let ecu = EcuAssignment { ecu_serial: EcuSerial::new(serial).unwrap(), hardware_id: HardwareId::new("cam-a").unwrap() };
    repositories.image.role("vla-ultra").targets[path].clone().assigned_to(&ecu)
}

/// Whoever drops some of an update's files: two targets arrive, the third does not.
#[test]
fn a05_two_of_three_targets_activate_nothing() {
    for missing in ["cam-2.cal", "vla-2-2.0.0.index", "vla-2-2.0.0.tar.zst"] {
        let mut scene = Scene::new();
        scene.withhold(missing);
        scene.car.vehicle.check_now();
        let event = scene.car.drive_until(|kind| *kind == EventKind::DownloadPaused, |output| assert!(output.control_valid));
        assert!((400..500).contains(&event.reason.as_ref().unwrap().number), "{event:?}");
        scene.nothing_was_activated();
        assert!(
            !scene
                .car
                .states()
                .iter()
                .rev()
                .take_while(|state| **state != UpdateState::Confirmed)
                .any(|state| { matches!(state, UpdateState::Staged | UpdateState::Armed | UpdateState::Trial) })
        );
        scene.recovers();
    }
}

/// The thief of the Director's keys puts a new model beside the calibration of the old one.
#[test]
fn a09_model_2_with_calibration_1_is_refused() {
    let mut scene = Scene::new();
    scene.director_says(|repositories| {
        let old = assigned(repositories, "ultra/cam-1.cal", "cam-1");
        let targets = &mut repositories.director.targets.targets;
        targets.remove("ultra/cam-2.cal");
        targets.insert("ultra/cam-1.cal".into(), old);
    });
    scene.refuses(181, "companion_differs", Attack::MixAndMatch).recovers();
}

/// The same, by saying nothing about the camera.
#[test]
fn a09_model_2_without_its_calibration_is_refused() {
    let mut scene = Scene::new();
    scene.director_says(|repositories| drop(repositories.director.targets.targets.remove("ultra/cam-2.cal")));
    scene.refuses(182, "companion_missing", Attack::MixAndMatch).recovers();
}

/// The same the other way round: the camera gets ahead of the model.
#[test]
fn a09_calibration_2_without_its_model_is_refused() {
    let mut scene = Scene::new();
    scene.director_says(|repositories| drop(repositories.director.targets.targets.remove("ultra/vla-2-2.0.0.index")));
    scene.refuses(183, "companion_unneeded", Attack::MixAndMatch).recovers();
}

/// The thief of the Director's keys writes firmware for the camera.
#[test]
fn a10_the_director_alone_cannot_make_an_image_for_a_camera() {
    let mut scene = Scene::new();
    scene.director_says(|repositories| {
        let block = EcuImage { release_counter: 2, hardware_ids: vec![HardwareId::new("cam-a").unwrap()] };
        let listed = TargetMeta::of_image(b"calibration of a thief", &block).assigned_to(&Camera::assignment());
        repositories.director.targets.targets.insert("ultra/cam-2.cal".into(), listed);
    });
    scene.refuses(143, "target_length_differs", Attack::ArbitrarySoftware).recovers();
}

/// Whoever sits on the way to the server alters the camera's image.
#[test]
fn a10_an_image_for_a_camera_that_was_altered_on_the_way_is_refused() {
    let mut scene = Scene::new();
    let altered = |(path, bytes): (&String, &mut Vec<u8>)| {
        if path.ends_with("cam-2.cal") {
            bytes[0] ^= 1;
        }
    };
    scene.server.lock().blobs.iter_mut().for_each(altered);
    scene.refuses(165, "file_digest_differs", Attack::ArbitrarySoftware).recovers();
}

#[test]
fn a17_two_images_for_one_camera_are_refused() {
    let mut scene = Scene::new();
    scene.director_says(|repositories| {
        let old = assigned(repositories, "ultra/cam-1.cal", "cam-1");
        repositories.director.targets.targets.insert("ultra/cam-1.cal".into(), old);
    });
    scene.refuses(133, "ecu_twice", Attack::MixAndMatch).recovers();
}

#[test]
fn a17_an_image_for_a_camera_that_is_not_in_this_vehicle_is_refused() {
    let mut scene = Scene::new();
    scene.director_says(|repositories| {
        let stranger = assigned(repositories, "ultra/cam-1.cal", "cam-9");
        repositories.director.targets.targets.insert("ultra/cam-1.cal".into(), stranger);
    });
    scene.refuses(134, "unknown_ecu", Attack::MixAndMatch).recovers();
}

/// Whoever has taken the driving computer over tries to bring the camera under its control as well.
#[test]
fn a10_a_primary_that_was_taken_over_installs_nothing_on_a_camera() {
    let scene = Scene::new();
    let Scene { server, mut camera, car, honest, .. } = scene;
    // From here on the attacker speaks to the camera.
    drop((car, server));
    let refused = |result: Result<(), SecondaryError>| match result {
        Err(SecondaryError::Refused { reason }) => (reason.number, reason.name),
        other => panic!("expected a refusal, found {other:?}"),
    };
    let hand_over = |camera: &mut Camera, repositories: &TestRepositories| {
        let mut source = |request: &_| repositories.fetch(request);
        let source: &mut MetadataSource<'_> = &mut source;
        camera.verify(NOW, source)
    };
    let mut honest = honest;
    let seen = honest.clone();
    let forged = |signer: &str, role: &str| {
        let mut repositories = seen.clone();
        repositories.director.signers.insert(role.into(), vec![signer.into()]);
        repositories.director.publish();
        repositories
    };
    // Metadata of its own making, without the signatures.
    for role in ["targets", "timestamp"] {
        let (number, name) = refused(hand_over(&mut camera, &forged("thief", role)));
        assert_eq!((number, name.as_str()), (102, "threshold_not_met"), "{role}");
    }
    // The honest repositories go on.
    (0..8).for_each(|_| honest.director.publish());
    // Bytes of its own making under honest metadata.
    hand_over(&mut camera, &honest).unwrap();
    assert_eq!(refused(camera.stage(b"calibration X")), (165, "file_digest_differs".into()));
    // An image that was honest once.
    hand_over(&mut camera, &honest).unwrap();
    assert_eq!(refused(camera.stage(CALIBRATION_1)), (165, "file_digest_differs".into()));
    assert_eq!(camera.running().as_deref(), Some("calibration 1"));
    // What is honest it takes, from whomever.
    hand_over(&mut camera, &honest).unwrap();
    camera.stage(CALIBRATION_2).unwrap();
}

/// Whoever has taken the driving computer over reports in the camera's place.
#[test]
fn a26_a_primary_cannot_report_for_its_camera() {
    let Scene { mut camera, .. } = Scene::new();
    let enrolled = camera.identity();
    let serial = |text: &str| EcuSerial::new(text).unwrap();
    let own = |ecu_serial: &str, counter, signer: &str| {
        let (ecu_serial, payload) = (serial(ecu_serial), ReportPayload::idle());
        let report = EcuReport { ecu_serial, installed: None, attack_detected: None, time: NOW, counter, payload };
        sign_report(&report, &key(signer)).unwrap()
    };
    let first = json::parse(&camera.report(NOW).unwrap(), 10_000).unwrap();
    let second = json::parse(&camera.report(NOW).unwrap(), 10_000).unwrap();
    let believed = |reports: Vec<Json>, seen: u64| {
        let identity = identity();
        let manifest = VehicleVersionManifest {
            vehicle_id: identity.vehicle_id.clone(),
            primary_ecu_serial: identity.ecu_serial.clone(),
            ecu_reports: [own("ecu-1", 8, "vehicle")].into_iter().chain(reports).collect(),
            silent_ecus: Vec::new(),
        };
        let keys = [(identity.ecu_serial.clone(), public("vehicle")), (enrolled.ecu_serial.clone(), enrolled.public_key.clone())];
        let inventory = VehicleInventory {
            vehicle_id: identity.vehicle_id,
            primary_ecu_serial: identity.ecu_serial,
            ecu_keys: keys.into(),
            counters: [(enrolled.ecu_serial.clone(), seen)].into(),
        };
        let bytes = sign_manifest(&manifest, &key("vehicle")).unwrap();
        verify_manifest(&bytes, &inventory, NOW).map(drop).map_err(|error| error.name())
    };
    let counter = |report: &Json| match report {
        Json::Object(envelope) => match &envelope["signed"] {
            Json::Object(signed) => match signed["counter"] {
                Json::Integer(counter) => u64::try_from(counter).unwrap(),
                ref other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(believed(vec![second.clone()], counter(&first)), Ok(()));
    assert_eq!(believed(vec![], 0), Err("manifest_ecu_missing"));
    assert_eq!(believed(vec![own("cam-1", 9, "vehicle")], 0), Err("manifest_signature"));
    assert_eq!(believed(vec![first.clone()], counter(&first)), Err("manifest_replayed"));
    assert_eq!(believed(vec![first, second], 0), Err("manifest_ecu_twice"));
}
