//! The program and its data folder: kills, stops, rights.

use serde_json::json;
use switchback_signing::metadata::vehicle::UpdateState;

use crate::{
    folder,
    support::{Ceremony, Control, Program, TestServer, TestVehicle, system_now},
};

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let data = folder();
    let program = Program::start(data.path());
    let mut ceremony = Ceremony::begin(&program);
    ceremony.publish(&program, "1.0.0", "ultra", 1);
    ceremony.publish(&program, "2.0.0", "ultra", 2);
    program.approve("1.0.0");
    program.approve("2.0.0");
    program.roll_out("1.0.0", 1);
    let id = program.roll_out("2.0.0", 1);
    let now = system_now();
    let (mut one, mut two) = (TestVehicle::enroll(&program, "v-1"), TestVehicle::enroll(&program, "v-2"));
    assert_eq!(one.offered(&program, &ceremony, now).as_deref(), Some("2.0.0"));
    let last = one.manifest(now, UpdateState::RolledBack, "2.0.0", 2);
    assert_eq!(one.send(&program, now, &last).status, 200);
    program.kill();

    let program = Program::start(data.path());
    assert_eq!(program.rollout(id)["paused_reason"], "failed vehicles: 1, the limit is 1");
    assert_eq!(one.send(&program, now, &last).problem(), "manifest_replayed");
    assert_eq!(one.offered(&program, &ceremony, now).as_deref(), Some("1.0.0"));
    assert_eq!(two.offered(&program, &ceremony, now).as_deref(), Some("1.0.0"));
    let again = program.ask("GET", "/v1/online-keys", None);
    assert_eq!(again, ceremony.online);
    program.ask("POST", &format!("/v1/rollouts/{id}/resume"), Some(&json!({"note": "one bad camera"})));
    program.kill();

    let program = Program::start(data.path());
    assert_eq!(program.rollout(id)["state"], "running");
    assert_eq!(two.offered(&program, &ceremony, now).as_deref(), Some("2.0.0"));
}

#[test]
fn an_upload_that_a_kill_interrupted_leaves_nothing_behind() {
    let data = folder();
    let objects = data.path().join("objects/targets/ultra");
    std::fs::create_dir_all(&objects).unwrap();
    let (part, whole) = (objects.join("aa.vla.tar.zst#1"), objects.join("bb.vla.tar.zst"));
    std::fs::write(&part, b"half").unwrap();
    std::fs::write(&whole, b"whole").unwrap();
    let _server = TestServer::start(data.path());
    assert_eq!((part.exists(), whole.exists()), (false, true));
}

#[test]
fn the_program_stops_when_it_is_asked_and_two_do_not_share_a_folder() {
    let data = folder();
    let program = Program::start(data.path());
    let second = |address: &str, data: &std::path::Path| {
        let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_switchback-server"));
        second.args(["serve", "--listen", address, "--data-dir"]).arg(data).env("RUST_BACKTRACE", "1").env("RUST_LOG", "off");
        let second = second.output().unwrap();
        assert!(!second.status.success());
        String::from_utf8_lossy(&second.stderr).into_owned()
    };
    let text = second("127.0.0.1:0", data.path());
    let lock = data.path().join("lock");
    let expected = format!(
        "error: another switchback-server is using {}\n hint: stop the other server, or give this one a --data-dir of its own\n",
        lock.display()
    );
    assert_eq!(text, expected);
    let other = folder();
    let taken = second(program.address(), other.path());
    let lines: Vec<&str> = taken.lines().collect();
    let [error, hint] = lines[..] else { panic!("{taken}") };
    assert!(error.starts_with(&format!("error: cannot listen on {}: ", program.address())), "{taken}");
    assert!(hint.starts_with(" hint: another program listens there"), "{taken}");
    assert!(program.terminate());
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_switchback-server"))
        .args(["online-keys", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    let keys: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(keys["director"]["targets"]["keytype"], "ed25519");
    assert!(!text.contains(&std::fs::read_to_string(data.path().join("admin.token")).unwrap()));
}

#[cfg(unix)]
#[test]
fn secrets_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let data = folder();
    let _server = TestServer::start(data.path());
    let keys = std::fs::read_dir(data.path().join("keys")).unwrap().map(|entry| entry.unwrap().path());
    for path in keys.chain([data.path().join("admin.token")]) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}
