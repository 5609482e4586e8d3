//! Names with a closed alphabet, so that they can stand in file names, URLs and logs as they are.

use alloc::string::String;
use core::{fmt, str::FromStr};

use thiserror::Error;

/// Longest name, bytes. A VIN has 17; a UUID has 36.
pub const NAME_BYTES_MAX: usize = 64;

/// Text that is not a name: 1 to 64 bytes of `A-Z a-z 0-9 . _ -`, in an ECU serial also `:`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a name (1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ -, beginning with a letter or digit)")]
pub struct NameError {
    /// The text that was offered, at most its first 64 characters.
    pub text: String,
}

fn check(text: &str, also: &str) -> Result<(), NameError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') || also.as_bytes().contains(&byte);
    let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if begins_well && text.len() <= NAME_BYTES_MAX && text.bytes().all(legal) {
        Ok(())
    } else {
        Err(NameError { text: text.chars().take(NAME_BYTES_MAX).collect() })
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident $(+ $also:literal)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes a name.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long or holds other characters.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check(&text, concat!($($also)?))?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    )*};
}

names! {
    /// Names a vehicle towards the Director; a pseudonym, not a VIN.
    VehicleId;
    /// Names one ECU of one vehicle (the Standard's ECU identifier). Often a network address, which has colons.
    EcuSerial + ":";
    /// Names a kind of driving computer (the Standard's hardware identifier).
    HardwareId;
    /// Product level of a vehicle, such as `ultra` or `ultra-se`.
    Tier;
    /// A market or legal region, such as `eu` or `cn`.
    Region;
}

/// A dotted version of one to four numbers, such as `1.23` or `0.1.0`. `1.23` equals `1.23.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u32; 4]);

/// Text that is not a dotted version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a version of one to four numbers such as 1.23 or 0.1.0")]
pub struct VersionError;

impl Version {
    /// The version with these first three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self([major, minor, patch, 0])
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut numbers = [0; 4];
        for (at, part) in text.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse().ok().filter(|_| digits);
            *numbers.get_mut(at).ok_or(VersionError)? = number.ok_or(VersionError)?;
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, build] = self.0;
        write!(f, "{major}.{minor}.{patch}")?;
        if build == 0 { Ok(()) } else { write!(f, ".{build}") }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for text in ["", ".", "..", "-rf", "a/b", "a b", "a\0", "\u{e9}", &"a".repeat(65)] {
            assert!(VehicleId::new(text).is_err(), "{text}");
        }
        assert!(EcuSerial::new("CA:FE:A6:D2:84:9D").is_ok() && EcuSerial::new(":").is_err() && VehicleId::new("a:b").is_err());
        assert_eq!(Tier::new("ultra-se").unwrap().to_string(), "ultra-se");
        assert_eq!(
            Tier::new("a/b").unwrap_err().to_string(),
            r#""a/b" is not a name (1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit)"#
        );
    }

    #[test]
    fn versions_compare_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.9") < version("1.23"));
        assert_eq!(version("1.23"), version("1.23.0"));
        assert_eq!(version("1.23.0.4").to_string(), "1.23.0.4");
        for text in ["", "1.", ".1", "1.2.3.4.5", "+1", "1.x", "4294967296"] {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text}");
        }
    }
}
