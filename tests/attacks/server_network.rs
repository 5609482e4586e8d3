//! Whoever drops, floods, replays and mixes up what passes between a vehicle and the real server.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use switchback_signing::trust::Attack::{ArbitrarySoftware, Freeze};
use switchback_tests::{
    PATIENCE,
    car::Garage,
    paper::{self, PaperVehicle, ask},
    proxy::{Fate, Proxy, Request},
    server::Server,
};

use super::server_scene::{DIRECTOR, Field, Files, ID, IMAGE, of_director};

#[test]
fn a02_a_server_that_nobody_lets_through_changes_nothing() {
    let mut field = Field::new();
    field.proxy.set_rule(|_| Fate::Refuse);
    field.offer(2);
    field.meets(400, "server_unreachable");
    field.takes(2);
}

/// Somebody in between answers with what the vehicle has seen already, long before it expires, while the server has a release for it. Until the
/// vehicle asks with a nonce that looks like no news; then it is no answer to the question.
#[test]
fn a04_a_recorded_answer_of_the_real_server_is_noticed_before_it_expires() {
    let mut field = Field::with(Server::start(), |garage| garage.with_timestamp_age_max(Duration::from_secs(10)));
    let timestamp = format!("{DIRECTOR}timestamp.json");
    // Until nothing is under way any more, so that what was recorded is what the vehicle holds.
    let path = timestamp.clone();
    field.proxy.set_rule(move |request| if request.path == path { Fate::Refuse } else { Fate::Pass });
    field.meets(400, "server_unreachable");
    field.answer(Files::from([(timestamp.clone(), field.proxy.recorded(&timestamp))]));
    field.offer(2);
    field.refuses(121, "nonce_differs", Freeze);
    let asked_with = |proxy: &Proxy| -> Vec<String> {
        let requests = proxy.requests().into_iter().filter(|request| request.path == timestamp);
        requests.map(|request| request.query).filter(|query| !query.is_empty()).collect()
    };
    let questions = asked_with(&field.proxy);
    let distinct: BTreeSet<_> = questions.iter().collect();
    assert!(questions.len() >= 2 && distinct.len() == questions.len(), "{questions:?}");
    field.takes(2);
}

/// One peer opens more connections than it may have and keeps those that it gets. It is told to come back later, and so is the vehicle, which
/// has the same address here, as behind a carrier's gateway; the operator's requests are heard all the same. After the storm the vehicle is.
#[test]
fn a06_a_storm_of_connections_is_shed_and_the_vehicle_gets_through() {
    let mut field = Field::on(Server::start_with(&["--connections", "24", "--connections-per-peer", "16"]));
    let address = field.server.url().trim_start_matches("http://").to_owned();
    let (mut storm, mut shed) = (Vec::new(), 0);
    while shed < 32 {
        assert!(storm.len() <= 24, "more connections than the server has for all");
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A connection that is closed at once cannot be written to, which is an answer too.
        let _ = stream.write_all(b"GET /v1/image/metadata/timestamp.json HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut answer = [0; 12];
        match stream.read_exact(&mut answer).map(|()| &answer) {
            Ok(b"HTTP/1.1 200") => storm.push(stream),
            Ok(b"HTTP/1.1 503") | Err(_) => shed += 1,
            Ok(other) => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!(!storm.is_empty());
    field.meets(408, "server_busy");
    field.offer(2);
    drop(storm);
    field.takes(2);
}

/// Bodies that do not end, sent to the server: it reads as much as it has announced to read, and goes on.
#[test]
fn a08_a_body_without_end_is_not_read_by_the_server() {
    let mut field = Field::new();
    let authorization = format!("Bearer {}", std::fs::read_to_string(field.server.token_file()).unwrap().trim());
    let manifest = format!("/v1/director/{ID}/manifest");
    let routes = [
        ("PUT", manifest.as_str(), ""),
        ("POST", "/v1/vehicles/enroll", ""),
        ("POST", "/v1/rollouts", authorization.as_str()),
        ("PUT", "/v1/image/metadata/9.targets.json", authorization.as_str()),
    ];
    for (method, path, authorization) in routes {
        let mut stream = TcpStream::connect(field.server.url().trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
        // 256 MiB are without end enough: the longest of these bodies may have a few.
        let sent = (0..4096).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        assert!(sent < 4096, "{path}: the server read all of it");
        let mut answer = Vec::new();
        // The server may have closed before it was read out.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
    field.offer(2);
    field.takes(2);
}

/// A vehicle's own manifest, signed and true, but longer than anything that a vehicle has to say.
#[test]
fn a08_a_manifest_that_is_too_long_is_refused_by_the_server() {
    let mut field = Field::new();
    let paper = PaperVehicle::enroll(&field.desk, field.server.url(), "paper-1");
    let mut report = paper.report(1, paper::now());
    for number in 0..4_000 {
        report.payload.counters.insert(format!("counter-{number}"), u64::MAX >> 12);
    }
    let manifest = paper.manifest(&[(report, &paper.key)], &paper.key);
    let answer = paper.send_manifest_of("paper-1", &manifest);
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too_long"), "{} bytes", manifest.len());
    assert_eq!(field.desk.vehicle("paper-1")["report_counter"], 0);
    let manifest = paper.manifest(&[(paper.report(1, paper::now()), &paper.key)], &paper.key);
    assert_eq!(paper.send_manifest_of("paper-1", &manifest).status, 200);
    field.offer(2);
    field.takes(2);
}

/// The Image repository's files in place of the Director's, and one role's in place of another's, as the server itself signed them.
#[test]
fn a14_files_of_the_real_server_under_other_names_are_refused() {
    for (taken, shown, number, name) in [
        (format!("{IMAGE}timestamp.json"), "timestamp.json", 102, "threshold_not_met"),
        (format!("{DIRECTOR}*.snapshot.json"), "timestamp.json", 101, "metadata_malformed"),
    ] {
        let mut field = Field::new();
        let (start, end) = taken.split_once('*').unwrap_or((&taken, ""));
        let is_taken = |path: &String| path.starts_with(start) && path.ends_with(end);
        let path = field.proxy.requests().into_iter().map(|request| request.path).rfind(is_taken).unwrap();
        let bytes = field.proxy.recorded(&path);
        field.answer(Files::from([(format!("{DIRECTOR}{shown}"), bytes)]));
        field.refuses(number, name, ArbitrarySoftware);
        field.offer(2);
        field.takes(2);
    }
}

/// What was signed for another vehicle of the same kind is shown to one that has seen nothing of its own yet. It names no vehicle in Timestamp
/// and Snapshot, but the answer to this vehicle's first question it is not; nothing of it is kept, so that no version stands in the way of the
/// vehicle's own, be they of the same second.
#[test]
fn a15_metadata_of_a_neighbor_is_refused() {
    let field = Field::new();
    let recorded = field.proxy.requests().into_iter().map(|request| request.path).filter(|path| path.starts_with(DIRECTOR));
    let signed = recorded.filter(|path| !path.ends_with(".root.json"));
    let files: Files = signed.map(|path| (path.replace(ID, "p7-2"), field.proxy.recorded(&path))).collect();
    assert_eq!(files.len(), 3, "{:?}", files.keys());
    field.answer(files);
    let garage = Garage::new(&field.desk, "p7-2", "ultra", "eu");
    let mut car = garage.start(field.proxy.url());
    let reason = car.until_failed();
    assert_eq!((reason.number, reason.name.as_str()), (121, "nonce_differs"), "{reason:?}");
    assert!(car.active().is_none());
    let told = format!("nonce_differs (121): {Freeze}: ");
    field.desk.vehicle_until("p7-2", |vehicle| {
        let mut attacks = vehicle["attacks"].as_array().unwrap().iter();
        attacks.any(|attack| attack["text"].as_str().unwrap().starts_with(&told))
    });
    field.proxy.set_rule(|_| Fate::Pass);
    field.offer(2);
    car.check_now();
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
}

/// One enrolled vehicle asks for what is meant for another; a stranger for what is meant for anybody; and a request that was captured is
/// sent once more for something else.
#[test]
fn a15_one_vehicle_cannot_fetch_what_is_meant_for_another() {
    let mut field = Field::new();
    let paper = PaperVehicle::enroll(&field.desk, field.server.url(), "paper-1");
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json"] {
        let answer = paper.send("GET", &format!("{DIRECTOR}{file}"), &[]);
        assert_eq!((answer.status, answer.problem().as_str()), (401, "signature_invalid"), "{file}");
        let answer = ask(field.server.url(), "GET", &format!("{DIRECTOR}{file}"), &[], &[]);
        assert_eq!(answer.status, 401, "{file}");
    }
    let own = paper.send("GET", "/v1/director/paper-1/metadata/timestamp.json", &[]);
    assert_eq!(own.status, 200);
    let old = paper::now().plus_seconds(-3_600);
    let late = paper.send_signed_at("GET", "/v1/director/paper-1/metadata/timestamp.json", &[], old);
    assert_eq!(late.status, 401, "{late:?}");
    field.offer(2);
    field.takes(2);
}

/// In between, the server answers with errors, for one file after the other.
#[test]
fn a20_errors_in_between_leave_the_vehicle_where_it_is() {
    let mut field = Field::new();
    for (file, status, number, name) in [
        ("2.root.json", 500, 410, "server_failed"),
        ("timestamp.json", 502, 410, "server_failed"),
        ("timestamp.json", 503, 408, "server_busy"),
    ] {
        field.proxy.set_rule(move |request: &Request| match of_director(request) && request.path.ends_with(file) {
            true => Fate::Answer(status, Vec::new()),
            false => Fate::Pass,
        });
        field.meets(number, name);
    }
    field.offer(2);
    field.takes(2);
}
