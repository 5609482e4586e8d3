//! Whoever reads what passes between a vehicle and the real server, and whatever lies in between.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;
use switchback_sdk::vehicle::EventKind;
use switchback_signing::{
    bundle::ContentKey,
    keys::{
        Sha256Digest,
        sealing::{DecryptionKey, Recipient, SealedContentKey},
    },
    metadata::{EcuAssignment, EcuSerial, HardwareId, VehicleId, json},
    trust::Attack::MixAndMatch,
};
use switchback_tests::{
    car::Garage,
    desk::HARDWARE,
    model::{ModelFolder, Straight},
    paper,
};
use tempfile::TempDir;

use super::server_scene::{DIRECTOR, Field, ID, Thief, index_path, model, named};

/// How a bundle's pieces begin that anybody can decode.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A word of the contract, which is in the manifest of each release and nowhere in metadata.
const OF_THE_MANIFEST: &[u8] = b"deceleration_max_mps2";

/// A model with weights that are worth something; its control says who drives.
fn heavy(counter: u64) -> ModelFolder {
    Straight { weights: 400_000, ..Straight::new(0.001 * counter as f32) }.write()
}

/// What an eavesdropper has: bytes that were overheard, files that were copied, and what of them can be decoded without any key.
struct Loot(Vec<Vec<u8>>);

impl Loot {
    fn of(bytes: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut loot: Vec<Vec<u8>> = bytes.into_iter().collect();
        let mut decoded = Vec::new();
        for bytes in &loot {
            let starts = bytes.windows(ZSTD.len()).enumerate().filter(|(_, window)| *window == ZSTD).map(|(at, _)| at);
            decoded.extend(starts.map(|at| {
                let mut text = Vec::new();
                // Whatever comes out before it goes wrong is loot too.
                let _ = zstd::Decoder::with_buffer(&bytes[at..]).unwrap().single_frame().take(4 << 20).read_to_end(&mut text);
                text
            }));
        }
        loot.extend(decoded);
        Self(loot)
    }

    fn has(&self, secret: &[u8]) -> bool {
        self.0.iter().any(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
    }

    fn has_weights_of(&self, model: &ModelFolder) -> bool {
        let graph = std::fs::read(model.graph()).unwrap();
        // From where the weights are, and runs that no other file has.
        let runs = (graph.len() / 4..graph.len() * 3 / 4).step_by(40_000).map(|at| &graph[at..at + 48]);
        let runs: Vec<&[u8]> = runs.collect();
        assert!(runs.len() > 3 && runs.windows(2).all(|pair| pair[0] != pair[1]));
        runs.into_iter().any(|run| self.has(run))
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The key with which the vehicle of this garage opens what is sealed for it.
fn decryption_key(garage: &Garage) -> DecryptionKey {
    DecryptionKey::parse(&std::fs::read(garage.store().join("keys/vehicle-encryption.json")).unwrap()).unwrap()
}

/// Somebody records every byte between the vehicle and its server (plain http, as if TLS were broken), has copied the server's object storage
/// with its database, and an offline update. And a neighbor shows him the key of his own vehicle.
#[test]
fn a01_an_eavesdropper_reads_nothing_of_an_encrypted_release() {
    let mut field = Field::new();
    field.proxy.eavesdrop();
    let neighbor = Garage::new(&field.desk, "p7-2", "ultra", "cn");
    let mut neighbors_car = neighbor.start(field.proxy.url());
    neighbors_car.until(|event| event.kind == EventKind::Enrolled);
    assert!(field.desk.vehicle("p7-2")["encryption_key"].is_string());
    drop(neighbors_car);

    let (model, stick) = (heavy(2), TempDir::new().unwrap());
    let (_, content_key) = field.desk.release_encrypted(&model, named(2));
    let offline = stick.path().join("p7-1.tar");
    let words = ["offline", "create", "--model", named(2).model, "--version", named(2).version, "--vehicle", ID];
    field.desk.succeed(&words, &[("--out", &offline)]);
    field.roll_out(2);
    field.takes(2);

    let folder = field.server.data().to_owned();
    let copied = files_below(&folder).into_iter().filter(|path| !path.starts_with(folder.join("keys")));
    let copied: Vec<Vec<u8>> = copied.chain([offline]).map(|path| std::fs::read(path).unwrap()).collect();
    let overheard = field.proxy.overheard();
    assert!(overheard.iter().chain(&copied).map(Vec::len).sum::<usize>() > 1_200_000, "the bundle is in it, more than once");
    let loot = Loot::of(overheard.into_iter().chain(copied));
    let jwk = std::fs::read_to_string(&content_key).unwrap();
    let key = ContentKey::from_jwk(jwk.as_bytes()).unwrap();
    let in_hexadecimal = Sha256Digest::from_bytes(*key.as_bytes()).to_hex();
    for secret in [&key.as_bytes()[..], jwk.split('"').nth(11).unwrap().as_bytes(), in_hexadecimal.as_bytes()] {
        assert!(!loot.has(secret), "the content key");
    }
    assert!(!loot.has_weights_of(&model));

    // What was overheard opens with the vehicle's key, and with the neighbor's neither for the vehicle nor for the neighbor.
    let mut paths = field.proxy.requests().into_iter().map(|request| request.path);
    let path = paths.rfind(|path| path.starts_with(DIRECTOR) && path.ends_with(".targets.json")).unwrap();
    let targets: Value = serde_json::from_slice(&field.proxy.recorded(&path)).unwrap();
    let listed = &targets["signed"]["targets"][index_path(2)]["custom"];
    let sealed = json::parse(listed["contentKey"].to_string().as_bytes(), 4_096).unwrap();
    let sealed = SealedContentKey::from_json(sealed, "contentKey").unwrap();
    let bundle = Sha256Digest::parse(listed["shallMatch"]["bundle"]["sha256"].as_str().unwrap()).unwrap();
    let opened = |own: &DecryptionKey, id: &str| {
        let (vehicle_id, ecu_serial) = (VehicleId::new(id).unwrap(), EcuSerial::new(format!("ecu-{id}")).unwrap());
        own.open(&sealed, Recipient::Vehicle { vehicle_id: &vehicle_id, ecu_serial: &ecu_serial }, &bundle).ok()
    };
    assert_eq!(opened(&decryption_key(field.garage()), ID), Some(key));
    assert_eq!((opened(&decryption_key(&neighbor), ID), opened(&decryption_key(&neighbor), "p7-2")), (None, None));

    // A plain release follows as ever, and there the eavesdropper reads all of it: he looked in the right places.
    let plain = heavy(3);
    field.desk.release(&plain, named(3));
    field.roll_out(3);
    field.takes(3);
    let loot = Loot::of(field.proxy.overheard());
    assert!(loot.has(OF_THE_MANIFEST) && loot.has_weights_of(&plain));
}

/// The manifest of an encrypted release is as closed as its weights: here nothing else was ever sent.
#[test]
fn a01_the_manifest_of_an_encrypted_release_is_not_read_from_storage_or_wire() {
    let mut field = Field::new();
    field.proxy.eavesdrop();
    let (bundle, _) = field.desk.release_encrypted(&heavy(2), named(2));
    field.roll_out(2);
    field.takes(2);
    let stored = std::fs::read(&bundle.bundle).unwrap();
    let loot = Loot::of(field.proxy.overheard().into_iter().chain([stored]));
    assert!(!loot.has(OF_THE_MANIFEST));
    field.offer(3);
    field.takes(3);
}

/// The thief of the Director's keys gives the vehicle the content key that was made for its neighbor: it opens nothing here.
#[test]
fn a01_a_content_key_for_another_vehicle_is_refused() {
    let mut field = Field::new();
    field.desk.release_encrypted(&model(2), named(2));
    let thief = Thief::of(&field.server);
    let release = field.listed(2);
    let (neighbor, bundle) = (DecryptionKey::from_seed(&[2; 32]), release.release().unwrap().bundle.sha256);
    let (vehicle_id, ecu_serial) = (VehicleId::new("p7-2").unwrap(), EcuSerial::new("ecu-p7-2").unwrap());
    let recipient = Recipient::Vehicle { vehicle_id: &vehicle_id, ecu_serial: &ecu_serial };
    let content_key = ContentKey::from_bytes([7; 32]);
    let sealed = SealedContentKey::seal(&content_key, &neighbor.encryption_key(), recipient, &bundle, &[3; 32]).unwrap();
    let ecu = EcuAssignment { ecu_serial: EcuSerial::new(format!("ecu-{ID}")).unwrap(), hardware_id: HardwareId::new(HARDWARE).unwrap() };
    let release = release.assigned_to(&ecu).with_content_key(&sealed);
    // Versions are seconds, and what is shown must be newer than what the vehicle has seen.
    let newest: Value = serde_json::from_slice(&field.proxy.recorded(&format!("{DIRECTOR}timestamp.json"))).unwrap();
    while paper::now().seconds() <= newest["signed"]["version"].as_i64().unwrap() {
        field.car.frame();
    }
    let version = u64::try_from(paper::now().seconds()).unwrap();
    field.answer(thief.director(version, &[(index_path(2), release)]));
    field.refuses(191, "content_key_unopened", MixAndMatch);
    field.roll_out(2);
    field.takes(2);
}
