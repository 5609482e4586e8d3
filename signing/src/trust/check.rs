use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};
use core::mem;

use super::{
    MetadataCache, Repository, TrustError,
    agree::{Wanted, agree, wanted},
    refresh::{Change, Held, Refresh, Refreshed},
    search::{Delegatee, Search},
    target::VerifiedTarget,
};
use crate::{
    digest::Sha256Digest,
    metadata::{EcuSerial, HardwareId, Region, TargetMeta, Tier, VehicleId, Version},
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

/// The smallest acceptable release counter: that of the release that was confirmed last, 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseFloor(pub u64);

/// What the vehicle runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The smallest acceptable release counter.
    pub floor: ReleaseFloor,
    /// SHA-256 of the chunk index of the release that is installed. While the Director assigns this one, there is nothing new.
    pub image_sha256: Option<Sha256Digest>,
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
    installed: Installed,
    held: Held,
    stage: Stage,
}

/// What the check asks its caller to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
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
    Finished(Outcome),
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

#[derive(Debug)]
enum Stage {
    /// Bringing the Director's metadata up to date.
    Director(Refresh),
    /// Bringing the Image repository's metadata up to date, for the sake of what the Director wants.
    Image(Refresh, Wanted),
    /// Looking for it among the delegated roles; one of them is being fetched.
    Search(Box<Searching>),
    /// Finished; the outcome until it is taken.
    Finished(Option<Outcome>),
}

#[derive(Debug)]
struct Searching {
    image: Refreshed,
    wanted: Wanted,
    search: Search,
    role: Delegatee,
    request: FetchRequest,
}

impl MetadataCheck {
    /// Begins a check. `now` is the time for all of it (Uptane, 5.4.4.1: "load and verify the current time").
    pub fn start(cache: MetadataCache, identity: VehicleIdentity, installed: Installed, now: UnixTime) -> Self {
        let held = Held { cache, changes: VecDeque::new(), now };
        let stage = match Refresh::start(Repository::Director, &held) {
            Ok(refresh) => Stage::Director(refresh),
            Err(error) => Stage::refused(error),
        };
        Self { identity, installed, held, stage }
    }

    /// What to do now; the same again until it is answered.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on without being answered")]
    pub fn next(&mut self) -> Action {
        match self.held.changes.front().cloned() {
            Some(Change::Persist { repository, file_name, bytes }) => Action::Persist { repository, file_name, bytes },
            Some(Change::Remove { repository, file_name }) => Action::Remove { repository, file_name },
            None => match self.stage.request() {
                Some(request) => Action::Fetch(request),
                None => Action::Finished(self.stage.take_outcome()),
            },
        }
    }

    /// Answers [`Action::Fetch`].
    pub fn fetched(&mut self, fetched: Result<Vec<u8>, FetchFailure>) {
        let stage = mem::replace(&mut self.stage, Stage::Finished(None));
        self.stage = self.advance(stage, fetched).unwrap_or_else(Stage::refused);
    }

    /// Answers [`Action::Persist`] and [`Action::Remove`].
    pub fn persisted(&mut self) {
        if self.held.changes.pop_front().is_none() {
            self.stage = Stage::refused(TrustError::OutOfOrder);
        }
    }

    /// What the vehicle holds now, for the next check.
    pub fn into_cache(self) -> MetadataCache {
        self.held.cache
    }

    fn advance(&mut self, stage: Stage, fetched: Result<Vec<u8>, FetchFailure>) -> Result<Stage, TrustError> {
        // A fetch that overtakes a write would leave a legal state only by luck.
        let request = stage.request().filter(|_| self.held.changes.is_empty()).ok_or(TrustError::OutOfOrder)?;
        if fetched.as_ref().is_ok_and(|bytes| bytes.len() as u64 > request.length_max) {
            return Err(FetchFailure::TooLong.into_error(&request));
        }
        match stage {
            Stage::Director(refresh) => {
                let refresh = refresh.handle(&request, fetched, &mut self.held)?;
                self.after_director(refresh)
            }
            Stage::Image(refresh, wanted) => {
                let refresh = refresh.handle(&request, fetched, &mut self.held)?;
                self.after_image(refresh, wanted)
            }
            Stage::Search(searching) => {
                let Searching { image, wanted, mut search, role, .. } = *searching;
                let bytes = fetched.map_err(|failure| failure.into_error(&request))?;
                let targets = image.fetched_delegated(&role.name, &role.keys, &bytes, &mut self.held)?;
                let found = search.visit(&role.name, &targets);
                self.search_on(image, wanted, search, found)
            }
            Stage::Finished(_) => Err(TrustError::OutOfOrder),
        }
    }

    /// Uptane, 5.4.4.2, step 6: without a new image for this vehicle, the Image repository need not be asked.
    ///
    /// The Standard stops already when the Director's snapshot has not changed. We go on when the image that it wants is not
    /// installed, because an installation may have been interrupted after its metadata was persisted.
    fn after_director(&self, director: Refresh) -> Result<Stage, TrustError> {
        let director = match director {
            Refresh::Done(director) => director,
            refresh => return Ok(Stage::Director(refresh)),
        };
        match wanted(&director.targets, &self.identity)? {
            Some(wanted) if wanted.meta.sha256.is_none() || wanted.meta.sha256 != self.installed.image_sha256 => {
                Ok(Stage::Image(Refresh::start(Repository::Image, &self.held)?, wanted))
            }
            _ => Ok(Stage::Finished(Some(Outcome::NothingNew))),
        }
    }

    fn after_image(&self, image: Refresh, wanted: Wanted) -> Result<Stage, TrustError> {
        let image = match image {
            Refresh::Done(image) => image,
            refresh => return Ok(Stage::Image(refresh, wanted)),
        };
        let mut search = Search::new(&wanted.path, &self.identity.hardware_id);
        let found = search.visit("targets", &image.targets);
        self.search_on(image, wanted, search, found)
    }

    /// Goes through the delegated roles until one lists the image, or until one must be fetched.
    fn search_on(&self, image: Refreshed, wanted: Wanted, mut search: Search, mut found: Option<TargetMeta>) -> Result<Stage, TrustError> {
        loop {
            if let Some(found) = found {
                let consistent_snapshot = image.root.role().consistent_snapshot;
                let target = agree(wanted, &found, &self.identity, &self.installed, consistent_snapshot)?;
                return Ok(Stage::Finished(Some(Outcome::Install(target))));
            }
            let Some(role) = search.next(Repository::Image)? else {
                return Err(TrustError::TargetUnknown { path: wanted.path });
            };
            match image.held_delegated(&role.name, &role.keys, &self.held) {
                Some(targets) => found = search.visit(&role.name, &targets),
                None => {
                    let request = image.request_delegated(&role.name)?;
                    return Ok(Stage::Search(Box::new(Searching { image, wanted, search, role, request })));
                }
            }
        }
    }
}

impl Stage {
    fn refused(error: TrustError) -> Self {
        Self::Finished(Some(Outcome::Refused(error)))
    }

    /// The file that this stage waits for.
    fn request(&self) -> Option<FetchRequest> {
        match self {
            Self::Director(refresh) => refresh.request(Repository::Director),
            Self::Image(refresh, _) => refresh.request(Repository::Image),
            Self::Search(searching) => Some(searching.request.clone()),
            Self::Finished(_) => None,
        }
    }

    fn take_outcome(&mut self) -> Outcome {
        match self {
            Self::Finished(outcome) => outcome.take().unwrap_or(Outcome::Refused(TrustError::OutOfOrder)),
            Self::Director(_) | Self::Image(..) | Self::Search(_) => Outcome::Refused(TrustError::OutOfOrder),
        }
    }
}

impl FetchFailure {
    pub(super) fn into_error(self, request: &FetchRequest) -> TrustError {
        let FetchRequest { repository, file_name, length_max } = request.clone();
        match self {
            Self::NotFound => TrustError::FileMissing { repository, file_name },
            Self::TooLong => TrustError::EndlessData { repository, file_name, length_max },
            Self::Unreachable { reason } => TrustError::Unreachable { repository, file_name, reason },
        }
    }
}
