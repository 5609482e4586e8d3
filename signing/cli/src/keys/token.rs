//! Keys in tokens and hardware modules, by PKCS#11.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, bail};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{
        Mechanism,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};
use switchback_signing::{
    digest::Sha256Digest,
    keys::{P256PublicKey, PublicKey, Signature, Signer, SignerError},
};
use zeroize::Zeroizing;

use super::{
    passphrase::PassphraseArguments,
    uri::{Pin, TokenUri},
};
use crate::failure::{Hint, failure};

/// Names the module where the URI does not.
pub(crate) const MODULE_VARIABLE: &str = "SWITCHBACK_PKCS11_MODULE";

const MODULE_HINT: &str = "name the token's PKCS#11 library with ?module-path= in the URI or in SWITCHBACK_PKCS11_MODULE, such as \
                           /usr/lib/softhsm/libsofthsm2.so or /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";

const LIST_HINT: &str = "`switchback key list --pkcs11 MODULE` shows tokens and keys with their URIs";

/// A key in a token, and the session in which it signs.
pub(crate) struct TokenSigner {
    session: Session,
    private: ObjectHandle,
    key: PublicKey,
}

/// A key as a token shows it to everybody.
pub(crate) struct TokenKey {
    pub(crate) uri: TokenUri,
    /// Nothing when it is of a kind that is not used here.
    pub(crate) key: Option<PublicKey>,
}

impl TokenSigner {
    /// Finds the token, logs in, and finds the key.
    pub(crate) fn open(uri: &TokenUri, passphrase: &PassphraseArguments) -> anyhow::Result<Self> {
        let module = Module::open(uri.module_path.as_deref())?;
        let (slot, info) = module.token(uri)?;
        let session = module.session(slot, &info)?;
        log_in(&session, &info, uri, passphrase)?;
        let private = find_one(&session, ObjectClass::PRIVATE_KEY, uri, &info)?;
        let private = private.ok_or_else(|| failure(format!("{} has no private key {uri}", title(&info)), LIST_HINT))?;
        check_login(&session, private).with_context(|| format!("the key {uri}"))?;
        let key = public_of(&session, private).with_context(|| format!("the key {uri}"))?;
        Ok(Self { session, private, key })
    }
}

/// The public half of a key, when the token shows it without a PIN; most do.
pub(crate) fn shown_public_key(uri: &TokenUri) -> anyhow::Result<Option<PublicKey>> {
    let module = Module::open(uri.module_path.as_deref())?;
    let (slot, info) = module.token(uri)?;
    let session = module.session(slot, &info)?;
    let found = find_one(&session, ObjectClass::PUBLIC_KEY, uri, &info)?;
    found.map(|object| public_key(&session, object).with_context(|| format!("the key {uri}"))).transpose()
}

impl Signer for TokenSigner {
    fn public_key(&self) -> PublicKey {
        self.key.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignerError> {
        let failed = |reason: String| SignerError { key_id: self.key.key_id(), reason };
        let sign = |mechanism: &Mechanism<'_>, data: &[u8]| self.session.sign(mechanism, self.private, data);
        match &self.key {
            PublicKey::Ed25519(_) => {
                let answer = sign(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), message);
                Ok(Signature::from_bytes(answer.map_err(|error| failed(describe(&error)))?))
            }
            PublicKey::P256(_) => {
                // CKM_ECDSA takes the digest; the mechanisms that hash themselves are missing from many tokens.
                let answer = sign(&Mechanism::Ecdsa, Sha256Digest::of(message).as_bytes()).map_err(|error| failed(describe(&error)))?;
                let numbers = P256PublicKey::signature_of_numbers(&answer);
                numbers.ok_or_else(|| failed(format!("the token answered {} bytes, an ECDSA P-256 signature has 64", answer.len())))
            }
            other => Err(failed(format!("tokens sign with ed25519 and ecdsa-sha2-nistp256, not with {}", other.scheme()))),
        }
    }
}

/// A PKCS#11 library, loaded and initialized.
pub(crate) struct Module {
    context: Pkcs11,
    path: PathBuf,
}

impl Module {
    /// Loads a library, or takes the one that is loaded: it may be initialized once in a process.
    pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        static LOADED: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());
        let path = match path {
            Some(path) => path.to_owned(),
            None => {
                let named = std::env::var_os(MODULE_VARIABLE).filter(|path| !path.is_empty());
                named.map(PathBuf::from).ok_or_else(|| failure("no PKCS#11 module is named", MODULE_HINT))?
            }
        };
        let mut loaded = LOADED.lock().ok().context("a PKCS#11 module failed before")?;
        let context = match loaded.get(&path) {
            Some(context) => context.clone(),
            None => {
                let context = load(&path)?;
                loaded.insert(path.clone(), context.clone());
                context
            }
        };
        Ok(Self { context, path })
    }

    fn tokens(&self) -> anyhow::Result<Vec<(Slot, TokenInfo)>> {
        let slots = self.context.get_slots_with_initialized_token().context("cannot list the tokens")?;
        // A token may go between the two questions.
        Ok(slots.into_iter().filter_map(|slot| Some((slot, self.context.get_token_info(slot).ok()?))).collect())
    }

    /// The one token that a URI means.
    fn token(&self, uri: &TokenUri) -> anyhow::Result<(Slot, TokenInfo)> {
        let tokens = self.tokens()?;
        let there = tokens.iter().map(|(_, info)| title(info)).collect::<Vec<_>>();
        let there = if there.is_empty() { "no token is there".to_owned() } else { format!("there are {}", there.join(", ")) };
        let means = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let mut found = tokens.into_iter().filter(|(slot, info)| {
            means(&uri.token, info.label())
                && means(&uri.serial, info.serial_number())
                && means(&uri.manufacturer, info.manufacturer_id())
                && means(&uri.model, info.model())
                && uri.slot_id.is_none_or(|id| id == slot.id())
        });
        match (found.next(), found.next()) {
            (Some(token), None) => Ok(token),
            (None, _) => Err(failure(format!("no token is {uri}; {there}"), format!("plug it in, or look what it is called: {LIST_HINT}"))),
            (Some(_), Some(_)) => {
                Err(failure(format!("more than one token is {uri}; {there}"), "say which with token= or serial= in the URI"))
            }
        }
    }

    fn session(&self, slot: Slot, info: &TokenInfo) -> anyhow::Result<Session> {
        self.context.open_ro_session(slot).with_context(|| format!("cannot open a session with {}", title(info)))
    }

    /// The keys that the tokens show without a PIN.
    pub(crate) fn keys(&self) -> anyhow::Result<Vec<(String, Vec<TokenKey>)>> {
        let mut found = Vec::new();
        for (slot, info) in self.tokens()? {
            let session = self.session(slot, &info)?;
            let objects = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY)])?;
            let key = |object: ObjectHandle| -> anyhow::Result<TokenKey> {
                let named = Named::of(&session, object)?;
                let uri = TokenUri {
                    token: Some(info.label().to_owned()),
                    object: named.label,
                    id: named.id,
                    module_path: Some(self.path.clone()),
                    ..TokenUri::default()
                };
                Ok(TokenKey { uri, key: public_key(&session, object).ok() })
            };
            found.push((title(&info), objects.into_iter().map(key).collect::<anyhow::Result<_>>()?));
        }
        Ok(found)
    }
}

fn load(path: &Path) -> anyhow::Result<Pkcs11> {
    let cannot = || format!("cannot load the PKCS#11 module {}", path.display());
    let context = Pkcs11::new(path).map_err(|error| anyhow::anyhow!(describe(&error))).with_context(cannot).hint(MODULE_HINT)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(error) => Err(anyhow::anyhow!(describe(&error))).with_context(|| format!("the PKCS#11 module {} does not start", path.display())).hint(
            "it is the right file, and something that it needs is missing: its configuration, its service (pcscd), or, for SoftHSM, the \
             folder of the tokens that SOFTHSM2_CONF names",
        ),
    }
}

fn title(info: &TokenInfo) -> String {
    format!("the token {:?} (serial {})", info.label(), info.serial_number())
}

/// Logs in with the PIN, once: every wrong one brings the token nearer to locking itself.
fn log_in(session: &Session, info: &TokenInfo, uri: &TokenUri, passphrase: &PassphraseArguments) -> anyhow::Result<()> {
    if !info.login_required() {
        return Ok(());
    }
    let pin = if info.protected_authentication_path() && uri.pin.is_none() {
        // The token has a keypad of its own.
        None
    } else {
        let pin: Zeroizing<String> = match &uri.pin {
            Some(Pin::Value(pin)) => pin.clone(),
            Some(Pin::File(path)) => PassphraseArguments::of_file(Some(path.clone())).existing(&format!("the PIN of {}", title(info)))?,
            None => passphrase.existing(&format!("the PIN of {}", title(info)))?,
        };
        Some(AuthPin::from(pin.as_str()))
    };
    let left = match (info.user_pin_locked(), info.user_pin_final_try(), info.user_pin_count_low()) {
        (true, ..) => "the token is locked: its security officer has to set a new PIN",
        (_, true, _) => "this was the last try before the token locks itself, if it has not now",
        (.., true) => "this was not the first wrong PIN: few tries are left before the token locks itself",
        _ => "a token locks itself after a few wrong PINs",
    };
    match session.login(UserType::User, pin.as_ref()) {
        // Another key of the same token is open.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
            Err(failure(format!("{} refuses the PIN", title(info)), left))
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => {
            Err(failure(format!("{} is locked", title(info)), "its security officer has to set a new PIN"))
        }
        Err(error) => Err(anyhow::anyhow!(describe(&error))).with_context(|| format!("cannot log in to {}", title(info))),
    }
}

/// The one key of a class that a URI means.
fn find_one(session: &Session, class: ObjectClass, uri: &TokenUri, info: &TokenInfo) -> anyhow::Result<Option<ObjectHandle>> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let found = session.find_objects(&template).context("cannot search the token")?;
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let half = if class == ObjectClass::PRIVATE_KEY { "private" } else { "public" };
            let what = format!("{} has {} {half} keys that are {uri}", title(info), found.len());
            Err(failure(what, format!("say which with object= or id= in the URI; {LIST_HINT}")))
        }
    }
}

/// That one login is enough: cryptoki starts and ends a signature in one call, and such a key wants its PIN between the two.
fn check_login(session: &Session, private: ObjectHandle) -> anyhow::Result<()> {
    match session.get_attributes(private, &[AttributeType::AlwaysAuthenticate])?[..] {
        [Attribute::AlwaysAuthenticate(true)] => Err(failure(
            "it asks for its PIN before every signature (CKA_ALWAYS_AUTHENTICATE), which is not supported",
            "make the key without it; on a YubiKey, in the slot 9a instead of 9c",
        )),
        _ => Ok(()),
    }
}

/// What an object is called.
struct Named {
    label: Option<String>,
    id: Option<Vec<u8>>,
}

impl Named {
    fn of(session: &Session, object: ObjectHandle) -> anyhow::Result<Self> {
        let mut named = Self { label: None, id: None };
        for attribute in session.get_attributes(object, &[AttributeType::Label, AttributeType::Id])? {
            match attribute {
                Attribute::Label(label) if !label.is_empty() => named.label = String::from_utf8(label).ok(),
                Attribute::Id(id) if !id.is_empty() => named.id = Some(id),
                _ => {}
            }
        }
        Ok(named)
    }
}

/// The public half of a private key: the object with the same id, or with the same label.
fn public_of(session: &Session, private: ObjectHandle) -> anyhow::Result<PublicKey> {
    let Named { label, id } = Named::of(session, private)?;
    let same = id.map(Attribute::Id).or(label.map(|label| Attribute::Label(label.into_bytes())));
    let template: Vec<Attribute> = [Attribute::Class(ObjectClass::PUBLIC_KEY)].into_iter().chain(same).collect();
    match session.find_objects(&template)?[..] {
        [one] => public_key(session, one),
        [] => Err(failure("the token does not hold its public half", "import the public key under the id of the private key")),
        ref several => bail!("the token holds {} public keys under its id", several.len()),
    }
}

/// Reads a public key.
fn public_key(session: &Session, object: ObjectHandle) -> anyhow::Result<PublicKey> {
    let (mut kind, mut curve, mut point) = (None, Vec::new(), Vec::new());
    for attribute in session.get_attributes(object, &[AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint])? {
        match attribute {
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::EcParams(found) => curve = found,
            Attribute::EcPoint(found) => point = found,
            _ => {}
        }
    }
    let kind = kind.context("the token does not say what kind of key it is")?;
    key_of(kind, &curve, &point).with_context(|| {
        format!("it is of the kind {kind} with the curve {} and no key that is used here: ed25519 and P-256 are", hex(&curve))
    })
}

fn key_of(kind: KeyType, curve: &[u8], point: &[u8]) -> Option<PublicKey> {
    /// `id-Ed25519` (RFC 8410), and as SoftHSM writes it, the curve's name as a PrintableString.
    const ED25519: [&[u8]; 2] = [&[0x06, 0x03, 0x2b, 0x65, 0x70], b"\x13\x0cedwards25519"];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let point = unwrap(point);
    match kind {
        KeyType::EC_EDWARDS if ED25519.contains(&curve) => PublicKey::ed25519(point.try_into().ok()?).ok(),
        KeyType::EC if curve == P256 => P256PublicKey::from_point(point).map(PublicKey::P256),
        _ => None,
    }
}

/// PKCS#11 wraps a point into a DER OCTET STRING, some tokens do not. The length tells: 32 bytes of Ed25519, 65 of P-256.
fn unwrap(point: &[u8]) -> &[u8] {
    match point {
        [0x04, length, inner @ ..] if usize::from(*length) == inner.len() => inner,
        _ => point,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The standard's name of what went wrong instead of its paragraph about it.
fn describe(error: &Error) -> String {
    match error {
        Error::Pkcs11(value, function) => format!("{function} answered {value:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use switchback_signing::keys::pem::{Scheme, SecretKey};

    use super::*;

    #[test]
    fn points_are_read_wrapped_and_bare() {
        let ed25519 = SecretKey::from_random(Scheme::Ed25519, &[7; 32]).unwrap().public_key();
        let wrapped = [&[0x04, 32], ed25519.as_bytes()].concat();
        for curve in [&[0x06, 0x03, 0x2b, 0x65, 0x70][..], b"\x13\x0cedwards25519"] {
            for point in [ed25519.as_bytes(), &wrapped] {
                assert_eq!(key_of(KeyType::EC_EDWARDS, curve, point), Some(ed25519.clone()));
            }
        }
        assert_eq!(key_of(KeyType::EC_EDWARDS, b"\x13\x0aedwards448", &wrapped), None);
        assert_eq!(key_of(KeyType::RSA, &[0x06, 0x03, 0x2b, 0x65, 0x70], &wrapped), None);
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let Err(error) = Module::open(Some(Path::new("/nowhere/pkcs11.so"))) else { panic!("it was loaded") };
        assert!(format!("{error:#}").contains("cannot load the PKCS#11 module /nowhere/pkcs11.so"), "{error:#}");
    }
}
