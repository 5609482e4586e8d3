//! A vehicle that was switched off, lost its power, or finds its disk in another state than it left it in.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::json;
use switchback_sdk::drive::{Faults, Mode};
use switchback_sdk::store::{Finding, SlotState, Store, TRIES_MAX};
use switchback_sdk::update::ActivationPolicy;
use switchback_sdk::vehicle::{EventKind, VehicleCallbacks};
use switchback_signing::metadata::vehicle::UpdateState;
use switchback_signing::testing::NOW;

use super::{better, counted_callbacks, driving, pass};
use crate::common::car::{Car, callbacks, config, power_cut};
use crate::common::server::Server;
use crate::common::watch::when_said;
use crate::common::{PATIENCE, Road};

/// A better release 2 is armed, and waits because the driving function is engaged, when the vehicle is switched off.
fn switch_off_when_armed(server: &Server, mut car: Car) {
    server.release(&better(), 2, 0);
    car.mode = Mode::Engaged;
    car.step();
    car.vehicle.check_now();
    car.reach(UpdateState::Armed);
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
    let (server, mut store, car) = driving();
    switch_off_when_armed(&server, car);
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

#[test]
fn a_release_that_takes_the_process_down_in_its_shadow_run_is_left_alone_after_three_times() {
    let (server, mut store, mut car) = driving();
    // As good as endless, so that the power is cut in the middle of it however slow the test is.
    server.release(&better().with("/acceptance/shadow_frames", json!(1_000_000)), 2, 0);
    car.vehicle.check_now();
    car.reach(UpdateState::Shadow);
    drop(car);
    server.lock().down = true;
    for _ in 0..TRIES_MAX {
        for _ in 0..TRIES_MAX {
            // Shadow runs that an orderly end cuts off do not count.
            Car::open(&server, store.path()).reach(UpdateState::Shadow);
        }
        let mut car = Car::open(&server, store.path());
        car.reach(UpdateState::Shadow);
        store = power_cut(store.path());
    }
    server.lock().down = false;
    let mut car = Car::open(&server, store.path());
    car.drive_until(|kind| matches!(kind, EventKind::Recovered(Finding::ShadowGivenUp { .. })), |_| {});
    let event = car.reach(UpdateState::Refused);
    assert_eq!(event.reason.unwrap().text, "given up on this vehicle after failure 3: shadow_interrupted (342)");
    assert_eq!(car.model().as_deref(), Some("vla-1"));
    assert!(car.step().control_valid);
}

#[test]
fn a_release_that_was_withdrawn_while_the_vehicle_was_switched_off_never_drives() {
    let (server, store, car) = driving();
    switch_off_when_armed(&server, car);
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

/// Makes the graph in a slot unreadable, as a disk that fails does; gives back what makes it readable again.
fn make_unreadable(store: &Path, slot: &str) -> impl FnOnce() + Send + 'static {
    let (graph, aside) = (store.join("slots").join(slot).join("model.onnx"), store.join("aside"));
    std::fs::rename(&graph, &aside).unwrap();
    std::os::unix::fs::symlink("model.onnx", &graph).unwrap();
    move || std::fs::rename(aside, graph).unwrap()
}

#[test]
fn a_model_that_cannot_be_read_for_now_is_not_thrown_away_and_drives_when_it_can_be_read() {
    let (server, store, car) = driving();
    drop(car);
    let restore = make_unreadable(store.path(), "a");
    server.lock().down = true;
    let mut car = Car::open(&server, store.path());
    let event = car.drive_until(|kind| *kind == EventKind::ModelLost, |_| {});
    assert_eq!(event.reason.unwrap().name, "io");
    assert!(car.step().faults.contains(Faults::NO_MODEL));
    restore();
    // By itself: nobody asks for it, and no server is there.
    car.drive_until(|kind| *kind == EventKind::ModelRestored, |_| {});
    assert!(car.step().control_valid);
    assert_eq!(car.model().as_deref(), Some("vla-1"));
}

#[test]
fn a_model_that_stays_unreadable_is_fetched_anew_beside_what_is_left_of_it() {
    let (server, store, car) = driving();
    drop(car);
    let _restore = make_unreadable(store.path(), "a");
    let mut car = Car::open(&server, store.path());
    // It is tried again at rising intervals; whoever asks for a check moves the next try up.
    let begun = Instant::now();
    while !car.states().contains(&UpdateState::Offered) {
        assert!(begun.elapsed() < PATIENCE, "{:#?}", car.events);
        car.vehicle.check_now();
        car.drive_until(|kind| matches!(kind, EventKind::Checked | EventKind::ModelLost | EventKind::Update(_)), |_| {});
    }
    car.reach(UpdateState::Confirmed);
    assert!(car.step().control_valid);
    assert_eq!(car.model().as_deref(), Some("vla-1"));
    assert_eq!(car.vehicle.status().active.unwrap().slot.name(), "b");
}

#[test]
fn a_release_that_waits_for_its_trial_and_cannot_be_read_for_now_is_not_thrown_away() {
    let (server, store, car) = driving();
    switch_off_when_armed(&server, car);
    let bundle_bytes = server.lock().bundle_bytes;
    let restore = make_unreadable(store.path(), "b");
    when_said("reads-again", "the release cannot be read for now", restore);
    let mut config = config(&server, store.path());
    config.thread_name = "reads-again".into();
    let mut car = Car::open_with(config, callbacks());
    car.reach(UpdateState::Confirmed);
    assert!(!car.states().contains(&UpdateState::Refused), "{:?}", car.events);
    assert_eq!((car.model().as_deref(), server.lock().bundle_bytes), (Some("vla-2"), bundle_bytes), "not fetched again");
}

#[test]
fn metadata_that_cannot_be_written_for_now_is_believed_later() {
    let (server, store, mut car) = driving();
    server.release(&better(), 2, 0);
    let (folder, aside) = (store.path().join("metadata-director"), store.path().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    car.vehicle.check_now();
    let event = car.drive_until(|kind| *kind == EventKind::CheckFailed, |_| {});
    assert_eq!(event.reason.unwrap().name, "io");
    std::fs::rename(aside, folder).unwrap();
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
}

#[test]
fn a_clock_that_was_set_back_makes_no_metadata_fresh_and_is_told_of() {
    let (server, store, car) = driving();
    drop(car);
    let callbacks = VehicleCallbacks { clock: Some(Box::new(|| 0)), ..VehicleCallbacks::default() };
    let mut car = Car::open_with(config(&server, store.path()), callbacks);
    let event = car.drive_until(|kind| *kind == EventKind::ClockBehind, |_| {});
    assert_eq!((event.time_s, event.reason.unwrap().number), (NOW.seconds(), 611));
    assert_eq!(car.vehicle.status().clock_behind_s, NOW.seconds() as u64);
    car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
}

#[test]
fn an_order_that_no_frame_follows_costs_no_try_when_the_power_is_cut() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let mut config = config(&server, store.path());
    config.activation = ActivationPolicy::Manual;
    let (callbacks, looks) = counted_callbacks();
    let mut car = Car::open_with(config, callbacks);
    car.reach(UpdateState::Armed);
    // Parked: no frame from here on. The order may find the last ones recent enough, and is taken back then.
    car.vehicle.activate();
    let interrupted = || {
        let (_, findings) = Store::open_dir(power_cut(store.path()).path()).unwrap();
        findings.iter().any(|found| matches!(found, Finding::TrialInterrupted { .. }))
    };
    let begun = Instant::now();
    let passes_take = |passes: u64| {
        let (since, before) = (Instant::now(), looks.load(Ordering::Relaxed));
        while looks.load(Ordering::Relaxed) < before + passes {
            assert!(begun.elapsed() < PATIENCE, "the try stays on record, or a parked vehicle is kept awake by an armed model");
            std::thread::yield_now();
        }
        since.elapsed()
    };
    while passes_take(3) < Duration::from_millis(300) || interrupted() {}
    assert!(!interrupted(), "nor is there another try");
    assert_eq!(car.vehicle.status().update, UpdateState::Armed);
    // The order stands: the next frames bring it.
    car.reach(UpdateState::Confirmed);
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
