//! Frames with the expert's answers, for training by imitation.
//!
//! A file is a header of [`HEADER_BYTES`] and then records of one size. All numbers are little-endian; `f32` unless said otherwise.
//!
//! | header | record |
//! |---|---|
//! | 8 bytes `SWBROAD1` | RGB pixels, `width * height * 3` bytes |
//! | `u32` width, height | speed, acceleration, yaw rate, road-wheel angle |
//! | `u32` trajectory points | expert's curvature, acceleration |
//! | `u32` bytes of a record | expert's gap, preview curvature |
//! | zeros up to 32 bytes | expert's trajectory, `points * 4` (x, y, heading, speed) |
//! | | lateral offset |
//! | | `u32` route command, intent, episode, step in the episode |

use std::io::{self, Write};

use crate::scene::{LeadCar, Pedestrian};
use crate::{
    Control, EgoState, Expert, LANE_CENTER_M, Light, Observation, PedestrianPhase, Rng, RoadPoint, RouteCommand, Scenario,
    TRAJECTORY_POINTS, World,
};

pub const HEADER_BYTES: usize = 32;

/// Writes records of one frame size.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W, width: usize, height: usize) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(b"SWBROAD1");
        for value in [width, height, TRAJECTORY_POINTS, record_bytes(width, height)] {
            header.extend((value as u32).to_le_bytes());
        }
        header.resize(HEADER_BYTES, 0);
        out.write_all(&header)?;
        Ok(Self { out })
    }

    /// One frame and what the expert would do there.
    pub fn write(&mut self, world: &World, observation: &Observation, episode: u32, step: u32) -> io::Result<()> {
        let (ego, expert) = (&observation.ego, world.expert());
        let mut record = Vec::with_capacity(record_bytes(observation.frame.width, observation.frame.height));
        record.extend(&observation.frame.rgb);
        let state = [ego.speed_mps, ego.acceleration_mps2, ego.yaw_rate_rad_s(), ego.steering_rad()];
        let answer = [expert.control.curvature_1_m, expert.control.acceleration_mps2, expert.gap_m, expert.preview_1_m];
        let offset = [world.status().lateral_offset_m];
        let floats = state.iter().chain(&answer).chain(expert.trajectory.as_flattened()).chain(&offset);
        record.extend(floats.flat_map(|value| (*value as f32).to_le_bytes()));
        let numbers = [observation.route as u32, expert.intent as u32, episode, step];
        record.extend(numbers.iter().flat_map(|value| value.to_le_bytes()));
        self.out.write_all(&record)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn record_bytes(width: usize, height: usize) -> usize {
    width * height * 3 + (4 + 4 + TRAJECTORY_POINTS * 4 + 1) * 4 + 4 * 4
}

/// Short drives from places where a good driver would not be: a model that has only seen good driving never learns to come back.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Episode `k` uses the road of `first_seed + k`.
    pub first_seed: u64,
    pub episodes: u32,
    pub steps: u32,
    pub width: usize,
    pub height: usize,
}

impl Plan {
    pub fn write<W: Write>(&self, out: W) -> io::Result<()> {
        let mut writer = Writer::new(out, self.width, self.height)?;
        for episode in 0..self.episodes {
            self.episode(episode, &mut writer)?;
        }
        writer.finish()
    }

    fn episode<W: Write>(&self, episode: u32, writer: &mut Writer<W>) -> io::Result<()> {
        let seed = self.first_seed + u64::from(episode);
        let mut rng = Rng::new(seed ^ 0xDA7A);
        let mut world = perturbed(seed, &mut rng, self.width, self.height);
        let bias = 0.008 * rng.normal();
        for step in 0..self.steps {
            writer.write(&world, &world.observe(), episode, step)?;
            let Control { curvature_1_m, acceleration_mps2 } = world.expert().control;
            let acceleration_mps2 = acceleration_mps2 + 0.5 * rng.normal();
            world.step(Control { curvature_1_m: curvature_1_m + bias, acceleration_mps2 });
        }
        Ok(())
    }
}

/// A random moment of a random drive, off the ideal line and speed.
fn perturbed(seed: u64, rng: &mut Rng, width: usize, height: usize) -> World {
    let length_m = 320.0;
    let destination = rng.chance(0.08);
    let s_m = if destination { rng.uniform(length_m - 60.0, length_m - 5.0) } else { rng.uniform(8.0, length_m - 62.0) };
    let scenario = Scenario {
        light: if rng.chance(0.45) { Light::Night } else { Light::Day },
        length_m,
        lead_at_m: None,
        oncoming_every_m: Some(rng.uniform(60.0, 140.0)),
        width,
        height,
        ..Scenario::new(seed)
    };
    let mut world = World::new(scenario);
    world.sequence = rng.next_u64() % 600;
    place(&mut world, s_m, rng);
    match rng.uniform(0.0, 1.0) {
        kind if kind < 0.45 => add_pedestrian(&mut world, rng),
        kind if kind < 0.75 => add_lead(&mut world, rng),
        _ => {}
    }
    world
}

fn place(world: &mut World, s_m: f64, rng: &mut Rng) {
    let lateral_m = (0.38 * rng.normal()).clamp(-1.1, 1.1);
    let heading = 0.055 * rng.normal();
    let speed_mps = if rng.chance(0.12) { 0.0 } else { rng.uniform(0.0, 11.8).max(rng.uniform(0.0, 11.8)) };
    world.place_ego(s_m, lateral_m, heading, speed_mps);
    world.ego.curvature_1_m += 0.006 * rng.normal();
    world.ego.acceleration_mps2 = if speed_mps > 0.0 { 0.5 * rng.normal() } else { 0.0 };
}

fn add_pedestrian(world: &mut World, rng: &mut Rng) {
    let gap_m = if rng.chance(0.3) { rng.uniform(3.0, 14.0) } else { rng.uniform(3.0, 55.0) };
    let s_m = world.place.s_m + EgoState::FRONT_M + gap_m;
    let mut pedestrian = Pedestrian::new(RoadPoint { s_m, d_m: LANE_CENTER_M + rng.uniform(-0.8, 0.4) });
    if rng.chance(0.3) {
        pedestrian.phase = PedestrianPhase::Leaving;
        pedestrian.at.d_m = LANE_CENTER_M - rng.uniform(0.3, 7.0);
    }
    world.pedestrian = Some(pedestrian);
    slow_for_hazard(world, rng);
}

fn add_lead(world: &mut World, rng: &mut Rng) {
    let near = rng.uniform(3.0, 50.0).min(rng.uniform(3.0, 50.0));
    let mut lead = LeadCar::new(world.place.s_m + EgoState::FRONT_M + near + 2.2);
    lead.pose.speed_mps = rng.uniform(2.0, 9.5);
    world.lead = Some(lead);
    slow_for_hazard(world, rng);
}

/// Mostly a speed from which the expert could still have come; sometimes too fast, so that hard braking is learned as well.
fn slow_for_hazard(world: &mut World, rng: &mut Rng) {
    let expert = world.expert();
    if world.route() == RouteCommand::Follow && expert.control.acceleration_mps2 < -2.0 && rng.chance(0.8) {
        let room_m: f64 = (expert.gap_m - 4.0).max(0.0);
        let closing_mps: f64 = world.lead.as_ref().map_or(0.0, |lead| lead.pose.speed_mps);
        world.ego.speed_mps = (closing_mps + (2.0 * 1.8 * room_m).sqrt() * rng.uniform(0.6, 1.15)).min(world.ego.speed_mps);
    }
}

/// The limit of [`Expert::gap_m`] in the records: this or farther means nobody is ahead.
pub const GAP_CLEAR_M: f64 = Expert::CLEAR_M;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn equal_plans_write_equal_bytes_of_the_documented_size() {
        let plan = Plan { first_seed: 5, episodes: 3, steps: 2, width: 32, height: 16 };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        plan.write(&mut a).unwrap();
        plan.write(&mut b).unwrap();
        assert_eq!(a.len(), HEADER_BYTES + 6 * record_bytes(32, 16));
        assert!(a == b);
    }
}
