//! What the library asks of the program that it lives in.

use core::ffi::{c_char, c_void};
use core::mem::size_of;
use std::ffi::CString;

use switchback_sdk::update::{Consent, VehicleState};
use switchback_sdk::vehicle::{
    ClockCallback, ConsentCallback, NetworkCallback, NetworkUse, Offer, Transfer, VehicleCallbacks, VehicleStateCallback,
};

use crate::boundary::call_back;
use crate::input::{SWB_NO, SWB_UNKNOWN, SWB_YES};

/// Log level: something failed.
pub const SWB_LOG_ERROR: u32 = 1;
/// Log level: something is not as it should be, and was dealt with.
pub const SWB_LOG_WARN: u32 = 2;
/// Log level: what happened.
pub const SWB_LOG_INFO: u32 = 3;
/// Log level: for whoever looks for a defect.
pub const SWB_LOG_DEBUG: u32 = 4;

/// Consent: ask again later. Zero, so that an empty answer installs nothing.
pub const SWB_CONSENT_LATER: u32 = 0;
/// Consent: yes, download and install.
pub const SWB_CONSENT_GRANTED: u32 = 1;
/// Consent: no, not this release.
pub const SWB_CONSENT_REFUSED: u32 = 2;

/// Network: nothing large may be downloaded for now. Zero, so that an empty answer costs nothing.
pub const SWB_NETWORK_NONE: u32 = 0;
/// Network: whatever is to be downloaded may be.
pub const SWB_NETWORK_UNMETERED: u32 = 1;
/// Network: this release may cost so many bytes as the callback has written.
pub const SWB_NETWORK_METERED: u32 = 2;

/// A release that the server offers and that was verified against all metadata. Written by the library for `swb_consent_fn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_offer {
    /// Size of the struct as the library knows it. Read no field that lies beyond.
    pub struct_size: usize,
    /// Name of the model, UTF-8. Valid during the callback only.
    pub model: *const c_char,
    /// Version of the model, UTF-8. Valid during the callback only.
    pub version: *const c_char,
    /// Release counter of the model.
    pub release_counter: u64,
    /// Bytes to download, compressed, when nothing can be reused.
    pub download_bytes: u64,
}

/// A download about which the program is asked. Written by the library for `swb_network_fn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_transfer {
    /// Size of the struct as the library knows it. Read no field that lies beyond.
    pub struct_size: usize,
    /// Name of the model, UTF-8. Valid during the callback only.
    pub model: *const c_char,
    /// Version of the model, UTF-8. Valid during the callback only.
    pub version: *const c_char,
    /// Release counter of the model.
    pub release_counter: u64,
    /// Bytes that are still to be downloaded at most: what is on the disk already is left out as soon as that is known.
    pub missing_bytes: u64,
    /// Bytes that came while the network was metered, since the vehicle was opened or another release was begun.
    pub metered_bytes: u64,
}

/// The state of the vehicle. Filled by the program in `swb_vehicle_state_fn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_vehicle_state {
    /// Size of the struct as the library knows it, set by the library. Write no field that lies beyond.
    pub struct_size: usize,
    /// Longitudinal speed, m/s; NaN, as it is set by the library, when not known.
    pub speed_mps: f32,
    /// Whether the driving function is engaged: `SWB_YES` or `SWB_NO`. `SWB_UNKNOWN` counts as engaged.
    pub driving_function_engaged: u8,
    /// Whether the vehicle is parked: `SWB_YES` or `SWB_NO`. `SWB_UNKNOWN` counts as not parked.
    pub parked: u8,
    /// Whether power suffices for an update: `SWB_YES` or `SWB_NO`. `SWB_UNKNOWN` counts as yes.
    pub power_suffices: u8,
    /// Zero.
    pub reserved: u8,
}

/// Receives one line of log. `text` is UTF-8, `text_len` bytes, also closed by a zero byte, valid during the call only; it holds no secret.
///
/// Called from any thread, from several at a time, also from within a call of the program. Must not call the library and must not throw.
pub type swb_log_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, level: u32, text: *const c_char, text_len: usize)>;

/// Returns the time now, seconds since 1970-01-01 UTC, as far as the program trusts it. The expiry of metadata is judged by it.
///
/// Called from the update thread. Must not call the library and must not throw.
pub type swb_clock_fn = Option<unsafe extern "C" fn(userdata: *mut c_void) -> i64>;

/// Decides whether a release may be downloaded and installed: `SWB_CONSENT_...`. Any other number counts as `SWB_CONSENT_LATER`.
///
/// Called from the update thread, which waits; return at once and answer `SWB_CONSENT_LATER` while the driver is being asked. Must not
/// call the library and must not throw.
pub type swb_consent_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, offer: *const swb_offer) -> u32>;

/// Tells the state of the vehicle, so that a model is only exchanged when it is allowed.
///
/// Called from the update thread. Must not call the library and must not throw.
pub type swb_vehicle_state_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, state: *mut swb_vehicle_state)>;

/// Says what the network that the vehicle is on may be used for: `SWB_NETWORK_...`. Any other number counts as `SWB_NETWORK_NONE`. With
/// `SWB_NETWORK_METERED` write into `bytes_max`, which holds 0, how many bytes the release may cost; counted are those of
/// `swb_transfer.metered_bytes`. Metadata and reports, some kilobytes, come and go in any case.
///
/// Called from the update thread, which waits, before a download begins and before each of its chunks, and every half minute while nothing
/// is allowed; return at once. Must not call the library and must not throw.
pub type swb_network_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, transfer: *const swb_transfer, bytes_max: *mut u64) -> u32>;

/// The caller's functions and the pointer that they are given.
#[derive(Clone, Copy)]
pub(crate) struct Callbacks {
    pub(crate) userdata: *mut c_void,
    pub(crate) log: swb_log_fn,
    pub(crate) clock: swb_clock_fn,
    pub(crate) consent: swb_consent_fn,
    pub(crate) vehicle_state: swb_vehicle_state_fn,
    pub(crate) network: swb_network_fn,
}

// SAFETY: the pointer is never followed here, only handed back; the header asks that the functions may be called with it from any thread.
unsafe impl Send for Callbacks {}
// SAFETY: as above; several threads may call `log` at a time, which its documentation says.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(crate) fn log(&self, level: u32, text: &str) {
        let Some(log) = self.log else { return };
        let mut closed = Vec::with_capacity(text.len() + 1);
        closed.extend_from_slice(text.as_bytes());
        closed.push(0);
        // SAFETY: a function of the caller's, called as its type says; the text outlives the call.
        call_back(|| unsafe { log(self.userdata, level, closed.as_ptr().cast(), text.len()) });
    }

    /// The callbacks as the SDK takes them.
    pub(crate) fn convert(self) -> VehicleCallbacks {
        // Each closure owns all of `self`: it alone may be sent to another thread, not the pointers within.
        let (clock, consent, vehicle_state, network) = (self, self, self, self);
        VehicleCallbacks {
            clock: self.clock.map(|call| Box::new(move || clock.now(call)) as ClockCallback),
            consent: self.consent.map(|call| Box::new(move |offer: &Offer| consent.ask(call, offer)) as ConsentCallback),
            vehicle_state: self.vehicle_state.map(|call| Box::new(move || vehicle_state.look(call)) as VehicleStateCallback),
            network: self.network.map(|call| Box::new(move |transfer: &Transfer| network.allows(call, transfer)) as NetworkCallback),
            secondaries: Vec::new(),
        }
    }

    fn now(&self, clock: unsafe extern "C" fn(*mut c_void) -> i64) -> i64 {
        // SAFETY: a function of the caller's, called as its type says.
        call_back(|| unsafe { clock(self.userdata) })
    }

    fn ask(&self, consent: unsafe extern "C" fn(*mut c_void, *const swb_offer) -> u32, offer: &Offer) -> Consent {
        // Names and versions hold no zero byte, or they would not have been verified.
        let (Ok(model), Ok(version)) = (CString::new(&*offer.model), CString::new(&*offer.version)) else { return Consent::Later };
        let offer = swb_offer {
            struct_size: size_of::<swb_offer>(),
            model: model.as_ptr(),
            version: version.as_ptr(),
            release_counter: offer.release_counter,
            download_bytes: offer.download_bytes,
        };
        // SAFETY: a function of the caller's, called as its type says; the offer and its texts outlive the call.
        match call_back(|| unsafe { consent(self.userdata, &raw const offer) }) {
            SWB_CONSENT_GRANTED => Consent::Granted,
            SWB_CONSENT_REFUSED => Consent::Denied,
            _ => Consent::Later,
        }
    }

    fn allows(&self, network: unsafe extern "C" fn(*mut c_void, *const swb_transfer, *mut u64) -> u32, transfer: &Transfer) -> NetworkUse {
        // As in `ask`.
        let (Ok(model), Ok(version)) = (CString::new(&*transfer.model), CString::new(&*transfer.version)) else { return NetworkUse::None };
        let transfer = swb_transfer {
            struct_size: size_of::<swb_transfer>(),
            model: model.as_ptr(),
            version: version.as_ptr(),
            release_counter: transfer.release_counter,
            missing_bytes: transfer.missing_bytes,
            metered_bytes: transfer.metered_bytes,
        };
        let mut bytes_max = 0;
        // SAFETY: a function of the caller's, called as its type says; the transfer, its texts and the number outlive the call.
        match call_back(|| unsafe { network(self.userdata, &raw const transfer, &raw mut bytes_max) }) {
            SWB_NETWORK_UNMETERED => NetworkUse::Unmetered,
            SWB_NETWORK_METERED => NetworkUse::Metered { bytes_max },
            _ => NetworkUse::None,
        }
    }

    /// What an older caller does not fill says that nothing is known.
    fn look(&self, vehicle_state: unsafe extern "C" fn(*mut c_void, *mut swb_vehicle_state)) -> VehicleState {
        let mut state = swb_vehicle_state {
            struct_size: size_of::<swb_vehicle_state>(),
            // Not a number: not known.
            speed_mps: f32::NAN,
            driving_function_engaged: SWB_UNKNOWN,
            parked: SWB_UNKNOWN,
            power_suffices: SWB_UNKNOWN,
            reserved: 0,
        };
        // SAFETY: a function of the caller's, called as its type says; the struct is ours and as large as it says.
        call_back(|| unsafe { vehicle_state(self.userdata, &raw mut state) });
        VehicleState {
            speed_mps: Some(state.speed_mps).filter(|speed| speed.is_finite()),
            engaged: answer(state.driving_function_engaged),
            parked: answer(state.parked),
            power_suffices: answer(state.power_suffices),
            ..VehicleState::default()
        }
    }
}

/// Anything but a clear yes or no is not known.
fn answer(number: u8) -> Option<bool> {
    match number {
        SWB_YES => Some(true),
        SWB_NO => Some(false),
        _ => None,
    }
}
