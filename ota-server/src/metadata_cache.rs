//! What the Director signed lately, so that a vehicle which just learned of a new version finds it without a SQL statement.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Entries of one generation. Two generations of 4,096 files of about 700 bytes are some 6 MiB.
const GENERATION: usize = 4_096;

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The vehicle.
    pub vehicle_id: Arc<str>,
    /// The role.
    pub role: &'static str,
    /// Its version; the bytes of one version never change.
    pub version: u64,
}

/// A bounded cache in two generations: when the young one is full it becomes the old one, and the old one is dropped.
#[derive(Debug, Default)]
pub struct MetadataCache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<CacheKey, Arc<[u8]>>,
    old: HashMap<CacheKey, Arc<[u8]>>,
}

impl MetadataCache {
    /// Adds a file.
    pub fn insert(&self, key: CacheKey, bytes: Arc<[u8]>) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, bytes);
    }

    /// The file, if it is still there.
    #[must_use]
    pub fn find(&self, key: &CacheKey) -> Option<Arc<[u8]>> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(key).or_else(|| generations.old.get(key)).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_cache_keeps_the_newest_entries_and_a_bounded_number_of_them() {
        let cache = MetadataCache::default();
        let key = |version| CacheKey { vehicle_id: "v".into(), role: "timestamp", version };
        for version in 0..10 * GENERATION as u64 {
            cache.insert(key(version), Arc::from(version.to_le_bytes()));
        }
        let newest = 10 * GENERATION as u64 - 1;
        assert_eq!(cache.find(&key(newest)).unwrap().as_ref(), newest.to_le_bytes());
        let kept = (0..=newest).filter(|version| cache.find(&key(*version)).is_some()).count();
        assert!((GENERATION..=2 * GENERATION).contains(&kept), "{kept}");
    }
}
