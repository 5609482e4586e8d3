//! Keys that are stolen and revoked: the drills that every operator should have held once.

use switchback_signing::{
    keys::Sha256Digest,
    metadata::{EcuAssignment, EcuSerial, HardwareId, TargetMeta},
    trust::Attack::{ArbitrarySoftware, Rollback},
};
use switchback_tests::{
    desk::HARDWARE,
    paper::ask,
    proxy::{Fate, Request},
};

use super::server_scene::{DIRECTOR, Field, Files, ID, IMAGE, Thief, index_path, model, named};

/// As far from every honest version as a thief can wish.
const FAR_AHEAD: u64 = 1 << 50;

/// Assigns a release to the vehicle as the Director would.
fn assigned(meta: TargetMeta) -> TargetMeta {
    let hardware_id = HardwareId::new(HARDWARE).unwrap();
    meta.assigned_to(&EcuAssignment { ecu_serial: EcuSerial::new(format!("ecu-{ID}")).unwrap(), hardware_id })
}

/// The thief of all online keys pushes every version to its end, in both repositories, so that nothing honest is newer. Two keyholders of
/// three take the keys away from him, and the vehicle forgets what they said.
#[test]
fn a11_stolen_online_keys_are_revoked_and_honest_versions_count_again() {
    let mut field = Field::new();
    let thief = Thief::of(&field.server);
    // What no engineer has signed, so that the vehicle looks into the Image repository and installs nothing.
    let mut release = assigned(field.listed(1));
    release.hashes.sha256 = Some(Sha256Digest::of(b"of the thief"));
    let unlisted = ("ultra/vla-9-9.0.0.index".to_owned(), release);
    let mut files = thief.director(FAR_AHEAD, &[unlisted]);
    files.extend(thief.image(&field, FAR_AHEAD, &[]));
    field.answer(files);
    field.refuses(140, "target_unknown", ArbitrarySoftware);

    // The owner is back, and the damage stays: the honest versions are old ones to this vehicle.
    field.proxy.set_rule(|_| Fate::Pass);
    field.offer(2);
    field.refuses(105, "older_version", Rollback);

    field.desk.rotate_online_keys(&[]);
    field.takes(2);
    field.offer(3);
    field.takes(3);
}

/// Each of the two repositories alone is shown as the thief signs it, with the keys that a ceremony has just revoked.
#[test]
fn a27_what_stolen_online_keys_sign_after_their_revocation_is_refused() {
    let mut field = Field::new();
    let thief = Thief::of(&field.server);
    field.desk.rotate_online_keys(&[]);
    field.car.until_checked();
    field.answer(thief.director(FAR_AHEAD, &[]));
    field.refuses(102, "threshold_not_met", ArbitrarySoftware);
    field.offer(2);
    field.takes(2);

    let mut field = Field::new();
    let thief = Thief::of(&field.server);
    field.desk.rotate_online_keys(&[]);
    field.desk.release(&model(2), named(2));
    field.answer(thief.image(&field, FAR_AHEAD, &[]));
    field.roll_out(2);
    field.refuses(102, "threshold_not_met", ArbitrarySoftware);
    field.takes(2);
}

/// The thief sits on the network and does not let the vehicle have the root that revokes his keys.
#[test]
fn a20_a_server_that_fails_for_the_next_root_alone_keeps_no_stolen_key_alive() {
    let mut field = Field::new();
    let thief = Thief::of(&field.server);
    field.desk.rotate_online_keys(&[]);
    let files = thief.director(FAR_AHEAD, &[]);
    for (status, number, name) in [(500, 410, "server_failed"), (503, 408, "server_busy")] {
        let files: Files = files.clone();
        let (next, asked_before) = (format!("{DIRECTOR}2.root.json"), field.proxy.requests().len());
        field.proxy.set_rule(move |request: &Request| match files.get(&request.path) {
            _ if request.path == next => Fate::Answer(status, Vec::new()),
            Some(bytes) => Fate::Answer(200, bytes.clone()),
            None => Fate::Pass,
        });
        field.meets(number, name);
        let requests = field.proxy.requests();
        let asked = requests[asked_before..].iter().filter(|request| request.path == format!("{DIRECTOR}timestamp.json")).count();
        // One check may have been under way when the thief came.
        assert!(asked <= 1, "a root that cannot be had does not end the chain: {asked} timestamps were asked for");
    }
    field.offer(2);
    field.takes(2);
}

/// Bob leaves in anger. Alice and he have signed a release that was never published; he also has the server's keys, so that he can show it
/// to a vehicle, and the token of its control plane.
#[test]
fn a27_a_release_that_a_revoked_engineer_signed_is_refused() {
    let mut field = Field::new();
    let (thief, base) = (Thief::of(&field.server), field.desk.base());
    let bundle = field.desk.pack(&model(2), named(2));
    field.desk.sign("alice", &bundle);
    field.desk.sign("bob", &bundle);
    let draft = base.join("drafts/vla-ultra.json");
    let withdrawn = std::fs::read(&draft).unwrap();
    for file in std::fs::read_dir(base.join("drafts")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let desk = |words: &[&str]| field.desk.succeed(words, &[("--base", &base)]);
    desk(&["targets", "remove-key", "--tier", "ultra", "release-bob"]);
    for keyholder in ["alice", "carol"] {
        desk(&["targets", "sign", "--key", keyholder]);
    }
    for keyholder in ["alice", "carol"] {
        desk(&["sign", "--key", keyholder, "--renew", "ultra"]);
    }
    field.desk.publish();

    let token = std::fs::read_to_string(field.server.token_file()).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    let answer = ask(field.server.url(), "PUT", &format!("{IMAGE}2.vla-ultra.json"), &[("authorization", &authorization)], &withdrawn);
    assert_eq!((answer.status, answer.problem().as_str()), (422, "metadata_refused"), "{answer:?}");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("vla-ultra version 2 carries 1 of the 2 valid signatures that targets version 2 requires"), "{text}");

    let listed = switchback_signing::metadata::Signed::<switchback_signing::metadata::Targets>::parse(&withdrawn, withdrawn.len()).unwrap();
    let release = listed.signed.targets[&index_path(2)].clone();
    let mut files = thief.director(FAR_AHEAD, &[(index_path(2), assigned(release))]);
    files.extend(thief.image(&field, FAR_AHEAD, &[("vla-ultra", 2, withdrawn)]));
    field.answer(files);
    field.refuses(102, "threshold_not_met", ArbitrarySoftware);

    // He had the online keys too: those are replaced as well, and then nothing of him counts.
    field.desk.rotate_online_keys(&[]);
    field.desk.release_signed_by(["alice", "carol"], &model(3), named(3));
    field.roll_out(3);
    field.takes(3);
}
