#!/bin/sh
# Runs a fuzz target under libFuzzer, guided by coverage, on a stable toolchain: guided.sh TARGET SECONDS [libFuzzer's options].
# Finds go to target/fuzz/TARGET; see docs/fuzzing.md. Needs a C++ compiler.
set -eu
target=${1:?usage: guided.sh TARGET SECONDS [libFuzzer options]}
seconds=${2:?usage: guided.sh TARGET SECONDS [libFuzzer options]}
shift 2
here=$(cd "$(dirname "$0")" && pwd)
base=$(cd "$here/../.." && pwd)
triple=$(rustc -vV | sed -n 's/^host: //p')
work=$base/target/fuzz
# What cargo-fuzz sets on a nightly toolchain, in the words that a stable one understands. The triple keeps it off build scripts.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing ${RUSTFLAGS:-}" \
    cargo build --release --manifest-path "$here/libfuzzer/Cargo.toml" --target "$triple" --target-dir "$work/build" --bin "$target"
mkdir -p "$work/$target/corpus" "$here/corpus/$target"
cargo run --quiet --release --manifest-path "$here/Cargo.toml" -- seeds "$work/seeds"
cd "$work/$target"
exec "$work/build/$triple/release/$target" corpus "$work/seeds/$target" "$here/corpus/$target" \
    -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=512 -timeout=10 -artifact_prefix="$work/$target/" -print_final_stats=1 "$@"
