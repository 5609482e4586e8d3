use super::*;

#[test]
fn wildcards_match_within_a_segment_and_never_across_a_slash() {
    for (pattern, path, expected) in [
        ("ultra/*", "ultra/vla-2.index", true),
        ("ultra/*", "ultra/a/vla-2.index", false),
        ("ultra/*", "ultra-se/vla-2.index", false),
        ("*", "ultra/vla-2.index", false),
        ("ultra/*.index", "ultra/vla-2.tar.zst", false),
        ("ultra/v?a-*.index", "ultra/vla-2.0.index", true),
        ("ultra/*a*b*c", "ultra/xxaabbcabc", true),
        ("ultra/*a*b*c", "ultra/xxaabbcab", false),
        ("Ultra/*", "ultra/x", false),
        ("a?b", "a/b", false),
        ("a*", "a", true),
        ("", "", true),
        ("?", "\u{e9}", true),
    ] {
        assert_eq!(matches_path(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn a_hash_prefix_selects_paths_by_their_digest() {
    let digest = Sha256Digest::of(b"ultra/vla-2.index").to_hex();
    assert!(PathSet::HashPrefixes(Vec::from([digest[..3].to_string()])).contains("ultra/vla-2.index"));
    assert!(!PathSet::HashPrefixes(Vec::from([digest[..3].to_string()])).contains("ultra/vla-3.index"));
}
