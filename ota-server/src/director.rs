//! What the Director tells one vehicle (Uptane 5.3.2). Pure: it decides what must be signed anew and makes the documents.
//!
//! Targets and Snapshot are made only when the assignment changes, when other keys sign or when they grow old; the Timestamp is renewed
//! when less than half of its life remains. Versions only rise. Nothing in here reads a clock or stores anything; the caller persists [`Held`] and the
//! signed bytes before a vehicle sees them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use switchback_signing::{
    keys::{
        Sha256Digest, Signer, SignerError,
        sealing::{EncryptionKey, SealedContentKey},
    },
    metadata::{
        DeltaRef, EcuAssignment, EcuSerial, Freshness, HardwareId, Hashes, MetaFile, Nonce, Snapshot, Targets, Timestamp, VehicleId, sign,
        vehicle::EnrolledSecondary,
    },
    time::UnixTime,
};

use crate::rollout::{Assignment, Release, ReleaseName, RolloutId};

/// How long signed metadata lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Targets and Snapshot, seconds.
    pub targets_s: i64,
    /// Timestamp, seconds. A replayed one can freeze a vehicle no longer than this.
    pub timestamp_s: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { targets_s: 30 * 86_400, timestamp_s: 86_400 }
    }
}

/// The target that metadata assigns, by path and by a digest over all that was signed about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assigned {
    /// Path in the Image repository.
    pub path: String,
    /// SHA-256 over the signed description of the target.
    pub digest: String,
}

/// What was last signed for a vehicle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The target that it assigns, if any.
    pub assigned: Option<Assigned>,
    /// The rollout that brings it, to whose gate the vehicle's reports about it go. Absent in what was signed before this was noted.
    #[serde(default)]
    pub rollout: Option<RolloutId>,
    /// Version of Targets and of Snapshot; they are always made together.
    pub version: u64,
    /// When Targets and Snapshot expire.
    pub expires: i64,
    /// Length of the Snapshot, bytes.
    pub snapshot_bytes: u64,
    /// SHA-256 of the Snapshot.
    pub snapshot_sha256: String,
    /// Version of the Timestamp.
    pub timestamp_version: u64,
    /// When the Timestamp expires.
    pub timestamp_expires: i64,
    /// The keys that signed all three. Absent, and so those of nobody, in what was signed before this was noted.
    #[serde(default)]
    pub signers: SignersId,
    /// The vehicle's key that the content key in Targets is sealed to. Absent where the release is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_to: Option<SealedTo>,
    /// The delta that Targets name. Absent where they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaId>,
}

/// Which delta: the beginning of its index's SHA-256, short because every vehicle in memory may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeltaId(u64);

impl From<&DeltaRef> for DeltaId {
    fn from(delta: &DeltaRef) -> Self {
        Self(beginning(delta.sha256.as_bytes()))
    }
}

fn beginning(bytes: &[u8; 32]) -> u64 {
    bytes.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// By which way a vehicle may come to the release that it is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// There is only the whole bundle.
    None,
    /// From what it has.
    Delta(Arc<DeltaRef>),
    /// It has the release. What it was told on its way there does no harm, and to take it back would be a signature for nothing.
    Arrived,
}

/// What a vehicle shall be told.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// The release, if any.
    pub assignment: Option<&'a Assignment>,
    /// The way there.
    pub shortcut: &'a Shortcut,
}

impl Due<'_> {
    fn delta(&self) -> Option<&DeltaRef> {
        match self.shortcut {
            Shortcut::Delta(delta) => Some(delta),
            Shortcut::None | Shortcut::Arrived => None,
        }
    }
}

/// To which key of a vehicle a content key was sealed: the beginning of the key, short because every vehicle in memory may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedTo(u64);

impl From<EncryptionKey> for SealedTo {
    fn from(key: EncryptionKey) -> Self {
        Self(beginning(key.as_bytes()))
    }
}

/// Which keys signed: a digest of their ids, short because every vehicle in memory has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignersId(u64);

impl SignersId {
    /// From a digest of the key ids.
    #[must_use]
    pub fn of(digest: &Sha256Digest) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// The image that a vehicle reported as installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Path of the target.
    pub path: String,
    /// Its length, bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// How far the update was when it reported.
    pub update: String,
    /// The release that drove.
    pub release: Option<ReleaseName>,
}

/// What has to be signed before a vehicle can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Keep,
    /// Nothing, but another rollout brings now what the metadata assigns: that is written down.
    Attribute,
    /// The Timestamp, because it grows old, or because the vehicle asks with a nonce.
    Timestamp,
    /// Everything, because the assignment or the keys changed, or the metadata grows old.
    All,
}

/// Who the metadata is for.
#[derive(Clone, Debug)]
pub struct Addressee {
    /// The vehicle.
    pub vehicle_id: VehicleId,
    /// Its Primary, which runs the models.
    pub ecu_serial: EcuSerial,
    /// Its driving computer.
    pub hardware_id: HardwareId,
    /// Its other ECUs, with the keys that they report with.
    pub secondaries: Vec<EnrolledSecondary>,
}

/// The Director's online keys.
pub struct Signers<'a> {
    /// Signs Targets.
    pub targets: &'a (dyn Signer + Sync),
    /// Signs Snapshots.
    pub snapshot: &'a (dyn Signer + Sync),
    /// Signs Timestamps.
    pub timestamp: &'a (dyn Signer + Sync),
    /// Which keys these are.
    pub id: SignersId,
}

/// Under what terms metadata is good now.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// How long it lives.
    pub lifetimes: Lifetimes,
    /// Who signs it.
    pub signers: &'a Signers<'a>,
    /// What time it is.
    pub now: UnixTime,
    /// The nonce of the vehicle that asks whether it is shown what is of today (`docs/adr/0013`).
    pub nonce: Option<Nonce>,
}

/// Signed documents for one vehicle.
#[derive(Clone, Debug)]
pub struct SignedSet {
    /// What they say, to be persisted with them.
    pub held: Held,
    /// Targets and Snapshot, when they were made anew.
    pub set: Option<TargetsAndSnapshot>,
    /// The Timestamp.
    pub timestamp: Vec<u8>,
}

/// Targets and Snapshot of the same version.
#[derive(Clone, Debug)]
pub struct TargetsAndSnapshot {
    /// The Targets file.
    pub targets: Vec<u8>,
    /// The Snapshot file.
    pub snapshot: Vec<u8>,
}

/// What has to be done so that a vehicle which holds `held` learns of `assignment`.
#[must_use]
pub fn work(held: Option<&Held>, due: Due<'_>, terms: &Terms<'_>) -> Work {
    let Some(held) = held else { return Work::All };
    let assignment = due.assignment;
    let Terms { lifetimes, signers, now, nonce } = *terms;
    let assigned = assignment.map(|assignment| &assignment.release.assigned);
    // By the key that it is sealed to, and not by the seal: that is another one each time. A vehicle with another key could not open it.
    let sealed_to = assignment.and_then(|assignment| assignment.seal_to).map(SealedTo::from);
    // What the keys of an older root signed no vehicle believes any more.
    if held.assigned.as_ref() != assigned
        || held.sealed_to != sealed_to
        || (*due.shortcut != Shortcut::Arrived && held.delta != due.delta().map(DeltaId::from))
        || held.signers != signers.id
        || ages(held.expires, lifetimes.targets_s, now)
    {
        return Work::All;
    }
    if nonce.is_some() || ages(held.timestamp_expires, lifetimes.timestamp_s, now) {
        return Work::Timestamp;
    }
    if held.rollout == assignment.map(|assignment| assignment.rollout) { Work::Keep } else { Work::Attribute }
}

/// Whether less than half of a life remains. Beyond a whole life remaining the clock was set back; then it is signed anew too.
#[must_use]
pub fn ages(expires: i64, life_s: i64, now: UnixTime) -> bool {
    let remaining_s = expires.saturating_sub(now.seconds());
    remaining_s < life_s / 2 || remaining_s > life_s
}

/// Makes and signs Targets, Snapshot and Timestamp. `content_key` is that of an encrypted release, sealed to the key that the assignment
/// names.
pub fn sign_all(
    addressee: &Addressee,
    due: Due<'_>,
    content_key: Option<&SealedContentKey>,
    held: Option<&Held>,
    terms: &Terms<'_>,
) -> Result<SignedSet, SignerError> {
    let assignment = due.assignment;
    let Terms { lifetimes, signers, now, .. } = *terms;
    let release = assignment.map(|assignment| &*assignment.release);
    let version = next_version(held.map_or(0, |held| held.version), now);
    let expires = now.plus_seconds(lifetimes.targets_s);
    let mut targets = targets(addressee, release, content_key, version, expires);
    if let Some((release, delta)) = release.zip(due.delta())
        && let Some(target) = targets.targets.remove(&release.assigned.path)
    {
        targets.targets.insert(release.assigned.path.clone(), target.with_delta(delta));
    }
    let targets = sign(&targets, &[signers.targets])?;
    let mut snapshot = Snapshot::new(version, expires);
    snapshot.meta.insert("targets.json".to_owned(), MetaFile::of(version, &targets));
    let snapshot = sign(&snapshot, &[signers.snapshot])?;
    let next = Held {
        assigned: release.map(|release| release.assigned.clone()),
        rollout: assignment.map(|assignment| assignment.rollout),
        version,
        expires: expires.seconds(),
        snapshot_bytes: snapshot.len() as u64,
        snapshot_sha256: Sha256Digest::of(&snapshot).to_hex(),
        timestamp_version: held.map_or(0, |held| held.timestamp_version),
        timestamp_expires: 0,
        signers: signers.id,
        sealed_to: assignment.and_then(|assignment| assignment.seal_to).map(SealedTo::from),
        delta: due.delta().map(DeltaId::from),
    };
    let mut signed = sign_timestamp(&next, terms)?;
    signed.set = Some(TargetsAndSnapshot { targets, snapshot });
    Ok(signed)
}

/// Makes and signs a new Timestamp of the Snapshot that `held` describes.
pub fn sign_timestamp(held: &Held, terms: &Terms<'_>) -> Result<SignedSet, SignerError> {
    let Terms { lifetimes, signers, now, nonce } = *terms;
    let version = next_version(held.timestamp_version, now);
    let expires = now.plus_seconds(lifetimes.timestamp_s);
    let snapshot = MetaFile {
        version: held.version,
        length: Some(held.snapshot_bytes),
        hashes: Hashes { sha256: Sha256Digest::from_hex(&held.snapshot_sha256), ..Hashes::default() },
        extra: std::collections::BTreeMap::new(),
    };
    // Also without a nonce: a vehicle asks those Directors that say that they answer.
    let timestamp = Timestamp::new(version, expires, snapshot).with_freshness(&Freshness { signed_at: now, nonce });
    let timestamp = sign(&timestamp, &[signers.timestamp])?;
    let held = Held { timestamp_version: version, timestamp_expires: expires.seconds(), ..held.clone() };
    Ok(SignedSet { held, set: None, timestamp })
}

/// Versions are the time at which they were made, and rise in any case.
///
/// Snapshot and Timestamp name no vehicle. Somebody in between can show a vehicle those of its neighbor, or the vehicle has seen some that
/// a database which was restored knows nothing of; with counted versions it would refuse its own until they had caught up, for months
/// perhaps. What is signed from now on is above all that was signed before, for whomever.
fn next_version(last: u64, now: UnixTime) -> u64 {
    u64::try_from(now.seconds()).unwrap_or_default().max(last.saturating_add(1))
}

/// Lists the release for the Primary and what it needs for the Secondaries, or nothing; in both cases the vehicle it is meant for, so
/// that it fits no other one. A Secondary of which the release says nothing keeps what it has.
pub(crate) fn targets(
    addressee: &Addressee,
    release: Option<&Release>,
    content_key: Option<&SealedContentKey>,
    version: u64,
    expires: UnixTime,
) -> Targets {
    let mut targets = Targets::new(version, expires);
    targets.vehicle_id = Some(addressee.vehicle_id.clone());
    if let Some(release) = release {
        let primary = EcuAssignment { ecu_serial: addressee.ecu_serial.clone(), hardware_id: addressee.hardware_id.clone() };
        let target = release.target.clone().assigned_to(&primary);
        let target = match content_key {
            Some(key) => target.with_content_key(key),
            None => target,
        };
        targets.targets.insert(release.assigned.path.clone(), target);
        for EnrolledSecondary { ecu_serial, hardware_id, .. } in &addressee.secondaries {
            let Some(companion) = release.companions.iter().find(|companion| companion.hardware_id == *hardware_id) else { continue };
            let ecu = EcuAssignment { ecu_serial: ecu_serial.clone(), hardware_id: hardware_id.clone() };
            // One image may be for several ECUs.
            let listed = targets.targets.remove(&companion.path).unwrap_or_else(|| companion.target.clone());
            targets.targets.insert(companion.path.clone(), listed.assigned_to(&ecu));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use switchback_signing::{
        bundle::ContentKey,
        keys::{
            Ed25519Signer,
            sealing::{DecryptionKey, Recipient},
        },
        metadata::{EcuImage, Signed, TargetMeta},
    };

    use super::*;
    use crate::rollout::{CompanionImage, tests::release};

    const LIFETIMES: Lifetimes = Lifetimes { targets_s: 1_000, timestamp_s: 100 };
    const START: UnixTime = UnixTime::from_seconds(1_000_000);

    struct Keys([Ed25519Signer; 3]);

    impl Keys {
        fn new() -> Self {
            Self([1, 2, 3].map(|byte| Ed25519Signer::from_seed([byte; 32])))
        }

        /// What `act` makes of these keys at this time.
        fn at<T>(&self, now: UnixTime, act: impl FnOnce(&Terms<'_>) -> T) -> T {
            let [targets, snapshot, timestamp] = &self.0;
            let signers = Signers { targets, snapshot, timestamp, id: SignersId::of(&Sha256Digest::of(b"these keys")) };
            act(&Terms { lifetimes: LIFETIMES, signers: &signers, now, nonce: None })
        }
    }

    fn addressee() -> Addressee {
        Addressee {
            vehicle_id: VehicleId::new("v-1").unwrap(),
            ecu_serial: EcuSerial::new("ecu-1").unwrap(),
            hardware_id: HardwareId::new("orin").unwrap(),
            secondaries: Vec::new(),
        }
    }

    /// Version 1.0.0, as rollout 7 brings it.
    fn assignment() -> Assignment {
        Assignment { rollout: RolloutId(7), release: Arc::new(release("vla", "1.0.0", "ultra", 1)), seal_to: None }
    }

    fn signed(assignment: Option<&Assignment>, held: Option<&Held>, now: UnixTime) -> SignedSet {
        Keys::new().at(now, |terms| sign_all(&addressee(), whole(assignment), None, held, terms)).unwrap()
    }

    /// Without any shortcut.
    fn whole(assignment: Option<&Assignment>) -> Due<'_> {
        Due { assignment, shortcut: &Shortcut::None }
    }

    #[test]
    fn a_delta_stands_beside_the_block_and_is_signed_anew_only_when_it_is_another_one() {
        let delta = |base: &[u8], index: &[u8]| {
            let (base_sha256, sha256) = (Sha256Digest::of(base), Sha256Digest::of(index));
            Shortcut::Delta(Arc::new(DeltaRef { base_sha256, path: "ultra/x.delta.index".to_owned(), length: 9, sha256 }))
        };
        let (assigned, keys) = (assignment(), Keys::new());
        let (first, second) = (delta(b"1", b"index 1"), delta(b"2", b"index 2"));
        let (assignment, release) = (Some(&assigned), &assigned.release);
        let told = keys.at(START, |terms| sign_all(&addressee(), Due { assignment, shortcut: &first }, None, None, terms)).unwrap();
        let targets = Signed::<Targets>::parse(&told.set.unwrap().targets, 100_000).unwrap().signed;
        let listed = &targets.targets[&release.assigned.path];
        let found = DeltaRef::from_json(listed.delta().unwrap().clone(), "delta").unwrap();
        assert_eq!(Shortcut::Delta(Arc::new(found)), first);
        assert_eq!(listed.shall_match(), release.target.shall_match());
        let work = |held: &Held, shortcut: &Shortcut| keys.at(START, |terms| work(Some(held), Due { assignment, shortcut }, terms));
        assert_eq!(work(&told.held, &first), Work::Keep);
        assert_eq!(work(&told.held, &second), Work::All, "the vehicle has another release now");
        assert_eq!(work(&told.held, &Shortcut::None), Work::All, "the delta was withdrawn");
        assert_eq!(work(&told.held, &Shortcut::Arrived), Work::Keep, "nothing is signed for a vehicle that is there");
        let whole = signed(assignment, None, START).held;
        assert_eq!(work(&whole, &first), Work::All, "a delta was made after the release was assigned");
        assert_eq!(work(&whole, &Shortcut::Arrived), Work::Keep);
    }

    #[test]
    fn a_set_names_its_vehicle_and_hangs_together() {
        let assignment = assignment();
        let release = &assignment.release;
        let SignedSet { held, set, timestamp } = signed(Some(&assignment), None, START);
        let set = set.unwrap();
        let targets = Signed::<Targets>::parse(&set.targets, 100_000).unwrap().signed;
        let snapshot = Signed::<Snapshot>::parse(&set.snapshot, 100_000).unwrap().signed;
        let timestamp = Signed::<Timestamp>::parse(&timestamp, 100_000).unwrap().signed;
        assert_eq!(targets.vehicle_id.as_ref().unwrap().as_str(), "v-1");
        let listed: &TargetMeta = &targets.targets[&release.assigned.path];
        assert_eq!(listed.shall_match(), release.target.shall_match());
        assert_eq!(listed.ecus().unwrap()[0].ecu_serial.as_str(), "ecu-1");
        let version = START.seconds() as u64;
        assert_eq!(snapshot.meta["targets.json"], MetaFile::of(version, &set.targets));
        assert_eq!(timestamp.snapshot, MetaFile::of(version, &set.snapshot));
        assert_eq!((held.version, held.timestamp_version), (version, version));
    }

    #[test]
    fn each_ecu_is_assigned_what_the_release_needs_there() {
        let camera = |serial: &str, hardware_id: &str| EnrolledSecondary {
            ecu_serial: EcuSerial::new(serial).unwrap(),
            hardware_id: HardwareId::new(hardware_id).unwrap(),
            public_key: Ed25519Signer::from_seed([9; 32]).public_key(),
        };
        let secondaries = vec![camera("cam-1", "cam-a"), camera("cam-2", "cam-a"), camera("lidar-1", "lidar-a")];
        let addressee = Addressee { secondaries, ..addressee() };
        let block = EcuImage { release_counter: 1, hardware_ids: vec![HardwareId::new("cam-a").unwrap()] };
        let image = |path: &str, hardware_id: &str| CompanionImage {
            hardware_id: HardwareId::new(hardware_id).unwrap(),
            path: path.to_owned(),
            target: TargetMeta::of_image(b"cal", &block),
        };
        let release = Release {
            companions: vec![image("ultra/cam-a.cal", "cam-a"), image("ultra/cam-b.cal", "cam-b")],
            ..release("vla", "1.0.0", "ultra", 1)
        };
        let targets = targets(&addressee, Some(&release), None, 1, START);
        let ecus = |path: &str| {
            let ecus = targets.targets.get(path).map(|target| target.ecus().unwrap());
            ecus.map(|ecus| ecus.into_iter().map(|ecu| ecu.ecu_serial.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(ecus(&release.assigned.path), Some(vec!["ecu-1".to_owned()]));
        assert_eq!(ecus("ultra/cam-a.cal"), Some(vec!["cam-1".to_owned(), "cam-2".to_owned()]));
        assert_eq!(ecus("ultra/cam-b.cal"), None, "this vehicle has no such camera");
        assert_eq!(targets.targets["ultra/cam-a.cal"].shall_match(), release.companions[0].target.shall_match());
        assert_eq!(targets.targets.len(), 2);
    }

    /// The assignment of an encrypted release to a vehicle with this key.
    fn encrypted(key: &DecryptionKey) -> Assignment {
        Assignment { seal_to: Some(key.encryption_key()), ..assignment() }
    }

    #[test]
    fn a_content_key_stands_beside_the_block_that_both_repositories_say_alike() {
        let (vehicle, addressee, bundle) = (DecryptionKey::from_seed(&[1; 32]), addressee(), Sha256Digest::of(b"bundle"));
        let recipient = Recipient::Vehicle { vehicle_id: &addressee.vehicle_id, ecu_serial: &addressee.ecu_serial };
        let key = ContentKey::from_bytes([7; 32]);
        let sealed = SealedContentKey::seal(&key, &vehicle.encryption_key(), recipient, &bundle, &[9; 32]).unwrap();
        let assignment = encrypted(&vehicle);
        let signed = Keys::new().at(START, |terms| sign_all(&addressee, whole(Some(&assignment)), Some(&sealed), None, terms)).unwrap();
        let targets = Signed::<Targets>::parse(&signed.set.unwrap().targets, 100_000).unwrap().signed;
        let listed = &targets.targets[&assignment.release.assigned.path];
        assert_eq!(listed.shall_match(), assignment.release.target.shall_match());
        let found = SealedContentKey::from_json(listed.content_key().unwrap().clone(), "contentKey").unwrap();
        assert_eq!(vehicle.open(&found, recipient, &bundle), Ok(key));
    }

    #[test]
    fn a_vehicle_that_has_another_key_gets_its_content_key_anew_and_no_other_is_sealed_twice() {
        let [first, second] = [1, 2].map(|byte| encrypted(&DecryptionKey::from_seed(&[byte; 32])));
        let held = signed(Some(&first), None, START).held;
        let work = |held: &Held, assignment: &Assignment| Keys::new().at(START, |terms| work(Some(held), whole(Some(assignment)), terms));
        assert_eq!(work(&held, &first), Work::Keep);
        assert_eq!(work(&held, &second), Work::All);
        let plain = signed(Some(&assignment()), None, START).held;
        assert_eq!(work(&plain, &assignment()), Work::Keep);
        assert!(!serde_json::to_string(&plain).unwrap().contains("sealed_to"), "what is plain is written down as ever");
        assert_eq!(serde_json::from_str::<Held>(&serde_json::to_string(&held).unwrap()).unwrap(), held);
    }

    #[test]
    fn a_vehicle_without_a_release_still_gets_metadata_that_is_only_for_it() {
        let targets = signed(None, None, START).set.unwrap().targets;
        let targets = Signed::<Targets>::parse(&targets, 100_000).unwrap().signed;
        assert!(targets.targets.is_empty());
        assert_eq!(targets.vehicle_id, Some(addressee().vehicle_id));
    }

    #[test]
    fn only_what_grows_old_or_changes_is_signed_anew() {
        let assignment = assignment();
        let held = signed(Some(&assignment), None, START).held;
        let assigned = Some(&assignment);
        let keys = Keys::new();
        let work =
            |held: Option<&Held>, assigned, seconds| keys.at(START.plus_seconds(seconds), |terms| work(held, whole(assigned), terms));
        let work_at = |seconds| work(Some(&held), assigned, seconds);
        assert_eq!(work(None, assigned, 0), Work::All);
        let of_other_keys = Held { signers: SignersId::default(), ..held.clone() };
        assert_eq!(work(Some(&of_other_keys), assigned, 0), Work::All);
        let of_another_rollout = Assignment { rollout: RolloutId(8), ..assignment.clone() };
        assert_eq!(work(Some(&held), Some(&of_another_rollout), 0), Work::Attribute);
        assert_eq!(work_at(0), Work::Keep);
        assert_eq!(work_at(50), Work::Keep);
        assert_eq!(work_at(51), Work::Timestamp);
        assert_eq!(work_at(501), Work::All);
        assert_eq!(work_at(-10_000), Work::All);
        assert_eq!(work(Some(&held), None, 0), Work::All);
    }

    #[test]
    fn a_vehicle_that_asks_with_a_nonce_gets_a_new_timestamp_that_carries_it() {
        let nonce = Nonce::new([7; 16]);
        let (keys, later) = (Keys::new(), START.plus_seconds(5));
        let first = signed(None, None, START);
        let freshness = |timestamp: &[u8]| Signed::<Timestamp>::parse(timestamp, 100_000).unwrap().signed.freshness().unwrap();
        assert_eq!(freshness(&first.timestamp), Some(Freshness { signed_at: START, nonce: None }));
        let answer = keys.at(later, |terms| {
            let terms = Terms { nonce: Some(nonce), ..*terms };
            assert_eq!(work(Some(&first.held), whole(None), &terms), Work::Timestamp);
            sign_timestamp(&first.held, &terms).unwrap()
        });
        assert_eq!(freshness(&answer.timestamp), Some(Freshness { signed_at: later, nonce: Some(nonce) }));
        assert_eq!((answer.held.version, answer.held.timestamp_version), (first.held.version, later.seconds() as u64));
        // Within the same second too it is another version: of two of one version a vehicle keeps the one that it has.
        let again = keys.at(later, |terms| sign_timestamp(&answer.held, &Terms { nonce: Some(nonce), ..*terms }).unwrap());
        assert_eq!(again.held.timestamp_version, answer.held.timestamp_version + 1);
        // From then on nothing is signed until it grows old.
        assert_eq!(keys.at(later, |terms| work(Some(&again.held), whole(None), terms)), Work::Keep);
    }

    #[test]
    fn versions_are_the_time_and_only_rise() {
        let versions = |held: &Held| (held.version, held.timestamp_version);
        let start = START.seconds() as u64;
        let first = signed(None, None, START).held;
        let renewed = Keys::new().at(START.plus_seconds(60), |terms| sign_timestamp(&first, terms)).unwrap();
        assert!(renewed.set.is_none());
        assert_eq!(versions(&renewed.held), (start, start + 60));
        let changed = signed(None, Some(&renewed.held), START.plus_seconds(60)).held;
        assert_eq!(versions(&changed), (start + 60, start + 61));
        // A clock that was set back takes no version back.
        let earlier = signed(None, Some(&changed), START).held;
        assert_eq!(versions(&earlier), (start + 61, start + 62));
        let before_1970 = signed(None, None, UnixTime::from_seconds(-5)).held;
        assert_eq!(versions(&before_1970), (1, 1));
    }
}
