//! What a poll with nothing new costs the server, and the network.

use switchback_tests::{desk::Desk, server::Server};

use crate::{
    report::{Report, cpu_time_of},
    wire::Vehicle,
};

const POLLS: usize = 20_000;
const FLEET: usize = 64;

pub(crate) fn run(report: &mut Report) {
    let server = Server::start();
    let desk = Desk::open(&server);
    let mut fleet: Vec<Poller> = (1..=FLEET).map(|number| Poller::new(Vehicle::enroll(&server, &desk, number))).collect();

    let note = "signed request, answered 304 from memory; one connection kept alive, plain HTTP; server processor time alone";
    report.add("polls_per_cpu_s", polls_per_cpu_s(&server, &mut fleet[..1]), "1/s", note);
    let note = "the same from 64 vehicles at once, each on its own connection: what the server can do when it is busy";
    report.add("polls_per_cpu_s_fleet", polls_per_cpu_s(&server, &mut fleet), "1/s", note);

    let Poller { vehicle, poll } = &mut fleet[0];
    let answer = vehicle.ask(poll);
    let note = format!("{} there with its signature, {} back; HTTP/1.1 without TLS", poll.len(), answer.bytes);
    report.add("poll_unchanged_bytes", (poll.len() + answer.bytes) as f64, "B", &note);
}

fn polls_per_cpu_s(server: &Server, fleet: &mut [Poller]) -> f64 {
    let rounds = POLLS / fleet.len();
    (0..rounds / 20).for_each(|_| poll_once(fleet));
    let before = cpu_time_of(&server.pid().to_string());
    (0..rounds).for_each(|_| poll_once(fleet));
    let cpu_s = (cpu_time_of(&server.pid().to_string()) - before).as_secs_f64();
    (rounds * fleet.len()) as f64 / cpu_s
}

/// Every vehicle asks, then every vehicle reads its answer.
fn poll_once(fleet: &mut [Poller]) {
    for Poller { vehicle, poll } in &mut *fleet {
        vehicle.send(poll);
    }
    for Poller { vehicle, .. } in fleet {
        assert_eq!(vehicle.answer().status, 304);
    }
}

/// A vehicle that knows its newest Timestamp, and the poll that has nothing new to learn.
struct Poller {
    vehicle: Vehicle,
    poll: Vec<u8>,
}

impl Poller {
    fn new(mut vehicle: Vehicle) -> Self {
        let timestamp = vehicle.director("timestamp.json");
        let first = vehicle.get(&timestamp, None);
        let etag = vehicle.ask(&first).etag.expect("the first answer has an entity tag");
        let poll = vehicle.get(&timestamp, Some(&etag));
        Self { vehicle, poll }
    }
}
