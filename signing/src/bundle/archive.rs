//! Reads a bundle's archive from verified raw chunks.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    chunk::RawChunk,
    error::BundleError,
    index::ChunkIndex,
    manifest::{FileEntry, MANIFEST_PATH, Manifest},
    ustar,
};
use crate::digest::{Sha256Digest, Sha256Hasher};

/// What the archive reader found next.
#[derive(Debug)]
pub enum Event<'a> {
    /// The manifest, whole and checked. Always the first event.
    Manifest {
        /// What the bytes say.
        manifest: &'a Manifest,
        /// The bytes of `manifest.json`.
        bytes: &'a [u8],
    },
    /// A file's content begins.
    FileStart(&'a FileEntry),
    /// The next bytes of the file that began last.
    Data(&'a [u8]),
    /// The file that began last is complete and has the hash that the manifest states.
    FileEnd(&'a FileEntry),
    /// The end marker was read and the archive has its exact length. Always the last event.
    End,
}

/// Strict reader of a bundle's archive: bytes are pushed in, events come out, and every limit comes from signed data.
///
/// The archive's framing is compared with the one that the manifest calls for, byte by byte, so nothing in it can be misread.
pub struct TarReader {
    manifest_length: u64,
    manifest_sha256: Sha256Digest,
    tar_length: u64,
    position: u64,
    manifest: Option<Box<(Manifest, Vec<u8>)>>,
    part: Part,
}

/// What the bytes at the reader's position belong to.
enum Part {
    /// Padding and header before a member, or padding and end marker.
    Framing {
        expected: Vec<u8>,
        compared: usize,
        then: Then,
    },
    ManifestContent {
        content: Vec<u8>,
    },
    FileContent {
        number: usize,
        left: u64,
        /// None when the reader went on in the middle of the file: its chunks prove it all the same.
        hasher: Option<Sha256Hasher>,
    },
    Ended,
}

/// What follows a stretch of framing.
#[derive(Clone, Copy)]
enum Then {
    Manifest,
    File(usize),
    End,
}

impl TarReader {
    /// A reader for the bundle of this index, before its first byte.
    pub fn new(index: &ChunkIndex) -> Self {
        let manifest_length = index.manifest_length().into();
        let expected = ustar::before_member(0, MANIFEST_PATH, manifest_length);
        Self {
            manifest_length,
            manifest_sha256: index.manifest_sha256(),
            tar_length: index.tar_length(),
            position: 0,
            manifest: None,
            part: Part::Framing { expected, compared: 0, then: Then::Manifest },
        }
    }

    /// A reader that goes on at archive byte `position`, where an interrupted installation stopped after a chunk was used up. It says
    /// nothing again that was said before: when `position` lies in a file's content, that file has begun already.
    ///
    /// The hash of a file that is taken up in the middle is not checked here; the caller reads the installed file back as a whole.
    ///
    /// # Errors
    /// `ManifestHash` and what [`Manifest::parse`] returns; `ArchiveLength`; `ArchiveTruncated` when `position` lies before the end of
    /// the manifest's content or beyond the archive.
    pub fn resume(index: &ChunkIndex, manifest: &[u8], position: u64) -> Result<Self, BundleError> {
        let mut reader = Self::new(index);
        reader.manifest_read(manifest.to_vec())?;
        let mut start = (ustar::BLOCK + manifest.len()) as u64;
        let unreachable = BundleError::ArchiveTruncated { expected: reader.tar_length, found: position };
        if position < start {
            return Err(unreachable);
        }
        // From here on the walk moves over whole parts that lie before `position`, as `next` would have done.
        loop {
            let ahead = position - start;
            match &mut reader.part {
                Part::Framing { expected, compared, then } => {
                    let length = expected.len() as u64;
                    if ahead < length {
                        *compared = ahead as usize;
                        break;
                    }
                    let then = *then;
                    start += length;
                    reader.framing_read(then);
                }
                Part::FileContent { number, left, hasher } => {
                    if ahead < *left {
                        *left -= ahead;
                        *hasher = hasher.take().filter(|_| ahead == 0);
                        break;
                    }
                    let (number, length) = (*number, *left);
                    start += length;
                    reader.part = reader.framing_before(number + 1, length);
                }
                Part::Ended if ahead == 0 => break,
                // `manifest_read` has left the manifest's content behind.
                Part::ManifestContent { .. } | Part::Ended => return Err(unreachable),
            }
        }
        reader.position = position;
        Ok(reader)
    }

    /// Takes bytes off the chunk until there is something to say; `None` when the chunk is used up.
    ///
    /// # Errors
    /// `ChunkOrder` when the chunk does not begin where the last one ended; `ArchiveBytes` when the framing differs from the
    /// manifest's; `ManifestHash` and what [`Manifest::parse`] returns; `ArchiveLength`; `FileHash`. After an error the reader is of
    /// no further use.
    pub fn next<'r, 'c: 'r>(&'r mut self, chunk: &mut RawChunk<'c>) -> Result<Option<Event<'r>>, BundleError> {
        if chunk.offset() != self.position {
            return Err(BundleError::ChunkOrder { expected: self.position, found: chunk.offset() });
        }
        let step = loop {
            // A finished part says so without needing another byte: a file may be empty, and may end where a chunk ends.
            if let Some(step) = self.finish_part()? {
                break step;
            }
            if chunk.bytes().is_empty() {
                return Ok(None);
            }
            if let Some(data) = self.take(chunk)? {
                return Ok(Some(Event::Data(data)));
            }
        };
        Ok(self.event(step))
    }

    /// Proves that the whole archive was read, and hands the manifest out.
    ///
    /// # Errors
    /// `ArchiveTruncated` when bytes are missing.
    pub fn finish(self) -> Result<Manifest, BundleError> {
        match (self.part, self.manifest) {
            (Part::Ended, Some(manifest)) => Ok(manifest.0),
            _ => Err(BundleError::ArchiveTruncated { expected: self.tar_length, found: self.position }),
        }
    }

    /// The manifest, once it was read.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref().map(|manifest| &manifest.0)
    }

    /// Number of archive bytes that were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What must stand next in the archive, as far as it follows from the manifest alone: padding and headers between two members. Empty
    /// where a member's content is next.
    pub fn framing(&self) -> &[u8] {
        match &self.part {
            Part::Framing { expected, compared, .. } => &expected[*compared..],
            Part::ManifestContent { .. } | Part::FileContent { .. } | Part::Ended => &[],
        }
    }

    /// Takes bytes of the current part; content of files is handed through.
    fn take<'a>(&mut self, chunk: &mut RawChunk<'a>) -> Result<Option<&'a [u8]>, BundleError> {
        let start = self.position;
        let mut data = None;
        let taken = match &mut self.part {
            Part::Framing { expected, compared, then } => {
                let rest = &expected[*compared..];
                let found = chunk.take(rest.len() as u64);
                if let Some(at) = rest.iter().zip(found).position(|(expected, found)| expected != found) {
                    let (offset, expected, found) = (start + at as u64, rest[at], found[at]);
                    let before = name_of(*then, self.manifest.as_deref());
                    return Err(BundleError::ArchiveBytes { offset, before, expected, found });
                }
                *compared += found.len();
                found.len()
            }
            Part::ManifestContent { content } => {
                let found = chunk.take(self.manifest_length - content.len() as u64);
                content.extend_from_slice(found);
                found.len()
            }
            Part::FileContent { left, hasher, .. } => {
                let found = chunk.take(*left);
                if let Some(hasher) = hasher {
                    hasher.update(found);
                }
                *left -= found.len() as u64;
                data = Some(found);
                found.len()
            }
            Part::Ended => {
                // `ChunkIndex` and `manifest_read` agree on the archive's length, so no chunk reaches beyond the end marker.
                return Err(BundleError::ChunkOrder { expected: self.tar_length, found: start });
            }
        };
        self.position += taken as u64;
        Ok(data)
    }

    /// When the current part is complete, checks it and moves on to the next.
    fn finish_part(&mut self) -> Result<Option<Step>, BundleError> {
        match &mut self.part {
            Part::Framing { expected, compared, .. } if *compared < expected.len() => Ok(None),
            Part::Framing { then, .. } => {
                let then = *then;
                Ok(self.framing_read(then))
            }
            Part::ManifestContent { content } if (content.len() as u64) < self.manifest_length => Ok(None),
            Part::ManifestContent { content } => {
                let content = core::mem::take(content);
                self.manifest_read(content).map(Some)
            }
            Part::FileContent { left: 1.., .. } => Ok(None),
            Part::FileContent { number, hasher, .. } => {
                let (number, found) = (*number, hasher.take().map(Sha256Hasher::finish));
                self.file_read(number, found).map(Some)
            }
            Part::Ended => Ok(None),
        }
    }

    fn framing_read(&mut self, then: Then) -> Option<Step> {
        match then {
            Then::Manifest => {
                // Bounded by MANIFEST_LENGTH_MAX in the index.
                let content = Vec::with_capacity(self.manifest_length as usize);
                self.part = Part::ManifestContent { content };
                None
            }
            Then::File(number) => {
                let left = self.files()[number].length;
                self.part = Part::FileContent { number, left, hasher: Some(Sha256Hasher::new()) };
                Some(Step::FileStart(number))
            }
            Then::End => {
                self.part = Part::Ended;
                Some(Step::End)
            }
        }
    }

    fn manifest_read(&mut self, content: Vec<u8>) -> Result<Step, BundleError> {
        let found = Sha256Digest::of(&content);
        if found != self.manifest_sha256 {
            return Err(BundleError::ManifestHash { expected: self.manifest_sha256, found });
        }
        let manifest = Manifest::parse(&content)?;
        let expected = manifest.archive_length(self.manifest_length);
        if self.tar_length != expected {
            return Err(BundleError::ArchiveLength { expected, found: self.tar_length });
        }
        self.manifest = Some(Box::new((manifest, content)));
        self.part = self.framing_before(0, self.manifest_length);
        Ok(Step::Manifest)
    }

    fn file_read(&mut self, number: usize, found: Option<Sha256Digest>) -> Result<Step, BundleError> {
        let file = &self.files()[number];
        if let Some(found) = found
            && found != file.sha256
        {
            return Err(BundleError::FileHash { path: file.path.clone(), expected: file.sha256, found });
        }
        self.part = self.framing_before(number + 1, file.length);
        Ok(Step::FileEnd(number))
    }

    /// The framing between content of `previous_length` bytes and file `number`, or the end after the last file.
    fn framing_before(&self, number: usize, previous_length: u64) -> Part {
        let (expected, then) = match self.files().get(number) {
            Some(file) => (ustar::before_member(previous_length, &file.path, file.length), Then::File(number)),
            None => (ustar::after_last_member(previous_length), Then::End),
        };
        Part::Framing { expected, compared: 0, then }
    }

    fn files(&self) -> &[FileEntry] {
        self.manifest().map_or(&[], |manifest| &manifest.files)
    }

    /// There are no steps before the manifest was read, so this is never `None`.
    fn event(&self, step: Step) -> Option<Event<'_>> {
        let (manifest, bytes) = self.manifest.as_deref()?;
        Some(match step {
            Step::Manifest => Event::Manifest { manifest, bytes },
            Step::FileStart(number) => Event::FileStart(&manifest.files[number]),
            Step::FileEnd(number) => Event::FileEnd(&manifest.files[number]),
            Step::End => Event::End,
        })
    }
}

/// An event without borrows.
enum Step {
    Manifest,
    FileStart(usize),
    FileEnd(usize),
    End,
}

fn name_of(then: Then, manifest: Option<&(Manifest, Vec<u8>)>) -> String {
    match (then, manifest) {
        (Then::Manifest, _) => MANIFEST_PATH.to_string(),
        (Then::File(number), Some((manifest, _))) => manifest.files.get(number).map_or_else(String::new, |file| file.path.clone()),
        (Then::File(_) | Then::End, _) => "the end".to_string(),
    }
}
