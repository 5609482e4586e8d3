use alloc::string::ToString;

use super::{Attack, TrustError};
use crate::metadata::vehicle::Reason;

impl TrustError {
    /// The stable number, 101 to 199; never given to another variant.
    pub const fn number(&self) -> u32 {
        self.facts().0
    }

    /// The stable name.
    pub const fn name(&self) -> &'static str {
        self.facts().1
    }

    /// The attack that this would be, if somebody did it on purpose.
    pub const fn attack(&self) -> Option<Attack> {
        self.facts().2
    }

    /// The error as a vehicle reports it.
    pub fn reason(&self) -> Reason {
        Reason { number: self.number(), name: self.name().to_string(), text: self.to_string() }
    }

    /// Number, name and attack side by side, so that they are read and reviewed as one table.
    const fn facts(&self) -> (u32, &'static str, Option<Attack>) {
        use Attack::{ArbitrarySoftware, DropRequest, EndlessData, Freeze, MixAndMatch, Rollback};
        match self {
            Self::Malformed { .. } => (101, "metadata_malformed", Some(ArbitrarySoftware)),
            Self::ThresholdNotMet { .. } => (102, "threshold_not_met", Some(ArbitrarySoftware)),
            Self::RootVersion { .. } => (103, "root_version", Some(Rollback)),
            Self::TooManyRoots { .. } => (104, "too_many_roots", Some(EndlessData)),
            Self::OlderVersion { .. } => (105, "older_version", Some(Rollback)),
            Self::FileRemoved { .. } => (106, "file_removed", Some(Rollback)),
            Self::FileUnlisted { .. } => (107, "file_unlisted", Some(MixAndMatch)),
            Self::OtherVersion { .. } => (108, "other_version", Some(MixAndMatch)),
            Self::OtherLength { .. } => (109, "other_length", Some(MixAndMatch)),
            Self::OtherDigest { .. } => (110, "other_digest", Some(MixAndMatch)),
            Self::DigestMissing { .. } => (111, "digest_missing", Some(MixAndMatch)),
            Self::Expired { .. } => (112, "expired", Some(Freeze)),
            Self::EndlessData { .. } => (113, "endless_data", Some(EndlessData)),
            Self::Unreachable { .. } => (114, "unreachable", Some(DropRequest)),
            Self::FileMissing { .. } => (115, "file_missing", Some(DropRequest)),
            Self::TooManyDelegations { .. } => (116, "too_many_delegations", Some(EndlessData)),
            Self::AnchorMissing { .. } => (117, "anchor_missing", None),
            Self::OfflineMark { .. } => (118, "offline_mark", Some(Freeze)),
            Self::PathUnmapped { .. } => (119, "path_unmapped", Some(ArbitrarySoftware)),
            Self::RolesDisagree { .. } => (120, "roles_disagree", Some(ArbitrarySoftware)),
            Self::NonceDiffers { .. } => (121, "nonce_differs", Some(Freeze)),
            Self::DirectorDelegates => (130, "director_delegates", Some(ArbitrarySoftware)),
            Self::OtherVehicle { .. } => (131, "other_vehicle", Some(MixAndMatch)),
            Self::VehicleUnnamed => (132, "vehicle_unnamed", Some(MixAndMatch)),
            Self::EcuTwice { .. } => (133, "ecu_twice", Some(MixAndMatch)),
            Self::UnknownEcu { .. } => (134, "unknown_ecu", Some(MixAndMatch)),
            Self::OtherEcuHardware { .. } => (135, "other_ecu_hardware", Some(ArbitrarySoftware)),
            Self::OtherScope { .. } => (136, "other_scope", Some(MixAndMatch)),
            Self::TargetUnknown { .. } => (140, "target_unknown", Some(ArbitrarySoftware)),
            Self::TargetPath { .. } => (141, "target_path", Some(ArbitrarySoftware)),
            Self::TargetDigestMissing { .. } => (142, "target_digest_missing", Some(ArbitrarySoftware)),
            Self::TargetLengthDiffers { .. } => (143, "target_length_differs", Some(ArbitrarySoftware)),
            Self::TargetDigestDiffers { .. } => (144, "target_digest_differs", Some(ArbitrarySoftware)),
            Self::CustomDiffers { .. } => (145, "custom_differs", Some(MixAndMatch)),
            Self::CustomMalformed { .. } => (146, "custom_malformed", Some(ArbitrarySoftware)),
            Self::WrongHardware { .. } => (150, "wrong_hardware", Some(ArbitrarySoftware)),
            Self::WrongTier { .. } => (151, "wrong_tier", Some(ArbitrarySoftware)),
            Self::WrongRegion { .. } => (152, "wrong_region", Some(ArbitrarySoftware)),
            Self::ReleaseBelowFloor { .. } => (153, "release_below_floor", Some(Rollback)),
            Self::ContractUnknown { .. } => (154, "contract_unknown", None),
            Self::SdkTooOld { .. } => (155, "sdk_too_old", None),
            Self::RuntimeTooOld { .. } => (156, "runtime_too_old", None),
            Self::IndexLength { .. } => (160, "index_length_differs", Some(EndlessData)),
            Self::IndexDigest { .. } => (161, "index_digest_differs", Some(ArbitrarySoftware)),
            Self::IndexMalformed { .. } => (162, "index_malformed", None),
            Self::IndexOfOtherBundle { .. } => (163, "index_of_other_bundle", Some(MixAndMatch)),
            Self::FileLength { .. } => (164, "file_length_differs", Some(EndlessData)),
            Self::FileDigest { .. } => (165, "file_digest_differs", Some(ArbitrarySoftware)),
            Self::IndexEncryptionDiffers { .. } => (166, "index_encryption_differs", Some(MixAndMatch)),
            Self::OutsideDelegation { .. } => (170, "outside_delegation", Some(ArbitrarySoftware)),
            Self::RoleUnknown { .. } => (171, "role_unknown", Some(ArbitrarySoftware)),
            Self::ThresholdUnreachable { .. } => (172, "threshold_unreachable", None),
            Self::CompanionUnlisted { .. } => (180, "companion_unlisted", Some(MixAndMatch)),
            Self::CompanionDiffers { .. } => (181, "companion_differs", Some(MixAndMatch)),
            Self::CompanionMissing { .. } => (182, "companion_missing", Some(MixAndMatch)),
            Self::CompanionUnneeded { .. } => (183, "companion_unneeded", Some(MixAndMatch)),
            Self::CompanionTooLong { .. } => (184, "companion_too_long", Some(EndlessData)),
            // Whoever signs for the Director can as well assign nothing.
            Self::ContentKeyMissing { .. } => (190, "content_key_not_given", None),
            Self::ContentKeyUnopened { .. } => (191, "content_key_unopened", Some(MixAndMatch)),
            Self::OutOfOrder => (199, "out_of_order", None),
        }
    }
}
