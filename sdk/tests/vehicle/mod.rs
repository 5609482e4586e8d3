//! The life of a vehicle, from its first start to the release that it confirms, and what may come between.

mod content_keys;
mod network;
mod parked;
mod restart;
mod secondaries;
mod secondary_ecu;
mod server;
mod update;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use switchback_sdk::update::VehicleState;
use switchback_sdk::vehicle::VehicleCallbacks;
use switchback_signing::metadata::vehicle::UpdateState;
use tempfile::TempDir;

use crate::common::Road;
use crate::common::car::{Car, callbacks};
use crate::common::server::Server;

/// The better model: another control, so that the tests see who answered.
pub(super) fn better() -> Road {
    Road { control: [0.02, 0.25], ..Road::default() }
}

/// A server and a vehicle that drives release 1.
pub(super) fn driving() -> (Server, TempDir, Car) {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.release(&Road::default(), 1, 0);
    let mut car = Car::open(&server, store.path());
    car.reach(UpdateState::Confirmed);
    car.until_reported(&server, |state| state == UpdateState::Confirmed);
    (server, store, car)
}

/// Callbacks that count how often the update thread asks for the state of the vehicle.
pub(super) fn counted_callbacks() -> (VehicleCallbacks, Arc<AtomicU64>) {
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
pub(super) fn pass(car: &mut Car, looks: &AtomicU64) {
    let before = looks.load(Ordering::Relaxed);
    car.drive_while(|| looks.load(Ordering::Relaxed) < before + 3);
}
