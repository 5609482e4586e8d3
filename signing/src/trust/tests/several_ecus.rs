//! The Standard's part alone: several ECUs in one vehicle, and images that are no model releases.

use super::*;
use crate::{
    metadata::{Companion, Custom, EcuAssignment, EcuSerial, HardwareId, Hashes, TargetMeta, VehicleId, json},
    testing::{custom, identity},
};

const CAMERA: &str = "ultra/camera.bin";

fn ecu(serial: &str, hardware: &str) -> Ecu {
    let (ecu_serial, hardware_id) = (EcuSerial::new(serial).unwrap(), HardwareId::new(hardware).unwrap());
    Ecu { ecu_serial, hardware_id, installed: Installed::default() }
}

fn assigned(meta: TargetMeta, ecu: &Ecu) -> TargetMeta {
    meta.assigned_to(&EcuAssignment { ecu_serial: ecu.ecu_serial.clone(), hardware_id: ecu.hardware_id.clone() })
}

fn image(content: &[u8], custom: &str) -> TargetMeta {
    let json::Json::Object(custom) = json::parse(custom.as_bytes(), 10_000).unwrap() else { panic!("an object") };
    TargetMeta { custom, ..TargetMeta::of_digest(content.len() as u64, crate::digest::Sha256Digest::of(content)) }
}

/// Firmware of a camera as the Image repository lists it: no release of a model, only what the Standard asks for.
fn firmware(counter: u64) -> TargetMeta {
    image(b"firmware", &alloc::format!(r#"{{"shallMatch":{{"hardwareIds":["imx"],"releaseCounter":{counter}}}}}"#))
}

fn primary() -> Ecu {
    Ecu { installed: Installed::default(), ..ecu("ecu-1", "thor") }
}

/// A release for the Primary, firmware 3 for two cameras.
fn repositories() -> TestRepositories {
    let (mut repositories, _) = world();
    publish(&mut repositories, firmware(3));
    repositories
}

fn publish(repositories: &mut TestRepositories, firmware: TargetMeta) {
    repositories.publish_target(CAMERA, firmware.clone());
    let cameras = [ecu("cam-1", "imx"), ecu("cam-2", "imx")];
    let listed = cameras.iter().fold(firmware, assigned);
    repositories.director.targets.targets.insert(CAMERA.into(), listed);
    repositories.director.publish();
}

fn vehicle(ecus: Vec<Ecu>, others: OtherEcus) -> VehicleEcus {
    VehicleEcus { vehicle_id: Some(identity().vehicle_id), ecus, others, offline: None }
}

fn check_from(
    cache: &mut MetadataCache,
    repositories: &TestRepositories,
    vehicle: VehicleEcus,
    ask: AskImages,
) -> (UptaneOutcome, Vec<String>) {
    let (outcome, asked, held) = finish(UptaneCheck::start(cache.clone(), vehicle, ask, NOW), repositories);
    *cache = held;
    (outcome, asked)
}

fn finish(mut check: UptaneCheck, repositories: &TestRepositories) -> (UptaneOutcome, Vec<String>, MetadataCache) {
    let mut asked = Vec::new();
    let outcome = loop {
        match check.next() {
            Action::Fetch(request) => {
                asked.push(alloc::format!("{} {}", request.repository, request.file_name));
                check.fetched(repositories.fetch(&request));
            }
            Action::Finished(outcome) => break outcome,
            Action::Persist { .. } | Action::Remove { .. } => check.persisted(),
        }
    };
    (outcome, asked, check.into_cache())
}

fn check(repositories: &TestRepositories, vehicle: VehicleEcus) -> UptaneOutcome {
    check_from(&mut MetadataCache::provision(&repositories.anchors()), repositories, vehicle, AskImages::WhenNew).0
}

/// Path, ECUs and counter of each image.
#[track_caller]
fn verified(outcome: UptaneOutcome) -> Vec<String> {
    let UptaneOutcome::Verified(verified) = outcome else { panic!("expected images, found {outcome:?}") };
    let text = |image: &VerifiedImage| {
        let ecus: Vec<_> = image.ecus().iter().map(EcuSerial::as_str).collect();
        alloc::format!("{} for {}, counter {:?}", image.path(), ecus.join(" "), image.release_counter())
    };
    verified.images.iter().map(text).collect()
}

#[track_caller]
fn refused(outcome: UptaneOutcome, expected: &str) {
    let UptaneOutcome::Refused(error) = outcome else { panic!("expected a refusal, found {outcome:?}") };
    assert_error(&error, expected);
}

#[test]
fn each_ecu_of_a_vehicle_gets_its_image_and_one_image_may_be_for_several() {
    let ecus = Vec::from([primary(), ecu("cam-1", "imx"), ecu("cam-2", "imx")]);
    let expected = ["ultra/camera.bin for cam-1 cam-2, counter Some(3)", "ultra/vla-2-2.0.0.index for ecu-1, counter Some(5)"];
    assert_eq!(verified(check(&repositories(), vehicle(ecus, OtherEcus::Refused))), expected);
}

#[test]
fn an_ecu_that_runs_its_image_is_not_given_it_again() {
    let image_sha256 = firmware(3).hashes.sha256;
    let current = Installed { floor: ReleaseFloor(3), image_sha256 };
    let cameras = [Ecu { installed: current, ..ecu("cam-1", "imx") }, ecu("cam-2", "imx")];
    let ecus = [primary()].into_iter().chain(cameras).collect();
    let expected = ["ultra/camera.bin for cam-2, counter Some(3)", "ultra/vla-2-2.0.0.index for ecu-1, counter Some(5)"];
    assert_eq!(verified(check(&repositories(), vehicle(ecus, OtherEcus::Refused))), expected);
}

#[test]
fn a_secondary_verifies_for_itself_and_leaves_the_others_alone() {
    let secondary = || vehicle(Vec::from([ecu("cam-2", "imx")]), OtherEcus::Ignored);
    assert_eq!(verified(check(&repositories(), secondary())), ["ultra/camera.bin for cam-2, counter Some(3)"]);
    let mut missing = repositories();
    missing.director.targets.targets.remove(CAMERA);
    missing.director.publish();
    assert_eq!(verified(check(&missing, secondary())), Vec::<String>::new());
    let primary = vehicle(Vec::from([primary()]), OtherEcus::Refused);
    refused(
        check(&repositories(), primary),
        "134 unknown_ecu (mix-and-match attack): the Director assigns ultra/camera.bin to ECU cam-1, which is not in this vehicle",
    );
}

#[test]
fn each_ecu_has_its_own_hardware_and_its_own_floor() {
    let with = |camera: Ecu| check(&repositories(), vehicle(Vec::from([primary(), ecu("cam-1", "imx"), camera]), OtherEcus::Refused));
    let floor = Installed { floor: ReleaseFloor(4), image_sha256: None };
    refused(
        with(Ecu { installed: floor, ..ecu("cam-2", "imx") }),
        "153 release_below_floor (rollback attack): ultra/camera.bin has release counter 3, below 4 of the confirmed release",
    );
    refused(
        with(ecu("cam-2", "ar0820")),
        "135 other_ecu_hardware (arbitrary software attack): the Director takes ECU cam-2 for imx, but it is ar0820",
    );
}

/// A Director that names no hardware does not get around the Image repository's word on it.
#[test]
fn hardware_that_only_the_image_repository_names_is_held_to() {
    let mut repositories = repositories();
    let block = r#""shallMatch":{"hardwareIds":["imx"],"releaseCounter":3}"#;
    let listed = image(b"firmware", &alloc::format!(r#"{{"ecu_serial":"cam-1",{block}}}"#));
    repositories.director.targets.targets.insert(CAMERA.into(), listed);
    repositories.director.publish();
    let with = |camera: Ecu| check(&repositories, vehicle(Vec::from([primary(), camera]), OtherEcus::Refused));
    assert_eq!(verified(with(ecu("cam-1", "imx"))).len(), 2);
    refused(
        with(ecu("cam-1", "ar0820")),
        "150 wrong_hardware (arbitrary software attack): ultra/camera.bin is for hardware imx, but this is ar0820",
    );
}

/// Without a block that must match, what both list must still not be different; what only one lists counts.
#[test]
fn known_fields_that_both_repositories_list_are_the_same() {
    let with = |director: &str, image_custom: &str, floor: u64| {
        let mut repositories = repositories();
        repositories.publish_target(CAMERA, image(b"firmware", image_custom));
        let listed = image(b"firmware", director);
        repositories.director.targets.targets.insert(CAMERA.into(), assigned(listed, &ecu("cam-1", "imx")));
        repositories.director.publish();
        let installed = Installed { floor: ReleaseFloor(floor), image_sha256: None };
        check(&repositories, vehicle(Vec::from([Ecu { installed, ..ecu("cam-1", "imx") }]), OtherEcus::Ignored))
    };
    for (director, image) in [
        (r#"{"releaseCounter":3}"#, r#"{"releaseCounter":3,"hardwareIds":["imx"]}"#),
        ("{}", r#"{"release_counter":3}"#),
        (r#"{"releaseCounter":3}"#, "{}"),
    ] {
        assert_eq!(verified(with(director, image, 3)), ["ultra/camera.bin for cam-1, counter Some(3)"], "{director} {image}");
    }
    refused(
        with(r#"{"releaseCounter":4}"#, r#"{"releaseCounter":3}"#, 0),
        "145 custom_differs (mix-and-match attack): ultra/camera.bin is described by the Director with release counter 4 and by the Image repository with release counter 3",
    );
    refused(
        with(r#"{"hardwareIds":["imx"]}"#, r#"{"hardwareIds":["imx","ar0820"]}"#, 0),
        "145 custom_differs (mix-and-match attack): ultra/camera.bin is described by the Director with hardware imx and by the Image repository with hardware ar0820, imx",
    );
    refused(
        with(r#"{"shallMatch":{}}"#, "{}", 0),
        "145 custom_differs (mix-and-match attack): ultra/camera.bin is described by the Director with {} and by the Image repository with nothing",
    );
    // An image without a counter is older than any with one.
    refused(
        with("{}", "{}", 1),
        "153 release_below_floor (rollback attack): ultra/camera.bin has release counter 0, below 1 of the confirmed release",
    );
    refused(
        with(r#"{"releaseCounter":"3"}"#, "{}", 0),
        "146 custom_malformed (arbitrary software attack): ultra/camera.bin: custom.releaseCounter is not an integer from 0 on",
    );
}

#[test]
fn the_vehicle_is_learned_once_and_then_held_to() {
    let mut repositories = repositories();
    let unknown = || VehicleEcus { vehicle_id: None, ..vehicle(Vec::from([ecu("cam-1", "imx")]), OtherEcus::Ignored) };
    let UptaneOutcome::Verified(first) = check(&repositories, unknown()) else { panic!("verified") };
    assert_eq!(first.vehicle_id, Some(identity().vehicle_id));
    repositories.director.targets.vehicle_id = None;
    repositories.director.targets.custom.insert("vin".into(), json::Json::string("v-2"));
    repositories.director.publish();
    let learned = VehicleEcus { vehicle_id: first.vehicle_id, ..unknown() };
    refused(
        check(&repositories, learned),
        "131 other_vehicle (mix-and-match attack): the Director's targets are for vehicle v-2, but this is v-1",
    );
    repositories.director.targets.vehicle_id = Some(VehicleId::new("v-3").unwrap());
    repositories.director.publish();
    refused(
        check(&repositories, unknown()),
        "131 other_vehicle (mix-and-match attack): the Director's targets are for vehicle v-3, but this is v-2",
    );
}

#[test]
fn the_image_repository_is_asked_when_there_is_news_or_always() {
    let mut repositories = repositories();
    repositories.director.targets.targets.clear();
    repositories.director.publish();
    let asked = |ask: AskImages| {
        let mut cache = MetadataCache::provision(&repositories.anchors());
        let (outcome, asked) = check_from(&mut cache, &repositories, vehicle(Vec::from([primary()]), OtherEcus::Refused), ask);
        assert_eq!(verified(outcome), Vec::<String>::new());
        asked.iter().filter(|line| line.starts_with("Image")).count()
    };
    assert_eq!(asked(AskImages::WhenNew), 0);
    assert!(asked(AskImages::Always) >= 4);
}

/// The digest that a repository lists beyond the other is checked as well.
#[test]
fn every_digest_of_either_repository_is_checked_on_the_bytes() {
    let mut repositories = repositories();
    let sha512 = Some(crate::digest::Sha512Digest::of(b"another"));
    let listed = TargetMeta { hashes: Hashes { sha512, ..firmware(3).hashes }, ..firmware(3) };
    repositories.director.targets.targets.insert(CAMERA.into(), assigned(listed, &ecu("cam-1", "imx")));
    repositories.director.publish();
    let outcome = check(&repositories, vehicle(Vec::from([ecu("cam-1", "imx")]), OtherEcus::Ignored));
    let UptaneOutcome::Verified(verified) = outcome else { panic!("verified") };
    let image = &verified.images[0];
    let bytes = |bytes: &[u8]| {
        let mut check = image.check();
        check.update(bytes)?;
        check.finish()
    };
    assert!(matches!(bytes(b"firmware"), Err(TrustError::FileDigest { .. })));
    assert!(matches!(bytes(b"firmwar"), Err(TrustError::FileLength { found: 7, listed: 8, .. })));
    assert!(matches!(bytes(b"firmware and more"), Err(TrustError::FileLength { listed: 8, .. })));
    let [sha256, sha512] = &image.fetch_paths()[..] else { panic!("a copy under each digest") };
    assert!(sha256.starts_with("ultra/") && sha256.len() == 6 + 64 + 11 && sha512.len() == 6 + 128 + 11);
}

/// One check of a Primary with these Secondaries: how it ended, and what is to be installed on the others.
fn run(installed: Installed, secondaries: Vec<Ecu>, repositories: &TestRepositories) -> (Outcome, Vec<VerifiedImage>) {
    let cache = MetadataCache::provision(&repositories.anchors());
    let mut check = MetadataCheck::with_secondaries(cache, identity(), installed, secondaries, NOW);
    loop {
        match check.next() {
            Action::Fetch(request) => check.fetched(repositories.fetch(&request)),
            Action::Finished(outcome) => break (outcome, check.take_secondary_images()),
            Action::Persist { .. } | Action::Remove { .. } => check.persisted(),
        }
    }
}

/// The firmware as a release names it.
fn firmware_for(hardware: &str) -> Companion {
    let sha256 = crate::digest::Sha256Digest::of(b"firmware");
    let hardware_id = HardwareId::new(hardware).unwrap();
    Companion { hardware_id, path: CAMERA.into(), length: 8, sha256, release_counter: 3 }
}

/// The release of the Primary needs these, in both repositories.
fn release(repositories: &mut TestRepositories, companions: &[Companion]) {
    let release = TargetMeta::of_release(b"index", &Custom { companions: companions.to_vec(), ..custom(5) });
    repositories.publish_target(INDEX, release.clone());
    repositories.director.targets.targets.insert(INDEX.into(), assigned(release, &primary()));
    repositories.director.publish();
}

/// Mix-and-match: each file is signed by the right people, and they do not belong together.
#[test]
fn a_secondary_is_assigned_what_the_release_needs_there_and_nothing_else() {
    let cameras = || Vec::from([ecu("cam-1", "imx"), ecu("cam-2", "imx")]);
    let both = |change: &dyn Fn(&mut TestRepositories), installed: Installed, secondaries: Vec<Ecu>| {
        let mut repositories = repositories();
        release(&mut repositories, &[firmware_for("imx"), firmware_for("ar0820")]);
        change(&mut repositories);
        run(installed, secondaries, &repositories)
    };
    let refused = |change: &dyn Fn(&mut TestRepositories), expected: &str| {
        // Also while the release runs already: nothing of a set is taken before all of it has been looked at.
        let index = Some(crate::digest::Sha256Digest::of(b"index"));
        for installed in [Installed::default(), Installed { image_sha256: index, ..Installed::default() }] {
            let (outcome, images) = both(change, installed, cameras());
            let Outcome::Refused(error) = outcome else { panic!("expected a refusal, found {outcome:?}") };
            assert_error(&error, expected);
            assert!(images.is_empty());
        }
    };
    let (outcome, images) = both(&|_| {}, Installed::default(), cameras());
    assert_eq!((assert_installs(outcome).release().companions.len(), images.len()), (2, 1));
    refused(
        &|repositories| {
            // Firmware 2 is signed as well, and its counter is not below what the cameras have.
            let older = image(b"firmware 2", r#"{"shallMatch":{"hardwareIds":["imx"],"releaseCounter":2}}"#);
            repositories.publish_target("ultra/camera-2.bin", older.clone());
            repositories.director.targets.targets.remove(CAMERA);
            let listed = cameras().iter().fold(older, assigned);
            repositories.director.targets.targets.insert("ultra/camera-2.bin".into(), listed);
            repositories.director.publish();
        },
        "181 companion_differs (mix-and-match attack): ultra/vla-2-2.0.0.index needs ultra/camera.bin on ECU cam-1, but the Director assigns ultra/camera-2.bin, or other bytes under that name",
    );
    refused(
        &|repositories| publish(repositories, firmware(4)),
        "181 companion_differs (mix-and-match attack): ultra/vla-2-2.0.0.index needs ultra/camera.bin on ECU cam-1, but the Director assigns ultra/camera.bin, or other bytes under that name",
    );
    refused(
        &|repositories| {
            let listed = assigned(firmware(3), &ecu("cam-1", "imx"));
            repositories.director.targets.targets.insert(CAMERA.into(), listed);
            repositories.director.publish();
        },
        "182 companion_missing (mix-and-match attack): ultra/vla-2-2.0.0.index needs ultra/camera.bin on ECU cam-2, but the Director assigns nothing to it",
    );
    refused(
        &|repositories| release(repositories, &[]),
        "183 companion_unneeded (mix-and-match attack): the Director assigns ultra/camera.bin to ECU cam-1 with ultra/vla-2-2.0.0.index, which does not name it",
    );
    refused(
        &|repositories| {
            repositories.director.targets.targets.remove(INDEX);
            repositories.director.publish();
        },
        "183 companion_unneeded (mix-and-match attack): the Director assigns ultra/camera.bin to ECU cam-1 with no release, which does not name it",
    );
    // A Director cannot make a release forget what it needs: both repositories must say it.
    refused(
        &|repositories| {
            let stripped = TargetMeta::of_release(b"index", &custom(5));
            repositories.director.targets.targets.insert(INDEX.into(), assigned(stripped, &primary()));
            repositories.director.publish();
        },
        &{
            let (without, with) = (custom(5), Custom { companions: [firmware_for("imx"), firmware_for("ar0820")].into(), ..custom(5) });
            alloc::format!(
                "145 custom_differs (mix-and-match attack): {INDEX} is described by the Director with {} and by the Image repository with {}",
                without.to_json(),
                with.to_json()
            )
        },
    );
    // What a vehicle does not have does not count: this one has no camera at all.
    let alone = |repositories: &mut TestRepositories| {
        repositories.director.targets.targets.remove(CAMERA);
        repositories.director.publish();
    };
    let (outcome, images) = both(&alone, Installed::default(), Vec::new());
    assert_installs(outcome);
    assert!(images.is_empty());
}

/// A camera that was exchanged needs its image although the release is there; one that has it is not asked again.
#[test]
fn a_secondary_that_lost_its_image_is_given_it_again_while_the_release_stays() {
    let mut repositories = repositories();
    release(&mut repositories, &[firmware_for("imx")]);
    let index = Installed { floor: ReleaseFloor(5), image_sha256: Some(crate::digest::Sha256Digest::of(b"index")) };
    let has_it = Installed { floor: ReleaseFloor(3), image_sha256: firmware(3).hashes.sha256 };
    let camera = |serial: &str, installed| Ecu { installed, ..ecu(serial, "imx") };
    let (outcome, images) = run(index, Vec::from([camera("cam-1", has_it), camera("cam-2", Installed::default())]), &repositories);
    assert_eq!((outcome, images.len()), (Outcome::NothingNew, 1));
    assert_eq!((images[0].ecus()[0].as_str(), images[0].running()[0].as_str()), ("cam-2", "cam-1"));
    let (outcome, images) = run(index, Vec::from([camera("cam-1", has_it), camera("cam-2", has_it)]), &repositories);
    assert_eq!((outcome, images), (Outcome::NothingNew, Vec::new()));
}

#[test]
fn a_primary_that_drives_hears_what_its_secondaries_should_install() {
    let mut repositories = repositories();
    release(&mut repositories, &[firmware_for("imx")]);
    let installed = |image_sha256| Installed { floor: ReleaseFloor(5), image_sha256 };
    let cameras = || Vec::from([ecu("cam-1", "imx"), ecu("cam-2", "imx")]);
    let (outcome, images) = run(installed(None), cameras(), &repositories);
    assert_installs(outcome);
    assert_eq!(images.iter().map(VerifiedImage::path).collect::<Vec<_>>(), [CAMERA]);
    let index = crate::digest::Sha256Digest::of(b"index");
    let (outcome, images) = run(installed(Some(index)), cameras(), &repositories);
    assert_eq!((outcome, images.len()), (Outcome::NothingNew, 1));
    // A release that this vehicle may not have stops everything: the two may belong together.
    let mut other_tier = repositories.clone();
    let release = Custom { tier: crate::metadata::Tier::new("ultra-se").unwrap(), ..custom(5) };
    other_tier.publish_target(INDEX, TargetMeta::of_release(b"index", &release));
    let target = TargetMeta::of_release(b"index", &release);
    other_tier.director.targets.targets.insert(INDEX.into(), assigned(target, &primary()));
    other_tier.director.publish();
    let (outcome, images) = run(installed(None), cameras(), &other_tier);
    assert!(matches!(outcome, Outcome::Refused(TrustError::WrongTier { .. })) && images.is_empty());
}

/// Whatever both repositories sign: what the map has no entry for is not installed.
#[test]
fn an_image_that_the_repository_map_has_no_entry_for_is_refused() {
    let check = |pattern: &str| {
        let repositories = repositories();
        let entry = alloc::format!(r#"{{"paths":["{pattern}"],"repositories":["image","director"],"threshold":2}}"#);
        let map = alloc::format!(r#"{{"repositories":{{"director":["https://d"],"image":["https://i"]}},"mapping":[{entry}]}}"#);
        let ecus = Vec::from([primary(), ecu("cam-1", "imx"), ecu("cam-2", "imx")]);
        let cache = MetadataCache::provision(&repositories.anchors());
        let check = UptaneCheck::start(cache, vehicle(ecus, OtherEcus::Refused), AskImages::WhenNew, NOW);
        finish(check.with_map(RepositoryMap::parse(map.as_bytes()).unwrap()), &repositories).0
    };
    assert_eq!(verified(check("ultra/*")).len(), 2);
    refused(
        check("ultra/*.bin"),
        "119 path_unmapped (arbitrary software attack): the repository map has no entry for ultra/vla-2-2.0.0.index, so nobody may sign for it",
    );
}
