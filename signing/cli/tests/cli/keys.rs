//! Secret keys on a disk: encrypted unless somebody asks for the contrary, and readable by other tools.

use super::desk::{BUNDLE, Desk, openssl, openssl_is_there};

/// A desk whose keyholders' passphrase is in a file.
fn with_passphrase() -> Desk {
    let desk = Desk::new();
    desk.write("passphrase", "correct horse battery\n");
    desk
}

#[test]
fn a_new_key_is_encrypted_and_openssl_reads_it() {
    if !openssl_is_there() {
        return;
    }
    let desk = with_passphrase();
    for (scheme, text) in [("ed25519", "ED25519 Private-Key:"), ("ecdsa-sha2-nistp256", "Private-Key: (256 bit)")] {
        let made = desk.ask(&format!("key new --scheme {scheme} --passphrase-file passphrase --out stick {scheme}"));
        assert_eq!((&made["scheme"], &made["encrypted"]), (&scheme.into(), &true.into()));
        let pem = String::from_utf8(desk.read(&format!("stick/{scheme}.pem"))).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{pem}");
        let shown = openssl(&desk, &format!("pkey -in stick/{scheme}.pem -passin file:passphrase -noout -text"));
        assert!(shown.contains(text), "{shown}");
        // What OpenSSL takes for the public half is what we take for it.
        desk.succeed(&format!("key export-public --key stick/{scheme}.pem --passphrase-file passphrase --format pem --out public.pem"));
        let public = openssl(&desk, &format!("pkey -in stick/{scheme}.pem -passin file:passphrase -pubout"));
        assert_eq!(String::from_utf8(desk.read("public.pem")).unwrap(), public);
    }
}

#[test]
fn a_passphrase_that_is_missing_wrong_or_short_is_named() {
    let mut desk = with_passphrase();
    let error = desk.refuse("key new dora");
    assert!(error.contains("there is no terminal to ask for a passphrase") && error.contains("SWITCHBACK_PASSPHRASE"), "{error}");
    desk.write("short", "horse");
    let error = desk.refuse("key new --passphrase-file short dora");
    assert!(error.contains("the passphrase has 5 characters, a new key's needs 12"), "{error}");
    desk.write("empty", "\nhorse");
    assert!(desk.refuse("key new --passphrase-file empty dora").contains("the first line of empty is empty"));
    assert!(!desk.path("dora.pem").exists());

    desk.succeed("key new --passphrase-file passphrase dora");
    let export = "key export-public --key dora.pem --out public.json";
    assert!(desk.refuse(export).contains("the passphrase of dora.pem is needed, and there is no terminal to ask for it"));
    desk.write("wrong", "correct horse bakery");
    let error = desk.refuse(&format!("{export} --passphrase-file wrong"));
    assert!(error.contains("dora.pem: the passphrase does not open the key: it is another one, or the file was damaged"), "{error}");
    desk.set("SWITCHBACK_PASSPHRASE", "correct horse battery");
    desk.succeed(export);
    assert_eq!(desk.read("public.json"), desk.read("dora.pub.json"));
}

#[test]
fn a_key_file_that_was_damaged_or_exchanged_does_not_sign() {
    let desk = Desk::new();
    for name in ["dora", "emil"] {
        desk.succeed(&format!("key new --unencrypted {name}"));
    }
    let pem = String::from_utf8(desk.read("dora.pem")).unwrap();
    let export = "key export-public --key dora.pem --out public.json";
    desk.write("dora.pem", &pem[..pem.len() / 2]);
    assert!(desk.refuse(export).contains("dora.pem: the file is no private key in PEM form"));
    desk.write("dora.pem", desk.read("emil.pem"));
    let error = desk.refuse(export);
    assert!(error.contains("dora.pem and dora.pub.json are not the halves of one key") && error.contains("backup"), "{error}");
}

#[test]
fn a_plain_json_key_signs_and_can_be_encrypted() {
    let desk = with_passphrase();
    // As a server keeps its keys; RFC 8032, section 7.1, test 2.
    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let secret = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let old = format!(r#"{{"keytype":"ed25519","keyval":{{"private":"{secret}","public":"{public}"}},"scheme":"ed25519"}}"#);
    desk.write("old.json", &old);
    desk.succeed("key import --passphrase-file passphrase --out stick old.json dora");
    assert!(String::from_utf8(desk.read("stick/dora.pub.json")).unwrap().contains(public));
    desk.succeed("key export-public --key old.json --out one.json");
    desk.succeed("key export-public --key stick/dora.pem --passphrase-file passphrase --out two.json");
    assert_eq!(desk.read("one.json"), desk.read("two.json"));
    desk.write("old.json", old.replace("4ccd", "4cce"));
    assert!(desk.refuse("key import --unencrypted old.json emil").contains("the secret half does not belong to the public half"));
}

#[test]
fn a_key_of_openssl_can_be_brought_in() {
    if !openssl_is_there() {
        return;
    }
    let desk = with_passphrase();
    openssl(&desk, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes-256-cbc -pass file:passphrase -out foreign.pem");
    desk.write("new", "staple battery horse\n");
    desk.succeed("key import --old-passphrase-file passphrase --passphrase-file new foreign.pem dora");
    openssl(&desk, "pkey -in dora.pem -passin file:new -noout");
    openssl(&desk, "pkey -in foreign.pem -passin file:passphrase -pubout -out public.pem");
    desk.succeed("key export-public --key dora.pem --passphrase-file new --format pem --out exported.pem");
    assert_eq!(desk.read("exported.pem"), desk.read("public.pem"));
    assert!(desk.refuse("key import --unencrypted foreign.pem dora").contains("dora.pem exists"));
}

#[test]
fn keyholders_with_encrypted_p256_keys_make_and_sign_a_release() {
    if !openssl_is_there() {
        return;
    }
    let mut desk = Desk::ready_online();
    desk.set("SWITCHBACK_PASSPHRASE", "correct horse battery");
    desk.succeed("init --base base --scheme ecdsa-sha2-nistp256 --tiers ultra,ultra-se --online-keys online.json");
    desk.pack("1.0.0", 1);
    for name in ["alice", "bob"] {
        desk.succeed(&format!("sign --base base --key {name} {BUNDLE}"));
    }
    desk.succeed(&format!("verify --base base {BUNDLE}"));
    let root = String::from_utf8(desk.read("base/image/1.root.json")).unwrap();
    assert!(root.contains("ecdsa-sha2-nistp256") && root.contains("BEGIN PUBLIC KEY"), "{root}");
    // A public half in PEM, as tokens and key services give it, joins under the name of its file.
    openssl(&desk, "genpkey -algorithm ed25519 -out dora.key");
    openssl(&desk, "pkey -in dora.key -pubout -out release-dora.pem");
    desk.succeed("targets add-key --base base --tier ultra release-dora.pem");
    let draft = desk.ask("targets sign --base base --key alice");
    assert!(draft["changes"].to_string().contains("+ release-dora"), "{draft}");
}
