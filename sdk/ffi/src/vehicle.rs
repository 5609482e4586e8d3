//! The vehicle: open it, ask it for every frame, follow its updates, free it.

use core::ffi::c_char;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::path::Path;
use std::sync::{Mutex, TryLockError};

use switchback_sdk::drive::{DriveOutput, Faults, StepFault};
use switchback_sdk::vehicle::{Driver, Vehicle};

use crate::boundary::{enter, guard, outside_callbacks};
use crate::config::swb_vehicle_config;
use crate::input::{StepArrays, swb_drive_input};
use crate::log::LogSubscription;
use crate::memory;
use crate::output::swb_drive_output;
use crate::result::Refusal;
use crate::status::{swb_event, swb_status};

/// A vehicle: its update side, which works on threads of its own, and its driving side, which works in `swb_vehicle_step`.
pub struct swb_vehicle {
    /// Set by a panic, after which nothing that the SDK holds is trusted.
    poisoned: AtomicBool,
    /// Only ever tried, never waited for: the driving thread does not sleep on a lock.
    driver: Mutex<Driver>,
    vehicle: Vehicle,
    /// Ends last, after everybody who may have something to say.
    _log: Option<LogSubscription>,
}

impl swb_vehicle {
    /// Runs `body` unless the handle is poisoned; a panic in it poisons the handle.
    ///
    /// # Safety
    /// *handle*: `vehicle` is NULL or live.
    unsafe fn with<T>(vehicle: *const Self, body: impl FnOnce(&Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        // SAFETY: *handle*. Everything in it is reached through shared references, so calls of several threads may overlap.
        let Some(vehicle) = (unsafe { vehicle.as_ref() }) else {
            return Err(Refusal::Null { what: "vehicle" });
        };
        outside_callbacks()?;
        if vehicle.poisoned.load(Ordering::Acquire) {
            return Err(Refusal::Poisoned);
        }
        let result = guard(|| body(vehicle));
        if matches!(result, Err(Refusal::Panic { .. })) {
            vehicle.poisoned.store(true, Ordering::Release);
        }
        result
    }

    /// # Safety
    /// *pointer*, *struct_size* and *text* of everything that the input points to.
    unsafe fn step(&self, input: &swb_drive_input) -> Result<(DriveOutput, Option<StepFault>), Refusal> {
        let mut driver = match self.driver.try_lock() {
            Ok(driver) => driver,
            Err(TryLockError::WouldBlock) => {
                return Err(Refusal::Busy { function: "swb_vehicle_step" });
            }
            Err(TryLockError::Poisoned(_)) => return Err(Refusal::Poisoned),
        };
        let mut arrays = StepArrays::new();
        // SAFETY: passed on.
        let input = unsafe { input.convert(&mut arrays) }?;
        let mut output = DriveOutput::default();
        driver.step(&input, &mut output);
        let fault = if output.control_valid { None } else { driver.fault().cloned() };
        Ok((output, fault))
    }
}

/// Opens a vehicle: reads its store, loads the model that it last confirmed, and starts the threads that look for updates.
///
/// On success `*out` is a handle that belongs to the caller, who ends it with `swb_vehicle_free`; on failure `*out` is NULL. A vehicle
/// without a model opens too; its steps answer `SWB_ERROR_NO_MODEL` until one is installed. The server need not be reachable.
///
/// Any thread. Blocks while the model is loaded and tested, typically for less than a second. Do not fork afterwards: threads run.
///
/// - `SWB_ERROR_NULL`: `config`, `out` or a text that must not be NULL is NULL.
/// - `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_VALUE`: as said there.
/// - `SWB_ERROR_IN_CALLBACK`: as said there.
/// - `SWB_ERROR_ABI`: `abi_version` has another major number than the library.
/// - a number of the SDK: the store cannot be used or is in use by another process, a root file cannot be read, ONNX Runtime is missing.
///
/// # Safety
/// `config` is NULL or points to a struct as its `struct_size` says; its texts end with a zero byte; its callbacks may be called from any
/// thread with its `userdata`. `out` is NULL or points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_open(config: *const swb_vehicle_config, out: *mut *mut swb_vehicle) -> i32 {
    enter(|| {
        if out.is_null() {
            return Err(Refusal::Null { what: "out" });
        }
        // SAFETY: *pointer*, checked above.
        unsafe { out.write(ptr::null_mut()) };
        outside_callbacks()?;
        // SAFETY: passed on.
        let config = unsafe { memory::read("config", config) }?;
        // SAFETY: passed on.
        let sdk_config = unsafe { config.convert() }?;
        let callbacks = config.callbacks();
        let level = config.log_level()?;
        let log = callbacks.log.is_some().then(|| LogSubscription::new(callbacks, level));
        let (vehicle, driver) = Vehicle::open(sdk_config, callbacks.convert())?;
        let handle = Box::new(swb_vehicle { poisoned: AtomicBool::new(false), driver: Mutex::new(driver), vehicle, _log: log });
        // SAFETY: *pointer*, checked above.
        unsafe { out.write(Box::into_raw(handle)) };
        Ok(())
    })
}

/// Ends a vehicle: stops its threads, waits for them and releases everything. NULL is allowed and does nothing.
///
/// An update that is under way goes on where it was when the vehicle is opened again. No other call on this handle may be running or
/// follow. From within a callback it does nothing but set the text of `swb_last_error`. Blocks until the threads have ended, at most for a few seconds.
///
/// # Safety
/// `vehicle` is NULL or comes from `swb_vehicle_open` and has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_free(vehicle: *mut swb_vehicle) {
    if vehicle.is_null() {
        return;
    }
    enter(|| {
        outside_callbacks()?;
        // SAFETY: *handle*: made by `Box::into_raw` in `swb_vehicle_open`, and given up by the caller here.
        drop(unsafe { Box::from_raw(vehicle) });
        Ok(())
    });
}

/// Answers one frame: what to do now, how sure the model is, and whether the driver must take over.
///
/// `output` is written on every call, also when the result is an error: then `control_valid` is 0 and `takeover_level` and `minimal_risk`
/// say what must happen. The one exception is an `output` that cannot be written (NULL, wrong `struct_size`).
///
/// One thread at a time; it may be another one for every call. Runs on the caller's thread, takes no lock that an update can hold,
/// and blocks only for as long as the model computes. A new model takes over between two steps.
///
/// - `SWB_OK`: `control_valid` is 1. `faults` may still name what was not perfect.
/// - `SWB_ERROR_NO_MODEL`, `SWB_ERROR_INPUT`, `SWB_ERROR_MODEL`, `SWB_ERROR_DEADLINE`: the step was done, its answer must not be used.
///   `swb_last_error` names what was wrong first: which camera, signal or field and why, or which limit at which point.
/// - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_VALUE`, `SWB_ERROR_BUSY`, `SWB_ERROR_PANIC`, `SWB_ERROR_POISONED`,
///   `SWB_ERROR_IN_CALLBACK`: the model was not asked; `SWB_FAULT_CALL` is set.
///
/// # Safety
/// `vehicle` is NULL or a live handle. `input` and `output` are NULL or point to structs as their `struct_size` says; everything that the
/// input points to stays as it is during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_step(vehicle: *mut swb_vehicle, input: *const swb_drive_input, output: *mut swb_drive_output) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        let output = unsafe { memory::writable("output", output) }?;
        // SAFETY: passed on.
        let input = unsafe { memory::read("input", input) };
        let (input, answered) = match input {
            // SAFETY: passed on.
            Ok(input) => (Some(input), unsafe { swb_vehicle::with(vehicle, |vehicle| vehicle.step(&input)) }),
            Err(refusal) => (None, Err(refusal)),
        };
        match answered {
            Ok((answer, fault)) => {
                output.write(&(&answer).into());
                verdict(&answer, fault)
            }
            Err(refusal) => {
                output.write(&swb_drive_output::refused(input.as_ref()));
                Err(refusal)
            }
        }
    })
}

/// Whether the answer of a step that was done may be used.
fn verdict(answer: &DriveOutput, fault: Option<StepFault>) -> Result<(), Refusal> {
    if answer.control_valid {
        return Ok(());
    }
    let (faults, bits) = (answer.faults, answer.faults.bits());
    Err(if faults.intersects(Faults::NO_MODEL) {
        Refusal::NoModel
    } else if faults.intersects(Faults::OF_MODEL) {
        Refusal::Model { faults: bits, source: fault.into() }
    } else if faults.intersects(Faults::OF_INPUT) {
        Refusal::Input { faults: bits, source: fault.into() }
    } else {
        Refusal::Deadline { faults: bits }
    })
}

/// Tells where the vehicle stands.
///
/// Any thread, at any time. Does not wait for an update or a step. `status` is written on success only.
///
/// - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
///
/// # Safety
/// `vehicle` is NULL or a live handle. `status` is NULL or points to a struct as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_status(vehicle: *const swb_vehicle, status: *mut swb_status) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        let status = unsafe { memory::writable("status", status) }?;
        // SAFETY: passed on.
        let now = unsafe { swb_vehicle::with(vehicle, |vehicle| Ok(vehicle.vehicle.status())) }?;
        status.write(&(&now).into());
        Ok(())
    })
}

/// Takes the oldest event that has not been taken yet; `kind` is `SWB_EVENT_NONE` when there is none.
///
/// Any thread, at any time; each event is given once. Never waits. The library keeps the newest events when nobody asks for long.
/// `event` is written on success only.
///
/// - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
///
/// # Safety
/// `vehicle` is NULL or a live handle. `event` is NULL or points to a struct as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_next_event(vehicle: *const swb_vehicle, event: *mut swb_event) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        let event = unsafe { memory::writable("event", event) }?;
        // SAFETY: passed on.
        let next = unsafe { swb_vehicle::with(vehicle, |vehicle| Ok(vehicle.vehicle.next_event())) }?;
        event.write(&next.as_ref().into());
        Ok(())
    })
}

/// As `swb_vehicle_next_event`, waiting up to `timeout_ms` for an event; `kind` is `SWB_EVENT_NONE` when none came. For a thread that follows
/// updates; not for the driving thread.
///
/// Any thread but that of a callback. Blocks for up to `timeout_ms`; end it before `swb_vehicle_free`.
///
/// - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
///
/// # Safety
/// `vehicle` is NULL or a live handle. `event` is NULL or points to a struct as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_wait_event(vehicle: *const swb_vehicle, timeout_ms: u32, event: *mut swb_event) -> i32 {
    enter(|| {
        let timeout = Duration::from_millis(timeout_ms.into());
        // SAFETY: passed on.
        let event = unsafe { memory::writable("event", event) }?;
        // SAFETY: passed on.
        let next = unsafe { swb_vehicle::with(vehicle, |vehicle| Ok(vehicle.vehicle.wait_event(timeout))) }?;
        event.write(&next.as_ref().into());
        Ok(())
    })
}

/// Asks the server now instead of at the next interval.
///
/// Any thread, at any time. Returns at once; events tell what comes of it.
///
/// - `SWB_ERROR_NULL`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
///
/// # Safety
/// `vehicle` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_check_now(vehicle: *mut swb_vehicle) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        unsafe {
            swb_vehicle::with(vehicle, |vehicle| {
                vehicle.vehicle.check_now();
                Ok(())
            })
        }
    })
}

/// Lets the model that is armed take over at the next frame at which both models' plans agree, also while the driving function is engaged.
/// Meant for `SWB_ACTIVATE_MANUALLY`; with the other policies it hurries them. The order stands until the swap, or until the release is no longer assigned.
///
/// Any thread, at any time. Returns at once; `SWB_EVENT_UPDATE` with `SWB_UPDATE_TRIAL` follows when it is done.
///
/// - `SWB_ERROR_NULL`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
///
/// # Safety
/// `vehicle` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_activate(vehicle: *mut swb_vehicle) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        unsafe {
            swb_vehicle::with(vehicle, |vehicle| {
                vehicle.vehicle.activate();
                Ok(())
            })
        }
    })
}

/// Installs an offline update: a file that `switchback offline create` made, from a workshop's computer or a USB stick. It is verified as if
/// the server had sent it, asks for consent, and drives after the same tests and the same trial.
///
/// Returns when the file was opened and looked through; events tell the rest. The file stays open until the release is in its slot
/// (`SWB_UPDATE_STAGED`). When it is taken out before, or the vehicle is switched off, give it again: what was read is not read again. An
/// offline update goes on whatever the server assigns, unless that is newer; after a restart give it again, or the server's next answer decides.
///
/// `path` is the file's path, UTF-8, closed by a zero byte; it may go away after the call. Any thread. Waits for the disk that the file is on.
///
/// Answers SWB_OK; SWB_ERROR_NULL; SWB_ERROR_VALUE for a path that is not UTF-8; a number from SWB_ERROR_FETCH on when the file cannot be read
/// or is no whole offline update (swb_last_error says where it breaks off).
///
/// # Safety
/// `vehicle` is NULL or a live handle; `path` is NULL or closed by a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_vehicle_install_offline(vehicle: *mut swb_vehicle, path: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        unsafe {
            swb_vehicle::with(vehicle, |vehicle| {
                let path = memory::text("path", path)?.ok_or(Refusal::Null { what: "path" })?;
                Ok(vehicle.vehicle.install_offline(Path::new(path))?)
            })
        }
    })
}

/// Panics on purpose. Not in the header nor in a library that ships: only the test that no panic crosses into C declares it.
///
/// # Safety
/// `vehicle` is NULL or a live handle.
#[cfg(feature = "test-hooks")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_test_panic(vehicle: *mut swb_vehicle) -> i32 {
    enter(|| {
        // SAFETY: passed on.
        unsafe { swb_vehicle::with(vehicle, |_| panic!("asked for by swb_test_panic")) }
    })
}
