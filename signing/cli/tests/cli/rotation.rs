//! Keys are replaced: root keys, online keys, release engineers' keys; and a client that knows the first root follows.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use switchback_signing::{
    keys::{Signer, pem::SecretKey},
    metadata::{MetaFile, Role, Signed, Snapshot, Targets, Timestamp, sign},
    time::UnixTime,
    trust::{Action, FetchFailure, MetadataCache, Repository, TrustAnchors, TrustError, TufOnly, TufOutcome},
};

use super::{
    desk::{BUNDLE, Desk},
    server::Server,
};

/// What the Image repository serves: the base's files, and the online roles as a server with these keys would sign them.
struct Served {
    files: BTreeMap<String, Vec<u8>>,
    now: UnixTime,
}

impl Served {
    fn new(desk: &Desk, online: &str, version: u64) -> Self {
        let mut files = BTreeMap::new();
        let mut newest: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        for entry in fs::read_dir(desk.path("base/image")).unwrap() {
            let (name, path) = entry.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).unwrap();
            let bytes = fs::read(path).unwrap();
            let (number, role) = name.trim_end_matches(".json").split_once('.').unwrap();
            let number: u64 = number.parse().unwrap();
            if role != "root" && newest.get(role).is_none_or(|(found, _)| *found < number) {
                newest.insert(role.to_owned(), (number, bytes.clone()));
            }
            files.insert(name, bytes);
        }
        let expires = newest.values().map(|(_, bytes)| Signed::<Targets>::parse(bytes, 1 << 20).unwrap().signed.expires());
        let now = expires.min().unwrap().plus_days(-1);
        let mut snapshot = Snapshot::new(version, now.plus_days(1));
        snapshot.meta = newest.iter().map(|(role, (number, bytes))| (format!("{role}.json"), MetaFile::of(*number, bytes))).collect();
        let bytes = sign(&snapshot, &[&secret(desk, &format!("{online}/image-snapshot.pem"))]).unwrap();
        let timestamp = Timestamp::new(version, now.plus_days(1), MetaFile::of(version, &bytes));
        files.insert(format!("{version}.snapshot.json"), bytes);
        files.insert("timestamp.json".into(), sign(&timestamp, &[&secret(desk, &format!("{online}/image-timestamp.pem"))]).unwrap());
        Self { files, now }
    }

    /// One refresh of a client, which may find `target` afterwards.
    fn refresh(&self, cache: &mut MetadataCache, target: Option<&str>) -> TufOutcome {
        let mut client = TufOnly::start(Repository::Image, cache.clone(), self.now);
        let mut searching = target;
        loop {
            match client.next() {
                Action::Fetch(request) => client.fetched(self.files.get(&request.file_name).cloned().ok_or(FetchFailure::NotFound)),
                Action::Persist { .. } | Action::Remove { .. } => client.persisted(),
                Action::Finished(TufOutcome::Refreshed) if searching.is_some() => client.search(searching.take().unwrap()),
                Action::Finished(outcome) => {
                    *cache = client.into_cache();
                    return outcome;
                }
            }
        }
    }
}

fn secret(desk: &Desk, path: &str) -> SecretKey {
    SecretKey::from_pem(&String::from_utf8(desk.read(path)).unwrap(), None).unwrap()
}

/// A client that was provisioned with the first roots.
fn client(desk: &Desk) -> MetadataCache {
    let (director_root, image_root) = (desk.read("base/director/1.root.json"), desk.read("base/image/1.root.json"));
    MetadataCache::provision(&TrustAnchors { director_root, image_root })
}

fn published_release(server: &Server) -> Desk {
    let desk = Desk::with_server(&server.url);
    desk.init();
    desk.pack("1.0.0", 1);
    for key in ["alice", "carol"] {
        desk.succeed(&format!("sign --base base --key {key} {BUNDLE}"));
    }
    desk.succeed("publish --base base");
    server.take_puts();
    desk
}

#[test]
fn a_root_key_is_replaced_and_an_old_client_walks_to_the_new_root() {
    let server = Server::start();
    let desk = published_release(&server);
    let mut vehicle = client(&desk);
    desk.succeed("key new --unencrypted --out stick image-root-dora");
    desk.succeed("root add-key --base base --repository image --role root stick/image-root-dora.pub.json");
    desk.succeed("root remove-key --base base --repository image --role root image-root-carol");

    let draft = &desk.ask("root show --base base --repository image")[0]["draft"];
    assert_eq!(draft["version"], 2);
    let changes = draft["changes"].to_string();
    assert!(changes.contains("root: + image-root-dora") && changes.contains("root: - image-root-carol"), "{changes}");
    assert_eq!((&draft["complete"], draft["expires"].is_string()), (&json!(false), true));

    // Both sets must reach their threshold: alice and dora are two of the new one and one of the old.
    desk.succeed("root sign --base base --repository image --key alice");
    let signed = desk.ask("root sign --base base --repository image --key stick/image-root-dora.pem");
    assert_eq!(signed["complete"], false);
    let states = signed["signatures"].as_array().unwrap();
    assert_eq!((&states[0]["authority"], &states[0]["signed"]), (&json!("root version 1"), &json!(["image-root-alice"])));
    assert_eq!(states[1]["signed"], json!(["image-root-alice", "image-root-dora"]));
    let error = desk.refuse("publish --base base");
    assert!(error.contains("Image repository root version 2 cannot be published"), "{error}");
    assert!(error.contains("root version 1: 1 of 2 signatures (image-root-alice; 1 more of image-root-bob, image-root-carol)"), "{error}");
    assert!(server.take_puts().is_empty(), "nothing was sent");

    // Carol leaves, and vouches for the set that she is no longer in.
    let error = desk.refuse("root sign --base base --repository image --key carol");
    assert!(error.contains("image-root-carol is no longer a key of root version 2") && error.contains("cross-sign"), "{error}");
    assert_eq!(desk.ask("root cross-sign --base base --repository image --key carol")["complete"], true);
    desk.succeed("publish --base base");
    assert!(server.take_puts().contains(&"/v1/image/metadata/2.root.json".into()));
    assert!(!desk.path("base/drafts/image.root.json").exists());

    // A second rotation, so that there is a chain to walk.
    desk.succeed("root expire --base base --repository image --days 400");
    for key in ["bob", "stick/image-root-dora.pem"] {
        desk.succeed(&format!("root sign --base base --repository image --key {key}"));
    }
    desk.succeed("publish --base base");
    let served = Served::new(&desk, "operator", 1);
    assert!(matches!(served.refresh(&mut vehicle, Some("ultra/tiny-1.0.0.index")), TufOutcome::Found(_)));
    let held = vehicle.get(Repository::Image, "root.json").unwrap();
    assert!(held == desk.read("base/image/3.root.json"));
    let shown = desk.succeed("root show --base base");
    assert!(shown.contains("image-root-dora") && !shown.contains("image-root-carol"), "{shown}");
}

#[test]
fn after_a_theft_of_online_keys_their_signatures_are_refused_at_the_next_refresh() {
    let server = Server::start();
    let desk = published_release(&server);
    let mut vehicle = client(&desk);
    let stolen = Served::new(&desk, "operator", 1);
    assert_eq!(stolen.refresh(&mut vehicle, None), TufOutcome::Refreshed);

    let new_key = |name: &str| -> Value {
        desk.succeed(&format!("key new --unencrypted --out new {name}"));
        serde_json::from_slice(&desk.read(&format!("new/{name}.pub.json"))).unwrap()
    };
    let online = json!({
        "image": {"snapshot": new_key("image-snapshot"), "timestamp": new_key("image-timestamp")},
        "director": {"targets": new_key("director-targets"), "snapshot": new_key("director-snapshot"), "timestamp": new_key("director-timestamp")},
    });
    desk.write("new.json", online.to_string());
    for repository in ["image", "director"] {
        let changed = desk.ask(&format!("root online-keys --base base --repository {repository} --online-keys new.json"));
        assert_eq!(changed["version"], 2, "{changed}");
        for key in ["bob", "carol"] {
            desk.succeed(&format!("root sign --base base --repository {repository} --key {key}"));
        }
    }
    desk.succeed("publish --base base");
    let puts = server.take_puts();
    assert!(puts.contains(&"/v1/image/metadata/2.root.json".into()) && puts.contains(&"/v1/director/root/2.root.json".into()), "{puts:?}");
    let root: Value = serde_json::from_slice(&desk.read("base/director/2.root.json")).unwrap();
    assert_eq!(root["signed"]["keys"].as_object().unwrap().len(), 6, "the stolen keys are gone from the Director's root");

    // The thief goes on signing with what was certified once, at any version number.
    let thief = Served { now: stolen.now, ..Served::new(&desk, "operator", 900) };
    let TufOutcome::Refused(error) = thief.refresh(&mut vehicle, None) else { panic!("the stolen key was believed") };
    assert!(matches!(error, TrustError::ThresholdNotMet { valid: 0, .. }), "{error}");
    // The server with the new keys begins again where it likes.
    let served = Served::new(&desk, "new", 1);
    assert!(matches!(served.refresh(&mut vehicle, Some("ultra/tiny-1.0.0.index")), TufOutcome::Found(_)));
}

#[test]
fn a_release_engineers_key_is_replaced() {
    let server = Server::start();
    let desk = published_release(&server);
    let mut vehicle = client(&desk);
    assert_eq!(Served::new(&desk, "operator", 1).refresh(&mut vehicle, None), TufOutcome::Refreshed);
    desk.succeed("key new --unencrypted --out stick release-dora");
    desk.succeed("targets add-key --base base --tier ultra stick/release-dora.pub.json");
    desk.succeed("targets remove-key --base base --tier ultra release-carol");
    desk.succeed("targets sign --base base --key alice");
    let error = desk.refuse("publish --base base");
    assert!(error.contains("targets version 2 cannot be published") && error.contains("1 of 2 signatures (targets-alice"), "{error}");
    let signed = desk.ask("targets sign --base base --key bob");
    assert_eq!(signed["complete"], true);

    // Carol's signature on the published release counts no more: the tier is signed again, by dora.
    desk.succeed("sign --base base --key alice --renew ultra");
    assert!(desk.refuse("sign --base base --key base/keys/release-carol.pem --renew ultra").contains("may not sign vla-ultra"));
    desk.succeed("sign --base base --key stick/release-dora.pem --renew ultra");
    desk.succeed("publish --base base");
    let puts = server.take_puts();
    let position = |end: &str| puts.iter().position(|put| put.ends_with(end)).unwrap_or_else(|| panic!("{end} in {puts:?}"));
    assert!(position("2.targets.json") < position("2.vla-ultra.json"));
    let served = Served::new(&desk, "operator", 2);
    assert!(matches!(served.refresh(&mut vehicle, Some("ultra/tiny-1.0.0.index")), TufOutcome::Found(_)));
    let shown = desk.succeed("targets show --base base");
    assert!(shown.contains("release-dora"), "{shown}");
    // The other tier still has her.
    let keys = desk.ask("key list --base base");
    let carol = keys.as_array().unwrap().iter().find(|key| key["name"] == "release-carol").unwrap();
    assert_eq!(carol["signs"], json!(["vla-ultra-se (2 needed)"]));
}

#[test]
fn a_draft_that_changes_loses_its_signatures() {
    let desk = Desk::new();
    desk.init();
    desk.succeed("root set-threshold --base base --repository director --role root 3");
    desk.succeed("root sign --base base --repository director --key alice");
    let changed = desk.ask("root expire --base base --repository director --at 2090-01-01T00:00:00Z");
    assert_eq!((&changed["version"], &changed["signatures_dropped"]), (&json!(2), &json!(1)));
    assert_eq!(changed["signatures"][1]["signed"], json!([]));
    assert_eq!(changed["expires"], "2090-01-01T00:00:00Z");
    desk.succeed("root discard --base base --repository director");
    assert_eq!(desk.ask("root show --base base --repository director")[0]["draft"], Value::Null);
}

#[test]
fn what_a_ceremony_cannot_mean_is_refused() {
    let desk = Desk::new();
    desk.init();
    let check = |arguments: &str, expected: &str| {
        let error = desk.refuse(arguments);
        assert!(error.contains(expected), "switchback {arguments}\n{error}");
        assert!(!desk.path("base/drafts/image.root.json").exists(), "switchback {arguments}");
    };
    check("root sign --base base --repository image --key alice", "there is no draft of the Image repository root");
    check("root set-threshold --base base --repository image --role root 4", "4 of 3 keys can never sign");
    check("root set-threshold --base base --repository image --role root 0", "0 of 3 keys can never sign");
    check("root remove-key --base base --repository image --role root mallory", "no key of root is called \"mallory\"");
    check("root remove-key --base base --repository image --role root release-alice", "no key of root is called \"release-alice\"");
    check("root add-key --base base --repository image --role root base/keys/image-root-bob.pub.json", "is a key of root already");
    check("root expire --base base --repository image --at 2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z is past");
    check("targets add-key --base base --tier lite base/keys/targets-bob.pub.json", "delegates to no role vla-lite");

    // Fewer keys than the threshold: nobody may begin to sign what nobody could complete.
    for name in ["image-root-alice", "image-root-bob"] {
        desk.succeed(&format!("root remove-key --base base --repository image --role root {name}"));
    }
    let error = desk.refuse("root sign --base base --repository image --key carol");
    assert!(error.contains("root has 1 usable keys, 2 must sign"), "{error}");
}

#[test]
fn a_draft_whose_base_has_moved_on_is_refused() {
    let desk = Desk::new();
    desk.init();
    desk.succeed("root expire --base base --repository image --days 30");
    let stale = desk.read("base/drafts/image.root.json");
    let signers = ["alice", "bob"].map(|name| secret(&desk, &format!("base/keys/image-root-{name}.pem")));
    let signers: Vec<&dyn Signer> = signers.iter().map(|signer| signer as &dyn Signer).collect();
    let root = Signed::<switchback_signing::metadata::Root>::parse(&stale, stale.len()).unwrap().signed;
    // Somebody else published version 2 meanwhile, and this base was brought up to date.
    desk.write("base/image/2.root.json", sign(&root, &signers).unwrap());
    let error = desk.refuse("root sign --base base --repository image --key alice");
    assert!(error.contains("the draft is version 2, and the base has version 2 already"), "{error}");
}
