//! Images for a vehicle's other ECUs, signed with the release that needs them.

use switchback_signing::metadata::{Signed, Targets};

use super::desk::{BUNDLE, Desk};

fn draft(desk: &Desk) -> Targets {
    let bytes = desk.read("base/drafts/vla-ultra.json");
    Signed::<Targets>::parse(&bytes, bytes.len()).unwrap().signed
}

fn ready() -> Desk {
    let desk = Desk::ready();
    desk.write("cam-1.cal", "calibration 1");
    desk
}

#[test]
fn a_release_names_what_other_ecus_need_and_every_keyholder_has_it_before_signing() {
    let desk = ready();
    let sign = |key: &str, rest: &str| format!("sign --base base --key {key} {rest} {BUNDLE}");
    let signed = desk.ask(&sign("alice", "--companion cam-a=cam-1.cal --companion cam-b=cam-1.cal"));
    assert_eq!(signed["needs"], "ultra/cam-1.cal on cam-a (counter 1), ultra/cam-1.cal on cam-b (counter 1)");
    let targets = draft(&desk).targets;
    let release = targets["ultra/tiny-1.0.0.index"].release().unwrap();
    let image = targets["ultra/cam-1.cal"].ecu_image().unwrap();
    assert_eq!((image.release_counter, image.hardware_ids.len(), release.companions.len()), (1, 2, 2));
    assert_eq!(release.companions[0].length, 13);

    // Who has not looked at the files does not sign for them.
    let error = desk.refuse(&sign("bob", ""));
    assert!(error.contains("the draft says that the release needs ultra/cam-1.cal on cam-a (counter 1)"), "{error}");
    assert!(error.contains("you have named nothing") && error.contains("--companion HARDWARE=FILE"), "{error}");
    desk.write("other/cam-1.cal", "calibration X");
    let error = desk.refuse(&sign("bob", "--companion cam-a=other/cam-1.cal --companion cam-b=other/cam-1.cal"));
    assert!(error.contains("ultra/cam-1.cal is listed with other bytes"), "{error}");
    let signed = desk.ask(&sign("bob", "--companion cam-b=cam-1.cal --companion cam-a=cam-1.cal"));
    assert_eq!(signed["complete"], true);
    let verified = desk.ask(&format!("verify --base base {BUNDLE}"));
    assert_eq!(verified["signed"]["needs"][1], "ultra/cam-1.cal on cam-b (counter 1)");
    let files: serde_json::Value = serde_json::from_slice(&desk.read("base/drafts/vla-ultra.files.json")).unwrap();
    assert!(files["ultra/cam-1.cal"].as_str().unwrap().ends_with("/cam-1.cal"), "publish knows where it is: {files}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_signed() {
    let desk = ready();
    let sign = |rest: &str| format!("sign --base base --key alice {rest} {BUNDLE}");
    desk.write("long.cal", vec![0; (16 << 20) + 1]);
    desk.write("cam-2.cal", "calibration 2");
    for (options, expected) in [
        ("--companion cam-a=cam-1.cal --companion cam-a=cam-2.cal", "two images for cam-a"),
        ("--companion cam-a=long.cal", "long.cal is longer than 16777216 bytes"),
        ("--companion cam-a=missing.cal", "missing.cal"),
    ] {
        let error = desk.refuse(&sign(options));
        assert!(error.contains(expected), "{error}");
        assert!(!desk.path("base/drafts/vla-ultra.json").exists());
    }
    let run = desk.run(&sign("--companion cam-1.cal"));
    assert!(run.status != 0 && run.stderr.contains("HARDWARE=FILE"), "{}", run.stderr);
}
