//! Programs in C against an installed library: what `pkg-config` says, the header and the shared object, and nothing else of the tree.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;
use switchback_signing::{
    keys::{Ed25519Signer, Signer},
    metadata::{Root, RootRole, sign},
    time::UnixTime,
};
use switchback_tests::{
    desk::{Desk, HARDWARE, Named},
    model::{ModelFolder, Straight},
    programs,
    server::Server,
    workspace,
};
use tempfile::TempDir;

const STRICT: [&str; 5] = ["-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
const POSIX: &str = "-D_POSIX_C_SOURCE=200809L";

/// Nobody listens on the discard port of loopback: the server cannot be reached, and a vehicle must not mind.
const NOBODY: &str = "http://127.0.0.1:9";

fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a command to its end; a failure shows what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// Builds the library and installs it as a partner does, once for all tests.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = scratch("prefix");
        let to = format!("PREFIX={}", prefix.display());
        let cargo = format!("CARGO={}", env!("CARGO"));
        run(programs::outside_package("make")
            .args(["-C", "sdk/ffi", "install", "PROFILE=dev", "PACKAGES=--workspace", &to, &cargo])
            .current_dir(workspace()));
        prefix
    })
}

/// What the compiler needs to know, from the installed pkg-config data where there is a pkg-config.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    if !programs::is_installed("pkg-config") {
        let (include, lib) = (prefix().join("include"), prefix().join("lib"));
        return vec![format!("-I{}", include.display()), format!("-L{}", lib.display()), "-lswitchback".to_owned()];
    }
    let found = run(Command::new("pkg-config").args(arguments).arg("switchback").env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")));
    found.split_whitespace().map(str::to_owned).collect()
}

fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let program = scratch("bin").join(name);
    run(Command::new("cc")
        .args(["-std=c11", POSIX])
        .args(STRICT)
        .args(flags)
        .arg(workspace().join(format!("tests/c/{name}.c")))
        .args(pkg_config(&["--cflags", "--libs"]))
        .arg(format!("-Wl,-rpath,{}", prefix().join("lib").display()))
        .args(["-lpthread", "-o"])
        .arg(&program));
    program
}

/// What a vehicle is provisioned with: an empty store and the two root files.
fn provision(name: &str) -> [PathBuf; 3] {
    let base = scratch(name);
    let store = base.join("store");
    if store.exists() {
        fs::remove_dir_all(&store).unwrap();
    }
    let root = |file: &str, seed| {
        let signer = Ed25519Signer::from_seed([seed; 32]);
        let mut root = Root::new(1, UnixTime::parse_rfc3339("2099-01-01T00:00:00Z").unwrap());
        for role in RootRole::ALL {
            root.set_role(role, 1, &[signer.public_key()]);
        }
        let path = base.join(file);
        fs::write(&path, sign(&root, &[&signer]).unwrap()).unwrap();
        path
    };
    [store, root("director.json", 1), root("image.json", 2)]
}

/// Runs a program of `tests/c` with the arguments that `vehicle.h` reads.
fn run_with_vehicle(program: &Path, name: &str) {
    run(Command::new(program).args(provision(name)).arg(NOBODY));
}

#[test]
fn the_header_compiles_alone_and_twice_in_every_dialect() {
    let file = workspace().join("tests/c/header.c");
    for (compiler, language, standard) in [
        ("cc", "c", "c99"),
        ("cc", "c", "c11"),
        ("cc", "c", "c17"),
        ("g++", "c++", "c++11"),
        ("g++", "c++", "c++17"),
        ("g++", "c++", "c++20"),
    ] {
        if compiler == "g++" && !programs::is_installed(compiler) {
            continue;
        }
        let mut command = Command::new(compiler);
        command.args(["-x", language, &format!("-std={standard}"), "-fsyntax-only"]).args(STRICT);
        run(command.arg(&file).args(pkg_config(&["--cflags"])));
    }
}

#[test]
fn null_wrong_sizes_and_another_abi_are_refused_before_there_is_a_vehicle() {
    run(&mut Command::new(compile("without_vehicle", &[])));
}

#[test]
fn a_vehicle_without_a_model_answers_every_step() {
    run_with_vehicle(&compile("with_vehicle", &[]), "with-vehicle");
}

/// Not a byte beyond what the caller owns is written, and nothing is lost. Where valgrind is installed, as `.ci/run` sees to.
#[test]
fn valgrind_finds_nothing_in_a_vehicle_without_a_model() {
    if !programs::is_installed("valgrind") {
        return;
    }
    let suppressions = format!("--suppressions={}", workspace().join("tests/c/valgrind.supp").display());
    run(Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=1", "--leak-check=full", "--errors-for-leak-kinds=definite", &suppressions])
        .arg(compile("with_vehicle", &[]))
        .args(provision("valgrind"))
        .arg(NOBODY));
}

#[test]
fn a_second_thread_in_a_step_is_refused_and_gets_an_output() {
    run_with_vehicle(&compile("threads", &[]), "threads");
}

/// The library of `tests/c/hooks`, under the name that programs look for.
fn library_with_hooks() -> PathBuf {
    let built = programs::program("libswitchback_with_hooks.so");
    let folder = scratch("hooks");
    fs::copy(built, folder.join("libswitchback.so.1")).unwrap();
    let link = folder.join("libswitchback.so");
    if !link.exists() {
        std::os::unix::fs::symlink("libswitchback.so.1", link).unwrap();
    }
    folder
}

#[test]
fn a_defect_in_the_library_poisons_one_handle_and_ends_nothing() {
    let folder = library_with_hooks().display().to_string();
    // Before what pkg-config says, so that this one is found.
    run_with_vehicle(&compile("panic", &[&format!("-L{folder}"), &format!("-Wl,-rpath,{folder}")]), "panic");
}

#[test]
fn a_missing_onnx_runtime_is_named_with_where_it_was_looked_for() {
    let program = compile("no_runtime", &[]);
    run(Command::new(program).args(provision("no-runtime")).arg(NOBODY).env_remove("ORT_DYLIB_PATH"));
}

#[test]
fn the_static_library_needs_nothing_but_what_pkg_config_says() {
    if !programs::is_installed("pkg-config") {
        return;
    }
    let program = scratch("bin").join("static");
    let archive = prefix().join("lib/libswitchback.a");
    let private = pkg_config(&["--static", "--libs-only-l"]).into_iter().filter(|flag| flag != "-lswitchback");
    run(Command::new("cc")
        .args(["-std=c11", POSIX])
        .args(STRICT)
        .arg(workspace().join("tests/c/without_vehicle.c"))
        .args(pkg_config(&["--cflags"]))
        .arg(archive)
        .args(private)
        .arg("-o")
        .arg(&program));
    run(&mut Command::new(program));
}

#[test]
fn the_library_exports_what_is_allowed_and_carries_its_name() {
    let library = prefix().join("lib/libswitchback.so");
    let symbols = run(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library));
    let mut found: Vec<&str> = symbols.lines().filter_map(|line| line.split_whitespace().next()).collect();
    found.sort_unstable();
    let allowed = fs::read_to_string(workspace().join("sdk/ffi/symbols.txt")).unwrap();
    let allowed: Vec<&str> = allowed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(found, allowed, "the exported symbols are not those of sdk/ffi/symbols.txt");
    let dynamic = run(Command::new("readelf").arg("-d").arg(&library));
    assert!(dynamic.contains("Library soname: [libswitchback.so.1]"), "{dynamic}");
}

#[test]
fn callbacks_decide_and_an_update_waits_until_it_is_activated() {
    const RELEASE: Named<'_> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
    let program = compile("callbacks", &[]);
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.015).write(), RELEASE);
    desk.roll_out(RELEASE.model, RELEASE.version);
    let store = TempDir::new().unwrap();
    let token = desk.enroll("vehicle-c", "ultra", "eu");
    run(Command::new(program).arg(store.path()).args([desk.director_root(), desk.image_root()]).args([server.url(), &token]));
}

/// `make` in the example's folder, as its README says, into a folder of this name.
fn make_example(out: &str) -> Command {
    let mut make = Command::new("make");
    let to = format!("OUT={}", scratch(out).display());
    make.args(["-C", "examples/c-vehicle", &to]).current_dir(workspace()).env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"));
    if !programs::is_installed("pkg-config") {
        make.arg(format!("SWITCHBACK_PREFIX={}", prefix().display()));
    }
    make
}

fn example_vehicle() -> PathBuf {
    run(make_example("example").arg("-B"));
    scratch("example").join("c-vehicle")
}

#[test]
fn the_example_is_built_anew_with_a_new_header() {
    run(make_example("rebuilt").arg("-B"));
    run(make_example("rebuilt").arg("-q"));
    let header = fs::File::options().append(true).open(prefix().join("include/switchback.h")).unwrap();
    header.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
    assert!(!make_example("rebuilt").arg("-q").status().unwrap().success(), "the program does not depend on the installed header");
}

#[test]
fn the_example_vehicle_builds_from_the_installed_files_alone_and_takes_an_update_on_the_way() {
    const FIRST: Named<'_> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
    const SECOND: Named<'_> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };
    let program = example_vehicle();
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&ModelFolder::example("vla-1"), FIRST);
    desk.roll_out(FIRST.model, FIRST.version);
    let folder = TempDir::new().unwrap();
    let rows = folder.path().join("frames.csv");
    let token = desk.enroll("c-1", "ultra", "eu");
    let mut vehicle = Command::new(program)
        .args(["--server", server.url(), "--token", &token, "--vehicle-id", "c-1", "--ecu-serial", "ecu-c-1", "--tier", "ultra"])
        .args(["--hardware", HARDWARE, "--region", "eu", "--poll", "1", "--activate", "now", "--until-confirmed", SECOND.version])
        .args(["--length", "4000", "--seed", "3", "--nv12"])
        .arg("--road-sim")
        .arg(programs::program("road-sim"))
        .arg("--store")
        .arg(folder.path().join("store"))
        .arg("--director-root")
        .arg(desk.director_root())
        .arg("--image-root")
        .arg(desk.image_root())
        .arg("--log")
        .arg(&rows)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(vehicle.stdout.take().unwrap()).lines().map(Result::unwrap).inspect(|line| println!("{line}"));
    assert!(lines.any(|line| line.contains("confirmed") && line.contains(FIRST.model)), "the first model was not confirmed");
    desk.release(&ModelFolder::example("vla-2-ultra"), SECOND);
    desk.roll_out(SECOND.model, SECOND.version);
    let rest: Vec<String> = lines.collect();
    assert!(vehicle.wait().unwrap().success());
    let summary: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    assert_eq!((summary["end"].as_str(), summary["version"].as_str()), (Some("confirmed"), Some(SECOND.version)), "{summary}");
    assert_eq!((summary["swaps"].as_u64(), summary["fallbacks"].as_u64()), (Some(1), Some(0)), "{summary}");
    assert_eq!((summary["invalid_frames"].as_u64(), summary["takeover_frames"].as_u64()), (Some(0), Some(0)), "{summary}");
    let table = fs::read_to_string(rows).unwrap();
    assert_eq!(table.lines().count() as u64, summary["frames"].as_u64().unwrap() + 1);
}
