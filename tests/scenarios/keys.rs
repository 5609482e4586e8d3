//! Keys of people: other kinds than Ed25519, and files that others read.

use std::{fs, process::Command};

use serde_json::Value;
use switchback_signing::{digest::Sha256Digest, metadata::vehicle::UpdateState};
use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    programs::{program, succeed},
    server::Server,
    workspace,
};
use tempfile::TempDir;

use crate::python::TUF;

const RELEASE: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };

#[test]
fn a_release_signed_with_p256_keys_drives_a_car_and_the_reference_implementation_accepts_it() {
    let server = Server::start();
    let desk = Desk::open_with(&server, &["--scheme", "ecdsa-sha2-nistp256"]);
    desk.release(&Straight::new(0.001).write(), RELEASE);
    desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(server.url());
    car.until_update(UpdateState::Confirmed);

    let root: Value = serde_json::from_slice(&fs::read(desk.image_root()).unwrap()).unwrap();
    let id = root["signed"]["roles"]["targets"]["keyids"][0].as_str().unwrap();
    assert_eq!(root["signed"]["keys"][id]["scheme"], "ecdsa-sha2-nistp256");
    if !TUF.are_installed() {
        return;
    }
    let received = garage.store().join("metadata-image");
    fs::copy(desk.image_root(), received.join("1.root.json")).unwrap();
    let printed = TUF.run("accept_metadata.py", &[&received]);
    assert!(printed.contains("vla-ultra version 1, signed by its threshold"), "{printed}");
}

#[test]
fn an_encrypted_key_is_read_by_python() {
    if !TUF.are_installed() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, "correct horse battery\n").unwrap();
    for scheme in ["ed25519", "ecdsa-sha2-nistp256"] {
        let mut new = Command::new(program("switchback"));
        new.args(["key", "new", "--json", "--scheme", scheme, scheme, "--passphrase-file"]).arg(&passphrase);
        let made: Value = serde_json::from_str(&succeed(new.current_dir(folder.path()))).unwrap();
        let read = TUF.run("read_key.py", &[&folder.path().join(format!("{scheme}.pem")), &passphrase]);
        assert_eq!(read.trim(), made["key_id"].as_str().unwrap());
    }
}

#[test]
fn an_encrypted_bundle_is_read_by_python_with_its_key() {
    if !TUF.are_installed() {
        return;
    }
    let golden = |name: &str| workspace().join("tests/golden/v1").join(name);
    let [index, bundle, key] = ["encrypted.index", "encrypted.tar.zst", "encrypted.content-key.jwk"].map(golden);
    let decrypted = TUF.run("read_bundle.py", &[&index, &bundle, &key]);
    assert_eq!(decrypted.trim(), Sha256Digest::of(&fs::read(golden("plain.tar.zst")).unwrap()).to_hex());
}
