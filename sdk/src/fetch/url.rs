//! Addresses of servers.

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

use super::FetchError;

/// The address of a server, with a path in front of ours if it has one: `https://ota.example/switchback`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Scheme, host and port, in lower case.
    origin: String,
    /// Empty, or begins with a slash and does not end with one.
    prefix: String,
}

impl BaseUrl {
    /// The absolute address of `path`, which begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.prefix)
    }

    /// The path as the server sees it, which is what a signature covers.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Where the members of a file lie, as error texts name them.
    pub(super) fn of_file(path: &Path) -> Self {
        Self { origin: "file://".to_owned(), prefix: path.to_string_lossy().into_owned() }
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// Whether the server is on this very computer.
    pub fn is_loopback(&self) -> bool {
        let host = self.origin.split_once("://").map_or("", |(_, host)| host);
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The absolute address that `location` of a redirect means, if it is on this very server.
    pub(super) fn same_origin(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(format!("{}{location}", self.origin));
        }
        let path_at = location.find("://").and_then(|at| location[at + 3..].find('/').map(|slash| at + 3 + slash))?;
        let (origin, path) = location.split_at(path_at);
        (origin.to_ascii_lowercase() == self.origin).then(|| format!("{origin}{path}"))
    }
}

impl FromStr for BaseUrl {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, FetchError> {
        let malformed = || FetchError::Url { url: text.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, prefix) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        // A user name in an address would end up in logs; a query or fragment has no place in front of our paths.
        let host_is_plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        let climbs = prefix.split('/').any(|segment| matches!(segment, "." | ".."));
        let prefix_is_plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte)) && !climbs;
        if !matches!(scheme.as_str(), "http" | "https") || !host_is_plain || !prefix_is_plain {
            return Err(malformed());
        }
        Ok(Self { origin: format!("{scheme}://{}", host.to_ascii_lowercase()), prefix: prefix.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_path() {
        let url = |text: &str| text.parse::<BaseUrl>();
        assert_eq!(url("HTTPS://OTA.Example:8443/").unwrap().join("/v1"), "https://ota.example:8443/v1");
        assert_eq!(url("http://[::1]:80/a/b/").unwrap().join("/v1"), "http://[::1]:80/a/b/v1");
        assert_eq!(url("http://h/a").unwrap().target("/v1"), "/a/v1");
        assert_eq!(url("http://h/a..b").unwrap().target("/v1"), "/a..b/v1");
        for text in
            ["", "ota.example", "ftp://h", "https://", "https://user@h", "https://h?x", "https://h/#x", "https://h/../x", "https://h /"]
        {
            assert!(url(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_addresses_of_this_computer_stay_on_it() {
        for (text, expected) in [
            ("http://127.0.0.1:8470", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:1/x", true),
            ("http://LOCALHOST:80", true),
            ("http://localhost.evil.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://10.0.0.1", false),
            ("http://[2001:db8::1]", false),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn a_redirect_stays_on_its_server() {
        let url: BaseUrl = "https://ota.example/a".parse().unwrap();
        assert_eq!(url.same_origin("/b").unwrap(), "https://ota.example/b");
        assert_eq!(url.same_origin("https://OTA.example/b").unwrap(), "https://OTA.example/b");
        for location in ["//evil.example/b", "https://evil.example/b", "http://ota.example/b", "https://ota.example:444/b", "b", ""] {
            assert_eq!(url.same_origin(location), None, "{location:?}");
        }
    }
}
