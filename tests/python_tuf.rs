//! The client of the reference implementation of TUF follows what our server serves and our command line signs.

use std::path::Path;

use serde_json::{Value, json};
use switchback_signing::keys::{Sha256Digest, Signer};
use switchback_tests::{
    desk::{Bundle, Desk, Named},
    model::Straight,
    paper::PaperVehicle,
    server::Server,
};
use tempfile::TempDir;

use crate::python::TUF;

/// What its client finds on a running server.
struct Follower<'a> {
    desk: &'a Desk,
    server: &'a Server,
    vehicle: PaperVehicle,
    folder: TempDir,
}

impl Follower<'_> {
    /// Comes up to date in both repositories and downloads the files of a release.
    fn follow(&self, bundle: &Bundle, named: Named<'_>) -> Value {
        let Named { model, version, tier, .. } = named;
        let paths =
            [(format!("{tier}/{model}-{version}.index"), &bundle.index), (format!("{tier}/{model}-{version}.tar.zst"), &bundle.bundle)];
        let seed: String = self.vehicle.seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let order = json!({
            "server": self.server.url(), "folder": self.folder.path(),
            "image_root": self.desk.image_root(), "director_root": self.desk.director_root(),
            "vehicle": {"id": self.vehicle.id, "key_id": self.vehicle.key.public_key().key_id().as_str(), "seed": seed},
            "targets": paths.each_ref().map(|(path, _)| path),
        });
        let file = self.folder.path().join("order.json");
        std::fs::write(&file, order.to_string()).unwrap();
        let found: Value = serde_json::from_str(&TUF.run("follow_repositories.py", &[&file])).unwrap();
        for (path, local) in paths {
            let bytes = std::fs::read(local).unwrap();
            let expected = json!({"length": bytes.len(), "sha256": Sha256Digest::of(&bytes).to_hex()});
            assert_eq!(found["image"]["targets"][&path], expected, "{path}");
        }
        assert_eq!(found["image"]["unlisted"], false);
        let index = Sha256Digest::of(&std::fs::read(&bundle.index).unwrap()).to_hex();
        assert_eq!(found["director"]["targets"], json!({format!("{tier}/{model}-{version}.index"): index}), "the vehicle's assignment");
        found
    }
}

/// Both repositories, the delegated role of a tier, the bundles themselves, a second release, other root keys and other online keys, and
/// a release after that; by a client that was given the first roots and nothing else.
#[test]
fn the_reference_client_follows_our_server_through_releases_and_a_rotation() {
    if !TUF.are_installed() {
        return;
    }
    let server = Server::start();
    let desk = Desk::open(&server);
    let vehicle = PaperVehicle::enroll(&desk, server.url(), "paper-1");
    let follower = Follower { desk: &desk, server: &server, vehicle, folder: TempDir::new().unwrap() };
    let release = |counter: u64| {
        let names = [("vla-1", "1.0.0"), ("vla-2", "2.0.0"), ("vla-3", "3.0.0")];
        let (model, version) = names[counter as usize - 1];
        let named = Named { model, version, counter, tier: "ultra" };
        let bundle = desk.release(&Straight::new(0.001 * counter as f32).write(), named);
        desk.roll_out(model, version);
        (bundle, named)
    };
    let root_versions = |found: &Value| (found["image"]["versions"]["root"].clone(), found["director"]["versions"]["root"].clone());
    let (bundle, named) = release(1);
    assert_eq!(root_versions(&follower.follow(&bundle, named)), (json!(1), json!(1)));
    let (bundle, named) = release(2);
    let before = follower.follow(&bundle, named);

    rotate(&desk);
    let after = follower.follow(&bundle, named);
    assert_eq!(root_versions(&after), (json!(2), json!(2)));
    for repository in ["image", "director"] {
        let version = |found: &Value| found[repository]["versions"]["timestamp"].as_u64().unwrap();
        assert!(version(&after) > version(&before), "{repository}: signed anew by the new keys");
    }
    let (bundle, named) = release(3);
    follower.follow(&bundle, named);
    // And a client that begins only now.
    let late = Follower { folder: TempDir::new().unwrap(), ..follower };
    assert_eq!(root_versions(&late.follow(&bundle, named)), (json!(2), json!(2)));
}

/// In both roots dora takes carol's place, and the server's new keys those of the old.
fn rotate(desk: &Desk) {
    let (base, keys) = (desk.base(), desk.base().join("dora"));
    let order = |words: &[&str], key: Option<&Path>| {
        let mut paths = vec![("--base", base.as_path())];
        paths.extend(key.map(|key| ("", key)));
        desk.succeed(words, &paths)
    };
    for (repository, new) in [("image", &["--new"][..]), ("director", &[])] {
        let name = format!("{repository}-root-dora");
        desk.succeed(&["key", "new", "--unencrypted", &name], &[("--out", &keys)]);
        let key = keys.join(format!("{name}.pub.json"));
        order(&["root", "add-key", "--repository", repository, "--role", "root"], Some(&key));
        order(&["root", "remove-key", "--repository", repository, "--role", "root", &format!("{repository}-root-carol")], None);
        order(&[&["root", "online-keys", "--repository", repository], new].concat(), None);
        order(&["root", "sign", "--repository", repository, "--key", "alice"], None);
        let secret = keys.join(format!("{name}.pem"));
        order(&["root", "sign", "--repository", repository, "--key", &secret.to_string_lossy()], None);
        order(&["root", "cross-sign", "--repository", repository, "--key", "carol"], None);
    }
    desk.publish();
}
