//! How fast a verified bundle reaches the slot, and how much memory that takes.

use std::{fs::File, io::Read, path::Path};

use switchback_sdk::store::{CHECKPOINT_BYTES, Incoming, Occupant, Store};
use switchback_signing::{
    bundle::{BundleWriter, ChunkDecoder, ChunkIndex, ContentKey, TarReader},
    digest::Sha256Digest,
};
use switchback_tests::unpack::unpack;
use tempfile::TempDir;

use crate::{
    report::{Report, cpu_time, forget_peak, peak_memory},
    track::Packed,
};

/// 256 MB of weights.
const WEIGHTS: usize = 64 << 20;

pub(crate) fn run(report: &mut Report) {
    let packed = Packed::new(1, WEIGHTS);
    let index = ChunkIndex::parse(&std::fs::read(&packed.bundle.index).unwrap()).unwrap();
    let base = TempDir::new().unwrap();
    let (mut store, _) = Store::open_dir(base.path()).unwrap();

    let plain = install(&mut store, &index, &packed.bundle.bundle, None);
    let Cost { cpu_s, memory_mib } = plain;

    let megabytes = index.tar_length() as f64 / 1e6;
    let note = format!(
        "{megabytes:.0} MB raw, {:.0} MB stored; SHA-256 before and after zstd, strict tar, write, sync, read back",
        index.bundle_length() as f64 / 1e6
    );
    report.add("install_mb_per_cpu_s", megabytes / cpu_s, "MB/s", &note);
    report.add("install_rss_delta_mib", memory_mib, "MiB", &note);

    let key = ContentKey::from_bytes([7; 32]);
    let sealed_path = base.path().join("encrypted.tar.zst");
    let sealed_index = encrypt(&packed, &key, &sealed_path);
    let sealed = install(&mut store, &sealed_index, &sealed_path, Some(&key));
    let note = format!("CPU time of the same release encrypted, {:.2} s, over that of the plain one, {cpu_s:.2} s", sealed.cpu_s);
    report.add("install_encrypted_ratio", sealed.cpu_s / cpu_s, "", &note);
    let note = "memory of the encrypted one, a buffer of a chunk more";
    report.add("install_encrypted_rss_delta_mib", sealed.memory_mib, "MiB", note);
}

/// The same members under a key.
fn encrypt(packed: &Packed, key: &ContentKey, path: &Path) -> ChunkIndex {
    let folder = TempDir::new().unwrap();
    let manifest = unpack(&packed.bundle, folder.path());
    let mut writer = BundleWriter::encrypted(File::create(path).unwrap(), manifest.clone(), key).unwrap();
    for file in &manifest.files {
        writer.file(File::open(folder.path().join(&file.path)).unwrap()).unwrap();
    }
    writer.finish().unwrap().1
}

struct Cost {
    cpu_s: f64,
    memory_mib: f64,
}

/// What it takes to bring a bundle into a slot.
fn install(store: &mut Store, index: &ChunkIndex, bundle: &Path, key: Option<&ContentKey>) -> Cost {
    let bundle = File::open(bundle).unwrap();
    forget_peak();
    let (cpu_before, memory_before) = (cpu_time(), peak_memory());
    write(store, index, &index.to_bytes(), bundle, key);
    Cost { cpu_s: (cpu_time() - cpu_before).as_secs_f64(), memory_mib: (peak_memory() - memory_before) as f64 / f64::from(1 << 20) }
}

fn write(store: &mut Store, index: &ChunkIndex, index_bytes: &[u8], mut bundle: File, key: Option<&ContentKey>) {
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
    let (mut decoder, mut reader) = (ChunkDecoder::new(index, key).unwrap(), TarReader::new(index));
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
