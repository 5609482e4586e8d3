//! The TUF-only mode: one repository, no Director.

use alloc::{format, string::String};

use super::*;
use crate::{
    digest::{Sha256Digest, Sha512Digest},
    keys::Signer,
    metadata::{
        DelegatedRole, Delegations, Hashes, MetaFile, RootRole, SuccinctRoles, TargetMeta,
        json::{self, Json},
    },
    testing::{TestRepository, key, public},
};

/// A client of one repository with its disk, and the requests of its last run.
struct User {
    disk: MetadataCache,
    log: Vec<String>,
}

impl User {
    fn new(repository: &TestRepository) -> Self {
        let mut disk = MetadataCache::default();
        disk.insert(Repository::Image, "root.json", repository.files["1.root.json"].clone());
        Self { disk, log: Vec::new() }
    }

    /// Does what the core asks for until it has finished.
    fn finish(&mut self, client: &mut TufOnly, repository: &TestRepository) -> TufOutcome {
        loop {
            match client.next() {
                Action::Fetch(request) => {
                    self.log.push(request.file_name.clone());
                    client.fetched(repository.files.get(&request.file_name).cloned().ok_or(FetchFailure::NotFound));
                }
                Action::Persist { repository, file_name, bytes } => {
                    self.disk.insert(repository, &file_name, bytes);
                    client.persisted();
                }
                Action::Remove { repository, file_name } => {
                    self.disk.remove(repository, &file_name);
                    client.persisted();
                }
                Action::Finished(outcome) => return outcome,
            }
        }
    }

    /// Refreshes, then searches for each path; the outcome of the refresh comes first.
    fn run(&mut self, repository: &TestRepository, paths: &[&str]) -> Vec<TufOutcome> {
        self.log.clear();
        let mut client = TufOnly::start(Repository::Image, self.disk.clone(), NOW);
        let mut outcomes = Vec::from([self.finish(&mut client, repository)]);
        for path in paths {
            client.search(path);
            outcomes.push(self.finish(&mut client, repository));
        }
        assert_eq!(client.into_cache(), self.disk, "the core and the disk hold the same");
        outcomes
    }

    #[track_caller]
    fn find(&mut self, repository: &TestRepository, path: &str) -> TufTarget {
        match self.run(repository, &[path]).pop() {
            Some(TufOutcome::Found(target)) => target,
            outcome => panic!("expected {path}, found {outcome:?}"),
        }
    }

    #[track_caller]
    fn refusal(&mut self, repository: &TestRepository) -> TrustError {
        match self.run(repository, &[]).pop() {
            Some(TufOutcome::Refused(error)) => error,
            outcome => panic!("expected a refusal, found {outcome:?}"),
        }
    }
}

/// A repository that lists `file` itself and `a/file` through the role `a`.
fn repository() -> TestRepository {
    let mut repository = TestRepository::new(Repository::Image);
    let mut delegations = Delegations::default();
    delegations.add(DelegatedRole::new("a", 1, &[public("a")], &["a/*"]), &[public("a")]);
    repository.targets.delegations = Some(delegations);
    repository.targets.targets.insert("file".into(), describe(b"file"));
    repository.add_role("a", &["a"]);
    repository.role("a").targets.insert("a/file".into(), describe(b"file of a"));
    repository.publish();
    repository
}

fn describe(bytes: &[u8]) -> TargetMeta {
    TargetMeta::of_digest(bytes.len() as u64, Sha256Digest::of(bytes))
}

fn verify(target: &TufTarget, pieces: &[&[u8]]) -> Result<(), TrustError> {
    let mut check = target.check();
    pieces.iter().try_for_each(|piece| check.update(piece))?;
    check.finish()
}

#[test]
fn targets_are_found_one_after_the_other_and_a_delegated_role_is_fetched_when_it_is_needed() {
    let (repository, mut user) = (repository(), User::new(&repository()));
    let outcomes = user.run(&repository, &["file", "a/file", "b/file", "a/other"]);
    let listed = |outcome: &TufOutcome| match outcome {
        TufOutcome::Refreshed => "refreshed".to_string(),
        TufOutcome::Found(target) => format!("{} at {}", target.path(), target.fetch_path()),
        TufOutcome::NotListed { path } => format!("no {path}"),
        TufOutcome::Refused(error) => error.to_string(),
    };
    let (file, file_of_a) = (Sha256Digest::of(b"file"), Sha256Digest::of(b"file of a"));
    assert_eq!(
        outcomes.iter().map(listed).collect::<Vec<_>>(),
        [
            "refreshed".into(),
            format!("file at {file}.file"),
            format!("a/file at a/{file_of_a}.file"),
            "no b/file".into(),
            "no a/other".into()
        ]
    );
    assert_eq!(user.log, ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.a.json"]);
    user.run(&repository, &["a/file"]);
    assert_eq!(user.log, ["2.root.json", "timestamp.json"], "what is held and current is not fetched again");
}

#[test]
fn a_repository_without_consistent_snapshots_has_plain_names() {
    let mut repository = TestRepository::new(Repository::Image);
    repository.root.consistent_snapshot = false;
    repository.publish_root();
    repository.targets.targets.insert("a/file".into(), describe(b"file"));
    repository.publish();
    for role in ["snapshot", "targets"] {
        let bytes = repository.files.remove(&format!("1.{role}.json")).unwrap();
        repository.files.insert(format!("{role}.json"), bytes);
    }
    let mut user = User::new(&repository);
    assert_eq!(user.find(&repository, "a/file").fetch_path(), "a/file");
    assert_eq!(user.log, ["2.root.json", "timestamp.json", "snapshot.json", "targets.json"]);
}

#[test]
fn bytes_are_checked_against_the_length_and_every_digest() {
    let mut repository = repository();
    let sha512 = Some(Sha512Digest::of(b"file"));
    repository.targets.targets.insert("sha512".into(), TargetMeta { hashes: Hashes { sha512, ..Hashes::default() }, ..describe(b"file") });
    repository.targets.targets.insert("both".into(), TargetMeta { hashes: Hashes { sha512, ..Hashes::of(b"elif") }, ..describe(b"file") });
    let other = std::collections::BTreeMap::from([("blake3".into(), Json::string("00"))]);
    repository.targets.targets.insert("unknown".into(), TargetMeta { hashes: Hashes { other, ..Hashes::default() }, ..describe(b"file") });
    repository.publish();
    let mut user = User::new(&repository);
    let target = user.find(&repository, "sha512");
    assert_eq!(target.fetch_path(), format!("{}.sha512", Sha512Digest::of(b"file")));
    assert_eq!(verify(&target, &[b"fi", b"", b"le"]), Ok(()));
    assert_error(
        &verify(&target, &[b"files without end"]).unwrap_err(),
        "164 file_length_differs (endless data attack): sha512 has 17 bytes where 4 are listed",
    );
    assert_error(
        &verify(&target, &[b"fil"]).unwrap_err(),
        "164 file_length_differs (endless data attack): sha512 has 3 bytes where 4 are listed",
    );
    let (found, listed) = (Sha512Digest::of(b"elif"), Sha512Digest::of(b"file"));
    assert_error(
        &verify(&target, &[b"elif"]).unwrap_err(),
        &format!("165 file_digest_differs (arbitrary software attack): sha512 has SHA-512 {found} where {listed} is listed"),
    );
    let both = user.find(&repository, "both");
    assert!(verify(&both, &[b"file"]).is_err() && verify(&both, &[b"elif"]).is_err());
    let Some(TufOutcome::Refused(error)) = user.run(&repository, &["unknown"]).pop() else { panic!("unknown digests vouch for nothing") };
    assert_error(&error, "142 target_digest_missing (arbitrary software attack): Image repository: unknown has no SHA-256 or SHA-512");
}

/// The version of the Targets metadata is the snapshot's to say, so a new snapshot key takes back what a thief pushed to the end.
#[test]
fn rotating_the_snapshot_key_takes_back_versions_that_were_pushed_to_their_end() {
    let mut repository = repository();
    repository.targets.version = 99;
    repository.publish();
    let mut user = User::new(&repository);
    assert_eq!(user.run(&repository, &[]), [TufOutcome::Refreshed]);
    let before = repository.targets.version;
    repository.targets.version = 0;
    repository.publish();
    assert_error(
        &user.refusal(&repository),
        "105 older_version (rollback attack): Image repository: targets.json version 1 is older than the trusted version 100",
    );
    repository.rotate(RootRole::Snapshot);
    repository.publish();
    assert_eq!(user.run(&repository, &[]), [TufOutcome::Refreshed]);
    assert!(repository.targets.version < before);
}

#[test]
fn a_timestamp_may_leave_the_digest_out_but_not_name_unknown_ones_alone() {
    let mut repository = repository();
    repository.timestamp.snapshot = MetaFile { hashes: Hashes::default(), length: None, ..repository.timestamp.snapshot.clone() };
    repository.publish_timestamp();
    assert_eq!(User::new(&repository).run(&repository, &[]), [TufOutcome::Refreshed]);
    repository.timestamp.snapshot.hashes.other = [("blake3".into(), Json::string("00"))].into();
    repository.publish_timestamp();
    assert_error(
        &User::new(&repository).refusal(&repository),
        "111 digest_missing (mix-and-match attack): Image repository: no SHA-256 or SHA-512 of snapshot is listed",
    );
}

#[test]
fn a_path_belongs_to_exactly_one_hash_bin() {
    let bins = |bit_length, prefix: &str| {
        let mut delegated = DelegatedRole::new("", 1, &[public("bins")], &[]);
        delegated.keys.threshold = 1;
        SuccinctRoles { keys: delegated.keys, bit_length, name_prefix: prefix.into(), extra: Default::default() }
    };
    // SHA-256 of "file" begins with 3b9c358f; the names are those of TAP 15.
    for (bit_length, name) in [(1, "b-0"), (4, "b-3"), (5, "b-07"), (8, "b-3b"), (32, "b-3b9c358f")] {
        assert_eq!(bins(bit_length, "b").name_of("file"), name, "{bit_length}");
    }
    let mut repository = TestRepository::new(Repository::Image);
    let mut delegations = Delegations { bins: Some(bins(4, "bin")), ..Delegations::default() };
    delegations.keys.insert(key("bins").key_id(), (&public("bins")).into());
    repository.targets.delegations = Some(delegations);
    for number in 0..16 {
        let role = format!("bin-{number:x}");
        repository.add_role(&role, &["bins"]);
        repository.role(&role).targets.insert("file".into(), describe(role.as_bytes()));
    }
    repository.publish();
    let mut user = User::new(&repository);
    let target = user.find(&repository, "file");
    assert_eq!(user.log.last().map(String::as_str), Some("1.bin-3.json"));
    assert_eq!(verify(&target, &[b"bin-3"]), Ok(()));
}

#[test]
fn an_answer_that_was_not_asked_for_ends_the_client() {
    let repository = repository();
    let mut client = TufOnly::start(Repository::Image, User::new(&repository).disk, NOW);
    client.search("file");
    assert!(matches!(client.next(), Action::Finished(TufOutcome::Refused(TrustError::OutOfOrder))));
    client.fetched(Ok(Vec::new()));
    assert!(matches!(client.next(), Action::Finished(TufOutcome::Refused(TrustError::OutOfOrder))));
}

/// The Uptane Standard asks for one normal form of Unicode, TUF for none: the same file is refused by the one and read by the other.
#[test]
fn metadata_in_another_normal_form_is_refused_although_it_is_signed() {
    let (mut repositories, vehicle) = world();
    let parsed = json::parse(&repositories.image.files["timestamp.json"], 10_000).unwrap();
    let Some(Json::Object(signed)) = parsed.member("signed") else { panic!("an object") };
    let mut signed = signed.clone();
    signed.insert("note".into(), Json::string("e\u{301}"));
    let (signed, key) = (Json::Object(signed), key("image-timestamp"));
    let signature = key.sign(&json::canonical(&signed)).unwrap().to_hex();
    let entry = Json::object([("keyid", Json::string(key.key_id().as_str())), ("sig", Json::String(signature))]);
    let file = Json::object([("signatures", Json::Array([entry].into())), ("signed", signed)]);
    repositories.image.files.insert("timestamp.json".into(), json::to_bytes(&file));
    assert_refused(
        &repositories,
        &vehicle,
        "101 metadata_malformed (arbitrary software attack): Image repository: timestamp.json: \"e\\u{301}\" is not in Unicode normalization form C",
    );
    assert_eq!(User::new(&repositories.image).run(&repositories.image, &[]), [TufOutcome::Refreshed]);
    // What we write is brought into the form.
    repositories.image.timestamp.extra.insert("note".into(), Json::string("e\u{301}"));
    repositories.image.publish_timestamp();
    assert_installs(vehicle.clone().check(&repositories, NOW));
}
