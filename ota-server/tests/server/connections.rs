//! Peers that hold connections, send slowly, or do not read.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use switchback_ota_server::api::ConnectionLimits;
use switchback_signing::keys::Sha256Digest;

use crate::{
    folder, published,
    support::{Ceremony, Control, Response, TestServer, http},
};

/// More than any machine needs.
const PATIENCE: Duration = Duration::from_secs(120);
/// A limit that no test waits for.
const NEVER: Duration = Duration::from_secs(3600);

const DEVICE_FILE: &str = "/v1/image/metadata/timestamp.json";

fn limits() -> ConnectionLimits {
    let quiet = ConnectionLimits { first_request: NEVER, idle: NEVER, stall: NEVER, ..ConnectionLimits::default() };
    ConnectionLimits { connections_max: 6, per_peer_max: 4, reserve: 256, ..quiet }
}

fn connect(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(server: &TestServer) -> std::io::Result<Response> {
    http::try_request(server.address(), "GET", DEVICE_FILE, &[], &[])
}

/// Asks until there is a connection free again.
fn until_heard(server: &TestServer) -> Response {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask(server) {
            Ok(response) if response.status != 503 => return response,
            other => assert!(Instant::now() < end, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection on which the server has begun to send `path`.
fn answered(server: &TestServer, path: &str) -> TcpStream {
    loop {
        let mut stream = connect(server);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let mut status = [0; 12];
        if stream.read_exact(&mut status).is_ok() && &status == b"HTTP/1.1 200" {
            return stream;
        }
    }
}

/// All four connections that this peer may have. Each has been answered on, because until the server notices it, a connection of
/// earlier that we closed still counts.
fn hold_all(server: &TestServer) -> Vec<TcpStream> {
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(answered(server, DEVICE_FILE));
    }
    held
}

/// Whether a connection is answered on; if not, it was closed.
fn is_served(server: &TestServer) -> bool {
    let mut stream = connect(server);
    // Fails when it was closed already.
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    !answer.is_empty()
}

#[test]
fn the_control_plane_answers_while_a_peer_holds_all_it_may() {
    let data = folder();
    let server = TestServer::start_limited(data.path(), limits());
    published(&server);
    let held = hold_all(&server);
    let busy = ask(&server).unwrap();
    assert_eq!((busy.status, busy.problem().as_str(), busy.headers["retry-after"].as_str()), (503, "busy", "30"));
    assert_eq!(busy.headers["connection"], "close");
    server.ask("GET", "/v1/rollouts", None);
    assert_eq!(http::request(server.address(), "GET", "/healthz", &[], &[]).status, 200);
    let guessed = http::request(server.address(), "GET", "/v1/rollouts", &[("authorization", "Bearer guessed")], &[]);
    assert_eq!(guessed.status, 503);
    drop(held);
    assert_eq!(until_heard(&server).status, 200);
}

/// One that also holds its part of the reserve gets nothing more, and takes nothing from others.
#[cfg(target_os = "linux")]
#[test]
fn another_peer_does_not_notice() {
    let data = folder();
    let server = TestServer::start_limited(data.path(), ConnectionLimits { reserve: 2, ..limits() });
    published(&server);
    let mut held = hold_all(&server);
    let end = Instant::now() + PATIENCE;
    while is_served(&server) {
        held.push(connect(&server));
        assert!(Instant::now() < end, "{} connections are held", held.len());
    }

    let address = server.address().parse().unwrap();
    let mut other = server.runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    other.set_nonblocking(false).unwrap();
    other.write_all(format!("GET {DEVICE_FILE} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn who_sends_its_first_request_too_slowly_is_hung_up_on() {
    let data = folder();
    let server = TestServer::start_limited(data.path(), ConnectionLimits { first_request: Duration::from_millis(500), ..limits() });
    let (mut silent, mut slow) = (connect(&server), connect(&server));
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ").unwrap();
    let mut answers = Vec::new();
    for stream in [&mut silent, &mut slow] {
        // The end of the stream, or a reset; a time-out would be the test's own.
        if let Err(error) = stream.read_to_end(&mut answers) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    assert!(answers.is_empty(), "{}", String::from_utf8_lossy(&answers));
}

#[test]
fn a_connection_on_which_nothing_follows_is_closed() {
    let data = folder();
    let server = TestServer::start_limited(data.path(), ConnectionLimits { idle: Duration::from_millis(500), ..limits() });
    let mut stream = connect(&server);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
}

#[test]
fn who_does_not_read_what_it_asked_for_is_hung_up_on() {
    let data = folder();
    let limits = ConnectionLimits { per_peer_max: 1, stall: Duration::from_millis(500), ..limits() };
    let server = TestServer::start_limited(data.path(), limits);
    published(&server);
    // More than both sides' kernels hold.
    let bytes = vec![7; 15 << 20];
    assert_eq!(Ceremony::upload(&server, "ultra/big.tar.zst", &bytes).status, 201);
    let path = format!("/v1/image/targets/ultra/{}.big.tar.zst", Sha256Digest::of(&bytes));
    let mut stream = answered(&server, &path);
    // The one connection of this peer is free again.
    assert_eq!(until_heard(&server).status, 200);
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    assert!(read.len() < bytes.len(), "{} bytes", read.len());
}
