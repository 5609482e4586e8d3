//! Who gets which release, and when. Pure: the same vehicle, rules and time always give the same answer.
//!
//! Membership of a wave is computed from a stable hash, never stored: a rollout over a million vehicles is one row, a vehicle that
//! enrolls late falls into its place by itself, and a pause is one changed value that every following poll sees.

mod approval;
mod lifecycle;
mod release;
mod selector;
mod wave;

#[cfg(test)]
pub(crate) mod tests;

pub use approval::{Approval, ApprovalId};
pub use lifecycle::{Act, IllegalMove, PausedBy, RolloutState};
pub use release::{CompanionImage, Content, Release, ReleaseName};
pub use selector::Selector;
pub use wave::{Share, ShareError, Wave, bucket};

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use switchback_signing::{keys::sealing::EncryptionKey, time::UnixTime};

use crate::gate::FailureLimit;

/// Number of a rollout in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RolloutId(pub i64);

impl core::fmt::Display for RolloutId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the rules look at in a vehicle. The words are shared between vehicles, so that a million of them stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vehicle {
    /// Pseudonym of the vehicle.
    pub id: Arc<str>,
    /// The automaker it belongs to.
    pub tenant: Arc<str>,
    /// Product level, such as `ultra`.
    pub tier: Arc<str>,
    /// Its driving computer.
    pub hardware_id: Arc<str>,
    /// Model line, such as `P7`.
    pub model_line: Arc<str>,
    /// Market in which it is registered.
    pub region: Arc<str>,
    /// Release counter of the release that it last reported as confirmed; 0 before the first.
    pub confirmed_counter: u64,
    /// What it has given up for good.
    pub gave_up: Vec<GaveUp>,
    /// The key that content keys are sealed to; none until the vehicle has told one.
    pub encryption_key: Option<EncryptionKey>,
}

/// Content of a release that a vehicle tried, failed with and never tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GaveUp {
    /// The release, for people.
    pub release: ReleaseName,
    /// SHA-256 of its chunk index, hexadecimal: other bytes under the same name are another try.
    pub sha256: String,
    /// What the vehicle said.
    pub reason: Arc<str>,
}

/// A release on its way to the vehicles that a selector names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Number in this server; later rollouts have higher ones.
    pub id: RolloutId,
    /// What people call it.
    pub name: String,
    /// The release that it brings.
    pub release: ReleaseName,
    /// The vehicles that it is for.
    pub selector: Selector,
    /// Steps; a vehicle takes part as soon as one of them has reached it.
    pub waves: Vec<Wave>,
    /// Decides the order of the vehicles; differs between rollouts, so that the same vehicles are not always first.
    pub salt: String,
    /// Whether it moves.
    pub state: RolloutState,
    /// When it was first started.
    pub started_at: Option<UnixTime>,
    /// When it stops by itself.
    pub failure_limit: FailureLimit,
}

/// Everything that decides about assignments; replaced as a whole when a person or a gate acts.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// All rollouts.
    pub rollouts: Vec<Rollout>,
    /// All approvals that were not revoked.
    pub approvals: Vec<Approval>,
    /// What the Image repository holds, signed by the offline keys.
    pub releases: Vec<Arc<Release>>,
}

/// A release that a vehicle shall get.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The rollout that brings it.
    pub rollout: RolloutId,
    /// The release.
    pub release: Arc<Release>,
    /// The vehicle's key that the content key is sealed to, when the release is encrypted.
    pub seal_to: Option<EncryptionKey>,
}

/// Why a rollout does not bring its release to a vehicle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The rollout is a draft or paused.
    #[error("the rollout is not running")]
    NotRunning,
    /// Tenant, tier, hardware, model line or region do not match.
    #[error("the vehicle is outside the rollout's selector")]
    NotSelected,
    /// No signed target of this release fits the vehicle.
    #[error("the Image repository holds no valid target of this release for the vehicle's tier, hardware and region")]
    NotPublished,
    /// What the offline keys signed is too old: every vehicle would refuse it.
    #[error("the metadata of role {role} expired at {at}; `switchback sign --renew TIER` signs a tier's anew, then publish it")]
    Expired {
        /// The role.
        role: Arc<str>,
        /// Since when.
        at: UnixTime,
    },
    /// The authority of the vehicle's market has not approved the release.
    #[error("no approval of this release is valid in the vehicle's region")]
    NotApproved,
    /// The approval is about other bytes.
    #[error("the approval in the vehicle's region is of other content than what is published for its tier and hardware")]
    OtherContent,
    /// The vehicle already runs something newer.
    #[error("the vehicle has confirmed a newer release")]
    OlderThanConfirmed,
    /// The vehicle would refuse it without a try.
    #[error("the vehicle gave up {release}: {reason}")]
    GaveUp {
        /// What it gave up.
        release: ReleaseName,
        /// What the vehicle said.
        reason: Arc<str>,
    },
    /// Nothing can be sealed for the vehicle.
    #[error(
        "the release is encrypted and the vehicle has told no encryption key yet; its SDK sends one with its next report, or is too old for \
         encrypted releases"
    )]
    NoEncryptionKey,
    /// The content key of an encrypted release is one vehicle's at a time.
    #[error(
        "the release is encrypted: an offline update of it is for one vehicle, because its content key is sealed to that vehicle's key"
    )]
    EncryptedForMany,
    /// No wave has reached the vehicle yet.
    #[error("no wave has reached the vehicle yet")]
    NotYet,
}

impl Rules {
    /// What is published under `name` for `vehicle`.
    pub fn published<'a>(&'a self, name: &ReleaseName, vehicle: &Vehicle) -> impl Iterator<Item = &'a Arc<Release>> {
        self.releases.iter().filter(move |release| release.name == *name && release.fits(vehicle))
    }
}

impl Withheld {
    /// The same for many vehicles like `vehicle`: what an operator has to know of them.
    #[must_use]
    pub fn of_vehicles_like(&self, vehicle: &Vehicle) -> String {
        let region = &vehicle.region;
        match self {
            Self::NotApproved => format!("no approval in {region}"),
            Self::OtherContent => format!("the approval in {region} is of other content than what is published"),
            Self::Expired { role, at } => format!("the metadata of role {role} expired at {at}"),
            Self::GaveUp { .. } => "the vehicle gave the release up".to_owned(),
            Self::NoEncryptionKey => "the release is encrypted and the vehicle has told no encryption key yet".to_owned(),
            Self::NotRunning
            | Self::NotSelected
            | Self::NotPublished
            | Self::OlderThanConfirmed
            | Self::EncryptedForMany
            | Self::NotYet => self.to_string(),
        }
    }
}

/// The release that `vehicle` shall have at `now`: the newest one that any rollout brings it.
///
/// The newest is the one with the highest release counter, not the latest rollout: a vehicle could not accept anything older. Of two
/// rollouts that bring the same one the earlier counts: a second rollout takes no vehicle away from the gate of the first.
#[must_use]
pub fn assignment(vehicle: &Vehicle, rules: &Rules, now: UnixTime) -> Option<Assignment> {
    let offers = rules.rollouts.iter().filter_map(|rollout| {
        let release = verdict(vehicle, rollout, rules, now).ok()?;
        let seal_to = release.encrypted_bundle.and(vehicle.encryption_key);
        Some(Assignment { rollout: rollout.id, release: Arc::clone(release), seal_to })
    });
    offers.max_by_key(|offer| (offer.release.counter, Reverse(offer.rollout)))
}

/// Whether `rollout` brings its release to `vehicle` at `now`, and if not, why. Every condition is necessary; none can be forced.
pub fn verdict<'a>(vehicle: &Vehicle, rollout: &Rollout, rules: &'a Rules, now: UnixTime) -> Result<&'a Arc<Release>, Withheld> {
    if !matches!(rollout.state, RolloutState::Running) {
        return Err(Withheld::NotRunning);
    }
    let release = permitted(vehicle, rollout, rules, now)?;
    rollout.wave_of(vehicle, now).ok_or(Withheld::NotYet)?;
    Ok(release)
}

/// The release that `rollout` may bring to `vehicle` at `now`, whether or not it runs and has reached it.
pub fn permitted<'a>(vehicle: &Vehicle, rollout: &Rollout, rules: &'a Rules, now: UnixTime) -> Result<&'a Arc<Release>, Withheld> {
    if !rollout.selector.selects(vehicle) {
        return Err(Withheld::NotSelected);
    }
    allowed(&rollout.release, vehicle, rules, now)
}

/// The release of this name that `vehicle` may have at `now`, whatever brings it: published, unexpired, approved in its region, not older
/// than what it runs, and not given up.
pub fn allowed<'a>(name: &ReleaseName, vehicle: &Vehicle, rules: &'a Rules, now: UnixTime) -> Result<&'a Arc<Release>, Withheld> {
    let mut published = rules.published(name, vehicle);
    let first = published.next().ok_or(Withheld::NotPublished)?;
    let mut valid = std::iter::once(first).chain(published).filter(|release| now < release.expires);
    let expired = || Withheld::Expired { role: Arc::clone(&first.expiring_role), at: first.expires };
    let release = valid.next().ok_or_else(expired)?;
    let mut approvals = rules.approvals.iter().filter(|approval| approval.concerns(&release.name, vehicle, now)).peekable();
    approvals.peek().ok_or(Withheld::NotApproved)?;
    if !approvals.any(|approval| approval.binds(release)) {
        return Err(Withheld::OtherContent);
    }
    if release.counter < vehicle.confirmed_counter {
        return Err(Withheld::OlderThanConfirmed);
    }
    if let Some(GaveUp { release, reason, .. }) = vehicle.gave_up.iter().find(|gave_up| gave_up.sha256 == release.sha256) {
        return Err(Withheld::GaveUp { release: release.clone(), reason: Arc::clone(reason) });
    }
    if release.encrypted_bundle.is_some() && vehicle.encryption_key.is_none() {
        return Err(Withheld::NoEncryptionKey);
    }
    Ok(release)
}

/// What `rollout` cannot bring any more because its metadata has expired: the tier of each release, the role and since when.
pub fn expired<'a>(rollout: &Rollout, rules: &'a Rules, now: UnixTime) -> impl Iterator<Item = &'a Arc<Release>> {
    let concerns = |release: &Release| release.name == rollout.release && selector::allows(&rollout.selector.tiers, &release.tier);
    rules.releases.iter().filter(move |release| concerns(release) && release.expires <= now)
}

/// The regions that `rollout` selects and in which it may bring nothing for want of an approval, with the vehicles that this holds up.
pub fn unapproved<'a>(
    rollout: &Rollout,
    vehicles: impl Iterator<Item = &'a Vehicle>,
    rules: &Rules,
    now: UnixTime,
) -> BTreeMap<String, u64> {
    let approved = |region: &str| rules.approvals.iter().any(|approval| approval.is_in_force(&rollout.release, region, now));
    // Regions without a vehicle yet as well: the first one there would be held up.
    let named = rollout.selector.regions.iter().filter(|region| !approved(region));
    let mut regions: BTreeMap<String, u64> = named.map(|region| (region.clone(), 0)).collect();
    for vehicle in vehicles {
        if let Err(Withheld::NotApproved | Withheld::OtherContent) = permitted(vehicle, rollout, rules, now) {
            *regions.entry(vehicle.region.to_string()).or_default() += 1;
        }
    }
    regions
}

impl Rollout {
    /// Index of the first wave that has reached `vehicle` at `now`, whether or not the rollout is running.
    #[must_use]
    pub fn wave_of(&self, vehicle: &Vehicle, now: UnixTime) -> Option<usize> {
        let started_at = self.started_at?;
        let bucket = bucket(&self.salt, &vehicle.id);
        self.waves.iter().position(|wave| wave.concerns(vehicle) && wave.share_at(started_at, now).contains(bucket))
    }

    /// Index of the first wave that will ever reach `vehicle`.
    #[must_use]
    pub fn wave_for(&self, vehicle: &Vehicle) -> Option<usize> {
        let bucket = bucket(&self.salt, &vehicle.id);
        self.waves.iter().position(|wave| wave.concerns(vehicle) && wave.share.contains(bucket))
    }
}
