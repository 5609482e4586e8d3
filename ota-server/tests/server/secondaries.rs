//! Vehicles of several ECUs: what the Director assigns to each, and what it believes of their reports.

use serde_json::{Value, json};
use switchback_signing::{
    keys::Sha256Digest,
    metadata::{Companion, HardwareId, Signed, Targets},
};

use crate::{
    folder, published,
    support::{Ceremony, Control, START, Said, TestServer, TestVehicle},
};

const CALIBRATION: &[u8] = b"calibration of the camera";

/// What the camera units must run beside the next release.
fn needs(ceremony: &mut Ceremony, path: &str, image: &[u8]) {
    let companion = Companion {
        hardware_id: HardwareId::new("cam-a").unwrap(),
        path: path.to_owned(),
        length: image.len() as u64,
        sha256: Sha256Digest::of(image),
        release_counter: 2,
    };
    ceremony.companions = vec![(companion, image.to_vec())];
}

fn enroll(server: &impl Control, id: &str, cameras: &[&str]) -> TestVehicle {
    let token = TestVehicle::token(server, id, "ultra", "P7", "eu");
    let cameras = cameras.iter().map(ToString::to_string).collect();
    let vehicle = TestVehicle { cameras, ..TestVehicle::new(id, "ultra", "eu") };
    let response = vehicle.enroll_with(server, &token);
    assert_eq!(response.status, 200, "{}", response.text());
    vehicle
}

/// The ECUs to which the vehicle's newest targets assign each path.
fn assigned(server: &impl Control, vehicle: &TestVehicle) -> Vec<(String, Vec<String>)> {
    let timestamp = vehicle.director(server, START, "timestamp.json", &[]).json();
    let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
    let targets = vehicle.director(server, START, &format!("{version}.targets.json"), &[]);
    let targets = Signed::<Targets>::parse(&targets.body, targets.body.len()).unwrap().signed.targets;
    let ecus = |target: &switchback_signing::metadata::TargetMeta| {
        target.ecus().unwrap().into_iter().map(|ecu| ecu.ecu_serial.to_string()).collect()
    };
    targets.iter().map(|(path, target)| (path.clone(), ecus(target))).collect()
}

fn camera_of(server: &impl Control, id: &str) -> Value {
    server.ask("GET", &format!("/v1/vehicles/{id}"), None)["secondaries"][0].clone()
}

/// The token says what belongs to the vehicle, and whoever has taken its Primary over does not.
#[test]
fn a_token_that_names_the_secondaries_enrolls_no_vehicle_with_others() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ecu = |serial: &str, hardware_id: &str| json!({"ecu_serial": serial, "hardware_id": hardware_id});
    let ask = |secondaries: Value| {
        let request = json!({
            "vehicle_id": "v-1", "tenant": "oem", "tier": "ultra", "hardware_id": "orin", "model_line": "P7", "region": "eu",
            "secondaries": secondaries,
        });
        server.control("POST", "/v1/enrollment-tokens", Some(&request))
    };
    let token = |secondaries: Value| ask(secondaries).json()["token"].as_str().unwrap().to_owned();
    let with = |cameras: &[&str]| TestVehicle {
        cameras: cameras.iter().map(ToString::to_string).collect(),
        ..TestVehicle::new("v-1", "ultra", "eu")
    };
    let two = token(json!([ecu("cam-2", "cam-a"), ecu("cam-1", "cam-a")]));
    for cameras in [&["cam-1"][..], &[], &["cam-1", "cam-2", "cam-3"], &["cam-1", "cam-9"]] {
        let refused = with(cameras).enroll_with(&server, &two);
        assert_eq!((refused.status, refused.problem().as_str()), (403, "token_of_other_secondaries"));
        assert!(refused.text().contains("these Secondaries: cam-1 (cam-a), cam-2 (cam-a); this one has: "), "{}", refused.text());
    }
    for (expected, cameras) in [(json!([ecu("cam-1", "cam-b")]), &["cam-1"][..]), (json!([]), &["cam-1"])] {
        assert_eq!(with(cameras).enroll_with(&server, &token(expected)).problem(), "token_of_other_secondaries");
    }
    assert_eq!(ask(json!([ecu("cam-1", "cam-a"), ecu("cam-1", "cam-b")])).problem(), "secondaries_malformed");
    assert_eq!(ask(json!([ecu("cam 1", "cam-a")])).problem(), "name_malformed");
    let two = token(json!([ecu("cam-2", "cam-a"), ecu("cam-1", "cam-a")]));
    assert_eq!(with(&["cam-1", "cam-2"]).enroll_with(&server, &two).status, 200, "a refusal does not use a token up");
}

#[test]
fn each_ecu_is_assigned_its_image_and_a_vehicle_of_one_ecu_gets_what_it_always_got() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    needs(&mut ceremony, "ultra/cam-2.cal", CALIBRATION);
    assert_eq!(Ceremony::upload(&server, "ultra/cam-2.cal", CALIBRATION).status, 201);
    ceremony.publish(&server, "2.0.0", "ultra", 2);
    server.approve("2.0.0");
    server.roll_out("2.0.0", 1);
    let (alone, with_cameras) = (enroll(&server, "v-1", &[]), enroll(&server, "v-2", &["cam-21", "cam-22"]));
    let index = |ecu: &str| ("ultra/vla-2.0.0.index".to_owned(), vec![ecu.to_owned()]);
    assert_eq!(assigned(&server, &alone), [index("ecu-v-1")]);
    let cameras = ("ultra/cam-2.cal".to_owned(), vec!["cam-21".to_owned(), "cam-22".to_owned()]);
    assert_eq!(assigned(&server, &with_cameras), [cameras, index("ecu-v-2")]);
    // It is the same after the server has read its database again.
    let before = assigned(&server, &with_cameras);
    drop(server);
    let server = TestServer::start(data.path());
    assert_eq!(assigned(&server, &with_cameras), before);
}

#[test]
fn a_release_is_not_published_without_the_bytes_of_what_it_needs() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    needs(&mut ceremony, "ultra/cam-2.cal", CALIBRATION);
    for (path, bytes) in [
        ("ultra/vla-2.0.0.index", Ceremony::index("2.0.0", "ultra")),
        ("ultra/vla-2.0.0.tar.zst", b"bundle of vla 2.0.0 for ultra".to_vec()),
    ] {
        assert_eq!(Ceremony::upload(&server, path, &bytes).status, 201);
    }
    let (path, bytes) = ceremony.sign_release("2.0.0", "ultra", 2, &[0, 1]);
    let refused = server.control_bytes("PUT", &path, &bytes);
    assert_eq!(refused.problem(), "target_missing", "{}", refused.text());
    assert_eq!(Ceremony::upload(&server, "ultra/cam-2.cal", CALIBRATION).status, 201);
    assert_eq!(server.control_bytes("PUT", &path, &bytes).status, 200);
}

#[test]
fn every_ecu_of_the_inventory_reports_under_its_own_signature_and_counter() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut vehicle = enroll(&server, "v-1", &["cam-1"]);
    for (said, expected) in [(Said::LeftOut, "manifest_ecu_missing"), (Said::Forged, "manifest_signature")] {
        let manifest = vehicle.manifest_with_camera(START, "cam-1", 5, &said);
        assert_eq!(vehicle.send(&server, START, &manifest).problem(), expected);
    }
    let stranger = vehicle.manifest_with_camera(START, "cam-9", 5, &Said::Runs(b"x"));
    assert_eq!(vehicle.send(&server, START, &stranger).problem(), "manifest_unknown_ecu");
    let honest = vehicle.manifest_with_camera(START, "cam-1", 5, &Said::Runs(CALIBRATION));
    assert_eq!(vehicle.send(&server, START, &honest).status, 200);
    // Its Primary is fresh, its own word is old.
    let replayed = vehicle.manifest_with_camera(START, "cam-1", 5, &Said::Runs(b"x"));
    let refused = vehicle.send(&server, START, &replayed);
    assert_eq!((refused.status, refused.problem().as_str()), (409, "manifest_replayed"));
    let known = camera_of(&server, "v-1");
    assert_eq!(known["installed"]["sha256"], json!(Sha256Digest::of(CALIBRATION).to_hex()));
    assert_eq!((&known["report_counter"], &known["trouble"]), (&json!(5), &Value::Null));
    drop(server);
    let server = TestServer::start(data.path());
    assert_eq!(camera_of(&server, "v-1"), known, "what was acknowledged is durable");
    assert_eq!(vehicle.send(&server, START, &replayed).problem(), "manifest_replayed");
}

#[test]
fn a_vehicle_with_a_dead_ecu_is_heard_and_the_operator_sees_which() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut vehicle = enroll(&server, "v-1", &["cam-1"]);
    let honest = vehicle.manifest_with_camera(START, "cam-1", 1, &Said::Runs(CALIBRATION));
    assert_eq!(vehicle.send(&server, START, &honest).status, 200);
    for _ in 0..2 {
        let silent = vehicle.manifest_with_camera(START, "cam-1", 0, &Said::Nothing);
        assert_eq!(vehicle.send(&server, START, &silent).status, 200);
    }
    let camera = camera_of(&server, "v-1");
    assert!(camera["trouble"].as_str().unwrap().starts_with("no report: "), "{camera}");
    assert_eq!(camera["installed"]["sha256"], json!(Sha256Digest::of(CALIBRATION).to_hex()), "what it said before is still known");
    let heard = vehicle.manifest_with_camera(START, "cam-1", 2, &Said::Runs(CALIBRATION));
    assert_eq!(vehicle.send(&server, START, &heard).status, 200);
    assert_eq!(camera_of(&server, "v-1")["trouble"], Value::Null);
}

#[test]
fn an_ecu_belongs_to_one_vehicle() {
    let data = folder();
    let server = TestServer::start(data.path());
    enroll(&server, "v-1", &["cam-1"]);
    let refuse = |id: &str, cameras: &[&str]| {
        let token = TestVehicle::token(&server, id, "ultra", "P7", "eu");
        let cameras = cameras.iter().map(ToString::to_string).collect();
        TestVehicle { cameras, ..TestVehicle::new(id, "ultra", "eu") }.enroll_with(&server, &token)
    };
    // Another vehicle's camera, and another vehicle's Primary as a camera.
    for camera in ["cam-1", "ecu-v-1"] {
        let refused = refuse("v-2", &[camera]);
        assert_eq!((refused.status, refused.problem().as_str()), (409, "ecu_taken"), "{}", refused.text());
        assert!(refused.text().contains(camera), "{}", refused.text());
    }
    // A vehicle whose Primary would be another one's camera.
    enroll(&server, "v-3", &["ecu-v-4"]);
    assert_eq!(refuse("v-4", &[]).problem(), "ecu_taken");
}

#[test]
fn a_vehicle_whose_camera_was_exchanged_enrolls_anew() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut vehicle = enroll(&server, "v-1", &["cam-1"]);
    let token = json!({
        "vehicle_id": "v-1", "tenant": "oem", "tier": "ultra", "hardware_id": "orin", "model_line": "P7", "region": "eu", "replace": true,
    });
    let token = server.ask("POST", "/v1/enrollment-tokens", Some(&token))["token"].as_str().unwrap().to_owned();
    vehicle.cameras = vec!["cam-2".to_owned()];
    assert_eq!(vehicle.enroll_with(&server, &token).status, 200);
    let old = vehicle.manifest_with_camera(START, "cam-1", 1, &Said::Runs(CALIBRATION));
    assert_eq!(vehicle.send(&server, START, &old).problem(), "manifest_unknown_ecu");
    let new = vehicle.manifest_with_camera(START, "cam-2", 1, &Said::Runs(CALIBRATION));
    assert_eq!(vehicle.send(&server, START, &new).status, 200);
    // The old one may serve in another vehicle.
    enroll(&server, "v-2", &["cam-1"]);
}
