//! The repository map: which repositories SHALL sign for which images (Uptane, 5.4.1; the format is that of TAP 4).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::{Repository, TrustError};
use crate::metadata::{
    MetadataError, PathSet,
    json::{self, Json},
    object::{Fields, integer, strings, wrong},
};

/// Longest map, bytes: room for some thousand patterns.
const MAP_BYTES_MAX: usize = 256 << 10;

const NAMES: [(&str, Repository); 2] = [("director", Repository::Director), ("image", Repository::Image)];

/// The pattern that stands for every path. Any other `*` stays within a folder, as in a delegation.
const EVERYTHING: &str = "*";

/// Which repositories SHALL sign for which images; provisioned, never fetched.
///
/// TAP 4 lets a map say that one repository is enough. Here an entry names both and a threshold of two, and a map that says less is
/// refused: with one repository alone, whoever steals its keys brings software of their own. What a map is for is to say which paths
/// may be installed at all, and where the repositories are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryMap {
    urls: BTreeMap<Repository, Vec<String>>,
    paths: Vec<PathSet>,
}

impl Default for RepositoryMap {
    /// Both repositories for everything, at addresses that the caller knows.
    fn default() -> Self {
        Self { urls: BTreeMap::new(), paths: vec![PathSet::Patterns(vec![EVERYTHING.to_string()])] }
    }
}

impl RepositoryMap {
    /// Both repositories for everything, at these addresses.
    pub fn of_both(director_url: &str, image_url: &str) -> Self {
        let urls = [(Repository::Director, director_url), (Repository::Image, image_url)];
        Self { urls: urls.into_iter().map(|(repository, url)| (repository, vec![url.to_string()])).collect(), ..Self::default() }
    }

    /// Reads a map, strictly: a field that is unknown here could mean that less is trusted than is read.
    ///
    /// # Errors
    /// [`MetadataError`] naming the first thing that is missing, wrong or unknown, or that would let one repository sign alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json::parse(bytes, MAP_BYTES_MAX)?, "map")?;
        let urls = read_urls(fields.fields("repositories")?)?;
        let place = fields.place_of("mapping");
        let entries = fields.array("mapping")?;
        nothing_more(fields)?;
        if entries.is_empty() {
            return Err(wrong(&place, "a list with at least one entry"));
        }
        Ok(Self { urls, paths: entries.into_iter().map(read_entry).collect::<Result<_, _>>()? })
    }

    /// Writes the map as TAP 4 has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let urls = |repository| self.urls.get(&repository).map_or(&[][..], Vec::as_slice);
        let repositories = Json::object(NAMES.map(|(name, repository)| (name, strings(urls(repository)))));
        let names = || strings(&NAMES.map(|(name, _)| name));
        let entry = |paths: &PathSet| {
            let patterns = match paths {
                PathSet::Patterns(patterns) | PathSet::HashPrefixes(patterns) => strings(patterns),
            };
            Json::object([("paths", patterns), ("repositories", names()), ("threshold", integer(2)), ("terminating", Json::Bool(true))])
        };
        json::to_bytes(&Json::object([("repositories", repositories), ("mapping", Json::Array(self.paths.iter().map(entry).collect()))]))
    }

    /// Where a repository is, the first address first.
    pub fn urls(&self, repository: Repository) -> &[String] {
        self.urls.get(&repository).map_or(&[], Vec::as_slice)
    }

    /// That the map has an entry for a path. What it has none for is signed by nobody (TAP 4: "the image is not found").
    pub(super) fn check(&self, path: &str) -> Result<(), TrustError> {
        let everything =
            |paths: &PathSet| matches!(paths, PathSet::Patterns(patterns) if patterns.iter().any(|pattern| pattern == EVERYTHING));
        if self.paths.iter().any(|paths| everything(paths) || paths.contains(path)) {
            return Ok(());
        }
        Err(TrustError::PathUnmapped { path: path.to_string() })
    }
}

fn read_urls(repositories: Fields) -> Result<BTreeMap<Repository, Vec<String>>, MetadataError> {
    let mut urls = BTreeMap::new();
    let place = repositories.place_of("{director, image}");
    for (at, name, json) in repositories.entries() {
        let Some((_, repository)) = NAMES.into_iter().find(|(known, _)| *known == name) else {
            return Err(wrong(&at, "known: the repositories are `director` and `image`"));
        };
        let list = match json {
            Json::Array(items) => items.iter().map(|item| item.as_str().map(ToString::to_string)).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        urls.insert(repository, list.filter(|list| !list.is_empty()).ok_or_else(|| wrong(&at, "a list of addresses"))?);
    }
    if urls.len() == NAMES.len() { Ok(urls) } else { Err(MetadataError::Missing { place }) }
}

fn read_entry(json: Json) -> Result<PathSet, MetadataError> {
    let mut fields = Fields::new(json, "map.mapping[]")?;
    let (paths_place, names_place, threshold_place) =
        (fields.place_of("paths"), fields.place_of("repositories"), fields.place_of("threshold"));
    let (paths, names) = (fields.strings("paths")?, fields.strings("repositories")?);
    let threshold = fields.positive("threshold")?;
    // Every entry asks for the same, so that to go on behind one or to stop there is no difference.
    fields.optional_boolean("terminating")?;
    nothing_more(fields)?;
    if paths.is_empty() {
        return Err(wrong(&paths_place, "a list with at least one pattern"));
    }
    let both: BTreeSet<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    if names.len() != both.len() || names.iter().map(String::as_str).collect::<BTreeSet<_>>() != both {
        return Err(wrong(&names_place, "`director` and `image`: one alone would be enough for a thief of its keys"));
    }
    if threshold != both.len() as u64 {
        return Err(wrong(&threshold_place, "2: one of the repositories alone would be enough for a thief of its keys"));
    }
    Ok(PathSet::Patterns(paths))
}

fn nothing_more(fields: Fields) -> Result<(), MetadataError> {
    match fields.entries().next() {
        Some((place, ..)) => Err(wrong(&place, "known here")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::format;

    use super::*;

    const URLS: &str = r#""repositories":{"director":["https://d"],"image":["https://i","https://cdn"]}"#;

    fn map(paths: &str, repositories: &str, threshold: u32) -> String {
        format!(r#"{{{URLS},"mapping":[{{"paths":{paths},"repositories":{repositories},"threshold":{threshold},"terminating":true}}]}}"#)
    }

    #[test]
    fn a_path_is_for_the_entries_that_cover_it() {
        let map = RepositoryMap::parse(map(r#"["ultra/*","cam/?.bin"]"#, r#"["director","image"]"#, 2).as_bytes()).unwrap();
        assert_eq!(map.urls(Repository::Image), ["https://i", "https://cdn"]);
        for (path, mapped) in [("ultra/a", true), ("cam/1.bin", true), ("ultra/a/b", false), ("ultra-se/a", false), ("a", false)] {
            assert_eq!(map.check(path).is_ok(), mapped, "{path}");
            assert!(RepositoryMap::default().check(path).is_ok());
        }
        assert_eq!(RepositoryMap::parse(&map.to_bytes()), Ok(map));
        let both = RepositoryMap::of_both("https://d", "https://i");
        assert_eq!(RepositoryMap::parse(&both.to_bytes()), Ok(both));
    }

    #[test]
    fn a_map_that_says_less_or_something_unknown_is_refused() {
        let both = r#"["director","image"]"#;
        let everything = r#"["*"]"#;
        for (text, expected) in [
            (
                map(everything, both, 1),
                "map.mapping[].threshold is not 2: one of the repositories alone would be enough for a thief of its keys",
            ),
            (
                map(everything, both, 3),
                "map.mapping[].threshold is not 2: one of the repositories alone would be enough for a thief of its keys",
            ),
            (map(everything, both, 0), "map.mapping[].threshold is not an integer from 1 on"),
            (
                map(everything, r#"["director","director"]"#, 2),
                "map.mapping[].repositories is not `director` and `image`: one alone would be enough for a thief of its keys",
            ),
            (
                map(everything, r#"["image"]"#, 2),
                "map.mapping[].repositories is not `director` and `image`: one alone would be enough for a thief of its keys",
            ),
            (map("[]", both, 2), "map.mapping[].paths is not a list with at least one pattern"),
            (map(everything, both, 2).replace("terminating", "more"), "map.mapping[].more is not known here"),
            (
                map(everything, both, 2).replace("\"image\":", "\"third\":"),
                "map.repositories.third is not known: the repositories are `director` and `image`",
            ),
            (map(everything, both, 2).replace(r#""director":["https://d"],"#, ""), "map.repositories.{director, image} is missing"),
            (map(everything, both, 2).replace(r#"["https://d"]"#, "[]"), "map.repositories.director is not a list of addresses"),
            (format!(r#"{{{URLS},"mapping":[]}}"#), "map.mapping is not a list with at least one entry"),
            (format!(r#"{{{URLS},"mapping":[],"more":1}}"#), "map.more is not known here"),
        ] {
            assert_eq!(RepositoryMap::parse(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(RepositoryMap::parse(&vec![b' '; MAP_BYTES_MAX + 1]).is_err());
    }
}
