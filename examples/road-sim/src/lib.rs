//! A small deterministic road with a camera, to drive models in closed loop.
//!
//! The simulator is a pure function of its scenario and the controls it is given: no clock, no thread, no file. Axes follow ISO 8855
//! (x forward, y left, positive curvature turns left), units are SI, one step is [`STEP_S`].
//!
//! ```
//! use switchback_road_sim::{Scenario, World};
//!
//! let mut world = World::new(Scenario::new(7));
//! for _ in 0..100 {
//!     let observation = world.observe();
//!     assert_eq!(observation.frame.rgb.len(), 128 * 64 * 3);
//!     let control = world.expert().control; // a model would answer from the pixels
//!     world.step(control);
//! }
//! assert!(!world.status().off_lane);
//! ```
#![forbid(unsafe_code)]

pub mod bridge;
pub mod dataset;
mod ego;
mod expert;
mod frame;
mod paint;
mod render;
mod rng;
mod road;
mod scene;
mod world;

pub use ego::{Control, EgoState};
pub use expert::{Expert, Intent, TRAJECTORY_POINTS, TRAJECTORY_STEP_S};
pub use frame::Frame;
pub use rng::Rng;
pub use road::{Road, RoadPoint, RoadSample};
pub use scene::{CarPose, Light, PedestrianPhase};
pub use world::{Observation, RouteCommand, Scenario, Status, World};

/// Simulated time of one step: 20 Hz, the rate of the camera.
pub const STEP_S: f64 = 0.05;
/// [`STEP_S`] as the whole number of nanoseconds that time stamps count in.
pub const STEP_NS: i64 = 50_000_000;
/// Width of each of the two lanes.
pub const LANE_WIDTH_M: f64 = 3.5;
/// Lateral position of the center of our lane (we drive on the right) relative to the middle of the road.
pub const LANE_CENTER_M: f64 = -LANE_WIDTH_M / 2.0;
