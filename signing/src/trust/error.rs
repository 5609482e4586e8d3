use alloc::{boxed::Box, format, string::String};

use thiserror::Error;

use super::Repository;
use crate::{
    bundle::BundleError,
    digest::Sha256Digest,
    metadata::{DigestMismatch, EcuSerial, EncryptionMethod, HardwareId, MetadataError, Nonce, Region, Tier, VehicleId, Version},
    time::UnixTime,
};

/// Why metadata, or the release that it offers, is not believed.
///
/// Each variant has a stable number and name for C, the fleet log and vehicle reports, and names the attack of the Uptane Standard
/// that it would be if somebody did it on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file is not the metadata that it should be.
    #[error("{repository}: {file_name}: {problem}")]
    Malformed {
        /// Where the file came from.
        repository: Repository,
        /// Its name.
        file_name: String,
        /// What is wrong with it.
        problem: MetadataError,
    },
    /// Not enough distinct keys have signed.
    #[error("{repository}: {role} carries {valid} of the {threshold} valid signatures that {authority} requires")]
    ThresholdNotMet {
        /// Where the file came from.
        repository: Repository,
        /// The role that it is for.
        role: String,
        /// Distinct keys of the role that signed validly.
        valid: u64,
        /// How many must.
        threshold: u64,
        /// The metadata that says so.
        authority: String,
    },
    /// The next root does not continue the chain.
    #[error("{repository}: root version {found} where version {expected} must follow")]
    RootVersion {
        /// Where the file came from.
        repository: Repository,
        /// Version in the file.
        found: u64,
        /// The only version that may follow.
        expected: u64,
    },
    /// One check met more new roots than it follows.
    #[error("{repository}: more than {steps_max} new root versions; those up to {version} are kept, check again to go on")]
    TooManyRoots {
        /// Where the roots came from.
        repository: Repository,
        /// How many one check follows.
        steps_max: u32,
        /// The newest that is trusted now.
        version: u64,
    },
    /// Metadata older than what is trusted already.
    #[error("{repository}: {role} version {found} is older than the trusted version {trusted}")]
    OlderVersion {
        /// Where the file came from.
        repository: Repository,
        /// The role, or the file that is listed.
        role: String,
        /// Version that is offered.
        found: u64,
        /// Version that is trusted.
        trusted: u64,
    },
    /// The snapshot dropped a file.
    #[error("{repository}: the snapshot no longer lists {file_name}, which the trusted one does")]
    FileRemoved {
        /// Where the snapshot came from.
        repository: Repository,
        /// The file that is gone.
        file_name: String,
    },
    /// The snapshot does not list a role's metadata.
    #[error("{repository}: the snapshot does not list {file_name}")]
    FileUnlisted {
        /// Where the snapshot came from.
        repository: Repository,
        /// The file that should be listed.
        file_name: String,
    },
    /// Another version than the one that is listed.
    #[error("{repository}: {role} version {found} where {authority} lists version {listed}")]
    OtherVersion {
        /// Where the file came from.
        repository: Repository,
        /// The role that it is for.
        role: String,
        /// Version in the file.
        found: u64,
        /// Version that is listed.
        listed: u64,
        /// The role that lists it.
        authority: &'static str,
    },
    /// Another length than the one that is listed.
    #[error("{repository}: {role} has {found} bytes where {listed} are listed")]
    OtherLength {
        /// Where the file came from.
        repository: Repository,
        /// The role that it is for.
        role: String,
        /// Length of the file, bytes.
        found: u64,
        /// Length that is listed, bytes.
        listed: u64,
    },
    /// Other bytes than the ones that are listed.
    #[error("{repository}: {role} has {digests}")]
    OtherDigest {
        /// Where the file came from.
        repository: Repository,
        /// The role that it is for.
        role: String,
        /// Its digest and the one that is listed.
        digests: Box<DigestMismatch>,
    },
    /// No digest of a file that we can check, where one is required, or where only unknown algorithms are listed.
    #[error("{repository}: no SHA-256 or SHA-512 of {role} is listed")]
    DigestMissing {
        /// Where the list came from.
        repository: Repository,
        /// The role whose file it is.
        role: String,
    },
    /// Metadata past its date.
    #[error("{repository}: {role} expired at {expires} and it is {now}; it must be signed anew, or the clock is wrong")]
    Expired {
        /// Where the metadata came from.
        repository: Repository,
        /// The role.
        role: String,
        /// When it expired.
        expires: UnixTime,
        /// The time that the check was given.
        now: UnixTime,
    },
    /// Metadata of an offline update where that of the repositories was expected, or the other way round.
    #[error("{repository}: the timestamp {}; it is believed only where it belongs", if *from_file { "is no offline update's, and came in a file" } else { "is an offline update's, and came over the network" })]
    OfflineMark {
        /// Where the metadata came from.
        repository: Repository,
        /// Whether it came in a file.
        from_file: bool,
    },
    /// A timestamp that was signed before the vehicle asked for one.
    #[error(
        "{repository}: the timestamp version {version}, signed at {signed_at}, carries {found} and the vehicle asked with {asked}: it is from before the question; look who is between the vehicle and the server"
    )]
    NonceDiffers {
        /// Where the timestamp came from.
        repository: Repository,
        /// Its version.
        version: u64,
        /// When it was signed.
        signed_at: UnixTime,
        /// The nonce that it carries, in words.
        found: String,
        /// The nonce of this check.
        asked: Nonce,
    },
    /// An offline update for other vehicles.
    #[error("the offline update is for tier {found_tier} in region {found_region}, but this vehicle is {tier} in {region}")]
    OtherScope {
        /// Tier that it is for.
        found_tier: Tier,
        /// Region that it is for.
        found_region: Region,
        /// Tier of this vehicle.
        tier: Tier,
        /// Region of this vehicle.
        region: Region,
    },
    /// A file longer than what we read.
    #[error("{repository}: {file_name} has more than the {length_max} bytes that may be read")]
    EndlessData {
        /// Where the file came from.
        repository: Repository,
        /// Its name.
        file_name: String,
        /// The limit, bytes.
        length_max: u64,
    },
    /// A file could not be fetched.
    #[error("{repository}: {file_name} could not be fetched: {reason}")]
    Unreachable {
        /// Which repository was asked.
        repository: Repository,
        /// The file's name.
        file_name: String,
        /// What the transport says.
        reason: String,
    },
    /// A file that must exist does not.
    #[error("{repository}: {file_name} does not exist there")]
    FileMissing {
        /// Which repository was asked.
        repository: Repository,
        /// The file's name.
        file_name: String,
    },
    /// A search met more delegated roles than it visits.
    #[error("{repository}: the search for {path} met more than {roles_max} delegated roles")]
    TooManyDelegations {
        /// Which repository was searched.
        repository: Repository,
        /// The target path.
        path: String,
        /// How many a search visits.
        roles_max: usize,
    },
    /// Roles that are believed only together do not list the same.
    #[error("{roles_min} of the roles {roles} must list {path} alike, but only {agreeing} do; the others must sign it as well")]
    RolesDisagree {
        /// The target path.
        path: String,
        /// The roles, separated by commas.
        roles: String,
        /// Most roles that list the same.
        agreeing: u64,
        /// How many must.
        roles_min: u64,
    },
    /// The repository map says of no repository that it signs for a path.
    #[error("the repository map has no entry for {path}, so nobody may sign for it")]
    PathUnmapped {
        /// The target path.
        path: String,
    },
    /// The vehicle holds no root to begin with.
    #[error("{repository}: the vehicle holds no root metadata; it must be provisioned again")]
    AnchorMissing {
        /// The repository without a root.
        repository: Repository,
    },

    /// A Director may not delegate.
    #[error("the Director's targets delegate, which Uptane forbids")]
    DirectorDelegates,
    /// Metadata for another vehicle.
    #[error("the Director's targets are for vehicle {found}, but this is {expected}")]
    OtherVehicle {
        /// The vehicle in the metadata.
        found: VehicleId,
        /// This vehicle.
        expected: VehicleId,
    },
    /// Empty targets that do not say for whom.
    #[error("the Director's targets list nothing and name no vehicle, so they could be another vehicle's")]
    VehicleUnnamed,
    /// Two images for one ECU.
    #[error("the Director assigns both {first} and {second} to ECU {ecu_serial}")]
    EcuTwice {
        /// The ECU.
        ecu_serial: EcuSerial,
        /// One image.
        first: String,
        /// The other image.
        second: String,
    },
    /// An ECU that is not in this vehicle.
    #[error("the Director assigns {path} to ECU {ecu_serial}, which is not in this vehicle")]
    UnknownEcu {
        /// The ECU.
        ecu_serial: EcuSerial,
        /// The image.
        path: String,
    },
    /// An ECU of another kind than the Director thinks.
    #[error("the Director takes ECU {ecu_serial} for {found}, but it is {expected}")]
    OtherEcuHardware {
        /// The ECU.
        ecu_serial: EcuSerial,
        /// Hardware id in the metadata.
        found: HardwareId,
        /// Hardware id of the ECU.
        expected: HardwareId,
    },

    /// The Director offers what the Image repository does not know.
    #[error("the Image repository does not list {path} for this hardware")]
    TargetUnknown {
        /// The target path.
        path: String,
    },
    /// A target path that could leave its folder.
    #[error("{path:?} is not an acceptable target path ({rule})")]
    TargetPath {
        /// The path.
        path: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A target without a digest that we can check.
    #[error("{repository}: {path} has no {wanted}")]
    TargetDigestMissing {
        /// Where the target is listed.
        repository: Repository,
        /// The target path.
        path: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// The two repositories list different lengths.
    #[error("{path} has {director} bytes for the Director and {image} for the Image repository")]
    TargetLengthDiffers {
        /// The target path.
        path: String,
        /// Length for the Director, bytes.
        director: u64,
        /// Length for the Image repository, bytes.
        image: u64,
    },
    /// The two repositories list different digests.
    #[error("{path} has {} {} for the Director and {} for the Image repository", .digests.algorithm, .digests.found, .digests.listed)]
    TargetDigestDiffers {
        /// The target path.
        path: String,
        /// The Director's digest (found) and the Image repository's (listed).
        digests: Box<DigestMismatch>,
    },
    /// The two repositories disagree on what they must say alike.
    #[error("{path} is described by the Director with {director} and by the Image repository with {image}")]
    CustomDiffers {
        /// The target path.
        path: String,
        /// The Director's block.
        director: String,
        /// The Image repository's block.
        image: String,
    },
    /// A target without a usable description of its release.
    #[error("{path}: {problem}")]
    CustomMalformed {
        /// The target path.
        path: String,
        /// What is wrong.
        problem: MetadataError,
    },

    /// A release for other hardware.
    #[error("{path} is for hardware {wanted}, but this is {hardware_id}")]
    WrongHardware {
        /// The target path.
        path: String,
        /// Hardware ids of the release, separated by commas.
        wanted: String,
        /// This vehicle's hardware.
        hardware_id: HardwareId,
    },
    /// A release for another tier.
    #[error("{path} is for tier {wanted}, but this vehicle is {tier}")]
    WrongTier {
        /// The target path.
        path: String,
        /// Tier of the release.
        wanted: Tier,
        /// This vehicle's tier.
        tier: Tier,
    },
    /// A release for other regions.
    #[error("{path} is for regions {wanted}, but this vehicle is in {region}")]
    WrongRegion {
        /// The target path.
        path: String,
        /// Regions of the release, separated by commas.
        wanted: String,
        /// This vehicle's region.
        region: Region,
    },
    /// A release below the one that is confirmed.
    #[error("{path} has release counter {found}, below {floor} of the confirmed release")]
    ReleaseBelowFloor {
        /// The target path.
        path: String,
        /// Its release counter.
        found: u64,
        /// The smallest acceptable counter.
        floor: u64,
    },
    /// A release with a contract that this library cannot read.
    #[error("{path} needs model contract version {found}; this vehicle knows {known}; update the vehicle's software first")]
    ContractUnknown {
        /// The target path.
        path: String,
        /// Contract version of the release.
        found: u32,
        /// Versions known here, separated by commas.
        known: String,
    },
    /// A release for a newer vehicle library.
    #[error("{path} needs switchback {wanted}, this is {found}; update the vehicle's software first")]
    SdkTooOld {
        /// The target path.
        path: String,
        /// Smallest version.
        wanted: Version,
        /// Version here.
        found: Version,
    },
    /// A release for a newer ONNX Runtime.
    #[error("{path} needs ONNX Runtime {wanted}, this is {found}; update the vehicle's software first")]
    RuntimeTooOld {
        /// The target path.
        path: String,
        /// Smallest version.
        wanted: Version,
        /// Version here.
        found: Version,
    },

    /// A chunk index of another length than the metadata lists.
    #[error("the index {path} has {found} bytes where {listed} are listed")]
    IndexLength {
        /// The target path.
        path: String,
        /// Length of the index, bytes.
        found: u64,
        /// Length that is listed, bytes.
        listed: u64,
    },
    /// Other bytes than the index that the metadata lists.
    #[error("the index {path} has {digests}")]
    IndexDigest {
        /// The target path.
        path: String,
        /// Digest of the bytes and the one that is listed.
        digests: Box<DigestMismatch>,
    },
    /// A signed index that cannot be read.
    #[error("the index {path}: {problem}")]
    IndexMalformed {
        /// The target path.
        path: String,
        /// What is wrong.
        problem: BundleError,
    },
    /// A signed index of another bundle than the one that the release names.
    #[error("the index {path} is of bundle {found}, but the release names bundle {listed}")]
    IndexOfOtherBundle {
        /// The target path.
        path: String,
        /// The bundle's digest in the index.
        found: Sha256Digest,
        /// The bundle's digest in the metadata.
        listed: Sha256Digest,
    },

    /// A signed index whose bundle is encrypted otherwise than the release says: people signed what does not belong together.
    #[error("the index {path} is of a bundle that is {}, but the release says that it is {}; the release has to be signed anew from its bundle", in_words(*.found), in_words(*.listed))]
    IndexEncryptionDiffers {
        /// The target path.
        path: String,
        /// How the bundle is encrypted by the index.
        found: Option<EncryptionMethod>,
        /// How it is by the metadata.
        listed: Option<EncryptionMethod>,
    },

    /// A target of another length than the metadata lists.
    #[error("{path} has {found} bytes where {listed} are listed")]
    FileLength {
        /// The target path.
        path: String,
        /// Length of the target, bytes; where it is too long, of the part that was read.
        found: u64,
        /// Length that is listed, bytes.
        listed: u64,
    },
    /// Other bytes than the target that the metadata lists.
    #[error("{path} has {digests}")]
    FileDigest {
        /// The target path.
        path: String,
        /// Digest of the bytes and the one that is listed.
        digests: Box<DigestMismatch>,
    },

    /// A delegated role that lists files which it may not list.
    #[error("role {role} lists {path}, which its delegation does not cover")]
    OutsideDelegation {
        /// The role.
        role: String,
        /// The target path.
        path: String,
    },
    /// A role that nobody delegates to.
    #[error("targets do not delegate to a role {role}")]
    RoleUnknown {
        /// The role.
        role: String,
    },
    /// A role that can never be signed, because it names fewer usable keys than its threshold.
    #[error("role {role} needs {threshold} signatures but names {keys} usable keys")]
    ThresholdUnreachable {
        /// The role.
        role: String,
        /// Distinct keys that we can verify with.
        keys: u64,
        /// How many must sign.
        threshold: u64,
    },

    /// A Secondary's image that a release names, and that the role which lists the release does not list, or lists otherwise.
    #[error("{path} needs {companion} on {hardware_id}, which {role} {problem}")]
    CompanionUnlisted {
        /// The role.
        role: String,
        /// Target path of the release.
        path: String,
        /// Target path of the image.
        companion: String,
        /// The Secondaries that it is for.
        hardware_id: HardwareId,
        /// What the role says of it.
        problem: &'static str,
    },

    /// A Secondary is to run something else than the release needs there.
    #[error("{release} needs {needed} on ECU {ecu_serial}, but the Director assigns {path}, or other bytes under that name")]
    CompanionDiffers {
        /// Target path of the release.
        release: String,
        /// The Secondary.
        ecu_serial: EcuSerial,
        /// Target path of the image that the release needs.
        needed: String,
        /// Target path of the image that the Director assigns.
        path: String,
    },
    /// A Secondary is assigned nothing where the release needs something.
    #[error("{release} needs {needed} on ECU {ecu_serial}, but the Director assigns nothing to it")]
    CompanionMissing {
        /// Target path of the release.
        release: String,
        /// The Secondary.
        ecu_serial: EcuSerial,
        /// Target path of the image that the release needs.
        needed: String,
    },
    /// A Secondary is to run what no release needs there: nobody has said that it goes with what drives.
    #[error("the Director assigns {path} to ECU {ecu_serial} with {release}, which does not name it")]
    CompanionUnneeded {
        /// Target path of the release, or that there is none.
        release: String,
        /// The Secondary.
        ecu_serial: EcuSerial,
        /// Target path of the image that the Director assigns.
        path: String,
    },

    /// An image for a Secondary that a Primary could not hold while it hands it on.
    #[error("{path} has {length} bytes, and an image for a Secondary at most {length_max}")]
    CompanionTooLong {
        /// Target path of the image.
        path: String,
        /// Its length, bytes.
        length: u64,
        /// The limit, bytes.
        length_max: u64,
    },

    /// An encrypted bundle without the key that opens it.
    #[error("the bundle of {path} is encrypted, and the Director gives this vehicle no content key for it")]
    ContentKeyMissing {
        /// Target path of the release.
        path: String,
    },
    /// A key that was sealed for somebody else or for something else.
    #[error(
        "the content key of {path} does not open: it is not sealed to the key of vehicle {vehicle_id}, ECU {ecu_serial}, for this bundle"
    )]
    ContentKeyUnopened {
        /// Target path of the release.
        path: String,
        /// This vehicle.
        vehicle_id: VehicleId,
        /// Its Primary.
        ecu_serial: EcuSerial,
    },

    /// The caller answered an action that was not asked for.
    #[error("the caller answered an action that the check had not asked for")]
    OutOfOrder,
}

/// How a bundle is encrypted, in a sentence.
fn in_words(encryption: Option<EncryptionMethod>) -> String {
    encryption.map_or_else(|| String::from("not encrypted"), |method| format!("encrypted ({method})"))
}
