//! Unicode normalization form C: one spelling for what looks the same (Uptane, 5.2.1: strings "SHALL be ... as defined in RFC 5198").

use alloc::string::{String, ToString};

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use super::{
    MetadataError,
    json::{self, Json},
};

/// That every string of a file is in normalization form C. Of bytes that are no JSON nothing is said: who reads them says it better.
pub(crate) fn check(bytes: &[u8]) -> Result<(), MetadataError> {
    // What is no ASCII may stand in a file as itself or as an escape; most files have neither.
    if bytes.is_ascii() && !bytes.windows(2).any(|two| two == b"\\u") {
        return Ok(());
    }
    match json::parse(bytes, bytes.len()).as_ref().ok().and_then(other_form) {
        Some(text) => Err(MetadataError::NotNormal { text: text.to_string() }),
        None => Ok(()),
    }
}

fn other_form(json: &Json) -> Option<&str> {
    let other = |text: &String| !text.is_ascii() && !is_nfc(text);
    match json {
        Json::String(text) => other(text).then_some(text),
        Json::Array(items) => items.iter().find_map(other_form),
        Json::Object(members) => members.iter().find_map(|(name, value)| if other(name) { Some(name.as_str()) } else { other_form(value) }),
        Json::Null | Json::Bool(_) | Json::Integer(_) => None,
    }
}

/// Brings every string into normalization form C: what we sign is in no other.
pub(super) fn normalize(json: Json) -> Json {
    let normal = |text: String| if text.is_ascii() || is_nfc(&text) { text } else { text.nfc().collect() };
    match json {
        Json::String(text) => Json::String(normal(text)),
        Json::Array(items) => Json::Array(items.into_iter().map(normalize).collect()),
        Json::Object(members) => Json::Object(members.into_iter().map(|(name, value)| (normal(name), normalize(value))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COMPOSED: &str = "\u{e9}";
    const DECOMPOSED: &str = "e\u{301}";

    #[test]
    fn another_form_is_found_in_names_and_values_as_itself_and_as_an_escape() {
        for text in [r#"{"a":"b"}"#, "{\"\u{e9}\":[\"\u{e9}\"]}", r#"{"a":"\u00e9"}"#, r#"{"a":"\n"}"#, "not JSON \u{301}"] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
        for text in ["{\"a\":[1,\"e\u{301}\"]}", "{\"e\u{301}\":1}", r#"{"a":{"b":"e\u0301"}}"#] {
            let error = check(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), alloc::format!("{DECOMPOSED:?} is not in Unicode normalization form C"), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_in_form_c() {
        let json = Json::object([(DECOMPOSED, Json::Array([Json::string(DECOMPOSED), Json::Integer(1)].into()))]);
        assert_eq!(normalize(json), Json::object([(COMPOSED, Json::Array([Json::string(COMPOSED), Json::Integer(1)].into()))]));
    }
}
