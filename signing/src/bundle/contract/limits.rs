//! Limits of a contract. Each is far above what a driving model needs and far below what would hurt a vehicle.

/// Longest `contract.json`, bytes.
pub const CONTRACT_LENGTH_MAX: usize = 512 << 10;

/// Most inputs, outputs or recurrent pairs.
pub const TENSORS_MAX: usize = 64;

/// Longest name of a tensor, bytes.
pub const TENSOR_NAME_MAX: usize = 256;

/// Most dimensions of a tensor.
pub const RANK_MAX: usize = 8;

/// Most elements of one tensor: eight 8-megapixel color frames.
pub const ELEMENTS_MAX: u64 = 1 << 28;

/// Most frames that one camera tensor stacks.
pub const HISTORY_MAX: u32 = 64;

/// Highest camera number.
pub const CAMERA_ID_MAX: u32 = 63;

/// Longest name of a vendor's signal, of an action or of a feature, bytes.
pub const SIGNAL_NAME_MAX: usize = 64;

/// Most points of a trajectory.
pub const TRAJECTORY_POINTS_MAX: u32 = 1024;

/// Most words of a language output.
pub const VOCABULARY_MAX: usize = 65_536;

/// Most features that one model serves.
pub const FEATURES_MAX: usize = 64;

/// Most memory of one session, MiB.
pub const MEMORY_MIB_MAX: u32 = 1 << 20;

/// Longest deadline and longest step, ms.
pub const STEP_MS_MAX: u32 = 10_000;

/// Most frames of a shadow run or a trial: nearly fourteen hours at 20 Hz.
pub const FRAMES_MAX: u32 = 1_000_000;
