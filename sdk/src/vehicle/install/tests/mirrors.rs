//! Several servers have the bundle; none is believed, and each is told nothing but which bytes are wanted.

use super::*;

fn scene(mirrors: &[&str]) -> Scene {
    let disk = Arc::new(tempfile::tempdir().unwrap());
    Scene::with(release_under(2, WEIGHTS, None), &disk, |config| {
        config.mirror_urls = mirrors.iter().map(|host| format!("https://{host}")).collect();
    })
}

impl Scene {
    fn fate(&self, host: &str, fate: Fate) {
        self.shelf.fates.lock().unwrap().insert(host.to_owned(), fate);
    }

    /// Hosts that were asked for the bundle, in their order.
    fn asked(&self) -> Vec<String> {
        let seen = self.shelf.seen.lock().unwrap();
        seen.iter().filter(|(_, path, _)| path.ends_with(".tar.zst")).map(|(host, ..)| host.clone()).collect()
    }

    fn install_all(&self) -> Result<Box<InstalledModel>, Setback> {
        let mut store = self.store();
        let mut install = self.begin(None, &mut store)?;
        self.run(&mut install, &mut store)
    }
}

#[test]
fn the_bundle_comes_from_the_first_mirror_that_has_it() {
    let scene = scene(&["one", "two"]);
    assert_installed(&scene, &scene.install_all().unwrap());
    assert_eq!(scene.asked(), ["one"]);
    let scene = self::scene(&["one", "two"]);
    scene.fate("one", Fate::Refuses);
    *scene.shelf.breaks_after.lock().unwrap() = Some(2 << 20);
    assert_installed(&scene, &scene.install_all().unwrap());
    assert_eq!(scene.asked(), ["one", "two", "server"], "where one breaks off the next goes on");
    let ranges = scene.shelf.ranges.lock().unwrap().clone();
    assert!(ranges.last().unwrap().start > 1 << 20, "{ranges:?}");
}

#[test]
fn mirrors_are_told_nothing_but_which_bytes_are_wanted() {
    let scene = scene(&["one", "two"]);
    scene.fate("one", Fate::Refuses);
    *scene.shelf.breaks_after.lock().unwrap() = Some(2 << 20);
    scene.install_all().unwrap();
    let seen = scene.shelf.seen.lock().unwrap();
    for (host, path, headers) in seen.iter().filter(|(host, ..)| host != "server") {
        assert!(path.starts_with("v1/image/targets/") && path.ends_with(".tar.zst"), "{host} was asked for {path}");
        assert_eq!(headers, &["range"], "{host}");
    }
    let index = seen.iter().find(|(_, path, _)| path.ends_with(".index")).unwrap();
    assert_eq!(index.0, "server", "what is small comes from the repository itself");
}

#[test]
fn a_mirror_that_alters_bytes_costs_one_chunk_and_the_next_one_is_asked() {
    let scene = scene(&["one"]);
    scene.fate("one", Fate::Alters);
    assert_installed(&scene, &scene.install_all().unwrap());
    assert_eq!(scene.asked(), ["one", "server"]);
}

#[test]
fn when_every_server_fails_the_download_waits_and_when_every_one_lies_it_ends() {
    let scene = scene(&["one", "two"]);
    for host in ["one", "two", "server"] {
        scene.fate(host, Fate::Refuses);
    }
    assert!(matches!(scene.install_all(), Err(Setback::Network(_))));
    assert_eq!(scene.asked(), ["one", "two", "server"]);
    let scene = self::scene(&["one", "two", "three", "four"]);
    for host in ["one", "two", "three", "four", "server"] {
        scene.fate(host, Fate::Alters);
    }
    assert!(matches!(scene.install_all(), Err(Setback::Failed(reason, _, Some(Attack::ArbitrarySoftware))) if reason.number == 212));
    assert_eq!(scene.asked(), ["one", "two", "three", "four", "server"], "each was asked");
}

#[test]
fn a_mirror_without_encryption_is_refused_like_any_server() {
    let identity = Identity {
        vehicle_id: "v-1".into(),
        ecu_serial: "ecu-1".into(),
        hardware_id: "thor".into(),
        tier: "ultra".into(),
        region: "eu".into(),
    };
    let mut config = VehicleConfig::new("/nowhere", "https://server", TestRepositories::new().anchors(), identity);
    for (mirror, expected) in [("http://mirror.example", "mirror_urls"), ("mirror", "https://host")] {
        config.mirror_urls = vec![mirror.to_owned()];
        let error = Link::new(&config, &Cancel::default()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
