//! The daily update: a vehicle fetches what differs from the release that it has, and the whole bundle where that is of no use.

use switchback_tests::{
    car::{Car, Garage},
    delta,
    desk::{Bundle, Desk, Named},
    model::{ModelFolder, Straight, noise},
    proxy::Proxy,
    server::Server,
};
use tempfile::TempDir;

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };
const WEIGHTS: usize = 2 << 20;

/// A model with 16-bit weights, after so much training: all weights move a little.
fn model(curvature_1pm: f32, training: u64) -> ModelFolder {
    let (base, moved) = (noise(9, WEIGHTS), noise(training, WEIGHTS));
    let weight =
        |(base, moved): (&u8, &u8)| (0x3c00 + u16::from(*base) + if training == 0 { 0 } else { u16::from(*moved % 3) }).to_le_bytes();
    let mut model = Straight::new(curvature_1pm).write();
    model.add_data("weights.bin", &base.iter().zip(&moved).flat_map(weight).collect::<Vec<u8>>());
    model
}

struct Road {
    server: Server,
    desk: Desk,
    proxy: Proxy,
    garage: Garage,
    first: Bundle,
}

impl Road {
    /// A vehicle that drives the first release, which the server knows.
    fn new() -> (Self, Car) {
        let server = Server::start();
        let desk = Desk::open(&server);
        let proxy = Proxy::start(server.url()).unwrap();
        let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
        let first = desk.release(&model(0.001, 0), FIRST);
        desk.roll_out("vla-1", "1.0.0");
        let mut car = garage.start(proxy.url());
        assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
        car.until_checked();
        desk.vehicle_until("p7-1", |vehicle| vehicle["installed"]["path"] == "ultra/vla-1-1.0.0.index");
        (Self { server, desk, proxy, garage, first }, car)
    }

    /// The second release with a delta from the first; returns the length of its bundle.
    fn release_second(&self) -> u64 {
        let second = self.desk.release(&model(0.002, 7), SECOND);
        let made = TempDir::new().unwrap();
        delta::make(&self.first, &second, made.path());
        for _ in 0..2 {
            // The second time nothing is sent, and nothing is wrong with that.
            self.desk.succeed(&["publish"], &[("--base", &self.desk.base()), ("--delta", made.path())]);
        }
        second.bundle.metadata().unwrap().len()
    }

    fn requests(&self, part: &str) -> usize {
        self.proxy.requests().iter().filter(|request| request.path.contains(part)).count()
    }
}

#[test]
fn a_vehicle_fetches_what_differs_from_the_release_that_it_has() {
    let (road, mut car) = Road::new();
    let bundle_bytes = road.release_second();
    let before = road.proxy.body_bytes();
    road.desk.roll_out("vla-2", "2.0.0");
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    let sent = (road.proxy.body_bytes() - before) as u64;
    assert!(sent < bundle_bytes / 2, "{sent} bytes were sent for a bundle of {bundle_bytes}");
    assert!(road.requests(".delta.index") == 1 && road.requests(".delta") > 1, "the delta was asked for");
    let bytes = car.status().chunk_bytes;
    assert!(bytes.restored > bundle_bytes / 2 && bytes.not_restored == 0, "{bytes:?}");
    assert_eq!(car.curvatures.last(), Some(&0.002));

    // Another vehicle, without the first release, is told of no delta.
    let other = Garage::new(&road.desk, "p7-2", "ultra", "eu");
    let asked = road.requests(".delta");
    assert_eq!(other.start(road.proxy.url()).until_confirmed(), "vla-2 2.0.0");
    assert_eq!(road.requests(".delta"), asked);
    // And the first one, which is there, is signed nothing new for it.
    car.until_checked();
    let fetched = road.requests(".targets.json");
    car.until_checked();
    assert_eq!(road.requests(".targets.json"), fetched);
}

#[test]
fn a_delta_that_is_damaged_on_the_server_costs_its_download_and_the_right_model_comes() {
    let (road, mut car) = Road::new();
    let bundle_bytes = road.release_second();
    let data = road.server.stored(".delta");
    let damaged: Vec<u8> = std::fs::read(&data).unwrap().iter().map(|byte| byte ^ 0x55).collect();
    std::fs::write(&data, damaged).unwrap();
    road.desk.roll_out("vla-2", "2.0.0");
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    let bytes = car.status().chunk_bytes;
    assert!(bytes.restored == 0 && bytes.not_restored > bundle_bytes / 2, "{bytes:?}");
    assert_eq!(car.curvatures.last(), Some(&0.002));
    // Also at the next ignition, with nobody to ask.
    drop(car);
    assert_eq!(road.garage.start("http://127.0.0.1:9").active().as_deref(), Some("vla-2 2.0.0"));
}

#[test]
fn a_delta_to_nothing_that_is_published_is_refused_at_the_desk_and_at_the_server() {
    let (road, _car) = Road::new();
    let made = TempDir::new().unwrap();
    let unpublished = road.desk.pack(&model(0.003, 8), Named { model: "vla-3", version: "3.0.0", counter: 3, tier: "ultra" });
    delta::make(&road.first, &unpublished, made.path());
    let words = ["publish"];
    let error = road.desk.fail(&words, &[("--base", &road.desk.base()), ("--delta", made.path())]);
    assert!(error.contains("restores no release that this base lists"), "{error}");
    std::fs::write(made.path().join("delta.data"), b"short").unwrap();
    let error = road.desk.fail(&words, &[("--base", &road.desk.base()), ("--delta", made.path())]);
    assert!(error.contains("its index says"), "{error}");
}
