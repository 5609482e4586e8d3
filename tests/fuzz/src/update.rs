//! Whole checks against repositories of the input's choice. Parts are named `director 1.targets.json` and so on; each that is JSON is
//! signed with every key of the seeds, as if whoever holds them had gone over to the attacker; every other is served as it stands.
//! Lengths and digests that a snapshot or a timestamp does not list are filled in, so that a changed file is read and not merely refused.

use std::collections::BTreeMap;

use switchback_signing::{
    digest::Sha256Digest,
    keys::Signer,
    metadata::json::{self, Json, canonical},
    time::UnixTime,
    trust::{
        Action, Ecu, FetchFailure, FetchRequest, Installed, MetadataCache, MetadataCheck, Outcome, ReleaseFloor, Repository, TufOnly,
        TufOutcome, VerifiedImage,
    },
};

use crate::{Verdict, parts, seeds};

/// Most steps of one check: 256 roots of two repositories, fetched and persisted, and 32 roles.
const STEPS_MAX: usize = 2_000;

pub(crate) fn run(input: &[u8]) -> Verdict {
    let parts = parts::split(input);
    let server = Server::new(&parts);
    let number = |name| parts::named(&parts, name).and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<u16>().ok());
    let now = seeds::NOW.plus_days(i64::from(number("days").unwrap_or(0)));
    let installed = Installed { floor: ReleaseFloor(number("floor").unwrap_or(0).into()), image_sha256: None };
    let secondaries = if parts::named(&parts, "alone").is_some() { Vec::new() } else { vec![seeds::camera()] };
    let vehicle = Vehicle { installed, secondaries, now };
    let verdict = uptane(&server, &vehicle, usize::from(number("cut").unwrap_or(0)));
    let path = parts::named(&parts, "path").map_or("ultra/x".into(), String::from_utf8_lossy);
    if tuf(&server, now, &path) == Verdict::Accepted { Verdict::Accepted } else { verdict }
}

/// Which vehicle checks, and when.
struct Vehicle {
    installed: Installed,
    secondaries: Vec<Ecu>,
    now: UnixTime,
}

/// What both repositories serve.
struct Server(BTreeMap<String, Vec<u8>>);

impl Server {
    fn new(parts: &[(String, &[u8])]) -> Self {
        let mut server = Self(BTreeMap::new());
        // What lists others after what it lists.
        let depth = |name: &str| usize::from(name.ends_with("snapshot.json")) + 2 * usize::from(name.ends_with("timestamp.json"));
        for wanted in 0..3 {
            for (name, content) in parts.iter().filter(|(name, _)| depth(name) == wanted) {
                let bytes = match json::parse(content, usize::MAX) {
                    Ok(json) => signed(server.listed(name, json)),
                    Err(_) => content.to_vec(),
                };
                server.0.insert(name.clone(), bytes);
            }
        }
        server
    }

    /// The same, with the lengths and digests of the files that it lists without.
    fn listed(&self, name: &str, mut json: Json) -> Json {
        let repository = name.split(' ').next().unwrap_or_default();
        if let Json::Object(members) = &mut json
            && let Some(Json::Object(files)) = members.get_mut("meta")
        {
            for (file, entry) in files {
                let Json::Object(entry) = entry else { continue };
                let Some(Json::Integer(version)) = entry.get("version") else { continue };
                let Some(bytes) = self.0.get(&format!("{repository} {version}.{file}")) else { continue };
                if !entry.contains_key("hashes") {
                    let hashes = Json::object([("sha256", Json::string(Sha256Digest::of(bytes).to_hex()))]);
                    entry.insert("hashes".into(), hashes);
                    entry.insert("length".into(), Json::Integer(bytes.len() as i64));
                }
            }
        }
        json
    }

    fn answer(&self, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
        let repository = if request.repository == Repository::Director { "director" } else { "image" };
        assert!(!request.file_name.contains('/') && request.file_name.ends_with(".json"), "{} leaves its folder", request.file_name);
        match self.0.get(&format!("{repository} {}", request.file_name)) {
            None => Err(FetchFailure::NotFound),
            Some(bytes) if bytes.len() as u64 > request.length_max => Err(FetchFailure::TooLong),
            Some(bytes) => Ok(bytes.clone()),
        }
    }
}

fn signed(signed: Json) -> Vec<u8> {
    let message = canonical(&signed);
    let entry = |key: &dyn Signer| {
        let signature = key.sign(&message).expect("a key in memory signs").to_hex();
        Json::object([("keyid", Json::string(key.key_id().as_str())), ("sig", Json::string(signature))])
    };
    let signatures = seeds::KEYS.map(|number| entry(&seeds::key(number)));
    json::to_bytes(&Json::object([("signatures", Json::Array(signatures.into())), ("signed", signed)]))
}

/// A check of the Primary: with a power cut at its write of this number and begun anew, it ends as it does without; and once more, it
/// ends the same and writes nothing.
fn uptane(server: &Server, vehicle: &Vehicle, cut: usize) -> Verdict {
    let mut disk = MetadataCache::provision(&seeds::anchors());
    let mut cut_disk = disk.clone();
    let (outcome, _) = check(server, &mut disk, vehicle, usize::MAX).expect("no power cut");
    let whole = check(server, &mut cut_disk, vehicle, cut);
    if matches!(outcome.outcome, Outcome::Refused(_)) {
        assert!(outcome.secondaries.is_empty(), "a part of what was refused is installed");
        return Verdict::Refused;
    }
    if whole.is_none() {
        check(server, &mut cut_disk, vehicle, usize::MAX).expect("no power cut");
    }
    assert_eq!(cut_disk, disk, "what is trusted depends on a power cut");
    let (again, writes) = check(server, &mut disk, vehicle, usize::MAX).expect("no power cut");
    assert_eq!(format!("{again:?}"), format!("{outcome:?}"), "the second check of the same ends otherwise");
    assert_eq!(writes, 0, "the second check of the same writes");
    Verdict::Accepted
}

/// What the Primary should do, and what the others should install.
#[derive(Debug)]
struct Ended {
    outcome: Outcome,
    secondaries: Vec<VerifiedImage>,
}

/// How a check ended and how often it wrote; nothing when the power was cut before the write of this number.
fn check(server: &Server, disk: &mut MetadataCache, vehicle: &Vehicle, cut: usize) -> Option<(Ended, usize)> {
    let Vehicle { installed, secondaries, now } = vehicle;
    let mut check = MetadataCheck::with_secondaries(disk.clone(), seeds::identity(), *installed, secondaries.clone(), *now);
    let mut writes = 0;
    for _ in 0..STEPS_MAX {
        match check.next() {
            Action::Fetch(request) => {
                check.fetched(server.answer(&request));
                continue;
            }
            Action::Finished(outcome) => {
                let secondaries = check.take_secondary_images();
                assert_eq!(check.into_cache(), *disk, "the check and the disk hold the same");
                return Some((Ended { outcome, secondaries }, writes));
            }
            Action::Persist { .. } | Action::Remove { .. } if writes == cut => return None,
            Action::Persist { repository, file_name, bytes } => disk.insert(repository, &file_name, bytes),
            Action::Remove { repository, file_name } => disk.remove(repository, &file_name),
        }
        writes += 1;
        check.persisted();
    }
    panic!("the check does not end")
}

fn tuf(server: &Server, now: UnixTime, path: &str) -> Verdict {
    let mut client = TufOnly::start(Repository::Image, MetadataCache::provision(&seeds::anchors()), now);
    if finish(server, &mut client) != TufOutcome::Refreshed {
        return Verdict::Refused;
    }
    client.search(path);
    match finish(server, &mut client) {
        TufOutcome::Found(target) => {
            assert_eq!(target.path(), path, "another target than the one asked for");
            Verdict::Accepted
        }
        _ => Verdict::Refused,
    }
}

fn finish(server: &Server, client: &mut TufOnly) -> TufOutcome {
    for _ in 0..STEPS_MAX {
        match client.next() {
            Action::Fetch(request) => client.fetched(server.answer(&request)),
            Action::Persist { .. } | Action::Remove { .. } => client.persisted(),
            Action::Finished(outcome) => return outcome,
        }
    }
    panic!("the check does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_what_they_are_for() {
        for (seed, expected) in seeds::update().iter().zip([("Install", 1), ("NothingNew", 0), ("Install", 0), ("Install", 1)]) {
            let parts = parts::split(seed);
            let (server, mut disk) = (Server::new(&parts), MetadataCache::provision(&seeds::anchors()));
            let secondaries = if parts::named(&parts, "alone").is_some() { Vec::new() } else { vec![seeds::camera()] };
            let vehicle = Vehicle { installed: Installed::default(), secondaries, now: seeds::NOW };
            let (Ended { outcome, secondaries }, writes) = check(&server, &mut disk, &vehicle, usize::MAX).unwrap();
            assert!(format!("{outcome:?}").starts_with(expected.0) && writes >= 3, "{outcome:?} after {writes} writes");
            assert_eq!(secondaries.len(), expected.1);
            assert_eq!(tuf(&server, seeds::NOW, "ultra/vla-2.index"), Verdict::Accepted);
            assert_eq!(tuf(&server, seeds::NOW, "ultra/other"), Verdict::Refused);
        }
    }
}
