//! From a model to a bundle, and back.

use std::{fs, io::Read};

use serde_json::json;

use super::desk::{BUNDLE, Desk, PACK, contract, files_below, model};

#[test]
fn a_packed_model_is_an_ordinary_archive() {
    let desk = Desk::new();
    desk.model();
    desk.write("weights/big.bin", vec![7; 3 << 20]);
    desk.write("moved/model.onnx", model(false));
    desk.write("moved/weights.bin", vec![7; 2_500_000]);
    let packed = desk.ask(
        &format!("{PACK} --version 1.0.0 --release-counter 1")
            .replace("--model model.onnx", "--model moved/model.onnx --data moved/weights.bin"),
    );
    assert_eq!(packed["self_test_cases"], 4);
    assert_eq!(files_below(&desk.path("dist")), ["ultra/tiny-1.0.0.index", "ultra/tiny-1.0.0.tar.zst"]);

    let bundle = fs::File::open(desk.path(BUNDLE)).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(bundle).unwrap());
    let mut members = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        members.push((name, content));
    }
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "manifest.json",
        "model.onnx",
        "weights.bin",
        "selftest/inputs.safetensors",
        "selftest/outputs.safetensors",
        "notes/en.md",
        "ml-bom.cdx.json",
    ];
    assert_eq!(names, expected);
    assert!(members[1].1 == model(false));
    assert!(members[2].1 == vec![7; 2_500_000]);
    assert_eq!(members[5].1, b"# Smoother in bends\n");
    let bom: serde_json::Value = serde_json::from_slice(&members[6].1).unwrap();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    assert_eq!(bom["metadata"]["component"]["type"], "machine-learning-model");
    assert_eq!(bom["components"][0]["name"], "model.onnx");
}

#[test]
fn packing_twice_makes_the_same_bytes() {
    let desk = Desk::new();
    desk.pack("1.0.0", 1);
    fs::rename(desk.path("dist"), desk.path("first")).unwrap();
    desk.pack("1.0.0", 1);
    for file in ["ultra/tiny-1.0.0.index", "ultra/tiny-1.0.0.tar.zst"] {
        assert!(desk.read(&format!("first/{file}")) == desk.read(&format!("dist/{file}")), "{file}");
    }
}

#[test]
fn the_recorded_outputs_are_what_the_model_answers() {
    let desk = Desk::new();
    desk.model();
    // Two cases; the state is carried from the first to the second.
    let header = json!({
        "0/ego": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "1/ego": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
    });
    let mut header = header.to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut recorded = (header.len() as u64).to_le_bytes().to_vec();
    recorded.extend_from_slice(header.as_bytes());
    [1.0_f32, 2.0, 10.0, 20.0].iter().for_each(|value| recorded.extend_from_slice(&value.to_le_bytes()));
    desk.write("recorded.safetensors", recorded);
    let packed = desk.ask(&format!("{PACK} --version 1.0.0 --release-counter 1 --self-test-inputs recorded.safetensors"));
    assert_eq!(packed["self_test_cases"], 2);

    let bundle = fs::File::open(desk.path(BUNDLE)).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(bundle).unwrap());
    let mut outputs = Vec::new();
    let entry = archive.entries().unwrap().map(Result::unwrap).find(|entry| entry.path().unwrap().ends_with("outputs.safetensors"));
    entry.unwrap().read_to_end(&mut outputs).unwrap();
    let outputs = safetensors::SafeTensors::deserialize(&outputs).unwrap();
    let control = |case: &str| {
        let tensor = outputs.tensor(&format!("{case}/control")).unwrap();
        tensor.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(control("0"), [1.0, 2.0]);
    assert_eq!(control("1"), [11.0, 22.0]);
    assert!(outputs.tensor("0/state_out").is_err(), "state is carried, not compared");
}

#[test]
fn recorded_inputs_that_do_not_fit_are_refused() {
    let desk = Desk::new();
    desk.model();
    let check = |name: &str, shape: &[usize], expected: &str| {
        let length = shape.iter().product::<usize>() * 4;
        let header = json!({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, length]}}).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + length, 0);
        desk.write("recorded.safetensors", bytes);
        let error = desk.refuse(&format!("{PACK} --version 1.0.0 --release-counter 1 --self-test-inputs recorded.safetensors"));
        assert!(error.contains(expected), "{error}");
    };
    check("ego", &[1, 2], "it has no case 0; tensors are named CASE/TENSOR, such as 0/ego");
    check("0/ego", &[1, 3], "\"0/ego\" is F32 [1, 3], the contract says f32 [1, 2]");
    check("0/state_in", &[1, 2], "the tensor \"0/ego\" is missing");
    assert!(!desk.path(BUNDLE).exists());
}

#[test]
fn a_model_that_does_not_match_its_contract_is_refused_with_every_difference() {
    let desk = Desk::new();
    desk.model();
    let mut wrong = contract();
    wrong["inputs"][0]["shape"] = json!([1, 3]);
    wrong["inputs"][0]["source"]["ego"]["fields"] = json!(["speed_mps", "yaw_rate_radps", "steering_rad"]);
    wrong["outputs"][1]["tensor"] = json!("steering");
    desk.write("contract.json", wrong.to_string());
    let error = desk.refuse(&format!("{PACK} --version 1.0.0 --release-counter 1"));
    for line in [
        "model and contract do not match",
        "  input `ego`: the contract says f32 [1, 3], the graph has f32 [1, 2]",
        "  the contract's output `steering` is not in the graph, which has: trajectory, control, state_out",
    ] {
        assert!(error.lines().any(|found| found.ends_with(line)), "{line}\n{error}");
    }
    let mut silent = contract();
    silent["recurrent"] = json!([]);
    desk.write("contract.json", silent.to_string());
    let error = desk.refuse(&format!("{PACK} --version 1.0.0 --release-counter 1"));
    assert!(error.contains("the graph's input `state_in` (f32 [1, 2]) is not in the contract"), "{error}");
    assert!(!desk.path("dist/ultra").exists());
}

#[test]
fn a_model_with_an_answer_that_is_not_finite_is_refused() {
    let desk = Desk::new();
    desk.model();
    desk.write("model.onnx", model(true));
    let error = desk.refuse(&format!("{PACK} --version 1.0.0 --release-counter 1"));
    assert!(error.contains("output `control` is NaN at element 0 in self-test case 0"), "{error}");
    assert_eq!(files_below(&desk.path("dist")), Vec::<String>::new(), "nothing is left behind");
}

#[test]
fn what_pack_cannot_work_with_is_named() {
    let desk = Desk::new();
    desk.model();
    let pack = format!("{PACK} --version 1.0.0 --release-counter 1");
    desk.write("garbage.onnx", "not a model");
    let error = desk.refuse(&pack.replace("model.onnx", "garbage.onnx"));
    assert!(error.contains("cannot run garbage.onnx"), "{error}");
    let error = desk.refuse(&pack.replace("model.onnx", "missing.onnx"));
    assert!(error.contains("cannot open missing.onnx"), "{error}");
    let error = desk.refuse(&pack.replace("drive-a", "Drive_A!"));
    assert!(error.contains("release.hardware_ids[0] is \"Drive_A!\""), "{error}");
    let error = desk.refuse(&format!("{pack} --runtime /nowhere/libonnxruntime.so"));
    assert!(error.contains("/nowhere/libonnxruntime.so"), "{error}");
    let mut future = contract();
    future["contract_version"] = json!(2);
    desk.write("future.json", future.to_string());
    let error = desk.refuse(&pack.replace("contract.json", "future.json"));
    assert!(error.contains("future.json: contract version 2 is unknown, this release reads 1"), "{error}");
    let mut modern = contract();
    modern["runtime"]["onnxruntime_min"] = json!("99.0");
    desk.write("modern.json", modern.to_string());
    let error = desk.refuse(&pack.replace("contract.json", "modern.json"));
    assert!(error.contains("the contract asks for 99.0"), "{error}");
    desk.succeed(&pack);
    let error = desk.refuse(&pack);
    assert!(error.contains("dist/ultra/tiny-1.0.0.index exists"), "{error}");
}

#[test]
fn inspect_shows_what_is_in_a_bundle() {
    let desk = Desk::new();
    desk.pack("1.0.0", 7);
    let text = desk.succeed(&format!("inspect --chunks {BUNDLE}"));
    for part in
        ["tiny 1.0.0 (counter 7)", "tier ultra, hardware drive-a", "selftest/inputs.safetensors", "trajectory", "[1, 2, 2]", "CHUNK"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = desk.ask(&format!("inspect {BUNDLE}"));
    assert_eq!(json["manifest"]["release"]["release_counter"], 7);
    assert_eq!(json["bundle_bytes"], desk.read(BUNDLE).len());
}

#[test]
fn a_tampered_or_truncated_bundle_is_refused() {
    let desk = Desk::new();
    desk.pack("1.0.0", 1);
    desk.succeed(&format!("verify {BUNDLE}"));
    let good = desk.read(BUNDLE);

    let mut tampered = good.clone();
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    desk.write(BUNDLE, &tampered);
    let error = desk.refuse(&format!("verify {BUNDLE}"));
    assert!(error.contains("has SHA-256") && error.contains("the index says"), "{error}");
    assert!(error.contains("hint: the bundle was changed or damaged"), "{error}");

    desk.write(BUNDLE, &good[..good.len() - 1]);
    let error = desk.refuse(&format!("verify {BUNDLE}"));
    assert!(error.contains(&format!("has {} bytes, its index says {}", good.len() - 1, good.len())), "{error}");

    desk.write(BUNDLE, &good);
    let index = "dist/ultra/tiny-1.0.0.index";
    let mut changed = desk.read(index);
    // A byte of the hash of the whole bundle: nothing that a chunk depends on.
    changed[40] ^= 1;
    desk.write(index, changed);
    assert!(desk.refuse(&format!("verify {BUNDLE}")).contains("its index says"));
    fs::remove_file(desk.path(index)).unwrap();
    let error = desk.refuse(&format!("verify {BUNDLE}"));
    assert!(error.contains("cannot open") && error.contains("name another with --index"), "{error}");
}
