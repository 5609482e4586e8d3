use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::mem;

use super::{
    Action, Challenge, FetchFailure, MetadataCache, Repository, TrustError,
    agree::{Assignments, Wanted, agree, assignments},
    client::Client,
    image::VerifiedImage,
    map::RepositoryMap,
    refresh::{Held, Refreshed},
    search::Search,
    verify::Rules,
};
use crate::{
    digest::Sha256Digest,
    metadata::{EcuSerial, HardwareId, OfflineScope, VehicleId},
    time::UnixTime,
};

/// The smallest acceptable release counter: that of the release that was confirmed last, 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseFloor(pub u64);

/// What an ECU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The smallest acceptable release counter.
    pub floor: ReleaseFloor,
    /// SHA-256 of the image that is installed; of a release, of its chunk index. While the Director assigns this one, there is nothing
    /// new.
    pub image_sha256: Option<Sha256Digest>,
}

/// One ECU of the vehicle and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecu {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// Its kind of computer.
    pub hardware_id: HardwareId,
    /// What it runs.
    pub installed: Installed,
}

/// The ECUs for which metadata is verified; known from manufacture, never from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VehicleEcus {
    /// The vehicle. Without it, metadata of whatever vehicle these ECUs are in is taken; keep the name that verified, and ask for it
    /// from then on.
    pub vehicle_id: Option<VehicleId>,
    /// The ECUs.
    pub ecus: Vec<Ecu>,
    /// Whether there may be more.
    pub others: OtherEcus,
    /// For an offline update: the tier and region of the vehicle, which its metadata may name in place of the vehicle. Of what is held such
    /// a check uses the roots alone, and keeps only newer ones.
    pub offline: Option<OfflineScope>,
}

/// What to think of an ECU in the Director's targets that is not among those for which they are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEcus {
    /// A Primary knows every ECU of its vehicle: metadata for another one is refused (Uptane, 5.4.4.6, step 8).
    Refused,
    /// A Secondary that verifies for itself knows only itself: the others are not its concern.
    Ignored,
}

/// One verification of both repositories' metadata by the Uptane Standard alone (5.4.4.2: full verification), for any images and any
/// number of ECUs. [`super::MetadataCheck`] asks more of what it lets a vehicle drive with.
///
/// It does no input or output of its own. Call [`UptaneCheck::next`], do what it says, answer, and repeat until it has finished; the
/// loop is that of [`super::MetadataCheck`].
#[derive(Debug)]
pub struct UptaneCheck {
    vehicle: VehicleEcus,
    map: RepositoryMap,
    ask: AskImages,
    held: Held,
    stage: Stage,
}

/// When the Image repository is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskImages {
    /// When the Director has something new for an ECU: otherwise a check "SHOULD stop" (Uptane, 5.4.4.2, step 6).
    WhenNew,
    /// When the Director has something new for an ECU, and then for all of the vehicle's images, also those that run already: what
    /// belongs together is judged together.
    AllWhenNew,
    /// Always, so that an attack on the Image repository is noticed even while there is nothing to install.
    Always,
}

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub enum UptaneOutcome {
    /// Everything that was looked at is believed.
    Verified(VerifiedAssignments),
    /// Something was not believed, or could not be had.
    Refused(TrustError),
}

/// What both repositories agree on for this vehicle.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedAssignments {
    /// The vehicle that the Director's targets name, if they name one.
    pub vehicle_id: Option<VehicleId>,
    /// What ECUs should install and do not run yet, in the order of the target paths; with [`AskImages::AllWhenNew`] also what they run.
    pub images: Vec<VerifiedImage>,
}

/// Uptane is two clients of one repository each, one after the other.
#[derive(Debug)]
enum Stage {
    /// Bringing the Director's metadata up to date.
    Director(Client),
    /// Bringing the Image repository's metadata up to date and looking in it for what the Director wants.
    Image(Client, Box<Lookup>),
    /// Finished; the outcome until it is taken.
    Finished(Option<UptaneOutcome>),
}

/// What is looked for in the Image repository, one image after the other.
#[derive(Debug)]
struct Lookup {
    now: Option<Wanted>,
    next: VecDeque<Wanted>,
    verified: VerifiedAssignments,
}

impl UptaneCheck {
    /// Begins a check. `now` is the time for all of it (Uptane, 5.4.4.1: "load and verify the current time").
    pub fn start(cache: MetadataCache, vehicle: VehicleEcus, ask: AskImages, now: UnixTime) -> Self {
        let rules = if vehicle.offline.is_some() { Rules::UptaneOffline } else { Rules::Uptane };
        let held = Held::new(cache, now, rules);
        let stage = Client::start(Repository::Director, &held).map_or_else(Stage::refused, Stage::Director);
        Self { vehicle, map: RepositoryMap::default(), ask, held, stage }
    }

    /// The repository map that the vehicle was provisioned with (Uptane, 5.4.1); without it, both repositories sign for everything.
    #[must_use]
    pub fn with_map(mut self, map: RepositoryMap) -> Self {
        self.map = map;
        self
    }

    /// Asks the Director with a nonce, when it is time to. Only for a Director that is known to be asked so.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.held.challenge = Some(challenge);
        self
    }

    /// What to do now; the same again until it is answered.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on without being answered")]
    pub fn next(&mut self) -> Action<UptaneOutcome> {
        self.held.change().unwrap_or_else(|| match &mut self.stage {
            Stage::Director(client) | Stage::Image(client, _) => {
                client.request().map_or(Action::Finished(UptaneOutcome::Refused(TrustError::OutOfOrder)), Action::Fetch)
            }
            Stage::Finished(outcome) => Action::Finished(outcome.take().unwrap_or(UptaneOutcome::Refused(TrustError::OutOfOrder))),
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

    /// The metadata that this check went by; of an offline update, what came in the file. A Primary hands it on to its Secondaries.
    pub fn metadata(&self) -> &MetadataCache {
        &self.held.cache
    }

    /// What the disk has now, for the next check.
    pub fn into_cache(self) -> MetadataCache {
        self.held.into_disk()
    }

    fn advance(&mut self, stage: Stage, fetched: Result<Vec<u8>, FetchFailure>) -> Result<Stage, TrustError> {
        match stage {
            Stage::Director(client) => match client.handle(fetched, &mut self.held)? {
                Client::Ready(director) => self.after_director(&director),
                client => Ok(Stage::Director(client)),
            },
            Stage::Image(client, lookup) => {
                let client = client.handle(fetched, &mut self.held)?;
                self.after_image(client, lookup)
            }
            Stage::Finished(_) => Err(TrustError::OutOfOrder),
        }
    }

    /// Uptane, 5.4.4.2, step 6: without a new image for this vehicle, the Image repository need not be asked.
    fn after_director(&self, director: &Refreshed) -> Result<Stage, TrustError> {
        let Assignments { vehicle_id, mut wanted } = assignments(&director.targets, &self.vehicle)?;
        for Wanted { path, .. } in &wanted {
            self.map.check(path)?;
        }
        let verified = VerifiedAssignments { vehicle_id, images: Vec::new() };
        let is_new = wanted.iter().any(|wanted| !wanted.ecus.is_empty());
        match self.ask {
            AskImages::WhenNew | AskImages::AllWhenNew if !is_new => return Ok(Stage::verified(verified)),
            AskImages::WhenNew | AskImages::Always => wanted.retain(|wanted| !wanted.ecus.is_empty()),
            AskImages::AllWhenNew => wanted.retain(|wanted| !(wanted.ecus.is_empty() && wanted.running.is_empty())),
        }
        let lookup = Lookup { now: None, next: wanted.into(), verified };
        Ok(Stage::Image(Client::start(Repository::Image, &self.held)?, Box::new(lookup)))
    }

    fn after_image(&self, mut client: Client, mut lookup: Box<Lookup>) -> Result<Stage, TrustError> {
        loop {
            let image = match client {
                Client::Ready(image) => image,
                Client::Searched(image, found) => {
                    let wanted = lookup.now.take().ok_or(TrustError::OutOfOrder)?;
                    let found = found.ok_or_else(|| TrustError::TargetUnknown { path: wanted.path.clone() })?;
                    lookup.verified.images.push(agree(wanted, *found, image.root.role().consistent_snapshot)?);
                    image
                }
                client => return Ok(Stage::Image(client, lookup)),
            };
            let Some(wanted) = lookup.next.pop_front() else {
                return Ok(Stage::verified(lookup.verified));
            };
            client = Client::search(image, Search::new(&wanted.path, wanted.hardware_ids()), &self.held)?;
            lookup.now = Some(wanted);
        }
    }
}

impl Stage {
    fn refused(error: TrustError) -> Self {
        Self::Finished(Some(UptaneOutcome::Refused(error)))
    }

    fn verified(verified: VerifiedAssignments) -> Self {
        Self::Finished(Some(UptaneOutcome::Verified(verified)))
    }
}
