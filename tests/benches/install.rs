//! How fast a verified bundle reaches the slot, and how much memory that takes.

use std::{fs::File, io::Read};

use switchback_sdk::store::{CHECKPOINT_BYTES, Incoming, Occupant, Store};
use switchback_signing::{
    bundle::{ChunkDecoder, ChunkIndex, TarReader},
    digest::Sha256Digest,
};
use tempfile::TempDir;

use crate::{
    report::{Report, cpu_time, forget_peak, peak_memory},
    track::Packed,
};

/// 256 MB of weights.
const WEIGHTS: usize = 64 << 20;

pub(crate) fn run(report: &mut Report) {
    let packed = Packed::new(1, WEIGHTS);
    let index_bytes = std::fs::read(&packed.bundle.index).unwrap();
    let index = ChunkIndex::parse(&index_bytes).unwrap();
    let base = TempDir::new().unwrap();
    let (mut store, _) = Store::open_dir(base.path()).unwrap();

    forget_peak();
    let (cpu_before, memory_before) = (cpu_time(), peak_memory());
    install(&mut store, &index, &index_bytes, File::open(&packed.bundle.bundle).unwrap());
    let cpu_s = (cpu_time() - cpu_before).as_secs_f64();
    let memory_mib = (peak_memory() - memory_before) as f64 / f64::from(1 << 20);

    let megabytes = index.tar_length() as f64 / 1e6;
    let note = format!(
        "{megabytes:.0} MB raw, {:.0} MB stored; SHA-256 before and after zstd, strict tar, write, sync, read back",
        index.bundle_length() as f64 / 1e6
    );
    report.add("install_mb_per_cpu_s", megabytes / cpu_s, "MB/s", &note);
    report.add("install_rss_delta_mib", memory_mib, "MiB", &note);
}

fn install(store: &mut Store, index: &ChunkIndex, index_bytes: &[u8], mut bundle: File) {
    let occupant = Occupant {
        target: "ultra/bench-1.index".to_owned(),
        index_length: index_bytes.len() as u64,
        index_sha256: Sha256Digest::of(index_bytes),
        manifest_sha256: index.manifest_sha256(),
        model: "bench".to_owned(),
        version: "1".to_owned(),
        release_counter: 1,
    };
    let mut installation = store.prepare(&Incoming { occupant, tar_length: index.tar_length() }).unwrap();
    let (mut decoder, mut reader) = (ChunkDecoder::new().unwrap(), TarReader::new(index));
    let (mut stored, mut since_checkpoint) = (Vec::new(), 0);
    for row in index.rows() {
        stored.resize(row.stored_length() as usize, 0);
        bundle.read_exact(&mut stored).unwrap();
        let mut chunk = decoder.decode(index.verify_stored(row.number(), &stored).unwrap()).unwrap();
        while let Some(event) = reader.next(&mut chunk).unwrap() {
            installation.apply(event).unwrap();
        }
        since_checkpoint += u64::from(row.raw_length());
        if since_checkpoint >= CHECKPOINT_BYTES {
            store.checkpoint(&mut installation, row.number() as u64 + 1).unwrap();
            since_checkpoint = 0;
        }
    }
    reader.finish().unwrap();
    store.finish(installation).unwrap();
}
