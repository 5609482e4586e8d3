//! Uptane, as a Primary speaks it, with anybody's repositories: one full verification of both, and the images that they assign.
//!
//! One line of JSON goes to standard output, whatever happens: `{"ok", "error": null | {"number", "name", "attack", "text"},
//! "installed": [target paths]}`. Exit code 0 when everything succeeded, else 1; the story goes to standard error.

mod failure;
mod repository;
mod state;

use std::{
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind as Misuse};
use serde_json::json;
use switchback_signing::{
    metadata::{EcuSerial, HardwareId, VehicleId},
    time::UnixTime,
    trust::{
        Action, AskImages, Ecu, Installed, MetadataCache, OtherEcus, Repository, RepositoryMap, TrustAnchors, TrustError, UptaneCheck,
        UptaneOutcome, VehicleEcus, VerifiedAssignments, VerifiedImage,
    },
};

use self::{
    failure::{Failure, disk},
    repository::Source,
    state::State,
};
use crate::{disk as folder, targets};

/// An Uptane Primary with full verification, with anybody's repositories; prints one line of JSON
#[derive(Parser)]
#[command(
    name = "tuf-client uptane",
    version,
    after_help = "Examples:
  tuf-client uptane init --director-url U --image-url V --metadata-dir D \\
      --director-root director/1.root.json --image-root image/1.root.json
  tuf-client uptane update --director-url U --image-url V --metadata-dir D \\
      --ecu SERIAL --hardware-id ID --target-dir T"
)]
struct Arguments {
    /// Address of the Director repository.
    #[arg(long, global = true)]
    director_url: Option<String>,
    /// Address of the Image repository.
    #[arg(long, global = true)]
    image_url: Option<String>,
    /// Folder of the trusted metadata and of what is remembered.
    #[arg(long, global = true)]
    metadata_dir: Option<PathBuf>,
    /// Folder that verified images go to.
    #[arg(long, global = true)]
    target_dir: Option<PathBuf>,
    /// Serial of an ECU of this vehicle; several times for several ECUs, the Primary first.
    #[arg(long, global = true)]
    ecu: Vec<EcuSerial>,
    /// Hardware id of the ECU of the same place.
    #[arg(long, global = true)]
    hardware_id: Vec<HardwareId>,
    /// This vehicle; without it, the first one that verified metadata names is remembered.
    #[arg(long, global = true)]
    vehicle_id: Option<VehicleId>,
    /// The Director's root to provision with, for `init`.
    #[arg(long, global = true)]
    director_root: Option<PathBuf>,
    /// The Image repository's root to provision with, for `init`.
    #[arg(long, global = true)]
    image_root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Provisions the metadata folder: with the roots that are given, with those that are in it already, or else, trusting what
    /// answers this once, with those of the repositories.
    Init,
    /// Verifies both repositories' metadata and brings the images that they assign to the ECUs.
    Update,
}

/// Runs the words that follow `uptane`.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let name = OsString::from("tuf-client uptane");
    let outcome = match Arguments::try_parse_from([name].into_iter().chain(arguments)) {
        Ok(arguments) => run(&arguments),
        Err(help) if !help.use_stderr() => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(error) if matches!(error.kind(), Misuse::DisplayHelpOnMissingArgumentOrSubcommand | Misuse::MissingSubcommand) => {
            Err(Failure::Usage("a command is missing: init or update; --help shows both".into()))
        }
        Err(error) => Err(Failure::Usage(error.to_string())),
    };
    let (line, code) = match outcome {
        Ok(installed) => (json!({"ok": true, "error": null, "installed": installed}), ExitCode::SUCCESS),
        Err(failure) => {
            eprintln!("error: {failure}");
            (json!({"ok": false, "error": failure.to_json(), "installed": []}), ExitCode::FAILURE)
        }
    };
    println!("{line}");
    code
}

fn run(arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let given = |option: &Option<PathBuf>, name: &str| option.clone().ok_or_else(|| Failure::Usage(format!("{name} is missing")));
    let base = given(&arguments.metadata_dir, "--metadata-dir")?;
    let map = load_map(&base)?;
    let url = |given: &Option<String>, repository, name: &str| {
        let mapped = || map.as_ref()?.urls(repository).first().cloned();
        given.clone().or_else(mapped).ok_or_else(|| Failure::Usage(format!("{name} is missing")))
    };
    let director_url = url(&arguments.director_url, Repository::Director, "--director-url")?;
    let image_url = url(&arguments.image_url, Repository::Image, "--image-url")?;
    let (director, image) = (Source::open(&director_url)?, Source::open(&image_url)?);
    match arguments.command {
        Command::Init => {
            init(&base, [(&director, &arguments.director_root), (&image, &arguments.image_root)])?;
            if map.is_none() {
                let map = RepositoryMap::of_both(&director_url, &image_url).to_bytes();
                folder::write(&base, MAP, &map).map_err(|problem| Failure::Disk { path: base.join(MAP), problem })?;
            }
            Ok(Vec::new())
        }
        Command::Update => {
            let target_dir = given(&arguments.target_dir, "--target-dir")?;
            let state = State::load(&base)?;
            let vehicle = vehicle(arguments, &state)?;
            Vehicle { base, map: map.unwrap_or_default(), director, image, target_dir, state }.update(vehicle)
        }
    }
}

/// The repository map's file.
const MAP: &str = "map.json";

fn load_map(base: &Path) -> Result<Option<RepositoryMap>, Failure> {
    let path = base.join(MAP);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(disk(&path))?,
    };
    RepositoryMap::parse(&bytes).map(Some).map_err(|problem| Failure::Map { path, problem })
}

const REPOSITORIES: [Repository; 2] = [Repository::Director, Repository::Image];

/// The folder of a repository's metadata.
fn metadata_dir(base: &Path, repository: Repository) -> PathBuf {
    base.join(match repository {
        Repository::Director => "director",
        Repository::Image => "image",
    })
}

/// The root that the vehicle was provisioned with stays beside the one that the chain has led to: what a disk does to the latter must
/// not be the end of all updates. Not `.json`, because it is no metadata that is trusted now.
const ANCHOR: &str = "provisioned-root";

fn init(base: &Path, sources: [(&Source, &Option<PathBuf>); 2]) -> Result<(), Failure> {
    let mut roots = Vec::new();
    for (repository, (source, given)) in REPOSITORIES.into_iter().zip(sources) {
        let path = metadata_dir(base, repository).join("root.json");
        let held = fs::read(&path).ok();
        let root = match (given, held) {
            (Some(file), held) => {
                let root = fs::read(file).map_err(disk(file))?;
                if held.is_some_and(|held| held != root) {
                    return Err(Failure::ProvisionedOtherwise { path });
                }
                root
            }
            (None, Some(held)) => held,
            (None, None) => source.first_root(repository)?,
        };
        roots.push(root);
    }
    let [director_root, image_root] = &roots[..] else { return Err(Failure::NotInitialized { base: base.into() }) };
    TrustAnchors { director_root: director_root.clone(), image_root: image_root.clone() }.verify()?;
    for (repository, root) in REPOSITORIES.into_iter().zip(&roots) {
        let path = metadata_dir(base, repository);
        fs::create_dir_all(&path).map_err(disk(&path))?;
        for name in [ANCHOR, "root.json"] {
            folder::write(&path, name, root).map_err(|problem| Failure::Disk { path: path.clone(), problem })?;
        }
    }
    Ok(())
}

/// The ECUs of the command line, with what is remembered of each.
fn vehicle(arguments: &Arguments, state: &State) -> Result<VehicleEcus, Failure> {
    let Arguments { ecu, hardware_id, vehicle_id, .. } = arguments;
    if ecu.is_empty() || ecu.len() != hardware_id.len() {
        return Err(Failure::Usage(format!(
            "{} of --ecu and {} of --hardware-id, one of each per ECU is wanted",
            ecu.len(),
            hardware_id.len()
        )));
    }
    if let Some(twice) = ecu.iter().enumerate().find(|(at, serial)| ecu[..*at].contains(serial)) {
        return Err(Failure::Usage(format!("--ecu {} is given twice", twice.1)));
    }
    if let (Some(given), Some(known)) = (vehicle_id, &state.vehicle_id)
        && given != known
    {
        return Err(Failure::Usage(format!("--vehicle-id {given}, but the metadata folder is that of vehicle {known}")));
    }
    let ecu = |(ecu_serial, hardware_id): (&EcuSerial, &HardwareId)| Ecu {
        ecu_serial: ecu_serial.clone(),
        hardware_id: hardware_id.clone(),
        // Without the image that is installed: every assignment is verified anew, also one that brings nothing.
        installed: Installed { floor: state.floor(ecu_serial), image_sha256: None },
    };
    let ecus = arguments.ecu.iter().zip(hardware_id).map(ecu).collect();
    Ok(VehicleEcus { vehicle_id: vehicle_id.clone().or_else(|| state.vehicle_id.clone()), ecus, others: OtherEcus::Refused, offline: None })
}

/// A vehicle with its disk and its network.
struct Vehicle {
    base: PathBuf,
    map: RepositoryMap,
    director: Source,
    image: Source,
    target_dir: PathBuf,
    state: State,
}

impl Vehicle {
    /// The seven steps of a Primary (Uptane, 5.4.2), less what its Secondaries are handed.
    fn update(mut self, vehicle: VehicleEcus) -> Result<Vec<String>, Failure> {
        let known = vehicle.vehicle_id.clone();
        let clock = crate::clock::now().map_err(|problem| Failure::Disk { path: "the clock".into(), problem })?;
        let now = self.state.verified_at.map_or(clock, |latest| latest.max(clock));
        let VerifiedAssignments { vehicle_id, images } = self.verify(vehicle, now)?;
        let installed = self.install(&images)?;
        for image in &images {
            self.state.remember(image);
        }
        self.state.vehicle_id = known.or(vehicle_id);
        self.state.verified_at = Some(now);
        self.state.write(&self.base)?;
        Ok(installed)
    }

    fn verify(&self, vehicle: VehicleEcus, now: UnixTime) -> Result<VerifiedAssignments, Failure> {
        let mut check = UptaneCheck::start(self.cache()?, vehicle, AskImages::Always, now).with_map(self.map.clone());
        loop {
            match check.next() {
                Action::Fetch(request) => {
                    let fetched = self.source(request.repository).metadata(&request);
                    match &fetched {
                        Ok(bytes) => eprintln!("fetched {} {}: {} bytes", request.repository, request.file_name, bytes.len()),
                        Err(failure) => eprintln!("fetched {} {}: {failure:?}", request.repository, request.file_name),
                    }
                    check.fetched(fetched);
                }
                Action::Persist { repository, file_name, bytes } => {
                    eprintln!("trust {repository} {file_name}");
                    let path = metadata_dir(&self.base, repository);
                    folder::write(&path, &file_name, &bytes).map_err(|problem| Failure::Disk { path, problem })?;
                    check.persisted();
                }
                Action::Remove { repository, file_name } => {
                    eprintln!("forget {repository} {file_name}");
                    let path = metadata_dir(&self.base, repository);
                    folder::remove(&path, &file_name).map_err(|problem| Failure::Disk { path, problem })?;
                    check.persisted();
                }
                Action::Finished(UptaneOutcome::Verified(verified)) => return Ok(verified),
                Action::Finished(UptaneOutcome::Refused(error)) => return Err(self.told(error)),
            }
        }
    }

    /// A slow retrieval is told apart from a repository that does not answer.
    fn told(&self, error: TrustError) -> Failure {
        match (&error, REPOSITORIES.iter().find_map(|repository| self.source(*repository).attack())) {
            (TrustError::Unreachable { .. }, Some(slow)) => Failure::Network(slow),
            _ => Failure::Trust(error),
        }
    }

    fn source(&self, repository: Repository) -> &Source {
        match repository {
            Repository::Director => &self.director,
            Repository::Image => &self.image,
        }
    }

    /// The metadata on the disk, with the roots of the provisioning.
    fn cache(&self) -> Result<MetadataCache, Failure> {
        let root = |repository| {
            let path = metadata_dir(&self.base, repository);
            let read = |name: &str| fs::read(path.join(name)).ok();
            read(ANCHOR).or_else(|| read("root.json")).ok_or_else(|| Failure::NotInitialized { base: self.base.clone() })
        };
        let (director_root, image_root) = (root(Repository::Director)?, root(Repository::Image)?);
        let mut cache = MetadataCache::provision(&TrustAnchors { director_root, image_root });
        for repository in REPOSITORIES {
            let path = metadata_dir(&self.base, repository);
            folder::load(&path, repository, &mut cache).map_err(|problem| Failure::Disk { path, problem })?;
        }
        Ok(cache)
    }

    /// Brings every image that is not there, and puts them in place when all of them are right: of images that belong together, none
    /// is installed without the others.
    fn install(&self, images: &[VerifiedImage]) -> Result<Vec<String>, Failure> {
        fs::create_dir_all(&self.target_dir).map_err(disk(&self.target_dir))?;
        let mut brought: Vec<(&VerifiedImage, PathBuf, PathBuf)> = Vec::new();
        let all = images.iter().try_for_each(|image| {
            let name = folder::file_name(image.path());
            let (path, part) = (self.target_dir.join(&name), self.target_dir.join(format!(".{name}.part")));
            if targets::is_held(image.check(), &path) {
                eprintln!("{} is there already", image.path());
                return Ok(());
            }
            brought.push((image, part, path));
            match brought.last() {
                Some((image, part, _)) => self.image.image(image, part),
                None => Ok(()),
            }
        });
        let in_place = all.and_then(|()| brought.iter().try_for_each(|(_, part, path)| fs::rename(part, path).map_err(disk(path))));
        if in_place.is_err() {
            for (_, part, _) in &brought {
                // What was not believed must not lie about; that it may never have been made is no second error.
                let _ = fs::remove_file(part);
            }
        }
        in_place?;
        folder::sync(&self.target_dir).map_err(|problem| Failure::Disk { path: self.target_dir.clone(), problem })?;
        Ok(brought.iter().map(|(image, _, _)| image.path().to_owned()).collect())
    }
}
