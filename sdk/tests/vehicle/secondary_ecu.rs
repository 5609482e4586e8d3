//! What a Secondary takes from its Primary, which may be anybody's by now.

use std::path::Path;

use switchback_sdk::vehicle::{MetadataSource, ModelledSecondary, SecondaryEcu, SecondaryError, Sha256Digest, UnixTime};
use switchback_signing::metadata::vehicle::{EcuReport, UpdateState};
use switchback_signing::metadata::{
    EcuAssignment, EcuImage, EcuSerial, HardwareId, OfflineScope, Region, Signed, TargetMeta, Tier, VehicleId, json,
};
use switchback_signing::testing::{NOW, TestRepositories};

use crate::common::camera::Camera;
use crate::common::stick;

const RELEASE_1: Sha256Digest = Sha256Digest::from_bytes([1; 32]);
const RELEASE_2: Sha256Digest = Sha256Digest::from_bytes([2; 32]);

fn open(directory: &Path, repositories: &TestRepositories) -> ModelledSecondary {
    ModelledSecondary::open(directory, &Camera::identity(), &repositories.anchors()).unwrap()
}

fn calibration(counter: u64) -> Vec<u8> {
    format!("calibration {counter}").into_bytes()
}

fn image(counter: u64, hardware_id: &str) -> TargetMeta {
    let block = EcuImage { release_counter: counter, hardware_ids: vec![HardwareId::new(hardware_id).unwrap()] };
    TargetMeta::of_image(&calibration(counter), &block)
}

/// Both repositories agree that the ECU runs this calibration.
fn assign(repositories: &mut TestRepositories, counter: u64, ecu: &EcuAssignment) {
    let (path, image) = (format!("ultra/cam-{counter}.cal"), image(counter, ecu.hardware_id.as_str()));
    repositories.publish_target(&path, image.clone());
    repositories.director.targets.targets.clear();
    repositories.director.targets.targets.insert(path, image.assigned_to(ecu));
    repositories.director.publish();
}

fn verify(ecu: &mut ModelledSecondary, repositories: &TestRepositories, now: UnixTime) -> Result<(), SecondaryError> {
    let mut source = |request: &_| repositories.fetch(request);
    let source: &mut MetadataSource<'_> = &mut source;
    ecu.verify(now, source)
}

fn number<T: std::fmt::Debug>(result: Result<T, SecondaryError>) -> u32 {
    match result {
        Err(SecondaryError::Refused { reason }) => reason.number,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn running(ecu: &ModelledSecondary) -> Option<String> {
    ecu.running().unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn report(ecu: &mut ModelledSecondary) -> EcuReport {
    let bytes = ecu.report(NOW).unwrap();
    let signed = Signed::<EcuReport>::from_envelope(json::parse(&bytes, 10_000).unwrap()).unwrap();
    let key = ecu.identity().public_key;
    signed.verify(&key.key_id(), &key).expect("its own signature");
    signed.signed
}

/// A camera that runs calibration 2 for good.
fn confirmed() -> (TestRepositories, tempfile::TempDir, ModelledSecondary) {
    let (mut repositories, directory) = (TestRepositories::new(), tempfile::tempdir().unwrap());
    assign(&mut repositories, 2, &Camera::assignment());
    let mut ecu = open(directory.path(), &repositories);
    verify(&mut ecu, &repositories, NOW).unwrap();
    ecu.stage(&calibration(2)).unwrap();
    ecu.activate(Sha256Digest::of(&calibration(2)), RELEASE_2).unwrap();
    ecu.settle(Some(RELEASE_2)).unwrap();
    assert_eq!(running(&ecu).as_deref(), Some("calibration 2"));
    (repositories, directory, ecu)
}

#[test]
fn an_ecu_takes_the_bytes_that_both_repositories_signed_for_it_and_no_others() {
    let (mut repositories, directory) = (TestRepositories::new(), tempfile::tempdir().unwrap());
    let mut ecu = open(directory.path(), &repositories);
    assert_eq!(number(ecu.stage(&calibration(1))), 616, "nothing is assigned");
    assert_eq!(number(ecu.activate(Sha256Digest::of(&calibration(1)), RELEASE_1)), 616, "nothing is staged");
    assign(&mut repositories, 1, &Camera::assignment());
    verify(&mut ecu, &repositories, NOW).unwrap();
    assert_eq!(number(ecu.stage(b"calibration x")), 165);
    verify(&mut ecu, &repositories, NOW).unwrap();
    assert_eq!(number(ecu.stage(b"calibration 1 and more")), 164);
    let told = report(&mut ecu);
    assert_eq!(told.payload.update, UpdateState::Refused);
    assert!(told.attack_detected.unwrap().text.starts_with("endless data attack: "));
    verify(&mut ecu, &repositories, NOW).unwrap();
    ecu.stage(&calibration(1)).unwrap();
    let told = report(&mut ecu);
    assert_eq!((told.payload.update, told.attack_detected, told.installed), (UpdateState::Staged, None, None));
}

#[test]
fn an_ecu_does_not_believe_what_is_for_another_vehicle_ecu_or_hardware() {
    let (mut repositories, _directory, mut ecu) = confirmed();
    let this_vehicle = repositories.director.targets.vehicle_id.replace(VehicleId::new("v-2").unwrap());
    repositories.director.publish();
    assert_eq!(number(verify(&mut ecu, &repositories, NOW)), 131);
    repositories.director.targets.vehicle_id = this_vehicle;
    let other = |serial: &str, hardware_id: &str| EcuAssignment {
        ecu_serial: EcuSerial::new(serial).unwrap(),
        hardware_id: HardwareId::new(hardware_id).unwrap(),
    };
    assign(&mut repositories, 3, &other("cam-1", "cam-b"));
    assert_eq!(number(verify(&mut ecu, &repositories, NOW)), 135);
    // Signed for another camera: believed, and no business of this one.
    assign(&mut repositories, 3, &other("cam-2", "cam-a"));
    verify(&mut ecu, &repositories, NOW).unwrap();
    assert_eq!(number(ecu.stage(&calibration(3))), 616);
    assert_eq!(running(&ecu).as_deref(), Some("calibration 2"));
}

#[test]
fn an_ecu_does_not_go_back_whatever_its_primary_says() {
    let (mut repositories, _directory, mut ecu) = confirmed();
    assign(&mut repositories, 1, &Camera::assignment());
    assert_eq!(number(verify(&mut ecu, &repositories, NOW)), 153);
    assert!(report(&mut ecu).attack_detected.unwrap().text.starts_with("rollback attack: "));
    assert_eq!(number(ecu.stage(&calibration(1))), 616);
    // Older metadata of the same repositories.
    assert_eq!(number(verify(&mut ecu, &TestRepositories::new(), NOW)), 105);
    // A Primary that sets the time back makes nothing fresh.
    let later = NOW.plus_days(3000);
    assert_eq!(number(verify(&mut ecu, &repositories, later)), 112);
    assert_eq!(running(&ecu).as_deref(), Some("calibration 2"));
}

#[test]
fn an_ecu_believes_a_file_for_its_vehicle_or_its_tier_and_keeps_none_of_it() {
    let offline = |ecu: &mut ModelledSecondary, repositories: &TestRepositories| {
        let mut source = |request: &_| repositories.fetch(request);
        let source: &mut MetadataSource<'_> = &mut source;
        ecu.verify_offline(NOW, source)
    };
    let (mut repositories, directory, mut ecu) = confirmed();
    let before = stick::marked(repositories.clone());
    assign(&mut repositories, 3, &Camera::assignment());
    let for_vehicle = stick::marked(repositories.clone());
    let for_tier = |tier: &str| {
        let mut file = repositories.clone();
        let scope = OfflineScope { tier: Tier::new(tier).unwrap(), region: Region::new("eu").unwrap() };
        file.director.targets = file.director.targets.clone().for_scope(&scope);
        file.director.targets.vehicle_id = None;
        file.director.targets.targets = [("ultra/cam-3.cal".to_owned(), image(3, "cam-a"))].into();
        stick::marked(file)
    };
    for file in [&for_vehicle, &for_tier("ultra")] {
        assert_eq!(number(verify(&mut ecu, file, NOW)), 118, "a file is no network");
        offline(&mut ecu, file).unwrap();
        ecu.stage(&calibration(3)).unwrap();
    }
    assert_eq!(number(offline(&mut ecu, &repositories)), 118, "nor the other way round");
    assert_eq!(number(offline(&mut ecu, &for_tier("ultra-se"))), 136);
    // The file was made for this vehicle, and for no other.
    let mut neighbors = repositories.clone();
    neighbors.director.targets.vehicle_id = Some(VehicleId::new("v-2").unwrap());
    assert_eq!(number(offline(&mut ecu, &stick::marked(neighbors))), 131);
    ecu.activate(Sha256Digest::of(&calibration(3)), RELEASE_1).unwrap();
    ecu.settle(Some(RELEASE_1)).unwrap();
    assert_eq!(number(offline(&mut ecu, &before)), 153, "an older file");
    // What it saw over the network before any of the files is what it goes by there, at once and after a restart.
    assert_eq!(number(verify(&mut ecu, &TestRepositories::new(), NOW)), 105);
    drop(ecu);
    let mut ecu = open(directory.path(), &repositories);
    assert_eq!(number(verify(&mut ecu, &TestRepositories::new(), NOW)), 105);
    verify(&mut ecu, &repositories, NOW).unwrap();
}

#[test]
fn time_that_an_ecu_has_seen_holds_against_its_primary() {
    let (repositories, _directory, mut ecu) = confirmed();
    let mut fresh = repositories.clone();
    let later = NOW.plus_days(3000);
    for repository in [&mut fresh.director, &mut fresh.image] {
        repository.root.expires = later.plus_days(30);
        repository.root.version += 1;
        repository.publish_root();
        repository.targets.expires = later.plus_days(30);
        repository.snapshot.expires = later.plus_days(30);
        repository.timestamp.expires = later.plus_days(30);
    }
    fresh.image.role("vla-ultra").expires = later.plus_days(30);
    fresh.image.publish();
    fresh.director.publish();
    verify(&mut ecu, &fresh, later).unwrap();
    let mut expired = fresh.clone();
    expired.director.timestamp.expires = later.plus_days(-1);
    expired.director.publish();
    assert_eq!(number(verify(&mut ecu, &expired, NOW)), 112, "fresh by the Primary's time, and not by what this ECU has seen");
}

#[test]
fn a_trial_ends_with_the_release_that_drives_also_after_a_restart() {
    let (mut repositories, directory, mut ecu) = confirmed();
    assign(&mut repositories, 3, &Camera::assignment());
    verify(&mut ecu, &repositories, NOW).unwrap();
    ecu.stage(&calibration(3)).unwrap();
    let third = Sha256Digest::of(&calibration(3));
    for (confirmed, expected) in [(None, "calibration 2"), (Some(RELEASE_2), "calibration 2"), (Some(RELEASE_1), "calibration 3")] {
        ecu.activate(third, RELEASE_1).unwrap();
        assert_eq!((running(&ecu).as_deref(), report(&mut ecu).payload.update), (Some("calibration 3"), UpdateState::Trial));
        let before = report(&mut ecu).counter;
        drop(ecu);
        ecu = open(directory.path(), &repositories);
        assert_eq!(running(&ecu).as_deref(), Some("calibration 3"), "until it hears what drives");
        assert!(report(&mut ecu).counter > before);
        for _ in 0..2 {
            ecu.settle(confirmed).unwrap();
            assert_eq!(running(&ecu).as_deref(), Some(expected));
        }
    }
    assert_eq!(ecu.installed(), Ok(Some(third)));
    let images = std::fs::read_dir(directory.path().join("keys"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("image."));
    assert_eq!(images.count(), 1, "what it does not need is gone");
}
