//! `pkcs11:` URIs (RFC 7512): which key of which token, by which module.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

/// Attributes that choose a token or a key. Those of libraries and slots' descriptions are not among them: they change with an update.
const CHOOSING: &str = "token, manufacturer, model, serial, slot-id, object, id, type";

/// A parsed URI.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenUri {
    pub(crate) token: Option<String>,
    pub(crate) manufacturer: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) slot_id: Option<u64>,
    pub(crate) object: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) module_path: Option<PathBuf>,
    pub(crate) pin: Option<Pin>,
}

/// Where the PIN is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pin {
    /// In the URI itself.
    Value(Zeroizing<String>),
    /// On the first line of a file.
    File(PathBuf),
}

impl TokenUri {
    /// Reads what stands behind `pkcs11:`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut uri = Self::default();
        let mut seen = Vec::new();
        let parts =
            |text: &str, separator: char| text.split(separator).filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let attributes =
            parts(path, ';').into_iter().map(|part| (false, part)).chain(parts(query, '&').into_iter().map(|part| (true, part)));
        for (in_query, part) in attributes {
            let (name, value) =
                part.split_once('=').with_context(|| format!("{:?} in the URI is not of the form NAME=VALUE", shown(&part)))?;
            if seen.iter().any(|other| other == name) {
                bail!("{name} stands in the URI twice");
            }
            seen.push(name.to_owned());
            let value = Zeroizing::new(decode(value).with_context(|| format!("{name} in the URI"))?);
            if in_query { uri.query(name, &value)? } else { uri.choose(name, &value)? }
        }
        Ok(uri)
    }

    fn choose(&mut self, name: &str, value: &[u8]) -> anyhow::Result<()> {
        if name == "id" {
            self.id = Some(value.to_vec());
            return Ok(());
        }
        let text = utf8(name, value)?;
        match name {
            "token" => self.token = Some(text),
            "manufacturer" => self.manufacturer = Some(text),
            "model" => self.model = Some(text),
            "serial" => self.serial = Some(text),
            "slot-id" => self.slot_id = Some(text.parse().with_context(|| format!("slot-id is {text:?}, no number"))?),
            "object" => self.object = Some(text),
            // Whichever half is named, both are meant.
            "type" if text == "private" || text == "public" => {}
            "type" => bail!("the URI names an object of the type {text:?}, keys are private or public"),
            other => bail!("{other} in the URI is not known; a key is chosen by {CHOOSING}"),
        }
        Ok(())
    }

    fn query(&mut self, name: &str, value: &[u8]) -> anyhow::Result<()> {
        let text = Zeroizing::new(utf8(name, value)?);
        let pin = match name {
            "module-path" => {
                self.module_path = Some(PathBuf::from(text.as_str()));
                return Ok(());
            }
            "pin-value" => Pin::Value(text),
            "pin-source" if text.starts_with('|') => bail!("pin-source names a program; only files are read"),
            "pin-source" => Pin::File(PathBuf::from(text.strip_prefix("file:").unwrap_or(&text).trim_start_matches("//"))),
            other => bail!("{other} in the URI is not known; behind the question mark stand module-path, pin-source, pin-value"),
        };
        if self.pin.replace(pin).is_some() {
            bail!("the URI has both pin-value and pin-source");
        }
        Ok(())
    }
}

/// Without a PIN that stands in the URI itself.
impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [("token", &self.token), ("manufacturer", &self.manufacturer), ("model", &self.model), ("serial", &self.serial)];
        let mut attributes: Vec<String> =
            texts.iter().filter_map(|(name, text)| Some(format!("{name}={}", encode(text.as_ref()?.as_bytes())))).collect();
        attributes.extend(self.slot_id.map(|id| format!("slot-id={id}")));
        attributes.extend(self.object.as_ref().map(|object| format!("object={}", encode(object.as_bytes()))));
        // RFC 7512, section 2.3: "the whole value of the "id" attribute SHOULD be percent-encoded".
        attributes.extend(self.id.as_ref().map(|id| id.iter().fold(String::from("id="), |text, byte| format!("{text}%{byte:02X}"))));
        write!(f, "pkcs11:{}", attributes.join(";"))?;
        let path = |name: &str, path: &Path| format!("{name}={}", encode(path.to_string_lossy().as_bytes()));
        let mut query: Vec<String> = self.module_path.iter().map(|module| path("module-path", module)).collect();
        if let Some(Pin::File(file)) = &self.pin {
            query.push(path("pin-source", file));
        }
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}

/// The name of an attribute that could not be read: what follows might be a PIN.
fn shown(part: &str) -> String {
    part.chars().take(12).collect()
}

fn utf8(name: &str, value: &[u8]) -> anyhow::Result<String> {
    String::from_utf8(value.to_vec()).with_context(|| format!("{name} in the URI is not UTF-8"))
}

fn decode(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit(), digit());
        let value = high.zip(low).map(|(high, low)| high * 16 + low).and_then(|value| u8::try_from(value).ok());
        bytes.push(value.context("a percent sign is followed by two hexadecimal digits")?);
    }
    Ok(bytes)
}

fn encode(bytes: &[u8]) -> String {
    // The characters that RFC 7512 allows in both parts of a URI, less those that a shell would read.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:+,@".contains(&byte);
    bytes
        .iter()
        .fold(String::new(), |text, &byte| if plain(byte) { text + &char::from(byte).to_string() } else { format!("{text}%{byte:02X}") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_uri_survives_a_round_trip_without_its_pin() {
        let text = "token=Root%20keys;object=alice%3B;id=%01%FF;type=private?module-path=/usr/lib/x.so&pin-value=12%333";
        let uri = TokenUri::parse(text).unwrap();
        assert_eq!(
            (uri.token.as_deref(), uri.object.as_deref(), uri.id.as_deref()),
            (Some("Root keys"), Some("alice;"), Some(&[1, 255][..]))
        );
        assert!(uri.pin == Some(Pin::Value(Zeroizing::new("1233".to_owned()))));
        let printed = uri.to_string();
        assert_eq!(printed, "pkcs11:token=Root%20keys;object=alice%3B;id=%01%FF?module-path=/usr/lib/x.so");
        let again = TokenUri::parse(printed.strip_prefix("pkcs11:").unwrap()).unwrap();
        assert!(again == TokenUri { pin: None, ..uri });
    }

    #[test]
    fn pins_lie_in_files() {
        for source in ["/etc/pin", "file:/etc/pin", "file:///etc/pin"] {
            let uri = TokenUri::parse(&format!("serial=1;model=m;manufacturer=n;slot-id=7?pin-source={source}")).unwrap();
            assert!(uri.pin == Some(Pin::File(PathBuf::from("/etc/pin"))), "{source}");
            assert_eq!(uri.to_string(), "pkcs11:manufacturer=n;model=m;serial=1;slot-id=7?pin-source=/etc/pin");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_no_pin_is_shown() {
        let check = |text: &str, expected: &str| {
            let Err(error) = TokenUri::parse(text) else { panic!("{text} was taken") };
            assert!(format!("{error:#}").contains(expected), "{text}: {error:#}");
        };
        check("token", "\"token\" in the URI is not of the form NAME=VALUE");
        check("token=a;token=b", "token stands in the URI twice");
        check("slot-id=x", "slot-id is \"x\", no number");
        check("type=cert", "names an object of the type \"cert\"");
        check("library-version=3", "library-version in the URI is not known; a key is chosen by token, ");
        check("token=%f", "token in the URI: a percent sign is followed by two hexadecimal digits");
        check("token=%ff", "token in the URI is not UTF-8");
        check("?pin=1234", "pin in the URI is not known; behind the question mark stand module-path, pin-source, pin-value");
        check("?pin-source=|cat", "pin-source names a program; only files are read");
        check("?pin-value=1&pin-source=/a", "both pin-value and pin-source");
    }
}
