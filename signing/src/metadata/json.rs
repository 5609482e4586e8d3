//! Strict JSON and its canonical form.
//!
//! Two parsers that read one text differently are an attack, so this one accepts less than RFC 8259 allows: no duplicate keys, no
//! fractions or exponents, integers of 64 bits, no byte order mark, no more than [`DEPTH_MAX`] levels.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::{cell::Cell, fmt};

use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use thiserror::Error;

/// Deepest nesting of arrays and objects. Our metadata needs nine levels; the recursion of the parser must not be the sender's choice.
pub const DEPTH_MAX: usize = 64;

/// Most objects in one text. Ours of 10,000 releases has some 70,000. An object of seven bytes takes six hundred in memory, so that the longest
/// file could take half a gigabyte before anybody has looked at who signed it.
pub const OBJECTS_MAX: usize = 100_000;

/// A JSON value without fractions. Keys of an object are held sorted by code point, as the canonical form wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer of 64 bits.
    Integer(i64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

/// Bytes that are not strict JSON.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JsonError {
    /// More bytes than the caller allows.
    #[error("{length} bytes where at most {length_max} are allowed")]
    TooLong {
        /// Length of the text, bytes.
        length: usize,
        /// The caller's limit, bytes.
        length_max: usize,
    },
    /// Not the JSON that we accept.
    #[error("not strict JSON: {reason}")]
    Syntax {
        /// What is wrong, with line and column.
        reason: String,
    },
}

/// Parses strict JSON of at most `length_max` bytes.
///
/// # Errors
/// [`JsonError`] when the text is too long or anything but one strict JSON value.
pub fn parse(bytes: &[u8], length_max: usize) -> Result<Json, JsonError> {
    if bytes.len() > length_max {
        return Err(JsonError::TooLong { length: bytes.len(), length_max });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let objects = Cell::new(0);
    let value = Level { depth: 0, objects: &objects }.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| JsonError::Syntax { reason: format!("{error}") })
}

/// The OLPC canonical form, over which signatures are made: sorted keys, no spaces, and in strings only `\` and `"` escaped, so
/// that a line break stands as itself. This is not RFC 8785, and it is not always JSON.
pub fn canonical(json: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_canonical(json, &mut bytes);
    bytes
}

/// Compact JSON for files and bodies.
pub fn to_bytes(json: &Json) -> Vec<u8> {
    let mut text = format!("{json}").into_bytes();
    text.push(b'\n');
    text
}

impl Json {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// An object with these members.
    pub fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (String::from(key), value)).collect())
    }

    /// The member of an object.
    pub fn member(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Compact JSON, one line.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

fn write_canonical(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Integer(value) => out.extend_from_slice(format!("{value}").as_bytes()),
        Json::String(text) => write_canonical_string(text, out),
        Json::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Json::Object(members) => {
            out.push(b'{');
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_canonical_string(key, out);
                out.push(b':');
                write_canonical(value, out);
            }
            out.push(b'}');
        }
    }
}

fn write_canonical_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Reads a value.
#[derive(Clone, Copy)]
struct Level<'a> {
    /// How many arrays and objects it lies in.
    depth: usize,
    /// How many objects there were so far.
    objects: &'a Cell<usize>,
}

impl Level<'_> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn count_object<E: serde::de::Error>(self) -> Result<(), E> {
        self.objects.set(self.objects.get() + 1);
        if self.objects.get() > OBJECTS_MAX {
            return Err(E::custom(format_args!("more than {OBJECTS_MAX} objects")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with 64-bit integers as its only numbers")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        i64::try_from(value).map(Json::Integer).map_err(|_| E::custom("an integer beyond 64 bits"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::string(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inside = self.inside()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inside = self.inside()?;
        self.count_object()?;
        let mut object = BTreeMap::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(inside)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            object.insert(key, value);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::{string::ToString, vec};

    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match parse(text.as_bytes(), 1_000) {
            Ok(json) => String::from_utf8(canonical(&json)).unwrap(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn the_canonical_form_is_that_of_olpc() {
        check(r#" { "b" : [1, -2, true, null], "a" : "x" } "#, r#"{"a":"x","b":[1,-2,true,null]}"#);
        check(r#"{"\u00e9":1,"z":2,"Z":3}"#, "{\"Z\":3,\"z\":2,\"\u{e9}\":1}");
        check(r#""a\"b\\c\nd\u0001""#, "\"a\\\"b\\\\c\nd\u{1}\"");
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        check(r#"{"a":1,"a":2}"#, r#"not strict JSON: duplicate key "a" at line 1 column 13"#);
        check(r#"{"a":1,"\u0061":2}"#, r#"not strict JSON: duplicate key "a" at line 1 column 18"#);
        check("1 2", "not strict JSON: trailing characters at line 1 column 3");
        for text in ["1.0", "1e2", "-0", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "NaN", "01"] {
            assert!(parse(text.as_bytes(), 100).is_err(), "{text}");
        }
        for bytes in [&b"\xef\xbb\xbf{}"[..], b"\"\xff\"", b"\"\xed\xa0\x80\"", br#""\ud800""#, b"\"\x01\"", b"", b"{", b"[1,]"] {
            assert!(parse(bytes, 100).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(nested(DEPTH_MAX).as_bytes(), 1_000).is_ok());
        check(&nested(DEPTH_MAX + 1), "not strict JSON: nested deeper than 64 levels at line 1 column 66");
        assert!(parse(&b"[".repeat(1_000_000), 2_000_000).is_err());
        assert_eq!(parse(b"[1,2]", 4).unwrap_err().to_string(), "5 bytes where at most 4 are allowed");
        let objects = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert!(parse(objects(OBJECTS_MAX).as_bytes(), 5_000_000).is_ok());
        let many = parse(objects(OBJECTS_MAX + 1).as_bytes(), 5_000_000).unwrap_err().to_string();
        assert!(many.starts_with("not strict JSON: more than 100000 objects"), "{many}");
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::Integer),
            any::<String>().prop_map(Json::String),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_survives_a_round_trip(json in any_json()) {
            prop_assert_eq!(parse(&to_bytes(&json), 1 << 20), Ok(json));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop_oneof![any::<Vec<u8>>(), prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0123e.-tfn "[..]), 0..40)]) {
            if let Ok(json) = parse(&bytes, 1 << 20) {
                prop_assert_eq!(parse(&to_bytes(&json), 1 << 20), Ok(json));
            }
        }
    }

    #[test]
    fn the_written_form_has_no_spaces() {
        let json = Json::object([("b", Json::Array(vec![Json::Null])), ("a", Json::string("\n"))]);
        assert_eq!(to_bytes(&json), b"{\"a\":\"\\n\",\"b\":[null]}\n");
    }
}
