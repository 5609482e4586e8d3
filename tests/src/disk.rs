//! A file system that can really be full, for a vehicle that runs as a process of its own.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{car::Garage, programs::program, vehicle::VehicleProgram};

/// What a mount needs that is only there for one program: the right to mount, and that nobody else sees it.
const WAYS: [&[&str]; 2] = [
    // An ordinary user, where the system lets people make name spaces.
    &["unshare", "--user", "--map-root-user", "--mount"],
    // Root, where it does not.
    &["unshare", "--mount"],
];

/// Mounts a small file system where the store is, and becomes the vehicle.
const SCRIPT: &str = r#"mount -t tmpfs -o "size=$SIZE" small "$STORE" && exec "$0" "$@""#;

/// Starts a vehicle whose store lies on a file system of so many bytes; `None` on a machine that lets nobody mount one.
pub fn start_on_small_disk(garage: &Garage, bytes: u64, server: &str, until_version: &str) -> Option<(VehicleProgram, SmallDisk)> {
    let way = WAYS.into_iter().find(|way| works(way))?;
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).args(["sh", "-c", SCRIPT]).arg(program("rust-vehicle"));
    command.env("SIZE", bytes.to_string()).env("STORE", garage.store());
    let vehicle = VehicleProgram::launch(command, garage, server, until_version);
    let disk = SmallDisk {
        folder: Path::new("/proc").join(vehicle.pid().to_string()).join("root").join(garage.store().strip_prefix("/").unwrap()),
    };
    Some((vehicle, disk))
}

fn works(way: &[&str]) -> bool {
    let tried = Command::new(way[0]).args(&way[1..]).args(["mount", "-t", "tmpfs", "small", "/tmp"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The file system of a running vehicle, as the vehicle sees it.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Somebody else fills the disk, up to `bytes` or until there is no more room.
    pub fn fill(&self, bytes: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let block = [0x5a; 4096];
        for _ in 0..bytes.div_ceil(block.len()) {
            match ballast.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// And makes room again.
    pub fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}
