//! Reading typed values out of a JSON object, with the place of each value in the error.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::str::FromStr;

use super::{MetadataError, json::Json};
use crate::{keys::Sha256Digest, time::UnixTime};

/// An object that is being read. What has been read is taken out, so that the rest are the fields we do not know.
pub(crate) struct Fields {
    place: String,
    members: BTreeMap<String, Json>,
}

impl Fields {
    pub(crate) fn new(json: Json, place: impl Into<String>) -> Result<Self, MetadataError> {
        let place = place.into();
        match json {
            Json::Object(members) => Ok(Self { place, members }),
            _ => Err(wrong(&place, "an object")),
        }
    }

    /// Takes a member, or nothing when it is absent.
    pub(crate) fn optional(&mut self, name: &str) -> Option<Json> {
        self.members.remove(name)
    }

    /// Takes a member that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<Json, MetadataError> {
        self.optional(name).ok_or_else(|| MetadataError::Missing { place: self.place_of(name) })
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<String, MetadataError> {
        let value = self.required(name)?;
        string(value, &self.place_of(name))
    }

    /// Takes a string and parses it.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<T, MetadataError> {
        let text = self.string(name)?;
        text.parse().map_err(|_| wrong(&self.place_of(name), expected))
    }

    pub(crate) fn optional_parsed<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<Option<T>, MetadataError> {
        if self.members.contains_key(name) { self.parsed(name, expected).map(Some) } else { Ok(None) }
    }

    pub(crate) fn time(&mut self, name: &str) -> Result<UnixTime, MetadataError> {
        self.parsed(name, "a time of the form 2027-01-31T23:59:59Z")
    }

    pub(crate) fn digest(&mut self, name: &str) -> Result<Sha256Digest, MetadataError> {
        let text = self.string(name)?;
        Sha256Digest::from_hex(&text).ok_or_else(|| wrong(&self.place_of(name), "64 hexadecimal digits"))
    }

    /// Takes an integer that is zero or positive.
    pub(crate) fn unsigned(&mut self, name: &str) -> Result<u64, MetadataError> {
        match self.required(name)? {
            Json::Integer(value) => u64::try_from(value).map_err(|_| wrong(&self.place_of(name), "an integer from 0 on")),
            _ => Err(wrong(&self.place_of(name), "an integer from 0 on")),
        }
    }

    pub(crate) fn optional_unsigned(&mut self, name: &str) -> Result<Option<u64>, MetadataError> {
        if self.members.contains_key(name) { self.unsigned(name).map(Some) } else { Ok(None) }
    }

    /// Takes an integer from 1 on: versions and thresholds. A threshold of zero would trust anybody.
    pub(crate) fn positive(&mut self, name: &str) -> Result<u64, MetadataError> {
        match self.unsigned(name)? {
            0 => Err(wrong(&self.place_of(name), "an integer from 1 on")),
            value => Ok(value),
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<bool, MetadataError> {
        match self.required(name)? {
            Json::Bool(value) => Ok(value),
            _ => Err(wrong(&self.place_of(name), "true or false")),
        }
    }

    pub(crate) fn optional_boolean(&mut self, name: &str) -> Result<Option<bool>, MetadataError> {
        if self.members.contains_key(name) { self.boolean(name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn fields(&mut self, name: &str) -> Result<Fields, MetadataError> {
        let value = self.required(name)?;
        Fields::new(value, self.place_of(name))
    }

    pub(crate) fn optional_fields(&mut self, name: &str) -> Result<Option<Fields>, MetadataError> {
        if self.members.contains_key(name) { self.fields(name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn array(&mut self, name: &str) -> Result<Vec<Json>, MetadataError> {
        match self.required(name)? {
            Json::Array(items) => Ok(items),
            _ => Err(wrong(&self.place_of(name), "an array")),
        }
    }

    pub(crate) fn optional_array(&mut self, name: &str) -> Result<Option<Vec<Json>>, MetadataError> {
        if self.members.contains_key(name) { self.array(name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn strings(&mut self, name: &str) -> Result<Vec<String>, MetadataError> {
        let place = self.place_of(name);
        self.array(name)?.into_iter().map(|item| string(item, &place)).collect()
    }

    pub(crate) fn optional_strings(&mut self, name: &str) -> Result<Option<Vec<String>>, MetadataError> {
        if self.members.contains_key(name) { self.strings(name).map(Some) } else { Ok(None) }
    }

    /// Takes an array of strings and parses each.
    pub(crate) fn parsed_list<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<Vec<T>, MetadataError> {
        let place = self.place_of(name);
        let parse = |text: String| text.parse().map_err(|_| wrong(&place, expected));
        self.strings(name)?.into_iter().map(parse).collect()
    }

    pub(crate) fn optional_parsed_list<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<Vec<T>, MetadataError> {
        if self.members.contains_key(name) { self.parsed_list(name, expected) } else { Ok(Vec::new()) }
    }

    /// The members that nobody took: kept, because they are signed.
    pub(crate) fn rest(self) -> BTreeMap<String, Json> {
        self.members
    }

    /// The members as pairs of name and value with the place of each, for objects whose names are data.
    pub(crate) fn entries(self) -> impl Iterator<Item = (String, String, Json)> {
        let Self { place, members } = self;
        members.into_iter().map(move |(name, value)| (format!("{place}.{name}"), name, value))
    }

    pub(crate) fn place_of(&self, name: &str) -> String {
        format!("{}.{name}", self.place)
    }
}

pub(crate) fn wrong(place: &str, expected: &'static str) -> MetadataError {
    MetadataError::Wrong { place: String::from(place), expected }
}

fn string(value: Json, place: &str) -> Result<String, MetadataError> {
    match value {
        Json::String(text) => Ok(text),
        _ => Err(wrong(place, "a string")),
    }
}

/// Builds an object: what we know on top of the unknown fields that were kept.
#[derive(Default)]
pub(crate) struct ObjectWriter(BTreeMap<String, Json>);

impl ObjectWriter {
    pub(crate) fn new(kept: &BTreeMap<String, Json>) -> Self {
        Self(kept.clone())
    }

    pub(crate) fn put(mut self, name: &str, value: Json) -> Self {
        self.0.insert(String::from(name), value);
        self
    }

    pub(crate) fn put_some(self, name: &str, value: Option<Json>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    pub(crate) fn finish(self) -> Json {
        Json::Object(self.0)
    }
}

/// An unsigned number as JSON. Numbers beyond `i64` cannot be read back, so they are held at its end.
pub(crate) fn integer(value: u64) -> Json {
    Json::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(crate) fn strings<T: AsRef<str>>(items: &[T]) -> Json {
    Json::Array(items.iter().map(|item| Json::string(item.as_ref())).collect())
}
