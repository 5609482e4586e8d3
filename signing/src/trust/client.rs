//! One repository by the TUF client workflow: brought up to date, then searched. Uptane is two of these ([`super::MetadataCheck`]),
//! the TUF-only mode is one ([`super::TufOnly`]).

use alloc::{boxed::Box, vec::Vec};

use super::{
    FetchFailure, FetchRequest, Repository, TrustError,
    refresh::{Held, Refresh, Refreshed},
    search::{Delegatee, Next, Search},
};
use crate::metadata::{TargetMeta, normal};

/// How far the workflow is.
#[derive(Debug)]
pub(super) enum Client {
    /// A top-level role is being fetched.
    Refreshing(Box<Refresh>),
    /// The top-level roles are verified and fresh.
    Ready(Box<Refreshed>),
    /// A delegated role is being fetched, on the search for a target.
    Searching(Box<Searching>),
    /// The search has ended, with the target where a role lists it.
    Searched(Box<Refreshed>, Option<Box<TargetMeta>>),
}

#[derive(Debug)]
pub(super) struct Searching {
    refreshed: Box<Refreshed>,
    search: Search,
    role: Delegatee,
    request: FetchRequest,
}

impl Client {
    /// Begins with what is held.
    pub(super) fn start(repository: Repository, held: &Held) -> Result<Self, TrustError> {
        Ok(Self::Refreshing(Box::new(Refresh::start(repository, held)?)))
    }

    /// The file that is waited for.
    pub(super) fn request(&self) -> Option<FetchRequest> {
        match self {
            Self::Refreshing(refresh) => refresh.request(),
            Self::Searching(searching) => Some(searching.request.clone()),
            Self::Ready(_) | Self::Searched(..) => None,
        }
    }

    /// Takes the file and goes as far as the files that are held allow.
    pub(super) fn handle(self, fetched: Result<Vec<u8>, FetchFailure>, held: &mut Held) -> Result<Self, TrustError> {
        // A fetch that overtakes a write would leave a legal state only by luck.
        let request = self.request().filter(|_| held.changes.is_empty()).ok_or(TrustError::OutOfOrder)?;
        if fetched.as_ref().is_ok_and(|bytes| bytes.len() as u64 > request.length_max) {
            return Err(FetchFailure::TooLong.into_error(&request));
        }
        if let Ok(bytes) = &fetched
            && held.rules.are_uptane()
        {
            // Uptane, 5.2.1. TUF leaves the form to the repository.
            let FetchRequest { repository, file_name, .. } = &request;
            let (repository, file_name) = (*repository, file_name.clone());
            normal::check(bytes).map_err(|problem| TrustError::Malformed { repository, file_name, problem })?;
        }
        match self {
            Self::Refreshing(refresh) => Ok(match refresh.handle(&request, fetched, held)? {
                Refresh::Done(refreshed) => Self::Ready(refreshed),
                refresh => Self::Refreshing(Box::new(refresh)),
            }),
            Self::Searching(searching) => {
                let Searching { refreshed, mut search, role, .. } = *searching;
                let bytes = fetched.map_err(|failure| failure.into_error(&request))?;
                let targets = refreshed.fetched_delegated(&role.name, &role.keys, &bytes, held)?;
                search.visit(&role.name, &targets)?;
                Self::search_on(refreshed, search, held)
            }
            Self::Ready(_) | Self::Searched(..) => Err(TrustError::OutOfOrder),
        }
    }

    /// Begins the search for a target (TUF specification, step 5.6.7; Uptane, 5.4.4.7).
    pub(super) fn search(refreshed: Box<Refreshed>, mut search: Search, held: &Held) -> Result<Self, TrustError> {
        search.visit("targets", &refreshed.targets)?;
        Self::search_on(refreshed, search, held)
    }

    /// Goes through the delegated roles until the search has ended, or until one must be fetched.
    fn search_on(refreshed: Box<Refreshed>, mut search: Search, held: &Held) -> Result<Self, TrustError> {
        loop {
            let role = match search.next(refreshed.root.repository())? {
                Next::Visit(role) => role,
                Next::Found(found) => return Ok(Self::Searched(refreshed, Some(Box::new(found)))),
                Next::NotListed => return Ok(Self::Searched(refreshed, None)),
            };
            match refreshed.held_delegated(&role.name, &role.keys, held) {
                Some(targets) => search.visit(&role.name, &targets)?,
                None => {
                    let request = refreshed.request_delegated(&role.name)?;
                    return Ok(Self::Searching(Box::new(Searching { refreshed, search, role, request })));
                }
            }
        }
    }
}
