//! What the program allows on the network that the vehicle is on.

use std::sync::{Arc, Mutex};

use switchback_sdk::update::Consent;
use switchback_sdk::vehicle::{EventKind, NetworkUse, Transfer};
use switchback_signing::metadata::vehicle::UpdateState;

use super::better;
use crate::common::Road;
use crate::common::car::{Car, callbacks, config};
use crate::common::server::Server;

/// A vehicle with a confirmed model whose program answers what stands here, and keeps what it was asked.
struct Garage {
    server: Server,
    _store: tempfile::TempDir,
    car: Car,
    answer: Arc<Mutex<NetworkUse>>,
    asked: Arc<Mutex<Vec<Transfer>>>,
}

impl Garage {
    fn new() -> Self {
        let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
        server.release(&Road::default(), 1, 0);
        let (answer, asked) = (Arc::<Mutex<NetworkUse>>::default(), Arc::<Mutex<Vec<Transfer>>>::default());
        let mut callbacks = callbacks();
        callbacks.consent = Some(Box::new(|_| Consent::Granted));
        let (answers, asks) = (Arc::clone(&answer), Arc::clone(&asked));
        callbacks.network = Some(Box::new(move |transfer| {
            asks.lock().unwrap().push(transfer.clone());
            *answers.lock().unwrap()
        }));
        let mut car = Car::open_with(config(&server, store.path()), callbacks);
        car.reach(UpdateState::Confirmed);
        server.lock().bundle_bytes = 0;
        server.lock().ranges.clear();
        asked.lock().unwrap().clear();
        Self { server, _store: store, car, answer, asked }
    }

    fn allow(&self, network: NetworkUse) {
        *self.answer.lock().unwrap() = network;
    }

    fn paused_because(&mut self) -> (u32, String) {
        let event = self.car.drive_until(|kind| *kind == EventKind::DownloadPaused, |_| {});
        let reason = event.reason.unwrap();
        (reason.number, reason.name)
    }
}

#[test]
fn without_a_network_for_it_nothing_of_a_release_is_fetched_until_there_is_one() {
    let mut garage = Garage::new();
    garage.allow(NetworkUse::None);
    garage.server.release(&better(), 2, 3 << 20);
    garage.car.vehicle.check_now();
    assert_eq!(garage.paused_because(), (505, "network_not_allowed".to_owned()));
    assert!(garage.server.lock().ranges.is_empty(), "no byte of the bundle was asked for");
    let asked = garage.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.model.as_str(), asked.release_counter, asked.metered_bytes), ("vla-2", 2, 0));
    assert!(asked.missing_bytes > 3 << 20, "{asked:?}");
    assert!(garage.car.step().control_valid);
    garage.allow(NetworkUse::Unmetered);
    garage.car.vehicle.check_now();
    garage.car.reach(UpdateState::Confirmed);
    let (first, last) = (&asked, garage.asked.lock().unwrap().last().unwrap().clone());
    assert!(last.missing_bytes < first.missing_bytes, "{last:?}");
}

#[test]
fn a_metered_network_costs_no_more_than_is_allowed_and_the_rest_comes_over_another() {
    const ALLOWED: u64 = 3 << 19;
    let mut garage = Garage::new();
    garage.allow(NetworkUse::Metered { bytes_max: ALLOWED });
    garage.server.release(&better(), 2, 3 << 20);
    garage.car.vehicle.check_now();
    assert_eq!(garage.paused_because(), (506, "network_budget_used".to_owned()));
    let sent = garage.server.lock().bundle_bytes as u64;
    assert!(sent > 0 && sent <= ALLOWED, "{sent} bytes were sent");
    let last = garage.asked.lock().unwrap().last().unwrap().clone();
    assert!(last.metered_bytes >= sent && last.metered_bytes <= ALLOWED, "{sent} bytes of the bundle: {last:?}");
    // What is allowed after all is what the first part left over.
    garage.allow(NetworkUse::Unmetered);
    garage.car.vehicle.check_now();
    garage.car.reach(UpdateState::Confirmed);
    assert!(garage.server.lock().ranges.last().unwrap() > &0, "{:?}", garage.server.lock().ranges);
}
