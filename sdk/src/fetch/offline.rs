//! An update without a network: what the server would answer, in one file from a workshop's computer or a USB stick.
//!
//! The file is a tar archive of plain files, each under the path that the server would give it (`director/metadata/timestamp.json`,
//! `image/targets/ultra/HASH.vla-2-2.0.0.tar.zst`), so that everybody can look into it with `tar`. It is read as a server that happens to be
//! near: nothing in it is believed for where it came from, and what is asked of the network is asked of it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{BaseUrl, Body, Cancel, HttpRequest, HttpResponse, Method, Transport, TransportError};

/// A tar record.
const BLOCK: usize = 512;

/// Most files in one update. The longest root chains have hundreds of links.
const MEMBERS_MAX: usize = 4096;

/// An offline update that was opened. Its files are read when they are asked for.
pub struct OfflineFile {
    path: PathBuf,
    file: Arc<File>,
    members: BTreeMap<String, Member>,
}

/// Where a member's content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    offset: u64,
    length: u64,
}

/// A file that is no offline update.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineFileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no archive of plain files, or not a whole one.
    #[error("{path} is no offline update, or was not copied completely: {problem} at byte {offset}; copy it again, or make it anew")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
        /// Where.
        offset: u64,
    },
}

impl OfflineFileError {
    /// Stable number.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Unreadable { .. } => 440,
            Self::Malformed { .. } => 441,
        }
    }

    /// Stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "offline_file_unreadable",
            Self::Malformed { .. } => "offline_file_malformed",
        }
    }
}

impl OfflineFile {
    /// Opens a file and finds its members. Reads their headers only.
    ///
    /// # Errors
    /// [`OfflineFileError`] naming the file, and where it stops to be an offline update.
    pub fn open(path: &Path) -> Result<Self, OfflineFileError> {
        let unreadable = |source| OfflineFileError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let (mut members, mut offset, mut block) = (BTreeMap::new(), 0, [0; BLOCK]);
        loop {
            let malformed = |problem| OfflineFileError::Malformed { path: path.to_owned(), problem, offset };
            if offset + BLOCK as u64 > length {
                return Err(malformed("the end is missing"));
            }
            file.read_exact_at(&mut block, offset).map_err(unreadable)?;
            if block == [0; BLOCK] {
                break;
            }
            let (name, content) = header(&block).map_err(malformed)?;
            let start = offset + BLOCK as u64;
            let end = content.checked_next_multiple_of(BLOCK as u64).and_then(|padded| start.checked_add(padded));
            let end = end.filter(|end| *end <= length).ok_or_else(|| malformed("a member that goes on beyond the end"))?;
            if members.len() >= MEMBERS_MAX {
                return Err(malformed("more members than an update has"));
            }
            if members.insert(name, Member { offset: start, length: content }).is_some() {
                return Err(malformed("a member for the second time"));
            }
            offset = end;
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file), members })
    }

    /// What it is called in error texts.
    pub(crate) fn url(&self) -> BaseUrl {
        BaseUrl::of_file(&self.path)
    }

    /// Names and lengths of the members.
    pub fn members(&self) -> impl Iterator<Item = (&str, u64)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member.length))
    }

    fn answer(&self, request: &HttpRequest<'_>, cancel: &Cancel) -> HttpResponse {
        let name = request.url.rsplit_once("/v1/").map_or("", |(_, name)| name);
        let Some(&member) = self.members.get(name) else {
            return self.response(404, Vec::new(), Member { offset: 0, length: 0 }, cancel);
        };
        let range = request.headers.iter().find(|(name, _)| *name == "range").map(|(_, range)| range.as_str());
        let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
            return self.response(200, Vec::new(), member, cancel);
        };
        // The only forms of a range that our own client asks for: from a byte to another, or to the end.
        let (from, last) = (range.0.parse::<u64>(), range.1.parse::<u64>().unwrap_or(u64::MAX).min(member.length.saturating_sub(1)));
        match from {
            Ok(from) if from <= last && from < member.length => {
                let range = format!("bytes {from}-{last}/{}", member.length);
                let part = Member { offset: member.offset + from, length: last + 1 - from };
                self.response(206, vec![("content-range".to_owned(), range)], part, cancel)
            }
            _ => {
                let range = vec![("content-range".to_owned(), format!("bytes */{}", member.length))];
                self.response(416, range, Member { length: 0, ..member }, cancel)
            }
        }
    }

    fn response(&self, status: u16, mut headers: Vec<(String, String)>, part: Member, cancel: &Cancel) -> HttpResponse {
        headers.push(("content-length".to_owned(), part.length.to_string()));
        let body =
            Part { file: Arc::clone(&self.file), path: self.path.clone(), offset: part.offset, left: part.length, cancel: cancel.clone() };
        HttpResponse { status, headers, body: Box::new(body) }
    }
}

impl Transport for OfflineFile {
    fn send(&self, request: &HttpRequest<'_>, cancel: &Cancel) -> Result<HttpResponse, TransportError> {
        match request.method {
            Method::Get => Ok(self.answer(request, cancel)),
            Method::Put | Method::Post => Err(TransportError::Broken { reason: "an offline update takes nothing".to_owned() }),
        }
    }
}

impl fmt::Debug for OfflineFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfflineFile").field("path", &self.path).field("members", &self.members.len()).finish_non_exhaustive()
    }
}

/// A member's content, from some byte on.
struct Part {
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    left: u64,
    cancel: Cancel,
}

impl Body for Part {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        if self.cancel.is_canceled() {
            return Err(TransportError::Canceled);
        }
        let wanted = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        // The stick was pulled out, or the file was changed while it is read.
        let broken = |reason: String| TransportError::Broken { reason: format!("{}: {reason}", self.path.display()) };
        match self.file.read_at(&mut into[..wanted], self.offset) {
            Ok(0) => Err(broken("the file ended".to_owned())),
            Ok(count) => {
                self.offset += count as u64;
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => Err(broken(error.to_string())),
        }
    }
}

/// Name and length out of the ustar header of a regular file (POSIX.1-1988); nothing else may be in the archive.
fn header(block: &[u8; BLOCK]) -> Result<(String, u64), &'static str> {
    let sum: u64 = block.iter().enumerate().map(|(at, &byte)| u64::from(if (148..156).contains(&at) { b' ' } else { byte })).sum();
    if octal(&block[148..156]) != Some(sum) {
        return Err("no tar header, or a damaged one");
    }
    if &block[257..262] != b"ustar" || !matches!(block[156], b'0' | 0) {
        return Err("something else than a plain file");
    }
    let [name, prefix] = [&block[..100], &block[345..500]].map(text);
    let (name, prefix) = (name.ok_or("a name that is no text")?, prefix.ok_or("a name that is no text")?);
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    Ok((name, size(&block[124..136]).ok_or("a length that is no number")?))
}

/// A length in octal digits, or in base 256 where eleven octal digits are too few (what GNU tar and others write from 8 GiB on).
fn size(field: &[u8]) -> Option<u64> {
    match field.split_first()? {
        (0x80, rest) => {
            let (high, low) = rest.split_at(rest.len() - 8);
            high.iter().all(|byte| *byte == 0).then(|| low.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => octal(field),
    }
}

/// Octal digits that a space or NUL may end.
fn octal(field: &[u8]) -> Option<u64> {
    let text = text(field)?.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| u64::from_str_radix(text, 8).ok())?
}

/// ASCII text up to the first NUL.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).ok().filter(|text| text.is_ascii())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// An archive as `tar` writes it.
    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in members {
            let mut block = [0; BLOCK];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            block[156] = b'0';
            block[257..263].copy_from_slice(b"ustar\0");
            seal(&mut block);
            bytes.extend_from_slice(&block);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    fn seal(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    fn open(bytes: &[u8]) -> Result<OfflineFile, OfflineFileError> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("update.tar");
        std::fs::write(&path, bytes).unwrap();
        OfflineFile::open(&path)
    }

    fn ask(file: &OfflineFile, path: &str, range: Option<&str>) -> (u16, Vec<u8>) {
        let headers: Vec<_> = range.map(|range| ("range", range.to_owned())).into_iter().collect();
        let request = HttpRequest { method: Method::Get, url: &format!("file:///update.tar/v1/{path}"), headers: &headers, body: &[] };
        let mut response = file.send(&request, &Cancel::default()).unwrap();
        let (mut bytes, mut piece) = (Vec::new(), [0; 3]);
        loop {
            match response.body.read(&mut piece).unwrap() {
                0 => return (response.status, bytes),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }

    #[test]
    fn it_answers_as_the_server_would() {
        let file = open(&archive(&[("image/metadata/1.root.json", b"{}"), ("image/targets/a/b.tar.zst", b"0123456789")])).unwrap();
        assert_eq!(ask(&file, "image/metadata/1.root.json", None), (200, b"{}".to_vec()));
        assert_eq!(ask(&file, "image/metadata/2.root.json", None), (404, Vec::new()));
        assert_eq!(ask(&file, "image/targets/a/b.tar.zst", Some("bytes=7-")), (206, b"789".to_vec()));
        assert_eq!(ask(&file, "image/targets/a/b.tar.zst", Some("bytes=2-4")), (206, b"234".to_vec()));
        assert_eq!(ask(&file, "image/targets/a/b.tar.zst", Some("bytes=8-99")), (206, b"89".to_vec()));
        assert_eq!(ask(&file, "image/targets/a/b.tar.zst", Some("bytes=10-")), (416, Vec::new()));
        let request = HttpRequest { method: Method::Put, url: "file:///update.tar/v1/x", headers: &[], body: b"report" };
        assert!(file.send(&request, &Cancel::default()).is_err());
    }

    #[test]
    fn a_file_that_is_no_update_or_not_a_whole_one_is_refused_with_the_place() {
        let good = archive(&[("director/metadata/timestamp.json", b"{}")]);
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            open(&bytes).unwrap_err().to_string()
        };
        for (text, problem) in [
            (changed(Vec::clear), "the end is missing at byte 0"),
            (changed(|bytes| bytes.truncate(700)), "a member that goes on beyond the end at byte 0"),
            (changed(|bytes| bytes.truncate(1024)), "the end is missing at byte 1024"),
            (changed(|bytes| bytes[0] ^= 1), "no tar header, or a damaged one at byte 0"),
            (
                changed(|bytes| {
                    bytes[156] = b'2';
                    seal(&mut bytes[..BLOCK]);
                }),
                "something else than a plain file at byte 0",
            ),
            (
                changed(|bytes| {
                    bytes[124..136].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
                    seal(&mut bytes[..BLOCK]);
                }),
                "a member that goes on beyond the end at byte 0",
            ),
            (changed(|bytes| *bytes = archive(&[("a", b""), ("a", b"")])), "a member for the second time at byte 512"),
        ] {
            assert!(text.contains(problem), "{text} lacks {problem}");
        }
        let missing = OfflineFile::open(Path::new("/nowhere/update.tar")).unwrap_err();
        assert_eq!((missing.number(), missing.to_string().as_str()), (440, "/nowhere/update.tar cannot be read"));
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_header_nothing_beyond_the_file_is_believed(at in 0..BLOCK, byte: u8) {
            let mut bytes = archive(&[("image/metadata/1.root.json", b"{}")]);
            bytes[at] = byte;
            seal(&mut bytes[..BLOCK]);
            let length = bytes.len() as u64;
            if let Ok(file) = open(&bytes) {
                prop_assert!(file.members.values().all(|member| member.offset + member.length <= length));
            }
        }
    }
}
