//! Whatever is asked of the engine in whatever order, a model that was loaded ends in exactly one way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::common::{From, PATIENCE, Road, SPEED_BREAKS_MPS, SPEED_MPS, Vehicle};
use switchback_sdk::drive::Mode;
use switchback_sdk::engine::{EngineEvent, Entry, Phase, SwapWhen};

/// Numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Sound, or failing when the vehicle drives faster; to be compared in shadow, or confirmed before.
    fn model(&mut self) -> (Road, Entry) {
        let better = Road { control: [0.02, 0.25], ..Road::default() };
        let road = match self.below(4) {
            0 => better.breaking_by_speed(From::NotFinite),
            1 => better.breaking_by_speed(From::Envelope),
            2 => Road { breaks: From::RunFails(3), ..better },
            _ => better,
        };
        (road, if self.below(4) == 0 { Entry::Confirmed } else { Entry::Candidate })
    }
}

/// How each model ended, by generation.
#[derive(Default)]
struct Ends(BTreeMap<u64, Vec<String>>);

impl Ends {
    fn collect(&mut self, vehicle: &Vehicle, wait: Duration) {
        let mut wait = wait;
        while let Some(event) = vehicle.engine.wait_event(wait) {
            let (EngineEvent::Refused { generation, .. }
            | EngineEvent::Confirmed { generation }
            | EngineEvent::RolledBack { generation, .. }) = event
            else {
                continue;
            };
            self.0.entry(generation).or_default().push(format!("{event:?}"));
            wait = Duration::ZERO;
        }
    }
}

fn play(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut vehicle = Vehicle::driving(&Road::default());
    vehicle.mode = Mode::Standby;
    let mut ends = Ends::default();
    let mut generation = 1;
    for _ in 0..300 {
        match dice.below(12) {
            0 if matches!(vehicle.engine.status().phase, Phase::Idle | Phase::Settling) => {
                generation += 1;
                let (road, entry) = dice.model();
                vehicle.load(road.files(generation, entry));
            }
            // Refused in the wrong phase, and too late in the right one: both are legal.
            1 | 2 => {
                let when = if dice.below(2) == 0 { SwapWhen::Anytime } else { SwapWhen::Disengaged };
                drop(vehicle.engine.activate(when));
            }
            3 if dice.below(4) == 0 => drop(vehicle.engine.cancel()),
            4 | 5 => drop(vehicle.engine.confirm()),
            6 if dice.below(3) == 0 => drop(vehicle.engine.roll_back()),
            6 if dice.below(3) == 0 => drop(vehicle.engine.hold()),
            6 => vehicle.mode = if dice.below(2) == 0 { Mode::Standby } else { Mode::Engaged },
            7 => vehicle.speed_mps = if dice.below(3) == 0 { SPEED_BREAKS_MPS } else { SPEED_MPS },
            _ => {
                vehicle.step();
            }
        }
        let wait = Duration::from_micros(dice.below(3) * 500);
        ends.collect(&vehicle, wait);
    }
    let begun = Instant::now();
    while vehicle.engine.status().phase != Phase::Idle || (2..=generation).any(|generation| !ends.0.contains_key(&generation)) {
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: {:?}, {:?}", vehicle.engine.status(), ends.0);
        vehicle.step();
        let _ = (vehicle.engine.cancel(), vehicle.engine.roll_back());
        ends.collect(&vehicle, Duration::from_millis(1));
    }
    // What is still on its way after the last one has settled would be one too many.
    (0..5).for_each(|_| {
        vehicle.step();
    });
    ends.collect(&vehicle, Duration::from_millis(20));
    for generation in 2..=generation {
        assert_eq!(ends.0[&generation].len(), 1, "seed {seed}, generation {generation}: {:?}", ends.0[&generation]);
    }
    assert!(generation > 2, "seed {seed} loads nothing");
}

#[test]
fn a_model_ends_in_exactly_one_way_whatever_is_asked_in_between() {
    (1..=20).for_each(play);
}
