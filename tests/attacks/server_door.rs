//! Whoever stands at the real server's door: with the control plane's token, with somebody else's enrollment token, or with a request that
//! was signed for something else.

use std::collections::BTreeMap;

use switchback_signing::{
    digest::Sha256Digest,
    keys::{
        Ed25519Signer, Signer,
        http::{CONTENT_DIGEST, Request, SIGNATURE, SIGNATURE_INPUT, sign_request},
        pem::SecretKey,
    },
    metadata::{
        Companion, DelegatedRole, Delegations, EcuSerial, HardwareId, Root, Signed, TargetMeta, Targets, VehicleId, Version, sign,
        vehicle::{EnrolledSecondary, EnrollmentRequest},
    },
};
use switchback_tests::{
    desk::HARDWARE,
    paper::{Answer, PaperVehicle, ask, now},
};

use super::server_scene::{Field, ID, index_path};

impl Field {
    /// A request of whoever has the control plane's token.
    fn put(&self, path: &str, body: &[u8]) -> Answer {
        let token = std::fs::read_to_string(self.server.token_file()).unwrap();
        ask(self.server.url(), "PUT", path, &[("authorization", &format!("Bearer {}", token.trim()))], body)
    }

    fn engineer(&self, name: &str) -> SecretKey {
        let path = self.desk.base().join(format!("keys/release-{name}.pem"));
        SecretKey::from_pem(&std::fs::read_to_string(path).unwrap(), None).unwrap()
    }

    /// The engineers' role as it is published, with the next version.
    fn next_role(&self) -> Targets {
        let (mut version, mut newest) = (1, None);
        while let Some(bytes) = self.image_file_if_any(&format!("{version}.vla-ultra.json")) {
            newest = Some(Signed::<Targets>::parse(&bytes, bytes.len()).unwrap().signed);
            version += 1;
        }
        Targets { version, ..newest.unwrap() }
    }

    fn image_file_if_any(&self, file: &str) -> Option<Vec<u8>> {
        let answer = ask(self.server.url(), "GET", &format!("/v1/image/metadata/{file}"), &[], &[]);
        (answer.status == 200).then_some(answer.body)
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, problem: &str, text: &str) {
    let said = String::from_utf8_lossy(&answer.body);
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{text}: {said}");
    assert!(said.contains(text), "{text}: {said}");
}

/// Who has the control plane's token, and even the engineers' keys, publishes nothing that vehicles would refuse or that was approved
/// as something else.
#[test]
fn a10_the_server_publishes_nothing_that_vehicles_would_refuse() {
    let mut field = Field::new();
    let (alice, bob) = (field.engineer("alice"), field.engineer("bob"));
    let role = field.next_role();
    let thief = Ed25519Signer::from_seed([66; 32]);
    let of_both = |targets: &Targets| sign(targets, &[&alice, &bob]).unwrap();
    let file = |version: u64| format!("/v1/image/metadata/{version}.vla-ultra.json");
    let with = |change: &dyn Fn(&mut Targets)| {
        let mut changed = role.clone();
        change(&mut changed);
        of_both(&changed)
    };
    let listed = |path: &str| {
        let (path, meta) = (path.to_owned(), TargetMeta::of_digest(1, Sha256Digest::of(b"x")));
        with(&move |role: &mut Targets| drop(role.targets.insert(path.clone(), meta.clone())))
    };
    let one = index_path(1);
    let with_companion = with(&|role| {
        let meta = &role.targets[&one];
        let mut release = meta.release().unwrap();
        let hardware_id = HardwareId::new("cam-a").unwrap();
        let sha256 = Sha256Digest::of(b"calibration");
        release.companions = vec![Companion { hardware_id, path: "ultra/cam.cal".into(), length: 11, sha256, release_counter: 1 }];
        let custom = TargetMeta::of_release(b"", &release).custom;
        let meta = TargetMeta { custom, ..meta.clone() };
        role.targets.insert(one.clone(), meta);
    });
    let delegating = with(&|role| {
        let keys = [thief.public_key()];
        let mut delegations = Delegations::default();
        delegations.add(DelegatedRole::new("friend", 2, &keys, &["ultra/*"]), &keys);
        role.delegations = Some(delegations);
    });
    let next = role.version;
    for (path, bytes, status, problem, text) in [
        (file(next), sign(&role, &[&alice, &thief]).unwrap(), 422, "metadata_refused", "1 of the 2 valid signatures"),
        (file(next + 1), of_both(&role), 400, "metadata_name_differs", "its name says version"),
        (
            file(next - 1),
            with(&|role| (role.version, role.expires) = (role.version - 1, role.expires.plus_seconds(1))),
            422,
            "metadata_refused",
            "is older than the trusted version",
        ),
        (file(next), with(&|role| role.expires = now().plus_days(-1)), 422, "metadata_refused", "expired at"),
        (file(next), listed("ultra/../x"), 422, "metadata_refused", "not an acceptable target path"),
        (file(next), listed("other/x"), 422, "metadata_refused", "which its delegation does not cover"),
        (file(next), listed("ultra/x"), 409, "target_missing", "have not been uploaded"),
        (file(next), with_companion, 422, "metadata_refused", "does not list"),
        (file(next), delegating, 422, "metadata_refused", "usable keys"),
    ] {
        refused(&field.put(&path, &bytes), status, problem, text);
    }
    // What was approved and is rolled out, with other bytes: those of a bundle that is somebody else's.
    let bytes = b"an index of somebody";
    let meta = &role.targets[&one];
    let other = TargetMeta { length: bytes.len() as u64, hashes: TargetMeta::of_digest(0, Sha256Digest::of(bytes)).hashes, ..meta.clone() };
    let (folder, name) = one.rsplit_once('/').unwrap();
    let stored = field.put(&format!("/v1/image/targets/{folder}/{}.{name}", Sha256Digest::of(bytes).to_hex()), bytes);
    assert!((200..300).contains(&stored.status), "{stored:?}");
    let exchanged = with(&|role| drop(role.targets.insert(one.clone(), other.clone())));
    refused(&field.put(&file(next), &exchanged), 409, "release_content_differs", "cannot change");
    // Roots that nobody appointed.
    for (path, root) in [("/v1/image/metadata", field.desk.image_root()), ("/v1/director/root", field.desk.director_root())] {
        let bytes = std::fs::read(root).unwrap();
        let mut root = Signed::<Root>::parse(&bytes, bytes.len()).unwrap().signed;
        root.version += 1;
        let answer = field.put(&format!("{path}/{}.root.json", root.version), &sign(&root, &[&thief]).unwrap());
        refused(&answer, 422, "metadata_refused", "valid signatures");
    }
    // Without the token nobody is listened to at all.
    let answer = ask(field.server.url(), "PUT", &file(next), &[("authorization", "Bearer guessed")], &of_both(&role));
    assert_eq!((answer.status, answer.problem().as_str()), (401, "token_invalid"));
    assert_eq!(field.next_role().version, next, "nothing was published");
    field.offer(2);
    field.takes(2);
}

/// Sends a request to enroll, signed by `signer`.
fn enroll(field: &Field, request: &EnrollmentRequest, signer: &Ed25519Signer) -> (u16, String) {
    let (path, body) = ("/v1/vehicles/enroll", request.to_bytes());
    let signed = sign_request(signer, &Request { method: "POST", target: path, body: Some(Sha256Digest::of(&body)) }, now()).unwrap();
    let digest = signed.content_digest.unwrap();
    let headers = [(SIGNATURE_INPUT, signed.signature_input.as_str()), (SIGNATURE, signed.signature.as_str()), (CONTENT_DIGEST, &digest)];
    let answer = ask(field.server.url(), "POST", path, &headers, &body);
    (answer.status, if answer.status == 200 { String::new() } else { answer.problem() })
}

/// Who finds an enrollment token, or has one of his own, becomes no vehicle but the one that it was made for, and no ECU of another.
#[test]
fn a15_nobody_enrolls_as_somebody_else() {
    let mut field = Field::new();
    let (own, thief) = (Ed25519Signer::from_seed([1; 32]), Ed25519Signer::from_seed([66; 32]));
    let token = field.desk.enroll("paper-1", "ultra", "eu");
    let request = |token: &str, id: &str, ecu: &str, hardware: &str, key: &Ed25519Signer| EnrollmentRequest {
        token: token.to_owned(),
        vehicle_id: VehicleId::new(id).unwrap(),
        ecu_serial: EcuSerial::new(ecu).unwrap(),
        hardware_id: HardwareId::new(hardware).unwrap(),
        public_key: key.public_key(),
        sdk_version: Version::new(0, 1, 0),
        secondaries: Vec::new(),
        encryption_key: None,
    };
    let honest = request(&token, "paper-1", "ecu-paper-1", HARDWARE, &own);
    let taken = format!("ecu-{ID}");
    for (what, request, signer, status, problem) in [
        ("with a guess", request("guessed", "paper-1", "ecu-paper-1", HARDWARE, &own), &own, 403, "token_invalid"),
        ("as another vehicle", request(&token, "paper-2", "ecu-paper-1", HARDWARE, &own), &own, 403, "token_of_another_vehicle"),
        ("as another computer", request(&token, "paper-1", "ecu-paper-1", "cam-a", &own), &own, 403, "token_of_another_vehicle"),
        ("with another's ECU", request(&token, "paper-1", &taken, HARDWARE, &own), &own, 409, "ecu_taken"),
        ("with a key that is not his", honest.clone(), &thief, 401, "signature_invalid"),
    ] {
        assert_eq!(enroll(&field, &request, signer), (status, problem.to_owned()), "{what}");
    }
    assert_eq!(enroll(&field, &honest, &own), (200, String::new()));
    let later = request(&token, "paper-1", "ecu-paper-1", HARDWARE, &thief);
    assert_eq!(enroll(&field, &later, &thief), (403, "token_invalid".to_owned()), "a token that was used");
    assert_eq!(enroll(&field, &honest, &own), (200, String::new()), "the answer may have been lost");
    // Where the operator has said which Secondaries there are, the Primary has no say in it.
    let words = ["vehicle", "enroll", "paper-3", "--tenant", "acme", "--tier", "ultra", "--hardware", HARDWARE, "--model-line", "P7"];
    let token = field.desk.succeed(&[&words[..], &["--region", "eu", "--no-secondaries"]].concat(), &[])["token"].clone();
    let alone = request(token.as_str().unwrap(), "paper-3", "ecu-paper-3", HARDWARE, &thief);
    let stranger = EnrolledSecondary {
        ecu_serial: EcuSerial::new("cam-paper-3").unwrap(),
        hardware_id: HardwareId::new("cam-a").unwrap(),
        public_key: thief.public_key(),
    };
    let with_stranger = EnrollmentRequest { secondaries: vec![stranger], ..alone.clone() };
    assert_eq!(enroll(&field, &with_stranger, &thief), (403, "token_of_other_secondaries".to_owned()));
    assert_eq!(enroll(&field, &alone, &thief), (200, String::new()));
    field.offer(2);
    field.takes(2);
}

/// Requests of a vehicle that somebody has recorded, sent again later, or for something else.
#[test]
fn a26_a_request_that_was_signed_for_something_else_is_not_heard() {
    let mut field = Field::new();
    let paper = PaperVehicle::enroll(&field.desk, field.server.url(), "paper-1");
    let manifest = paper.manifest(&[(paper.report(5, now()), &paper.key)], &paper.key);
    let other = paper.manifest(&[(paper.report(6, now()), &paper.key)], &paper.key);
    let path = "/v1/director/paper-1/manifest";
    let signed_for = |method: &'static str, target: &str, body: &[u8]| {
        let signed = sign_request(&paper.key, &Request { method, target, body: Some(Sha256Digest::of(body)) }, now()).unwrap();
        let headers = [(SIGNATURE_INPUT, signed.signature_input), (SIGNATURE, signed.signature)];
        BTreeMap::from(headers).into_iter().chain(signed.content_digest.map(|digest| (CONTENT_DIGEST, digest))).collect::<Vec<_>>()
    };
    let send = |headers: &[(&'static str, String)], body: &[u8]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(field.server.url(), "PUT", path, &headers, body)
    };
    let answers = [
        ("of an hour ago", paper.send_signed_at("PUT", path, &manifest, now().plus_seconds(-3600))),
        ("of an hour ahead", paper.send_signed_at("PUT", path, &manifest, now().plus_seconds(3600))),
        ("with another body", send(&signed_for("PUT", path, &other), &manifest)),
        ("to another path", send(&signed_for("PUT", "/v1/director/paper-2/manifest", &manifest), &manifest)),
        ("by another method", send(&signed_for("POST", path, &manifest), &manifest)),
    ];
    for (what, answer) in answers {
        assert_eq!((answer.status, answer.problem().as_str()), (401, "signature_invalid"), "{what}");
    }
    assert_eq!(field.desk.vehicle("paper-1")["report_counter"], 0);
    assert_eq!(paper.send_manifest_of("paper-1", &manifest).status, 200, "the vehicle reports on");
    field.offer(2);
    field.takes(2);
}
