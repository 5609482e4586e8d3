//! A step allocates and frees nothing of ours, not even across a swap. Each thread counts its own calls, so that the other tests of this
//! program do not matter.

use std::time::{Duration, Instant};

use crate::common::{From, PATIENCE, Road, SPEED_BREAKS_MPS, Vehicle};
use switchback_onnx::counting::CountingAllocator;
use switchback_sdk::engine::{EngineEvent, Entry, SwapWhen};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// One step; the calls that this thread made to the allocator during it.
fn counted_step(vehicle: &mut Vehicle) -> u64 {
    vehicle.sequence += 1;
    let input = vehicle.input();
    let before = CountingAllocator::calls();
    vehicle.driver.step(&input, &mut vehicle.output);
    CountingAllocator::calls() - before
}

/// Drives, counting every step, until the engine says so; the number of steps.
fn drive_until(vehicle: &mut Vehicle, story: &mut Vec<EngineEvent>, last: fn(&EngineEvent) -> bool) -> u32 {
    let begun = Instant::now();
    let mut steps = 0;
    while begun.elapsed() < PATIENCE {
        if let Some(event) = vehicle.engine.wait_event(Duration::from_micros(200)) {
            match event {
                EngineEvent::Armed { .. } => vehicle.engine.activate(SwapWhen::Anytime).unwrap(),
                EngineEvent::TrialPassed { .. } => vehicle.engine.confirm().unwrap(),
                _ => {}
            }
            story.push(event);
            if last(story.last().unwrap()) {
                return steps;
            }
        }
        let calls = counted_step(vehicle);
        assert_eq!(calls, 0, "step {} after {:?}", vehicle.sequence, story.last());
        assert!(vehicle.output.control_valid);
        steps += 1;
    }
    panic!("the story ends with {:?}", story.last());
}

#[test]
fn a_step_neither_allocates_nor_frees_through_shadow_swap_trial_and_confirmation() {
    let before = CountingAllocator::calls();
    drop(std::hint::black_box(Box::new(1_u8)));
    assert_eq!(CountingAllocator::calls() - before, 2, "the counter counts");

    let mut vehicle = Vehicle::driving(&Road::default());
    let mut story = Vec::new();
    for generation in 2..5 {
        vehicle.load(Road { control: [0.0, 0.1], ..Road::default() }.files(generation, Entry::Candidate));
        let steps = drive_until(&mut vehicle, &mut story, |event| matches!(event, EngineEvent::Freed { .. }));
        assert!(steps >= 15, "five frames in shadow and ten on trial, not {steps}");
    }
    assert_eq!(vehicle.output.model.generation, 4);
}

#[test]
fn a_step_that_falls_back_frees_nothing_either() {
    let mut vehicle = Vehicle::driving(&Road::default());
    let mut story = Vec::new();
    vehicle.load(Road::default().breaking_by_speed(From::NotFinite).files(2, Entry::Candidate));
    drive_until(&mut vehicle, &mut story, |event| matches!(event, EngineEvent::Swapped { .. }));
    vehicle.speed_mps = SPEED_BREAKS_MPS;
    drive_until(&mut vehicle, &mut story, |event| matches!(event, EngineEvent::Freed { generation: 2 }));
    assert!(story.iter().any(|event| matches!(event, EngineEvent::RolledBack { .. })));
}
