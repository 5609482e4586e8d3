//! What a disk may hold after power was lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    sync::Arc,
};

use super::{
    Change, SimFs,
    tree::{Beyond, Torn, Tree, blocks},
};

/// Disks write one of these as a whole: the sector of old, the page of today.
const BLOCKS: [usize; 2] = [512, 4096];

/// How many images to take of one crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// With up to this many changes that are not durable, every combination of kept and lost is an image.
    pub exhaustive_changes_max: u32,
    /// Of a write of up to so many blocks, every combination that can arrive is an image. A record of the store has 8.
    pub exhaustive_blocks_max: usize,
    /// Combinations drawn at random beyond that, torn writes included.
    pub random_images: usize,
    /// Where the random combinations come from; print it when a test fails.
    pub seed: u64,
}

/// What a disk may hold after power was lost.
#[derive(Clone, Debug)]
pub struct CrashImage {
    /// The disk.
    pub fs: SimFs,
    fates: Vec<Fate>,
    /// The changes that were not durable; the same for all images of a point.
    pending: Arc<[(usize, Change)]>,
}

impl CrashImage {
    /// Which changes were lost, for the message of a failing test.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for ((number, change), fate) in self.pending.iter().zip(&self.fates).filter(|(_, fate)| **fate != Fate::Kept) {
            // Writing to a string cannot fail.
            let _ = writeln!(story, "  change {number} {fate:?}: {}", short(change));
        }
        story
    }
}

/// What became of one change that was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Kept,
    Lost,
    /// Of a write, not all blocks arrived, or not the length of the file.
    Torn(Torn),
    /// Of a renaming, the new name arrived, and the old one is still there.
    BothNames,
    /// Of a renaming, the old name is gone, and the new one is what it was.
    OldNameGone,
}

/// What the disk may hold when power is lost after the last change of `log`.
pub(super) fn images(start: &Tree, log: &[Change], sampling: Sampling) -> Vec<CrashImage> {
    let pending = pending(log);
    let fates = fates(log, &pending, sampling);
    // All images have the changes before the first one that is not durable.
    let (common, rest) = log.split_at(pending.first().copied().unwrap_or(log.len()));
    let mut tree = start.clone();
    tree.reserve(log);
    for change in common {
        apply(&mut tree, change, Fate::Kept);
    }
    let undecided: Arc<[_]> = pending.iter().map(|&number| (number, log[number].clone())).collect();
    let image = |fates: Vec<Fate>| {
        let fs = SimFs::of(image(&tree, common.len(), rest, &pending, &fates));
        CrashImage { fs, fates, pending: Arc::clone(&undecided) }
    };
    fates.into_iter().map(image).collect()
}

fn fates(log: &[Change], pending: &[usize], sampling: Sampling) -> BTreeSet<Vec<Fate>> {
    let mut found = BTreeSet::new();
    let all = |fate| vec![fate; pending.len()];
    found.insert(all(Fate::Kept));
    found.insert(all(Fate::Lost));
    if pending.len() <= sampling.exhaustive_changes_max as usize {
        for mask in 0..1_u32 << pending.len() {
            found.insert((0..pending.len()).map(|bit| if mask >> bit & 1 == 1 { Fate::Kept } else { Fate::Lost }).collect());
        }
    }
    // Each change in each way by itself: among changes that all arrived, and among changes that all did not.
    for number in 0..pending.len() {
        for fate in parts(&log[pending[number]], sampling.exhaustive_blocks_max) {
            for rest in [Fate::Kept, Fate::Lost] {
                let mut combination = all(rest);
                combination[number] = fate;
                found.insert(combination);
            }
        }
    }
    let mut random = Random(sampling.seed ^ log.len() as u64);
    for _ in 0..sampling.random_images {
        found.insert(pending.iter().map(|&change| random.fate(&log[change])).collect());
    }
    found
}

/// Numbers of the changes that no later sync made durable, and that can show: what happened to a file or folder whose removal is durable
/// cannot.
fn pending(log: &[Change]) -> Vec<usize> {
    let (mut synced_files, mut synced_dirs) = (BTreeMap::new(), BTreeMap::new());
    for (number, change) in log.iter().enumerate() {
        match change {
            Change::SyncFile { node } => synced_files.insert(*node, number),
            Change::SyncDir { node } => synced_dirs.insert(*node, number),
            _ => None,
        };
    }
    let is_durable = |number: usize| match &log[number] {
        Change::Write { node, .. } | Change::Grow { node, .. } => synced_files.get(node).is_some_and(|&sync| sync > number),
        Change::Link { dir, .. } | Change::Unlink { dir, .. } | Change::Rename { dir, .. } => {
            synced_dirs.get(dir).is_some_and(|&sync| sync > number)
        }
        Change::SyncFile { .. } | Change::SyncDir { .. } => true,
    };
    let mut gone = BTreeSet::new();
    for number in (0..log.len()).filter(|&number| is_durable(number)) {
        match &log[number] {
            Change::Unlink { node, .. } | Change::Rename { replaced: Some(node), .. } => gone.insert(*node),
            _ => false,
        };
    }
    // A folder is made before what is in it, so one pass finds everything below those that are gone.
    for change in log {
        if let Change::Link { dir, node, .. } = change
            && gone.contains(dir)
        {
            gone.insert(*node);
        }
    }
    let shows = |change: &Change| match change {
        Change::Write { node, .. } | Change::Grow { node, .. } => !gone.contains(node),
        Change::Link { dir, .. } | Change::Unlink { dir, .. } | Change::Rename { dir, .. } => !gone.contains(dir),
        Change::SyncFile { .. } | Change::SyncDir { .. } => false,
    };
    (0..log.len()).filter(|&number| !is_durable(number) && shows(&log[number])).collect()
}

/// The ways in which a change can have happened for itself.
fn parts(change: &Change, blocks_max: usize) -> Vec<Fate> {
    let mut found = vec![Fate::Kept, Fate::Lost];
    match change {
        Change::Write { offset, bytes, .. } => {
            for block in BLOCKS {
                let blocks = blocks(*offset as usize, bytes.len(), block);
                for beyond in [Beyond::OldLength, Beyond::Zeros, Beyond::Garbage] {
                    let torn = |arrived| Fate::Torn(Torn { block, arrived, beyond });
                    if blocks <= blocks_max {
                        found.extend((0..1 << blocks).map(torn));
                        continue;
                    }
                    found.extend([0, u64::MAX].map(torn));
                    for cut in (1..blocks.min(64)).filter(|&cut| cut == 1 || cut == blocks / 2 || cut + 1 == blocks) {
                        // The blocks before, and those behind.
                        found.extend([(1 << cut) - 1, u64::MAX << cut].map(torn));
                    }
                }
            }
        }
        Change::Rename { .. } => found.extend([Fate::BothNames, Fate::OldNameGone]),
        _ => {}
    }
    found
}

fn image(tree: &Tree, first: usize, rest: &[Change], pending: &[usize], fates: &[Fate]) -> Tree {
    let mut tree = tree.clone();
    let mut undecided = pending.iter().zip(fates).peekable();
    for (number, change) in (first..).zip(rest) {
        let fate = undecided.next_if(|(pending, _)| **pending == number).map_or(Fate::Kept, |(_, fate)| *fate);
        apply(&mut tree, change, fate);
    }
    tree
}

fn apply(tree: &mut Tree, change: &Change, fate: Fate) {
    // `reserve` made every node that a change mentions, so nothing here can miss one.
    let result = match (fate, change) {
        (Fate::Kept, _) => tree.apply(change),
        (Fate::Torn(torn), Change::Write { node, offset, bytes }) => tree.write_torn(*node, *offset as usize, bytes, torn),
        (Fate::BothNames, Change::Rename { dir, to, node, .. }) => tree.link(*dir, to.clone(), *node),
        (Fate::OldNameGone, Change::Rename { dir, from, node, .. }) => {
            tree.apply(&Change::Unlink { dir: *dir, name: from.clone(), node: *node })
        }
        (Fate::Lost | Fate::Torn(_) | Fate::BothNames | Fate::OldNameGone, _) => io::Result::Ok(()),
    };
    debug_assert!(result.is_ok(), "{change:?}: {result:?}");
}

fn short(change: &Change) -> String {
    match change {
        Change::Write { node, offset, bytes } => format!("Write {{ node: {node}, offset: {offset}, bytes: {} }}", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// SplitMix64: a few lines, and the same images on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize]
    }

    /// Half of the changes as a whole or not at all, the others in parts, if they have any.
    fn fate(&mut self, change: &Change) -> Fate {
        let whole = self.one_of(&[Fate::Kept, Fate::Lost]);
        match change {
            _ if self.next().is_multiple_of(2) => whole,
            Change::Write { .. } => {
                let (block, arrived) = (self.one_of(&BLOCKS), self.next());
                Fate::Torn(Torn { block, arrived, beyond: self.one_of(&[Beyond::OldLength, Beyond::Zeros, Beyond::Garbage]) })
            }
            Change::Rename { .. } => self.one_of(&[Fate::BothNames, Fate::OldNameGone]),
            _ => whole,
        }
    }
}
