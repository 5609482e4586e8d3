//! Power is really cut, as far as a machine can do it to itself: on file systems of their own, by the ioctl that shuts one down.
//!
//! Needs root, loop devices and `python3`, so it runs when it is asked for: `docs/crash-testing.md` has the command and what was found.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Recorder, World, lives,
    power::seed,
    world::{History, REACHED, View},
};
use crate::{
    store::{Access, DirEntry, File, Fs, RealFs, Site, Stamp, sim::SimFs},
    testing::noise,
};

/// How often the power of each kind of disk is cut.
const CUTS: &str = "SWITCHBACK_POWER_CUTS";

/// The folder for the store of the vehicle that is to be cut off: set for the process that is it.
const STORE: &str = "SWITCHBACK_POWER_CUT_STORE";

/// Set for a vehicle that never syncs, which must lose something: or the test could not fail.
const CARELESS: &str = "SWITCHBACK_POWER_CUT_CARELESS";

/// Which life the vehicle lives.
const LIFE: &str = "SWITCHBACK_POWER_CUT_LIFE";

/// Opens the folder, waits for a line, and shuts its file system down at once: `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN` have one number.
const CUTTER: &str = "import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(folder, 0x8004587d, struct.pack('I', int(sys.argv[2])))
";

#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// How the file system is made, in a file of so many MiB.
    make: &'static [&'static str],
    mib: u64,
    options: &'static str,
    /// What becomes of the journal: 1, it is written first; 2, it is not.
    flavor: u32,
}

const EXT4: Kind = Kind { name: "ext4, journal lost", make: &["mkfs.ext4", "-q"], mib: 96, options: "loop", flavor: 2 };
const XFS: Kind = Kind { name: "xfs, journal lost", make: &["mkfs.xfs", "-q"], mib: 320, options: "loop", flavor: 2 };
const KINDS: [Kind; 4] = [
    EXT4,
    // Without the guess of ext4 that who renames wants to sync.
    Kind { name: "ext4, journal written", options: "loop,noauto_da_alloc", flavor: 1, ..EXT4 },
    XFS,
    Kind { name: "xfs, journal written", flavor: 1, ..XFS },
];

/// What came of the cuts on one kind of disk.
#[derive(Debug, Default)]
struct Found {
    cuts: usize,
    /// What was acknowledged last was found,
    old: usize,
    /// or what had been begun.
    new: usize,
    wrong: Vec<String>,
}

#[test]
fn power_loss_on_a_real_file_system_leaves_the_old_or_the_new_model_complete() {
    if let Some(store) = std::env::var_os(STORE) {
        return live(Path::new(&store));
    }
    let Ok(cuts) = std::env::var(CUTS) else {
        return eprintln!("left out: real power cuts need root and loop devices; {CUTS}=125 runs them, see docs/crash-testing.md");
    };
    let cuts: usize = cuts.parse().unwrap();
    let world = World::new();
    let careless = search(&world, EXT4, cuts.min(20), true);
    println!("without a single sync, {}: {} of {} cuts lost something", EXT4.name, careless.wrong.len(), careless.cuts);
    assert!(!careless.wrong.is_empty(), "a vehicle that never syncs loses something, or the cuts are none");
    let found = KINDS.map(|kind| {
        let found = search(&world, kind, cuts, false);
        println!("{}: {} cuts, {} old, {} new, {} wrong", kind.name, found.cuts, found.old, found.new, found.wrong.len());
        found
    });
    let wrong: Vec<_> = found.iter().flat_map(|found| &found.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The vehicle: lives until its disk is gone.
fn live(store: &Path) {
    // What the test runner has begun to print is a line of its own.
    println!();
    let real = RealFs::open(store).unwrap();
    let disk: Arc<dyn Fs> = if std::env::var_os(CARELESS).is_some() { Arc::new(Careless(real)) } else { Arc::new(real) };
    let life = std::env::var(LIFE).unwrap().parse().unwrap();
    // The error of a disk that is gone is the end that is wanted.
    let _ = lives::by_chance(&World::new(), &mut Recorder::on(disk), life);
}

/// Cuts the power so often, each time in another life, at another instant, and once more right after the next start.
fn search(world: &World, kind: Kind, cuts: usize, careless: bool) -> Found {
    let mut found = Found::default();
    let disk = RealDisk::make(kind);
    while found.cuts < cuts {
        let life = seed().wrapping_add(found.cuts as u64);
        let history = world.live(SimFs::new(), |world, recorder| lives::by_chance(world, recorder, life)).unwrap();
        let mount = disk.mount();
        // In a folder that has to be made: its name can be lost, too.
        let store = mount.path.join("vehicle").join("store");
        let reached = mount.live_and_cut(&store, life, careless, history.milestones.len());
        drop(mount);
        found.cuts += 1;
        let wrong = |what| format!("{}, life {life}, after {reached} milestones: {what}", kind.name);

        let mount = disk.mount();
        let first = look(world, &store, &history, reached);
        let mount = if careless || first.is_err() {
            mount
        } else {
            // Cut again, with nothing but the recovery done.
            mount.cutter().cut();
            drop(mount);
            found.cuts += 1;
            disk.mount()
        };
        match first.and_then(|first| if careless { Ok(first) } else { again(world, &store, first) }) {
            Ok((Which::Old, _)) => found.old += 1,
            Ok((Which::New, _)) => found.new += 1,
            Err(what) => found.wrong.push(wrong(what)),
        }
        drop(mount);
        disk.make_anew();
    }
    found
}

/// What the start found, of what it may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Old,
    New,
}

fn look(world: &World, store: &Path, history: &History, reached: usize) -> Result<(Which, View), String> {
    let real: Arc<dyn Fs> = Arc::new(RealFs::open(store).map_err(|error| format!("the store does not open: {error}"))?);
    let view = world.recover(&real)?;
    let allowed = history.allowed_after(reached);
    match allowed.iter().position(|allowed| **allowed == view) {
        Some(0) => Ok((Which::Old, view)),
        Some(_) => Ok((Which::New, view)),
        None => Err(format!("found {view:#?}, allowed {allowed:#?}")),
    }
}

/// What was found once is found again, and the update comes to its end.
fn again(world: &World, store: &Path, (which, first): (Which, View)) -> Result<(Which, View), String> {
    let real: Arc<dyn Fs> = Arc::new(RealFs::open(store).map_err(|error| format!("the store does not open again: {error}"))?);
    let view = world.recover(&real)?;
    if view != first {
        return Err(format!("found {view:#?} after {first:#?}"));
    }
    world.complete(&real)?;
    Ok((which, view))
}

/// A file system in a file.
struct RealDisk {
    kind: Kind,
    folder: TempDir,
}

/// A file system that is mounted, until it is dropped.
struct Mount {
    path: PathBuf,
    flavor: u32,
}

/// A process that waits for its moment.
struct Cutter {
    child: Child,
    order: ChildStdin,
}

impl RealDisk {
    fn make(kind: Kind) -> Self {
        let disk = Self { kind, folder: TempDir::new().unwrap() };
        fs::create_dir(disk.folder.path().join("mount")).unwrap();
        disk.make_anew();
        disk
    }

    fn make_anew(&self) {
        let image = self.image();
        let _ = fs::remove_file(&image);
        fs::File::create(&image).unwrap().set_len(self.kind.mib << 20).unwrap();
        run(Command::new(self.kind.make[0]).args(&self.kind.make[1..]).arg(image));
    }

    fn mount(&self) -> Mount {
        let path = self.folder.path().join("mount");
        run(Command::new("mount").args(["-o", self.kind.options]).arg(self.image()).arg(&path));
        Mount { path, flavor: self.kind.flavor }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

impl Mount {
    /// Has a vehicle live on this disk, and cuts the power somewhere in the middle; returns how many milestones were acknowledged.
    fn live_and_cut(&self, store: &Path, life: u64, careless: bool, milestones: usize) -> usize {
        let chance = noise(life, 4);
        let wait_for = (milestones + 1) * usize::from(chance[0]) / 256;
        let then = Duration::from_micros(u64::from(u16::from_le_bytes([chance[1], chance[2]])) / 8);
        let cutter = self.cutter();
        let mut vehicle = Command::new(std::env::current_exe().unwrap());
        vehicle.args(["--exact", "--nocapture", std::thread::current().name().unwrap()]);
        vehicle.env(STORE, store).env(LIFE, life.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
        if careless {
            vehicle.env(CARELESS, "1");
        }
        let mut vehicle = vehicle.spawn().unwrap();
        let lines = follow(BufReader::new(vehicle.stdout.take().unwrap()));
        let mut reached = lines.iter().take(wait_for).count();
        let end = Instant::now() + then;
        while let Ok(()) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            reached += 1;
        }
        cutter.cut();
        // What it was told before the cut is in the pipe; from now on every operation fails, and it ends.
        reached += lines.iter().count();
        vehicle.wait().unwrap();
        reached
    }

    fn cutter(&self) -> Cutter {
        let mut python = Command::new("python3");
        python.args(["-c", CUTTER]).arg(&self.path).arg(self.flavor.to_string());
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let order = child.stdin.take().unwrap();
        Cutter { child, order }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.path));
    }
}

impl Cutter {
    fn cut(mut self) {
        writeln!(self.order, "now").unwrap();
        assert!(self.child.wait().unwrap().success(), "the file system does not let itself be shut down");
    }
}

/// One message for each milestone; the channel closes when the vehicle ends.
fn follow(lines: impl BufRead + Send + 'static) -> Receiver<()> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        lines.lines().map_while(Result::ok).filter(|line| line.starts_with(REACHED)).try_for_each(|_| sender.send(()))
    });
    receiver
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A disk on which nothing is ever synced.
#[derive(Debug)]
struct Careless(RealFs);

#[derive(Debug)]
struct CarelessFile(Box<dyn File>);

impl Fs for Careless {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }

    fn sync_dir(&self, _: &Path, _: Site) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(CarelessFile(self.0.create(path)?)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(CarelessFile(self.0.open(path, access)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.0.stamp(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }

    fn location(&self, path: &Path) -> PathBuf {
        self.0.location(path)
    }
}

impl File for CarelessFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn stamp(&self) -> io::Result<Stamp> {
        self.0.stamp()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8], site: Site) -> io::Result<()> {
        self.0.write_at(offset, bytes, site)
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.0.allocate(length)
    }

    fn sync(&mut self, _: Site) -> io::Result<()> {
        Ok(())
    }

    fn forget_cache(&self) {}
}
