//! One repository, without a Director.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use switchback_sdk::fetch::Client;
use switchback_signing::trust::{Action, MetadataCache, Repository, TufOnly, TufOutcome, TufTarget};

use crate::{clock, disk, network, targets};

/// Makes the folder and puts the trusted root into it.
pub(crate) fn init(metadata_dir: &Path, trusted_root: &Path) -> anyhow::Result<()> {
    let root = fs::read(trusted_root).with_context(|| trusted_root.display().to_string())?;
    fs::create_dir_all(metadata_dir)?;
    disk::write(metadata_dir, "root.json", &root)
}

/// One client workflow over one repository.
pub(crate) struct Updater<'a> {
    metadata_dir: &'a Path,
    repository: Client,
    core: TufOnly,
}

/// Where targets come from and go to.
pub(crate) struct TargetStore {
    repository: Client,
    folder: PathBuf,
}

impl<'a> Updater<'a> {
    /// Begins with what the folder holds.
    pub(crate) fn open(metadata_dir: &'a Path, metadata_url: &str) -> anyhow::Result<Self> {
        let mut cache = MetadataCache::default();
        disk::load(metadata_dir, Repository::Image, &mut cache)?;
        let core = TufOnly::start(Repository::Image, cache, clock::now()?);
        Ok(Self { metadata_dir, repository: network::client(metadata_url)?, core })
    }

    /// Brings the top-level roles up to date.
    pub(crate) fn refresh(&mut self) -> anyhow::Result<()> {
        match self.finish()? {
            TufOutcome::Refreshed => Ok(()),
            outcome => bail!("the refresh ended with {outcome:?}"),
        }
    }

    /// Downloads a target, unless the very same bytes are there already.
    pub(crate) fn download(&mut self, path: &str, store: &TargetStore) -> anyhow::Result<()> {
        self.core.search(path);
        match self.finish()? {
            TufOutcome::Found(target) => store.fetch(&target),
            TufOutcome::NotListed { path } => bail!("{path:?} is listed by no role that may list it"),
            outcome => bail!("the search ended with {outcome:?}"),
        }
    }

    /// Does what the core asks for until it has finished.
    fn finish(&mut self) -> anyhow::Result<TufOutcome> {
        loop {
            match self.core.next() {
                Action::Fetch(request) => {
                    let fetched = network::metadata(&self.repository, &request);
                    match &fetched {
                        Ok(bytes) => eprintln!("fetched {}: {} bytes", request.file_name, bytes.len()),
                        Err(failure) => eprintln!("fetched {}: {failure:?}", request.file_name),
                    }
                    self.core.fetched(fetched);
                }
                Action::Persist { file_name, bytes, .. } => {
                    eprintln!("trust {file_name}");
                    disk::write(self.metadata_dir, &file_name, &bytes)?;
                    self.core.persisted();
                }
                Action::Remove { file_name, .. } => {
                    eprintln!("forget {file_name}");
                    disk::remove(self.metadata_dir, &file_name)?;
                    self.core.persisted();
                }
                Action::Finished(TufOutcome::Refused(error)) => {
                    let attack = error.attack().map(|attack| format!(", {attack}")).unwrap_or_default();
                    bail!("{error} ({} {}{attack})", error.number(), error.name());
                }
                Action::Finished(outcome) => return Ok(outcome),
            }
        }
    }
}

impl TargetStore {
    /// Targets of the repository at `base_url`, kept in `folder`.
    pub(crate) fn open(base_url: &str, folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { repository: network::client(base_url)?, folder })
    }

    fn fetch(&self, target: &TufTarget) -> anyhow::Result<()> {
        let name = disk::file_name(target.path());
        let (path, part) = (self.folder.join(&name), self.folder.join(format!("{name}.part")));
        if targets::is_held(target.check(), &path) {
            eprintln!("{} is there already", target.path());
            return Ok(());
        }
        let place = format!("/{}", network::quoted(target.fetch_path(), "/"));
        let done = targets::download(&self.repository, &place, target.check(), &part).and_then(|()| Ok(fs::rename(&part, &path)?));
        if done.is_err() {
            // What was not believed must not lie about; that it may never have been made is no second error.
            let _ = fs::remove_file(&part);
        }
        done
    }
}
