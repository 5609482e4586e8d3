//! The simulator with its expert: what the models' training and every closed-loop claim rest on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use switchback_road_sim::{Control, Intent, Light, Scenario, Status, World};

/// 120 s: any of these roads takes less.
const STEPS_MAX: usize = 2400;

fn drive(scenario: Scenario, mut each: impl FnMut(&World)) -> Status {
    let mut world = World::new(scenario);
    for _ in 0..STEPS_MAX {
        each(&world);
        if world.status().done {
            break;
        }
        world.step(world.expert().control);
    }
    world.status()
}

#[test]
fn equal_scenarios_answer_equal_controls_with_equal_pixels() {
    let run = || {
        let mut world = World::new(Scenario::new(42).at_night().with_pedestrian(60.0));
        for step in 0..60 {
            world.step(Control { curvature_1_m: 0.001 * f64::from(step % 5), acceleration_mps2: 0.3 });
        }
        let observation = world.observe();
        (observation.frame, observation.ego, world.status())
    };
    assert_eq!(run(), run());
}

#[test]
fn another_seed_is_another_road() {
    let at_200_m = |seed| World::new(Scenario::new(seed)).road().at(200.0).heading_rad;
    assert!((at_200_m(1) - at_200_m(2)).abs() > 1e-3);
}

#[test]
fn night_is_darker_than_day() {
    let brightness = |light: Light| {
        let frame = World::new(Scenario { light, ..Scenario::new(8) }).observe().frame;
        frame.rgb.iter().map(|value| u64::from(*value)).sum::<u64>()
    };
    assert!(brightness(Light::Night) * 2 < brightness(Light::Day));
}

#[test]
fn the_expert_stays_in_its_lane_and_arrives() {
    for seed in 0..24 {
        let mut scenario = Scenario::new(seed);
        if seed % 2 == 1 {
            scenario = scenario.at_night();
        }
        let end = drive(scenario, |world| {
            let status = world.status();
            assert!(!status.off_lane, "seed {seed}: {status:?}");
            assert!(status.lateral_offset_m.abs() < 0.35, "seed {seed}: {status:?}");
        });
        assert!(end.done && !end.collided && end.progress_m > 440.0, "seed {seed}: {end:?}");
    }
}

#[test]
fn the_expert_stops_before_the_pedestrian_and_goes_on_when_let() {
    for seed in 100..112 {
        let (mut stood, mut gestured) = (false, false);
        let end = drive(Scenario::new(seed).with_pedestrian(150.0), |world| {
            stood |= world.ego().speed_mps < 0.1 && (130.0..147.0).contains(&world.status().progress_m);
            gestured |= world.expert().intent == Intent::GestureStop;
        });
        assert!(stood && gestured && end.stopped_for_pedestrian, "seed {seed}: {end:?}");
        assert!(end.done && !end.collided && end.progress_m > 440.0, "seed {seed}: {end:?}");
    }
}

#[test]
fn the_expert_comes_back_to_the_middle_from_either_side() {
    for lateral_m in [-0.8, 0.8] {
        let mut world = World::new(Scenario::new(5).without_lead());
        world.place_ego(40.0, lateral_m, 0.0, 9.0);
        for _ in 0..100 {
            world.step(world.expert().control);
        }
        assert!(world.status().lateral_offset_m.abs() < 0.15, "{:?}", world.status());
    }
}

#[test]
fn the_plan_of_the_expert_is_what_it_then_drives() {
    let mut world = World::new(Scenario::new(9).without_lead());
    for _ in 0..40 {
        world.step(world.expert().control);
    }
    let (start, plan) = (*world.ego(), world.expert().trajectory);
    for _ in 0..20 {
        world.step(world.expert().control);
    }
    let (x, y) = start.from_world(world.ego().x_m, world.ego().y_m);
    let planned = plan[9];
    assert!((planned[0] - x).abs() < 0.05 && (planned[1] - y).abs() < 0.05, "{planned:?} but {x} {y}");
}

#[test]
fn driving_on_without_steering_leaves_the_lane() {
    let mut world = World::new(Scenario::new(3));
    let mut left = false;
    for _ in 0..400 {
        world.step(Control::default());
        left |= world.status().off_lane;
    }
    assert!(left);
}

#[test]
fn driving_into_the_pedestrian_is_a_collision() {
    let mut world = World::new(Scenario::new(3).with_pedestrian(60.0));
    for _ in 0..400 {
        let steer = world.expert().control.curvature_1_m;
        world.step(Control { curvature_1_m: steer, acceleration_mps2: 1.0 });
    }
    assert!(world.status().collided && !world.status().stopped_for_pedestrian);
}
