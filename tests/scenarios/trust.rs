//! What is not meant for a vehicle, or not fresh, or not signed, is refused by name.

use switchback_sdk::vehicle::{EventKind, VehicleCallbacks};
use switchback_signing::trust::RepositoryMap;
use switchback_tests::{
    car::{Car, Garage},
    desk::{Desk, Named},
    model::Straight,
    proxy::{Fate, Proxy},
    server::Server,
};

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };

/// No connection to the server, or it broke.
const SERVER_UNREACHABLE: u32 = 400;

fn road() -> (Server, Desk) {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    desk.roll_out_until("vla-1", "1.0.0", 100);
    (server, desk)
}

#[test]
fn a_release_for_another_tier_is_refused_by_the_vehicle_even_when_the_director_assigns_it() {
    let (server, desk) = road();
    // The Director takes it for an Ultra; what it was built as is decided in the vehicle.
    let garage = Garage::new(&desk, "se-1", "ultra", "eu").with_tier("ultra-se");
    let mut car = garage.start(server.url());
    let reason = car.until_failed();
    assert_eq!(reason.name, "wrong_tier", "{reason:?}");
    assert!(reason.text.contains("tier ultra") && reason.text.contains("ultra-se"), "{reason:?}");
    assert!(car.active().is_none());
}

#[test]
fn a_timestamp_that_is_older_than_the_trusted_one_is_refused_as_a_rollback() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(proxy.url());
    car.until_confirmed();
    let path = "/v1/director/p7-1/metadata/timestamp.json";
    let old = proxy.recorded(path);
    desk.release(&Straight::new(0.002).write(), SECOND);
    desk.roll_out("vla-2", "2.0.0");
    car.until_confirmed();
    proxy.set_rule(move |request| if request.path == path { Fate::Answer(200, old.clone()) } else { Fate::Pass });
    let reason =
        car.until(|event| matches!(event.kind, EventKind::NotBelieved | EventKind::CheckFailed) || event.reason.is_some()).reason.unwrap();
    assert_eq!(reason.name, "older_version", "{reason:?}");
    assert!(reason.text.contains("older than the trusted version"), "{reason:?}");
    assert_eq!(car.active().as_deref(), Some("vla-2 2.0.0"));
    proxy.set_rule(|_| Fate::Pass);
    car.until(|event| event.kind == EventKind::Checked);
}

#[test]
fn metadata_without_its_signature_is_refused_and_the_vehicle_says_whose_is_missing() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(proxy.url());
    car.until_confirmed();
    let path = "/v1/director/p7-1/metadata/timestamp.json";
    let mut unsigned: serde_json::Value = serde_json::from_slice(&proxy.recorded(path)).unwrap();
    unsigned["signatures"] = serde_json::json!([]);
    let bytes = serde_json::to_vec(&unsigned).unwrap();
    proxy.set_rule(move |request| if request.path == path { Fate::Answer(200, bytes.clone()) } else { Fate::Pass });
    let reason = car.until(|event| event.reason.is_some()).reason.unwrap();
    assert_eq!(reason.name, "threshold_not_met", "{reason:?}");
    let version = &unsigned["signed"]["version"];
    let expected = format!("Director: timestamp version {version} carries 0 of the 1 valid signatures");
    assert!(reason.text.contains(&expected), "{reason:?}");
    assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"));
}

#[test]
fn expired_metadata_is_refused_and_the_vehicle_says_what_has_expired() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    garage.start(proxy.url()).until_confirmed();
    // Two years later, and the network brings nothing newer.
    proxy.set_rule(|request| if request.path.contains(".root.json") { Fate::Answer(404, Vec::new()) } else { Fate::Pass });
    let later = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64 + 2 * 365 * 86_400;
    let callbacks = VehicleCallbacks { clock: Some(Box::new(move || later)), ..VehicleCallbacks::default() };
    let mut car = Car::open(garage.config(proxy.url()), callbacks).unwrap();
    let reason = car.until(|event| event.reason.is_some()).reason.unwrap();
    assert_eq!(reason.name, "expired", "{reason:?}");
    assert!(reason.text.contains("root expired at"), "{reason:?}");
    assert!(car.output.control_valid, "the confirmed model drives on: {:?} {:#?}", car.output.faults, car.status());
}

#[test]
fn one_altered_byte_in_any_metadata_file_is_refused() {
    let (server, desk) = road();
    // The name of a key is altered, so that its signature counts no more. Whatever lists a file by its hash need not look for more.
    for (file, name) in [
        ("timestamp.json", "threshold_not_met"),
        ("snapshot.json", "other_digest"),
        ("targets.json", "other_digest"),
        ("vla-ultra.json", "other_digest"),
        (".index", "index_digest_differs"),
    ] {
        let proxy = Proxy::start(server.url()).unwrap();
        let garage = Garage::new(&desk, &format!("p7-{}", file.replace('.', "-").trim_start_matches('-')), "ultra", "eu");
        proxy.set_rule(move |request| if request.path.ends_with(file) { Fate::FlipBit(40) } else { Fate::Pass });
        let mut car = garage.start(proxy.url());
        let event = car.until(|event| event.reason.is_some());
        assert_eq!(event.reason.as_ref().unwrap().name, name, "{file}: {event:?}");
        assert!(car.active().is_none(), "{file}: {event:?}");
        proxy.set_rule(|_| Fate::Pass);
        assert_eq!(car.until_confirmed(), "vla-1 1.0.0", "{file}");
    }
}

#[test]
fn a_vehicle_with_something_else_than_a_root_as_its_anchor_does_not_open() {
    let (server, desk) = road();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut config = garage.config(server.url());
    config.anchors.image_root = b"\x7fELF".to_vec();
    let error = Car::open(config, VehicleCallbacks::default()).err().unwrap();
    assert_eq!(error.number(), 600);
    assert!(error.to_string().starts_with("anchors: Image repository: root.json"), "{error}");
}

/// The Director has lost what the vehicle confirmed, and assigns what everybody has signed once: an older release.
#[test]
fn a_release_below_the_confirmed_one_is_refused_by_the_vehicle_even_when_the_director_assigns_it() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(proxy.url());
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
    proxy.set_rule(|request| if request.is_report() { Fate::Refuse } else { Fate::Pass });
    desk.release(&Straight::new(0.002).write(), SECOND);
    let second = desk.roll_out("vla-2", "2.0.0").to_string();
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    desk.succeed(&["rollout", "pause", &second, "--reason", "the database was restored from last night"], &[]);

    let event = car.until(|event| event.reason.as_ref().is_some_and(|reason| reason.number != SERVER_UNREACHABLE));
    let reason = event.reason.unwrap();
    assert_eq!((reason.number, reason.name.as_str()), (153, "release_below_floor"), "{reason:?}");
    assert_eq!(reason.text, "ultra/vla-1-1.0.0.index has release counter 1, below 2 of the confirmed release");
    assert_eq!((car.active().as_deref(), car.frames_lost), (Some("vla-2 2.0.0"), 0));
    assert_eq!(car.curvatures, [0.001, 0.002]);

    let undelivered = proxy.requests().len();
    proxy.set_rule(|_| Fate::Pass);
    let report = car.until_reported(&proxy, undelivered, |report| report["attack_detected"].is_object());
    assert_eq!(report["attack_detected"]["name"], "release_below_floor", "{report:#}");
}

#[test]
fn a_release_with_an_unknown_contract_version_is_refused_before_its_download_and_reported() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(proxy.url());
    car.until_confirmed();
    let bundle = desk.pack(&Straight::new(0.002).write(), SECOND);
    desk.sign_altered(&bundle, SECOND, |release| release.contract_version = 99);
    desk.publish();
    desk.approve("vla-2", "2.0.0", "eu");
    desk.roll_out("vla-2", "2.0.0");

    let reason = car.until(|event| event.reason.is_some()).reason.unwrap();
    assert_eq!((reason.number, reason.name.as_str()), (154, "contract_unknown"), "{reason:?}");
    assert!(reason.text.contains("contract version 99") && reason.text.contains("update the vehicle's software first"), "{reason:?}");
    let report = car.until_reported(&proxy, 0, |report| report["payload"]["reason"].is_object());
    assert_eq!(report["payload"]["reason"]["name"], "contract_unknown", "{report:#}");
    assert!(!proxy.requests().iter().any(|request| request.path.contains("vla-2-2.0.0")), "neither index nor bundle was asked for");
    assert_eq!((car.active().as_deref(), car.frames_lost), (Some("vla-1 1.0.0"), 0));
}

/// The automaker's role lists what the release engineers list, or vehicles are brought nothing.
#[test]
fn a_release_reaches_vehicles_only_when_the_automaker_has_signed_it_too() {
    let server = Server::start();
    let desk = Desk::open(&server);
    let (base, stick) = (desk.base(), tempfile::tempdir().unwrap());
    desk.succeed(&["key", "new", "--unencrypted", "oem-brand"], &[("--out", stick.path())]);
    let (public, secret) = (stick.path().join("oem-brand.pub.json"), stick.path().join("oem-brand.pem"));
    let role = "oem-brand-ultra";
    desk.succeed(&["targets", "require-cosigner", "--tier", "ultra", "--role", role], &[("--base", &base), ("", &public)]);
    for key in ["alice", "bob"] {
        desk.succeed(&["targets", "sign", "--key", key], &[("--base", &base)]);
    }
    desk.publish();

    let bundle = desk.pack(&Straight::new(0.001).write(), FIRST);
    desk.sign("alice", &bundle);
    desk.sign("bob", &bundle);
    desk.publish();
    let words = ["rollout", "create", "--name", "early", "--model", "vla-1", "--version", "1.0.0", "--wave", "percent=100"];
    desk.fail(&words, &[]);

    // What the engineers said about regions and versions is taken over; other options than theirs are refused.
    let cosign = ["sign", "--role", role];
    let told = desk.fail(&[&cosign[..], &["--regions", "cn"]].concat(), &[("--base", &base), ("--key", &secret), ("", &bundle.bundle)]);
    assert!(told.contains("the other roles say about vla-1 1.0.0 (ultra) something else"), "{told}");
    desk.succeed(&cosign, &[("--base", &base), ("--key", &secret), ("", &bundle.bundle)]);
    desk.publish();
    desk.approve("vla-1", "1.0.0", "eu");
    desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    assert_eq!(garage.start(server.url()).until_confirmed(), "vla-1 1.0.0");
}

/// Whatever both repositories sign: what the vehicle's repository map does not name is not installed.
#[test]
fn a_release_outside_the_vehicles_repository_map_is_refused() {
    let (server, desk) = road();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let entry = r#"{"paths":["ultra-se/*"],"repositories":["director","image"],"threshold":2}"#;
    let map = format!(r#"{{"repositories":{{"director":["https://ota"],"image":["https://cdn"]}},"mapping":[{entry}]}}"#);
    let mut config = garage.config(server.url());
    config.repository_map = RepositoryMap::parse(map.as_bytes()).unwrap();
    let mut car = Car::open(config, VehicleCallbacks::default()).unwrap();
    let reason = car.until(|event| event.reason.is_some()).reason.unwrap();
    assert_eq!(reason.name, "path_unmapped", "{reason:?}");
    assert!(car.active().is_none());
    drop(car);
    assert_eq!(garage.start(server.url()).until_confirmed(), "vla-1 1.0.0");
}
