//! The order of the operations matters: each of these does the same things in another order, and is noticed.

use std::{path::Path, sync::Arc};

use super::super::{failure, incoming};
use super::{Depth, Recorder, Tally, World, lives};
use crate::store::{
    Access, Checkpoint, Folder, OpenFileRecord, Site, SlotState, StoreError, TRIES_MAX, Verdict,
    sim::{Sampling, SimFs},
    slot,
};

/// A vehicle that drives with release 1, from where every mutant goes on.
fn driving(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.start()?;
    let slot = lives::download(life, world.release(1), lives::Checkpoints::Never)?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    life.step("confirm", |store| store.confirm(slot)).map(drop)
}

/// The slot is emptied before it is declared invalid.
fn clear_before_invalid(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    let slot = lives::download(life, world.release(2), lives::Checkpoints::Never)?;
    slot::clear(life.store().fs.as_ref(), slot)?;
    life.store().fs.clone().sync_dir(&slot::directory(slot), Site::here()).unwrap();
    life.step("reject", |store| store.reject(slot, failure(Verdict::Counted)))
}

/// The checkpoint is written before the names that it counts on are durable.
fn checkpoint_before_data(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    let release = world.release(2);
    let mut installation = lives::prepare(life, release)?;
    let mut reader = release.reader(0, &[]);
    for number in 0..3 {
        release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
    }
    let begun = life.store().records.generation();
    let open = installation.open_position().map(|open| OpenFileRecord { path: open.path, written: open.written });
    let checkpoint = Checkpoint { begun, next_chunk: 3, open };
    life.store().checkpoints.write(&checkpoint)?;
    installation.sync()?;
    life.store().checkpoint = Some(checkpoint);
    life.next_chunk = Some(3);
    life.reached("checkpoint");
    Ok(())
}

/// The release is declared complete before its names are durable.
fn pending_before_data(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    let release = world.release(2);
    let mut installation = lives::prepare(life, release)?;
    let mut reader = release.reader(0, &[]);
    for number in 0..release.index.rows().len() as u64 {
        release.read_chunk(&mut reader, number, |event| installation.apply(event))?;
    }
    let pending = SlotState::pending(incoming(release).occupant, TRIES_MAX);
    let state = life.store().state.with_slot(installation.slot(), pending)?;
    life.store().commit(state)?;
    installation.sync()?;
    life.reached("finish");
    Ok(())
}

/// The model drives before its try is written down.
fn drive_before_try(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    let slot = lives::download(life, world.release(2), lives::Checkpoints::Never)?;
    let before = life.store().state.clone();
    let SlotState::Pending { occupant, tries_left, .. } = before.slot(slot).clone() else { panic!("{before:?}") };
    life.store().state = before.with_slot(slot, SlotState::Trial { occupant, tries_left: tries_left - 1 })?;
    // From here on it drives.
    life.reached("swap");
    let state = life.store().state.clone();
    life.step("begin trial", |store| store.commit(state))
}

/// The floor rises with the installation.
fn floor_before_confirmation(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    let slot = lives::download(life, world.release(2), lives::Checkpoints::Never)?;
    let mut state = life.store().state.clone();
    state.raise_floor(2);
    life.step("raise the floor", |store| store.commit(state))?;
    life.step("begin trial", |store| store.begin_trial(slot))
}

/// The newest record is written over, where the other one should be.
fn record_over_the_newest(_: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.store().records.swap_files();
    life.step("reserve report counters", |store| store.reserve_report_counters(3)).map(drop)
}

/// A document gets its name before its bytes are durable.
fn name_before_bytes(_: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.write_document("targets.json", b"first")?;
    let fs = Arc::clone(&life.store().fs);
    let [new, name] = ["targets.json.new", "targets.json"].map(|name| Path::new(Folder::Image.name()).join(name));
    fs.create(&new).unwrap().write_at(0, b"second", Site::here()).unwrap();
    fs.rename(&new, &name).unwrap();
    fs.open(&name, Access::ReadWrite).unwrap().sync(Site::here()).unwrap();
    fs.sync_dir(Path::new(Folder::Image.name()), Site::here()).unwrap();
    life.documents.insert("targets.json".into(), b"second".to_vec());
    life.reached("write a document");
    Ok(())
}

/// A document is removed before another one is written in its place.
fn removed_before_replaced(_: &World, life: &mut Recorder) -> Result<(), StoreError> {
    life.write_document("targets.json", b"first")?;
    life.store().remove_document(Folder::Image, "targets.json")?;
    life.write_document("targets.json", b"second")
}

/// The release before is let go in a record of its own, before the new one is confirmed.
fn confirmed_before_the_other_is_let_go(world: &World, life: &mut Recorder) -> Result<(), StoreError> {
    let slot = lives::download(life, world.release(2), lives::Checkpoints::Never)?;
    life.step("begin trial", |store| store.begin_trial(slot))?;
    // In two records instead of one.
    let old = slot.other();
    let state = life.store().state.with_slot(old, SlotState::Invalid)?;
    life.store().commit(state)?;
    let confirmed = life.store().state.with_confirmed(slot)?;
    life.step("confirm", |store| store.commit(confirmed))
}

#[test]
fn no_two_steps_can_change_places() {
    let mutants: [(&str, lives::Script); 9] = [
        ("clear before invalid", clear_before_invalid),
        ("checkpoint before data", checkpoint_before_data),
        ("pending before data", pending_before_data),
        ("drive before try", drive_before_try),
        ("floor before confirmation", floor_before_confirmation),
        ("record over the newest", record_over_the_newest),
        ("name before bytes", name_before_bytes),
        ("removed before replaced", removed_before_replaced),
        ("confirmed in two records", confirmed_before_the_other_is_let_go),
    ];
    let world = World::new();
    let sampling = Sampling { exhaustive_changes_max: 6, exhaustive_blocks_max: 0, random_images: 10, seed: 3 };
    let depth = Depth { complete_every: usize::MAX, crash_recovery_every: None };
    let search = |mutant: Option<lives::Script>| {
        let script = |world: &World, life: &mut Recorder| {
            driving(world, life)?;
            mutant.map_or(Ok(()), |mutant| mutant(world, life))
        };
        let history = world.live(SimFs::new(), script)?;
        world.crash_everywhere(&history, sampling, depth, &mut Tally::default())
    };
    search(None).unwrap();
    for (name, mutant) in mutants {
        let story = search(Some(mutant)).expect_err(name);
        println!("{name}: {}", story.lines().find(|line| line.contains("->")).or(story.lines().next()).unwrap_or_default());
    }
}
