//! Vehicles as the server sees them: enrolled, each with one connection kept alive, and requests signed with its key.

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

/// A vehicle of tier `ultra` in region `eu` that has enrolled.
pub(crate) struct Vehicle {
    pub(crate) id: VehicleId,
    pub(crate) ecu_serial: EcuSerial,
    key: Ed25519Signer,
    connection: Connection,
}

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Status line, fields and body as they came over the wire.
    pub(crate) bytes: usize,
}

impl Vehicle {
    pub(crate) fn enroll(server: &Server, desk: &Desk, number: usize) -> Self {
        let id = format!("bench-{number}");
        let mut vehicle = Self {
            id: VehicleId::new(&id).unwrap(),
            ecu_serial: EcuSerial::new(format!("ecu-{id}")).unwrap(),
            key: Ed25519Signer::from_seed([u8::try_from(number).unwrap(); 32]),
            connection: Connection::open(server),
        };
        let request = vehicle.enrollment(desk.enroll(&id, "ultra", "eu"));
        let answer = vehicle.ask(&request);
        assert!(answer.status < 300, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        vehicle
    }

    fn enrollment(&self, token: String) -> Vec<u8> {
        let request = EnrollmentRequest {
            token,
            vehicle_id: self.id.clone(),
            ecu_serial: self.ecu_serial.clone(),
            hardware_id: HardwareId::new(HARDWARE).unwrap(),
            public_key: self.key.public_key(),
            sdk_version: Version::new(0, 1, 0),
            secondaries: Vec::new(),
            encryption_key: None,
        };
        let body = request.to_bytes();
        let target = "/v1/vehicles/enroll";
        let signed = sign_request(&self.key, &Request { method: "POST", target, body: Some(Sha256Digest::of(&body)) }, now()).unwrap();
        let (input, signature, digest) = (signed.signature_input, signed.signature, signed.content_digest.unwrap());
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{SIGNATURE_INPUT}: {input}\r\n\
             {SIGNATURE}: {signature}\r\n{CONTENT_DIGEST}: {digest}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    /// Where a file of the Director's metadata for this vehicle lies.
    pub(crate) fn director(&self, file: &str) -> String {
        format!("/v1/director/{}/metadata/{file}", self.id)
    }

    /// A signed request. The signature covers method, path and second, so it may be sent again for some minutes.
    pub(crate) fn get(&self, target: &str, etag: Option<&str>) -> Vec<u8> {
        let signed = sign_request(&self.key, &Request { method: "GET", target, body: None::<Sha256Digest> }, now()).unwrap();
        let condition = etag.map(|etag| format!("if-none-match: {etag}\r\n")).unwrap_or_default();
        let (input, signature) = (signed.signature_input, signed.signature);
        format!("GET {target} HTTP/1.1\r\nhost: bench\r\n{SIGNATURE_INPUT}: {input}\r\n{SIGNATURE}: {signature}\r\n{condition}\r\n")
            .into_bytes()
    }

    pub(crate) fn send(&mut self, request: &[u8]) {
        self.connection.stream.get_mut().write_all(request).unwrap();
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.connection.answer()
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.answer()
    }
}

pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_seconds(i64::try_from(since.as_secs()).unwrap())
}

struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn answer(&mut self) -> Answer {
        let (mut etag, mut length, mut line, mut status, mut head) = (None, 0, String::new(), 0, 0);
        loop {
            line.clear();
            head += self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line == "\r\n" {
                    break;
                }
                status = line.split(' ').nth(1).unwrap().parse().unwrap();
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "etag" => etag = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; if status == 304 { 0 } else { length }];
        self.stream.read_exact(&mut body).unwrap();
        Answer { status, etag, bytes: head + body.len(), body }
    }
}
