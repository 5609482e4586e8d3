//! Secret keys that are in no file: in tokens (SoftHSM 2 stands for hardware), and behind a program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::desk::{BUNDLE, Desk, available, openssl, openssl_is_there};

/// Where Debian and Fedora put the module.
const MODULES: [&str; 3] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"];

const PURPOSES: [&str; 4] = ["image-root", "director-root", "targets", "release"];

const HOLDERS: [&str; 3] = ["alice", "bob", "carol"];

/// Three keyholders' tokens.
struct Tokens {
    module: PathBuf,
    configuration: PathBuf,
}

/// The module, if tokens can be made, by the rule of [`available`].
fn softhsm() -> Option<PathBuf> {
    let tools = ["softhsm2-util", "pkcs11-tool"].iter().all(|tool| Command::new(tool).arg("--help").output().is_ok());
    let module = MODULES.iter().map(PathBuf::from).find(|module| module.is_file()).filter(|_| tools);
    available(module.is_some(), "SoftHSM 2 and pkcs11-tool are not there; on Debian: apt-get install softhsm2 opensc");
    module
}

impl Tokens {
    /// Makes a token for each keyholder of `desk`, with their keys: alice's and carol's of Ed25519, bob's of P-256.
    fn make(desk: &mut Desk) -> Option<Self> {
        let module = softhsm()?;
        let tokens = Self { module, configuration: desk.path("softhsm2.conf") };
        fs::create_dir(desk.path("tokens")).unwrap();
        desk.write("softhsm2.conf", format!("directories.tokendir = {}\nobjectstore.backend = file\n", desk.path("tokens").display()));
        desk.write("pin", "1234\n");
        desk.set("SOFTHSM2_CONF", tokens.configuration.to_str().unwrap());
        for holder in HOLDERS {
            tokens.run("softhsm2-util", &format!("--init-token --free --label {holder} --so-pin 12345678 --pin 1234"));
            for (number, purpose) in PURPOSES.iter().enumerate() {
                let curve = if holder == "bob" { "prime256v1" } else { "edwards25519" };
                tokens.tool(holder, &format!("--keypairgen --key-type EC:{curve} --id 0{number} --label {purpose}-{holder}"));
            }
        }
        Some(tokens)
    }

    fn tool(&self, holder: &str, arguments: &str) {
        self.run("pkcs11-tool", &format!("--module {} --token-label {holder} --login --pin 1234 {arguments}", self.module.display()));
    }

    fn run(&self, program: &str, arguments: &str) {
        let mut command = Command::new(program);
        let output = command.args(arguments.split_whitespace()).env("SOFTHSM2_CONF", &self.configuration).output().unwrap();
        assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The reference of a keyholder's key for a purpose.
    fn uri(&self, purpose: &str, holder: &str, pin: &Path) -> String {
        format!("pkcs11:token={holder};object={purpose}-{holder}?module-path={}&pin-source=file:{}", self.module.display(), pin.display())
    }
}

/// A desk with a base whose twelve keys are in three tokens.
fn desk_of_tokens() -> Option<(Desk, Tokens)> {
    let mut desk = Desk::ready_online();
    let tokens = Tokens::make(&mut desk)?;
    let existing = |holder: &&str| PURPOSES.map(|purpose| format!("{purpose}-{holder}={}", tokens.uri(purpose, holder, &desk.path("pin"))));
    let existing: Vec<String> = HOLDERS.iter().flat_map(existing).collect();
    desk.succeed(&format!(
        "init --base base --tiers ultra,ultra-se --online-keys online.json --existing-key {}",
        existing.join(" --existing-key ")
    ));
    Some((desk, tokens))
}

#[test]
fn a_ceremony_whose_keys_never_leave_their_tokens() {
    let Some((desk, _)) = desk_of_tokens() else { return };
    let files = super::desk::files_below(&desk.path("base/keys"));
    assert!(files.len() == 24 && files.iter().all(|name| name.ends_with(".pub.json") || name.ends_with(".uri")), "{files:?}");
    let root: Value = serde_json::from_slice(&desk.read("base/image/1.root.json")).unwrap();
    let ids = root["signed"]["roles"]["root"]["keyids"].as_array().unwrap();
    let schemes: Vec<&str> = ids.iter().map(|id| root["signed"]["keys"][id.as_str().unwrap()]["scheme"].as_str().unwrap()).collect();
    assert_eq!(schemes, ["ed25519", "ecdsa-sha2-nistp256", "ed25519"]);

    let listed = desk.ask("key list --base base");
    let alice = listed.as_array().unwrap().iter().find(|key| key["name"] == "release-alice").unwrap();
    assert_eq!(alice["secret_here"], false);
    let place = alice["secret_at"].as_str().unwrap();
    assert!(place.starts_with("pkcs11:token=alice;object=release-alice?module-path="), "{place}");

    // By name, which leads to the token; two of three each.
    desk.succeed("root expire --base base --repository image --days 700");
    desk.succeed("root sign --base base --repository image --key alice");
    let state = desk.ask("root sign --base base --repository image --key bob");
    assert_eq!((&state["complete"], &state["signatures"][0]["signed"]), (&json!(true), &json!(["image-root-alice", "image-root-bob"])));
    desk.succeed("targets set-threshold --base base --tier ultra 2");
    desk.succeed("targets sign --base base --key carol");
    assert_eq!(desk.ask("targets sign --base base --key bob")["complete"], true);
    desk.pack("1.0.0", 1);
    for holder in ["bob", "carol"] {
        desk.succeed(&format!("sign --base base --key {holder} {BUNDLE}"));
    }
    desk.succeed(&format!("verify --base base {BUNDLE}"));
}

#[test]
fn a_token_that_is_missing_locked_or_ambiguous_is_named() {
    let Some((mut desk, tokens)) = desk_of_tokens() else { return };
    let module = tokens.module.display().to_string();
    desk.write("wrong", "4321\n");
    desk.succeed("targets expire --base base --days 9");
    let check = |desk: &Desk, key: &str, expected: &[&str]| {
        let error = desk.refuse(&format!("targets sign --base base --key {key}"));
        assert!(expected.iter().all(|expected| error.contains(expected)), "{error}");
        assert!(!error.contains("4321"), "no PIN is shown: {error}");
    };
    let wrong = tokens.uri("release", "alice", &desk.path("wrong"));
    check(&desk, &wrong, &["the token \"alice\" (serial ", "refuses the PIN", "few wrong PINs"]);
    let wrong = format!("pkcs11:token=alice;object=release-alice?module-path={module}&pin-value=4321");
    check(&desk, &wrong, &["refuses the PIN"]);
    let nobody = format!("pkcs11:token=alice;object=release-alice?module-path={module}");
    check(&desk, &nobody, &["the PIN of the token \"alice\"", "is needed, and there is no terminal to ask for it"]);
    check(
        &desk,
        &format!("pkcs11:token=dora?module-path={module}"),
        &["no token is pkcs11:token=dora", "the token \"carol\"", "plug it in"],
    );
    check(&desk, &format!("pkcs11:object=release-bob?module-path={module}"), &["more than one token is", "token= or serial="]);
    let pin = desk.path("pin").display().to_string();
    let several = format!("pkcs11:token=alice?module-path={module}&pin-source={pin}");
    check(&desk, &several, &["has 4 private keys", "object= or id="]);
    let missing = format!("pkcs11:token=alice;object=dora?module-path={module}&pin-source={pin}");
    check(&desk, &missing, &["has no private key pkcs11:token=alice;object=dora"]);
    check(&desk, "pkcs11:token=alice", &["no PKCS#11 module is named", "SWITCHBACK_PKCS11_MODULE"]);
    check(&desk, "pkcs11:token=alice?module-path=/nowhere/x.so", &["cannot load the PKCS#11 module /nowhere/x.so"]);
    check(&desk, "pkcs11:colour=red", &["colour in the URI is not known"]);

    tokens.tool("alice", "--keypairgen --key-type rsa:2048 --id 09 --label rsa");
    let rsa = format!("pkcs11:token=alice;object=rsa?module-path={module}&pin-source={pin}");
    check(&desk, &rsa, &["no key that is used here: ed25519 and P-256 are"]);

    tokens.tool("alice", "--keypairgen --key-type EC:prime256v1 --id 0a --label each --always-auth");
    let each = format!("pkcs11:token=alice;object=each?module-path={module}&pin-source={pin}");
    check(&desk, &each, &["asks for its PIN before every signature", "9a instead of 9c"]);

    // Public halves need no PIN, and what is named as one is not asked for.
    desk.set("SWITCHBACK_PKCS11_MODULE", &module);
    for key in ["pkcs11:token=alice;object=release-alice", &wrong, "base/keys/release-alice.uri"] {
        desk.succeed(&format!("key export-public --out public.json --key {key}"));
        assert_eq!(desk.read("public.json"), desk.read("base/keys/release-alice.pub.json"));
    }
    let export = |key: &str| desk.refuse(&format!("key export-public --out public.json --key {key}"));
    assert!(export(&several).contains("public keys that are pkcs11:token=alice"));
    assert!(export("pkcs11:token=alice;object=dora").contains("the PIN of the token"), "it may be hidden");
    assert!(export(&rsa).contains("no key that is used here: ed25519 and P-256 are"));

    // The module and the PIN may come from the environment; the list has what --key takes.
    desk.set("SWITCHBACK_PASSPHRASE", "1234");
    desk.succeed("targets sign --base base --key pkcs11:token=alice;object=targets-alice");
    let listed = desk.ask(&format!("key list --pkcs11 {module}"));
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 14);
    let bobs = listed.iter().find(|key| key["uri"].as_str().unwrap().contains("release-bob")).unwrap();
    assert_eq!(bobs["scheme"], "ecdsa-sha2-nistp256");
    desk.succeed(&format!("key export-public --out public.json --key {}", bobs["uri"].as_str().unwrap()));
    assert_eq!(desk.read("public.json"), desk.read("base/keys/release-bob.pub.json"));
    // The module's own configuration is gone.
    desk.set("SOFTHSM2_CONF", "/nowhere/softhsm2.conf");
    let error = desk.refuse("key export-public --out public.json --key pkcs11:token=alice;object=release-alice");
    assert!(error.contains("does not start") && error.contains("SOFTHSM2_CONF"), "{error}");
    // The module is taken away, and what leads to it stays.
    fs::write(desk.path("base/keys/targets-bob.uri"), "pkcs11:token=bob;object=targets-bob?module-path=/nowhere/x.so\n").unwrap();
    desk.succeed("targets expire --base base --days 10");
    let error = desk.refuse("targets sign --base base --key bob");
    assert!(error.contains("cannot load the PKCS#11 module /nowhere/x.so"), "{error}");
}

/// A signing program in the language of the shell, over a key of OpenSSL. It fails when it hears what opens other keys.
fn program(desk: &Desk, sign: &str) {
    let script = format!(
        "#!/bin/sh\nset -e\n[ -z \"$SWITCHBACK_PASSPHRASE\" ]\ncd {}\ncase \"$1\" in\npublic) openssl pkey -in service.key -pubout ;;\nsign) cat >message; {sign} ;;\nesac\n",
        desk.path("").display()
    );
    desk.write("service", script);
    #[cfg(unix)]
    fs::set_permissions(desk.path("service"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

const SIGN_P256: &str = "openssl dgst -sha256 -sign service.key message";

#[test]
fn a_signing_program_is_believed_only_as_far_as_its_signatures_verify() {
    if !openssl_is_there() {
        return;
    }
    let mut desk = Desk::ready();
    desk.set("SWITCHBACK_PASSPHRASE", "correct horse battery");
    openssl(&desk, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service.key");
    fs::copy(desk.path("service.key"), desk.path("p256.key")).unwrap();
    program(&desk, SIGN_P256);
    let service = format!("exec:{}", desk.path("service").display());
    desk.succeed(&format!("key export-public --key {service} --out release-service.pub.json"));
    desk.succeed("targets add-key --base base --tier ultra release-service.pub.json");
    for key in ["alice", "bob"] {
        desk.succeed(&format!("targets sign --base base --key {key}"));
    }
    let sign = format!("sign --base base --key {service} {BUNDLE}");
    let refuse = |script: &str, expected: &str| {
        program(&desk, script);
        let error = desk.refuse(&sign);
        assert!(error.contains(expected), "{error}");
        assert!(!desk.path("base/drafts/vla-ultra.json").exists(), "nothing was signed");
    };
    refuse("echo 'quota exceeded' >&2; exit 1", "service sign failed (exit status: 1): quota exceeded");
    refuse("echo another message >message; openssl dgst -sha256 -sign service.key message", "that are no ecdsa-sha2-nistp256 signature");
    refuse("echo deadbeef", "answered 9 bytes that are no ecdsa-sha2-nistp256 signature under its public key");
    openssl(&desk, "genpkey -algorithm RSA -out service.key");
    refuse(SIGN_P256, "the key is of rsassa-pss-sha256, which vehicles do not verify");
    openssl(&desk, "pkey -in service.key -pubout -out release-rsa.pem");
    assert!(desk.refuse("targets add-key --base base --tier ultra release-rsa.pem").contains("which vehicles do not verify"));
    fs::copy(desk.path("p256.key"), desk.path("service.key")).unwrap();
    program(&desk, "openssl dgst -sha256 -hex -sign service.key message | sed 's/.*= //'");
    assert_eq!(desk.ask(&sign)["signed_by"], json!(["release-service"]));
}

/// Two people open their keys at the same time: while the program of one signs, the other writes. (The program stands for the time that
/// somebody needs for a passphrase.)
#[test]
fn nobodys_signature_is_lost_when_two_sign_the_same_draft_at_once() {
    if !openssl_is_there() {
        return;
    }
    let desk = Desk::ready();
    openssl(&desk, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service.key");
    let meanwhile = |draft: &str, found: &str| program(&desk, &format!("cp {found} base/drafts/{draft}; {SIGN_P256}"));
    program(&desk, SIGN_P256);
    let service = format!("exec:{}", desk.path("service").display());
    desk.succeed(&format!("key export-public --key {service} --out image-root-service.pub.json"));

    // A root.
    desk.succeed("root add-key --base base --repository image --role root image-root-service.pub.json");
    let draft = "base/drafts/image.root.json";
    let unsigned = desk.read(draft);
    desk.succeed("root sign --base base --repository image --key alice");
    fs::copy(desk.path(draft), desk.path("alice.json")).unwrap();
    desk.write(draft, &unsigned);
    meanwhile("image.root.json", "alice.json");
    let state = desk.ask(&format!("root sign --base base --repository image --key {service}"));
    assert_eq!(state["signatures"][1]["signed"], json!(["image-root-alice", "image-root-service"]));

    // It says something else meanwhile: that is not what was signed.
    desk.write(draft, &unsigned);
    desk.succeed("root expire --base base --repository image --days 5");
    fs::copy(desk.path(draft), desk.path("other.json")).unwrap();
    desk.write(draft, &unsigned);
    meanwhile("image.root.json", "other.json");
    let error = desk.refuse(&format!("root sign --base base --repository image --key {service}"));
    assert!(error.contains("somebody else has changed base/drafts/image.root.json meanwhile"), "{error}");
    assert!(error.contains("the signature was not added"), "{error}");
    assert_eq!(desk.read(draft), desk.read("other.json"), "what the other one wrote is left alone");
    desk.succeed("root discard --base base --repository image");

    // A release: alice begins the draft while the service does.
    desk.succeed("targets add-key --base base --tier ultra image-root-service.pub.json");
    for key in ["alice", "bob"] {
        desk.succeed(&format!("targets sign --base base --key {key}"));
    }
    let draft = "base/drafts/vla-ultra.json";
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    fs::rename(desk.path(draft), desk.path("alice.json")).unwrap();
    meanwhile("vla-ultra.json", "alice.json");
    let other = format!("sign --base base --key {service} --days 9 {BUNDLE}");
    assert!(desk.refuse(&other).contains("somebody else has changed base/drafts/vla-ultra.json meanwhile"));
    assert_eq!(desk.read(draft), desk.read("alice.json"));
    program(&desk, SIGN_P256);
    assert_eq!(desk.ask(&other)["signed_by"], json!(["release-alice", "image-root-service"]));
}

#[test]
fn a_token_a_file_and_a_program_sign_on_machines_of_their_own() {
    if !openssl_is_there() {
        return;
    }
    let mut token_machine = Desk::new();
    let Some(tokens) = Tokens::make(&mut token_machine) else { return };
    let (desk, mut file_machine, program_machine) = (Desk::ready_online(), Desk::new(), Desk::new());
    file_machine.set("SWITCHBACK_PASSPHRASE", "correct horse battery");
    file_machine.succeed("key new --out . image-root-bob");
    openssl(&program_machine, "genpkey -algorithm ED25519 -out service.key");
    program(&program_machine, "openssl pkeyutl -sign -rawin -inkey service.key -in message");
    let keys = [
        tokens.uri("image-root", "alice", &token_machine.path("pin")),
        "image-root-bob.pem".to_owned(),
        format!("exec:{}", program_machine.path("service").display()),
    ];
    let machines = [&token_machine, &file_machine, &program_machine];

    // The desk has keys of its own to begin with, and hands the root over to the three.
    desk.succeed("init --base base --unencrypted --signers first --threshold 1 --tiers ultra --online-keys online.json");
    for ((machine, key), holder) in machines.iter().zip(&keys).zip(HOLDERS) {
        machine.succeed(&format!("key export-public --key {key} --out public.json"));
        let name = format!("image-root-{holder}.pub.json");
        desk.write(&name, machine.read("public.json"));
        desk.succeed(&format!("root add-key --base base --repository image --role root {name}"));
    }
    desk.succeed("root remove-key --base base --repository image --role root image-root-first");
    desk.succeed("root set-threshold --base base --repository image --role root 2");
    desk.succeed("root cross-sign --base base --repository image --key first");
    desk.succeed("request export --base base --root image --out request.json");
    let mut copies = Vec::new();
    for ((machine, key), holder) in machines.iter().zip(&keys).zip(HOLDERS) {
        machine.write("request.json", desk.read("request.json"));
        machine.succeed(&format!("request sign --yes --key {key} request.json"));
        copies.push(format!("{holder}.json"));
        desk.write(&copies[copies.len() - 1], machine.read("request.json"));
    }
    assert_eq!(desk.ask(&format!("request import --base base {}", copies[0]))["complete"], false);
    assert_eq!(desk.ask(&format!("request import --base base {}", copies[1]))["complete"], true, "two of three");
    let state = desk.ask(&format!("request import --base base {}", copies.join(" ")));
    assert_eq!(state["signatures"][1]["signed"], json!(["image-root-alice", "image-root-bob", "image-root-carol"]));
}
