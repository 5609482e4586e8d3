//! Whoever puts something into a bundle, or changes it on the vehicle's own disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use switchback_fuzz::CraftedBundle;
use switchback_sdk::{
    store::{Fs as _, RealFs},
    vehicle::UpdateState,
};
use switchback_signing::{
    bundle::index::CHUNKS_MAX, digest::Sha256Digest, metadata::DelegatedRole, testing::public, trust::Attack::ArbitrarySoftware,
};

use super::scene::{Scene, index_path};

/// Bytes of an archive that stand in one chunk: a zstd block holds so many.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of content in the chunks of a bomb.
const MIB: u32 = 1 << 20;

/// The engineers sign this archive as release 3; it is refused as such, nothing of it is anywhere on the disk, and another release goes
/// through.
#[track_caller]
pub(super) fn signed_and_refused(manifest: &[u8], bundle: &CraftedBundle, number: u32, name: &str) {
    let mut scene = Scene::new();
    scene.engineers_publish(&bundle.index(manifest), &bundle.bundle());
    scene.car.vehicle.check_now();
    scene.meets(number, name);
    let outside = files_below(scene.store.path()).into_iter().find(|path| path.to_string_lossy().contains("evil"));
    assert_eq!(outside, None);
    scene.recovers_with_another_release();
}

pub(super) fn of_archive(archive: &[u8]) -> CraftedBundle {
    let mut bundle = CraftedBundle::default();
    archive.chunks(PIECE_BYTES).for_each(|piece| bundle.push_raw(piece));
    bundle
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.flat_map(|entry| if entry.file_type().unwrap().is_dir() { files_below(&entry.path()) } else { vec![entry.path()] }).collect()
}

/// A zstd frame of so many blocks, each one byte that stands for 128 KiB.
pub(super) fn bomb(header: &[u8], blocks: u32) -> Vec<u8> {
    let mut frame = [&[0x28, 0xb5, 0x2f, 0xfd], header].concat();
    for number in 1..=blocks {
        let block = (128_u32 << 10) << 3 | 1 << 1 | u32::from(number == blocks);
        frame.extend_from_slice(&block.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Four kilobytes that become 128 MiB, or ask for memory by what they say of themselves: the index knows the length to the byte, and the
/// decoder has a buffer of that length and no more.
#[test]
fn a08_a_decompression_bomb_that_the_engineers_signed_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    // A window of 8 MiB; one of 3.75 TiB; a frame that states 2^40 bytes.
    let frames = [bomb(&[0x00, 0x68], 1024), bomb(&[0x00, 0xff], 1), bomb(&[&[0xe0][..], &(1_u64 << 40).to_le_bytes()].concat(), 1)];
    for frame in frames {
        let mut bundle = CraftedBundle::default();
        bundle.push(frame, &archive[..512]);
        archive[512..].chunks(PIECE_BYTES).for_each(|piece| bundle.push_raw(piece));
        signed_and_refused(&manifest, &bundle, 213, "chunk_decode");
    }
}

/// An archive that goes on where its list of contents ends, or whose header says that a member is eight gigabytes.
#[test]
fn a08_an_archive_of_more_than_its_manifest_lists_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    signed_and_refused(&manifest, &of_archive(&[&archive[..], &[0; 4096]].concat()), 222, "archive_length");
    signed_and_refused(&manifest, &of_archive(&with_header(&archive, &manifest, 124, b"77777777777")), 221, "archive_bytes");
}

/// A bomb that says what it is: more than the disk holds. Not a byte of it is fetched.
#[test]
fn a08_a_bundle_that_unpacks_to_more_than_the_disk_is_refused() {
    let mut scene = Scene::new();
    let (manifest, _) = scene.archive_of_release_3();
    let elsewhere = tempfile::tempdir_in(scene.store.path().parent().unwrap()).unwrap();
    let free_mib = RealFs::open(elsewhere.path()).unwrap().free_bytes().unwrap() >> 20;
    // Others on this machine may free some meanwhile. A disk of a terabyte holds every bundle that there can be.
    let chunks = free_mib + (8 << 10);
    if chunks > CHUNKS_MAX as u64 {
        return;
    }
    let frame = bomb(&[0x00, 0x68], 8);
    let content = Sha256Digest::of(&vec![0; MIB as usize]);
    let mut bundle = CraftedBundle::default();
    for _ in 0..chunks {
        bundle.push_as(frame.clone(), MIB, content);
    }
    scene.engineers_publish(&bundle.index(&manifest), &bundle.bundle());
    scene.car.vehicle.check_now();
    scene.meets(301, "space_missing").recovers_with_another_release();
}

/// The archive with other bytes in the header of its first file behind the manifest, and a checksum that is right.
fn with_header(archive: &[u8], manifest: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let start = 512 + manifest.len().next_multiple_of(512);
    let header = &mut archive[start..start + 512];
    assert_eq!(&header[257..262], b"ustar");
    header[at..at + field.len()].copy_from_slice(field);
    sum_up(header);
    archive
}

/// Makes the checksum of a header right.
fn sum_up(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn a22_a_member_that_leaves_its_folder_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let name = [&b"../../evil"[..], &[0; 10]].concat();
    signed_and_refused(&manifest, &of_archive(&with_header(&archive, &manifest, 0, &name)), 221, "archive_bytes");
    for path in ["../../evil", "/tmp/evil", "a/../../evil", "./evil"] {
        let text = String::from_utf8(manifest.clone()).unwrap().replace("\"model.onnx\"", &format!("\"{path}\""));
        signed_and_refused(text.as_bytes(), &of_archive(&with_manifest(&archive, &manifest, &text)), 234, "manifest");
    }
}

/// The archive with another manifest.
pub(super) fn with_manifest(archive: &[u8], manifest: &[u8], text: &str) -> Vec<u8> {
    let padding = text.len().next_multiple_of(512) - text.len();
    let rest = &archive[512 + manifest.len().next_multiple_of(512)..];
    [&header_of_manifest(text.len())[..], text.as_bytes(), &[0; 512][..padding], rest].concat()
}

/// The header that an archive with a manifest of this length begins with.
fn header_of_manifest(length: usize) -> Vec<u8> {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let mut header = archive[..512].to_vec();
    assert_eq!(&header[124..135], format!("{:011o}", manifest.len()).as_bytes());
    header[124..135].copy_from_slice(format!("{length:011o}").as_bytes());
    sum_up(&mut header);
    header
}

/// A symbolic link, through which the next member would be written elsewhere.
#[test]
fn a22_a_member_that_is_a_link_is_refused() {
    let (manifest, archive) = Scene::new().archive_of_release_3();
    let link = [&b"2"[..], b"../../evil"].concat();
    signed_and_refused(&manifest, &of_archive(&with_header(&archive, &manifest, 156, &link)), 221, "archive_bytes");
}

/// A delegated role is a file in the vehicle's folder of metadata, whatever it is called.
#[test]
fn a22_a_role_name_that_leaves_its_folder_stays_a_name() {
    let mut scene = Scene::new();
    scene.attack(|all| {
        let engineers = ["alice", "bob"].map(public);
        let role = DelegatedRole::new("../../evil", 2, &engineers, &["ultra/*"]);
        let delegations = all.image.targets.delegations.as_mut().unwrap();
        delegations.add(role, &engineers);
        // Asked before the role that lists the release.
        delegations.roles.rotate_right(1);
        all.image.add_role("../../evil", &["alice", "bob"]);
        all.image.publish();
        let served: Vec<_> = all.image.files.keys().filter(|name| name.contains("../../evil")).cloned().collect();
        for name in served {
            let bytes = all.image.files[&name].clone();
            all.image.files.insert(name.replace("../../evil", "..%2F..%2Fevil"), bytes);
        }
    });
    scene.car.vehicle.check_now();
    scene.car.reach(UpdateState::Confirmed);
    assert_eq!(scene.car.model().as_deref(), Some("vla-3"));
    let evil: Vec<_> = files_below(scene.store.path()).into_iter().filter(|path| path.to_string_lossy().contains("evil")).collect();
    assert_eq!(evil.len(), 1, "{evil:?}");
    assert!(
        evil[0].starts_with(scene.store.path().join("metadata-image")) && evil[0].file_name().unwrap() == "..%2F..%2Fevil.json",
        "{evil:?}"
    );
}

/// The slot in which release 3 is complete and was read back, by the store's records: from then on only ONNX Runtime reads it.
fn slot_of_release_3(store: &Path) -> Option<PathBuf> {
    let records = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let texts = records.filter_map(|path| fs::read(path).ok()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    texts.into_iter().find(|text| text.contains(&index_path(3)) && text.contains("pending"))?;
    let mut slots = fs::read_dir(store.join("slots")).unwrap().map(|entry| entry.unwrap().path());
    slots.find(|slot| fs::read_to_string(slot.join("manifest.json")).is_ok_and(|manifest| manifest.contains("vla-3")))
}

/// A program under the vehicle's own user exchanges the graph after the last look at it and before ONNX Runtime opens it. The golden
/// inputs do not tell: the graph answers them as before.
#[test]
fn a25_a_file_that_is_altered_after_it_was_read_back_is_not_used() {
    let mut scene = Scene::new();
    let (store, mut done) = (scene.store.path().to_owned(), false);
    scene.at_every_look_at_the_clock(move || {
        if let Some(slot) = slot_of_release_3(&store).filter(|_| !done) {
            let path = slot.join("model.onnx");
            // A field of the graph's file that no reader knows, and each skips.
            let altered = [fs::read(&path).unwrap(), vec![0xc0, 0x3e, 0x01]].concat();
            fs::write(&path, altered).unwrap();
            done = true;
        }
    });
    scene.refuses_to_load(4125, "files_altered", ArbitrarySoftware).recovers();
}
