//! What a vehicle makes of its server, its network and its configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use switchback_sdk::store::Finding;
use switchback_sdk::update::Consent;
use switchback_sdk::vehicle::{EventKind, Provisioned, ProvisionedFile, Repository, Vehicle, VehicleCallbacks, VehicleConfig};
use switchback_signing::bundle::ContentKey;
use switchback_signing::keys::{Ed25519Signer, PublicKey, Signature, Signer, SignerError};
use switchback_signing::metadata::vehicle::UpdateState;
use switchback_signing::testing::NOW;

use super::{better, driving};
use crate::common::Road;
use crate::common::car::{Car, callbacks, config};
use crate::common::server::Server;

#[test]
fn a_tampered_bundle_is_refused_with_its_reason_and_the_true_one_is_taken_later() {
    let (server, _store, mut car) = driving();
    server.release(&better(), 2, 3 << 20);
    server.lock().tampers = true;
    car.vehicle.check_now();
    let event = car.reach(UpdateState::Refused);
    let reason = event.reason.unwrap();
    assert_eq!((reason.number, reason.name.as_str()), (212, "chunk_hash"));
    assert!(reason.text.contains("the index says"), "{}", reason.text);
    assert!(car.step().control_valid);
    server.lock().tampers = false;
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (server, _store, mut car) = driving();
    let index = server.release(&better(), 2, 5 << 20);
    server.lock().breaks_after = Some(3 << 20);
    server.lock().bundle_bytes = 0;
    server.lock().ranges.clear();
    car.vehicle.check_now();
    let event = car.drive_until(|kind| *kind == EventKind::DownloadPaused, |_| {});
    assert_eq!(event.reason.unwrap().name, "server_unreachable");
    assert!((300..900).contains(&car.vehicle.status().progress_permille), "{:?}", car.vehicle.status());
    server.lock().down = false;
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    let ranges = server.lock().ranges.clone();
    assert_eq!(ranges.len(), 2);
    assert!(index.rows().iter().any(|row| row.stored_offset() == ranges[1] as u64), "from a chunk's first byte");
    let wasted = server.lock().bundle_bytes - index.bundle_length() as usize;
    assert!(wasted < 1 << 20, "{wasted} bytes were sent twice");
}

#[test]
fn a_download_goes_on_after_the_vehicle_was_switched_off() {
    let (server, store, mut car) = driving();
    server.release(&better(), 2, 5 << 20);
    server.lock().breaks_after = Some(3 << 20);
    car.vehicle.check_now();
    car.drive_until(|kind| *kind == EventKind::DownloadPaused, |_| {});
    drop(car);
    server.lock().down = false;
    server.lock().ranges.clear();
    let mut car = Car::open(&server, store.path());
    let found = car.drive_until(|kind| matches!(kind, EventKind::Recovered(_)), |_| {});
    let EventKind::Recovered(Finding::DownloadInterrupted { occupant, next_chunk }) = found.kind else { panic!("{found:?}") };
    assert_eq!(occupant.model, "vla-2");
    assert!(next_chunk > 2);
    assert!(car.step().control_valid, "the confirmed model drives from the first step on");
    car.reach(UpdateState::Confirmed);
    assert!(server.lock().ranges[0] > 2 << 20, "{:?}", server.lock().ranges);
}

#[test]
fn a_report_that_somebody_else_answered_is_sent_again() {
    let (server, _store, mut car) = driving();
    server.release(&better(), 2, 0);
    car.vehicle.check_now();
    // Not earlier: each report that fails makes the wait for the next one longer.
    car.reach(UpdateState::Trial);
    {
        let mut state = server.lock();
        state.reports.clear();
        state.portal = true;
    }
    car.reach(UpdateState::Confirmed);
    let pages = server.lock().portal_pages;
    car.drive_while(|| server.lock().portal_pages == pages);
    server.lock().portal = false;
    // By itself: nobody asks for a check.
    car.until_reported(&server, |state| state == UpdateState::Confirmed);
}

#[test]
fn a_release_for_another_tier_is_refused_and_reported_as_an_attack() {
    let (server, _store, mut car) = driving();
    {
        let mut state = server.lock();
        let mut other = switchback_signing::testing::custom(9);
        other.tier = switchback_signing::metadata::Tier::new("ultra-se").unwrap();
        let target = switchback_signing::metadata::TargetMeta::of_release(b"index", &other);
        state.repositories.publish_target("ultra/other.index", target);
        state.repositories.assign("ultra/other.index");
    }
    car.vehicle.check_now();
    let event = car.reach(UpdateState::Refused);
    assert_eq!(event.reason.unwrap().name, "wrong_tier");
    assert!(car.step().control_valid);
    car.until_reported(&server, |state| state == UpdateState::Refused);
    let report = server.reports().into_iter().find(|report| report.payload.update == UpdateState::Refused).unwrap();
    assert_eq!(report.attack_detected.unwrap().number, 151);
}

#[test]
fn an_encrypted_release_without_its_key_is_refused_before_anything_of_it_is_fetched() {
    let (server, _store, mut car) = driving();
    server.lock().ranges.clear();
    server.release_encrypted(&better(), 2, 0, &ContentKey::from_bytes([7; 32]));
    car.vehicle.check_now();
    let event = car.reach(UpdateState::Refused);
    assert_eq!((event.reason.unwrap().number, event.release.unwrap().model.as_str()), (190, "vla-2"));
    assert!(server.lock().ranges.is_empty(), "no byte of the bundle was asked for");
    assert_eq!(car.model().as_deref(), Some("vla-1"));
    assert!(car.step().control_valid);
}

#[test]
fn a_release_that_this_vehicle_is_too_old_for_is_refused_by_its_name() {
    let (server, _store, mut car) = driving();
    server.release_as(&better(), 2, 0, |custom| custom.sdk_min = "99.0".parse().unwrap());
    car.vehicle.check_now();
    let event = car.reach(UpdateState::Refused);
    assert_eq!((event.reason.unwrap().number, event.release.unwrap().model.as_str()), (155, "vla-2"));
    car.until_reported(&server, |state| state == UpdateState::Refused);
    let report = server.reports().pop().unwrap();
    assert_eq!((report.payload.candidate.unwrap().model.as_str(), report.payload.release.unwrap().model.as_str()), ("vla-2", "vla-1"));
    assert!(report.attack_detected.is_none());
}

#[test]
fn a_release_that_was_denied_is_not_asked_for_at_every_poll() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.lock().poll_after_s = 1;
    server.release(&Road::default(), 1, 0);
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let mut callbacks = callbacks();
    callbacks.consent = Some(Box::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Consent::Denied
    }));
    let mut car = Car::open_with(config(&server, store.path()), callbacks);
    car.until_reported(&server, |state| state == UpdateState::Refused);
    for _ in 0..3 {
        car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    }
    assert_eq!((asked.load(Ordering::Relaxed), car.vehicle.status().update), (1, UpdateState::Refused));
    let refusals = server.reports().iter().filter(|report| report.payload.update == UpdateState::Refused).count();
    assert_eq!((refusals, server.lock().bundle_bytes), (1, 0));
    // The program may ask for it.
    car.vehicle.check_now();
    car.drive_while(|| asked.load(Ordering::Relaxed) < 2);
    // And another release is another question.
    server.release(&better(), 2, 0);
    car.drive_while(|| asked.load(Ordering::Relaxed) < 3);
}

#[test]
fn a_vehicle_with_a_used_token_says_so_and_keeps_its_model() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    server.lock().token = "another".into();
    let mut car = Car::open(&server, store.path());
    let event = car.drive_until(|kind| *kind == EventKind::EnrollmentFailed, |_| {});
    assert!(event.reason.unwrap().text.contains("refuses (status 403): used"));
    assert!(!car.vehicle.status().enrolled);
}

#[test]
fn a_vehicle_without_a_token_is_enrolled_once_the_director_has_answered_it() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let without_token = || VehicleConfig { enrollment_token: None, ..config(&server, store.path()) };
    let mut car = Car::open_with(without_token(), callbacks());
    let event = car.drive_until(|kind| *kind == EventKind::CheckFailed, |_| {});
    assert!(event.reason.unwrap().text.contains("401") && !car.vehicle.status().enrolled);
    drop(car);
    // Enrolled otherwise, with the key that is in its store.
    Car::open(&server, store.path()).drive_until(|kind| *kind == EventKind::Enrolled, |_| {});
    std::fs::remove_file(store.path().join("keys/enrolled")).unwrap();
    let mut car = Car::open_with(without_token(), callbacks());
    car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    assert!(car.vehicle.status().enrolled);
}

#[test]
fn exchanged_roots_do_not_use_up_the_token() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let mut exchanged = config(&server, store.path());
    std::mem::swap(&mut exchanged.anchors.director_root, &mut exchanged.anchors.image_root);
    let mut car = Car::open_with(exchanged, callbacks());
    let event = car.drive_until(|kind| *kind == EventKind::EnrollmentFailed, |_| {});
    let reason = event.reason.unwrap();
    assert_eq!((reason.number, reason.name.as_str()), (612, "roots_exchanged"));
    assert!(reason.text.contains("are the two roots exchanged?"), "{}", reason.text);
    assert!(server.lock().vehicle_key.is_none() && !car.vehicle.status().enrolled);
}

/// A token in a hand of its own: the vehicle drives on, and says what it cannot do.
#[test]
fn a_key_that_does_not_sign_is_named_for_the_report_and_for_the_request() {
    struct Token {
        key: Ed25519Signer,
        removed: AtomicBool,
        signs_reports: AtomicBool,
    }
    impl Signer for Token {
        fn public_key(&self) -> PublicKey {
            self.key.public_key()
        }
        fn sign(&self, message: &[u8]) -> Result<Signature, SignerError> {
            // A report is JSON, what is signed of a request is not.
            let refused = message.starts_with(b"{") && !self.signs_reports.load(Ordering::Acquire);
            if refused || self.removed.load(Ordering::Acquire) {
                return Err(SignerError { key_id: self.key_id(), reason: "the token refuses".into() });
            }
            self.key.sign(message)
        }
    }
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let key = Ed25519Signer::from_seed([7; 32]);
    let token = Arc::new(Token { key, removed: AtomicBool::new(false), signs_reports: AtomicBool::new(false) });
    let config = VehicleConfig { signing_key: Some(Arc::clone(&token) as _), ..config(&server, store.path()) };
    let mut car = Car::open_with(config, callbacks());
    let reason = car.drive_until(|kind| *kind == EventKind::CheckFailed, |_| {}).reason.unwrap();
    assert_eq!(reason.number, 602, "{}", reason.text);
    let expected = "the vehicle's key does not sign the report; check the token or service that holds it: ";
    assert!(reason.text.starts_with(expected) && reason.text.ends_with("the token refuses"), "{}", reason.text);
    car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    token.removed.store(true, Ordering::Release);
    car.vehicle.check_now();
    car.drive_until(|kind| *kind == EventKind::CheckFailed, |_| {});
    while car.vehicle.status().check_failure.is_none_or(|reason| reason.number != 413) {
        car.drive_until(|kind| *kind == EventKind::CheckFailed, |_| {});
    }
    token.removed.store(false, Ordering::Release);
    token.signs_reports.store(true, Ordering::Release);
    car.vehicle.check_now();
    car.until_reported(&server, |_| true);
}

/// In a process of its own, because the limit is that of the process.
#[test]
fn a_vehicle_whose_update_thread_cannot_be_started_says_so() {
    const CHILD: &str = "SWITCHBACK_TEST_WITHOUT_MEMORY";
    if std::env::var_os(CHILD).is_none() {
        let test = "vehicle::server::a_vehicle_whose_update_thread_cannot_be_started_says_so";
        let child = std::process::Command::new(std::env::current_exe().unwrap()).args(["--exact", test]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    // Asked for the time once everything else is open. A thread needs a stack of 2 MiB.
    let clock = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let limit = Some(pages * 4096 + (1 << 20));
        rustix::process::setrlimit(rustix::process::Resource::As, rustix::process::Rlimit { current: limit, maximum: limit }).unwrap();
        NOW.seconds()
    };
    let callbacks = VehicleCallbacks { clock: Some(Box::new(clock)), ..VehicleCallbacks::default() };
    let error = Vehicle::open(config(&server, store.path()), callbacks).expect_err("there is no memory for a stack");
    let expected = "the update thread cannot be started; is there memory, and may the program have one more thread?";
    assert_eq!((error.number(), error.to_string().as_str()), (604, expected));
    assert!(std::error::Error::source(&error).is_some());
}

/// Somebody answers the very first check with what was signed before the vehicle left the factory, and has not expired.
#[test]
fn a_first_check_does_not_fall_behind_what_the_vehicle_was_provisioned_with() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let old = server.lock().repositories.clone();
    server.release(&Road::default(), 1, 0);
    let mut provisioned = Vec::new();
    let served = server.lock().repositories.clone();
    for (repository, served) in [(Repository::Director, &served.director), (Repository::Image, &served.image)] {
        for name in ["timestamp.json", "snapshot.json", "targets.json"] {
            let newest = served.files.iter().filter(|(file, _)| *file == name || file.ends_with(&format!(".{name}")));
            let (_, bytes) = newest.max_by_key(|(file, _)| file.split('.').next().and_then(|version| version.parse::<u64>().ok())).unwrap();
            provisioned.push(ProvisionedFile { repository, name: name.into(), bytes: bytes.clone() });
        }
    }
    let new = std::mem::replace(&mut server.lock().repositories, old);
    let provisioned = Provisioned { time: Some(NOW), metadata: provisioned };
    let config = VehicleConfig { provisioned: provisioned.clone(), ..config(&server, store.path()) };
    let mut car = Car::open_with(config, callbacks());
    let reason = car.drive_until(|kind| matches!(kind, EventKind::Update(UpdateState::Refused) | EventKind::Checked), |_| {}).reason;
    assert_eq!(reason.map(|reason| (reason.number, reason.name)), Some((105, "older_version".to_owned())));
    server.lock().repositories = new;
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let fails = |change: &dyn Fn(&mut VehicleConfig)| {
        let mut config = config(&server, store.path());
        change(&mut config);
        let error = Vehicle::open(config, callbacks()).expect_err("it cannot be opened");
        (error.number(), error.to_string())
    };
    assert_eq!(fails(&|config| config.server_url = "ota.example".into()).0, 411);
    let (number, text) = fails(&|config| config.server_url = "http://ota.example".into());
    assert_eq!(number, 600);
    assert_eq!(text, "server_url: http://ota.example is not encrypted and leads out of this computer; use https, or say allow_plain_http");
    assert_eq!(fails(&|config| config.image_url = Some("http://10.0.0.1".into())).1[..10], *"image_url:");
    assert_eq!(fails(&|config| config.engine.runtime_path = Some("/nowhere/libonnxruntime.so".into())).0 / 100, 40);
    let (number, text) = fails(&|config| config.identity.tier = "Ultra SE!".into());
    assert_eq!(number, 600);
    assert!(text.starts_with("identity.tier: \"Ultra SE!\" is not a name"), "{text}");
    let file = |name: &str, bytes: &[u8]| ProvisionedFile { repository: Repository::Image, name: name.into(), bytes: bytes.to_vec() };
    for (file, problem) in [
        (file("root.json", b"{}"), "provisioned.metadata: Image repository: roots are given in `anchors`"),
        (file("targets.json", b"{}"), "provisioned.metadata: Image repository: targets.json: file.signatures is missing"),
    ] {
        assert_eq!(fails(&|config| config.provisioned.metadata = vec![file.clone()]), (600, problem.to_owned()));
    }
    let open = Car::open(&server, store.path());
    assert_eq!(fails(&|_| {}).0, 305);
    drop(open);
}
