//! Names the shared library, so that a program finds the ABI that it was built for and not merely a file of that name.

/// Rises with `SWB_ABI_MAJOR`; a unit test of the crate compares the two.
const SONAME: &str = "libswitchback.so.1";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=SWITCHBACK_SONAME={SONAME}");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "linux" {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
        // Calls within the library never resolve to a symbol of the same name in the partner's program.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
}
