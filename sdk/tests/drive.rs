//! What a model sees of frames and ego state, and what becomes of its answer.

use crate::common::{Files, Road, STEP_NS, Vehicle, echo};
use serde_json::{Value, json};
use switchback_onnx::ElementType::{self, Bf16, F16, F32, I32, I64, U8};
use switchback_sdk::drive::{
    CameraFrame, DriveInput, DriverState, EgoState, Faults, MinimalRisk, PixelFormat, Route, RouteCommand, Signal,
};
use switchback_sdk::drive::{TakeoverLevel, TakeoverReason};
use switchback_sdk::engine::{EngineEvent, Entry};

fn echoing(element: ElementType, shape: &[usize], source: Value) -> Vehicle {
    let (graph, contract) = echo(element, shape, source);
    let mut vehicle = Vehicle::new();
    vehicle.start(Files::write(&graph.build(), contract, 1, 1, Entry::Confirmed));
    vehicle
}

fn camera(layout: &str, color: &str) -> Value {
    json!({ "camera": { "camera_id": 0, "layout": layout, "color": color } })
}

fn with(mut source: Value, key: &str, value: Value) -> Value {
    source["camera"][key] = value;
    source
}

/// Two by two pixels: red 10, 20, 30, 40, green 100 more, blue 200 more (as far as a byte goes).
const PIXELS: [u8; 12] = [10, 110, 210, 20, 120, 220, 30, 130, 230, 40, 140, 240];

fn rgb<'a>(input: &DriveInput<'_>, data: &'a [u8], frame_id: u64) -> CameraFrame<'a> {
    CameraFrame {
        camera_id: 0,
        format: PixelFormat::Rgb8,
        width: 2,
        height: 2,
        stride_bytes: 6,
        frame_id,
        exposure_ns: input.time_ns - 10_000_000,
        data,
    }
}

/// One step with these frames; what the model saw, and the faults.
fn see(vehicle: &mut Vehicle, frames: &dyn Fn(&DriveInput<'_>) -> Vec<CameraFrame<'static>>) -> (Vec<f32>, Faults) {
    vehicle.sequence += 1;
    let base = vehicle.input();
    let frames = frames(&base);
    vehicle.driver.step(&DriveInput { cameras: &frames, ..base }, &mut vehicle.output);
    (vehicle.output.actions[..vehicle.output.actions_len as usize].to_vec(), vehicle.output.faults)
}

fn see_pixels(vehicle: &mut Vehicle) -> Vec<f32> {
    let (seen, faults) = see(vehicle, &|input| vec![rgb(input, &PIXELS, input.sequence)]);
    assert!(faults.is_empty(), "{faults:?}");
    seen
}

const NHWC: [f32; 12] = [10., 110., 210., 20., 120., 220., 30., 130., 230., 40., 140., 240.];
const NCHW: [f32; 12] = [10., 20., 30., 40., 110., 120., 130., 140., 210., 220., 230., 240.];

#[test]
fn pixels_arrive_in_the_layout_color_and_type_of_the_contract() {
    for element in [U8, F32, F16, Bf16] {
        assert_eq!(see_pixels(&mut echoing(element, &[1, 2, 2, 3], camera("nhwc", "rgb"))), NHWC, "{element}");
        assert_eq!(see_pixels(&mut echoing(element, &[1, 3, 2, 2], camera("nchw", "rgb"))), NCHW, "{element}");
    }
    let bgr = see_pixels(&mut echoing(U8, &[1, 3, 2, 2], camera("nchw", "bgr")));
    assert_eq!(bgr, [&NCHW[8..], &NCHW[4..8], &NCHW[..4]].concat());
    let gray = see_pixels(&mut echoing(U8, &[1, 1, 2, 2], camera("nchw", "gray")));
    // 0.2126 * 10 + 0.7152 * 110 + 0.0722 * 210 = 95.96
    assert_eq!(gray, [96.0, 106.0, 116.0, 126.0]);
}

#[test]
fn pixels_are_normalized_per_channel() {
    let source = with(camera("nhwc", "bgr"), "normalization", json!({ "mean": [200.0, 100.0, 10.0], "std": [10.0, 5.0, 2.0] }));
    let seen = see_pixels(&mut echoing(F32, &[1, 2, 2, 3], source));
    assert_eq!(seen[..6], [1.0, 2.0, 0.0, 2.0, 4.0, 5.0]);
}

#[test]
fn a_larger_camera_is_averaged_and_an_nv12_one_converted() {
    let mut vehicle = echoing(U8, &[1, 3, 1, 1], camera("nchw", "rgb"));
    assert_eq!(see_pixels(&mut vehicle), [25.0, 125.0, 225.0]);
    let gray = |input: &DriveInput<'_>| CameraFrame {
        format: PixelFormat::Nv12,
        stride_bytes: 2,
        ..rgb(input, &[126, 126, 126, 126, 128, 128], input.sequence)
    };
    let (seen, _) = see(&mut vehicle, &|input| vec![gray(input)]);
    assert_eq!(seen, [128.0, 128.0, 128.0]);
}

#[test]
fn history_holds_the_newest_frames_oldest_first_and_starts_full() {
    for (layout, shape) in [("nchw", [1, 9, 1, 1]), ("nhwc", [1, 1, 1, 9])] {
        let mut vehicle = echoing(U8, &shape, with(camera(layout, "rgb"), "history", json!(3)));
        let frame = |value: u8, frame_id| {
            move |input: &DriveInput<'_>| {
                let data: &'static [u8] = Box::leak(Box::new([value; 3]));
                vec![CameraFrame { width: 1, height: 1, stride_bytes: 3, ..rgb(input, data, frame_id) }]
            }
        };
        let check = |vehicle: &mut Vehicle, value, id, expected: [f32; 3], faults| {
            let (seen, found) = see(vehicle, &frame(value, id));
            assert_eq!((seen, found), (expected.iter().flat_map(|v| [*v; 3]).collect(), faults), "{layout}, frame {id}");
        };
        check(&mut vehicle, 1, 1, [1.0, 1.0, 1.0], Faults::NONE);
        check(&mut vehicle, 2, 2, [1.0, 1.0, 2.0], Faults::NONE);
        check(&mut vehicle, 3, 3, [1.0, 2.0, 3.0], Faults::NONE);
        // The camera hangs: the frame is not counted twice.
        check(&mut vehicle, 3, 3, [1.0, 2.0, 3.0], Faults::CAMERA_REPEATED);
        check(&mut vehicle, 4, 4, [2.0, 3.0, 4.0], Faults::NONE);
        // After a pause the old frames say nothing any more.
        vehicle.sequence += 20;
        check(&mut vehicle, 9, 25, [9.0, 9.0, 9.0], Faults::NONE);
    }
}

#[test]
fn a_camera_that_fails_is_told_by_its_fault_and_stops_the_answer_where_it_must() {
    let mut vehicle = echoing(U8, &[1, 3, 2, 2], camera("nchw", "rgb"));
    let mut check = |case: &str, change: &dyn Fn(&mut CameraFrame<'static>), fault: Faults, text: &str| {
        let (_, faults) = see(&mut vehicle, &|input| {
            let mut frame = rgb(input, &PIXELS, input.sequence);
            change(&mut frame);
            vec![frame]
        });
        assert_eq!((faults, vehicle.output.control_valid), (fault, fault.is_empty()), "{case}");
        assert_eq!(vehicle.driver.fault().map(ToString::to_string).unwrap_or_default(), text, "{case}");
    };
    let (missing, stale) = (Faults::CAMERA_MISSING, Faults::CAMERA_STALE);
    check("good", &|_| {}, Faults::NONE, "");
    check("another camera", &|frame| frame.camera_id = 7, missing, "camera 0, which the model needs, was not supplied");
    let short = "camera 0: its image needs 12 bytes by its height and stride, it has 11";
    check("short data", &|frame| frame.data = &PIXELS[..11], missing, short);
    let flat = "camera 0: its image of 0 x 2 pixels has a side that is not 1 to 16384";
    check("no pixels", &|frame| frame.width = 0, missing, flat);
    let narrow = "camera 0: its rows of 6 bytes do not fit into a stride of 5";
    check("narrow rows", &|frame| frame.stride_bytes = 5, missing, narrow);
    let old = "camera 0: its image is 151.0 ms old, -5 to 150 ms are allowed";
    check("old", &|frame| frame.exposure_ns -= 141_000_000, stale, old);
    let future = "camera 0: its image is -6.0 ms old, -5 to 150 ms are allowed";
    check("from the future", &|frame| frame.exposure_ns += 16_000_000, stale, future);
    check("good again", &|_| {}, Faults::NONE, "");
}

#[test]
fn cameras_that_are_apart_in_time_warn() {
    let source = |id: u32| json!({ "camera": { "camera_id": id, "layout": "nchw", "color": "gray" } });
    let graph = switchback_onnx::model_builder::ModelBuilder::new()
        .input("left", U8, &[1, 1, 1, 1])
        .input("right", U8, &[1, 1, 1, 1])
        .output("actions", F32, &[1, 2])
        .i64s("flat", &[2], &[1, 2])
        .node_with("Concat", &["left", "right"], &["both"], &[("axis", switchback_onnx::model_builder::Attribute::Int(1))])
        .node_with("Cast", &["both"], &["float"], &[("to", switchback_onnx::model_builder::Attribute::Int(1))])
        .node("Reshape", &["float", "flat"], &["actions"]);
    let (_, mut contract) = echo(U8, &[1, 1, 1, 2], source(0));
    contract.inputs = ["left", "right"]
        .iter()
        .zip(0..)
        .map(|(tensor, id)| {
            serde_json::from_value(json!({ "tensor": tensor, "dtype": "u8", "shape": [1, 1, 1, 1], "source": source(id) })).unwrap()
        })
        .collect();
    let mut vehicle = Vehicle::new();
    vehicle.start(Files::write(&graph.build(), contract, 1, 1, Entry::Confirmed));
    let both = |apart_ns: i64| {
        move |input: &DriveInput<'_>| {
            let left = CameraFrame { width: 1, height: 1, ..rgb(input, &PIXELS, input.sequence) };
            vec![left, CameraFrame { camera_id: 1, exposure_ns: left.exposure_ns - apart_ns, ..left }]
        }
    };
    assert_eq!(see(&mut vehicle, &both(5_000_000)).1, Faults::NONE);
    assert_eq!(see(&mut vehicle, &both(25_000_000)).1, Faults::CAMERA_SKEW);
    assert_eq!(vehicle.driver.fault().unwrap().to_string(), "cameras 1 and 0 were exposed 25.0 ms apart, 20 ms are allowed");
    assert_eq!((vehicle.output.takeover.level, vehicle.output.takeover.reason), (TakeoverLevel::Prepare, TakeoverReason::Input));
    assert_eq!(vehicle.output.exposure_ns, vehicle.input().time_ns - 35_000_000, "the older of the two");
}

#[test]
fn values_arrive_in_the_order_and_type_of_the_contract() {
    let check = |element, source: Value, expected: &[f32], change: fn(&mut DriveInput<'static>)| {
        let mut vehicle = echoing(element, &[1, expected.len()], source);
        let output = vehicle.step_with(change);
        assert_eq!(output.actions[..expected.len()], *expected, "{:?}", output.faults);
    };
    let ego =
        json!({ "ego": { "fields": ["steering_rad", "yaw_rate_radps", "lateral_acceleration_mps2", "acceleration_mps2", "speed_mps"] } });
    for element in [F32, F16, Bf16] {
        check(element, ego.clone(), &[0.5, -0.25, 1.0, -2.0, 20.0], |input| {
            input.ego = EgoState {
                speed_mps: 20.0,
                acceleration_mps2: -2.0,
                lateral_acceleration_mps2: 1.0,
                yaw_rate_radps: -0.25,
                steering_rad: 0.5,
                ..input.ego
            };
        });
    }
    let route = json!({ "route": { "fields": ["follow", "left", "right", "straight", "stop", "distance_m", "speed_limit_mps"] } });
    for element in [F32, I32, I64] {
        check(element, route.clone(), &[0., 0., 1., 0., 0., 120., 16.], |input| {
            input.route = Route { command: RouteCommand::Right, distance_m: 120.0, speed_limit_mps: 16.0 };
        });
    }
    let driver = json!({ "driver": { "fields": ["hands_on_wheel", "eyes_on_road", "attentive_probability"] } });
    check(F32, driver.clone(), &[1.0, 0.0, 0.75], |input| {
        input.driver =
            DriverState { hands_on_wheel: Some(true), eyes_on_road: Some(false), attentive_probability: Some(0.75), overrides: false };
    });
    check(F32, driver, &[0.0, 0.0, 0.0], |_| {});
    let signals = json!({ "signals": { "signals": [{ "name": "lidar" }, { "name": "rain", "default": 0.5 }] } });
    check(F32, signals, &[7.5, 0.5], |input| {
        input.signals = const { &[Signal { name: "unknown", value: 1.0 }, Signal { name: "lidar", value: 7.5 }] };
    });
}

#[test]
fn inputs_that_make_no_sense_stop_the_answer() {
    let mut vehicle = Vehicle::driving(&Road::default());
    let mut check = |case: &str, change: &dyn Fn(&mut DriveInput<'static>), fault: Faults, valid: bool| {
        let output = vehicle.step_with(change);
        assert_eq!((output.faults, output.control_valid), (fault, valid), "{case}");
        if !valid {
            assert_eq!(output.trajectory_points, 0, "{case}");
            assert_eq!(output.takeover.level, TakeoverLevel::Immediate, "{case}");
        }
    };
    check("good", &|_| {}, Faults::NONE, true);
    check("speed", &|input| input.ego.speed_mps = f32::NAN, Faults::EGO_INVALID, false);
    check("infinite", &|input| input.ego.yaw_rate_radps = f32::INFINITY, Faults::EGO_INVALID, false);
    check("implausible", &|input| input.ego.speed_mps = 500.0, Faults::EGO_INVALID, false);
    check("old", &|input| input.ego.time_ns -= 151_000_000, Faults::EGO_STALE, false);
    check("sequence", &|input| input.sequence -= 1, Faults::SEQUENCE, true);
    check("good again", &|_| {}, Faults::NONE, true);
    let needs_signal = Road { signal: Some("lidar"), ..Road::default() };
    let mut vehicle = Vehicle::driving(&needs_signal);
    assert_eq!(vehicle.step().faults, Faults::SIGNAL_MISSING);
    let mut route = echoing(F32, &[1, 1], json!({ "route": { "fields": ["distance_m"] } }));
    assert_eq!(route.step_with(|input| input.route.distance_m = f32::NAN).faults, Faults::ROUTE_INVALID);
}

#[test]
fn an_answer_outside_the_envelope_is_withheld() {
    // Legal alone, but 0.05 / m at 10 m/s is 5 m/s2 to the side.
    let mut vehicle = Vehicle::driving(&Road { control: [0.05, 0.0], ..Road::default() });
    let output = vehicle.step();
    assert_eq!((output.faults, output.control_valid), (Faults::ENVELOPE, false));
    assert_eq!((output.control.curvature_1pm, output.trajectory_points), (0.0, 0));
    assert_eq!((output.takeover.level, output.takeover.reason), (TakeoverLevel::Immediate, TakeoverReason::Model));
    assert!(vehicle.step_with(|input| input.ego.speed_mps = 5.0).control_valid, "at half the speed it is a quarter");
}

#[test]
fn a_named_action_outside_its_range_is_withheld() {
    let (graph, mut contract) = echo(F32, &[1, 1], json!({ "ego": { "fields": ["speed_mps"] } }));
    if let switchback_signing::bundle::contract::OutputMeaning::Actions { actions } = &mut contract.outputs[0].meaning {
        (actions[0].min, actions[0].max) = (-1.0, 12.0);
    }
    let mut vehicle = Vehicle::new();
    vehicle.start(Files::write(&graph.build(), contract, 1, 1, Entry::Confirmed));
    assert_eq!(vehicle.step().actions[..1], [10.0]);
    let output = vehicle.step_with(|input| input.ego.speed_mps = 13.0);
    assert_eq!((output.faults, output.control_valid, output.actions_len), (Faults::ENVELOPE, false, 0));
}

#[test]
fn low_confidence_asks_for_the_driver_and_stops_in_the_lane_when_nobody_comes() {
    let mut vehicle = Vehicle::driving(&Road { confidence: Some(0.1), ..Road::default() });
    let steps = 10_000_000_000 / STEP_NS;
    let output = *vehicle.step();
    assert!(output.control_valid && output.faults == Faults::LOW_CONFIDENCE);
    assert_eq!((output.takeover.level, output.takeover.reason), (TakeoverLevel::Request, TakeoverReason::LowConfidence));
    for _ in 0..steps {
        vehicle.step();
    }
    assert_eq!((vehicle.output.takeover.level, vehicle.output.minimal_risk), (TakeoverLevel::Immediate, MinimalRisk::InLaneStop));
    let output = vehicle.step_with(|input| input.driver.overrides = true);
    assert_eq!((output.takeover.level, output.minimal_risk), (TakeoverLevel::None, MinimalRisk::None));
}

#[test]
fn an_answer_that_comes_after_its_own_validity_is_withheld() {
    use std::sync::atomic::Ordering;
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.clock.tick_ns.store(20_000_000, Ordering::Relaxed);
    let late = *vehicle.step();
    assert!(late.control_valid && late.faults == Faults::DEADLINE_MISSED, "{:?}", late.faults);
    assert_eq!(late.run_ns, 20_000_000);
    assert!(late.total_ns > late.run_ns);
    vehicle.clock.tick_ns.store(200_000_000, Ordering::Relaxed);
    let lost = *vehicle.step();
    assert!(!lost.control_valid && lost.faults == Faults::DEADLINE_MISSED, "{:?}", lost.faults);
    assert_eq!(lost.takeover.reason, TakeoverReason::Deadline);
    vehicle.clock.tick_ns.store(0, Ordering::Relaxed);
    assert!(vehicle.step().control_valid);
    assert!(!matches!(vehicle.engine.poll_event(), Some(EngineEvent::RolledBack { .. })), "there is no trial to end");
}

#[test]
fn contracts_that_cannot_be_filled_or_read_are_refused_by_number() {
    let refused = |element, shape: &[usize], source: Value, number: u16, text: &str| {
        let (graph, contract) = echo(element, shape, source);
        let mut vehicle = Vehicle::new();
        vehicle.load(Files::write(&graph.build(), contract, 1, 1, Entry::Confirmed));
        match vehicle.event() {
            EngineEvent::Refused { refusal, .. } => assert_eq!((refusal.number(), refusal.to_string().as_str()), (number, text)),
            other => panic!("{text}: {other:?}"),
        }
    };
    let (nchw, history) = (camera("nchw", "rgb"), with(camera("nchw", "rgb"), "history", json!(0)));
    refused(
        F32,
        &[1, 4, 2, 2],
        nchw.clone(),
        4204,
        "tensor 'x' must have the shape [1, 3, height, width] for its camera, it has [1, 4, 2, 2]",
    );
    refused(I32, &[1, 3, 2, 2], nchw.clone(), 4205, "tensor 'x' cannot hold its camera with this normalization as I32");
    refused(F32, &[1, 3, 2, 2], history, 4206, "history of tensor 'x' is 0, it must be 1 to 64");
    let zero = with(nchw, "normalization", json!({ "mean": [0.0, 0.0, 0.0], "std": [1.0, 0.0, 1.0] }));
    let expected = "normalization of tensor 'x' is Normalization { mean: [0.0, 0.0, 0.0], std: [1.0, 0.0, 1.0] }, \
                    it needs one finite mean and one std other than 0 per channel";
    refused(F32, &[1, 3, 2, 2], zero, 4206, expected);

    let check = |road: Road, number: u16, text: &str| {
        let mut vehicle = Vehicle::new();
        vehicle.load(road.files(1, Entry::Confirmed));
        match vehicle.event() {
            EngineEvent::Refused { refusal, .. } => assert_eq!((refusal.number(), refusal.to_string().as_str()), (number, text)),
            other => panic!("{text}: {other:?}"),
        }
    };
    let road = Road::default;
    check(road().with("/contract_version", json!(2)), 4208, "the contract is of version 2, this release knows version 1");
    check(
        road().with("/outputs/2/meaning", json!({ "control": { "fields": ["curvature_1pm"] } })),
        4202,
        "the contract names the output meaning 'control' more than once",
    );
    let one_field = json!({ "control": { "fields": ["curvature_1pm", "curvature_1pm"] } });
    check(
        road().with("/outputs/1/meaning", one_field),
        4207,
        "the contract of a road vehicle has no control output with curvature and acceleration",
    );
    check(road().with("/outputs/0/meaning/trajectory/step_s", json!(0.0)), 4206, "step_s of tensor 'trajectory' is 0, it must be above 0");
    let language = json!({ "language": { "vocabulary": [] } });
    check(road().with("/outputs/3/meaning", language), 4205, "tensor 'intent' cannot hold its language as F32");
    let recurrent = json!({ "input": "count", "output": "gone", "dtype": "f32", "shape": [1] });
    check(road().with("/recurrent/0", recurrent), 4025, "recurrent pair 'gone' -> 'count': the model has no such output");
}
