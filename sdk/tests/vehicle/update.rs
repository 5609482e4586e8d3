//! An update in a vehicle that drives: from the offer to the verdict.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use serde_json::json;
use switchback_sdk::drive::{Faults, MinimalRisk, Mode};
use switchback_sdk::update::{ActivationPolicy, Consent, VehicleState};
use switchback_sdk::vehicle::{Event, EventKind};
use switchback_signing::metadata::vehicle::UpdateState;

use super::{better, driving};
use crate::common::car::{Car, callbacks, config};
use crate::common::server::Server;
use crate::common::watch::when_said;
use crate::common::{From, PATIENCE, Road, SPEED_BREAKS_MPS};

#[test]
fn the_first_model_arrives_by_the_first_update() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.lock().down = true;
    server.release(&Road::default(), 1, 0);
    let mut car = Car::open(&server, store.path());
    car.drive_until(|kind| *kind == EventKind::CheckFailed, |_| {});
    car.mode = Mode::Engaged;
    let output = *car.step();
    assert!(output.faults.contains(Faults::NO_MODEL));
    assert_ne!(output.minimal_risk, MinimalRisk::None);
    car.mode = Mode::Standby;

    server.lock().down = false;
    car.vehicle.check_now();
    car.reach(Confirmed);
    use UpdateState::{Armed, Confirmed, Consented, Downloading, Offered, SelfTested, Staged, Trial};
    assert_eq!(car.states(), [Offered, Consented, Downloading, Staged, SelfTested, Armed, Trial, Confirmed]);
    let output = *car.step();
    assert!(output.control_valid, "{:?}", output.faults);
    assert_eq!(output.model.name(), "vla-1");
    car.until_reported(&server, |state| state == Confirmed);
    let report = server.reports().pop().unwrap();
    assert_eq!(report.payload.release.unwrap().model, "vla-1");
    assert_eq!(report.installed.unwrap().path, "ultra/vla-1-1.0.0.index");
    assert!(report.payload.counters["steps"] > 0);
    assert!(car.vehicle.status().enrolled);
}

#[test]
fn a_new_model_takes_over_without_losing_a_frame_and_is_reported() {
    let (server, _store, mut car) = driving();
    server.release(&better(), 2, 0);
    car.vehicle.check_now();
    let mut swaps = 0;
    car.drive_until(
        |kind| *kind == EventKind::Update(UpdateState::Confirmed),
        |output| {
            assert!(output.control_valid, "step {}: {:?}", output.sequence, output.faults);
            let expected = if output.model.name() == "vla-1" { 0.01 } else { 0.02 };
            assert_eq!(output.control.curvature_1pm, expected);
            swaps += u32::from(output.swapped);
        },
    );
    assert_eq!((swaps, car.model().as_deref()), (1, Some("vla-2")));
    assert!(car.states().contains(&UpdateState::Shadow));
    let mut trials = server.reports().into_iter().filter(|report| report.payload.update == UpdateState::Trial);
    let trial = trials.next_back().unwrap();
    assert_eq!((trial.payload.release.unwrap().model, trial.payload.candidate.unwrap().model), ("vla-2".into(), "vla-2".into()));
    assert_eq!(trial.installed.unwrap().path, "ultra/vla-1-1.0.0.index", "what it starts with is still the old one");
}

#[test]
fn a_model_that_breaks_on_trial_is_taken_back_reported_and_left_alone() {
    let (server, store, mut car) = driving();
    server.release(&better().breaking_by_speed(From::NotFinite), 2, 0);
    car.vehicle.check_now();
    car.reach(UpdateState::Trial);
    car.speed_mps = SPEED_BREAKS_MPS;
    let mut fell_back = 0;
    let event = car.drive_until(
        |kind| *kind == EventKind::Update(UpdateState::RolledBack),
        |output| {
            assert!(output.control_valid, "step {}: {:?}", output.sequence, output.faults);
            fell_back += u32::from(output.fell_back);
        },
    );
    assert_eq!((fell_back, event.reason.unwrap().name.as_str()), (1, "output_not_finite"));
    assert_eq!(car.model().as_deref(), Some("vla-1"));
    car.until_reported(&server, |state| state == UpdateState::RolledBack);
    let report = server.reports().pop().unwrap();
    assert_eq!((report.payload.reason.unwrap().number, report.payload.candidate.unwrap().model.as_str()), (4152, "vla-2"));
    assert_eq!(report.payload.counters["fall_backs"], 1);

    let bundle_bytes = server.lock().bundle_bytes;
    drop(car);
    let mut car = Car::open(&server, store.path());
    let event = car.reach(UpdateState::Refused);
    assert_eq!(event.reason.unwrap().text, "given up on this vehicle after failure 3: output_not_finite (4152)");
    assert_eq!((car.model().as_deref(), server.lock().bundle_bytes), (Some("vla-1"), bundle_bytes), "not fetched again");
}

#[test]
fn a_model_that_fails_in_shadow_never_drives() {
    let (server, _store, mut car) = driving();
    server.release(&Road { slope: 2.0, ..better() }, 2, 0);
    car.vehicle.check_now();
    let event = car.drive_until(|kind| *kind == EventKind::Update(UpdateState::Refused), |output| assert_eq!(output.model.name(), "vla-1"));
    assert_eq!(event.reason.unwrap().name, "shadow_failed");
    car.until_reported(&server, |state| state == UpdateState::Refused);
}

#[test]
fn a_model_that_breaks_in_the_moment_of_the_order_to_swap_is_refused_for_what_it_did() {
    let (server, store, car) = driving();
    drop(car);
    let ((armed, is_armed), (go, may_go)) = (channel(), channel());
    let (armed, may_go) = (Mutex::new(Some(armed)), Mutex::new(may_go));
    let mut callbacks = callbacks();
    // Asked on the update thread, between its look at the engine and its order to swap.
    callbacks.vehicle_state = Some(Box::new(move || {
        if let Some(armed) = armed.lock().unwrap().take() {
            armed.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
        VehicleState { engaged: Some(false), ..VehicleState::default() }
    }));
    let mut config = config(&server, store.path());
    config.engine.loader_name = "breaks-at-swap".into();
    let mut car = Car::open_with(config, callbacks);
    server.release(&better().breaking_by_speed(From::NotFinite), 2, 0);
    car.vehicle.check_now();
    car.drive_while(|| is_armed.try_recv().is_err());
    let (refused, is_refused) = channel();
    when_said("breaks-at-swap", "the model was refused", move || refused.send(()).unwrap());
    car.speed_mps = SPEED_BREAKS_MPS;
    car.drive_while(|| is_refused.try_recv().is_err());
    go.send(()).unwrap();
    let reason = car.reach(UpdateState::Refused).reason.unwrap();
    assert_eq!((reason.number, reason.text.as_str()), (4141, "shadow: the output is not finite"));
    assert_eq!(car.model().as_deref(), Some("vla-1"));
}

#[test]
fn a_model_that_breaks_while_its_confirmation_is_recorded_is_taken_back_with_the_record() {
    let (server, store, car) = driving();
    drop(car);
    let ((passed, is_passed), (go, may_go)) = (channel(), channel());
    when_said("breaks-at-the-end", "the trial was passed", move || {
        passed.send(()).unwrap();
        may_go.recv().unwrap();
    });
    let mut config = config(&server, store.path());
    config.thread_name = "breaks-at-the-end".into();
    let mut car = Car::open_with(config, callbacks());
    server.release(&better().breaking_by_speed(From::NotFinite).with("/acceptance/trial_frames", json!(10)), 2, 0);
    car.vehicle.check_now();
    car.drive_while(|| is_passed.try_recv().is_err());
    car.speed_mps = SPEED_BREAKS_MPS;
    let output = *car.step();
    assert!(output.fell_back && output.control_valid, "{:?}", output.faults);
    go.send(()).unwrap();
    assert_eq!(car.reach(UpdateState::RolledBack).reason.unwrap().name, "output_not_finite");
    assert!(!car.states().contains(&UpdateState::Confirmed), "{:?}", car.states());
    assert_eq!(car.model().as_deref(), Some("vla-1"));
    car.until_reported(&server, |state| state == UpdateState::RolledBack);
    let report = server.reports().pop().unwrap();
    assert_eq!(
        (report.payload.release.unwrap().model.as_str(), report.installed.unwrap().path.as_str()),
        ("vla-1", "ultra/vla-1-1.0.0.index")
    );
    drop(car);
    // The next start begins with what drives, and the release before is not below the floor.
    server.lock().repositories.assign("ultra/vla-1-1.0.0.index");
    let mut car = Car::open(&server, store.path());
    assert_eq!((car.step().control_valid, car.model().as_deref()), (true, Some("vla-1")));
    car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    assert!(!car.states().contains(&UpdateState::Refused), "{:?}", car.events);
}

#[test]
fn nothing_takes_over_while_the_driving_function_is_engaged() {
    let (server, _store, mut car) = driving();
    car.mode = Mode::Engaged;
    car.step();
    server.release(&better(), 2, 0);
    car.vehicle.check_now();
    car.reach(UpdateState::Armed);
    for _ in 0..100 {
        assert_eq!(car.step().model.name(), "vla-1");
    }
    assert_eq!(car.vehicle.status().update, UpdateState::Armed);
    car.mode = Mode::Standby;
    car.reach(UpdateState::Trial);
    car.mode = Mode::Engaged;
    car.reach(UpdateState::Confirmed);
}

#[test]
fn an_order_lets_the_model_take_over_when_the_policy_waits_for_it() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let mut config = config(&server, store.path());
    config.activation = ActivationPolicy::Manual;
    let mut car = Car::open_with(config, callbacks());
    car.reach(UpdateState::Armed);
    car.vehicle.activate();
    car.reach(UpdateState::Confirmed);
}

#[test]
fn a_release_that_is_withdrawn_after_the_order_to_swap_does_not_drive_and_is_not_blamed() {
    let (server, store, car) = driving();
    drop(car);
    let mut config = config(&server, store.path());
    config.activation = ActivationPolicy::Manual;
    let mut car = Car::open_with(config, callbacks());
    server.release(&better(), 2, 0);
    car.vehicle.check_now();
    car.reach(UpdateState::Armed);
    server.lock().repositories.assign("ultra/vla-1-1.0.0.index");
    // No frame comes between the order and the withdrawal.
    car.vehicle.activate();
    car.vehicle.check_now();
    let is_idle = |event: Event| event.kind == EventKind::Update(UpdateState::Idle);
    while !is_idle(car.vehicle.wait_event(PATIENCE).expect("the release is let go")) {}
    for _ in 0..20 {
        assert_eq!(car.step().model.name(), "vla-1");
    }
    server.lock().repositories.assign("ultra/vla-2-2.0.0.index");
    car.vehicle.check_now();
    car.reach(UpdateState::Armed);
    car.vehicle.activate();
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
}

#[test]
fn the_vehicles_software_decides_what_is_installed() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let decided = Arc::new(AtomicBool::new(false));
    let has_decided = Arc::clone(&decided);
    let mut callbacks = callbacks();
    callbacks.consent = Some(Box::new(move |offer| {
        assert_eq!((offer.model.as_str(), offer.version.as_str(), offer.release_counter), ("vla-1", "1.0.0", 1));
        assert!(offer.download_bytes > 1000);
        if has_decided.load(Ordering::Relaxed) { Consent::Denied } else { Consent::Later }
    }));
    let mut car = Car::open_with(config(&server, store.path()), callbacks);
    car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    assert_eq!(car.vehicle.status().update, UpdateState::Offered);
    decided.store(true, Ordering::Relaxed);
    car.vehicle.check_now();
    assert_eq!(car.reach(UpdateState::Refused).reason.unwrap().name, "consent_denied");
    assert_eq!(server.lock().bundle_bytes, 0);
}
