//! The images of a crash have everything in them that a disk may do, and nothing that it may not.

use std::{collections::BTreeSet, path::Path};

use super::super::{
    fs::{Access, Fs, Site, read_full},
    sim::{Sampling, SimFs},
};

const ALL: Sampling = Sampling { exhaustive_changes_max: 12, exhaustive_blocks_max: 8, random_images: 50, seed: 1 };

/// What the files hold that have a name, in every image after the last operation.
fn images(fs: &SimFs) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let point = fs.crash_points() - 1;
    fs.crash_images(point, ALL).into_iter().map(|image| files(&image.fs, "")).collect()
}

fn files(fs: &SimFs, folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs.read_dir(Path::new(folder)).unwrap() {
        let path = Path::new(folder).join(&entry.name).to_string_lossy().into_owned();
        match fs.open(Path::new(&path), Access::Read) {
            Err(_) => found.extend([(format!("{path}/"), Vec::new())].into_iter().chain(files(fs, &path))),
            Ok(file) => {
                let mut bytes = vec![0; file.length().unwrap() as usize];
                read_full(file.as_ref(), 0, &mut bytes).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found
}

fn create(fs: &SimFs, path: &str, bytes: &[u8]) -> Box<dyn super::super::File> {
    let mut file = fs.create(Path::new(path)).unwrap();
    file.write_at(0, bytes, Site::here()).unwrap();
    file
}

fn sync_dir(fs: &SimFs, path: &str) {
    fs.sync_dir(Path::new(path), Site::here()).unwrap();
}

fn named(name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes)
}

/// `x` where a piece of so many bytes arrived.
fn pieces(length: usize, block: usize, arrived: &[usize], rest: u8) -> Vec<u8> {
    (0..length).map(|at| if arrived.contains(&(at / block)) { b'x' } else { rest }).collect()
}

#[test]
fn a_file_that_was_not_synced_is_there_in_any_part() {
    let fs = SimFs::new();
    create(&fs, "f", &[b'x'; 10_000]);
    let found = images(&fs);
    let contains = |bytes: Vec<u8>| found.contains(&vec![named("f", bytes)]);
    assert!(found.contains(&vec![]), "no name");
    assert!(contains(vec![]), "a name, and nothing behind it");
    assert!(contains(vec![0; 10_000]) && contains(vec![0xa5; 10_000]), "the length, and not the bytes");
    assert!(contains(vec![b'x'; 10_000]), "everything");
    assert!(
        contains(pieces(10_000, 512, &[0], 0)) && contains(pieces(10_000, 512, &(0..10).collect::<Vec<_>>(), 0xa5)),
        "its first sectors"
    );
    assert!(contains(pieces(10_000, 512, &(10..20).collect::<Vec<_>>(), 0)), "its last sectors");
    for arrived in [&[0][..], &[1], &[2], &[0, 2], &[0, 1], &[1, 2]] {
        assert!(contains(pieces(10_000, 4096, arrived, 0)), "pages {arrived:?}");
    }
    let scattered = |bytes: &[u8]| {
        let changes = bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>();
        changes.windows(2).filter(|pair| pair[0] != pair[1]).count() > 4
    };
    assert!(found.iter().any(|files| files.iter().any(|(_, bytes)| scattered(bytes))), "sectors in any order");
}

#[test]
fn a_write_over_old_bytes_leaves_each_sector_old_or_new() {
    let fs = SimFs::new();
    drop(create(&fs, "f", &[b'o'; 2048]));
    let fs = fs.settled();
    let mut file = fs.open(Path::new("f"), Access::ReadWrite).unwrap();
    file.write_at(0, &[b'x'; 2048], Site::here()).unwrap();
    let found = images(&fs);
    for mask in 0..16 {
        let arrived: Vec<usize> = (0..4).filter(|bit| mask >> bit & 1 == 1).collect();
        assert!(found.contains(&vec![named("f", pieces(2048, 512, &arrived, b'o'))]), "sectors {arrived:?}");
    }
    assert_eq!(found.len(), 16, "and nothing else");
    file.sync(Site::here()).unwrap();
    assert_eq!(images(&fs), [vec![named("f", vec![b'x'; 2048])]].into());
}

#[test]
fn writes_to_several_files_overtake_each_other() {
    let fs = SimFs::new();
    let _files = [create(&fs, "a", b"1"), create(&fs, "b", b"2")];
    sync_dir(&fs, "");
    let found = images(&fs);
    let both = |a: &[u8], b: &[u8]| vec![named("a", a.to_vec()), named("b", b.to_vec())];
    assert!(found.contains(&both(b"", b"2")) && found.contains(&both(b"1", b"")) && found.contains(&both(b"", b"")));
}

#[test]
fn a_name_is_durable_with_its_folder_alone() {
    let fs = SimFs::new();
    fs.create_dir(Path::new("d")).unwrap();
    let mut file = create(&fs, "d/f", b"x");
    file.sync(Site::here()).unwrap();
    let whole = vec![named("d/", vec![]), named("d/f", b"x".to_vec())];
    assert_eq!(images(&fs), [vec![], vec![named("d/", vec![])], whole.clone()].into(), "bytes without a name");
    sync_dir(&fs, "d");
    assert_eq!(images(&fs), [vec![], whole.clone()].into(), "a folder that is lost with what was synced inside it");
    sync_dir(&fs, "");
    assert_eq!(images(&fs), [whole].into());
}

#[test]
fn a_renamed_file_has_one_name_the_other_both_or_none_and_perhaps_no_bytes() {
    let fs = SimFs::new();
    drop(create(&fs, "f", b"old"));
    let fs = fs.settled();
    create(&fs, "n", b"new").sync(Site::here()).unwrap();
    sync_dir(&fs, "");
    fs.rename(Path::new("n"), Path::new("f")).unwrap();
    let [old, new, other] = [named("f", b"old".to_vec()), named("f", b"new".to_vec()), named("n", b"new".to_vec())];
    let expected = [vec![old.clone(), other.clone()], vec![new.clone()], vec![new, other], vec![old]];
    assert_eq!(images(&fs), expected.into(), "what has the name goes only when another file gets it");

    let fs = SimFs::new();
    create(&fs, "n", b"new");
    fs.rename(Path::new("n"), Path::new("f")).unwrap();
    sync_dir(&fs, "");
    assert!(images(&fs).contains(&vec![named("f", vec![])]), "renamed before it was synced");
}

#[test]
fn what_was_removed_comes_back_until_the_folder_is_synced_and_not_after() {
    let fs = SimFs::new();
    fs.create_dir(Path::new("d")).unwrap();
    drop(create(&fs, "d/f", b"x"));
    let fs = fs.settled();
    fs.remove_file(Path::new("d/f")).unwrap();
    fs.remove_dir(Path::new("d")).unwrap();
    let (empty, whole) = (vec![named("d/", vec![])], vec![named("d/", vec![]), named("d/f", b"x".to_vec())]);
    assert_eq!(images(&fs), [vec![], empty, whole].into());
    sync_dir(&fs, "");
    assert_eq!(images(&fs), [vec![]].into());
}

#[test]
fn what_another_process_left_unsynced_can_still_be_lost() {
    let fs = SimFs::new();
    create(&fs, "f", b"x");
    let next = fs.ended_after(fs.crash_points() - 1);
    assert_eq!(files(&next, ""), [named("f", b"x".to_vec())], "it is there for the next process");
    assert!(images(&next).contains(&vec![]), "and not durable");
    next.open(Path::new("f"), Access::Read).unwrap().sync(Site::here()).unwrap();
    sync_dir(&next, "");
    assert_eq!(images(&next), [vec![named("f", b"x".to_vec())]].into());
}
