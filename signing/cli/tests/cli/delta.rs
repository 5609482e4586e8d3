//! Deltas of bundles and of bare folders.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use switchback_onnx::{ElementType::F32, model_builder::ModelBuilder};

use super::desk::{BUNDLE, Desk, PACK, files_below, heavy_model};

/// Weights of one seed, near zero, and the same after some training.
fn weights(seed: u32, count: u32, trained: bool) -> Vec<f32> {
    let noise = |at: u32| (at.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) >> 8;
    let weight = |at: u32| (noise(at) as f32 / 16_777_216.0 - 0.5) / 10.0;
    (0..count).map(|at| if trained { f32::from_bits(weight(at).to_bits() ^ (noise(at + 7) & 0x3f)) } else { weight(at) }).collect()
}

/// Two layers and what makes a graph of them; their names and order change where a graph is exported anew.
fn graph(trained: bool, exported_anew: bool) -> Vec<u8> {
    let layers = [("first", weights(1, 30_000, trained)), ("second", weights(2, 30_000, trained)), ("bias", weights(3, 700, trained))];
    let mut builder = ModelBuilder::new().input("in", F32, &[1]).output("out", F32, &[1]).node("Identity", &["in"], &["out"]);
    let renamed = |name: &str| if exported_anew { format!("onnx::MatMul_{}", name.len() * 17) } else { name.to_owned() };
    let mut order: Vec<_> = layers.iter().collect();
    if exported_anew {
        order.reverse();
    }
    for (name, values) in order {
        builder = builder.f32s(&renamed(name), &[values.len()], values);
    }
    builder.build()
}

/// A safetensors file of one bfloat16 tensor, one byte longer in its head than it need be.
fn safetensors(trained: bool) -> Vec<u8> {
    let moved = |at: u32| if trained { (at % 5) as u16 } else { 0 };
    let bfloat16 = |(at, value): (u32, f32)| ((value.to_bits() >> 16) as u16 ^ moved(at)).to_le_bytes();
    let values: Vec<u8> = (0..).zip(weights(9, 40_000, false)).flat_map(bfloat16).collect();
    let head =
        format!(r#"{{"__metadata__":{{"format":"pt"}},"w":{{"dtype":"BF16","shape":[40000],"data_offsets":[0,{}]}}}} "#, values.len());
    [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &values].concat()
}

fn folder(desk: &Desk, name: &str, trained: bool, exported_anew: bool) {
    desk.write(&format!("{name}/graph/model.onnx"), graph(trained, exported_anew));
    desk.write(&format!("{name}/model.safetensors"), safetensors(trained));
    desk.write(&format!("{name}/Tokenizer.json"), "{}".repeat(5_000));
    desk.write(&format!("{name}/empty"), "");
    desk.write(&format!("{name}/readme.txt"), if trained { "trained further" } else { "trained" });
}

fn contents(desk: &Desk, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let path = desk.path(folder);
    files_below(&path).into_iter().map(|name| (name.clone(), fs::read(path.join(name)).unwrap())).collect()
}

fn kind(made: &Value, name: &str) -> u64 {
    made["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == name).map_or(0, |kind| kind["restored_bytes"].as_u64().unwrap())
}

#[test]
fn a_folder_is_restored_from_its_delta_and_the_folder_before() {
    let desk = Desk::new();
    folder(&desk, "monday", false, false);
    for (name, exported_anew) in [("tuesday", false), ("anew", true)] {
        folder(&desk, name, true, exported_anew);
        let made = desk.ask(&format!("delta create --base monday --new {name} --out {name}-delta"));
        assert_eq!(
            (made["tensors"].as_u64(), made["matched"].as_u64(), made["warnings"].as_array().map(Vec::len)),
            (Some(4), Some(4), Some(0))
        );
        let delta_bytes = made["delta_bytes"].as_u64().unwrap();
        let on_disk = ["delta.index", "delta.data"].map(|file| desk.read(&format!("{name}-delta/{file}")).len() as u64);
        assert_eq!(delta_bytes, on_disk.iter().sum::<u64>());
        assert!(made["percent_of_content"].as_f64().unwrap() < 40.0, "{made}");
        assert_eq!(kind(&made, "delta_rans"), 2 * 120_000 + 80_000);
        assert!(kind(&made, "copy") >= 10_000);
        let applied = desk.ask(&format!("delta apply --base monday --delta {name}-delta --out {name}-restored"));
        assert_eq!(applied["files"], 5);
        assert_eq!(contents(&desk, &format!("{name}-restored")), contents(&desk, name));
    }
    // The folder before is needed as it was.
    desk.write("monday/readme.txt", "trained.");
    let refused = desk.refuse("delta apply --base monday --delta tuesday-delta --out again");
    assert!(refused.contains("the delta starts from release 0") && refused.contains("--base"), "{refused}");
    assert!(!desk.path("again").exists());
}

#[test]
fn the_cost_is_shown_without_leaving_anything() {
    let desk = Desk::new();
    folder(&desk, "monday", false, false);
    folder(&desk, "tuesday", true, false);
    let before = files_below(&desk.path(""));
    let text = desk.succeed("delta monday tuesday");
    assert!(text.contains("% of the full download") && text.contains("delta_rans") && text.contains("4 of 4"), "{text}");
    let same = desk.ask("delta monday monday");
    assert!(same["percent_of_full"].as_f64().unwrap() < 1.0, "{same}");
    assert_eq!(files_below(&desk.path("")), before);
    assert!(desk.refuse("delta").contains("two releases make a delta"));
}

#[test]
fn a_delta_that_saves_nothing_is_not_made() {
    let desk = Desk::new();
    let noise =
        |seed| weights(seed, 50_000, false).iter().flat_map(|value| value.to_bits().wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let (one, other): (Vec<u8>, Vec<u8>) = (noise(4), noise(5));
    desk.write("one/weights.bin", &one);
    desk.write("other/weights.bin", &other);
    let refused = desk.refuse("delta create --base one --new other --out delta");
    assert!(refused.contains("% of the full download: more than 85 % is not worth a delta, and none was made"), "{refused}");
    assert!(files_below(&desk.path("delta")).is_empty());
}

const NEXT: &str = "dist/ultra/tiny-1.0.1.tar.zst";

/// A desk with a bundle of a model with weights, and those of the next release.
fn heavy() -> Desk {
    let desk = Desk::new();
    desk.model();
    desk.write("model.onnx", heavy_model(&weights(1, 50_000, false)));
    desk.pack("1.0.0", 1);
    desk.write("model.onnx", heavy_model(&weights(1, 50_000, true)));
    desk
}

#[test]
fn packing_shows_what_vehicles_will_download_and_keeps_to_a_budget() {
    let desk = heavy();
    let pack = format!("{PACK} --version 1.0.1 --release-counter 2");
    let refused = desk.refuse(&format!("{pack} --encrypt --delta-max-percent 10"));
    assert!(refused.contains("from 1.0.0 (counter 1)") && refused.contains("the budget is 10 %"), "{refused}");
    let left = ["ultra/tiny-1.0.0.index", "ultra/tiny-1.0.0.tar.zst"];
    assert_eq!(files_below(&desk.path("dist")), left, "nothing of it is left, nor its key");
    let packed = desk.ask(&format!("{pack} --delta-max-percent 80"));
    let update = &packed["updates"][0];
    assert_eq!((&update["version"], &update["release_counter"]), (&"1.0.0".into(), &1.into()));
    let percent = update["percent_of_full"].as_f64().unwrap();
    assert!((10.0..80.0).contains(&percent), "{update}");
    assert_eq!(packed["warnings"].as_array().map(Vec::len), Some(0));
    // The older ones beside it, the newest first; or those that are named.
    let text = desk.succeed(&format!("{PACK} --version 1.0.2 --release-counter 3"));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("update")).collect();
    assert!(lines.len() == 2 && lines[0].contains("from 1.0.1") && lines[1].contains("from 1.0.0"), "{text}");
    let packed = desk.ask(&format!("{PACK} --version 1.0.3 --release-counter 4 --base-bundle {BUNDLE}"));
    assert_eq!(packed["updates"].as_array().unwrap().len(), 1);
    let refused = desk.refuse(&format!("{PACK} --version 0.9.9 --release-counter 1 --base-bundle {BUNDLE}"));
    assert!(refused.contains("has release counter 1, the new release 1"), "{refused}");
}

#[test]
fn a_bundle_with_tensors_in_planes_is_smaller_and_the_same() {
    let desk = heavy();
    desk.write("model.onnx", heavy_model(&weights(1, 50_000, false)));
    let packed = desk.ask(&format!("{PACK} --version 1.0.1 --release-counter 2 --planes"));
    assert!(packed["bundle_bytes"].as_u64().unwrap() * 100 < 97 * desk.read(BUNDLE).len() as u64, "{packed}");
    desk.succeed(&format!("verify {NEXT}"));
    desk.succeed(&format!("delta create --base {BUNDLE} --new {NEXT} --out delta"));
    desk.succeed(&format!("delta apply --base {BUNDLE} --delta delta --full {NEXT} --out restored"));
    assert_eq!(desk.read("restored/model.onnx"), desk.read("model.onnx"));
}

#[test]
fn a_bundle_is_restored_from_its_delta_and_the_bundle_before() {
    let desk = heavy();
    let next = NEXT;
    desk.pack("1.0.1", 2);
    let made = desk.ask(&format!("delta create --base {BUNDLE} --new {next} --out delta"));
    assert!(made["percent_of_full"].as_f64().unwrap() < 85.0, "{made}");
    // What the delta makes no smaller is taken from the full bundle.
    assert!(made["from_full_bytes"].as_u64().unwrap() > 0, "{made}");
    let refused = desk.refuse(&format!("delta apply --base {BUNDLE} --delta delta --out restored"));
    assert!(refused.contains("--full"), "{refused}");
    assert!(!desk.path("restored").exists());
    let other = desk.refuse(&format!("delta apply --base {BUNDLE} --delta delta --full {BUNDLE} --out restored"));
    assert!(other.contains("another bundle"), "{other}");
    desk.succeed(&format!("delta apply --base {BUNDLE} --delta delta --full {next} --out restored"));
    let mut archive = tar::Archive::new(zstd::Decoder::new(fs::File::open(desk.path(next)).unwrap()).unwrap());
    archive.unpack(desk.path("unpacked")).unwrap();
    assert_eq!(contents(&desk, "restored"), contents(&desk, "unpacked"));

    // One changed byte is refused before it is decoded.
    let mut data = desk.read("delta/delta.data");
    let at = data.len() / 2;
    data[at] ^= 1;
    desk.write("delta/delta.data", data);
    let refused = desk.refuse(&format!("delta apply --base {BUNDLE} --delta delta --full {next} --out damaged"));
    assert!(refused.contains("has SHA-256"), "{refused}");
}
