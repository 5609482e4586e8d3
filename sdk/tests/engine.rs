//! The life of a model in the vehicle, from its files to the frame that it answers, and back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Files, From, INPUTS, OUTPUTS, PATIENCE, Road, SPEED_BREAKS_MPS, SPEED_MPS, Vehicle, write_tensors};
use serde_json::json;
use switchback_onnx::ElementType;
use switchback_sdk::drive::{Faults, IntentCode, MinimalRisk, Mode, Signal, TakeoverLevel, TakeoverReason};
use switchback_sdk::engine::{EngineConfig, EngineError, EngineEvent, Entry, Phase, Refusal, RollBackReason, SwapWhen, Witness};
use switchback_signing::bundle::contract::limits::STEP_MS_MAX;

fn candidate(model: &Road) -> Files {
    model.files(2, Entry::Candidate)
}

/// The better model: another control, so that the tests see who answered.
fn better() -> Road {
    Road { control: [0.02, 0.25], ..Road::default() }
}

fn refusal_of(event: EngineEvent) -> Refusal {
    match event {
        EngineEvent::Refused { refusal, .. } => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_refused(event: &EngineEvent) -> bool {
    matches!(event, EngineEvent::Refused { .. })
}

#[test]
fn without_a_model_the_output_is_written_and_asks_for_a_stop() {
    let mut vehicle = Vehicle::new();
    let output = *vehicle.step();
    assert_eq!((output.sequence, output.control_valid, output.model.generation), (1, false, 0));
    assert!(output.faults.contains(Faults::NO_MODEL));
    assert_eq!((output.takeover.level, output.takeover.reason), (TakeoverLevel::Immediate, TakeoverReason::NoModel));
    assert_eq!(output.minimal_risk, MinimalRisk::StraightStop);
    assert!(vehicle.driver.active_model().is_none());
}

#[test]
fn a_confirmed_model_drives_from_the_step_after_its_activation() {
    let mut vehicle = Vehicle::new();
    vehicle.load(Road::default().files(1, Entry::Confirmed));
    let EngineEvent::SelfTestPassed { generation: 1, cases: 2, .. } = vehicle.event() else { panic!("the self-test comes first") };
    assert!(matches!(vehicle.event(), EngineEvent::Armed { generation: 1 }));
    assert!(!vehicle.step().control_valid, "armed is not active");
    vehicle.engine.activate(SwapWhen::Anytime).unwrap();
    assert!(matches!(vehicle.event(), EngineEvent::Confirmed { generation: 1 }));

    let output = *vehicle.step();
    assert!(output.control_valid && output.faults.is_empty(), "{:?}", output.faults);
    assert_eq!((output.control.curvature_1pm, output.control.acceleration_mps2), (0.01, 0.5));
    assert_eq!((output.confidence, output.intent, output.intent_probability), (0.9, IntentCode::KeepLane, 0.7));
    assert_eq!(output.trajectory_points, 20);
    let point = output.trajectory[9];
    assert_eq!((point.time_s, point.x_m, point.y_m, point.speed_mps), (1.0, 10.0, 0.0, 10.0));
    assert_eq!((output.model.name(), output.model.version(), output.model.sha256), ("test-1", "1.0.0", [1; 32]));
    assert_eq!(output.valid_until_ns, vehicle.input().time_ns + 150_000_000, "deadline and two steps");
    assert_eq!(output.takeover.level, TakeoverLevel::None);
    assert_eq!(vehicle.driver.language().collect::<Vec<_>>(), ["lane"], "a token outside the vocabulary is left out");
}

#[test]
fn a_new_model_takes_over_between_two_frames_and_none_is_lost() {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.load(candidate(&better()));
    let mut story = Vec::new();
    let mut generations = Vec::new();
    let mut swaps = 0;
    while !matches!(story.last(), Some(EngineEvent::Freed { generation: 1 })) {
        let event = vehicle.event_with(|output| {
            assert!(output.control_valid, "step {}: {:?}", output.sequence, output.faults);
            let expected = if output.model.generation == 1 { [0.01, 0.5] } else { [0.02, 0.25] };
            assert_eq!([output.control.curvature_1pm, output.control.acceleration_mps2], expected);
            generations.push(output.model.generation);
            swaps += u32::from(output.swapped);
        });
        match event {
            EngineEvent::Armed { .. } => vehicle.engine.activate(SwapWhen::Anytime).unwrap(),
            EngineEvent::TrialPassed { .. } => vehicle.engine.confirm().unwrap(),
            _ => {}
        }
        story.push(event);
    }
    let names: Vec<String> = story.iter().map(|event| format!("{event:?}").split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["SelfTestPassed", "ShadowPassed", "Armed", "Swapped", "TrialPassed", "Confirmed", "Freed"]);
    assert!(generations.is_sorted(), "the old model never comes back: {generations:?}");
    assert_eq!(swaps, 1);
    assert_eq!(vehicle.engine.status().memory_mib, 16, "the old model is gone");
    assert_eq!(vehicle.step().model.generation, 2);
    vehicle.engine.roll_back().expect_err("there is nothing to return to");
}

#[test]
fn the_shadow_run_fills_the_memory_of_the_candidate() {
    let mut vehicle = Vehicle::driving(&Road::default());
    // Frames that the shadow run leaves out because the machine is slow must not count as a pause, after which a memory starts anew.
    let remembering = Road { confidence: None, ..better() }.with("/confidence_min", json!(0.0)).with("/step_ms", json!(STEP_MS_MAX));
    vehicle.begin_trial(candidate(&remembering));
    let runs = (vehicle.output.confidence * 1000.0).round() as u32;
    assert!(runs > 5, "five frames in shadow and one for real, not {runs}");
}

#[test]
fn a_model_that_fails_on_trial_is_answered_for_in_the_same_step() {
    for (breaks_at, reason, fault, number) in [
        (From::NotFinite as fn(u32) -> From, RollBackReason::NotFinite, Faults::NOT_FINITE, 4152),
        (From::Envelope, RollBackReason::Envelope, Faults::ENVELOPE, 4153),
        (From::RunFails, RollBackReason::RunFailed, Faults::RUN_FAILED, 4151),
    ] {
        let mut vehicle = Vehicle::driving(&Road::default());
        let breaks = breaks_at(0);
        vehicle.begin_trial(candidate(&better().breaking_by_speed(breaks_at)));
        vehicle.speed_mps = SPEED_BREAKS_MPS;
        let mut fell_back = Vec::new();
        let event = vehicle.event_with(|output| {
            assert!(output.control_valid, "{breaks:?}: step {} has no answer: {:?}", output.sequence, output.faults);
            if output.fell_back {
                fell_back.push(*output);
            }
        });
        let EngineEvent::RolledBack { generation: 2, reason: found } = event else { panic!("{breaks:?}: {event:?}") };
        assert_eq!(found, reason, "{breaks:?}");
        assert_eq!(reason.number(), number);
        let [output] = fell_back[..] else { panic!("{breaks:?}: fell back {} times", fell_back.len()) };
        assert!(output.faults.contains(fault) && output.swapped, "{breaks:?}");
        assert_eq!((output.model.generation, output.control.curvature_1pm), (1, 0.01), "{breaks:?}");
        assert_eq!(output.takeover.level, TakeoverLevel::None, "the driver need not know");
        vehicle.expect(|event| matches!(event, EngineEvent::Freed { generation: 2 }));
        assert!(vehicle.step().faults.is_empty());
    }
}

#[test]
fn a_model_that_was_rolled_back_may_be_tried_again() {
    let mut vehicle = Vehicle::driving(&Road::default());
    for _ in 0..2 {
        vehicle.begin_trial(candidate(&better()));
        vehicle.engine.roll_back().unwrap();
        let event = vehicle.expect(|event| matches!(event, EngineEvent::RolledBack { .. } | EngineEvent::Confirmed { .. }));
        let EngineEvent::RolledBack { generation: 2, reason } = event else { panic!("{event:?}") };
        assert_eq!((reason.number(), reason.to_string().as_str()), (4156, "the vehicle asked for it"));
        vehicle.expect(|event| matches!(event, EngineEvent::Freed { generation: 2 }));
        assert_eq!(vehicle.step().model.generation, 1);
    }
}

#[test]
fn three_late_answers_in_a_row_end_a_trial_and_two_do_not() {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.begin_trial(candidate(&better().with("/acceptance/trial_frames", json!(1_000_000))));
    let slow = |vehicle: &Vehicle, tick_ns| vehicle.clock.tick_ns.store(tick_ns, Ordering::Relaxed);
    for late in [true, true, false, true, true, true] {
        slow(&vehicle, if late { 30_000_000 } else { 0 });
        let output = *vehicle.step();
        assert_eq!(output.faults.contains(Faults::DEADLINE_MISSED), late);
    }
    slow(&vehicle, 0);
    assert!(vehicle.output.fell_back && vehicle.output.model.generation == 1);
    let event = vehicle.expect(|event| matches!(event, EngineEvent::RolledBack { .. }));
    let EngineEvent::RolledBack { reason, .. } = event else { panic!("{event:?}") };
    assert_eq!((reason.number(), reason.to_string().as_str()), (4154, "answers came after the deadline"));
    assert!(vehicle.step().control_valid);
}

#[test]
fn an_input_that_only_the_new_model_needs_may_miss_twice_but_not_three_times() {
    let mut vehicle = Vehicle::driving(&Road::default());
    let needy = Road { signal: Some("lidar"), ..better() }.with("/acceptance/trial_frames", json!(1_000_000));
    const SUPPLIED: &[Signal<'static>] = &[Signal { name: "lidar", value: 3.0 }];
    // Shadow and swap, with the signal.
    vehicle.load(candidate(&needy));
    let mut armed = false;
    let begun = Instant::now();
    while vehicle.output.model.generation != 2 {
        assert!(begun.elapsed() < PATIENCE, "the engine is {:?}", vehicle.engine.status());
        vehicle.step_with(|input| input.signals = SUPPLIED);
        if !armed && vehicle.engine.status().phase == Phase::Armed {
            vehicle.engine.activate(SwapWhen::Anytime).unwrap();
            armed = true;
        }
        std::thread::yield_now();
    }
    for (supplied, generation) in [(false, 1), (false, 1), (true, 2), (false, 1), (false, 1), (false, 1), (true, 1)] {
        let output = *vehicle.step_with(|input| input.signals = if supplied { SUPPLIED } else { &[] });
        assert!(output.control_valid);
        assert_eq!(output.model.generation, generation);
    }
    let event = vehicle.expect(|event| matches!(event, EngineEvent::RolledBack { .. }));
    let EngineEvent::RolledBack { reason, .. } = event else { panic!("{event:?}") };
    assert_eq!((reason.number(), reason.to_string().as_str()), (4155, "inputs that the model needs are missing"));
}

#[test]
fn an_ego_state_that_no_model_can_use_is_not_the_fault_of_the_new_one() {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.begin_trial(candidate(&better().with("/acceptance/trial_frames", json!(1_000_000))));
    for _ in 0..10 {
        let output = vehicle.step_with(|input| input.ego.speed_mps = f32::NAN);
        assert!(!output.control_valid && output.faults.contains(Faults::EGO_INVALID));
        assert_eq!(output.takeover.reason, TakeoverReason::Input);
    }
    assert_eq!(vehicle.step().model.generation, 2);
    assert!(vehicle.engine.poll_event().is_none());
}

#[test]
fn a_first_model_that_fails_leaves_none() {
    let mut vehicle = Vehicle::new();
    vehicle.begin_trial(Road::default().breaking_by_speed(From::NotFinite).files(1, Entry::Candidate));
    vehicle.speed_mps = SPEED_BREAKS_MPS;
    vehicle.expect(|event| matches!(event, EngineEvent::RolledBack { reason: RollBackReason::NotFinite, .. }));
    let output = vehicle.step();
    assert!(!output.control_valid && output.faults.contains(Faults::NO_MODEL));
    vehicle.expect(|event| matches!(event, EngineEvent::Freed { generation: 1 }));
    vehicle.start(Road::default().files(2, Entry::Confirmed));
    assert!(vehicle.step().control_valid);
}

#[test]
fn a_candidate_that_fails_on_live_frames_never_drives() {
    let late = better().with("/deadline_ms", json!(0));
    for (case, model, number) in [
        ("not finite", better().breaking_by_speed(From::NotFinite), 4141),
        ("outside the envelope", better().breaking_by_speed(From::Envelope), 4142),
        ("failing run", better().breaking_by_speed(From::RunFails), 4140),
        ("another path", Road { slope: 0.1, ..better() }, 4146),
        ("unsure", Road { confidence: Some(0.1), ..better() }, 4145),
        ("missing signal", Road { signal: Some("lidar"), ..better() }, 4143),
        ("late", late, 4144),
    ] {
        let mut vehicle = Vehicle::driving(&Road::default());
        vehicle.speed_mps = SPEED_BREAKS_MPS;
        if case == "late" {
            vehicle.clock.tick_ns.store(1000, Ordering::Relaxed);
        }
        vehicle.load(candidate(&model));
        let refusal = refusal_of(loop {
            let event = vehicle.event_with(|output| assert_eq!((output.model.generation, output.control_valid), (1, true)));
            assert!(!matches!(event, EngineEvent::Armed { .. }), "{case} was armed");
            if is_refused(&event) {
                break event;
            }
        });
        assert_eq!(refusal.number(), number, "{case}: {refusal}");
        assert_eq!(vehicle.engine.status().phase, Phase::Idle, "{case}");
        assert_eq!(vehicle.engine.status().memory_mib, 16, "{case}: it was freed");
    }
}

#[test]
fn a_candidate_that_fails_before_it_runs_is_refused_with_its_reason() {
    let check = |case: &str, change: &dyn Fn(&mut Files), number: u16, text: &str| {
        let mut vehicle = Vehicle::with(EngineConfig { memory_budget_mib: 64, ..EngineConfig::default() });
        let mut files = Road::default().files(1, Entry::Candidate);
        change(&mut files);
        vehicle.load(files);
        let refusal = refusal_of(vehicle.event());
        assert_eq!(refusal.number(), number, "{case}: {refusal}");
        assert!(refusal.to_string().contains(text), "{case}: {refusal}");
        assert_eq!((vehicle.engine.status().phase, vehicle.engine.status().memory_mib), (Phase::Idle, 0), "{case}");
    };
    let contract = |change: fn(&mut switchback_signing::bundle::contract::Contract)| {
        move |files: &mut Files| change(&mut files.files.manifest.contract)
    };
    check("memory", &contract(|c| c.memory_mib = 65), 4120, "the model needs 65 MiB, 0 of 64 MiB are in use");
    check(
        "runtime",
        &contract(|c| c.runtime.onnxruntime_min = "9.9".to_owned()),
        4121,
        "the model runs on ONNX Runtime 9.9 or later, the vehicle has 1.",
    );
    check("path", &|files| files.files.manifest.model = "../model.onnx".to_owned(), 4122, "'../model.onnx' in the manifest");
    check("no model", &|files| std::fs::remove_file(files.path("model.onnx")).unwrap(), 4020, "does not exist");
    check("damaged model", &|files| std::fs::write(files.path("model.onnx"), b"garbage").unwrap(), 4021, "refused model");
    check(
        "shape",
        &contract(|c| c.inputs[0].shape = vec![1, 3]),
        4203,
        "tensor 'ego' is f32 [1, 3] in the contract and f32 [1, 2] in the model",
    );
    check(
        "output",
        &contract(|c| c.outputs[1].tensor = "steer".to_owned()),
        4200,
        "the contract's output 'steer' is not in the model, which has: trajectory, control",
    );
    check("unlisted", &contract(|c| c.inputs.clear()), 4201, "the model's input 'ego' is not in the contract");
    check(
        "fields",
        &contract(|c| c.inputs[0].source = fields(1)),
        4204,
        "tensor 'ego' must have the shape [1, 1] for its ego fields, it has [1, 2]",
    );
    check("envelope", &contract(|c| c.envelope = None), 4207, "the contract of a road vehicle has no envelope");
    check("no cases", &|files| files.files.manifest.self_test.cases = 0, 4132, "no self-test case");
    check("too few cases", &|files| files.files.manifest.self_test.cases = 3, 4133, "case 2 has no tensor 'ego'");
    check("no golden file", &|files| std::fs::remove_file(files.path(INPUTS)).unwrap(), 4130, "could not be read");
    check("damaged golden file", &|files| std::fs::write(files.path(OUTPUTS), b"{}").unwrap(), 4131, "is not usable");
    let wrong_shape = |files: &mut Files| {
        let ego = |case| (format!("{case}/ego"), ElementType::F32, vec![2, 1], vec![0; 8]);
        write_tensors(&files.path(INPUTS), &[ego(0), ego(1)]);
    };
    check("golden shape", &wrong_shape, 4134, "case 0, tensor 'ego': golden F32 [2, 1], the model has f32 [1, 2]");
    let other_model = |files: &mut Files| std::fs::write(files.path("model.onnx"), better().build().0.build()).unwrap();
    check("another model", &other_model, 4136, "case 0, tensor 'control', element 0: 0.02 instead of 0.01, tolerance 0.001");
    let broken = Road { breaks: From::RunFails(1), ..Road::default() }.build().0.build();
    check("failing case", &move |files| std::fs::write(files.path("model.onnx"), &broken).unwrap(), 4123, "warmed up");
}

/// The warm-up has only zeros; what the golden inputs do to the model is seen in the self-test alone.
#[test]
fn a_model_that_does_not_run_on_its_golden_inputs_is_refused() {
    const WARM_UP_RUNS: u32 = 3;
    let mut vehicle = Vehicle::with(EngineConfig::default());
    let (graph, contract) = Road::default().build();
    let files = Files::write(&graph.build(), contract, WARM_UP_RUNS + 1, 1, Entry::Candidate);
    let broken = Road { breaks: From::RunFails(WARM_UP_RUNS), ..Road::default() }.build().0.build();
    std::fs::write(files.path("model.onnx"), &broken).unwrap();
    vehicle.load(files);
    let refusal = refusal_of(vehicle.event());
    let expected = "self-test: case 3 failed to run on this vehicle, although it ran where the release was made";
    assert_eq!((refusal.number(), refusal.to_string().as_str()), (4135, expected));
}

/// Between their verification and their use somebody had other files there; the model answers its golden inputs all the same.
#[test]
fn files_that_were_changed_before_they_were_loaded_are_not_used() {
    #[derive(Debug)]
    struct Changed;
    impl Witness for Changed {
        fn altered(&self) -> Option<PathBuf> {
            Some("slots/b/model.onnx".into())
        }
    }
    let mut vehicle = Vehicle::driving(&Road::default());
    let mut files = candidate(&better());
    files.files.witness = Arc::new(Changed);
    vehicle.load(files);
    let refusal = refusal_of(vehicle.event());
    let expected = "slots/b/model.onnx was changed after it was verified and before it was loaded: nobody but this program may write there";
    assert_eq!((refusal.number(), refusal.to_string().as_str()), (4125, expected));
    assert_eq!(vehicle.step().control.curvature_1pm, 0.01);
}

/// What the program gave to the engine panics on the loader's thread: the thread is gone, and the model that drives stays.
#[test]
fn a_loader_that_has_ended_is_named_and_the_driver_goes_on() {
    #[derive(Debug, Default)]
    struct Panics(AtomicBool);
    impl Witness for Panics {
        fn altered(&self) -> Option<PathBuf> {
            self.0.store(true, Ordering::Release);
            panic!("a fault in the program")
        }
    }
    let mut vehicle = Vehicle::driving(&Road::default());
    let mut files = candidate(&better());
    let witness = Arc::new(Panics::default());
    files.files.witness = Arc::clone(&witness) as Arc<dyn Witness>;
    vehicle.load(files);
    let begun = Instant::now();
    let error = loop {
        assert!(begun.elapsed() < PATIENCE, "the engine is {:?}", vehicle.engine.status());
        assert!(vehicle.step().control_valid);
        // Not before it is too late to cancel anything.
        if witness.0.load(Ordering::Acquire)
            && let Err(error) = vehicle.engine.cancel()
        {
            break error;
        }
        std::thread::yield_now();
    };
    let expected = "the loader thread has ended, so that no model is loaded any more; open the vehicle anew";
    assert_eq!((error.number(), error.to_string().as_str()), (4102, expected));
    assert_eq!(vehicle.step().control.curvature_1pm, 0.01);
}

fn fields(count: usize) -> switchback_signing::bundle::contract::InputSource {
    serde_json::from_value(json!({ "ego": { "fields": vec!["speed_mps"; count] } })).unwrap()
}

#[test]
fn two_models_must_fit_the_memory_budget_together() {
    let mut vehicle = Vehicle::with(EngineConfig { memory_budget_mib: 31, ..EngineConfig::default() });
    vehicle.start(Road::default().files(1, Entry::Confirmed));
    vehicle.load(candidate(&better()));
    let refusal = refusal_of(vehicle.event());
    assert_eq!(refusal.to_string(), "the model needs 16 MiB, 16 of 31 MiB are in use");
    assert!(vehicle.step().control_valid);
}

#[test]
fn calls_in_the_wrong_phase_are_refused_and_change_nothing() {
    let mut vehicle = Vehicle::driving(&Road::default());
    let wrong = |result: Result<(), EngineError>, expected: &str| {
        let error = result.unwrap_err();
        assert_eq!((error.number(), error.to_string().as_str()), (4104, expected));
    };
    wrong(vehicle.engine.activate(SwapWhen::Anytime), "cannot activate while the engine is idle");
    wrong(vehicle.engine.confirm(), "cannot confirm while the engine is idle");
    wrong(vehicle.engine.roll_back(), "cannot roll back while the engine is idle");
    wrong(vehicle.engine.cancel(), "cannot cancel while the engine is idle");
    vehicle.begin_trial(candidate(&better().with("/acceptance/trial_frames", json!(1_000_000))));
    wrong(vehicle.engine.confirm(), "cannot confirm while the engine is on trial");
    let third = better().files(3, Entry::Candidate);
    let busy = vehicle.engine.load(third.files.clone()).unwrap_err();
    assert_eq!((busy.number(), busy.to_string().as_str()), (4103, "model generation 2 is still on trial; one candidate at a time"));
    assert_eq!(vehicle.step().model.generation, 2);
}

#[test]
fn an_order_to_activate_a_candidate_that_broke_meanwhile_hides_nothing_of_it() {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.load(candidate(&better().breaking_by_speed(From::NotFinite)));
    vehicle.expect(|event| matches!(event, EngineEvent::Armed { .. }));
    vehicle.speed_mps = SPEED_BREAKS_MPS;
    let begun = Instant::now();
    while vehicle.engine.status().phase != Phase::Idle {
        assert!(begun.elapsed() < PATIENCE, "the engine is {:?}", vehicle.engine.status());
        assert!(vehicle.step().control_valid);
        std::thread::yield_now();
    }
    // Whoever has not read its events yet still believes in it.
    assert_eq!(vehicle.engine.activate(SwapWhen::Anytime).unwrap_err().number(), 4104);
    let refusal = refusal_of(vehicle.event());
    assert_eq!((refusal.number(), refusal.to_string().as_str()), (4141, "shadow: the output is not finite"));
}

#[test]
fn an_armed_candidate_can_be_taken_back() {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.load(candidate(&better()));
    vehicle.expect(|event| matches!(event, EngineEvent::Armed { .. }));
    vehicle.engine.cancel().unwrap();
    let refusal = refusal_of(vehicle.expect(is_refused));
    assert_eq!((refusal.number(), refusal.to_string().as_str()), (4124, "canceled"));
    assert_eq!(vehicle.step().model.generation, 1);
    // And another one can follow at once.
    vehicle.begin_trial(better().files(3, Entry::Candidate));
    assert_eq!(vehicle.output.model.generation, 3);
}

/// A vehicle in standby whose candidate lies ready for the next frame.
fn ordered(when: SwapWhen) -> Vehicle {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.mode = Mode::Standby;
    vehicle.order(candidate(&better()), when);
    vehicle
}

#[test]
fn a_frame_for_which_the_driving_function_was_engaged_meanwhile_does_not_swap() {
    let mut vehicle = ordered(SwapWhen::Disengaged);
    vehicle.mode = Mode::Engaged;
    for _ in 0..3 {
        let output = *vehicle.step();
        assert_eq!((output.model.generation, output.swapped, output.control_valid), (1, false, true));
    }
    vehicle.mode = Mode::Standby;
    vehicle.expect(|event| matches!(event, EngineEvent::Swapped { .. }));
    assert_eq!(vehicle.step().model.generation, 2);
}

#[test]
fn a_candidate_that_waits_through_an_engaged_drive_swaps_after_it() {
    let mut vehicle = ordered(SwapWhen::Disengaged);
    vehicle.mode = Mode::Engaged;
    // Too old now: it is taken back and runs on in shadow, on frames that are not those to swap at.
    vehicle.clock.pass(Duration::from_secs(1));
    vehicle.wait_for(Phase::Armed);
    for _ in 0..50 {
        assert_eq!(vehicle.step().model.generation, 1);
    }
    vehicle.mode = Mode::Standby;
    vehicle.expect(|event| matches!(event, EngineEvent::Swapped { .. }));
}

#[test]
fn an_order_that_may_take_any_frame_takes_an_engaged_one() {
    let mut vehicle = ordered(SwapWhen::Anytime);
    vehicle.mode = Mode::Engaged;
    assert_eq!(vehicle.step().model.generation, 2);
}

#[test]
fn plans_that_agreed_before_a_pause_do_not_count_after_it() {
    let mut vehicle = ordered(SwapWhen::Anytime);
    vehicle.clock.pass(Duration::from_secs(6));
    let output = *vehicle.step();
    assert_eq!((output.model.generation, output.swapped), (1, false));
    vehicle.expect(|event| matches!(event, EngineEvent::Swapped { .. }));
}

#[test]
fn an_ordered_candidate_can_be_taken_back_before_the_frame_that_would_swap() {
    for when in [SwapWhen::Disengaged, SwapWhen::Anytime] {
        let mut vehicle = ordered(when);
        vehicle.engine.cancel().unwrap();
        // Without a frame: a parked vehicle lets go of it too.
        let refusal = refusal_of(vehicle.engine.wait_event(PATIENCE).expect("the loader answers"));
        assert_eq!(refusal.number(), 4124);
        assert_eq!((vehicle.step().model.generation, vehicle.engine.status().memory_mib), (1, 16));
        vehicle.begin_trial(better().files(3, Entry::Candidate));
    }
}

#[test]
fn a_candidate_that_a_frame_took_first_is_on_trial_and_not_taken_back() {
    let mut vehicle = ordered(SwapWhen::Anytime);
    assert_eq!(vehicle.step().model.generation, 2);
    // The loader may have looked already; then it is too late to ask.
    let _ = vehicle.engine.cancel();
    assert!(matches!(vehicle.engine.wait_event(PATIENCE), Some(EngineEvent::Swapped { generation: 2 })));
    vehicle.expect(|event| matches!(event, EngineEvent::TrialPassed { .. }));
}

#[test]
fn an_order_that_is_taken_back_leaves_the_candidate_armed() {
    let mut vehicle = ordered(SwapWhen::Anytime);
    vehicle.engine.hold().unwrap();
    assert!(matches!(vehicle.engine.wait_event(PATIENCE), Some(EngineEvent::Armed { generation: 2 })));
    for _ in 0..50 {
        assert_eq!(vehicle.step().model.generation, 1);
    }
    vehicle.engine.activate(SwapWhen::Anytime).unwrap();
    vehicle.expect(|event| matches!(event, EngineEvent::Swapped { .. }));
}

#[test]
fn a_first_model_takes_any_frame() {
    let mut vehicle = Vehicle::new();
    vehicle.order(Road::default().files(1, Entry::Candidate), SwapWhen::Disengaged);
    assert_eq!(vehicle.mode, Mode::Engaged);
    assert_eq!(vehicle.step().model.generation, 1);
}

#[test]
fn the_driver_goes_on_when_the_engine_is_gone() {
    let Vehicle { engine, mut driver, mut output, sequence, .. } = Vehicle::driving(&Road::default());
    drop(engine);
    let vehicle = Vehicle::new();
    let input = switchback_sdk::drive::DriveInput { sequence: sequence + 1, ..vehicle.input() };
    driver.step(&input, &mut output);
    assert_eq!(output.model.generation, 1);
}

#[test]
fn a_path_outside_the_envelope_is_no_valid_answer_however_sane_the_control_is() {
    // Two meters to the left per meter ahead, from a vehicle that drives straight on.
    let mut vehicle = Vehicle::driving(&Road { slope: 2.0, ..Road::default() });
    let output = *vehicle.step();
    assert!(!output.control_valid && output.faults.contains(Faults::ENVELOPE), "{:?}", output.faults);
    assert_eq!((output.trajectory_points, output.control.curvature_1pm), (0, 0.0), "nobody can act on it by accident");
    let fault = vehicle.driver.fault().unwrap().to_string();
    assert!(fault.starts_with("acceleration_max_mps2 is 247.2") && fault.ends_with(" at trajectory point 1, the limit is 3"), "{fault}");
}

#[test]
fn a_fault_of_the_inputs_names_the_field_and_both_values() {
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.step_with(|input| input.ego.yaw_rate_radps = 11.0);
    assert_eq!(vehicle.driver.fault().unwrap().to_string(), "the ego state's yaw_rate_radps is 11, 10 either way is plausible");
    vehicle.step_with(|input| input.ego.time_ns -= 400_000_000);
    assert_eq!(vehicle.driver.fault().unwrap().to_string(), "the ego state is 400.0 ms old, -5 to 150 ms are allowed");
    vehicle.step();
    assert_eq!(vehicle.driver.fault(), None);
}

#[test]
fn how_a_human_drives_does_not_end_a_trial() {
    let mut vehicle = Vehicle::driving(&Road::default());
    // Drives no faster than the human will; the model before has no such limit.
    let limited = better().with("/envelope/speed_max_mps", json!(11.0)).with("/acceptance/trial_frames", json!(1_000_000));
    vehicle.begin_trial(candidate(&limited));
    vehicle.speed_mps = SPEED_BREAKS_MPS;
    for _ in 0..10 {
        let output = vehicle.step_with(|input| input.requested_mode = Mode::Standby);
        assert!(output.control_valid && output.fell_back && output.model.generation == 1, "{:?}", output.faults);
    }
    vehicle.speed_mps = SPEED_MPS;
    assert_eq!(vehicle.step().model.generation, 2);
    assert!(vehicle.engine.poll_event().is_none());
    // The one that drives must come back inside by itself.
    vehicle.speed_mps = SPEED_BREAKS_MPS;
    let event = vehicle.event_with(|output| assert!(output.control_valid));
    assert!(matches!(event, EngineEvent::RolledBack { reason: RollBackReason::Envelope, .. }), "{event:?}");
}
