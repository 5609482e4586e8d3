//! What a disk may hold after power was lost.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Change, SimFs,
    tree::{NodeId, Tree},
};

/// The smallest piece that a disk writes whole. Larger ones (4 KiB) are unions of these.
const SECTOR: usize = 512;

/// How many images to take of one crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// With up to this many changes that are not durable, every combination of kept and lost is an image.
    pub exhaustive_changes_max: u32,
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
    /// Which changes were lost, for the message of a failing test.
    pub story: String,
}

/// What became of one change that was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Kept,
    Lost,
    /// Only the sectors before this one arrived.
    Head(usize),
    /// Only the sectors from this one on arrived.
    Tail(usize),
}

pub(super) fn images(start: &Tree, log: &[Change], sampling: Sampling) -> Vec<CrashImage> {
    let pending = pending(log);
    let mut fates = BTreeSet::new();
    let all = |fate| vec![fate; pending.len()];
    fates.insert(all(Fate::Kept));
    fates.insert(all(Fate::Lost));
    if pending.len() <= sampling.exhaustive_changes_max as usize {
        for mask in 0..1_u32 << pending.len() {
            fates.insert((0..pending.len()).map(|bit| if mask >> bit & 1 == 1 { Fate::Kept } else { Fate::Lost }).collect());
        }
    }
    for number in 0..pending.len() {
        for (rest, one) in [(Fate::Kept, Fate::Lost), (Fate::Lost, Fate::Kept)] {
            let mut combination = all(rest);
            combination[number] = one;
            fates.insert(combination);
        }
        // A torn write among changes that all arrived, and among changes that all did not.
        let sectors = sectors(&log[pending[number]]);
        for cut in [1, sectors / 2, sectors.saturating_sub(1)] {
            for (rest, one) in [(Fate::Kept, Fate::Head(cut)), (Fate::Kept, Fate::Tail(cut)), (Fate::Lost, Fate::Head(cut))] {
                if cut > 0 && cut < sectors {
                    let mut combination = all(rest);
                    combination[number] = one;
                    fates.insert(combination);
                }
            }
        }
    }
    let mut random = Random(sampling.seed ^ log.len() as u64);
    for _ in 0..sampling.random_images {
        fates.insert(pending.iter().map(|&change| random.fate(sectors(&log[change]))).collect());
    }
    fates.into_iter().map(|fates| image(start, log, &pending, &fates)).collect()
}

/// Numbers of the changes that no later sync made durable.
fn pending(log: &[Change]) -> Vec<usize> {
    let synced_by = |change: &Change, sync: &Change| match (change, sync) {
        (Change::Write { node, .. } | Change::Grow { node, .. }, Change::SyncFile { node: synced }) => node == synced,
        (Change::Link { dir, .. } | Change::Unlink { dir, .. } | Change::Rename { dir, .. }, Change::SyncDir { node }) => dir == node,
        _ => false,
    };
    let is_sync = |change: &Change| matches!(change, Change::SyncFile { .. } | Change::SyncDir { .. });
    (0..log.len()).filter(|&number| !is_sync(&log[number]) && !log[number..].iter().any(|later| synced_by(&log[number], later))).collect()
}

fn sectors(change: &Change) -> usize {
    match change {
        Change::Write { bytes, .. } => bytes.len().div_ceil(SECTOR),
        _ => 1,
    }
}

fn image(start: &Tree, log: &[Change], pending: &[usize], fates: &[Fate]) -> CrashImage {
    let mut tree = start.clone();
    tree.reserve(log);
    let mut story = String::new();
    let mut undecided = pending.iter().zip(fates).peekable();
    for (number, change) in log.iter().enumerate() {
        let fate = undecided.next_if(|(pending, _)| **pending == number).map_or(Fate::Kept, |(_, fate)| *fate);
        if fate != Fate::Kept {
            // Writing to a string cannot fail.
            let _ = writeln!(story, "  change {number} {fate:?}: {}", short(change));
        }
        apply(&mut tree, change, fate);
    }
    CrashImage { fs: SimFs::of(tree), story }
}

fn apply(tree: &mut Tree, change: &Change, fate: Fate) {
    // `reserve` made every node that a change mentions, so nothing here can miss one.
    let result = match (fate, change) {
        (Fate::Kept, _) => tree.apply(change),
        (Fate::Lost, _) => Ok(()),
        (Fate::Head(cut), Change::Write { node, offset, bytes }) => part(tree, *node, *offset, bytes, 0..cut * SECTOR),
        (Fate::Tail(cut), Change::Write { node, offset, bytes }) => part(tree, *node, *offset, bytes, cut * SECTOR..bytes.len()),
        (Fate::Head(_) | Fate::Tail(_), _) => Ok(()),
    };
    debug_assert!(result.is_ok(), "{change:?}: {result:?}");
}

fn part(tree: &mut Tree, node: NodeId, offset: u64, bytes: &[u8], range: std::ops::Range<usize>) -> std::io::Result<()> {
    tree.write(node, offset as usize + range.start, &bytes[range.start..range.end.min(bytes.len())])
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

    fn fate(&mut self, sectors: usize) -> Fate {
        let cut = 1 + (self.next() % sectors.max(2) as u64) as usize;
        match self.next() % 5 {
            0 if cut < sectors => Fate::Head(cut),
            1 if cut < sectors => Fate::Tail(cut),
            0..3 => Fate::Lost,
            _ => Fate::Kept,
        }
    }
}
