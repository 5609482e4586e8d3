//! Power is cut at every operation of an ECU beside the driving computer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use switchback_signing::{digest::Sha256Digest, keys::PublicKey, testing::TestRepositories};

use super::{Image, ModelledSecondary, Record, SecondaryEcu, SecondaryIdentity};
use crate::store::{
    Store,
    sim::{Sampling, SimFs},
};

/// What an ECU is after its start.
#[derive(Clone, Debug, PartialEq)]
struct View {
    key: PublicKey,
    record: Record,
    running: Option<Vec<u8>>,
}

fn start(fs: &SimFs, repositories: &TestRepositories) -> ModelledSecondary {
    let identity = SecondaryIdentity {
        vehicle_id: "vehicle-1".into(),
        ecu_serial: "camera-1".into(),
        hardware_id: "camera".into(),
        tier: "ultra".into(),
        region: "eu".into(),
    };
    ModelledSecondary::on(|| Store::open(Arc::new(fs.clone())), &identity, &repositories.anchors()).unwrap()
}

fn view(ecu: &ModelledSecondary) -> View {
    View { key: ecu.key.public_key(), record: ecu.record.clone(), running: ecu.running().unwrap() }
}

fn image(counter: u64) -> (Image, Vec<u8>) {
    let bytes = crate::testing::noise(counter, 700 * counter as usize);
    let sha256 = Sha256Digest::of(&bytes).to_hex();
    (Image { path: format!("camera/{counter}.img"), length: bytes.len() as u64, sha256, release_counter: counter }, bytes)
}

#[test]
fn power_loss_at_any_operation_of_a_secondary_leaves_the_image_of_before_or_the_new_one_complete() {
    let (fs, repositories) = (SimFs::new(), TestRepositories::new());
    let release = Sha256Digest::of(b"release");
    let mut ecu = start(&fs, &repositories);
    let mut milestones = vec![(fs.crash_points() - 1, view(&ecu))];
    let mut reached = |ecu: &ModelledSecondary| milestones.push((fs.crash_points() - 1, view(ecu)));
    // Two images, the second of them after a trial that was rolled back.
    for (counter, verdicts) in [(1, vec![Some(release)]), (2, vec![None, Some(release)])] {
        let (next, bytes) = image(counter);
        ecu.put_beside(next, &bytes).unwrap();
        reached(&ecu);
        for verdict in verdicts {
            ecu.activate(Sha256Digest::of(&bytes), release).unwrap();
            reached(&ecu);
            assert_eq!(ecu.running().unwrap().as_ref(), Some(&bytes));
            ecu.settle(verdict).unwrap();
            reached(&ecu);
        }
        assert_eq!(ecu.running().unwrap().as_ref(), Some(&bytes));
    }
    let sampling = Sampling { exhaustive_changes_max: 5, exhaustive_blocks_max: 0, random_images: 5, seed: 11 };
    let mut images = 0;
    for point in milestones[0].0..fs.crash_points() {
        let done = milestones.iter().rposition(|(reached, _)| *reached <= point).unwrap();
        let allowed = &milestones[done..milestones.len().min(done + 2)];
        for crashed in fs.crash_images(point, sampling) {
            images += 1;
            let found = view(&start(&crashed.fs, &repositories));
            assert!(allowed.iter().any(|(_, view)| *view == found), "after change {point}:\n{}{found:#?}", crashed.story());
            assert_eq!(view(&start(&crashed.fs, &repositories)), found, "the second start");
            for named in found.record.installed.iter().chain(&found.record.next) {
                let (_, bytes) = image(named.release_counter);
                let held = start(&crashed.fs, &repositories).store.read_document(super::Folder::Keys, &named.file_name()).unwrap();
                assert_eq!(held, Some(bytes), "after change {point}:\n{}", crashed.story());
            }
        }
    }
    assert!(images > 1000, "{images}");
}
