//! Stands where a kind of key is not compiled in: there are none of that kind, so nobody has to ask which features are on.

use alloc::string::String;

macro_rules! absent {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {}

        impl $name {
            pub(super) fn from_pem(_: &str) -> Option<Self> {
                None
            }

            pub(super) fn to_pem(&self) -> String {
                match *self {}
            }

            pub(super) fn verify(&self, _: &[u8], _: &[u8]) -> bool {
                match *self {}
            }

            pub(super) fn as_bytes(&self) -> &[u8] {
                match *self {}
            }
        }
    )*};
}

#[cfg(not(feature = "p256"))]
absent! {
    /// An ECDSA P-256 public key; without the feature `p256` there is none.
    P256PublicKey;
}

#[cfg(not(feature = "rsa"))]
absent! {
    /// An RSA public key; without the feature `rsa` there is none.
    RsaPublicKey;
}
