//! Every line of the store that writes something or makes it durable matters.

use std::{collections::BTreeSet, sync::OnceLock};

use super::{Depth, Tally, World, lives};
use crate::store::{
    Site,
    sim::{Fault, Request, Sampling, SimFs},
};

/// The sources of the store, without the disks and the tests.
const SOURCES: [(&str, &str); 4] = [
    ("mod.rs", include_str!("../../mod.rs")),
    ("slot.rs", include_str!("../../slot.rs")),
    ("record.rs", include_str!("../../record.rs")),
    ("documents.rs", include_str!("../../documents.rs")),
];

/// What writes or syncs, for itself or, being `#[track_caller]`, for its caller.
const CALLS: [&str; 9] =
    [".write_at(", ".sync(", ".sync_dir(", ".commit(", "records.write(", "checkpoints.write(", "documents::sync(", " sync(", "(sync("];

const SAMPLING: Sampling = Sampling { exhaustive_changes_max: 4, exhaustive_blocks_max: 0, random_images: 4, seed: 1 };
const FEW: Sampling = Sampling { exhaustive_changes_max: 0, exhaustive_blocks_max: 0, random_images: 0, seed: 1 };
const DEPTH: Depth = Depth { complete_every: 5, crash_recovery_every: None };

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

/// Runs every life with something left out, and cuts the power everywhere, also after the process was killed; `Err` says how the omission
/// was noticed.
fn live_without(fault: Fault) -> Result<(), String> {
    for (_, fs, script) in lives::all(world()) {
        fs.set_fault(Some(fault));
        let history = world().live(fs, script)?;
        world().crash_everywhere(&history, SAMPLING, DEPTH, &mut Tally::default())?;
    }
    let fs = SimFs::new();
    fs.set_fault(Some(fault));
    let history = world().live(fs, lives::large_file)?;
    world().crash_everywhere(&history, FEW, DEPTH, &mut Tally::default())?;
    // Only after a kill does it matter what a start makes durable.
    let whole = world().live(SimFs::new(), lives::updates)?;
    for point in 0..whole.fs.crash_points() {
        let (fs, before) = whole.killed(point);
        fs.set_fault(Some(fault));
        let after = world().live_on(fs, before, lives::one_more_update)?;
        world().crash_everywhere(&after, FEW, DEPTH, &mut Tally::default())?;
    }
    Ok(())
}

/// Lines that ask for something to be written or made durable, as `file:line`.
fn written_down() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (file, text) in SOURCES {
        let (mut tracks_caller, mut for_its_caller) = (false, false);
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            tracks_caller |= code.contains("#[track_caller]");
            if code.contains("fn ") {
                (for_its_caller, tracks_caller) = (tracks_caller, false);
            } else if !for_its_caller && CALLS.iter().any(|call| code.contains(call)) {
                found.insert(format!("{file}:{}", number + 1));
            }
        }
    }
    found
}

fn observed() -> BTreeSet<(Request, Site)> {
    let large: (_, _, lives::Script) = ("a large file", SimFs::new(), lives::large_file);
    lives::all(world()).into_iter().chain([large]).flat_map(|(_, fs, script)| world().live(fs, script).unwrap().fs.sites()).collect()
}

#[test]
fn every_line_that_writes_or_syncs_is_run_by_a_crash_test() {
    let run: BTreeSet<String> = observed().iter().map(|(_, site)| format!("{site:?}")).collect();
    assert_eq!(run, written_down());
}

#[test]
fn no_line_that_writes_or_syncs_can_be_left_out() {
    let sites: Vec<_> = observed().into_iter().collect();
    let mut unnoticed = Vec::new();
    for (request, site) in &sites {
        match live_without(Fault::SiteIgnored(*request, *site)) {
            Ok(()) => unnoticed.push((*request, *site)),
            Err(story) => println!("{site:?} {request:?}: {}", story.lines().last().unwrap_or_default()),
        }
    }
    assert_eq!(unnoticed, [], "of {} lines", sites.len());
}

/// As it is at run time: a line that matters in one of its calls need not in another.
#[test]
fn no_single_sync_or_write_of_an_update_can_be_left_out() {
    let live = |fault| {
        let fs = SimFs::new();
        fs.set_fault(fault);
        world().live(fs, lives::updates)
    };
    let whole = live(None).unwrap().fs;
    let (syncs, writes) = (whole.syncs(), whole.writes());
    let faults = (0..syncs).map(Fault::SyncIgnored).chain((0..writes).map(Fault::WriteIgnored));
    let noticed = |fault| live(Some(fault)).and_then(|history| world().crash_everywhere(&history, SAMPLING, DEPTH, &mut Tally::default()));
    let unnoticed: Vec<Fault> = faults.filter(|fault| noticed(*fault).is_ok()).collect();
    println!("{syncs} syncs, {writes} writes");
    assert!(syncs > 40 && writes > 40, "{syncs} {writes}");
    assert_eq!(unnoticed, []);
}
