//! Power is cut once, and again while the vehicle recovers from that.

use super::{Depth, Tally, World, lives};
use crate::store::sim::{Sampling, SimFs};

/// The seed of the combinations that are drawn: `SWITCHBACK_SEED=n` repeats others.
pub(super) fn seed() -> u64 {
    let given = std::env::var("SWITCHBACK_SEED").ok();
    given.map_or(0x5eed, |text| text.parse().unwrap_or_else(|_| panic!("SWITCHBACK_SEED={text} is no number")))
}

/// Lives that are drawn, besides those that are written down.
const LIVES: u64 = 56;

#[test]
fn power_loss_at_any_operation_leaves_the_old_or_the_new_model_complete() {
    let world = World::new();
    let mut tally = Tally::default();
    let sampling = Sampling { exhaustive_changes_max: 12, exhaustive_blocks_max: 8, random_images: 40, seed: seed() };
    let depth = Depth { complete_every: 37, crash_recovery_every: Some(997) };
    // Rather more lives than every combination in each of them.
    let wide = Sampling { exhaustive_changes_max: 6, random_images: 60, ..sampling };
    for (number, (name, fs, script)) in lives::all(&world).into_iter().enumerate() {
        let sampling = if number < 3 { sampling } else { wide };
        let history = world.live(fs, script).unwrap_or_else(|story| panic!("{name}: {story}"));
        world.crash_everywhere(&history, sampling, depth, &mut tally).unwrap_or_else(|story| panic!("{name}: {story}"));
    }
    // A megabyte for each image: not so many of them.
    let history = world.live(SimFs::new(), lives::large_file).unwrap();
    let few = Sampling { exhaustive_changes_max: 3, exhaustive_blocks_max: 0, random_images: 4, ..sampling };
    let flat = Depth { complete_every: usize::MAX, crash_recovery_every: None };
    world.crash_everywhere(&history, few, flat, &mut tally).unwrap_or_else(|story| panic!("a large file: {story}"));
    for seed in (0..LIVES).map(|number| sampling.seed.wrapping_add(number)) {
        let history = world.live(SimFs::new(), |world, life| lives::by_chance(world, life, seed));
        let found = history.and_then(|history| world.crash_everywhere(&history, Sampling { seed, ..wide }, depth, &mut tally));
        found.unwrap_or_else(|story| panic!("SWITCHBACK_SEED={seed} repeats it: {story}"));
    }
    println!("{} crash images, {} of them distinct, {} of a second crash", tally.images, tally.distinct.len(), tally.second_crashes);
    assert!(tally.distinct.len() >= 100_000, "{} distinct crash images", tally.distinct.len());
}
