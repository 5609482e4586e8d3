use alloc::{string::String, vec::Vec};
use core::mem;

use super::{
    MetadataCache, Repository, TrustError,
    image::VerifiedImage,
    map::RepositoryMap,
    release::{belong_together, release},
    target::VerifiedTarget,
    uptane::{AskImages, Ecu, Installed, OtherEcus, UptaneCheck, UptaneOutcome, VehicleEcus},
};
use crate::{
    metadata::{EcuAssignment, EcuSerial, Freshness, HardwareId, Nonce, OfflineScope, Region, Tier, Timestamp, VehicleId, Version},
    time::UnixTime,
};

/// What the vehicle is; given at manufacture and by the software that is installed, never by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VehicleIdentity {
    /// The vehicle, as it enrolled with the Director.
    pub vehicle_id: VehicleId,
    /// Its Primary.
    pub ecu_serial: EcuSerial,
    /// The Primary's kind of computer.
    pub hardware_id: HardwareId,
    /// The vehicle's tier.
    pub tier: Tier,
    /// The region in which the vehicle is approved.
    pub region: Region,
    /// Version of the vehicle library.
    pub sdk_version: Version,
    /// Version of ONNX Runtime.
    pub onnxruntime_version: Version,
    /// Versions of the model contract that the vehicle library reads.
    pub contract_versions: Vec<u32>,
}

/// One verification of both repositories' metadata, as a Primary does it (Uptane Standard, 5.4.4.2: full verification).
///
/// It does no input or output of its own. Call [`MetadataCheck::next`], do what it says, answer, and repeat until it has finished:
///
/// ```
/// use switchback_signing::trust::{Action, FetchFailure, FetchRequest, MetadataCache, MetadataCheck, Outcome};
///
/// fn run(mut check: MetadataCheck, fetch: impl Fn(&FetchRequest) -> Result<Vec<u8>, FetchFailure>, disk: &mut MetadataCache) -> Outcome {
///     loop {
///         match check.next() {
///             Action::Fetch(request) => check.fetched(fetch(&request)),
///             Action::Persist { repository, file_name, bytes } => {
///                 disk.insert(repository, &file_name, bytes);
///                 check.persisted();
///             }
///             Action::Remove { repository, file_name } => {
///                 disk.remove(repository, &file_name);
///                 check.persisted();
///             }
///             Action::Finished(outcome) => return outcome,
///         }
///     }
/// }
/// ```
///
/// A check that is dropped halfway (no network, power cut) has persisted only what it had verified; the next one goes on from there.
#[derive(Debug)]
pub struct MetadataCheck {
    identity: VehicleIdentity,
    check: UptaneCheck,
    secondaries: Vec<EcuAssignment>,
    secondary_images: Vec<VerifiedImage>,
}

/// What a check asks its caller to do; `O` is how it can end.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<O = Outcome> {
    /// Fetch a metadata file and answer with [`MetadataCheck::fetched`].
    Fetch(FetchRequest),
    /// Write a file, make it durable, and answer with [`MetadataCheck::persisted`].
    Persist {
        /// The repository that it belongs to.
        repository: Repository,
        /// Its name in the cache, without version.
        file_name: String,
        /// The bytes, as they were received.
        bytes: Vec<u8>,
    },
    /// Delete a file, make that durable, and answer with [`MetadataCheck::persisted`].
    Remove {
        /// The repository that it belongs to.
        repository: Repository,
        /// Its name in the cache, without version.
        file_name: String,
    },
    /// Nothing more; the outcome is given once.
    Finished(O),
}

/// A metadata file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// From which repository.
    pub repository: Repository,
    /// The file's name there, such as `2.root.json` or `7.vla-ultra.json`; percent-quoted already.
    pub file_name: String,
    /// Stop reading beyond this many bytes and answer [`FetchFailure::TooLong`].
    pub length_max: u64,
    /// Ask with this nonce, which the answer must carry. Only of the Director's Timestamp, and only in a check with a [`Challenge`].
    pub nonce: Option<Nonce>,
}

/// Asks the Director whether what it shows is of today. Without, a vehicle sees a freeze attack when the Timestamp expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Random bytes, drawn for this check.
    pub nonce: Nonce,
    /// Nothing is asked while the Timestamp that is held was signed no longer ago than this, seconds. With 0 it is asked at each check.
    pub age_s_max: u64,
}

impl Challenge {
    /// The nonce, if there is a reason to ask with it: no Timestamp is held, or one of a Director that answers nonces and long ago. Signed in
    /// the future it was by as much, as far as a wrong clock can tell.
    pub(super) fn due(&self, held: Option<&Timestamp>, now: UnixTime) -> Option<Nonce> {
        let due = match held.map(Timestamp::freshness) {
            None => true,
            Some(Ok(Some(Freshness { signed_at, .. }))) => now.seconds().abs_diff(signed_at.seconds()) >= self.age_s_max,
            // A Director that answers none; or one whose words are not understood, which shows with its next Timestamp.
            Some(Ok(None) | Err(_)) => false,
        };
        due.then_some(self.nonce)
    }
}

/// Why a file was not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// The repository says that there is no such file (HTTP 404 or 403). Nothing else may be answered so: at the end of the root
    /// chain it is taken for the word that there is no newer root.
    NotFound,
    /// The file goes on beyond `length_max`.
    TooLong,
    /// The repository did not answer, or answered anything else.
    Unreachable {
        /// What the transport says.
        reason: String,
    },
}

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The Director has nothing for this vehicle that it does not run already.
    NothingNew,
    /// A release to install.
    Install(VerifiedTarget),
    /// Something was not believed, or could not be had.
    Refused(TrustError),
}

impl MetadataCheck {
    /// Begins a check. `now` is the time for all of it (Uptane, 5.4.4.1: "load and verify the current time").
    pub fn start(cache: MetadataCache, identity: VehicleIdentity, installed: Installed, now: UnixTime) -> Self {
        Self::with_secondaries(cache, identity, installed, Vec::new(), now)
    }

    /// Begins a check for a vehicle that has other ECUs beside its Primary.
    pub fn with_secondaries(
        cache: MetadataCache,
        identity: VehicleIdentity,
        installed: Installed,
        secondaries: Vec<Ecu>,
        now: UnixTime,
    ) -> Self {
        Self::begin(cache, identity, installed, secondaries, None, now)
    }

    /// Begins a check of an offline update: of metadata that came in a file, marked and with a life of its own. Of `cache` it uses the
    /// roots alone and keeps only newer ones: such an update is neither older nor newer than what the repositories say over the network,
    /// and what guards against an old one is its expiry and the release counter.
    pub fn of_offline_update(
        cache: MetadataCache,
        identity: VehicleIdentity,
        installed: Installed,
        secondaries: Vec<Ecu>,
        now: UnixTime,
    ) -> Self {
        let scope = OfflineScope { tier: identity.tier.clone(), region: identity.region.clone() };
        Self::begin(cache, identity, installed, secondaries, Some(scope), now)
    }

    fn begin(
        cache: MetadataCache,
        identity: VehicleIdentity,
        installed: Installed,
        secondaries: Vec<Ecu>,
        offline: Option<OfflineScope>,
        now: UnixTime,
    ) -> Self {
        let known = |ecu: &Ecu| EcuAssignment { ecu_serial: ecu.ecu_serial.clone(), hardware_id: ecu.hardware_id.clone() };
        let others = secondaries.iter().map(known).collect();
        let primary = Ecu { ecu_serial: identity.ecu_serial.clone(), hardware_id: identity.hardware_id.clone(), installed };
        let ecus = [primary].into_iter().chain(secondaries).collect();
        let vehicle = VehicleEcus { vehicle_id: Some(identity.vehicle_id.clone()), ecus, others: OtherEcus::Refused, offline };
        let check = UptaneCheck::start(cache, vehicle, AskImages::AllWhenNew, now);
        Self { identity, check, secondaries: others, secondary_images: Vec::new() }
    }

    /// The repository map that the vehicle was provisioned with (Uptane, 5.4.1); without it, both repositories sign for everything.
    #[must_use]
    pub fn with_map(mut self, map: RepositoryMap) -> Self {
        self.check = self.check.with_map(map);
        self
    }

    /// Asks the Director with a nonce, when it is time to.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.check = self.check.with_challenge(challenge);
        self
    }

    /// What to do now; the same again until it is answered.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on without being answered")]
    pub fn next(&mut self) -> Action {
        match self.check.next() {
            Action::Fetch(request) => Action::Fetch(request),
            Action::Persist { repository, file_name, bytes } => Action::Persist { repository, file_name, bytes },
            Action::Remove { repository, file_name } => Action::Remove { repository, file_name },
            Action::Finished(outcome) => Action::Finished(self.judge(outcome)),
        }
    }

    /// Answers [`Action::Fetch`].
    pub fn fetched(&mut self, fetched: Result<Vec<u8>, FetchFailure>) {
        self.check.fetched(fetched);
    }

    /// Answers [`Action::Persist`] and [`Action::Remove`].
    pub fn persisted(&mut self) {
        self.check.persisted();
    }

    /// Once it has finished: what the Secondaries should install and do not run yet. Empty after a refusal; the Primary may have
    /// [`Outcome::NothingNew`] all the same. They can be taken once.
    pub fn take_secondary_images(&mut self) -> Vec<VerifiedImage> {
        mem::take(&mut self.secondary_images)
    }

    /// The metadata that this check went by; of an offline update, what came in the file. For the vehicle's Secondaries.
    pub fn metadata(&self) -> &MetadataCache {
        self.check.metadata()
    }

    /// What the disk has now, for the next check.
    pub fn into_cache(self) -> MetadataCache {
        self.check.into_cache()
    }

    /// Our releases ask for more than the Standard.
    fn judge(&mut self, outcome: UptaneOutcome) -> Outcome {
        let images = match outcome {
            UptaneOutcome::Verified(verified) => verified.images,
            UptaneOutcome::Refused(error) => return Outcome::Refused(error),
        };
        let (primary, is_new) = (&self.identity.ecu_serial, |image: &VerifiedImage| image.ecus().contains(&self.identity.ecu_serial));
        let own = images.iter().find(|image| is_new(image) || image.running().contains(primary));
        let target = match own.map(|image| release(image, &self.identity)).transpose() {
            Ok(target) => target,
            Err(error) => return Outcome::Refused(error),
        };
        if let Err(error) = belong_together(target.as_ref(), &images, &self.secondaries) {
            return Outcome::Refused(error);
        }
        let outcome = match target {
            Some(target) if own.is_some_and(is_new) => Outcome::Install(target),
            _ => Outcome::NothingNew,
        };
        self.secondary_images = images.into_iter().filter(|image| image.ecus().iter().any(|ecu| ecu != primary)).collect();
        outcome
    }
}

impl FetchFailure {
    pub(super) fn into_error(self, request: &FetchRequest) -> TrustError {
        let FetchRequest { repository, file_name, length_max, .. } = request.clone();
        match self {
            Self::NotFound => TrustError::FileMissing { repository, file_name },
            Self::TooLong => TrustError::EndlessData { repository, file_name, length_max },
            Self::Unreachable { reason } => TrustError::Unreachable { repository, file_name, reason },
        }
    }
}
