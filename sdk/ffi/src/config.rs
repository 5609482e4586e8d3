//! What a vehicle is opened with.

use core::ffi::{c_char, c_void};
use core::mem::size_of;
use core::num::NonZeroU64;
use core::time::Duration;
use std::fs;
use std::path::Path;

use switchback_sdk::engine::EngineConfig;
use switchback_sdk::update::ActivationPolicy;
use switchback_sdk::vehicle::{Identity, Provisioned, RepositoryMap, TrustAnchors, UnixTime, VehicleConfig, VehicleError};

use crate::callbacks::{
    Callbacks, SWB_LOG_DEBUG, SWB_LOG_INFO, swb_clock_fn, swb_consent_fn, swb_log_fn, swb_network_fn, swb_vehicle_state_fn,
};
use crate::memory::{self, CallerStruct};
use crate::result::Refusal;
use crate::version::SWB_ABI_MAJOR;

/// Activation: as soon as the driving function is not engaged, never while it is. The default.
pub const SWB_ACTIVATE_NEXT_DISENGAGED: u32 = 0;
/// Activation: as soon as the vehicle stands still and the driving function is not engaged.
pub const SWB_ACTIVATE_NEXT_STANDSTILL: u32 = 1;
/// Activation: at the next frame at which both models' plans agree, also while the driving function is engaged.
pub const SWB_ACTIVATE_NOW: u32 = 2;
/// Activation: when `swb_vehicle_activate` is called, and then also while the driving function is engaged.
pub const SWB_ACTIVATE_MANUALLY: u32 = 3;

/// The last second of the year 9999, the last that metadata can state. Whoever gives milliseconds is told so, before the vehicle takes every
/// signature for expired.
const TIME_S_MAX: u64 = 253_402_300_799;

/// Most mirrors of a vehicle.
pub const SWB_MIRRORS_MAX: usize = 16;

/// What a vehicle is opened with. Set `struct_size` and `abi_version`; a field of zero or NULL stands for its default.
///
/// Everything that it points to is copied by `swb_vehicle_open` and stays the caller's, except `userdata`, which is only handed back.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_vehicle_config {
    /// `sizeof(swb_vehicle_config)`.
    pub struct_size: usize,
    /// `SWB_ABI_VERSION`.
    pub abi_version: u32,
    /// When a new model that passed its tests takes over: `SWB_ACTIVATE_...`.
    pub activation: u32,
    /// Directory of the vehicle's models and state, UTF-8. Made when missing. One process at a time. Not NULL.
    pub store_dir: *const c_char,
    /// Address of the server, such as `https://ota.example`. Not NULL.
    pub server_url: *const c_char,
    /// Address of the Image repository, when a CDN serves it; NULL: the server.
    pub image_url: *const c_char,
    /// File with the Director's root metadata as provisioned. Not NULL.
    pub director_root: *const c_char,
    /// File with the Image repository's root metadata as provisioned. Not NULL.
    pub image_root: *const c_char,
    /// One-time token of the first enrollment; NULL when the vehicle has enrolled before. Not used again once it did.
    pub enrollment_token: *const c_char,
    /// Pseudonym of the vehicle; not its VIN. Not NULL.
    pub vehicle_id: *const c_char,
    /// Serial number of the ECU that runs this library. Not NULL.
    pub ecu_serial: *const c_char,
    /// Hardware id of that ECU. Not NULL.
    pub hardware_id: *const c_char,
    /// Product level, such as "ultra". Not NULL.
    pub tier: *const c_char,
    /// Region in which the vehicle is approved, such as "eu". Not NULL.
    pub region: *const c_char,
    /// The ONNX Runtime library; NULL: the file that the environment variable ORT_DYLIB_PATH names, then the loader's search path.
    pub runtime_path: *const c_char,
    /// PEM file with the authorities that the server's certificate may come from; NULL: those that the system trusts.
    pub tls_roots: *const c_char,
    /// Seconds between two questions to the server as long as it names no other time; 0: 300.
    pub poll_interval_s: u32,
    /// Threads that one run of a model uses, the caller's included; 0: 1, the caller's alone.
    pub intra_threads: u32,
    /// Memory that all loaded models together may need by their contracts, MiB; 0: 2048. Two must fit for a swap without a gap.
    pub memory_budget_mib: u32,
    /// A candidate in shadow looks at every n-th frame; 0: 1.
    pub shadow_every: u32,
    /// Age of a camera image, exposure to step, from which on it is stale, ms; 0: 150.
    pub frame_age_max_ms: u32,
    /// Age of the ego state from which on it is stale, ms; 0: 150.
    pub ego_age_max_ms: u32,
    /// Time between the exposures of two cameras from which on they count as apart, ms; 0: 20.
    pub camera_skew_max_ms: u32,
    /// The most detailed lines that `log` receives: `SWB_LOG_...`; 0: `SWB_LOG_INFO`.
    pub log_level: u32,
    /// First argument of every callback. Never looked at by the library; must stay valid until `swb_vehicle_free` returns.
    pub userdata: *mut c_void,
    /// Receives the log; NULL: no log. With several vehicles in a process, each log receives the lines of all.
    pub log: swb_log_fn,
    /// Tells the time; NULL: the system's clock.
    pub clock: swb_clock_fn,
    /// Decides about updates; NULL: every verified update is welcome.
    pub consent: swb_consent_fn,
    /// Tells the state of the vehicle; NULL: known only from the modes and speeds of the steps.
    pub vehicle_state: swb_vehicle_state_fn,
    /// 1: also addresses without encryption are taken that lead out of this computer. Only for a network that nobody else is on, such as a
    /// test bench: whoever is on it reads the enrollment token and can enroll in the vehicle's place. 0: such an address is refused.
    pub allow_plain_http: u32,
    /// The Director is asked with a nonce, which nothing recorded can answer, when its Timestamp was signed longer ago than this, seconds; 0: 14400.
    pub timestamp_age_max_s: u32,
    /// File that says which repositories must sign for which images (Uptane repository map, TAP 4); NULL: both for all.
    pub repository_map: *const c_char,
    /// Folder with metadata as it was when the vehicle left the factory, which its first check may not fall behind: director/NAME and image/NAME,
    /// where NAME is timestamp.json, snapshot.json, targets.json or a delegated role's, without version; no roots. NULL: none.
    pub provisioned_dir: *const c_char,
    /// When the vehicle left the factory, seconds since 1970-01-01 UTC: no clock counts that shows an earlier time. 0: not stated.
    pub provisioned_time_s: u64,
    /// Addresses of mirrors of the Image repository, `mirrors_len` texts: asked for bundles in this order and before it; where one fails, the
    /// next goes on. They are believed nothing and told nothing but which bytes are wanted. NULL: none.
    pub mirrors: *const *const c_char,
    /// Number of mirrors, at most `SWB_MIRRORS_MAX`.
    pub mirrors_len: usize,
    /// Most bytes per second that downloads of releases take of the link, all together; 0: as many as come.
    pub download_bytes_per_s_max: u64,
    /// Most bytes that are downloaded between two checkpoints, and so the most that a power cut costs again, with the chunk that was on its
    /// way. Each costs a sync: a small number is for links whose bytes cost more than the disk's time. 0: 64 MiB.
    pub checkpoint_bytes: u64,
    /// Says what the network that the vehicle is on may be used for; NULL: whatever is to be downloaded.
    pub network: swb_network_fn,
}

// SAFETY: `repr(C)`, its size first; integers, raw pointers and optional function pointers.
unsafe impl CallerStruct for swb_vehicle_config {
    const NAME: &'static str = "swb_vehicle_config";
    const SIZE_MIN: usize = 224;
}

const _: () = assert!(size_of::<swb_vehicle_config>() == <swb_vehicle_config as CallerStruct>::SIZE_MIN + 40);

impl swb_vehicle_config {
    /// The SDK's configuration. Reads the files that it names.
    ///
    /// # Safety
    /// *text* of every text; `mirrors` points to `mirrors_len` of them.
    pub(crate) unsafe fn convert(&self) -> Result<VehicleConfig, Refusal> {
        if self.abi_version >> 16 != SWB_ABI_MAJOR {
            return Err(Refusal::Abi { wanted: self.abi_version });
        }
        let activation = self.activation()?;
        let allow_plain_http = match self.allow_plain_http {
            0 => false,
            1 => true,
            value => return Err(Refusal::Value { what: "swb_vehicle_config.allow_plain_http", value: value.into() }),
        };
        let optional = |what, pointer| -> Result<Option<String>, Refusal> {
            // SAFETY: *text*, passed on.
            let text = unsafe { memory::text(what, pointer) }?;
            Ok(text.map(str::to_owned))
        };
        let text = |what, pointer| optional(what, pointer)?.ok_or(Refusal::Null { what });
        let store_dir = text("swb_vehicle_config.store_dir", self.store_dir)?;
        let server_url = text("swb_vehicle_config.server_url", self.server_url)?;
        let director_root = text("swb_vehicle_config.director_root", self.director_root)?;
        let image_root = text("swb_vehicle_config.image_root", self.image_root)?;
        let identity = Identity {
            vehicle_id: text("swb_vehicle_config.vehicle_id", self.vehicle_id)?,
            ecu_serial: text("swb_vehicle_config.ecu_serial", self.ecu_serial)?,
            hardware_id: text("swb_vehicle_config.hardware_id", self.hardware_id)?,
            tier: text("swb_vehicle_config.tier", self.tier)?,
            region: text("swb_vehicle_config.region", self.region)?,
        };
        let anchors = TrustAnchors {
            director_root: file("swb_vehicle_config.director_root", director_root)?,
            image_root: file("swb_vehicle_config.image_root", image_root)?,
        };
        let mut config = VehicleConfig::new(store_dir, server_url, anchors, identity);
        config.image_url = optional("swb_vehicle_config.image_url", self.image_url)?;
        if self.mirrors_len > SWB_MIRRORS_MAX {
            return Err(Refusal::Value { what: "swb_vehicle_config.mirrors_len", value: self.mirrors_len as u64 });
        }
        if self.mirrors.is_null() && self.mirrors_len > 0 {
            return Err(Refusal::Null { what: "swb_vehicle_config.mirrors" });
        }
        for index in 0..self.mirrors_len {
            // SAFETY: `mirrors` is not NULL and points to `mirrors_len` pointers.
            let mirror = unsafe { *self.mirrors.add(index) };
            config.mirror_urls.push(text("swb_vehicle_config.mirrors", mirror)?);
        }
        if self.checkpoint_bytes != 0 {
            config.checkpoint_bytes = self.checkpoint_bytes;
        }
        config.download_bytes_per_s_max = NonZeroU64::new(self.download_bytes_per_s_max);
        config.enrollment_token = optional("swb_vehicle_config.enrollment_token", self.enrollment_token)?;
        config.tls_roots_pem =
            optional("swb_vehicle_config.tls_roots", self.tls_roots)?.map(|path| file("swb_vehicle_config.tls_roots", path)).transpose()?;
        config.activation = activation;
        config.allow_plain_http = allow_plain_http;
        if self.poll_interval_s != 0 {
            config.poll_interval = Duration::from_secs(self.poll_interval_s.into());
        }
        if self.timestamp_age_max_s != 0 {
            config.timestamp_age_max = Duration::from_secs(self.timestamp_age_max_s.into());
        }
        if let Some(path) = optional("swb_vehicle_config.repository_map", self.repository_map)? {
            config.repository_map = repository_map(path)?;
        }
        config.provisioned = self.provisioned(optional("swb_vehicle_config.provisioned_dir", self.provisioned_dir)?)?;
        config.engine = self.engine(config.engine);
        config.engine.runtime_path = optional("swb_vehicle_config.runtime_path", self.runtime_path)?.map(Into::into);
        Ok(config)
    }

    /// The callbacks with their argument.
    pub(crate) fn callbacks(&self) -> Callbacks {
        let &Self { userdata, log, clock, consent, vehicle_state, network, .. } = self;
        Callbacks { userdata, log, clock, consent, vehicle_state, network }
    }

    /// The most detailed level of the log.
    pub(crate) fn log_level(&self) -> Result<u32, Refusal> {
        match self.log_level {
            0 => Ok(SWB_LOG_INFO),
            level @ ..=SWB_LOG_DEBUG => Ok(level),
            level => Err(Refusal::Value { what: "swb_vehicle_config.log_level", value: level.into() }),
        }
    }

    fn engine(&self, default: EngineConfig) -> EngineConfig {
        let or = |stated: u32, default: u32| if stated == 0 { default } else { stated };
        EngineConfig {
            intra_threads: if self.intra_threads == 0 { default.intra_threads } else { self.intra_threads as usize },
            memory_budget_mib: or(self.memory_budget_mib, default.memory_budget_mib),
            shadow_every: or(self.shadow_every, default.shadow_every),
            frame_age_max_ms: or(self.frame_age_max_ms, default.frame_age_max_ms),
            ego_age_max_ms: or(self.ego_age_max_ms, default.ego_age_max_ms),
            camera_skew_max_ms: or(self.camera_skew_max_ms, default.camera_skew_max_ms),
            ..default
        }
    }

    fn provisioned(&self, folder: Option<String>) -> Result<Provisioned, Refusal> {
        let what = "swb_vehicle_config.provisioned_time_s";
        let time = match self.provisioned_time_s {
            0 => None,
            value if value > TIME_S_MAX => return Err(Refusal::Value { what, value }),
            value => Some(UnixTime::from_seconds(value as i64)),
        };
        let what = "swb_vehicle_config.provisioned_dir";
        match folder {
            None => Ok(Provisioned { time, ..Provisioned::default() }),
            Some(path) => Provisioned::read(Path::new(&path), time).map_err(|source| Refusal::File { what, path, source }),
        }
    }

    fn activation(&self) -> Result<ActivationPolicy, Refusal> {
        match self.activation {
            SWB_ACTIVATE_NEXT_DISENGAGED => Ok(ActivationPolicy::NextDisengaged),
            SWB_ACTIVATE_NEXT_STANDSTILL => Ok(ActivationPolicy::NextStandstill),
            SWB_ACTIVATE_NOW => Ok(ActivationPolicy::Now),
            SWB_ACTIVATE_MANUALLY => Ok(ActivationPolicy::Manual),
            _ => Err(Refusal::Value { what: "swb_vehicle_config.activation", value: self.activation.into() }),
        }
    }
}

fn repository_map(path: String) -> Result<RepositoryMap, Refusal> {
    let bytes = file("swb_vehicle_config.repository_map", path)?;
    let map = RepositoryMap::parse(&bytes);
    map.map_err(|error| VehicleError::Config { field: "repository_map", problem: error.to_string() }.into())
}

fn file(what: &'static str, path: String) -> Result<Vec<u8>, Refusal> {
    fs::read(&path).map_err(|source| Refusal::File { what, path, source })
}
