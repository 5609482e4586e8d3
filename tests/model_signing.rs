//! OpenSSF Model Signing with others: what we sign the Python package `model-signing` accepts, and what it signs we accept.

use std::{fs, path::Path, process::Command};

use switchback_tests::{
    desk::{Named, pack},
    model::Straight,
    programs::{fail, program, succeed},
};
use tempfile::TempDir;

use crate::python::MODEL_SIGNING;

const RELEASE: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };

fn switchback(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(program("switchback"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

/// A folder with a model and a P-256 key, its public half in PEM.
fn desk() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("model/weights")).unwrap();
    // Two orders of these are possible, by path and by parts of the path; OMS means the second.
    for (name, content) in [("weights/a.bin", "1"), ("weights-old", "2"), ("weights.txt", "3"), (".gitignore", "*"), ("b c/ü", "4")] {
        let path = folder.path().join("model").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    succeed(&mut switchback(folder.path(), "key new --unencrypted --scheme ecdsa-sha2-nistp256 dora"));
    succeed(&mut switchback(folder.path(), "key export-public --key dora.pem --format pem --out dora.pub"));
    folder
}

/// What the reference says about a signature.
fn verdict(folder: &Path, model: &str, signature: &str) -> (bool, String) {
    let words = ["verify", "key", model, "--signature", signature, "--public_key", "dora.pub"];
    let output = MODEL_SIGNING.module("model_signing", &words, folder);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

#[test]
fn what_we_sign_the_reference_implementation_accepts() {
    if !MODEL_SIGNING.are_installed() {
        return;
    }
    let desk = desk();
    let folder = desk.path();
    succeed(&mut switchback(folder, "sign --oms model/model.sig --key dora.pem model"));
    assert_eq!(verdict(folder, "model", "model/model.sig"), (true, "Verification succeeded\n".to_owned()));
    fs::write(folder.join("model/weights.txt"), "other").unwrap();
    let (accepted, said) = verdict(folder, "model", "model/model.sig");
    assert!(!accepted && said.contains("weights.txt"), "{said}");

    // A bundle is signed as what it unpacks to.
    let bundle = pack(&Straight::new(0.001).write(), RELEASE, folder).bundle;
    let mut sign = switchback(folder, "sign --oms release.sig --key dora.pem");
    succeed(sign.arg(&bundle));
    fs::create_dir(folder.join("unpacked")).unwrap();
    succeed(Command::new("sh").args(["-c", "zstd -dc \"$0\" | tar x -C unpacked"]).arg(&bundle).current_dir(folder));
    assert_eq!(verdict(folder, "unpacked", "release.sig"), (true, "Verification succeeded\n".to_owned()));
}

#[test]
fn what_the_reference_implementation_signs_we_accept() {
    if !MODEL_SIGNING.are_installed() {
        return;
    }
    let desk = desk();
    let folder = desk.path();
    let words = ["sign", "key", "model", "--private_key", "dora.pem", "--signature", "model/model.sig"];
    let output = MODEL_SIGNING.module("model_signing", &words, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verify = "verify --oms model/model.sig --public-key dora.pub.json model";
    let printed = succeed(&mut switchback(folder, verify));
    assert!(printed.contains("model, 4 files"), "{printed}");
    fs::write(folder.join("model/b c/ü"), "other").unwrap();
    let error = fail(&mut switchback(folder, verify));
    assert!(error.contains("b c/ü has SHA-256"), "{error}");
}
