//! The vehicle's other ECUs, as the driving computer reaches them.
//!
//! The driving computer is the Primary of its vehicle (Uptane Standard, 5.4.2): it alone talks to the server. A camera unit is a
//! Secondary: it verifies for itself, keeps metadata of its own, and is handed what it needs by its Primary. A release can name the
//! image that a Secondary must run beside it, such as the calibration that its model was trained for. Then the two change together:
//! the image is verified and staged by its ECU before the model may take over, active before the first frame that the model answers,
//! and taken back when the model is.

mod modelled;

use switchback_signing::{
    digest::Sha256Digest,
    metadata::vehicle::{EnrolledSecondary, Reason},
    time::UnixTime,
    trust::{FetchFailure, FetchRequest},
};
use thiserror::Error;

pub use modelled::{ModelledSecondary, SecondaryIdentity};

/// Where a Secondary gets metadata from: it asks for the files that it does not have, and its Primary answers as a repository would.
pub type MetadataSource<'a> = dyn FnMut(&FetchRequest) -> Result<Vec<u8>, FetchFailure> + 'a;

/// One of the vehicle's other ECUs. Implemented over the bus that leads to it; [`ModelledSecondary`] shows what happens at the other end.
///
/// Called from the update thread, which waits: answer [`SecondaryError::Silent`] rather than wait for an ECU that is switched off. The
/// calls survive power cuts of both sides. Each may come again, with the same words, after it was answered.
pub trait SecondaryEcu: Send {
    /// The ECU, its kind of computer, and the key that it signs its reports with. Never changes.
    fn identity(&self) -> EnrolledSecondary;

    /// SHA-256 of the image that it runs for good, if it has one. Its signed word on it is in its report; this only spares work.
    ///
    /// # Errors
    /// [`SecondaryError`] when it does not answer.
    fn installed(&mut self) -> Result<Option<Sha256Digest>, SecondaryError>;

    /// Brings its metadata up to date and verifies it (Uptane, 5.4.2.5 and 5.4.2.6: the Primary sends time and metadata). `now` is the
    /// Primary's time; an ECU that has a clock of its own trusts that one.
    ///
    /// # Errors
    /// [`SecondaryError::Refused`] when it does not believe the metadata.
    fn verify(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError>;

    /// The same with metadata that came with an offline update (a file from a workshop or a USB stick), marked as such and with a life of
    /// its own. An ECU believes it as little as any other, and keeps none of it but newer roots: what it holds from the network stays the
    /// measure for what comes over the network.
    ///
    /// # Errors
    /// As [`SecondaryEcu::verify`].
    fn verify_offline(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError>;

    /// Takes the image that its verified metadata assigns to it, checks it, and keeps it beside the one that it runs.
    ///
    /// # Errors
    /// [`SecondaryError::Refused`] when it is not the image that its metadata assigns.
    fn stage(&mut self, image: &[u8]) -> Result<(), SecondaryError>;

    /// Runs the staged image from now on, on trial beside this release (by the SHA-256 of its chunk index). From here on
    /// [`SecondaryEcu::settle`] says what becomes of it, also after a restart.
    ///
    /// # Errors
    /// [`SecondaryError::Refused`] when that image is not staged, or does not start; the one before it runs on.
    fn activate(&mut self, image: Sha256Digest, release: Sha256Digest) -> Result<(), SecondaryError>;

    /// The release that drives for good, if any. An image that is on trial beside this one is confirmed, and older ones are never taken
    /// again; one that is on trial beside another release goes back to being staged. Without an image on trial nothing happens.
    ///
    /// # Errors
    /// [`SecondaryError`] when it does not answer; asked again then.
    fn settle(&mut self, release: Option<Sha256Digest>) -> Result<(), SecondaryError>;

    /// Its version report for a vehicle version manifest (Uptane, 5.4.2.1), as `switchback_signing::metadata::vehicle::sign_report`
    /// makes it, in bytes. Its counter is higher in each.
    ///
    /// # Errors
    /// [`SecondaryError`] when it gives none.
    fn report(&mut self, now: UnixTime) -> Result<Vec<u8>, SecondaryError>;
}

/// Why a Secondary did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecondaryError {
    /// It answered no.
    #[error("{} ({})", reason.text, reason.number)]
    Refused {
        /// Why, in its own words and by its own numbers.
        reason: Reason,
    },
    /// It gave no answer; it is asked again.
    #[error("no answer: {reason}")]
    Silent {
        /// What the bus says.
        reason: String,
    },
}
