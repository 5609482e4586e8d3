//! A download over a network that breaks again and again, in a vehicle whose power is cut again and again.

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use switchback_tests::{
    PATIENCE,
    car::Garage,
    desk::{Desk, Named},
    model::{Straight, noise},
    programs::program,
    proxy::{Fate, Proxy, Request},
    server::Server,
    vehicle::VehicleProgram,
};

/// Each file is a chunk of its own: small ones, so that a hundred cuts fit a download of seconds.
const CHUNKS: usize = 160;
const CHUNK: usize = 64 << 10;
/// What a chunk may take more in the bundle.
const CHUNK_STORED: u64 = CHUNK as u64 + 1024;
/// Every few chunks.
const CHECKPOINT: u64 = 4 * CHUNK as u64;
/// Cuts in one run of the test.
const CUTS: usize = 100;
/// Every so many cuts, power is cut with the connection.
const KILL_EVERY: usize = 2;

/// What became of one request for the bundle.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: u64,
    /// Bytes until the connection was cut; none when it passed.
    cut_after: Option<usize>,
    hung: bool,
}

#[test]
fn a_download_that_is_cut_a_hundred_times_brings_the_right_model_and_repeats_no_more_than_a_checkpoint() {
    let seed = std::env::var("SWITCHBACK_SEED").ok().map_or_else(
        || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        |text| text.parse().unwrap_or_else(|_| panic!("SWITCHBACK_SEED={text} is no number")),
    );
    println!("the same cuts again: SWITCHBACK_SEED={seed}");
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" });
    desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    VehicleProgram::start(&garage, server.url(), "1.0.0").until_reached();

    let mut second = Straight::new(0.002).write();
    for number in 0..CHUNKS {
        second.add_data(&format!("part-{number:03}.bin"), &noise(seed + number as u64, CHUNK));
    }
    let bundle = desk.release(&second, Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" });
    desk.roll_out("vla-2", "2.0.0");

    let proxy = Proxy::start(server.url()).unwrap();
    let parts: Arc<Mutex<Vec<Part>>> = Arc::default();
    let cuts: Vec<Fate> =
        offsets(seed).enumerate().map(|(number, at)| if number % KILL_EVERY == 0 { Fate::Hang(at) } else { Fate::CutBody(at) }).collect();
    let log = Arc::clone(&parts);
    proxy.set_rule(move |request| {
        if !of_second(request) {
            return Fate::Pass;
        }
        let mut parts = log.lock().unwrap();
        let fate = cuts.get(parts.len()).cloned().unwrap_or(Fate::Pass);
        let (cut_after, hung) = match fate {
            Fate::CutBody(at) => (Some(at), false),
            Fate::Hang(at) => (Some(at), true),
            _ => (None, false),
        };
        parts.push(Part { from: request.range_from.unwrap_or(0), cut_after, hung });
        fate
    });

    let mut kills = 0;
    loop {
        let mut program = start(&garage, &proxy);
        let end = Instant::now() + PATIENCE;
        // Until the connection hangs, which is when power is cut, or until all is over.
        while proxy.hangs() == kills && !program.has_told("confirmed") {
            assert!(
                Instant::now() < end,
                "seed {seed}: neither a cut nor the end: {:?}\n{}",
                parts.lock().unwrap(),
                program.told().join("\n")
            );
            program.run_for(Duration::from_millis(20));
        }
        if proxy.hangs() == kills {
            let summary = program.until_reached();
            assert_eq!((&summary["model"], &summary["invalid_frames"]), (&"vla-2".into(), &0.into()), "seed {seed}: {summary:#}");
            break;
        }
        program.kill();
        kills += 1;
    }

    let parts = parts.lock().unwrap();
    let cuts = parts.iter().filter(|part| part.cut_after.is_some()).count();
    assert!(cuts == CUTS && kills >= CUTS / KILL_EVERY, "seed {seed}: {cuts} cuts and {kills} kills: {parts:?}");
    for (number, pair) in parts.windows(2).enumerate() {
        let reached = pair[0].from + pair[0].cut_after.unwrap_or(0) as u64;
        let repeated = reached.saturating_sub(pair[1].from);
        // What came of the chunk that was on its way goes with it.
        let most = if pair[0].hung { CHECKPOINT + CHUNK_STORED } else { CHUNK_STORED };
        assert!(repeated <= most, "seed {seed}, cut {number}: {repeated} bytes were sent again: {pair:?}");
    }
    let bundle_bytes = bundle.bundle.metadata().unwrap().len();
    let sent = sent_bytes(&parts, bundle_bytes);
    let most = bundle_bytes + (kills as u64) * (CHECKPOINT + CHUNK_STORED) + (cuts as u64) * CHUNK_STORED;
    assert!(sent <= most, "seed {seed}: {sent} bytes were sent for a bundle of {bundle_bytes}");
    // What drives now is what was released, also at the next ignition.
    let car = garage.start("http://127.0.0.1:9");
    assert_eq!((car.active().as_deref(), car.curvatures.as_slice()), (Some("vla-2 2.0.0"), [0.002].as_slice()));
}

fn start(garage: &Garage, proxy: &Proxy) -> VehicleProgram {
    let mut command = Command::new(program("rust-vehicle"));
    command.args(["--checkpoint-bytes", &CHECKPOINT.to_string()]);
    VehicleProgram::launch(command, garage, proxy.url(), "2.0.0")
}

fn of_second(request: &Request) -> bool {
    request.path.ends_with("vla-2-2.0.0.tar.zst")
}

/// Where the connections break: most within a chunk, and where power is cut some chunks later, so that a checkpoint lies in between.
fn offsets(seed: u64) -> impl Iterator<Item = usize> {
    let random = noise(seed, 4 * CUTS);
    (0..CUTS).map(move |number| {
        let share = u32::from_le_bytes([random[4 * number], random[4 * number + 1], random[4 * number + 2], random[4 * number + 3]]);
        let span = if number % KILL_EVERY == 0 { 6 * CHUNK } else { CHUNK + CHUNK / 4 };
        1 + ((u64::from(share) * span as u64) >> 32) as usize
    })
}

/// Bytes of the bundle that the server sent: what was cut, and of what passed the rest of the file.
fn sent_bytes(parts: &[Part], bundle_bytes: u64) -> u64 {
    parts.iter().map(|part| part.cut_after.map_or(bundle_bytes - part.from, |at| (at as u64).min(bundle_bytes - part.from))).sum()
}
