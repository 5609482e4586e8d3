//! The files that go into a bundle.

use std::{
    fs,
    io::{Cursor, Read},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use switchback_signing::{
    bundle::{delta::Span, manifest::FileEntry},
    digest::Sha256Hasher,
};

use crate::{
    delta::{Release, tensors},
    failure::failure,
    files,
    output::Output,
    progress::byte_bar,
};

/// One file of the bundle.
pub(super) struct Member {
    path: String,
    length: u64,
    content: Content,
    /// The graph and its external data, as opposed to what stands beside them.
    is_model: bool,
}

enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Member {
    /// A file of the model under a path of its own.
    pub(super) fn file(path: &str, file: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), length: files::length(file)?, content: Content::File(file.to_owned()), is_model: true })
    }

    /// External data keeps the name under which the graph refers to it, relative to the graph.
    pub(super) fn external_data(model: &Path, data: &Path) -> anyhow::Result<Self> {
        let folder = |path: &Path| path.canonicalize().with_context(|| format!("cannot open {}", path.display()));
        let (model, file) = (folder(model)?, folder(data)?);
        let relative = model.parent().and_then(|parent| file.strip_prefix(parent).ok());
        let names = relative.map(|relative| {
            relative.components().map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
        });
        let path = names.and_then(Iterator::collect::<Option<Vec<_>>>).map(|names| names.join("/"));
        let path = path.ok_or_else(|| {
            let what = format!("{} does not lie in the folder of the model", data.display());
            failure(what, "ONNX refers to external data by a path relative to the model; put both into one folder")
        })?;
        Self::file(&path, data)
    }

    /// Content made here.
    pub(super) fn bytes(path: &str, bytes: Vec<u8>) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), length: bytes.len() as u64, content: Content::Bytes(bytes), is_model: false })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn open(&self) -> anyhow::Result<Box<dyn Read + '_>> {
        Ok(match &self.content {
            Content::File(path) => Box::new(files::open(path)?),
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes)),
        })
    }
}

/// Members in archive order.
#[derive(Default)]
pub(super) struct Members {
    members: Vec<Member>,
}

impl Members {
    pub(super) fn add(&mut self, member: Member) -> anyhow::Result<()> {
        if self.members.iter().any(|other| other.path == member.path) {
            bail!("two files would be called {} in the bundle", member.path);
        }
        self.members.push(member);
        Ok(())
    }

    /// Lays the model's files out as a vehicle will have them, so that what is run is what is packed.
    pub(super) fn stage(&self, folder: &Path) -> anyhow::Result<()> {
        for member in self.members.iter().filter(|member| member.is_model) {
            let Content::File(source) = &member.content else { continue };
            let staged = folder.join(&member.path);
            files::make_folder(staged.parent().unwrap_or(folder))?;
            // ONNX Runtime refuses links that lead out of the model's folder, so a symbolic link will not do.
            let copied = fs::hard_link(source.canonicalize()?, &staged).or_else(|_| fs::copy(source, &staged).map(drop));
            copied.with_context(|| format!("cannot copy {} to {}", source.display(), staged.display()))?;
        }
        Ok(())
    }

    /// Hashes everything.
    pub(super) fn hash(self, output: &Output) -> anyhow::Result<Hashed> {
        let bar = byte_bar(output, "hashing", self.members.iter().map(|member| member.length).sum());
        let mut hashed = Hashed { members: Vec::new() };
        for member in self.members {
            let entry = entry(&member, Some(&bar))?;
            hashed.members.push((member, entry));
        }
        bar.finish_and_clear();
        Ok(hashed)
    }
}

/// Members with their manifest entries.
pub(super) struct Hashed {
    members: Vec<(Member, FileEntry)>,
}

impl Hashed {
    pub(super) fn with(mut self, member: Member) -> anyhow::Result<Self> {
        let entry = entry(&member, None)?;
        self.members.push((member, entry));
        Ok(self)
    }

    pub(super) fn entries(&self) -> Vec<FileEntry> {
        self.members.iter().map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|(member, _)| member)
    }

    /// The tensors of each member, in their order; none of those that stand beside the model.
    pub(super) fn tensors(&self) -> Vec<Vec<Span>> {
        let model = |(member, entry): &(Member, FileEntry)| match &member.content {
            Content::File(path) if member.is_model => Some((entry.clone(), path.clone())),
            _ => None,
        };
        let (files, paths): (Vec<FileEntry>, _) = self.members.iter().filter_map(model).unzip();
        let mut found = tensors(&mut Release::of_files(files, paths)).into_iter();
        self.members.iter().map(|member| model(member).and_then(|_| found.next()).unwrap_or_default()).collect()
    }

    /// Bytes of the graph and its external data.
    pub(super) fn model_bytes(&self) -> u64 {
        self.members.iter().filter(|(member, _)| member.is_model).map(|(_, entry)| entry.length).sum()
    }
}

fn entry(member: &Member, bar: Option<&ProgressBar>) -> anyhow::Result<FileEntry> {
    let mut content = member.open()?;
    let (mut hasher, mut length, mut buffer) = (Sha256Hasher::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = content.read(&mut buffer).with_context(|| format!("cannot read {}", member.path))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        if let Some(bar) = bar {
            bar.inc(count as u64);
        }
        length += count as u64;
    }
    Ok(FileEntry { path: member.path.clone(), length, sha256: hasher.finish() })
}

/// A folder that disappears again.
pub(super) struct Staging(PathBuf);

impl Staging {
    pub(super) fn create(beside: &Path) -> anyhow::Result<Self> {
        files::make_folder(beside)?;
        let folder = beside.join(format!(".switchback-pack-{}", std::process::id()));
        // Left over by a killed process that had our number.
        let _ = fs::remove_dir_all(&folder);
        files::make_folder(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left over hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
