//! Metadata with good signatures whose words can be understood in two ways, or mean something that no repository should say.

use switchback_signing::{
    keys::Sha256Digest,
    metadata::{
        self, Companion, DelegatedRole, Delegations, HardwareId, MetaFile, RoleKeys, SuccinctRoles,
        json::{Json, OBJECTS_MAX},
    },
    testing::{TestRepositories, TestRepository, key, public},
    trust::{
        Attack::{ArbitrarySoftware, EndlessData},
        Repository, RepositoryMap,
    },
};

use super::{
    director::{described, listed},
    scene::{Scene, attack, index_path},
};

/// Whoever has a role's keys signs the newest file of the role with other words, and what lists it follows.
pub(super) fn reworded(repository: &mut TestRepository, role: &str, from: &str, to: &str) {
    let version = match role {
        "timestamp" => 0,
        "snapshot" => repository.snapshot.version,
        role => repository.snapshot.meta[&format!("{role}.json")].version,
    };
    let file = if version == 0 { "timestamp.json".to_owned() } else { format!("{version}.{role}.json") };
    let text = String::from_utf8(repository.files[&file].clone()).unwrap();
    assert!(text.contains(from), "{role}: {text}");
    let mut bytes = text.replacen(from, to, 1).into_bytes();
    for name in &repository.signers[role] {
        // Words that no honest program would sign are served as they are.
        bytes = metadata::add_signature(&bytes, bytes.len(), &key(name)).unwrap_or(bytes);
    }
    repository.files.insert(file, bytes.clone());
    match role {
        "timestamp" => {}
        "snapshot" => {
            repository.timestamp.snapshot = MetaFile::of(version, &bytes);
            repository.publish_timestamp();
        }
        role => {
            repository.snapshot.meta.insert(format!("{role}.json"), MetaFile::of(version, &bytes));
            repository.publish_snapshot();
        }
    }
}

/// Each meets a vehicle of its own: one that has said something once does not say the same again.
#[test]
fn a23_metadata_that_can_be_understood_in_two_ways_is_refused() {
    let version = |all: &TestRepositories| format!(r#""spec_version":"1.0.31","version":{}"#, all.director.timestamp.version);
    type From<'a> = &'a dyn Fn(&TestRepositories) -> String;
    let cases: [(&str, &str, From<'_>, &str); 8] = [
        ("director", "timestamp", &version, r#""spec_version":"1.0.31","version":0"#),
        ("director", "timestamp", &version, r#""spec_version":"1.0.31","version":9223372036854775808"#),
        ("director", "timestamp", &|_| r#""spec_version""#.into(), r#""note":9223372036854775808,"spec_version""#),
        ("director", "timestamp", &|_| r#""spec_version":"1.0.31""#.into(), r#""spec_version":"2.0.0""#),
        // A role whose file would be the snapshot's.
        ("image", "targets", &|_| r#""name":"vla-ultra""#.into(), r#""name":"snapshot""#),
        ("image", "targets", &|_| r#""paths":["ultra/*"]"#.into(), r#""path_hash_prefixes":["00"],"paths":["ultra/*"]"#),
        (
            "image",
            "targets",
            &|_| r#""roles":["#.into(),
            r#""succinct_roles":{"bit_length":1,"keyids":[],"name_prefix":"bin","threshold":1},"roles":["#,
        ),
        ("image", "targets", &|_| r#""terminating":false"#.into(), r#""terminating":0"#),
    ];
    for (of, role, from, to) in cases {
        let scene = attack(|all| {
            let from = from(all);
            reworded(if of == "director" { &mut all.director } else { &mut all.image }, role, &from, to);
        });
        scene.refused_as(101, "metadata_malformed", ArbitrarySoftware);
    }
}

/// A short text that takes two hundred times its length in the memory of whoever reads it.
#[test]
fn a08_metadata_of_more_objects_than_there_may_be_is_refused() {
    attack(|all| {
        let objects = vec!["{}"; OBJECTS_MAX].join(",");
        reworded(&mut all.image, "targets", r#""spec_version""#, &format!(r#""note":[{objects}],"spec_version""#));
    })
    .refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

/// The number of a bin has 32 bits.
#[test]
fn a23_bins_that_cannot_be_numbered_are_refused() {
    attack(|all| {
        let keys = RoleKeys::new(vec![public("alice").key_id()], 1);
        let bins = SuccinctRoles { keys, bit_length: 33, name_prefix: "bin".into(), extra: Default::default() };
        all.image.targets.delegations = Some(Delegations { bins: Some(bins), ..Delegations::default() });
        all.image.publish();
    })
    .refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

/// A fact about an image that stands in two places, differently: which of them counts would depend on the reader.
#[test]
fn a23_a_description_that_contradicts_itself_is_refused() {
    attack(|all| {
        let mut meta = listed(all);
        meta.custom.insert("releaseCounter".into(), Json::Integer(9));
        all.assign_target(&index_path(3), meta);
    })
    .refused_as(146, "custom_malformed", ArbitrarySoftware);
}

/// Two images for the same hardware beside one release: whichever comes first would be the right one.
#[test]
fn a23_two_companions_for_one_hardware_are_refused() {
    attack(|all| {
        described(all, |release| {
            let companion = |counter| Companion {
                hardware_id: HardwareId::new("cam-a").unwrap(),
                path: format!("ultra/cam-{counter}.cal"),
                length: 1,
                sha256: Sha256Digest::of(b"c"),
                release_counter: counter,
            };
            release.companions = vec![companion(1), companion(2)];
        });
    })
    .refused_as(146, "custom_malformed", ArbitrarySoftware);
}

/// More than a Primary holds in memory.
#[test]
fn a08_a_companion_of_any_length_is_refused() {
    attack(|all| {
        described(all, |release| {
            release.companions = vec![Companion {
                hardware_id: HardwareId::new("cam-a").unwrap(),
                path: "ultra/cam.cal".into(),
                length: (16 << 20) + 1,
                sha256: Sha256Digest::of(b"c"),
                release_counter: 3,
            }];
        });
    })
    .refused_as(184, "companion_too_long", EndlessData);
}

/// What becomes part of addresses and file names has a small alphabet.
#[test]
fn a22_names_that_leave_their_folder_are_refused() {
    attack(|all| reworded(&mut all.director, "targets", r#""ecu-1":{"#, r#""../ecu-1":{"#)).refused_as(
        146,
        "custom_malformed",
        ArbitrarySoftware,
    );
}

/// Whoever provisions a vehicle is not its owner alone: a map that would let one repository bring software of its own is no map.
#[test]
fn a10_a_map_that_lets_one_repository_sign_alone_is_refused() {
    let both = r#"["director","image"]"#;
    let map = |names: &str, threshold: u32, more: &str| {
        let text = format!(
            r#"{{"repositories":{{"director":["https://d"],"image":["https://i"]}},"mapping":[{{"paths":["*"],"repositories":{names},"threshold":{threshold},"terminating":true{more}}}]}}"#
        );
        RepositoryMap::parse(text.as_bytes())
    };
    assert_eq!(map(both, 2, "").unwrap().urls(Repository::Director), ["https://d"]);
    assert!(map(both, 1, "").is_err(), "one signature is enough");
    assert!(map(r#"["director","director"]"#, 2, "").is_err(), "one repository twice");
    assert!(map(both, 2, r#","unless":["ultra"]"#).is_err(), "a condition that is not understood");
    assert!(map(both, 2, &" ".repeat(256 << 10)).is_err(), "a map without end");
}

/// The vehicle was provisioned for paths of this kind and no other, and both repositories sign for another.
#[test]
fn a10_a_path_that_the_map_has_nobody_for_is_refused() {
    let mapped = r#"{"repositories":{"director":["https://d"],"image":["https://i"]},"mapping":[{"paths":["ultra/vla-?-?.0.0.index"],"repositories":["director","image"],"threshold":2,"terminating":true}]}"#;
    let mut scene = Scene::with(|config| config.repository_map = RepositoryMap::parse(mapped.as_bytes()).unwrap());
    scene.attack(|all| {
        let meta = listed(all);
        all.publish_target("ultra/of-somebody.index", meta);
        all.assign("ultra/of-somebody.index");
    });
    scene.refused_as(119, "path_unmapped", ArbitrarySoftware);
}

/// Who may list a file is said by its path as a whole, folder by folder and letter by letter, or by its digest.
#[test]
fn a10_a_delegation_covers_no_more_than_it_says() {
    let supplier = |pattern: &str| DelegatedRole::new("supplier", 1, &[public("supplier")], &[pattern]);
    let digest = Sha256Digest::of(index_path(3).as_bytes()).to_hex();
    let other = if digest.starts_with('0') { "1" } else { "0" };
    let mut by_digest = supplier("");
    by_digest.paths = metadata::PathSet::HashPrefixes(vec![other.into()]);
    let mut for_others = supplier("ultra/*");
    for_others.hardware_ids = vec![HardwareId::new("orin").unwrap()];
    for role in [supplier("*"), supplier("*.index"), supplier("ULTRA/*"), by_digest, for_others] {
        let mut scene = Scene::new();
        scene.attack(|all| {
            let release = all.image.role("vla-ultra").targets.remove(&index_path(3)).unwrap();
            let delegations = all.image.targets.delegations.as_mut().unwrap();
            delegations.add(role.clone(), &[public("supplier")]);
            all.image.add_role("supplier", &["supplier"]);
            all.image.role("supplier").targets.insert(index_path(3), release);
            all.image.publish();
        });
        scene.refuses(140, "target_unknown", ArbitrarySoftware);
        // What the snapshot listed once it must list on; the role has nothing to say any more.
        scene.attack(|all| {
            all.image.add_role("supplier", &["supplier"]);
            all.image.role("supplier").version = 8;
            all.image.publish();
        });
        scene.now_honest();
        scene.recovers();
    }
}
