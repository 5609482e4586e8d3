//! Conditional and partial requests (RFC 9110, sections 13 and 14). Pure: headers go in, what to send comes out.

use axum::http::{HeaderMap, HeaderName, header};

/// What a client that has sent these headers gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything.
    Whole,
    /// These bytes.
    Part(core::ops::Range<u64>),
    /// Nothing: it has the current version.
    NotModified,
    /// Nothing: there are no such bytes.
    Unsatisfiable,
}

/// Decides what to send of `length` bytes whose version is `etag`.
///
/// One range at most: more are legal to ignore, and nobody who resumes a download needs them.
pub(crate) fn wanted(headers: &HeaderMap, etag: &str, length: u64) -> Wanted {
    if text(headers, header::IF_NONE_MATCH).is_some_and(|tags| lists(tags, etag)) {
        return Wanted::NotModified;
    }
    // With another version than the client has part of, it must get the whole.
    let current = text(headers, header::IF_RANGE).is_none_or(|tag| tag == etag);
    let range = text(headers, header::RANGE).filter(|_| current);
    match range.and_then(|range| range.strip_prefix("bytes=")) {
        Some(spec) => part(spec, length),
        None => Wanted::Whole,
    }
}

fn part(spec: &str, length: u64) -> Wanted {
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than fit name a byte beyond every file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => (first, length),
        (None, Some(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
        // Not one range in the form that we know: RFC 9110, section 14.2, has it ignored.
        _ => return Wanted::Whole,
    };
    if start < end { Wanted::Part(start..end) } else { Wanted::Unsatisfiable }
}

/// Weak comparison, as If-None-Match wants it (RFC 9110, section 13.1.2).
fn lists(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const ETAG: &str = "\"v2\"";

    fn check(headers: &[(HeaderName, &str)], expected: &Wanted) {
        let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        assert_eq!(&wanted(&map, ETAG, 1_000), expected, "{headers:?}");
    }

    #[test]
    fn a_range_is_cut_to_what_there_is() {
        use header::RANGE;
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=990-", 990..1_000),
            ("bytes=990-99999999999999999999999", 990..1_000),
            ("bytes=-1", 999..1_000),
            ("bytes=-5000", 0..1_000),
        ] {
            check(&[(RANGE, range)], &Wanted::Part(part));
        }
        for range in ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=99999999999999999999999-"] {
            check(&[(RANGE, range)], &Wanted::Unsatisfiable);
        }
        for range in ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,5-6", "bytes=+1-2", "items=0-1"] {
            check(&[(RANGE, range)], &Wanted::Whole);
        }
        check(&[], &Wanted::Whole);
    }

    #[test]
    fn a_download_of_another_version_does_not_go_on() {
        use header::{IF_RANGE, RANGE};
        check(&[(RANGE, "bytes=5-"), (IF_RANGE, "\"v2\"")], &Wanted::Part(5..1_000));
        check(&[(RANGE, "bytes=5-"), (IF_RANGE, "\"v1\"")], &Wanted::Whole);
        check(&[(RANGE, "bytes=5-"), (IF_RANGE, "W/\"v2\"")], &Wanted::Whole);
    }

    #[test]
    fn a_client_that_has_the_current_version_gets_nothing() {
        use header::{IF_NONE_MATCH, RANGE};
        for tags in ["\"v2\"", "W/\"v2\"", "\"v1\", \"v2\"", "*"] {
            check(&[(IF_NONE_MATCH, tags)], &Wanted::NotModified);
        }
        check(&[(IF_NONE_MATCH, "\"v1\"")], &Wanted::Whole);
        check(&[(IF_NONE_MATCH, "\"v2\""), (RANGE, "bytes=0-0")], &Wanted::NotModified);
    }
}
