//! The life of a vehicle, from its first start to the release that it confirms, and what may come between.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::car::{Car, callbacks, config, power_cut};
use common::server::Server;
use common::watch::when_said;
use common::{From, PATIENCE, Road, SPEED_BREAKS_MPS};
use switchback_sdk::drive::{Faults, MinimalRisk, Mode};
use switchback_sdk::store::{Finding, SlotState, Store, TRIES_MAX};
use switchback_sdk::update::{ActivationPolicy, Consent, VehicleState};
use switchback_sdk::vehicle::{EventKind, Vehicle, VehicleCallbacks, VehicleConfig};
use switchback_signing::metadata::vehicle::UpdateState;
use tempfile::TempDir;

/// The better model: another control, so that the tests see who answered.
fn better() -> Road {
    Road { control: [0.02, 0.25], ..Road::default() }
}

/// A server and a vehicle that drives release 1.
fn driving() -> (Server, TempDir, Car) {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let mut car = Car::open(&server, store.path());
    car.reach(UpdateState::Confirmed);
    car.until_reported(&server, |state| state == UpdateState::Confirmed);
    (server, store, car)
}

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

#[test]
fn a_tampered_bundle_is_refused_with_its_reason_and_the_true_one_is_taken_later() {
    let (server, _store, mut car) = driving();
    server.release(&better(), 2, 3 << 20);
    server.lock().tampers = true;
    car.vehicle.check_now();
    let event = car.reach(UpdateState::Refused);
    let reason = event.reason.unwrap();
    assert_eq!((reason.number, reason.name.as_str()), (212, "chunk_hash"));
    assert!(reason.text.contains("the index says"), "{}", reason.text);
    assert!(car.step().control_valid);
    server.lock().tampers = false;
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (server, _store, mut car) = driving();
    let index = server.release(&better(), 2, 5 << 20);
    server.lock().breaks_after = Some(3 << 20);
    server.lock().bundle_bytes = 0;
    server.lock().ranges.clear();
    car.vehicle.check_now();
    let event = car.drive_until(|kind| *kind == EventKind::DownloadPaused, |_| {});
    assert_eq!(event.reason.unwrap().name, "server_unreachable");
    assert!((300..900).contains(&car.vehicle.status().progress_permille), "{:?}", car.vehicle.status());
    server.lock().down = false;
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    let ranges = server.lock().ranges.clone();
    assert_eq!(ranges.len(), 2);
    assert!(index.rows().iter().any(|row| row.stored_offset() == ranges[1] as u64), "from a chunk's first byte");
    let wasted = server.lock().bundle_bytes - index.bundle_length() as usize;
    assert!(wasted < 1 << 20, "{wasted} bytes were sent twice");
}

#[test]
fn a_download_goes_on_after_the_vehicle_was_switched_off() {
    let (server, store, mut car) = driving();
    server.release(&better(), 2, 5 << 20);
    server.lock().breaks_after = Some(3 << 20);
    car.vehicle.check_now();
    car.drive_until(|kind| *kind == EventKind::DownloadPaused, |_| {});
    drop(car);
    server.lock().down = false;
    server.lock().ranges.clear();
    let mut car = Car::open(&server, store.path());
    let found = car.drive_until(|kind| matches!(kind, EventKind::Recovered(_)), |_| {});
    let EventKind::Recovered(Finding::DownloadInterrupted { occupant, next_chunk }) = found.kind else { panic!("{found:?}") };
    assert_eq!(occupant.model, "vla-2");
    assert!(next_chunk > 2);
    assert!(car.step().control_valid, "the confirmed model drives from the first step on");
    car.reach(UpdateState::Confirmed);
    assert!(server.lock().ranges[0] > 2 << 20, "{:?}", server.lock().ranges);
}

#[test]
fn a_power_cut_at_any_state_of_an_update_leaves_a_vehicle_that_drives_and_updates() {
    let (server, store, mut car) = driving();
    server.release(&better(), 2, 2 << 20);
    car.vehicle.check_now();
    use UpdateState::{Armed, Confirmed, Downloading, Offered, SelfTested, Shadow, Staged, Trial};
    let mut disks = Vec::new();
    for state in [Offered, Downloading, Staged, SelfTested, Shadow, Armed, Trial, Confirmed] {
        car.reach(state);
        disks.push((state, power_cut(store.path())));
    }
    drop(car);
    for (state, disk) in disks {
        // Without a server first: what is on the disk must be enough to drive.
        server.lock().down = true;
        let mut car = Car::open(&server, disk.path());
        let output = *car.step();
        assert!(output.control_valid, "after a power cut in {state:?}: {:?}", output.faults);
        server.lock().down = false;
        car.vehicle.check_now();
        if car.vehicle.status().update != Confirmed || car.model().as_deref() != Some("vla-2") {
            car.drive_until(|kind| *kind == EventKind::Update(Confirmed), |_| {});
        }
        assert_eq!(car.model().as_deref(), Some("vla-2"), "{state:?}");
    }
}

fn loads_begun(store: &Store) -> u8 {
    match store.state().slot(store.state().pending().unwrap()) {
        SlotState::Pending { loads_begun, .. } => *loads_begun,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_release_that_takes_the_process_down_while_it_is_loaded_is_left_alone_after_three_times() {
    let (server, mut store, mut car) = driving();
    server.release(&better(), 2, 0);
    car.mode = Mode::Engaged;
    car.step();
    car.vehicle.check_now();
    car.reach(UpdateState::Armed);
    drop(car);
    server.lock().down = true;
    for load in 1..=TRIES_MAX {
        let (on_disk, _) = Store::open_dir(store.path()).unwrap();
        assert_eq!(loads_begun(&on_disk), load - 1);
        drop(on_disk);
        if load == 1 {
            // A load that ends, and one that an orderly end cuts off, do not count.
            let mut car = Car::open(&server, store.path());
            car.reach(UpdateState::Armed);
            drop(car);
            drop(Car::open(&server, store.path()));
            assert_eq!(loads_begun(&Store::open_dir(store.path()).unwrap().0), 0);
        }
        let mut config = config(&server, store.path());
        config.thread_name = "at-load".into();
        let (watched, (sender, receiver)) = (store.path().to_owned(), channel());
        when_said("at-load", "loading the release", move || sender.send(power_cut(&watched)).unwrap());
        Car::open_with(config, callbacks()).reach(UpdateState::SelfTested);
        store = receiver.recv().expect("the load was announced");
    }
    server.lock().down = false;
    let mut car = Car::open(&server, store.path());
    car.drive_until(|kind| matches!(kind, EventKind::Recovered(Finding::LoadGivenUp { .. })), |_| {});
    let event = car.reach(UpdateState::Refused);
    assert_eq!(event.reason.unwrap().text, "given up on this vehicle after failure 3: load_interrupted (341)");
    assert_eq!(car.model().as_deref(), Some("vla-1"));
    assert!(car.step().control_valid);
}

/// Callbacks that count how often the update thread asks for the state of the vehicle.
fn counted_callbacks() -> (VehicleCallbacks, Arc<AtomicU64>) {
    let looks = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&looks);
    let mut callbacks = callbacks();
    callbacks.vehicle_state = Some(Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        VehicleState { engaged: Some(false), ..VehicleState::default() }
    }));
    (callbacks, looks)
}

/// Drives until the update thread has seen every order and acted on the state of the vehicle: it asks once a pass, so that from the
/// first question from now to the third lies a whole one.
fn pass(car: &mut Car, looks: &AtomicU64) {
    let before = looks.load(Ordering::Relaxed);
    car.drive_while(|| looks.load(Ordering::Relaxed) < before + 3);
}

#[test]
fn a_release_that_was_withdrawn_while_the_vehicle_was_switched_off_never_drives() {
    let (server, store, mut car) = driving();
    server.release(&better(), 2, 0);
    car.mode = Mode::Engaged;
    car.step();
    car.vehicle.check_now();
    car.reach(UpdateState::Armed);
    drop(car);
    server.lock().down = true;
    let mut config = config(&server, store.path());
    config.activation = ActivationPolicy::Now;
    let (callbacks, looks) = counted_callbacks();
    let mut car = Car::open_with(config, callbacks);
    car.reach(UpdateState::Armed);
    car.vehicle.activate();
    pass(&mut car, &looks);
    assert_eq!(car.step().model.name(), "vla-1");
    assert_eq!(car.vehicle.status().update, UpdateState::Armed);
    {
        let mut state = server.lock();
        state.repositories.assign("ultra/vla-1-1.0.0.index");
        state.down = false;
    }
    car.vehicle.check_now();
    car.reach(UpdateState::Idle);
    assert_eq!(car.step().model.name(), "vla-1");
}

#[test]
fn a_first_model_waits_after_a_restart_until_the_server_still_assigns_it() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let mut manual = config(&server, store.path());
    manual.activation = ActivationPolicy::Manual;
    Car::open_with(manual, callbacks()).reach(UpdateState::Armed);
    server.lock().down = true;
    let (callbacks, looks) = counted_callbacks();
    let mut car = Car::open_with(config(&server, store.path()), callbacks);
    car.reach(UpdateState::Armed);
    pass(&mut car, &looks);
    assert!(car.step().faults.contains(Faults::NO_MODEL));
    server.lock().down = false;
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
}

#[test]
fn a_model_that_cannot_be_read_for_now_is_not_thrown_away() {
    let (server, store, car) = driving();
    drop(car);
    let (graph, aside) = (store.path().join("slots/a/model.onnx"), store.path().join("aside"));
    std::fs::rename(&graph, &aside).unwrap();
    std::os::unix::fs::symlink("model.onnx", &graph).unwrap();
    server.lock().down = true;
    let mut car = Car::open(&server, store.path());
    let event = car.drive_until(|kind| *kind == EventKind::ModelLost, |_| {});
    assert_eq!(event.reason.unwrap().name, "io");
    drop(car);
    std::fs::rename(aside, graph).unwrap();
    let mut car = Car::open(&server, store.path());
    assert!(car.step().control_valid);
    assert_eq!(car.model().as_deref(), Some("vla-1"));
}

#[test]
fn a_switch_off_between_the_order_and_the_first_frame_costs_no_try() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let mut config = config(&server, store.path());
    config.activation = ActivationPolicy::Manual;
    let mut car = Car::open_with(config, callbacks());
    car.reach(UpdateState::Armed);
    car.vehicle.activate();
    let interrupted = |findings: Vec<Finding>| findings.iter().any(|found| matches!(found, Finding::TrialInterrupted { .. }));
    let begun = Instant::now();
    while !interrupted(Store::open_dir(power_cut(store.path()).path()).unwrap().1) {
        assert!(begun.elapsed() < PATIENCE, "the try is not recorded");
        std::thread::yield_now();
    }
    assert_eq!(car.vehicle.status().update, UpdateState::Armed, "no frame yet");
    drop(car);
    assert!(!interrupted(Store::open_dir(store.path()).unwrap().1));
}

#[test]
fn a_report_that_somebody_else_answered_is_sent_again() {
    let (server, _store, mut car) = driving();
    server.release(&better(), 2, 0);
    car.vehicle.check_now();
    // Not earlier: each report that fails makes the wait for the next one longer.
    car.reach(UpdateState::Trial);
    {
        let mut state = server.lock();
        state.reports.clear();
        state.portal = true;
    }
    car.reach(UpdateState::Confirmed);
    let pages = server.lock().portal_pages;
    car.drive_while(|| server.lock().portal_pages == pages);
    server.lock().portal = false;
    // By itself: nobody asks for a check.
    car.until_reported(&server, |state| state == UpdateState::Confirmed);
}

#[test]
fn a_model_that_was_changed_on_the_disk_does_not_drive_and_is_fetched_again() {
    let (server, store, car) = driving();
    drop(car);
    let graph = store.path().join("slots/a/model.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    let mut car = Car::open(&server, store.path());
    assert!(car.step().faults.contains(Faults::NO_MODEL));
    let event = car.drive_until(|kind| *kind == EventKind::ModelLost, |_| {});
    assert_eq!(event.reason.unwrap().name, "content_hash");
    car.reach(UpdateState::Confirmed);
    assert!(car.step().control_valid);
}

#[test]
fn a_release_for_another_tier_is_refused_and_reported_as_an_attack() {
    let (server, _store, mut car) = driving();
    {
        let mut state = server.lock();
        let mut other = switchback_signing::testing::custom(9);
        other.tier = switchback_signing::metadata::Tier::new("ultra-se").unwrap();
        let target = switchback_signing::metadata::TargetMeta::of_release(b"index", &other);
        state.repositories.publish_target("ultra/other.index", target);
        state.repositories.assign("ultra/other.index");
    }
    car.vehicle.check_now();
    let event = car.reach(UpdateState::Refused);
    assert_eq!(event.reason.unwrap().name, "wrong_tier");
    assert!(car.step().control_valid);
    car.until_reported(&server, |state| state == UpdateState::Refused);
    let report = server.reports().into_iter().find(|report| report.payload.update == UpdateState::Refused).unwrap();
    assert_eq!(report.attack_detected.unwrap().number, 151);
}

#[test]
fn a_vehicle_with_a_used_token_says_so_and_keeps_its_model() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.lock().token = "another".into();
    let mut car = Car::open(&server, store.path());
    let event = car.drive_until(|kind| *kind == EventKind::EnrollmentFailed, |_| {});
    assert!(event.reason.unwrap().text.contains("refuses (status 403): used"));
    assert!(!car.vehicle.status().enrolled);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let fails = |change: &dyn Fn(&mut VehicleConfig)| {
        let mut config = config(&server, store.path());
        change(&mut config);
        let error = Vehicle::open(config, callbacks()).expect_err("it cannot be opened");
        (error.number(), error.to_string())
    };
    assert_eq!(fails(&|config| config.server_url = "ota.example".into()).0, 411);
    assert_eq!(fails(&|config| config.engine.runtime_path = Some("/nowhere/libonnxruntime.so".into())).0 / 100, 40);
    let (number, text) = fails(&|config| config.identity.tier = "Ultra SE!".into());
    assert_eq!(number, 600);
    assert!(text.starts_with("identity.tier: \"Ultra SE!\" is not a name"), "{text}");
    let open = Car::open(&server, store.path());
    assert_eq!(fails(&|_| {}).0, 305);
    drop(open);
}
