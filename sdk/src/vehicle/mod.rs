//! Joins update, fetch, store and engine into one vehicle.
//!
//! A vehicle has two sides. The *update side*, [`Vehicle`], lives on a thread of its own: it asks the server, verifies, downloads,
//! installs, has the model tested, waits for a moment at which it may take over, watches its trial, confirms it or goes back, and
//! reports. The *driving side*, [`Driver`], answers frames on the caller's thread and is never kept waiting by the other. When the
//! server is unreachable, the disk full or the update thread dead, the driving side goes on with the model that it has.
//!
//! ```no_run
//! use switchback_sdk::{drive::{DriveInput, DriveOutput}, vehicle::{Identity, Vehicle, VehicleCallbacks, VehicleConfig}};
//! use switchback_signing::trust::TrustAnchors;
//!
//! fn drive(next_frame: impl Fn() -> DriveInput<'static>, act: impl Fn(&DriveOutput)) -> Result<(), Box<dyn std::error::Error>> {
//!     let anchors = TrustAnchors { director_root: std::fs::read("director.json")?, image_root: std::fs::read("image.json")? };
//!     let identity = Identity {
//!         vehicle_id: "v-17".into(), ecu_serial: "ecu-17".into(), hardware_id: "drive-a".into(), tier: "ultra".into(), region: "eu".into(),
//!     };
//!     let config = VehicleConfig::new("/var/lib/switchback", "https://ota.example", anchors, identity);
//!     let (vehicle, mut driver) = Vehicle::open(config, VehicleCallbacks::default())?;
//!     let mut output = DriveOutput::default();
//!     loop {
//!         driver.step(&next_frame(), &mut output);
//!         if output.control_valid {
//!             act(&output);
//!         }
//!         while let Some(event) = vehicle.next_event() {
//!             println!("{event:?}");
//!         }
//!     }
//! }
//! ```

mod check;
mod clock;
mod config;
mod driver;
mod error;
mod install;
mod key;
mod link;
mod network;
mod orders;
mod provisioned;
mod reason;
mod report;
mod secondary;
mod start;
mod status;
mod worker;

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

pub use crate::fetch::OfflineFileError;
pub use config::{
    ClockCallback, ConsentCallback, Identity, NetworkCallback, Offer, POLL_INTERVAL_DEFAULT, TIMESTAMP_AGE_MAX_DEFAULT, VehicleCallbacks,
    VehicleConfig, VehicleStateCallback,
};
pub use driver::Driver;
pub use error::VehicleError;
pub use install::ChunkBytes;
pub use network::{NetworkUse, Transfer};
pub use provisioned::{Provisioned, ProvisionedFile};
pub use secondary::{MetadataSource, ModelledSecondary, SecondaryEcu, SecondaryError, SecondaryIdentity};
pub use status::{ActiveModel, Event, EventKind, Status};
/// What a vehicle's configuration needs of `signing`, so that a program that uses this library depends on it alone.
pub use switchback_signing::{
    digest::Sha256Digest,
    metadata::vehicle::{EnrolledSecondary, Reason, ReleaseRef, UpdateState},
    time::UnixTime,
    trust::{FetchFailure, FetchRequest, Repository, RepositoryMap, TrustAnchors},
};

use crate::fetch::{Cancel, OfflineFile};
use orders::Orders;
use status::Board;

/// The update side of a vehicle. Dropping it stops the update thread and waits for it; the driver goes on with the model it has.
#[derive(Debug)]
pub struct Vehicle {
    board: Arc<Board>,
    orders: Arc<Orders>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Vehicle {
    /// Opens a vehicle: its store, ONNX Runtime, and the model that it last confirmed, which answers from the first step on. Then
    /// starts the update thread. The server need not be reachable, and there need not be a model yet: steps then answer with
    /// [`crate::drive::Faults::NO_MODEL`] and ask for a minimal risk manoeuvre until the first one is installed.
    ///
    /// Blocks while the model is read back, loaded and tested.
    ///
    /// # Errors
    /// [`VehicleError`]: a configuration that cannot be used, a store that cannot be opened or is in use by another process, a missing
    /// ONNX Runtime.
    pub fn open(config: VehicleConfig, callbacks: VehicleCallbacks) -> Result<(Self, Driver), VehicleError> {
        let thread_name = config.thread_name.clone();
        let start::Started { worker, driver, board, orders, cancel } = start::start(config, callbacks)?;
        let thread = thread::Builder::new().name(thread_name).spawn(move || worker.run()).map_err(VehicleError::Thread)?;
        Ok((Self { board, orders, cancel, thread: Some(thread) }, driver))
    }

    /// Where the vehicle stands. Waits for nothing.
    pub fn status(&self) -> Status {
        let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        Status { running, ..self.board.status() }
    }

    /// The oldest event that was not taken yet. The last 256 are kept.
    pub fn next_event(&self) -> Option<Event> {
        self.board.next_event(Duration::ZERO)
    }

    /// As [`Vehicle::next_event`], waiting up to `wait` for one.
    pub fn wait_event(&self, wait: Duration) -> Option<Event> {
        self.board.next_event(wait)
    }

    /// Asks the server now instead of at the next interval.
    pub fn check_now(&self) {
        self.orders.give(|waiting| waiting.check = true);
    }

    /// Lets the model that is armed take over at the next frame at which the plans agree, whatever the policy says: also while the driving
    /// function is engaged. The order stands until then, or until the release is no longer assigned. Without one, nothing happens; nor with one that
    /// was staged before this start, until a check since then has succeeded and still assigns it.
    pub fn activate(&self) {
        self.orders.give(|waiting| waiting.activate = true);
    }

    /// Installs an offline update: a file that `switchback offline create` made, from a workshop's computer or a USB stick. It is verified as
    /// if the server had sent it, asks for consent, and drives after the same tests and trial. Returns when the file was opened; events tell
    /// the rest.
    ///
    /// The file stays open until the release is in its slot (state `Staged`). When it is taken out before, or the vehicle is switched off, give it
    /// again: what was read is not read again. An offline update goes on whatever the Director assigns, unless that is newer; after a restart
    /// it has to be given again, or the next answer of the Director decides.
    ///
    /// # Errors
    /// [`OfflineFileError`] when the file cannot be read or is no offline update. Whether it is believed is told by events.
    pub fn install_offline(&self, file: &Path) -> Result<(), OfflineFileError> {
        let file = Arc::new(OfflineFile::open(file)?);
        self.orders.give(|waiting| waiting.offline = Some(file));
        Ok(())
    }

    /// Stops the update thread and waits for it. An update that is under way goes on where it was when the vehicle is opened again.
    pub fn close(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.orders.give(|waiting| waiting.close = true);
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // A defect of the thread was logged by its panic; the vehicle is closed all the same.
            let _ = thread.join();
        }
    }
}

impl Drop for Vehicle {
    fn drop(&mut self) {
        self.stop();
    }
}
