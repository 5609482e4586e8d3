//! Who may say what a vehicle installs, and how a vehicle finds out: TUF, and Uptane on top of it.
//!
//! A release reaches a vehicle when two repositories agree on it. The *Image repository* is signed offline by people and says what
//! exists and for which vehicles it is meant; the *Director* is signed online and says what this vehicle should install. Whoever
//! steals the Director's keys can only choose among what the people signed for this hardware, tier and region, and cannot go below
//! the release counter; whoever steals a person's key is below the threshold, and reaches no vehicle without the Director.
//!
//! [`MetadataCheck`] goes through all of it and ends with [`VerifiedTarget`], the proof that installing demands. It is told the
//! time, asks for bytes and for bytes to be persisted, and does nothing else. [`UptaneCheck`] is the part of it that is the
//! Standard's, for any image and any ECUs. [`publish`] holds the same checks for those who
//! publish; [`report`] is the Director's check of what vehicles send. [`TufOnly`] is the same workflow for one repository without a
//! Director.

mod agree;
mod attack;
mod cache;
mod check;
mod client;
mod error;
mod facts;
mod image;
pub mod limits;
mod map;
pub mod publish;
mod refresh;
mod release;
pub mod report;
mod search;
mod target;
mod tuf;
mod uptane;
mod verify;

pub use self::{
    attack::Attack,
    cache::{MetadataCache, Repository, TrustAnchors},
    check::{Action, Challenge, FetchFailure, FetchRequest, MetadataCheck, Outcome, VehicleIdentity},
    error::TrustError,
    image::{FileCheck, VerifiedImage},
    map::RepositoryMap,
    target::VerifiedTarget,
    tuf::{TufOnly, TufOutcome, TufTarget},
    uptane::{AskImages, Ecu, Installed, OtherEcus, ReleaseFloor, UptaneCheck, UptaneOutcome, VehicleEcus, VerifiedAssignments},
};

#[cfg(test)]
mod tests;
