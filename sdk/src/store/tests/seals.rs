//! Files that are changed after they were read back.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{install, open};
use crate::{
    store::{Access, Fs, InstalledModel, RealFs, Site, sim::SimFs},
    testing::release,
};

/// How long a change may take to show. A file system notes the time of a change in ticks of its own, some milliseconds long; what
/// happens twice within one tick looks like once.
const TICK_MAX: Duration = Duration::from_secs(120);

/// A model on a real disk, and the folder of its slot.
fn installed(base: &Path) -> (InstalledModel, std::path::PathBuf) {
    let disk: Arc<dyn Fs> = Arc::new(RealFs::open(base).unwrap());
    let model = install(&mut open(&disk), &release(1, 5000)).unwrap();
    let folder = model.dir().to_owned();
    (model, folder)
}

/// Does it until the file system's clock has moved on.
#[track_caller]
fn shows(what: &str, broken: &str, change: impl Fn(&Path)) {
    let base = tempfile::tempdir().unwrap();
    let (model, folder) = installed(base.path());
    assert_eq!(model.seal().broken(), None);
    let begun = Instant::now();
    while model.seal().broken().is_none() {
        assert!(begun.elapsed() < TICK_MAX, "{what} does not show");
        change(&folder);
    }
    let expected = Path::new("slots").join(model.slot().name()).join(broken);
    assert!(model.seal().broken() == Some(&expected) || broken.is_empty(), "{what}: {:?}", model.seal().broken());
}

/// Each leaves the very bytes that were verified when it is done.
#[test]
fn files_that_were_exchanged_for_a_while_are_not_the_ones_that_were_read_back() {
    shows("other bytes, and then the first again", "model.onnx", |folder| {
        let path = folder.join("model.onnx");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, b"another model").unwrap();
        fs::write(&path, bytes).unwrap();
    });
    shows("the same with the time of the change forged", "model.onnx", |folder| {
        let path = folder.join("model.onnx");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, b"another model").unwrap();
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    });
    shows("another file under its name, and back", "", |folder| {
        let (path, aside) = (folder.join("model.onnx"), folder.with_extension("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::write(&path, b"another model").unwrap();
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    });
    shows("a link in its place, and back", "", |folder| {
        let (path, aside) = (folder.join("model.onnx"), folder.with_extension("aside"));
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    });
    shows("another folder in the place of the slot, and back", "", |folder| {
        let aside = folder.with_extension("aside");
        fs::rename(folder, &aside).unwrap();
        fs::create_dir(folder).unwrap();
        fs::remove_dir(folder).unwrap();
        fs::rename(&aside, folder).unwrap();
    });
    shows("one more file, and gone", "", |folder| {
        fs::write(folder.join("weights.bin"), b"x").unwrap();
        fs::remove_file(folder.join("weights.bin")).unwrap();
    });
    shows("a file that is gone", "", |folder| {
        let _ = fs::remove_file(folder.join("model.onnx"));
    });
}

#[test]
fn what_nobody_touched_is_sealed_on_every_file_system() {
    let base = tempfile::tempdir().unwrap();
    let disks: [Arc<dyn Fs>; 2] = [Arc::new(SimFs::new()), Arc::new(RealFs::open(base.path()).unwrap())];
    for disk in disks {
        let mut store = open(&disk);
        let model = install(&mut store, &release(1, 5000)).unwrap();
        // Reading changes nothing, and neither does what the store writes elsewhere.
        let again = store.load(model.slot()).unwrap();
        let other = install(&mut store, &release(2, 0)).unwrap();
        assert_ne!(other.slot(), model.slot());
        assert_eq!((model.seal().broken(), again.seal().broken()), (None, None));
        let path = format!("slots/{}/model.onnx", model.slot());
        let begun = Instant::now();
        while model.seal().broken().is_none() {
            assert!(begun.elapsed() < TICK_MAX, "the change does not show");
            disk.open(Path::new(&path), Access::ReadWrite).unwrap().write_at(0, b"x", Site::here()).unwrap();
        }
    }
}
