//! What a driving step answers. Fixed size, no pointers: it is written whole on every step, also on error.

/// Most trajectory points that an output carries.
pub const TRAJECTORY_POINTS_MAX: usize = 64;
/// Most named actions that an output carries.
pub const ACTIONS_MAX: usize = 32;
/// Bytes of a name or version in [`ModelIdentity`], the closing zero included.
pub const IDENTITY_TEXT_BYTES: usize = 32;

/// The answer of one driving step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveOutput {
    /// Sequence number of the input that it answers.
    pub sequence: u64,
    /// Frame id of the front camera's image that was used; 0 when none was.
    pub frame_id: u64,
    /// Exposure of the oldest image that was used, ns of the caller's monotonic clock.
    pub exposure_ns: i64,
    /// End of validity, ns of the caller's monotonic clock. Never act on the output later.
    pub valid_until_ns: i64,
    /// The planned path; the first `trajectory_points` are valid.
    pub trajectory: [TrajectoryPoint; TRAJECTORY_POINTS_MAX],
    /// Number of valid points in `trajectory`.
    pub trajectory_points: u32,
    /// What to do now. Only meaningful when `control_valid`.
    pub control: Control,
    /// `control` and `trajectory` come from a model, are finite and keep the envelope: the control as it stands, the trajectory in the
    /// speeds, accelerations and curvatures that its points imply from the vehicle's present motion on.
    pub control_valid: bool,
    /// The model's own confidence, 0 to 1.
    pub confidence: f32,
    /// What the model intends to do.
    pub intent: IntentCode,
    /// Probability of `intent`, 0 to 1.
    pub intent_probability: f32,
    /// Named actions of a platform that is no road vehicle, in the contract's order; the first `actions_len` are valid.
    pub actions: [f32; ACTIONS_MAX],
    /// Number of valid values in `actions`.
    pub actions_len: u32,
    /// Whether and how soon the driver must take over.
    pub takeover: Takeover,
    /// The minimal risk manoeuvre that the SDK asks for; the vehicle executes it (ISO 23793-1). Once asked for it stays, also when control is
    /// valid again and when the vehicle stands, until the driver overrides or the mode returns to standby (UN R157).
    pub minimal_risk: MinimalRisk,
    /// What went wrong in this step: bits of [`Faults`].
    pub faults: Faults,
    /// Mode that this output is meant for.
    pub mode: super::Mode,
    /// Time inside the model, ns.
    pub run_ns: u64,
    /// Time of the whole step, ns.
    pub total_ns: u64,
    /// First output after the model changed: a new one was swapped in, or the previous one came back.
    pub swapped: bool,
    /// The model on trial could not answer in this very step and the previous one did; `faults` says what the failed one did.
    pub fell_back: bool,
    /// The model that answered; zero `generation` when none did.
    pub model: ModelIdentity,
}

/// One point of the planned path, in the vehicle's axes at the time of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrajectoryPoint {
    /// Time after the frame, s.
    pub time_s: f32,
    /// Forward, m.
    pub x_m: f32,
    /// Left, m.
    pub y_m: f32,
    /// Heading relative to the vehicle at the time of the frame, rad, left positive.
    pub heading_rad: f32,
    /// Speed, m/s.
    pub speed_mps: f32,
    /// Standard deviation of `x_m`, m; 0 when the model states none.
    pub x_std_m: f32,
    /// Standard deviation of `y_m`, m; 0 when the model states none.
    pub y_std_m: f32,
}

/// What to do now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Control {
    /// Path curvature, 1/m, left positive.
    pub curvature_1pm: f32,
    /// Longitudinal acceleration, m/s2.
    pub acceleration_mps2: f32,
}

/// What the model intends to do; the numbers are those of the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum IntentCode {
    /// The model states none.
    #[default]
    Unknown = 0,
    /// Keep the lane at the desired speed.
    KeepLane = 1,
    /// Follow a vehicle ahead.
    Follow = 2,
    /// Slow down or stop for somebody or something on the road.
    Yield = 3,
    /// Stop because a person signals so.
    GestureStop = 4,
    /// Change to the left lane or turn left.
    Left = 5,
    /// Change to the right lane or turn right.
    Right = 6,
    /// Standing still.
    Standstill = 7,
}

/// Whether and how soon the driver must take over (the transition demand of UN R157).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// How urgent it is.
    pub level: TakeoverLevel,
    /// Why.
    pub reason: TakeoverReason,
    /// Time that the driver has, ms; 0 when nothing is asked.
    pub budget_ms: u32,
}

/// How urgent a takeover is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum TakeoverLevel {
    /// Nothing is asked.
    #[default]
    None = 0,
    /// The driver should get ready.
    Prepare = 1,
    /// The driver must take over within the budget.
    Request = 2,
    /// The driver must take over now.
    Immediate = 3,
}

/// Why a takeover is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum TakeoverReason {
    /// Nothing is asked.
    #[default]
    None = 0,
    /// The model's confidence is below the contract's minimum.
    LowConfidence = 1,
    /// An input was missing, stale or not plausible.
    Input = 2,
    /// The model failed: error, not finite, or outside the envelope.
    Model = 3,
    /// The answer came too late.
    Deadline = 4,
    /// There is no model.
    NoModel = 5,
}

/// The minimal risk manoeuvre that the SDK asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum MinimalRisk {
    /// Nothing is asked.
    #[default]
    None = 0,
    /// Type 1 of ISO 23793-1: stop straight ahead.
    StraightStop = 1,
    /// Type 2 of ISO 23793-1: stop within the lane.
    InLaneStop = 2,
}

/// What went wrong in a step, as bits; the numbers are those of the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u64);

impl Faults {
    /// Nothing went wrong.
    pub const NONE: Self = Self(0);
    /// There is no model.
    pub const NO_MODEL: Self = Self(1);
    /// A camera that the contract asks for was not supplied, or its description does not fit its data.
    pub const CAMERA_MISSING: Self = Self(1 << 1);
    /// A camera image is older than allowed.
    pub const CAMERA_STALE: Self = Self(1 << 2);
    /// A camera delivered the same frame again.
    pub const CAMERA_REPEATED: Self = Self(1 << 3);
    /// The ego state is not finite or not plausible.
    pub const EGO_INVALID: Self = Self(1 << 4);
    /// A signal that the contract requires was not supplied or is not finite.
    pub const SIGNAL_MISSING: Self = Self(1 << 5);
    /// The sequence number did not rise.
    pub const SEQUENCE: Self = Self(1 << 6);
    /// ONNX Runtime reported an error.
    pub const RUN_FAILED: Self = Self(1 << 7);
    /// The model's output is not finite.
    pub const NOT_FINITE: Self = Self(1 << 8);
    /// The model's control or trajectory is outside the envelope.
    pub const ENVELOPE: Self = Self(1 << 9);
    /// The answer came after the deadline.
    pub const DEADLINE_MISSED: Self = Self(1 << 10);
    /// The model's confidence is below the contract's minimum.
    pub const LOW_CONFIDENCE: Self = Self(1 << 11);
    /// The images of two cameras lie too far apart in time.
    pub const CAMERA_SKEW: Self = Self(1 << 12);

    /// The ego state was measured too long ago.
    pub const EGO_STALE: Self = Self(1 << 13);
    /// The route is not finite.
    pub const ROUTE_INVALID: Self = Self(1 << 14);

    /// The model itself failed: its answer must not be used, and a model on trial is rolled back.
    pub const OF_MODEL: Self = Self(Self::RUN_FAILED.0 | Self::NOT_FINITE.0 | Self::ENVELOPE.0);
    /// The inputs do not allow an answer.
    pub const OF_INPUT: Self = Self(
        Self::CAMERA_MISSING.0
            | Self::CAMERA_STALE.0
            | Self::EGO_INVALID.0
            | Self::EGO_STALE.0
            | Self::SIGNAL_MISSING.0
            | Self::ROUTE_INVALID.0,
    );

    /// The bits as the C header names them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing went wrong.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits that are also in `other`.
    pub(crate) const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Adds the bits of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl core::ops::BitOr for Faults {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Exactly which model answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Name of the model, UTF-8, closed by a zero byte; cut when longer.
    pub name: [u8; IDENTITY_TEXT_BYTES],
    /// Version of the model, UTF-8, closed by a zero byte; cut when longer.
    pub version: [u8; IDENTITY_TEXT_BYTES],
    /// SHA-256 of the bundle's chunk index, the signed target.
    pub sha256: [u8; 32],
    /// Release counter of the model.
    pub release_counter: u64,
    /// Rises with every model that this vehicle activates; 0 means no model.
    pub generation: u64,
}

impl ModelIdentity {
    /// An identity; texts that are too long are cut at a character.
    pub fn new(name: &str, version: &str, sha256: [u8; 32], release_counter: u64, generation: u64) -> Self {
        Self { name: closed(name), version: closed(version), sha256, release_counter, generation }
    }

    /// `name` up to its closing zero.
    pub fn name(&self) -> &str {
        opened(&self.name)
    }

    /// `version` up to its closing zero.
    pub fn version(&self) -> &str {
        opened(&self.version)
    }
}

fn closed(text: &str) -> [u8; IDENTITY_TEXT_BYTES] {
    let mut bytes = [0; IDENTITY_TEXT_BYTES];
    let length = text.floor_char_boundary(IDENTITY_TEXT_BYTES - 1);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

fn opened(bytes: &[u8]) -> &str {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    core::str::from_utf8(text).unwrap_or_default()
}

impl DriveOutput {
    /// Takes back what the model answered, so that nobody can act on it by accident; what is known about the step stays.
    pub(crate) fn withhold(&mut self) {
        *self = Self {
            sequence: self.sequence,
            frame_id: self.frame_id,
            exposure_ns: self.exposure_ns,
            takeover: self.takeover,
            minimal_risk: self.minimal_risk,
            faults: self.faults,
            mode: self.mode,
            run_ns: self.run_ns,
            total_ns: self.total_ns,
            swapped: self.swapped,
            fell_back: self.fell_back,
            model: self.model,
            ..Self::default()
        };
    }
}

impl Default for DriveOutput {
    /// The answer where there is none: no control, nothing valid.
    fn default() -> Self {
        Self {
            sequence: 0,
            frame_id: 0,
            exposure_ns: 0,
            valid_until_ns: 0,
            trajectory: [TrajectoryPoint::default(); TRAJECTORY_POINTS_MAX],
            trajectory_points: 0,
            control: Control::default(),
            control_valid: false,
            confidence: 0.0,
            intent: IntentCode::Unknown,
            intent_probability: 0.0,
            actions: [0.0; ACTIONS_MAX],
            actions_len: 0,
            takeover: Takeover::default(),
            minimal_risk: MinimalRisk::None,
            faults: Faults::NONE,
            mode: super::Mode::Standby,
            run_ns: 0,
            total_ns: 0,
            swapped: false,
            fell_back: false,
            model: ModelIdentity::default(),
        }
    }
}
