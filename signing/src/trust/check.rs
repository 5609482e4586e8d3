use alloc::{boxed::Box, string::String, vec::Vec};
use core::mem;

use super::{
    MetadataCache, Repository, TrustError,
    agree::{Wanted, agree, wanted},
    client::Client,
    refresh::Held,
    search::Search,
    target::VerifiedTarget,
    verify::Rules,
};
use crate::{
    digest::Sha256Digest,
    metadata::{EcuSerial, HardwareId, Region, Tier, VehicleId, Version},
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

/// Uptane is two clients of one repository each, one after the other.
#[derive(Debug)]
enum Stage {
    /// Bringing the Director's metadata up to date.
    Director(Client),
    /// Bringing the Image repository's metadata up to date and looking in it for what the Director wants.
    Image(Client, Box<Wanted>),
    /// Finished; the outcome until it is taken.
    Finished(Option<Outcome>),
}

impl MetadataCheck {
    /// Begins a check. `now` is the time for all of it (Uptane, 5.4.4.1: "load and verify the current time").
    pub fn start(cache: MetadataCache, identity: VehicleIdentity, installed: Installed, now: UnixTime) -> Self {
        let held = Held::new(cache, now, Rules::Uptane);
        let stage = Client::start(Repository::Director, &held).map_or_else(Stage::refused, Stage::Director);
        Self { identity, installed, held, stage }
    }

    /// What to do now; the same again until it is answered.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on without being answered")]
    pub fn next(&mut self) -> Action {
        self.held.change().unwrap_or_else(|| match &mut self.stage {
            Stage::Director(client) | Stage::Image(client, _) => {
                client.request().map_or(Action::Finished(Outcome::Refused(TrustError::OutOfOrder)), Action::Fetch)
            }
            Stage::Finished(outcome) => Action::Finished(outcome.take().unwrap_or(Outcome::Refused(TrustError::OutOfOrder))),
        })
    }

    /// Answers [`Action::Fetch`].
    pub fn fetched(&mut self, fetched: Result<Vec<u8>, FetchFailure>) {
        let stage = mem::replace(&mut self.stage, Stage::Finished(None));
        self.stage = self.advance(stage, fetched).unwrap_or_else(Stage::refused);
    }

    /// Answers [`Action::Persist`] and [`Action::Remove`].
    pub fn persisted(&mut self) {
        if let Err(error) = self.held.changed() {
            self.stage = Stage::refused(error);
        }
    }

    /// What the vehicle holds now, for the next check.
    pub fn into_cache(self) -> MetadataCache {
        self.held.cache
    }

    fn advance(&mut self, stage: Stage, fetched: Result<Vec<u8>, FetchFailure>) -> Result<Stage, TrustError> {
        match stage {
            Stage::Director(client) => {
                let client = client.handle(fetched, &mut self.held)?;
                self.after_director(client)
            }
            Stage::Image(client, wanted) => {
                let client = client.handle(fetched, &mut self.held)?;
                self.after_image(client, wanted)
            }
            Stage::Finished(_) => Err(TrustError::OutOfOrder),
        }
    }

    /// Uptane, 5.4.4.2, step 6: without a new image for this vehicle, the Image repository need not be asked.
    ///
    /// The Standard stops already when the Director's snapshot has not changed. We go on when the image that it wants is not
    /// installed, because an installation may have been interrupted after its metadata was persisted.
    fn after_director(&self, client: Client) -> Result<Stage, TrustError> {
        let director = match client {
            Client::Ready(director) => director,
            client => return Ok(Stage::Director(client)),
        };
        match wanted(&director.targets, &self.identity)? {
            Some(wanted) if wanted.meta.hashes.sha256.is_none() || wanted.meta.hashes.sha256 != self.installed.image_sha256 => {
                Ok(Stage::Image(Client::start(Repository::Image, &self.held)?, Box::new(wanted)))
            }
            _ => Ok(Stage::Finished(Some(Outcome::NothingNew))),
        }
    }

    fn after_image(&self, client: Client, wanted: Box<Wanted>) -> Result<Stage, TrustError> {
        let client = match client {
            Client::Ready(image) => {
                let search = Search::new(&wanted.path, Some(self.identity.hardware_id.clone()));
                Client::search(image, search, &self.held)?
            }
            client => client,
        };
        let (image, found) = match client {
            Client::Searched(image, found) => (image, found),
            client => return Ok(Stage::Image(client, wanted)),
        };
        let found = found.ok_or_else(|| TrustError::TargetUnknown { path: wanted.path.clone() })?;
        let consistent_snapshot = image.root.role().consistent_snapshot;
        let target = agree(*wanted, &found, &self.identity, &self.installed, consistent_snapshot)?;
        Ok(Stage::Finished(Some(Outcome::Install(target))))
    }
}

impl Stage {
    fn refused(error: TrustError) -> Self {
        Self::Finished(Some(Outcome::Refused(error)))
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
