//! What a poll with nothing new costs the server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{SystemTime, UNIX_EPOCH},
};

use switchback_signing::{
    digest::Sha256Digest,
    keys::{
        Ed25519Signer, Signer,
        http::{CONTENT_DIGEST, Request, SIGNATURE, SIGNATURE_INPUT, sign_request},
    },
    metadata::{EcuSerial, HardwareId, VehicleId, Version, vehicle::EnrollmentRequest},
    time::UnixTime,
};
use switchback_tests::{
    desk::{Desk, HARDWARE},
    server::Server,
};

use crate::report::{Report, cpu_time_of};

const POLLS: usize = 20_000;
const FLEET: usize = 64;

pub(crate) fn run(report: &mut Report) {
    let server = Server::start();
    let desk = Desk::open(&server);
    let mut fleet: Vec<Vehicle> = (1..=FLEET).map(|number| Vehicle::enroll(&server, &desk, number)).collect();

    let note = "signed request, answered 304 from memory; one connection kept alive, plain HTTP; server processor time alone";
    report.add("polls_per_cpu_s", polls_per_cpu_s(&server, &mut fleet[..1]), "1/s", note);
    let note = "the same from 64 vehicles at once, each on its own connection: what the server can do when it is busy";
    report.add("polls_per_cpu_s_fleet", polls_per_cpu_s(&server, &mut fleet), "1/s", note);
}

fn polls_per_cpu_s(server: &Server, fleet: &mut [Vehicle]) -> f64 {
    let rounds = POLLS / fleet.len();
    (0..rounds / 20).for_each(|_| poll_once(fleet));
    let before = cpu_time_of(&server.pid().to_string());
    (0..rounds).for_each(|_| poll_once(fleet));
    let cpu_s = (cpu_time_of(&server.pid().to_string()) - before).as_secs_f64();
    (rounds * fleet.len()) as f64 / cpu_s
}

/// Every vehicle asks, then every vehicle reads its answer.
fn poll_once(fleet: &mut [Vehicle]) {
    for vehicle in &mut *fleet {
        vehicle.connection.send(&vehicle.poll);
    }
    for vehicle in fleet {
        vehicle.connection.answer();
    }
}

struct Vehicle {
    connection: Connection,
    poll: Vec<u8>,
}

impl Vehicle {
    /// Enrolls a vehicle, lets it learn of its first Timestamp and keeps the poll that has nothing new to learn.
    fn enroll(server: &Server, desk: &Desk, number: usize) -> Self {
        let id = format!("bench-{number}");
        let key = Ed25519Signer::from_seed([u8::try_from(number).unwrap(); 32]);
        let mut connection = Connection::open(server);
        enroll(&mut connection, desk, &id, &key);
        let target = format!("/v1/director/{id}/metadata/timestamp.json");
        connection.send(&get(&key, &target, None));
        let etag = connection.answer().expect("the first answer has an entity tag");
        Self { connection, poll: get(&key, &target, Some(&etag)) }
    }
}

fn enroll(connection: &mut Connection, desk: &Desk, id: &str, key: &Ed25519Signer) {
    let request = EnrollmentRequest {
        token: desk.enroll(id, "ultra", "eu"),
        vehicle_id: VehicleId::new(id).unwrap(),
        ecu_serial: EcuSerial::new(format!("ecu-{id}")).unwrap(),
        hardware_id: HardwareId::new(HARDWARE).unwrap(),
        public_key: key.public_key(),
        sdk_version: Version::new(0, 1, 0),
        secondaries: Vec::new(),
    };
    let body = request.to_bytes();
    let target = "/v1/vehicles/enroll";
    let signed = sign_request(key, &Request { method: "POST", target, body: Some(Sha256Digest::of(&body)) }, now()).unwrap();
    let (input, signature, digest) = (signed.signature_input, signed.signature, signed.content_digest.unwrap());
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{SIGNATURE_INPUT}: {input}\r\n\
         {SIGNATURE}: {signature}\r\n{CONTENT_DIGEST}: {digest}\r\n\r\n",
        body.len()
    );
    connection.send(&[head.into_bytes(), body].concat());
    connection.answer();
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_seconds(i64::try_from(since.as_secs()).unwrap())
}

/// A signed request; the signature covers method, path and second, so it may be sent again for some minutes.
fn get(key: &Ed25519Signer, target: &str, etag: Option<&str>) -> Vec<u8> {
    let signed = sign_request(key, &Request { method: "GET", target, body: None::<Sha256Digest> }, now()).unwrap();
    let condition = etag.map(|etag| format!("if-none-match: {etag}\r\n")).unwrap_or_default();
    let (input, signature) = (signed.signature_input, signed.signature);
    format!("GET {target} HTTP/1.1\r\nhost: bench\r\n{SIGNATURE_INPUT}: {input}\r\n{SIGNATURE}: {signature}\r\n{condition}\r\n")
        .into_bytes()
}

struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    fn send(&mut self, request: &[u8]) {
        self.reader.get_mut().write_all(request).unwrap();
    }

    /// Reads the whole answer and returns its entity tag.
    fn answer(&mut self) -> Option<String> {
        let (mut etag, mut length, mut line, mut status) = (None, 0, String::new(), String::new());
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line == "\r\n" {
                    break;
                }
                status = line.trim_end().to_owned();
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "etag" => etag = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let not_modified = status.contains(" 304 ") || status.ends_with(" 304");
        let mut body = vec![0; if not_modified { 0 } else { length }];
        self.reader.read_exact(&mut body).unwrap();
        assert!(status.contains(" 200") || status.contains(" 304"), "{status}: {}", String::from_utf8_lossy(&body));
        etag
    }
}
