use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{TestRepositories, identity};
use crate::{
    time::UnixTime,
    trust::{Action, Challenge, FetchFailure, FetchRequest, Installed, MetadataCache, MetadataCheck, Outcome, TrustError, VehicleIdentity},
};

/// A vehicle with a disk in memory.
#[derive(Clone)]
pub struct TestVehicle {
    /// What is on its disk.
    pub disk: MetadataCache,
    /// What it is.
    pub identity: VehicleIdentity,
    /// What it runs.
    pub installed: Installed,
    /// Whether it asks the Director with a nonce.
    pub challenge: Option<Challenge>,
    /// What it did in its last check: `get Director timestamp.json`, `put Director timestamp.json`, `delete ...`.
    pub log: Vec<String>,
}

impl TestVehicle {
    /// Vehicle `v-1`, fresh from the factory.
    pub fn new(repositories: &TestRepositories) -> Self {
        let disk = MetadataCache::provision(&repositories.anchors());
        Self { disk, identity: identity(), installed: Installed::default(), challenge: None, log: Vec::new() }
    }

    /// Runs a check against the repositories.
    pub fn check(&mut self, repositories: &TestRepositories, now: UnixTime) -> Outcome {
        self.check_with(now, |request| repositories.fetch(request))
    }

    /// Runs a check and expects it to refuse.
    pub fn refusal(&mut self, repositories: &TestRepositories, now: UnixTime) -> TrustError {
        match self.check(repositories, now) {
            Outcome::Refused(error) => error,
            outcome => panic!("expected a refusal, found {outcome:?}"),
        }
    }

    /// Runs a check with answers of the test's choice.
    pub fn check_with(&mut self, now: UnixTime, fetch: impl FnMut(&FetchRequest) -> Result<Vec<u8>, FetchFailure>) -> Outcome {
        self.check_until_write(now, fetch, usize::MAX).expect("no power cut was asked for")
    }

    /// Runs a check and cuts the power before the disk's write of this number, counted from 0; nothing when that happened.
    pub fn check_until_write(
        &mut self,
        now: UnixTime,
        mut fetch: impl FnMut(&FetchRequest) -> Result<Vec<u8>, FetchFailure>,
        cut: usize,
    ) -> Option<Outcome> {
        let mut check = MetadataCheck::start(self.disk.clone(), self.identity.clone(), self.installed, now);
        if let Some(challenge) = self.challenge {
            check = check.with_challenge(challenge);
        }
        self.log.clear();
        let mut writes = 0;
        loop {
            match check.next() {
                Action::Fetch(request) => {
                    self.log.push(format!("get {} {}", request.repository, request.file_name));
                    check.fetched(fetch(&request));
                    continue;
                }
                Action::Finished(outcome) => {
                    assert_eq!(check.into_cache(), self.disk, "the check and the disk hold the same");
                    return Some(outcome);
                }
                Action::Persist { .. } | Action::Remove { .. } if writes == cut => return None,
                Action::Persist { repository, file_name, bytes } => {
                    self.log.push(format!("put {repository} {file_name}"));
                    self.disk.insert(repository, &file_name, bytes);
                }
                Action::Remove { repository, file_name } => {
                    self.log.push(format!("delete {repository} {file_name}"));
                    self.disk.remove(repository, &file_name);
                }
            }
            writes += 1;
            check.persisted();
        }
    }

    /// The last check's log, one entry a line.
    pub fn log(&self) -> String {
        self.log.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
