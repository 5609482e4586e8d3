//! The vehicle's disk takes no more. The old model drives on, the reason is told, and with room again the update completes.

use std::process::Command;

use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    disk::start_on_small_disk,
    model::Straight,
    programs::{leave_out, program},
    proxy::{Fate, Proxy, Request},
    server::Server,
    vehicle::VehicleProgram,
};

const MIB: usize = 1 << 20;
/// What the vehicle keeps free besides the update itself.
const RESERVE: usize = 16 * MIB;
/// Weights of the second model; four bytes each on the disk.
const WEIGHTS: usize = 3 * MIB;

struct Road {
    server: Server,
    desk: Desk,
    garage: Garage,
}

impl Road {
    fn new() -> Self {
        let server = Server::start();
        let desk = Desk::open(&server);
        desk.release(&Straight::new(0.001).write(), Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" });
        desk.roll_out("vla-1", "1.0.0");
        let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
        Self { server, desk, garage }
    }

    /// A full disk says nothing about the release, so even the strictest limit does not stop its rollout.
    fn release_second(&self) -> u64 {
        let second = Straight { weights: WEIGHTS, ..Straight::new(0.002) };
        self.desk.release(&second.write(), Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" });
        self.desk.roll_out("vla-2", "2.0.0")
    }
}

#[test]
fn a_full_disk_is_told_as_the_reason_and_once_there_is_room_the_update_completes() {
    let road = Road::new();
    let proxy = Proxy::start(road.server.url()).unwrap();
    // Room for both models, the reserve and a little more.
    let bytes = RESERVE + 4 * WEIGHTS + 8 * MIB;
    let Some((mut vehicle, disk)) = start_on_small_disk(&road.garage, bytes as u64, proxy.url(), "2.0.0") else {
        return leave_out("a really full file system: neither `unshare` nor `mount` may be used here");
    };
    vehicle.until("confirmed", "vla-1 1.0.0");

    // Too little room from the beginning: told before a byte is downloaded.
    disk.fill(12 * MIB);
    let id = road.release_second();
    vehicle.until("refused", "the update needs");
    let rollout = road.desk.rollout_until(id, |rollout| rollout["waves"][0]["reasons"].to_string().contains("space_missing"));
    assert_eq!(rollout["state"], "running", "{rollout:#}");
    assert!(!proxy.requests().iter().any(of_second), "nothing of the bundle was asked for");

    // Room enough, and then somebody else takes it in the middle of the download.
    proxy.set_rule(|request| if of_second(request) { Fate::CutBody(700_000) } else { Fate::Pass });
    disk.clear();
    vehicle.until("download-paused", "vla-2 2.0.0");
    disk.fill(usize::MAX);
    proxy.set_rule(|_| Fate::Pass);
    vehicle.until("refused", "the disk is full: cannot");

    disk.clear();
    let summary = vehicle.until_reached();
    assert_eq!((&summary["model"], &summary["end"]), (&"vla-2".into(), &"confirmed".into()), "{summary:#}");
    assert_eq!((&summary["invalid_frames"], &summary["fallbacks"]), (&0.into(), &0.into()), "the old model drove on: {summary:#}");
}

/// Works everywhere, also where nobody may mount: the system refuses every file that is longer than so many bytes.
#[test]
fn a_file_that_the_system_does_not_take_is_told_as_the_reason_and_the_next_start_completes_the_update() {
    let road = Road::new();
    VehicleProgram::start(&road.garage, road.server.url(), "1.0.0").until_reached();
    road.release_second();

    // In blocks of 512 bytes. Without the trap, the signal that comes along would end the program.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", MIB / 512);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(script).arg(program("rust-vehicle"));
    let mut vehicle = VehicleProgram::launch(limited, &road.garage, road.server.url(), "2.0.0");
    let line = vehicle.until("refused", "model.onnx");
    assert!(line.contains("File too large"), "{line}");
    vehicle.kill();
    let car = road.garage.start("http://127.0.0.1:9");
    assert_eq!((car.active().as_deref(), car.curvatures.as_slice()), (Some("vla-1 1.0.0"), [0.001].as_slice()));
    drop(car);

    let summary = VehicleProgram::start(&road.garage, road.server.url(), "2.0.0").until_reached();
    assert_eq!((&summary["model"], &summary["invalid_frames"]), (&"vla-2".into(), &0.into()), "{summary:#}");
}

fn of_second(request: &Request) -> bool {
    request.path.ends_with("vla-2-2.0.0.tar.zst")
}
