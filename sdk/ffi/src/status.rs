//! What goes on in a vehicle: its state now, and what happened.

use core::ffi::{CStr, c_char};
use core::mem::size_of;

use switchback_sdk::drive::ModelIdentity;
use switchback_sdk::store::Finding;
use switchback_sdk::vehicle::{Event, EventKind, Reason, ReleaseRef, Status, UpdateState};

use crate::memory::{CallerStruct, fill_text};
use crate::output::{SWB_IDENTITY_TEXT_BYTES, swb_model_identity};
use crate::result::number;

/// Length of `text` in `swb_status` and `swb_event`, the closing zero included.
pub const SWB_TEXT_BYTES: usize = 320;
/// Length of `reason` in `swb_status` and `swb_event`, the closing zero included.
pub const SWB_REASON_BYTES: usize = 48;

/// Update: nothing is on its way.
pub const SWB_UPDATE_IDLE: u32 = 0;
/// Update: a verified release is offered; waits for consent.
pub const SWB_UPDATE_OFFERED: u32 = 1;
/// Update: the program agreed; the download begins.
pub const SWB_UPDATE_CONSENTED: u32 = 2;
/// Update: downloading and installing into the free slot.
pub const SWB_UPDATE_DOWNLOADING: u32 = 3;
/// Update: complete on disk and read back; not run yet.
pub const SWB_UPDATE_STAGED: u32 = 4;
/// Update: loaded, and answered the release's own test inputs as it must.
pub const SWB_UPDATE_SELF_TESTED: u32 = 5;
/// Update: runs beside the active model on live frames; its answers are compared and not used.
pub const SWB_UPDATE_SHADOW: u32 = 6;
/// Update: ready; waits until it may take over.
pub const SWB_UPDATE_ARMED: u32 = 7;
/// Update: answers frames, on trial, the previous model kept warm to fall back to. Healthy frames of every mode count, engaged or not.
pub const SWB_UPDATE_TRIAL: u32 = 8;
/// Update: passed its trial; the vehicle never goes below it again.
pub const SWB_UPDATE_CONFIRMED: u32 = 9;
/// Update: given up after it had taken over or was about to; the previous model drives.
pub const SWB_UPDATE_ROLLED_BACK: u32 = 10;
/// Update: refused before it came near driving.
pub const SWB_UPDATE_REFUSED: u32 = 11;

/// Event: there is none.
pub const SWB_EVENT_NONE: u32 = 0;
/// Event: the update is in the state that `swb_event.update` names.
pub const SWB_EVENT_UPDATE: u32 = 1;
/// Event: the server was asked, and answered.
pub const SWB_EVENT_CHECKED: u32 = 2;
/// Event: the server could not be asked; the vehicle tries again by itself.
pub const SWB_EVENT_CHECK_FAILED: u32 = 3;
/// Event: the download was interrupted and goes on by itself.
pub const SWB_EVENT_DOWNLOAD_PAUSED: u32 = 4;
/// Event: metadata was not believed while an update was on its way, which goes on.
pub const SWB_EVENT_NOT_BELIEVED: u32 = 5;
/// Event: the server knows the vehicle now.
pub const SWB_EVENT_ENROLLED: u32 = 6;
/// Event: the server refuses to enroll the vehicle.
pub const SWB_EVENT_ENROLLMENT_FAILED: u32 = 7;
/// Event: the start found the disk other than it was left, and put it right; `text` says how.
pub const SWB_EVENT_RECOVERED: u32 = 8;
/// Event: the confirmed model cannot be used; nothing drives until there is another one.
pub const SWB_EVENT_MODEL_LOST: u32 = 9;
/// Event: the confirmed model could be used after all, and drives.
pub const SWB_EVENT_MODEL_RESTORED: u32 = 10;
/// Event: the vehicle's clock is behind a time that the vehicle has seen, by `swb_status.clock_behind_s`. Told once until it is right again.
pub const SWB_EVENT_CLOCK_BEHIND: u32 = 11;
/// Event: the server named a delta and it is not used, or not any more; the release comes with more bytes instead.
pub const SWB_EVENT_DELTA_NOT_USED: u32 = 12;
/// Event: of a kind that this header does not know yet.
pub const SWB_EVENT_OTHER: u32 = 1000;

/// The state of a vehicle. Set `struct_size`; `swb_vehicle_status` writes the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_status {
    /// `sizeof(swb_status)`.
    pub struct_size: usize,
    /// Where the update stands: `SWB_UPDATE_...`.
    pub update: u32,
    /// Progress of the download, thousandths.
    pub progress_permille: u32,
    /// Completed questions to the server since the start.
    pub checks: u64,
    /// 1: the server knows the vehicle: it enrolled, or the server answered it since the start.
    pub enrolled: u8,
    /// 1: the update side works. It stops only by a defect; steps go on then.
    pub running: u8,
    /// 1: the model that answers steps has not passed its trial yet.
    pub on_trial: u8,
    /// Zero.
    pub reserved: u8,
    /// Why the server could not be asked, as a stable number; 0 when the last try succeeded.
    pub check_result: i32,
    /// The model that answers steps; its `generation` is 0 when there is none.
    pub active: swb_model_identity,
    /// Name of the model that the update is about, UTF-8, closed by a zero byte; empty when it is the active one or there is none.
    pub candidate_model: [c_char; SWB_IDENTITY_TEXT_BYTES],
    /// Its version, likewise.
    pub candidate_version: [c_char; SWB_IDENTITY_TEXT_BYTES],
    /// Why the last update was refused or rolled back, as a stable number; else 0.
    pub result: i32,
    /// Zero.
    pub reserved2: u32,
    /// The same as a stable name for logs, such as "self_test_failed", closed by a zero byte.
    pub reason: [c_char; SWB_REASON_BYTES],
    /// The same in words, UTF-8, closed by a zero byte.
    pub text: [c_char; SWB_TEXT_BYTES],
    /// Seconds by which the vehicle's clock is behind the latest time at which metadata was verified; 0 when it is not. While it is behind,
    /// expiry is judged by that time.
    pub clock_behind_s: u64,
    /// Bytes that were downloaded for the last release since its download began in this run, those of a delta included.
    pub downloaded_bytes: u64,
    /// Bytes of its bundle that did not have to be, because the installed release has them or a delta restored them.
    pub reused_bytes: u64,
}

/// Something that happened. Set `struct_size`; `swb_vehicle_next_event` writes the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_event {
    /// `sizeof(swb_event)`.
    pub struct_size: usize,
    /// What happened: `SWB_EVENT_...`; `SWB_EVENT_NONE` when there is nothing new.
    pub kind: u32,
    /// The update's new state, `SWB_UPDATE_...`, when `kind` is `SWB_EVENT_UPDATE`; else 0.
    pub update: u32,
    /// When, seconds since 1970-01-01 UTC by the vehicle's clock.
    pub time_s: i64,
    /// Why, as a stable number, when it is a failure; else 0.
    pub result: i32,
    /// Zero.
    pub reserved: u32,
    /// The same as a stable name for logs, such as "self_test_failed", closed by a zero byte.
    pub reason: [c_char; SWB_REASON_BYTES],
    /// Name of the model that it is about, UTF-8, closed by a zero byte; may be empty.
    pub model: [c_char; SWB_IDENTITY_TEXT_BYTES],
    /// Version of the model that it is about, UTF-8, closed by a zero byte; may be empty.
    pub version: [c_char; SWB_IDENTITY_TEXT_BYTES],
    /// Why in words, UTF-8, one line, closed by a zero byte; may be empty. Holds no secret.
    pub text: [c_char; SWB_TEXT_BYTES],
}

// SAFETY: `repr(C)`, its size first; integers and arrays and structs of these.
unsafe impl CallerStruct for swb_status {
    const NAME: &'static str = "swb_status";
    const SIZE_MIN: usize = 592;
}

// SAFETY: as above.
unsafe impl CallerStruct for swb_event {
    const NAME: &'static str = "swb_event";
    const SIZE_MIN: usize = 464;
}

const _: () = {
    assert!(size_of::<swb_status>() == <swb_status as CallerStruct>::SIZE_MIN + 16);
    assert!(size_of::<swb_event>() == <swb_event as CallerStruct>::SIZE_MIN);
};

/// The name of what an event says, in one word for logs: of the update's new state, such as "rolled-back", or of another event, such as
/// "check-failed".
///
/// The text is the library's and lives as long as the library is loaded; do not free it. Never NULL: "unknown" for numbers that the
/// library does not know. Any thread. Never blocks, never fails.
#[unsafe(no_mangle)]
pub extern "C" fn swb_event_name(kind: u32, update: u32) -> *const c_char {
    let name = match kind {
        SWB_EVENT_NONE => c"none",
        SWB_EVENT_UPDATE => update_name(update),
        SWB_EVENT_CHECKED => c"checked",
        SWB_EVENT_CHECK_FAILED => c"check-failed",
        SWB_EVENT_DOWNLOAD_PAUSED => c"download-paused",
        SWB_EVENT_NOT_BELIEVED => c"not-believed",
        SWB_EVENT_ENROLLED => c"enrolled",
        SWB_EVENT_ENROLLMENT_FAILED => c"enrollment-failed",
        SWB_EVENT_RECOVERED => c"recovered",
        SWB_EVENT_MODEL_LOST => c"model-lost",
        SWB_EVENT_MODEL_RESTORED => c"model-restored",
        SWB_EVENT_CLOCK_BEHIND => c"clock-behind",
        SWB_EVENT_DELTA_NOT_USED => c"delta-not-used",
        SWB_EVENT_OTHER => c"other",
        _ => c"unknown",
    };
    name.as_ptr()
}

fn update_name(update: u32) -> &'static CStr {
    match update {
        SWB_UPDATE_IDLE => c"idle",
        SWB_UPDATE_OFFERED => c"offered",
        SWB_UPDATE_CONSENTED => c"consented",
        SWB_UPDATE_DOWNLOADING => c"downloading",
        SWB_UPDATE_STAGED => c"staged",
        SWB_UPDATE_SELF_TESTED => c"self-tested",
        SWB_UPDATE_SHADOW => c"shadow",
        SWB_UPDATE_ARMED => c"armed",
        SWB_UPDATE_TRIAL => c"trial",
        SWB_UPDATE_CONFIRMED => c"confirmed",
        SWB_UPDATE_ROLLED_BACK => c"rolled-back",
        SWB_UPDATE_REFUSED => c"refused",
        _ => c"unknown",
    }
}

fn update_number(state: UpdateState) -> u32 {
    match state {
        UpdateState::Idle => SWB_UPDATE_IDLE,
        UpdateState::Offered => SWB_UPDATE_OFFERED,
        UpdateState::Consented => SWB_UPDATE_CONSENTED,
        UpdateState::Downloading => SWB_UPDATE_DOWNLOADING,
        UpdateState::Staged => SWB_UPDATE_STAGED,
        UpdateState::SelfTested => SWB_UPDATE_SELF_TESTED,
        UpdateState::Shadow => SWB_UPDATE_SHADOW,
        UpdateState::Armed => SWB_UPDATE_ARMED,
        UpdateState::Trial => SWB_UPDATE_TRIAL,
        UpdateState::Confirmed => SWB_UPDATE_CONFIRMED,
        UpdateState::RolledBack => SWB_UPDATE_ROLLED_BACK,
        UpdateState::Refused => SWB_UPDATE_REFUSED,
    }
}

/// A reason as the header tells it.
struct Told {
    result: i32,
    reason: [c_char; SWB_REASON_BYTES],
    text: [c_char; SWB_TEXT_BYTES],
}

impl From<Option<&Reason>> for Told {
    fn from(reason: Option<&Reason>) -> Self {
        let (result, name, text) = reason.map_or((0, "", ""), |reason| (number(reason.number), &*reason.name, &*reason.text));
        Self { result, reason: fill_text(name), text: fill_text(text) }
    }
}

fn release_texts(release: Option<&ReleaseRef>) -> [[c_char; SWB_IDENTITY_TEXT_BYTES]; 2] {
    release.map_or(["", ""], |release| [&release.model, &release.version]).map(fill_text)
}

impl From<&Status> for swb_status {
    fn from(status: &Status) -> Self {
        let told = Told::from(status.reason.as_ref());
        let [candidate_model, candidate_version] = release_texts(status.candidate.as_ref());
        let active = status.active.as_ref().map_or_else(ModelIdentity::default, |active| {
            let release = &active.release;
            ModelIdentity::new(
                &release.model,
                &release.version,
                *active.index_sha256.as_bytes(),
                release.release_counter,
                active.generation,
            )
        });
        Self {
            struct_size: size_of::<Self>(),
            update: update_number(status.update),
            progress_permille: status.progress_permille,
            checks: status.checks,
            enrolled: status.enrolled.into(),
            running: status.running.into(),
            on_trial: status.active.as_ref().is_some_and(|active| active.on_trial).into(),
            reserved: 0,
            check_result: status.check_failure.as_ref().map_or(0, |reason| number(reason.number)),
            active: (&active).into(),
            candidate_model,
            candidate_version,
            result: told.result,
            reserved2: 0,
            reason: told.reason,
            text: told.text,
            clock_behind_s: status.clock_behind_s,
            downloaded_bytes: status.chunk_bytes.downloaded + status.chunk_bytes.delta,
            reused_bytes: status.chunk_bytes.reused + status.chunk_bytes.restored,
        }
    }
}

impl From<Option<&Event>> for swb_event {
    fn from(event: Option<&Event>) -> Self {
        let (kind, update) = event.map_or((SWB_EVENT_NONE, 0), |event| kind(&event.kind));
        let told = Told::from(event.and_then(|event| event.reason.as_ref()));
        let [model, version] = release_texts(event.and_then(|event| event.release.as_ref()));
        let text = match event.map(|event| &event.kind) {
            Some(EventKind::Recovered(finding)) => fill_text(&finding_text(finding)),
            _ => told.text,
        };
        Self {
            struct_size: size_of::<Self>(),
            kind,
            update,
            time_s: event.map_or(0, |event| event.time_s),
            result: told.result,
            reserved: 0,
            reason: told.reason,
            model,
            version,
            text,
        }
    }
}

fn finding_text(finding: &Finding) -> String {
    match finding {
        Finding::RecordTorn => "power was lost while a record was written; the one before it counts".to_owned(),
        Finding::DownloadInterrupted { next_chunk, .. } => format!("an interrupted download goes on at chunk {next_chunk}"),
        Finding::TrialInterrupted { tries_left, .. } => format!("an interrupted trial is repeated, {tries_left} more may begin"),
        Finding::TrialGivenUp { .. } => "every trial of the release was interrupted; it is given up".to_owned(),
        Finding::LoadInterrupted { times, .. } => format!("a load of the release ended with the process, {times} so far; it is repeated"),
        Finding::ShadowInterrupted { times, .. } => {
            format!("a shadow run of the release ended with the process, {times} so far; it is repeated")
        }
        Finding::LoadGivenUp { .. } => "every load of the release ended with the process; it is given up".to_owned(),
        Finding::ShadowGivenUp { .. } => "every shadow run of the release ended with the process; it is given up".to_owned(),
        Finding::LeftoversRemoved { files } => format!("{files} files that belonged to nothing were removed"),
        _ => "the disk was not as an orderly end leaves it".to_owned(),
    }
}

/// The numbers of an event and, if it has one, of the update's state.
fn kind(kind: &EventKind) -> (u32, u32) {
    match kind {
        EventKind::Update(state) => (SWB_EVENT_UPDATE, update_number(*state)),
        EventKind::DownloadPaused => (SWB_EVENT_DOWNLOAD_PAUSED, 0),
        EventKind::CheckFailed => (SWB_EVENT_CHECK_FAILED, 0),
        EventKind::Checked => (SWB_EVENT_CHECKED, 0),
        EventKind::NotBelieved => (SWB_EVENT_NOT_BELIEVED, 0),
        EventKind::Enrolled => (SWB_EVENT_ENROLLED, 0),
        EventKind::EnrollmentFailed => (SWB_EVENT_ENROLLMENT_FAILED, 0),
        EventKind::Recovered(_) => (SWB_EVENT_RECOVERED, 0),
        EventKind::ModelLost => (SWB_EVENT_MODEL_LOST, 0),
        EventKind::ModelRestored => (SWB_EVENT_MODEL_RESTORED, 0),
        EventKind::ClockBehind => (SWB_EVENT_CLOCK_BEHIND, 0),
        EventKind::DeltaNotUsed => (SWB_EVENT_DELTA_NOT_USED, 0),
        _ => (SWB_EVENT_OTHER, 0),
    }
}
