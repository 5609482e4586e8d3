//! An offline update on a stick, laid out as `switchback offline create` writes it.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use switchback_signing::testing::TestRepositories;

use super::server::Server;

const BLOCK: usize = 512;

/// Writes what the server has now, marked for an offline update.
pub(crate) fn write(server: &Server, file: &Path) {
    let state = server.lock();
    let mut archive = Vec::new();
    let repositories = marked(state.repositories.clone());
    for (folder, repository) in [("director", &repositories.director), ("image", &repositories.image)] {
        for (name, bytes) in &repository.files {
            add(&mut archive, &format!("{folder}/metadata"), name, bytes);
        }
    }
    for (path, bytes) in &state.blobs {
        let (folder, name) = path.rsplit_once('/').unwrap();
        add(&mut archive, &format!("image/targets/{folder}"), name, bytes);
    }
    archive.extend([0; 2 * BLOCK]);
    std::fs::write(file, archive).unwrap();
}

/// The same repositories as they go into a file.
pub(crate) fn marked(mut repositories: TestRepositories) -> TestRepositories {
    for repository in [&mut repositories.director, &mut repositories.image] {
        repository.timestamp = repository.timestamp.clone().for_offline_update();
        repository.publish();
    }
    repositories
}

/// One member: its ustar header, its content and the padding.
fn add(archive: &mut Vec<u8>, folder: &str, name: &str, content: &[u8]) {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(345, folder.as_bytes());
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(block);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}
