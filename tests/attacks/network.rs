//! Whoever sits on the network: drops, drips, floods, redirects and alters what passes, and sets clocks.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use switchback_sdk::{
    fetch::{Body, HttpResponse, TransportError},
    vehicle::{Vehicle, VehicleConfig, VehicleError},
};
use switchback_signing::{
    testing::NOW,
    time::UnixTime,
    trust::Attack::{ArbitrarySoftware, EndlessData, Freeze, SlowRetrieval},
};

use super::{
    common::{
        car::{callbacks, config},
        server::{Server, answer},
    },
    scene::{Scene, attack, seen},
    signatures::edit,
};

fn respond(status: u16, body: impl Body + 'static) -> HttpResponse {
    HttpResponse { status, headers: Vec::new(), body: Box::new(body) }
}

/// Bytes without end.
struct Endless;

impl Body for Endless {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        into.fill(b' ');
        Ok(into.len())
    }
}

/// One byte whenever some time has gone by.
struct Drip;

/// The window over which the vehicle of the drip measures. Only the drip takes time by itself.
const WINDOW: Duration = Duration::from_millis(20);

impl Body for Drip {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let start = Instant::now();
        while start.elapsed() < WINDOW {
            std::thread::yield_now();
        }
        into[0] = b' ';
        Ok(1)
    }
}

/// A configuration that would have everything read, and every request answered by somebody else.
#[test]
fn a01_nothing_is_asked_of_another_computer_without_encryption() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let open = |url: &str| {
        let config = VehicleConfig { server_url: url.into(), ..config(&server, store.path()) };
        Vehicle::open(config, callbacks()).map(drop)
    };
    let refused = open("http://updates.example");
    assert!(matches!(refused, Err(VehicleError::Config { field: "server_url", .. })), "{refused:?}");
    open("https://server").unwrap();
}

#[test]
fn a02_dropped_requests_change_nothing() {
    for (dropped, number, name) in [("timestamp.json", 115, "file_missing"), (".snapshot.json", 115, "file_missing")] {
        let mut scene = Scene::new();
        scene.intercept(move |url| url.ends_with(dropped).then(|| answer(None)));
        scene.car.vehicle.check_now();
        scene.meets(number, name).recovers();
    }
}

#[test]
fn a03_slow_retrieval_is_given_up_and_reported() {
    for dripping in [".index", ".tar.zst", "/timestamp.json"] {
        let mut scene = Scene::with(|config| {
            // So little that any transfer in memory is faster, on any machine.
            (config.patience.slow_window, config.patience.slow_bytes_min) = (WINDOW, 2);
        });
        let dripped = move |url: &str| url.ends_with(dripping).then(respond_drip);
        scene.intercept(dripped);
        scene.refuses(402, "slow_retrieval", SlowRetrieval).recovers();
    }
}

/// A part of a bundle is answered with the range that was asked for: its beginning.
fn respond_drip() -> HttpResponse {
    respond(200, Drip)
}

#[test]
fn a05_a_part_of_a_bundle_activates_nothing() {
    let mut scene = Scene::new();
    scene.server.lock().breaks_after = Some(1000);
    scene.car.vehicle.check_now();
    scene.meets(400, "server_unreachable").recovers();
}

#[test]
fn a06_a_server_that_is_overwhelmed_is_asked_again() {
    let mut scene = Scene::new();
    scene.intercept(|_| Some(HttpResponse { status: 503, ..answer(None) }));
    scene.car.vehicle.check_now();
    scene.meets(408, "server_busy").recovers();
}

#[test]
fn a08_metadata_without_end_is_refused() {
    for file in ["/2.root.json", "/timestamp.json", ".snapshot.json", ".targets.json", "image/metadata/timestamp.json", ".vla-ultra.json"] {
        let mut scene = Scene::new();
        scene.intercept(move |url| url.ends_with(file).then(|| respond(200, Endless)));
        scene.refused_as(113, "endless_data", EndlessData);
    }
}

#[test]
fn a08_an_index_without_end_is_refused() {
    let mut scene = Scene::new();
    scene.intercept(|url| url.ends_with("vla-3-3.0.0.index").then(|| respond(200, Endless)));
    scene.refused_as(403, "answer_too_long", EndlessData);
}

/// No more of a bundle is read than its listed length, and of that only chunks that are the signed ones.
#[test]
fn a08_a_bundle_without_end_is_refused() {
    let mut scene = Scene::new();
    scene.intercept(|url| url.ends_with(".tar.zst").then(|| respond(200, Endless)));
    scene.refused_as(212, "chunk_hash", ArbitrarySoftware);
}

#[test]
fn a10_a_bundle_that_was_altered_on_the_way_is_refused() {
    let scene = Scene::new();
    scene.server.lock().tampers = true;
    scene.refused_as(212, "chunk_hash", ArbitrarySoftware);
}

/// A server that fails where the next root would be has not said that there is none.
#[test]
fn a20_a_server_that_fails_does_not_end_the_chain_of_roots() {
    let mut scene = Scene::new();
    scene.intercept(|url| url.ends_with("/2.root.json").then(|| HttpResponse { status: 500, ..answer(None) }));
    scene.car.vehicle.check_now();
    scene.meets(410, "server_failed").recovers();
}

/// The same with the answer of a gate that lets nobody in: to a request that is signed it does not say that there is no such file.
#[test]
fn a20_a_server_that_forbids_does_not_end_the_chain_of_roots() {
    let mut scene = Scene::new();
    scene.intercept(|url| url.ends_with("director/v-1/metadata/2.root.json").then(|| HttpResponse { status: 403, ..answer(None) }));
    scene.car.vehicle.check_now();
    scene.meets(409, "request_refused").recovers();
}

/// Answers that say more of themselves than comes, less, or another part than was asked for.
#[test]
fn a02_answers_that_are_cut_off_or_of_another_part_change_nothing() {
    let with = |status, header: &str, value: &str, bytes: &[u8]| {
        let headers = vec![(header.to_owned(), value.to_owned())];
        HttpResponse { status, headers, ..answer(Some(bytes.to_vec())) }
    };
    let answers: [(&str, &'static str, HttpResponse, u32, &str); 4] = [
        ("cut off", ".index", with(200, "content-length", "100", b"SWBX"), 404, "answer_too_short"),
        ("announced as too long", ".index", with(200, "content-length", "1000000000", b"SWBX"), 403, "answer_too_long"),
        ("of another part", ".tar.zst", with(206, "content-range", "bytes 512-600/601", &[0; 89]), 405, "wrong_range"),
        ("of another length", ".tar.zst", with(200, "content-length", "89", &[0; 89]), 405, "wrong_range"),
    ];
    for (what, file, response, number, name) in answers {
        let (mut scene, mut response) = (Scene::new(), Some(response));
        scene.intercept(move |url| url.ends_with(file).then(|| response.take().unwrap_or_else(|| answer(None))));
        scene.car.vehicle.check_now();
        eprintln!("an answer {what}");
        scene.meets(number, name).recovers();
    }
}

/// Bytes of which somebody counts how many were read.
struct Counted(Arc<AtomicU64>);

impl Body for Counted {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        into.fill(b' ');
        let before = self.0.fetch_add(into.len() as u64, Ordering::SeqCst);
        Ok(if before < 64 << 20 { into.len() } else { 0 })
    }
}

/// A thief of the timestamp key lists a snapshot of 64 MiB: no more of it is read than a snapshot may have.
#[test]
fn a08_a_length_that_is_listed_raises_no_limit() {
    let read = Arc::new(AtomicU64::new(0));
    let mut scene = attack(|all| {
        all.director.timestamp.snapshot.length = Some(64 << 20);
        all.director.publish_timestamp();
    });
    let counted = read.clone();
    scene.intercept(move |url| url.ends_with(".snapshot.json").then(|| respond(200, Counted(counted.clone()))));
    scene.refuses(113, "endless_data", EndlessData);
    assert!(read.load(Ordering::SeqCst) < 4 << 20, "{read:?} bytes were read");
    scene.recovers();
}

/// A vehicle that has verified metadata two days after the beginning, and an attacker who kept metadata that it never saw and that
/// expired the day before.
fn two_days_later() -> Scene {
    let mut scene = Scene::new();
    scene.days_pass(2);
    scene.server.lock().repositories = {
        let mut all = seen();
        all.director.timestamp.expires = NOW.plus_days(3);
        all.director.publish();
        all
    };
    scene.checks();
    scene.attack(|all| {
        all.director.timestamp.expires = NOW.plus_days(1);
        all.director.publish_timestamp();
    });
    scene
}

#[test]
fn a21_a_clock_that_is_set_back_makes_nothing_fresh() {
    let mut scene = two_days_later();
    scene.set_clock(NOW.seconds());
    scene.refuses(112, "expired", Freeze);
    scene.days_pass(2);
    scene.recovers();
}

/// After a battery cut the clock begins in 1970; the time of the last verification is on the disk.
#[test]
fn a21_a_clock_that_was_lost_makes_nothing_fresh() {
    let mut scene = two_days_later();
    scene.set_clock(0);
    let mut scene = scene.restart();
    scene.meets(112, "expired");
    scene.days_pass(2);
    scene.recovers();
}

/// A vehicle that never verified anything, with a clock that was never set: what expired before there was this vehicle is old all the same.
#[test]
fn a21_a_clock_that_was_never_set_makes_nothing_fresh() {
    let mut scene = attack(|all| {
        all.director.timestamp.expires = UnixTime::from_seconds(1_700_000_000);
        all.director.publish_timestamp();
    });
    // No earlier time is one that a clock was set to.
    scene.server.lock().now = UnixTime::from_seconds(1_735_689_600);
    scene.set_clock(0);
    let mut scene = scene.restart_after(|store| drop(fs::remove_file(store.join("keys/time"))));
    scene.meets(112, "expired");
    scene.days_pass(0);
    scene.recovers();
}

/// A clock that shows a time before the vehicle was made, and metadata that had expired when it was.
#[test]
fn a21_no_clock_shows_a_time_before_the_vehicle_left_the_factory() {
    let mut scene = two_days_later();
    scene.set_clock(NOW.seconds());
    let mut scene = scene.restart_with(|store, config| {
        fs::remove_file(store.join("keys/time")).unwrap();
        config.provisioned.time = Some(NOW.plus_days(2));
    });
    scene.meets(112, "expired").is_reported(112, "expired", Freeze);
    scene.days_pass(2);
    scene.recovers();
}

/// Metadata looks expired to a clock that is ahead; nothing of that time is kept once the clock is right.
#[test]
fn a21_a_clock_that_is_set_forward_does_not_last() {
    let mut scene = Scene::new();
    scene.days_pass(400);
    scene.refuses(112, "expired", Freeze);
    scene.days_pass(0);
    scene.recovers();
}

/// Spellings that two readers understand differently, or that cost more to read than they are worth.
#[test]
fn a23_json_that_can_be_read_in_two_ways_is_refused() {
    // Deeper than we go, and deeper than the library goes by itself.
    let [deep, deeper] = [100, 5000].map(|levels| format!(r#""signed":{{"x":{}1{},"#, "[".repeat(levels), "]".repeat(levels)));
    let spellings: [(&str, &str, &str); 6] = [
        ("a key twice", r#""signed":{"#, r#""signed":{"version":1,"#),
        ("a float", r#""signed":{"#, r#""signed":{"x":1.5,"#),
        ("an exponent", r#""signed":{"#, r#""signed":{"x":1e3,"#),
        ("a huge integer", r#""signed":{"#, r#""signed":{"x":123456789012345678901234567890,"#),
        ("nesting", r#""signed":{"#, &deep),
        ("more nesting", r#""signed":{"#, &deeper),
    ];
    let edited = spellings.map(|(what, from, to)| {
        let mut all = seen();
        all.director.publish();
        edit(&mut all.director, "timestamp.json", |text| {
            assert!(text.contains(from), "{what}");
            text.replacen(from, to, 1)
        });
        all.director.files["timestamp.json"].clone()
    });
    let honest = seen().director.files["timestamp.json"].clone();
    let marked = [&b"\xef\xbb\xbf"[..], b"\xff"].map(|mark| [mark, &honest].concat());
    let continued = [honest, b"{}".to_vec()].concat();
    for bytes in edited.into_iter().chain(marked).chain([continued]) {
        // Each meets a vehicle of its own: one that has said something once does not say the same again.
        let mut scene = attack(|all| drop(all.director.files.insert("timestamp.json".into(), bytes)));
        scene.refuses(101, "metadata_malformed", ArbitrarySoftware).recovers();
    }
}

/// Composed and decomposed letters look alike and are different names: what is signed in one spelling is not signed in the other.
#[test]
fn a23_another_spelling_of_the_same_letters_is_not_what_was_signed() {
    attack(|all| {
        all.director.timestamp.extra.insert("note".into(), switchback_signing::metadata::json::Json::string("\u{e9}"));
        all.director.publish_timestamp();
        edit(&mut all.director, "timestamp.json", |text| {
            assert!(text.contains('\u{e9}'));
            text.replace('\u{e9}', "e\u{301}")
        });
    })
    .refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

#[test]
fn a29_a_redirect_to_another_host_is_not_followed() {
    for file in ["timestamp.json", "image/metadata/timestamp.json", ".index", ".tar.zst"] {
        let mut scene = Scene::new();
        scene.intercept(move |url| {
            assert!(url.starts_with("https://server/"), "{url}");
            let headers = vec![("location".to_owned(), "https://thief.example/file".to_owned())];
            url.ends_with(file).then(|| HttpResponse { status: 302, headers, ..answer(None) })
        });
        scene.car.vehicle.check_now();
        scene.meets(406, "redirect_refused").recovers();
    }
}

/// Whoever has a certificate for the server's name reads and writes all that passes, and can sign none of it.
#[test]
fn a29_whoever_breaks_the_encryption_can_still_sign_nothing() {
    let mut scene = Scene::new();
    for (name, number, error) in [("timestamp.json", 102, "threshold_not_met"), (".targets.json", 110, "other_digest")] {
        scene.attack(|all| {
            let director = &mut all.director;
            let version = director.targets.version;
            let file = if name.starts_with('.') { format!("{version}{name}") } else { name.into() };
            let bytes = director.files.get_mut(&file).unwrap();
            let text = String::from_utf8(bytes.clone()).unwrap().replace("2027", "2037").replace("2028", "2038");
            assert_ne!(text.as_bytes(), &bytes[..]);
            *bytes = text.into_bytes();
        });
        let attack = if number == 102 { ArbitrarySoftware } else { switchback_signing::trust::Attack::MixAndMatch };
        scene.refuses(number, error, attack);
    }
    scene.recovers();
}
