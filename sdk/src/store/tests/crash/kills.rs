//! A process ends at any operation, power stays, and the next process goes on: what it has seen is not lost when power is cut later.

use super::{Depth, Tally, World, lives, power::seed};
use crate::store::sim::Sampling;

#[test]
fn what_a_process_finds_after_another_one_was_killed_survives_a_power_cut() {
    let world = World::new();
    let mut tally = Tally::default();
    let sampling = Sampling { exhaustive_changes_max: 0, exhaustive_blocks_max: 0, random_images: 1, seed: seed() };
    let depth = Depth { complete_every: usize::MAX, crash_recovery_every: None };
    let mut kills = 0;
    for (name, fs, script) in lives::all(&world).into_iter().take(2) {
        let whole = world.live(fs, script).unwrap_or_else(|story| panic!("{name}: {story}"));
        for point in 0..whole.fs.crash_points() {
            let (fs, before) = whole.killed(point);
            let after = world.live_on(fs, before, lives::one_more_update);
            let found = after.and_then(|after| world.crash_everywhere(&after, sampling, depth, &mut tally));
            found.unwrap_or_else(|story| panic!("{name}, killed after change {point}: {story}"));
            kills += 1;
        }
    }
    println!("{kills} kills, {} crash images, {} of them distinct", tally.images, tally.distinct.len());
    assert!(kills > 300, "{kills}");
}
