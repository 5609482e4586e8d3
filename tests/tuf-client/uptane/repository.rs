//! Where the files of anybody's repository lie: metadata at its address or below `metadata/`, images below `targets/` or at its address.

use std::{
    cell::{OnceCell, RefCell},
    path::Path,
};

use switchback_sdk::fetch::{Client, FetchError, Fetched};
use switchback_signing::trust::{Attack, FetchFailure, FetchRequest, Repository, TrustError, VerifiedImage, limits::ROOT_BYTES_MAX};

use super::failure::Failure;
use crate::{network, targets};

/// A repository's address.
pub(super) struct Source {
    client: Client,
    /// What metadata lies below, once that is known.
    prefix: OnceCell<&'static str>,
    /// The error of the last file, where it looks like an attack of which the trust checks do not know.
    attack: RefCell<Option<FetchError>>,
}

/// Roles at the top; aktualizr keeps all others below `delegations/`.
const TOP_LEVEL: [&str; 4] = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];

impl Source {
    pub(super) fn open(url: &str) -> Result<Self, Failure> {
        let client = network::impatient_client(url).map_err(|error| match error.downcast::<FetchError>() {
            Ok(error) => Failure::Network(error),
            Err(error) => Failure::Usage(format!("{error:#}")),
        })?;
        Ok(Self { client, prefix: OnceCell::new(), attack: RefCell::new(None) })
    }

    /// The first root, taken for what it is only because nothing better is known.
    pub(super) fn first_root(&self, repository: Repository) -> Result<Vec<u8>, Failure> {
        let file_name = "1.root.json";
        let missing = || TrustError::FileMissing { repository, file_name: file_name.into() };
        for path in ["/1.root.json", "/root.json", "/metadata/1.root.json", "/metadata/root.json"] {
            match self.get(path, ROOT_BYTES_MAX) {
                Err(FetchError::NotFound { .. }) => {}
                fetched => return Ok(fetched?),
            }
        }
        Err(missing().into())
    }

    /// Fetches a metadata file; what went wrong is said in the words of the trust checks.
    pub(super) fn metadata(&self, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
        let prefix = self.prefix.get_or_init(|| self.find_prefix());
        let name = &request.file_name;
        let mut fetched = self.get(&format!("{prefix}/{name}"), request.length_max);
        let is_delegated = !TOP_LEVEL.iter().any(|role| name.ends_with(role));
        if is_delegated && matches!(fetched, Err(FetchError::NotFound { .. })) {
            fetched = self.get(&format!("{prefix}/delegations/{name}"), request.length_max);
        }
        fetched.map_err(|error| {
            let failure = network::failure(&error);
            *self.attack.borrow_mut() = (error.attack() == Some(Attack::SlowRetrieval)).then_some(error);
            failure
        })
    }

    /// What the last file was, if it looked like an attack of which the trust checks do not know. Can be taken once.
    pub(super) fn attack(&self) -> Option<FetchError> {
        self.attack.borrow_mut().take()
    }

    /// Downloads an image into `part`, from the first place where it is.
    pub(super) fn image(&self, image: &VerifiedImage, part: &Path) -> Result<(), Failure> {
        // With and without the digest in the name: some repositories keep consistent snapshots of their metadata alone. Whatever
        // place answers, only the right bytes pass.
        let mut names = image.fetch_paths();
        names.push(image.path().to_owned());
        names.dedup();
        let places = names.iter().flat_map(|name| ["/targets/", "/"].map(|folder| format!("{folder}{}", network::quoted(name, "/"))));
        for place in places {
            match targets::download(&self.client, &place, image.check(), part) {
                Ok(()) => return Ok(()),
                Err(error) => match error.downcast::<FetchError>() {
                    Ok(FetchError::NotFound { .. }) => {}
                    Ok(error) if error.attack().is_some() || matches!(error, FetchError::WrongRange { .. }) => return Err(error.into()),
                    Ok(error) => return Err(unreachable(image, format!("{:#}", anyhow::Error::from(error)))),
                    Err(error) => {
                        let disk = |problem| Failure::Disk { path: part.into(), problem };
                        return Err(error.downcast::<TrustError>().map_or_else(disk, Failure::from));
                    }
                },
            }
        }
        Err(TrustError::FileMissing { repository: Repository::Image, file_name: image.path().into() }.into())
    }

    /// Where the metadata lies: where there is a root.
    fn find_prefix(&self) -> &'static str {
        let is_there = |path: &str| !matches!(self.get(path, ROOT_BYTES_MAX), Err(FetchError::NotFound { .. }));
        let at = |prefix: &&str| ["1.root.json", "root.json"].iter().any(|name| is_there(&format!("{prefix}/{name}")));
        ["", "/metadata"].into_iter().find(at).unwrap_or("")
    }

    fn get(&self, path: &str, length_max: u64) -> Result<Vec<u8>, FetchError> {
        match self.client.get(path, length_max, None, None)? {
            Fetched::New { bytes, .. } => Ok(bytes),
            Fetched::NotModified => {
                Err(FetchError::Refused { url: path.into(), status: 304, text: "an answer to another question".into() })
            }
        }
    }
}

fn unreachable(image: &VerifiedImage, reason: String) -> Failure {
    TrustError::Unreachable { repository: Repository::Image, file_name: image.path().into(), reason }.into()
}
