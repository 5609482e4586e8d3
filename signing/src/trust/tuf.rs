//! The TUF-only mode: one repository and no Director.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::mem;

use super::{
    Action, FetchFailure, MetadataCache, Repository, TrustError,
    client::Client,
    image::{FileCheck, consistent},
    refresh::Held,
    search::Search,
    verify::Rules,
};
use crate::{
    metadata::{Hashes, TargetMeta},
    time::UnixTime,
};

/// One repository by the TUF specification alone (section 5, "detailed client workflow"), for fleets without a Director and for any
/// TUF repository: what it finds is what the repository's keys signed, and nothing says that it is meant for this vehicle. A vehicle
/// that has a Director uses [`super::MetadataCheck`], which holds both repositories to more than this.
///
/// Like that check it does no input or output of its own: call [`TufOnly::next`], do what it says, answer, and repeat until it has
/// finished. Then search for as many targets as there are to find.
///
/// ```
/// use switchback_signing::trust::{Action, FetchFailure, FetchRequest, MetadataCache, TufOnly, TufOutcome};
///
/// fn run(client: &mut TufOnly, fetch: impl Fn(&FetchRequest) -> Result<Vec<u8>, FetchFailure>, disk: &mut MetadataCache) -> TufOutcome {
///     loop {
///         match client.next() {
///             Action::Fetch(request) => client.fetched(fetch(&request)),
///             Action::Persist { repository, file_name, bytes } => {
///                 disk.insert(repository, &file_name, bytes);
///                 client.persisted();
///             }
///             Action::Remove { repository, file_name } => {
///                 disk.remove(repository, &file_name);
///                 client.persisted();
///             }
///             Action::Finished(outcome) => return outcome,
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct TufOnly {
    held: Held,
    stage: Stage,
}

/// How far a [`TufOnly`] has come.
#[derive(Debug, PartialEq, Eq)]
pub enum TufOutcome {
    /// The top-level roles are verified and fresh; search for targets now.
    Refreshed,
    /// A role lists the target.
    Found(TufTarget),
    /// No role that may list the target does.
    NotListed {
        /// The target path.
        path: String,
    },
    /// Something was not believed, or could not be had. The next check must start anew.
    Refused(TrustError),
}

/// Proof that a TUF repository lists a file, with what is needed to recognize it. Only [`TufOnly`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct TufTarget {
    path: String,
    length: u64,
    hashes: Hashes,
    fetch_path: String,
}

#[derive(Debug)]
enum Stage {
    /// Under way, or ready for the next search; with the path that is searched for.
    Client(Client, Option<String>),
    Refused(Option<TrustError>),
}

impl TufOnly {
    /// Begins to bring a repository up to date. `now` is the time for all of it, searches included.
    pub fn start(repository: Repository, cache: MetadataCache, now: UnixTime) -> Self {
        let held = Held::new(cache, now, Rules::Tuf);
        let stage = Client::start(repository, &held).map_or_else(Stage::refused, |client| Stage::Client(client, None));
        Self { held, stage }
    }

    /// What to do now; the same again until it is answered.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on without being answered")]
    pub fn next(&mut self) -> Action<TufOutcome> {
        if let Some(change) = self.held.change() {
            return change;
        }
        match &mut self.stage {
            Stage::Client(client, path) => match client.request() {
                Some(request) => Action::Fetch(request),
                None => Action::Finished(outcome(client, path.as_deref())),
            },
            Stage::Refused(error) => Action::Finished(TufOutcome::Refused(error.take().unwrap_or(TrustError::OutOfOrder))),
        }
    }

    /// Answers [`Action::Fetch`].
    pub fn fetched(&mut self, fetched: Result<Vec<u8>, FetchFailure>) {
        self.advance(|client, path, held| Ok(Stage::Client(client.handle(fetched, held)?, path)));
    }

    /// Answers [`Action::Persist`] and [`Action::Remove`].
    pub fn persisted(&mut self) {
        if let Err(error) = self.held.changed() {
            self.stage = Stage::refused(error);
        }
    }

    /// Begins to search for a target, once the repository is up to date or another search has ended.
    pub fn search(&mut self, path: &str) {
        self.advance(|client, _, held| match client {
            Client::Ready(refreshed) | Client::Searched(refreshed, _) => {
                let client = Client::search(refreshed, Search::new(path, Vec::new()), held)?;
                Ok(Stage::Client(client, Some(path.to_string())))
            }
            Client::Refreshing(_) | Client::Searching(_) => Err(TrustError::OutOfOrder),
        });
    }

    /// What is held now, for the next check.
    pub fn into_cache(self) -> MetadataCache {
        self.held.into_disk()
    }

    fn advance(&mut self, step: impl FnOnce(Client, Option<String>, &mut Held) -> Result<Stage, TrustError>) {
        self.stage = match mem::replace(&mut self.stage, Stage::Refused(None)) {
            Stage::Client(client, path) => step(client, path, &mut self.held).unwrap_or_else(Stage::refused),
            Stage::Refused(_) => Stage::refused(TrustError::OutOfOrder),
        };
    }
}

impl Stage {
    fn refused(error: TrustError) -> Self {
        Self::Refused(Some(error))
    }
}

fn outcome(client: &Client, path: Option<&str>) -> TufOutcome {
    let path = path.unwrap_or_default().to_string();
    match client {
        Client::Ready(_) => TufOutcome::Refreshed,
        Client::Searched(refreshed, Some(found)) => {
            let (repository, consistent_snapshot) = (refreshed.root.repository(), refreshed.root.role().consistent_snapshot);
            TufTarget::new(repository, path, found, consistent_snapshot).map_or_else(TufOutcome::Refused, TufOutcome::Found)
        }
        Client::Searched(_, None) => TufOutcome::NotListed { path },
        Client::Refreshing(_) | Client::Searching(_) => TufOutcome::Refused(TrustError::OutOfOrder),
    }
}

impl TufTarget {
    fn new(repository: Repository, path: String, meta: &TargetMeta, consistent_snapshot: bool) -> Result<Self, TrustError> {
        let Some(digest) = meta.hashes.name() else {
            return Err(TrustError::TargetDigestMissing { repository, path, wanted: "SHA-256 or SHA-512" });
        };
        let fetch_path = if consistent_snapshot { consistent(&path, &digest) } else { path.clone() };
        Ok(Self { path, length: meta.length, hashes: meta.hashes.clone(), fetch_path })
    }

    /// The target path. TUF does not limit what it may hold; whoever makes a file name or an address of it quotes it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Length, bytes. Nothing longer need be read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the target lies below the repository's targets, not quoted; such as `folder/HASH.name` for a consistent snapshot.
    pub fn fetch_path(&self) -> &str {
        &self.fetch_path
    }

    /// Begins to check bytes that arrive piece by piece.
    pub fn check(&self) -> FileCheck<'_> {
        FileCheck::new(&self.path, self.length, &self.hashes)
    }
}
