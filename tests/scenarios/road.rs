//! A release reaches a car, and another one after it.

use switchback_signing::metadata::vehicle::UpdateState;
use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    programs::{fail, is_installed, succeed},
    server::Server,
};

use crate::python::TUF;

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };

#[test]
fn a_release_travels_from_the_desk_into_a_driving_vehicle_and_the_next_one_takes_over_without_losing_a_frame() {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    let first = desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(server.url());
    assert!(!car.output.control_valid, "nothing drives before the first model is there");
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");

    desk.release(&Straight::new(0.002).write(), SECOND);
    let second = desk.roll_out("vla-2", "2.0.0");
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    assert_eq!((car.frames_lost, car.fell_back), (0, 0));
    assert_eq!(car.curvatures, [0.001, 0.002]);

    car.until_checked();
    for id in [first, second] {
        let rollout = desk.rollout(id);
        assert_eq!(rollout["state"], "running", "{rollout:#}");
    }
    let rollout = desk.rollout(second);
    assert_eq!(rollout["waves"][0]["confirmed"], 1, "{rollout:#}");
    drop(car);

    // The next ignition: the confirmed model answers the very first frame, with nobody to ask.
    drop(server);
    let car = garage.start("http://127.0.0.1:9");
    assert!(car.output.control_valid, "{:?} {:#?}", car.output.faults, car.status());
    assert_eq!(car.active().as_deref(), Some("vla-2 2.0.0"));
}

#[test]
fn anybody_can_list_a_bundle_with_zstd_and_tar() {
    if !is_installed("zstd") {
        return;
    }
    let server = Server::start();
    let desk = Desk::open(&server);
    let bundle = desk.pack(&Straight::new(0.001).write(), FIRST);
    let listed = succeed(std::process::Command::new("sh").arg("-c").arg("zstd -dc \"$0\" | tar t").arg(&bundle.bundle));
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        ["manifest.json", "model.onnx", "selftest/inputs.safetensors", "selftest/outputs.safetensors", "ml-bom.cdx.json"]
    );
}

#[test]
fn the_reference_implementation_of_tuf_accepts_every_metadata_file() {
    if !TUF.are_installed() {
        return;
    }
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(server.url());
    car.until_update(UpdateState::Confirmed);

    // What the vehicle holds is what it received, byte for byte; and it has received every kind of file.
    for (folder, root) in [("metadata-director", desk.director_root()), ("metadata-image", desk.image_root())] {
        let received = garage.store().join(folder);
        std::fs::copy(root, received.join("1.root.json")).unwrap();
        let printed = TUF.run("accept_metadata.py", &[&received]);
        for role in ["root", "timestamp", "snapshot", "targets"] {
            assert!(printed.contains(&format!("{role} version")), "{role} is missing in {folder}:\n{printed}");
        }
    }
    let delegated =
        std::fs::read_dir(garage.store().join("metadata-image")).unwrap().any(|entry| entry.unwrap().file_name() == "vla-ultra.json");
    assert!(delegated, "the vehicle has read the delegated role of its tier");
}

#[test]
fn pack_refuses_a_model_that_does_not_do_what_its_contract_says() {
    let server = Server::start();
    let desk = Desk::open(&server);
    let check = |model: Straight, expected: &[&str]| {
        let error = desk.pack_refused(&model.write(), FIRST);
        for words in expected {
            assert!(error.contains(words), "{words:?} is not in: {error}");
        }
    };
    let changed = |pointer, value| Straight { contract: vec![(pointer, value)], ..Straight::default() };
    check(changed("/outputs/1/shape", serde_json::json!([1, 3])), &["control", "[1, 3]", "[1, 2]"]);
    check(changed("/inputs/1/tensor", "speed".into()), &["speed"]);
    check(changed("/contract_version", 7.into()), &["contract", "7", "1"]);
    check(Straight { not_finite_from: Some(0), ..Straight::default() }, &["control", "finite"]);
}

#[test]
fn a_bundle_without_enough_signatures_is_not_published() {
    let server = Server::start();
    let desk = Desk::open(&server);
    let bundle = desk.pack(&Straight::new(0.001).write(), FIRST);
    desk.sign("alice", &bundle);
    let error = desk.fail(&["publish"], &[("--base", &desk.base())]);
    assert!(error.contains("1 of 2 signatures"), "{error}");
    desk.sign("bob", &bundle);
    desk.publish();
}

#[test]
fn an_altered_or_cut_bundle_is_told_apart_on_the_desk() {
    let server = Server::start();
    let desk = Desk::open(&server);
    let bundle = desk.pack(&Straight::new(0.001).write(), FIRST);
    let good = std::fs::read(&bundle.bundle).unwrap();
    desk.succeed(&["verify"], &[("", &bundle.bundle)]);
    let mut altered = good.clone();
    altered[good.len() / 2] ^= 1;
    for (bytes, words) in [(altered, "chunk"), (good[..good.len() - 1].to_vec(), "bytes")] {
        std::fs::write(&bundle.bundle, bytes).unwrap();
        let error = desk.fail(&["verify"], &[("", &bundle.bundle)]);
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
}

#[test]
fn a_missing_onnx_runtime_is_an_error_with_the_path_and_not_a_crash() {
    let server = Server::start();
    let desk = Desk::open(&server);
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut config = garage.config(server.url());
    config.engine.runtime_path = Some("/nowhere/libonnxruntime.so".into());
    let error = switchback_tests::car::Car::open(config, Default::default()).err().unwrap();
    assert!(story(&error).contains("/nowhere/libonnxruntime.so"), "{}", story(&error));

    let model = Straight::default().write();
    let error = fail(
        std::process::Command::new(switchback_tests::programs::program("switchback"))
            .args(["pack", "--name", "m", "--version", "1", "--tier", "ultra", "--release-counter", "1", "--hardware", "drive-a"])
            .args(["--runtime", "/nowhere/libonnxruntime.so", "--model"])
            .arg(model.graph())
            .arg("--contract")
            .arg(model.contract())
            .current_dir(model.path()),
    );
    assert!(error.contains("/nowhere/libonnxruntime.so"), "{error}");
}

fn story(error: &dyn std::error::Error) -> String {
    let rest = error.source().map(|source| format!(": {}", story(source))).unwrap_or_default();
    format!("{error}{rest}")
}
