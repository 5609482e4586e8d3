//! Encrypted releases: their keys come in, lie sealed, and go out to the vehicles that are assigned them, each for itself.

use serde_json::{Value, json};
use switchback_signing::{
    bundle::ContentKey,
    keys::{
        Sha256Digest,
        sealing::{DecryptionKey, Recipient, SealedContentKey},
    },
    metadata::{self, EncryptionMethod, vehicle::UpdateState},
    trust::{Installed, Outcome, TrustError, VerifiedTarget},
};

use crate::{
    folder, published,
    support::{Ceremony, Control, START, TestServer, TestVehicle},
};

fn key() -> ContentKey {
    ContentKey::from_bytes(core::array::from_fn(|at| u8::try_from(at).unwrap() ^ 0xa5))
}

fn bundle() -> Sha256Digest {
    Sha256Digest::of(&Ceremony::bundle("2.0.0", "ultra"))
}

fn send_key(server: &impl Control, key: &ContentKey) -> u16 {
    server.control_bytes("PUT", &format!("/v1/content-keys/{}", bundle()), key.to_jwk().as_bytes()).status
}

/// Version 2.0.0 is published, encrypted, approved and rolled out to everybody.
fn encrypted(server: &impl Control) -> (Ceremony, i64) {
    let mut ceremony = published(server);
    ceremony.encryption = Some(EncryptionMethod::Aes256GcmChunks);
    assert_eq!(send_key(server, &key()), 204);
    ceremony.publish(server, "2.0.0", "ultra", 2);
    server.approve("2.0.0");
    let rollout = server.roll_out("2.0.0", 1);
    (ceremony, rollout)
}

fn with_key(vehicle: TestVehicle, byte: u8) -> TestVehicle {
    TestVehicle { decryption_key: Some(DecryptionKey::from_seed(&[byte; 32])), ..vehicle }
}

fn assigned(server: &impl Control, ceremony: &Ceremony, vehicle: &mut TestVehicle) -> VerifiedTarget {
    match vehicle.check(server, ceremony, server.now(), Installed::default()) {
        Outcome::Install(target) => target,
        outcome => panic!("{outcome:?}"),
    }
}

fn opened(target: &VerifiedTarget, vehicle: &TestVehicle) -> Result<Option<ContentKey>, TrustError> {
    target.content_key(vehicle.decryption_key.as_ref().unwrap(), &vehicle.identity())
}

fn withheld(server: &impl Control, id: &str) -> Value {
    server.ask("GET", &format!("/v1/vehicles/{id}"), None)["rollouts"][0]["withheld"].clone()
}

#[test]
fn an_encrypted_release_is_not_published_without_its_key_and_the_key_comes_out_nowhere() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    ceremony.encryption = Some(EncryptionMethod::Aes256GcmChunks);
    let (path, bytes) = ceremony.upload_release(&server, "2.0.0", "ultra", 2);
    let refused = server.control_bytes("PUT", &path, &bytes);
    assert_eq!((refused.status, refused.json()["type"].clone()), (409, json!("urn:switchback:problem:content_key_missing")));
    assert_eq!(
        refused.json()["detail"],
        json!(format!(
            "release ultra/vla-2.0.0.index is encrypted, and the server has no content key for its bundle (sha256 {})",
            bundle()
        ))
    );

    let url = format!("/v1/content-keys/{}", bundle());
    assert_eq!(server.control_bytes("GET", &url, &[]).status, 404);
    let malformed = server.control_bytes("PUT", &url, b"{\"kty\":\"oct\"}");
    assert_eq!((malformed.status, malformed.json()["type"].clone()), (422, json!("urn:switchback:problem:content_key_malformed")));
    assert_eq!(server.control_bytes("PUT", "/v1/content-keys/2.0.0", key().to_jwk().as_bytes()).status, 400);
    // A mistake can be mended until vehicles may have it.
    assert_eq!(send_key(&server, &ContentKey::from_bytes([1; 32])), 204);
    assert_eq!((send_key(&server, &key()), send_key(&server, &key())), (204, 204));
    assert_eq!(server.control_bytes("PUT", &path, &bytes).status, 200);
    let url = format!("/v1/content-keys/{}", bundle());
    let other = server.control_bytes("PUT", &url, ContentKey::from_bytes([1; 32]).to_jwk().as_bytes());
    assert_eq!((other.status, other.json()["type"].clone()), (409, json!("urn:switchback:problem:content_key_differs")));
    assert_eq!(send_key(&server, &key()), 204);

    let found = server.control_bytes("GET", &url, &[]);
    assert_eq!((found.status, found.json()), (200, json!({"bundle_sha256": bundle()})));
    let releases = server.ask("GET", "/v1/releases", None);
    let told: Vec<bool> = releases["releases"].as_array().unwrap().iter().map(|release| release["encrypted"].as_bool().unwrap()).collect();
    assert_eq!(told, [false, true]);
    // Neither the database with its log nor any other file holds it, in any spelling.
    drop(server);
    let jwk = key().to_jwk();
    let base64url = jwk.split('"').nth(11).unwrap();
    let hex = Sha256Digest::from_bytes(*key().as_bytes()).to_hex();
    let mut open = vec![data.path().to_owned()];
    let mut files = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).unwrap();
        for secret in [&key().as_bytes()[..], base64url.as_bytes(), hex.as_bytes()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
    assert!(files > 5 && base64url.len() == 43, "{files} {base64url}");
}

#[test]
fn each_vehicle_gets_the_key_sealed_for_itself() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (ceremony, _) = encrypted(&server);
    let enroll = |id: &str, byte| {
        let vehicle = with_key(TestVehicle::new(id, "ultra", "eu"), byte);
        let token = TestVehicle::token(&server, id, "ultra", "P7", "eu");
        assert_eq!(vehicle.enroll_with(&server, &token).status, 200);
        vehicle
    };
    let (mut first, mut second) = (enroll("v-1", 1), enroll("v-2", 2));
    let (one, two) = (assigned(&server, &ceremony, &mut first), assigned(&server, &ceremony, &mut second));
    assert_eq!((opened(&one, &first), opened(&two, &second)), (Ok(Some(key())), Ok(Some(key()))));
    for (target, vehicle) in [(&one, &second), (&two, &first)] {
        let error = opened(target, vehicle).unwrap_err();
        assert_eq!(error.name(), "content_key_unopened", "{error}");
    }
    // A neighbor with the first one's key in its hands has the first one's identity against it.
    let thief = with_key(TestVehicle::new("v-2", "ultra", "eu"), 1);
    assert_eq!(opened(&one, &thief).unwrap_err().name(), "content_key_unopened");

    // The seal is another one each time, and no reason to sign anything: the next poll is answered with the same.
    let version = |vehicle: &TestVehicle| vehicle.director(&server, START, "timestamp.json", &[]).json()["signed"]["version"].clone();
    assert_eq!(version(&first), version(&first));
    let before = first.director(&server, START, &format!("{}.targets.json", START.seconds()), &[]).body;
    drop(server);
    let server = TestServer::start(data.path());
    let after = first.director(&server, START, &format!("{}.targets.json", START.seconds()), &[]).body;
    assert!(!before.is_empty() && before == after, "the same after a restart");
    let mut third = with_key(TestVehicle::enroll(&server, "v-3"), 3);
    third.report_idle(&server, START);
    let target = assigned(&server, &ceremony, &mut third);
    assert_eq!(opened(&target, &third), Ok(Some(key())), "the server opens its keys again after a restart");
}

#[test]
fn a_vehicle_without_a_key_is_told_of_by_name_and_gets_the_release_after_its_next_report() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (mut ceremony, rollout) = encrypted(&server);
    // As one that enrolled before there were such keys.
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(vehicle.offered(&server, &ceremony, START), None);
    let text = "the release is encrypted and the vehicle has told no encryption key yet";
    assert_eq!(
        withheld(&server, "v-1"),
        json!(format!("{text}; its SDK sends one with its next report, or is too old for encrypted releases"))
    );
    assert_eq!(server.rollout(rollout)["waves"][0]["withheld"], json!({text: 1}));

    vehicle = with_key(vehicle, 1);
    vehicle.report_idle(&server, START);
    assert_eq!(withheld(&server, "v-1"), Value::Null);
    let target = assigned(&server, &ceremony, &mut vehicle);
    assert_eq!(opened(&target, &vehicle), Ok(Some(key())));

    // A disk that lost the key: the next report brings another, and the next check a seal that it opens.
    vehicle = with_key(vehicle, 2);
    server.clock.turn(1);
    assert_eq!(opened(&assigned(&server, &ceremony, &mut vehicle), &vehicle).unwrap_err().name(), "content_key_unopened");
    vehicle.report_idle(&server, server.now());
    assert_eq!(opened(&assigned(&server, &ceremony, &mut vehicle), &vehicle), Ok(Some(key())));

    // A report without one, of an older SDK, takes nothing back; and a plain release follows as ever.
    vehicle.decryption_key = None;
    vehicle.report(&server, server.now(), UpdateState::Confirmed, "2.0.0", 2);
    assert_eq!(withheld(&server, "v-1"), Value::Null);
    ceremony.encryption = None;
    ceremony.publish(&server, "3.0.0", "ultra", 3);
    server.approve("3.0.0");
    server.roll_out("3.0.0", 1);
    assert_eq!(vehicle.offered(&server, &ceremony, server.now()).as_deref(), Some("3.0.0"));
}

#[test]
fn an_offline_update_of_an_encrypted_release_is_for_one_vehicle() {
    let data = folder();
    let server = TestServer::start(data.path());
    encrypted(&server);
    let mut vehicle = with_key(TestVehicle::enroll(&server, "v-1"), 1);
    vehicle.report_idle(&server, START);
    let order = |rest: Value| {
        let mut order = json!({"release": {"model": "vla", "version": "2.0.0"}, "days": 7});
        order.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        server.control("POST", "/v1/offline-updates", Some(&order))
    };
    let refused = order(json!({"tier": "ultra", "region": "eu"}));
    assert_eq!(refused.status, 409);
    let text = "vla 2.0.0: the release is encrypted: an offline update of it is for one vehicle, because its content key is sealed to that \
                vehicle's key";
    assert_eq!(refused.json()["detail"], json!(text));
    let made = order(json!({"vehicle_id": "v-1"}));
    assert_eq!(made.status, 201, "{}", made.text());
    let targets = made.json()["files"]["director/metadata/1.targets.json"].as_str().unwrap().to_owned();
    let sealed =
        serde_json::from_str::<Value>(&targets).unwrap()["signed"]["targets"]["ultra/vla-2.0.0.index"]["custom"]["contentKey"].clone();
    let sealed = SealedContentKey::from_json(metadata::json::parse(sealed.to_string().as_bytes(), 4_096).unwrap(), "contentKey");
    let identity = vehicle.identity();
    let recipient = Recipient::Vehicle { vehicle_id: &identity.vehicle_id, ecu_serial: &identity.ecu_serial };
    assert_eq!(vehicle.decryption_key.unwrap().open(&sealed.unwrap(), recipient, &bundle()), Ok(key()));
    // Nobody's vehicle without a key.
    TestVehicle::enroll(&server, "v-2");
    let refused = order(json!({"vehicle_id": "v-2"}));
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("has told no encryption key yet"), "{}", refused.text());
}

#[test]
fn a_server_that_lost_its_key_says_so_to_vehicles_until_somebody_brings_the_content_key_again() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (ceremony, _) = encrypted(&server);
    let mut vehicle = with_key(TestVehicle::enroll(&server, "v-1"), 1);
    vehicle.report_idle(&server, START);
    drop(server);
    std::fs::remove_file(data.path().join("keys").join("content-keys.json")).unwrap();

    let server = TestServer::start(data.path());
    let refused = vehicle.director(&server, START, "timestamp.json", &[]);
    assert_eq!((refused.status, refused.json()["type"].clone()), (503, json!("urn:switchback:problem:content_key_missing")));
    let told = refused.json();
    let detail = format!(
        "the server has no content key for the bundle with sha256 {}; bring it with `switchback publish --content-key FILE`",
        bundle()
    );
    let hint = "vehicles ask again by themselves; they keep driving with what they have";
    assert_eq!((told["detail"].clone(), told["hint"].clone()), (json!(detail), json!(hint)));

    assert_eq!(send_key(&server, &key()), 204, "the release is published already, and its key may come again");
    assert_eq!(opened(&assigned(&server, &ceremony, &mut vehicle), &vehicle), Ok(Some(key())));
}
