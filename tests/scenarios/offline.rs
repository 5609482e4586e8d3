//! Updates that travel in a file: from a workshop's computer or a USB stick into a vehicle that cannot reach the server.

use std::path::PathBuf;

use serde_json::Value;
use switchback_sdk::vehicle::EventKind;
use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    server::Server,
};
use tempfile::TempDir;

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };

/// Nobody listens there.
const NO_SERVER: &str = "http://127.0.0.1:9";

const ULTRA_IN_EU: [&str; 4] = ["--tier", "ultra", "--region", "eu"];

struct Workshop {
    server: Server,
    desk: Desk,
    stick: TempDir,
}

impl Workshop {
    fn open() -> Self {
        let server = Server::start();
        let desk = Desk::open(&server);
        Self { server, desk, stick: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.stick.path().join(name)
    }

    /// Makes a file for these recipients.
    fn make(&self, named: Named<'_>, recipients: &[&str], name: &str) -> (PathBuf, Value) {
        let file = self.file(name);
        let words = [&["offline", "create", "--model", named.model, "--version", named.version], recipients].concat();
        let made = self.desk.succeed(&words, &[("--out", &file)]);
        (file, made)
    }

    fn refused(&self, named: Named<'_>, recipients: &[&str]) -> String {
        let words = [&["offline", "create", "--model", named.model, "--version", named.version], recipients].concat();
        let file = self.file("never.tar");
        let text = self.desk.fail(&words, &[("--out", &file)]);
        assert!(!file.exists());
        text
    }
}

#[test]
fn a_file_for_a_tier_updates_vehicles_that_the_server_has_never_heard_of() {
    let workshop = Workshop::open();
    workshop.desk.release(&Straight::new(0.001).write(), FIRST);
    let (file, made) = workshop.make(FIRST, &ULTRA_IN_EU, "ultra-eu.tar");
    assert!(made["bytes"].as_u64().unwrap() > 1_000 && made["limited_by"].is_null(), "{made:#}");

    for id in ["p7-1", "p7-2"] {
        let garage = Garage::unknown(&workshop.desk, id, "ultra", "eu");
        let mut car = garage.start(NO_SERVER);
        car.install_offline(&file);
        assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
        // The same file once more.
        car.install_offline(&file);
        let nothing = car.until(|event| event.kind == EventKind::Checked);
        assert_eq!(nothing.reason.unwrap().name, "offline_nothing_new");
        drop(car);
        let car = garage.start(NO_SERVER);
        assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"), "it is confirmed like any other");
    }

    for (tier, region) in [("ultra-se", "eu"), ("ultra", "cn")] {
        let garage = Garage::unknown(&workshop.desk, "other", tier, region);
        let mut car = garage.start(NO_SERVER);
        car.install_offline(&file);
        let reason = car.until_refused();
        assert_eq!((reason.number, reason.name.as_str()), (136, "other_scope"), "{}", reason.text);
        assert!(car.active().is_none());
    }
}

#[test]
fn a_file_for_one_vehicle_brings_it_on_and_the_server_learns_of_it() {
    let workshop = Workshop::open();
    workshop.desk.release(&Straight::new(0.001).write(), FIRST);
    workshop.desk.roll_out("vla-1", "1.0.0");
    let [garage, other] = ["p7-1", "p7-2"].map(|id| Garage::new(&workshop.desk, id, "ultra", "eu"));
    for garage in [&garage, &other] {
        assert_eq!(garage.start(workshop.server.url()).until_confirmed(), "vla-1 1.0.0");
    }
    workshop.desk.release(&Straight::new(0.002).write(), SECOND);
    let (file, _) = workshop.make(SECOND, &["--vehicle", "p7-1", "--days", "3"], "p7-1.tar");

    let mut car = other.start(NO_SERVER);
    car.install_offline(&file);
    let reason = car.until_refused();
    assert_eq!((reason.number, reason.name.as_str()), (131, "other_vehicle"), "{}", reason.text);

    // While it is installed the Director, who knows nothing of it, keeps assigning the old release.
    let mut car = garage.start(workshop.server.url());
    car.install_offline(&file);
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    assert_eq!((car.frames_lost, car.curvatures.as_slice()), (0, [0.001, 0.002].as_slice()));
    car.until_checked();
    assert_eq!(car.active().as_deref(), Some("vla-2 2.0.0"), "what the Director assigned before is older");
    assert_eq!(car.status().reason, None, "and nobody takes that for an attack");
    let known = workshop.desk.vehicle("p7-1");
    assert_eq!(known["installed"]["release"]["version"], "2.0.0", "{known:#}");
}

#[test]
fn a_file_that_was_damaged_or_taken_out_too_early_changes_nothing_and_the_whole_one_is_taken() {
    let workshop = Workshop::open();
    workshop.desk.release(&Straight { weights: 1 << 20, ..Straight::new(0.001) }.write(), FIRST);
    let (file, _) = workshop.make(FIRST, &ULTRA_IN_EU, "whole.tar");
    let whole = std::fs::read(&file).unwrap();
    let garage = Garage::unknown(&workshop.desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(NO_SERVER);

    let cut = workshop.file("cut.tar");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let error = car.try_offline(&cut).unwrap_err();
    assert_eq!(error.number(), 441);
    assert!(error.to_string().ends_with("copy it again, or make it anew"), "{error}");

    // In the middle of the bundle, which is the longest member by far.
    let altered = workshop.file("altered.tar");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&altered, &bytes).unwrap();
    car.install_offline(&altered);
    let reason = car.until_refused();
    assert_eq!(reason.name, "chunk_hash", "{}", reason.text);

    // Shortened while it is read, as if the stick were pulled out.
    let pulled = workshop.file("pulled.tar");
    std::fs::write(&pulled, &whole).unwrap();
    car.install_offline(&pulled);
    std::fs::OpenOptions::new().write(true).open(&pulled).unwrap().set_len(middle as u64).unwrap();
    car.until(|event| event.kind == EventKind::DownloadPaused || event.kind == EventKind::CheckFailed);
    drop(car);

    let mut car = garage.start(NO_SERVER);
    car.install_offline(&file);
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
}

#[test]
fn nobody_gets_in_a_file_what_the_rules_do_not_allow() {
    let workshop = Workshop::open();
    let desk = &workshop.desk;
    assert!(workshop.refused(FIRST, &ULTRA_IN_EU).contains("holds no valid target of this release"));
    let bundle = desk.pack(&Straight::new(0.001).write(), FIRST);
    desk.sign("alice", &bundle);
    desk.sign("bob", &bundle);
    desk.publish();
    assert!(workshop.refused(FIRST, &ULTRA_IN_EU).contains("no approval of this release is valid in the vehicle's region"));
    assert!(workshop.refused(FIRST, &["--vehicle", "nobody"]).contains("there is no vehicle nobody"));
    desk.approve("vla-1", "1.0.0", "eu");
    assert!(workshop.refused(FIRST, &["--tier", "ultra", "--region", "cn"]).contains("no approval"));
    // The engineers' own signatures end first.
    let (_, made) = workshop.make(FIRST, &[&ULTRA_IN_EU[..], &["--days", "92"]].concat(), "long.tar");
    assert!(made["limited_by"].is_string(), "{made:#}");
}

#[test]
fn anybody_can_look_into_the_file_with_tar() {
    let workshop = Workshop::open();
    workshop.desk.release(&Straight::new(0.001).write(), FIRST);
    let (file, _) = workshop.make(FIRST, &ULTRA_IN_EU, "ultra-eu.tar");
    let listed = switchback_tests::programs::succeed(std::process::Command::new("tar").arg("tf").arg(&file));
    let names: Vec<&str> = listed.lines().collect();
    for name in ["director/metadata/1.root.json", "director/metadata/timestamp.json", "image/metadata/1.root.json"] {
        assert!(names.contains(&name), "{listed}");
    }
    assert!(names.last().unwrap().ends_with(".vla-1-1.0.0.tar.zst"), "{listed}");
}

#[test]
fn a_file_of_an_encrypted_release_is_for_one_vehicle_and_opens_there() {
    let workshop = Workshop::open();
    workshop.desk.release(&Straight::new(0.001).write(), FIRST);
    workshop.desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&workshop.desk, "p7-1", "ultra", "eu");
    assert_eq!(garage.start(workshop.server.url()).until_confirmed(), "vla-1 1.0.0");
    workshop.desk.release_encrypted(&Straight::new(0.002).write(), SECOND);
    let text = workshop.refused(SECOND, &ULTRA_IN_EU);
    assert!(text.contains("the release is encrypted: an offline update of it is for one vehicle"), "{text}");
    let (file, _) = workshop.make(SECOND, &["--vehicle", "p7-1"], "p7-1.tar");

    // On another disk of the same vehicle the key is another one: the file was not sealed to it.
    let key = garage.store().join("keys/vehicle-encryption.json");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let mut car = garage.start(NO_SERVER);
    car.install_offline(&file);
    let reason = car.until_refused();
    assert_eq!((reason.number, reason.name.as_str()), (191, "content_key_unopened"), "{}", reason.text);
    assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"));
    drop(car);

    std::fs::write(&key, kept).unwrap();
    let mut car = garage.start(NO_SERVER);
    car.install_offline(&file);
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    assert_eq!((car.frames_lost, car.curvatures.as_slice()), (0, [0.001, 0.002].as_slice()));
}
