//! Contracts that are refused, each with its text.

use alloc::string::{String, ToString};

use serde_json::{Value, json};

use super::{super::Contract, CONTRACT};

/// The sample contract with the value at `pointer` replaced (`null` removes it).
fn changed(pointer: &str, value: Value) -> Value {
    let mut contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = contract.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} exists"));
    match (parent, value) {
        (Value::Object(object), Value::Null) => {
            object.remove(key).unwrap_or_else(|| panic!("{pointer} exists"));
        }
        (Value::Object(object), value) => {
            object.insert(key.into(), value);
        }
        (Value::Array(array), value) => array[key.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer} has a parent"),
    }
    contract
}

#[track_caller]
fn check(pointer: &str, value: Value, text: &str) {
    let bytes = serde_json::to_vec(&changed(pointer, value)).unwrap();
    assert_eq!(Contract::parse(&bytes).unwrap_err().to_string(), text);
}

#[test]
fn the_sample_contract_is_accepted() {
    let contract = Contract::parse(CONTRACT.as_bytes()).unwrap();
    assert_eq!(
        contract.input_tensors().map(|tensor| tensor.name).collect::<Vec<_>>(),
        ["camera", "ego", "route", "driver", "lidar", "state"]
    );
    assert_eq!(contract.output_tensors().last().unwrap().name, "state_next");
    assert_eq!(contract.input_tensors().next().unwrap().elements(), 6 * 64 * 96);
    assert_eq!((contract.tolerance("control"), contract.tolerance("intent")), (0.001, 0.01));
}

#[test]
fn tensors_are_checked() {
    check("/inputs", json!([]), "contract: inputs is 0, expected 1 to 64 entries");
    check("/inputs/1/tensor", json!("camera"), r#"contract: inputs[camera].tensor is "camera", expected a tensor that is listed once"#);
    check("/recurrent/0/input", json!("ego"), r#"contract: inputs[ego].tensor is "ego", expected a tensor that is listed once"#);
    check("/inputs/1/shape", json!([]), "contract: inputs[ego].shape is 0, expected 1 to 8 dimensions");
    check("/inputs/1/shape", json!([1, 0]), "contract: inputs[ego].shape is [1, 0], expected 1 to 268435456 elements");
    check(
        "/recurrent/0/shape",
        json!([65536, 65536, 65536, 65536, 65536]),
        "contract: inputs[state].shape is [65536, 65536, 65536, 65536, 65536], expected 1 to 268435456 elements",
    );
    check("/inputs/1/shape", json!([1, 4]), "contract: inputs[ego].shape is [1, 4], expected 3 in the last dimension and 1 before it");
    check("/inputs/1/dtype", json!("i64"), "contract: inputs[ego].dtype is i64, expected a floating-point type");
    check(
        "/inputs/1/source/ego/fields/1",
        json!("speed_mps"),
        "contract: inputs[ego].fields is SpeedMps twice, expected each at most once",
    );
}

#[test]
fn cameras_are_checked() {
    let camera = "/inputs/0/source/camera";
    check("/inputs/0/shape", json!([1, 3, 64, 96]), "contract: inputs[camera].shape is [1, 3, 64, 96], expected [1, 6, height, width]");
    check("/inputs/0/shape", json!([6, 64, 96]), "contract: inputs[camera].shape is [6, 64, 96], expected four dimensions for a camera");
    check("/inputs/0/dtype", json!("bf16"), "contract: inputs[camera].dtype is bf16, expected u8, f16 or f32 for a camera");
    check("/inputs/0/dtype", json!("u8"), "contract: inputs[camera].normalization is present, expected absent for an integer tensor");
    check(&format(camera, "history"), json!(0), "contract: inputs[camera].history is 0, expected 1 to 64");
    check(&format(camera, "camera_id"), json!(64), "contract: inputs[camera].camera_id is 64, expected at most 63");
    check(
        &format(camera, "normalization/mean"),
        json!([1.0]),
        "contract: inputs[camera].normalization is 1 and 3, expected 3 means and 3 standard deviations",
    );
    check(
        &format(camera, "normalization/std"),
        json!([1.0, 0.0, 1.0]),
        "contract: inputs[camera].normalization is [127.5, 127.5, 127.5] and [1.0, 0.0, 1.0], expected finite numbers, no standard deviation of zero",
    );
}

fn format(parent: &str, key: &str) -> String {
    alloc::format!("{parent}/{key}")
}

#[test]
fn signals_are_checked() {
    let signals = "/inputs/4/source/signals/signals";
    check(
        &format(signals, "0/name"),
        json!("front distance"),
        r#"contract: inputs[lidar].signals is "front distance", expected names of 1 to 64 of [A-Za-z0-9_.-]"#,
    );
    check(&format(signals, "0/name"), json!("rain"), r#"contract: inputs[lidar].signals is "rain" twice, expected each at most once"#);
    check(
        &format(signals, "1/default"),
        json!(1e300),
        "contract: inputs[lidar].signals[rain].default is Some(inf), expected a finite number",
    );
}

#[test]
fn outputs_are_checked() {
    let meaning = "/outputs/0/meaning/trajectory";
    check(&format(meaning, "step_s"), json!(0.0), "contract: outputs[trajectory].step_s is 0, expected a finite number above 0");
    check(
        &format(meaning, "fields"),
        json!(["y_m", "heading_rad", "speed_mps", "x_std_m"]),
        "contract: outputs[trajectory].fields is [YM, HeadingRad, SpeedMps, XStdM], expected `x_m` and `y_m` among them",
    );
    check(
        "/outputs/0/shape",
        json!([1, 20, 3]),
        "contract: outputs[trajectory].shape is [1, 20, 3], expected [1, points, 4] with at most 1024 points",
    );
    check("/outputs/1/shape", json!([2]), "contract: outputs[control].shape is [2], expected [1, 2]");
    check("/outputs/2/shape", json!([1, 2]), "contract: outputs[confidence].shape is [1, 2], expected [1, 1]");
    check("/outputs/3/meaning/intent/classes", json!(["yield"]), "contract: outputs[intent].shape is [1, 2], expected [1, 1]");
    check("/outputs/4/dtype", json!("f32"), "contract: outputs[tokens].dtype is f32, expected i32 or i64 for language");
    check("/outputs/4/meaning/language/vocabulary", json!([]), "contract: outputs[tokens].vocabulary is 0, expected 1 to 65536 words");
    check("/outputs/4/shape", json!([6]), "contract: outputs[tokens].shape is [6], expected [1, tokens]");
    check(
        "/outputs/2",
        json!({"tensor": "other", "dtype": "f32", "shape": [1, 2], "meaning": {"intent": {"classes": ["left", "right"]}}}),
        "contract: outputs is 2, expected at most one with the meaning `intent`",
    );
}

#[test]
fn a_platform_has_the_outputs_that_it_needs() {
    check("/envelope", Value::Null, "contract: envelope is absent, expected present for a road vehicle");
    check("/envelope/jerk_max_mps3", json!(-1.0), "contract: envelope.jerk_max_mps3 is -1, expected a finite number above 0");
    check(
        "/platform",
        json!("other"),
        "contract: outputs is another set, expected one actions output and no trajectory or control for this platform",
    );
    let robot = json!([{"tensor": "actions", "dtype": "f32", "shape": [1, 1],
        "meaning": {"actions": {"actions": [{"name": "gripper", "min": 0.0, "max": 1.0}]}}}]);
    check("/outputs", robot.clone(), "contract: confidence_min is 0.5, expected 0 for a model without a confidence output");

    let mut contract = changed("/outputs", robot);
    contract["confidence_min"] = json!(0.0);
    contract["acceptance"]["tolerance"] = json!({});
    let parse = |contract: &Value| Contract::parse(&serde_json::to_vec(contract).unwrap()).map_err(|error| error.to_string());
    assert_eq!(parse(&contract).unwrap_err(), "contract: outputs is neither, expected a trajectory or a control output for a road vehicle");
    contract["platform"] = json!("other");
    assert_eq!(parse(&contract).unwrap_err(), "contract: envelope is present, expected absent for a platform that is no road vehicle");
    contract.as_object_mut().unwrap().remove("envelope");
    assert!(parse(&contract).is_ok());
    contract["outputs"][0]["meaning"]["actions"]["actions"][0]["max"] = json!(0.0);
    assert_eq!(
        parse(&contract).unwrap_err(),
        "contract: outputs[actions].actions[gripper] is 0 and 0, expected finite limits, the smaller one first"
    );
}

#[test]
fn limits_and_versions_are_checked() {
    check("/features/0", json!("gesture_stop"), r#"contract: features is "gesture_stop" twice, expected each at most once"#);
    check("/memory_mib", json!(0), "contract: memory_mib is 0, expected 1 to 1048576");
    check("/deadline_ms", json!(10001), "contract: deadline_ms is 10001, expected 1 to 10000");
    check("/step_ms", json!(0), "contract: step_ms is 0, expected 1 to 10000");
    check("/confidence_min", json!(1.5), "contract: confidence_min is 1.5, expected 0 to 1");
    check(
        "/acceptance/tolerance/speed",
        json!(1.0),
        r#"contract: acceptance.tolerance[speed] is "speed", expected the name of an output tensor"#,
    );
    check(
        "/acceptance/default_tolerance",
        json!(-0.1),
        "contract: acceptance.default_tolerance is -0.1, expected a finite number of at least 0",
    );
    check("/acceptance/trial_frames", json!(1_000_001), "contract: acceptance.trial_frames is 1000001, expected 1 to 1000000");
    // A trial of no frames is never passed: the vehicle would wait in it for ever.
    check("/acceptance/trial_frames", json!(0), "contract: acceptance.trial_frames is 0, expected 1 to 1000000");
    check(
        "/runtime/onnxruntime_min",
        json!("one"),
        r#"contract: runtime.onnxruntime_min is "one", expected a version such as `1.23` or `1.23.2`"#,
    );
    check("/runtime/onnxruntime_below", json!("1.23.0"), "contract: runtime.onnxruntime_below is 1.23.0, expected a version above 1.23");
    check("/contract_version", json!(2), "contract version 2 is unknown, this release reads 1");
}

#[test]
fn an_unknown_version_is_named_even_when_its_fields_are_unknown_too() {
    let error = Contract::parse(br#"{"contract_version": 9, "thoughts": []}"#).unwrap_err();
    assert_eq!(error.to_string(), "contract version 9 is unknown, this release reads 1");
}

#[test]
fn a_tolerance_given_twice_is_refused() {
    let text = CONTRACT.replace(r#""control": 0.001"#, r#""control": 0.001, "control": 1000.0"#);
    let error = Contract::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("contract: duplicate key `control`"), "{error}");
}

#[test]
fn the_runtime_range_is_half_open() {
    let contract = changed("/runtime", json!({"onnxruntime_min": "1.23", "onnxruntime_below": "2.0"}));
    let runtime = Contract::parse(&serde_json::to_vec(&contract).unwrap()).unwrap().runtime;
    for (version, inside) in [("1.22.9", false), ("1.23.0", true), ("1.31.1", true), ("2.0.0", false), ("next", false), ("", false)] {
        assert_eq!(runtime.contains(version), inside, "{version}");
    }
}
